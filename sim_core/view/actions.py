"""What a page does beside drawing: simulate, and give things to take away."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import segno
import streamlit as st

from sim_core import report, trust
from sim_core.address import command_for, to_toml
from sim_core.frontier import REFINED_REQUESTS, default_vary
from sim_core.scenario import SPECS, Scenario
from sim_core.trust import Trust
from sim_core.view import buttons, state, sweeps
from sim_core.view.sweeps import Result, Sweep


def simulate(sweep: Sweep) -> Result:
    """Return the sweep's points: quickly after a move, finely once the chart has rested on them."""
    sweeps.wait_until_ready()
    if state.is_settled(sweep) and state.view("show") != "load":
        return sweeps.refined(sweep)
    if state.view("show") != "load":
        state.shown(sweep)
    return sweeps.result(sweep)


class File(NamedTuple):
    """A file to take away; it is written when asked for, where there is no session."""

    label: str
    name: str
    mime: str
    make: Callable[[], str]


def take_away(chart: str, files: Iterable[File], command: str, language: str = "bash") -> None:
    """Draw what can be taken away: the link, the files, the chart as PNG ("" = no chart), the command."""
    with st.container(horizontal=True):
        share()
        for file in files:
            st.download_button(
                file.label, file.make, file.name, file.mime, on_click="ignore", icon=":material/download:"
            )
        if chart:
            buttons.png(chart)
        if chart != "compare":
            st.button(
                "Add to compare", key="add_to_compare", icon=":material/ac_unit:", on_click=state.freeze,
                type="tertiary", help="Keeps this scenario for the Compare page.",
            )  # fmt: skip
    with st.expander("Reproduce this view on the command line"):
        st.code(command, language=language, wrap_lines=True)


SYSTEM = (  # the scenario keys by which the rows of a table may be other systems than the page's
    *("model", "accelerator", "tensor_parallel", "expert_parallel", "replicas", "weight_dtype", "kv_dtype"),
    *("policy", "max_batch", "concurrency"),
)


def table_files(
    rows: Iterable[Mapping[str, Any]],
    name: str,
    predicted: Scenario | Callable[[Mapping[str, Any]], Trust] | None = None,
) -> list[File]:
    """Return a view's table as CSV and JSON, and the scenario as TOML.

    Rows that are predictions say of which scenario (`predicted`): each gets its badge and band, by the system
    that the row names where it is another one. Or they have a function that says how far to trust each.
    """
    rows, scenario = list(rows), st.session_state.scenario

    def badged() -> list[Mapping[str, Any]]:
        return rows if predicted is None else [{**row} | _badge_of(row, predicted) for row in rows]

    return [
        File("CSV", f"batchscope-{name}.csv", "text/csv", lambda: report.csv_text(badged())),
        File("JSON", f"batchscope-{name}.json", "application/json", lambda: report.json_text(badged())),
        File("Scenario", "scenario.toml", "application/toml", lambda: to_toml(scenario)),
    ]


def _badge_of(
    row: Mapping[str, Any], predicted: Scenario | Callable[[Mapping[str, Any]], Trust]
) -> dict[str, Any]:
    """Return the columns that say how far a row can be trusted; none where the row has them already."""
    if "badge" in row:
        return {}
    if not isinstance(predicted, Scenario):
        return predicted(row).columns()
    return trust.columns(predicted, {key: row[key] for key in SYSTEM if row.get(key)})


def frontier_command(sweep: Sweep, fine: bool) -> str:
    """Return the shell command that gives the same numbers, quick or fine; two where a changed accelerator
    is compared with others as sold.
    """
    scenario = sweep.scenario
    if fine:
        scenario = scenario.replace(requests=max(scenario.requests, REFINED_REQUESTS))
    sold = scenario.replace(**dict.fromkeys(SPECS))
    others = tuple(value for value in sweep.values if value != scenario.accelerator)
    if sweep.by == "accelerator" and sold != scenario and others:
        parts = ((scenario, (scenario.accelerator,)), (sold, others))
        return "\n".join(
            command_for(part, "frontier", vary=sweep.vary | {"accelerator": values}) for part, values in parts
        )
    usual = {key: tuple(values) for key, values in default_vary(sweep.scenario).items()}
    vary = None if sweep.vary == usual else sweep.vary
    return command_for(scenario, "frontier", vary=vary)


def share() -> None:
    """Draw the button that opens the link of the present state, as text and as a code for phones."""
    with st.popover("Share", icon=":material/link:", key="in_share_open", on_change="rerun") as panel:
        if not panel.open:
            return
        link = state.link()
        st.markdown("The address bar always holds this view. Copy it, or let a phone read it.")
        buttons.copy_link(link)
        st.image(qr_code(link), width=180)
        st.code(link, language=None, wrap_lines=True)


def qr_code(text: str) -> str:
    """Return a QR code as SVG, dark on light in both themes, as readers want it."""
    svg = io.BytesIO()
    segno.make(text, error="l").save(svg, kind="svg", scale=4, border=3, dark="#22262a", light="#ffffff")
    return svg.getvalue().decode()
