"""The sidebar of the Traffic shift page: how traffic changes, what a move takes, who decides."""

from __future__ import annotations

import streamlit as st

from sim_core import catalogue
from sim_core.fields.errors import ScenarioError
from sim_core.questions.shift.cluster import REALLOCATIONS, reallocation_keys, reallocation_kind
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import Requests
from sim_core.traffic.trace_files.windows import WHOLE, Window
from sim_core.view.drawing.words import number, percent, quantity, span_words
from sim_core.view.parts import controls, pieces
from sim_core.view.parts.lengths import lengths, trace_upload, uploaded
from sim_core.view.parts.sidebar import (
    WORKERS,
    advanced,
    gallery_button,
    heading,
    limit_sliders_row,
    own_buttons,
    system_controls,
)
from sim_core.view.session import state

HOURS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 48.0)
DWELLS_S = (10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 21_600.0, 43_200.0)
LOADS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
ERRORS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
SECONDS = (0.0, 0.4, 1.0, 2.0, 2.5, 5.0, 10.0, 17.0, 26.0, 60.0, 120.0, 145.0, 300.0, 362.0, 600.0)
OTHER_ENDS = {
    "": "read much, answer briefly (4,000 → 50)",
    "8000~0.5/100~0.5": "long documents (8,000 → 100)",
    "200~0.5/500~0.5": "ask briefly, answer at length (200 → 500)",
    "500~0.5/2000~0.5": "reasoning (500 → 2,000)",
}
PAGE = "shift"  # whose trace it is
PLACES_BELOW = 12  # in which other traffic may have left a control
SAME = 0.005  # shares of requests that differ by less are the same


# The sidebar


def shift_sidebar(scenario: Scenario) -> None:
    """Draw the controls: the cluster, both ends of the traffic, what a move takes, how strategies decide."""
    with st.sidebar:
        gallery_button()
        own_buttons()
        system_controls(scenario)
        heading("Cluster")
        for key in ("prefill_workers", "decode_workers"):
            controls.ladder(key, WORKERS, number)
        st.caption("Only their sum counts here: strategies split it.")
        controls.ladder("max_batch", controls.POWERS[:12], number)
        heading("Traffic")
        controls.select("demand", ["markov", "daily", "step", "spike", "steady", "trace"])
        if scenario.demand == "trace":
            trace_upload(PAGE)
        else:
            lengths(scenario)
            _other_end(scenario)
        _how_it_changes(scenario)
        _reallocation(scenario)
        _deciding()
        advanced(scenario)
        pieces.nothing(PLACES_BELOW)


def _other_end(scenario: Scenario) -> None:
    """Draw the choice of the lengths at the other end of the change."""
    names = OTHER_ENDS | {f"{name}:1": item.title for name, item in catalogue.workloads().items()}
    own = scenario.mix_other
    options = list(names) if own in names else [*names, own]
    controls.select("mix_other", options, lambda value: names.get(value, value))


def _how_it_changes(scenario: Scenario) -> None:
    controls.ladder("demand_hours", HOURS, lambda value: quantity(value, "h"))
    if scenario.demand != "trace":
        controls.ladder("mix_swing_frac", (0.0, 0.25, 0.5, 0.75, 1.0), percent)
        controls.ladder("rate_swing_frac", (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6), percent)


def _reallocation(scenario: Scenario) -> None:
    """Draw what a move takes: a kind, and each phase."""
    heading("Moving a worker")
    own = reallocation_kind(scenario)
    names = {kind: name for kind, (name, _) in REALLOCATIONS.items()} | ({} if own else {"": "as set below"})
    controls.pick(
        "shift_kind",
        "What it means",
        list(names),
        names.__getitem__,
        own,
        lambda kind: kind and state.change(**reallocation_keys(kind)),
    )
    controls.select("drain")
    with st.expander("Phases", key="in_phases", on_change="rerun") as more:
        if more.open:
            for key in ("init_s", "warm_up_s", "sync_s"):
                controls.ladder(key, SECONDS, lambda value: quantity(value, "s"))
            steps = (0.5, 1.0, 2.0, 3.5, 5.0, 7.0, 10.0, 20.0, 50.0, 1e6)
            controls.ladder("storage_gb_per_s", steps, lambda value: quantity(value, "GB/s"))


def _deciding() -> None:
    heading("Deciding")
    controls.ladder("threshold_frac", (0.0, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1), percent)
    controls.ladder("hysteresis_frac", (0.0, 0.05, 0.1, 0.2, 0.3), percent)
    seconds = lambda value: quantity(value, "s")  # noqa: E731
    controls.ladder("cooldown_s", (0.0, 30.0, 60.0, 90.0, 120.0, 300.0, 600.0), seconds)
    controls.ladder("observe_s", (10.0, 30.0, 60.0, 120.0, 300.0, 600.0), seconds)
    controls.ladder("forecast_s", (5.0, 30.0, 60.0, 180.0, 300.0, 600.0, 1800.0), seconds)
    controls.ladder("control_s", (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0), seconds)


def own_window() -> Window:
    """Return which part of the visitor's trace is used."""
    known = uploaded(PAGE)
    return WHOLE if known is None else known.window


def own_trace(scenario: Scenario) -> Requests | None:
    """Return the visitor's trace where the traffic is to be one."""
    if scenario.demand != "trace":
        return None
    known = uploaded(PAGE)
    if known is None:
        raise ScenarioError("Upload a trace in the sidebar, or choose another kind of traffic.")
    return known.requests


def shift_dials(scenario: Scenario) -> None:
    """Draw the sliders beside the chart: load, speed of change, error of the forecast, limits."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        if scenario.demand_load_frac is not None:
            controls.ladder("demand_load_frac", LOADS, percent, on_page=True)
        elif scenario.demand != "trace":
            controls.ladder(
                "arrival_per_s", controls.RATES, lambda value: quantity(value, "req/s"), on_page=True
            )
        else:
            pieces.nothing()
        if scenario.demand in ("markov", "daily", "spike"):
            controls.ladder("dwell_s", DWELLS_S, span_words, on_page=True)
        else:
            pieces.nothing()
        controls.ladder("forecast_error_frac", ERRORS, percent, on_page=True)
    limit_sliders_row()
