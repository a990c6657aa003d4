"""Two phases, the hardware: maps of more FLOPs and bandwidth, the KV cache, the floor of every part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import streamlit as st

from sim_core import catalogue
from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.price.steps.shapes import pricing_of
from sim_core.questions import hardware as whatif
from sim_core.questions import phases
from sim_core.questions.phases import Setting
from sim_core.results import text as report
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import duration, number, quantity, signed
from sim_core.view.parts import actions, pieces, trust_badge, views
from sim_core.view.parts.chart import chart
from sim_core.view.phases import words as phase_words
from sim_core.view.phases.common import (
    caption_with_warnings,
    devices_words,
    dials,
    give_away,
    numbers_row,
    own_setting,
    phase_titles,
    setting_revision,
)
from sim_core.view.phases.figures import PHASES
from sim_core.view.phases.hardware_figures import (
    KINDS,
    floor_dots,
    floor_sentence,
    kv_lines,
    kv_sentence,
    map_sentence,
    returns_map,
)
from sim_core.view.session import sweeps

# More of each


def show_specs(scenario: Scenario) -> None:
    """Show what more arithmetic and more bandwidth bring for decode, prefill, and within the limits."""
    for engine in (phases.prefilling(scenario), phases.decoding(scenario)):
        phases.require_fit(engine)
    at, here = own_setting(scenario), whatif.factors(scenario)
    sweeps.wait_until_ready()
    rows = whatif.returns(scenario, at)
    pieces.say(phase_words.specs_finding(rows))
    trust_badge.badge(scenario)
    _factor_sliders(scenario, here)
    dials(scenario)
    others = whatif.others(scenario)
    for column, row in zip(st.columns(3), rows, strict=True):
        with column:
            _returns(scenario, at, row, here, others)
    caption_with_warnings(
        scenario,
        "Stronger colour is better, and each line is 25 % more: lines that run level say that arithmetic "
        "brings nothing, "
        "upright ones that bandwidth does not. Dots are other accelerators by arithmetic and "
        "bandwidth alone, in "
        "the precision used; memory, links and everything else stay as they are here. The third map is "
        "simulated: the highest Poisson rate that keeps the latency limits, "
        f"{number(whatif.CAPACITY_REQUESTS)} requests a trial{_of_lengths(scenario)}, "
        "more where they live long and fewer where the page would take too long. Everywhere but at 1× "
        "of both the part is one that nobody has measured: extrapolated.",
    )
    place = f"setting(scenario, {at.batch}, {at.context_tokens:g})"
    call = f"[*returns(scenario, {place}), *specs_maps(scenario, {place})]"
    imports = "load_scenario, returns, setting, specs_maps"
    maps = actions.File(
        "Maps", actions.named("specs-maps", "csv"), "text/csv", partial(_maps_text, scenario, at)
    )
    give_away(scenario, "specs-limits", rows, imports, call, files=[maps])


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
        views.factor_slider("more_flops", "More arithmetic", here.flops, partial(whatif.specs_at, scenario))
        views.factor_slider("more_bandwidth", "More bandwidth", here.bandwidth, partial(_bandwidth, scenario))


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
    return trust_words.measured_words(row["value"], bands[measure], words, inverse=measure == "decode")


def _returns(scenario: Scenario, at: Setting, row: Row, here: whatif.Factors, others: Sequence[Row]) -> None:
    """Show one measure: its value, what doubling brings, and the map."""
    measure, title = row["measure"], phase_words.MEASURES[row["measure"]]
    say = partial(phase_words.value, measure)
    doubled = {f"more_{what}": signed(row[f"more_{what}"]) for what in ("flops", "bandwidth")}
    likely = _measured(scenario, at, row)
    st.html(render("phases/measure.html", title=title, value=say(row["value"]), measured=likely, **doubled))
    steps, values = whatif.measure_map(scenario, at, measure)
    colour = {"decode": PHASES["decode"], "ttft": PHASES["prefill"], "limits": "#009E73"}[measure]
    figure = returns_map(
        values,
        steps,
        steps,
        here=(here.flops, here.bandwidth),
        others=others,
        hover=say,
        colour=colour,
        less_is_better=measure == "ttft",
    )
    alt = map_sentence(title, say(row["value"]), row["more_flops"], row["more_bandwidth"])
    chart(figure, f"specs-{measure}", alt, height=360, heading=phase_titles(scenario))


# KV cache


def show_kv(scenario: Scenario) -> None:
    """Show the KV cache of a batch over the context, under its own kind of attention and four others."""
    at, model, engine = own_setting(scenario), model_of(scenario), phases.decoding(scenario)
    rows = whatif.kv_rows(scenario, at.batch, at.context_tokens)
    room_gb = whatif.room_gb(engine)
    try:
        phases.require_fit(engine)
        pieces.say(phase_words.kv_finding(rows, model.name, at.context_tokens, _copies(engine)))
        trust_badge.badge(scenario)
    except ScenarioError as error:
        pieces.say_why(error)
    dials(scenario)
    block = scenario.kv_block_tokens
    contexts = np.unique(np.ceil(np.geomspace(64, max(model.max_position, 128), 80) / block) * block)
    lines = {
        kind: (at.batch * whatif.sequence_bytes(engine, kind, contexts) / 1e9).tolist()
        for kind in (row["kind"] for row in rows)
    }
    figure = kv_lines(
        contexts.tolist(),
        lines,
        rows,
        room_gb=room_gb,
        context=at.context_tokens,
        batch=at.batch,
        revision=setting_revision(scenario),
    )
    chart(
        figure,
        "kv",
        kv_sentence(rows, at.context_tokens, room_gb),
        height=460,
        heading=phase_titles(scenario),
    )
    _kv_numbers(rows)
    caption_with_warnings(scenario, f"{_kv_help(rows)} {_window_note(scenario, model)}")
    call = f"kv_rows(scenario, batch={at.batch}, context_tokens={at.context_tokens:g})"
    give_away(scenario, "kv", rows, "kv_rows, load_scenario", call)


def _copies(scenario: Scenario) -> int:
    """Return how many devices keep the same piece of a latent vector: those of a rank, contexts in parts."""
    return scenario.tensor_parallel // scenario.attention_data_parallel // scenario.context_parallel


def _kv_numbers(rows: Sequence[Row]) -> None:
    cells = []
    for row in rows:
        name = KINDS[row["kind"]][0] + (" · this model" if row["own"] else "")
        note = f"{quantity(row['kb_per_token'], 'kB')} a token"
        cells.append((name, f"{number(row['largest_batch'])} fit", note))
    numbers_row(cells)


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
    if model.state_bytes():
        return (
            "The simulator sets the state of a sequence aside beforehand for all "
            f"{number(scenario.max_batch)} sequences of the batch limit, as engines do that hold slots."
        )
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


def show_floor(scenario: Scenario) -> None:
    """Show the time per token that no engine can beat, for every accelerator, against interactive limits."""
    rows = whatif.floor_rows(scenario)
    model = model_of(scenario)
    runs = any(row["own"] and row["fits"] for row in rows)
    engine = phases.decoding(scenario)
    made = float(pricing_of(engine).made(1)) if runs else 1.0
    limit_ms = scenario.slo_tpot_ms
    devices = engine.tensor_parallel * engine.pipeline_parallel
    pieces.say(phase_words.floor_finding(rows, model.name, devices, limit_ms, made))
    trust_badge.badge(trust.of_step(scenario.replace(calibration="typical", constants="", step_profile="")))
    limits = tpot_limits(scenario)
    figure = floor_dots(rows, limits, revision=setting_revision(scenario))
    alt = floor_sentence(rows, scenario.slo_tpot_ms)
    height = 140 + 21 * len(rows)
    heading = phase_titles(scenario)._replace(title=f"{model.name}, the least time per token")
    chart(figure, "floor", alt, height=height, export=(1100, height + 60), heading=heading)
    caption_with_warnings(
        scenario,
        "Hollow: every weight a token uses, and its sequence's state where the model keeps one, read once at "
        "the datasheet's bandwidth, one sequence without context. "
        "Filled: what the typical calibration predicts. Both for "
        f"{devices_words(engine, 'each accelerator')} as "
        "sold; crosses mark parts whose memory does not hold the model so. A larger batch shares "
        "the reading but "
        f"cannot speed up a single sequence. Dotted limits: {_limit_sources()}. Bars on filled dots hold "
        "four measured values in five; the badge of each accelerator stands in its hover text.",
    )
    give_away(scenario, "floor", rows, "floor_rows, load_scenario", "floor_rows(scenario)")


def tpot_limits(scenario: Scenario) -> list[tuple[float, str, bool]]:
    """Return the limits on TPOT to draw: the visitor's own, and those of interactive benchmarks. [ms]"""
    by_ms = sorted({limit.tpot_ms for limit in catalogue.latency_limits().values()})
    found = [(ms, f"MLPerf {duration(ms)}", False) for ms in by_ms]
    own = scenario.slo_tpot_ms
    return [*(limit for limit in found if limit[0] != own), (own, f"your limit {duration(own)}", True)]


def _limit_sources() -> str:
    texts = [
        f"{catalogue.model(limit.model).name} {duration(limit.tpot_ms)}"
        for limit in sorted(catalogue.latency_limits().values(), key=lambda limit: limit.tpot_ms)
    ]
    return f"MLPerf Inference, interactive, p99 ({', '.join(texts)})"
