"""The launch text of a row: the servers, what to expect of them, and the benchmark that would test it."""

from __future__ import annotations

from sim_core.evidence.trust import Trust, trust
from sim_core.questions.deployment.launch.bench import BENCHES, vllm_bench
from sim_core.questions.deployment.launch.engines import COMMANDS, notes_of
from sim_core.questions.deployment.launch.pools import dynamo_graph, llmd_values
from sim_core.scenario.scenario import Scenario

DEFAULT_ENGINE = "vllm"


def launch_text(scenario: Scenario, ttft_ms: float, tpot_ms: float, recorded: bool = False) -> str:
    """Return a deployment as a shell script: how to serve it, the figures to expect, how to test it.

    Parameters
    ----------
    scenario : Scenario
        The deployment under its rate.
    ttft_ms, tpot_ms : float
        What was predicted at the percentile of the limits. [ms]
    recorded : bool
        Whether the scenario only states what was recorded.
    """
    lines = [f"# {note}" for note in notes_of(scenario)]
    if scenario.split:
        lines += ["kubectl apply -f - <<'END'", dynamo_graph(scenario), "END"]
    else:
        count = scenario.replicas
        if count > 1:
            lines.append(
                f"# {count} of these, behind a router that sends to the one with the fewest requests"
            )
        lines.append(COMMANDS[scenario.engine or DEFAULT_ENGINE](scenario))
    if recorded:
        lines.append(
            "# The benchmark sends the mean lengths of the trace, not its pattern: replay the trace, too"
        )
    lines += ["", f"# {expected(scenario, ttft_ms, tpot_ms)}", vllm_bench(scenario)]
    return "\n".join(lines)


def launches(scenario: Scenario) -> dict[str, str]:
    """Return by name how a deployment is served by every engine or orchestrator, and how it is tested."""
    if scenario.split:
        served = {"NVIDIA Dynamo": dynamo_graph(scenario), "llm-d": llmd_values(scenario)}
    else:
        names = {"vllm": "vLLM", "sglang": "SGLang", "tensorrt-llm": "TensorRT-LLM"}
        served = {names[engine]: command(scenario) for engine, command in COMMANDS.items()}
    tested = {f"test with {name}": bench(scenario) for name, bench in BENCHES.items()}
    return served | tested


def expected(scenario: Scenario, ttft_ms: float, tpot_ms: float) -> str:
    """Return the figures that a benchmark of the deployment should find, with their bands."""
    found: Trust = trust(scenario)
    figures = (("TTFT", ttft_ms, found.ttft_band), ("TPOT", tpot_ms, found.tpot_band))
    percentile = f"p{scenario.slo_percentile:g}"
    parts = [
        f"{percentile} {name} {value:.4g} ms ({value * band.low:.4g} to {value * band.high:.4g})"
        for name, value, band in figures
    ]
    return f"expected at {scenario.arrival_per_s:g} requests/s: {', '.join(parts)}; {found.badge}"
