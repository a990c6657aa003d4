"""The pieces of the Mine page: what is kept and offered, prices per part in one table, export and import."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.prices import PRICE, parse_prices, write_prices
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import MAX_TOML_CHARACTERS
from sim_core.scenario import kept as keeping
from sim_core.scenario.kept import KINDS, Entry, Kept
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.words import literal
from sim_core.view.parts import pieces
from sim_core.view.session import shell, state
from sim_core.view.session.mine import panel, store, team

FILE = "batchscope-mine.toml"
SHEET, OWN = "Published [USD/h]", "Yours [USD/h]"
SHEET_HELP = "To rent one device for an hour: an assumption, whose source stands in the part's preset."
OWN_HELP = "What you pay for one device and hour. Type over it; an emptied one is the published price again."
WHERE = (
    "Kept in this browser alone: no account, nothing on the server. A link carries what is in use, nothing "
    "else."
)


def show_mine(scenario: Scenario) -> None:
    """Show what is kept, and the ways to use, change and carry it."""
    store.connect()
    kept, (found, problems) = store.all_kept(), team.team_kept()
    pieces.say(kept_finding(kept, scenario), WHERE)
    panel.say_problem()
    for words in problems:
        st.warning(literal(words), icon=":material/info:")
    _whole(kept, "mine")
    if keeping.count_of(found):
        st.markdown("#### From your team")
        _whole(found, "team")
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("#### Keep what is set now")
        panel.keep_form("page")
        st.markdown("#### Carry it")
        _export(kept)
        _import()
    with right:
        st.markdown("#### Prices")
        prices(scenario)


def kept_finding(kept: Kept, scenario: Scenario) -> str:
    """Return what is kept, and what of it is in use, in one sentence."""
    if not keeping.count_of(kept):
        return (
            "Keep an engine, a model, an accelerator, prices, traffic or limits under a name: two presses "
            "bring them back."
        )
    used = [
        name
        for kind, entries in kept.items()
        for name, entry in entries.items()
        if keeping.is_used(scenario, kind, entry)
    ]
    text = f"You keep {keeping.counts(kept)}"
    return f"{text}; in use: {', '.join(used)}." if used else f"{text}; none is in use."


def _whole(kept: Kept, whose: str) -> None:
    for kind, entries in kept.items():
        if entries:
            st.markdown(f"##### {KINDS[kind].many.capitalize()}")
        for name, entry in entries.items():
            _line(kind, name, entry, whose)


def _line(kind: str, name: str, entry: Entry, whose: str) -> None:
    """Draw one kept thing: what it is, and what can be done with it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        panel.use_button(kind, name, entry, whose)
        st.caption(literal(panel.contents_words(entry)), width="stretch")
        if whose == "mine":
            _act("Drop", "delete", f"drop_{kind}_{name}", _drop, (kind, name))
        else:
            _act("Keep", "bookmark_add", f"take_{kind}_{name}", _take, (kind, name, entry))


def _act(label: str, icon: str, key: str, do: Callable[..., None], arguments: tuple[object, ...]) -> None:
    st.button(label, icon=f":material/{icon}:", key=f"in_{key}", on_click=do, args=arguments, type="tertiary")


def _drop(kind: str, name: str) -> None:
    store.put(keeping.drop(store.all_kept(), kind, name))


def _take(kind: str, name: str, entry: Entry) -> None:
    _put_more({kind: {name: entry}})


def _put_more(more: Mapping[str, Mapping[str, Entry]]) -> None:
    try:
        store.add(more)
    except ScenarioError as error:
        st.session_state.mine_problem = str(error)


# Export and import


def _export(kept: Kept) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "Export",
            store.text,
            FILE,
            "application/toml",
            icon=":material/download:",
            on_click="ignore",
            help=f"All of it as one TOML file, {FILE}: for another browser, or as your team's file.",
        )
        if keeping.count_of(kept) or store.problem():
            st.button("Forget all", key="in_forget", on_click=store.forget, type="tertiary")


def _import() -> None:
    turn = st.session_state.setdefault("mine_turn", 0)
    st.file_uploader(
        "Import",
        type="toml",
        key=f"in_mine_file_{turn}",
        on_change=_read,
        args=(turn,),
        help=f"A file that this page has exported, of up to {MAX_TOML_CHARACTERS:,} characters. What has the "
        "same name is replaced; the rest stays.",
    )


def _read(turn: int) -> None:
    file = st.session_state.get(f"in_mine_file_{turn}")
    if file is None:
        return
    st.session_state.mine_turn = turn + 1
    name = file.name[-60:]
    if file.size > 4 * MAX_TOML_CHARACTERS:
        limit = f"{MAX_TOML_CHARACTERS:,} characters"
        st.session_state.mine_problem = f"{name} has {file.size / 1e6:.1f} MB; the limit is {limit}."
        return
    try:
        text = file.getvalue().decode("utf-8-sig")
    except UnicodeDecodeError:
        st.session_state.mine_problem = f"{name} is not UTF-8 text. Save it as UTF-8."
        return
    try:
        found = keeping.read_kept(text, name)
    except ScenarioError as error:
        st.session_state.mine_problem = str(error)
        return
    _put_more(found)
    st.toast(literal(f"Read from {name}: {keeping.counts(found) or 'nothing'}."))


# Prices


def prices(scenario: Scenario) -> None:
    """Draw the table of prices: what differs from the published ones goes into the scenario."""
    table = price_table(scenario)
    changed = st.data_editor(
        table,
        key=f"in_prices_{st.session_state.get('prices_turn', 0)}",
        height=430,
        hide_index=True,
        placeholder="–",
        disabled=["Accelerator", SHEET],
        column_config={
            "id": None,
            "Accelerator": st.column_config.Column(
                help="The part in use comes first, then those that have a price."
            ),
            SHEET: st.column_config.NumberColumn(format="%.2f", help=SHEET_HELP),
            OWN: st.column_config.NumberColumn(
                format="%.2f", min_value=0.0, max_value=PRICE.high, step=0.01, help=OWN_HELP
            ),
        },
    )
    wanted = prices_in(changed)
    if wanted != scenario.prices:
        state.change(prices=wanted)
        st.session_state.prices_turn = st.session_state.get("prices_turn", 0) + 1
        shell.rerun_page()
    st.caption(
        "Per device and hour. In use on Frontier, Plan, Compare and all other pages as soon as they are "
        "typed; the link carries them. Keep them under a name to have them again."
    )
    if scenario.prices:
        st.button("Back to the published prices", key="in_prices_off", on_click=_no_prices, type="tertiary")


def price_table(scenario: Scenario) -> pd.DataFrame:
    """Return every accelerator with its published price and the scenario's own.

    The one in use comes first, then those with a price of one's own, then those with a published one.
    """
    own, parts = parse_prices(scenario.prices), catalogue.accelerators()
    used = scenario.accelerator
    order = sorted(
        parts, key=lambda name: (name != used, name not in own, parts[name].price_usd_per_hour is None)
    )
    parts = {name: parts[name] for name in order}
    return pd.DataFrame(
        {
            "id": list(parts),
            "Accelerator": [part.name for part in parts.values()],
            SHEET: [part.price_usd_per_hour for part in parts.values()],
            OWN: pd.array([own.get(name) for name in parts], dtype="Float64"),
        }
    )


def prices_in(table: pd.DataFrame) -> str:
    """Return the prices of an edited table as a scenario has them; an empty or zero field is none."""
    found = zip(table["id"], table[OWN], strict=True)
    return write_prices({name: float(price) for name, price in found if pd.notna(price) and price > 0})


def _no_prices() -> None:
    state.change(prices="")
    st.session_state.prices_turn = st.session_state.get("prices_turn", 0) + 1
