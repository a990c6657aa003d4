"""The work behind the Traffic shift page: what is known, what is still being worked out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sim_core.engine import work
from sim_core.fields.texts import counted
from sim_core.questions.shift import cost
from sim_core.questions.shift.study import STRATEGIES, Outcome, Study
from sim_core.scenario.link.write import command_for, to_query
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of, model_of
from sim_core.view.drawing.words import duration, number, percent, quantity, span_words
from sim_core.view.parts import pieces
from sim_core.view.parts.chart import Heading
from sim_core.view.session import shell, state
from sim_core.view.shift.sidebar import own_trace, own_window

REDRAWN_S = 0.7  # between two drawings of the page while things are worked out
PLACES_BELOW = 6  # in which a view with more to show may have left something


class Job(NamedTuple):
    """Something to work out: what it is called, how far one is with it, and the work."""

    name: str
    done: float
    total: int
    work: Callable[[Callable[[float], None]], Any]


def do_work(next_job: Callable[[], Job | None]) -> None:
    """Work on what is left for some time, with a stop button; then draw the page again."""
    job = next_job()
    if job is None:
        return
    key = hash((to_query(st.session_state.scenario), state.view("shift"), state.view("strategy")))
    if st.session_state.get("shift_stopped") == key or (
        is_cut() and st.session_state.get("shift_goes_on") != key
    ):
        st.button("Go on", icon=":material/play_arrow:", on_click=_go_on, args=(key,), key="shift_go_on")
        st.caption("Stopped: not everything has been worked out.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0)
        st.button("Stop", icon=":material/stop:", on_click=_stop, args=(key,), key="shift_stop")
    pieces.nothing(PLACES_BELOW)
    until_s = time.monotonic() + REDRAWN_S
    while job and time.monotonic() < until_s:
        job.work(is_shown(bar, job))
        job = next_job()
    shell.draw_answer_again()


def is_shown(bar: DeltaGenerator, job: Job) -> Callable[[float], None]:
    """Return what shows a job's progress; each time it shows some, a newer move may interrupt the work."""
    shown = -1

    def progress(done_frac: float) -> None:
        nonlocal shown
        step = int(20 * done_frac)
        if step != shown:
            shown = step
            bar.progress(min((job.done + done_frac) / job.total, 1.0), text=job.name)

    progress(0.0)
    return progress


def is_cut() -> bool:
    """Return whether the view leaves out hours of the traffic: then the rest waits until it is asked for."""
    given = work.allowance()
    return given is not None and any(unit == "hours" for unit, _ in given.cuts)


def _stop(key: int) -> None:
    st.session_state.shift_stopped = key


def _go_on(key: int) -> None:
    st.session_state.pop("shift_stopped", None)
    st.session_state.shift_goes_on = key


def shift_titles(study: Study, what: str) -> Heading:
    scenario = study.scenario
    model, part = model_of(scenario), accelerator_of(scenario)
    return Heading(
        f"{what}: {model.name} on {scenario.accelerators} × {part.name}",
        f"{traffic_words(study)}, TTFT within {duration(scenario.slo_ttft_ms)}, TPOT within "
        f"{duration(scenario.slo_tpot_ms)} · simulated",
    )


def known_outcome(study: Study) -> dict[str, Outcome]:
    """Return the outcomes that are known, in the order of `STRATEGIES`."""
    found = {name: study.known(name) for name in STRATEGIES}
    return {name: outcome for name, outcome in found.items() if outcome is not None}


def first_work(study: Study, names: Sequence[str]) -> None:
    """Work out what a view cannot do without."""
    place = st.empty()
    names = [name for name in dict.fromkeys(names) if study.known(name) is None]
    if not names:
        return
    bar = place.progress(0.0)
    for done, name in enumerate(names):
        job = job_of(study, name, done, len(names))
        job.work(is_shown(bar, job))
    place.empty()


def rest_of_work(study: Study) -> Job | None:
    """Return the next strategy to work out; None when all are known."""
    missing = [name for name in STRATEGIES if study.known(name) is None]
    if not missing:
        return None
    return job_of(study, missing[0], len(STRATEGIES) - len(missing), len(STRATEGIES))


def job_of(study: Study, name: str, done: int, total: int) -> Job:
    return Job(STRATEGIES[name], done, total, lambda progress: study.outcome(name, progress))


def study_of(scenario: Scenario) -> Study:
    with st.spinner("Drawing the traffic…", show_time=False):
        return cost.study(scenario, own_trace(scenario))


def load_caption(study: Study) -> None:
    scenario = study.scenario
    load = (
        f"A load of {percent(scenario.demand_load_frac)} means that the traffic needs that share of the "
        f"{study.workers} workers at every moment, if they were split as it wants. "
        if scenario.demand_load_frac is not None
        else ""
    )
    st.caption(
        f"{load}Hatched: workers on their way, which serve nobody and cost money. The reactive strategy sees "
        "the lengths of answers as they turn out. "
        f"The rule: move when the busier pool is loaded above {percent(scenario.threshold_frac)} and "
        f"another split lowers that by {percent(scenario.hysteresis_frac)}."
    )


# Commands


def command_of(study: Study, name: str) -> str:
    whole = study.scenario.replace(demand_hours=st.session_state.scenario.demand_hours)
    command = command_for(whole, "shift", trace="FILE" if study.trace is not None else "")
    command += own_window().options if study.trace is not None else ""
    return command if name == "all" else f"{command} --strategy {name}"


def traffic_words(study: Study) -> str:
    """Return what the traffic is, in a few words."""
    scenario, count = study.scenario, len(study.demand.requests)
    mean = count / study.duration_s
    words = f"{counted(count, 'request')} in {span_words(study.duration_s)}, {quantity(mean, 'req/s')}"
    if scenario.demand == "trace":
        copies = study.demand.copies
        return f"{words}" + (f", each of the trace counts {number(copies)} times" if copies != 1 else "")
    if scenario.demand in ("markov", "daily"):
        what = "switching every" if scenario.demand == "markov" else "half a cycle in"
        return f"{words}, {what} {span_words(scenario.dwell_s)}"
    return f"{words}, {FIELDS['demand'].label_of(scenario.demand)}"
