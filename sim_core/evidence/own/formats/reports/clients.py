"""Tools that load a server from outside: LLMPerf, inference-benchmarker, genai-bench, EvalScope.

References
----------
ray-project/llmperf, token_benchmark_ray.py.
huggingface/inference-benchmarker, src/writers.rs and src/executors.rs.
sgl-project/genai-bench, genai_bench/metrics/metrics.py.
modelscope/evalscope, evalscope/perf: utils/perf_constants.py, before it utils/benchmark_util.py, and
domain/result.py.
"""

from __future__ import annotations

from typing import Any

from sim_core.evidence.own.formats.points import (
    NAN,
    Content,
    Format,
    OwnPoint,
    Upload,
    above_zero,
    as_object,
    failures,
    finished,
    first_number,
    first_object,
    ms_of,
    relative,
    sent_words,
    whole,
)
from sim_core.evidence.own.formats.reports.numbers import (
    length_cv,
    load_sent,
    per_token_ms,
    source_note,
    tally,
)

# --- LLMPerf --------------------------------------------------------------------------------------


def _is_llmperf(content: Content) -> bool:
    return any(key.startswith(("results_ttft_s", "results_end_to_end_latency_s")) for key in content.first)


def _llmperf(content: Content) -> Upload:
    notes = source_note("LLMPerf", content.first.get("version"), content.first.get("model"))
    notes.append(
        "LLMPerf's inter-token latency counts the time to the first token too: TPOT is worked out from TTFT, "
        "end-to-end time and length instead."
    )
    points = [_llmperf_point(entry) for entry in content.entries]
    return finished(content.name, "llmperf", points, notes)


def _llmperf_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one summary; the lengths of what was sent go before those that were asked for."""
    statistic, key = "mean", "{}_mean"
    if not above_zero(entry, "results_ttft_s_mean", "results_end_to_end_latency_s_mean") > 0:
        statistic, key = "median", "{}_quantiles_p50"
    ttft_ms, e2e_ms = (
        1e3 * above_zero(entry, key.format(f"results_{name}_s")) for name in ("ttft", "end_to_end_latency")
    )
    lengths = {}
    for name in ("input", "output"):
        mean = above_zero(entry, f"results_number_{name}_tokens_mean", f"mean_{name}_tokens")
        deviation = first_number(entry, f"results_number_{name}_tokens_stddev", f"stddev_{name}_tokens")
        lengths[name] = (mean, relative(deviation, mean))
    sent = load_sent(NAN, tally(entry, "num_concurrent_requests"))
    done = first_number(entry, "results_num_completed_requests")
    words, too_many = failures(done, first_number(entry, "results_number_errors"))
    return OwnPoint(
        name=sent_words(sent),
        tool="llmperf",
        **sent,
        requests=whole(done),
        prompt_tokens=lengths["input"][0],
        output_tokens=lengths["output"][0],
        prompt_cv=lengths["input"][1],
        output_cv=lengths["output"][1],
        ttft_ms=ttft_ms,
        tpot_ms=per_token_ms(e2e_ms, ttft_ms, lengths["output"][0]),
        e2e_ms=e2e_ms,
        output_tok_per_s=above_zero(entry, "results_mean_output_throughput_token_per_s"),
        request_per_s=above_zero(entry, "results_num_completed_requests_per_min") / 60,
        statistic=statistic,
        left_out=too_many,
        notes=words,
    )


# --- inference-benchmarker ------------------------------------------------------------------------


def _is_benchmarker(content: Content) -> bool:
    results = content.first.get("results")
    return isinstance(results, list) and any("executor_type" in as_object(result) for result in results)


def _benchmarker(content: Content) -> Upload:
    """Return the runs of a report but its warm-up."""
    config = as_object(content.first.get("config"))
    notes = source_note("inference-benchmarker", "", config.get("model_name"))
    results = [as_object(result) for result in content.first["results"]]
    runs = [result for result in results if result.get("id") != "warmup"]
    notes += ["The warm-up was left out."] * (len(runs) < len(results))
    return finished(
        content.name, "inference-benchmarker", [_benchmarker_point(run, config) for run in runs], notes
    )


def _benchmarker_point(run: dict[str, Any], config: dict[str, Any]) -> OwnPoint:
    """Return one run; a constant rate stops at `max_vus` open requests."""
    own = as_object(run.get("config"))
    fixed_rate = run.get("executor_type") == "ConstantArrivalRate"
    rate = above_zero(own, "rate") if fixed_rate else NAN
    clients = tally(own, "max_vus")
    sent = load_sent(rate, clients, even=True) if rate > 0 or not fixed_rate else load_sent(NAN, 0)
    done = tally(run, "successful_requests")
    words, too_many = failures(done, first_number(run, "failed_requests"))

    def cv(options: object) -> float:  # its `variance` is the standard deviation of what it draws
        return above_zero(options, "variance") / above_zero(options, "num_tokens")

    return OwnPoint(
        name=sent_words(sent),
        tool="inference-benchmarker",
        **sent,
        requests=done,
        prompt_tokens=above_zero(run, "total_tokens_sent") / done if done else NAN,
        output_tokens=above_zero(run, "total_tokens") / done if done else NAN,
        prompt_cv=cv(config.get("prompt_options")),
        output_cv=cv(config.get("decode_options")),
        ttft_ms=above_zero(run, "time_to_first_token_ms_avg"),
        tpot_ms=above_zero(run, "inter_token_latency_ms_avg"),
        e2e_ms=above_zero(run, "e2e_latency_ms_avg"),
        output_tok_per_s=above_zero(run, "token_throughput_secs"),
        request_per_s=above_zero(run, "request_rate"),
        left_out=too_many,
        notes=words,
    )


# --- genai-bench ----------------------------------------------------------------------------------


def _is_genai_bench(content: Content) -> bool:
    return isinstance(content.first.get("aggregated_metrics"), dict)


def _genai_bench(content: Content) -> Upload:
    return finished(content.name, "genai-bench", list(map(_genai_bench_point, content.entries)), [])


def _genai_bench_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one run; under a rate, `num_concurrency` holds the rate."""
    whole_run, unit_ms = as_object(entry.get("aggregated_metrics")), ms_of(entry.get("_time_unit"), "s")
    stats = as_object(whole_run.get("stats"))
    rate = above_zero(whole_run, "arrival_requests_per_second")
    sent = load_sent(rate, 0 if rate > 0 else tally(whole_run, "num_concurrency"))

    def mean(key: str) -> float:
        return above_zero(stats.get(key), "mean")

    prompt, output = mean("num_input_tokens"), mean("num_output_tokens")
    done = first_number(whole_run, "num_completed_requests")
    words, too_many = failures(done, first_number(whole_run, "num_error_requests"))
    return OwnPoint(
        name=sent_words(sent),
        tool="genai-bench",
        **sent,
        requests=whole(done),
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_cv=length_cv(stats.get("num_input_tokens"), prompt),
        output_cv=length_cv(stats.get("num_output_tokens"), output),
        ttft_ms=unit_ms * mean("ttft"),
        tpot_ms=unit_ms * mean("tpot"),
        e2e_ms=unit_ms * mean("e2e_latency"),
        output_tok_per_s=above_zero(whole_run, "mean_output_throughput_tokens_per_s"),
        request_per_s=above_zero(whole_run, "requests_per_second"),
        left_out=too_many,
        notes=words,
    )


# --- EvalScope ------------------------------------------------------------------------------------


def _is_evalscope(content: Content) -> bool:
    keys = content.first.keys()
    new = {
        "Concurrency",
        "Avg Latency (s)",
        "Req Throughput (req/s)",
        "Output Throughput (tok/s)",
        "TTFT (ms)",
    }
    old = {
        "Number of concurrency",
        "Average latency (s)",
        "Average time to first token (s)",
        "Succeed requests",
    }
    return len(new & keys) >= 2 or len(old & keys) >= 2


def _evalscope(content: Content) -> Upload:
    return finished(content.name, "evalscope", list(map(_evalscope_point, content.entries)), [])


def _evalscope_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one summary, by its titles of today (ms) or of before (s); a rate of -1 is none."""
    rate = above_zero(entry, "Request Rate (req/s)", "Request rate (req/s)")
    sent = load_sent(rate, tally(entry, "Concurrency", "Number of concurrency"))
    e2e_ms = 1e3 * above_zero(entry, "Avg Latency (s)", "Average latency (s)")

    def latency(title: str, before: str) -> float:
        found = above_zero(entry, f"{title} (ms)")
        return found if found > 0 else 1e3 * above_zero(entry, f"Average {before} (s)")

    ttft_ms, tpot_ms = latency("TTFT", "time to first token"), latency("TPOT", "time per output token")
    itl_ms = latency("ITL", "inter-token latency")
    output = above_zero(entry, "Avg Output Tokens", "Average output tokens per request")
    done = first_number(entry, "Success Requests", "Succeed requests")
    words, too_many = failures(done, first_number(entry, "Failed Requests", "Failed requests"))
    notes = list(words)
    if first_number(entry, "Avg Turns/Request", "Average input turns per request") > 1:
        notes.append("The run held conversations of several turns: what they share is computed anew here.")
    if ttft_ms >= 0.999 * e2e_ms and not output <= 1:
        notes.append(
            "TTFT is the whole latency: answers came whole, not streamed. TTFT, TPOT and ITL were left out."
        )
        ttft_ms = tpot_ms = itl_ms = NAN
    return OwnPoint(
        name=sent_words(sent),
        tool="evalscope",
        **sent,
        requests=whole(done),
        prompt_tokens=above_zero(entry, "Avg Input Tokens", "Average input tokens per request"),
        output_tokens=output,
        prompt_cv=NAN,
        output_cv=NAN,
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
        itl_ms=itl_ms,
        e2e_ms=e2e_ms,
        output_tok_per_s=above_zero(entry, "Output Throughput (tok/s)", "Output token throughput (tok/s)"),
        request_per_s=above_zero(entry, "Req Throughput (req/s)", "Request throughput (req/s)"),
        left_out=too_many,
        notes=tuple(notes),
    )


def _is_evalscope_run(content: Content) -> bool:
    return any("averages" in as_object(run.get("summary")) and "run_spec" in run for run in _runs(content))


def _runs(content: Content) -> list[dict[str, Any]]:
    """Return the runs of a suite's result, or the results of single runs."""
    runs = content.first.get("runs")
    return [as_object(run) for run in runs] if isinstance(runs, list) else content.entries


def _evalscope_runs(content: Content) -> Upload:
    model = first_object(content.first.get("suite_config"), key="target").get("model")
    notes = source_note("EvalScope", "", model)
    return finished(content.name, "evalscope-runs", list(map(_evalscope_run_point, _runs(content))), notes)


def _evalscope_run_point(run: dict[str, Any]) -> OwnPoint:
    """Return one run; latency is in seconds, the other times in ms."""
    whole_run, how = as_object(run.get("summary")), first_object(run.get("run_spec"), key="load")
    averages = as_object(whole_run.get("averages"))
    cap = tally(how, "concurrency", "max_outstanding")
    sent = load_sent(above_zero(how, "request_rate"), cap, even=how.get("arrival") == "constant")
    done, failed, dropped = (first_number(whole_run, key) for key in ("succeeded", "failed", "dropped"))
    words, too_many = failures(done, failed, dropped)
    notes = list(words)
    if how.get("mode") == "conversation":
        notes.append("The run held conversations of several turns: what they share is computed anew here.")
    return OwnPoint(
        name=sent_words(sent),
        tool="evalscope-runs",
        **sent,
        requests=whole(done),
        prompt_tokens=above_zero(whole_run, "average_input_tokens"),
        output_tokens=above_zero(whole_run, "average_output_tokens"),
        ttft_ms=above_zero(averages, "ttft"),
        tpot_ms=above_zero(averages, "tpot"),
        itl_ms=above_zero(averages, "itl"),
        e2e_ms=1e3 * above_zero(averages, "latency"),
        output_tok_per_s=above_zero(whole_run, "output_token_throughput"),
        request_per_s=above_zero(whole_run, "request_throughput"),
        left_out=too_many,
        notes=tuple(notes),
    )


FORMATS = (
    Format("llmperf", "LLMPerf: `…_summary.json`", _is_llmperf, _llmperf),
    Format(
        "inference-benchmarker",
        "Hugging Face inference-benchmarker: `results.json`",
        _is_benchmarker,
        _benchmarker,
    ),
    Format("genai-bench", "genai-bench: the JSON of a run", _is_genai_bench, _genai_bench),
    Format("evalscope", "EvalScope `perf`: `benchmark_summary.json`", _is_evalscope, _evalscope),
    Format(
        "evalscope-runs",
        "EvalScope `perf`: the result of runs or of a suite",
        _is_evalscope_run,
        _evalscope_runs,
    ),
)
