"""The cost model: arithmetic by hand, the physical floor, and that a price explains all of its time."""

from __future__ import annotations

import dataclasses
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from sim_core.catalogue import calibrations
from sim_core.catalogue.reader import preset_ids
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price import price, tables
from sim_core.price.memory import DoesNotFit, memory
from sim_core.price.parts import expert_load, parts_of
from sim_core.price.price import price_of
from sim_core.price.steps.floor import floor_step_s
from sim_core.price.steps.one_step import step_parts
from sim_core.price.use import joule_per_tok, shares, usd_per_mtok, utilisation
from sim_core.price.work import Layout, layout_of, layout_warnings, parameters, weight_bytes, work
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import DEFAULTS, Scenario, accelerator_of, model_of
from tests.loops import each

H100_BANDWIDTH = 3.35e12


def usage_of(rng, price, steps=200):
    """Return a made-up run: histograms of steps and totals of the linear terms."""
    table, rows = price.step.token_s.size, price.step.row_s.size
    tokens = rng.integers(1, table, steps)
    return SimpleNamespace(
        steps_by_tokens=np.bincount(tokens, minlength=table),
        steps_by_rows=np.bincount(rng.integers(0, rows, steps), minlength=rows),
        extra_tokens=0,
        context_tokens=int(rng.integers(0, 10**9)),
        window_tokens=int(rng.integers(0, 10**7)),
        prefill_pairs=float(rng.integers(0, 10**10)),
        window_pairs=float(rng.integers(0, 10**8)),
        prefill_requests=int(rng.integers(0, 100)),
        prefill_steps=int(rng.integers(0, 100)),
        swapped_tokens=int(rng.integers(0, 1000)),
    )


def step_s(price, **step):
    return sum(step_parts(price, **step).values())


def test_one_decode_step_of_llama_8b_on_h100_reads_its_weights():
    """By hand: per layer attention 2*4096*4096 + 2*4096*1024 and MLP 3*4096*14336 = 218.1 M parameters;
    32 of them and the LM head 128256*4096 = 7.505 G parameters = 15.01 GB; / 3.35 TB/s = 4.48 ms.
    """
    price = price_of(Scenario(calibration="datasheet"))
    counted = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336) + 128256 * 4096
    assert step_s(price, decode_batch=1, context=0) == pytest.approx(2 * counted / H100_BANDWIDTH)
    assert step_s(price, decode_batch=1, context=0) == pytest.approx(4.48e-3, abs=5e-6)


def test_a_long_prompt_of_llama_8b_is_bound_by_arithmetic():
    """By hand: 8192 tokens x 2 x 6.98 G counted, attention 4*4096 FLOP x 32 layers x 8192^2/2 pairs,
    at 989 TFLOP/s; one sampled row reads the LM head (1.05 GB).
    """
    price = price_of(Scenario(calibration="datasheet"))
    body = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    flop = 8192 * 2 * body + 4 * 4096 * 32 * 8192**2 / 2
    head = 2 * 128256 * 4096
    expected = flop / 989e12 + head / H100_BANDWIDTH
    parts = step_parts(price, 0, 0, prefill_tokens=8192)
    assert sum(parts.values()) == pytest.approx(expected)
    assert parts["compute"] == pytest.approx(flop / 989e12)


def test_context_is_priced_by_its_kv_bytes():
    """By hand: Llama-3.1-8B caches 2 x 8 heads x 128 x 2 bytes x 32 layers = 131,072 bytes per token."""
    price = price_of(Scenario(calibration="datasheet"))
    assert price.step.decode_context_s == pytest.approx(131072 / H100_BANDWIDTH)


def test_sliding_windows_move_to_the_window_term():
    """By hand: gpt-oss-120b: 18 full layers, 18 with a window of 128; a token is 2*8*64*2 bytes a layer."""
    price = price_of(Scenario(model="gpt-oss-120b", weight_dtype="native", calibration="datasheet"))
    assert price.step.window_tokens == 128
    assert price.step.decode_context_s == pytest.approx(18 * 2048 / H100_BANDWIDTH)
    assert price.step.window_context_s == pytest.approx(18 * 2048 / H100_BANDWIDTH)


def test_latent_attention_is_bound_by_arithmetic_on_one_device_only():
    """By hand, DeepSeek on H200: a token is 576 x 2 bytes and 128 heads x 2 x (2 x 512 + 64) FLOP a layer.
    Tensor parallelism over 8 divides the FLOP (278,528 / 8 / 989e12 = 35 ps), not the bytes (240 ps).
    """
    base = Scenario(model="deepseek-r1", accelerator="h200", weight_dtype="fp8", calibration="datasheet")
    eight = price_of(base.replace(tensor_parallel=8))
    assert eight.step.decode_context_s == pytest.approx(61 * 1152 / 4.8e12)
    one = work(model_of(base), accelerator_of(base), Layout(1, 1, "fp8", "bf16"))
    assert one.context_compute_s == pytest.approx(61 * 128 * 2 * 1088 / 989e12)
    assert one.context_compute_s > one.context_read_s


@pytest.mark.parametrize(("tokens", "touched"), [(1, 8), (2, 15.75), (100_000, 256)])
def test_experts_are_read_when_touched(tokens, touched):
    """By hand: 256 experts, 8 per token: T tokens touch 256 (1 - (31/32)^T) of them."""
    base = Scenario(model="deepseek-r1", tensor_parallel=8)
    load = work(model_of(base), accelerator_of(base), Layout(8, 1, "fp8", "bf16"))
    assert expert_load(load, 1.0, np.array([float(tokens)]))[1][0] * 256 == pytest.approx(touched)


def test_the_most_loaded_expert_group_agrees_with_throwing_balls():
    """Monte Carlo: 64 tokens choose 8 of 256 experts in 8 groups; the fullest group against its mean."""
    base = Scenario(model="deepseek-r1", tensor_parallel=8)
    load = work(model_of(base), accelerator_of(base), Layout(8, 8, "fp8", "bf16"))
    rng = np.random.default_rng(1)
    chosen = np.argsort(rng.random((400, 64, 256)), axis=2)[:, :, :8] // 32
    counts = np.stack([(chosen == group).sum(axis=(1, 2)) for group in range(8)])
    simulated = counts.max(axis=0).mean() / counts.mean()
    modelled = expert_load(load, 1.0, np.array([64.0]))[0][0] / 64
    assert modelled == pytest.approx(simulated, rel=0.1)


def small_over(accelerator: str, devices: int) -> float:
    """Return the time of a token of a model of 1B (Llama-3.2's dimensions) on a group. [s]"""
    sizes = {"layers": 16, "hidden": 2048, "heads": 32, "kv_heads": 8, "head_dim": 64, "ffn_dim": 8192}
    scenario = Scenario(model="custom", **sizes, vocab=128256, accelerator=accelerator)
    price = price_of(scenario.replace(tensor_parallel=devices))
    return step_s(price, decode_batch=1, context=500)


def test_a_small_model_gains_nothing_from_a_second_device_over_pcie():
    """Measured: 1B on two L40 takes 6.9 ms a token, on one 6.3 (vllm-project/vllm#6027); NVLink pays."""
    one = small_over("l40s", 1)
    assert one < small_over("l40s", 2) < 1.25 * one
    assert small_over("h100-sxm", 2) < small_over("h100-sxm", 1)


def test_two_of_a_mesh_see_one_link():
    """By hand: an all-reduce of two sends each value once, 2 x 32 layers x 4096 x 2 bytes, over 64 GB/s."""
    base = Scenario(accelerator="mi300x")
    load = work(model_of(base), accelerator_of(base), Layout(2, 1, "bf16", "bf16"))
    assert load.link_s == pytest.approx(2 * 32 * 4096 * 2 / 64e9)


@each(preset_ids("models"))
def test_parameter_counts_match_the_published_ones(name):
    """Published counts from the model cards; those of GLM-4.5 and DeepSeek-V4 are rounded, hence 2%."""
    model = model_of(Scenario(model=name))
    count = sum(parameters(model))
    assert count == model.total_params
    if model.total_params_b:
        assert count / 1e9 == pytest.approx(model.total_params_b, rel=0.02)


LAYOUTS = [("bf16", "bf16"), ("fp8", "fp8"), ("fp4", "fp8"), ("native", "bf16")]
STEPS = [(1, 0, 0, 0), (1, 4000, 0, 0), (7, 900, 0, 0), (64, 2000, 0, 0), (256, 100, 0, 0)]
STEPS += [
    (0, 0, 1, 0),
    (0, 0, 300, 0),
    (0, 0, 8192, 0),
    (0, 0, 2048, 6144),
    (0, 0, 60_000, 0),
    (64, 1500, 1984, 512),
]


def big_enough(scenario):
    """Return the scenario with memory to spare: this is about time, not about room."""
    return scenario.replace(hbm_gb=1e5)


@pytest.mark.slow
@each(preset_ids("accelerators"))
def test_nothing_is_faster_than_physics_or_than_the_datasheet(accelerator):
    """Bytes / bandwidth and FLOP / peak from the dimensions: floor <= datasheet <= typical, all presets."""
    for model, (weights, kv) in itertools.product(preset_ids("models"), LAYOUTS):
        tp = 4 if model_of(Scenario(model=model)).heads % 4 == 0 else 1
        scenario = big_enough(
            Scenario(
                model=model, accelerator=accelerator, tensor_parallel=tp, weight_dtype=weights, kv_dtype=kv
            )
        )
        try:
            typical = price_of(scenario)
        except ScenarioError as error:
            assert "figure" in str(error)  # a device without a printed peak in that precision
            continue
        datasheet = price_of(scenario.replace(calibration="datasheet"))
        for step in STEPS:
            floor_s = floor_step_s(scenario, *step) * (1 - 1e-9)
            datasheet_s, typical_s = (
                sum(step_parts(price, *step).values()) for price in (datasheet, typical)
            )
            assert 0 < floor_s <= datasheet_s <= typical_s


@pytest.mark.parametrize("calibration", ["typical", "datasheet"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-120b", "deepseek-r1"])
def test_more_work_never_takes_less_time(calibration, model):
    """Monotonicity of the cost (not of the schedule) in tokens, rows and every linear term."""
    price = price_of(big_enough(Scenario(model=model, calibration=calibration, tensor_parallel=2)))
    assert (np.diff(price.step.token_s[1:]) >= 0).all()
    assert (np.diff(price.step.row_s) >= 0).all()
    last_slope = price.step.token_s[-1] - price.step.token_s[-2]
    assert price.step.token_slope_s >= last_slope * (1 - 1e-6)
    assert min(value for value in price.step[2:] if np.isscalar(value)) >= 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": "gpt-oss-20b", "weight_dtype": "native"},
        {"tensor_parallel": 4},
        {"calibration": "submission"},
    ],
)
def test_shares_add_up_to_the_busy_time(changes):
    """The kernel's formula, summed step by step, against the sum of the parts."""
    price = price_of(Scenario(**changes))
    usage = usage_of(np.random.default_rng(3), price)
    step = price.step
    busy_s = (
        usage.steps_by_tokens @ step.token_s
        + usage.steps_by_rows @ step.row_s
        + usage.context_tokens * step.decode_context_s
        + usage.window_tokens * step.window_context_s
        + usage.prefill_pairs * step.prefill_pair_s
        + usage.window_pairs * step.window_pair_s
        + usage.prefill_requests * step.prefill_request_s
        + usage.prefill_steps * step.prefill_step_s
        + usage.swapped_tokens * step.swap_token_s
    )
    found = shares(price, usage)
    assert tuple(found) == parts_of(1)
    assert sum(found.values()) == pytest.approx(busy_s, rel=1e-12)
    assert min(found.values()) >= 0


def test_utilisation_never_exceeds_one():
    """Needs / time <= 1 for every kind of step at datasheet speed, hence for any mix of steps."""
    for model, kv in itertools.product(["llama-3.1-8b", "gpt-oss-120b", "deepseek-r1"], ["bf16", "fp8"]):
        scenario = big_enough(Scenario(model=model, calibration="datasheet", weight_dtype="fp8", kv_dtype=kv))
        price = price_of(scenario)
        for step in STEPS:
            seconds = sum(step_parts(price, *step).values())
            needs = step_parts(dataclasses.replace(price, ledger=price.needs), *step)
            assert max(needs.values()) <= seconds * (1 + 1e-12)
            assert max(needs.values()) == pytest.approx(floor_step_s(scenario, *step), rel=1e-9)
        usage = usage_of(np.random.default_rng(4), price)
        elapsed_s = sum(shares(price, usage).values())
        assert all(0 < share <= 1 for share in utilisation(price, usage, elapsed_s))


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"kv_memory_frac": 0.15}, "Raise kv_memory_frac to 0.9, or raise tensor_parallel to at least 2"),
        ({"accelerator": "l4", "token_budget": 262_144, "max_batch": 4}, "Lower token_budget to 8,192"),
    ],
)
def test_what_the_engine_sets_too_tight_is_named_first(changes: dict[str, object], way_out: str) -> None:
    """By hand: 16.1 GB of weights fit 0.9 x 85.5 GB, and 0.9 x 24 GB where the largest step is usual."""
    with pytest.raises(DoesNotFit, match=way_out):
        price_of(Scenario(**changes))
    key = way_out.split()[1]
    assert price_of(Scenario(**(changes | {key: DEFAULTS[key]}))).kv_blocks > 0


def test_copies_of_experts_that_do_not_fit_are_named_with_their_way_out():
    """By hand: 673 GB of weights fit 8 x 136 GB, but not with 512 copies of experts on each of 8 devices."""
    scenario = Scenario(
        model="deepseek-r1",
        accelerator="h200",
        weight_dtype="fp8",
        tensor_parallel=8,
        expert_parallel=8,
        redundant_experts=4096,
    )
    with pytest.raises(DoesNotFit, match=r"[\d,]+ GB with the copies .*Lower redundant_experts to 0"):
        price_of(scenario)
    assert price_of(scenario.replace(redundant_experts=0)).kv_blocks > 0


def test_a_model_that_does_not_fit_says_what_would():
    """By hand: 70.55 G parameters x 2 bytes = 141 GB against 0.9 x 85.5 GB; 2 x 77 GB do, as does fp8."""
    scenario = Scenario(model="llama-3.1-70b")
    with pytest.raises(DoesNotFit) as caught:
        price_of(scenario)
    text = str(caught.value)
    assert "needs 141 GB for weights; 1 x H100-SXM has 77 GB usable of 85.5 GB" in text
    assert "Raise tensor_parallel to at least 2, or choose weight_dtype=fp8." in text
    assert price_of(scenario.replace(tensor_parallel=2)).kv_blocks > 0
    assert price_of(scenario.replace(weight_dtype="fp8")).kv_blocks > 0
    assert memory(scenario)["kv_tokens"] == 0
    with pytest.raises(DoesNotFit, match=r"and 5\.4 GB for activations and the driver"):  # 2.2 and 3.2, below
        price_of(scenario.replace(weight_dtype="fp8", max_batch=780))


def test_kv_heads_and_latent_caches_are_replicated():
    """By hand: 8 KV heads over 16 devices are one head each, so a token takes twice the bytes; a latent cache
    stands on all devices.
    """
    llama = Scenario(tensor_parallel=16)
    assert memory(llama)["kv_bytes_per_token"] == 2 * 131072
    deepseek = Scenario(model="deepseek-r1", weight_dtype="native", accelerator="h200", tensor_parallel=8)
    assert memory(deepseek)["kv_bytes_per_token"] == 8 * 61 * 576 * 2


def test_native_precision_is_the_checkpoints():
    """By hand: gpt-oss-120b has 114.66 G expert parameters at 4.25 bits and 2.13 G others in bf16 = 65.2 GB;
    the published checkpoint is 65 GB.
    """
    found = memory(Scenario(model="gpt-oss-120b", weight_dtype="native"))
    assert found["weights_gb"] == pytest.approx(65.2, abs=0.1)


def test_weights_of_four_bit_integers_by_hand():
    """Published: Kimi's checkpoint of 4-bit integers, a scale of 16 bits to 32 of them, has 594 GB. By hand:
    8 B parameters less two vocabulary matrices at 4 + 16 / 128 bits, and those in bf16: 5.70 GB.
    """
    kimi = Scenario(model="kimi-k2.5", weight_dtype="native")
    assert weight_bytes(model_of(kimi), layout_of(kimi))[0] / 1e9 == pytest.approx(594, rel=0.005)
    vocabulary = 2 * 128256 * 4096
    by_hand = (8_029_995_008 - vocabulary) * 4.125 / 8 + vocabulary * 2
    assert memory(Scenario(weight_dtype="int4"))["weights_gb"] == pytest.approx(by_hand / 1e9)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"tensor_parallel": 3},
            "32 attention heads, which it must divide. Choose one of 1, 2, 4, 8, 16, 32",
        ),
        ({"model": "qwen2-7b", "tensor_parallel": 3}, "28 attention heads, which it must divide. Choose one"),
        ({"model": "qwen2-7b", "tensor_parallel": 32}, "28 attention heads"),
        ({"model": "deepseek-r1", "tensor_parallel": 24}, "128 attention heads"),
        ({"tensor_parallel": 2, "expert_parallel": 2}, "has no experts"),
        ({"model": "mixtral-8x7b", "tensor_parallel": 32, "expert_parallel": 32}, "8 experts"),
    ],
)
def test_layouts_that_do_not_divide_are_refused(changes, says):
    """The message names the value, the limit and the way out."""
    with pytest.raises(ScenarioError, match=says):
        price_of(Scenario(**changes))


def test_a_group_that_uses_part_of_its_links_says_so():
    """By hand: one of seven wires of 64 GB/s; all of them, a switch and one device say nothing.

    A bridge joins two; four of its devices use PCIe 5.0, 64 GB/s. Beyond 8 devices
    the network of a part whose nodes nobody states is left out.
    """
    two = Scenario(accelerator="mi300x", tensor_parallel=2)
    assert layout_warnings(two) == ["Of MI300X's 448 GB/s of links, 2 devices use 64: a wire to each peer."]
    assert not layout_warnings(two.replace(tensor_parallel=8)) + layout_warnings(
        two.replace(tensor_parallel=1)
    )
    bridged = Scenario(accelerator="h100-pcie", tensor_parallel=4)
    assert layout_warnings(bridged) == ["H100-PCIe's links join 2 devices; 4 use PCIe, 64 of 300 GB/s."]
    wide = layout_warnings(Scenario(accelerator="h100-sxm", tensor_parallel=16))
    assert len(wide) == 1 and "All-reduces over 16 devices in 2 nodes are extrapolated" in wide[0]
    lone = layout_warnings(Scenario(accelerator="tpu-8t", tensor_parallel=16))
    assert "no slower network between servers is counted" in lone[0]


def test_heads_that_do_not_divide_are_filled_up():
    """By hand: Qwen2-7B on 8 devices: 28 query heads become 32, 4 on each; key/value heads stand twice."""
    eight = Scenario(model="qwen2-7b", tensor_parallel=8, calibration="datasheet")
    load = work(model_of(eight), accelerator_of(eight), Layout(8, 1, "bf16", "bf16"))
    attention = 2 * 3584 * (4 + 0.5 * 2) * 128
    assert load.dense_read_s == pytest.approx(28 * (attention + 3 * 3584 * 18944 / 8) * 2 / H100_BANDWIDTH)
    assert load.context_compute_s == pytest.approx(28 * 4 * 128 * 4 / 989e12)
    assert memory(eight)["kv_bytes_per_token"] == 2 * 28 * 2 * 4 * 128 * 2
    assert step_s(price_of(eight), decode_batch=1, context=0) > floor_step_s(eight, 1, 0)
    assert "filled up to 32 to divide among 8 devices" in layout_warnings(eight)[0]
    assert not layout_warnings(eight.replace(tensor_parallel=4))


def test_prices_are_shared_between_scenarios_that_differ_in_traffic_alone():
    """Rates, lengths, seeds and limits do not change what a step costs; the price is the same object."""
    kept = Scenario(link_gb_per_s=443.0)  # which no other test has asked for
    base = price_of(kept)
    other = kept.replace(arrival_per_s=3.0, prompt_tokens=7, seed=4, slo_tpot_ms=9.0, requests=10)
    assert price_of(other) is base
    fewer = price_of(kept.replace(max_batch=64))
    assert fewer is not base
    assert np.shares_memory(fewer.step.token_s, base.step.token_s)


PROFILE = EngineProfile(
    step_tokens=(1, 2, 4, 8, 256),
    step_time_ms=(15.0, 17.0, 16.0, 20.0, 268.0),
    decode_context_ms_per_token=0.0003,
    prefill_context_ms_per_pair=0.000001,
    prefill_request_ms=0.5,
    request_before_ms=1.8,
    request_after_ms=1.2,
    kv_blocks=79,
    kv_block_tokens=32,
)


def test_a_profile_replaces_the_step_time():
    """By hand: 6 tokens lie between 16 and 20 ms; beyond 256 the slope is (268 - 20) / 248 = 1 ms a token."""
    price = price_of(Scenario(), PROFILE)
    assert price.step.token_s[[1, 2, 3, 6, 256]] == pytest.approx([0.015, 0.017, 0.0165, 0.018, 0.268])
    assert price.step.token_s[300] == pytest.approx(0.268 + 0.044)
    assert price.step.token_slope_s == pytest.approx(0.001)
    assert not price.step.row_s.any()
    assert (price.kv_blocks, price.kv_block_tokens, price.request_limit_tokens) == (79, 32, 79 * 32)
    assert (price.request_before_s, price.request_after_s) == pytest.approx((1.8e-3, 1.2e-3))
    parts = step_parts(price, 2, 1000, prefill_tokens=2)
    assert parts == {"measured": pytest.approx(0.016 + 0.0006 + 0.000002e-3 + 0.0005)}
    assert math.isnan(utilisation(price, usage_of(np.random.default_rng(0), price), 1.0)[0])


def test_a_profile_without_blocks_takes_them_from_memory():
    """The same room as the analytic price finds for that block size."""
    profile = dataclasses.replace(PROFILE, kv_blocks=None, kv_block_tokens=None)
    assert price_of(Scenario(), profile).kv_blocks == price_of(Scenario()).kv_blocks


@pytest.mark.parametrize("name", ["typical", "datasheet"])
def test_calibrations_state_every_constant_within_its_bounds(name):
    """Each constant names its unit, physical bounds, meaning and source; datasheet is the ideal.

    One without a value leaves it to each kernel, which the ideal does not.
    """
    found = calibrations.calibration(name)
    assert {len(found.constants)} == {len(calibrations.Constants._fields)}
    for constant in found.constants:
        assert constant.value is None or constant.low <= constant.value <= constant.high
        assert constant.unit in calibrations.UNITS
        assert constant.meaning
        assert constant.source
    if name == "datasheet":
        assert set(found.base) == {0.0, 1.0}


def test_a_calibration_outside_its_bounds_is_refused():
    """A constant pushed over its physical bound names itself."""
    found = calibrations.calibration("typical").constants
    broken = (dataclasses.replace(found[0], value=1.2), *found[1:])
    with pytest.raises(ScenarioError, match=f"{found[0].name} is 1.2 frac"):
        calibrations._base_units("typical", broken)


def test_money_and_energy():
    """By hand: 8 devices x 3 USD/h at 10,000 tok/s: 24/3600/10,000 x 1e6 = 0.667 USD; 8 x 700/10,000 J."""
    assert usd_per_mtok(8, 3.0, 10_000) == pytest.approx(2 / 3)
    assert joule_per_tok(8, 700, 10_000) == pytest.approx(0.56)
    assert math.isnan(usd_per_mtok(8, None, 10_000))
    assert math.isnan(joule_per_tok(8, 700, 0.0)) and math.isnan(joule_per_tok(8, None, 10_000))


SILICON = "ai-dynamo/aiconfigurator: aic-core/src/aiconfigurator_core/systems/silicon_sample.csv, id "
LLAMA = {"model": "llama-3.1-8b"}
QWEN = {"model": "qwen3-32b", "tensor_parallel": 4, "policy": "prefill_first"}
QWEN_MOE = {"model": "qwen3-235b-a22b", "tensor_parallel": 8, "expert_parallel": 8, "weight_dtype": "fp8"}
PUBLISHED = [  # id after SILICON, model and layout, prompt, output, clients, measured TPOT [ms]
    ("..._llama_3_1_8b_instruct_h100_sxm_trtllm_agg_1024x512_c8_tp1_epnone_3", LLAMA, 1024, 512, 8, 7.417),
    ("..._llama_3_1_8b_instruct_h100_sxm_trtllm_agg_4096x512_c64_tp1_epnone_36", LLAMA, 4096, 512, 64, 30.09),
    ("..._qwen3_32b_h100_sxm_sglang_agg_1024x512_c64_tp4_epnone_23", QWEN, 1024, 512, 64, 15.17),
    (
        "..._qwen3_235b_a22b_fp8_h100_sxm_trtllm_agg_1024x512_c64_tp8_epnone_114",
        QWEN_MOE,
        1024,
        512,
        64,
        25.56,
    ),
]


@pytest.mark.parametrize(("source", "layout", "prompt", "output", "clients", "tpot_ms"), PUBLISHED)
def test_typical_steps_agree_with_published_runs(source, layout, prompt, output, clients, tpot_ms):
    """Measured closed loops on H100 (SILICON, by id): mean TPOT within 20%, twice the fit's median error."""
    scenario = Scenario(
        **layout,
        arrivals="closed",
        concurrency=clients,
        requests=10 * clients,
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_cv=0.0,
        output_cv=0.0,
        max_batch=clients,
    )
    found = run(scenario)
    simulated_ms = 1e3 * ((found.finished_s - found.first_token_s) / (output - 1)).mean()
    assert simulated_ms == pytest.approx(tpot_ms, rel=0.2), SILICON + source


def test_typical_states_its_errors():
    """The figures it shows: cross-validated errors lie above those in sample, both far below ideal's."""
    overall = calibrations.calibration("typical").errors["overall"]
    in_sample, ideal = overall["in sample"]["tpot_pct"], overall["datasheet calibration"]["tpot_pct"]
    for name in ("one accelerator left out", "one model left out"):
        assert in_sample < overall[name]["tpot_pct"] < ideal / 3


def test_a_submission_launches_the_prompts_of_a_step_once():
    """Oracle: by hand: 32 layers of 0.1 ms in a step with prompts, however many; none in one of decodes."""
    price = price_of(Scenario(calibration="submission"))
    assert price.step.prefill_step_s == pytest.approx(32 * 0.1e-3)
    assert price_of(Scenario()).step.prefill_step_s == 0.0
    graphs = price_of(Scenario(calibration="submission", constants="prefill_step_layer:0"))
    added = [
        step_s(price, **step) - step_s(graphs, **step)
        for step in (
            {"decode_batch": 8, "context": 500, "prefill_tokens": 256},
            {"decode_batch": 8, "context": 500},
        )
    ]
    assert added == pytest.approx([32 * 0.1e-3, 0.0], abs=1e-12)


def test_the_switch_cost_replaces_the_fitted_one():
    """Oracle: by hand: each prompt of a step adds it once, whatever the calibration; 0 takes it away."""
    scenario = Scenario()
    host = calibrations.calibration("typical").base
    fitted = host.prefill_request_s + 32 * host.prefill_layer_s
    assert price_of(scenario).step.prefill_request_s == pytest.approx(fitted)
    for name in ("typical", "datasheet"):
        changed = scenario.replace(calibration=name, prefill_switch_ms=7.0)
        assert price_of(changed).step.prefill_request_s == pytest.approx(0.007)
    dear, free = (price_of(scenario.replace(prefill_switch_ms=ms)) for ms in (7.0, 0.0))
    dear, free = (step_parts(price, 8, 500, 256) for price in (dear, free))
    assert dear["fixed"] - free["fixed"] == pytest.approx(0.007)
    assert all(dear[name] == free[name] for name in dear if name != "fixed")


@pytest.mark.parametrize("ranks", [1, 4])
def test_prices_do_not_depend_on_which_budget_was_priced_first(ranks: int) -> None:
    """Oracle: the tables of a budget that is priced before any longer one, to the last bit."""
    keys = {"tensor_parallel": 4, "attention_data_parallel": ranks, "expert_parallel": ranks}
    base = Scenario(model="mixtral-8x7b", token_budget=2048).replace(**keys)
    found = []
    for budgets in ((2048,), (16_384, 2048)):
        price._price.cache_clear()
        tables.longest_tables.cache_clear()
        prices = [price.price_of(base.replace(token_budget=budget)) for budget in budgets]
        found.append(prices[-1])
    alone, after = found
    for name in ("token_s", "row_s", "group_s"):
        assert np.array_equal(getattr(alone.step, name), getattr(after.step, name))
        assert getattr(after.step, name).flags["C_CONTIGUOUS"]
    for ledger in ("ledger", "needs"):
        for name in ("token_s", "row_s", "group_s", "group_slope_s"):
            one, other = (getattr(getattr(each, ledger), name) for each in found)
            assert np.array_equal(one, other)


def test_what_does_not_fit_costs_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: no table is made for weights that exceed the memory."""
    monkeypatch.setattr(tables, "_tables", lambda *_: pytest.fail("a table is made"))
    with pytest.raises(DoesNotFit):
        price.price_of(Scenario(model="llama-3.1-405b", accelerator="l4"))
