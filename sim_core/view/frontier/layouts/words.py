"""What the Layouts page says: the best layout, those as good within the error, and why others are none."""

from __future__ import annotations

from collections.abc import Sequence

from sim_core.fields.texts import counted
from sim_core.questions.deployment.curves import Curve, Ranked
from sim_core.questions.deployment.layouts import FAMILIES
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.view.drawing.words import duration, number, percent, quantity, spoken

NAMED = 4  # ties that are named
SAME = 0.02


def none_can_run(scenario: Scenario, devices: int) -> str:
    """Return that no layout can run at all; the reasons stand beneath the chart."""
    place = f"On {devices} × {accelerator_of(scenario).name}"
    return f"{place}, no layout of {model_of(scenario).name} can run: take more devices, or narrower weights."


def layout_finding(scenario: Scenario, devices: int, ranked: Sequence[Ranked], target: float) -> str:
    """Return which layout gives most while each user gets so much, and which are as good."""
    place = f"On {devices} × {accelerator_of(scenario).name}"
    user = f"{quantity(target, 'tok/s')} for each user"
    if not ranked:
        model = model_of(scenario).name
        return f"{place}, no layout of {model} gives {user}: ask for less, or change the system."
    best = ranked[0]
    gives = f"{quantity(best.tok_per_s_per_accelerator, 'tok/s')} per accelerator"
    text = f"{place}, {model_of(scenario).name} gives most at {user} as {best.curve.option.name}: {gives}"
    return f"{text}{_against_plain(ranked)}.{_ties(ranked)}"


def late_words(scenario: Scenario) -> str:
    """Return that no layout keeps the limit on TTFT where users get what they are to get."""
    return (
        f"None of them keeps the limit on TTFT there, {duration(scenario.slo_ttft_ms)} at "
        f"p{scenario.slo_percentile:g}: the best without it is shown."
    )


def _against_plain(ranked: Sequence[Ranked]) -> str:
    """Return how much more that is than what plain tensor parallelism gives, where it is another family."""
    best = ranked[0]
    if best.curve.option.family == "tensor":
        return ""
    plain = next((item for item in ranked if item.curve.option.family == "tensor"), None)
    if plain is None:
        return ", which no layout of tensor parallelism alone does"
    ratio = best.tok_per_s_per_accelerator / plain.tok_per_s_per_accelerator
    if ratio < 1 + SAME:
        return ""
    more = f"{number(ratio, 2)} times what" if ratio >= 2 else f"{percent(ratio - 1)} more than"
    return f", {more} {plain.curve.option.name} gives"


def _ties(ranked: Sequence[Ranked]) -> str:
    names = [item.curve.option.name for item in ranked[1:] if item.is_tie]
    if not names:
        return ""
    shown = names[:NAMED]
    rest = f" and {counted(len(names) - NAMED, 'more layout')}" if len(names) > NAMED else ""
    joined = ", ".join(shown) if rest or len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f" Within the error of such predictions {joined}{rest} may be as good."


def reasons(curves: Sequence[Curve]) -> dict[str, str]:
    """Return why layouts cannot be, those with the same reason's beginning together: names to reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    first: dict[tuple[str, str], str] = {}
    for curve in curves:
        if curve.reason:
            key = (curve.option.family, curve.reason.split(" needs ")[0][:40])
            grouped.setdefault(key, []).append(curve.option.name)
            first.setdefault(key, curve.reason)
    return {
        f"{FAMILIES[family]}: {', '.join(names)}": spoken(first[family, kind])
        for (family, kind), names in grouped.items()
    }
