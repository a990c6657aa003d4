"""What lies around the first row of a plan: other rates, other limits, and what comes otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.answer import Deployment, Plan
from sim_core.questions.deployment.around.row import (
    Cost,
    Regret,
    Stair,
    costs_over_limits,
    regrets,
    staircase,
)
from sim_core.questions.deployment.question import Question
from sim_core.scenario.scenario import accelerator_of
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing.figures import INK, LAYOUT, Figure, short, style
from sim_core.view.drawing.marks import axis, note, scatter, upright
from sim_core.view.drawing.words import duration, number, percent, quantity, signed
from sim_core.view.frontier.plan.day import devices_axis, show_day
from sim_core.view.frontier.plan.examples import show_examples
from sim_core.view.frontier.plan.winners import show_winners
from sim_core.view.parts import pieces
from sim_core.view.parts.actions import File
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.views import views
from sim_core.view.session import shell, state, sweeps

COMES = {
    "arrival_per_s": "Requests a second",
    "prompt_tokens": "Tokens of a prompt",
    "output_tokens": "Tokens of an answer",
}
HEADS = ("As it stands", "Resized", "Best then", "Regret")
_staircases: Remembered[tuple[Question, Deployment], list[Stair]] = Remembered(sweeps.REMEMBERED)
_costs: Remembered[Question, list[Cost]] = Remembered(sweeps.REMEMBERED)
_regrets: Remembered[tuple[Question, Deployment], list[Regret]] = Remembered(sweeps.REMEMBERED)


def show(found: Plan) -> tuple[list[File], str]:
    """Show what the page setting `plan_around` asks for; return its files, and words of its command."""
    searches = "policy" in found.question.free  # of which the map takes one: the sidebar shows which
    views("plan_around", then=shell.rerun_page if searches else lambda: None)
    shown = state.view("plan_around")
    if shown == "none" or (not found.rows and shown not in ("map", "examples")):
        return [], ""
    try:
        if shown == "examples":
            return show_examples(), ""
        if shown in ("day", "map"):
            return show_day(found) if shown == "day" else show_winners(found)
        question, row = found.question, found.rows[0]
        {"rate": _stairs, "limit": _costs_shown, "regret": _regrets_shown}[shown](question, row)
    except ScenarioError as error:
        pieces.say_why(error)
    return [], ""


# --- devices against rate -------------------------------------------------------------------------


def _stairs(question: Question, row: Deployment) -> None:
    key = question, row
    stairs = _staircases.get(key) or _staircases.put(key, staircase(question, row))
    engine = f"{row.layout} on {accelerator_of(row.scenario).name}"
    known = [
        f"{quantity(stair.devices, 'devices')} up to {number(stair.rate_per_s)}"
        for stair in stairs
        if stair.simulated
    ]
    alt = (
        f"Devices over the rate for {engine}: by simulation {', '.join(known)} requests/s; all other steps "
        "are an estimate."
    )
    chart(
        stairs_figure(stairs, question.planned_per_s),
        "plan-rate",
        alt,
        380,
        Heading("Devices over the rate", alt),
    )


def stairs_figure(stairs: Sequence[Stair], planned_per_s: float) -> Figure:
    """Draw devices over the rate; the step that runs have found apart from the estimated ones."""
    colour, _, _ = style(0)
    rates, devices = [0.0], [stairs[0].devices]
    for stair in stairs:
        rates += [rates[-1], stair.rate_per_s]
        devices += [stair.devices, stair.devices]
    known = [stair for stair in stairs if stair.simulated]
    line = {"color": colour, "width": 1.5, "dash": "dot"}
    mark = {"color": INK, "size": 10}
    data = [
        scatter(short(rates), devices, mode="lines", name="estimated", line=line),
        scatter(
            short(stair.rate_per_s for stair in known),
            [stair.devices for stair in known],
            mode="markers",
            name="simulated",
            marker=mark,
        ),
    ]
    axes = {
        "xaxis": axis("Rate [requests/s]", rangemode="tozero"),
        "yaxis": devices_axis(max(devices)),
    }
    return {
        "data": data,
        "layout": LAYOUT | axes | _asked(planned_per_s, f"{number(planned_per_s)} requests/s"),
    }


# --- cost against the limit -----------------------------------------------------------------------


def _costs_shown(question: Question, row: Deployment) -> None:
    costs = _costs.get(question) or _costs.put(question, costs_over_limits(question))
    words = costs_sentence(costs, question.scenario.slo_tpot_ms, question.unit)
    chart(
        costs_figure(costs, question.scenario.slo_tpot_ms, question.unit),
        "plan-limit",
        words,
        380,
        Heading("Cost over the limit on TPOT", words),
    )
    pieces.say_more(words)


def costs_figure(costs: Sequence[Cost], asked_ms: float, unit: str) -> Figure:
    """Draw the estimated cost of the best deployment over the limit on TPOT."""
    colour, _, symbol = style(0)
    held = [cost for cost in costs if cost.worth is not None and cost.row]
    names = [f"{each.row.layout} on {accelerator_of(each.row.scenario).name}" for each in held if each.row]
    line = scatter(
        short(cost.limit_ms for cost in held),
        short(cost.worth or 0.0 for cost in held),
        mode="lines+markers",
        name="estimated",
        line={"color": colour, "dash": "dot"},
        marker={"color": colour, "symbol": symbol, "size": 8},
        customdata=names,
        hovertemplate="%{customdata}<br>%{x:,.3~r} ms · %{y:,.4~r} " + unit + "<extra></extra>",
    )
    axes = {
        "xaxis": axis("Limit on TPOT [ms]", rangemode="tozero"),
        "yaxis": axis(f"Best deployment [{unit}]", rangemode="tozero"),
    }
    return {"data": [line], "layout": LAYOUT | axes | _asked(asked_ms, duration(asked_ms))}


def _asked(place: float, words: str) -> Figure:
    """Return the line at what the plan was asked for, and its words at the foot, where no curve is."""
    said = note(f"asked: {words}", place, 0.03, yref="paper", xanchor="left", yanchor="bottom")
    return {"shapes": [upright(place)], "annotations": [said]}


def costs_sentence(costs: Sequence[Cost], asked_ms: float, unit: str) -> str:
    """Say what the limit costs beside the next shorter and the next longer one."""
    at = next(place for place, cost in enumerate(costs) if cost.limit_ms == asked_ms)
    asked = costs[at].worth
    if asked is None:
        return f"Estimated: nothing keeps {duration(asked_ms)} a token."
    parts = []
    for cost in costs[max(at - 1, 0) : at + 2]:
        if cost is not costs[at]:
            worth = "cannot be kept" if cost.worth is None else f"costs {percent(cost.worth / asked)} of it"
            parts.append(f"{duration(cost.limit_ms)} {worth}")
    return f"Estimated: {duration(asked_ms)} a token costs {number(asked)} {unit}; {', '.join(parts)}."


# --- regret ---------------------------------------------------------------------------------------


def _regrets_shown(question: Question, row: Deployment) -> None:
    key = question, row
    found = _regrets.get(key) or _regrets.put(key, regrets(question, row))
    lines = [(f"{COMES[each.key]}, {signed(each.factor - 1)}", _cells(each)) for each in found]
    unit = question.unit
    caption = f"The first row if it comes otherwise: as it stands simulated, {unit} estimated"
    pieces.table(caption, HEADS, lines, scroll=True)


def _cells(each: Regret) -> list[str]:
    kept = "keeps the limits" if each.meets_slo else "misses a limit"
    return [kept, number(each.worth), number(each.best_worth), percent(each.regret_frac)]
