"""How what a latency limit costs has changed over the rounds of published results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.benchmarks import Benchmark
from sim_core.catalogue.rounds import RoundSpread, rounds
from sim_core.evidence import entries
from sim_core.questions.benchmark import rules as benchmark_rules
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import number, percent
from sim_core.view.parts import actions, pieces
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.scenarios.figures import RULES
from sim_core.view.scenarios.rounds_figures import limits_over_rounds, ratios_over_rounds, rounds_sentence
from sim_core.view.scenarios.skill import no_skill_words
from sim_core.view.scenarios.study import SIMULATED

COMMAND = "python -m benchmarks.mlperf FOLDER --write"
SHARES = ("server", "interactive")


def show_rounds(benchmark: Benchmark, accelerator: str) -> None:
    """Show published ratios by round, the simulated ones beside them, and how the limits tightened."""
    rows = round_rows(benchmark)
    pieces.say(rounds_finding(benchmark, rows))
    heading = Heading(
        f"{benchmark.title} over the rounds, published closed-division results", SIMULATED, False
    )
    if rows:
        for rule, column in zip(SHARES, st.columns(2), strict=True):
            with column:
                st.markdown(f"###### {RULES[rule][0]}, share of Offline")
                lines = medians(rows, rule)
                figure = ratios_over_rounds(rows, rule, accelerator, lines)
                chart(figure, f"rounds-{rule}", rounds_sentence(lines, rule, benchmark.title), 420, heading)
        _table(rows)
    st.markdown("###### Limits at the 99th percentile, by the round that first had them")
    limits = limit_rows()
    tpots = [row["tpot_ms"] for row in limits]
    alt = f"TPOT limits of {len(limits)} rules by round, {number(max(tpots))} to {number(min(tpots))} ms."
    chart(limits_over_rounds(limits), "rounds-limits", alt, 380, heading)
    _small_print(benchmark)
    files = actions.table_files(rows, "rounds", published=True)
    actions.take_away("rounds-server" if rows else "", files, COMMAND)


# --- rows -----------------------------------------------------------------------------------------


def round_rows(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Return one row a round and accelerator: published ratios, and simulated ones."""
    return [_row(benchmark, spread) for spread in rounds(benchmark.id)]


def _row(benchmark: Benchmark, spread: RoundSpread) -> dict[str, Any]:
    usual = entries.usual_system(benchmark.id, spread.accelerator)
    row = spread._asdict() | {"name": catalogue.accelerator(spread.accelerator).name}
    for rule in SHARES:
        row[f"{rule}_simulated"] = getattr(usual, f"{rule}_counted", None) or math.nan
    return row


def medians(rows: Sequence[Row], rule: str) -> list[dict[str, Any]]:
    """Return, for each round, the median over its entries, published and simulated, and their number.

    An accelerator counts as often as it has entries, by its own median.
    """
    found = []
    for name in sorted({row["round"] for row in rows}):
        inside = [row for row in rows if row["round"] == name and row[f"{rule}_count"]]
        if inside:
            counts = [row[f"{rule}_count"] for row in inside]
            ours = np.repeat([row[f"{rule}_simulated"] for row in inside], counts)
            theirs = np.repeat([row[f"{rule}_median"] for row in inside], counts)
            known = ours[np.isfinite(ours)]
            found.append({"round": name, "count": sum(counts), "published": float(np.median(theirs)),
                          "simulated": float(np.median(known)) if known.size else math.nan})  # fmt: skip
    return found


def limit_rows() -> list[dict[str, Any]]:
    """Return the latency limits of all benchmarks, by the round that first had them."""
    found = []
    for benchmark in catalogue.benchmarks().values():
        firsts = {"server": benchmark.first_round, "interactive": benchmark.interactive_first_round}
        for rule, first in firsts.items():
            limits = benchmark.limits_ms(rule)
            if limits is not None:
                row = {"benchmark": benchmark.title, "rule": rule, "round": first}
                found.append(row | dict(zip(("ttft_ms", "tpot_ms"), limits, strict=True)))
    return sorted(found, key=lambda row: (row["round"], -row["tpot_ms"], row["benchmark"]))


# --- words ----------------------------------------------------------------------------------------


def rounds_finding(benchmark: Benchmark, rows: Sequence[Row]) -> str:
    """Return how the ratios and the limits moved, in words."""
    limits = limit_rows()
    first, tightest = limits[0], min(limits, key=lambda row: row["tpot_ms"])
    text = (
        f"The tightest limit on TPOT fell from {number(first['tpot_ms'])} ms in {first['round']} to "
        f"{number(tightest['tpot_ms'])} ms in {tightest['round']}."
    )
    moved = [words for rule in SHARES if (words := _moved(medians(rows, rule), RULES[rule][0]))]
    if not moved:
        return f"{text} No published ratios of {benchmark.title} are stored here."
    return f"{text} {benchmark.title}: {'; '.join(moved)}."


def _moved(found: Sequence[Row], name: str) -> str:
    """Return the first and the last median of a rule in words; "" where there is none."""
    if not found:
        return ""
    first, last = found[0], found[-1]
    ours = f" (simulated {percent(last['simulated'])})" if math.isfinite(last["simulated"]) else ""
    if first is last:
        return f"{name} kept {percent(last['published'])} of Offline in {last['round']}{ours}"
    return (
        f"{name} kept {percent(first['published'])} of Offline in {first['round']} and "
        f"{percent(last['published'])} in {last['round']}{ours}"
    )


# --- pieces ---------------------------------------------------------------------------------------


def _table(rows: Sequence[Row]) -> None:
    """Show every round and accelerator: entries, ratios and the simulated ones."""
    heads = ["Round", "Accelerator"]
    heads += [f"{RULES[rule][0]}{what}" for rule in SHARES for what in (": entries", "", ", simulated")]
    lines = [
        (row["round"], [(row["name"], ""), *(cell for rule in SHARES for cell in _cells(row, rule))])
        for row in rows
    ]
    with st.expander(f"All {number(len(rows))} rounds and accelerators"):
        st.html(render("scenarios/table.html", heads=heads, lines=lines, full_width=True))


def _cells(row: Row, rule: str) -> list[tuple[str, str]]:
    """Return entries, median with range, and simulated ratio of one row."""
    if not row[f"{rule}_count"]:
        return [("–", "")] * 3
    low, middle, high = (percent(row[f"{rule}_{part}"]) for part in ("min", "median", "max"))
    ours = row[f"{rule}_simulated"]
    count = number(row[f"{rule}_count"])
    median = middle if count == "1" else f"{middle} ({low} to {high})"
    return [(count, ""), (median, ""), (percent(ours) if math.isfinite(ours) else "–", "")]


def _small_print(benchmark: Benchmark) -> None:
    """Say where the entries are, what is derived, and whose trademark it is."""
    with st.expander("Sources of the published ratios"):
        for row in rounds(benchmark.id):
            ids = row.entries or "by path (this round has no ids)"
            st.markdown(
                f"**{row.round}, {catalogue.accelerator(row.accelerator).name}.** MLPerf Inference "
                f"{row.round}, datacenter, closed division, {benchmark.id}; {row.submitters}; entries {ids}; "
                f"retrieved {row.retrieved} from {row.sources}."
            )
    st.caption(
        "Published: MLPerf Inference, datacenter, closed division; ratios to the same system's Offline are "
        "derived here and are not official metrics. Rounds differ in software as well as in limits. "
        "Simulated: today's engine on the accelerator's usual system, as LoadGen counts, the same in every "
        "round, so a line that moves does so by the accelerators that took part. "
        f"{no_skill_words()}{benchmark_rules.TRADEMARK}"
    )
