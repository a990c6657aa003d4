"""The Gallery page: all ready scenarios as cards, to open or to link to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sim_core import catalogue
from sim_core.fields.described import fields_of
from sim_core.scenario.ready import ScenarioPreset, ready_scenarios
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.view.drawing.templates import render
from sim_core.view.learn import thumbnails
from sim_core.view.parts import buttons, pieces
from sim_core.view.session import shell, state, sweeps

COLUMNS = 3
AUDIENCE = fields_of(ScenarioPreset)["audience"]


def show() -> None:
    """Show the cards at once, and then the pictures, one after the other."""
    pieces.say(
        "Each ready scenario is a starting point with something to find. Every control stays yours.",
        "Pictures show each scenario's own curve as simulated, or how its traffic shifts. Shaded is where "
        "each token comes within its limit; filled points keep all limits, and the best of them is ringed.",
    )
    found = _filtered(list(ready_scenarios().values()))
    if not found:
        st.caption("No ready scenario has these words, or is of this kind.")
    slots = []
    for page in (title for _, title in shell.PAGES):
        group = [preset for preset in found if preset.page == page]
        group.sort(key=lambda preset: preset.build() != Scenario())  # the default one is the first stop
        if group:
            st.subheader(page, anchor=False)
            slots += _cards(group)
    _draw(slots)


class Filter(NamedTuple):
    """What ready scenarios are chosen by: its key, its label, and a scenario's value with its name."""

    key: str
    label: str
    of: Callable[[ScenarioPreset], tuple[str, str]]


KINDS = (
    Filter("model", "Model", lambda preset: (preset.build().model, model_of(preset.build()).name)),
    Filter(
        "accelerator",
        "Accelerator",
        lambda preset: (preset.build().accelerator, catalogue.accelerator(preset.build().accelerator).name),
    ),
    Filter("audience", "For", lambda preset: (preset.audience, AUDIENCE.label_of(preset.audience))),
)


def _filtered(ready: Sequence[ScenarioPreset]) -> list[ScenarioPreset]:
    """Draw the filters, and return the scenarios that they leave."""
    columns = st.columns([2, 1, 1, 1])
    with columns[0]:
        words = st.text_input("Words", key="page_filter", placeholder="of the title or the story")
    found = matching(ready, words)
    for column, kind in zip(columns[1:], KINDS, strict=True):
        with column:
            wanted = _one_of(kind, ready)
        found = [preset for preset in found if wanted in ("", kind.of(preset)[0])]
    return found


def _one_of(kind: Filter, ready: Sequence[ScenarioPreset]) -> str:
    """Draw the choice of one value of a kind, and return it; "" for all."""
    names: dict[str, str] = dict(sorted((kind.of(preset) for preset in ready), key=lambda pair: pair[1]))
    options: list[str] = ["", *names]
    chosen = st.selectbox(
        kind.label,
        options,
        format_func=lambda value: names.get(value, "all"),
        key=f"page_filter_{kind.key}",
    )
    return chosen or ""


def matching(ready: Sequence[ScenarioPreset], words: str) -> list[ScenarioPreset]:
    """Return the scenarios whose texts hold all the words, in any order and case."""
    wanted = words.lower().split()
    return [
        preset
        for preset in ready
        if all(word in f"{preset.id} {preset.title} {preset.story} {preset.page}".lower() for word in wanted)
    ]


def _cards(group: Sequence[ScenarioPreset]) -> list[tuple[ScenarioPreset, DeltaGenerator]]:
    """Draw the cards of a page's scenarios, and return the places of their pictures."""
    slots = []
    for start in range(0, len(group), COLUMNS):
        columns = st.columns(COLUMNS)
        for column, preset in zip(columns, group[start : start + COLUMNS], strict=False):
            with column.container(border=True, height="stretch"):
                slots.append((preset, st.empty()))
                _card(preset)
    return slots


def _card(preset: ScenarioPreset) -> None:
    """Draw what a card says, and what can be done with it."""
    st.markdown(f"**{preset.title}**  \n{preset.story}")
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Open", key=f"ready_{preset.id}"):
            state.replace(preset.build())
            if preset.view:
                state.set_view(*preset.view.split("=", 1))
            shell.open_page(preset.page)
        view = f"&{preset.view}" if preset.view else ""
        buttons.copy_link(f"{shell.address_of(preset.page)}?preset={preset.id}{view}", f"copy_{preset.id}")
    st.caption(f"`?preset={preset.id}`")


def _draw(slots: Sequence[tuple[ScenarioPreset, DeltaGenerator]]) -> None:
    """Fill the pictures in: first those known, then one by one as they are simulated."""
    unknown = []
    for preset, slot in slots:
        if preset.page == "Traffic shift":
            _picture(preset, slot, thumbnails.change_svg(preset.build()))
        elif svg := thumbnails.known_thumbnail(preset.build()):
            _picture(preset, slot, svg)
        else:
            slot.html(render("learn/no_picture.html"))
            unknown.append((preset, slot))
    if unknown and not sweeps.is_ready():
        sweeps.prepare()
        _come_back()
        return
    for preset, slot in unknown:
        _picture(preset, slot, thumbnails.of(preset.build()))


@st.fragment(run_every=1)
def _come_back() -> None:
    """Draw the page again once the kernels are compiled; a run that waited would keep old cards in place."""
    if sweeps.is_ready():
        st.rerun()


def _picture(preset: ScenarioPreset, slot: DeltaGenerator, svg: str) -> None:
    with slot:
        thumbnails.draw_thumbnail(svg, f"curve_{preset.id}")
