"""Ranks of attention that share their experts: what they hold, what they send, and what a step costs."""

from __future__ import annotations

import csv
import statistics
from typing import Any

import numpy as np
import pytest

from sim_core import catalogue
from sim_core.catalogue import kernels
from sim_core.fields.errors import ScenarioError
from sim_core.price.kernels import kernels_of
from sim_core.price.memory import held, host_blocks, memory
from sim_core.price.parts import exchange_s, group_parts, terms, token_parts
from sim_core.price.pools import decode_of, measured_link, pool_prices, prefill_of, with_measured_link
from sim_core.price.price import method_of, price_of
from sim_core.price.step_cost import group_tokens_s
from sim_core.price.steps.one_step import links_of_step, step_parts
from sim_core.price.work import Layout, layout_of, layout_warnings, weight_bytes, work
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from tests.places import SHARED

REFERENCE = SHARED / "reference" / "parallel_and_network.csv"
SYSTEMS = {
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200",
    "b200_sxm": "b200",
    "b300_sxm": "b300",
    "gb200": "gb200",
    "gb300": "gb300",
}
COPY_BYTES = 7168 * (1 + 1 / 32 + 2)  # of a token of DeepSeek's: 8 bits and scales out, bf16 back


def ranks(devices: int, accelerator: str = "h200", **changes: Any) -> Scenario:
    """Return DeepSeek-R1 with as many ranks of attention as devices, its experts spread over all."""
    usual = {"model": "deepseek-r1", "weight_dtype": "fp8", "max_batch": 512, "token_budget": 16_384}
    layout = dict.fromkeys(("tensor_parallel", "expert_parallel", "attention_data_parallel"), devices)
    return Scenario(**{"accelerator": accelerator, **usual, **layout, **changes})


def rated(scenario: Scenario):
    """Return what a scenario's steps are priced from."""
    asked = model_of(scenario), accelerator_of(scenario), layout_of(scenario)
    return terms(work(*asked), kernels_of(*asked), *method_of(scenario))


def layer_us(accelerator: str, devices: int, tokens: float, redundant: int = 0) -> float:
    """Return what sending tokens to the experts of one layer and back takes. [us]"""
    scenario = ranks(devices, accelerator, redundant_experts=redundant)
    return float(exchange_s(rated(scenario), tokens)) / 58 * 1e6


# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accelerator", "devices", "tokens", "by_hand_us"),
    [
        ("h200", 8, 256, 27 + 256 * 8 * COPY_BYTES * 7 / 8 / (0.495 * 450e9) * 1e6),
        ("b200", 8, 128, 43.5 + 128 * 8 * COPY_BYTES * 7 / 8 / (0.625 * 900e9) * 1e6),
        ("gb200", 8, 128, 34.5 + 128 * 8 * COPY_BYTES * 7 / 8 / (0.70 * 900e9) * 1e6),
        ("h100-sxm", 16, 256, 27 + 15 + 4.1 + 256 * 8 * COPY_BYTES * 8 / 16 / (0.92 * 50e9) * 1e6),
        ("h100-sxm", 64, 256, 27 + 15 + 12.3 + 256 * 8 * COPY_BYTES * 56 / 64 / (0.92 * 50e9) * 1e6),
        ("b300", 16, 256, 43.5 + 15 + 4.1 + 256 * 8 * COPY_BYTES * 8 / 16 / (0.92 * 100e9) * 1e6),
        ("gb200", 64, 128, 34.5 + 128 * 8 * COPY_BYTES * 63 / 64 / (0.70 * 900e9) * 1e6),
        ("mi355x", 8, 128, 45 + 128 * 8 * COPY_BYTES * 7 / 8 / (0.45 * 537.5e9) * 1e6),
    ],
)
def test_tokens_travel_over_the_slower_link(
    accelerator: str, devices: int, tokens: int, by_hand_us: float
) -> None:
    """By hand: a latency, and every copy of a token over links of the node or its share of the network."""
    assert layer_us(accelerator, devices, tokens) == pytest.approx(by_hand_us, rel=1e-9)


def test_long_prompts_send_one_copy_a_device_and_a_node() -> None:
    """By hand, H100 on 4 nodes, 8,192 tokens: of eight experts chosen alike, 4 (1 - (3/4)^8) nodes have one,
    of which three quarters lie elsewhere, one copy over the network each; on 8 nodes that does not pay.
    """
    elsewhere = 3 * (1 - (3 / 4) ** 8)
    by_hand_us = 80 + 6 + 2 * 58 + 8192 * elsewhere * COPY_BYTES / (0.87 * 50e9) * 1e6
    assert layer_us("h100-sxm", 32, 8192) == pytest.approx(by_hand_us, rel=1e-9)
    assert layer_us("h100-sxm", 64, 8192) == pytest.approx(32 * (layer_us("h100-sxm", 64, 256) - 54.3) + 54.3)
    assert layer_us("h100-sxm", 32, 1024) > layer_us("h100-sxm", 32, 1025)  # buffers of decodes end here


@pytest.mark.parametrize(
    ("accelerator", "nodes", "tokens", "measured_us"),
    [
        ("h100-sxm", 1, 4096, 1464),
        ("h100-sxm", 4, 4096, 5494),
        ("h100-sxm", 4, 65_536, 81_572),
        ("b200", 1, 4096, 1196),
        ("b200", 1, 65_536, 16_654),
        ("gb200", 1, 4096, 957),
        ("gb300", 1, 65_536, 13_422),
    ],
)
def test_long_prompts_travel_as_measured(
    accelerator: str, nodes: int, tokens: int, measured_us: float
) -> None:
    """Oracle: DeepEP's normal kernels (ai-dynamo/aiconfigurator 0.12.0, wideep_deepep_normal_perf)."""
    assert layer_us(accelerator, 8 * nodes, tokens) == pytest.approx(measured_us, rel=0.15)


@pytest.mark.skipif(not REFERENCE.exists(), reason="measured all-to-alls lie beside the checkout")
def test_all_to_alls_are_as_measured_on_every_system() -> None:
    """Oracle: DeepEP's low-latency kernels on six systems; the median error of none is above 15%."""
    errors: dict[tuple[str, str], list[float]] = {}
    with REFERENCE.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if not row["kind"].startswith("all-to-all, DeepEP low latency"):
                continue
            tokens = float("".join(filter(str.isdigit, row["concurrency"].split()[0])))
            ours = layer_us(SYSTEMS[row["gpu"]], int(row["n_gpus"]), tokens)
            errors.setdefault((row["gpu"], row["n_gpus"]), []).append(abs(ours / float(row["value"]) - 1))
    assert len(errors) >= 6
    medians = {system: statistics.median(found) for system, found in errors.items()}
    assert max(medians.values()) <= 0.15, medians
    assert statistics.median(error for found in errors.values() for error in found) <= 0.05


def test_experts_in_parts_gather_every_token() -> None:
    """By hand, 8 H200 of one node: all tokens of all ranks to every device and back, as an all-reduce."""
    scenario = ranks(8, expert_parallel=1)
    found = rated(scenario)
    assert not exchange_s(found, 100.0)
    ring = kernels.all_reduce("nvlink4", 8)
    sent_s = 2 * 7 / 8 * 7168 * 2 / (450e9 * ring.link_frac)
    latency_s = ring.latency_s + found.constants.collective_gap_s
    together = group_parts(found, np.array([800.0]))["all_to_all"]
    assert together[0] == pytest.approx(58 * (latency_s + 800 * sent_s))


def test_a_group_over_nodes_sums_in_three_parts() -> None:
    """By hand, Llama-3.1-70B on 16 H100: a ring of 8 within each node, an eighth of it over the network."""
    two = Scenario(model="llama-3.1-70b", accelerator="h100-sxm", tensor_parallel=16)
    load = work(model_of(two), accelerator_of(two), layout_of(two))
    states = 2 * 80 * 8192 * 2
    assert load.link_s == pytest.approx(states * 2 * 7 / 8 / 450e9)
    assert load.network_s == pytest.approx(states * 2 * 1 / 2 / 8 / 50e9)
    same = two.replace(node_devices=16)
    one = work(model_of(same), accelerator_of(same), layout_of(same))
    assert one.network_s == 0 and one.link_s == pytest.approx(states * 2 * 15 / 16 / 450e9)
    here, there = (kernels_of(model_of(s), accelerator_of(s), layout_of(s)).all_reduce for s in (same, two))
    assert there.latency_s == pytest.approx(kernels.all_reduce("nvlink4", 8).latency_s + 19.1e-6)
    assert here.latency_s == kernels.all_reduce("nvlink4", 16).latency_s


def test_a_link_that_is_the_network_is_one_node() -> None:
    """By hand: two DGX Sparks have no other link than their network, and it is counted once."""
    part = catalogue.accelerator("dgx-spark")
    assert part.node_devices == 1 and part.nodes(2) == 1


def test_halves_hide_what_travels() -> None:
    """Physics: overlapped, a step takes no longer than without, and at least what is computed; where tokens
    travel for less time than a second set of launches takes, nothing is split.
    """
    plain, halves = ranks(32, "h100-sxm"), ranks(32, "h100-sxm", two_batch_overlap="on")
    for tokens in (1, 16, 256, 4096, 16_384):
        alone, split = (step_parts(price_of(s), 0, 0, tokens) for s in (plain, halves))
        computed = sum(alone.values()) - alone["all_to_all"]
        assert computed * (1 - 1e-9) <= sum(split.values()) <= sum(alone.values()) * (1 + 1e-9)
    assert step_parts(price_of(plain), 1, 10) == step_parts(price_of(halves), 1, 10)
    long = [sum(step_parts(price_of(s), 0, 0, 16_384).values()) for s in (plain, halves)]
    assert long[1] < 0.75 * long[0]


def test_the_host_hides_nothing_that_travels() -> None:
    """By hand: what travels behind products, experts and launches is the same whatever the host takes."""
    split = ranks(32, "h200", two_batch_overlap="on")
    shown = [
        step_parts(price_of(split.replace(constants=f"step:{step_ms}")), 0, 0, 2048)["all_to_all"]
        for step_ms in (0.1, 5)
    ]
    assert shown[0] > 0 and shown[1] == pytest.approx(shown[0])


def test_links_carry_what_is_sent() -> None:
    """By hand, 32 H200 in 4 nodes, 256 tokens a rank: 24 of 32 copies leave the node, 7 go within."""
    near, far, host = links_of_step(ranks(32), 256, 256, swapped_tokens=1000)
    copies = 58 * 256 * 8 * COPY_BYTES
    assert near.bytes == pytest.approx(copies * 7 / 32) and near.byte_per_s == 450e9
    assert far.bytes == pytest.approx(copies * 24 / 32) and far.byte_per_s == 50e9
    assert far.seconds == pytest.approx(far.bytes / (0.92 * 50e9))
    assert host.bytes == pytest.approx(1000 * 61 * 576 * 2)


def test_each_kind_of_traffic_has_the_rate_of_its_own_group() -> None:
    """By hand, MI300X, a wire of 64 GB/s to each peer: two devices of a rank sum over one wire, 61 x 2 - 58
    hidden states and their rows of the head, while tokens travel over all seven.
    """
    pairs = ranks(8, "mi300x", attention_data_parallel=4)
    near = links_of_step(pairs, 256, 256)[0]
    work_of_pairs = rated(pairs).work
    summed = (61 * 2 - 58) * 256 * 7168 * 2 + 256 * 129_280 * 2 / 2
    assert near.bytes == pytest.approx(summed + 256 * work_of_pairs.exchange_link_s * 448e9)


def test_slow_links_of_ranks_are_noted() -> None:
    """By hand: tokens travel over the links of all devices, though each rank is one of them alone."""
    alone = " ".join(layout_warnings(ranks(4, "h100-pcie")))
    assert "H100-PCIe's links join 2 devices; 4 use PCIe, 64 of 300 GB/s." in alone


# --- what is held ---------------------------------------------------------------------------------


def test_ranks_hold_copies_of_all_but_experts() -> None:
    """By hand, DeepSeek-R1 on 32 devices: 256 experts of 58 layers by 32, and all else whole."""
    model = catalogue.model("deepseek-r1")
    experts = 58 * 256 * 3 * 7168 * 2048
    rest = model.total_params - experts
    head = 2 * 129_280 * 7168
    whole, device = weight_bytes(model, Layout(32, 32, "fp8", "bf16", attention_data_parallel=32))
    assert device == pytest.approx(experts / 32 + (rest - head) + head * 2, rel=1e-3)
    assert whole == weight_bytes(model, Layout(32, 32, "fp8", "bf16"))[0]
    copied = Layout(32, 32, "fp8", "bf16", attention_data_parallel=32, redundant_experts=32)
    assert weight_bytes(model, copied)[1] - device == pytest.approx(experts / 32 * 32 / 256)


@pytest.mark.parametrize(
    ("model", "devices", "copies", "spread"),
    [
        ("deepseek-r1", 32, 32, 32),
        ("deepseek-r1", 8, 1, 1),
        ("qwen3-235b-a22b", 8, 2, 8),
        ("gemma-3-27b", 16, 1, 1),
    ],
)
def test_what_is_held_adds_up(model: str, devices: int, copies: int, spread: int) -> None:
    """Oracle: the bytes of weights that memory is planned with; every part is on the whole group."""
    scenario = Scenario(
        model=model,
        accelerator="h200",
        weight_dtype="fp8",
        tensor_parallel=devices,
        expert_parallel=spread,
        attention_data_parallel=copies,
    )
    *weights, cache = held(scenario)
    device = weight_bytes(model_of(scenario), layout_of(scenario))[1]
    assert sum(part.device_bytes for part in weights) == pytest.approx(device)
    for part in (*weights, cache):
        assert part.copies * part.parts == pytest.approx(devices), part
    assert cache.device_bytes * devices == pytest.approx(memory(scenario)["kv_gb"] * 1e9)


def test_a_cache_belongs_to_a_rank() -> None:
    """By hand: latent vectors are on every device of a rank, once in a group whose ranks are devices."""
    shared, split = ranks(8, attention_data_parallel=1), ranks(8)
    assert memory(shared)["kv_bytes_per_token"] == 8 * 61 * 576 * 2
    assert memory(split)["kv_bytes_per_token"] == 61 * 576 * 2
    price = price_of(split)
    assert price.ranks == 8 and price_of(shared).ranks == 1
    assert memory(split)["kv_tokens"] == 8 * price.kv_blocks * price.kv_block_tokens
    assert price.request_limit_tokens == model_of(split).max_position
    host = split.replace(host_cache_gb=8.0)
    assert host_blocks(host, 16) == int(1e9 // (61 * 576 * 2 * 16))


# --- what a step costs ----------------------------------------------------------------------------


EXPERTS_ALONE = ("expert_compute_s", "expert_read_s", "expert_copied_s", "expert_slots")


def test_experts_see_the_tokens_of_all_ranks() -> None:
    """Invariant: of tokens alone, a rank's own table and the group's are what one group of all would pay for
    its experts; ranks wait for one another once a step.
    """
    scenario = ranks(32)
    found, alone = rated(scenario), rated(scenario.replace(attention_data_parallel=1))
    tokens = np.array([1.0, 64.0, 8192.0])
    together = group_parts(found, tokens)
    assert not np.any(sum(group_parts(alone, tokens).values()))
    whole = token_parts(alone, tokens)
    bare = alone._replace(work=alone.work._replace(**dict.fromkeys(EXPERTS_ALONE, 0.0)))
    for part in ("weights", "compute", "fixed"):
        experts = whole[part] - token_parts(bare, tokens)[part]
        assert together[part] == pytest.approx(experts, rel=1e-9, abs=1e-12)
    price = price_of(scenario)
    last = price.step.group_s.size - 1
    assert price.step.group_s[0] == 0 and last == 32_768
    beyond = group_tokens_s(price.step, np.array([last, last + 1000]))
    assert np.diff(beyond)[0] == pytest.approx(1000 * price.step.group_slope_s)


def test_a_ledger_splits_what_ranks_share() -> None:
    """Invariant: the parts of a ledger are its price, over tokens of a rank and over those of all."""
    price = price_of(ranks(16))
    assert price.ledger.headings == ("weights", "kv", "compute", "communication", "all_to_all", "fixed")
    assert price.ledger.group_s.sum(axis=0) == pytest.approx(price.step.group_s)
    steps = np.zeros(price.step.group_s.size)
    steps[100], steps[4096] = 3, 2
    total = price.ledger.group_total_s(steps).sum()
    assert total == pytest.approx(3 * price.step.group_s[100] + 2 * price.step.group_s[4096])
    assert "all_to_all" not in price_of(Scenario()).ledger.headings


def test_stated_imbalance_is_that_of_the_fullest_device() -> None:
    """By hand: 1.5 times the tokens of experts that compute, and as many copies moved; nothing where each
    device has all experts.
    """
    fair, skewed = (rated(ranks(32, expert_imbalance=times)) for times in (1.0, 1.5))
    load, own = fair.work, fair.kernels.experts
    slow = own.fill_tokens * load.expert_ratio
    many = np.array([1e6])
    seconds = [
        load.expert_compute_s * (tokens + slow) / own.peak_frac
        + load.expert_copied_s * tokens * own.copy_bytes
        for tokens in (1e6, 1.5e6)
    ]
    ratio = group_parts(skewed, many)["compute"] / group_parts(fair, many)["compute"]
    assert ratio[0] == pytest.approx(seconds[1] / seconds[0], rel=1e-6)
    whole = Scenario(model="deepseek-r1", accelerator="h200", tensor_parallel=8, weight_dtype="fp8")
    steps = [step_parts(price_of(whole.replace(expert_imbalance=t)), 64, 100) for t in (None, 2.0)]
    assert steps[0] == steps[1]


def test_drafts_of_all_ranks_meet_at_their_experts() -> None:
    """Physics: a layer that drafts has experts, too: more ranks with as many sequences take longer for them,
    and no drafting is free.
    """
    few, many = (
        step_parts(price_of(ranks(n, spec_tokens=3, acceptance_length=2.2)), 64, 1000) for n in (8, 32)
    )
    plain = step_parts(price_of(ranks(32)), 64, 1000)
    assert sum(many.values()) > sum(plain.values())
    assert many["all_to_all"] > plain["all_to_all"] and many["all_to_all"] > few["all_to_all"]


def test_wide_experts_on_h200_lose_as_published() -> None:
    """Oracle: vLLM on H200, 256 decodes of about 3,000 tokens a rank over 32, 72 and 96 devices: 1 : 0.95 :
    0.90 in tokens a device, within five points each, and 2,180 over 32 within 15%.
    """
    speeds = []
    for devices, more in ((32, 0), (72, 32), (96, 32)):
        step_s = sum(step_parts(price_of(ranks(devices, redundant_experts=more)), 256, 3000).values())
        speeds.append(256 / step_s)
    assert speeds[0] == pytest.approx(2180, rel=0.15)
    assert speeds[1] / speeds[0] == pytest.approx(0.95, abs=0.05)
    assert speeds[2] / speeds[0] == pytest.approx(0.90, abs=0.05)


@pytest.mark.parametrize(("isl", "published"), [(1024, 57_674), (2048, 54_543), (4096, 50_302)])
def test_published_prompts_lie_between_no_overlap_and_a_perfect_one(isl: int, published: float) -> None:
    """Oracle: SGLang's prompt tokens a second of a node of 8 H100, 32 ranks, two-batch overlap, experts
    balanced but for 15% (LMSYS, 2025-05-05).
    """
    found = []
    for overlap in ("off", "on"):
        scenario = ranks(
            32, "h100-sxm", two_batch_overlap=overlap, redundant_experts=32, expert_imbalance=1.15
        )
        price, prompts = price_of(scenario), 16_384 // isl
        step = price.step
        step_s = step.token_s[16_384] + step.row_s[prompts] + prompts * step.prefill_request_s
        step_s += prompts * isl**2 / 2 * step.prefill_pair_s
        step_s += float(group_tokens_s(step, np.array(32 * 16_384)))
        found.append(8 * 16_384 / step_s)
    assert found[0] < published < found[1]
    assert found[1] == pytest.approx(published, rel=0.3)


def test_wide_decodes_on_h100_lie_between_them_too() -> None:
    """Oracle: SGLang, 72 ranks of H100, 256 decodes of 2,000 tokens each: 2,785 tokens a second each."""
    wide = ranks(72, "h100-sxm", redundant_experts=32)
    speeds = [
        256 / sum(step_parts(price_of(wide.replace(two_batch_overlap=o)), 256, 2050).values())
        for o in ("off", "on")
    ]
    assert speeds[0] < 2785 < speeds[1]


# --- pools ----------------------------------------------------------------------------------------


def test_pools_have_layouts_of_their_own() -> None:
    """By hand: what a pool states is its own, the rest it shares as far as that divides its devices."""
    two = Scenario(
        model="deepseek-r1",
        accelerator="h200",
        weight_dtype="fp8",
        policy="disaggregated",
        tensor_parallel=8,
        expert_parallel=8,
        decode_tensor_parallel=32,
        decode_expert_parallel=32,
        decode_attention_data_parallel=32,
    )
    prefill, decode = prefill_of(two), decode_of(two)
    sizes = [(s.tensor_parallel, s.expert_parallel, s.attention_data_parallel) for s in (prefill, decode)]
    assert sizes == [(8, 8, 1), (32, 32, 32)]
    prices = pool_prices(two)
    assert (prices.prefill.ranks, prices.decode.ranks) == (1, 32)
    with pytest.raises(ScenarioError, match=r"decode_expert_parallel is 12, but .* 8 or 16"):
        decode_of(two.replace(decode_expert_parallel=12))


def test_sending_is_as_fast_as_measured() -> None:
    """Oracle: Mooncake's tables, four links of 50 GB/s: SGLang 2.07 ms for 49 MB and 76.78 ms for 12.6 GB,
    vLLM 0.54 ms for 20 MB and 31.65 ms for 4.5 GB.
    """
    two = Scenario(model="llama-3.1-70b", accelerator="h100-sxm", policy="disaggregated", tensor_parallel=4)
    rows = {"sglang": ((49, 2.07), (789, 6.43), (12_620, 76.78)), "vllm": ((20, 0.54), (4500, 31.65))}
    for engine, measured in rows.items():
        keys = measured_link(two.replace(engine=engine))
        for megabytes, taken_ms in measured:
            ours = keys["kv_link_latency_ms"] + megabytes / keys["kv_link_gb_per_s"]
            assert ours == pytest.approx(taken_ms, rel=0.13)
    stated = two.replace(kv_link_gb_per_s=100.0)
    assert with_measured_link(stated) is stated
    assert with_measured_link(two).kv_link_gb_per_s == pytest.approx(0.825 * 4 * 50)
    rack = two.replace(accelerator="gb200")
    assert measured_link(rack)["kv_link_gb_per_s"] == pytest.approx(0.825 * 4 * 900)


# --- what is refused or said ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attention_data_parallel": 3}, "is 3, but tensor_parallel is 8: .* Choose 2 or 4"),
        (
            {"tensor_parallel": 96, "expert_parallel": 32, "attention_data_parallel": 2},
            "48 of 96 devices .* to 3",
        ),
        (
            {"tensor_parallel": 72, "expert_parallel": 72, "attention_data_parallel": 72},
            "is 72, but DeepSeek-R1 has 256 experts, .* Choose 8, or redundant_experts=32",
        ),
        ({"redundant_experts": 3}, "256 experts and 3 redundant ones, .* redundant_experts=8"),
        ({"expert_parallel": 1, "redundant_experts": 8}, "redundant_experts is 8, but expert_parallel is 1"),
        (
            {"model": "llama-3.1-8b", "expert_parallel": 1, "attention_data_parallel": 8},
            "Llama-3.1-8B has no experts that ranks would share",
        ),
        ({"policy": "static", "attention_data_parallel": 8}, "policy is static"),
    ],
)
def test_impossible_layouts_name_possible_ones(changes: dict[str, Any], says: str) -> None:
    """The message names the value, the limit and the nearest way out."""
    layout = {"tensor_parallel": 8, "expert_parallel": 8, "attention_data_parallel": 1}
    with pytest.raises(ScenarioError, match=says):
        price_of(ranks(8, **{**layout, **changes}))


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        (ranks(8), []),
        (ranks(32), []),
        (ranks(32, "gb200"), ["All-to-alls over 32 devices are extrapolated"]),
        (ranks(8, "mi355x"), ["No all-to-all was measured over the links of MI355X"]),
        (ranks(8, expert_parallel=1), ["the tokens of all 8 ranks are gathered"]),
        (ranks(8, attention_data_parallel=2), ["No published run has 2 ranks of attention on 8 devices"]),
        (ranks(8, two_batch_overlap="on"), ["attention over long contexts would hide more"]),
        (
            ranks(32, "h200", node_link_gb_per_s=None, node_devices=8, attention_data_parallel=1),
            ["All-reduces over 32 devices in 4 nodes are extrapolated"],
        ),
        (
            ranks(512, "tpu-v6e", expert_parallel=256, attention_data_parallel=512),
            ["gathered", "network link is not known"],
        ),
    ],
)
def test_what_was_never_measured_is_said(scenario: Scenario, says: list[str]) -> None:
    """By hand: domains, links and layouts without a table or a run."""
    found = layout_warnings(scenario)
    assert len(found) == len(says)
    for words, note in zip(says, found, strict=True):
        assert words in note


def test_only_ranks_of_latent_attention_wait_for_one_another() -> None:
    """Oracle: runs of MiniMax-M2.5 and gpt-oss-120b with ranks have steps that leave no room for a wait."""

    def fixed_s(model: str, wait_ms: float) -> float:
        changes = {"model": model, "constants": f"rank_sync:{wait_ms:g}", "weight_dtype": "native"}
        return float(token_parts(rated(ranks(4, "b200", **changes)), np.array([64.0]))["fixed"][0])

    assert fixed_s("deepseek-r1", 2.0) - fixed_s("deepseek-r1", 0.0) == pytest.approx(2e-3)
    assert fixed_s("minimax-m2.5", 2.0) == fixed_s("minimax-m2.5", 0.0)
