"""A day of rates from a file: rates, counts over time, or a trace whose requests are counted.

- Text of rates alone, or any day that `day_named` reads.
- A table with a header: a column of counts (`requests`, `count`, ...) or of rates (`rps`, `rate_per_s`, ...),
  and perhaps one of times: clock times, or seconds, minutes or hours by its name. Without times its rows are
  equal parts of 24 hours.
- A trace: its requests are counted by the hour, or in 24 parts where it lasts less than six hours.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from sim_core.fields.errors import ScenarioError, shown
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.day import (
    HOURS,
    LEAST_HOURS,
    MOST_HOURS,
    MOST_PARTS,
    PARTS,
    Day,
    checked_day,
    day_named,
)
from sim_core.traffic.requests import Requests
from sim_core.traffic.trace_files.read import MAX_FILE_BYTES, Source, requests_in, text_of

COUNTS = (
    "requests",
    "count",
    "counts",
    "request_count",
    "num_requests",
    "calls",
    "invocations",
    "hits",
    "total",
)
RATES = (
    "rate",
    "rate_per_s",
    "requests_per_s",
    "request_per_s",
    "arrival_per_s",
    "rps",
    "qps",
    "req/s",
    "requests/s",
)
SECONDS = {
    "s": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "minute": 60.0,
    "minutes": 60.0,
    "hour": 3600.0,
    "hours": 3600.0,
}
CLOCKS = ("time", "timestamp", "date", "datetime", "start", "interval_start", "bucket", "ts")
LONG_HOURS = 6.0  # a trace that lasts longer is counted by the hour
MOST_ROWS = 100_000
FARTHEST_S = 1e15  # 30 million years: beyond it a float does not tell seconds apart
UNEVEN = 0.01  # of a part, by which rows may be off
EPOCHS = {
    1e17: 1e-9,
    1e14: 1e-6,
    1e11: 1e-3,
}  # times since 1970 above the first are in units of the second [s]
DAY_S = 86_400.0
_HOUR = re.compile(r"\s*\d{1,2}(:\d{2}){1,2}\s*([AaPp][Mm])?\s*")  # a time without a date
_JOINTS = re.compile(r"[\s_-]")
_TEXT = re.compile(r"[\s,;0-9.eE+-]*|\s*([0-9.]+\s*h\s*:|wave:|demand\s*$).*", re.DOTALL | re.IGNORECASE)
WAYS = f"Give rates such as 2,2,5,9, a table with a column {COUNTS[0]} or {RATES[1]}, or a trace with times."


def read_day(source: Source, scenario: Scenario, name: str = "", max_bytes: int = MAX_FILE_BYTES) -> Day:
    """Return the day of rates that a file holds.

    Parameters
    ----------
    source : path, bytes or binary file
    scenario : Scenario
        Of a file that says `demand`.
    name : str, optional
        What messages call it; by default the file's name.

    Raises
    ------
    ScenarioError
        If the file holds no day; the message names file, value, limit and the way out.
    """
    text, name = text_of(source, name, max_bytes)
    if _TEXT.fullmatch(text):
        return day_named(text, scenario)
    table = _table(text, name)
    if table is not None:
        return _of_table(table, name)
    try:
        trace = requests_in(text, name)
    except ScenarioError as error:
        raise ScenarioError(f"{error} For a day: {WAYS[0].lower()}{WAYS[1:]}") from None
    return counted_trace(trace, name)


def counted_trace(trace: Requests, name: str) -> Day:
    """Return the rates of a trace: its requests counted by the hour, or in 24 parts of a short one."""
    if not trace.timed or len(trace) < 2:
        raise ScenarioError(f"{name} has no requests with times, and so no rates over time. {WAYS}")
    arrival_s = trace.arrival_s - trace.arrival_s[0]
    hours = max(float(arrival_s[-1]) * (1 + 1 / len(trace)), 1.0) / 3600
    parts = round(hours) if hours >= LONG_HOURS else PARTS
    _check_hours(hours, name)
    counts = np.histogram(arrival_s, np.linspace(0.0, 3600 * hours, parts + 1))[0]
    return checked_day(Day(tuple((counts * parts / (3600 * hours)).tolist()), float(f"{hours:.4g}")))


def _check_hours(hours: float, name: str) -> None:
    if hours > MOST_HOURS:
        raise ScenarioError(
            f"{name} covers {hours:,.4g} hours; the limit is {MOST_HOURS:g}. Keep a day or a week."
        )
    if hours < LEAST_HOURS:
        raise ScenarioError(
            f"{name} covers {hours:.4g} hours; a day has {LEAST_HOURS:g} or more. Give the times in seconds, "
            "or name their column after their unit: minutes, hours."
        )


# --- tables ---------------------------------------------------------------------------------------


def _table(text: str, name: str) -> pd.DataFrame | None:
    """Return the columns of counts or rates and of times, with plain names; None where it is no table."""
    head, _, rest = text.lstrip().partition("\n")
    mark = max(",;\t", key=head.count)
    names = [_named(column.strip().strip('"').strip()) for column in head.split(mark)]
    wanted = [
        next((each for each in names if each in known), "")
        for known in ({*COUNTS, *RATES}, {*SECONDS, *CLOCKS})
    ]
    if not wanted[0]:
        return None
    for column in filter(None, wanted):
        if names.count(column) > 1:
            raise ScenarioError(f"{name} has the column {column} twice; keep one.")
    places = sorted(names.index(column) for column in wanted if column)
    table = _columns(rest, mark, [*places, len(names)], name)
    if len(table) > MOST_ROWS:
        raise ScenarioError(f"{name} has more than {MOST_ROWS:,} rows; take sums by the hour.")
    _check_whole(table[len(names)], name)
    return table[places].rename(columns=dict(enumerate(names)))


def _columns(rows: str, mark: str, places: list[int], name: str) -> pd.DataFrame:
    """Return the columns at some places, the last of them behind that of the header."""
    wide = mark * places[-1]  # a line of as many columns, so that there are no fewer
    try:
        table = pd.read_csv(
            io.StringIO(f"{wide}\n{rows}"),
            sep=mark,
            dtype=str,
            header=None,
            usecols=places,
            index_col=False,
            nrows=MOST_ROWS + 2,
            skipinitialspace=True,
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise ScenarioError(f"{name} cannot be read as a table: {shown(str(error))}.") from None
    return table.iloc[1:].reset_index(drop=True)


def _check_whole(surplus: pd.Series, name: str) -> None:
    """Raise a `ScenarioError` at a line with more than the header; an empty field at its end is nothing."""
    bad = np.flatnonzero(surplus.notna())
    if len(bad):
        row = int(bad[0])
        raise ScenarioError(
            f"{name}, line {row + 2}, has {shown(surplus.iloc[row])} behind the last column of the header. "
            "Name the column there, or quote the field that holds a comma."
        )


def _named(column: str) -> str:
    """Return what a column is called here: `Request Count` and `RequestCount` are a `request_count`."""
    plain = _JOINTS.sub("", column.lower())
    known = (*COUNTS, *RATES, *SECONDS, *CLOCKS)
    return next((name for name in known if _JOINTS.sub("", name) == plain), column.strip().lower())


def _of_table(table: pd.DataFrame, name: str) -> Day:
    """Return the day of a table: its values over the time that a row stands for."""
    column = next(column for column in table if column in {*COUNTS, *RATES})
    values = _numbers(table[column], column, name)
    times = next((each for each in table if each in SECONDS or each in CLOCKS), "")
    part_s = _part_s(table[times], times, name) if times else 3600 * HOURS / max(len(values), 1)
    hours = len(values) * part_s / 3600
    _check_hours(hours, name)
    rates = values if column in RATES else values / part_s
    return checked_day(Day(tuple(_merged(rates, name).tolist()), float(f"{hours:.6g}")))


def _numbers(column: pd.Series, key: str, name: str) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(bad):
        row = int(bad[0])
        text = "empty" if pd.isna(column.iloc[row]) else shown(column.iloc[row])
        raise ScenarioError(f"{name}, line {row + 2}: {key} is {text}; it must be a number of 0 or more.")
    return values


def _part_s(column: pd.Series, key: str, name: str) -> float:
    """Return the time from one row to the next, which must be the same everywhere. [s]"""
    times_s = _times_s(column, key)
    bad = np.flatnonzero(~np.isfinite(times_s) | (np.abs(times_s) > FARTHEST_S))
    if len(bad):
        row = int(bad[0])
        raise ScenarioError(f"{name}, line {row + 2}: {key} is {shown(column.iloc[row])}, which is no time.")
    steps = np.diff(times_s)
    if not len(steps):
        raise ScenarioError(f"{name} has {'one row' if len(times_s) else 'no rows'}; a day has at least two.")
    part_s = float(np.median(steps))
    bad = np.flatnonzero(np.abs(steps - part_s) > UNEVEN * abs(part_s)) if part_s > 0 else np.arange(1)
    if len(bad):
        row = int(bad[0])
        raise ScenarioError(
            f"{name}, line {row + 3}: {key} is {steps[row]:g} s after the line before, most are {part_s:g} s "
            "apart. Give rows of equal parts in order, those without requests with 0."
        )
    return part_s


def _times_s(column: pd.Series, key: str) -> np.ndarray:
    """Return times: numbers of the unit that the column is named after, else seconds or times since 1970 in a
    smaller unit; or clock times, which without a date go on after midnight. [s]

    NaN where one is neither, and everywhere where the first is.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().all():
        values: np.ndarray = numbers.to_numpy(float)
        since = next(
            (unit_s for least, unit_s in EPOCHS.items() if len(values) and values.min() > least), 1.0
        )
        return values * SECONDS.get(key, since)
    clock = _clock(column)
    if clock.isna().iloc[0]:
        return np.full(len(column), math.nan)
    seconds: np.ndarray = (clock - clock.iloc[0]).dt.total_seconds().to_numpy(float)
    if column.str.fullmatch(_HOUR).all():
        return seconds + DAY_S * np.cumsum(np.diff(seconds, prepend=seconds[0]) < 0)
    return seconds


def _clock(column: pd.Series) -> pd.Series:
    """Return clock times, NaT for what is none: in the format of the first, else each in its own (slow)."""
    first = str(column.iloc[0]) if len(column) else ""
    for written in filter(None, (guess_datetime_format(first), "mixed")):
        clock: pd.Series = pd.to_datetime(column, errors="coerce", utc=True, format=written)
        if clock.notna().all():
            break
    return clock


def _merged(rates: np.ndarray, name: str) -> np.ndarray:
    """Return the means of as few neighbours as leave no more than `MOST_PARTS`."""
    count = len(rates)
    sizes: Iterable[int] = (
        size for size in range(1, count + 1) if count % size == 0 and count / size <= MOST_PARTS
    )
    size = next(iter(sizes), 1)
    if count / size < 2:
        raise ScenarioError(
            f"{name} has {count:,} rows, of which no equal groups make 2 to {MOST_PARTS} parts. "
            "Sum them by the hour."
        )
    merged: np.ndarray = rates.reshape(-1, size).mean(axis=1)
    return merged
