"""Figures of the scheduler's experiments: what is drawn follows from the rows, and Plotly accepts it."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import plotly.graph_objects as go
import pytest

from sim_core.questions.experiments import endings as endings_experiment
from sim_core.questions.experiments import interference as interference_experiment
from sim_core.questions.experiments import preemption
from sim_core.questions.experiments import waiting as waiting_experiment
from sim_core.scenario.scenario import Scenario
from sim_core.view.batching.endings import endings_finding
from sim_core.view.batching.experiments import micro
from sim_core.view.batching.figures import (
    cost_bars,
    ending_bars,
    ending_sentence,
    gap_curves,
    gap_sentence,
    wait_curves,
    wait_sentence,
)
from sim_core.view.batching.interference import (
    interference_commands,
    interference_finding,
    own_way,
    switch_words,
)
from sim_core.view.batching.memory_figures import (
    crossing_contexts,
    crossing_links,
    crossing_sentence,
    pressure_curves,
    pressure_sentence,
)
from sim_core.view.batching.preemption import crossover_finding, pressure_finding
from sim_core.view.batching.waiting import load_note, wait_finding
from sim_core.view.drawing import words
from sim_core.view.drawing.figures import INK
from sim_core.view.drawing.words import THIN
from sim_core.view.parts import pieces

BASE = Scenario(requests=300)


@cache
def waiting() -> waiting_experiment.Waiting:
    return waiting_experiment.waiting(BASE)


@cache
def pressure() -> preemption.Pressure:
    return preemption.pressure(BASE)


@cache
def crossover() -> preemption.Crossover:
    return preemption.crossover(BASE, 1000, 32)


@cache
def interference() -> interference_experiment.Interference:
    return interference_experiment.interference(BASE, 8, 500)


@cache
def endings() -> endings_experiment.Endings:
    return endings_experiment.endings(BASE.replace(max_batch=16))


def wait_figure() -> dict:
    found = waiting()
    curves = {batch: found.curve(batch) for batch in found.vary["max_batch"]}
    return wait_curves(curves, best=found.best, continuous=found.continuous)


def pressure_figure() -> dict:
    found = pressure()
    return pressure_curves({way: found.curve(way) for way in preemption.WAYS}, here_tokens=400_000)


def gaps() -> list:
    return [(*way.variant, way.mixed_ms) for way in interference().ways]


FIGURES = {
    "wait": wait_figure,
    "pressure": pressure_figure,
    "crossing length": lambda: crossing_contexts(crossover()),
    "crossing link": lambda: crossing_links(crossover(), preemption.HOST_GB_PER_S),
    "gaps": lambda: gap_curves(interference().ways[0].alone_ms, gaps()),
    "cost": lambda: cost_bars([way.row for way in interference().ways]),
    "endings": lambda: ending_bars(endings().rows),
}


@pytest.mark.parametrize("name", FIGURES)
def test_plotly_accepts_the_figure(name: str) -> None:
    """Oracle: Plotly's own schema, which raises for a key or value it does not know."""
    figure = FIGURES[name]()
    go.Figure(figure)
    for axis in ("xaxis", "yaxis"):
        title = figure["layout"][axis].get("title", {"text": "[none]"})["text"]
        assert title and ("[" in title or "wait" in title or "Tokens" in title or "Spread" in title)


@pytest.mark.parametrize("name", FIGURES)
def test_every_line_has_a_name_and_no_nan(name: str) -> None:
    """Oracle: JSON, which knows no nan, and the legend, which needs a name for what it shows."""
    for trace in FIGURES[name]()["data"]:
        assert trace.get("name") or trace.get("showlegend") is False
        for values in (trace.get("x", []), trace.get("y", [])):
            assert all(not isinstance(value, float) or math.isfinite(value) for value in values)


def test_no_wait_stands_at_the_left_end_of_the_axis() -> None:
    """Oracle: a logarithmic axis has no 0: no wait stands a third of the shortest wait to the left."""
    found = wait_figure()
    places = found["data"][0]["x"]
    assert places[0] == pytest.approx(10 / 3, rel=1e-4) and places[1] == 10
    assert found["layout"]["xaxis"]["ticktext"][0] == "none"


def test_the_best_wait_is_marked_where_it_lies() -> None:
    """Oracle: the row that `batching` calls the best."""
    star = wait_figure()["data"][-1]
    best = waiting().best
    assert star["marker"]["symbol"] == "star" and star["marker"]["color"] == INK
    assert star["y"][0] == pytest.approx(best["ttft_ms_mean"], rel=1e-4)


def test_the_reference_is_continuous_batching() -> None:
    """Oracle: its row: a dashed line at its TTFT in the upper panel, at its throughput in the lower one."""
    lines = {shape["yref"]: shape["y0"] for shape in wait_figure()["layout"]["shapes"]}
    found = waiting().continuous
    assert lines == {"y2": found["ttft_ms_mean"], "y": found["output_tok_per_s"]}


def test_overloaded_points_are_hollow() -> None:
    """Oracle: the rows' own flag."""
    found = waiting()
    for trace in wait_figure()["data"]:
        if trace["mode"] == "lines+markers" and trace["yaxis" if "yaxis" in trace else "name"] == "y2":
            batch = int(trace["name"].split("≤")[1].split(",")[0])
            marks = [symbol.endswith("-open") for symbol in trace["marker"]["symbol"]]
            assert marks == [row["saturated"] for row in found.curve(batch)]


def test_rings_mark_equal_times() -> None:
    """Oracle: the swap line passes through each ring: time x bandwidth is the same on all of it."""
    figure = crossing_links(crossover(), preemption.HOST_GB_PER_S)
    swap, rings = figure["data"][-2], figure["data"][-1]
    for x, y in zip(rings["x"], rings["y"], strict=True):
        assert x * y == pytest.approx(swap["x"][0] * swap["y"][0], rel=1e-3)


def test_the_tail_holds_the_percentiles() -> None:
    """Oracle: NumPy's percentile: at 1 % of the tokens the curve shows the p99."""
    gaps_ms = np.random.default_rng(1).lognormal(3, 1, 5000)
    trace = gap_curves(gaps_ms, [])["data"][0]
    at_p99 = np.interp(math.log(1.0), np.log(trace["y"][::-1]), trace["x"][::-1])
    assert at_p99 == pytest.approx(np.percentile(gaps_ms, 99), rel=0.03)
    assert trace["y"][0] == 100 and min(trace["y"]) == pytest.approx(100 / 5000, rel=1e-3)


def test_bars_of_a_prompt_token_add_up() -> None:
    """Oracle: the rows: work and fixed cost together are the delay for each prompt token."""
    rows = [way.row for way in interference().ways]
    work, fixed = (trace["x"] for trace in cost_bars(rows)["data"])
    for row, *parts in zip(rows, work, fixed, strict=True):
        assert sum(parts) == pytest.approx(row["extra_us_per_token"], rel=1e-3)


def test_hatched_padding_stands_on_the_output() -> None:
    """Oracle: arithmetic: a padding of p leaves 1 - p of what the slots could make."""
    rows = [row for row in endings().rows if row["policy"] == "static"]
    solid, padded = ending_bars(endings().rows)["data"][:2]
    assert padded["base"] == solid["y"]
    for row, useful, wasted in zip(rows, solid["y"], padded["y"], strict=True):
        assert wasted / (useful + wasted) == pytest.approx(row["padding_frac"], abs=1e-3)


def test_points_that_cannot_run_leave_a_gap() -> None:
    """Oracle: a row without numbers draws nothing, and breaks nothing."""
    blocked = {"preemption": "swap", "kv_memory_frac": 0.1, "feasible": False, "reason": "no", "kv_tokens": 0}
    go.Figure(pressure_curves({"swap": [blocked, *pressure().curve("swap")]}, here_tokens=0))
    ends = [{"policy": "static", "spread_cv": 3.0, "feasible": False, "reason": "no"}, *endings().rows]
    go.Figure(ending_bars(ends))


def test_sentences_tell_the_numbers_of_the_chart() -> None:
    """Oracle: the rows; three digits, as everywhere."""
    found = crossover()
    text = crossing_sentence(found).replace(THIN, " ")
    assert "1,000 tokens" in text and "5.46 ms" in text and "64 GB/s" in text
    assert "best wait is none" in wait_sentence({4: []}, waiting().best, waiting().continuous)
    assert "no point" in wait_sentence({4: []}, None, waiting().continuous)
    assert "recompute" in pressure_sentence({"recompute": pressure().curve("recompute")})
    assert "chunked, 512 tokens" in gap_sentence(interference().ways[0].alone_ms, gaps())
    assert "heavy tail" in ending_sentence(endings().rows)


# The findings


def test_the_wait_finding_says_why() -> None:
    """Oracle: the rows: the load, the best batch limit, what arrives meanwhile, continuous batching."""
    found = waiting()
    text = wait_finding(found)
    assert "best not to wait" in text and f"batch limit of {found.best['max_batch']}" in text
    assert "60" in text and "more requests arrive" in text and "Continuous batching" in text
    assert "more than static batching can serve" in load_note(found)
    assert "Poisson" in load_note(waiting_experiment.waiting(BASE.replace(arrivals="closed")))


def test_the_pressure_finding_names_the_break_even_link() -> None:
    """Oracle: the crossover's own number."""
    even = words.quantity(crossover().even_gb_per_s[1.0], "GB/s")
    assert f"below a host link of {even} recomputing is cheaper" in crossover_finding(crossover())
    found = pressure()
    text = pressure_finding(found, found.at(BASE.kv_memory_frac))
    assert "nobody is preempted" in text and "preemptions" in text
    tight = found.curve("swap")[0]
    here = found.at(tight["kv_memory_frac"])
    assert pressure_finding(found, here).startswith(f"With {tight['kv_tokens']:,} KV tokens")


def test_the_interference_finding_and_commands() -> None:
    """Oracle: the row of the scenario's own way; the commands name both runs."""
    found = interference()
    own = own_way(BASE, found)
    assert own.variant == ("chunked", 8192)
    text = interference_finding(found, own)
    assert micro(own.row["extra_us_per_token"]) in text
    commands = interference_commands(found, own).split("\n")
    assert "--steps-out alone.csv" in commands[0] and "--steps-out mixed.csv" in commands[1]
    assert "calibration" in switch_words(BASE, found)
    assert "set to" in switch_words(BASE.replace(prefill_switch_ms=1.0), found)


def test_the_endings_finding_states_both_losses() -> None:
    """Oracle: the padding of the row with cv 1."""
    found = endings()
    text = endings_finding(found)
    assert words.percent(found.row("static", 1.0)["padding_frac"]) in text and "Continuous" in text
    alone = endings_experiment.endings(BASE.replace(max_batch=1))
    assert "batch of one" in endings_finding(alone)


def test_a_spread_that_costs_nothing_has_no_sign() -> None:
    """Oracle: the row of no spread in place of that of cv 1: not a token is lost."""
    found = endings()
    rows = [row if row["spread_cv"] != 1.0 else found.row(row["policy"], 0.0) | {"spread_cv": 1.0}
            for row in found.rows]  # fmt: skip
    text = endings_finding(dataclasses.replace(found, rows=rows))
    assert text.endswith(f"refills a slot at once: {words.percent(0.0)}.")


def test_differences_have_the_colour_of_their_meaning() -> None:
    """Oracle: less latency is good, less throughput is bad; nothing is said of no difference."""
    faster, same = pieces.cells([10.0, 5.0, 10.0], str, False)[1:]
    assert "bs-good" in faster and same == pieces.Cell("10.0")
    assert "bs-bad" in pieces.cells([10.0, 5.0], str, True)[1]
    assert "3×" in pieces.cells([10.0, 30.0], str, True)[1]
