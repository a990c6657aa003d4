"""Other hardware and other attention: what more of each brings, cache sizes, and the floor."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sim_core import catalogue, load_scenario
from sim_core.engine.run import run
from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.questions import hardware as whatif
from sim_core.questions import phases
from sim_core.sweep.capacity import capacity
from tests.loops import each

LLAMA = "model=llama-3.1-8b&accelerator=h100-sxm"
DEEPSEEK = "model=deepseek-r1&accelerator=h200&tensor_parallel=8&weight_dtype=fp8"


@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (0.5, 4)])
@pytest.mark.parametrize(
    "query", ["", "model=deepseek-r1&accelerator=h200&tensor_parallel=8&weight_dtype=fp8"]
)
def test_a_scaled_device_is_the_device_with_other_specs(query: str, factors: tuple[float, float]) -> None:
    """Oracle: the same step priced for the scenario with the specs written into it."""
    scenario = load_scenario(query)
    at = phases.setting(scenario, 32)
    other = whatif.with_factors(scenario, *factors)
    for measure in (whatif.decode_tok_per_s, whatif.ttft_s):
        assert float(measure(scenario, at, *factors)) == pytest.approx(float(measure(other, at)), rel=1e-9)
    assert whatif.factors(other) == pytest.approx(factors)


def test_maps_are_the_points_they_hold() -> None:
    """Oracle: the measures one by one."""
    scenario = load_scenario("prompt_tokens=20000")
    at, grid = phases.setting(scenario, 8), np.array([0.5, 1.0, 4.0])
    for measure in (whatif.decode_tok_per_s, whatif.ttft_s):
        found = measure(scenario, at, grid[None, :], grid[:, None])
        expected = [[float(measure(scenario, at, x, y)) for x in grid] for y in grid]
        assert found == pytest.approx(np.array(expected), rel=1e-12)


@pytest.mark.parametrize("query", ["", "prompt_tokens=30000", "policy=static", "calibration=datasheet"])
def test_the_first_token_of_a_prompt_alone_comes_when_the_engine_says(query: str) -> None:
    """Oracle: a simulated run of a single request of fixed length."""
    scenario = load_scenario(query, requests=1, prompt_cv=0.0, output_cv=0.0, warmup_frac=0.0)
    request = run(scenario.replace(batch_wait_ms=0.0)).requests().iloc[0]
    found = whatif.ttft_s(scenario, phases.setting(scenario))
    assert float(found) == pytest.approx(request["first_token_s"] - request["arrival_s"], rel=1e-9)


def test_what_doubling_brings_in_the_limits() -> None:
    """Oracle: at the datasheet's rates a small batch waits for memory alone (0 and +100 %), and a long prompt
    of one large matrix product for arithmetic alone (time -50 % and 0)."""
    scenario = load_scenario(f"{LLAMA}&calibration=datasheet&prompt_tokens=100000&token_budget=262144")
    decode, ttft = whatif.returns(scenario, phases.setting(scenario, 1, 100), ("decode", "ttft"))
    assert (decode["more_flops"], decode["more_bandwidth"]) == pytest.approx((0.0, 1.0))
    assert (ttft["more_flops"], ttft["more_bandwidth"]) == pytest.approx((-0.5, 0.0), abs=2e-3)


def test_the_map_within_limits_holds_the_engines_own_answer() -> None:
    """Oracle: `capacity` of the scenario as it is."""
    scenario = load_scenario("requests=2000")
    found = whatif.limits_map(scenario, (1.0, 2.0), (1.0,))
    point = capacity(scenario)["point"]
    assert found.shape == (1, 2)
    assert found[0, 0] == point["output_tok_per_s_per_accelerator"]
    returns = whatif.returns(scenario, phases.setting(scenario), ("limits",))[0]
    assert returns["value"] == found[0, 0]
    assert returns["more_flops"] == pytest.approx(found[0, 1] / found[0, 0] - 1)


def test_the_map_of_what_cannot_run_is_empty() -> None:
    """Oracle: a model that does not fit, a spec beyond its limits, and limits that nothing keeps."""
    assert np.isnan(whatif.limits_map(load_scenario("model=llama-3.1-405b"), (1.0,), (1.0,))).all()
    wafer = load_scenario("model=llama-3.1-8b&accelerator=cerebras-wse-3")
    assert np.isnan(whatif.limits_map(wafer, (1.0,), (8.0,))).all()
    hopeless = load_scenario("slo_tpot_ms=0.001")
    assert whatif.limits_map(hopeless, (1.0,), (1.0,)).tolist() == [[0.0]]
    returns = whatif.returns(hopeless, phases.setting(hopeless), ("limits",))[0]
    assert math.isnan(returns["more_flops"])


def test_others_lie_where_their_datasheets_say() -> None:
    """Oracle: H200 against H100: the same arithmetic, 4.8 over 3.35 TB/s."""
    found = {row["id"]: row for row in whatif.others(load_scenario(f"{LLAMA}&hbm_gb_per_s=9999"))}
    assert (found["h100-sxm"]["flops"], found["h100-sxm"]["bandwidth"]) == (1.0, 1.0)
    assert (found["h200"]["flops"], found["h200"]["bandwidth"]) == pytest.approx((1.0, 4800 / 3350))
    assert "corsair" not in found  # no bf16 figure


def test_the_specs_of_a_factor() -> None:
    """Oracle: the datasheet; a factor of 1 is no override, an unknown peak stays unknown."""
    scenario = load_scenario("accelerator=a100-80-sxm")
    assert whatif.specs_at(scenario, flops=1) == dict.fromkeys(whatif.FLOP_KEYS)
    assert whatif.specs_at(scenario, flops=2) == {
        "bf16_tflop_per_s": 624.0, "fp8_tflop_per_s": None, "fp4_tflop_per_s": None,
        "int8_top_per_s": 1248.0,
    }  # fmt: skip
    sheet = catalogue.accelerator("a100-80-sxm").hbm_gb_per_s
    assert whatif.specs_at(scenario, bandwidth=0.5) == {"hbm_gb_per_s": sheet / 2}


# --- KV cache ---


def kinds(query: str, batch: int = 32, context: float = 4096) -> dict[str, dict]:
    return {row["kind"]: row for row in whatif.kv_rows(load_scenario(query), batch, context)}


def test_cache_sizes_by_hand() -> None:
    """Oracle: 32 layers, 2 bytes, 128 a head: 2 * 32 heads or 2 * 8, or DeepSeek's 512 + 64 values."""
    found = kinds(LLAMA)
    sizes = {kind: row["kb_per_token"] for kind, row in found.items()}
    assert sizes == pytest.approx(
        {"full": 524.288, "grouped": 131.072, "window": 131.072, "latent": 32 * 576 * 2 / 1e3}
    )
    assert [kind for kind, row in found.items() if row["own"]] == ["grouped"]
    # five of six layers keep 1,024 of 4,096 tokens: 27 of 32 layers
    assert found["window"]["sequence_gb"] == pytest.approx(4096e-9 * (5 * 4096 + 27 * 1024))


@pytest.mark.parametrize(
    "query",
    [
        LLAMA,
        DEEPSEEK,
        f"{DEEPSEEK}&attention_data_parallel=8&expert_parallel=8",
        f"{DEEPSEEK}&attention_data_parallel=2",
        f"{DEEPSEEK}&pipeline_parallel=2",
        f"{DEEPSEEK}&context_parallel=8",
    ],
)
def test_the_models_own_kind_is_the_simulators(query: str) -> None:
    """Oracle: the KV blocks of the price, of one rank where there are several, and `memory`."""
    scenario = load_scenario(query)
    own = next(row for row in whatif.kv_rows(scenario, 1, 4096) if row["own"])
    assert own["kb_per_token"] == pytest.approx(memory(scenario)["kv_bytes_per_token"] / 1e3)
    assert own["largest_batch"] == phases.largest_batch(scenario, 4096)


@each(catalogue.preset_ids("models"))
def test_every_model_takes_every_attention(name: str) -> None:
    """Oracle: fewer heads, windows and latent vectors never need more than all heads; one kind is its own."""
    model = catalogue.model(name)
    assert whatif.with_attention(model, whatif.attention_kind(model)) is model
    scenario = load_scenario(f"model={name}")
    sizes = {kind: float(whatif.sequence_bytes(scenario, kind, 8192)) for kind in whatif.KINDS}
    assert sizes["full"] >= sizes["grouped"] >= sizes["window"] > 0


def test_the_longest_context_fills_the_room() -> None:
    """Oracle: one block more would not fit."""
    scenario = load_scenario(LLAMA)
    room = memory(scenario)["kv_gb"] * 1e9
    for row in whatif.kv_rows(scenario, 32, 1000):
        longest = row["longest_context"]
        assert 32 * float(whatif.sequence_bytes(scenario, row["kind"], longest)) <= room
        beyond = 32 * float(whatif.sequence_bytes(scenario, row["kind"], longest + 16))
        assert beyond > room or longest == catalogue.model("llama-3.1-8b").max_position


def test_no_room_holds_no_batch() -> None:
    """Oracle: weights larger than the memory."""
    assert {row["largest_batch"] for row in kinds("model=llama-3.1-70b").values()} == {0}


# --- the floor ---


def test_the_floor_by_hand() -> None:
    """Oracle: 15.0 GB over the bandwidth: 4.48 ms on an H100; the prediction is slower."""
    found = {row["accelerator"]: row for row in whatif.floor_rows(load_scenario(LLAMA))}
    assert found["h100-sxm"]["floor_ms"] == pytest.approx(4.48, abs=0.005)
    assert found["h200"]["floor_ms"] == pytest.approx(4.48 * 3350 / 4800, abs=0.005)
    assert all(row["typical_ms"] > row["floor_ms"] for row in found.values() if row["floor_ms"] > 0)
    assert set(found) == set(catalogue.accelerators())


def test_what_does_not_fit_is_kept() -> None:
    """Oracle: 141 GB of weights; in order, the unknown last."""
    rows = whatif.floor_rows(load_scenario("model=llama-3.1-70b"))
    found = {row["accelerator"]: row for row in rows}
    assert not found["h100-sxm"]["fits"] and "tensor_parallel" in found["h100-sxm"]["reason"]
    assert found["b200"]["fits"]
    floors = [row["floor_ms"] for row in rows if not math.isnan(row["floor_ms"])]
    assert floors == sorted(floors)
    assert all(math.isnan(row["floor_ms"]) for row in rows[len(floors) :])


def test_changed_specs_stay_with_their_own_accelerator() -> None:
    """Oracle: twice the bandwidth, half the floor, for that part alone."""
    plain = {row["accelerator"]: row["floor_ms"] for row in whatif.floor_rows(load_scenario(LLAMA))}
    changed = whatif.floor_rows(load_scenario(f"{LLAMA}&hbm_gb_per_s=6700"))
    found = {row["accelerator"]: row["floor_ms"] for row in changed}
    assert found["h100-sxm"] == pytest.approx(plain["h100-sxm"] / 2)
    assert found["h200"] == plain["h200"]


def test_the_floor_of_a_layout_that_cannot_be() -> None:
    """Oracle: 32 heads do not divide by 3."""
    with pytest.raises(ScenarioError, match="must divide"):
        whatif.floor_rows(load_scenario(f"{LLAMA}&tensor_parallel=3"))


# --- limits of benchmarks ---


def test_interactive_limits() -> None:
    """Oracle: MLPerf's rules: 40, 80, 30, 15 and 15 ms per token at the 99th percentile."""
    found = {limit.model: limit.tpot_ms for limit in catalogue.latency_limits().values()}
    assert found == {
        "llama-2-70b": 40.0, "llama-3.1-405b": 80.0, "llama-3.1-8b": 30.0, "deepseek-r1": 15.0,
        "gpt-oss-120b": 15.0,
    }  # fmt: skip
    for limit in catalogue.latency_limits().values():
        assert limit.percentile == 99 and limit.source and limit.model in catalogue.models()
        assert dataclasses.is_dataclass(limit)


def test_the_maps_as_rows_hold_the_drawn_values() -> None:
    """Oracle: the measures themselves, at the datasheet's place and at a corner."""
    scenario = load_scenario("accelerator=h200&arrival_per_s=2")
    at = phases.setting(scenario, 16)
    rows = {
        (row["measure"], row["flops"], row["bandwidth"]): row["value"]
        for row in whatif.specs_maps(scenario, at)
    }
    assert len(rows) == 2 * whatif.FINE.size**2 + len(whatif.OCTAVES) ** 2
    assert rows["limits", 1.0, 1.0] == whatif.within_limits(whatif.limits_scenario(scenario))
    corner = float(whatif.FINE[-1])
    assert rows["decode", corner, corner] == pytest.approx(
        whatif.decode_tok_per_s(scenario, at, corner, corner)
    )
    assert rows["ttft", corner, 0.25] == pytest.approx(float(whatif.ttft_s(scenario, at, corner, 0.25)))


def test_each_part_of_the_floor_has_its_own_badge() -> None:
    """Oracle: the trust of the typical calibration on each part, whatever the scenario's own is."""
    rows = {row["accelerator"]: row for row in whatif.floor_rows(load_scenario("calibration=datasheet"))}
    assert rows["h100-sxm"]["badge"] == trust.VALIDATED
    assert rows["l4"]["badge"] == trust.EXTRAPOLATED and "L4" in rows["l4"]["badge_reasons"]
    assert rows["trainium3"]["badge"] == trust.ANNOUNCED
    others = {row["id"]: row["badge"] for row in whatif.others(load_scenario(""))}
    assert others["l4"] == trust.EXTRAPOLATED and others["h100-sxm"] == trust.VALIDATED
