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
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim_core.fields.errors import ScenarioError, shown

MAX_BYTES = 20_000_000  # a detailed result of a thousand answers of a thousand tokens
MAX_ROWS = 200_000
MAX_CONTAINERS = 400_000  # lists and objects of a JSON file: each takes far more memory than its text
MAX_POINTS = 200
MAX_NOTES = 5
LARGEST = 1e12
TOOLS = MappingProxyType(
    {
        "vllm": "vLLM `bench serve`: the result JSON",
        "sglang": "SGLang `bench_serving`: the JSON lines",
        "guidellm": "GuideLLM: the benchmarks JSON",
        "aiperf": "AIPerf: `profile_export_aiperf.json` or `.csv`",
        "mlperf": "MLPerf LoadGen: `mlperf_log_summary.txt`",
        "requests": "A CSV of requests: `arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms`",
        "steps": "A CSV of engine steps: `tokens,decode_context,prefill_pairs,time_ms`",
    }
)
NAN = math.nan


class OwnRequests(NamedTuple):
    """Requests as they were measured, in order of arrival; latencies are NaN where unknown."""

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    ttft_ms: np.ndarray
    e2e_ms: np.ndarray


class OwnPoint(NamedTuple):
    """One measured operating point; a number that the file does not give is NaN, a count 0.

    `arrivals` is empty where the file does not say how requests were sent; `statistic` says whether latencies
    are means or medians.
    """

    name: str
    tool: str
    arrivals: str = ""
    concurrency: int = 0
    arrival_per_s: float = NAN
    arrival_cv: float = 1.0
    requests: int = 0
    prompt_tokens: float = NAN
    output_tokens: float = NAN
    prompt_cv: float = 0.0
    output_cv: float = 0.0
    ttft_ms: float = NAN
    tpot_ms: float = NAN
    itl_ms: float = NAN
    e2e_ms: float = NAN
    output_tok_per_s: float = NAN
    request_per_s: float = NAN
    statistic: str = "mean"
    rows: OwnRequests | None = None


class OwnSteps(NamedTuple):
    """Engine steps: new tokens, the sum of the decodes' contexts, the prompts' pairs, and the time."""

    tokens: np.ndarray
    decode_context: np.ndarray
    prefill_pairs: np.ndarray
    time_ms: np.ndarray


class Upload(NamedTuple):
    """What a file holds, and in `notes` what of it was left out or assumed."""

    name: str
    tool: str
    points: tuple[OwnPoint, ...]
    steps: OwnSteps | None
    notes: tuple[str, ...]


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
    text = _text(data, name)
    if text[0] in "{[":
        return _from_json(text, name)
    if "MLPerf Results Summary" in text[:10_000]:
        return _finished(name, "mlperf", [_mlperf(text, name)], [])
    return _from_csv(text, name)


def is_profile(data: bytes) -> bool:
    """Return whether a file is an engine profile rather than a measurement: TOML with one of its keys."""
    head = data[:MAX_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")[:200_000]
    return re.search(rb"^(step_tokens|constants)\s*=", head, re.MULTILINE) is not None


def _finished(name: str, tool: str, points: list[OwnPoint], notes: list[str]) -> Upload:
    """Return the upload of the points that say something; without any, the file is refused."""
    useful = [point for point in points if _says_something(point)]
    if not useful:
        why = f" {notes[0]}" if notes else ""
        raise ScenarioError(
            f"{name} is a result of {TOOLS[tool].partition(':')[0]} without any latency or throughput.{why} "
            "Upload one of a finished run."
        )
    if len(useful) < len(points):
        notes.append(f"{len(points) - len(useful)} entries without latency and throughput were left out.")
    if len(useful) > MAX_POINTS:
        notes.append(f"Only the first {MAX_POINTS} of {len(useful)} points are used.")
    if len(notes) > MAX_NOTES:
        notes = [*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES} more notes are not shown."]
    return Upload(name, tool, tuple(useful[:MAX_POINTS]), None, tuple(notes))


def _says_something(point: OwnPoint) -> bool:
    values = (point.ttft_ms, point.tpot_ms, point.itl_ms, point.e2e_ms, point.output_tok_per_s)
    return any(math.isfinite(value) for value in values)


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
        text = data.decode(encoding).lstrip()
    except UnicodeDecodeError:
        raise ScenarioError(f"{name} is not text (UTF-8). {_known()}") from None
    if not text:
        raise ScenarioError(f"{name} is empty. {_known()}")
    if "\x00" in text[:4096]:
        raise ScenarioError(f"{name} is a binary file. {_known()}")
    if text[0] == "<":
        raise ScenarioError(f"{name} is HTML or XML. {_known()}")
    return text


def _known() -> str:
    kinds = "; ".join(title.replace("`", "") for title in TOOLS.values())
    return f"Known are: {kinds}."


# --- JSON -----------------------------------------------------------------------------------------


def _from_json(text: str, name: str) -> Upload:
    """Return the measurements of a JSON file, or of one object a line."""
    if text.count("{") + text.count("[") > MAX_CONTAINERS:
        raise ScenarioError(
            f"{name} has more than {MAX_CONTAINERS:,} lists and objects, the limit. "
            "Upload the summary without the details of each request."
        )
    entries = list(_objects(text, name))
    if not entries:
        raise ScenarioError(f"{name} holds no JSON object. {_known()}")
    first = entries[0]
    if isinstance(first.get("benchmarks"), list):
        return _guidellm(first, name)
    if isinstance(first.get("time_to_first_token"), dict) or isinstance(first.get("request_latency"), dict):
        points = [_aiperf(_aiperf_values(entry), _aiperf_load(entry)) for entry in entries]
        return _finished(name, "aiperf", points, [])
    if any(key in first for key in ("mean_ttft_ms", "median_ttft_ms", "output_throughput", "mean_tpot_ms")):
        return _serving(entries, name)
    keys = ", ".join(shown(key, 30) for key in list(first)[:4])
    raise ScenarioError(f"{name} is JSON of an unknown kind (its first keys: {keys or 'none'}). {_known()}")


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


def _number(entry: Any, *keys: str, low: float = 0.0) -> float:
    """Return the first of some keys that is a finite number of at least `low`, else NaN."""
    for key in keys:
        value = entry.get(key) if isinstance(entry, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if isinstance(value, int) and value.bit_length() > 60:
            continue
        if math.isfinite(value) and low <= value <= LARGEST:
            return float(value)
    return NAN


def _above_zero(entry: Any, *keys: str) -> float:
    """Return the same for a number above 0."""
    return _number(entry, *keys, low=1e-12)


def _whole(value: float) -> int:
    return round(value) if math.isfinite(value) and value >= 0.5 else 0


def _spread(entry: Mapping[str, Any], key: str) -> float:
    """Return the coefficient of variation of a list of lengths, 0 without one."""
    values = entry.get(key)
    if not isinstance(values, list):
        return 0.0
    known = [value for value in values[:MAX_ROWS] if isinstance(value, int) and 0 < value < 10**7]
    if len(known) < 2:
        return 0.0
    return min(float(np.std(known) / np.mean(known)), 10.0)


# --- vLLM and SGLang ------------------------------------------------------------------------------


def _serving(entries: list[dict[str, Any]], name: str) -> Upload:
    """Return the points of `vllm bench serve` or of SGLang's `bench_serving`, whose keys are alike."""
    sglang = any(key in entries[0] for key in ("mean_e2e_latency_ms", "sharegpt_output_len", "server_info"))
    tool = "sglang" if sglang or entries[0].get("backend") == "sglang" else "vllm"
    notes: list[str] = []
    points = [_serving_point(entry, tool, notes) for entry in entries]
    return _finished(name, tool, points, notes)


def _serving_point(entry: dict[str, Any], tool: str, notes: list[str]) -> OwnPoint:
    """Return one run; a finite rate is an open loop, else clients are a closed one, else all came at once."""
    done = _above_zero(entry, "completed", "num_prompts")
    clients, rate = _whole(_number(entry, "max_concurrency")), _above_zero(entry, "request_rate")
    burstiness = _above_zero(entry, "burstiness")
    failed = _whole(_number(entry, "failed"))
    if failed:
        notes.append(f"{failed:,} requests of a run failed; the tool leaves them out of its figures.")
    if clients and math.isfinite(rate):
        notes.append(
            f"A run at {rate:g} req/s had at most {clients:,} open at a time; that cap is not simulated."
        )
    arrivals = "poisson" if math.isfinite(rate) else "closed" if clients else "offline"
    cv = 1.0
    if arrivals == "poisson" and math.isfinite(burstiness) and burstiness != 1:
        arrivals, cv = "gamma", min(max(burstiness**-0.5, 0.01), 100.0)
    statistic = "mean" if math.isfinite(_number(entry, "mean_ttft_ms", "mean_tpot_ms")) else "median"

    def latency(*names: str) -> float:
        return _above_zero(entry, *(f"{statistic}_{name}_ms" for name in names))

    return OwnPoint(
        name=_name(arrivals, clients, rate),
        tool=tool,
        arrivals=arrivals,
        concurrency=clients if arrivals == "closed" else 0,
        arrival_per_s=rate,
        arrival_cv=cv,
        requests=_whole(done),
        prompt_tokens=_above_zero(entry, "total_input_tokens", "total_input") / done,
        output_tokens=_above_zero(entry, "total_output_tokens", "total_output") / done,
        prompt_cv=_spread(entry, "input_lens"),
        output_cv=_spread(entry, "output_lens"),
        ttft_ms=latency("ttft"),
        tpot_ms=latency("tpot"),
        itl_ms=latency("itl"),
        e2e_ms=latency("e2el", "e2e_latency"),
        output_tok_per_s=_above_zero(entry, "output_throughput"),
        request_per_s=_above_zero(entry, "request_throughput"),
        statistic=statistic,
    )


def _name(arrivals: str, clients: int, rate: float) -> str:
    if arrivals == "closed" and clients:
        return f"{clients:,} client" + ("s" if clients > 1 else "")
    if math.isfinite(rate):
        return f"{rate:g} req/s"
    return "all at once" if arrivals == "offline" else "a run"


# --- GuideLLM -------------------------------------------------------------------------------------


def _guidellm(report: dict[str, Any], name: str) -> Upload:
    """Return the points of a GuideLLM report, one for each benchmark."""
    entries = [entry for entry in report["benchmarks"] if isinstance(entry, dict)]
    return _finished(name, "guidellm", [_guidellm_point(entry) for entry in entries], [])


def _guidellm_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one benchmark; its gap between tokens counts every gap once, as ITL does."""
    measured = entry.get("metrics") if isinstance(entry.get("metrics"), dict) else {}
    strategy = _first_object(entry.get("config"), entry.get("args"), entry, key="strategy")
    kind = str(strategy.get("type_", strategy.get("kind", "")))
    rate = _above_zero(strategy, "rate", "initial_rate")
    clients = 1 if kind == "synchronous" else _whole(_number(strategy, "streams", "max_concurrency"))
    arrivals = {
        "synchronous": "closed", "concurrent": "closed", "throughput": "offline", "poisson": "poisson",
        "async": "poisson", "constant": "gamma",
    }.get(kind, "")  # fmt: skip
    if arrivals in ("poisson", "gamma") and not math.isfinite(rate):
        arrivals = ""
    done = _first_object(
        measured, _as_object(entry.get("scheduler_metrics")), key="request_totals", other="requests_made"
    )

    def mean(*names: str) -> float:
        for key in names:
            value = _above_zero(_as_object(_as_object(measured.get(key)).get("successful")), "mean")
            if math.isfinite(value):
                return value
        return NAN

    return OwnPoint(
        name=_name(arrivals, clients, rate),
        tool="guidellm",
        arrivals=arrivals,
        concurrency=clients if arrivals == "closed" else 0,
        arrival_per_s=rate,
        arrival_cv=0.01 if kind == "constant" else 1.0,
        requests=_whole(_number(done, "successful")),
        prompt_tokens=mean("prompt_token_count", "prompt_tokens"),
        output_tokens=mean("output_token_count", "output_tokens"),
        ttft_ms=mean("time_to_first_token_ms"),
        itl_ms=mean("inter_token_latency_ms"),
        e2e_ms=1e3 * mean("request_latency"),
        output_tok_per_s=mean("output_tokens_per_second"),
        request_per_s=mean("requests_per_second"),
    )


def _as_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_object(*places: Any, key: str, other: str = "") -> dict[str, Any]:
    """Return the object under a key in the first of some places that has one."""
    for place in places:
        for name in (key, other):
            found = _as_object(_as_object(place).get(name))
            if found:
                return found
    return {}


# --- AIPerf ---------------------------------------------------------------------------------------

_AIPERF = {
    "Time to First Token": "time_to_first_token", "Inter Token Latency": "inter_token_latency",
    "Request Latency": "request_latency", "Input Sequence Length": "input_sequence_length",
    "Output Sequence Length": "output_sequence_length", "Request Throughput": "request_throughput",
    "Output Token Throughput": "output_token_throughput", "Request Count": "request_count",
}  # fmt: skip
_TO_MS = {"ms": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3, "us": 1e-3, "ns": 1e-6}


def _aiperf_values(entry: dict[str, Any]) -> dict[str, float]:
    """Return the means of an AIPerf summary, times in ms."""
    found = {}
    for key in _AIPERF.values():
        block = _as_object(entry.get(key))
        value = _above_zero(block, "avg")
        timed = key in ("time_to_first_token", "inter_token_latency", "request_latency")
        found[key] = value * (_TO_MS.get(str(block.get("unit", "ms")), 1.0) if timed else 1.0)
    for key in ("input_sequence_length", "output_sequence_length"):
        deviation = _number(_as_object(entry.get(key)), "std")
        found[f"{key}_cv"] = deviation / found[key] if deviation >= 0 and found[key] > 0 else 0.0
    return found


def _aiperf_load(entry: dict[str, Any]) -> dict[str, float]:
    """Return clients and rate from wherever the configuration of an AIPerf summary holds them."""
    found = {"concurrency": NAN, "request_rate": NAN}
    open_places: list[tuple[Any, int]] = [(entry.get("input_config"), 0), (entry.get("run_info"), 0)]
    while open_places:
        place, depth = open_places.pop()
        if isinstance(place, list) and depth < 8:
            open_places += [(item, depth + 1) for item in place[:50]]
        if not isinstance(place, dict):
            continue
        for key in found:
            if math.isnan(found[key]):
                found[key] = _above_zero(place, key, "rate" if key == "request_rate" else key)
        if depth < 8:
            open_places += [(item, depth + 1) for item in list(place.values())[:200]]
    return found


def _aiperf(values: Mapping[str, float], load: Mapping[str, float]) -> OwnPoint:
    """Return one AIPerf run; its inter-token latency is a request's mean gap, so its mean is that of TPOT."""
    rate, clients = load["request_rate"], _whole(load["concurrency"])
    arrivals = "poisson" if math.isfinite(rate) else "closed" if clients else ""
    return OwnPoint(
        name=_name(arrivals, clients, rate),
        tool="aiperf",
        arrivals=arrivals,
        concurrency=clients if arrivals == "closed" else 0,
        arrival_per_s=rate,
        requests=_whole(values["request_count"]),
        prompt_tokens=values["input_sequence_length"],
        output_tokens=values["output_sequence_length"],
        prompt_cv=min(values.get("input_sequence_length_cv", 0.0), 10.0),
        output_cv=min(values.get("output_sequence_length_cv", 0.0), 10.0),
        ttft_ms=values["time_to_first_token"],
        tpot_ms=values["inter_token_latency"],
        e2e_ms=values["request_latency"],
        output_tok_per_s=values["output_token_throughput"],
        request_per_s=values["request_throughput"],
    )


def _aiperf_csv(text: str, name: str) -> Upload:
    """Return the point of an AIPerf CSV: one metric a row, its mean in the second column."""
    found: dict[str, dict[str, Any]] = {}
    for row in csv.reader(text.splitlines()):
        match = re.fullmatch(r"(.{1,80}?) \((.{1,40})\)|(.{1,80})", row[0].strip()) if len(row) > 1 else None
        if match is None:
            continue
        title = (match[1] or match[3]).strip()
        if title in _AIPERF and _AIPERF[title] not in found:
            found[_AIPERF[title]] = {"avg": _cell(row[1]), "unit": match[2] or "ms", "std": _cell(row[-1])}
    for key in ("request_throughput", "output_token_throughput", "request_count"):
        found.get(key, {}).pop("std", None)
    point = _aiperf(_aiperf_values(found), {"concurrency": NAN, "request_rate": NAN})
    return _finished(name, "aiperf", [point], [])


def _cell(text: str) -> float:
    try:
        return float(text.replace(",", "")) if len(text) < 40 else NAN
    except ValueError:
        return NAN


# --- MLPerf ---------------------------------------------------------------------------------------


def _mlperf(text: str, name: str) -> OwnPoint:
    """Return the point of a LoadGen summary; the answers' mean length follows from tokens and samples."""
    values: dict[str, str] = {}
    for line in text.splitlines()[:2000]:
        key, mark, value = line.partition(":")
        if mark and len(line) < 200:
            values.setdefault(" ".join(key.lower().split()), value.strip())

    def figure(*keys: str) -> float:
        return next((v for v in (_cell(values.get(key, "")) for key in keys) if 0 < v <= 1e15), NAN)

    scenario = values.get("scenario", "").lower()
    if scenario not in ("offline", "server", "interactive"):
        raise ScenarioError(
            f"{name} is a LoadGen summary of the scenario {shown(values.get('scenario', 'none'))}; "
            "Offline, Server and Interactive are simulated."
        )
    samples = figure("completed samples per second", "samples per second")
    tokens = figure("completed tokens per second", "tokens per second")
    rate = figure("scheduled samples per second") if scenario != "offline" else NAN
    return OwnPoint(
        name=f"{scenario.capitalize()}, {values.get('result is', 'no verdict')[:10]}",
        tool="mlperf",
        arrivals="offline" if scenario == "offline" else "poisson" if math.isfinite(rate) else "",
        arrival_per_s=rate,
        requests=max(_whole(figure(key)) for key in ("samples_per_query", "min_query_count")),
        output_tokens=tokens / samples,
        ttft_ms=1e-6 * figure("mean first token latency (ns)"),
        tpot_ms=1e-6 * figure("mean time per output token (ns)", "mean time to output token (ns)"),
        e2e_ms=1e-6 * figure("mean latency (ns)") if scenario != "offline" else NAN,
        output_tok_per_s=tokens,
        request_per_s=samples,
    )


# --- CSV ------------------------------------------------------------------------------------------


def _from_csv(text: str, name: str) -> Upload:
    """Return the measurements of a CSV."""
    line = text.partition("\n")[0]
    if len(line) > 10_000:
        raise ScenarioError(
            f"{name}: its first line has {len(line):,} characters; a CSV's header is short. {_known()}"
        )
    heads = [head.strip().strip('"') for head in line.split(",")]
    if heads[0] == "Metric":
        return _aiperf_csv(text, name)
    if set(OwnSteps._fields) <= set(heads):
        return _steps(text, name)
    if set(OwnRequests._fields) <= set(heads):
        return _requests(text, name)
    if is_profile(text.encode("utf-8", "replace")):
        raise ScenarioError(f"{name} is an engine profile, not a measurement. Give it with --profile.")
    if {"arrival_s", "prompt_tokens", "output_tokens"} <= set(heads):
        raise ScenarioError(
            f"{name} is a trace: it has no ttft_ms and e2e_ms. Add them, or replay it with --trace."
        )
    for wanted in (OwnRequests._fields, OwnSteps._fields):
        missing = [key for key in wanted if key not in heads]
        if len(missing) <= 2:
            raise ScenarioError(f"{name} lacks the column {missing[0]}; its header needs {','.join(wanted)}.")
    raise ScenarioError(f"{name} is of no known kind; it begins {shown(line[:60])}. {_known()}")


def _columns(text: str, names: tuple[str, ...], name: str) -> tuple[pd.DataFrame, list[str]]:
    """Return some columns as numbers, at most `MAX_ROWS` rows, and notes; what is no number becomes NaN."""
    try:
        frame = pd.read_csv(
            io.StringIO(text), skipinitialspace=True, nrows=MAX_ROWS + 1, on_bad_lines="skip", dtype=str,
            usecols=lambda head: head.strip() in names, engine="c",
        )  # fmt: skip
    except (ValueError, OverflowError, pd.errors.ParserError) as error:
        raise ScenarioError(f"{name} is no CSV that can be read: {str(error)[:120]}.") from None
    frame.columns = [head.strip() for head in frame.columns]
    notes = []
    if len(frame) > MAX_ROWS:
        notes.append(f"Only the first {MAX_ROWS:,} rows are used, the limit.")
    numbers = frame[list(names)].head(MAX_ROWS).apply(pd.to_numeric, errors="coerce").astype(float)
    return numbers, notes


def _kept(frame: pd.DataFrame, good: pd.Series, name: str, what: str, notes: list[str]) -> pd.DataFrame:
    """Return the good rows; the others are noted with the first of their lines."""
    bad = int((~good).sum())
    if bad:
        line = int(np.flatnonzero(~good.to_numpy())[0]) + 2
        notes.append(f"{bad:,} of {len(frame):,} rows were left out, the first near line {line:,}: {what}.")
    if not good.any():
        raise ScenarioError(f"{name} has no usable row: {what}. Correct it.")
    return frame[good]


def _steps(text: str, name: str) -> Upload:
    """Return the steps of a CSV."""
    frame, notes = _columns(text, OwnSteps._fields, name)
    finite = np.isfinite(frame).all(axis=1) & (frame <= LARGEST).all(axis=1)
    good = finite & (frame.tokens >= 1) & (frame.decode_context >= 0) & (frame.prefill_pairs >= 0)
    good &= frame.time_ms > 0
    what = "tokens at least 1, time_ms above 0 and no negative number are needed"
    frame = _kept(frame, good, name, what, notes)
    steps = OwnSteps(*(frame[key].to_numpy() for key in OwnSteps._fields))
    return Upload(name, "steps", (), steps, tuple(notes))


def _requests(text: str, name: str) -> Upload:
    """Return the requests of a CSV as one point that can be replayed."""
    frame, notes = _columns(text, OwnRequests._fields, name)
    lengths = (frame.prompt_tokens.round() >= 1) & (frame.output_tokens.round() >= 1)
    lengths &= (frame.prompt_tokens <= 1e6) & (frame.output_tokens <= 1e6)
    good = lengths & (frame.arrival_s >= 0) & (frame.arrival_s <= 1e8)
    what = "arrival_s of at least 0 and lengths of 1 to 1,000,000 tokens are needed"
    frame = _kept(frame, good, name, what, notes).sort_values("arrival_s", kind="stable")
    for key in ("ttft_ms", "e2e_ms"):
        frame[key] = frame[key].where((frame[key] > 0) & (frame[key] <= LARGEST))
    wrong = frame.e2e_ms < frame.ttft_ms
    if wrong.any():
        notes.append(f"{int(wrong.sum()):,} rows have an e2e_ms below their ttft_ms; both were left out.")
        frame.loc[wrong, ["ttft_ms", "e2e_ms"]] = NAN
    return _finished(name, "requests", [_requests_point(frame)], notes)


def _requests_point(frame: pd.DataFrame) -> OwnPoint:
    rows = OwnRequests(
        frame.arrival_s.to_numpy() - frame.arrival_s.iloc[0],
        frame.prompt_tokens.round().to_numpy(np.int64),
        frame.output_tokens.round().to_numpy(np.int64),
        frame.ttft_ms.to_numpy(),
        frame.e2e_ms.to_numpy(),
    )
    many = rows.output_tokens > 1
    gaps_ms = (rows.e2e_ms - rows.ttft_ms)[many]
    tpot = gaps_ms / (rows.output_tokens[many] - 1)
    finished_s = rows.arrival_s + 1e-3 * rows.e2e_ms
    known = np.isfinite(finished_s)
    span_s = float(finished_s[known].max()) if known.any() else NAN
    return OwnPoint(
        name=f"{len(frame):,} requests",
        tool="requests",
        arrivals="trace",
        requests=len(frame),
        prompt_tokens=float(rows.prompt_tokens.mean()),
        output_tokens=float(rows.output_tokens.mean()),
        ttft_ms=_mean(rows.ttft_ms),
        tpot_ms=_mean(tpot),
        e2e_ms=_mean(rows.e2e_ms),
        output_tok_per_s=float(rows.output_tokens[known].sum()) / span_s if known.any() else NAN,
        request_per_s=float(known.sum()) / span_s if known.any() else NAN,
        rows=rows,
    )


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else NAN
