"""CSV traces: read whole, or in pieces of which only a window is kept."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import pandas as pd

from sim_core.fields.errors import ScenarioError, shown
from sim_core.traffic.trace_files.csv_rows import MAX_LINE, commas_notes, rows_beyond
from sim_core.traffic.trace_files.formats import (
    CSV_FORMATS,
    MAX_ROWS,
    OTHERS,
    OWN,
    Columns,
    Format,
    check_arrivals,
    refuse_text,
    refuse_too_many,
)
from sim_core.traffic.trace_files.remarks import unused
from sim_core.traffic.trace_files.windows import Window, nothing_within, without_times

MAX_HEADER_BYTES = 100_000
ROWS_A_PIECE = 200_000
MAX_PIECE = 64_000_000  # characters
LineOf = Callable[[int], int]


class Piece(NamedTuple):
    """Some rows of a file under its header, and how many of its lines stand between the two."""

    text: str
    skipped: int = 0


class Reached(NamedTuple):
    """How far a file has been read: its rows, and the latest arrival after the first. [s]"""

    rows: int = 0
    most_s: float = -math.inf
    in_order: bool = True

    def after(self, arrival_s: np.ndarray) -> Reached:
        """Return the same after a piece more."""
        in_order = self.in_order and bool(arrival_s[0] >= self.most_s and (np.diff(arrival_s) >= 0).all())
        return Reached(self.rows + len(arrival_s), max(self.most_s, float(arrival_s.max())), in_order)


def read_csv(text: str, name: str) -> Columns:
    """Return the columns of a CSV of any of the known formats."""
    header = _header(text, name)
    form = format_of(header, name)
    refuse_too_many(text.count("\n"), name)
    piece = Piece(text)
    commas = _commas(piece, len(header), name)
    found = _columns(piece, form, header, name)
    return found._replace(notes=(*found.notes, *commas_notes(commas)))


def stream_csv(path: Path, name: str, window: Window) -> Columns:
    """Return the columns of the rows within a window; of the rest, never more than a piece is in memory.

    Where rows stand in order of arrival, reading ends with the window.

    Raises
    ------
    ScenarioError
        If the file cannot be read, or the window holds no request or more than `MAX_ROWS`.
    """
    beginning = _beginning(path, name)
    header = _header(beginning, name)
    form = format_of(header, name)
    if not form.arrival:
        raise without_times(name)
    kept: list[Columns] = []
    origin, first_s, start_s, end_s, commas, reached = None, 0.0, 0.0, np.inf, 0, Reached()
    for piece in _pieces(path, _head(beginning), name):
        commas += _commas(piece, len(header), name)
        found = _columns(piece, form, header, name, origin)
        if not len(found.arrival_s):
            continue
        if not form.clock:  # clock times may lie before the first row's
            check_arrivals(found, name)
        if not kept:
            origin = found.origin
            first_s = 0.0 if form is OWN else float(found.arrival_s.min())
            start_s, end_s = window.bounds_s(origin, name)
        found = found._replace(arrival_s=found.arrival_s - first_s)
        reached = reached.after(found.arrival_s)
        inside = found.rows((found.arrival_s >= start_s) & (found.arrival_s < end_s))
        kept.append(inside._replace(arrival_s=inside.arrival_s - start_s))
        if sum(len(part.arrival_s) for part in kept) > MAX_ROWS:
            raise ScenarioError(
                f"the window of {name} holds more than {MAX_ROWS:,} requests, the limit. Lower --hours."
            )
        if reached.in_order and end_s <= reached.most_s:
            break
    joined = _joined(kept, window, name, reached)
    return joined._replace(notes=(*joined.notes, *commas_notes(commas)))


def _joined(kept: list[Columns], window: Window, name: str, reached: Reached) -> Columns:
    """Return the parts of a window as one, with a note on how much of the file they are."""
    if not kept:
        raise ScenarioError(f"{name} has a header but no requests; add one line per request.")
    sizes = np.array([len(part.arrival_s) for part in kept])
    if not sizes.sum():
        raise nothing_within(window, name, reached.most_s)
    edges = np.cumsum(sizes) - sizes

    def line_of(row: int) -> int:
        part = int(np.searchsorted(edges, row, side="right")) - 1
        return kept[part].line_of(row - int(edges[part]))

    return kept[0]._replace(
        arrival_s=np.concatenate([part.arrival_s for part in kept]),
        prompt_tokens=np.concatenate([part.prompt_tokens for part in kept]),
        output_tokens=np.concatenate([part.output_tokens for part in kept]),
        line_of=line_of,
        notes=(f"a window: {sizes.sum():,} of the {reached.rows:,} rows read.", *kept[0].notes),
    )


def _pieces(path: Path, head: str, name: str) -> Iterator[Piece]:
    """Yield a file's rows, so many lines at a time, each time under its header."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            skipped = next((number for number, line in enumerate(_lines_of(file)) if line.strip()), 0)
            while lines := _next_lines(file):
                yield Piece("".join([head, "\n", *lines]), skipped)
                skipped += len(lines)
    except (UnicodeDecodeError, OSError) as error:
        raise _no_csv(name, error) from None


def _next_lines(file: TextIO) -> list[str]:
    """Return the next lines of a file, up to the end of a row; none at its end."""
    lines: list[str] = []
    size = 0
    for line in islice(_lines_of(file), ROWS_A_PIECE):
        lines.append(line)
        size += len(line)
        if size > MAX_PIECE:
            break
    return lines + _rest_of_row(lines, file) if any('"' in line for line in lines) else lines


def _lines_of(file: TextIO) -> Iterator[str]:
    """Yield a file's lines; of one that is too long, not much more than shows it."""
    return iter(partial(file.readline, MAX_LINE + 2), "")


def _rest_of_row(lines: list[str], file: TextIO) -> list[str]:
    """Return the lines that belong to the last row of others: a quoted field may hold line ends."""
    rest: list[str] = []

    def following() -> Iterator[str]:
        for line in _lines_of(file):
            rest.append(line)
            yield line

    reader = csv.reader(chain(lines, following()), skipinitialspace=True)
    with suppress(csv.Error):  # whoever reads the rows names the line
        for _ in reader:
            if reader.line_num >= len(lines):
                break
    return rest


def _beginning(path: Path, name: str) -> str:
    try:
        with open(path, "rb") as file:
            beginning = file.read(MAX_HEADER_BYTES + 1)
    except OSError as error:
        raise ScenarioError(f"the trace {name} cannot be read: {error.strerror}.") from None
    if b"\x00" in beginning:
        raise ScenarioError(f"{name} is binary, or UTF-16 text. Unpack it, or save it as UTF-8.")
    return beginning.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")


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
    piece: Piece, form: Format, header: list[str], name: str, origin: pd.Timestamp | None = None
) -> Columns:
    """Return a table's columns as numbers; clock times count from the first, or from an origin."""
    try:
        frame = pd.read_csv(io.StringIO(piece.text), **_how(form))
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise _no_csv(name, error) from None
    line_of = _line_of(piece, len(frame))
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


def _commas(piece: Piece, width: int, name: str) -> int:
    """Return how many lines end with empty fields beyond the header; raise at a field that is not empty."""
    commas = 0
    for row in rows_beyond(piece.text, width, name, piece.skipped):
        if not row.is_whole:
            raise ScenarioError(
                f"{name}, line {row.line}: {row.surplus_words()}. Name the column there, or quote the field."
            )
        commas += 1
    return commas


# The header


def _header(text: str, name: str) -> list[str]:
    """Return the names of the columns."""
    first = _head(text)
    if len(first) > MAX_HEADER_BYTES:
        raise ScenarioError(
            f"{name}, line 1, has {len(first):,} characters; a header has at most {MAX_HEADER_BYTES:,}."
        )
    try:
        return [column.strip() for column in next(csv.reader(io.StringIO(first)))]
    except (csv.Error, StopIteration) as error:
        raise ScenarioError(f"{name}, line 1: no header can be read ({error}). {_needed()}") from None


def _head(text: str) -> str:
    """Return the first line that is not blank."""
    return text.lstrip().partition("\n")[0]


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


def _line_of(piece: Piece, rows: int) -> LineOf:
    """Return a function from a row to its line in the file, blank lines and quoted line ends counted."""
    text, skipped = piece
    lines: Sequence[int] = range(2, rows + 2)
    if text.rstrip().count("\n") != rows:
        filled = list(_filled_lines(text))[1:]
        lines = filled if len(filled) == rows else lines
    return lambda row: skipped + lines[row]


def _filled_lines(text: str) -> Iterator[int]:
    """Yield the last line of each row, the header's first."""
    if '"' not in text:
        yield from (number for number, line in enumerate(io.StringIO(text), start=1) if line.strip())
        return
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    for record in reader:
        if len(record) > 1 or any(field.strip() for field in record):
            yield reader.line_num


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
