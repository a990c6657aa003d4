"""MLPerf LoadGen: the summary of a run."""

from __future__ import annotations

import math

from sim_core.evidence.own.formats.points import (
    NAN,
    Content,
    Format,
    OwnPoint,
    Upload,
    finished,
    number_in,
    whole,
)
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
    tokens = figure("completed tokens per second", "tokens per second", "tokens per second (inferred)")
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
        left_out=_left_out(values),
        notes=_notes(values),
    )


def _left_out(values: dict[str, str]) -> str:
    """Return why a run is no evidence: LoadGen calls it INVALID, or it ran for accuracy."""
    if values.get("result is", "").upper().startswith("INVALID"):
        broken = [key.removesuffix(" satisfied") for key, value in values.items() if _is_broken(key, value)]
        why = f" ({', '.join(broken)[:80]} not satisfied)" if broken else ""
        return f"LoadGen calls the run INVALID{why}."
    if "accuracy" in values.get("mode", "").lower():
        return f"Its mode is {shown(values['mode'], 30)}, not performance."
    return ""


def _is_broken(key: str, value: str) -> bool:
    return key.endswith("satisfied") and value.upper().startswith("NO")


def _notes(values: dict[str, str]) -> tuple[str, ...]:
    """Return what else must be said: figures of zero, which a run that measured has not."""
    zero = [
        key.partition("(")[0].strip()
        for key, value in values.items()
        if key.startswith("mean ") and number_in(value) == 0
    ]
    return (f"A zero is no measurement and is left out: {', '.join(zero)[:120]}.",) if zero else ()


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
