"""The view of the engines by name: the same requests under the rules and kernels of each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import streamlit as st

from sim_core.catalogue.engines import engines
from sim_core.evidence import trust
from sim_core.evidence.trust import Trust
from sim_core.questions.experiments.engines import EngineRuns, engine_runs
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.view.batching.experiments import rate_words, replica_note, titles
from sim_core.view.batching.figures import axis_from_0, line, log_axis
from sim_core.view.drawing.figures import LAYOUT, Figure, Row, style
from sim_core.view.drawing.words import duration, number, percent
from sim_core.view.parts import actions, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.engine_words import rules_words
from sim_core.view.parts.pieces import Line, cells, say, table
from sim_core.view.session.advice import Advice, offer

SHARES = np.concatenate([np.linspace(0.01, 0.9, 60), np.linspace(0.905, 1.0, 20)])


def show_engines(scenario: Scenario) -> None:
    """Show what each engine makes of the scenario's requests."""
    found = engine_runs(scenario)
    say(engines_finding(found), replica_note(scenario), *map(_rules, found.rows))
    offer(engines_advice(scenario, found))
    trust_badge.badge(scenario)
    chart(
        waits_figure(found),
        key="engines",
        alt=engines_finding(found),
        height=420,
        heading=titles(scenario, "First tokens under three engines"),
    )
    st.caption(
        "Each curve is the share of requests whose first token has been seen after so long. Requests, model "
        "and devices are the same; the rules differ, as each engine comes, and so do kernels that were "
        "measured by engine: TensorRT-LLM's own products of 8- and 4-bit weights, experts and all-reduces."
    )
    _engines_table(found)
    commands = "\n".join(command_for(case) for case in found.scenarios.values())
    files = actions.table_files(found.rows, "engines", partial(_engine_trust, found))
    actions.take_away("engines", files, commands)


def _engine_trust(found: EngineRuns, row: Row) -> Trust:
    return trust.trust(found.scenarios[row["engine"]])


def _rules(row: Row) -> str:
    """Return what an engine's choice sets."""
    keys = ("policy", "admission", "token_budget", "first_seen_steps")
    return f"{engines()[row['engine']].name}: {rules_words(*(row[key] for key in keys))}."


def engines_finding(found: EngineRuns) -> str:
    """Return which engine's rules give most here and which show first tokens soonest, in two sentences."""
    rows = [row for row in found.rows if row["feasible"]]
    if not rows:
        return f"Nothing here can run. {found.rows[0]['reason']}"
    return f"{_ranked(rows, 'output_tok_per_s', 'Output')} {_ranked(rows, 'ttft_ms_p50', 'TTFT p50')}"


def engines_advice(scenario: Scenario, found: EngineRuns) -> list[Advice]:
    """Return the engine that gives most, where that is another one and not alike."""
    rows = [row for row in found.rows if row["feasible"]]
    outputs = [row["output_tok_per_s"] for row in rows]
    if not rows or max(outputs) < 1.01 * min(outputs):
        return []
    alike = [row["engine"] for row in rows if row["output_tok_per_s"] > 0.99 * max(outputs)]
    if scenario.engine in alike:
        return []
    return [Advice(f"Use {engines()[alike[0]].name}", {"engine": alike[0]})]


def _ranked(rows: Sequence[Row], name: str, title: str) -> str:
    """Return one figure of all engines, best first, or that it is alike."""
    words = rate_words if name == "output_tok_per_s" else duration
    ordered = sorted(rows, key=lambda row: row[name], reverse=name == "output_tok_per_s")
    first, last = ordered[0][name], ordered[-1][name]
    if abs(last / first - 1) < 0.01:
        return f"{title} is alike under all engines: {words(first)}."
    return (
        f"{title}: "
        + ", ".join(f"{engines()[row['engine']].name} {words(row[name])}" for row in ordered)
        + "."
    )


def waits_figure(found: EngineRuns) -> Figure:
    """Draw the share of requests whose first token has been seen after so long, one curve an engine."""
    data, all_ms = [], []
    for place, name in enumerate(found.scenarios):
        if name not in found.waits_s:
            continue
        wait_ms = 1e3 * np.quantile(found.waits_s[name], SHARES)
        colour, dash, _ = style(place)
        data.append(line(engines()[name].name, wait_ms, 100 * SHARES, colour, dash=dash, mode="lines"))
        all_ms += wait_ms.tolist()
    layout = LAYOUT | {
        "xaxis": log_axis("First token seen after [ms]", all_ms),
        "yaxis": axis_from_0("Requests [%]", [90.0]),
    }
    return {"data": data, "layout": layout}


def _engines_table(found: EngineRuns) -> None:
    rows = [row for row in found.rows if row["feasible"]]
    if not rows:
        return
    lines: list[Line] = [
        ("Scheduling", [FIELDS["policy"].label_of(row["policy"]) for row in rows]),
        ("Admission", [FIELDS["admission"].label_of(row["admission"]) for row in rows]),
        ("First tokens late, steps", [number(row["first_seen_steps"]) for row in rows]),
        ("Output", cells([row["output_tok_per_s"] for row in rows], rate_words, True)),
        ("Requests at once", cells([row["mean_batch"] for row in rows], number, None)),
    ]
    for name in ("ttft", "tpot", "itl"):
        for part in ("p50", "p99"):
            values = [row[f"{name}_ms_{part}"] for row in rows]
            lines.append((f"{name.upper()} {part}", cells(values, duration, False)))
    lines.append(("KV cache in use", [percent(row["kv_used_frac"]) for row in rows]))
    lines.append(("Preemptions", [number(row["preemptions"]) for row in rows]))
    heads = [engines()[row["engine"]].name for row in rows]
    table("The same requests; differences are against the first", heads, lines)
