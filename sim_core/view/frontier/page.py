"""The pieces of the Frontier page: headline, key figures, charts, and the strip of limits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from sim_core import catalogue
from sim_core.engine.run import rejected_frac
from sim_core.fields.errors import ScenarioError
from sim_core.questions import speculation
from sim_core.results.drafts import acceptance_words, supposed_drafter
from sim_core.scenario.ready import ready_id, ready_scenario
from sim_core.scenario.scenario import FIELDS, SPECS, Scenario, accelerator_of, model_of
from sim_core.view.drawing import figures, trust_words
from sim_core.view.drawing.figures import Row, curves
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.verdicts import WITHHELD, Limits, broken_briefly
from sim_core.view.drawing.words import duration, literal, number, percent, spoken
from sim_core.view.frontier import overload
from sim_core.view.frontier import words as findings
from sim_core.view.frontier.axes import ACROSS, UP, missing, placed, placed_all
from sim_core.view.frontier.chosen import page as chosen
from sim_core.view.frontier.chosen.advising import frontier_advice
from sim_core.view.frontier.chosen.classes import show_classes
from sim_core.view.frontier.chosen.points import BEST, with_names
from sim_core.view.frontier.chosen.table import show_table
from sim_core.view.frontier.figures import pareto, pareto_sentence
from sim_core.view.frontier.layouts.placement import show_placement
from sim_core.view.frontier.load_figures import fit_load, load_curve, load_sentence
from sim_core.view.frontier.speed import show_speed
from sim_core.view.frontier.strip import limit_strip
from sim_core.view.parts import actions, pieces, sidebar, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.pieces import KeyFigure
from sim_core.view.parts.views import above_chart
from sim_core.view.session import shell, stars, state, sweeps
from sim_core.view.session.advice import offer
from sim_core.view.session.mine.measured_figures import measured_marks
from sim_core.view.session.sweeps import Result, Sweep

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
    sweep = sweeps.asked_sweep(scenario)
    found = actions.simulate_sweep(sweep)
    headline(sweep, found)
    trust_badge.badge(sweep.scenario)
    key_figures(sweep, found)
    show_classes(sweep.scenario, found.here, "this setting")
    above_chart(sweep, leaves_frame(sweep, found))
    view = state.view("show")
    match view:
        case "frontier":
            show_frontier(sweep, found)
            limit_strip(sweep, found)
            show_speed(sweep, found)
        case "load":
            shown, sweep = sweep, sweeps.load_sweep(sweep.scenario)
            found = load(sweep, scenario, shown)
        case "table":
            show_table(sweep, found)
    show_placement(sweep.scenario)
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
    name = ready_id(sweep.scenario)
    preset = ready_scenario(name) if name else None
    pieces.say(text, more=render("frontier/story.html", preset=preset) if preset else None)
    offer(frontier_advice(sweep, found))


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
    here = f"{sweep.setting}, {along.text(found.here)}" + _standing(sweep, found.here)
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


def _how_sure(sweep: Sweep, best: Row | None) -> str:
    """Return how sure the best point is: its range, or that it settles; beneath, where measured ones lie."""
    if best is None:
        return ""
    sure = findings.range_words(best) if stars.is_settled(sweep) else SETTLING
    sure = TOO_LONG if stars.is_given_up(sweep) else sure
    return "\n".join(filter(None, (sure, trust_words.throughput_words(best, best[figures.Y]))))


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
    across, up = ACROSS[state.view("across")], UP[state.view("up")]
    rows = placed_all(with_names(sweep, found), across, up)
    frame, revision = _frame(rows)
    if not frame.drawable(rows):
        _blocked(rows, frame)
        return
    along, here = sweeps.ALONG[sweep.along], placed(found.here)
    best = _most(stars.best(sweep, found), [*rows, here], frame.up)
    figure = pareto(
        rows,
        frame,
        along=along,
        own=sweep.own,
        limits=_limits(sweep),
        here=here,
        best=best,
        revision=revision,
    )
    figure["data"] += chosen.marks_of(sweep, found, best, frame)
    if (across, up) == (figures.USER, figures.DEVICE):
        figure["data"] += measured_marks([sweep.scenario])
    title, subtitle = frontier_titles(sweep)
    chart(
        figure,
        key="frontier",
        alt=pareto_sentence(rows, best, along, across, up),
        heading=Heading(title, subtitle, slide=chosen.pin_lines(found.fine)),
        on={"picked": chosen.take_click} | ({} if _is_done(sweep, found) else {"settled": settled}),
    )
    _blocked(rows, frame)
    chosen.show_chosen(sweep, found, best)


def _most(best: Row | None, rows: Sequence[Row], up: figures.Axis) -> Row | None:
    """Return the best point as it is drawn: where it is no capacity, the one with most of what is shown."""
    if best is None:
        return None
    star = {**placed(best), "name": BEST}
    if up == figures.DEVICE:
        return star
    within = [row for row in [star, *rows] if row["meets_slo"] and row[up.column] > 0]
    return {**max(within, key=lambda row: row[up.column]), "name": BEST} if within else star


def _frame(rows: Sequence[Row]) -> tuple[figures.Frame, str]:
    scale = state.view("axes")
    logs = scale in ("log-x", "log"), scale in ("log-y", "log")
    across, up = state.view("across"), state.view("up")
    name = " ".join(("frontier", scale, across, up))
    return state.frame(name, lambda: figures.frame_around(rows, *logs, ACROSS[across], UP[up]))


def leaves_frame(sweep: Sweep, found: Result) -> bool:
    """Return whether the points that matter most, or a third of all, lie outside the axes."""
    if state.view("show") != "frontier":
        return False
    rows = [placed(row) for row in found.rows]
    frame, _ = _frame(rows)
    marks = [placed(row) for row in (stars.best(sweep, found), found.here) if row]
    marked, inside = frame.drawable(marks), [frame.holds(row) for row in frame.drawable(rows)]
    if not inside:
        return False
    return not all(map(frame.holds, marked)) or sum(inside) < 2 / 3 * len(inside)


def _blocked(rows: Sequence[Row], frame: figures.Frame | None = None) -> None:
    """Name the curves that cannot run at all, or have no place in a frame, with the reason."""
    reasons = {
        name: spoken(points[0]["reason"])
        for name, points in curves(rows).items()
        if not any(row["feasible"] for row in points)
    }
    if frame is not None:
        reasons |= {
            name: missing(points, frame.across, frame.up)
            for name, points in curves(rows).items()
            if name not in reasons and not frame.drawable(points)
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
        on={} if _is_done(headed, found) else {"settled": settled},
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


# How to read it


def reading_help(sweep: Sweep) -> None:
    """Say how to read the chart, and under which assumptions it holds."""
    scenario = sweep.scenario
    words = {
        "frontier": f"{_better()} The pale band is the frontier over all curves; faint points are beaten by "
        f"another one, hollow ones break a latency limit or are overloaded. {_star_words()}",
        "load": "Latency against load. Bands are 95 % intervals; hollow points are overloaded, and their "
        "TTFT grows with the length of the run.",
        "table": "What an overloaded point shows no value for depends on the length of its run. The files "
        "below hold all columns with all digits.",
    }[state.view("show")]
    notes = [*_accepted(sweep), *accelerator_of(scenario).warnings, *model_of(scenario).warnings]
    st.caption(
        f"{words} Simulated with the {scenario.calibration} calibration; definitions and limits are on the "
        f"Method page. {literal(' '.join(notes))}"
    )


def _star_words() -> str:
    """Return what the star stands for upwards of the present axes."""
    if UP[state.view("up")] == figures.DEVICE:
        return (
            "The star is the best curve at its capacity, the highest load within the limits; its bar is what "
            "other seeds give."
        )
    return (
        "The star is the point drawn within the limits that has most of it; the finding speaks of throughput."
    )


def _better() -> str:
    """Return which way is better between the axes that are shown."""
    across, up = ACROSS[state.view("across")], UP[state.view("up")]
    if (across, up) == (figures.USER, figures.DEVICE):
        what = "more tokens per accelerator, and more tokens per second for a user"
        return f"Up and to the right is better: {what}."
    side, how = ("right", "more") if across.more_is_better else ("left", "fewer")
    return f"Up and to the {side} is better: more {up.unit}, at {how} {across.unit}."


def _accepted(sweep: Sweep) -> list[str]:
    """Return where the acceptance length of a curve with speculation comes from, and who drafts."""
    if not (sweep.scenario.spec_tokens or sweep.by == "spec_tokens"):
        return []
    try:
        shown = speculation.supposed(sweep.scenario).scenario
        return [*filter(None, (acceptance_words(shown), supposed_drafter(shown)))]
    except ScenarioError:  # the curve itself says why it cannot speculate
        return []
