"""The Plan page's map of winners: which accelerator is best over two inputs, with ties hatched."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import streamlit as st

from sim_core import catalogue
from sim_core.fields.texts import counted
from sim_core.questions.deployment.answer import ESTIMATED, Plan
from sim_core.questions.deployment.around.winners import (
    ENERGY,
    INPUTS,
    UNSEEN,
    Winner,
    WinnerMap,
    confirmed_map,
    estimated_map,
    more_estimated,
    side_name,
    winners_sentence,
)
from sim_core.questions.deployment.question import Question
from sim_core.results import text as report
from sim_core.scenario.link.write import value_text
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing.figures import BREAK, COLOURS, INK, LAYOUT, MUTED, Figure, faded, wrapped
from sim_core.view.drawing.marks import axis
from sim_core.view.drawing.words import number, percent
from sim_core.view.parts import pieces
from sim_core.view.parts.actions import File, named
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.views import choose
from sim_core.view.session import state, sweeps

READING = (
    "Each cell is a plan of its own in one pool, by what the ranking is best by: the best accelerator, and "
    "how many of it. = and hatching mark ties: others are as good within the error of the runs. ≈ marks "
    "devices by estimate, ? an estimate that runs may give to another. An empty cell cannot be served; it "
    "says why when pointed at."
)
GO_ON = "plan_map_go_on"
LONG = 7  # characters of a name that a cell holds in one line on a phone
HATCHES = 3  # lines across a tie
_maps: Remembered[tuple[Question, str, str], WinnerMap] = Remembered(sweeps.REMEMBERED)


def show_winners(found: Plan) -> tuple[list[File], str]:
    """Show who wins where around a plan; return its files and the words of the command."""
    answer = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        choose("plan_across", named=True)
        choose("plan_down", named=True)
    x, y = state.view("plan_across"), state.view("plan_down")
    with answer:
        shown = _worked_out(found.question, x, y)
    _more(shown)
    if len(shown.cells):
        st.caption(READING)
    return _files(shown), _words(found.question, x, y)


def _worked_out(question: Question, x: str, y: str) -> WinnerMap:
    """Draw the map, the estimate first; return it with what the budget lets runs decide.

    Runs go on where it is new, or where that is asked for.
    """
    place = st.empty()
    key = question, x, y
    known = _maps.get(key)
    goes_on = st.session_state.pop(GO_ON, False) or known is None
    if known is None:
        bar = place.progress(0.0)
        known = estimated_map(question, x, y, lambda done: _say(bar, done, "Each cell by arithmetic…"))
        _maps.put(key, known)
    if known.waiting and goes_on:
        with place.container():
            bar = st.progress(0.0)
            _draw(known, "plan-map-so-far")
        known = more_estimated(known, lambda done: _say(bar, done, "Each cell by arithmetic…"))
        known = confirmed_map(known, lambda done: _say(bar, done, "Runs decide the cells…"))
        _maps.replace(key, known)
    with place.container():
        pieces.nothing()  # in the place of the bar, so that the map takes that of the one before
        _draw(known, "plan-map")
    return known


def _say(bar: st.delta_generator.DeltaGenerator, done_frac: float, words: str) -> None:
    bar.progress(done_frac, words)


def _draw(found: WinnerMap, key: str) -> None:
    words = winners_sentence(found)
    pieces.say_more(words)
    heading = Heading("Which accelerator wins where", words)
    chart(winner_figure(found), key, words, 90 + 62 * len(found.ys), heading)


def _more(found: WinnerMap) -> None:
    """Draw the button that lets runs go on where the budget of a view has ended."""
    if found.waiting:
        st.button(
            f"Simulate {counted(found.waiting, 'more cell')}",
            key="plan_map_more",
            icon=":material/play_arrow:",
            on_click=_go_on,
            help="A view may run for some seconds at a time; what is known already is kept.",
        )


def _go_on() -> None:
    st.session_state[GO_ON] = True


# --- the figure -----------------------------------------------------------------------------------


def winner_figure(found: WinnerMap) -> Figure:
    """Draw the winner of each cell by name and colour, ties hatched, and the place asked for in a frame."""
    places = {name: place for place, name in enumerate(found.winners)}
    rows = [[found.cells[x, y] for x in found.xs] for y in found.ys]
    heat = {
        "type": "heatmap",
        "x": list(range(len(found.xs))),
        "y": list(range(len(found.ys))),
        "z": [[places.get(cell.accelerator) for cell in row] for row in rows],
        "zmin": -0.5,
        "zmax": max(len(places), 1) - 0.5,
        "colorscale": _scale(max(len(places), 1)),
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": True,
        "text": [[_label(cell) for cell in row] for row in rows],
        "texttemplate": "%{text}",
        "textfont": {"color": INK, "size": 11},
        "customdata": [[_hover(found, cell) for cell in row] for row in rows],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    sides = {
        "xaxis": _side(found, found.x, found.xs),
        "yaxis": _side(found, found.y, found.ys),
    }
    return {"data": [heat], "layout": LAYOUT | sides | {"shapes": [*_hatches(found), *_frame(found)]}}


def _scale(count: int) -> list[list[object]]:
    """Return a scale of one colour a winner, pale enough for words on light and on dark."""
    stops: list[list[object]] = []
    for place in range(count):
        colour = faded(COLOURS[place % len(COLOURS)], 0.42 if place < len(COLOURS) else 0.2)
        stops += [[place / count, colour], [(place + 1) / count, colour]]
    return stops


def _side(found: WinnerMap, side: str, values: Sequence[float]) -> dict[str, object]:
    name = f"{side_name(found.question, side)} [{INPUTS[side].unit}]"
    ticks = {"tickvals": list(range(len(values))), "ticktext": [number(value) for value in values]}
    return axis(name, showgrid=False, zeroline=False, tickmode="array", **ticks)


def _label(cell: Winner) -> str:
    """Return the name of a winner, in two lines where it is long, and its devices."""
    if not cell.accelerator:
        return "…" if cell.stage == UNSEEN else "?" if cell.waits else ""
    mark = " ?" if cell.waits else " =" if cell.ties else ""
    name = _name(cell.accelerator)
    if len(name) > LONG:
        name = BREAK.join(name.rsplit("-", 1))
    about = "≈" if cell.stage == ESTIMATED else ""
    return f"{name}{BREAK}{about}{number(cell.devices)}{mark}"


def _name(accelerator: str) -> str:
    return catalogue.accelerators()[accelerator].name


def _hover(found: WinnerMap, cell: Winner) -> str:
    if not cell.accelerator:
        return wrapped(cell.reason or "not looked at yet")
    known = "simulated" if cell.stage != ESTIMATED else "estimated"
    known += " at rated power" if cell.stage == ESTIMATED and found.question.objective == ENERGY else ""
    lines = [f"<b>{_name(cell.accelerator)}</b>, {cell.layout}: {number(cell.devices)} devices"]
    lines += [f"{number(cell.worth)} {found.unit}, {known}"]
    if cell.ties:
        names = ", ".join(map(_name, cell.ties))
        lines += [wrapped(f"{'May be better' if cell.waits else 'As good'}: {names}")]
    if cell.second and cell.second_frac is not None:
        lines += [f"Next: {_name(cell.second)}, {percent(cell.second_frac)} more"]
    return BREAK.join(lines)


def _hatches(found: WinnerMap) -> list[dict[str, object]]:
    """Return diagonal lines across the cells that are ties."""
    drawn: list[dict[str, object]] = []
    for column, x in enumerate(found.xs):
        for row, y in enumerate(found.ys):
            cell = found.cells[x, y]
            if cell.ties and not cell.waits:
                drawn.append(_hatch(column - 0.5, row - 0.5))
    return drawn


def _hatch(left: float, low: float) -> dict[str, object]:
    steps = [(at + 1) / (HATCHES + 1) for at in range(HATCHES)]
    parts = [f"M {left},{low + step} L {left + 1 - step},{low + 1}" for step in steps]
    parts += [f"M {left + step},{low} L {left + 1},{low + 1 - step}" for step in [0.0, *steps]]
    line = {"color": MUTED, "width": 1}
    return {"type": "path", "path": " ".join(parts), "line": line, "opacity": 0.5}


def _frame(found: WinnerMap) -> list[dict[str, object]]:
    """Return a frame around the place that was asked for."""
    if found.asked not in found.cells:
        return []
    column, row = found.xs.index(found.asked[0]), found.ys.index(found.asked[1])
    corners = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
    return [{"type": "rect", "line": {"color": INK, "width": 2}, **corners}]


# --- to take away ---------------------------------------------------------------------------------


def _words(question: Question, x: str, y: str) -> str:
    rate = value_text("arrival_per_s", question.rate_per_s)
    return f"--rate {rate} --map {shlex.quote(f'{x},{y}')}"


def _files(found: WinnerMap) -> list[File]:
    """Return the map as files."""

    def cells() -> Sequence[Mapping[str, object]]:
        return found.as_dict()["cells"]

    return [
        File("CSV, the map", named("map", "csv"), "text/csv", lambda: report.csv_text(cells()), cells),
        File(
            "JSON, the map",
            named("map", "json"),
            "application/json",
            lambda: report.json_text(found.as_dict()),
        ),
    ]
