"""Measurements that people already have: results of benchmark tools, and CSVs of requests or engine steps.

A file is recognised by its content. Everything is read in memory, nothing is executed or written, and what
cannot be used is refused with a message, or left out with a note.

References
----------
vllm-project/vllm, vllm/benchmarks/serve.py (`--save-result`).
sgl-project/sglang, python/sglang/bench_serving.py (`--output-file`).
vllm-project/guidellm, src/guidellm/benchmark/schemas and src/guidellm/schemas/statistics.py.
ai-dynamo/aiperf, docs/reference/json-export-schema.md and docs/tutorials/working-with-profile-exports.md.
mlcommons/inference, loadgen/results.cc (mlperf_log_summary.txt).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from sim_core.catalogue.engines import engines as known_engines
from sim_core.evidence.own.formats import aiperf, guidellm, mlperf, serving, tables
from sim_core.evidence.own.formats.checks import checked
from sim_core.evidence.own.formats.points import REQUEST_COLUMNS, Content, Format, OwnSteps, Upload
from sim_core.evidence.own.formats.reports import clients, engines, llama, llmd, records
from sim_core.evidence.own.formats.served import Served, served
from sim_core.fields.errors import ScenarioError, shown
from sim_core.traffic.trace_files.formats import CSV_FORMATS, MOONCAKE, OWN

FORMATS: tuple[Format, ...] = (  # the first that knows a file reads it
    *serving.FORMATS,
    *guidellm.FORMATS,
    *aiperf.FORMATS,
    *mlperf.FORMATS,
    *tables.FORMATS,
    *records.FORMATS,
    *engines.FORMATS,
    *clients.FORMATS,
    *llama.FORMATS,
    *llmd.FORMATS,
)
TOOLS: Mapping[str, str] = MappingProxyType({form.tool: form.title for form in FORMATS})

MAX_BYTES = 20_000_000  # a detailed result of a thousand answers of a thousand tokens
MAX_LINE = 10_000  # characters of a CSV's header
MAX_CONTAINERS = 400_000  # lists and objects of a JSON file: each takes far more memory than its text
MAX_VALUES = 3_000_000  # of a JSON file, for the same reason
MAX_ENTRIES = 2_000  # runs of a file that are looked at; fewer become points


def read_upload(data: bytes, name: str) -> Upload:
    """Return the measurements of a file.

    Parameters
    ----------
    data : bytes
        The file's content.
    name : str
        What messages call it.

    Raises
    ------
    ScenarioError
        If the file is too large, no text, of none of the known kinds (`TOOLS`), or holds nothing usable.
    """
    name = "".join(mark if mark.isprintable() else "?" for mark in name)[:100] or "the file"
    content = _content(_text(data, name), name)
    for form in FORMATS:
        if form.knows(content):
            notes = _cut(content) if form.holds_runs else []
            return _with_engine(_noted(checked(_read_by(form, content)), notes), served(content, form))
    _refuse(content)


def _read_by(form: Format, content: Content) -> Upload:
    try:
        return form.read(content)
    except csv.Error as error:
        raise ScenarioError(f"{content.name} is no CSV that can be read: {error}.") from None


def _content(text: str, name: str) -> Content:
    """Return a text with its JSON objects, or with the titles of its first line."""
    if text[0] in "{[":
        return Content(name, text, _entries(text, name), [])
    line = text.partition("\n")[0]
    return Content(name, text, [], [head.strip().strip('"') for head in line[:MAX_LINE].split(",")])


def is_profile(data: bytes) -> bool:
    """Return whether a file is an engine profile rather than a measurement: TOML with one of its keys."""
    head = data[:MAX_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")[:200_000].replace(b"\r", b"\n")
    return re.search(rb"^(step_tokens|constants)\s*=", head, re.MULTILINE) is not None


# --- from bytes to text ---------------------------------------------------------------------------

_PACKED = (
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet", "Unpack it, or save the sheet as CSV"),
    (b"\x1f\x8b", "a gzip archive", "Unpack it"),
    (b"BZh", "a bzip2 archive", "Unpack it"),
    (b"\xfd7zXZ", "an xz archive", "Unpack it"),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it"),
    (b"%PDF", "a PDF", "Export the numbers as CSV or JSON"),
    (b"PAR1", "a Parquet file", "Export it as CSV"),
    (b"\x89PNG", "a picture", "Upload the numbers behind it"),
)


def _text(data: bytes, name: str) -> str:
    """Return the text of a file without leading blanks."""
    if len(data) > MAX_BYTES:
        raise ScenarioError(
            f"{name} has {len(data) / 1e6:,.1f} MB; the limit is {MAX_BYTES / 1e6:,.0f} MB. "
            "Upload the summary without the details of each token, or fewer requests."
        )
    for magic, what, way_out in _PACKED:
        if data.startswith(magic):
            raise ScenarioError(f"{name} is {what}. {way_out}, and upload the text file.")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").lstrip()
    except UnicodeDecodeError:
        raise ScenarioError(f"{name} is not text (UTF-8). {_known()}") from None
    if not text:
        raise ScenarioError(f"{name} is empty. {_known()}")
    if "\x00" in text:
        raise ScenarioError(f"{name} is a binary file. {_known()}")
    if text[0] == "<":
        raise ScenarioError(f"{name} is HTML or XML. {_known()}")
    return text


def _known() -> str:
    kinds = dict.fromkeys(title.partition(":")[0].replace("`", "") for title in TOOLS.values())
    return f"Known are results of these: {', '.join(kinds)}."


# --- JSON -----------------------------------------------------------------------------------------


def _entries(text: str, name: str) -> list[dict[str, Any]]:
    """Return the objects of a JSON file: one, a list of them, or one a line."""
    if text.count("{") + text.count("[") > MAX_CONTAINERS:
        raise ScenarioError(
            f"{name} has more than {MAX_CONTAINERS:,} lists and objects, the limit. "
            "Upload the summary without the details of each request."
        )
    if text.count(",") > MAX_VALUES:
        raise ScenarioError(
            f"{name} has more than {MAX_VALUES:,} values, the limit. "
            "Upload the summary without the details of each token."
        )
    entries = list(_objects(text, name))
    if not entries:
        raise ScenarioError(f"{name} holds no JSON object. {_known()}")
    return entries


def _cut(content: Content) -> list[str]:
    """Cut a file's runs to those that are looked at, and say so: one point takes some work."""
    reported = content.first.get("benchmarks")
    runs = reported if isinstance(reported, list) else content.entries
    count = len(runs)
    del runs[MAX_ENTRIES:]
    return [f"Only the first {MAX_ENTRIES:,} of {count:,} runs are read."] if count > MAX_ENTRIES else []


def _noted(upload: Upload, notes: list[str]) -> Upload:
    return upload._replace(notes=(*notes, *upload.notes))


def _with_engine(upload: Upload, found: Served) -> Upload:
    """Return an upload with the engine that served; where its file names several, with a note."""
    if not found.several:
        return upload._replace(engine=found.engine, engine_word=found.word)
    names = " and ".join(
        known_engines()[name].name if name in known_engines() else name for name in found.several
    )
    return _noted(
        upload, [f"It names more than one engine ({names}): choose the one of the scenario yourself."]
    )


def _objects(text: str, name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON text: one, a list of them, or one a line."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ScenarioError(f"{name} is nested too deeply to be a benchmark's result. {_known()}") from None
    except ValueError as error:
        found = _lines(text, name, error)
    for entry in found if isinstance(found, list) else [found]:
        if isinstance(entry, dict):
            yield entry


def _lines(text: str, name: str, whole: ValueError) -> list[Any]:
    """Return the objects of JSON lines; `whole` is why the text is no single JSON value."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            reason = str(whole) if number == 1 else f"line {number} is no JSON value"
            raise ScenarioError(
                f"{name} is not valid JSON: {reason[:120]}. It may have been cut off; upload the whole file."
            ) from None
    return found


# --- what nobody knows ----------------------------------------------------------------------------


def _is_trace(content: Content) -> bool:
    columns = {head.lower() for head in (*content.heads, *content.first)}
    lengths = [{form.prompt.lower(), form.output.lower()} for form in (*CSV_FORMATS, MOONCAKE) if form != OWN]
    return any(pair <= columns for pair in lengths) or isinstance(content.first.get("conversations"), list)


def _refuse(content: Content) -> NoReturn:
    """Refuse a file that no reader knows, with what comes close to it."""
    name, text, heads = content.name, content.text, content.heads
    if content.entries and not _is_trace(content):
        keys = ", ".join(shown(key, 30) for key in list(content.first)[:4])
        raise ScenarioError(
            f"{name} is JSON of an unknown kind (its first keys: {keys or 'none'}). {_known()}"
        )
    first = text.partition("\n")[0]
    if len(first) > MAX_LINE:
        raise ScenarioError(
            f"{name}: its first line has {len(first):,} characters; a CSV's header is short. {_known()}"
        )
    if is_profile(text.encode("utf-8", "replace")):
        raise ScenarioError(f"{name} is an engine profile, not a measurement. Give it with --profile.")
    if _is_trace(content):
        raise ScenarioError(
            f"{name} is a trace: it holds no measurement. "
            "Replay it with --trace, or upload it on the page Traffic shift."
        )
    if {"arrival_s", "prompt_tokens", "output_tokens"} <= set(heads):
        raise ScenarioError(
            f"{name} is a trace: it has no ttft_ms and e2e_ms. Add them, or replay it with --trace."
        )
    for wanted in (REQUEST_COLUMNS, OwnSteps._fields):
        missing = [key for key in wanted if key not in heads]
        if len(missing) <= 2:
            raise ScenarioError(f"{name} lacks the column {missing[0]}; its header needs {','.join(wanted)}.")
    raise ScenarioError(f"{name} is of no known kind; it begins {shown(first[:60])}. {_known()}")
