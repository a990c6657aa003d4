"""Controls of a view: what is shown, not what is simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import streamlit as st
from streamlit.elements.lib.mutable_tab_container import TabContainer

from sim_core import catalogue
from sim_core.scenario.link.page_settings import SETTINGS, choice_names
from sim_core.view.drawing.words import number
from sim_core.view.parts.controls import seed, with_value
from sim_core.view.session import shell, state, sweeps
from sim_core.view.session.browser import exact

# Above the chart


def above_chart(sweep: sweeps.Sweep, outside: bool) -> None:
    """Draw the row above the chart: what is shown, what tells the curves apart, the axes.

    `outside` says that points lie outside the axes, which stay where they are until asked to fit.
    """
    with st.container(horizontal=True, vertical_alignment="center"):
        views("show")
        if state.view("show") == "frontier":
            axes()
        if state.view("show") != "load":
            vary(sweep)
        if state.view("show") != "table":
            fit_button(outside)


def views(key: str, names: Mapping[str, str] | None = None, then: Callable[[], None] = lambda: None) -> None:
    """Draw the choice of a page setting, one button a choice: all of them, or those that have `names`.

    A move ends with `then`, as in `choose`.
    """
    names = names or choice_names(key)
    seed(f"in_{key}", state.view(key))
    st.segmented_control(
        SETTINGS[key].label,
        list(names),
        required=True,
        format_func=names.__getitem__,
        key=f"in_{key}",
        on_change=_write_view,
        args=(key, then),
        label_visibility="collapsed",
    )


def choose(
    key: str,
    names: Mapping[str, str] | None = None,
    named: bool = False,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Draw the choice of a page setting as a list, for more choices than buttons can hold.

    Its label is seen where it is `named`, for choices that do not say what they are of. A move ends with
    `then`, which may draw more anew than the page's answer.
    """
    names = names or choice_names(key)
    seed(f"in_{key}", state.view(key))
    st.selectbox(
        SETTINGS[key].label,
        list(names),
        format_func=names.__getitem__,
        key=f"in_{key}",
        on_change=_write_view,
        args=(key, then),
        label_visibility="visible" if named else "collapsed",
    )


def tabs(key: str) -> dict[str, TabContainer]:
    """Draw the choice of a page setting as tabs, for texts to read; return the tab of each choice."""
    names = choice_names(key)
    seed(f"in_{key}", names[state.view(key)])
    drawn = st.tabs(list(names.values()), key=f"in_{key}", on_change=partial(_write_tab, key))
    return dict(zip(names, drawn, strict=True))


def toggle(key: str, then: Callable[[], None] = lambda: None) -> None:
    """Draw the switch of a page setting that is `off` or `on`; a move ends with `then`, as in `choose`."""
    seed(f"in_{key}", state.view(key) == "on")
    info = SETTINGS[key]
    widget = f"in_{key}"
    st.toggle(info.label, key=widget, on_change=_write_toggle, args=(key, then), help=info.help or None)


def dial(
    key: str, steps: Iterable[float], format: Callable[[Any], str], label: str = "", help: str = ""
) -> None:
    """Draw the slider of a numeric page setting; a value between two steps is a step of its own.

    `label` and `help` are for settings that mean something else in each view.
    """
    value, info = state.view_number(key), SETTINGS[key]
    seed(f"in_{key}", value)
    st.select_slider(
        label or info.label,
        with_value(steps, value, format),
        format_func=format,
        key=f"in_{key}",
        on_change=_write_dial,
        args=(key,),
        help=help or info.help or None,
    )


FACTORS = tuple(float(f"{2 ** (octave / 4):.3g}") for octave in range(-8, 13))


def factor_slider(
    key: str, label: str, value: float, specs: Callable[[float], Mapping[str, float | None]]
) -> None:
    """Draw the slider of a multiple of the datasheet's figure, which `specs` turns into scenario keys."""
    value = float(f"{value:.3g}")
    seed(f"in_{key}", value)
    text = "{}×".format
    st.select_slider(
        label,
        with_value(FACTORS, value, lambda step: text(number(step))),
        key=f"in_{key}",
        format_func=lambda step: text(number(step)),
        on_change=_write_factor,
        args=(key, specs),
    )
    exact.typed_by(key, label, lambda factor: state.change(**specs(factor)), FACTORS[0], FACTORS[-1], "×")


def _write_factor(key: str, specs: Callable[[float], Mapping[str, float | None]]) -> None:
    state.change(**specs(st.session_state[f"in_{key}"]))
    shell.rerun_page()


def vary(sweep: sweeps.Sweep) -> None:
    """Draw the choice of what tells the curves apart."""
    options = [key for key in sweeps.VARY if key != sweep.along]
    seed("in_vary", sweep.by)
    st.selectbox(
        SETTINGS["vary"].label,
        options,
        format_func=lambda key: f"Curves by {sweeps.VARY[key]}",
        key="in_vary",
        on_change=_write_view,
        args=("vary",),
        label_visibility="collapsed",
        width=240,
    )
    if sweep.by == "accelerator":
        choose_accelerators(sweep.values, state.AMONG_LIMIT)


def choose_accelerators(values: Iterable[str], most: int, then: Callable[[], None] = lambda: None) -> None:
    """Draw the choice of accelerators that are compared; a move ends with `then`."""
    names = {name: part.name for name, part in catalogue.accelerators().items()}
    seed("in_among", list(values))
    st.multiselect(
        "Accelerators",
        list(names),
        format_func=names.__getitem__,
        key="in_among",
        on_change=_write_among,
        args=(then,),
        max_selections=most,
        label_visibility="collapsed",
        width=520,
    )


def axes() -> None:
    """Draw the menu of the axes: what they show, and their scales.

    In one menu, since the row above the chart has to leave the chart its place on a small screen.
    """
    words = "What the axes show, and their scales"
    with st.popover(
        "Axes", icon=":material/straighten:", help=words, key="in_axes_menu", on_change="rerun"
    ) as menu:
        if not menu.open:
            return
        choose("across", named=True)
        choose("up", named=True)
        scales()


def fit_button(outside: bool) -> None:
    """Draw the button that fits the axes to the points; it is bright where points lie outside."""
    st.button(
        "Fit: points lie outside" if outside else "Fit",
        icon=":material/fit_screen:",
        on_click=state.forget_frames,
        help="Fit the axes to the points",
        key="fit",
        type="primary" if outside else "secondary",
    )


def scales() -> None:
    """Draw the toggles of logarithmic axes."""
    scale = state.view("axes")
    seed("in_log_x", scale in ("log-x", "log"))
    seed("in_log_y", scale in ("log-y", "log"))
    st.toggle("log x", key="in_log_x", on_change=_write_axes)
    st.toggle("log y", key="in_log_y", on_change=_write_axes)


def _write_toggle(key: str, then: Callable[[], None]) -> None:
    state.set_view(key, "on" if st.session_state[f"in_{key}"] else "off")
    then()


def _write_dial(key: str) -> None:
    state.set_number(key, st.session_state[f"in_{key}"])


def _write_view(key: str, then: Callable[[], None] = lambda: None) -> None:
    state.set_view(key, st.session_state[f"in_{key}"])
    then()


def _write_tab(key: str) -> None:
    shown = st.session_state[f"in_{key}"]
    state.set_view(key, next(choice for choice, name in choice_names(key).items() if name == shown))


def _write_among(then: Callable[[], None]) -> None:
    state.set_view(state.AMONG, ",".join(st.session_state.in_among))
    then()


def _write_axes() -> None:
    names = {(False, False): "linear", (True, False): "log-x", (False, True): "log-y", (True, True): "log"}
    state.set_view("axes", names[st.session_state.in_log_x, st.session_state.in_log_y])
