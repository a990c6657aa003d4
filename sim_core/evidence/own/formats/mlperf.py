"""MLPerf LoadGen: the summary of a run."""

from __future__ import annotations

import math

from sim_core.evidence.own.formats.aiperf import number_in
from sim_core.evidence.own.formats.points import NAN, Content, Format, OwnPoint, Upload, finished, whole
from sim_core.fields.errors import ScenarioError, shown

# --- MLPerf ---------------------------------------------------------------------------------------


def mlperf(text: str, name: str) -> OwnPoint:
    """Return the point of a LoadGen summary; the answers' mean length follows from tokens and samples."""
    values: dict[str, str] = {}
    for line in text.splitlines()[:2000]:
        key, mark, value = line.partition(":")
        if mark and len(line) < 200:
            values.setdefault(" ".join(key.lower().split()), value.strip())

    def figure(*keys: str) -> float:
        return next((v for v in (number_in(values.get(key, "")) for key in keys) if 0 < v <= 1e15), NAN)

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
        requests=max(whole(figure(key)) for key in ("samples_per_query", "min_query_count")),
        output_tokens=tokens / samples,
        ttft_ms=1e-6 * figure("mean first token latency (ns)"),
        tpot_ms=1e-6 * figure("mean time per output token (ns)", "mean time to output token (ns)"),
        e2e_ms=1e-6 * figure("mean latency (ns)") if scenario != "offline" else NAN,
        output_tok_per_s=tokens,
        request_per_s=samples,
    )


def _read(content: Content) -> Upload:
    return finished(content.name, "mlperf", [mlperf(content.text, content.name)], [])


FORMATS = (
    Format(
        "mlperf",
        "MLPerf LoadGen: `mlperf_log_summary.txt`",
        knows=lambda content: "MLPerf Results Summary" in content.text[:10_000],
        read=_read,
    ),
)
