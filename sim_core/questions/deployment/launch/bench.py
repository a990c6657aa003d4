"""The benchmark that would test a deployment: the same traffic as commands of the usual clients.

Clients draw lengths their own way: vLLM's evenly between two lengths, which has the same variation where that
is below 0.58; AIPerf and GuideLLM from a normal distribution. A mix is sent as its mean lengths.

References
----------
vLLM, `vllm bench serve --help` (https://docs.vllm.ai/en/latest/cli/bench/serve.html).
AIPerf, command line options (https://github.com/ai-dynamo/aiperf, `docs/cli-options.md`).
GuideLLM 0.8, `guidellm run --help` (https://github.com/vllm-project/guidellm).
"""

from __future__ import annotations

import math
import shlex

from sim_core.questions.deployment.launch.engines import checkpoint_of
from sim_core.results.classes import limits_of_engine
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.traffic.draws import mean_lengths

URL = "http://localhost:8000"
MINUTES = 10  # of a benchmark
FEWEST = 1000
WIDEST = 0.99  # of a length, that vLLM's client may add or leave out


def _sizes(scenario: Scenario) -> tuple[int, int, int]:
    """Return mean prompt and mean answer [tokens], and the requests of a benchmark."""
    prompt, output = mean_lengths(scenario)
    requests = max(FEWEST, math.ceil(60 * MINUTES * scenario.arrival_per_s))
    return round(prompt), round(output), requests


def vllm_bench(scenario: Scenario) -> str:
    """Return the command of vLLM's client."""
    prompt, output, requests = _sizes(scenario)
    spread = min(math.sqrt(3) * max(scenario.prompt_cv, scenario.output_cv), WIDEST)
    burstiness = 1 / scenario.arrival_cv**2 if scenario.arrivals == "gamma" else 1.0
    ttft_ms, tpot_ms = limits_of_engine(scenario)
    limits = [f"ttft:{ttft_ms:g}", f"tpot:{tpot_ms:g}"]
    words = ["vllm", "bench", "serve", "--model", checkpoint_of(model_of(scenario)), "--base-url", URL]
    words += ["--dataset-name", "random", "--random-input-len", str(prompt)]
    words += ["--random-output-len", str(output), "--random-range-ratio", f"{spread:.3g}"]
    words += ["--num-prompts", str(requests), "--request-rate", f"{scenario.arrival_per_s:g}"]
    words += ["--burstiness", f"{burstiness:.3g}", "--ignore-eos", "--goodput", *limits]
    words += ["--percentile-metrics", "ttft,tpot,itl,e2el"]
    return shlex.join([*words, "--metric-percentiles", f"50,{scenario.slo_percentile:g}"])


def aiperf_bench(scenario: Scenario) -> str:
    """Return the command of AIPerf."""
    prompt, output, requests = _sizes(scenario)
    words = ["aiperf", "profile", "--model", checkpoint_of(model_of(scenario)), "--url", URL]
    words += ["--endpoint-type", "chat", "--streaming", "--request-rate", f"{scenario.arrival_per_s:g}"]
    if scenario.arrivals == "gamma":
        words += ["--arrival-pattern", "gamma", "--arrival-smoothness", f"{1 / scenario.arrival_cv**2:.3g}"]
    words += ["--request-count", str(requests)]
    words += ["--synthetic-input-tokens-mean", str(prompt)]
    words += ["--synthetic-input-tokens-stddev", str(round(scenario.prompt_cv * prompt))]
    words += ["--output-tokens-mean", str(output)]
    words += ["--output-tokens-stddev", str(round(scenario.output_cv * output))]
    return shlex.join([*words, "--extra-inputs", "ignore_eos:true"])


def guidellm_bench(scenario: Scenario) -> str:
    """Return the command of GuideLLM, whose arrivals are Poisson."""
    prompt, output, requests = _sizes(scenario)
    data = ["kind=synthetic_text"]
    for name, mean, cv in (("prompt", prompt, scenario.prompt_cv), ("output", output, scenario.output_cv)):
        data.append(f"{name}_tokens={mean}")
        if round(cv * mean):  # it takes no spread of 0
            data.append(f"{name}_tokens_stdev={round(cv * mean)}")
    words = ["guidellm", "run", "--backend", f"kind=openai_http,target={URL}"]
    words += ["--profile", f"kind=poisson,rate={scenario.arrival_per_s:g}"]
    words += ["--constraint", f"kind=max_requests,count={requests}", "--data", ",".join(data)]
    return shlex.join(words)


BENCHES = {"vLLM": vllm_bench, "AIPerf": aiperf_bench, "GuideLLM": guidellm_bench}
