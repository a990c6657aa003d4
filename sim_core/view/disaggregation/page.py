"""The pieces of the Disaggregation page: does splitting prefill and decode over two pools pay?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st

from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.pools import transfer_of
from sim_core.questions import disaggregation
from sim_core.questions.disaggregation import Axes, Ways
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.traffic.draws import mean_lengths
from sim_core.view.disaggregation import figures as disaggregation_figures
from sim_core.view.disaggregation.figures import ratio_name
from sim_core.view.drawing.verdicts import WITHHELD, Limits, broken_briefly, is_withheld
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.frontier.layouts.placement import show_placement
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.pieces import KeyFigure
from sim_core.view.parts.sidebar import BOTH_LIMITS, LINKS, limit_sliders_row, pool_sizes, sidebar
from sim_core.view.parts.views import dial, views
from sim_core.view.session import state, sweeps
from sim_core.view.session.advice import Advice, offer

LOADS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1, 1.2)
SAME = 0.02  # gains below this are no gain
AS_MUCH = 0.005  # of what two splits serve: the digits by which the best is chosen
NOISE = 0.05  # and on the map, of few requests a cell


def show(scenario: Scenario) -> None:
    """Show the view that was asked for; where it cannot be, the controls and the reason."""
    views("pools")
    sweeps.wait_until_ready()
    view = {"ratio": show_splits, "stages": show_stages, "pays": show_where_it_pays, "link": show_link}[
        state.view("pools")
    ]
    try:
        found = disaggregation.ways(_neutral(scenario), state.view_number("pool_load"))
        view(found, scenario)
    except ScenarioError as error:
        pieces.say_why(error)
        _dials(scenario)


def pools_sidebar(scenario: Scenario) -> None:
    """Draw the sidebar without what the page has beside its chart, or sets itself: one pool, and two."""
    sidebar(scenario, beside={"arrival_per_s", "pools", "policy", *BOTH_LIMITS})


def _neutral(scenario: Scenario) -> Scenario:
    """Return a scenario without what the page does not depend on, so that moves elsewhere find it cached."""
    found = disaggregation.split_of(scenario).replace(replicas=1)
    return found if found.prefix_caching == "on" else found.replace(router="least_loaded")


def _dials(scenario: Scenario) -> None:
    """Draw the sliders beside the chart: load, where it is not searched for, workers, link."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        if scenario.arrivals not in ("closed", "offline") and state.view("pools") != "pays":
            dial("pool_load", LOADS, percent)
        pool_sizes()
    limit_sliders_row()


def _titles(found: Ways) -> Heading:
    return _heading(found, _load_words(found), _lengths_words(found), _limits_words(found))


def _map_titles(found: Ways, over_lengths: bool) -> Heading:
    """Return what the map of where it pays is of: it finds the rate, and one pair is along its axes."""
    held = _limits_words(found) if over_lengths else _lengths_words(found)
    return _heading(found, "at the highest request rate of each", held)


def _heading(found: Ways, *parts: str) -> Heading:
    two = found.two
    title = f"{model_of(two).name} on {two.accelerators} × {accelerator_of(two).name}: one pool or two?"
    return Heading(title, f"{', '.join(parts)} · simulated")


def _lengths_words(found: Ways) -> str:
    prompt, output = mean_lengths(found.two)
    return f"{number(round(prompt))} → {number(round(output))} tokens"


def _limits_words(found: Ways) -> str:
    two = found.two
    return f"TTFT within {duration(two.slo_ttft_ms)}, TPOT within {duration(two.slo_tpot_ms)}"


def _load_words(found: Ways) -> str:
    two = found.two
    if two.arrivals == "closed":
        return counted(two.concurrency, "client")
    if two.arrivals == "offline":
        return "all at once"
    return quantity(two.arrival_per_s, "req/s")


def pools_finding(found: Ways, best: dict[str, Any] | None) -> str:
    """Return in one sentence whether two pools pay here, and at which ratio."""
    one = found.one_point["served_per_s"]
    load = _load_words(found)
    if best is None and one <= 0:
        return f"At {load} neither one pool nor two keep the limits: give them fewer requests or more time."
    if best is None:
        return (
            f"At {load} no split keeps the limits, while one pool serves {quantity(one, 'req/s')} within "
            "them."
        )
    more = disaggregation.gain_of(best["served_per_s"], one)
    name = ratio_name(best)
    if more > SAME:
        text = f"At {load} two pools pay: split as {name} they serve {_more(more, ' within the limits')}"
    elif more < -SAME:
        text = (
            f"At {load} two pools do not pay: even split as {name} they serve {percent(-more)} less than one "
            "pool"
        )
    else:
        text = f"At {load} two pools, split as {name}, serve as much within the limits as one pool"
    if best["prefill_workers"] != found.two.prefill_workers:
        text += f"; {_as_set(found, best)}"
    words = broken_briefly(best, Limits(found.two.slo_ttft_ms, found.two.slo_tpot_ms))
    return f"{text}. At p{found.two.slo_percentile:g}, {name} still {words}." if words else f"{text}."


def _as_set(found: Ways, best: dict[str, Any]) -> str:
    """Return how the split that is set fares: what it serves; where that is as much, how late it begins."""
    set_here, point = ratio_name(_sizes(found.two)), found.two_point
    if abs(disaggregation.gain_of(point["served_per_s"], best["served_per_s"])) <= AS_MUCH:
        own, other = (duration(row["ttft_ms_p99"]) for row in (point, best))
        return f"{set_here} serves as much, but its first token takes {own} at p99 instead of {other}"
    gain = disaggregation.gain_of(point["served_per_s"], found.one_point["served_per_s"])
    return f"split as {set_here} it is {_against(gain)}"


def pools_advice(found: Ways, best: dict[str, Any] | None) -> list[Advice]:
    """Return the best split where it is another one, and where two pools do not pay, what to look for."""
    advice = []
    if best is not None and best["prefill_workers"] != found.two.prefill_workers:
        changes = {key: int(best[key]) for key in ("prefill_workers", "decode_workers")}
        advice.append(Advice(f"Use {ratio_name(best)}", changes))
    served = 0.0 if best is None else best["served_per_s"]
    if disaggregation.gain_of(served, found.one_point["served_per_s"]) < -SAME:
        advice.append(Advice("Look for the link’s break-even", views={"pools": "link"}))
    return advice


def link_advice(found: Ways, even: float) -> list[Advice]:
    """Return the link from which two pools are as good as one, or where a better ratio is to be found."""
    if math.isnan(even):
        return [Advice("Look for a better ratio", views={"pools": "ratio"})]
    if found.two.kv_link_gb_per_s >= even:
        return []
    enough = next((link for link in LINKS if link >= even), float(math.ceil(even)))
    return [Advice(f"Use a link of {quantity(enough, 'GB/s')}", {"kv_link_gb_per_s": float(enough)})]


def _sizes(scenario: Scenario) -> dict[str, int]:
    return {"prefill_workers": scenario.prefill_workers, "decode_workers": scenario.decode_workers}


def _more(gain: float, within: str = "") -> str:
    """Return how much more than one pool two serve, for a gain above 0."""
    if math.isinf(gain):
        return f"requests{within}, and one pool none"
    if gain >= 1:
        return f"{number(1 + gain, 2)} times as much{within} as one pool"
    return f"{percent(gain)} more{within} than one pool"


def _against(gain: float) -> str:
    if math.isnan(gain):
        return "nothing"
    if abs(gain) <= SAME:
        return "the same as one pool"
    return _more(gain) if gain > 0 else f"{percent(-gain)} less than one pool"


# The ratio


def show_splits(found: Ways, scenario: Scenario) -> None:
    """Show what every split of the workers serves within the limits."""
    rows = disaggregation.split_rows(_neutral(scenario), state.view_number("pool_load"))
    best = disaggregation.best_of(rows)
    matched = disaggregation.matched(found.two)
    pieces.say(pools_finding(found, best), matched_words(matched, found))
    offer(pools_advice(found, best))
    trust_badge.badge(found.two)
    _dials(scenario)
    devices = found.one.accelerators
    figure = disaggregation_figures.splits_figure(
        rows, found.one_point, devices, best, matched.workers, found.two.prefill_workers
    )
    alt = disaggregation_figures.ratios_sentence(rows, found.one_point, devices, best)
    chart(figure, "ratio", alt, height=460, heading=_titles(found))
    _numbers(found)
    st.caption(
        "Every bar gets the same requests; those that keep both limits count. A pale bar breaks a limit at "
        f"p{number(found.two.slo_percentile)}. Framed: the split that is set. Theory: rate matching, "
        "which knows no waiting."
    )
    _take_away("ratio", rows, found)


def matched_words(matched: disaggregation.Matched, found: Ways) -> str:
    """Return what rate matching says."""
    workers = found.two.prefill_workers + found.two.decode_workers
    return (
        f"By rate matching a request takes {duration(1e3 * matched.prefill_s)} of a prefill worker and "
        f"{duration(1e3 * matched.decode_s)} of a decode worker (at a batch of {number(matched.batch)}): "
        f"{number(matched.workers, 2)} of {workers} workers should prefill."
    )


# One pool or two


def show_stages(found: Ways, scenario: Scenario) -> None:
    """Show both ways in numbers, and where a request spends its time on two pools."""
    best = disaggregation.best_of(
        disaggregation.split_rows(_neutral(scenario), state.view_number("pool_load"))
    )
    pieces.say(pools_finding(found, best))
    offer(pools_advice(found, best))
    trust_badge.badge(found.two)
    _dials(scenario)
    rows = disaggregation.stage_rows(found)
    chart(
        disaggregation_figures.stages_figure(rows),
        "stages",
        disaggregation_figures.stages_sentence(rows),
        height=300,
        heading=_titles(found),
    )
    show_both_ways(found)
    st.caption(
        f"Both serve the same requests on {found.one.accelerators} accelerators: one pool as "
        f"{found.one.replicas} engines with chunked prefill behind a router, two pools as "
        f"{ratio_name(_sizes(found.two))}. The first token leaves the prefill pool before the KV cache "
        "travels, so the transfer shows in the gap before the second one. A decode worker counts as busy "
        "with one request or with a full batch alike; its share of memory bandwidth says more."
    )
    _take_away("stages", comparison_rows(found), found)


METRICS = (
    ("ttft_ms_p50", "TTFT p50", duration, False),
    ("ttft_ms_p99", "TTFT p99", duration, False),
    ("tpot_ms_p50", "TPOT p50", duration, False),
    ("tpot_ms_p99", "TPOT p99", duration, False),
    ("itl_ms_p99", "ITL p99", duration, False),
    ("served_per_s", "Within limits [req/s]", number, True),
    ("slo_attainment_frac", "Within both limits", percent, True),
    ("output_tok_per_s_per_accelerator", "Throughput per accelerator [tok/s]", number, True),
    ("mfu_frac", "Arithmetic used (MFU)", percent, True),
    ("mbu_frac", "Bandwidth used (MBU)", percent, True),
)


def show_both_ways(found: Ways) -> None:
    """Show both ways side by side, and how the pools are used."""
    lines = []
    for key, name, words, more_is_better in METRICS:
        points = [found.one_point, found.two_point]
        lines.append((name, pieces.point_cells(points, key, words, more_is_better)))
    pieces.table("The same requests on as many devices", ["One pool", "Two pools"], lines)
    used = found.pools
    cells = []
    for name, key in (("Prefill pool", "prefill"), ("Decode pool", "decode")):
        part = used[key]
        note = f"MFU {percent(part['mfu_frac'])} · MBU {percent(part['mbu_frac'])}"
        cells.append(KeyFigure(f"{name}, busy", percent(part["busy_frac"]), note))
    cells.append(KeyFigure("KV links, busy", percent(used["link"]["busy_frac"]), "of the time, on average"))
    pieces.figures(cells)


def comparison_rows(found: Ways) -> list[dict[str, Any]]:
    """Return both ways as rows."""
    used = found.pools
    stages_ms = {f"{name}_ms": value for name, value in used["stage_ms"].items()}
    busy = {f"{key}_busy_frac": used[key]["busy_frac"] for key in ("prefill", "decode", "link")}
    return [
        {"pools": "one", **_sizes_of(found.one), **found.one_point},
        {"pools": "two", **_sizes_of(found.two), **found.two_point, **busy, **stages_ms},
    ]


def _sizes_of(scenario: Scenario) -> dict[str, Any]:
    return {"accelerators": scenario.accelerators} | (_sizes(scenario) if scenario.split else {})


def _numbers(found: Ways) -> None:
    """Show both ways in a few numbers."""
    cells = []
    for name, key, words in (
        ("TTFT p99", "ttft_ms_p99", duration),
        ("TPOT p99", "tpot_ms_p99", duration),
        ("ITL p99", "itl_ms_p99", duration),
        ("Served within limits", "served_per_s", lambda value: quantity(value, "req/s")),
    ):
        one, two = (
            WITHHELD if is_withheld(point, key) else words(point[key])
            for point in (found.one_point, found.two_point)
        )
        cells.append(KeyFigure(name, two, f"one pool {one}"))
    pieces.figures(cells, f"Two pools as they are set, {ratio_name(_sizes(found.two))}")


# When it pays


def show_where_it_pays(found: Ways, scenario: Scenario) -> None:
    """Show the gain over lengths of prompts and answers, or over the latency limits."""
    views("over")
    axes = {"lengths": disaggregation.LENGTHS, "limits": disaggregation.LIMITS}[state.view("over")]
    with st.spinner("Searching both ways in every cell…"):
        rows = disaggregation.gain_map(_for_map(scenario, axes), axes)
    pieces.say(where_it_pays_finding(rows, axes))
    trust_badge.badge(found.two)
    _dials(scenario)
    over_lengths = axes == disaggregation.LENGTHS
    here = mean_lengths(found.two) if over_lengths else (scenario.slo_ttft_ms, scenario.slo_tpot_ms)
    chart(
        disaggregation_figures.gains(rows, axes, here),
        "gains",
        disaggregation_figures.gains_sentence(rows),
        height=540,
        heading=_map_titles(found, over_lengths),
    )
    ring = "mean of the sidebar's lengths" if over_lengths else "pair of limits above"
    st.caption(
        "The highest request rate at which the stated percentile keeps both limits: two pools against one "
        "of the same devices, each searched for by itself, the two split as rate matching says or one worker "
        "beside it. Blue: two pools can take more. Orange: less. The line is where they are even; ×: neither "
        f"keeps the limits at any rate. The ring is the {ring}. Rates are found to about 4 %, and whole "
        "workers make steps."
    )
    _take_away("gains", rows, found)


def _for_map(scenario: Scenario, axes: Axes) -> Scenario:
    """Return a scenario without what the map does not depend on."""
    plain = _neutral(scenario).replace(arrivals="poisson", arrival_per_s=1.0, concurrency=1, requests=1)
    if axes == disaggregation.LENGTHS:
        return plain.replace(mix="", request_list="", prompt_tokens=1, output_tokens=1)
    return plain.replace(slo_ttft_ms=1.0, slo_tpot_ms=1.0)


def where_it_pays_finding(rows: Sequence[dict[str, Any]], axes: Axes) -> str:
    """Return where two pools pay most."""
    known = [row for row in rows if not math.isnan(row["gain_frac"])]
    pairs = "lengths" if axes == disaggregation.LENGTHS else "limits"
    if not known:
        return f"Neither one pool nor two keep the limits at any of these {pairs}."
    better = [row for row in known if row["gain_frac"] > NOISE]
    worse = sum(row["gain_frac"] < -NOISE for row in known)
    if not better:
        return (
            f"At none of these {pairs} can two pools take more requests than one; at {worse} of {len(known)} "
            "less."
        )
    most = max(better, key=lambda row: row["gain_frac"])
    y, x = (disaggregation_figures.SCALES[key].words(most[key]) for key in (axes.y, axes.x))
    where = f"prompts of {y} and answers of {x} tokens"
    if pairs == "limits":
        where = f"first tokens within {y} and each token within {x}"
    much = "some, where one pool can take none" if math.isinf(most["gain_frac"]) else _more(most["gain_frac"])
    return (
        f"Within the limits two pools can take more requests than one at {len(better)} of {len(known)} pairs "
        f"of {pairs} and less at {worse}; most at {where}: {much}."
    )


# The link


def show_link(found: Ways, scenario: Scenario) -> None:
    """Show what two pools serve over the bandwidth of the KV link."""
    one = found.one_point["served_per_s"]
    rows = disaggregation.link_sweep(_neutral(scenario), state.view_number("pool_load"))
    even = disaggregation.break_even_gb_per_s(rows, one)
    pieces.say(link_finding(found, rows, even), link_note(found))
    offer(link_advice(found, even))
    trust_badge.badge(found.two)
    _dials(scenario)
    figure = disaggregation_figures.link_figure(rows, one, even, found.two.kv_link_gb_per_s)
    chart(
        figure,
        "link",
        disaggregation_figures.link_sentence(rows, one, even),
        height=440,
        heading=_titles(found),
    )
    st.caption(
        f"Each of {found.two.prefill_workers} prefill workers has a link of this bandwidth to the decode "
        "pool and sends one KV cache after the other. 12.5, 25 and 50 GB/s are network cards of 100, 200 and "
        "400 Gb/s; 450 GB/s is NVLink of one H100."
    )
    _take_away("link", rows, found)


def link_finding(found: Ways, rows: Sequence[dict[str, Any]], even: float) -> str:
    """Return the break-even bandwidth in words."""
    name = ratio_name(_sizes(found.two))
    if math.isnan(even):
        return f"Split as {name}, no link makes two pools as good as one: look for a better ratio first."
    if even == 0:
        return (
            f"Split as {name}, two pools are at least as good as one even at "
            f"{quantity(rows[0]['kv_link_gb_per_s'], 'GB/s')}."
        )
    return f"Below {quantity(even, 'GB/s')} the transfer eats the gain of two pools, split as {name}."


def link_note(found: Ways) -> str:
    """Return what one prompt's KV cache weighs, and how long it travels."""
    two = found.two
    prompt, _ = mean_lengths(two)
    transfer = transfer_of(two)
    size_gb = transfer.token_s * two.kv_link_gb_per_s * prompt
    travel_ms = 1e3 * (transfer.latency_s + transfer.token_s * prompt)
    return (
        f"The KV cache of a mean prompt is {quantity(1e3 * size_gb, 'MB')}; over "
        f"{quantity(two.kv_link_gb_per_s, 'GB/s')} it travels {duration(travel_ms)}."
    )


def _take_away(key: str, rows: Sequence[dict[str, Any]], found: Ways) -> None:
    """Draw how both pools lie on their devices, and what can be taken away; the commands run both ways."""
    show_placement(found.two)
    commands = [command_for(found.two), command_for(found.one)]
    if key == "ratio":
        commands.insert(0, "# each split: --set prefill_workers=P --set decode_workers=D")
    actions.take_away(key, actions.table_files(rows, f"pools-{key}", found.two), "\n".join(commands))
