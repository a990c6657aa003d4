"""The experiment on waiting for a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import streamlit as st

from sim_core.evidence import trust
from sim_core.evidence.trust import Trust
from sim_core.questions.experiments.common import rounded
from sim_core.questions.experiments.waiting import Waiting, waiting
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import Scenario
from sim_core.view.batching.experiments import rate_words, setting_notes, titles
from sim_core.view.batching.figures import wait_curves, wait_sentence
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.parts import actions, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.pieces import cells, point_cells, say, table
from sim_core.view.session import shell, state
from sim_core.view.session.advice import Advice, offer

LOADS = (0.3, 0.6, 0.9)


# Waiting for a batch


def wait(scenario: Scenario) -> None:
    """Show what waiting for a batch does to TTFT and throughput."""
    found = waiting(scenario)
    say(wait_finding(found), *setting_notes(scenario), load_note(found))
    offer(wait_advice(scenario, found))
    trust_badge.badge(found.scenario, load_frac=found.load_frac)
    _load_controls(scenario, found)
    curves = {batch: found.curve(batch) for batch in found.vary["max_batch"]}
    chart(
        wait_curves(curves, best=found.best, continuous=found.continuous),
        key="wait",
        alt=wait_sentence(curves, found.best, found.continuous),
        height=600,
        heading=titles(found.scenario, "Waiting for a batch"),
    )
    st.caption(
        "Solid: mean TTFT, and output per second. Dotted: p99, and output per second of work, which is what "
        "a second yields in which the device is busy. Hollow points are overloaded. Every point serves the "
        "same requests."
    )
    _wait_table(found)
    rows = [*found.rows, {**found.continuous, "max_batch": found.scenario.max_batch}]
    reference = found.scenario.replace(policy="chunked")
    actions.take_away(
        "wait",
        actions.table_files(rows, "wait", partial(_wait_trust, found)),
        f"{command_for(found.scenario, 'frontier', vary=found.vary)}\n{command_for(reference)}",
    )


def _wait_trust(found: Waiting, row: Row) -> Trust:
    """Return how far a point can be trusted; the load is known of static batching alone."""
    if row.get("policy", "static") == "static":
        return trust.trust(found.scenario.replace(max_batch=row["max_batch"]), load_frac=found.load_frac)
    return trust.trust(found.scenario.replace(policy=row["policy"]))


def _load_controls(scenario: Scenario, found: Waiting) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Load, of what static batching serves", width="content")
        for load in LOADS:
            rate = rounded(load * found.saturation_per_s * scenario.replicas)
            st.button(
                percent(load),
                key=f"load_{load}",
                on_click=_set_rate,
                args=(rate,),
                help=f"Poisson arrivals at {quantity(rate, 'req/s')}",
                type="primary" if abs(found.load_frac / load - 1) < 0.02 else "secondary",
            )


def _set_rate(rate_per_s: float) -> None:
    arrivals = st.session_state.scenario.arrivals
    state.change(arrivals=arrivals if arrivals == "gamma" else "poisson", arrival_per_s=rate_per_s)
    shell.rerun_page()


def load_note(found: Waiting) -> str:
    """Return what was assumed about the load, if anything was."""
    share = f"{percent(found.load_frac)} of what static batching can serve"
    if found.lowered:
        asked, top = (quantity(value, "req/s") for value in (found.asked_per_s, found.saturation_per_s))
        frac = percent(found.load_frac)
        return f"{asked} is more than static batching can serve ({top}). Shown is {frac} of that."
    if found.asked_per_s is None:
        return f"This traffic has no request rate of its own; shown are Poisson arrivals at {share}."
    return ""


def wait_finding(found: Waiting) -> str:
    """Return the best wait, and why it is where it is."""
    best = found.best
    load = f"At {quantity(found.scenario.arrival_per_s, 'req/s')}, {percent(found.load_frac)} of what static "
    load += "batching can serve,"
    if best is None:
        return f"{load} no batch limit keeps up with the requests."
    curve = found.curve(best["max_batch"])
    ttft = f"with a batch limit of {number(best['max_batch'])} the first token takes {_ttft(best)}"
    continuous = duration(found.continuous["ttft_ms_mean"])
    last = f"Continuous batching, where nobody waits for a batch, needs {continuous}."
    if best["batch_wait_ms"] == 0:
        start, why = f"{load} it is best not to wait", _why_not(found, best)
    else:
        start, none = f"{load} a wait of {duration(best['batch_wait_ms'])} is best", curve[0]
        why = (
            f"Without it the engine starts with {number(none['batch_requests'], 2)} requests and the others "
            f"queue behind them ({duration(none['ttft_ms_mean'])})."
        )
    return f"{start}: {ttft}. {why}{_beyond(found, curve)} {last}"


def wait_advice(scenario: Scenario, found: Waiting) -> list[Advice]:
    """Return the best batch limit and wait, where the scenario has others."""
    if found.best is None:
        return []
    changes = {
        "max_batch": int(found.best["max_batch"]),
        "batch_wait_ms": float(found.best["batch_wait_ms"]),
    }
    if all(getattr(scenario, key) == value for key, value in changes.items()):
        return []
    wait = duration(changes["batch_wait_ms"]) if changes["batch_wait_ms"] else "no wait"
    return [Advice(f"Use batches of {number(int(changes['max_batch']))}, {wait}", changes)]


def _ttft(row: Row) -> str:
    return f"{duration(row['ttft_ms_mean'])} on average ({duration(row['ttft_ms_p99'])} at p99)"


def _why_not(found: Waiting, best: Row) -> str:
    """Return why no wait is best: the next batch fills by itself, or there is no company to wait for."""
    arriving = (1 - best["idle_frac"]) * best["batch_requests"]
    batch_s = arriving / found.scenario.arrival_per_s
    while_busy = (
        f"While one batch runs ({duration(1e3 * batch_s)}), {number(arriving, 2)} more requests arrive"
    )
    if arriving >= 1.5:
        return f"{while_busy} and form the next one by themselves."
    return f"{while_busy}: there is hardly any company to wait for."


def _beyond(found: Waiting, curve: Sequence[Row]) -> str:
    """Return what a longer wait costs, with a space before it."""
    longest = curve[-1]
    if found.harmless_ms >= longest["batch_wait_ms"]:
        return " Longer waits change nothing: the batches are full before they end."
    free = f"A wait of up to {duration(found.harmless_ms)} costs nothing; b" if found.harmless_ms > 0 else "B"
    return (
        f" {free}eyond, everybody waits for company: {duration(longest['ttft_ms_mean'])} for a wait of "
        f"{duration(longest['batch_wait_ms'])}."
    )


def _wait_table(found: Waiting) -> None:
    best = found.best
    if best is None:
        return
    curve = found.curve(best["max_batch"])
    shown = [curve[0], *[row for row in curve[1:] if row is best], *_around(curve, best, found.scenario)]
    heads = ["no wait" if not row["batch_wait_ms"] else duration(row["batch_wait_ms"]) for row in shown]
    every = [*shown, found.continuous]
    busy = [row.get("busy_tok_per_s", math.nan) for row in every]
    batch = [row.get("batch_requests", math.nan) for row in every]
    table(
        f"Batch limit {number(best['max_batch'])}, by wait; differences are against no wait",
        [*heads, "continuous"],
        [
            ("TTFT mean", point_cells(every, "ttft_ms_mean", duration, False)),
            ("TTFT p99", point_cells(every, "ttft_ms_p99", duration, False)),
            ("Output", cells([row["output_tok_per_s"] for row in every], rate_words, True)),
            ("Output per second of work", cells(busy, rate_words, True)),
            ("Requests in a batch", cells(batch, lambda value: number(value, 2), None)),
        ],
    )


def _around(curve: Sequence[Row], best: Row, scenario: Scenario) -> list[Row]:
    """Return the points beside no wait and the best one: a second, ten seconds, and the scenario's own."""
    wanted = {1000.0, 10_000.0, scenario.batch_wait_ms} - {0.0, best["batch_wait_ms"]}
    return [row for row in curve if row["batch_wait_ms"] in wanted]
