"""Days of rates: as texts, as waves, and from files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.day import Day, day_named, drawn_day
from sim_core.traffic.day_files import counted_trace, read_day
from sim_core.traffic.requests import Requests
from tests.loops import each

SCENARIO = Scenario()


def test_rates_share_the_day() -> None:
    """Oracle: by hand: four rates are six hours each; 6 h x 3600 x (1 + 2 + 5 + 0) requests."""
    day = day_named("1, 2\n5;0", SCENARIO)
    assert day == Day((1.0, 2.0, 5.0, 0.0), 24.0)
    assert (day.part_s, day.peak_per_s, day.mean_per_s) == (21_600.0, 5.0, 2.0)
    assert day.requests == 6 * 3600 * 8


def test_a_day_may_last_otherwise() -> None:
    """Oracle: by hand; and its own text gives it again."""
    day = day_named("8h: 1 3", SCENARIO)
    assert (day.hours, day.part_s) == (8.0, 14_400.0)
    assert day_named(day.text, SCENARIO) == day


def test_a_wave_has_its_mean_and_is_lowest_at_midnight() -> None:
    """Oracle: the mean of 24 parts of a whole cycle is the mean; the two hours about noon are the highest."""
    day = day_named("wave:6/10", SCENARIO)
    assert day.mean_per_s == pytest.approx(6, rel=1e-3)
    assert day.rates_per_s.index(day.peak_per_s) in (11, 12)
    assert 9.9 < day.peak_per_s <= 10
    assert min(day.rates_per_s) == day.rates_per_s[0] == pytest.approx(2, abs=0.1)


def test_the_traffic_of_the_scenario() -> None:
    """Oracle: a step half-way from 1 - 0.5 to 1 + 0.5 times the rate."""
    scenario = SCENARIO.replace(demand="step", demand_hours=10.0, rate_swing_frac=0.5, arrival_per_s=4.0)
    assert day_named("demand", scenario) == drawn_day(scenario) == Day((2.0,) * 12 + (6.0,) * 12, 10.0)


@each(
    [
        ("", "at least 2 rates; there are 0"),
        ("5", "at least 2 rates; there is 1"),
        ("1,x", "'x', which is no rate"),
        ("1,nan", "'nan', which is no rate"),
        ("1,-2", "rate 2 of the day is -2 requests/s"),
        ("0,0", "highest rate is 0 requests/s"),
        ("1,1e99", "rate 2 of the day"),
        ("1 " * 289, "at most 288 rates; there are 289"),
        ("0h:1,2", "may last 0.0001 to 168 hours"),
        ("200h:1,2", "may last 0.0001 to 168 hours"),
        ("wave:5", "has no peak"),
        ("0.00001h:1,2", "it may last 0.0001 to 168 hours"),
        ("wave:5/20", "peak is 1 to 1.95 times the mean"),
        ("wave:0/1", "which is above 0"),
    ]
)
def test_what_is_no_day_is_refused(text: str, words: str) -> None:
    """Oracle: the sentences."""
    with pytest.raises(ScenarioError, match=words):
        day_named(text, SCENARIO)


@each(
    [
        (b"1\n2\n5\n0\n", Day((1.0, 2.0, 5.0, 0.0))),
        (b"12h:1,2", Day((1.0, 2.0), 12.0)),
        (b"hour,requests\n0,3600\n1,7200\n2,0\n", Day((1.0, 2.0, 0.0), 3.0)),
        (b"requests\n43200\n86400\n", Day((1.0, 2.0))),
        (b"Minutes;Count\n0;300\n5;600\n", Day((1.0, 2.0), 0.166667)),
        (b"timestamp,rps\n2026-11-30T00:00:00Z,1.5\n2026-11-30T01:00:00Z,2\n", Day((1.5, 2.0), 2.0)),
        (b"hour,requests\n0,3600,\n1,7200,\n", Day((1.0, 2.0), 2.0)),  # commas that the header lacks
        (b'date,rps\n"Nov 30, 2026 00:00",1\n2026-11-30 01:00,2\n', Day((1.0, 2.0), 2.0)),
        (b"ts\tqps\n1700000000\t4\n1700003600\t5\n", Day((4.0, 5.0), 2.0)),
        (b"timestamp,rps\n1700000000000,4\n1700003600000,5\n", Day((4.0, 5.0), 2.0)),
        (b"Timestamp,RequestCount\n2026-11-30 00:00,3600\n2026-11-30 01:00,7200\n", Day((1.0, 2.0), 2.0)),
        (b"Time,Request Count\n10:00 PM,3600\n11:00 PM,7200\n12:00 AM,0\n", Day((1.0, 2.0, 0.0), 3.0)),
        (b"time,rps\n22:00,1\n23:00,2\n00:00,0\n01:00,3\n", Day((1.0, 2.0, 0.0, 3.0), 4.0)),
    ]
)
def test_days_from_files(content: bytes, day: Day) -> None:
    """Oracle: by hand: counts over the time that a row stands for."""
    assert read_day(content, SCENARIO, "a file") == day


def test_a_wide_file_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand; of 20,000 columns the one that counts is kept, and what is beyond."""
    kept: list[pd.DataFrame] = []
    read_csv = pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda *a, **more: kept.append(read_csv(*a, **more)) or kept[-1])
    wide = f"requests{',x' * 20_000}\n43200\n86400\n"
    assert read_day(wide.encode(), SCENARIO, "a file") == Day((1.0, 2.0))
    assert [table.shape[1] for table in kept] == [2]


def test_many_rows_are_merged() -> None:
    """Oracle: 1,440 minutes are 288 parts of five; a mean of 0 to 4 is 2."""
    rows = "\n".join(str(60 * (minute % 5)) for minute in range(1440))
    day = read_day(f"requests\n{rows}".encode(), SCENARIO, "a file")
    assert day == Day((2.0,) * 288)


@each(
    [
        (b"hour,requests\n0,1\n1,x\n", "a file, line 3: requests is 'x'"),
        (b"hour,requests\n0,1\n1,2\n5,3\n6,3\n", "a file, line 4: hour is 14400 s after"),
        (b"hour,requests\n2,1\n1,2\n", "in order"),
        (b"time,requests\nnoon,1\nlater,2\n", "a file, line 2: time is 'noon', which is no time"),
        (b"hour,requests\n0,1\n", "one row"),
        (b"hour,requests\n", "no rows"),
        (b"hour,requests\n0,1\n1,\n", "a file, line 3: requests is empty"),
        (b"time,requests\n2026-01-01 23:00,1\n2026-01-01 00:00,2\n", "in order"),
        (
            b"prompt,answer\n1,2\n",
            "a file, line 1: .* For a day: give rates such as 2,2,5,9, a table with a column",
        ),
        (b"", "at least 2 rates"),
        (b"date,count\n2026-01-01,5\n2026-02-01,5\n", "covers 1,488 hours; the limit is 168"),
        (b"s,rps\n0,1\n1e-9,2\n", "covers 5.556e-13 hours; a day has 0.0001 or more"),
        (b"Requests,requests\n1,2\n3,4\n", "a file has the column requests twice; keep one"),
        (b"Time,time,requests\n0,0,2\n3600,3600,4\n", "a file has the column time twice; keep one"),
        (b"hour,requests\n0,1,9\n1,2,9\n", "a file, line 2, has '9' behind the last column"),
        (b"requests\n1\n2,3\n", "a file, line 3, has '3' behind the last column"),
        (b"time,rps\n0,1\ninf,2\n", "a file, line 3: time is 'inf', which is no time"),
        (b"s,rps\n-1e308,1\n1e308,2\n", "a file, line 2: s is '-1e308', which is no time"),
    ]
)
def test_files_that_hold_no_day_are_refused(content: bytes, words: str) -> None:
    """Oracle: the sentences, which name the file and the way out."""
    with pytest.raises(ScenarioError, match=words):
        read_day(content, SCENARIO, "a file")


def test_requests_of_a_trace_are_counted() -> None:
    """Oracle: by hand: every second one for ten hours is ten parts of one a second."""
    tokens = np.full(36_000, 10)
    day = counted_trace(Requests(np.arange(36_000.0), tokens, tokens), "a trace")
    assert day.hours == 10
    assert day.rates_per_s == pytest.approx((1.0,) * 10)
    text = b"arrival_s,prompt_tokens,output_tokens\n0,10,10\n1,10,10\n3,10,10\n"
    short = read_day(text, SCENARIO, "a trace")
    assert (len(short.rates_per_s), short.requests) == (24, pytest.approx(3, rel=1e-3))
