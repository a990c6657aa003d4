"""Files of measurements: each known kind, and everything else that people may upload."""

from __future__ import annotations

import gzip
import io
import json
import math
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core.evidence.own.formats.points import MAX_ROWS, OwnPoint, Upload
from sim_core.evidence.own.formats.read import MAX_BYTES, TOOLS, is_profile, read_upload
from sim_core.fields.errors import ScenarioError
from tests.places import SAMPLES


def sample(name: str) -> Upload:
    return read_upload((SAMPLES / name).read_bytes(), name)


def only(upload: Upload) -> OwnPoint:
    assert len(upload.points) == 1
    return upload.points[0]


# --- the known kinds: samples in the shape that each tool documents --------------------------------


def test_vllm() -> None:
    """Oracle: the sample's own figures; 327,680 / 320 = 1,024 and 40,960 / 320 = 128 tokens."""
    point = only(sample("vllm.json"))
    assert (point.tool, point.arrivals, point.concurrency, point.requests) == ("vllm", "closed", 32, 320)
    assert (point.prompt_tokens, point.output_tokens, point.output_cv) == (1024, 128, 0)
    assert point.prompt_cv == pytest.approx(np.std([1000, 1048, 1024, 1024]) / 1024)
    assert (point.ttft_ms, point.tpot_ms, point.itl_ms, point.e2e_ms) == (210.5, 48.25, 48.5, 6350.0)
    assert (point.output_tok_per_s, point.request_per_s, point.statistic) == (640, 5, "mean")


@pytest.mark.parametrize(
    ("changes", "arrivals", "cv"),
    [
        ({"request_rate": 4.0, "max_concurrency": None}, "poisson", 1.0),
        ({"request_rate": 4.0, "max_concurrency": None, "burstiness": 0.25}, "gamma", 2.0),
        ({"max_concurrency": None, "request_throughput": 25.0}, "offline", 1.0),
    ],
)
def test_vllm_traffic(changes: dict, arrivals: str, cv: float) -> None:
    """Oracle: a gamma process of shape b has a coefficient of variation of 1 / sqrt(b)."""
    result = json.loads((SAMPLES / "vllm.json").read_text()) | changes
    point = only(read_upload(json.dumps(result).encode(), "x"))
    assert (point.arrivals, point.arrival_cv, point.concurrency) == (arrivals, cv, 0)


def test_vllm_medians_where_there_are_no_means() -> None:
    """Oracle: the sample's medians."""
    result = json.loads((SAMPLES / "vllm.json").read_text())
    bare = {key: value for key, value in result.items() if not key.startswith("mean_")}
    point = only(read_upload(json.dumps(bare).encode(), "x"))
    assert (point.statistic, point.ttft_ms, point.tpot_ms) == ("median", 190.0, 48.0)


def test_sglang() -> None:
    """Oracle: the sample's two lines: an open loop and a closed one."""
    upload = sample("sglang.jsonl")
    assert upload.tool == "sglang"
    open_loop, closed = upload.points
    assert (open_loop.arrivals, open_loop.arrival_per_s, open_loop.prompt_tokens) == ("poisson", 4, 512)
    assert (open_loop.ttft_ms, open_loop.tpot_ms, open_loop.e2e_ms) == (60, 13, 900)
    assert (closed.arrivals, closed.concurrency, closed.output_tokens) == ("closed", 16, 64)


def test_guidellm() -> None:
    """Oracle: the sample: 8 streams, then 2.5 requests a second; request latency is in seconds."""
    upload = sample("guidellm.json")
    streams, rate = upload.points
    assert (streams.arrivals, streams.concurrency, streams.requests) == ("closed", 8, 160)
    assert (streams.ttft_ms, streams.itl_ms, streams.e2e_ms) == (95, 15, 2000)
    assert math.isnan(streams.tpot_ms)
    assert (streams.prompt_tokens, streams.output_tokens, streams.output_tok_per_s) == (256, 128, 512)
    assert (rate.arrivals, rate.arrival_per_s) == ("poisson", 2.5)


@pytest.mark.parametrize(
    ("strategy", "arrivals", "clients"),
    [
        ({"type_": "synchronous"}, "closed", 1),
        ({"type_": "throughput", "max_concurrency": 512}, "closed", 8),
        ({"type_": "throughput", "max_concurrency": 16}, "closed", 16),
        ({"type_": "constant", "rate": 3.0}, "gamma", 0),
        ({"type_": "constant"}, "", 0),
        ({"type_": "new"}, "", 0),
    ],
)
def test_guidellm_strategies(strategy: dict, arrivals: str, clients: int) -> None:
    """Oracle: what each strategy sends; an unknown one is not guessed.

    Of 160 requests at once 4 x 2.0 = 8 are open on average (Little's law), so the client held them back.
    """
    report = json.loads((SAMPLES / "guidellm.json").read_text())
    report["benchmarks"] = report["benchmarks"][:1]
    report["benchmarks"][0]["config"]["strategy"] = strategy
    point = only(read_upload(json.dumps(report).encode(), "x"))
    assert (point.arrivals, point.concurrency) == (arrivals, clients)


@pytest.mark.parametrize(
    ("name", "arrivals", "clients"), [("aiperf.json", "closed", 4), ("aiperf.csv", "", 0)]
)
def test_aiperf(name: str, arrivals: str, clients: int) -> None:
    """Oracle: the same run in both of its files; the CSV does not state the clients."""
    point = only(sample(name))
    assert (point.arrivals, point.concurrency, point.requests) == (arrivals, clients, 40)
    assert (point.ttft_ms, point.tpot_ms, point.e2e_ms) == (45, 9.5, 1251.5)
    assert (point.prompt_tokens, point.output_tokens, point.prompt_cv) == (300, 128, pytest.approx(0.1))
    assert (point.output_tok_per_s, point.request_per_s) == (408, 3.19)


def test_mlperf() -> None:
    """Oracle: nanoseconds to ms; 2,940 / 10 = 294 tokens an answer; prompts are not in the summary."""
    point = only(sample("mlperf_log_summary.txt"))
    assert (point.arrivals, point.arrival_per_s, point.requests) == ("poisson", 10.1, 24_576)
    assert (point.ttft_ms, point.tpot_ms, point.e2e_ms) == (300, 30, 9000)
    assert (point.output_tokens, point.output_tok_per_s) == (294, 2940)
    assert math.isnan(point.prompt_tokens)


def test_requests() -> None:
    """Oracle: by hand: gaps of (120 - 20) / 10 = 10 ms and (230 - 30) / 20 = 10 ms; arrivals from 0."""
    point = only(sample("requests.csv"))
    assert point.rows.arrival_s.tolist() == [0.0, 0.5, 1.0]
    assert (point.ttft_ms, point.tpot_ms, point.e2e_ms) == (30, 10, 130)
    assert point.output_tok_per_s == pytest.approx(33 / 1.04)  # the last ends 1.04 s after the first arrival


def test_titles_count_in_any_case() -> None:
    """Oracle: the same table."""
    text = (SAMPLES / "requests.csv").read_text()
    head, _, rest = text.partition("\n")
    assert only(read_upload(f"{head.title()}\n{rest}".encode(), "x")).ttft_ms == 30


def test_steps() -> None:
    """Oracle: the sample."""
    steps = sample("steps.csv").steps
    assert steps.tokens.tolist() == [1, 8, 264]
    assert steps.time_ms.tolist() == [8.1, 8.9, 21.0]


def test_every_known_kind_has_a_sample() -> None:
    """Oracle: the list of kinds that the page shows."""
    assert {sample(path.name).tool for path in SAMPLES.iterdir()} == set(TOOLS)


def test_names_do_not_decide() -> None:
    """Oracle: the same content under another name."""
    data = (SAMPLES / "vllm.json").read_bytes()
    assert read_upload(data, "x.csv")._replace(name="") == read_upload(data, "x.json")._replace(name="")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_encodings_are_read(encoding: str) -> None:
    """Oracle: the sample without them."""
    text = (SAMPLES / "requests.csv").read_text()
    assert only(read_upload(text.encode(encoding), "x")).ttft_ms == 30


def test_a_profile_is_known_as_one() -> None:
    """Oracle: its keys."""
    assert is_profile(b'name = "mine"\nstep_tokens = [1]\nstep_time_ms = [2.0]\n')
    assert is_profile(b'constants = "layer:9.5"\n')
    assert not any(is_profile(path.read_bytes()) for path in SAMPLES.iterdir())


# --- what cannot be used --------------------------------------------------------------------------


def zipped() -> bytes:
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("a.csv", "x")
    return place.getvalue()


BAD = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\t", "is empty"),
    "too large": (b"x" * (MAX_BYTES + 1), "the limit is 20 MB"),
    "zip": (zipped(), "a ZIP archive or a spreadsheet. Unpack it"),
    "gzip": (gzip.compress(b"x"), "a gzip archive"),
    "pdf": (b"%PDF-1.7 ...", "a PDF"),
    "picture": (b"\x89PNG\r\n", "a picture"),
    "bytes": (bytes(range(128, 256)), "is not text"),
    "nulls": (b"a,b\x00\x00\x00", "a binary file"),
    "html": (b"<!doctype html><script>alert(1)</script>", "HTML or XML"),
    "cut off": (b'{"mean_ttft_ms": 12.0, "mean_t', "is not valid JSON"),
    "cut off lines": (b'{"a": 1}\n{"b": ', "line 2 is no JSON value"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "many": (b"[" + b"[]," * 400_001 + b"[]]", "more than 400,000 lists and objects"),
    "a number": (b"[1, 2, 3]", "holds no JSON object"),
    "other json": (b'{"hello": 1}', "JSON of an unknown kind (its first keys: 'hello')"),
    "no figures": (b'{"mean_ttft_ms": "fast", "completed": 3}', "without any latency or throughput"),
    "not finite": (b'{"mean_ttft_ms": NaN, "mean_tpot_ms": Infinity}', "without any latency or throughput"),
    "huge number": (b'{"mean_ttft_ms": 1e999, "completed": 1' + b"0" * 400 + b"}", "without any latency"),
    "huge digits": (b'{"mean_ttft_ms": ' + b"9" * 10_000 + b"}", "not valid JSON"),
    "guidellm without runs": (b'{"benchmarks": []}', "without any latency or throughput"),
    "guidellm of another shape": (b'{"benchmarks": [{"metrics": 3, "config": []}]}', "without any latency"),
    "other csv": (b"a,b,c\n1,2,3\n", "is of no known kind; it begins 'a,b,c'"),
    "words": (b"hello world", "is of no known kind"),
    "long line": (b"a" * 20_000, "a CSV's header is short"),
    "trace": (b"arrival_s,prompt_tokens,output_tokens\n0,1,1\n", "is a trace"),
    "column missing": (b"tokens,decode_context,time_ms\n1,2,3\n", "lacks the column prefill_pairs"),
    "no row": (b"tokens,decode_context,prefill_pairs,time_ms\n", "no usable row"),
    "bad rows": (
        b"tokens,decode_context,prefill_pairs,time_ms\n0,1,1,1\nnan,1,1,1\n1,1,1,-2\n",
        "no usable row",
    ),
    "requests without latency": (
        b"arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms\n0,1,1,,\n",
        "without any latency",
    ),
    "single stream": (
        b"MLPerf Results Summary\nScenario : SingleStream\n",
        "Offline, Server and Interactive are simulated",
    ),
    "summary of nothing": (b"MLPerf Results Summary\nScenario : Offline\n", "without any latency"),
    "profile": (b"step_tokens = [1]\nstep_time_ms = [1.0]\n", "is an engine profile"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_refused_in_one_clear_line(kind: str) -> None:
    """Oracle: the message names the file and what is wrong, in one printable line."""
    data, words = BAD[kind]
    with pytest.raises(ScenarioError) as raised:
        read_upload(data, "my file.json")
    message = str(raised.value)
    assert message.startswith("my file.json")
    assert words in message
    assert message.isprintable()
    assert len(message) < 1200


def test_good_rows_survive_bad_ones() -> None:
    """Oracle: by hand: two of five rows are usable; the note names the first bad line."""
    text = "tokens,decode_context,prefill_pairs,time_ms\n1,1,1,1\nx,1,1,1\n2,1,1,inf\n3,1,1,1\n4,-1,1,1\n"
    upload = read_upload(text.encode(), "x")
    assert upload.steps.tokens.tolist() == [1, 3]
    assert "3 of 5 rows were left out, the first near line 3" in upload.notes[0]


def test_impossible_latencies_are_left_out() -> None:
    """Oracle: an answer cannot end before its first token."""
    text = "arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms\n0,5,5,100,50\n1,5,5,10,50\n2,5,5,-3,50\n"
    upload = read_upload(text.encode(), "x")
    assert only(upload).ttft_ms == 10
    assert "below their ttft_ms" in upload.notes[1]


def test_entries_without_figures_are_counted() -> None:
    """Oracle: one of the two lines says something."""
    lines = b'{"mean_ttft_ms": 5.0, "max_concurrency": 2}\n{"completed": 0}\n'
    upload = read_upload(lines, "x")
    assert len(upload.points) == 1
    assert "1 entries without" in " ".join(upload.notes)


def test_rows_beyond_the_limit_are_left_out() -> None:
    """Oracle: the limit."""
    text = "tokens,decode_context,prefill_pairs,time_ms\n" + "1,1,1,1\n" * (MAX_ROWS + 10)
    upload = read_upload(text.encode(), "x")
    assert upload.steps.tokens.size == MAX_ROWS
    assert "Only the first 200,000 rows" in upload.notes[0]


def test_a_name_cannot_hide_marks() -> None:
    """Oracle: control characters and length."""
    with pytest.raises(ScenarioError) as raised:
        read_upload(b"", "a\x1b[31m\n" + "b" * 500)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1200


@pytest.mark.slow
def test_memory_stays_a_few_times_the_file() -> None:
    """Oracle: tracemalloc: ten million numbers in one list are the worst that the limits let in."""
    data = b'{"mean_ttft_ms": 5.0, "x": [' + b"1.5," * 2_000_000 + b"1.5]}"
    tracemalloc.start()
    read_upload(data, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15 * len(data)


# --- anything at all ------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["mean_ttft_ms", "benchmarks", "metrics", "config", "strategy", "type_", "rate", "completed", "avg",
         "time_to_first_token", "request_latency", "input_config", "successful", "mean", "max_concurrency",
         "request_rate", "total_input_tokens", "input_lens"]), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


def reads_or_refuses(data: bytes) -> None:
    try:
        upload = read_upload(data, "x")
    except ScenarioError as error:
        assert str(error).isprintable()
        return
    assert upload.points or upload.steps is not None
    for point in upload.points:
        for value in (point.ttft_ms, point.tpot_ms, point.output_tok_per_s):
            assert math.isnan(value) or value > 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Oracle: nothing but a ScenarioError comes out."""
    reads_or_refuses(data)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Oracle: nothing but a ScenarioError comes out, of keys that readers know with values they do not."""
    reads_or_refuses(json.dumps(value).encode())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(path.name for path in SAMPLES.iterdir())), st.data())
def test_damaged_samples_are_read_or_refused(name: str, data: st.DataObject) -> None:
    """Oracle: nothing but a ScenarioError comes out, whatever is cut, doubled or overwritten."""
    content = bytearray((SAMPLES / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        end = min(start + data.draw(st.integers(0, 30)), len(content))
        content[start:end] = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"", b"nan", b"-1", b"{", b"1e400"])
        )
        if not content:
            content = bytearray(b"x")
    reads_or_refuses(bytes(content))


# --- files that cost or mislead --------------------------------------------------------------------

REQUESTS = "arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms\n"


@pytest.mark.parametrize(
    ("alone", "whole"), [("", True), ("2,1000,1,50,50\n", True), ("2,1000,1,40,50\n", False)]
)
def test_answers_that_came_whole_tell_no_first_token(alone: str, whole: bool) -> None:
    """By hand: where first and last token come at once in all requests, that is no time to the first."""
    upload = read_upload(
        (REQUESTS + "0,1000,200,3000,3000\n1,1000,200,2500,2500\n" + alone).encode(), "x.csv"
    )
    assert only(upload).e2e_ms == pytest.approx((3000 + 2500 + 50) / 3 if alone else 2750)
    assert math.isnan(only(upload).ttft_ms) == whole
    assert any("came whole, not streamed" in note for note in upload.notes) == whole


def test_a_comma_at_the_end_shifts_no_column() -> None:
    """Oracle: by hand: prompts of 1,000, first tokens after 50 ms; a note counts the lines."""
    text = REQUESTS + "0,1000,200,50,3000,\n1,1000,200,50,3000,\n"
    upload = read_upload(text.encode(), "x.csv")
    assert (only(upload).prompt_tokens, only(upload).ttft_ms) == (1000, 50)
    assert "2 lines end with a comma that the header does not have" in upload.notes[1]


def test_a_line_with_a_field_too_many_is_left_out_and_named() -> None:
    """Oracle: by hand: one of two requests is left; alone, such a line is no file."""
    bad = "1,1,000,200,50,3000\n"
    upload = read_upload((REQUESTS + "0,1000,200,50,3000\n" + bad).encode(), "x.csv")
    assert only(upload).requests == 1
    assert "Line 3 has '3000' behind the last column of the header; left out" in upload.notes[1]
    with pytest.raises(ScenarioError, match=r"no usable row\. Line 2 has '3000' behind"):
        read_upload((REQUESTS + bad).encode(), "x.csv")


def test_a_column_that_stands_there_twice_is_refused() -> None:
    """Oracle: which of them is meant, nobody knows."""
    text = REQUESTS.replace("\n", ",ttft_ms\n") + "0,1000,200,50,3000,60\n"
    with pytest.raises(ScenarioError, match="the column ttft_ms stands there twice"):
        read_upload(text.encode(), "x.csv")


@pytest.mark.parametrize(
    "text",
    [
        REQUESTS + "0,1,1,1,1" + ",9" * 50_000,
        REQUESTS + "0,1,1,1,1" + ",99" * 6_000_000,
        REQUESTS + '"' + "a" * 19_000_000,
        'Metric,avg\n"' + "a" * 1_000_000,
        "[" + "1," * 9_000_000 + "1]",
        "[" * 300_000,
        '{"a":' * 100_000,
        '{"mean_ttft_ms":' + "9" * 100_000 + "}",
        "step_tokens" + "\n" * 10_000_000,
        REQUESTS + "0,1000,20,30,400\n" + "\x00",
    ],
    ids=["fields", "more fields", "quote", "metric", "values", "lists", "objects", "digits", "blanks", "NUL"],
)
def test_what_would_cost_is_refused_before(text: str) -> None:
    """Oracle: one line, and the most memory that Python's own objects take meanwhile: below 300 MB."""
    data = text.encode()
    del text
    tracemalloc.start()
    try:
        with pytest.raises(ScenarioError):
            read_upload(data, "x")
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()


def test_runs_are_limited_before_they_become_points() -> None:
    """Oracle: the limits: 2,000 runs are looked at, 200 become points, and both are said."""
    entry = json.dumps(json.loads((SAMPLES / "vllm.json").read_text()))
    upload = read_upload(("[" + ",".join([entry] * 2500) + "]").encode(), "x.json")
    assert len(upload.points) == 200
    assert upload.notes[0] == "Only the first 2,000 of 2,500 runs are read."


def test_a_quotation_mark_without_an_end_in_the_header_is_said() -> None:
    """Oracle: Python's csv: all behind the mark is one field."""
    with pytest.raises(ScenarioError, match="there is no column e2e_ms, or a quotation mark has no end"):
        read_upload((REQUESTS.replace("e2e_ms", 'e2e_ms"') + "0,1,1,1,1\n").encode(), "x.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_and_encodings_are_read(end: str, encoding: str) -> None:
    """Oracle: the same point whatever wrote the file."""
    text = (REQUESTS + "0,1000,200,50,3000\n1,1000,200,50,3000\n").replace("\n", end)
    assert only(read_upload(text.encode(encoding), "x.csv")).requests == 2
