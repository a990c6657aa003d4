"""The two phases: FLOP, bytes and times of prefill and decode, and where arithmetic begins to limit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sim_core import load_scenario
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import DoesNotFit
from sim_core.price.parts import PARTS
from sim_core.price.price import price_of
from sim_core.price.steps import shapes
from sim_core.price.steps.floor import floor_step_s
from sim_core.price.steps.one_step import step_parts
from sim_core.price.steps.rounds import of_rounds
from sim_core.questions import hardware, phases
from sim_core.questions.hardware import ttft_s
from sim_core.scenario.scenario import Scenario

DEEPSEEK = "model=deepseek-r1&accelerator=h200&weight_dtype=native"
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
    bench, step = shapes.pricing_of(scenario), shapes.decode(batch, context)
    expected = step_parts(price_of(scenario), batch, context)
    found = {part: float(value) for part, value in shapes.parts(bench, step).items()}
    assert found.pop("all_to_all", 0.0) == 0.0  # one rank of attention sends nothing
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15)
    price = price_of(scenario)
    needed = step_parts(dataclasses.replace(price, ledger=price.needs), batch, context)
    pieces = shapes.needs(bench, step).values()
    assert float(sum(need.compute_s for need in pieces)) == pytest.approx(needed["compute"], rel=1e-9)
    assert float(sum(n.bytes for n in pieces)) / bench.byte_per_s == pytest.approx(needed["memory"], rel=1e-9)


@pytest.mark.parametrize("query", CASES)
@pytest.mark.parametrize("prompt", [1, 1000, 20_000])
def test_a_prefill_is_the_simulators(query: str, prompt: int) -> None:
    """Oracle: `cost.step_parts` of each chunk, less the sampled row where the prompt is not yet done."""
    scenario = load_scenario(query)
    price, size = price_of(scenario), scenario.token_budget
    heads = price.ledger.headings
    expected = dict.fromkeys(heads, 0.0)
    for start in range(0, prompt, size):
        chunk = min(size, prompt - start)
        last = start + chunk == prompt
        for part, value in step_parts(price, 0, 0.0, chunk, start).items():
            expected[part] += value - (0.0 if last else price.ledger.row_s[heads.index(part), 1])
    found = shapes.parts(shapes.pricing_of(scenario), shapes.prefill(scenario, prompt))
    sums = {part: float(np.sum(value)) for part, value in found.items()}
    assert sums.pop("all_to_all", 0.0) == 0.0
    assert sums == pytest.approx(expected, rel=1e-9, abs=1e-12)


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
    load = shapes.pricing_of(scenario).terms.work
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


def test_ranks_that_devices_cannot_be_dealt_to_are_refused_here_too() -> None:
    """Oracle: the words of the price; the pages of a step ask for the room without one."""
    scenario = load_scenario(
        "model=deepseek-r1&accelerator=h200&tensor_parallel=8&attention_data_parallel=16"
    )
    for ask in (phases.require_fit, lambda asked: phases.largest_batch(asked, 1000.0)):
        with pytest.raises(ScenarioError, match="attention_data_parallel is 16, but tensor_parallel is 8"):
            ask(scenario)


LAID_OUT = (
    "model=llama-3.1-70b&tensor_parallel=2&pipeline_parallel=4",
    "model=llama-3.1-70b&weight_dtype=fp8&pipeline_parallel=3&token_budget=700",
    "model=llama-3.1-70b&tensor_parallel=2&pipeline_parallel=8&policy=prefill_first",
    "model=qwen3-next-80b-a3b&accelerator=h200&tensor_parallel=2&pipeline_parallel=2",
    f"{DEEPSEEK}&tensor_parallel=8&context_parallel=8",
    f"{DEEPSEEK}&tensor_parallel=8&pipeline_parallel=2&context_parallel=8",
    f"{DEEPSEEK}&tensor_parallel=16&attention_data_parallel=16&expert_parallel=16",
    f"{DEEPSEEK}&tensor_parallel=16&attention_data_parallel=4&expert_parallel=16",
)


@pytest.mark.parametrize("query", LAID_OUT)
def test_one_request_alone_takes_the_pages_steps(query: str) -> None:
    """Oracle: the simulated engine. Its time to the first token is the page's, chunks that follow one another
    through the stages among them; the mean time of the next ones, whose contexts grow evenly, is the step at
    the mean context.
    """
    scenario = load_scenario(
        f"{query}&arrivals=closed&concurrency=1&requests=1&warmup_frac=0"
        "&prompt_tokens=3001&prompt_cv=0&output_tokens=102&output_cv=0"
    )
    found = run(scenario)
    bench = shapes.pricing_of(scenario)
    step_s = float(shapes.step_s(bench, shapes.decode(1, 3001 + 50)))
    assert (found.finished_s - found.first_token_s).item() / 101 == pytest.approx(step_s, rel=1e-9)
    assert found.first_token_s.item() == pytest.approx(float(ttft_s(scenario, phases.setting(scenario))))
    assert step_s > floor_step_s(scenario, 1, 3001 + 50)
    by_price = step_parts(price_of(scenario), 1, 3001 + 50, on_all_ranks=1)
    assert sum(by_price.values()) == pytest.approx(step_s)


@pytest.mark.parametrize("query", LAID_OUT)
@pytest.mark.parametrize("batch", [1, 2, 16, 128])
def test_a_step_of_decodes_is_a_round_of_all_ranks_and_stages(query: str, batch: int) -> None:
    """Oracle: the price of rounds, which the engine is simulated with where decode workers have stages, and
    the price of ranks with as many sequences each.
    """
    scenario = load_scenario(query)
    price, bench = of_rounds(price_of(scenario)), shapes.pricing_of(scenario)
    own = math.ceil(batch / price.ranks)
    expected = step_parts(price, own, 1500.0, on_all_ranks=batch)
    found = {part: float(value) for part, value in shapes.parts(bench, shapes.decode(batch, 1500.0)).items()}
    assert {part: found[part] for part in expected} == pytest.approx(expected, rel=1e-9)
    assert sum(found.values()) >= floor_step_s(scenario, batch, 1500.0)
    needed = shapes.needs(bench, shapes.decode(batch, 1500.0)).values()
    busy_s = max(
        float(sum(n.compute_s for n in needed)), float(sum(n.bytes for n in needed)) / bench.byte_per_s
    )
    assert 0 < busy_s < sum(found.values())


def test_stages_read_their_weights_for_each_batch() -> None:
    """By hand, 80 layers on 4 stages, no losses: 64 sequences are 4 batches of 16, each of which reads all
    layers on its way, and the LM head; a device of the last stage reads a quarter of the layers, and the
    head, four times. One alone keeps it busy for a quarter of the time at most.
    """
    query = "model=llama-3.1-70b&tensor_parallel=2&hbm_gb=400&calibration=datasheet"
    one, four = (shapes.pricing_of(load_scenario(f"{query}&pipeline_parallel={p}")) for p in (1, 4))
    whole, dealt = (shapes.needs(bench, shapes.decode(64, 0))["weights"] for bench in (one, four))
    head = one.terms.work.head_read_s * one.byte_per_s
    assert float(dealt.bytes) == pytest.approx(float(whole.bytes) + 3 * head)
    assert float(dealt.flop) == pytest.approx(float(whole.flop) / 4 + 0.75 * 64 * 128_256 * 8192 * 2 / 2)
    scenario = load_scenario(f"{query}&pipeline_parallel=4")
    alone, full = phases.step_rows(scenario, [("decode", 1, 0.0), ("decode", 64, 0.0)])
    assert alone["mbu_frac"] < 0.27 and full["mbu_frac"] > 0.9
    assert phases.compute_bound_batch(scenario, 0) == pytest.approx(
        4 * phases.compute_bound_batch(load_scenario(query), 0), rel=0.02
    )


def test_experts_of_all_ranks_are_needed() -> None:
    """By hand: each of 16 devices multiplies a sixteenth of the tokens of all ranks with its experts."""
    ranks, together = (
        shapes.pricing_of(load_scenario(f"{DEEPSEEK}&tensor_parallel=16&expert_parallel=16{more}"))
        for more in ("&attention_data_parallel=16", "")
    )
    load = ranks.terms.work
    assert load.expert_compute_s == pytest.approx(together.terms.work.expert_compute_s)
    needed = shapes.needs(ranks, shapes.decode(160, 0.0))["weights"]
    own = (load.dense_compute_s + load.kept_compute_s + load.head_compute_s) * 10
    assert float(needed.compute_s) == pytest.approx(own + 160 * load.expert_compute_s)


def test_an_engine_holds_what_its_ranks_hold() -> None:
    """By hand: 16 ranks of one device each hold 16 times the sequences of one of them."""
    scenario = load_scenario(f"{DEEPSEEK}&tensor_parallel=16&expert_parallel=16&attention_data_parallel=16")
    blocks = price_of(scenario).kv_blocks
    assert phases.largest_batch(scenario, 4096) == 16 * (blocks // 256)
    fits = [
        row["fits"]
        for row in phases.step_rows(
            scenario, [("decode", 16 * (blocks // 256) + more, 4096.0) for more in (0, 1)]
        )
    ]
    assert fits == [True, False]


def test_each_of_two_pools_is_seen_under_its_own_layout() -> None:
    """Oracle: one pool that is laid out as the workers of either; prefill workers take whole prompts."""
    pools = load_scenario(
        f"{DEEPSEEK}&policy=disaggregated&tensor_parallel=8&expert_parallel=8&decode_tensor_parallel=16"
        "&decode_expert_parallel=16&decode_attention_data_parallel=16"
    )
    first = load_scenario(f"{DEEPSEEK}&policy=prefill_first&tensor_parallel=8&expert_parallel=8")
    second = load_scenario(f"{DEEPSEEK}&tensor_parallel=16&expert_parallel=16&attention_data_parallel=16")
    steps = [("prefill", 9000, 0.0), ("decode", 64, 2000.0)]
    alone = phases.step_rows(first, steps)[0], phases.step_rows(second, steps)[1]
    assert phases.step_rows(pools, steps) == list(alone)
    for phase, own in (("prefill", first), ("decode", second)):
        found, expected = (
            [each for each in phases.roofline(one, [16, 256], 2000.0) if each["phase"] == phase]
            for one in (pools, own)
        )
        assert found == expected
    at = phases.setting(pools, 256, 2000.0)
    assert ttft_s(pools, at) == ttft_s(first, at)
    assert hardware.decode_tok_per_s(pools, at) == hardware.decode_tok_per_s(second, at)
    assert hardware.kv_rows(pools, 256, 2000.0) == hardware.kv_rows(second, 256, 2000.0)
    assert phases.compute_bound_batch(pools, 0) == phases.compute_bound_batch(second, 0)
    assert phases.compute_bound_context(pools) == phases.compute_bound_context(second)
    floors = [
        [(row["accelerator"], row["typical_ms"], row["fits"]) for row in hardware.floor_rows(one)]
        for one in (pools, second)
    ]
    np.testing.assert_equal(floors[0], floors[1])
