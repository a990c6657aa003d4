"""The sentence of a plan: what to take, by how much, why, how sure; or what is nearest to possible."""

from __future__ import annotations

from collections.abc import Sequence

from sim_core.evidence.trust import VALIDATED
from sim_core.fields.texts import counted
from sim_core.questions.deployment.answer import Deployment
from sim_core.questions.deployment.question import Question
from sim_core.questions.deployment.recorded import recorded_words
from sim_core.questions.deployment.search.candidates import name_of
from sim_core.questions.deployment.search.losers import Losers
from sim_core.scenario.scenario import accelerator_of, model_of

BINDS = {
    "ttft": "the first token",
    "tpot": "the time of each token",
    "stability": "what the engines keep up with",
    "rejected": "requests that do not fit",
    "": "nothing that was tried",
}


def sentence(question: Question, rows: Sequence[Deployment]) -> str:
    """Return what to take, by how much, why, and how sure."""
    best = rows[0]
    parts = [f"Take {_count(question, best)}: {_devices(best)}{_money(best)}{_spares(best)}."]
    parts.append(
        f"{_without(best)} serves {_beyond(best)} {_planned(question)}; beyond, "
        f"{BINDS.get(best.limit, best.limit)} binds."
    )
    parts.append(_second(question, rows))
    parts.append(_sure(best))
    asked = question.scenario
    parts.append(recorded_words(asked, question.trace, question.planned_per_s, best.scenario.requests))
    return " ".join(filter(None, parts))


def _beyond(row: Deployment) -> str:
    times = 1 + row.headroom_frac
    return f"{100 * (times - 1):.0f}% more than" if times < 2 else f"{times:.2g} times"


def _count(question: Question, row: Deployment) -> str:
    model = f" of {model_of(row.scenario).name}" if question.compares_models else ""
    if row.scenario.split:
        return f"two pools{model} on {accelerator_of(row.scenario).name}, {row.layout}"
    engines = f"{row.replicas} engines{model}, each on" if row.replicas > 1 else f"one engine{model} on"
    return f"{engines} {name_of(row.scenario)}"


def _devices(row: Deployment) -> str:
    noun = "accelerator" if row.accelerators == 1 else "accelerators"
    if row.accelerators_low == row.accelerators_high:
        return f"{row.accelerators} {noun}, at both ends of the band of a step's time"
    return f"{row.accelerators} {noun}, {span_of(row)} by the band of a step's time"


def span_of(row: Deployment) -> str:
    """Return between which numbers of accelerators the answer lies."""
    if row.accelerators_high is None:
        return f"from {row.accelerators_low}, without an upper end"
    return f"{row.accelerators_low} to {row.accelerators_high}"


def _money(row: Deployment) -> str:
    return "" if row.usd_per_hour is None else f", {row.usd_per_hour:.4g} USD/h"


def _spares(row: Deployment) -> str:
    if not row.spare:
        return ""
    if row.scenario.split:
        return f", {_workers(row)} spare"
    return f", {row.spare} of its {row.replicas} engines spare"


def _workers(row: Deployment) -> str:
    return f"{counted(row.spare, 'worker')} of each pool"


def _without(row: Deployment) -> str:
    """Return what serves: the deployment, or what is left of it without its spare engines."""
    if not row.spare:
        return "That"
    if row.scenario.split:
        return f"Without {_workers(row)} it"
    return f"With {row.spare} of them down it"


def _planned(question: Question) -> str:
    """Return the rate that is planned for, and what was added to the present one."""
    words = f"{question.planned_per_s:.4g} requests/s"
    added = ((question.growth_frac, "growth"), (question.margin_frac, "margin"))
    parts = [f"{100 * share:.3g}% {name}" for share, name in added if share]
    return f"{words} ({question.rate_per_s:.4g} now, {' and '.join(parts)})" if parts else words


def _second(question: Question, rows: Sequence[Deployment]) -> str:
    """Return by how much the next best is worse, or that it is as good."""
    best = rows[0].scenario
    others = [
        row
        for row in rows[1:]
        if (row.scenario.model, row.scenario.accelerator) != (best.model, best.accelerator)
    ]
    if not others:
        return ""
    other = others[0]
    if other.rank == 1 or (rows[0].tie and other.tie):
        name = _count(question, other)
        return f"{name[0].upper()}{name[1:]} is as good within the error."
    mine, theirs = _worth(question, rows[0]), _worth(question, other)
    if not mine or not theirs:
        return ""
    which = "with another model or accelerator" if question.compares_models else "on other accelerators"
    verb = "serves" if question.objective == "headroom" else "takes"
    return f"The best {which}, {_count(question, other)}, {verb} {more_or_less(theirs / mine)}."


def more_or_less(times: float) -> str:
    """Return how much more or less something is that is so many times as much.

    Examples
    --------
    >>> more_or_less(1.037), more_or_less(2.0), more_or_less(0.71), more_or_less(1.0)
    ('3.7% more', '100% more', '29% less', 'as much')
    """
    percent = 100 * abs(times - 1)
    share = f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"
    return "as much" if percent < 0.05 else f"{share}% {'more' if times > 1 else 'less'}"


def _worth(question: Question, row: Deployment) -> float | None:
    if question.objective.startswith("usd"):
        return row.usd_per_hour
    if question.objective == "headroom":
        return (1 + row.headroom_frac) * row.scenario.arrival_per_s
    return row.joule_per_tok if question.objective == "joule_per_tok" else float(row.accelerators)


def _sure(row: Deployment) -> str:
    slow = ""
    if row.accelerators_high is None:
        slow = " With steps as slow as its band allows it may not keep the limits at all."
    if row.badge == VALIDATED:
        return f"Predictions of such systems were tested against measurements.{slow}"
    pools = [reason for reason in row.reasons if reason.startswith("Two pools")]
    reasons = pools if row.scenario.split and pools else row.reasons
    return f"{row.badge.capitalize()}: {reasons[0] if reasons else 'see its badge.'}{slow}"


def impossible(question: Question, losers: Losers) -> str:
    """Return that no candidate serves the rate within the limits, and which came nearest."""
    for limits in (("devices",), ("ttft", "tpot"), ("rejected",), ("memory",), ("price",), ("scenario",)):
        found = losers.nearest(*limits)
        if found is None:
            continue
        scenario, words = found
        name = model_of(scenario).name
        words = f"{name}: {words}" if question.compares_models and not words.startswith(name) else words
        if limits == ("scenario",):
            return f"No deployment can be run as asked: {words}"
        return f"No deployment serves {_planned(question)} within the limits. Nearest: {words}"
    return "There is no candidate: no accelerator and layout is left by what was chosen."
