"""The Frontier page's points as a table: the best one first and marked, with the columns one wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from sim_core.sweep.frontier import tabulate
from sim_core.view.drawing.columns import COLUMNS, HELP, chosen_columns, columns_text, with_best
from sim_core.view.drawing.figures import LIMITS, Row
from sim_core.view.drawing.verdicts import holding
from sim_core.view.frontier.chosen.classes import class_columns
from sim_core.view.frontier.figures import limit_words
from sim_core.view.parts import pieces
from sim_core.view.parts.controls import seed
from sim_core.view.parts.views import toggle
from sim_core.view.session import stars, state, sweeps
from sim_core.view.session.sweeps import Result, Sweep

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

MARK, BEST = "Best", "★"


def show_table(sweep: Sweep, found: Result) -> None:
    """Show the points as a table."""
    best = stars.best(sweep, found)
    rows = with_best(found.rows, best)
    within = [row for row in rows if row["meets_slo"]]
    with st.container(horizontal=True, vertical_alignment="center"):
        toggle("within")
        st.caption(f"{len(within)} of {len(rows)} points are within the limits.")
        _choose_columns()
    if state.view("within") == "on":
        rows = within
    if not rows:
        st.info(
            "No point is within the limits. Switch the filter off to see all.", icon=":material/filter_alt:"
        )
        return
    drawn = _drawn(sweep, rows, best)
    st.dataframe(
        drawn,
        hide_index=True,
        height="auto" if len(rows) < 15 else 560,
        column_config=pieces.column_help(drawn.columns, HELP),
    )


def _choose_columns() -> None:
    names, _ = chosen_columns(state.view("columns"))
    with st.popover(
        "Columns", icon=":material/view_column:", key="in_columns_open", on_change="rerun"
    ) as panel:
        if not panel.open:
            return
        seed("in_columns", list(names))
        st.pills(
            "Columns of the table",
            list(COLUMNS),
            selection_mode="multi",
            format_func=COLUMNS.__getitem__,
            key="in_columns",
            on_change=_write_columns,
            help="None chosen: the usual ones. The files hold all.",
        )


def _write_columns() -> None:
    state.set_view("columns", columns_text(st.session_state.in_columns))


def _drawn(sweep: Sweep, rows: list[Row], best: Row | None) -> Styler:
    """Return the rows as people read them: best row marked, four digits, thousands apart."""
    along = sweeps.ALONG[sweep.along]
    chosen, _ = chosen_columns(state.view("columns"))
    headings = {"curve": sweeps.VARY[sweep.by].capitalize(), along.column: along.heading}
    headings |= {name: COLUMNS[name] for name in chosen} | class_columns(sweep.scenario)
    held = [{**row, **{name: holding(row, name) for name in headings if name in row}} for row in rows]
    table = tabulate(held).reindex(columns=list(headings))
    if "limit" in table:
        table["limit"] = [limit_words(limit) if limit in LIMITS else "" for limit in table["limit"]]
    table = table.rename(columns=headings)
    table.insert(0, MARK, [BEST if row is best else "" for row in rows])
    numbers = list(table.select_dtypes("number").columns)
    return pieces.as_read(table, numbers).apply(_bold, axis=1)


def _bold(row: pd.Series) -> list[str]:
    return ["font-weight: 700; background-color: rgba(0, 158, 115, 0.16)" if row[MARK] else ""] * len(row)
