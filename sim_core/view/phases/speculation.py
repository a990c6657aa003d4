"""Two phases, speculation: whether drafts pay, over the sequences of a step and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import streamlit as st

from sim_core.evidence import trust
from sim_core.questions import phases, speculation
from sim_core.questions.speculation import Supposed, Trade
from sim_core.results.drafts import acceptance_words, supposed_drafter
from sim_core.scenario.keys.speculation import parse_spec_by_batch
from sim_core.scenario.scenario import FIELDS, Scenario, model_of
from sim_core.view.drawing.figures import LIMITS, Row
from sim_core.view.drawing.words import duration, number, percent
from sim_core.view.parts import controls, pieces, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.engine_words import help_of
from sim_core.view.parts.views import dial
from sim_core.view.phases.common import (
    BATCHES,
    CONTEXTS,
    caption_with_warnings,
    give_away,
    numbers_row,
    one_trust,
    own_setting,
    phase_titles,
    setting_revision,
)
from sim_core.view.phases.figures import sequences, tokens_short
from sim_core.view.phases.speculation_figures import (
    best_by_load,
    by_drafts_figure,
    by_drafts_sentence,
    drafts_words,
    pays_figure,
    pays_sentence,
    times,
)
from sim_core.view.session import shell, state
from sim_core.view.session.advice import Advice, offer

EVEN = 0.005  # a relative change below this is none
FIRST_LENGTH = 2.0  # to begin with, where none is published
SHORT = 1.5  # times a step without drafts: a verified one that is nearly free
MOST_SPANS = 4  # stretches of load that a sentence may name
HEAVY_FRAC = 0.4  # of the time: prompts that are worth a word


def show_speculation(scenario: Scenario) -> None:
    """Show whether speculation pays: over load and acceptance, and by the number of drafts."""
    phases.require_fit(phases.decoding(scenario))
    at = own_setting(scenario)
    how = speculation.supposed(scenario, at.batch)
    trade = _here(how, at.batch, at.context_tokens)
    rows = speculation.speculation_rows(scenario, at.batch, at.context_tokens)
    pieces.say(finding(how, trade, rows, at.batch), *_notes(scenario, how))
    offer(drafts_advice(scenario, how, rows, at.batch))
    trust_badge.badge(one_trust(how.scenario, at))
    _controls(scenario, how)
    found = speculation.pays_map(scenario, at.batch, at.context_tokens)
    left, right = st.columns(2)
    heading, revision = phase_titles(how.scenario), setting_revision(scenario)
    with left:
        span = _span(how)
        figure = pays_figure(found, (at.batch, how.length), span, revision)
        st.markdown(f"**With {drafts_words(how.drafts)}, over load and acceptance**")
        chart(figure, "speculation-map", pays_sentence(found, how.drafts), height=430, heading=heading)
    with right:
        if rows:
            st.markdown("**By the number of drafts**")
            figure = by_drafts_figure(rows, how.drafts, at.batch, revision)
            chart(figure, "speculation-drafts", by_drafts_sentence(rows), height=430, heading=heading)
    if trade is not None and rows:
        _numbers(how, trade, rows)
        _by_load(rows)
        _use_table(scenario, how, rows)
    caption_with_warnings(scenario, READING)
    call = f"speculation_rows(scenario, {at.batch}, {at.context_tokens:g})"
    predicted = partial(_row_trust, how.scenario, at.context_tokens)
    imports = "load_scenario, speculation_rows"
    give_away(scenario, "speculation-drafts", rows, imports, call, predicted=predicted)


READING = (
    "The heavy line is 1×: above it speculation is faster, below it slower; thin lines are 25% apart. The "
    "ring is this setting, an upright bar the range of published lengths where there are several. Priced, "
    "not simulated: steps of so many sequences, with the prompts that must come for the tokens made, and no "
    "waiting. The Frontier page simulates it: curves by speculation."
)


def _here(how: Supposed, decodes: int, context_tokens: float) -> Trade | None:
    """Return what the step looked at costs; None where its drafts do not fit the token budget."""
    found = speculation.trades(how.scenario, [decodes], context_tokens, how.drafts)
    return found[0] if found else None


def _row_trust(speculating: Scenario, context_tokens: float, row: Row) -> trust.Trust:
    """Return how far the step of one row can be trusted."""
    return trust.of_step(speculating, row["decodes"], context_tokens)


def _span(how: Supposed) -> tuple[float, float] | None:
    """Return the range of lengths published for as many drafts."""
    if how.published is None or how.published.drafts != how.drafts:
        return None
    return how.published.low, how.published.high


def _controls(scenario: Scenario, how: Supposed) -> None:
    mean = phases.setting(scenario).context_tokens
    longest = model_of(scenario).max_position

    def context(value: float) -> str:
        return f"mean: {number(round(mean))}" if value == 0 else f"{tokens_short(value)} tokens"

    def length(value: float | None) -> str:
        if value is not None:
            return f"{number(value)} tokens"
        return f"published: {number(how.length)}" if how.published and not how.is_own else "as published"

    steps = [1 + step / 4 for step in range(4 * how.drafts + 1)]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        if not scenario.spec_tokens:
            st.button(
                "Turn it on",
                key="speculate",
                icon=":material/bolt:",
                on_click=_turn_on,
                args=(how,),
                help=f"{drafts_words(how.drafts)} by {FIELDS['draft'].label_of(how.scenario.draft)}",
            )
        controls.ladder("spec_tokens", range(9), lambda value: str(value) if value else "off", on_page=True)
        if scenario.spec_tokens:
            controls.ladder("acceptance_length", [None, *steps], length, on_page=True)
        dial("at_batch", BATCHES, number, "Sequences in the batch")
        dial("at_context", [step for step in CONTEXTS if step <= longest], context, "Context of each")


def _turn_on(how: Supposed) -> None:
    """Let the scenario speculate as is supposed; a length that nobody published begins at two tokens."""
    changes = {key: getattr(how.scenario, key) for key in speculation.NO_SPECULATION}
    if math.isnan(how.length):
        changes["acceptance_length"] = FIRST_LENGTH
    state.change(**changes)
    shell.rerun_page()


# In words


def finding(how: Supposed, trade: Trade | None, rows: Sequence[Row], decodes: int) -> str:
    """Return whether speculation pays at a setting, by how much and why; and the best number of drafts."""
    drafts = drafts_words(how.drafts)
    if trade is None:
        budget = number(how.scenario.token_budget)
        own = speculation.on_a_rank(how.scenario, decodes)
        where = " on a rank of attention" if own < decodes else ""
        return (
            f"{sequences(decodes)} cannot verify {drafts} each in one step: with the sequence's own token "
            f"that is {number(own * (how.drafts + 1))} tokens{where}, and the token budget is {budget}."
        )
    if math.isnan(how.length):
        even = _even_words(how, trade)
        return f"With {drafts}, decode with {sequences(decodes)} is faster from {even} on."
    return f"{_gain(how, trade)} {_best(rows)}".strip()


def _even_words(how: Supposed, trade: Trade) -> str:
    if trade.break_even > how.drafts + 1:
        return f"more than the {how.drafts + 1} tokens a step that they could make at most"
    return f"{number(trade.break_even)} tokens a step"


def _gain(how: Supposed, trade: Trade) -> str:
    """Return by how much a setting gains or loses, and why."""
    speed_up = trade.speed_up(how.length)
    assumed = f"{drafts_words(how.drafts)} and {number(how.length)} tokens a step"
    what = f"With {assumed}, decode with {sequences(trade.decodes)}"
    longer = trade.verified_s / trade.plain_s
    why = (
        f"a step verifies {how.drafts + 1} times the tokens in {number(longer, 2)} times the time"
        f"{_because(trade, longer)}{_prompts(how, trade)}"
    )
    if abs(speed_up - 1) < EVEN:
        return f"{what} neither gains nor loses: {why}."
    if speed_up > 1:
        return f"{what} is {number(speed_up, 3)} times as fast: {why}."
    even = _even_words(how, trade)
    return f"{what} loses {percent(1 - speed_up)} of its speed: {why}. It would gain from {even} on."


def _because(trade: Trade, longer: float) -> str:
    """Return what makes a verified step as short or as long as it is."""
    most = max(trade.plain, key=lambda name: trade.plain[name])
    if longer < SHORT and most != "compute":
        return f", since most of it goes to {LIMITS[most][0]} as before"
    return f", most of what is added being {LIMITS[trade.grown][0]}"


def _prompts(how: Supposed, trade: Trade) -> str:
    share = trade.prompt_frac(how.length)
    if share <= HEAVY_FRAC:
        return ""
    return f"; prompts take {percent(share)} of the time, and no draft shortens them"


def _best(rows: Sequence[Row]) -> str:
    """Return the best number of drafts by load: each stretch where they are few, else the range."""
    best_ones = best_by_load(rows)
    spans = _spans(best_ones)
    best = spans[0][1]
    if len(spans) == 1:
        if not best:
            return "No number of drafts pays at any load."
        return f"At every load {drafts_words(best)} {'is' if best == 1 else 'are'} best."
    if len(spans) > MOST_SPANS:
        fewest, most = min(count for _, count in spans), max(count for _, count in spans)
        return (
            f"The best number of drafts is {best or 'none'} for {sequences(best_ones[0][0])}, "
            f"{spans[-1][1] or 'none'} for {number(spans[-1][0])}, and between {fewest} and {most} for all."
        )
    parts = [f"{best or 'none'} up to {sequences(last)}" for last, best in spans[:-1]]
    return f"The best number of drafts is {', '.join(parts)}, then {spans[-1][1] or 'none'}."


def drafts_advice(scenario: Scenario, how: Supposed, rows: Sequence[Row], decodes: int) -> list[Advice]:
    """Return the best number of drafts for so many sequences, where the scenario makes another number."""
    best = best_by_load(rows)
    if not scenario.spec_tokens or scenario.spec_by_batch or not best:
        return []
    count = next((count for most, count in best if most >= decodes), best[-1][1])
    if count == scenario.spec_tokens:
        return []
    length = speculation.length_at(how, count) if how.is_own and count else None
    changes = {"spec_tokens": count, "acceptance_length": length}
    return [Advice(f"Use {drafts_words(count)}" if count else "Turn it off", changes)]


def _spans(best: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the last number of sequences of each stretch with one best number of drafts, and that number."""
    ends = [first for first, second in pairwise(best) if first[1] != second[1]]
    return [*ends, best[-1]]


def _notes(scenario: Scenario, how: Supposed) -> list[str]:
    """Return what is assumed: whether it is on, where the acceptance length comes from, and who drafts."""
    off = "" if scenario.spec_tokens else "Speculation is off in this scenario: this is what it would do."
    return [*filter(None, (off, acceptance_words(how.scenario), supposed_drafter(how.scenario)))]


# In numbers


def _numbers(how: Supposed, trade: Trade, rows: Sequence[Row]) -> None:
    best = dict(best_by_load(rows)).get(trade.decodes, 0)
    numbers_row(
        [
            ("Speed-up", times(trade.speed_up(how.length)), f"at {sequences(trade.decodes)}"),
            ("Break-even", _even_words(how, trade), "below it speculation loses"),
            ("A verified step", duration(1e3 * trade.verified_s), f"without {duration(1e3 * trade.plain_s)}"),
            ("Prompts", percent(trade.prompt_frac(how.length)), "of the time"),
            ("Best here", drafts_words(best), "of all numbers of drafts"),
        ]
    )


def _by_load(rows: Sequence[Row]) -> None:
    best = best_by_load(rows)
    found = {(row["decodes"], row["drafts"]): row for row in rows}
    lines: list[pieces.Line] = [
        ("Best number of drafts", [str(drafts) if drafts else "none" for _, drafts in best]),
        ("Speed-up", [times(found[pair]["speed_up"]) if pair[1] else "–" for pair in best]),
    ]
    pieces.table("Best number of drafts by sequences", [number(size) for size, _ in best], lines, scroll=True)


def _use_table(scenario: Scenario, how: Supposed, rows: Sequence[Row]) -> None:
    """Draw the button that lets the number of drafts follow the load as the table says."""
    table = speculation.as_table(rows, phases.decoding(scenario).attention_data_parallel)
    most = max(drafts for _, drafts in best_by_load(rows))
    if not most or scenario.spec_by_batch == table:
        return
    st.button(
        f"Let the number of drafts follow the load: {steps_words(parse_spec_by_batch(table))}",
        key="spec_by_batch",
        icon=":material/rule:",
        type="tertiary",
        on_click=_follow,
        args=(how, table, most),
        help=help_of("spec_by_batch"),
    )


def steps_words(steps: Sequence[tuple[int, int]]) -> str:
    """Return how many drafts from how many sequences on, in words.

    Examples
    --------
    >>> steps_words([(1, 5), (5, 3), (65, 0)])
    '5 up to 4 sequences, 3 up to 64, then none'
    """
    drafts = [str(count) if count else "none" for _, count in steps]
    ends = [f"up to {number(first - 1)}" for first, _ in steps[1:]]
    if not ends:
        return drafts[0]
    ends[0] += " sequences"
    parts = [f"{count} {end}" for count, end in zip(drafts, ends, strict=False)]
    return ", ".join([*parts, f"then {drafts[-1]}"])


def _follow(how: Supposed, table: str, most: int) -> None:
    """Let the drafts follow a table, whose most drafts an own acceptance length then is of."""
    length = speculation.length_at(how, most) if how.is_own else None
    state.change(draft=how.scenario.draft, spec_tokens=most, spec_by_batch=table, acceptance_length=length)
    shell.rerun_page()
