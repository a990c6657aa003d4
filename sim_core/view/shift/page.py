"""The pieces of the Traffic shift page: does splitting the phases survive traffic that changes?

Strategies take up to some seconds each. The page draws what is known, works on the next thing with a progress
bar, and draws itself again; the visitor's next move, or the stop button, interrupts the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import streamlit as st

from sim_core import catalogue
from sim_core.fields.errors import ScenarioError
from sim_core.questions.shift.cluster import (
    REALLOCATIONS,
    kind_of,
    phases_s,
    reallocation_keys,
    reallocation_s,
)
from sim_core.questions.shift.report import decision_rows, summary_row, timeline_rows
from sim_core.questions.shift.study import STRATEGIES, Outcome, Study, brought_by, plain
from sim_core.questions.shift.volatility import SWEEP, SWEEP_DWELLS, break_even, sweep_row
from sim_core.scenario.link.write import command_for, to_query
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.sweep.remembered import Remembered
from sim_core.traffic.traces import MAX_UPLOAD_BYTES, read_trace
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.parts import actions, controls, pieces, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.session import shell, state, sweeps
from sim_core.view.shift import figures as shift_figures

VIEWS = {"time": "Over time", "strategies": "All strategies", "pays": "When adapting pays"}
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
SAME = 0.005  # shares of requests that differ by less are the same
MOST_DECISIONS = 40  # whose worth is worked out


# The sidebar


def sidebar(scenario: Scenario) -> None:
    """Draw the controls: the cluster, both ends of the traffic, what a move takes, how strategies decide."""
    with st.sidebar:
        controls.gallery_button()
        controls.system(scenario)
        controls.heading("Cluster")
        for key in ("prefill_workers", "decode_workers"):
            controls.ladder(key, controls.WORKERS, number)
        st.caption("Only their sum counts here: strategies split it.")
        controls.ladder("max_batch", controls.POWERS[:12], number)
        controls.heading("Traffic")
        controls.select("demand", ["markov", "daily", "step", "spike", "steady", "trace"])
        if scenario.demand == "trace":
            _upload()
        else:
            controls.lengths(scenario)
            _other_end(scenario)
        _how_it_changes(scenario)
        _reallocation(scenario)
        _deciding()
        controls.limits()
        controls.advanced(scenario)


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


def _upload() -> None:
    """Draw the field for a trace; the trace stays in the session."""
    file = st.file_uploader(
        "Trace", type=["csv", "jsonl", "txt"], key="in_shift_file",
        help="Azure CSV, Mooncake JSON lines, or arrival_s,prompt_tokens,output_tokens. Up to 5 MB; it stays "
        "in this session's memory.",
    )  # fmt: skip
    if file is None:
        return
    known = st.session_state.get("shift_trace")
    if known is None or known[0] != file.file_id:
        try:
            trace = read_trace(file.getvalue(), file.name, MAX_UPLOAD_BYTES)
        except ScenarioError as error:
            st.error(str(error))
            return
        st.session_state.shift_trace = (file.file_id, trace)
    trace = st.session_state.shift_trace[1]
    st.caption(f"{trace.name}: {len(trace):,} requests." + "".join(f" {note}" for note in trace.notes))


def _reallocation(scenario: Scenario) -> None:
    """Draw what a move takes: a kind, and each phase."""
    controls.heading("Moving a worker")
    own = kind_of(scenario)
    names = {kind: name for kind, (name, _) in REALLOCATIONS.items()} | ({} if own else {"": "as set below"})
    controls.pick(
        "shift_kind", "What it means", list(names), names.get, own,
        lambda kind: kind and state.change(**reallocation_keys(kind)),
    )  # fmt: skip
    controls.select("drain")
    with st.expander("Phases", key="in_phases", on_change="rerun") as more:
        if more.open:
            for key in ("init_s", "warm_up_s", "sync_s"):
                controls.ladder(key, SECONDS, lambda value: quantity(value, "s"))
            steps = (0.5, 1.0, 2.0, 3.5, 5.0, 7.0, 10.0, 20.0, 50.0, 1e6)
            controls.ladder("storage_gb_per_s", steps, lambda value: quantity(value, "GB/s"))


def _deciding() -> None:
    controls.heading("Deciding")
    controls.ladder("threshold_frac", (0.0, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1), percent)
    controls.ladder("hysteresis_frac", (0.0, 0.05, 0.1, 0.2, 0.3), percent)
    seconds = lambda value: quantity(value, "s")  # noqa: E731
    controls.ladder("cooldown_s", (0.0, 30.0, 60.0, 90.0, 120.0, 300.0, 600.0), seconds)
    controls.ladder("observe_s", (10.0, 30.0, 60.0, 120.0, 300.0, 600.0), seconds)
    controls.ladder("forecast_s", (5.0, 30.0, 60.0, 180.0, 300.0, 600.0, 1800.0), seconds)
    controls.ladder("control_s", (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0), seconds)


# The page


def show(scenario: Scenario) -> None:
    """Show the view that was asked for; where it cannot be, the controls and the reason."""
    controls.views("shift", VIEWS)
    sweeps.wait_until_ready()
    view = {"time": over_time, "pays": pays, "strategies": all_strategies}[state.view("shift")]
    try:
        view(scenario)
    except ScenarioError as error:
        pieces.say(str(error))
        _dials(scenario)


def _trace(scenario: Scenario) -> Any:
    """Return the visitor's trace where the traffic is to be one."""
    if scenario.demand != "trace":
        return None
    known = st.session_state.get("shift_trace")
    if known is None:
        raise ScenarioError("Upload a trace in the sidebar, or choose another kind of traffic.")
    return known[1]


def _dials(scenario: Scenario) -> None:
    """Draw the sliders beside the chart: strategy, load, speed of change, error of the forecast."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        if scenario.demand_load_frac is not None:
            controls.ladder("demand_load_frac", LOADS, percent, on_page=True)
        elif scenario.demand != "trace":
            controls.ladder(
                "arrival_per_s", controls.RATES, lambda value: quantity(value, "req/s"), on_page=True
            )
        if scenario.demand in ("markov", "daily", "spike"):
            controls.ladder("dwell_s", DWELLS_S, _span, on_page=True)
        controls.ladder("forecast_error_frac", ERRORS, percent, on_page=True)
    controls.own_limits_row()


def _span(value_s: float) -> str:
    """Return a stretch of time in the unit that people say it in."""
    if value_s < 120:
        return quantity(value_s, "s")
    return quantity(value_s / 60, "min") if value_s < 7200 else quantity(value_s / 3600, "h")


class Job(NamedTuple):
    """Something to work out: what it is called, how far one is with it, and the work."""

    name: str
    done: float
    total: int
    work: Callable[[Callable[[float], None]], Any]


def _work(job: Job) -> None:
    """Work on something, with a stop button; then draw the page again."""
    key = hash((to_query(st.session_state.scenario), state.view("shift"), state.view("strategy")))
    if st.session_state.get("shift_stopped") == key:
        st.button("Go on", icon=":material/play_arrow:", on_click=_go_on, key="shift_go_on")
        st.caption("Stopped: not everything has been worked out.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0)
        st.button("Stop", icon=":material/stop:", on_click=_stop, args=(key,), key="shift_stop")
    job.work(_shown_on(bar, job))
    shell.draw_answer_again()


def _shown_on(bar: Any, job: Job) -> Callable[[float], None]:
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


def _stop(key: int) -> None:
    st.session_state.shift_stopped = key


def _go_on() -> None:
    st.session_state.pop("shift_stopped", None)


def _titles(study: Study, what: str) -> dict[str, str]:
    scenario = study.scenario
    model, part = model_of(scenario), accelerator_of(scenario)
    return {
        "title": f"{what}: {model.name} on {scenario.accelerators} × {part.name}",
        "subtitle": f"{_traffic_words(study)}, TTFT within {duration(scenario.slo_ttft_ms)}, TPOT within "
        f"{duration(scenario.slo_tpot_ms)} · simulated",
    }


def _traffic_words(study: Study) -> str:
    """Return what the traffic is, in a few words."""
    scenario, mean = study.scenario, study.demand.arrival_s.size / study.duration_s
    words = (
        f"{study.demand.arrival_s.size:,} requests in {_span(study.duration_s)}, {quantity(mean, 'req/s')}"
    )
    if scenario.demand == "trace":
        copies = study.demand.copies
        return f"{words}" + (f", each of the trace counts {number(copies)} times" if copies != 1 else "")
    if scenario.demand in ("markov", "daily"):
        what = "switching every" if scenario.demand == "markov" else "half a cycle in"
        return f"{words}, {what} {_span(scenario.dwell_s)}"
    return f"{words}, {controls.CHOICES[scenario.demand]}"


def _known(study: Study) -> dict[str, Outcome]:
    """Return the outcomes that are known, in the order of `STRATEGIES`."""
    found = {name: study.known(name) for name in STRATEGIES}
    return {name: outcome for name, outcome in found.items() if outcome is not None}


def _first(study: Study, names: Sequence[str]) -> None:
    """Work out what a view cannot do without."""
    names = [name for name in dict.fromkeys(names) if study.known(name) is None]
    if not names:
        return
    bar = st.progress(0.0)
    for place, name in enumerate(names):
        job = _job(study, name, place, len(names))
        job.work(_shown_on(bar, job))
    bar.empty()


def _rest(study: Study) -> Job | None:
    """Return the next strategy to work out; None when all are known."""
    missing = [name for name in STRATEGIES if study.known(name) is None]
    if not missing:
        return None
    return _job(study, missing[0], len(STRATEGIES) - len(missing), len(STRATEGIES))


def _job(study: Study, name: str, done: int, total: int) -> Job:
    return Job(STRATEGIES[name], done, total, lambda progress: study.outcome(name, progress))


# What the strategies make of it


def finding(study: Study, known: Mapping[str, Outcome]) -> str:
    """Return in a sentence or two what adapting brings here."""
    fixed = known["fixed"].attainment_frac
    adaptive = [name for name in ("reactive", "predictive") if name in known]
    text = f"A fixed split keeps both limits for {percent(fixed)} of the requests"
    if adaptive:
        best = max(adaptive, key=lambda name: known[name].attainment_frac)
        share = known[best].attainment_frac
        verb = "adapting pays" if share > fixed + SAME else "adapting hurts" if share < fixed - SAME else ""
        how = "the reactive strategy" if best == "reactive" else "the predictive strategy"
        text += f"; {verb + ': ' if verb else ''}{how} for {percent(share)}"
        text += " too" if not verb else ""
    text += "."
    hindsight = known["hindsight"].attainment_frac if "hindsight" in known else fixed
    if hindsight > fixed + SAME:
        text = text.replace(
            "A fixed split keeps",
            f"The fixed split for the mean (another one would reach {percent(hindsight)}) keeps",
        )
    if "one_pool" in known:
        one = known["one_pool"].attainment_frac
        most = max(known[name].attainment_frac for name in ("fixed", *adaptive))
        how = "more" if one > most + SAME else "as much" if one > most - SAME else "less"
        text += f" One pool without a split serves {how}: {percent(one)}."
    if "free" in known and "oracle" in known:
        oracle, free = known["oracle"].attainment_frac, known["free"].attainment_frac
        if free - oracle > SAME:
            text += f" Perfect foresight would reach {percent(oracle)}, and free moves {percent(free)}."
    return text


def move_words(scenario: Scenario) -> str:
    """Return what a move takes, phase by phase."""
    phases = ", ".join(f"{name} {quantity(value, 's')}" for name, value in phases_s(scenario).items())
    drain = "finished its requests" if scenario.drain == "finish" else "sent its requests away"
    away = _span(reallocation_s(scenario))
    return f"A worker that moves serves nobody for {away} after it has {drain}: {phases}."


def over_time(scenario: Scenario) -> None:
    """Show one strategy over time, and its moves."""
    study = _study(scenario)
    name = state.view("strategy")
    _first(study, [name, "fixed"])
    known = _known(study)
    outcome = known[name]
    pieces.say(finding(study, known), move_words(study.scenario))
    trust_badge.badge(study.scenario)
    with st.container(width=300):
        controls.choose("strategy", STRATEGIES, "Strategy")
    _dials(scenario)
    chart(
        shift_figures.over_time(study, outcome, known["fixed"]), "over_time",
        shift_figures.over_time_sentence(study, outcome), height=640, export=(1100, 760),
        **_titles(study, STRATEGIES[name]),
    )  # fmt: skip
    comparison(study, known)
    _caption(study)
    worth = moves(study, outcome)
    rows = timeline_rows(study, outcome)
    actions.take_away(
        "over_time", actions.table_files(rows, f"shift-{name}", study.scenario), _command(study, name)
    )
    job = _rest(study) or worth
    if job:
        _work(job)


def _study(scenario: Scenario) -> Study:
    with st.spinner("Drawing the traffic…", show_time=False):
        return Study(scenario, _trace(scenario))


def _caption(study: Study) -> None:
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


def comparison(study: Study, known: Mapping[str, Outcome]) -> None:
    """Show what all strategies make of the same requests, as a table."""
    heads = ["Within limits", "Goodput", "TTFT p99", "TPOT p99", "Moves", "Away"]
    lines = []
    for name, title in STRATEGIES.items():
        item = known.get(name)
        if item is None:
            lines.append((title, ["…"] * len(heads)))
            continue
        row = summary_row(study, item)
        hours = row["accelerator_hours_away"]
        gain = row["benefit_frac"]
        mark = ""
        if name != "fixed" and abs(gain) > SAME:
            kind, sign = ("bs-good", "+") if gain > 0 else ("bs-bad", "−")
            mark = f' <small class="{kind}">{sign}{number(100 * abs(gain), 2)} points</small>'
        lines.append(
            (title, [
                escape(percent(row["slo_attainment_frac"])) + mark,
                escape(quantity(row["goodput_per_s"], "req/s")),
                escape(duration(row["ttft_ms_p99"])), escape(duration(row["tpot_ms_p99"])),
                escape(number(row["moves"])) if item.spans else "–",
                escape(quantity(round(hours, 4), "device-h")) if item.spans else "–",
            ])
        )  # fmt: skip
    pieces.table("The same requests under every strategy", heads, lines, scroll=True)


def moves(study: Study, outcome: Outcome) -> Job | None:
    """Show every decision to move, its cost and whether it paid; return what is still to be worked out."""
    if not outcome.decisions:
        if outcome.spans:
            st.caption("Nobody moved.")
        return None
    rows = decision_rows(study, outcome)
    worth = _worth(study, outcome)
    lines = []
    for number_, row in enumerate(rows):
        gained = worth.get(number_)
        lines.append((shift_figures.when(row["time_s"]), _move_cells(row, gained, study)))
    heads = ["Split", "Gave up work in", "Back after", "Away", "Cost", "Brought"]
    with st.expander(
        f"Every move ({len(outcome.moves)} workers in {len(rows)} decisions)", expanded=len(rows) <= 12
    ):
        pieces.table("Decisions to move, by time", heads, lines, scroll=True)
        st.caption(
            "Brought: requests within the limits over the whole time, against the same run without this one "
            "decision."
        )
    missing = [place for place in range(min(len(rows), MOST_DECISIONS)) if place not in worth]
    if not missing:
        return None
    place = missing[0]

    def work(progress: Callable[[float], None]) -> None:
        worth[place] = brought_by(study, outcome, place, progress)

    total = min(len(rows), MOST_DECISIONS)
    return Job("What each move brought", total - len(missing), total, work)


def _move_cells(row: Mapping[str, Any], gained: int | None, study: Study) -> list[str]:
    before, after, workers = row["prefill_workers_before"], row["prefill_workers_after"], study.workers
    if gained is None:
        brought = "…"
    else:
        kind = "bs-good" if gained > 0 else "bs-bad"
        brought = (
            f'<span class="{kind}">{"+" if gained > 0 else "−"}{abs(gained):,}</span>' if gained else "0"
        )
    back = row["ready_after_s"]
    return [
        f"{before}P{workers - before}D → {after}P{workers - after}D",
        escape(_seconds(row["drained_after_s"])), escape(_seconds(back)),
        escape(quantity(60 * row["accelerator_hours"], "device-min")),
        escape(quantity(row["cost_usd"], "USD", 2)) if math.isfinite(row["cost_usd"]) else "–", brought,
    ]  # fmt: skip


def _seconds(value_s: float) -> str:
    return quantity(value_s, "s") if math.isfinite(value_s) else "not by the end"


_worths: Remembered[Any, dict[int, int]] = Remembered(64)


def _worth(study: Study, outcome: Outcome) -> dict[int, int]:
    """Return what is known of what each decision brought; it grows as more is worked out."""
    return _worths.put((study.scenario, study.trace, outcome.name), {})


# All strategies


def all_strategies(scenario: Scenario) -> None:
    """Show all strategies side by side."""
    study = _study(scenario)
    _first(study, ["fixed"])
    known = _known(study)
    pieces.say(finding(study, known), move_words(study.scenario))
    trust_badge.badge(study.scenario)
    _dials(scenario)
    chart(
        shift_figures.strategies(known), "strategies", shift_figures.strategies_sentence(known), height=380,
        **_titles(study, "Strategies"),
    )  # fmt: skip
    comparison(study, known)
    _caption(study)
    rows = [summary_row(study, outcome) for outcome in known.values()]
    actions.take_away(
        "strategies", actions.table_files(rows, "shift-strategies", study.scenario), _command(study, "all")
    )
    job = _rest(study)
    if job:
        _work(job)


# When adapting pays


_rows: Remembered[Any, dict[str, Any]] = Remembered(256)


def _sweep_key(scenario: Scenario, times: float) -> Any:
    return plain(scenario).replace(demand="markov", dwell_s=1.0, demand_hours=1.0), times


def known_row(scenario: Scenario, times: float) -> dict[str, Any] | None:
    """Return a point of the sweep if it has been worked out."""
    return _rows.get(_sweep_key(scenario, times))


def pays(scenario: Scenario) -> None:
    """Show what adapting brings over how slowly traffic changes, filling in as it is worked out."""
    if scenario.demand == "trace":
        raise ScenarioError("A trace changes as it does: choose another kind of traffic to vary its speed.")
    rows = [row for times in SWEEP if (row := known_row(scenario, times))]
    even = {name: break_even(rows, name) for name in ("reactive", "predictive")}
    complete = len(rows) == len(SWEEP)
    pieces.say(pays_finding(scenario, rows, even, complete), move_words(scenario))
    trust_badge.badge(plain(scenario))
    _dials(scenario)
    here = scenario.dwell_s / max(reallocation_s(scenario), scenario.control_s)
    figure = shift_figures.benefits(rows, SWEEP, even, here if scenario.demand == "markov" else None)
    model, part = model_of(scenario), accelerator_of(scenario)
    chart(
        figure, "benefits", shift_figures.benefits_sentence(rows, even), height=480,
        title=f"When adapting pays: {model.name} on {part.name}",
        subtitle=f"random switching, reallocation {_span(reallocation_s(scenario))}, forecast error "
        f"{percent(scenario.forecast_error_frac)} · simulated",
    )  # fmt: skip
    reasons = sorted({row["reason"] for row in rows if "reason" in row})
    if reasons:
        st.caption(" ".join(reasons))
    st.caption(
        f"Traffic switches at random between both ends. Every point lasts {SWEEP_DWELLS} mean times "
        "between switches, the same switches stretched. Above the line a strategy keeps the limits for more "
        "requests than the fixed split that is best for the mean."
    )
    actions.take_away("benefits", actions.table_files(rows, "shift-volatility"), _command_sweep(scenario))
    missing = next((times for times in SWEEP if known_row(scenario, times) is None), None)
    if missing is not None:
        name = f"Traffic that changes every {_span(missing * reallocation_s(scenario))}"
        _work(
            Job(name, len(rows), len(SWEEP), lambda progress: _rows.put(
                _sweep_key(scenario, missing), sweep_row(scenario, missing, progress)
            ))
        )  # fmt: skip


def pays_finding(
    scenario: Scenario, rows: Sequence[Mapping[str, Any]], even: Mapping[str, float], complete: bool
) -> str:
    """Return from which speed of change on adapting pays."""
    if not any("fixed_frac" in row for row in rows):
        return "Does moving workers between the pools pay, and for how slow a change?"
    unit_s = max(reallocation_s(scenario), scenario.control_s)
    parts = []
    for name, value in even.items():
        who = STRATEGIES[name].lower()
        if math.isnan(value):
            parts.append(
                f"{who} adaptation does not pay at any speed {'tried' if complete else 'tried so far'}"
            )
        elif value == 0:
            parts.append(f"{who} adaptation pays at every speed tried")
        else:
            parts.append(
                f"{who} adaptation pays once traffic stays for {number(value, 2)} times a reallocation, "
                f"{_span(float(f'{value * unit_s:.2g}'))}"
            )
    text = f"{'; '.join(parts)}."
    return text[0].upper() + text[1:]


# Commands


def _command(study: Study, name: str) -> str:
    command = command_for(study.scenario, "shift", trace="FILE" if study.trace is not None else "")
    return command if name == "all" else f"{command} --strategy {name}"


def _command_sweep(scenario: Scenario) -> str:
    return f"{command_for(plain(scenario), 'shift')} --volatility"
