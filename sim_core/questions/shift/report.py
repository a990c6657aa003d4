"""Strategies beside one another: what each decision brought, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sim_core import __version__
from sim_core.questions.shift.cluster import STATES, phases_s, reallocation_s
from sim_core.questions.shift.study import BINS, Outcome, Progress, Study, brought, key_of, part_of, silent
from sim_core.scenario.scenario import Scenario, accelerator_of
from sim_core.traffic.requests import Requests


def decision_rows(study: Study, outcome: Outcome) -> list[dict[str, Any]]:
    """Return one row for each decision to move: when, what, how long, and what it costs."""
    scenario = study.scenario
    price = accelerator_of(scenario).price_usd_per_hour
    rows = []
    for decision in outcome.decisions:
        moves = outcome.moves[list(decision.moves)]
        away_s = float(np.minimum(moves["ready_s"], study.duration_s).sum() - moves["asked_s"].sum())
        hours = away_s * _devices(study) / 3600
        rows.append(
            {
                "time_s": decision.time_s,
                "prefill_workers_before": decision.before,
                "prefill_workers_after": decision.after,
                "workers": [int(worker) for worker in moves["worker"]],
                "drained_after_s": float(moves["drained_s"].max() - decision.time_s),
                "ready_after_s": float(moves["ready_s"].max() - decision.time_s),
                "accelerator_hours": hours,
                "cost_usd": math.nan if price is None else hours * price,
            }
        )
    return rows


def _devices(study: Study) -> float:
    """Return the devices of a worker."""
    return study.scenario.accelerators / study.workers


def summary_row(study: Study, outcome: Outcome) -> dict[str, Any]:
    """Return one strategy in numbers."""
    hours = _devices(study) / 3600
    fixed = study.outcome("fixed")
    return {
        "strategy": outcome.name,
        "goodput_per_s": outcome.goodput_per_s,
        "slo_attainment_frac": outcome.attainment_frac,
        "benefit_frac": outcome.attainment_frac - fixed.attainment_frac,
        "ttft_ms_p50": outcome.ttft_ms["p50"],
        "ttft_ms_p99": outcome.ttft_ms["p99"],
        "tpot_ms_p50": outcome.tpot_ms["p50"],
        "tpot_ms_p99": outcome.tpot_ms["p99"],
        "prefill_workers_start": outcome.start,
        "decisions": len(outcome.decisions),
        "moves": len(outcome.moves),
        "accelerator_hours_away": outcome.away_s * hours,
        **{f"accelerator_hours_{key_of(state)}": value * hours for state, value in outcome.state_s.items()},
    }


def timeline_rows(study: Study, outcome: Outcome) -> list[dict[str, Any]]:
    """Return a strategy's run over time, one row a bin."""
    line = outcome.timeline
    need = study.load.between(line.edges_s[:-1], line.edges_s[1:])
    workers = workers_over_time(outcome, line.edges_s)
    middle_s = (line.edges_s[1:] + line.edges_s[:-1]) / 2
    other = np.interp(middle_s, study.demand.curve_s, study.demand.other_frac)
    width_s = line.edges_s[1] - line.edges_s[0]
    rows = []
    for k in range(BINS):
        arrived = int(line.arrived[k])
        rows.append(
            {
                "strategy": outcome.name,
                "start_s": float(line.edges_s[k]),
                "end_s": float(line.edges_s[k + 1]),
                "arrival_per_s": arrived / width_s,
                "other_frac": float(other[k]),
                "needs_prefill_workers": float(need[k, 0]),
                "needs_decode_workers": float(need[k, 1]),
                **{f"workers_{key_of(state)}": float(workers[state][k]) for state in STATES},
                "slo_attainment_frac": line.within[k] / arrived if arrived else math.nan,
                "goodput_per_s": line.within[k] / width_s,
                "prefill_queue": int(line.prefill_queue[k]),
                "decode_queue": int(line.decode_queue[k]),
            }
        )
    return rows


def workers_over_time(outcome: Outcome, edges_s: np.ndarray) -> dict[str, np.ndarray]:
    """Return how many workers are in each state, on average over each bin."""
    found = {state: np.zeros(edges_s.size - 1) for state in STATES}
    for span in outcome.spans:
        inside_s = np.minimum(span.end_s, edges_s[1:]) - np.maximum(span.start_s, edges_s[:-1])
        found[span.state] += np.maximum(inside_s, 0.0)
    return {state: total_s / np.diff(edges_s) for state, total_s in found.items()}


class ShiftReport(NamedTuple):
    """What `shift` on the command line says, as plain values.

    `strategies` has one row each as `summary_row`, `decisions` the rows of `decision_rows` by strategy (with
    what each `brought` if that was asked for), `timeline` the rows of `timeline_rows` of all strategies.
    """

    scenario: dict[str, Any]
    traffic: dict[str, Any]
    strategies: list[dict[str, Any]]
    decisions: dict[str, list[dict[str, Any]]]
    timeline: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON: each strategy with its decisions and its timeline."""
        parts = []
        for row in self.strategies:
            name = row["strategy"]
            mine = [
                {key: value for key, value in line.items() if key != "strategy"}
                for line in self.timeline
                if line["strategy"] == name
            ]
            parts.append(row | {"decision_rows": self.decisions[name], "timeline": mine})
        return {
            "scenario": self.scenario,
            "traffic": self.traffic,
            "strategies": parts,
            "version": __version__,
        }


def report(
    scenario: Scenario,
    names: Sequence[str],
    trace: Requests | None = None,
    worth: bool = False,
    progress: Progress = silent,
) -> ShiftReport:
    """Return what strategies make of a scenario's changing traffic.

    `progress` is called now and then with the share of the strategies that is done.
    """
    study = Study(scenario, trace)
    outcomes = [
        study.outcome(name, part_of(progress, number, len(names))) for number, name in enumerate(names)
    ]
    decisions = {outcome.name: decision_rows(study, outcome) for outcome in outcomes}
    if worth:
        for outcome in outcomes:
            for row, gained in zip(decisions[outcome.name], brought(study, outcome), strict=True):
                row["brought"] = gained
    return ShiftReport(
        study.scenario.as_dict(),
        traffic_row(study),
        [summary_row(study, item) for item in outcomes],
        decisions,
        [row for item in outcomes for row in timeline_rows(study, item)],
    )


def sharing_words(asked: Scenario, shown: Scenario, trace: Requests | None = None) -> list[str]:
    """Return how what prompts have in common is counted in traffic that shifts; nothing without any."""
    words = []
    if asked.turns > 1 or (trace is not None and trace.session is not None):
        words.append("Turns of conversations come by themselves, at their lengths, and wait for no answer.")
    if asked.prefix_caching == "on":
        words.append(
            f"Each prompt finds {100 * shown.prefix_hit_frac:.3g}% of itself in the prefix cache, what one "
            "without limit would; that caches fill up, or are lost where workers move, is not simulated."
        )
    return words


def traffic_row(study: Study) -> dict[str, Any]:
    """Return the traffic, what it needs and what a move takes, in numbers."""
    need = study.load.between(0.0, study.duration_s)
    return {
        "requests": len(study.demand.requests),
        "duration_s": study.duration_s,
        "mean_per_s": len(study.demand.requests) / study.duration_s,
        "copies_of_trace": study.demand.copies,
        "workers": study.workers,
        "mean_prefill_workers_needed": float(need[0]),
        "mean_decode_workers_needed": float(need[1]),
        "prefill_factor": study.needs.prefill_factor,
        "decode_factor": study.needs.decode_factor,
        "reallocation_s": reallocation_s(study.scenario),
        **{f"{key_of(name)}_s": value for name, value in phases_s(study.scenario).items()},
    }
