"""Where the acceptance length of a run with speculation comes from, in words."""

from __future__ import annotations

from sim_core.catalogue.acceptance import closest_length
from sim_core.fields.texts import counted
from sim_core.scenario.scenario import FIELDS, Scenario, model_of

DEPENDS = "It does not carry over to another workload: measure yours."


def acceptance_words(scenario: Scenario) -> str:
    """Return where a scenario's acceptance length comes from, and that it belongs to its workload."""
    found = closest_length(scenario.model, scenario.draft, scenario.spec_tokens)
    own = scenario.acceptance_length
    counts = "" if own is None else f"Your own {own:.3g} tokens a step count. "
    if found is None:
        asked = "" if own else " Give your own (acceptance_length), from your engine's metrics."
        way = FIELDS["draft"].label_of(scenario.draft)
        name = model_of(scenario).name
        return (
            f"{counts}No acceptance length of {name} with drafts by {way} is published here.{asked} {DEPENDS}"
        )
    seen = (
        f"{found.length:.3g} tokens a step with {counted(found.drafts, 'draft')} were measured on: "
        f"{found.workload} ({found.head}; {found.source})."
    )
    if found.low < found.high:
        seen += f" Over workloads and heads {found.low:.3g} to {found.high:.3g} are published."
    if found.drafts != scenario.spec_tokens and own is None:
        drafts = counted(scenario.spec_tokens, "draft")
        seen += f" With {drafts} each is taken to be accepted with the same chance."
    return f"{counts}{seen} {DEPENDS}"


def supposed_drafter(scenario: Scenario) -> str:
    """Return that a model has no MTP layer to draft with; "" where it has, or another one drafts.

    Where a length of such drafts is published, there is such a layer, whatever the configuration says.
    """
    model = model_of(scenario)
    own = scenario.draft == "mtp" and not scenario.draft_params_b and not scenario.step_profile
    if not own or model.mtp_layers or closest_length(scenario.model, "mtp", scenario.spec_tokens):
        return ""
    return (
        f"{model.name} comes without an MTP layer: draft=mtp is priced as one more layer of it, which "
        "somebody would have to train. Choose another `draft`, or give `draft_params_b`."
    )
