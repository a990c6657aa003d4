"""Published results beside the simulated ones, and how far the two are apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.benchmarks import Benchmark, CheckedError, PublishedSpread
from sim_core.evidence import entries
from sim_core.questions.benchmark import rules as benchmark_rules
from sim_core.questions.benchmark.search import Limits
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import number, percent, signed
from sim_core.view.parts import actions, pieces
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.scenarios.figures import Mark
from sim_core.view.scenarios.published_figures import published_offline, published_ratios, published_sentence
from sim_core.view.scenarios.skill import no_skill_words
from sim_core.view.scenarios.study import SIMULATED, SystemStudy, own_answer

DIAMONDS = (
    "Diamonds: ratios of published closed-division entries on this accelerator, derived here, not official. "
)


def cited(study: SystemStudy) -> None:
    """Say where the published ratios come from."""
    spread = spread_of(study)
    if spread is not None:
        with st.expander("Sources of the published ratios"):
            st.markdown(citation(study.benchmark, spread) + benchmark_rules.TRADEMARK)


def spread_of(study: SystemStudy) -> PublishedSpread | None:
    """Return the published results of the study's benchmark on its accelerator, if there are any."""
    part = study.options[0].accelerator
    return next((row for row in catalogue.published(study.benchmark.id) if row.accelerator == part), None)


def published_ratio(spread: PublishedSpread | None, rule: str) -> tuple[float, float, float, int] | None:
    """Return lowest, median and highest published ratio of a rule and the number of entries."""
    if spread is None or rule not in ("server", "interactive") or not getattr(spread, f"{rule}_count"):
        return None
    return tuple(getattr(spread, f"{rule}_{key}") for key in ("min", "median", "max", "count"))


def marks(study: SystemStudy, own: Limits | None) -> list[Mark]:
    """Return the benchmark's limits and the visitor's own as marks of a chart."""
    spread, found = spread_of(study), []
    for rule in ("server", "interactive"):
        asked = study.benchmark.limits_ms(rule)
        if asked is None:
            continue
        answer = study.answers.get(rule)
        bound_by = answer.bound_by if answer else "floor"
        found.append(Mark(rule, *asked, study.kept(answer), bound_by, published_ratio(spread, rule)))
    if own is not None:
        answer = own_answer(study, own)
        found.append(Mark("own", *own, study.kept(answer), answer.bound_by if answer else "floor"))
    return found


# Published results


def show_published(benchmark: Benchmark) -> None:
    """Show published results of a benchmark by accelerator beside simulated ones, and the errors."""
    check = catalogue.published_check("mlperf")
    rows = published_rows(benchmark)
    pieces.say(published_finding(benchmark, rows, check))
    if rows:
        height = 130 + 42 * len(rows)
        alt = published_sentence(rows, benchmark.title)
        heading = Heading(f"{benchmark.title}, published closed-division results", SIMULATED, False)
        left, right = st.columns(2)
        with left:
            st.markdown("###### Offline throughput per accelerator")
            chart(published_offline(rows), "published-offline", alt, height=height, heading=heading)
        with right:
            st.markdown("###### Server and Interactive, share of Offline")
            chart(published_ratios(rows), "published-ratios", alt, height=height, heading=heading)
    st.markdown("###### How close is it? All benchmarks, all entries")
    _goals(check)
    if words := no_skill_words():
        st.markdown(words)
    with st.expander(f"Sources of the {number(sum(row['offline_count'] for row in rows))} results"):
        for spread in catalogue.published(benchmark.id):
            st.markdown(
                f"**{catalogue.accelerator(spread.accelerator).name}.** {citation(benchmark, spread)}"
            )
    st.caption(
        "Published: MLPerf Inference, datacenter, closed division, from the repositories of results. Ratios "
        "are derived here and are not official metrics. Simulated figures are MLPerf-like, not MLPerf "
        "results; they stand beside published ones to test this model, not to rank anything. "
        f"{benchmark_rules.TRADEMARK}"
    )
    files = [
        *actions.table_files(rows, "published", published=True),
        actions.File(
            "Sources", "batchscope-sources.json", "application/json", lambda: sources_text(benchmark)
        ),
    ]
    actions.take_away("published-ratios" if rows else "", files, check.command)


def published_rows(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Return one row per accelerator: the published spread, and what was simulated for most entries."""
    rows = []
    for spread in catalogue.published(benchmark.id):
        usual = entries.usual_system(benchmark.id, spread.accelerator)
        row: dict[str, Any] = {
            "accelerator": spread.accelerator,
            "name": catalogue.accelerator(spread.accelerator).name,
        }
        for rule in benchmark_rules.RULES:
            for key in ("count", "min", "median", "max"):
                row[f"{rule}_{key}"] = getattr(spread, f"{rule}_{key}")
            row[f"{rule}_simulated"] = getattr(usual, rule if rule == "offline" else f"{rule}_counted", None)
        rows.append(
            row
            | {
                "rounds": ", ".join(spread.rounds),
                "submitters": ", ".join(spread.submitters),
                "division": spread.division,
                "retrieved": spread.retrieved,
            }
        )
    return sorted(rows, key=lambda row: row["offline_median"] or 0.0)


def published_finding(benchmark: Benchmark, rows: Sequence[Row], check: catalogue.Check) -> str:
    """Return how close the simulation comes, in words."""
    if not rows:
        return f"No published results of {benchmark.title} are stored here."
    by_rule = {(goal.rule, goal.rows): goal for goal in check.goals}
    offline = by_rule["offline", "all"]
    gaps = [
        abs(row["offline_simulated"] / row["offline_median"] - 1)
        for row in rows
        if row["offline_simulated"] and row["offline_median"]
    ]
    typical = sorted(gaps)[len(gaps) // 2] if gaps else None
    return (
        f"Simulated Offline throughput lies {percent(offline.error)} from published at the median of "
        f"{number(offline.count)} results; for {benchmark.title}, {percent(typical)} over {len(gaps)} "
        "accelerators."
    )


GOAL_NAMES = {
    "offline": "Offline, tok/s per accelerator",
    "server": "Server / Offline, steady state",
    "server counted": "Server / Offline, as LoadGen counts",
    "interactive": "Interactive / Offline, steady state",
    "interactive counted": "Interactive / Offline, as LoadGen counts",
}


def _goals(check: catalogue.Check) -> None:
    """Show the errors against the goals and against the best constant guess."""
    heads = ("", "Rows", "Results", "Error", "Goal", "Best constant", "Bias")
    lines = [
        (GOAL_NAMES.get(goal.rule, goal.rule) if goal.rows == "all" else "", _goal_cells(goal))
        for goal in check.goals
    ]
    st.html(render("scenarios/table.html", heads=heads, lines=lines, full_width=False))
    st.caption(
        f"As last compared on {check.date}, calibration {check.calibration}, by `{check.command}`. Offline: "
        "median of the relative errors; ratios: mean of the absolute differences; bias: median of the signed "
        "ones. As LoadGen counts: tokens over the time until the last answer, for a run of the shortest "
        "length allowed, 600 s. That is a bound: logs show runs of 600 to 2,400 s, which lose less that way, "
        "and Server entries that keep clear of their limits (on average they use four fifths of TPOT), which "
        "is not simulated. DeepSeek's data-parallel attention is not modelled. The calibration was fitted "
        "to Llama 2 70B alone."
    )


def _goal_cells(goal: CheckedError) -> list[tuple[str, str]]:
    """Return the cells of one goal; the error shows whether it is met."""
    size = percent if goal.rule == "offline" else _difference
    met = pieces.good_or_bad(goal.error <= goal.goal)
    return [
        (goal.rows, ""),
        (number(goal.count), ""),
        (size(goal.error), met),
        (f"≤\u00a0{size(goal.goal)}", ""),
        (size(goal.constant), ""),
        ((signed if goal.rule == "offline" else _difference)(goal.bias), ""),
    ]


def _difference(value: float | None) -> str:
    return "–" if value is None else number(value, 2).replace("-", "−")


def citation(benchmark: Benchmark, spread: PublishedSpread) -> str:
    """Return what must be said with published results."""
    ids = ", ".join(spread.entry_ids) or "by path (this round has no ids)"
    return (
        f"MLPerf Inference {', '.join(spread.rounds)}, datacenter, {spread.division} division, "
        f"{benchmark.id}: {number(spread.offline_count)} Offline results of {len(spread.submitters)} "
        f"submitters ({', '.join(spread.submitters)}); entries {ids}; retrieved {spread.retrieved} from the "
        "result repositories named in the file of sources. "
    )


def sources_text(benchmark: Benchmark) -> str:
    """Return every published spread with its entries and source paths, as JSON."""
    rows = [
        {name: getattr(spread, name) for name in PublishedSpread.__slots__ if name != "id"}
        for spread in catalogue.published(benchmark.id)
    ]
    return json.dumps(
        {"benchmark": benchmark.id, "trademark": benchmark_rules.TRADEMARK, "spreads": rows}, indent=1
    )
