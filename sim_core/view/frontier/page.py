"""The pieces of the Frontier page: headline, key figures, charts, and the strip of limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import streamlit as st

from sim_core import catalogue
from sim_core.engine.run import rejected_frac
from sim_core.evidence.blind import Band
from sim_core.questions import speculation
from sim_core.scenario.ready import ScenarioPreset, ready_scenarios
from sim_core.scenario.scenario import FIELDS, SPECS, Scenario, accelerator_of, model_of
from sim_core.view.drawing import figures, trust_words
from sim_core.view.drawing.figures import LIMITS, Row, curves
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.verdicts import WITHHELD, Limits, broken_briefly, holding
from sim_core.view.drawing.words import Along, duration, literal, number, percent
from sim_core.view.frontier import overload
from sim_core.view.frontier import words as findings
from sim_core.view.frontier.figures import (
    fit_load,
    limit_words,
    load_curve,
    load_sentence,
    pareto,
    pareto_sentence,
)
from sim_core.view.parts import actions, pieces, sidebar, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.pieces import KeyFigure
from sim_core.view.parts.views import above_chart
from sim_core.view.session import shell, stars, state, sweeps
from sim_core.view.session.sweeps import Result, Sweep

SHARES = ("weights", "kv", "compute", "communication", "fixed", "measured")  # a row has some of them
FIGURES = (  # of the present setting: column, name, unit, whether more is better
    ("output_tok_per_s_per_accelerator", "Throughput", "tok/s/acc.", True),
    ("ttft_ms_p99", "TTFT p99", "", False),
    ("tpot_ms_p99", "TPOT p99", "", False),
    ("goodput_per_s", "Goodput", "req/s", True),
    ("usd_per_mtok", "Cost", "USD/Mtok", False),
    ("joule_per_tok", "Energy", "J/tok", False),
)
FEW_SAMPLES = 100
SETTLING = "a grid point, settling …"
TOO_LONG = "a grid point: to search on would take longer than this page may"


def show(scenario: Scenario) -> None:
    """Simulate what the controls say, and show it."""
    sweep = sweeps.plan(scenario)
    found = actions.simulate_sweep(sweep)
    headline(sweep, found)
    trust_badge.badge(sweep.scenario)
    key_figures(sweep, found)
    above_chart(sweep, leaves_frame(sweep, found))
    view = state.view("show")
    match view:
        case "frontier":
            show_frontier(sweep, found)
            limit_strip(sweep, found)
        case "load":
            shown, sweep = sweep, sweeps.load_sweep(sweep.scenario)
            found = load(sweep, scenario, shown)
        case "table":
            show_table(sweep, found)
    reading_help(sweep)
    actions.take_away(
        "" if view == "table" else view,
        actions.table_files(found.rows, "frontier"),
        actions.frontier_command(sweep, found.fine),
    )
    if view == "table":
        settle_now(sweep)


def headline(sweep: Sweep, found: Result) -> None:
    """Show the finding in words, and the story of the ready scenario if one is shown unchanged."""
    rows, along = found.rows, sweeps.ALONG[sweep.along]
    text = findings.sweep_finding(rows, stars.best(sweep, found), sweeps.peak(rows), sweep.scenario, along)
    preset = ready_by_scenario().get(sweep.scenario)
    pieces.say(text, more=render("frontier/story.html", preset=preset) if preset else None)


@cache
def ready_by_scenario() -> dict[Scenario, ScenarioPreset]:
    """Return the ready scenarios by what they are."""
    return {preset.build(): preset for preset in ready_scenarios().values()}


# Key figures


def key_figures(sweep: Sweep, found: Result) -> None:
    """Show the best point and the present setting in numbers, with the change against the last setting."""
    values, now = _values(sweep, found), _quick_values(sweep)
    before = _values_before(sweep, now)
    along, best = sweeps.ALONG[sweep.along], stars.best(sweep, found)

    def cell(name: str, title: str, unit: str, more_is_better: bool, note: str) -> KeyFigure:
        value, change = values[name], _ratio(now[name], before.get(name, math.nan))
        return KeyFigure(
            title,
            number(value) if unit else duration(value),
            note,
            unit,
            change=_change(change),
            change_is_good=(change > 1) == more_is_better,
        )

    label = "none" if best is None else f"{best['curve']}, {along.text(best)}"
    here = f"{sweep.own}, {along.text(found.here)}" + _standing(sweep, found.here)
    main = cell("best", "", "tok/s per accelerator", True, _how_sure(sweep, best))
    st.html(
        render(
            "frontier/key_figures.html",
            label=label,
            best=main._replace(kind="main"),
            here=here,
            cells=[cell(*figure, _note(figure[0], found)) for figure in FIGURES],
            reason=overload.reason(sweep, found),
        )
    )


def _measured(best: Row) -> str:
    """Return where measured throughput lies beside that of the best point, where it has a band."""
    band = Band(*(best[f"throughput_band_{side}_frac"] for side in Band._fields))
    return trust_words.measured_words(best[figures.Y], band, lambda value: number(value, 2))


def _how_sure(sweep: Sweep, best: Row | None) -> str:
    """Return how sure the best point is: its range, or that it settles; beneath, where measured ones lie."""
    if best is None:
        return ""
    sure = findings.range_words(best) if stars.is_settled(sweep) else SETTLING
    sure = TOO_LONG if stars.is_given_up(sweep) else sure
    return "\n".join(filter(None, (sure, _measured(best))))


def _values(sweep: Sweep, found: Result) -> dict[str, float]:
    best = stars.best(sweep, found)
    values = {"best": math.nan if best is None else best[figures.Y]}
    return values | {name: overload.carried(found.here, name) for name, *_ in FIGURES}


def _limits(sweep: Sweep) -> Limits:
    return Limits(sweep.scenario.slo_ttft_ms, sweep.scenario.slo_tpot_ms)


def _standing(sweep: Sweep, here: Row) -> str:
    """Return what keeps the present setting from being one, in words behind its name; "" if nothing does."""
    if not here["feasible"]:
        return ": does not run"
    words = ["overloaded" if here["saturated"] else broken_briefly(here, _limits(sweep))]
    rejected = rejected_frac(sweep.scenario)
    if rejected:
        words.append(f"{percent(rejected)} of the requests are rejected, too long for context or KV cache")
    return "".join(f"{sign} {text}" for sign, text in zip(":;", filter(None, words), strict=False))


def _quick_values(sweep: Sweep) -> dict[str, float]:
    """Return the figures as they first were, before anything settles."""
    found = sweeps.quick_result(sweep)
    return _values(sweep, found) | {"best": _best_of_grid(found)}


def _best_of_grid(found: Result) -> float:
    best = sweeps.best_within_limits([*found.rows, found.here])
    return math.nan if best is None else best[figures.Y]


def _values_before(sweep: Sweep, now: dict[str, float]) -> dict[str, float]:
    """Return the figures of the setting before this one; quick against quick, so that only change shows."""
    if st.session_state.get("sweep_now") != sweep:
        st.session_state.values_before = st.session_state.get("values_now", {})
        st.session_state.sweep_now, st.session_state.values_now = sweep, now
    return st.session_state.values_before


def _note(name: str, found: Result) -> str:
    """Return what a reader of a percentile must know: its interval where known, else its sample count."""
    if overload.is_hidden(found.here, name):
        return WITHHELD
    if not name.endswith("_p99"):
        return ""
    low, high = found.here.get(f"{name}_low", math.nan), found.here.get(f"{name}_high", math.nan)
    if math.isfinite(low) and math.isfinite(high) and number(low, 2) != number(high, 2):
        return f"{number(low / 1000 if high >= 1000 else low, 2)}–{duration(high, 2)}"
    count = found.here.get(name.replace("_p99", "_n"), 0)
    if not count > 0:
        return ""
    return f"n = {number(count)}" + (", few" if count < FEW_SAMPLES else "")


def _ratio(value: float, before: float) -> float:
    """Return a value over the one before; not a number where either is none."""
    return value / before if before and math.isfinite(before) else math.nan


def _change(ratio: float) -> str:
    """Return a ratio to the last value as a signed percentage; "" where it is not known or nothing."""
    change = ratio - 1
    if not math.isfinite(change) or abs(change) < pieces.STILL:
        return ""
    if change > 2:
        return f"{number(ratio, 2)}×"
    return f"{'+' if change > 0 else '−'}{percent(abs(change))}"


# Charts


def show_frontier(sweep: Sweep, found: Result) -> None:
    """Show the Pareto chart."""
    rows = found.rows
    if not figures.drawable(rows):
        _blocked(rows)
        return
    frame, revision = _frame(rows)
    along, best = sweeps.ALONG[sweep.along], stars.best(sweep, found)
    figure = pareto(
        rows,
        frame,
        along=along,
        own=sweep.own,
        limits=_limits(sweep),
        here=found.here,
        best=best,
        revision=revision,
    )
    title, subtitle = frontier_titles(sweep)
    chart(
        figure,
        key="frontier",
        alt=pareto_sentence(rows, best, along),
        heading=Heading(title, subtitle),
        on_settled=None if _is_done(sweep, found) else settled,
    )
    _blocked(rows)


def _frame(rows: Sequence[Row]) -> tuple[figures.Frame, str]:
    scale = state.view("axes")
    logs = scale in ("log-x", "log"), scale in ("log-y", "log")
    return state.frame(f"frontier {scale}", lambda: figures.frame_around(rows, *logs))


def leaves_frame(sweep: Sweep, found: Result) -> bool:
    """Return whether the points that matter most, or a third of all, lie outside the axes."""
    shown = figures.drawable(found.rows)
    if state.view("show") != "frontier" or not shown:
        return False
    frame, _ = _frame(found.rows)
    marked = [row for row in (stars.best(sweep, found), found.here) if row and figures.drawable([row])]
    inside = [frame.holds(row) for row in shown]
    return not all(map(frame.holds, marked)) or sum(inside) < 2 / 3 * len(inside)


def _blocked(rows: Sequence[Row]) -> None:
    """Name the curves that cannot run at all, with the reason."""
    reasons = {
        name: points[0]["reason"]
        for name, points in curves(rows).items()
        if not any(row["feasible"] for row in points)
    }
    if reasons:
        st.html(render("frontier/blocked.html", reasons=reasons))


def load(sweep: Sweep, scenario: Scenario, headed: Sweep) -> Result:
    """Show latency against request rate, up to the knee, and return what is shown.

    The headline above it is that of the sweep `headed`.
    """
    fine = state.is_settled(sweep) and state.view("fine") == "on"
    found = sweeps.refined(sweep) if fine else sweeps.result(sweep)
    state.note_shown(sweep)
    limits = {"slo_ttft_ms": scenario.slo_ttft_ms, "slo_tpot_ms": scenario.slo_tpot_ms}
    frame, revision = state.frame("load", lambda: fit_load(found.rows, **limits))
    knee = sweeps.knee(sweep)
    open_loop = scenario.arrivals in ("poisson", "gamma")
    figure = load_curve(
        found.rows,
        frame,
        **limits,
        knee=knee,
        here_per_s=scenario.arrival_per_s if open_loop else None,
        revision=revision,
    )
    title, subtitle = frontier_titles(sweep)
    chart(
        figure,
        key="load",
        alt=load_sentence(found.rows, knee),
        height=560,
        heading=Heading(title, subtitle),
        on_settled=None if _is_done(headed, found) else settled,
    )
    _blocked(found.rows)
    if not open_loop:
        st.caption("The setting is no open loop; the load curve shows it under Poisson arrivals.")
    return found


def frontier_titles(sweep: Sweep) -> tuple[str, str]:
    """Return title and subtitle under which an exported chart stands alone."""
    scenario = sweep.scenario
    model, part = model_of(scenario), catalogue.accelerator(scenario.accelerator)
    changed = [
        f"{FIELDS[key].label.lower()} {sidebar.SPECS[key][0](value)}"
        for key in SPECS
        if (value := getattr(scenario, key)) is not None
    ]
    name = f"{part.name} with {', '.join(changed)}" if changed else part.name
    if len(changed) > 3:  # more than a heading holds
        name = accelerator_of(scenario).name
    lengths = scenario.mix or f"{scenario.prompt_tokens:,} → {scenario.output_tokens:,} tokens"
    how = [scenario.policy.replace("_", " "), speculation.brief(scenario), lengths]
    subtitle = (
        f"{scenario.weight_dtype} weights · {' · '.join(filter(None, how))} · "
        f"{scenario.calibration} calibration · simulated"
    )
    return f"{model.name} on {name}", figures.in_lines(subtitle, trust_words.caption(scenario))


def _is_done(sweep: Sweep, found: Result) -> bool:
    """Return whether nothing is left to do when the chart has rested."""
    return stars.is_settled(sweep) and (found.fine or state.view("fine") == "off")


def settle_now(sweep: Sweep) -> None:
    """Let the star settle where no chart says that it has rested: beneath all that is drawn by then."""
    if not stars.is_settled(sweep):
        stars.settle(sweep)
        shell.rerun_page()


def settled() -> None:
    """Note that the chart has rested, so that the next run may take its time."""
    state.settle()


def show_table(sweep: Sweep, found: Result) -> None:
    """Show the points as a table."""
    along = sweeps.ALONG[sweep.along]
    columns = {"curve": sweeps.VARY[sweep.by].capitalize(), along.column: along.heading} | TABLE
    held = [row | {name: holding(row, name) for name in TABLE if name in row} for row in found.rows]
    shown = found._replace(rows=held).table().reindex(columns=list(columns))
    shown["limit"] = [limit_words(limit) if limit in LIMITS else "" for limit in shown["limit"]]
    numbers = shown.select_dtypes("number").columns
    shown[numbers] = shown[numbers].map(lambda value: float(f"{value:.4g}"))
    st.dataframe(shown.rename(columns=columns), hide_index=True, height=560, placeholder="–")


TABLE = {
    figures.X: "tok/s/user",
    figures.Y: "tok/s per acc.",
    "ttft_ms_p50": "TTFT p50 [ms]",
    "ttft_ms_p99": "TTFT p99 [ms]",
    "tpot_ms_p50": "TPOT p50 [ms]",
    "tpot_ms_p99": "TPOT p99 [ms]",
    "goodput_per_s": "Goodput [req/s]",
    "mean_batch": "Mean batch",
    "usd_per_mtok": "USD/Mtok",
    "joule_per_tok": "J/tok",
    "limit": "Limited by",
    "meets_slo": "Within limits",
    "saturated": "Overloaded",
    "badge": "Badge",
    "reason": "Why not",
}


# What limits each point


def limit_strip(sweep: Sweep, found: Result) -> None:
    """Show where each point of one curve spends its step time, and above it what limits the point."""
    along = sweeps.ALONG[sweep.along]
    rows = curves(found.rows).get(sweep.own, [])
    if not figures.drawable(rows):
        return
    limits = {row["limit"] for row in rows}
    known = {name for row in rows for name in shares_of(row)}
    used = [name for name in LIMITS if name in known or name in limits]
    st.html(
        render(
            "frontier/limits.html",
            title=f"What limits {sweep.own} at each {along.name}, and where the time of its steps goes",
            sentence=strip_sentence(rows, along, sweep.own),
            columns=[_column(row, along) for row in rows],
            entries=[LIMITS[name] for name in used],
        )
    )


def shares_of(row: Row) -> list[str]:
    """Return the parts that a row's step time is split into: measured steps are not split."""
    return [name for name in SHARES if math.isfinite(row.get(f"share_{name}", math.nan))]


class Column(NamedTuple):
    """One point of the strip: what is said of it; if it runs, its limit's colour and the parts of a step."""

    tick: str
    hint: str
    runs: bool = False
    colour: str = ""
    parts: Sequence[tuple[str, str]] = ()  # percent of the step time, colour


def _column(row: Row, along: Along) -> Column:
    tick = number(row.get(along.column))
    if not row["feasible"]:
        return Column(tick, row["reason"])
    text, colour = LIMITS.get(row["limit"], (row["limit"], "transparent"))
    names = shares_of(row)
    shares = ", ".join(f"{LIMITS[name][0]} {percent(row[f'share_{name}'])}" for name in names)
    hint = f"{along.text(row)}: limited by {text}. Step time: {shares}."
    parts = [(f"{100 * row[f'share_{name}']:.1f}", LIMITS[name][1]) for name in names]
    return Column(tick, hint, True, colour, parts)


def strip_sentence(rows: list[Row], along: Along, curve: str) -> str:
    """Return what limits the points of a curve, in one sentence."""
    runs = [row for row in rows if row["feasible"]]
    if not runs:
        return f"{curve}: no point can run."
    parts, last = [], None
    for row in runs:
        if row["limit"] != last:
            last = row["limit"]
            parts.append(f"from {along.text(row)} {limit_words(last)}")
    return f"What limits {curve}: {', '.join(parts)}."


def reading_help(sweep: Sweep) -> None:
    """Say how to read the chart, and under which assumptions it holds."""
    scenario = sweep.scenario
    words = {
        "frontier": "Up and to the right is better: more tokens per accelerator, and more tokens per second "
        "for a user. The pale band is the frontier over all curves; faint points are beaten by another one, "
        "hollow ones break a latency limit or are overloaded. The star is the best curve at its capacity, "
        "the highest load within the limits; its bar is what other seeds give.",
        "load": "Latency against load. Bands are 95 % intervals; hollow points are overloaded, and their "
        "TTFT grows with the length of the run.",
        "table": "What an overloaded point shows no value for depends on the length of its run. The files "
        "below hold all columns with all digits.",
    }[state.view("show")]
    notes = [*accelerator_of(scenario).warnings, *model_of(scenario).warnings]
    st.caption(
        f"{words} Simulated with the {scenario.calibration} calibration; definitions and limits are on the "
        f"Method page. {literal(' '.join(notes))}"
    )
