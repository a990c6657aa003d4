"""CSV traces: read whole, or in pieces of which only a window is kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim_core.fields.errors import ScenarioError, shown
from sim_core.traffic.csv_rows import commas_note, rows_beyond
from sim_core.traffic.remarks import unused
from sim_core.traffic.trace_formats import (
    CSV_FORMATS,
    MAX_ROWS,
    OTHERS,
    OWN,
    Columns,
    Format,
    refuse_text,
    refuse_too_many,
)
from sim_core.traffic.windows import Window, nothing_within, without_times

MAX_HEADER_BYTES = 100_000
ROWS_A_PIECE = 200_000
LineOf = Callable[[int], int]


def read_csv(text: str, name: str) -> Columns:
    """Return the columns of a CSV of any of the known formats."""
    header = _header(text, name)
    form = format_of(header, name)
    refuse_too_many(text.count("\n"), name)
    notes = _surplus_notes(text, len(header), name)
    try:
        frame = pd.read_csv(io.StringIO(text), **_how(form))
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise _no_csv(name, error) from None
    found = _columns(frame, form, header, name, _csv_lines(text))
    return found._replace(notes=(*found.notes, *notes))


def stream_csv(path: Path, name: str, window: Window) -> Columns:
    """Return the columns of the rows within a window; of the rest, never more than a piece is in memory.

    Where rows stand in order of arrival, reading ends with the window.

    Raises
    ------
    ScenarioError
        If the file cannot be read, or the window holds no request or more than `MAX_ROWS`.
    """
    header = _header(_beginning(path, name), name)
    form = format_of(header, name)
    if not form.arrival:
        raise without_times(name)
    kept: list[Columns] = []
    origin, start_s, end_s, last_s, read = None, 0.0, np.inf, -np.inf, 0
    for frame in _pieces(path, form, name):
        piece = _columns(frame, form, header, name, _lines_from(read + 2), origin)
        if not read:
            first_s = 0.0 if form is OWN else float(piece.arrival_s.min())
            start_s, end_s = (first_s + edge for edge in window.bounds_s(piece.origin, name))
            origin = piece.origin
        read += len(frame)
        inside = piece.rows((piece.arrival_s >= start_s) & (piece.arrival_s < end_s))
        kept.append(inside._replace(arrival_s=inside.arrival_s - start_s))
        if sum(len(part.arrival_s) for part in kept) > MAX_ROWS:
            raise ScenarioError(
                f"the window of {name} holds more than {MAX_ROWS:,} requests, the limit. Lower --hours."
            )
        if piece.arrival_s[0] < last_s or (np.diff(piece.arrival_s) < 0).any():
            last_s = np.inf  # out of order: the rest may belong to the window too
        last_s = max(last_s, float(piece.arrival_s[-1]))
        if end_s <= last_s < np.inf:
            break
    return _joined(kept, window, name, (read, last_s))


def _lines_from(first: int) -> LineOf:
    return lambda row: first + row


def _joined(kept: list[Columns], window: Window, name: str, reached: tuple[int, float]) -> Columns:
    """Return the parts of a window as one, with a note on how much of the file they are."""
    if not kept:
        raise ScenarioError(f"{name} has a header but no requests; add one line per request.")
    sizes = np.array([len(part.arrival_s) for part in kept])
    if not sizes.sum():
        raise nothing_within(window, name, reached[1])
    edges = np.cumsum(sizes) - sizes

    def line_of(row: int) -> int:
        part = int(np.searchsorted(edges, row, side="right")) - 1
        return kept[part].line_of(row - int(edges[part]))

    return kept[0]._replace(
        arrival_s=np.concatenate([part.arrival_s for part in kept]),
        prompt_tokens=np.concatenate([part.prompt_tokens for part in kept]),
        output_tokens=np.concatenate([part.output_tokens for part in kept]),
        line_of=line_of,
        notes=(f"a window: {sizes.sum():,} of the {reached[0]:,} rows read.", *kept[0].notes),
    )


def _pieces(path: Path, form: Format, name: str) -> Iterator[pd.DataFrame]:
    """Yield a file's rows, so many at a time."""
    try:
        with pd.read_csv(path, chunksize=ROWS_A_PIECE, compression=None, **_how(form)) as pieces:
            for frame in pieces:
                yield frame.reset_index(drop=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise _no_csv(name, error) from None


def _beginning(path: Path, name: str) -> str:
    try:
        with open(path, "rb") as file:
            beginning = file.read(MAX_HEADER_BYTES + 1)
    except OSError as error:
        raise ScenarioError(f"the trace {name} cannot be read: {error.strerror}.") from None
    if b"\x00" in beginning:
        raise ScenarioError(f"{name} is binary, or UTF-16 text. Unpack it, or save it as UTF-8.")
    return beginning.decode("utf-8-sig", "replace")


def _no_csv(name: str, error: Exception) -> ScenarioError:
    return ScenarioError(f"{name} is not a CSV file: {shown(str(error).strip(), 150)}.")


def _how(form: Format) -> dict[str, Any]:
    """Return how pandas is to read the columns of a format, and no others."""
    wanted = {column.lower() for column in form.columns}
    return {
        "usecols": lambda column: column.strip().lower() in wanted,
        "keep_default_na": False,
        "low_memory": False,
        "index_col": False,
        "skipinitialspace": True,
    }


def _columns(
    frame: pd.DataFrame,
    form: Format,
    header: list[str],
    name: str,
    line_of: LineOf,
    origin: pd.Timestamp | None = None,
) -> Columns:
    """Return a table's columns as numbers; clock times count from the first, or from an origin."""
    frame.columns = [column.strip().lower() for column in frame.columns]
    used = {column.lower() for column in form.columns}
    notes = unused([key for key in header if key.isprintable() and key.lower() not in used], ())
    prompt, output = (_numbers(frame[key.lower()], key, name, line_of) for key in (form.prompt, form.output))
    if not form.arrival:
        return Columns(form, np.zeros(len(frame)), prompt, output, line_of, notes=tuple(notes))
    cells = frame[form.arrival.lower()]
    if form.clock:
        stamps = _stamps(cells, form.arrival, name, line_of)
        origin = stamps.min() if origin is None else origin
        arrival_s = (stamps - origin).dt.total_seconds().to_numpy(dtype=np.float64)
    else:
        arrival_s = _numbers(cells, form.arrival, name, line_of)
    return Columns(form, arrival_s, prompt, output, line_of, notes=tuple(notes), origin=origin)


def _surplus_notes(text: str, width: int, name: str) -> tuple[str, ...]:
    """Return what is said of empty fields that the header does not have; raise at one that is not empty."""
    commas = 0
    for row in rows_beyond(text, width, name):
        if not row.is_whole:
            raise ScenarioError(
                f"{name}, line {row.line}: {row.surplus_words()}. Name the column there, or quote the field."
            )
        commas += 1
    return (commas_note(commas),) if commas else ()


# The header


def _header(text: str, name: str) -> list[str]:
    """Return the names of the columns."""
    first = text.lstrip().partition("\n")[0]
    if len(first) > MAX_HEADER_BYTES:
        raise ScenarioError(
            f"{name}, line 1, has {len(first):,} characters; a header has at most {MAX_HEADER_BYTES:,}."
        )
    try:
        return [column.strip() for column in next(csv.reader(io.StringIO(first)))]
    except (csv.Error, StopIteration) as error:
        raise ScenarioError(f"{name}, line 1: no header can be read ({error}). {_needed()}") from None


def _needed() -> str:
    return f"Give a CSV with the columns {', '.join(OWN.columns)}, or {OTHERS}."


def format_of(header: list[str], name: str) -> Format:
    """Return the format whose columns are all in the header, whatever their case."""
    found = [column.lower() for column in header]
    for form in CSV_FORMATS:
        if {column.lower() for column in form.columns} <= {*found}:
            twice = [column for column in form.columns if found.count(column.lower()) > 1]
            if twice:
                raise ScenarioError(f"{name}, line 1: the column {twice[0]} stands there twice; keep one.")
            return form
    if len(header) == 1:
        for mark, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if mark in header[0]:
                raise ScenarioError(f"{name} separates its columns by {word}; save it with commas.")
    words = ", ".join(shown(column, 30) for column in header[:8])
    raise ScenarioError(f"{name}, line 1: the columns are {words}. {_needed()}")


# Cells


def _csv_lines(text: str) -> LineOf:
    """Return a function from row number to line number, both of which skip blank lines alike."""

    def line_of(row: int) -> int:
        reader = csv.reader(io.StringIO(text))
        seen = -1  # the header
        try:
            for record in reader:
                if not any(field.strip() for field in record) and len(record) <= 1:
                    continue
                if seen == row:
                    return reader.line_num
                seen += 1
        except csv.Error:
            pass
        return row + 2

    return line_of


def _numbers(column: pd.Series, key: str, name: str, line_of: LineOf) -> np.ndarray:
    """Return a column as float64; the first cell that is no number is an error."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64)
    cells = column.astype(str)
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(np.isnan(values))
    if len(bad):
        refuse_text(cells.iloc[bad[0]], key, name, line_of(int(bad[0])))
    return values


def _stamps(column: pd.Series, key: str, name: str, line_of: LineOf) -> pd.Series:
    """Return a column of clock times."""
    cells = column.astype(str)
    stamps = pd.to_datetime(cells, format="ISO8601", utc=True, errors="coerce")
    bad = np.flatnonzero(stamps.isna().to_numpy())
    if len(bad):
        raise ScenarioError(
            f"{name}, line {line_of(int(bad[0]))}: {key} is {shown(cells.iloc[bad[0]])}; it must be a "
            "date and time such as 2023-11-16 18:17:03.98. Correct or remove that line."
        )
    return stamps
