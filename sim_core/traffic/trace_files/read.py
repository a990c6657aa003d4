"""Request traces: arrival times and lengths of real or invented requests, read from a file.

Formats are told apart by their content (`formats`):

- own CSV: `arrival_s,prompt_tokens,output_tokens`, seconds from the start of the run;
- Azure CSV: `TIMESTAMP,ContextTokens,GeneratedTokens`, clock times;
- BurstGPT, Vidur and splitwise-sim CSV: seconds;
- Mooncake JSON lines: `timestamp` (ms; in Bailian's traces s), `input_length`, `output_length`, and what
  prompts have in common: `hash_ids`, `parent_chat_id`, or `session_id`, whose later turns may have a `delay`
  in place of a `timestamp`;
- lengths without times: Vidur's processed traces, `input_length,output_length`, ShareGPT's conversations and
  the sessions that AIPerf sends (`inputs.json`).

Public formats are shifted to start at 0. A request they record without output (cancelled before its first
token) counts as one token, since its prompt was still worked on; BurstGPT's have failed and are left out; in
an own CSV it is an error. A window of a CSV file is read in pieces, however long the file is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from sim_core.fields.errors import ScenarioError, shown
from sim_core.fields.texts import counted
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario
from sim_core.traffic.requests import Requests, read_only
from sim_core.traffic.trace_files.aiperf_inputs import is_inputs
from sim_core.traffic.trace_files.conversations import is_conversations, read_conversations
from sim_core.traffic.trace_files.formats import OWN, Columns, check_arrivals
from sim_core.traffic.trace_files.json_lines import read_inputs, read_json_lines
from sim_core.traffic.trace_files.remarks import doubts, extent
from sim_core.traffic.trace_files.tables import read_csv, stream_csv
from sim_core.traffic.trace_files.windows import WHOLE, Window, nothing_within, without_times

Source = str | os.PathLike[str] | bytes | bytearray | BinaryIO | TextIO
MAX_FILE_BYTES = 200_000_000
MAX_UPLOAD_BYTES = 5_000_000
MAX_TOKENS = 1_000_000


def read_trace(
    source: Source, name: str = "", max_bytes: int = MAX_FILE_BYTES, window: Window = WHOLE
) -> Requests:
    """Return the requests of a trace file.

    Parameters
    ----------
    source : path, bytes or binary file
        The file or its content.
    name : str, optional
        What messages call it; by default the file's name.
    max_bytes : int, optional
        Longest file read; pages pass `MAX_UPLOAD_BYTES`. A window of a CSV, and conversations, are read from
        files of any length. [bytes]
    window : Window, optional
        The part to read.

    Raises
    ------
    ScenarioError
        If the file cannot be read or holds anything but requests; the message names file, line, value,
        limit and the way out.
    """
    name = _clean(name or _name_of(source))
    if isinstance(source, (str, os.PathLike)):
        beginning = _beginning(source, name)
        if beginning.startswith("[") and is_conversations(beginning):
            with open(source, encoding="utf-8-sig") as file:
                return _checked(read_conversations(file, name), name, window)
        if window.is_part and beginning and beginning[0] not in "{[":
            return _checked(stream_csv(Path(source), name, window), name, WHOLE)
    return requests_in(_decoded(_content(source, name, max_bytes), name), name, window)


def requests_in(text: str, name: str, window: Window = WHOLE) -> Requests:
    """Return the requests of a trace's text, as `text_of` returns it; else as `read_trace`."""
    if not text.strip():
        raise ScenarioError(f"{name} is empty; a trace has a header and one line per request.")
    return _checked(_parsed(text, name), name, window)


def text_of(source: Source, name: str = "", max_bytes: int = MAX_FILE_BYTES) -> tuple[str, str]:
    """Return the text of a source, with plain line ends, and what messages call it.

    Raises
    ------
    ScenarioError
        If it cannot be read, is longer than `max_bytes`, or is no text.
    """
    name = _clean(name or _name_of(source))
    return _decoded(_content(source, name, max_bytes), name), name


def _parsed(text: str, name: str) -> Columns:
    first = text.lstrip()[:100_000]
    if first[0] == "[" and is_conversations(first):
        return read_conversations(io.StringIO(text), name)
    if is_inputs(first):
        return read_inputs(text, name)
    return read_json_lines(text, name) if first[0] in "{[" else read_csv(text, name)


def with_trace(scenario: Scenario, trace: Requests, given: Collection[str] = ()) -> Scenario:
    """Return the scenario as a run of the trace: its arrival times and all of its requests.

    Closed loop and offline keep their arrivals (the trace then gives lengths and order only), and so
    does any key in `given`, and every scenario under a trace without times. A number of requests other than
    the default is kept too.
    """
    changes: dict[str, str | int] = {}
    if trace.timed and scenario.arrivals in ("poisson", "gamma") and "arrivals" not in given:
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


def _beginning(source: str | os.PathLike[str], name: str) -> str:
    """Return the first characters of a file."""
    beginning = _content_of(source, name, 100_000)
    return bytes(beginning).decode("utf-8-sig", "replace").lstrip() if isinstance(beginning, bytes) else ""


def _content_of(source: Source, name: str, size: int) -> str | bytes | bytearray:
    """Return at most so much of a source."""
    try:
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                return file.read(size)
        return source if isinstance(source, (bytes, bytearray)) else source.read(size)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or shown(str(error))
        raise ScenarioError(f"the trace {name} cannot be read: {reason}.") from None


def _content(source: Source, name: str, max_bytes: int) -> bytes:
    """Return the bytes of a source, at most `max_bytes`."""
    data = _content_of(source, name, max_bytes + 1)
    content = data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)
    if len(content) > max_bytes:
        raise ScenarioError(
            f"{name} is longer than {max_bytes / 1e6:,.3g} MB, the limit here; keep fewer rows or columns"
            + (", or read a window of a CSV: --from and --hours." if max_bytes == MAX_FILE_BYTES else ".")
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


# Checks that all formats share


def _checked(columns: Columns, name: str, window: Window) -> Requests:
    """Return the trace of parsed columns: a window of it, checked, sorted by arrival, of whole tokens."""
    form = columns.format
    if len(columns.arrival_s) == 0:
        raise ScenarioError(f"{name} has a header but no requests; add one line per request.")
    check_arrivals(columns, name)
    columns = _within(columns, name, window)
    columns, notes = _succeeded(columns, name)
    arrival_s = columns.arrival_s
    notes = [*_times_said(columns), *columns.notes, *notes]
    if form is not OWN:
        arrival_s = arrival_s - arrival_s.min()
    prompt = _whole_tokens(columns.prompt_tokens, form.prompt, columns, name, least=1)
    output = _whole_tokens(columns.output_tokens, form.output, columns, name, least=int(form is OWN))
    empty = int(np.count_nonzero(output == 0))
    if empty:
        output = np.maximum(output, 1)
        notes.append(f"{counted(empty, 'request')} without output: counted as one token each.")
    shared = columns.sharing._asdict() if columns.sharing else {}
    sent = Requests(np.array(arrival_s), prompt, output, name, timed=bool(form.arrival), **shared)
    late = int(np.count_nonzero(np.diff(arrival_s) < 0))
    if late:
        sent = sent.take(np.argsort(arrival_s, kind="stable"))
        notes.append(f"{counted(late, 'request')} stood out of order of arrival: sorted.")
    return read_only(replace(sent, notes=tuple(f"{name}: {note}" for note in notes)))


def _within(columns: Columns, name: str, window: Window) -> Columns:
    """Return the rows of a window; an own CSV's times then count from where it begins."""
    if not window.is_part:
        return columns
    if not columns.format.arrival:
        raise without_times(name)
    first_s = 0.0 if columns.format is OWN else float(columns.arrival_s.min())
    start_s, end_s = window.bounds_s(columns.origin, name)
    arrival_s = columns.arrival_s - first_s
    kept = (arrival_s >= start_s) & (arrival_s < end_s)
    if columns.sharing:
        kept = columns.sharing.whole(kept)
    if not kept.any():
        raise nothing_within(window, name, float(arrival_s.max()))
    note = f"a window: {counted(int(kept.sum()), 'request')} of {len(kept):,}."
    rows = columns.rows(kept)
    return rows._replace(arrival_s=rows.arrival_s - first_s - start_s, notes=(note, *columns.notes))


def _succeeded(columns: Columns, name: str) -> tuple[Columns, list[str]]:
    """Return the rows that are requests: answered, where a format marks the others; of some length."""
    form, empty = columns.format, columns.output_tokens == 0
    if not form.arrival:
        empty |= columns.prompt_tokens == 0
        what = f"{form.prompt} or {form.output} 0"
    else:
        empty &= form.failed
        what = f"{form.output} 0"
    if empty.all():
        raise ScenarioError(f"{name} holds no request that was answered: {what} in every row.")
    if not empty.any():
        return columns, []
    failed = "failed " if form.arrival else ""
    return columns.rows(~empty), [f"{counted(int(empty.sum()), 'request')} {failed}({what}): left out."]


def _times_said(columns: Columns) -> list[str]:
    """Return the extent of a trace and what is doubtful of it, or that it has no times."""
    if columns.format.arrival:
        return [extent(columns.arrival_s), *doubts(columns.arrival_s)]
    many = counted(len(columns.arrival_s), "request")
    return [f"lengths of {many}, in this order, without times: arrivals are those of the scenario."]


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
