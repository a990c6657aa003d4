"""Speculation in words: its drafts, and where its acceptance length comes from."""

from __future__ import annotations

from sim_core.questions.speculation import Supposed
from sim_core.scenario.scenario import FIELDS, model_of
from sim_core.view.drawing.words import number

DEPENDS = "It does not carry over to another workload: measure yours."


def drafts_words(count: int) -> str:
    """Return a number of drafts in words."""
    return "no drafts" if not count else "1 draft" if count == 1 else f"{count} drafts"


def acceptance_words(how: Supposed) -> str:
    """Return where an acceptance length comes from, and that it belongs to its workload."""
    found, way = how.published, FIELDS["draft"].label_of(how.scenario.draft)
    own = f"Your own {number(how.length)} tokens a step count. " if how.is_own else ""
    if found is None:
        asked = "" if own else " Give your own (acceptance_length), from your engine's metrics."
        name = model_of(how.scenario).name
        return f"{own}No acceptance length of {name} with drafts by {way} is published here.{asked} {DEPENDS}"
    seen = (
        f"{number(found.length)} tokens a step with {drafts_words(how.published_drafts)} were measured on: "
        f"{found.workload} ({found.head}; {found.source})."
    )
    if found.low < found.high:
        seen += f" Over workloads and heads {number(found.low)} to {number(found.high)} are published."
    if how.published_drafts != how.drafts and not own:
        seen += f" With {drafts_words(how.drafts)} each is taken to be accepted with the same chance."
    return f"{own}{seen} {DEPENDS}"
