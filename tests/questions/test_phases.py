"""The two phases: FLOP, bytes and times of prefill and decode, and where arithmetic begins to limit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sim_core import load_scenario
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import DoesNotFit
from sim_core.price.one_step import step_parts
from sim_core.price.parts import PARTS
from sim_core.price.price import price_of
from sim_core.questions import phases
from sim_core.scenario.scenario import Scenario

LLAMA = "model=llama-3.1-8b&accelerator=h100-sxm"
# 32 layers of (4096*4096*2 + 2*4096*1024 + 3*4096*14336) and a head of 128256*4096
LLAMA_WEIGHTS = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336) + 128256 * 4096
CASES = (
    LLAMA,
    f"{LLAMA}&calibration=datasheet",
    "model=llama-3.1-70b&tensor_parallel=4&kv_dtype=fp8&weight_dtype=fp8",
    "model=deepseek-r1&accelerator=h200&tensor_parallel=8&expert_parallel=8&weight_dtype=native",
    "model=gpt-oss-120b&accelerator=b200&weight_dtype=native",
    "model=gemma-3-27b&tensor_parallel=2",
    f"{LLAMA}&prefill_switch_ms=0",
    "model=glm-5&accelerator=h200&hbm_gb=5000&tensor_parallel=8&weight_dtype=fp8",
    "model=minimax-m3&accelerator=b300&tensor_parallel=4&weight_dtype=fp8",
    "model=deepseek-v4-pro&accelerator=b300&tensor_parallel=8&weight_dtype=native",
)


def row(rows: list[dict], phase: str, piece: str = "all", batch: int = 1) -> dict:
    """Return one row of a roofline."""
    return next(r for r in rows if (r["phase"], r["piece"], r["batch"]) == (phase, piece, batch))


@pytest.mark.parametrize("query", CASES)
@pytest.mark.parametrize(("batch", "context"), [(1, 0), (32, 1125.0), (200, 6000.0)])
def test_a_decode_step_is_the_simulators(query: str, batch: int, context: float) -> None:
    """Oracle: `step_parts`, of seconds and of needs, which looks the step up in the simulator's tables."""
    scenario = load_scenario(query)
    bench, step = phases.pricing_of(scenario), phases.decode(batch, context)
    expected = step_parts(price_of(scenario), batch, context)
    found = {part: float(value) for part, value in phases.parts(bench, step).items()}
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15)
    price = price_of(scenario)
    needed = step_parts(dataclasses.replace(price, ledger=price.needs), batch, context)
    pieces = phases.needs(bench, step).values()
    assert float(sum(need.compute_s for need in pieces)) == pytest.approx(needed["compute"], rel=1e-9)
    assert float(sum(n.bytes for n in pieces)) / bench.byte_per_s == pytest.approx(needed["memory"], rel=1e-9)


@pytest.mark.parametrize("query", CASES)
@pytest.mark.parametrize("prompt", [1, 1000, 20_000])
def test_a_prefill_is_the_simulators(query: str, prompt: int) -> None:
    """Oracle: `cost.step_parts` of each chunk, less the sampled row where the prompt is not yet done."""
    scenario = load_scenario(query)
    price, size = price_of(scenario), scenario.token_budget
    expected = dict.fromkeys(PARTS, 0.0)
    for start in range(0, prompt, size):
        chunk = min(size, prompt - start)
        last = start + chunk == prompt
        for part, value in step_parts(price, 0, 0.0, chunk, start).items():
            expected[part] += value - (0.0 if last else price.ledger.row_s[PARTS.index(part), 1])
    found = phases.parts(phases.pricing_of(scenario), phases.prefill(scenario, prompt))
    assert {part: float(np.sum(value)) for part, value in found.items()} == pytest.approx(
        expected, rel=1e-9, abs=1e-12
    )


def test_one_sequence_without_context_reads_every_weight_once() -> None:
    """Oracle: 15.0 GB / 3.35 TB/s = 4.48 ms, and one FLOP for each byte (2 FLOP per 2-byte weight)."""
    scenario = load_scenario(f"{LLAMA}&calibration=datasheet")
    found = row(phases.roofline(scenario, [1], 0), "decode")
    assert found["bytes"] == 2 * LLAMA_WEIGHTS
    assert found["time_ms"] == pytest.approx(1e3 * 2 * LLAMA_WEIGHTS / 3.35e12)
    assert found["time_ms"] == pytest.approx(4.48, abs=0.005)
    assert found["flop_per_byte"] == pytest.approx(1.0)
    assert found["mbu_frac"] == pytest.approx(1.0)


def test_the_ridge() -> None:
    """Oracle: the H100's datasheet, 989 TFLOP/s over 3.35 TB/s = 295 FLOP/byte."""
    top = phases.roof(load_scenario(LLAMA))
    assert top.ridge_flop_per_byte == pytest.approx(295.2, abs=0.1)
    assert top.at([1.0, 1e6]).tolist() == [3.35e12, 989e12]


def test_the_batch_at_which_decode_is_compute_bound() -> None:
    """Oracle: without context the ridge itself (1 FLOP per byte and sequence).

    With context: B (2 W + c a) / F = (2 W + B c k) / M, with k = 131,072 bytes and a = 4 * 128 * 32 * 32 FLOP
    per cached token, has no solution once c (k / M - a / F) > 2 W / F.
    """
    scenario = load_scenario(LLAMA)
    flop, byte = 989e12, 3.35e12
    assert phases.compute_bound_batch(scenario, 0) == pytest.approx(flop / byte)
    attention_s = 131_072 / byte - 4 * 128 * 32 * 32 / flop
    limit = 2 * LLAMA_WEIGHTS / flop / attention_s
    assert phases.compute_bound_context(scenario) == pytest.approx(limit)
    expected = (2 * LLAMA_WEIGHTS / byte) / (2 * LLAMA_WEIGHTS / flop - 200 * attention_s)
    assert phases.compute_bound_batch(scenario, 200) == pytest.approx(expected)
    assert phases.compute_bound_batch(scenario, 8192) == math.inf


@pytest.mark.parametrize("query", CASES)
def test_beyond_the_longest_context_no_batch_is_compute_bound(query: str) -> None:
    """Oracle: the bisection over batches, on both sides of the context that the formula gives."""
    scenario = load_scenario(query)
    edge = phases.compute_bound_context(scenario)
    assert 0 < edge < math.inf
    assert phases.compute_bound_batch(scenario, 0.98 * edge) < math.inf
    assert phases.compute_bound_batch(scenario, 1.02 * edge) == math.inf


def test_states_keep_decode_from_being_compute_bound() -> None:
    """By hand, Qwen3.5 on eight H200: a sequence moves its 189 MB of state twice, 9.8 us of bandwidth; its
    token's 17 billion parameters take 2.1 us in fp8. So no batch is compute-bound at any context.
    """
    scenario = load_scenario(
        "model=qwen3.5-397b-a17b&accelerator=h200&tensor_parallel=8&weight_dtype=fp8&hbm_gb=2000"
    )
    load = phases.pricing_of(scenario).terms.work
    assert load.state_read_s == pytest.approx(2 * 45 * 64 * 128 * 128 * 4 / 8 / 4.8e12)
    assert load.dense_compute_s + load.expert_compute_s < 0.3 * load.state_read_s
    assert phases.compute_bound_context(scenario) == 0
    assert phases.compute_bound_batch(scenario, 0) == math.inf


def test_latent_attention_can_be_compute_bound_at_any_context() -> None:
    """Oracle: MLA does 2 (2*512 + 64) 128 FLOP on 1,152 bytes: 242 FLOP/byte, beyond a ridge of 206."""
    scenario = load_scenario("model=deepseek-v3&accelerator=h200&hbm_gb=2000&weight_dtype=bf16")
    assert phases.roof(scenario).ridge_flop_per_byte == pytest.approx(206, abs=0.5)
    assert phases.compute_bound_context(scenario) == math.inf
    assert phases.compute_bound_batch(scenario, 100_000) < math.inf
    found = row(phases.roofline(scenario, [1], 4096), "decode", "attention")
    assert found["flop_per_byte"] == pytest.approx(2 * (2 * 512 + 64) * 128 / 1152)


def test_nothing_lies_above_its_roof() -> None:
    """Oracle: the roofline itself: a step takes at least FLOP / peak and bytes / bandwidth."""
    for query in CASES:
        rows = phases.roofline(load_scenario(query), [1, 16, 256, 4096], 1125)
        assert all(r["mfu_frac"] <= 1 + 1e-9 and r["mbu_frac"] <= 1 + 1e-9 for r in rows), query


def test_the_reached_roof_lies_below_the_roof() -> None:
    """Oracle: far from the ridge the shares of peak that bf16 products were measured to reach on Hopper, or
    those that the calibration states; the datasheet's is the roof."""
    scenario = load_scenario(LLAMA)
    far = np.array([1e-3, 1e6])
    assert phases.reached_roof(scenario, far) == pytest.approx([0.85 * 3.35e9, 0.79 * 989e12], rel=1e-3)
    stated = scenario.replace(constants="weight_read:0.6,bf16:0.5")
    assert phases.reached_roof(stated, far) == pytest.approx([0.6 * 3.35e9, 0.5 * 989e12], rel=1e-3)
    sheet = scenario.replace(calibration="datasheet")
    middle = np.geomspace(0.1, 1e4, 50)
    assert phases.reached_roof(sheet, middle) == pytest.approx(phases.roof(sheet).at(middle))


@pytest.mark.parametrize("query", CASES)
def test_the_parts_of_a_step_add_up(query: str) -> None:
    """Oracle: the step's time."""
    scenario = load_scenario(query)
    for found in phases.step_rows(scenario, [("decode", 64, 2000.0), ("prefill", 3000, 0.0)]):
        assert sum(found[f"{part}_ms"] for part in PARTS) == pytest.approx(found["time_ms"], rel=1e-12)


def test_what_fits_is_what_the_simulator_holds() -> None:
    """Oracle: its KV blocks, a sequence of 1,125 tokens taking 71 of 16."""
    scenario = load_scenario(LLAMA)
    assert phases.largest_batch(scenario, 1125) == price_of(scenario).kv_blocks // 71
    rows = phases.roofline(scenario, [1, 4096], 1125)
    assert row(rows, "decode")["fits"] and not row(rows, "decode", batch=4096)["fits"]


def test_the_setting() -> None:
    """Oracle: 1,000 prompt tokens and half of 250; a context beyond the model's longest is cut."""
    scenario = Scenario()
    assert phases.setting(scenario, 8) == (1000, 8, 1125.0)
    assert phases.setting(scenario, 8, 4096).context_tokens == 4096
    assert phases.setting(scenario, 8, 10**6).context_tokens == 131_072


def test_what_cannot_be_is_said() -> None:
    """Oracle: the messages of memory, layout and missing figures."""
    with pytest.raises(DoesNotFit, match="Raise tensor_parallel"):
        phases.roofline(load_scenario("model=llama-3.1-70b"), [1], 0)
    with pytest.raises(ScenarioError, match="must divide"):
        phases.step_rows(load_scenario("tensor_parallel=3"), [("decode", 1, 0)])
    with pytest.raises(ScenarioError, match="no bf16 figure"):
        phases.roofline(load_scenario("accelerator=corsair&hbm_gb=80"), [1], 0)
