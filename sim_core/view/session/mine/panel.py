"""The panel in the sidebar: what is kept, used by one press, and what is now, kept under a name."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.prices import parse_prices
from sim_core.fields.errors import ScenarioError
from sim_core.scenario import kept as keeping
from sim_core.scenario.kept import KINDS, Entry, Kept
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.view.drawing.words import literal, number, quantity
from sim_core.view.session import shell, state
from sim_core.view.session.mine import store, team

MOST_WORDS = 160  # characters of what an entry holds
ICONS = {
    "engines": ":material/tune:",
    "models": ":material/network_node:",
    "accelerators": ":material/memory:",
    "prices": ":material/payments:",
    "traffic": ":material/group:",
    "limits": ":material/timer:",
}


def mine_button() -> None:
    """Draw the button that opens the panel."""
    with st.popover(
        "Mine", icon=":material/bookmark:", width="stretch", key="in_mine_open", on_change="rerun"
    ) as panel:
        if not panel.open:
            return
        say_problem()
        buttons_of(store.all_kept(), "mine", "Nothing is kept yet.")
        found, _ = team.team_kept()
        if keeping.count_of(found):
            st.markdown("**From your team**")  # no heading: a panel stands behind those of any page
            buttons_of(found, "team")
        keep_form("panel")
        if st.button(
            "Prices, export, import …", icon=":material/bookmarks:", key="mine_page", type="tertiary"
        ):
            shell.open_page("Mine")
        store.connect()


def say_problem() -> None:
    """Say what kept things cannot be used, or why the last press did nothing."""
    if words := store.problem() or st.session_state.pop("mine_problem", ""):
        st.warning(literal(words[:1].upper() + words[1:]), icon=":material/info:")


def buttons_of(kept: Kept, whose: str, else_say: str = "") -> None:
    """Draw a button for each thing that is kept; it takes its place in the scenario."""
    if else_say and not keeping.count_of(kept):
        st.caption(else_say)
    for kind, entries in kept.items():
        for name, entry in entries.items():
            use_button(kind, name, entry, whose)


def use_button(kind: str, name: str, entry: Entry, whose: str) -> None:
    """Draw the button that puts one kept thing in place of the scenario's own."""
    in_use = keeping.is_used(st.session_state.scenario, kind, entry)
    st.button(
        literal(name),
        key=f"in_use_{whose}_{kind}_{name}",
        icon=":material/check:" if in_use else ICONS[kind],
        type="tertiary",
        help=literal(
            f"{KINDS[kind].one.capitalize()}: {contents_words(entry)}" + (" (in use)" if in_use else "")
        ),
        on_click=_use,
        args=(kind, entry),
    )


def contents_words(entry: Mapping[str, object]) -> str:
    """Return what an entry holds, in words."""
    text = ", ".join(_words(key, value) for key, value in entry.items()) or "as by default"
    return text if len(text) <= MOST_WORDS else f"{text[: MOST_WORDS - 1]}…"


def _words(key: str, value: object) -> str:
    """Return a key with its value in words: numbers with their unit, choices by label, parts by name."""
    if key == "prices":
        prices = parse_prices(str(value)).items()
        return f"USD/h: {', '.join(f'{_part(name)} {number(usd)}' for name, usd in prices)}"
    info = FIELDS[key]
    if key == "accelerator":
        words = _part(str(value))
    else:
        words = quantity(value, info.unit) if isinstance(value, int | float) else info.label_of(str(value))
    return f"{info.label or key} {words}"


def _part(name: str) -> str:
    return catalogue.accelerator(name).name


def _use(kind: str, entry: Entry) -> None:
    try:
        state.replace(keeping.used(st.session_state.scenario, kind, entry))
    except ScenarioError as error:
        st.session_state.mine_problem = f"{error} Nothing is changed."
    shell.rerun_page()


def keep_form(place: str, only: str = "", of: Scenario | None = None) -> None:
    """Draw the fields by which what is set now is kept under a name: what there is, or `only` one kind."""
    scenario = st.session_state.scenario if of is None else of
    kinds = [only] if only else keeping.kinds_in(scenario)
    kind = kinds[0]
    if len(kinds) > 1:
        kind = st.selectbox(
            "Keep of this setting",
            kinds,
            format_func=lambda kind: f"its {KINDS[kind].one}",
            key=f"in_keep_kind_{place}",
        )
    st.text_input(
        "Under the name",
        key=f"in_keep_name_{place}",
        max_chars=keeping.MOST_NAME,
        placeholder=f"My {KINDS[kind].one}",
    )
    st.button(
        "Keep",
        key=f"in_keep_{place}",
        icon=":material/bookmark_add:",
        on_click=_keep,
        args=(kind, place, scenario),
        disabled=not store.is_known(),
        help="In this browser alone: no account, and nothing on the server.",
    )


def keep_button(kind: str, scenario: Scenario, label: str) -> None:
    """Draw the button that opens the form by which one kind of a scenario is kept, in use or not."""
    with st.popover(
        label, icon=":material/bookmark_add:", key=f"in_keep_{kind}_open", on_change="rerun"
    ) as form:
        if form.open:
            say_problem()
            keep_form("alone", kind, scenario)
            store.connect()


def _keep(kind: str, place: str, scenario: Scenario) -> None:
    name = str(st.session_state.get(f"in_keep_name_{place}") or f"My {KINDS[kind].one}").strip()
    try:
        entry = keeping.entry_of(scenario, kind)
        store.add({kind: {name: entry}})
    except ScenarioError as error:
        st.session_state.mine_problem = str(error)
        return
    st.session_state[f"in_keep_name_{place}"] = ""
    st.toast(literal(f"Kept: {name}"), icon=":material/bookmark_added:")
