"""The Plan page over the day: devices of each hour, what ways of scaling cost and lose."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence

import streamlit as st

from sim_core.engine.work import SpentUp
from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.answer import Plan
from sim_core.questions.deployment.around.day import (
    FIXED,
    IDEAL,
    REACTIVE,
    SCHEDULED,
    DayPlan,
    Rival,
    Start,
    Way,
    day_dict,
    day_plan,
    day_sentence,
    rivals_of,
    rivals_sentence,
    start_phases_s,
)
from sim_core.questions.deployment.plan import final_plan
from sim_core.questions.deployment.question import Question
from sim_core.results import text as report
from sim_core.scenario.scenario import Scenario, accelerator_of
from sim_core.sweep.remembered import Remembered
from sim_core.traffic.day import Day, day_named
from sim_core.traffic.day_files import read_day
from sim_core.traffic.trace_files.read import MAX_UPLOAD_BYTES
from sim_core.view.drawing.figures import LAYOUT, SHADE, Figure, style
from sim_core.view.drawing.marks import Piece, axis, scatter
from sim_core.view.drawing.words import literal, number, percent, span_words
from sim_core.view.parts import pieces
from sim_core.view.parts.actions import File, named
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.controls import seed
from sim_core.view.parts.views import choose, dial
from sim_core.view.session import state, sweeps

NAMES = {
    FIXED: "Fixed at the peak",
    SCHEDULED: "Scheduled, the day is known",
    REACTIVE: "Started as the rate rises",
    IDEAL: "Ideal, starts in no time",
}
FEW = 10  # devices that each have a line
LOW = 0.2  # of the peak: the lowest rate of the wave where no day is given
START_UPS_S = (0, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
WAY_HEADS = ("Way", "Accelerator-hours", "USD", "Saves", "Requests lost", "At risk")
START_HEADS = ("Start-up time", "Scheduled", "Requests lost without a schedule", "At risk")
RIVAL_HEADS = ("Layout", "Devices at the peak", "Fixed", "Scheduled")
PART_HEADS = ("From", "Requests/s", "Needed", "Paid, scheduled", "Serving, started as the rate rises")
READING = (
    "Replicas of the first row, as many as each part's rate needs by simulation at that rate; rates between "
    "two that need as many are not simulated. What starts is paid for and serves nobody; the day comes again "
    "after its end. Lost is what must be turned away while fewer serve than are needed, so that the limits "
    "hold for the others; at risk is all that arrives meanwhile."
)
_peaks: Remembered[Question, Plan] = Remembered(sweeps.REMEMBERED)
_others: Remembered[tuple[Question, Day, str, float], list[Rival]] = Remembered(sweeps.REMEMBERED)
_days: Remembered[tuple[Question, Day, str, float], DayPlan] = Remembered(sweeps.REMEMBERED)


def show_day(found: Plan) -> tuple[list[File], str]:
    """Show the day of a plan; return its files and the words of the command."""
    day = asked_day(found.question)
    answer = st.container()
    _controls(found, day)
    kind, start_s = state.view("plan_start"), state.view_number("plan_start_s")
    shown = _worked_out(found, day, kind, start_s)
    words = day_sentence(shown)
    with answer:
        pieces.say_more(words)
        chart(day_figure(shown), "plan-day", words, 380, Heading("Devices over the day", words))
    _tables(shown)
    rivals = _rivals(found, shown, kind, start_s)
    st.caption(READING)
    command = f"--day {shlex.quote(day.text)}"
    command += f" --start-up {start_s:g}" if start_s else "" if kind == "node" else f" --start-from {kind}"
    return _files(shown, rivals), command


def asked_day(question: Question) -> Day:
    """Return the day that the page asks for: what was given, or a wave that rises to the rate."""
    text = state.view("plan_day")
    if text:
        return day_named(text, question.scenario.replace(arrival_per_s=question.rate_per_s))
    return wave_to(question.rate_per_s)


def wave_to(peak_per_s: float) -> Day:
    """Return a wave over 24 hours whose highest part has a rate, and the lowest about a fifth of it."""
    unit = day_named(f"wave:{(1 + LOW) / 2:g}/1", Scenario())
    return Day(tuple(float(f"{peak_per_s * rate / unit.peak_per_s:.4g}") for rate in unit.rates_per_s))


def _controls(found: Plan, day: Day) -> None:
    """Draw what the day is, and how a replica starts."""
    seed("in_plan_day", state.view("plan_day") or day.text)
    left, right = st.columns((3, 2))
    left.text_area(
        "Requests a second, in equal parts of 24 hours",
        key="in_plan_day",
        height=80,
        on_change=_write_day,
        help="Rates with commas, spaces or lines between them; a wave:MEAN/PEAK; 8h: before either for 8 "
        "hours; or demand, the traffic over time of the Traffic shift page. Empty: a wave that rises to the "
        "request rate.",
    )
    right.file_uploader(
        "or a file",
        type=["csv", "txt", "tsv", "jsonl", "json"],
        key="in_plan_day_file",
        on_change=_read_file,
        help="Rates, a table of counts by time (requests) or rates (rps), or a trace of requests with times. "
        "Up to 5 MB; its rates go into the link, nothing else is kept.",
    )
    rows = found.rows[0]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        choose("plan_start", named=True)
        known_s = sum(start_phases_s(rows, state.view("plan_start")).values())
        with st.container(width=420):
            own = f"by its phases: {span_words(known_s)}"
            dial("plan_start_s", START_UPS_S, lambda value: span_words(value) if value else own)


def _write_day() -> None:
    _set_day(st.session_state.in_plan_day.strip())


def _set_day(text: str) -> None:
    """Take a day in, or say why it is none and keep the one before."""
    try:
        if text:
            day_named(text, st.session_state.scenario)
    except ScenarioError as error:
        st.session_state.problem = str(error)
        return
    st.session_state.problem = ""
    state.set_view("plan_day", text)


def _read_file() -> None:
    file = st.session_state.get("in_plan_day_file")
    if file is None:
        return
    try:
        day = read_day(file.getvalue(), st.session_state.scenario, file.name[:60], MAX_UPLOAD_BYTES)
    except ScenarioError as error:
        st.session_state.problem = str(error)
        return
    _set_day(day.text)


def _worked_out(found: Plan, day: Day, kind: str, start_s: float) -> DayPlan:
    """Return the day of the best row at its peak; a bar shows the progress."""
    question = dataclasses.replace(found.question, rate_per_s=day.peak_per_s)
    key = question, day, kind, start_s
    known = _days.get(key)
    if known is not None:
        return known
    place = st.empty()
    place.progress(0.0, "The deployment for the day's peak…")

    def progress(done_frac: float) -> None:
        place.progress(done_frac, "As many as each rate needs…")

    if question != found.question:
        found = _peaks.get(question) or _peaks.put(question, final_plan(question))
    if not found.rows:
        raise ScenarioError(found.sentence)
    made = day_plan(question, found.rows[0], day, kind, start_s or None, progress)
    place.empty()
    return _days.put(key, made)


def _rivals(found: Plan, shown: DayPlan, kind: str, start_s: float) -> list[Rival]:
    """Show what the day costs with the engines of the next rows, as far as the budget of a view goes."""
    question = dataclasses.replace(found.question, rate_per_s=shown.day.peak_per_s)
    ranking = found if question == found.question else _peaks.get(question)
    key = question, shown.day, kind, start_s
    try:
        rivals = _others.get(key) or _others.put(
            key, rivals_of(question, ranking.rows if ranking else (), shown, kind, start_s or None)
        )
    except SpentUp:
        st.caption("The next rows are not sized here any more; the command does.")
        return []
    if rivals:
        lines = [
            (
                accelerator_of(row.scenario).name,
                [row.layout, number(row.accelerators), *_costs(fixed, scheduled)],
            )
            for row, fixed, scheduled in rivals
        ]
        pieces.table("The next rows over this day", RIVAL_HEADS, lines, scroll=True)
        st.caption(literal(rivals_sentence(shown, rivals)))
    return rivals


def _costs(*ways: Way) -> list[str]:
    return [number(way.worth) for way in ways]


# --- figure and tables ----------------------------------------------------------------------------


def day_figure(found: DayPlan) -> Figure:
    """Draw devices over the day: needed, paid for under a schedule, serving without one, and fixed."""
    most = max(part.devices for part in found.parts)
    lines = [scatter([0, found.day.hours], [most, most], name=NAMES[FIXED], **_look(3))]
    for place, name in enumerate((SCHEDULED, REACTIVE, IDEAL)):
        hours, devices = zip(*found.steps[name], strict=True)
        look = _look(place, fill=name == IDEAL)
        lines.append(scatter(list(hours), list(devices), name=NAMES[name], **look))
    axes = {
        "xaxis": axis("Hour", range=[0, found.day.hours]),
        "yaxis": devices_axis(most),
    }
    return {"data": lines[::-1], "layout": LAYOUT | axes | {"hovermode": "x unified"}}


def devices_axis(most: int) -> Piece:
    """Return the axis of a number of devices, which has no line at a half."""
    return axis("Devices", rangemode="tozero", **({"dtick": 1} if most < FEW else {}))


def _look(place: int, fill: bool = False) -> dict[str, object]:
    colour, dash, _ = style(place)
    line: dict[str, object] = {"shape": "hv", "color": colour, "width": 2, "dash": dash}
    look: dict[str, object] = {"mode": "lines", "hovertemplate": "%{y:,}", "line": line}
    return look | {"line": line | {"width": 0}, "fill": "tozeroy", "fillcolor": SHADE} if fill else look


def _tables(found: DayPlan) -> None:
    requests = found.day.requests
    name = accelerator_of(found.row.scenario).name
    lines = [(NAMES[way.name], _way_cells(found, way, requests)) for way in found.ways.values()]
    pieces.table(f"The day on {name}, {found.row.layout}", WAY_HEADS[1:], lines, scroll=True)
    starts = [_start_line(found, start, requests) for start in found.starts]
    pieces.table("By the time that a replica takes to start", START_HEADS[1:], starts, scroll=True)
    with st.expander("Each part of the day"):
        pieces.table("Devices", PART_HEADS[1:], _part_lines(found), scroll=True)


def _way_cells(found: DayPlan, way: Way, requests: float) -> list[str]:
    saved = "" if way.name == FIXED else percent(found.saved_frac(way.name))
    return [
        number(way.device_hours),
        number(way.usd),
        saved,
        percent(way.lost / requests),
        percent(way.late / requests),
    ]


def _start_line(found: DayPlan, start: Start, requests: float) -> tuple[str, Sequence[str]]:
    own = " (here)" if start.start_up_s == found.start_up_s else ""
    way = start.scheduled
    cost = f"{number(way.device_hours)} h" if way.usd is None else f"{number(way.usd)} USD"
    lost = [percent(value / requests) for value in (start.reactive.lost, start.reactive.late)]
    return f"{span_words(start.start_up_s)}{own}", [cost, *lost]


def _part_lines(found: DayPlan) -> list[tuple[str, Sequence[str]]]:
    return [
        (
            _clock(part.start_h),
            [number(part.rate_per_s), number(part.devices), number(part.scheduled), number(part.reactive)],
        )
        for part in found.parts
    ]


def _clock(hours: float) -> str:
    minutes = round(60 * hours)
    return f"{minutes // 60}:{minutes % 60:02}"


def _files(found: DayPlan, rivals: Sequence[Rival]) -> list[File]:
    """Return the day as files: its parts as CSV, all of it as JSON."""

    def parts() -> Sequence[Mapping[str, object]]:
        return day_dict(found)["parts"]

    def whole() -> str:
        return report.json_text(day_dict(found, rivals))

    return [
        File("CSV, the day", named("day", "csv"), "text/csv", lambda: report.csv_text(parts()), parts),
        File("JSON, the day", named("day", "json"), "application/json", whole),
    ]
