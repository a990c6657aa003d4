"""The pieces of the Two phases page: five views of why prefill and decode differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from html import escape
from typing import Any

import numpy as np
import streamlit as st

from sim_core import catalogue
from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.questions import hardware as whatif
from sim_core.questions import phases
from sim_core.questions.phases import Setting
from sim_core.results import text as report
from sim_core.scenario.link.write import to_query
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import LIMITS, Row
from sim_core.view.drawing.words import duration, number, percent, quantity, rate
from sim_core.view.parts import actions, controls, pieces, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.phases import figures as phase_figures
from sim_core.view.phases import words as phase_words
from sim_core.view.phases.figures import KINDS, PHASES, sequences, signed, tokens_short
from sim_core.view.session import state, sweeps

VIEWS = {"roofline": "Roofline", "step": "One step", "specs": "More FLOPs or bandwidth?", "kv": "KV cache",
         "floor": "The floor"}  # fmt: skip
BATCHES = tuple(2**power for power in range(15))
CONTEXTS = (0, *(2**power for power in range(7, 20)))
PROMPTS = tuple(2**power for power in range(7, 16))
LINE = 4096  # decode is drawn for batches up to this


def show(scenario: Scenario) -> None:
    """Show the view that was asked for; where it cannot be, the controls and the reason."""
    controls.views("phases", VIEWS)
    view = {"roofline": roofline, "step": step, "specs": specs, "kv": kv, "floor": floor}
    try:
        view[state.view("phases")](scenario)
    except ScenarioError as error:
        pieces.say(str(error))


# What the views share


def _setting(scenario: Scenario) -> Setting:
    return phases.setting(scenario, int(state.number("at_batch")), state.number("at_context"))


def _trust(scenario: Scenario, at: Setting) -> trust.Trust:
    """Return how far a step of what is looked at can be trusted."""
    return trust.of_step(scenario, at.batch, at.context_tokens)


def _step_trust(scenario: Scenario, row: Row) -> trust.Trust:
    """Return how far the step of one row can be trusted: a prompt alone, or a batch at a context."""
    if row["phase"] == "prefill":
        return trust.of_step(scenario)
    return trust.of_step(scenario, row.get("batch") or row["size"], row["context_tokens"])


def _dials(scenario: Scenario, batch: bool = True, split: bool = False) -> None:
    """Draw the sliders of batch and context."""
    mean = phases.setting(scenario).context_tokens
    longest = model_of(scenario).max_position

    def context(value: float) -> str:
        return f"mean: {number(round(mean))}" if value == 0 else f"{tokens_short(value)} tokens"

    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        if batch:
            controls.dial("at_batch", "Sequences in the batch", BATCHES, number)
        steps = [step for step in CONTEXTS if step <= longest]
        help = "Tokens each sequence has cached; the mean is this scenario's prompt and half its answer."
        controls.dial("at_context", "Context of each", steps, context, help)
        if split:
            controls.toggle("split", "weights and attention apart")


def _numbers(cells: Iterable[tuple[str, str, str]]) -> None:
    """Show key numbers: name, value, note."""
    pieces.figures(pieces.figure(name, escape(value), escape(note)) for name, value, note in cells)


def _titles(scenario: Scenario) -> dict[str, str]:
    """Return title and subtitle under which an exported chart stands alone."""
    model, part = model_of(scenario), accelerator_of(scenario)
    lengths = scenario.mix or f"{scenario.prompt_tokens:,} → {scenario.output_tokens:,} tokens"
    subtitle = (
        f"{lengths} · weights {scenario.weight_dtype}, KV cache {scenario.kv_dtype} · {scenario.calibration}"
    )
    subtitle += f"<br>{trust_words.caption(scenario)}"
    return {"title": f"{model.name} on {_devices(scenario, part.name)}", "subtitle": subtitle}


def _devices(scenario: Scenario, name: str) -> str:
    return name if scenario.tensor_parallel == 1 else f"{scenario.tensor_parallel} × {name}"


def _take_away(
    scenario: Scenario,
    key: str,
    rows: Sequence[Row],
    imports: str,
    call: str,
    files: Sequence[actions.File] = (),
    predicted: Callable[[Row], trust.Trust] | None = None,
) -> None:
    """Draw what can be taken away: files of the rows, and the Python that gives the same rows."""
    code = (
        f"from sim_core import {imports}\n\n"
        f"scenario = load_scenario({to_query(scenario)!r})\nfor row in {call}:\n    print(row)"
    )
    actions.take_away(key, [*actions.table_files(rows, key, predicted or scenario), *files], code, "python")


def _caption(scenario: Scenario, text: str) -> None:
    notes = [*accelerator_of(scenario).warnings, *model_of(scenario).warnings]
    st.caption(f"{text} {' '.join(notes)}")


def _one_device(scenario: Scenario) -> str:
    """Return whose FLOP and bytes are shown."""
    count = scenario.tensor_parallel
    return "" if count == 1 else f" Figures are those of one of the {count} devices, which all work alike."


# Roofline


def roofline(scenario: Scenario) -> None:
    """Show the roofline: what prefill and decode reach for the bytes they read."""
    at = _setting(scenario)
    batches = sorted({*(batch for batch in BATCHES if batch <= max(LINE, at.batch)), at.batch})
    rows = phases.roofline(scenario, batches, at.context_tokens)
    whole = {(row["phase"], row["batch"]): row for row in rows if row["piece"] == "all"}
    prefill, decode = whole["prefill", 1], whole["decode", at.batch]
    room = phases.largest_batch(scenario, at.context_tokens)
    without = phases.compute_bound_batch(scenario, 0)
    there = phases.compute_bound_batch(scenario, at.context_tokens)
    edge = phases.compute_bound_context(scenario)
    pieces.say(phase_words.roofline(prefill, decode, without, there, edge, at.context_tokens, room))
    trust_badge.badge(_trust(scenario, at))
    _dials(scenario, split=True)
    top, typical = phases.roof(scenario), scenario.calibration
    figure = phase_figures.roofline(
        rows, top, phases.other_roofs(scenario), partial(phases.reached_roof, scenario),
        batch=at.batch, split=state.view("split") == "on",
        reached_name=typical if typical != "datasheet" else "", revision=_revision(scenario),
    )  # fmt: skip
    alt = phase_figures.roofline_sentence(rows, top, at.batch)
    chart(figure, "roofline", alt, **_titles(scenario))
    _roofline_numbers(scenario, prefill, decode, room)
    peaks = f"{rate(top.flop_per_s / 1e9, 'FLOP/s')} in {top.dtype}, {rate(top.byte_per_s / 1e9, 'B/s')}"
    _caption(
        scenario,
        f"Left of the ridge a step waits for memory, right of it for arithmetic: {peaks}. A larger "
        "batch moves "
        "decode right, for it reads the weights once for all; its KV cache it reads for each "
        "sequence. Hollow "
        f"points do not fit. Points include all fixed latencies.{_one_device(scenario)}",
    )
    call = f"roofline(scenario, batches={batches}, context_tokens={at.context_tokens:g})"
    predicted = partial(_step_trust, scenario)
    _take_away(scenario, "roofline", rows, "load_scenario, roofline", call, predicted=predicted)


def _revision(scenario: Scenario) -> str:
    """Return a word that changes when the chart should forget the visitor's zoom."""
    return f"{scenario.model} {scenario.accelerator} {st.session_state.get('fits', 0)}"


def _roofline_numbers(scenario: Scenario, prefill: Row, decode: Row, room: int) -> None:
    cells = []
    for name, row in (("Prefill", prefill), ("Decode", decode)):
        reached = rate(row["flop_per_s"] / 1e9, "FLOP/s")
        cells += [
            (
                f"{name}, intensity",
                f"{number(row['flop_per_byte'])} FLOP/byte",
                phase_figures.step_words(row),
            ),
            (f"{name}, reached", reached, f"{percent(row['mfu_frac'])} of the peak"),
        ]
    ridge = phases.roof(scenario).ridge_flop_per_byte
    cells.append(("Ridge", f"{number(ridge)} FLOP/byte", "peak over bandwidth"))
    cells.append(("Largest batch", number(room), "fits at this context"))
    _numbers(cells)


# One step


def step(scenario: Scenario) -> None:
    """Show where the time of one step goes, prefill beside decode."""
    at = _setting(scenario)
    both = phases.step_rows(
        scenario, [("prefill", at.prompt_tokens, 0.0), ("decode", at.batch, at.context_tokens)]
    )
    pieces.say(phase_words.step(*both))
    trust_badge.badge(_trust(scenario, at))
    _dials(scenario)
    left, right = st.columns(2)
    left.html(_card(scenario, both[0], f"{number(at.prompt_tokens)} tokens of one prompt"))
    where = f"{sequences(at.batch)}, {phase_words.tokens(at.context_tokens)} of context each"
    right.html(_card(scenario, both[1], where))
    st.html(_legend(both))
    charts = _step_charts(scenario, at)
    rows = []
    for column, (key, title, axis, found, labels, here) in zip(st.columns(3), charts, strict=True):
        with column:
            st.html(f'<div class="bs-strip-title">{escape(title)}</div>')
            alt = phase_figures.bars_sentence(found, labels, title)
            figure = phase_figures.step_bars(found, labels, here, axis)
            chart(figure, f"step-{key}", alt, height=330, **_titles(scenario))
        rows += [row for row in found if row not in rows]
    _caption(
        scenario,
        "The parts of a bar add up to the step; pale bars are other settings, the palest do not fit the KV "
        "cache. Dials show what the model needs against the peaks of the device, over the whole step."
        + _one_device(scenario),
    )
    steps = [(row["phase"], row["size"], row["context_tokens"]) for row in rows]
    call, predicted = f"step_rows(scenario, {steps})", partial(_step_trust, scenario)
    _take_away(scenario, "step-batch", rows, "load_scenario, step_rows", call, predicted=predicted)


def _step_charts(scenario: Scenario, at: Setting) -> list[tuple[str, str, str, list[dict], list[str], int]]:
    """Return the three charts: key, title, axis, rows, labels, and which bar is the present one."""
    longest, context = model_of(scenario).max_position, at.context_tokens
    batches = _ladder((2**power for power in range(9 if at.batch <= 256 else 15)), at.batch, at.batch > 256)
    contexts = _ladder((0, *(2**power for power in range(10, 18) if 2**power <= longest)), context)
    near = (own := at.prompt_tokens) / 10, min(10 * own, longest)
    prompts = _ladder((prompt for prompt in PROMPTS if near[0] <= prompt <= near[1]), own)
    plans = (
        ("batch", f"Decode over the batch, {tokens_short(round(context))} tokens each", "Sequences",
         [("decode", size, context) for size in batches], [number(int(size)) for size in batches],
         batches.index(at.batch)),
        ("context", f"Decode over the context, {sequences(at.batch)}", "Context of each [tokens]",
         [("decode", at.batch, size) for size in contexts], [tokens_short(round(size)) for size in contexts],
         contexts.index(context)),
        ("prompt", "Prefill over the prompt", "Prompt [tokens]",
         [("prefill", size, 0.0) for size in prompts], [tokens_short(size) for size in prompts],
         prompts.index(own)),
    )  # fmt: skip
    return [
        (key, title, axis, phases.step_rows(scenario, steps), labels, here)
        for key, title, axis, steps, labels, here in plans
    ]


def _ladder(steps: Iterable[float], own: float, coarse: bool = False) -> list[float]:
    """Return steps with one's own in place of one close to it; every second where there are too many."""
    steps = list(steps)[:: 2 if coarse else 1]
    return sorted({*(step for step in steps if abs(step - own) > 0.25 * own), own})


def _card(scenario: Scenario, row: Row, where: str) -> str:
    """Return one phase: how long a step takes, what works meanwhile, and what waits."""
    colour = PHASES[row["phase"]]
    rings = _ring("arithmetic", row["mfu_frac"]) + _ring("bandwidth", row["mbu_frac"])
    each = "the prompt" if row["phase"] == "prefill" else "a step, a token for each"
    found = _step_trust(scenario, row)
    band = found.ttft_band if row["phase"] == "prefill" else found.tpot_band
    likely = trust_words.measured(row["time_ms"], band, partial(duration, digits=2))
    return (
        f'<section class="bs-phase" style="--phase:{colour}"><h2>{row["phase"].capitalize()}</h2>'
        f'<div class="where">{escape(where)}</div><div class="row"><div '
        f'class="time">{duration(row["time_ms"])}'
        f"<small>{each}</small></div>{rings}</div>"
        f"<p>{escape(' · '.join(part for part in (likely, phase_words.waiting(row)) if part))}</p></section>"
    )


def _ring(name: str, frac: float) -> str:
    """Return a half ring that is filled to a fraction."""
    degrees = 180 * min(max(frac, 0.0), 1.0)
    return (
        f'<div class="ring" role="img" aria-label="{name} {percent(frac)} busy">'
        f'<div class="arc" style="--filled:{degrees:.1f}deg"></div>'
        f'<div class="share">{percent(frac)}</div><div class="name">{name}</div></div>'
    )


def _legend(rows: Sequence[Row]) -> str:
    used = [part for part in phase_figures.PARTS if any(row[f"{part}_ms"] for row in rows)]
    spans = "".join(
        f'<span><i style="background:{LIMITS[part][1]}"></i>{LIMITS[part][0]}</span>' for part in used
    )
    return f'<div class="bs-legend">{spans}</div>'


# More of each


def specs(scenario: Scenario) -> None:
    """Show what more arithmetic and more bandwidth bring for decode, prefill, and within the limits."""
    phases.require_fit(scenario)
    at, here = _setting(scenario), whatif.factors(scenario)
    sweeps.wait_until_ready()
    rows = whatif.returns(scenario, at)
    pieces.say(phase_words.specs(rows))
    trust_badge.badge(scenario)
    _factor_sliders(scenario, here)
    _dials(scenario)
    others = whatif.others(scenario)
    for column, row in zip(st.columns(3), rows, strict=True):
        with column:
            _returns(scenario, at, row, here, others)
    _caption(
        scenario,
        "Stronger colour is better, and each line is 25 % more: lines that run level say that arithmetic "
        "brings nothing, "
        "upright ones that bandwidth does not. Dots are other accelerators by arithmetic and "
        "bandwidth alone, in "
        "the precision used; memory, links and everything else stay as they are here. The third map is "
        "simulated: the highest Poisson rate that keeps the latency limits, "
        f"{number(whatif.LIMITS_REQUESTS)} requests a trial{_of_lengths(scenario)}. Everywhere but at 1× "
        "of both the part is one that nobody has measured: extrapolated.",
    )
    place = f"setting(scenario, {at.batch}, {at.context_tokens:g})"
    call = f"[*returns(scenario, {place}), *specs_maps(scenario, {place})]"
    imports = "load_scenario, returns, setting, specs_maps"
    maps = actions.File("Maps", "batchscope-specs-maps.csv", "text/csv", partial(_maps_text, scenario, at))
    _take_away(scenario, "specs-limits", rows, imports, call, files=[maps])


def _maps_text(scenario: Scenario, at: Setting) -> str:
    """Return the three maps as CSV; all places but the datasheet's own are parts that nobody has measured."""
    sold = whatif.as_sold(scenario)
    return report.csv_text(
        [row | _place_trust(sold, row["flops"], row["bandwidth"]) for row in whatif.specs_maps(scenario, at)]
    )


@lru_cache(maxsize=1024)
def _place_trust(sold: Scenario, flops: float, bandwidth: float) -> dict[str, Any]:
    try:
        return trust.trust(whatif.with_factors(sold, flops, bandwidth)).columns()
    except ScenarioError:
        return trust.NO_TRUST.columns()


def _of_lengths(scenario: Scenario) -> str:
    """Return which lengths the simulated map has where the scenario replays a list."""
    return ", of the lengths set here instead of the list's" if scenario.arrivals == "trace" else ""


def _factor_sliders(scenario: Scenario, here: whatif.Factors) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        controls.factor("more_flops", "More arithmetic", here.flops, partial(whatif.specs_at, scenario))
        controls.factor("more_bandwidth", "More bandwidth", here.bandwidth, partial(_bandwidth, scenario))


def _bandwidth(scenario: Scenario, factor: float) -> dict[str, float | None]:
    return whatif.specs_at(scenario, bandwidth=factor)


def _measured(scenario: Scenario, at: Setting, row: Row) -> str:
    """Return where measured values of one measure lie; "" without a band."""
    found = trust.of_step(scenario, at.batch, at.context_tokens)
    bands = {
        "decode": found.tpot_band,
        "ttft": found.ttft_band,
        "limits": trust.trust(scenario).throughput_band,
    }
    measure = row["measure"]
    words = partial(phase_words.value, measure)
    return trust_words.measured(row["value"], bands[measure], words, inverse=measure == "decode")


def _returns(scenario: Scenario, at: Setting, row: Row, here: whatif.Factors, others: Sequence[Row]) -> None:
    """Show one measure: its value, what doubling brings, and the map."""
    measure, title = row["measure"], phase_words.MEASURES[row["measure"]]
    say = partial(phase_words.value, measure)
    st.html(
        f'<div class="bs-figure"><div class="name">{title}</div><div class="value">{say(row["value"])}</div>'
        f'<div class="note">arithmetic × 2: <b>{signed(row["more_flops"])}</b> · bandwidth × 2: '
        f"<b>{signed(row['more_bandwidth'])}</b></div>"
        f'<div class="note">{_measured(scenario, at, row)}</div></div>'
    )
    steps, values = whatif.measure_map(scenario, at, measure)
    colour = {"decode": PHASES["decode"], "ttft": PHASES["prefill"], "limits": "#009E73"}[measure]
    figure = phase_figures.returns_map(
        values, steps, steps, here=tuple(here), others=others, hover=say, colour=colour,
        less_is_better=measure == "ttft",
    )  # fmt: skip
    alt = phase_figures.map_sentence(title, say(row["value"]), row["more_flops"], row["more_bandwidth"])
    chart(figure, f"specs-{measure}", alt, height=360, **_titles(scenario))


# KV cache


def kv(scenario: Scenario) -> None:
    """Show the KV cache of a batch over the context, under four kinds of attention."""
    at, model = _setting(scenario), model_of(scenario)
    rows = whatif.kv_rows(scenario, at.batch, at.context_tokens)
    room_gb = memory(scenario)["kv_gb"]
    try:
        phases.require_fit(scenario)
        pieces.say(phase_words.kv(rows, model.name, at.context_tokens, scenario.tensor_parallel))
        trust_badge.badge(scenario)
    except ScenarioError as error:
        pieces.say(str(error))
    _dials(scenario)
    block = scenario.kv_block_tokens
    contexts = np.unique(np.ceil(np.geomspace(64, max(model.max_position, 128), 80) / block) * block)
    lines = {
        kind: (at.batch * whatif.sequence_bytes(scenario, kind, contexts) / 1e9).tolist() for kind in KINDS
    }
    figure = phase_figures.kv_lines(
        contexts.tolist(), lines, rows, room_gb=room_gb, context=at.context_tokens, batch=at.batch,
        revision=_revision(scenario),
    )  # fmt: skip
    chart(
        figure,
        "kv",
        phase_figures.kv_sentence(rows, at.context_tokens, room_gb),
        height=460,
        **_titles(scenario),
    )
    _kv_numbers(rows)
    _caption(scenario, f"{_kv_help(rows)} {_window_note(scenario, model)}")
    call = f"kv_rows(scenario, batch={at.batch}, context_tokens={at.context_tokens:g})"
    _take_away(scenario, "kv", rows, "kv_rows, load_scenario", call)


def _kv_numbers(rows: Sequence[Row]) -> None:
    cells = []
    for row in rows:
        name = KINDS[row["kind"]][0] + (" · this model" if row["own"] else "")
        note = f"{quantity(row['kb_per_token'], 'kB')} a token"
        cells.append((name, f"{number(row['largest_batch'])} fit", note))
    _numbers(cells)


def _kv_help(rows: Sequence[Row]) -> str:
    by_kind = {row["kind"]: row for row in rows}
    heads, window = by_kind["grouped"]["kv_heads"], by_kind["window"]["window_tokens"]
    like = "its own" if by_kind["window"]["own"] else f"{catalogue.model(whatif.WINDOW_LIKE).name}'s"
    latent = (
        ""
        if by_kind["latent"]["own"]
        else f", latent takes {catalogue.model(whatif.LATENT_LIKE).name}'s ranks"
    )
    return (
        "Same layers, heads and weights in memory, another attention: grouped keeps "
        f"{number(heads)} key/value heads, the window is {like} ({number(window)} tokens in most "
        f"layers){latent}. "
        "A line that crosses the room has filled it: dots mark the longest context this batch can have."
    )


def _window_note(scenario: Scenario, model: catalogue.Model) -> str:
    if not (model.window_layers and model.full_layers):
        return "The window's line shows what windowing allows: no layer keeps more than it can see."
    return (
        "The window's line shows what windowing allows. The simulator is more careful: it sets "
        "each window aside "
        f"beforehand for all {number(scenario.max_batch)} sequences of the batch limit, or caches "
        "every token in "
        "every layer where that leaves more room."
    )


# The floor


def floor(scenario: Scenario) -> None:
    """Show the time per token that no engine can beat, for every accelerator, against interactive limits."""
    rows = whatif.floor_rows(scenario)
    model = model_of(scenario)
    pieces.say(phase_words.floor(rows, model.name, scenario.tensor_parallel, scenario.slo_tpot_ms))
    trust_badge.badge(trust.of_step(scenario.replace(calibration="typical", constants="", step_profile="")))
    limits = tpot_limits(scenario)
    figure = phase_figures.floor_dots(rows, limits, revision=_revision(scenario))
    alt = phase_figures.floor_sentence(rows, scenario.slo_tpot_ms)
    height = 140 + 21 * len(rows)
    titles = _titles(scenario) | {"title": f"{model.name}, the least time per token"}
    chart(figure, "floor", alt, height=height, export=(1100, height + 60), **titles)
    _caption(
        scenario,
        "Hollow: every weight a token uses read once at the datasheet's bandwidth, one sequence "
        "without context. "
        "Filled: what the typical calibration predicts. Both for "
        f"{_devices(scenario, 'each accelerator')} as "
        "sold; crosses mark parts whose memory does not hold the model so. A larger batch shares "
        "the reading but "
        f"cannot speed up a single sequence. Dotted limits: {_limit_sources()}. Bars on filled dots hold "
        "four measured values in five; the badge of each accelerator stands in its hover text.",
    )
    _take_away(scenario, "floor", rows, "floor_rows, load_scenario", "floor_rows(scenario)")


def tpot_limits(scenario: Scenario) -> list[tuple[float, str, bool]]:
    """Return the limits on TPOT to draw: the visitor's own, and those of interactive benchmarks. [ms]"""
    by_ms = sorted({limit.tpot_ms for limit in catalogue.limits().values()})
    found = [(ms, f"MLPerf {duration(ms)}", False) for ms in by_ms]
    own = scenario.slo_tpot_ms
    return [*(limit for limit in found if limit[0] != own), (own, f"your limit {duration(own)}", True)]


def _limit_sources() -> str:
    texts = [
        f"{catalogue.model(limit.model).name} {duration(limit.tpot_ms)}"
        for limit in sorted(catalogue.limits().values(), key=lambda limit: limit.tpot_ms)
    ]
    return f"MLPerf Inference, interactive, p99 ({', '.join(texts)})"
