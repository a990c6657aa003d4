"""The chosen point beneath the chart: what it is and why, taken over, frozen or pinned; the pinned ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from sim_core.engine.work import shared
from sim_core.scenario.link.read import MAX_CHARACTERS
from sim_core.scenario.link.write import to_query
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.frontier import REFINED_REQUESTS, evaluate
from sim_core.sweep.points import REQUESTS_PER_CLIENT, Point
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing import names
from sim_core.view.drawing.figures import Frame, Row, X, Y
from sim_core.view.drawing.verdicts import WITHHELD, Limits, holding, is_withheld
from sim_core.view.drawing.words import Along, duration, literal, number
from sim_core.view.frontier.axes import placed
from sim_core.view.frontier.chosen.classes import show_classes
from sim_core.view.frontier.chosen.figures import LETTERS, chosen_marks
from sim_core.view.frontier.chosen.points import BEST, HERE, points_by_name
from sim_core.view.frontier.chosen.words import why_words
from sim_core.view.frontier.figures import limit_words
from sim_core.view.parts import pieces
from sim_core.view.parts.chart import picked
from sim_core.view.parts.controls import seed
from sim_core.view.session import shell, state, sweeps
from sim_core.view.session.sweeps import Result, Sweep

CHART = "frontier"
FIGURES = (  # of a point: column, name, unit ("" for a time), whether more is better
    (Y, "Throughput", "tok/s/acc.", True),
    (X, "Interactivity", "tok/s/user", True),
    ("ttft_ms_p99", "TTFT p99", "", False),
    ("tpot_ms_p99", "TPOT p99", "", False),
    ("e2e_ms_p50", "E2E p50", "", False),
    ("usd_per_mtok", "Cost", "USD/Mtok", False),
    ("joule_per_tok", "Energy", "J/tok", False),
)
_rows: Remembered[Scenario, dict[str, Any]] = Remembered(sweeps.REMEMBERED)


def take_click() -> None:
    """Choose the point that was clicked on the chart."""
    name = picked(CHART)
    if name:
        state.set_view(state.POINT, name)


def marks_of(sweep: Sweep, found: Result, best: Row | None, frame: Frame) -> list[dict[str, Any]]:
    """Return what marks the chosen point and the pinned ones on the chart."""
    name = state.view(state.POINT)
    row = points_by_name(sweep, found, best).get(name) if name else None
    pins = [placed(row_of_pin(pin, found.fine)) for pin in state.pinned()]
    return chosen_marks(None if row is None else placed(row), pins, frame)


def show_chosen(sweep: Sweep, found: Result, best: Row | None) -> None:
    """Show the list of points, the chosen one, and the pinned ones."""
    if not state.embedded():
        points, along = points_by_name(sweep, found, best), sweeps.ALONG[sweep.along]
        _list(points, along)
        name = state.view(state.POINT)
        if name in points:
            _card(sweep, found, points[name], sweep.scenario if name == HERE else None)
        elif name:
            curve, _, place = name.rpartition("@")
            where = f"{literal(place)} on {literal(curve)}" if curve else literal(name)
            st.caption(f"The chart has no point at {where}: its curves are others now.")
    show_pins(found.fine)


def _list(points: dict[str, Row], along: Along) -> None:
    """Draw the list of points: the way to one by keyboard, or where fingers are too broad.

    Its options are the titles, not the names: the browser would go on showing the title that a name had.
    """
    names_by_title = {_title(name, row, along): name for name, row in points.items()}
    name = state.view(state.POINT)
    seed("in_point", _title(name, points[name], along) if name in points else None)
    st.selectbox(
        "Look at a point",
        list(names_by_title),
        key="in_point",
        placeholder="Click a point of the chart, or choose one here",
        on_change=_choose,
        args=(names_by_title,),
        label_visibility="collapsed",
        width=420,
    )


def _title(name: str, row: Row, along: Along) -> str:
    what = {BEST: "Best within the limits: ", HERE: "This setting: "}.get(name, "")
    return f"{what}{row['curve']}, {along.text(row)}"


def _choose(names_by_title: Mapping[str, str]) -> None:
    state.set_view(state.POINT, names_by_title.get(st.session_state.in_point, ""))


def _card(sweep: Sweep, found: Result, row: Row, own: Scenario | None) -> None:
    """Show a point: its figures against the present setting, why, and what can be done with it."""
    scenario, along = sweep.scenario, sweeps.ALONG[sweep.along]
    cells = [_figure(row, found.here, *about) for about in FIGURES]
    pieces.figures(cells, f"{row['curve']}, {along.text(row)}", "against this setting")
    limits = Limits(scenario.slo_ttft_ms, scenario.slo_tpot_ms)
    st.markdown(literal(why_words(row, limits)))
    show_classes(scenario, row, f"{row['curve']}, {along.text(row)}")
    point = own or sweep.scenario_at(row)
    with st.container(horizontal=True):
        _button("Make this my setting", "take_point", partial(use_point, point), "check")
        _button("Freeze", "freeze_point", partial(state.freeze, point), "ac_unit", "For the Compare page.")
        _button("Pin", "pin_point", partial(state.pin, point), "keep", "Keeps its figures beside others.")
        _button("Close", "close_point", partial(state.set_view, state.POINT, ""), "close")


def _button(label: str, key: str, on_click: Callable[[], None], icon: str, help: str | None = None) -> None:
    st.button(label, key=key, on_click=on_click, icon=f":material/{icon}:", help=help)


def use_point(point: Scenario) -> None:
    """Make a point the visitor's setting, sidebar and all."""
    state.move_to(point)
    shell.rerun_page()


def _figure(row: Row, here: Row, column: str, name: str, unit: str, more_is_better: bool) -> pieces.KeyFigure:
    format = number if unit else duration
    (_, cell) = pieces.cells([holding(here, column), holding(row, column)], format, more_is_better)
    return pieces.KeyFigure(
        name, cell.text, unit=unit, change=cell.small, change_is_good=cell.small_kind == "bs-good"
    )


# Pinned points


def show_pins(fine: bool) -> None:
    """Show the pinned points beside each other, with their differences from the first."""
    pins = state.pinned()
    if not pins:
        return
    titles = _pin_titles(pins)
    rows = [row_of_pin(pin, fine) for pin in pins]
    lines = [
        (
            f"{name} [{unit}]" if unit else name,
            pieces.point_cells(rows, column, number if unit else duration, more_is_better),
        )
        for column, name, unit, more_is_better in FIGURES
    ]
    lines.append(("Limited by", [_binds(row) for row in rows]))
    pieces.table("Pinned points, in % against the first", titles, lines, scroll=True)
    if state.embedded():
        return
    _say_if_too_long(pins, titles)
    with st.container(horizontal=True):
        for place, (pin, title) in enumerate(zip(pins, titles, strict=False)):
            with st.popover(title, key=f"pin_{place}"):
                _button("Make this my setting", f"take_pin_{place}", partial(use_point, pin), "check")
                _button("Unpin", f"unpin_{place}", partial(state.unpin, place), "keep_off")


def _say_if_too_long(pins: Sequence[Scenario], titles: Sequence[str]) -> None:
    """Say which pinned point makes the link longer than a link is read, and what to do."""
    characters = state.link_characters()
    if characters <= MAX_CHARACTERS:
        return
    own, title = max((len(to_query(pin)), title) for pin, title in zip(pins, titles, strict=True))
    st.warning(
        literal(
            f"A link of this view has {characters:,} characters; the limit is {MAX_CHARACTERS:,}, so "
            f"it would open without all of it. Pinned point {title} takes {own:,} of them: unpin it, or "
            "take it away as a scenario file."
        ),
        icon=":material/link_off:",
    )


def _pin_titles(pins: Sequence[Scenario]) -> list[str]:
    """Return the letter and the name of each pinned point; one alone is told from the present setting."""
    told_from = pins if len(pins) > 1 else [*pins, st.session_state.scenario]
    said = names.names_of(told_from)[: len(pins)]
    return [f"{letter} {name}" for letter, name in zip(LETTERS, said, strict=False)]


def pin_lines(fine: bool) -> tuple[str, ...]:
    """Return the pinned points as the lines of a slide: each with its figures."""
    pins = state.pinned()
    return tuple(
        f"{title}: {said_of_pin(row_of_pin(pin, fine))}"
        for title, pin in zip(_pin_titles(pins), pins, strict=True)
    )


def said_of_pin(row: Row) -> str:
    """Return the figures of a pinned point on one line; an overloaded one says so where it has no value."""
    return ", ".join(_figure_words(row, *about) for about in FIGURES)


def _figure_words(row: Row, column: str, name: str, unit: str, _: bool) -> str:
    if is_withheld(row, column):
        return f"{name} {WITHHELD}"
    value = holding(row, column)
    return f"{number(value)} {unit}" if unit else f"{name} {duration(value)}"


def row_of_pin(pin: Scenario, fine: bool) -> dict[str, Any]:
    """Return the figures of a pinned point, as its chart has them: of many requests where that is `fine`."""
    requests = max(pin.requests, REFINED_REQUESTS if fine else 0)
    if pin.arrivals == "closed":
        requests = max(requests, REQUESTS_PER_CLIENT * pin.concurrency)
    with shared(state.PINS_LIMIT):
        return _rows.of(pin.replace(requests=requests), lambda: evaluate(Point({}, pin), requests=requests))


def _binds(row: Row) -> pieces.Cell:
    """Return what limits a point, or that it cannot run, with the reason when pointed at."""
    if not row["feasible"]:
        return pieces.Cell("cannot run", "bs-bad", row["reason"])
    return pieces.Cell(limit_words(row["limit"]))
