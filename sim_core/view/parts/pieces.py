"""Small pieces that pages share: the finding, key figures, and tables with differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import streamlit as st

from sim_core.fields.errors import ScenarioError
from sim_core.view.drawing.templates import Markup, render
from sim_core.view.drawing.terms import explained_in
from sim_core.view.drawing.verdicts import OVERLOADED, WITHHELD, holding, is_withheld
from sim_core.view.drawing.words import number, percent, spoken
from sim_core.view.session import advice, record

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

DIGITS = 4  # of figures in a table

NO_HELP: Mapping[str, str] = MappingProxyType({})
STILL = 0.005  # a relative difference below this is not worth showing


def say(finding: str, *notes: str, more: Markup | None = None, after: str | None = None) -> None:
    """Show the finding, beneath it what was assumed, and `more` (rendered) that is on the page alone.

    Terms of the finding are explained where it comes `after` a text, unless that text explains them.
    """
    finding, notes = spoken(finding), tuple(spoken(note) for note in notes if note)
    record.begin_record(finding, notes)
    st.html(render("parts/say.html", finding=finding, notes=notes, more=more or "", after=after))


def say_more(finding: str) -> None:
    """Show a further finding, of what follows on the page; a report has it beneath the first."""
    finding = spoken(finding)
    record.add_note(finding)
    st.html(render("parts/say.html", finding=finding, notes=(), more="", after=None))


def say_why(error: ScenarioError) -> None:
    """Show as the finding why there is none, with what would make room if it is that."""
    text = str(error)
    say(text[:1].upper() + text[1:])
    advice.offer(advice.room_advice(st.session_state.scenario), "advice_why")


def nothing(places: int = 1) -> None:
    """Leave places empty.

    Until a run ends, Streamlit keeps what the run before drew at places that this one has not come to. So
    where a run takes long, what may be absent leaves its place empty: what follows keeps its own.
    """
    for _ in range(places):
        st.empty()


class KeyFigure(NamedTuple):
    """One key figure, all in plain text: its name, its value, and a note beneath, of one line or several."""

    name: str
    value: str
    note: str = ""
    unit: str = ""  # in small type behind the value
    change: str = ""  # before the note
    change_is_good: bool = False
    kind: str = ""  # "main" is large and alone
    edge: str = ""  # the colour of a line on the left
    wrap: bool = False  # whether the note may take several lines


def figures(cells: Iterable[KeyFigure], heading: str = "", count: str = "") -> None:
    """Show key figures in a row, under a heading with how many things it speaks of, if there is one."""
    st.html(render("parts/key_figures.html", cells=list(cells), heading=heading, count=count))


class Cell(NamedTuple):
    """One cell of a table, all in plain text; a kind is `bs-good` or `bs-bad`."""

    text: str
    kind: str = ""
    hint: str = ""  # shown when pointed at
    small: str = ""  # in small type behind the text
    small_kind: str = ""


Line = tuple[str, Sequence[str | Cell]]  # of a table, with its name


def table(caption: str, heads: Sequence[str], lines: Sequence[Line], scroll: bool = False) -> None:
    """Show a small table, each line with a cell for each head. A wide one may `scroll` sideways."""
    whole = [
        (name, [Cell(cell) if isinstance(cell, str) else cell for _, cell in zip(heads, cells, strict=True)])
        for name, cells in lines
    ]
    st.html(render("parts/table.html", caption=caption, heads=heads, lines=whole, scroll=scroll))


def column_help(headings: Iterable[str], own: Mapping[str, str] = NO_HELP) -> dict[str, Any]:
    """Return what the columns of a table say when pointed at: their `own` words, or the glossary's."""
    notes = {heading: own.get(heading) or explained_in(heading) for heading in headings}
    return {heading: st.column_config.Column(help=note) for heading, note in notes.items() if note}


def as_read(table: pd.DataFrame, numbers: list[str]) -> Styler:
    """Return a table of which the columns of `numbers` show thousands apart, and figures four digits."""
    shown = table.copy()
    figures = list(table[numbers].select_dtypes("float").columns)
    shown[figures] = shown[figures].map(lambda value: float(f"{value:.{DIGITS}g}"))
    return shown.style.format(_digits, subset=numbers)


def _digits(value: float) -> str:
    return number(int(value) if value == value and value == int(value) else value, DIGITS)


def point_cells(
    points: Sequence[Mapping[str, Any]], name: str, format: Callable[[Any], str], more_is_better: bool | None
) -> list[Cell]:
    """Return one figure of some points as cells; what an overloaded one has no value for says so."""
    found = cells([holding(point, name) for point in points], format, more_is_better)
    hidden = Cell(WITHHELD, "bs-bad", OVERLOADED)
    return [hidden if is_withheld(point, name) else cell for point, cell in zip(points, found, strict=True)]


def cells(values: Sequence[float], format: Callable[[Any], str], more_is_better: bool | None) -> list[Cell]:
    """Return values as cells, each with its difference from the first; None: neither way is better."""
    found: list[Cell] = []
    for value in values:
        base = values[0]
        known = found and base > 0 and math.isfinite(value) and abs(value / base - 1) >= STILL
        more = _difference(value / base, more_is_better) if known else {}
        found.append(Cell(format(value), **more))
    return found


def _difference(ratio: float, more_is_better: bool | None) -> dict[str, str]:
    text = f"{number(ratio, 2)}×" if ratio >= 2 else f"{'+' if ratio > 1 else '−'}{percent(abs(ratio - 1))}"
    if more_is_better is None:
        return {"small": text}
    return {"small": text, "small_kind": good_or_bad((ratio > 1) == more_is_better)}


def good_or_bad(is_good: bool) -> str:
    """Return the kind of a cell that is better or worse than another one."""
    return "bs-good" if is_good else "bs-bad"
