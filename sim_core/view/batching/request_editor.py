"""The requests of a timeline as a table to edit and a box to paste into."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.lengths import MOST_TOKENS
from sim_core.scenario.request_lists import (
    MAX_ARRIVAL_S,
    REQUEST_LIST_EXAMPLE,
    parse_request_list,
    write_request_list,
)
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.trace_files.read import read_trace
from sim_core.view.drawing.words import literal
from sim_core.view.session import shell, state

MOST = 60
MAX_PASTED = 100_000  # characters
HEADER = "arrival_s,prompt_tokens,output_tokens"
COLUMNS = {
    "arrival_s": st.column_config.NumberColumn(
        "Arrival [s]", min_value=0.0, max_value=MAX_ARRIVAL_S, required=True, format="%.3f"
    ),
    "prompt_tokens": st.column_config.NumberColumn(
        "Prompt [tokens]", min_value=1, max_value=MOST_TOKENS, step=1, required=True
    ),
    "output_tokens": st.column_config.NumberColumn(
        "Answer [tokens]", min_value=1, max_value=MOST_TOKENS, step=1, required=True
    ),
}


def popover(scenario: Scenario, followed: Scenario) -> None:
    """Draw the button that opens the requests of the timeline for editing."""
    with st.popover(
        "Requests", icon=":material/edit:", width="content", key="in_requests_open", on_change="rerun"
    ) as box:
        if box.open:
            _editor(scenario, followed)


def _editor(scenario: Scenario, followed: Scenario) -> None:
    """Draw the table, the box to paste into, and the way back to drawn requests."""
    rows = table_of(followed)
    st.markdown(f"Edit, add or delete rows; at most {MOST}. Closed loop and offline become fixed arrivals.")
    edited = st.data_editor(
        rows,
        column_config=COLUMNS,
        num_rows="dynamic",
        hide_index=True,
        height=300,
        key=f"in_rows_{hash(write_request_list(rows.itertuples(index=False)))}",
    )
    st.button("Use this table", on_click=_take, args=(from_table, edited), type="primary")
    text = st.text_area(
        "Or paste requests",
        key="in_pasted",
        placeholder=f"{HEADER}\n0,1000,200\n0.5,4000,50\nor {REQUEST_LIST_EXAMPLE}",
        help="CSV, an Azure or Mooncake trace, or a list such as " + REQUEST_LIST_EXAMPLE,
    )
    st.button("Use what is pasted", on_click=_take, args=(from_text, text))
    if scenario.arrivals == "trace":
        st.button(
            "Draw requests at random again", on_click=_draw_again, type="tertiary", icon=":material/shuffle:"
        )
    if st.session_state.get("requests_problem"):
        st.warning(literal(st.session_state.requests_problem), icon=":material/info:")


def table_of(scenario: Scenario) -> pd.DataFrame:
    """Return the scenario's first requests as a table."""
    traffic = requests_sent(scenario.replace(requests=min(scenario.requests, MOST)))
    columns: dict[str, Any] = {name: getattr(traffic, name) for name in COLUMNS}
    return pd.DataFrame(columns)


def _take(read: Callable[[Any], str], given: object) -> None:
    """Put what was edited or pasted in place of the scenario's traffic, or say why it cannot be."""
    try:
        _use(read(given))
    except ScenarioError as error:
        st.session_state.requests_problem = str(error)


def from_table(rows: pd.DataFrame) -> str:
    """Return an edited table as a request list; rows with an empty cell are left out."""
    full = rows.dropna()
    if full.empty:
        raise ScenarioError("the table holds no request; fill at least one row.")
    return write_request_list(full.sort_values("arrival_s", kind="stable").head(MOST).itertuples(index=False))


def from_text(text: str) -> str:
    """Return pasted text as a request list: CSV with or without its header, a known trace format, or a list.

    Raises
    ------
    ScenarioError
        If it is none of these.
    """
    text = text.strip()
    if not text:
        raise ScenarioError(
            f"nothing is pasted; paste lines of {HEADER}, or a list such as {REQUEST_LIST_EXAMPLE}."
        )
    if len(text) > MAX_PASTED:
        raise ScenarioError(
            f"{len(text):,} characters are pasted; the limit is {MAX_PASTED:,}. Keep {MOST} requests."
        )
    if ":" in text.partition(",")[0] and not text.startswith(("{", "[")):
        return write_request_list(parse_request_list(text.replace("\n", ","))[:MOST])
    if text[0].isdigit() or text[0] == ".":
        text = f"{HEADER}\n{text}"
    found = read_trace(io.BytesIO(text.encode()), name="the pasted text").take(slice(MOST))
    if not found.timed:
        raise ScenarioError(f"the pasted text has lengths without times; paste lines of {HEADER}.")
    return write_request_list(zip(*(column.tolist() for column in found.columns()), strict=True))


def _use(text: str) -> None:
    """Put a request list in place of the scenario's traffic."""
    st.session_state.requests_problem = ""
    if state.change(arrivals="trace", request_list=text):
        state.set_number("shown", MOST)
        shell.rerun_page()
    else:
        st.session_state.requests_problem = st.session_state.problem


def _draw_again() -> None:
    state.change(arrivals="poisson", request_list="")
    shell.rerun_page()
