"""Request traces: arrival times and lengths of real or invented requests, read from a file.

Three formats are told apart by their content:

- own CSV: `arrival_s,prompt_tokens,output_tokens`, seconds from the start of the run;
- Azure CSV: `TIMESTAMP,ContextTokens,GeneratedTokens`, clock times;
- Mooncake JSON lines: `timestamp` (ms), `input_length`, `output_length`.

The two public formats are shifted to start at 0. A request they record without output (cancelled before
its first token) counts as one token, since its prompt was still worked on; in an own CSV it is an error.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, TextIO

import numpy as np
import pandas as pd

from sim_core.fields.errors import ScenarioError, shown
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario
from sim_core.traffic.csv_rows import commas_note, rows_beyond
from sim_core.traffic.requests import Requests, read_only

Source = str | os.PathLike[str] | bytes | bytearray | BinaryIO | TextIO
MAX_FILE_BYTES = 200_000_000
MAX_UPLOAD_BYTES = 5_000_000
MAX_ROWS = 5_000_000
MAX_TOKENS = 1_000_000
MAX_SPAN_S = 1e8
MAX_HEADER_BYTES = 100_000
MAX_JSON_LINE = 1_000_000  # characters of one request; its lists take far more memory than their text


class Format(NamedTuple):
    """The columns of one format: arrival, prompt and output."""

    name: str
    arrival: str
    prompt: str
    output: str

    @property
    def columns(self) -> tuple[str, str, str]:
        """All three, in this order."""
        return self.arrival, self.prompt, self.output


OWN = Format("own CSV", "arrival_s", "prompt_tokens", "output_tokens")
AZURE = Format("Azure CSV", "TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE = Format("Mooncake JSON lines", "timestamp", "input_length", "output_length")


class Columns(NamedTuple):
    """What a parser found: numbers as float64, not yet checked, and how to find a row in the file."""

    format: Format
    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    line_of: Callable[[int], int]
    notes: tuple[str, ...] = ()


def read_trace(source: Source, name: str = "", max_bytes: int = MAX_FILE_BYTES) -> Requests:
    """Return the requests of a trace file.

    Parameters
    ----------
    source : path, bytes or binary file
        The file or its content.
    name : str, optional
        What messages call it; by default the file's name.
    max_bytes : int, optional
        Longest file read; pages pass `MAX_UPLOAD_BYTES`. [bytes]

    Raises
    ------
    ScenarioError
        If the file cannot be read or holds anything but requests; the message names file, line, value,
        limit and the way out.
    """
    name = _clean(name or _name_of(source))
    text = _decoded(_content(source, name, max_bytes), name)
    if not text.strip():
        raise ScenarioError(f"{name} is empty; a trace has a header and one line per request.")
    columns = _read_json_lines(text, name) if text.lstrip()[0] in "{[" else _read_csv(text, name)
    return _checked(columns, name)


def with_trace(scenario: Scenario, trace: Requests, given: Collection[str] = ()) -> Scenario:
    """Return the scenario as a run of the trace: its arrival times and all of its requests.

    Closed loop and offline keep their arrivals (the trace then gives lengths and order only), and so
    does any key in `given`. A number of requests other than the default is kept too.
    """
    changes: dict[str, str | int] = {}
    if scenario.arrivals in ("poisson", "gamma") and "arrivals" not in given:
        changes["arrivals"] = "trace"
    if scenario.requests == DEFAULTS["requests"] and "requests" not in given:
        changes["requests"] = min(len(trace), int(FIELDS["requests"].high))
    return scenario.replace(**changes)


# From a source to text


def _name_of(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return Path(source).name
    given = getattr(source, "name", "")
    return Path(given).name if isinstance(given, str) and given else "the trace"


def _clean(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)[:100]


def _content(source: Source, name: str, max_bytes: int) -> bytes:
    """Return the bytes of a source, at most `max_bytes`."""
    data: str | bytes | bytearray
    try:
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                data = file.read(max_bytes + 1)
        else:
            data = source if isinstance(source, (bytes, bytearray)) else source.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or shown(str(error))
        raise ScenarioError(f"the trace {name} cannot be read: {reason}.") from None
    content = data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)
    if len(content) > max_bytes:
        raise ScenarioError(
            f"{name} is longer than {max_bytes / 1e6:,.3g} MB, the limit here; keep fewer rows or columns."
        )
    return content


def _decoded(data: bytes, name: str) -> str:
    """Return the file's text with plain line ends; a byte-order mark of UTF-8 is dropped."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ScenarioError(f"{name} is UTF-16 text; save it as UTF-8.")
    zero = data.find(b"\x00")
    if zero >= 0:
        line = data.count(b"\n", 0, zero) + 1
        raise ScenarioError(f"{name}, line {line}: a zero byte. The file is binary; give CSV or JSON lines.")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScenarioError(
            f"{name}, line {line}: the byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from None


# CSV


def _read_csv(text: str, name: str) -> Columns:
    """Return the columns of an own or Azure CSV."""
    header = _header(text, name)
    form = _format_of(header, name)
    _refuse_too_many(text.count("\n"), name)
    notes = _surplus_notes(text, len(header), name)
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            usecols=lambda column: column.strip() in form.columns,
            keep_default_na=False,
            low_memory=False,
            index_col=False,
            skipinitialspace=True,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ScenarioError(f"{name} is not a CSV file: {shown(str(error).strip(), 150)}.") from None
    frame.columns = [column.strip() for column in frame.columns]
    line_of = _csv_lines(text)
    arrival_of = _clock_s if form is AZURE else _numbers
    return Columns(
        form,
        arrival_of(frame[form.arrival], form.arrival, name, line_of),
        _numbers(frame[form.prompt], form.prompt, name, line_of),
        _numbers(frame[form.output], form.output, name, line_of),
        line_of,
        notes,
    )


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
    return f"Give a CSV with the columns {', '.join(OWN.columns)}, or an Azure or Mooncake trace."


def _format_of(header: list[str], name: str) -> Format:
    """Return the format whose columns are all in the header."""
    for form in (OWN, AZURE):
        if set(form.columns) <= set(header):
            twice = [column for column in form.columns if header.count(column) > 1]
            if twice:
                raise ScenarioError(f"{name}, line 1: the column {twice[0]} stands there twice; keep one.")
            return form
    if len(header) == 1:
        for mark, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if mark in header[0]:
                raise ScenarioError(f"{name} separates its columns by {word}; save it with commas.")
    found = ", ".join(shown(column, 30) for column in header[:8])
    raise ScenarioError(f"{name}, line 1: the columns are {found}. {_needed()}")


def _csv_lines(text: str) -> Callable[[int], int]:
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


def _numbers(column: pd.Series, key: str, name: str, line_of: Callable[[int], int]) -> np.ndarray:
    """Return a column as float64; the first cell that is no number is an error."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64)
    cells = column.astype(str)
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(np.isnan(values))
    if len(bad):
        _refuse_text(cells.iloc[bad[0]], key, name, line_of(int(bad[0])))
    return values


def _refuse_text(cell: str, key: str, name: str, line: int) -> NoReturn:
    what = f"is {shown(cell)}; it must be a number" if cell.strip() else "is missing"
    raise ScenarioError(f"{name}, line {line}: {key} {what}. Correct or remove that line.")


def _clock_s(column: pd.Series, key: str, name: str, line_of: Callable[[int], int]) -> np.ndarray:
    """Return clock times as seconds after the first of them."""
    cells = column.astype(str)
    stamps = pd.to_datetime(cells, format="ISO8601", utc=True, errors="coerce")
    bad = np.flatnonzero(stamps.isna().to_numpy())
    if len(bad):
        raise ScenarioError(
            f"{name}, line {line_of(int(bad[0]))}: {key} is {shown(cells.iloc[bad[0]])}; it must be a "
            "date and time such as 2023-11-16 18:17:03.98. Correct or remove that line."
        )
    return (stamps - stamps.min()).dt.total_seconds().to_numpy(dtype=np.float64)


# JSON lines


def _read_json_lines(text: str, name: str) -> Columns:
    """Return the columns of a Mooncake trace."""
    if text.lstrip()[0] == "[":
        raise ScenarioError(f"{name} is one JSON array; {_one_object()}")
    lines: list[int] = []
    rows: list[tuple[float, float, float]] = []
    _refuse_too_many(text.count("\n"), name)
    for line, words in _filled_lines(text):
        rows.append(_json_row(words, name, line))
        lines.append(line)
    table = np.array(rows, dtype=np.float64)
    return Columns(MOONCAKE, table[:, 0] / 1e3, table[:, 1], table[:, 2], lines.__getitem__)


def _one_object() -> str:
    return (
        'write each request as one line such as {"timestamp": 0, "input_length": 100, "output_length": 20}.'
    )


def _filled_lines(text: str) -> Iterator[tuple[int, str]]:
    for line, words in enumerate(io.StringIO(text), start=1):
        if words.strip():
            yield line, words


def _json_row(words: str, name: str, line: int) -> tuple[float, float, float]:
    """Return timestamp [ms], prompt and output of one line."""
    if len(words) > MAX_JSON_LINE:
        raise ScenarioError(
            f"{name}, line {line}, has {len(words):,} characters; the limit is {MAX_JSON_LINE:,}. "
            "Leave all but the lengths out."
        )
    try:
        row = json.loads(words)
    except (ValueError, RecursionError):
        raise ScenarioError(f"{name}, line {line} is not one JSON object; {_one_object()}") from None
    if not isinstance(row, dict):
        raise ScenarioError(f"{name}, line {line} is not a JSON object; {_one_object()}")
    timestamp_ms, prompt, output = (_json_number(row, key, name, line) for key in MOONCAKE.columns)
    return timestamp_ms, prompt, output


def _json_number(row: dict[str, Any], key: str, name: str, line: int) -> float:
    if key not in row:
        raise ScenarioError(f"{name}, line {line}: {key} is missing; {_one_object()}")
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse_text(str(value)[:100] or "''", key, name, line)
    try:
        return float(value)
    except OverflowError:
        return float("inf")


# Checks that all formats share


def _refuse_too_many(rows: int, name: str) -> None:
    if rows > MAX_ROWS + 1:
        raise ScenarioError(f"{name} has {rows:,} lines; the limit is {MAX_ROWS:,}. Keep fewer rows.")


def _checked(columns: Columns, name: str) -> Requests:
    """Return the trace of parsed columns: checked, sorted by arrival, of whole tokens."""
    form = columns.format
    if len(columns.arrival_s) == 0:
        raise ScenarioError(f"{name} has a header but no requests; add one line per request.")
    notes = list(columns.notes)
    arrival_s = columns.arrival_s
    _check_arrivals(arrival_s, columns, name)
    if form is not OWN:
        arrival_s = arrival_s - arrival_s.min()
    prompt = _whole_tokens(columns.prompt_tokens, form.prompt, columns, name, least=1)
    output = _whole_tokens(columns.output_tokens, form.output, columns, name, least=int(form is OWN))
    empty = int(np.count_nonzero(output == 0))
    if empty:
        output = np.maximum(output, 1)
        notes.append(f"{_requests(empty)} without output: counted as one token each.")
    late = int(np.count_nonzero(np.diff(arrival_s) < 0))
    if late:
        order = np.argsort(arrival_s, kind="stable")
        arrival_s, prompt, output = arrival_s[order], prompt[order], output[order]
        notes.append(f"{_requests(late)} stood out of order of arrival: sorted.")
    notes = [f"{name}: {note}" for note in notes]
    return read_only(Requests(np.array(arrival_s), prompt, output, name, tuple(notes)))


def _requests(number: int) -> str:
    return f"{number:,} request" + ("s" if number > 1 else "")


def _check_arrivals(arrival_s: np.ndarray, columns: Columns, name: str) -> None:
    """Raise a `ScenarioError` unless every arrival lies within 0 and `MAX_SPAN_S` seconds."""
    bad = np.flatnonzero(~((arrival_s >= 0) & (arrival_s <= MAX_SPAN_S)))
    if len(bad) == 0:
        return
    row = int(bad[0])
    key, value, unit, most = columns.format.arrival, arrival_s[row], "s", MAX_SPAN_S
    if columns.format is MOONCAKE:
        value, unit, most = value * 1e3, "ms", MAX_SPAN_S * 1e3
    raise ScenarioError(
        f"{name}, line {columns.line_of(row)}: {key} is {_plain(value)} {unit}; it must lie between 0 and "
        f"{most:,.0f} {unit} after the start. Count from the first request."
    )


def _whole_tokens(values: np.ndarray, key: str, columns: Columns, name: str, least: int) -> np.ndarray:
    """Return lengths as int64; the first that is not whole or outside its limits is an error."""
    good = (values >= least) & (values <= MAX_TOKENS) & (values == np.floor(values))
    bad = np.flatnonzero(~good)
    if len(bad):
        row = int(bad[0])
        raise ScenarioError(
            f"{name}, line {columns.line_of(row)}: {key} is {_plain(values[row])}; it must be a whole number "
            f"between {least} and {MAX_TOKENS:,}. Correct or remove that line."
        )
    return values.astype(np.int64)


def _plain(value: float) -> str:
    return f"{value:,.15g}"
