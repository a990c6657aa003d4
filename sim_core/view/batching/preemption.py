"""The experiment on running out of KV cache."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping

import streamlit as st

from sim_core.fields.texts import counted
from sim_core.questions.experiments import preemption as no_blocks
from sim_core.results import text as report
from sim_core.scenario.link.write import command_for, to_query
from sim_core.scenario.scenario import Scenario
from sim_core.view.batching.experiments import (
    context_of,
    dial_batch,
    dial_context,
    rate_words,
    setting_notes,
    titles,
)
from sim_core.view.batching.memory_figures import (
    WAYS,
    crossing_contexts,
    crossing_links,
    crossing_sentence,
    extra_words,
    pressure_curves,
    pressure_sentence,
)
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import duration, number, quantity
from sim_core.view.parts import actions, controls, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.pieces import cells, point_cells, say, table
from sim_core.view.session import state
from sim_core.view.session.advice import Advice, offer

# Running out of KV cache


def preemption(scenario: Scenario) -> None:
    """Show what less KV cache does, and whether to recompute or to swap."""
    found = no_blocks.pressure(scenario)
    tokens = context_of(scenario)
    decodes = int(state.view_number("at_batch"))
    crossover = no_blocks.crossover(scenario, tokens, decodes)
    here = found.at(scenario.kv_memory_frac)
    say(
        pressure_finding(found, here),
        crossover_finding(crossover),
        *setting_notes(scenario),
        pressure_note(scenario),
    )
    offer(preemption_advice(scenario, here))
    trust_badge.badge(found.scenario)
    _pressure_controls(scenario, found)
    curves = {way: found.curve(way) for way in no_blocks.WAYS}
    chart(
        pressure_curves(curves, here_tokens=here["swap"].get("kv_tokens", 0)),
        key="preemption",
        alt=pressure_sentence(curves),
        height=600,
        heading=titles(found.scenario, "Less and less KV cache"),
    )
    st.caption(
        "From right to left the same requests get less KV cache, down to room for the longest one alone. "
        "Done again: tokens computed again, or moved out and in, as a share of all tokens. Hollow points are "
        "overloaded."
    )
    _pressure_table(tightest(found, here))
    _crossover(scenario, crossover, decodes)
    rows = crossover.rows()
    files = [
        *actions.table_files(found.rows, "preemption", found.scenario),
        actions.File(
            "Crossover", actions.named("crossover", "csv"), "text/csv", lambda: report.csv_text(rows)
        ),
    ]
    actions.take_away("preemption", files, preemption_commands(found, crossover, decodes))


def preemption_commands(found: no_blocks.Pressure, crossover: no_blocks.Crossover, decodes: int) -> str:
    """Return the shell commands that give the points of the sweep and the curves of the crossover."""
    query = to_query(found.scenario)
    code = (
        f"from sim_core import crossover, load_scenario; scenario = load_scenario({query!r}); "
        f"print(*crossover(scenario, {crossover.tokens}, {decodes}).rows(), sep=chr(10))"
    )
    return (
        f"{command_for(found.scenario, 'frontier', vary=found.vary)}\n"
        f"# recompute or swap: where they cross\npython -c {shlex.quote(code)}"
    )


def _pressure_controls(scenario: Scenario, found: no_blocks.Pressure) -> None:
    tokens = {row["kv_memory_frac"]: row.get("kv_tokens", 0) for row in found.curve("swap")}
    controls.beside(
        "kv_memory_frac",
        tokens,
        scenario.kv_memory_frac,
        lambda share: counted(tokens.get(share, 0), "token"),
        label="KV cache",
        help="Writes the share of the device's memory that the engine may use.",
    )


def pressure_note(scenario: Scenario) -> str:
    """Return what was assumed about the policy, if anything was."""
    if scenario.policy == "static":
        return "Static batches reserve room for their longest request and preempt nobody. Shown is chunked."
    return ""


def pressure_finding(found: no_blocks.Pressure, here: Mapping[str, Row]) -> str:
    """Return what preemption costs at this setting, or from where on there is any."""
    if not all(row["feasible"] for row in here.values()):
        return f"Nothing runs with this KV cache. {next(iter(here.values()))['reason']}"
    again, moved = here["recompute"], here["swap"]
    if again["preemptions"] or moved["preemptions"]:
        return _preempted(again, moved)
    room = f"{again['kv_tokens']:,} KV tokens are enough: nobody is preempted."
    pressed = [row for row in found.curve("recompute") if row["feasible"] and row["preemptions"]]
    if not pressed:
        return f"{room} Nor is anybody with less: these requests are never more than fit."
    tight = tightest(found, here)
    return (
        f"{room} With {pressed[-1]['kv_tokens']:,} somebody is. "
        f"{_preempted(tight['recompute'], tight['swap'])}"
    )


def preemption_advice(scenario: Scenario, here: Mapping[str, Row]) -> list[Advice]:
    """Return the way back that gives more here, where it is the other one and somebody is preempted."""
    rows = [row for row in here.values() if row["feasible"] and row["preemptions"]]
    if len(rows) < 2:
        return []
    better = max(here, key=lambda way: here[way]["output_tok_per_s"])
    own = here[scenario.preemption]["output_tok_per_s"]
    if here[better]["output_tok_per_s"] < 1.01 * own:
        return []
    return [Advice("Swap instead" if better == "swap" else "Recompute instead", {"preemption": better})]


def _preempted(again: Row, moved: Row) -> str:
    """Return the price of both ways, in words."""
    return (
        f"With {again['kv_tokens']:,} KV tokens, recomputing means {_times(again)} and about "
        f"{duration(1e3 * again['extra_s'])} of computing again, and gives "
        f"{rate_words(again['output_tok_per_s'])}; swapping means {_times(moved)} and "
        f"{duration(1e3 * moved['extra_s'])} of moving, and gives {rate_words(moved['output_tok_per_s'])}."
    )


def _times(row: Row) -> str:
    return counted(row["preemptions"], "preemption")


def crossover_finding(found: no_blocks.Crossover) -> str:
    """Return which way back is cheaper, and the host link at which that changes."""
    again, moved, even = found.recompute_here_ms[1.0], found.swap_here_ms, found.even_gb_per_s[1.0]
    text = (
        f"To bring back a request of {counted(found.tokens, 'token')} takes {duration(again)} by recomputing "
        "and "
        f"{duration(moved)} by swapping over {quantity(found.host_gb_per_s, 'GB/s')}: "
    )
    if not math.isfinite(even):
        return f"{text}recomputing costs nothing here, since the step has room for it."
    return f"{text}below a host link of {quantity(even, 'GB/s')} recomputing is cheaper, above it swapping."


def tightest(found: no_blocks.Pressure, here: Mapping[str, Row]) -> Mapping[str, Row]:
    """Return the points of this setting, or with the least KV cache if nobody is preempted here."""
    pressed = [row for row in found.rows if row["feasible"] and row["preemptions"]]
    if not pressed or any(row.get("preemptions") for row in here.values()):
        return here
    return found.at(min(pressed, key=lambda row: row["kv_tokens"])["kv_memory_frac"])


def _pressure_table(points: Mapping[str, Row]) -> None:
    ways = [points[way] for way in no_blocks.WAYS]
    if not all(row["feasible"] for row in ways):
        return
    rejected = f"; {counted(ways[0]['rejected'], 'request')} never fit" if ways[0]["rejected"] else ""
    table(
        f"With {ways[0]['kv_tokens']:,} KV tokens; differences are against recomputing{rejected}",
        [WAYS[way][0] for way in no_blocks.WAYS],
        [
            ("Preemptions", cells([row["preemptions"] for row in ways], number, False)),
            ("Tokens done again", [extra_words(row) for row in ways]),
            ("Time for that, about", cells([1e3 * row["extra_s"] for row in ways], duration, False)),
            ("Output", cells([row["output_tok_per_s"] for row in ways], rate_words, True)),
            ("TPOT p99", cells([row["tpot_ms_p99"] for row in ways], duration, False)),
            ("TTFT p99", point_cells(ways, "ttft_ms_p99", duration, False)),
        ],
    )


def _crossover(scenario: Scenario, found: no_blocks.Crossover, decodes: int) -> None:
    st.markdown("##### Recompute or swap: where they cross")
    left, right = st.columns(2)
    with left:
        dial_context("Tokens that the preempted request holds", no_blocks.mean_context(scenario))
        chart(
            crossing_contexts(found),
            key="crossing_length",
            height=380,
            alt=crossing_sentence(found),
            heading=titles(scenario, "The way back, by length"),
        )
    with right:
        dial_batch("Sequences that decode meanwhile")
        chart(
            crossing_links(found, no_blocks.HOST_GB_PER_S),
            key="crossing_link",
            height=380,
            alt=crossover_finding(found),
            heading=titles(scenario, "The way back, by host link"),
        )
    st.caption(
        f"Both from the prices of the engine's steps. Recomputing: how much longer the steps of {decodes:,} "
        "decodes last for it. Swapping: its KV cache over the host link, out and in. Rings mark equal times."
    )
