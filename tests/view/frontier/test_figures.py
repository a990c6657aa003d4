"""Figures and words: what is drawn follows from the rows, and Plotly accepts it."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
import pytest

from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing import figures, verdicts
from sim_core.view.drawing.figures import X, Y, envelope
from sim_core.view.drawing.verdicts import Limits, holding
from sim_core.view.drawing.words import THIN, Along, duration, number, percent, quantity, rate
from sim_core.view.frontier import words as findings
from sim_core.view.frontier.figures import pareto, pareto_sentence
from sim_core.view.frontier.load_figures import fit_load, load_curve, load_sentence

CLIENTS = Along("concurrency", "{} clients", "clients", "Clients")
RATES = Along("arrival_per_s", "{} req/s", "request rate", "Request rate [req/s]")


def point(curve: str = "TP 1", load: float = 1.0, x: float = 100.0, y: float = 1000.0, **changes) -> dict:
    """Return one row as `frontier` makes it, with the columns the figures read."""
    row = {
        "curve": curve, "look": 0, "concurrency": load, "arrival_per_s": load, X: x, Y: y, "feasible": True,
        "reason": "", "saturated": False, "meets_slo": True, "on_frontier": True, "limit": "weights",
        "slo_ttft_ms_reached": 80.0, "slo_tpot_ms_reached": 1500 / x,
    }  # fmt: skip
    for name, value in (("ttft_ms", 50.0), ("tpot_ms", 1000 / x)):
        row |= {f"{name}_p50": value, f"{name}_p99": 1.5 * value}
    return row | changes


def blocked(curve: str = "TP 1", load: float = 8.0) -> dict:
    """Return the row of a point that cannot run."""
    return {
        "curve": curve, "look": 0, "concurrency": load, "feasible": False, "saturated": False,
        "meets_slo": False, "on_frontier": False, "limit": "memory", "reason": "needs 96 GB, has 80 GB",
        X: math.nan, Y: math.nan,
    }  # fmt: skip


SWEEP = [
    point("TP 1", 1, 100, 100, on_frontier=False),
    point("TP 1", 4, 80, 320),
    point("TP 1", 16, 20, 900, meets_slo=False, limit="compute"),
    point("TP 2", 1, 160, 80, look=1),
    point("TP 2", 4, 130, 260, look=1),
    point("TP 2", 16, 60, 400, look=1, saturated=True, meets_slo=False, limit="queueing"),
]
CASES = {
    "sweep": SWEEP,
    "one point": SWEEP[:1],
    "curve that ends": [*SWEEP[:3], blocked(), *SWEEP[3:]],
    "curve that never starts": [*SWEEP, blocked("TP 4")],
    "answers of one token": [point(x=math.nan, tpot_ms_p50=math.nan, tpot_ms_p99=math.nan)],
    "nothing runs": [blocked()],
}


LIMITS = Limits(2000.0, 40.0)


def draw(rows: list[dict], frame: figures.Frame | None = None, **changes) -> dict:
    options = {"along": CLIENTS, "own": "TP 1", "limits": LIMITS, "here": rows[0], "best": rows[-1]}
    return pareto(rows, frame or figures.frame_around(rows), **(options | changes))


@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_plotly_accepts_the_pareto_chart(case: str, log_x: bool, log_y: bool) -> None:
    """Oracle: Plotly's own schema, which raises for a key or value it does not know."""
    rows = CASES[case]
    go.Figure(draw(rows, figures.frame_around(rows, log_x, log_y)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("knee", [None, 16.0])
def test_plotly_accepts_the_load_curve(case: str, knee: float | None) -> None:
    """Oracle: Plotly's own schema."""
    rows = [row | {"ttft_ms_p99_low": 60.0, "ttft_ms_p99_high": 90.0} for row in CASES[case]]
    frame = fit_load(rows, 2000.0, 40.0)
    go.Figure(load_curve(rows, frame, slo_ttft_ms=2000, slo_tpot_ms=40, knee=knee, here_per_s=4.0))


def test_axes_stay_where_the_frame_puts_them() -> None:
    """Oracle: the frame; other points must not move the axes."""
    frame = figures.frame_around(SWEEP)
    far = [row | {X: 10 * row[X]} for row in SWEEP]
    for rows in (SWEEP, far):
        layout = draw(rows, frame)["layout"]
        assert layout["xaxis"]["range"] == [0.0, pytest.approx(160 * 1.15)]
        assert layout["yaxis"]["range"] == [0.0, pytest.approx(900 * 1.15)]


def test_the_frame_knows_what_lies_outside() -> None:
    """Oracle: the corners of the frame."""
    frame = figures.frame_around(SWEEP)
    assert all(map(frame.holds, SWEEP))
    assert not frame.holds(point(x=160 * 1.16))
    assert not frame.holds(point(y=900 * 1.16))
    assert frame.distance(point(x=0.1, y=1), point(x=0.1 + 160 * 1.15, y=1)) == pytest.approx(1)


def test_points_nobody_would_choose_are_faint_and_overloaded_ones_hollow() -> None:
    """Oracle: the rows' own marks."""
    first, second = (trace for trace in draw(SWEEP)["data"] if trace.get("name") in ("TP 1", "TP 2"))
    assert first["marker"]["opacity"] == [figures.FAINT, 1.0, 1.0]
    assert second["marker"]["symbol"] == ["square", "square", "square-open"]


def hollow(figure: dict) -> list[str]:
    """Return what a chart says of hollow markers."""
    texts = [note["text"].replace(THIN, " ") for note in figure["layout"]["annotations"]]
    return [text for text in texts if text.startswith("hollow")]


def test_points_that_break_a_limit_are_hollow_and_say_which() -> None:
    """Oracle: arithmetic. 3 s against 2 s is 1.5 times, 75 ms against 40 ms 1.9 times."""
    rows = [
        point("TP 1", 1, 100, 100),
        point("TP 1", 2, 90, 200, meets_slo=False, slo_ttft_ms_reached=3000.0),
        point("TP 1", 4, 13, 400, meets_slo=False, slo_tpot_ms_reached=75.0),
        point(
            "TP 1", 8, 12, 500, meets_slo=False, slo_ttft_ms_reached=math.inf, slo_tpot_ms_reached=math.inf
        ),
        point("TP 1", 9, 11, 510, meets_slo=False, saturated=True, slo_ttft_ms_reached=9e6),
    ]
    data = draw(rows)["data"]
    curve = next(trace for trace in data if trace.get("name") == "TP 1")
    assert curve["marker"]["symbol"] == ["circle", *4 * ["circle-open"]]
    verdicts = [hover[6].replace(THIN, " ") for hover in curve["customdata"]]
    assert verdicts[1:] == [
        "breaks the TTFT limit: 3 s, 1.5 times 2 s",
        "breaks the TPOT limit: 75 ms, 1.9 times 40 ms",
        "turns too many requests away",
        "overloaded: the queue grows over the run",
    ]
    assert curve["customdata"][4][1:3] == ["overloaded", "overloaded"]
    assert curve["customdata"][4][3] != "overloaded"
    assert hollow(draw(rows)) == ["hollow: beyond<br>TTFT 2 s<br>or TPOT 40 ms<br>or overloaded"]
    assert hollow(draw(rows[:3])) == ["hollow: beyond<br>TTFT 2 s<br>or TPOT 40 ms"]
    assert hollow(draw(rows[:1])) == []


def test_an_overloaded_point_shows_no_figure_that_depends_on_its_run() -> None:
    """Oracle: what grows with the run, by name; the time per token does not."""
    row = point(saturated=True, meets_slo=False) | {"usd_per_mtok": 2.3, "goodput_per_s": 1.0}
    for name in ("ttft_ms_p50", "ttft_ms_p99", "e2e_ms_mean", "goodput_per_s", "usd_per_mtok"):
        assert math.isnan(holding(row, name)), name
    assert holding(row, "tpot_ms_p99") == row["tpot_ms_p99"]
    assert holding(row | {"saturated": False}, "usd_per_mtok") == 2.3
    lone = say([row], None, row)
    assert lone.endswith("all are overloaded: the queue grows over the run.")
    both = say([row | {X: 500.0}, point(load=2, meets_slo=False)], None, row)
    assert "The fastest, TP 1 at 2 clients," in both


def test_a_curve_that_ends_says_why() -> None:
    """Oracle: the reason in the blocked row, at the slowest point that runs."""
    data = draw(CASES["curve that ends"])["data"]
    crosses = [trace for trace in data if trace.get("marker", {}).get("symbol") == "x-thin"]
    assert len(crosses) == 1
    assert crosses[0]["x"] == [20]
    assert "needs 96 GB, has 80 GB" in crosses[0]["text"][0]


def test_a_reason_is_no_mark_up() -> None:
    """Oracle: HTML's own escapes, which Plotly shows as the characters they stand for."""
    data = draw([*SWEEP, blocked("TP 4"), blocked() | {"reason": "<a href=x>&"}])["data"]
    texts = [text for trace in data for text in trace.get("text") or () if "ends here" in text]
    assert all("&lt;a href=x&gt;&amp;" in text for text in texts if "href" in text)
    assert any("href" in text for text in texts)


def test_the_slow_side_is_shaded_up_to_the_limit() -> None:
    """Oracle: 40 ms a token are 1000 / 40 = 25 tok/s/user."""
    shade, edge = draw(SWEEP)["layout"]["shapes"]
    assert (shade["x0"], shade["x1"]) == (0, 25.0)
    assert edge["x0"] == edge["x1"] == 25.0


def test_words_at_points_stay_off_curves_and_marks() -> None:
    """Oracle: the corner where a curve stands alone carries a word; on top of another curve none does."""
    alone = [point("TP 1", load, 60 + load, 500) for load in (1, 2, 3)]
    texts = [note["text"] for note in draw(alone, here=None, best=None)["layout"]["annotations"]]
    assert any("client" in text for text in texts)
    grid = [point(f"other {n}", n, x, 30.0 * n) for n in range(1, 40) for x in (1.0, 100.0)]
    texts = [note["text"] for note in draw([*alone, *grid], here=None, best=None)["layout"]["annotations"]]
    assert not any("client" in text for text in texts)


def test_the_words_of_two_marks_that_meet_go_apart() -> None:
    """Oracle: the offsets of the two annotations: a line apart, and never over the axis on the left."""
    near = draw(SWEEP, here=SWEEP[1], best=SWEEP[1])["layout"]["annotations"][-2:]
    assert abs(near[0]["ay"] - near[1]["ay"]) >= 1.3 * near[0]["font"]["size"]
    apart = draw(SWEEP, here=SWEEP[3], best=SWEEP[2])["layout"]["annotations"][-2:]
    assert apart[0]["ay"] == apart[1]["ay"]
    assert all(words["ax"] > 0 for words in (*near, *apart))


def test_the_envelope_is_the_highest_of_all_curves() -> None:
    """Oracle: NumPy's interpolation of each curve, at random places."""
    generator = np.random.default_rng(1)
    lines = []
    for _ in range(5):
        x = np.sort(generator.uniform(0, 10, 6))
        lines.append((x, np.sort(generator.uniform(0, 5, 6))[::-1]))
    x, y = envelope(lines)
    assert (np.diff(x) > 0).all()
    for place in generator.uniform(x[0], x[-1], 200):
        heights = [np.interp(place, *line, left=-math.inf, right=-math.inf) for line in lines]
        assert np.interp(place, x, y) >= max(heights) - 1e-9


def test_numbers_are_rounded_for_the_wire() -> None:
    """Oracle: five significant digits; what is not a number becomes null, which JSON can say."""
    assert figures.short([123456.789, 0.000123456, math.nan]) == [123460.0, 0.00012346, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(0), "0"),
        (number(999.96), "1,000"),
        (number(0.0999), "0.0999"),
        (number(1234567.0), "1,230,000"),
        (number(-42.123), "-42.1"),
        (number(None), "–"),
        (quantity(3.0, "GB"), f"3{THIN}GB"),
        (duration(999.4), f"999{THIN}ms"),
        (duration(1500), f"1.5{THIN}s"),
        (rate(3350, "B/s"), f"3.35{THIN}TB/s"),
        (rate(900, "B/s"), f"900{THIN}GB/s"),
        (percent(0.5789), f"58{THIN}%"),
        (percent(1.0), f"100{THIN}%"),
        (CLIENTS.text({"concurrency": 64}), "64 clients"),
        (CLIENTS.text({"concurrency": 1}), "1 client"),
        (CLIENTS.text({}), "– clients"),
        (CLIENTS.text({"concurrency": 1024}), "1,024 clients"),
        (quantity(np.int64(8192), "tokens"), f"8,192{THIN}tokens"),
    ],
)
def test_numbers_read_alike_everywhere(text: str, expected: str) -> None:
    """Oracle: three significant digits, thin spaces before units, by hand."""
    assert text == expected


def say(rows: list[dict], best: dict | None, peak: dict | None) -> str:
    return findings.sweep_finding(rows, best, peak, Scenario(), CLIENTS).replace(THIN, " ")


def test_the_finding_tells_what_the_limits_cost() -> None:
    """Oracle: 320 of 900 tok/s are 36 %; the next point on that curve takes 1500 / 20 = 75 ms a token."""
    text = say(SWEEP, SWEEP[1], SWEEP[2])
    assert "you keep 36 %" in text
    assert "320 tok/s per accelerator with TP 1 at 4 clients" in text
    assert "At 16 clients a token takes 75 ms; what limits it is arithmetic." in text


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (point(load=16, saturated=True), "the queue grows without end"),
        (point(load=16, limit="kv_capacity"), "At 16 clients the KV cache is full."),
        (point(load=16, slo_ttft_ms_reached=3000.0), "the first token takes 3 s"),
        (point(load=16), "More load gains nothing"),
        (blocked(load=16), "Beyond that it does not run: needs 96 GB, has 80 GB"),
    ],
)
def test_the_finding_says_what_stands_in_the_way(after: dict, words: str) -> None:
    """Oracle: the cause that the next row states."""
    assert words in say([SWEEP[1], after], SWEEP[1], SWEEP[1])


def test_the_finding_names_the_same_points_on_either_side_of_a_limit() -> None:
    """Oracle: a point at the limit, found within it and beyond it: both findings name it and the sure one."""
    sure = SWEEP[1] | {"at_limit": ""}
    within = point(load=16, at_limit="tpot") | {Y: 2 * sure[Y]}
    beyond = within | {"meets_slo": False}
    for text in (say([sure, within], within, within), say([sure, beyond], sure, beyond)):
        assert "TP 1 at 4 clients" in text and "TP 1 at 16 clients" in text
        assert "at the limit on the time per token: it may lie just within or just beyond." in text


def test_the_finding_when_nothing_meets_the_limits() -> None:
    """Oracle: the fastest of the rows, and the reason of the blocked one."""
    assert "No point stays within" in say(SWEEP, None, SWEEP[2])
    assert "The fastest, TP 2 at 1 client," in say(SWEEP, None, SWEEP[2])
    assert say([blocked()], None, None) == "Nothing here can run. needs 96 GB, has 80 GB"


def test_the_finding_when_all_requests_come_at_once() -> None:
    """Oracle: the peak of the rows; the limits are broken by the queue itself, not by a slow engine."""
    batches = Along("max_batch", "batch limit {}", "batch limit", "Batch limit")
    rows = [row | {"max_batch": row["concurrency"], "meets_slo": False} for row in SWEEP]
    text = findings.sweep_finding(rows, None, rows[2], Scenario(arrivals="offline"), batches)
    assert "the best point gives 900 tok/s per accelerator: TP 1 at batch limit 16. No point" in text
    rows.append(rows[2] | {"max_batch": 32, Y: 850, "limit": "kv_capacity"})
    text = findings.sweep_finding(rows, None, rows[2], Scenario(arrivals="offline"), batches)
    assert "Batch limit 32 gives no more since the KV cache is full. No point" in text


def test_the_finding_when_there_is_no_time_per_token() -> None:
    """Oracle: answers of one token run; requests longer than the cache have no latency."""
    assert "answers of one token" in say(CASES["answers of one token"], None, None)
    turned_away = point(slo_ttft_ms_reached=math.inf, slo_tpot_ms_reached=math.nan, meets_slo=False)
    assert say([turned_away], None, turned_away).endswith(
        "than the context window or the KV cache holds, and are turned away."
    )
    assert "turned away" in say([SWEEP[1], turned_away | {"concurrency": 8}], SWEEP[1], SWEEP[1])


def test_every_figure_has_its_sentence() -> None:
    """Oracle: the extremes of the rows, by hand."""
    text = pareto_sentence(SWEEP, SWEEP[1], CLIENTS)
    assert "from 900 tok/s per accelerator at one end to 160 tok/s per user" in text
    assert "TP 1 at 4 clients" in text
    assert "no point meets" in pareto_sentence(SWEEP, None, CLIENTS)
    assert "no point can run" in pareto_sentence([blocked()], None, CLIENTS)
    assert "rises to 16 per second" in load_sentence(SWEEP[:3], 20.0)
    assert "no rate can be served" in load_sentence([blocked()], None)


@pytest.mark.parametrize(
    ("ttft_ms", "tpot_ms", "words"),
    [
        (900.0, 20.0, ""),
        (1100.0, 20.0, "breaks the TTFT limit"),
        (1100.0, 50.0, "breaks the TTFT and TPOT limits"),
        (math.inf, math.nan, "turns too many requests away"),
    ],
)
def test_a_setting_that_breaks_a_limit_says_so(ttft_ms: float, tpot_ms: float, words: str) -> None:
    """Oracle: by hand, against 1 s and 40 ms."""
    row = {"slo_ttft_ms_reached": ttft_ms, "slo_tpot_ms_reached": tpot_ms}
    assert verdicts.broken_briefly(row, Limits(1000.0, 40.0)) == words
