"""The pieces of the Atlas page: what a large table of simulations holds, within limits.

One table comes with the product: models and accelerators, each at its best layouts, for some workloads.
A visitor may open one of their own, which `python -m sim_core sweep` has written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.questions.deployment.atlas import Atlas, HeatMap, filtered, heat_map, read_atlas
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.view.drawing.words import duration, literal, number
from sim_core.view.frontier.atlas.figures import (
    MEASURES,
    best_cell,
    cell_words_of,
    heat_figure,
    heat_sentence,
    height_px,
    label_of_key,
    words_of_key,
)
from sim_core.view.parts import actions, pieces
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.sidebar import limit_sliders_row
from sim_core.view.parts.views import views
from sim_core.view.session import state

READY = Path(__file__).parents[4] / "presets" / "atlas.parquet"
READY_NAME = "the table of the product"
ANY = "the best of all"
CHOICE_PX = 176  # width of a list: two fit beside one another on a phone


def show(scenario: Scenario) -> None:
    """Show the map of the table that was opened, or of the one that comes with the product."""
    try:
        atlas = _own() or ready()
    except ScenarioError as error:
        pieces.say_why(error)
        _intake()
        return
    answer = st.container()
    x, y = _axes(atlas)
    kept = filtered(atlas, _filters(atlas, (x, y)))
    metric = state.view("atlas_metric")
    found = heat_map(kept, x, y, metric, scenario.slo_ttft_ms, scenario.slo_tpot_ms)
    with answer:
        pieces.say(_finding(found, x, y, metric, atlas.scenario, scenario), _about(atlas))
    views("atlas_metric")
    limit_sliders_row()
    heading = Heading(f"{label_of_key(y)} by {label_of_key(x).lower()}", _within(atlas.scenario, scenario))
    chart(
        heat_figure(found, x, y, metric),
        "atlas",
        heat_sentence(found, x, y, metric),
        height_px(found),
        heading,
    )
    _cell(kept, found, (x, y), metric)
    _intake()
    rows = _rows(found, x, y, metric)
    varied = {key: tuple(atlas.values(key)) for key in (y, x)}
    command = command_for(atlas.scenario, "sweep", vary=varied)
    actions.take_away("atlas", actions.table_files(rows, "atlas"), f"{command} --out table.parquet")


@cache
def ready() -> Atlas:
    """Return the table that comes with the product."""
    return read_atlas(READY, READY_NAME)


def _own() -> Atlas | None:
    return st.session_state.get("own_atlas")


def _axes(atlas: Atlas) -> tuple[str, str]:
    """Return the keys across and down: those chosen, else accelerator and model, else the first two.

    What is down stays there when another key is put across.
    """
    usual = [key for key in ("accelerator", "model") if key in atlas.keys]
    order = [*usual, *(key for key in atlas.keys if key not in usual)]
    with st.container(horizontal=True):
        x = _choose("Across", order, f"atlas_x_{atlas.name}")
        others, before = [key for key in order if key != x], f"atlas_down_{atlas.name}"
        y = _choose("Down", others, f"atlas_y_{atlas.name}_{x}", st.session_state.get(before))
        st.session_state[before] = y
    return x, y


def _choose(label: str, keys: Sequence[str], name: str, first: str | None = None) -> str:
    place = keys.index(first) if first in keys else 0
    return str(st.selectbox(label, keys, place, format_func=label_of_key, key=name, width=CHOICE_PX))


def _filters(atlas: Atlas, axes: tuple[str, str]) -> Mapping[str, Any]:
    """Draw a choice for every other key; return those that are set."""
    found: dict[str, Any] = {}
    others = [key for key in atlas.keys if key not in axes]
    with st.container(horizontal=True):
        for key in others:
            words = words_of_key(key)
            values = [None, *atlas.values(key)]
            first = 1 if key == "mix" else 0  # workloads are not compared with one another
            value = st.selectbox(
                label_of_key(key),
                values,
                index=first,
                format_func=partial(_choice, words),
                key=f"atlas_only_{atlas.name}_{key}",
                width=CHOICE_PX,
            )
            if value is not None:
                found[key] = value
    return found


def _choice(words: Callable[[Any], str], value: Any) -> str:
    return ANY if value is None else words(value)


def _finding(found: HeatMap, x: str, y: str, metric: str, swept: Scenario, asked: Scenario) -> str:
    best = best_cell(found)
    if best is None:
        return f"No cell keeps {_within(swept, asked)}. Loosen a limit."
    i, j = best
    return (
        f"Within {_within(swept, asked)} the most {MEASURES[metric].unit} come from "
        f"{words_of_key(y)(found.y[i])} on {words_of_key(x)(found.x[j])}: {number(found.value[i, j])}."
    )


def _within(swept: Scenario, asked: Scenario) -> str:
    percentile = f"p{number(swept.slo_percentile)}"
    ttft, tpot = duration(asked.slo_ttft_ms), duration(asked.slo_tpot_ms)
    return f"{percentile} limits of {ttft} to the first token and {tpot} a token"


def _about(atlas: Atlas) -> str:
    return (
        f"{counted(len(atlas.table), 'simulation')} in {literal(atlas.name)}. A cell is the best of them "
        "within the limits; stronger is better, an empty one has none."
    )


# --- one cell ---------------------------------------------------------------------------------------


def _cell(atlas: Atlas, found: HeatMap, axes: tuple[str, str], metric: str) -> None:
    """Show one cell, at first the best: its setting and figures, and the way to its frontier."""
    x, y = axes
    i, j = best_cell(found) or (0, 0)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        down = _pick(y, found.y, i, f"atlas_row_{atlas.name}_{y}")
        across = _pick(x, found.x, j, f"atlas_column_{atlas.name}_{x}")
        place = found.y.index(down), found.x.index(across)
        row = int(found.row[place])
        if row >= 0:
            st.button(
                "Use this setting",
                key="atlas_use",
                icon=":material/check:",
                on_click=_use,
                args=(atlas, row),
                help="Sets the model, the accelerator and all that the table varied for all pages.",
            )
    if row < 0:
        st.caption(
            f"{cell_words_of(found, *place, metric)[:1].upper()}{cell_words_of(found, *place, metric)[1:]}."
        )
        return
    point = atlas.table.iloc[row]
    heads = [
        *(label_of_key(key) for key in atlas.keys if key not in axes),
        "tok/s per acc.",
        "tok/s per user",
    ]
    cells = [words_of_key(key)(point[key]) for key in atlas.keys if key not in axes]
    cells += [number(point["output_tok_per_s_per_accelerator"]), number(point["tok_per_s_per_user"])]
    for name, title in (("slo_ttft_ms_reached", "TTFT"), ("slo_tpot_ms_reached", "TPOT")):
        heads.append(title)
        cells.append(duration(point[name]))
    heads += ["USD per Mtok", "J per token"]
    cells += [number(point["usd_per_mtok"]), number(point["joule_per_tok"])]
    line = (f"{words_of_key(y)(down)} on {words_of_key(x)(across)}", cells)
    pieces.table("The best of this cell", heads, [line], scroll=True)


def _pick(key: str, values: list[Any], first: int, name: str) -> Any:
    return st.selectbox(
        label_of_key(key), values, index=first, format_func=words_of_key(key), key=name, width=260
    )


def _use(atlas: Atlas, row: int) -> None:
    found = atlas.scenario_of(row)
    own = {key: value for key, value in found.as_dict().items() if key not in (*LIMITS, "requests")}
    if state.change(**own):
        st.toast("All pages show this setting now.")


LIMITS = tuple(key for key, info in FIELDS.items() if info.group == "limits")


def _rows(found: HeatMap, x: str, y: str, metric: str) -> list[dict[str, Any]]:
    """Return the cells as rows to take away."""
    return [
        {
            y: found.y[i],
            x: found.x[j],
            MEASURES[metric].unit: float(found.value[i, j]),
            "reason": REASONS_ROW.get(str(found.reason[i, j]), ""),
        }
        for i, j in np.ndindex(found.value.shape)
    ]


REASONS_ROW = {"absent": "absent", "impossible": "impossible", "limits": "beyond the limits"}


# --- a table of one's own ---------------------------------------------------------------------------


def _intake() -> None:
    """Draw the place for a table, or the way back from one."""
    problem = st.session_state.pop("atlas_problem", "")
    if problem:
        st.error(literal(problem), icon=":material/error:")
    with st.expander("Open a table of your own"):
        if _own():
            st.button("Back to the table of the product", key="atlas_back", on_click=_forget)
            return
        st.file_uploader(
            "A Parquet file that `python -m sim_core sweep` has written",
            type=["parquet"],
            key="atlas_file",
            on_change=_take_in,
            help="Read in memory, never stored.",
        )


def _take_in() -> None:
    file = st.session_state.get("atlas_file")
    if file is None:
        return
    try:
        st.session_state.own_atlas = read_atlas(file.getvalue(), file.name[:60])
    except ScenarioError as error:
        st.session_state.atlas_problem = str(error)


def _forget() -> None:
    st.session_state.pop("own_atlas", None)
