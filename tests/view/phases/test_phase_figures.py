"""Figures and findings of the Two phases page: what is drawn follows from the rows, and Plotly accepts it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import plotly.graph_objects as go
import pytest

from sim_core import catalogue, load_scenario
from sim_core.questions import hardware as whatif
from sim_core.questions import phases
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.figures import LIMITS
from sim_core.view.drawing.words import THIN, number
from sim_core.view.phases import figures
from sim_core.view.phases import words as phase_words
from sim_core.view.phases.figures import tokens_short
from sim_core.view.phases.hardware import tpot_limits
from sim_core.view.phases.hardware_figures import floor_dots, floor_sentence, kv_lines, returns_map
from tests.visits import healthy, open_page, said

QUERIES = (
    "",
    "calibration=datasheet&weight_dtype=fp8&kv_dtype=fp8",
    "model=deepseek-r1&accelerator=h200&tensor_parallel=8&weight_dtype=native",
    "model=gpt-oss-120b&accelerator=b200&weight_dtype=native",
    "model=gemma-3-27b&tensor_parallel=2",
)


def roofline(scenario: Scenario, batch: int = 32, split: bool = False) -> tuple[list[dict], dict]:
    rows = phases.roofline(scenario, [1, batch, 4096], 1125)
    reached = partial(phases.reached_roof, scenario)
    top, others = phases.roof(scenario), phases.other_roofs(scenario)
    figure = figures.roofline_figure(
        rows, top, others, reached, batch=batch, split=split, reached_name="typical"
    )
    return rows, figure


def trace(figure: dict, name: str) -> dict:
    return next(item for item in figure["data"] if item.get("name") == name)


def texts(figure: dict) -> str:
    return " | ".join(note["text"] for note in figure["layout"]["annotations"])


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("query", QUERIES)
def test_plotly_accepts_every_roofline(query: str, split: bool) -> None:
    """Oracle: Plotly's own validation."""
    go.Figure(roofline(load_scenario(query), split=split)[1])


def test_the_roofline_shows_its_rows() -> None:
    """Oracle: the rows, and a roof that bends at 295 FLOP/byte and 989 TFLOP/s."""
    rows, figure = roofline(Scenario())
    line = trace(figure, "decode, batch by batch")
    decode = [row for row in rows if row["phase"] == "decode" and row["piece"] == "all"]
    assert line["x"] == pytest.approx([row["flop_per_byte"] for row in decode], rel=1e-4)
    assert line["y"] == pytest.approx([row["flop_per_s"] for row in decode], rel=1e-4)
    bend = trace(figure, "roof, bf16")
    assert (bend["x"][1], bend["y"][1]) == pytest.approx((295.22, 989e12), rel=1e-4)
    assert "ridge: 295 FLOP/byte" in texts(figure)
    assert trace(figure, "this batch")["x"] == pytest.approx([decode[1]["flop_per_byte"]], rel=1e-4)


def test_split_shows_the_pieces() -> None:
    """Oracle: the names of the pieces, only where they are asked for."""
    assert "attention" in texts(roofline(Scenario(), split=True)[1])
    names = [item.get("name") for item in roofline(Scenario())[1]["data"]]
    assert "weights alone" not in names


def test_bars_add_up_to_the_step() -> None:
    """Oracle: the step's time; each part in its own colour."""
    rows = phases.step_rows(Scenario(), [("decode", size, 1125.0) for size in (1, 32, 4096)])
    figure = figures.step_bars(rows, ["1", "32", "4096"], 1, "Sequences")
    go.Figure(figure)
    total = np.sum([item["y"] for item in figure["data"]], axis=0)
    assert total == pytest.approx([row["time_ms"] for row in rows], rel=1e-4)
    colours = {item["name"]: item["marker"]["color"] for item in figure["data"]}
    assert colours["reading weights"] == LIMITS["weights"][1]
    assert figure["data"][0]["marker"]["opacity"] == [0.5, 1.0, 0.2]  # here, and what does not fit


def test_maps_hold_their_values() -> None:
    """Oracle: the values on a logarithmic scale; what cannot run is blank; parts outside are left out."""
    values = np.array([[1.0, math.e], [0.0, math.nan]])
    others = [{"id": "h200", "name": "H200", "flops": 1.0, "bandwidth": 1.4}]
    others += [{"id": "groq", "name": "far", "flops": 1.0, "bandwidth": 24.0}]
    figure = returns_map(
        values, (0.5, 2.0), (0.5, 2.0), here=(1.0, 1.0), others=others, hover=str, colour="#0072B2"
    )
    go.Figure(figure)
    assert figure["data"][0]["z"] == [[0.0, 1.0], [None, None]]
    assert figure["data"][1]["text"] == ["H200"]
    assert texts(figure) == "H200"


def test_a_map_without_values_is_drawn_empty() -> None:
    """Oracle: Plotly's validation."""
    blank = np.full((2, 2), math.nan)
    figure = returns_map(
        blank, (0.5, 2.0), (0.5, 2.0), here=(1.0, 1.0), others=[], hover=str, colour="#0072B2"
    )
    go.Figure(figure)


@pytest.mark.parametrize("query", [*QUERIES, "model=llama-3.1-70b"])
def test_kv_lines(query: str) -> None:
    """Oracle: Plotly's validation; the model's own line is called so; no room, no capacity line."""
    scenario = load_scenario(query)
    rows = whatif.kv_rows(scenario, 32, 4096)
    contexts = [64.0, 4096.0, 131_072.0]
    lines = {kind: list(32e-9 * whatif.sequence_bytes(scenario, kind, contexts)) for kind in whatif.KINDS}
    room_gb = 0.0 if "70b" in query else 50.0
    figure = kv_lines(contexts, lines, rows, room_gb=room_gb, context=4096, batch=32)
    go.Figure(figure)
    names = [item.get("name", "") for item in figure["data"]]
    assert sum("(this model)" in name for name in names) == 1
    assert ("room beside the weights" in texts(figure)) == (room_gb > 0)


def test_the_floor_keeps_every_accelerator() -> None:
    """Oracle: the presets; what does not fit and what is not known stay in their lines."""
    scenario = load_scenario("model=llama-3.1-70b&slo_tpot_ms=25")
    rows = whatif.floor_rows(scenario)
    figure = floor_dots(rows, tpot_limits(scenario))
    go.Figure(figure)
    assert len(figure["layout"]["yaxis"]["categoryarray"]) == len(catalogue.accelerators())
    assert "H100-SXM" in trace(figure, "floor, does not fit")["y"]
    assert "not known" in texts(figure)
    assert "your limit 25" in texts(figure) and f"MLPerf 15{THIN}ms" in texts(figure)
    assert "<b>H100-SXM</b>" in figure["layout"]["yaxis"]["ticktext"]


# Words


def finding(query: str, batch: int, context: float) -> str:
    scenario = load_scenario(query)
    rows = phases.roofline(scenario, [batch], context)
    whole = [row for row in rows if row["piece"] == "all"]
    bounds = [phases.compute_bound_batch(scenario, tokens) for tokens in (0, context)]
    room = phases.largest_batch(scenario, context)
    return phase_words.roofline_finding(
        *whole, *bounds, phases.compute_bound_context(scenario), context, room
    )


def test_when_decode_is_compute_bound_in_words() -> None:
    """Oracle: 295 by the ridge; never at 8k, where a sequence's cache costs more than its arithmetic."""
    text = finding("", 32, 8192)
    assert "from about 295 sequences at no context; beyond 393 tokens of context never" in text
    assert "at 200 tokens from" in finding("", 32, 200)
    huge = finding("model=deepseek-v3&accelerator=h200&hbm_gb=1500&weight_dtype=bf16", 1, 100_000)
    assert "fit." in huge


def test_tokens_cost_more_in_decode() -> None:
    """Oracle: the two steps' times per token."""
    rows = phases.step_rows(Scenario(), [("prefill", 1000, 0.0), ("decode", 1, 1125.0)])
    ratio = rows[1]["time_ms"] / (rows[0]["time_ms"] / 1000)
    assert f"costs {number(ratio, 2)} times" in phase_words.step_finding(*rows)
    assert "99.8" in phase_words.idle_finding(rows[1]).replace(THIN, " ")


def test_what_more_brings_in_words() -> None:
    """Oracle: the rows, signed; no gain is said where nothing keeps the limits."""
    rows = [
        {"measure": "decode", "value": 1.0, "more_flops": 0.0, "more_bandwidth": 0.87},
        {"measure": "ttft", "value": 1.0, "more_flops": -0.4, "more_bandwidth": -0.04},
        {"measure": "limits", "value": 0.0, "more_flops": math.nan, "more_bandwidth": math.nan},
    ]
    text = phase_words.specs_finding(rows).replace(THIN, " ")
    assert "decode speed by 0 %" in text and "+87 %" in text and "−40 %" in text
    assert "nothing runs within the latency limits" in text


@pytest.mark.parametrize(
    "query", [*QUERIES, "model=llama-3.1-405b&tensor_parallel=16", "accelerator=corsair"]
)
def test_every_floor_has_words(query: str) -> None:
    """Oracle: the own accelerator's floor or the reason why it has none."""
    scenario = load_scenario(query)
    rows = whatif.floor_rows(scenario)
    own = next(row for row in rows if row["own"])
    text = phase_words.floor_finding(rows, "M", scenario.tensor_parallel, 40.0)
    assert (own["reason"] or "gets no token in less than") in text
    assert floor_sentence(rows, 40.0)


def test_the_floor_of_a_step_that_makes_several_tokens() -> None:
    """By hand: weights are read for each step, not for each token, where a step makes 1.8 of them."""
    drafting = {"spec_tokens": "1", "acceptance_length": "1.8", "draft": "ngram"}
    text = said(healthy(open_page("2_Two_phases.py", phases="floor", **drafting)))
    assert "must be read for each step, and a step makes 1.8 tokens with speculation" in text
    assert "must be read for each one" not in text


def test_context_lengths_as_people_say_them() -> None:
    """Oracle: common usage."""
    found = [tokens_short(value) for value in (0, 512, 1125, 4096, 131_072, 1_048_576)]
    assert found == ["0", "512", "1,125", "4k", "128k", "1M"]
