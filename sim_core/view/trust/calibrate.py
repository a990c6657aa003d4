"""The pieces of the Calibrate page: an engine of one's own, fitted to measurements that one already has.

Files are read in memory and stay in the visitor's session: nothing is written to disk.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from sim_core.catalogue.calibrations import calibration, parse_constants
from sim_core.catalogue.models import OWN
from sim_core.evidence.own import engine as own_engine
from sim_core.evidence.own.cases import METRICS, median_error
from sim_core.evidence.own.engine import POINTS, MeasuredPoint, OwnEngine
from sim_core.evidence.own.fit import FOLDS
from sim_core.evidence.own.formats.points import OwnPoint
from sim_core.evidence.own.served import engine_line
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.scenario.link.carry import carried_by
from sim_core.scenario.link.page_settings import choice_names
from sim_core.scenario.link.write import command_for
from sim_core.scenario.profiles import profile_toml
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.parts import actions, pieces
from sim_core.view.parts import lengths as length_controls
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.own_model import own_model_controls
from sim_core.view.parts.pieces import KeyFigure
from sim_core.view.parts.sidebar import (
    accelerator_choice,
    engine_choice,
    engine_setting,
    heading,
    model_choice,
    own_buttons,
)
from sim_core.view.parts.views import views
from sim_core.view.session import shell, state, sweeps
from sim_core.view.session.mine.panel import keep_button
from sim_core.view.trust import accepted, calibrate_figures
from sim_core.view.trust.calibrate_figures import metric_words
from sim_core.view.trust.uploads import SHOWN, intake, mine

SAME = 0.1  # TTFT within this of the measured one: the schedule fits


# The sidebar


def engine_sidebar(scenario: Scenario) -> None:
    """Draw the controls: which engine was measured, on what."""
    with st.sidebar:
        own_buttons()
        heading("What was measured")
        model_choice(hide=False)
        if scenario.model == OWN:
            own_model_controls(scenario)
        accelerator_choice(hide=False)
        heading("How it was set up")
        engine_choice(scenario, hide=False)
        engine_setting(scenario)
        st.caption("Every point is simulated on this engine, so set it up as it was when you measured.")
        heading("Lengths, where a file states none")
        length_controls.lengths(scenario)


# The page


def show(scenario: Scenario) -> None:
    """Show what was uploaded and what follows from it, or how to begin."""
    sweeps.wait_until_ready()
    files = mine()
    if not files:
        introduction()
        return
    try:
        engine = calibrated(scenario)
    except ScenarioError as error:
        pieces.say_why(error)
        intake()
        return
    pieces.say(fit_finding(engine), engine_line(list(files.values()), scenario), *fit_notes(engine))
    show_errors_before_and_after(engine)
    use(engine, scenario)
    controls_row(engine)
    view = {
        "points": show_before_and_after,
        "constants": constants,
        "steps": show_held_out_steps,
        "table": choose_points,
    }
    view[_view(engine)](engine)
    intake()
    take_away_profile(engine, scenario)


def introduction() -> None:
    """Show what the page is for, and the ways to begin."""
    pieces.say(
        "Bring results of a benchmark of your own engine: a few points are enough to fit the model to it.",
        "Then every page predicts that engine. Files stay in this session's memory; nothing is stored.",
    )
    intake()


def fit_finding(engine: OwnEngine) -> str:
    """Return what the fit has gained, in one sentence."""
    metric = next((name for name in SHOWN if math.isfinite(_error(engine.after, name))), "")
    name = calibrate_figures.METRICS[metric][0] if metric else ""
    if engine.steps is not None:
        text = (
            f"Your {counted(engine.steps.tokens.size * FOLDS, 'step')} make a step profile: those held out "
            f"are predicted within {percent(engine.steps.error_frac)} in the median"
        )
        if metric:
            text += f", and {name} of your {counted(_known(engine, metric), 'point')} within "
            text += percent(_error(engine.after, metric))
        return text + "."
    before, after = _error(engine.before, metric), _error(engine.after, metric)
    if not metric or not math.isfinite(before):
        return "These points cannot be compared with the calibration: it predicts none of their figures."
    unseen = _error(engine.unseen, metric)
    way = "falls" if after < before else "goes"
    text = f"Fitted to {counted(int(engine.fitted.sum()), 'point')}, the median error of {name} {way} "
    text += f"from {percent(before)} to {percent(after)}"
    if math.isfinite(unseen):
        text += f"; on points that a fit has not seen it is {percent(unseen)}"
    return text + "."


def _known(engine: OwnEngine, metric: str) -> int:
    return int(np.isfinite(engine.after[:, METRICS.index(metric)]).sum())


def _error(found: np.ndarray, metric: str) -> float:
    return median_error(found, metric) if metric else math.nan


def fit_notes(engine: OwnEngine) -> list[str]:
    """Return what must be known beside the finding: speed, schedule, saturation, what was no use."""
    found = [engine_words(engine), engine.remark]
    over = int(engine.overloaded.sum())
    steep = int(engine.steep.sum()) - over
    if steep:
        found.append(
            f"{counted(steep, 'point')} above 90 % of the rate that saturates: there, a few percent of speed "
            "decide the waiting, and errors grow. Judge the engine by the others."
        )
    if over:
        found.append(
            f"{counted(over, 'point')} above 110 % of the rate that saturates: the queue grows as long as "
            "the run lasts, and TTFT with it. Judge the engine by the others."
        )
    left_out = [entry for entry in engine.entries if entry.point.left_out]
    if left_out:
        found.append(f"{counted(len(left_out), 'point')} left out of the fit: {left_out[0].problem}")
    lost = [entry for entry in engine.entries if entry.problem and not entry.point.left_out]
    if lost:
        found.append(f"{counted(len(lost), 'point')} cannot be simulated: {lost[0].problem}")
    if not all(row.told for row in engine.levers):
        found.append(told_words(engine))
    if engine.steps is not None:
        found += engine.steps.untold
    return found


def engine_words(engine: OwnEngine) -> str:
    """Return how fast the engine is against the calibration, and whether its schedule is as assumed."""
    if not math.isfinite(engine.speed):
        return ""
    slower = "longer" if engine.speed > 1 else "shorter"
    text = f"Speed factor {number(engine.speed)}: "
    text += f"steps take {percent(abs(engine.speed - 1))} {slower} than calibrated."
    if abs(engine.speed - 1) < 0.01:
        text = "Speed factor 1: steps take as long as calibrated."
    ttft = _error(engine.after[~engine.steep], "ttft_ms")
    if not math.isfinite(ttft):
        return text
    if ttft <= SAME:
        return f"{text} With the fit TTFT is right too: the schedule in the sidebar is your engine's."
    return (
        f"{text} With the fit, TTFT is still {percent(ttft)} off in the median: speed cannot explain that. "
        "Check policy, token budget and batch limit in the sidebar, and what the tool counts into TTFT."
    )


def told_words(engine: OwnEngine) -> str:
    """Return which constants the points tell, and what would tell more."""
    told = [row.lever.title for row in engine.levers if row.told]
    which = f"tell {len(told)} by themselves ({_listed(told)})" if told else "tell none by itself"
    return (
        f"Of {len(engine.levers)} kinds of constants the points {which}; the others stay near the "
        "calibration, or only their sum is known. Points with other lengths and numbers of clients tell more."
    )


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def show_errors_before_and_after(engine: OwnEngine) -> None:
    """Show the errors before and after, and on points not seen."""
    cells = []
    for metric in SHOWN:
        after = _error(engine.after, metric)
        if not math.isfinite(after):
            continue
        unseen, before = _error(engine.unseen, metric), _error(engine.before, metric)
        value = percent(unseen if math.isfinite(unseen) else after)
        note = f"calibration {percent(before)}"
        note += f" · seen by the fit {percent(after)}" if math.isfinite(unseen) and engine.levers else ""
        name = calibrate_figures.METRICS[metric][0]
        what = "points not seen" if math.isfinite(unseen) else "points of the fit"
        cells.append(KeyFigure(f"{name}, median error on {what}", value, note, wrap=True))
    if engine.steps is not None:
        note = f"their total time {calibrate_figures.error_ratio_words(1 + engine.steps.bias_frac)}"
        value = percent(engine.steps.error_frac)
        cells.append(KeyFigure("Steps held out, median error", value, note, wrap=True))
    if math.isfinite(engine.speed):
        note = "steps, measured over calibrated"
        cells.append(KeyFigure("Speed factor", f"{number(engine.speed)}×", note, wrap=True))
    pieces.figures([*cells, *accepted.figure(engine)])


def use(engine: OwnEngine, scenario: Scenario) -> None:
    """Draw the button that puts the engine in use everywhere, or says that it is."""
    wanted, shortened = carried_by(scenario, engine.profile)
    with st.container(horizontal=True, vertical_alignment="center"):
        if wanted == scenario:
            st.badge("In use on all pages", icon=":material/check:", color="green")
        else:
            st.button(
                "Use this engine on all pages",
                type="primary",
                on_click=_use,
                args=(wanted,),
                key="own_use",
                icon=":material/check:",
            )
        keep_button("engines", wanted, "Keep it")
        accepted.take(engine, scenario)
        if shortened > 0.001:
            st.caption(
                f"A link holds part of its table, at most {percent(shortened)} off; the file holds all."
            )


def _use(wanted: Scenario) -> None:
    state.replace(wanted)
    shell.rerun_page()


def controls_row(engine: OwnEngine) -> None:
    """Draw the choice of view and metric, and of what is fitted."""
    names = choice_names("calview")
    if not engine.levers:
        names.pop("constants")
    if engine.steps is None:
        names.pop("steps")
    if not engine.entries:
        names.pop("points"), names.pop("table")
    with st.container(horizontal=True, vertical_alignment="center"):
        _valid("calview", names)
        views("calview", names)
        if state.view("calview") == "points":
            known = [name for name in calibrate_figures.METRICS if math.isfinite(_error(engine.after, name))]
            _valid("calmetric", known)
            titles = {name: calibrate_figures.METRICS[name][0] for name in known}
            if known:
                views("calmetric", titles)
        kinds = own_engine.kinds_of(list(mine().values()))
        if len(kinds) > 1:
            named = choice_names("calfrom")
            views("calfrom", {name: named[name] for name in kinds})


def _valid(key: str, known: Sequence[str] | dict[str, str]) -> None:
    """Let a view that these files do not have give way to one that they have."""
    if known and state.view(key) not in known:
        state.set_view(key, next(iter(known)))


def _view(engine: OwnEngine) -> str:
    return state.view("calview")


# The views


def show_before_and_after(engine: OwnEngine) -> None:
    """Show predicted against measured, before and after."""
    metric = state.view("calmetric")
    rows = point_rows(engine, metric)
    chart(
        calibrate_figures.before_after(rows, metric, revision=metric),
        key="own_points",
        alt=calibrate_figures.before_after_sentence(rows, metric),
        heading=Heading("Predicted against measured, before and after the fit", engine.profile.name),
    )
    st.caption(
        "Lines lead from the calibration's prediction to the fit's. The bands are 10, 20 and 30 % wide."
    )


def point_rows(engine: OwnEngine, metric: str) -> list[dict[str, Any]]:
    """Return the rows of the figure of one metric."""
    column = METRICS.index(metric)
    return [
        {
            "name": entry.point.name,
            "load": point_load_words(entry),
            "fitted": bool(engine.fitted[place]) or not engine.levers,
            "measured": getattr(entry.point, metric),
            "before": engine.before[place, column] * getattr(entry.point, metric),
            "after": engine.after[place, column] * getattr(entry.point, metric),
        }
        for place, entry in enumerate(engine.entries)
    ]


def point_load_words(entry: MeasuredPoint) -> str:
    """Return lengths and load of a point in words."""
    point = entry.point
    if entry.case is None:
        return entry.problem
    scenario = entry.case.scenario
    load = {
        "closed": counted(scenario.concurrency, "client"),
        "offline": "all at once",
        "trace": f"{counted(scenario.requests, 'request')} replayed",
    }.get(scenario.arrivals, quantity(scenario.arrival_per_s, "req/s"))
    return f"{lengths_words(point)}, {load}"


def lengths_words(point: OwnPoint) -> str:
    """Return the mean lengths of a point in words; those it does not state are the scenario's."""
    prompt, output = (
        number(round(tokens)) if tokens > 0 else "as in the scenario"
        for tokens in (point.prompt_tokens, point.output_tokens)
    )
    same = prompt == output == "as in the scenario"
    return "lengths as in the scenario" if same else f"{prompt} → {output} tokens"


def constants(engine: OwnEngine) -> None:
    """Show the factors, and the constants that they make."""
    chart(
        calibrate_figures.levers_figure(engine.levers, revision="levers"),
        key="own_constants",
        alt=calibrate_figures.levers_sentence(engine.levers),
        heading=Heading("How the engine differs from the calibration", engine.profile.name),
        height=120 + 46 * len(engine.levers),
    )
    known = {item.name: item for item in calibration(engine.profile.calibration).constants}
    lines = [
        (
            known[name].meaning,
            [constant_words(amount, known[name].unit) for amount in (known[name].value, value)],
        )
        for name, value in parse_constants(engine.profile.constants).items()
    ]
    pieces.table("Constants that the factors make", ["Calibration", "This engine"], lines, scroll=True)
    st.caption(
        "Grey: how far engines usually differ; a factor is held near 1 unless the points speak against it. "
        "Orange, hollow: the points take away less than half of that uncertainty. Constants that act alike "
        "cannot be told apart by points of one model: reading weights and the fixed time of a step, say."
    )


def constant_words(value: float | None, unit: str) -> str:
    """Return a constant in words; none is each kernel's own."""
    if value is None:
        return "each kernel's own"
    return percent(value) if unit == "frac" else quantity(value, {"us": "µs", "times": "×"}.get(unit, unit))


def show_held_out_steps(engine: OwnEngine) -> None:
    """Show the steps that were held out, measured and predicted, if there are any."""
    if engine.steps is None:
        return
    chart(
        calibrate_figures.held_out_steps_figure(engine.steps, revision="steps"),
        key="own_steps",
        alt=calibrate_figures.steps_sentence(engine.steps),
        heading=Heading("Steps that were held out, measured and predicted", engine.profile.name),
    )
    profile = engine.profile
    st.caption(
        f"Beside its tokens a step takes {duration(1e3 * profile.decode_context_ms_per_token)} per 1,000 "
        f"tokens of decode context and {duration(1e6 * profile.prefill_context_ms_per_pair)} per million "
        "query-key pairs of prompts; a request takes "
        f"{duration(profile.request_before_ms + profile.request_after_ms)} to the engine and back."
    )


def choose_points(engine: OwnEngine) -> None:
    """Show every point, with the choice of which ones the fit may see."""
    rows = table_rows(engine)
    frame = pd.DataFrame(rows)
    fitting_points = engine.kind == POINTS
    edited = st.data_editor(
        frame,
        hide_index=True,
        disabled=[name for name in frame.columns if name != "Fit"] if fitting_points else True,
        key=f"own_table_{len(rows)}",
        column_config=pieces.column_help(frame.columns),
    )
    if fitting_points:
        chosen = tuple(int(place) for place in np.flatnonzero(edited["Fit"].to_numpy()))
        if chosen != tuple(np.flatnonzero(engine.fitted)) and chosen != st.session_state.get("own_fit_to"):
            st.session_state.own_fit_to = chosen
            shell.rerun_answer()
        st.caption(
            "Untick points to leave them out of the fit; how well they are then predicted is the honest test."
        )


def table_rows(engine: OwnEngine) -> list[dict[str, Any]]:
    """Return the rows of the table on the page."""
    found = []
    for place, entry in enumerate(engine.entries):
        row: dict[str, Any] = {
            "Fit": bool(engine.fitted[place]),
            "Point": entry.point.name,
            "Load": point_load_words(entry),
        }
        for metric in SHOWN:
            name = calibrate_figures.METRICS[metric][0]
            measured = getattr(entry.point, metric)
            ratio = engine.after[place, METRICS.index(metric)]
            row[name] = metric_words(metric, measured)
            row[f"{name}: own engine"] = calibrate_figures.error_ratio_words(ratio) if ratio > 0 else "–"
        standing = "overloaded" if engine.overloaded[place] else "near saturation"
        row["Remark"] = own_engine.remark(entry) or (standing if engine.steep[place] else "")
        row["File"] = entry.file
        found.append(row)
    return found


# The fit, and what can be taken away


def calibrated(scenario: Scenario) -> OwnEngine:
    """Return the engine of the visitor's files; kept until files, engine or choice change."""
    files, fit_to = mine(), st.session_state.get("own_fit_to")
    kinds = own_engine.kinds_of(list(files.values()))
    kind = state.view("calfrom") if state.view("calfrom") in kinds else ""
    bare = scenario.replace(constants="", step_profile="")
    key = (tuple((name, id(upload)) for name, upload in files.items()), bare, kind, fit_to)
    kept = st.session_state.get("own_kept")
    if kept is None or kept[0] != key:
        with st.spinner("Fitting…"):
            found = own_engine.calibrate(list(files.values()), bare, kind=kind, fit_to=fit_to)
        st.session_state.own_kept = kept = (key, found)
    return kept[1]


def take_away_profile(engine: OwnEngine, scenario: Scenario) -> None:
    """Draw what can be taken away: the profile, the table, the chart, the command."""
    profile = engine.profile
    files = [
        actions.File("Engine profile", "my_engine.toml", "application/toml", lambda: profile_toml(profile)),
        *actions.table_files(own_engine.rows(engine), "own-engine"),
    ]
    view = {"points": "own_points", "constants": "own_constants", "steps": "own_steps"}
    command = command_for(scenario.replace(constants="", step_profile=""), "calibrate")
    text = f"{command} {file_words(mine())} --out my_engine.toml\n"
    text += f"{command_for(scenario, 'run')} --profile my_engine.toml"
    actions.take_away(view.get(_view(engine), ""), files, text)


def file_words(names: Iterable[str]) -> str:
    """Return the names of files as a POSIX shell takes them; none is an option, whatever it begins with."""
    return shlex.join(f"./{name}" if name.startswith("-") else name for name in names)
