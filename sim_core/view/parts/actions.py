"""What a page does beside drawing: simulate, and give things to take away."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import segno
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sim_core import __version__
from sim_core.evidence import trust
from sim_core.evidence.trust import Trust
from sim_core.fields.errors import ScenarioError
from sim_core.results import text as report
from sim_core.scenario.link.as_python import python_of
from sim_core.scenario.link.file_names import file_name
from sim_core.scenario.link.write import command_for, to_query, to_toml
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.frontier import REFINED_REQUESTS
from sim_core.sweep.points import default_vary
from sim_core.view.drawing.templates import render
from sim_core.view.parts import buttons, html_report, trust_badge
from sim_core.view.session import budget, record, room_store, stars, state, sweeps
from sim_core.view.session.room_store import Place
from sim_core.view.session.sweeps import Result, Sweep


def simulate_sweep(sweep: Sweep) -> Result:
    """Return the sweep's points: quickly after a move, finely once the chart has rested on them."""
    sweeps.wait_until_ready(sweep, beside=state.pinned())
    load = state.view("show") == "load"
    if state.is_settled(sweeps.load_sweep(sweep.scenario) if load else sweep):
        stars.settle(sweep)
        if not load and state.view("fine") == "on":
            return sweeps.refined(sweep)
    if not load:
        state.note_shown(sweep)
    return sweeps.result(sweep)


class File(NamedTuple):
    """A file to take away; it is written when asked for, where there is no session."""

    label: str
    name: str
    mime: str
    make: Callable[[], str]
    rows: Callable[[], Sequence[Mapping[str, Any]]] | None = None  # of a table, as the report shows it


def take_away(chart: str, files: Iterable[File], command: str, language: str = "bash") -> None:
    """Draw what can be taken away: the link, the files, the chart as image ("" = no chart), the command."""
    if state.embedded():
        return
    files = list(files)
    with st.container(horizontal=True):
        share()
        downloads([*files, _report(files, command)])
        if chart:
            buttons.save(chart)
        if chart != "compare":
            st.button(
                "Add to compare",
                key="add_to_compare",
                icon=":material/ac_unit:",
                on_click=state.freeze,
                type="tertiary",
                help="Keeps this scenario for the Compare page.",
            )
    with st.expander("Reproduce this view", key="in_reproduce", on_change="rerun") as more:
        if more.open:
            _reproduce(files, command, language)


def _reproduce(files: Sequence[File], command: str, language: str) -> None:
    """Show the command that gives the same, and the Python: the call, and how the file is read."""
    table = next((file.name for file in files if file.mime == "text/csv"), "")
    python = python_of(command) if language == "bash" else command
    place: DeltaGenerator = st.container()
    if language == "bash":
        shell, place = place.tabs(["Command line", "Python"])
        shell.code(command, language=language, wrap_lines=True)
    if python:
        place.code(python, language="python", wrap_lines=True)
    if table:
        place.caption("The CSV file above, read back:")
        place.code(READ_CSV.format(table), language="python", wrap_lines=True)


READ_CSV = 'import pandas as pd\n\ntable = pd.read_csv("{}")\nprint(table)'


def downloads(files: Iterable[File]) -> None:
    """Draw a button for each file; one that would cost too much says so in place of what it holds."""
    for file in files:
        make = partial(budget.made_or_why_not, file.make)
        st.download_button(
            file.label, make, file.name, file.mime, on_click="ignore", icon=":material/download:"
        )


def _report(files: Sequence[File], command: str) -> File:
    """Return the view as one HTML file: what was shown until now, and the first table among the files."""
    shown, rows = record.now(), next((file.rows for file in files if file.rows), list)
    page = st.session_state.get("shown_page", "")
    view = html_report.Report(
        page=page,
        finding=shown.finding,
        notes=shown.notes,
        charts=shown.drawings,
        badge="" if shown.badge is None else trust_badge.badge_sentence(shown.badge),
        toml=to_toml(st.session_state.scenario),
        link=state.link(),
        command=command,
        version=__version__,
        date=datetime.now(UTC).date().isoformat(),
    )
    name = named(page.lower().replace(" ", "-") or "report", "html")
    return File(
        "Report", name, "text/html", lambda: html_report.report_html(dataclasses.replace(view, rows=rows()))
    )


SYSTEM = (  # the scenario keys by which the rows of a table may be other systems than the page's
    *("model", "accelerator", "tensor_parallel", "expert_parallel", "replicas", "weight_dtype", "kv_dtype"),
    *("policy", "max_batch", "concurrency"),
)


def table_files(
    rows: Iterable[Mapping[str, Any]],
    name: str,
    predicted: Scenario | Callable[[Mapping[str, Any]], Trust] | None = None,
    *,
    published: bool = False,
) -> list[File]:
    """Return a view's table as CSV and JSON, and the scenario as TOML.

    Each row ends with the scenario it belongs to, as a query: its own, or the page's that its other columns
    vary; `published` rows belong to none. Rows that are predictions say of which scenario (`predicted`): each
    gets its badge and band, by the system that the row names where it is another one. Or they have a function
    that says how far to trust each.
    """
    rows, scenario = list(rows), st.session_state.scenario
    names = {ending: f"batchscope-{name}.{ending}" for ending in ("csv", "json")}
    if not published:
        names = {ending: named(name, ending) for ending in names}
    origin = {} if published else {"scenario": to_query(scenario)}

    def whole() -> list[Mapping[str, Any]]:
        badges = ({} if predicted is None else _badge_of(row, predicted) for row in rows)
        return [_plain(row) | badge | (origin | _own(row)) for row, badge in zip(rows, badges, strict=True)]

    return [
        File("CSV", names["csv"], "text/csv", lambda: report.csv_text(whole()), whole),
        File("JSON", names["json"], "application/json", lambda: report.json_text(whole())),
        File("Scenario", named("scenario", "toml"), "application/toml", lambda: to_toml(scenario)),
    ]


def named(what: str, ending: str) -> str:
    """Return the name of a file of the session's scenario."""
    return f"batchscope-{what}-{file_name(st.session_state.scenario)}.{ending}"


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without how its curve is drawn."""
    return {key: value for key, value in row.items() if key != "look"}


def _own(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"scenario": row["scenario"]} if "scenario" in row else {}


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
    """Return the shell command that gives the same numbers, quick or fine; one for each layout, and for a
    changed accelerator, where accelerators are compared.
    """
    scenario = sweep.scenario
    if fine:
        scenario = scenario.replace(requests=max(scenario.requests, REFINED_REQUESTS))
    if sweep.by == "accelerator":
        return "\n".join(
            command_for(base, "frontier", vary=sweep.vary | {"accelerator": values})
            for base, values in _parts_by_base(sweep, scenario.requests)
        )
    if sweep.by == sweeps.LAYOUT:
        bases = sweeps.layouts_on(scenario).values()
        return "\n".join(
            command_for(base, "frontier", vary={sweep.along: sweep.vary[sweep.along]}) for base in bases
        )
    usual = {key: tuple(values) for key, values in default_vary(sweep.scenario).items()}
    vary = None if sweep.vary == usual else sweep.vary
    return command_for(scenario, "frontier", vary=vary)


def _parts_by_base(sweep: Sweep, requests: int) -> list[tuple[Scenario, tuple[str, ...]]]:
    """Return the accelerators that one command compares, with its scenario: neighbours of one layout."""
    found: list[tuple[Scenario, tuple[str, ...]]] = []
    for name in sweep.values:
        try:
            base = sweep.base(name).replace(requests=requests, accelerator=sweep.scenario.accelerator)
        except ScenarioError:  # it cannot be with the scenario's own: alone it can
            base = sweep.base(name).replace(requests=requests)
        if found and found[-1][0] == base:
            found[-1] = base, (*found[-1][1], name)
        else:
            found.append((base, (name,)))
    return found


def share() -> None:
    """Draw the button that opens the link of the present state: as text, as a code for phones, as a frame."""
    with st.popover("Share", icon=":material/link:", key="in_share_open", on_change="rerun") as panel:
        if not panel.open:
            return
        link = state.link()
        st.markdown("The address bar always holds this view. Copy it, or let a phone read it.")
        buttons.copy_link(link)
        try:
            st.image(qr_code(link), width=180, alt="The link as a QR code")
        except segno.DataOverflowError:
            st.caption("This link is too long for a code that a phone reads.")
        st.code(link, language=None, wrap_lines=True)
        _offer_to_room(link)
        st.markdown("**Embed.** Finding and chart alone, for slides and pages that can hold a frame.")
        framed = state.link(embed="true")
        st.code(framed, language=None, wrap_lines=True)
        st.code(iframe(framed), language="html", wrap_lines=True)


def _offer_to_room(link: str) -> None:
    """Let the host of a room show this view to it."""
    place = room_store.place()
    if place is None or not place.key:
        return
    view = f"{st.session_state.get('shown_page', '')}?{link.partition('?')[2]}"
    st.button(
        f"Show this view to room {place.code}",
        icon=":material/groups:",
        key="share_to_room",
        on_click=_show_to_room,
        args=(place, view),
    )


def _show_to_room(place: Place, view: str) -> None:
    if room_store.guarded(lambda: room_store.rooms().show_view(place.code, place.key, view)):
        st.toast(f"Room {place.code} has a button that opens this view.")


def iframe(link: str) -> str:
    """Return the HTML that shows a link in a frame."""
    return str(render("parts/iframe.html", link=link))


def qr_code(text: str) -> str:
    """Return a QR code as SVG, dark on light in both themes, as readers want it."""
    svg = io.BytesIO()
    segno.make(text, error="l").save(svg, kind="svg", scale=4, border=3, dark="#22262a", light="#ffffff")
    return svg.getvalue().decode()
