"""Each kind of attention: by hand what it keeps, reads and computes, and against measured modules."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sim_core import catalogue
from sim_core.catalogue import kernels as measured
from sim_core.catalogue.models import KINDS, Attention, Model, changed_model
from sim_core.fields.errors import ScenarioError
from sim_core.price.kernels import kernels_of
from sim_core.price.memory import DoesNotFit, memory
from sim_core.price.parts import slower
from sim_core.price.pools import transfer_of
from sim_core.price.price import price_of
from sim_core.price.steps.floor import floor_step_s
from sim_core.price.steps.one_step import step_parts
from sim_core.price.work import Layout, kv_token_bytes, products, state_bytes, work
from sim_core.scenario.scenario import Scenario, model_of

MILLION = 2**20
BANDWIDTH = 4.8e12  # H200


def layout(tp: int = 1, kv_dtype: str = "bf16", engine: str = "") -> Layout:
    """Return a layout of bf16 weights."""
    return Layout(tp, 1, "bf16", kv_dtype, engine=engine)


def terms_of(name: str, kv_dtype: str = "bf16", tp: int = 1) -> dict[str, float]:
    """Return the work of attention of a preset on H200s."""
    return work(catalogue.model(name), catalogue.accelerator("h200"), layout(tp, kv_dtype))._asdict()


# --- by hand --------------------------------------------------------------------------------------


def test_shared_experts_wait_for_no_launch() -> None:
    """Measured: vllm-project/vllm#26440: on a stream of their own DeepSeek-R1 (fp8, 8 B200) takes 1.26 ms
    less for a token of 32 sequences; two launches of 7.8 us in 58 layers are 0.9 ms.
    """
    model = catalogue.model("deepseek-r1")
    assert products(model) == 3 * 61 + 2 * 3  # attention, and three dense layers
    launch_s = measured.product("blackwell", "fp8-block").launch_s
    assert 1e3 * 2 * model.moe_layers * launch_s == pytest.approx(1.26, rel=0.3)


def test_every_kind_is_some_models() -> None:
    """Invariant: the kinds that are known are those that presets have, and kernels are known for each."""
    found = {group.kind for model in catalogue.models().values() for group in model.attention}
    assert found == set(KINDS)
    assert not [model.id for model in catalogue.models().values() if model.not_modelled]


def test_v4_keeps_what_is_published() -> None:
    """DeepSeek-V4-Pro, 9.62 GiB at a million tokens in bf16: 30 layers keep a row of 512 and an index key of
    128 every 4 tokens, 31 a row every 128; besides, each of 61 the last 128 tokens, whatever the length.
    """
    model = catalogue.model("deepseek-v4-pro")
    by_hand = 30 * (512 + 128) / 4 + 31 * 512 / 128
    assert model.kv_bytes_per_token() == 2 * by_hand
    assert MILLION * model.kv_bytes_per_token() / 2**30 == pytest.approx(9.62, abs=0.005)
    assert model.state_bytes() == 61 * 128 * 512 * 2
    flash = catalogue.model("deepseek-v4-flash")
    assert flash.kv_bytes_per_token() == 2 * (21 * 640 / 4 + 20 * 512 / 128)
    assert flash.state_bytes() == 43 * 128 * 512 * 2


def test_v4_reads_rows_and_an_index() -> None:
    """By hand, a decode of V4-Pro in bf16: per token of the context 30 index keys of 128 / 4 numbers and 31
    rows of 512 / 128; per token of the last 4,096, 30 rows of 512 / 4; per sequence 61 windows of 128.
    """
    found = terms_of("deepseek-v4-pro")
    assert found["context_read_s"] * BANDWIDTH == pytest.approx(2 * (30 * 128 / 4 + 31 * 512 / 128))
    assert found["window_read_s"] * BANDWIDTH == pytest.approx(2 * 30 * 512 / 4)
    assert found["state_read_s"] * BANDWIDTH == pytest.approx(2 * 61 * 128 * 512)
    assert catalogue.model("deepseek-v4-pro").reach_tokens == 4 * 1024


def test_chosen_tokens_by_hand() -> None:
    """DeepSeek-V3.2: 61 layers keep 576 numbers and 128 + 4 bytes; a decode reads all keys of the index, and
    2,048 latent vectors. Scores: 64 heads of 128, two FLOP each; 128 heads attend over 512 + 64 and 512.
    """
    model, found = catalogue.model("deepseek-v3.2"), terms_of("deepseek-v3.2")
    peak = catalogue.accelerator("h200").attention_flop_per_s
    assert model.kv_bytes_per_token() == 61 * (576 * 2 + 132)
    assert model.kv_bytes_per_token(1) == 61 * (576 + 132)
    assert found["context_read_s"] * BANDWIDTH == pytest.approx(61 * 132)
    assert found["context_compute_s"] * peak == pytest.approx(61 * 2 * 64 * 128)
    assert found["window_read_s"] * BANDWIDTH == pytest.approx(61 * 576 * 2)
    assert found["window_compute_s"] * peak == pytest.approx(61 * 2 * (512 + 64 + 512) * 128)
    assert model.reach_tokens == 2048 and model.full_layers == 61


def test_an_index_is_on_every_device() -> None:
    """By hand, GLM-5 on eight devices: each scans the whole index and holds it and the latent cache; its 8 of
    64 heads cost as many as 64, which the kernel computes.
    """
    one, eight = terms_of("glm-5"), terms_of("glm-5", tp=8)
    assert eight["context_read_s"] == one["context_read_s"]
    assert eight["context_compute_s"] == one["context_compute_s"]
    assert eight["window_compute_s"] == pytest.approx(one["window_compute_s"])
    model = catalogue.model("glm-5")
    assert kv_token_bytes(model.attention, layout(8)) == kv_token_bytes(model.attention, layout())


def test_a_shared_index_is_scanned_once() -> None:
    """GLM-5.2: 21 of 78 layers compute an index; the other 57 keep and scan none, but read as much."""
    shared, own = terms_of("glm-5.2"), terms_of("glm-5.1")
    assert shared["context_read_s"] / own["context_read_s"] == pytest.approx(21 / 78)
    assert shared["window_read_s"] == pytest.approx(own["window_read_s"])
    assert catalogue.model("glm-5.2").kv_bytes_per_token() == 78 * 576 * 2 + 21 * 132


def test_chosen_blocks_by_hand() -> None:
    """MiniMax-M3: 4 key/value heads of 128 in 60 layers, of which 57 read 2,048 tokens and an index's key of
    128 bf16 numbers of every token, and 3 read everything.
    """
    model, found = catalogue.model("minimax-m3"), terms_of("minimax-m3")
    assert model.kv_bytes_per_token() == 60 * 2 * 4 * 128 * 2 + 57 * 256
    assert found["context_read_s"] * BANDWIDTH == pytest.approx(3 * 1024 * 2 + 57 * 256)
    assert found["window_read_s"] * BANDWIDTH == pytest.approx(57 * 1024 * 2)
    assert model.reach_tokens == 16 * 128


@pytest.mark.parametrize(
    ("name", "layers", "floats"),
    [
        ("qwen3.5-27b", 48, 48 * 128 * 128),
        ("qwen3.5-35b-a3b", 30, 32 * 128 * 128),
        ("qwen3.5-397b-a17b", 45, 64 * 128 * 128),
        ("kimi-k3", 69, 96 * 128 * 128),
        ("nvidia-nemotron-3-nano-30b-a3b-bf16", 23, 64 * 64 * 128 + 4 * (64 * 64 + 2 * 8 * 128)),
        ("nvidia-nemotron-3-super-120b-a12b-fp8", 40, 128 * 64 * 128 + 4 * (128 * 64 + 2 * 8 * 128)),
        ("nemotron-h-56b-base-8k", 54, 256 * 64 * 256 + 4 * (256 * 64 + 2 * 8 * 256)),
    ],
)
def test_states_by_hand(name: str, layers: int, floats: int) -> None:
    """Heads x size x rows, in float32; of Mamba-2 with the last four tokens of its convolution.

    A decode reads and writes a state once, no token adds to it, and eight devices hold an eighth each.
    """
    model, found = catalogue.model(name), terms_of(name)
    assert model.state_bytes() == layers * floats * 4
    assert state_bytes(model, layout(8)) == pytest.approx(layers * floats * 4 / 8)
    assert found["state_read_s"] * BANDWIDTH == pytest.approx(2 * layers * floats * 4)
    assert model.linear_attention_layers == layers
    assert model.kv_bytes_per_token() == model.kv_layers * 2 * model.main.cached_values


def test_heads_of_some_layers_by_hand() -> None:
    """Gemma 4 26B: 5 layers keep 2 heads of 512, 25 with a window 8 of 256. MiMo-V2: 9 layers 4 heads and 39
    with a window 8, keys of 192 and values of 128. Step-3.7: 64 query heads, 96 where there is a window.
    """
    gemma, mimo = catalogue.model("gemma-4-26b-a4b"), catalogue.model("mimo-v2-flash")
    assert gemma.kv_bytes_per_token() == 2 * (5 * 2 * 2 * 512 + 25 * 2 * 8 * 256)
    assert mimo.kv_bytes_per_token() == 2 * (192 + 128) * (9 * 4 + 39 * 8)
    found = terms_of("mimo-v2-flash")
    assert found["context_read_s"] * BANDWIDTH == pytest.approx(2 * 320 * 9 * 4)
    assert found["window_read_s"] * BANDWIDTH == pytest.approx(2 * 320 * 39 * 8)
    step = catalogue.model("step-3.7-flash")
    assert [group.heads for group in step.attention] == [64, 96] and step.heads == 32


def test_experts_in_a_smaller_space_by_hand() -> None:
    """Nemotron 3 Super: 512 experts of two matrices of 1,024 x 2,688 in each of 40 layers, and the way there
    and back, 2 x 4,096 x 1,024. Kimi-K3: 896 of three matrices of 3,584 x 3,072 in 92 layers.
    """
    model = catalogue.model("nvidia-nemotron-3-super-120b-a12b-fp8")
    assert (model.moe_layers, model.dense_layers, model.attention_layers) == (40, 0, 48)
    assert model.expert_params == 2 * 1024 * 2688
    assert model.latent_params == 2 * 4096 * 1024
    assert products(model) == 2 * 48 + 2 * 40  # attention, the space of experts
    assert catalogue.model("kimi-k3").expert_params == 3 * 3584 * 3072


def test_layers_without_attention_by_hand() -> None:
    """Llama-Nemotron-Super-49B: 49 of 80 layers attend, with 8 heads of 128."""
    model = catalogue.model("llama-3_3-nemotron-super-49b-v1")
    assert model.kv_bytes_per_token() == 49 * 2 * 8 * 128 * 2
    assert model.total_params / 1e9 == pytest.approx(49.9, rel=0.01)


# --- steps ----------------------------------------------------------------------------------------


def step_s(scenario: Scenario, batch: int, context: float) -> float:
    """Return the time of a decode step. [s]"""
    return sum(step_parts(price_of(scenario), batch, context).values())


def test_beyond_its_reach_a_decode_reads_the_index_alone() -> None:
    """DeepSeek-V3.2 by hand: from 10,000 to 20,000 tokens a sequence reads 10,000 keys of 132 bytes a layer
    more, at the index's share of bandwidth, or scores them; its latent cache costs no more.
    """
    scenario = Scenario(model="deepseek-v3.2", accelerator="h200", tensor_parallel=8, weight_dtype="fp8")
    part, index = catalogue.accelerator("h200"), measured.attention("hopper", "index", "bf16")
    more_s = step_s(scenario, 8, 20_000) - step_s(scenario, 8, 10_000)
    read_s = 8 * 10_000 * 61 * 132 / part.hbm_byte_per_s / index.read_frac
    score_s = 8 * 10_000 * 61 * 2 * 64 * 128 / part.attention_flop_per_s / index.decode_frac
    assert more_s == pytest.approx((read_s**4 + score_s**4) ** 0.25)
    dense = scenario.replace(model="deepseek-v3")
    assert more_s < 0.3 * (step_s(dense, 8, 20_000) - step_s(dense, 8, 10_000))


def test_a_state_costs_the_same_at_any_context() -> None:
    """Qwen3.5: of 60 layers 15 grow with the context; the rest move 189 MB twice a sequence, at any."""
    scenario = Scenario(model="qwen3.5-397b-a17b", accelerator="h200", tensor_parallel=8, weight_dtype="fp8")
    row = price_of(scenario).step.row_s
    share = measured.attention("hopper", "gdn", "bf16").read_frac
    moved_s = 2 * 45 * 64 * 128 * 128 * 4 / 8 / BANDWIDTH / share
    kv = price_of(scenario).ledger.row_s[1]
    assert kv[1] == pytest.approx(moved_s) and kv[100] == pytest.approx(100 * moved_s)
    assert row[100] > 100 * moved_s


def test_states_are_set_aside_for_every_sequence() -> None:
    """By hand: Qwen3.5-27B keeps 151 MB a sequence; 256 take 38.7 GB, which a device of 80 GB lacks beside 54
    of weights. What helps is said, and does.
    """
    scenario = Scenario(model="qwen3.5-27b", accelerator="h200", max_batch=256)
    held = memory(scenario)
    assert held["state_gb"] == pytest.approx(256 * 48 * 48 * 128 * 128 * 4 / 1e9)
    assert held["kv_tokens"] > 0
    tight = scenario.replace(accelerator="h100-sxm")
    with pytest.raises(DoesNotFit, match=r"states of 256 sequences.*Lower max_batch to 128"):
        price_of(tight)
    assert price_of(tight.replace(max_batch=128)).kv_blocks > 0


def test_a_state_is_sent_with_the_cache() -> None:
    """By hand: over 50 GB/s the state of Qwen3.5-27B takes 3 ms, whatever the prompt."""
    scenario = Scenario(model="qwen3.5-27b", kv_link_gb_per_s=50.0, kv_link_latency_ms=1.0)
    state_s = 48 * 48 * 128 * 128 * 4 / 50e9
    assert transfer_of(scenario).latency_s == pytest.approx(1e-3 + state_s)


SPARSE = ("deepseek-v3.2", "deepseek-v4-flash", "glm-5.2", "kimi-k3", "minimax-m3", "qwen3.5-122b-a10b")
LINEAR = ("nvidia-nemotron-3-super-120b-a12b-fp8", "nemotron-h-56b-base-8k", "gemma-4-26b-a4b")


@pytest.mark.parametrize("name", [*SPARSE, *LINEAR, "mimo-v2-flash", "step-3.7-flash", "deepseek-v4-pro"])
def test_no_step_beats_the_floor_and_parts_add_up(name: str) -> None:
    """Physics: every byte once and every FLOP at the peak is a bound; parts explain all of a step."""
    scenario = Scenario(
        model=name, accelerator="b300", tensor_parallel=16, weight_dtype="native", max_batch=64
    )
    price = price_of(scenario)
    for batch, context, chunk, start in ((1, 100, 0, 0), (64, 30_000, 0, 0), (8, 5000, 2000, 4000)):
        found = sum(step_parts(price, batch, context, chunk, start).values())
        assert found > floor_step_s(scenario, batch, context, chunk, start)
        assert math.isfinite(found)


def test_the_floor_by_hand() -> None:
    """GLM-5, bf16, one sequence at 100,000 tokens: beside its weights 78 layers read 132 bytes of each token
    and 1,152 of 2,048; on eight devices the larger of bytes and FLOP over eight times the peaks.
    """
    scenario = Scenario(model="glm-5", accelerator="b300", tensor_parallel=8)
    near, far = floor_step_s(scenario, 1, 0), floor_step_s(scenario, 1, 100_000)
    moved = 78 * (100_000 * 132 + 2048 * 1152)
    part = catalogue.accelerator("b300")
    assert far - near == pytest.approx(moved / part.hbm_byte_per_s / 8, rel=1e-6)


# --- what is changed or wrong ---------------------------------------------------------------------


def test_overrides_reach_the_layers_that_know_them() -> None:
    """By hand: fewer layers keep their proportions, heads change where they mean something."""
    model = model_of(Scenario(model="qwen3.5-397b-a17b", layers=8))
    assert [group.layers for group in model.attention] == [2, 6]
    mixed = model_of(Scenario(model="deepseek-v4-pro", layers=6))
    assert [group.layers for group in mixed.attention] == [3, 3]
    super_ = model_of(Scenario(model="nvidia-nemotron-3-super-120b-a12b-fp8", layers=11))
    assert (super_.attention_layers, super_.moe_layers) == (6, 5)
    assert [g.kv_heads for g in model_of(Scenario(model="minimax-m3", kv_heads=8)).attention] == [8, 8]
    for name in ("deepseek-v4-pro", "glm-5"):
        with pytest.raises(ScenarioError, match="Leave kv_heads unset"):
            model_of(Scenario(model=name, kv_heads=8))
    with pytest.raises(ScenarioError, match="Leave window_tokens unset"):
        model_of(Scenario(model="glm-5", window_tokens=100))


def test_contradictions_name_the_model_and_the_way_out() -> None:
    """By hand: what a kind needs, and no more layers with attention than there are."""
    model = catalogue.model("glm-5")
    lacking = dataclasses.replace(model.main, chosen_tokens=0)
    with pytest.raises(ScenarioError, match="GLM-5 has dsa attention but no chosen_tokens; give it"):
        dataclasses.replace(model, attention=(lacking,))
    with pytest.raises(ScenarioError, match="78 layers but 156 with attention"):
        dataclasses.replace(model, attention=(model.main, model.main))
    with pytest.raises(ScenarioError, match="no attention"):
        dataclasses.replace(model, attention=())


def test_a_shorter_window_beside_a_longer_one_is_met_by_every_sequence() -> None:
    """By hand: of windows of 100 and 1,000 tokens a step counts the longer; the other is 100 tokens a row."""
    model = catalogue.model("gemma-3-12b")
    short = dataclasses.replace(model.attention[1], layers=8, window_tokens=100)
    both = dataclasses.replace(model, attention=(short, model.attention[1]))
    found = work(both, catalogue.accelerator("h200"), layout())
    layer_s = 2 * model.main.cached_values / BANDWIDTH
    assert both.reach_tokens == model.attention[1].window_tokens
    assert found.state_read_s == pytest.approx(8 * 100 * layer_s)
    assert found.window_read_s == pytest.approx(40 * layer_s)


def test_fewer_layers_of_any_preset_are_still_a_model() -> None:
    """Invariant: whatever the number of layers, some keep a cache, and no kind has more than its share."""
    for model in catalogue.models().values():
        for layers in (1, 2, 5, 200):
            found = changed_model(model, {"layers": layers})
            assert 1 <= found.kv_layers <= found.attention_layers <= layers, (model.id, layers)


# --- against measured modules ---------------------------------------------------------------------

# Microseconds of a whole layer of attention in a decode (ai-dynamo/aiconfigurator 0.12.0, Apache-2.0,
# systems/data/h200_sxm/{sparse_attention,msa}): preset, kind, engine, heads on the device, weights, cache,
# then sequences, tokens before, microseconds.
MODULES = [
    ("deepseek-v3.2", "dsa", "vllm", 16, "fp8-block", "fp8", [(1, 16_384, 169), (16, 16_384, 217)]),
    ("deepseek-v3.2", "dsa", "vllm", 16, "fp8-block", "fp8", [(64, 1024, 254), (64, 4096, 273)]),
    ("glm-5", "dsa", "", 8, "bf16", "bf16", [(1, 16_384, 90), (16, 16_384, 113), (64, 4096, 138)]),
    ("minimax-m3", "msa", "vllm", 16, "bf16", "bf16", [(1, 16_383, 40), (64, 1023, 57), (16, 65_535, 106)]),
    ("deepseek-v4-pro", "csa", "vllm", 16, "fp8-block", "fp8", [(1, 16_384, 97), (16, 16_384, 108)]),
    ("deepseek-v4-pro", "csa", "vllm", 16, "fp8-block", "fp8", [(64, 1024, 113), (64, 4096, 148)]),
    ("deepseek-v4-pro", "hca", "vllm", 16, "fp8-block", "fp8", [(1, 16_384, 70), (64, 4096, 80)]),
]


def one_layer(model: Model, group: Attention) -> Model:
    """Return a model of one layer of a kind; nobody looks at its feed-forward block."""
    bare = dataclasses.replace(model, residual_streams=1, first_dense_layers=0, ffn_layers=0)
    return dataclasses.replace(bare, layers=1, attention=(dataclasses.replace(group, layers=1),))


def module_s(model: Model, engine: str, kind: str, kv_dtype: str, batch: int, context: float) -> float:
    """Return the time of one layer of attention in a decode: its products, and what its kernels take. [s]"""
    part, group = catalogue.accelerator("h200"), model.main
    plain, own = measured.product("hopper", "bf16"), measured.product("hopper", kind)
    kernels = kernels_of(model, part, layout(1, kv_dtype, engine))
    found = work(model, part, layout(1, kv_dtype, engine))
    weights, dtype = group.projections(model.hidden).total, kind.split("-")[0]
    compute_s = 2 * weights * (batch + own.fill_tokens) / part.flop_per_s(dtype) / own.peak_frac
    read_s = weights * (2 if dtype == "bf16" else 1) / part.hbm_byte_per_s / own.read_frac
    seen = min(context, model.reach_tokens)
    pairs = [
        (compute_s, read_s),
        (
            batch * context * found.context_compute_s / kernels.context.decode_frac,
            batch * context * found.context_read_s / kernels.context.read_frac,
        ),
        (
            batch * seen * found.window_compute_s / kernels.window.decode_frac,
            batch * seen * found.window_read_s / kernels.window.read_frac,
        ),
    ]
    launches_s = group.products * own.launch_s + group.bf16_products * plain.launch_s
    rows_s = found.state_read_s / kernels.row.read_frac + found.state_compute_s / kernels.row.prefill_frac
    token_s = kernels.context.token_s + rows_s
    return float(
        launches_s
        + kernels.context.launch_s
        + batch * token_s
        + sum(np.sum(slower(compute, read, True)) for compute, read in pairs)
    )


@pytest.mark.parametrize(("name", "kind", "engine", "heads", "weights", "cache", "points"), MODULES)
def test_measured_modules(
    name: str, kind: str, engine: str, heads: int, weights: str, cache: str, points: list
) -> None:
    """Measured layers of attention on H200: within 20%; over all shapes the medians are in `sources.toml`."""
    model = catalogue.model(name)
    group = next(group for group in model.attention if group.kind == kind)
    share = heads / group.heads
    changed = dataclasses.replace(
        group,
        heads=heads,
        kv_heads=round(group.kv_heads * share),
        o_groups=round(group.o_groups * share),
    )
    layer = one_layer(model, changed)
    for batch, context, measured_us in points:
        found_s = module_s(layer, engine, weights, cache, batch, context)
        assert found_s * 1e6 == pytest.approx(measured_us, rel=0.2), (batch, context)


@pytest.mark.parametrize(
    ("name", "kind", "heads", "points"),
    [
        ("qwen3.5-397b-a17b", "gdn", 64, [(1, 7.3), (64, 142), (256, 543)]),
        ("kimi-k3", "kda", 96, [(1, 8.7), (64, 220), (256, 863)]),
    ],
)
def test_measured_states(name: str, kind: str, heads: int, points: list) -> None:
    """Measured convolution and recurrence of a decode by vLLM's kernels on H200 (ai-dynamo/aiconfigurator
    0.12.0, gdn_perf and kda_perf): within 20%, a launch alone within a half.
    """
    model = catalogue.model(name)
    group = next(group for group in model.attention if group.kind == kind)
    assert group.heads == heads
    kernel = measured.attention("hopper", kind, "bf16", "vllm")
    for batch, measured_us in points:
        moved_s = batch * 2 * group.state_values * 4 / BANDWIDTH / kernel.read_frac
        rel = 0.5 if batch == 1 else 0.2
        assert (kernel.launch_s + moved_s) * 1e6 == pytest.approx(measured_us, rel=rel)


@pytest.mark.parametrize(("accelerator", "one_us", "many_us"), [("h200", 27, 1059), ("b200", 29, 683)])
def test_measured_mixing_of_hidden_states(accelerator: str, one_us: float, many_us: float) -> None:
    """DeepSeek-V4-Pro's four hidden states, mixed twice a layer (ai-dynamo/aiconfigurator 0.12.0,
    mhc_module_perf of SGLang): 1 token within 10%, 8,192 tokens within 30%.
    """
    model, part = catalogue.model("deepseek-v4-pro"), catalogue.accelerator(accelerator)
    plain = dataclasses.replace(model, residual_streams=1)
    own, other = (kernels_of(item, part, layout(8)) for item in (model, plain))
    assert (own.context.launch_s - other.context.launch_s) * 1e6 == pytest.approx(one_us, rel=0.1)
    more_s = work(model, part, layout(8)).activation_s - work(plain, part, layout(8)).activation_s
    found_us = 8192 * more_s / model.layers / own.bf16.read_frac * 1e6
    assert found_us == pytest.approx(many_us, rel=0.3)


def test_heads_that_differ_are_named() -> None:
    """Oracle: Step-3.7's layers have 64 and 96 query heads; 64 devices divide only the one."""
    scenario = Scenario(model="step-3.7-flash", accelerator="b300", tensor_parallel=64)
    with pytest.raises(ScenarioError, match="has 64 and 96 attention heads, which it must divide"):
        price_of(scenario)


@pytest.mark.parametrize(("clients", "tok_per_s"), [(1, 101), (16, 1124), (32, 1664), (128, 4406)])
def test_v4_pro_as_served(clients: int, tok_per_s: float) -> None:
    """DeepSeek-V4-Pro on eight B300 without drafts, vLLM blog of 2026-08-14 (decoded from a figure; contexts
    assumed 1,200): decode steps alone give the published rate within 15%. No constant was fitted to it.
    """
    scenario = Scenario(
        model="deepseek-v4-pro",
        accelerator="b300",
        tensor_parallel=8,
        expert_parallel=8,
        weight_dtype="native",
        kv_dtype="fp8",
        engine="vllm",
    )
    assert clients / step_s(scenario, clients, 1200) == pytest.approx(tok_per_s, rel=0.15)
