"""Reports of further benchmark tools: each by hand, less each of its keys, never for another tool's."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sim_core.evidence.own.cases import case_of
from sim_core.evidence.own.formats.points import OwnPoint, Upload
from sim_core.evidence.own.formats.read import FORMATS, _content, read_upload
from sim_core.evidence.own.formats.reports.numbers import length_cv
from sim_core.evidence.own.formats.reports.records import sending
from sim_core.evidence.own.formats.reports.yaml_text import plain_yaml
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from tests.places import SAMPLES, SHARED

CASES = SHARED / "cases"


def sample(name: str) -> Upload:
    return read_upload((SAMPLES / name).read_bytes(), name)


def read(value: object) -> Upload:
    return read_upload(json.dumps(value).encode(), "x")


def only(upload: Upload) -> OwnPoint:
    assert len(upload.points) == 1
    return upload.points[0]


def latencies(point: OwnPoint) -> tuple[float, ...]:
    return (point.ttft_ms, point.tpot_ms, point.e2e_ms)


def said(upload: Upload) -> str:
    return " ".join((*upload.notes, *(note for point in upload.points for note in point.notes)))


# --- each by hand ---------------------------------------------------------------------------------


def test_aiperf_records() -> None:
    """Oracle: by hand: of 15 records one is warm-up, one failed, one cancelled.

    Gaps: (150 - 50) / 10 and (250 - 50) / 20, both 10 ms; 142 tokens from 2 s to 9.15 s.
    """
    upload = sample("aiperf_records.jsonl")
    point = only(upload)
    assert point.rows is not None
    assert point.rows.arrival_s[:4].tolist() == pytest.approx([0, 0.5, 2, 3])
    assert point.rows.output_tokens[:4].tolist() == [11, 21, 11, 11]
    assert latencies(point) == pytest.approx((50, 10, 1900 / 12))
    assert (point.prompt_tokens, point.prompt_cv, point.requests) == (200, 0, 12)
    assert (point.output_tok_per_s, point.request_per_s) == pytest.approx((142 / 7.15, 12 / 7.15))
    for words in ("1 of 13 requests failed", "1 request cancelled", "warm-up", "later turns"):
        assert words in said(upload)


@pytest.mark.parametrize(
    ("unit", "per_ms"),
    [
        ("milliseconds", 1),
        ("MS", 1),
        ("", 1),
        ("msec", 1),
        ("Second", 1e-3),
        ("\u00b5s", 1e3),
        ("nanosecond", 1e6),
    ],
)
def test_units_read_alike_in_records_and_summaries(unit: str, per_ms: float) -> None:
    """Oracle: the samples' latencies, whatever unit their times are written in."""
    rows = [json.loads(line) for line in (SAMPLES / "aiperf_records.jsonl").read_text().splitlines()]
    for row in rows:
        row["metrics"]["time_to_first_token"] = {"value": 50 * per_ms, "unit": unit}
    assert latencies(only(read(rows))) == pytest.approx((50, 10, 1900 / 12))
    runs = json.loads((SAMPLES / "aiperf_aggregate.json").read_text())
    summary = {"request_throughput": {"avg": 2.0, "unit": "requests/sec"}}
    for key, ms in (("time_to_first_token", 50), ("inter_token_latency", 19.7), ("request_latency", 2000)):
        runs["metrics"][f"{key}_avg"] |= {"mean": ms * per_ms, "unit": unit}
        summary[key] = {"avg": ms * per_ms, "unit": unit}
    assert latencies(only(read(runs))) == pytest.approx((50, 19.7, 2000))
    assert latencies(only(read(summary))) == pytest.approx((50, 19.7, 2000))


def test_inference_perf_records() -> None:
    """Oracle: by hand: TTFT 50, 70, 60 ms, gaps of 10 ms, ends after 150, 270, 210 ms; older keys too."""
    point = only(sample("inference_perf_requests.json"))
    assert point.rows is not None
    assert point.rows.arrival_s.tolist() == pytest.approx([0, 0.5, 1.5])
    assert latencies(point) == pytest.approx((60, 10, 210))
    entries = json.loads((SAMPLES / "inference_perf_requests.json").read_text())
    for entry in entries:
        inner = entry["info"]
        entry["info"] = inner["request_metrics"]["text"] | inner["response_metrics"]
    assert latencies(only(read(entries))) == pytest.approx((60, 10, 210))


def test_the_mean_of_several_aiperf_runs() -> None:
    """Oracle: the file's means; 4 a second of 2 s are 8 open (Little's law): the load is not stated."""
    point = only(sample("aiperf_aggregate.json"))
    assert latencies(point) == (50, 19.7, 2000)
    assert (point.prompt_cv, point.output_cv, point.requests) == (0.1, 0, 120)
    assert (point.arrivals, case_of(point, Scenario()).scenario.concurrency) == ("", 8)


def test_records_of_a_closed_loop_are_one() -> None:
    """Oracle: two clients that send 1 ms after each answer; the same requests at even times are a trace."""
    rows = json.loads(f"[{(SAMPLES / 'aiperf_records.jsonl').read_text().strip().replace(chr(10), ',')}]")
    row, found = rows[1], []
    for number in range(40):
        start_ms = 151 * (number // 2) + 3 * (number % 2)
        found.append(copy.deepcopy(row))
        found[-1]["metadata"]["request_start_ns"] = 10**18 + start_ms * 10**6
    point = only(read(found))
    assert (point.arrivals, point.concurrency) == ("closed", 2)
    for number, entry in enumerate(found):
        entry["metadata"]["request_start_ns"] = 10**18 + 400 * number * 10**6
    assert only(read(found)).arrivals == "trace"
    for number, entry in enumerate(found):
        entry["metadata"]["request_start_ns"] = 10**18 + number
    assert only(read(found)).arrivals == "offline"


def test_poisson_starts_are_no_closed_loop() -> None:
    """Oracle: a seeded Poisson process with ten requests open on average; eight clients of a closed loop."""
    random = np.random.default_rng(3)
    start_s = np.cumsum(random.exponential(0.1, 2000))
    assert sending(start_s, np.full(2000, 1.0)) == ("trace", 0)
    lasts_s = random.uniform(0.8, 1.2, (8, 200))
    ends = np.cumsum(lasts_s + 0.002, axis=1)
    starts = ends - lasts_s
    order = np.argsort(starts, axis=None)
    assert sending(starts.ravel()[order], lasts_s.ravel()[order]) == ("closed", 8)


def test_llmperf() -> None:
    """Oracle: by hand: (1050 - 60) / 99 = 10 ms; 228 a minute are 3.8 a second; numbers may stand as text.

    The file's inter-token latency, 10.5 ms, is end-to-end time over tokens, so no TPOT.
    """
    upload = sample("llmperf_summary.json")
    point = only(upload)
    assert (point.arrivals, point.concurrency, point.requests) == ("closed", 4, 40)
    assert latencies(point) == pytest.approx((60, 10, 1050))
    assert (point.prompt_tokens, point.prompt_cv, point.output_tokens, point.output_cv) == (200, 0, 100, 0.1)
    assert (point.output_tok_per_s, point.request_per_s) == pytest.approx((380, 3.8))
    assert "2 of 42 requests failed" in said(upload)


def test_llmperf_responses() -> None:
    """Oracle: by hand: 1000 / 100 and 500 / 50 are 10 ms; nothing says how they were sent."""
    upload = sample("llmperf_responses.json")
    point = only(upload)
    assert latencies(point) == pytest.approx((60, 10, 810))
    assert (point.arrivals, point.output_tokens) == ("", 76)
    assert "1 of 3 requests failed" in said(upload) and "So many requests failed" in point.left_out
    good = json.loads((SAMPLES / "llmperf_responses.json").read_text())[:2]
    with pytest.raises(ScenarioError, match="does not say how requests were sent"):
        case_of(only(read(good)), Scenario())


def test_trtllm_bench() -> None:
    """Oracle: the report's figures; 15.4 open on average need 16 clients; (133.9 - 101) / 1.645 / 101."""
    upload = sample("trtllm_bench.json")
    point = only(upload)
    assert (point.arrivals, point.concurrency, point.requests) == ("closed", 16, 400)
    assert latencies(point) == (40, 9.8, 1020)
    assert (point.prompt_cv, point.output_cv) == (0, pytest.approx(20 / 101))
    assert "2 x NVIDIA H100" in said(upload)


def test_trtllm_bench_without_streaming_or_clients() -> None:
    """Oracle: with 210 of 400 open on average, all were sent at once; without streaming there is no TTFT."""
    report = json.loads((SAMPLES / "trtllm_bench.json").read_text())
    report["request_info"]["avg_num_concurrent_requests"] = 210.0
    report["performance"]["avg_request_latency_ms"] = 13_900.0
    del report["streaming_metrics"]
    point = only(read(report))
    assert (point.arrivals, point.e2e_ms) == ("offline", 13_900)
    assert math.isnan(point.ttft_ms) and math.isnan(point.tpot_ms)


def test_inferencex() -> None:
    """Oracle: by hand: seconds to ms; 4 GPUs x 90; (9.19 - 0.2) / 0.01 + 1 = 900 tokens, 90 % of 1,000."""
    upload = sample("inferencex.json")
    four, eight, apart = upload.points
    assert (four.arrivals, four.concurrency, eight.concurrency) == ("closed", 4, 8)
    assert latencies(four) == pytest.approx((200, 10, 9190))
    assert (four.output_tok_per_s, four.output_tokens, four.prompt_tokens) == (360, 900, 900)
    assert four.output_cv == pytest.approx(np.std(np.linspace(0.8, 1, 10_001)) / 0.9, rel=1e-3)
    assert apart.left_out.startswith("Separate workers prefill and decode")


def test_inferencex_of_full_lengths() -> None:
    """Oracle: (10.19 - 0.2) / 0.01 + 1 = 1,000: all lengths are as asked for, so they do not vary."""
    row = json.loads((SAMPLES / "inferencex.json").read_text())[0] | {"mean_e2el": 10.19}
    assert (only(read(row)).output_tokens, only(read(row)).output_cv) == (1000, 0)


def test_llama_batched_bench() -> None:
    """Oracle: by hand: 640 / 64 and 960 / 64 ms a step; 16 x 64 / 1.472; 16 x 256 tokens need two batches."""
    upload = sample("llama_batched_bench.jsonl")
    one, many, shared = upload.points
    assert latencies(one) == pytest.approx((32, 10, 672))
    assert (many.arrivals, many.requests, many.tpot_ms) == ("offline", 16, 15)
    assert many.output_tok_per_s == pytest.approx(1024 / 1.472)
    assert math.isnan(many.ttft_ms)
    assert "is_pp_shared" in shared.left_out


def test_llama_bench() -> None:
    """Oracle: by hand: a prompt is a TTFT, generation a TPOT (1024 / 128, 1280 / 128), both are E2E."""
    upload = sample("llama_bench.json")
    prompt, generated, deep, both, cached = upload.points
    assert all((point.arrivals, point.concurrency) == ("closed", 1) for point in upload.points)
    assert (prompt.ttft_ms, prompt.prompt_tokens, prompt.output_tokens) == (64, 512, 1)
    assert (generated.tpot_ms, generated.output_tok_per_s) == (8, 125)
    assert (deep.tpot_ms, deep.prompt_tokens) == (10, 4096)
    assert math.isnan(deep.output_tok_per_s)
    assert (both.e2e_ms, both.prompt_tokens, both.output_tokens) == (1100, 512, 128)
    assert "4,096 cached tokens" in cached.left_out and "RTX 4090" in said(upload)


def test_llama_bench_tables() -> None:
    """Oracle: the same tests as CSV and as the Markdown that llama-bench prints by default."""
    entries = json.loads((SAMPLES / "llama_bench.json").read_text())
    keys = [key for key in entries[0] if not key.startswith("samples")]
    rows = [",".join(f'"{entry[key]}"' for key in keys) for entry in entries]
    as_csv = read_upload("\n".join([",".join(keys), *rows]).encode(), "x")
    for point, same in zip(as_csv.points, sample("llama_bench.json").points, strict=True):
        assert latencies(point) == pytest.approx(latencies(same), nan_ok=True)
    table = (
        "| model         |     size | backend | ngl |            test |             t/s |\n"
        "| ------------- | -------: | ------- | --: | --------------: | --------------: |\n"
        "| llama 8B Q8_0 | 7.95 GiB | CUDA    |  99 |           pp512 |   8000.00 ± 9.9 |\n"
        "| llama 8B Q8_0 | 7.95 GiB | CUDA    |  99 |           tg128 |    125.00 ± 0.1 |\n"
        "| llama 8B Q8_0 | 7.95 GiB | CUDA    |  99 |   tg128 @ d4096 |    100.00 ± 0.1 |\n"
        "| llama 8B Q8_0 | 7.95 GiB | CUDA    |  99 |     pp512+tg128 |    640.00 ± 0.1 |\n\nbuild: abc (1)\n"
    )
    prompt, generated, deep, both = read_upload(table.encode(), "x").points
    assert (prompt.ttft_ms, generated.tpot_ms, deep.tpot_ms, both.e2e_ms) == (64, 8, 10, 1000)
    assert deep.prompt_tokens == 4096


def test_llama_batched_bench_table() -> None:
    """Oracle: by hand: 0.64 s and 0.96 s over 64 steps."""
    table = (
        "main: n_kv_max = 16384, n_batch = 2048\n\n"
        "|  PP |  TG |  B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s |   T s | S t/s |\n"
        "|-----|-----|----|------|--------|----------|--------|----------|-------|-------|\n"
        "| 256 |  64 |  1 |  320 |  0.032 |  8000.00 |  0.640 |   100.00 | 0.672 |   476 |\n"
        "| 256 |  64 | 16 | 5120 |  0.512 |  8000.00 |  0.960 |  1066.67 | 1.472 |  3478 |\n"
    )
    one, many = read_upload(table.encode(), "x").points
    assert latencies(one) == pytest.approx((32, 10, 672))
    assert (many.tpot_ms, many.requests) == (15, 16)


def test_inference_benchmarker() -> None:
    """Oracle: the report: its warm-up is none of the points; `variance` 10 of 200 tokens is a deviation."""
    upload = sample("inference_benchmarker.json")
    closed, even = upload.points
    assert (closed.arrivals, closed.concurrency, closed.max_open) == ("closed", 128, 0)
    assert (even.arrivals, even.arrival_per_s, even.max_open) == ("gamma", 10, 128)
    assert latencies(even) == (60, 10, 850)
    assert (even.prompt_tokens, even.output_tokens, even.prompt_cv, even.requests) == (200, 80, 0.05, 590)
    assert "10 of 600 requests failed" in said(upload) and "warm-up" in said(upload)


def test_genai_bench() -> None:
    """Oracle: seconds to ms; another unit of time gives the same."""
    point = only(sample("genai_bench.json"))
    assert (point.arrivals, point.concurrency, point.requests) == ("closed", 8, 80)
    assert latencies(point) == pytest.approx((80, 11.5, 1218.5))
    assert (point.prompt_cv, point.output_cv) == (0.1, 0)
    report = json.loads((SAMPLES / "genai_bench.json").read_text())
    for key in ("ttft", "tpot", "e2e_latency"):
        report["aggregated_metrics"]["stats"][key]["mean"] *= 1e3
    assert latencies(only(read(report | {"_time_unit": "ms"}))) == pytest.approx(latencies(point))
    report["aggregated_metrics"]["arrival_requests_per_second"] = 5.0
    assert (only(read(report)).arrivals, only(read(report)).arrival_per_s) == ("poisson", 5)


def test_evalscope() -> None:
    """Oracle: the summary's figures, under its titles of today and of before."""
    upload = sample("evalscope.json")
    point = only(upload)
    assert (point.arrivals, point.concurrency, point.requests) == ("closed", 10, 96)
    assert (*latencies(point), point.itl_ms) == (80, 20, 2060, 20.2)
    assert math.isnan(point.prompt_cv)
    assert "4 of 100 requests failed" in said(upload)
    old = {
        "Number of concurrency": 10, "Request rate (req/s)": 3.0, "Average latency (s)": 2.06,
        "Average time to first token (s)": 0.08, "Average time per output token (s)": 0.02,
        "Average output tokens per request": 100.0, "Average input tokens per request": 300.0,
    }  # fmt: skip
    before = only(read(old))
    assert latencies(before) == pytest.approx(latencies(point))
    assert (before.arrivals, before.arrival_per_s, before.max_open) == ("poisson", 3, 10)


def test_evalscope_suite() -> None:
    """Oracle: the suite's only run, which is also read alone: 5 a second, at most 512 open."""
    point = only(sample("evalscope_suite.json"))
    assert (point.arrivals, point.arrival_per_s, point.max_open, point.requests) == ("poisson", 5, 512, 196)
    assert (*latencies(point), point.itl_ms) == (80, 20, 2060, 20.2)
    alone = only(read(json.loads((SAMPLES / "evalscope_suite.json").read_text())["runs"][0]))
    assert alone == point
    assert "3 of 200 requests failed" in said(sample("evalscope_suite.json"))


def test_evalscope_without_streaming() -> None:
    """Oracle: a TTFT as long as the whole answer of 100 tokens is none."""
    summary = json.loads((SAMPLES / "evalscope.json").read_text()) | {"TTFT (ms)": 2060.0}
    assert math.isnan(only(read(summary)).ttft_ms)
    assert "not streamed" in said(read(summary))


def test_inference_perf() -> None:
    """Oracle: seconds to ms; equal prompts; quartiles 8 apart of 101 tokens are 8 / 1.349 / 101."""
    upload = sample("inference_perf.json")
    point = only(upload)
    assert (point.arrivals, point.arrival_per_s, point.requests) == ("gamma", 5, 300)
    assert (*latencies(point), point.itl_ms) == (50, 15, 1550, 15.2)
    assert (point.prompt_cv, point.output_cv) == (0, pytest.approx(8 / 1.349 / 101))
    assert "5 of 305 requests failed" in said(upload) and "sent evenly" in said(upload)
    report = json.loads((SAMPLES / "inference_perf.json").read_text())
    report["load_summary"]["concurrency"] = 8
    assert (only(read(report)).arrivals, only(read(report)).concurrency) == ("closed", 8)


def test_llmd_reports() -> None:
    """Oracle: the report's figures in its units; version 0.1 keeps the same elsewhere, and may be JSON."""
    upload = sample("llmd_report.yaml")
    point = only(upload)
    assert (point.arrivals, point.arrival_per_s, point.max_open) == ("poisson", 5, 0)
    assert (*latencies(point), point.itl_ms) == (50, 15, 1550, 15.2)
    assert (point.prompt_cv, point.output_cv, point.requests) == (0, pytest.approx(0.1), 300)
    assert "2 x NVIDIA-H100-80GB-HBM3" in said(upload) and "5 of 305" in said(upload)
    whole: Any = plain_yaml((SAMPLES / "llmd_report.yaml").read_text())
    inner = whole["results"]["request_performance"]["aggregate"]
    inner["throughput"] = {"output_tokens_per_sec": 505.0, "requests_per_sec": 5.0}
    sent = {"max-concurrency": 8}
    first = {
        "version": "0.1",
        "scenario": {
            "model": {"name": "m"},
            "load": {"name": "vllm-benchmark", "args": sent},
        },
        "metrics": inner,
    }
    older = only(read(first))
    assert (older.arrivals, older.concurrency, older.output_tok_per_s) == ("closed", 8, 505)
    assert latencies(older) == latencies(point)


def test_spread_of_lengths() -> None:
    """Oracle: by hand, in the order of what is surest; without any statistic it stays unknown."""
    assert length_cv({"stddev": 5.0, "p25": 0.0, "p75": 50.0}, 50) == 0.1
    assert length_cv({"min": 7, "max": 7}, 7) == 0
    assert length_cv({"p10": 40.0, "p90": 40 + 2.563 * 5}, 50) == pytest.approx(0.1)
    assert math.isnan(length_cv({"max": 9.0}, 5)) and math.isnan(length_cv(None, 5))


def test_plain_yaml() -> None:
    """Oracle: what YAML says of the same text."""
    text = "a: 1\nb:\n- x: 2.5\n  y: 'a: b'\n- - 3\n  - null\nc: long text\n  goes on\n"
    text += "d: http://h:80/x # note\ne: .inf\n"
    assert plain_yaml(text) == {
        "a": 1,
        "b": [{"x": 2.5, "y": "a: b"}, [3, None]],
        "c": "long text goes on",
        "d": "http://h:80/x",
        "e": math.inf,
    }
    for bad in ("a: 1\n b: 2\nc", "a:\n  b: 1\n c: 2", "x\n"):
        with pytest.raises(ValueError, match="line"):
            plain_yaml(bad)


# --- whatever is missing, and whoever else wrote it -----------------------------------------------

MINE = {form.tool for form in FORMATS if "reports" in form.read.__module__}
FILES = sorted(path.name for path in SAMPLES.iterdir() if sample(path.name).tool in MINE)


def test_every_report_has_a_sample() -> None:
    """Oracle: the list of formats."""
    assert {sample(name).tool for name in FILES} == MINE


def without(value: object) -> Iterator[object]:
    """Yield a JSON value less each of its keys, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items)[:60]:
        if isinstance(value, dict):
            yield {name: kept for name, kept in value.items() if name != key}
            yield value | {key: None}
            yield value | {key: "odd"}
            yield from (value | {key: changed} for changed in without(inner))
        elif isinstance(value, list):
            yield from ([*value[:key], changed, *value[key + 1 :]] for changed in without(inner))


def values_of(name: str) -> list[object]:
    text = (SAMPLES / name).read_text()
    if name.endswith("yaml"):
        return [plain_yaml(text)]
    return [json.loads(text)] if name.endswith("json") else [[json.loads(line) for line in text.splitlines()]]


@pytest.mark.parametrize("name", FILES)
def test_each_report_less_each_of_its_keys(name: str) -> None:
    """Oracle: it is read or refused, what is missing stays unknown, and its points can be simulated."""
    for value in values_of(name):
        for changed in without(value):
            try:
                upload = read(changed)
            except ScenarioError as error:
                assert str(error).isprintable()
                continue
            for point in upload.points:
                for number in (*latencies(point), point.prompt_tokens, point.output_tok_per_s):
                    assert math.isnan(number) or number > 0
                try:
                    case_of(point, Scenario())
                except ScenarioError as error:
                    assert point.left_out or "does not say how requests were sent" in str(error)


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.iterdir()))
def test_no_reader_takes_the_file_of_another(name: str) -> None:
    """Oracle: of all readers, one knows a sample; only SGLang's lines have the keys of vLLM's."""
    content = _content((SAMPLES / name).read_text().lstrip(), name)
    knowing = {form.tool for form in FORMATS if form.knows(content)}
    alike = {"vllm"} if {"sglang", "sglang-batch"} & knowing else set()
    assert knowing == {sample(name).tool} | (knowing & alike)


@pytest.mark.parametrize(
    "text",
    [
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,4,5,9,x\n",
        ",num_prefill_tokens,num_decode_tokens,arrived_at\n0,1,2,3\n",
        "request_id,arrival_timestamp,batch_size,prompt_size,token_size\n0,1,1,5,5\n",
        '[{"id": "a", "conversations": [{"from": "human", "value": "x"}]}]',
    ],
)
def test_a_trace_is_no_measurement(text: str) -> None:
    """Oracle: the way out."""
    with pytest.raises(ScenarioError, match="Replay it with --trace"):
        read_upload(text.encode(), "x")


# --- cases of public reports, where they are at hand ----------------------------------------------

PUBLIC = {
    "aiperf_records.jsonl": ("trace", 0, 60, 7.953),
    "inferencex_agg.json": ("closed", 64, 350, 13.1),
    "llama_batched_bench.jsonl": ("closed", 1, 60, 10.156),
    "llama_bench.json": ("closed", 1, 60, math.nan),
    "llmperf_summary.json": ("closed", 8, 61, 7.983),
    "trtllm_bench_report.json": ("closed", 8, 60, 7.95),
}


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize("name", PUBLIC)
def test_public_cases_are_read(name: str) -> None:
    """Oracle: the figures of each file, converted by hand."""
    upload = read_upload((CASES / name).read_bytes(), name)
    point = upload.points[0]
    arrivals, clients, ttft_ms, tpot_ms = PUBLIC[name]
    assert (point.arrivals, point.concurrency) == (arrivals, clients)
    assert (point.ttft_ms, point.tpot_ms) == pytest.approx((ttft_ms, tpot_ms), rel=1e-3, nan_ok=True)
    assert case_of(point, Scenario()).scenario.arrivals == arrivals
