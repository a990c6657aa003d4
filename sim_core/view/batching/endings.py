"""The experiment on irregular endings."""

from __future__ import annotations

from functools import partial

import streamlit as st

from sim_core.evidence import trust
from sim_core.evidence.trust import Trust
from sim_core.fields.texts import counted
from sim_core.price.memory import limit_words
from sim_core.price.price import price_of
from sim_core.questions.experiments import endings as uneven
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.view.batching.experiments import rate_words, setting_notes, titles
from sim_core.view.batching.figures import ending_bars, ending_sentence, policy_name, spread_words
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import duration, number, percent, signed
from sim_core.view.parts import actions, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.pieces import Line, cells, say, table
from sim_core.view.session.advice import Advice, offer

# Answers that end at different times


def show_endings(scenario: Scenario) -> None:
    """Show what the spread of answer lengths costs static batching."""
    found = uneven.endings(scenario)
    say(
        endings_finding(found),
        *setting_notes(scenario, rate=False),
        endings_note(scenario, found),
    )
    offer(endings_advice(scenario, found))
    trust_badge.badge(_ending_trust(found, found.row("static", 1.0)))
    chart(
        ending_bars(found.rows),
        key="endings",
        alt=ending_sentence(found.rows),
        height=600,
        heading=titles(found.scenarios[0.0], "Irregular endings"),
    )
    st.caption(
        "Above: output per second; hatched is what the slots held by finished requests would have made. "
        "Below: end to end, mean solid and p99 dotted. The draws are the same, only their spread differs."
    )
    _endings_table(found)
    commands = [
        command_for(case, "frontier", vary={"policy": ("static", found.policy)})
        for case in found.scenarios.values()
    ]
    actions.take_away(
        "endings",
        actions.table_files(found.rows, "endings", partial(_ending_trust, found)),
        "\n".join(commands),
    )


def _ending_trust(found: uneven.Endings, row: Row) -> Trust:
    return trust.trust(found.scenarios[row["spread_cv"]].replace(policy=row["policy"]))


def endings_note(scenario: Scenario, found: uneven.Endings) -> str:
    """Return what was assumed about the traffic."""
    case = found.scenarios[0.0]
    mean = number(found.rows[0]["mean_output_tokens"]) if found.rows[0]["feasible"] else "–"
    clients = (
        "1 client has" if case.concurrency == 1 else f"{case.concurrency:,} clients, one for each slot, have"
    )
    tokens = "1 token" if mean == "1" else f"{mean} tokens"
    text = f"{clients} one request open at all times; answers have {tokens} on average."
    if scenario.mix:
        cv = number(case.prompt_cv)
        text += f" The mix counts as one class of {case.prompt_tokens:,} prompt tokens (cv {cv})."
    rejected = max((row.get("rejected", 0) for row in found.rows), default=0)
    if rejected:
        limit = limit_words(model_of(case), price_of(case).request_limit_tokens)
        text += f" Turned away: up to {counted(rejected, 'request')}, longer than {limit}."
    return text


def endings_finding(found: uneven.Endings) -> str:
    """Return what spread costs static batching, and what it costs continuous batching."""
    name = policy_name(found.policy)
    rows = {spread: found.row("static", spread) for spread in (0.0, 1.0)}
    if not all(row["feasible"] for row in (*rows.values(), found.row(found.policy, 1.0))):
        return f"Nothing here can run. {next(row['reason'] for row in found.rows if row['reason'])}"
    if found.rows[0]["mean_output_tokens"] < 1.5:
        return "Answers of one token all end in the step that reads the prompt: there is nothing to pad."
    lost, kept = _loss("static", found), _loss(found.policy, found)
    if found.scenarios[0.0].concurrency == 1:
        return "A batch of one ends when its request ends: spread costs nothing. Raise the batch limit."
    return (
        f"Answers of the same mean but of a spread of cv 1 leave {percent(rows[1.0]['padding_frac'])} of the "
        f"slots' time to requests already finished: static batching falls from "
        f"{rate_words(rows[0.0]['output_tok_per_s'])} to {rate_words(rows[1.0]['output_tok_per_s'])} "
        f"({signed(-lost)}). Continuous batching ({name}) refills a slot at once: {signed(-kept)}."
    )


def endings_advice(scenario: Scenario, found: uneven.Endings) -> list[Advice]:
    """Return continuous batching where batches are static and several requests run at a time."""
    if scenario.policy != "static" or found.scenarios[0.0].concurrency == 1:
        return []
    return [Advice(f"Use {policy_name(found.policy)} scheduling", {"policy": found.policy})]


def _loss(policy: str, found: uneven.Endings) -> float:
    """Return the share of throughput that a spread of cv 1 costs."""
    base, spread = (found.row(policy, cv)["output_tok_per_s"] for cv in (0.0, 1.0))
    return 1 - spread / base


def _endings_table(found: uneven.Endings) -> None:
    spreads = [cv for cv in found.scenarios if found.row("static", cv)["feasible"]]
    if not spreads:
        return
    lines: list[Line] = []
    for policy in ("static", found.policy):
        rows = [found.row(policy, cv) for cv in spreads]
        name = policy_name(policy)
        lines.append((f"Output, {name}", cells([row["output_tok_per_s"] for row in rows], rate_words, True)))
        if policy == "static":
            lines.append(("Padding, static", [percent(row["padding_frac"]) for row in rows]))
        lines.append((f"TTFT mean, {name}", cells([row["ttft_ms_mean"] for row in rows], duration, False)))
        lines.append((f"E2E mean, {name}", cells([row["e2e_ms_mean"] for row in rows], duration, False)))
        lines.append((f"E2E p99, {name}", cells([row["e2e_ms_p99"] for row in rows], duration, False)))
    rows = [found.row("static", cv) for cv in spreads]
    sizes = cells([row["batch_requests"] for row in rows], number, None)
    lines.insert(1, ("Requests in a static batch", sizes))
    lines.append(("Mean answer, tokens", [number(row["mean_output_tokens"]) for row in rows]))
    lines.append(("Longest answer, tokens", [number(row["longest_output_tokens"]) for row in rows]))
    table(
        "By spread of the answers; differences are against equal answers",
        [*map(spread_words, spreads)],
        lines,
    )
