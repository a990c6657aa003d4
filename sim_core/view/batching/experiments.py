"""The four experiments of the Batching page, one function a view: a finding, a chart, a table."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from functools import partial
from html import escape

import streamlit as st

from sim_core.evidence import trust
from sim_core.evidence.trust import Trust
from sim_core.fields.errors import ScenarioError
from sim_core.questions.experiments import endings as uneven
from sim_core.questions.experiments import interference as mixed_phases
from sim_core.questions.experiments import preemption as no_blocks
from sim_core.questions.experiments.common import replays, rounded
from sim_core.questions.experiments.waiting import Waiting, waiting
from sim_core.results import text as report
from sim_core.scenario.link.write import command_for, to_query
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.view.batching import figures as batch_figures
from sim_core.view.batching.figures import WAYS, policy_name, spread_words, way_words
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.parts import actions, controls, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.pieces import cells, say, table
from sim_core.view.session import shell, state

LOADS = (0.3, 0.6, 0.9)
SWITCHES_MS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0)
CONTEXTS = (0, *(2**power for power in range(7, 18)))


# What the views share


def dial_batch(label: str) -> None:
    """Draw the slider of how many sequences decode."""
    controls.dial("at_batch", label, controls.POWERS[:10], number)


def dial_context(label: str, own: int) -> None:
    """Draw the slider of a length; 0 is the scenario's own."""

    def words(value: float) -> str:
        return quantity(int(value), "tokens") if value else f"as in this traffic: {quantity(own, 'tokens')}"

    controls.dial("at_context", label, CONTEXTS, words)


def context_of(scenario: Scenario) -> int:
    """Return the length that the view is about. [tokens]"""
    return int(state.number("at_context")) or no_blocks.mean_context(scenario)


def titles(scenario: Scenario, what: str) -> dict[str, str]:
    """Return title and subtitle under which an exported chart stands alone."""
    part = accelerator_of(scenario).name
    lengths = scenario.mix or f"{scenario.prompt_tokens:,} → {scenario.output_tokens:,} tokens"
    return {
        "title": f"{what}: {model_of(scenario).name} on {part}",
        "subtitle": f"{lengths} · {scenario.calibration} calibration · simulated"
        f"<br>{trust_words.caption(scenario)}",
    }


def drawn_note(scenario: Scenario, rate: bool = True) -> str:
    """Return that requests were drawn where the scenario has a list of its own; "" where it has none."""
    if not replays(scenario):
        return ""
    lengths = scenario.mix or f"{scenario.prompt_tokens:,} → {scenario.output_tokens:,} tokens"
    at = f", at {quantity(scenario.arrival_per_s, 'req/s')}" if rate else ""
    return (
        "This scenario's own list of requests is not replayed here: the experiment needs many requests, "
        f"which are drawn from the scenario's lengths ({lengths}){at}."
    )


def micro(value_us: float) -> str:
    """Return a time given in microseconds."""
    return duration(value_us / 1e3) if value_us >= 1000 else quantity(value_us, "µs")


def rate_words(value: float) -> str:
    """Return a throughput in words."""
    return quantity(value, "tok/s") if math.isfinite(value) else "–"


# Waiting for a batch


def wait(scenario: Scenario) -> None:
    """Show what waiting for a batch does to TTFT and throughput."""
    found = waiting(scenario)
    say(wait_finding(found), drawn_note(scenario), load_note(found))
    trust_badge.badge(found.scenario, load_frac=found.load_frac)
    _load_controls(scenario, found)
    curves = {batch: found.curve(batch) for batch in found.vary["max_batch"]}
    chart(
        batch_figures.wait_curves(curves, best=found.best, continuous=found.continuous),
        key="wait",
        alt=batch_figures.wait_sentence(curves, found.best, found.continuous),
        height=600,
        **titles(found.scenario, "Waiting for a batch"),
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
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        controls.ladder("max_batch", controls.POWERS[:12], number, on_page=True)
    with right, st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Load, of what static batching serves", width="content")
        for load in LOADS:
            rate = rounded(load * found.saturation_per_s * scenario.replicas)
            st.button(
                percent(load), key=f"load_{load}", on_click=_set_rate, args=(rate,),
                help=f"Poisson arrivals at {quantity(rate, 'req/s')}",
                type="primary" if abs(found.load_frac / load - 1) < 0.02 else "secondary",
            )  # fmt: skip


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
            ("TTFT mean", cells([row["ttft_ms_mean"] for row in every], duration, False)),
            ("TTFT p99", cells([row["ttft_ms_p99"] for row in every], duration, False)),
            ("Output", cells([row["output_tok_per_s"] for row in every], rate_words, True)),
            ("Output per second of work", cells(busy, rate_words, True)),
            ("Requests in a batch", cells(batch, lambda value: number(value, 2), None)),
        ],
    )


def _around(curve: Sequence[Row], best: Row, scenario: Scenario) -> list[Row]:
    """Return the points beside no wait and the best one: a second, ten seconds, and the scenario's own."""
    wanted = {1000.0, 10_000.0, scenario.batch_wait_ms} - {0.0, best["batch_wait_ms"]}
    return [row for row in curve if row["batch_wait_ms"] in wanted]


# Running out of KV cache


def preemption(scenario: Scenario) -> None:
    """Show what less KV cache does, and whether to recompute or to swap."""
    found = no_blocks.pressure(scenario)
    tokens = context_of(scenario)
    decodes = int(state.number("at_batch"))
    crossover = no_blocks.crossover(scenario, tokens, decodes)
    here = found.at(scenario.kv_memory_frac)
    say(
        pressure_finding(found, here),
        crossover_finding(crossover),
        drawn_note(scenario),
        pressure_note(scenario),
    )
    trust_badge.badge(found.scenario)
    _pressure_controls(scenario, found)
    curves = {way: found.curve(way) for way in no_blocks.WAYS}
    chart(
        batch_figures.pressure_curves(curves, here_tokens=here["swap"].get("kv_tokens", 0)),
        key="preemption",
        alt=batch_figures.pressure_sentence(curves),
        height=600,
        **titles(found.scenario, "Less and less KV cache"),
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
        actions.File("Crossover", "batchscope-crossover.csv", "text/csv", lambda: report.csv_text(rows)),
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
        "kv_memory_frac", tokens, scenario.kv_memory_frac, lambda share: f"{tokens.get(share, 0):,} tokens",
        label="KV cache", help="Writes the share of the device's memory that the engine may use.",
    )  # fmt: skip


def pressure_note(scenario: Scenario) -> str:
    """Return what was assumed about the policy, if anything was."""
    if scenario.policy == "static":
        return "Static batches reserve room for their longest request and preempt nobody. Shown is chunked."
    return ""


def pressure_finding(found: no_blocks.Pressure, here: dict[str, Row]) -> str:
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


def _preempted(again: Row, moved: Row) -> str:
    """Return the price of both ways, in words."""
    return (
        f"With {again['kv_tokens']:,} KV tokens, recomputing means {_times(again)} and about "
        f"{duration(1e3 * again['extra_s'])} of computing again, and gives "
        f"{rate_words(again['output_tok_per_s'])}; swapping means {_times(moved)} and "
        f"{duration(1e3 * moved['extra_s'])} of moving, and gives {rate_words(moved['output_tok_per_s'])}."
    )


def _times(row: Row) -> str:
    return "1 preemption" if row["preemptions"] == 1 else f"{row['preemptions']:,} preemptions"


def crossover_finding(found: no_blocks.Crossover) -> str:
    """Return which way back is cheaper, and the host link at which that changes."""
    again, moved, even = found.recompute_here_ms[1.0], found.swap_here_ms, found.even_gb_per_s[1.0]
    text = (
        f"To bring back a request of {found.tokens:,} tokens takes {duration(again)} by recomputing and "
        f"{duration(moved)} by swapping over {quantity(found.host_gb_per_s, 'GB/s')}: "
    )
    if not math.isfinite(even):
        return f"{text}recomputing costs nothing here, since the step has room for it."
    return f"{text}below a host link of {quantity(even, 'GB/s')} recomputing is cheaper, above it swapping."


def tightest(found: no_blocks.Pressure, here: dict[str, Row]) -> dict[str, Row]:
    """Return the points of this setting, or with the least KV cache if nobody is preempted here."""
    pressed = [row for row in found.rows if row["feasible"] and row["preemptions"]]
    if not pressed or any(row.get("preemptions") for row in here.values()):
        return here
    return found.at(min(pressed, key=lambda row: row["kv_tokens"])["kv_memory_frac"])


def _pressure_table(points: dict[str, Row]) -> None:
    ways = [points[way] for way in no_blocks.WAYS]
    if not all(row["feasible"] for row in ways):
        return
    rejected = f"; {ways[0]['rejected']:,} requests never fit" if ways[0]["rejected"] else ""
    table(
        f"With {ways[0]['kv_tokens']:,} KV tokens; differences are against recomputing{rejected}",
        [WAYS[way][0] for way in no_blocks.WAYS],
        [
            ("Preemptions", cells([row["preemptions"] for row in ways], number, False)),
            ("Tokens done again", [escape(batch_figures.extra_words(row)) for row in ways]),
            ("Time for that, about", cells([1e3 * row["extra_s"] for row in ways], duration, False)),
            ("Output", cells([row["output_tok_per_s"] for row in ways], rate_words, True)),
            ("TPOT p99", cells([row["tpot_ms_p99"] for row in ways], duration, False)),
            ("TTFT p99", cells([row["ttft_ms_p99"] for row in ways], duration, False)),
        ],
    )


def _crossover(scenario: Scenario, found: no_blocks.Crossover, decodes: int) -> None:
    st.markdown("##### Recompute or swap: where they cross")
    left, right = st.columns(2)
    with left:
        dial_context("Tokens that the preempted request holds", no_blocks.mean_context(scenario))
        chart(
            batch_figures.crossing_contexts(found), key="crossing_length", height=380,
            alt=batch_figures.crossing_sentence(found), **titles(scenario, "The way back, by length"),
        )  # fmt: skip
    with right:
        dial_batch("Sequences that decode meanwhile")
        chart(
            batch_figures.crossing_links(found, no_blocks.HOST_GB_PER_S), key="crossing_link", height=380,
            alt=crossover_finding(found), **titles(scenario, "The way back, by host link"),
        )  # fmt: skip
    st.caption(
        f"Both from the prices of the engine's steps. Recomputing: how much longer the steps of {decodes:,} "
        "decodes last for it. Swapping: its KV cache over the host link, out and in. Rings mark equal times."
    )


# Prompts among decodes


def interference(scenario: Scenario) -> None:
    """Show what prompts do to the decodes beside them, and the share of the fixed cost of a switch."""
    try:
        found = mixed_phases.interference(scenario, int(state.number("at_batch")), context_of(scenario))
    except ScenarioError:
        _interference_controls(scenario)  # a smaller crowd may fit
        raise
    own = own_way(scenario, found)
    say(interference_finding(found, own), drawn_note(scenario), interference_note(found))
    known = trust.of_step(own.alone, found.decodes, found.context)
    trust_badge.badge(known)
    _interference_controls(scenario)
    drawn = [(way.variant.policy, way.variant.token_budget, way.mixed_ms) for way in found.ways]
    chart(
        batch_figures.gap_curves(own.alone_ms, drawn, own.variant),
        key="interference",
        alt=batch_figures.gap_sentence(own.alone_ms, drawn),
        height=460,
        **titles(own.alone, "Prompts among decodes"),
    )
    st.caption(
        "The further to the right a line reaches, the longer the worst gaps; where it crosses the dotted "
        "line stands its p99. Bold is this setting. All lines hold the same tokens of the same sequences."
    )
    _interference_table(found)
    rows = [way.row for way in found.ways]
    chart(
        batch_figures.cost_bars(rows), key="interference_cost", height=110 + 40 * len(rows),
        alt=cost_sentence(rows), **titles(own.alone, "The price of a prompt token"),
    )  # fmt: skip
    st.caption(switch_words(scenario, found))
    actions.take_away(
        "interference",
        actions.table_files(rows, "interference", lambda row: known),
        interference_commands(found, own),
    )


def _interference_controls(scenario: Scenario) -> None:
    left, middle, right = st.columns(3)
    with left:
        dial_batch("Sequences that decode")
    with middle:
        dial_context("Tokens that each holds at first", no_blocks.mean_context(scenario))
    with right:
        _switch_slider(scenario)


def _switch_slider(scenario: Scenario) -> None:
    usual_ms, _ = mixed_phases.switch_sources(scenario)
    value = usual_ms if scenario.prefill_switch_ms is None else scenario.prefill_switch_ms

    def words(ms: float) -> str:
        return f"{duration(ms)}, as calibrated" if ms == usual_ms else duration(ms)

    steps = [ms for ms in SWITCHES_MS if abs(ms - usual_ms) > 0.05]
    label = "Fixed cost of a prompt in a step"
    controls.beside("prefill_switch_ms", [*steps, usual_ms], value, words, label)


def own_way(scenario: Scenario, found: mixed_phases.Interference) -> mixed_phases.Shared:
    """Return the scenario's own way to share; whole prompts first where it is static."""
    wanted = (scenario.policy, scenario.token_budget)
    return next((way for way in found.ways if way.variant == wanted), found.ways[0])


def interference_note(found: mixed_phases.Interference) -> str:
    """Return what was assumed about the sequences and the prompts, if anything was."""
    notes = []
    if found.decodes < found.asked:
        notes.append(f"The KV cache has room for {found.decodes:,} of {found.asked:,} sequences.")
    if not found.own_rate:
        notes.append(
            f"This traffic has no request rate of its own; prompts arrive at the rate at which it is served, "
            f"{quantity(found.prompt_per_s, 'req/s')}."
        )
    return " ".join(notes)


def interference_finding(found: mixed_phases.Interference, own: mixed_phases.Shared) -> str:
    """Return what prompts cost the decodes, under the scenario's way to share and the gentlest one."""
    row = own.row
    crowd = f"{found.decodes:,} sequences decode" if found.decodes > 1 else "One sequence decodes"
    start = f"{crowd} with {duration(row['alone_ms_mean'])} between tokens."
    if not row["prompt_tokens"]:
        return (
            f"{start} At {quantity(found.prompt_per_s, 'req/s')} no prompt arrives meanwhile; raise the rate."
        )
    text = (
        f"{start} Prompts at {quantity(found.prompt_per_s, 'req/s')} make that "
        f"{duration(row['itl_ms_mean'])} under {way_words(*own.variant)}, and the p99 "
        f"{duration(row['itl_ms_p99'])} instead of {duration(row['alone_ms_p99'])}: each prompt token makes "
        f"every decode {micro(row['extra_us_per_token'])} later."
    )
    gentle = min(found.ways, key=lambda way: way.row["itl_ms_max"])
    if gentle is own:
        return f"{text} No other way to share here has a shorter longest gap."
    ttft = duration(gentle.row["prompt_ttft_ms_mean"])  # of prompts that were served while all decode
    return (
        f"{text} Under {way_words(*gentle.variant)} the longest gap falls from {duration(row['itl_ms_max'])} "
        f"to {duration(gentle.row['itl_ms_max'])}, and a prompt waits {ttft} instead of "
        f"{duration(row['prompt_ttft_ms_mean'])}."
    )


def _interference_table(found: mixed_phases.Interference) -> None:
    rows = [way.row for way in found.ways]
    alone = [rows[0]["alone_ms_mean"], rows[0]["alone_ms_p99"], rows[0]["alone_ms_max"]]
    heads = ["decodes alone", *(way_words(*way.variant) for way in found.ways)]
    lines = [
        (name, cells([base, *(row[f"itl_ms_{part}"] for row in rows)], duration, False))
        for name, part, base in zip(
            ("ITL mean", "ITL p99", "ITL longest"), ("mean", "p99", "max"), alone, strict=True
        )
    ]
    extra = [micro(row["extra_us_per_token"]) for row in rows]
    lines += [
        ("Later, per prompt token", ["", *map(escape, extra)]),
        ("of that, fixed cost", ["", *(escape(percent(row["switch_frac"])) for row in rows)]),
        ("TTFT of the prompts", ["", *(escape(duration(row["prompt_ttft_ms_mean"])) for row in rows)]),
    ]
    count = rows[0]["tokens"]
    table(f"{count:,} tokens of each sequence; differences are against decodes alone", heads, lines)


def cost_sentence(rows: Sequence[Row]) -> str:
    """Return the bars of the price of a prompt token in one sentence."""
    parts = [
        f"{way_words(row['policy'], row['token_budget'])} {micro(row['extra_us_per_token'])} "
        f"({percent(row['switch_frac'])} of it fixed)"
        for row in rows
    ]
    return f"Each prompt token makes every decode later by: {', '.join(parts)}."


def switch_words(scenario: Scenario, found: mixed_phases.Interference) -> str:
    """Return where the fixed cost of a switch comes from."""
    usual_ms, source = mixed_phases.switch_sources(scenario)
    source = source.replace("fitted;", "fitted once on published measurements;")
    setting = (
        f"It is set to {duration(found.switch_ms)} here; the {scenario.calibration} calibration says "
        f"{duration(usual_ms)}"
        if scenario.prefill_switch_ms is not None
        else f"{duration(usual_ms)} is the {scenario.calibration} calibration's"
    )
    return (
        "Each prompt, or chunk of one, adds a fixed time to the step it joins: inputs, blocks, launches "
        f"without a graph. {setting} ({source}), one constant for all models and accelerators. It is the "
        "least certain part of this picture, so move it."
    )


def interference_commands(found: mixed_phases.Interference, own: mixed_phases.Shared) -> str:
    """Return the commands that write both step logs of the scenario's own way, and how to get the others."""
    others = [way.variant for way in found.ways if way is not own]
    lines = [
        f"{command_for(own.alone)} --steps-out alone.csv",
        f"{command_for(own.mixed)} --steps-out mixed.csv",
    ]
    lines += [
        f"# for {way_words(*way)} add --set policy={way.policy} --set token_budget={way.token_budget}"
        for way in others
    ]
    return "\n".join(lines)


# Answers that end at different times


def endings(scenario: Scenario) -> None:
    """Show what the spread of answer lengths costs static batching."""
    found = uneven.endings(scenario)
    say(endings_finding(found), drawn_note(scenario, rate=False), endings_note(scenario, found))
    trust_badge.badge(_ending_trust(found, found.row("static", 1.0)))
    left, _ = st.columns(2)
    with left:
        controls.ladder("max_batch", controls.POWERS[:12], number, on_page=True)
    chart(
        batch_figures.ending_bars(found.rows),
        key="endings",
        alt=batch_figures.ending_sentence(found.rows),
        height=600,
        **titles(found.scenarios[0.0], "Irregular endings"),
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
        text += f" Up to {rejected:,} requests never fit the KV cache and are turned away."
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
        f"({_signed(-lost)}). Continuous batching ({name}) refills a slot at once: {_signed(-kept)}."
    )


def _loss(policy: str, found: uneven.Endings) -> float:
    """Return the share of throughput that a spread of cv 1 costs."""
    base, spread = (found.row(policy, cv)["output_tok_per_s"] for cv in (0.0, 1.0))
    return 1 - spread / base


def _signed(change: float) -> str:
    return f"{'+' if change > 0 else '−'}{percent(abs(change))}"


def _endings_table(found: uneven.Endings) -> None:
    spreads = [cv for cv in found.scenarios if found.row("static", cv)["feasible"]]
    if not spreads:
        return
    lines: list[tuple[str, Sequence[str]]] = []
    for policy in ("static", found.policy):
        rows = [found.row(policy, cv) for cv in spreads]
        name = policy_name(policy)
        lines.append((f"Output, {name}", cells([row["output_tok_per_s"] for row in rows], rate_words, True)))
        if policy == "static":
            lines.append(("Padding, static", [escape(percent(row["padding_frac"])) for row in rows]))
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
