"""What an engineer of LLM serving expects of the curves: physics, scaling laws, and what binds.

Oracle: the bytes and FLOP of a datasheet, dimensional analysis, conservation; each stated in its test.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sim_core import catalogue, load_scenario
from sim_core.catalogue.models import COMPRESSED
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.price.price import price_of
from sim_core.price.steps.floor import floor_step_s
from sim_core.price.steps.one_step import step_parts
from sim_core.results.metrics import point_of
from sim_core.scenario.request_lists import parse_request_list, write_request_list
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.frontier import frontier
from sim_core.sweep.saturation import saturation_per_s
from tests.loops import each
from tests.runs import make_cost, run_kernel

SCENARIOS = sorted(catalogue.preset_ids("scenarios"))
SPECS = ("hbm_gb_per_s", "bf16_tflop_per_s", "fp8_tflop_per_s", "link_gb_per_s")
POLICIES = ("chunked", "prefill_first", "static")
SECOND = make_cost(token_s=[0.0] + [1.0] * 64)  # every step takes a second


def point(scenario, **changes):
    """Return the metrics of a run."""
    return point_of(run(scenario.replace(**changes)))


def at_load(scenario, load):
    """Return the metrics of a run at a share of the rate that saturates the scenario."""
    return point(scenario, arrival_per_s=load * saturation_per_s(scenario))


def fitting(accelerator, **changes):
    """Return one scenario for each model, on as few devices of a kind as hold it in bf16."""
    found = []
    for model in sorted(catalogue.preset_ids("models")):
        for devices in (1, 2, 4, 8, 16):
            scenario = Scenario(model=model, accelerator=accelerator, tensor_parallel=devices, **changes)
            try:
                price_of(scenario)
            except ScenarioError:
                continue
            found.append(scenario)
            break
    return found


# --- the datasheet ----------------------------------------------------------------------------------


@pytest.mark.parametrize("accelerator", ["h100-sxm", "b200", "mi300x", "rtx-4090"])
def test_one_user_decodes_at_the_speed_of_memory(accelerator):
    """Oracle: bytes of weights and cache / bandwidth, counted from the dimensions (`cost.floor_step_s`).

    At datasheet peaks one user's TPOT is that floor and a little: up to 4% for collectives and per-block
    maxima; more where a device holds what the floor counts once, KV heads, down-projections, indices and the
    way into the space of experts, on many devices. With typical constants it is 1.1 to 8 times the floor of
    one device: fixed latencies weigh most where few experts of a small model are read.
    """
    keys = {"arrivals": "closed", "concurrency": 1, "requests": 4, "warmup_frac": 0.0, "max_batch": 16}
    lengths = {"prompt_tokens": 500, "prompt_cv": 0.0, "output_tokens": 60, "output_cv": 0.0}
    scenarios = fitting(accelerator, token_budget=2048, **keys, **lengths)
    assert len(scenarios) > 15
    for scenario in scenarios:
        model = catalogue.model(scenario.model)
        floor_ms = 1e3 * np.mean([floor_step_s(scenario, 1, 500 + k) for k in range(59)])
        ratio = point(scenario, calibration="datasheet")["tpot_ms_p50"] / floor_ms
        on_all = model.latent or model.main.kind in COMPRESSED or model.latent_expert_dim
        held_once = scenario.tensor_parallel <= 8 and not on_all
        assert 1 - 1e-9 <= ratio <= (1.2 if held_once else 2.0), scenario.model
        if scenario.tensor_parallel == 1:
            assert ratio <= 1.04, scenario.model
            assert 1.1 < point(scenario)["tpot_ms_p50"] / floor_ms < 8, scenario.model


@each(SCENARIOS)
def test_nothing_beats_the_datasheet(name):
    """Oracle: peaks. Less than the time of its FLOP and bytes no step takes, so typical steps take longer."""
    scenario = load_scenario(name, requests=400)
    ideal, typical = (price_of(scenario.replace(calibration=c)).step for c in ("datasheet", "typical"))
    assert (typical.token_s >= ideal.token_s).all()
    assert (typical.row_s >= ideal.row_s).all()
    for rate in ("decode_context_s", "window_context_s", "prefill_pair_s", "window_pair_s"):
        assert getattr(typical, rate) >= getattr(ideal, rate), rate
    for calibration in ("datasheet", "typical"):
        found = run(scenario.replace(calibration=calibration), log=True)
        for row in found.steps().to_dict("records")[:200]:
            if not row["prefill_tokens"]:
                # of contexts under and over a window the mean says too much; none is a bound, too
                context = 0 if ideal.window_tokens else row["context_tokens"] / row["decodes"]
                floor_s = floor_step_s(scenario, row["decodes"], context)
                assert row["duration_s"] / row["count"] >= floor_s * (1 - 1e-9)


def twice_as_often(text):
    """Return a request list with all arrivals at half their times."""
    if not text:
        return ""
    rows = parse_request_list(text)
    return write_request_list((arrival_s / 2, prompt, output) for arrival_s, prompt, output in rows)


@each(list(itertools.product(SCENARIOS, POLICIES)))
def test_everything_twice_as_fast_halves_every_latency(name, policy):
    """Oracle: dimensional analysis. At datasheet peaks no time is fixed: with memory, arithmetic, links and
    the host link twice as fast, and requests twice as often, all times halve and all rates double."""
    ready = load_scenario(name)
    if policy == "static" and (ready.turns > 1 or ready.spec_tokens):
        return  # refused
    scenario = load_scenario(name, policy=policy, calibration="datasheet", requests=300)
    device = catalogue.accelerator(scenario.accelerator)
    specs = ("bf16_tflop_per_s", "fp8_tflop_per_s", "fp4_tflop_per_s")
    specs += ("hbm_gb_per_s", "link_gb_per_s", "pcie_gb_per_s")
    own = {spec: getattr(scenario, spec) or getattr(device, spec) for spec in specs}
    twice = {spec: 2 * value for spec, value in own.items() if value}
    slow = point(scenario)
    fast = point(
        scenario,
        **twice,
        arrival_per_s=2 * scenario.arrival_per_s,
        batch_wait_ms=scenario.batch_wait_ms / 2,
        think_s=scenario.think_s / 2,
        request_list=twice_as_often(scenario.request_list),
    )
    for metric in ("ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "tpot_ms_p99", "e2e_ms_mean", "itl_ms_p99"):
        assert fast[metric] == pytest.approx(slow[metric] / 2, rel=1e-6), metric
    for metric in ("output_tok_per_s", "request_per_s"):
        assert fast[metric] == pytest.approx(slow[metric] * 2, rel=1e-6), metric
    for metric in ("mfu_frac", "mbu_frac", "mean_batch", "kv_used_frac", "share_compute"):
        assert fast[metric] == pytest.approx(slow[metric], rel=1e-6), metric
    assert fast["limit"] == slow["limit"]


@each(list(itertools.product(SCENARIOS, SPECS)))
def test_a_faster_part_slows_no_step(name, spec):
    """Oracle: more bandwidth or more FLOP/s can only shorten a step, whatever it holds."""
    scenario = load_scenario(name)
    value = getattr(scenario, spec) or getattr(catalogue.accelerator(scenario.accelerator), spec)
    if not value:
        return
    for calibration in ("typical", "datasheet"):
        slow, fast = (
            price_of(scenario.replace(calibration=calibration, **{spec: factor * value})).step
            for factor in (1, 2)
        )
        for name_ in slow._fields:
            if name_ not in ("window_tokens", "paces"):
                assert (
                    np.asarray(getattr(fast, name_)) <= np.asarray(getattr(slow, name_)) * (1 + 1e-12)
                ).all()


# --- scaling out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "accelerator"), [("llama-3.1-8b", "h100-sxm"), ("llama-3.1-70b", "mi300x")]
)
def test_more_devices_shorten_a_step_and_waste_some_of_it(model, accelerator):
    """Oracle: Amdahl. Shared matrices shrink with the devices, collectives and fixed latencies do not: each
    doubling shortens a decode step, but by less than half; the share of communication grows, or stays where
    a group twice as large has twice the wires (a mesh)."""
    times_s, shares = [], []
    for devices in (1, 2, 4, 8):
        scenario = Scenario(model=model, accelerator=accelerator, tensor_parallel=devices, token_budget=2048)
        parts = step_parts(price_of(scenario.replace(kv_memory_frac=0.95)), 32, 1000)
        times_s.append(sum(parts.values()))
        shares.append(parts["communication"] / times_s[-1])
    ratios = np.divide(times_s[1:], times_s[:-1])
    assert ((ratios > 0.5) & (ratios < 1)).all()
    assert shares[0] == 0
    assert shares[1] > 0 and (np.diff(shares) > (-0.01 if accelerator == "mi300x" else 0)).all()


def test_tensor_parallelism_over_a_slow_link_binds_by_communication():
    """Oracle: 8 devices over PCIe: per token and layer two all-reduces move far more time than they save."""
    scenario = Scenario(accelerator="rtx-4090", arrivals="closed", concurrency=64, requests=500)
    table = frontier(scenario, {"tensor_parallel": [2, 4, 8]})
    assert table["limit"].iloc[-1] == "communication"
    per_device = table["output_tok_per_s_per_accelerator"]
    assert (np.diff(per_device[1:]) < 0).all()


@pytest.mark.parametrize("router", ["least_loaded", "round_robin"])
def test_replicas_add_up(router):
    """Oracle: additivity. Four replicas at four times the rate do four times as much; 3% for chance."""
    one = point(Scenario(requests=3000, arrival_per_s=10.0))
    four = point(Scenario(requests=12_000, arrival_per_s=40.0, replicas=4, router=router))
    assert four["output_tok_per_s"] == pytest.approx(4 * one["output_tok_per_s"], rel=0.03)
    assert four["mean_batch"] == pytest.approx(4 * one["mean_batch"], rel=0.06)
    assert four["tpot_ms_p50"] == pytest.approx(one["tpot_ms_p50"], rel=0.05)


def test_a_router_that_looks_keeps_the_tail_short():
    """Oracle: joining the shorter queue beats dealing in turn where queues form. Mean of 5 seeds."""
    scenario = Scenario(replicas=4, max_batch=32, requests=4000)
    per_s = 0.92 * saturation_per_s(scenario)
    p99 = {
        router: np.mean(
            [point(scenario, arrival_per_s=per_s, seed=s, router=router)["ttft_ms_p99"] for s in range(5)]
        )
        for router in ("least_loaded", "round_robin")
    }
    assert p99["least_loaded"] < 0.7 * p99["round_robin"]


# --- curves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "gemma-3-12b", "qwen3-30b-a3b"])
def test_more_users_more_throughput_less_each(model):
    """Oracle: sharing. Until the batch or the cache is full, each doubling of the users adds throughput, and
    costs every user a little speed; it never doubles."""
    scenario = Scenario(model=model, tensor_parallel=4, arrivals="closed", requests=600)
    table = frontier(scenario, {"concurrency": [1, 2, 4, 8, 16, 32, 64, 128]})
    gain = table["output_tok_per_s"].to_numpy()[1:] / table["output_tok_per_s"].to_numpy()[:-1]
    assert ((gain > 1.0) & (gain <= 2.0)).all()
    assert (np.diff(table["tpot_ms_p50"]) > 0).all()
    assert table["on_frontier"].all()


def test_longer_prompts_and_more_load_take_longer():
    """Oracle: work. With the same requests a p50 of TTFT grows with the prompts, a TPOT with the load."""
    prompts = frontier(Scenario(arrival_per_s=3.0), {"prompt_tokens": [250, 500, 1000, 2000, 4000]})
    assert (np.diff(prompts["ttft_ms_p50"]) > 0).all()
    loads = frontier(Scenario(), {"load_frac": [0.1, 0.3, 0.5, 0.7, 0.9]})
    assert (np.diff(loads["tpot_ms_p50"]) > 0).all()
    assert (np.diff(loads["mean_batch"]) > 0).all()


def test_bursts_cost_time_to_first_token():
    """Oracle: queueing. At one rate, gaps that vary more make longer queues. Mean of 5 seeds."""
    scenario = Scenario(arrivals="gamma", requests=3000)
    per_s = 0.7 * saturation_per_s(scenario)
    p99 = [
        np.mean(
            [point(scenario, arrival_per_s=per_s, arrival_cv=cv, seed=s)["ttft_ms_p99"] for s in range(5)]
        )
        for cv in (0.1, 1.0, 2.0, 4.0)
    ]
    assert (np.diff(p99) > 0).all()
    assert p99[-1] > 5 * p99[0]


def test_offline_is_the_most_an_engine_does():
    """Oracle: MLPerf's order: without limits and with all work at hand, throughput is highest."""
    offline = load_scenario("mlperf-like-offline-llama2-70b", requests=4000)
    server = load_scenario("mlperf-like-server-llama2-70b", requests=4000)
    most = point(offline)["output_tok_per_s"]
    assert at_load(server, 0.9)["output_tok_per_s"] < most
    assert point(offline, max_batch=64)["output_tok_per_s"] < most


def test_a_lower_precision_is_faster():
    """Oracle: half the bytes, and on these devices twice the FLOP/s."""
    scenario = Scenario(arrivals="closed", concurrency=32, requests=400, accelerator="b200")
    tpot = [point(scenario, weight_dtype=dtype)["tpot_ms_p50"] for dtype in ("bf16", "fp8", "fp4")]
    assert tpot[0] > tpot[1] > tpot[2] > 0.25 * tpot[0]
    cached = point(scenario, kv_dtype="fp8")
    assert cached["share_kv"] < point(scenario)["share_kv"]


# --- policies ---------------------------------------------------------------------------------------


def test_whole_prompts_interrupt_decodes_and_small_chunks_do_not():
    """Oracle: Sarathi-Serve's observation: a prompt of 16,000 tokens in a step of its own stalls all others;
    cut to 512 tokens a step, it costs each step little, and itself more time to the first token."""
    scenario = load_scenario("prefill-interrupts-decode", requests=2000)
    scenario = scenario.replace(arrival_per_s=0.85 * saturation_per_s(scenario))
    whole = point(scenario, policy="prefill_first")
    cut = point(scenario, policy="chunked", token_budget=512)
    assert whole["itl_ms_p99"] > 1.5 * cut["itl_ms_p99"]
    assert cut["ttft_ms_p99"] > whole["ttft_ms_p99"]
    steps = [
        run(scenario.replace(policy=p, token_budget=b), itl_max=True)
        for p, b in (("prefill_first", 16_384), ("chunked", 512))
    ]
    longest = [found.itl_max_s[200:].max() for found in steps]
    assert longest[0] > 5 * longest[1]


def test_smaller_chunks_smooth_decodes_and_delay_prompts():
    """Oracle: the trade-off of the token budget: p99 of ITL falls with it, p50 of TTFT rises."""
    scenario = load_scenario("chat-and-documents", requests=2000)
    table = frontier(scenario, {"token_budget": [8192, 2048, 1024, 512]})
    assert (np.diff(table["itl_ms_p99"]) < 0).all()
    assert (np.diff(table["ttft_ms_p50"]) > 0).all()


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_static_batches_wait_longest(load):
    """Oracle: Orca's observation: who comes late waits for a whole batch. At one rate, below what static
    batches sustain, TTFT is by far the longest, and every policy answers all requests alike."""
    scenario = load_scenario("static-batching", requests=1500)
    per_s = load * saturation_per_s(scenario)
    found = {policy: point(scenario, policy=policy, arrival_per_s=per_s) for policy in POLICIES}
    for policy in ("chunked", "prefill_first"):
        assert found["static"]["ttft_ms_p50"] > 5 * found[policy]["ttft_ms_p50"]
        assert found["static"]["ttft_ms_p99"] > 5 * found[policy]["ttft_ms_p99"]
        assert found[policy]["request_per_s"] == pytest.approx(found["static"]["request_per_s"], rel=0.05)


def test_continuous_batching_sustains_more_than_static():
    """Oracle: Orca and vLLM: no slot is held by a finished request, nothing is padded: several times more."""
    static, chunked = (saturation_per_s(load_scenario("static-batching", policy=p)) for p in POLICIES[::-2])
    assert chunked > 2.5 * static


# --- the KV cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_preemption_loses_nothing(policy, preemption):
    """Oracle: conservation. Every token is made; a recomputed prompt is computed again, pair by pair; what
    goes to the host comes back, so twice its tokens move; blocks in use never exceed the cache."""
    scenario = load_scenario("kv-pressure", policy=policy, preemption=preemption, token_budget=32_768)
    scenario = scenario.replace(arrivals="offline", requests=150)
    found = run(scenario, log=True)
    assert np.isfinite(found.finished_s).all()
    assert found.preemptions.sum() > 0
    assert found.engine.kv_blocks_peak <= found.price.kv_blocks
    usage = found.engine.usage
    once = float((found.prompt_tokens.astype(float) ** 2).sum() / 2)
    if preemption == "swap":
        assert usage.prefill_pairs == pytest.approx(once, rel=1e-12)
        assert usage.swapped_tokens > 0
        assert usage.swapped_tokens % 2 == 0
    else:
        assert usage.prefill_pairs > once
        assert usage.swapped_tokens == 0


def test_a_full_cache_binds_and_more_memory_frees():
    """Oracle: capacity. Some 32 requests of 12,000 + 1,000 tokens fit; 48 clients keep it full and preempt.
    With twice the room (an fp8 cache) nothing of it is left. If first chunks are let in, far more is."""
    scenario = load_scenario("kv-pressure")
    tight, roomy = point(scenario), point(scenario, kv_dtype="fp8")
    assert tight["limit"] == "kv_capacity"
    assert 10 < tight["preemptions"] < 100
    early = point(scenario, admission="first_chunk")
    assert early["preemptions"] > 1000
    assert early["output_tok_per_s"] < 0.6 * tight["output_tok_per_s"]
    assert tight["kv_used_frac"] > 0.95
    assert roomy["limit"] != "kv_capacity"
    assert roomy["preemptions"] == 0
    assert roomy["output_tok_per_s"] > tight["output_tok_per_s"]


def test_recomputing_costs_more_than_swapping_here():
    """Oracle: 12,000 tokens of KV cache, 131 kB each, take 25 ms over a 64 GB/s host link; their prompt takes
    over 200 ms to compute. So swapping keeps throughput where recomputing loses a third of it, if requests
    are admitted before all of their prompt fits."""
    scenario = load_scenario("kv-pressure", admission="first_chunk")
    ample = point(scenario, concurrency=24)["output_tok_per_s"]
    assert point(scenario, preemption="swap")["output_tok_per_s"] > 0.9 * ample
    assert point(scenario, preemption="recompute")["output_tok_per_s"] < 0.7 * ample


def test_windows_and_latents_spare_the_cache():
    """Oracle: layer counts: of 48 layers of Gemma-3-12B, 40 see a window. DeepSeek's latent cache has 576
    values a layer, Llama-3.1-405B's has 8 heads x 128 x 2 = 2,048, in 126 layers instead of 61."""
    windowed = price_of(Scenario(model="gemma-3-12b", max_batch=16)).step
    assert windowed.window_tokens == 1024
    assert windowed.window_context_s == pytest.approx(5 * windowed.decode_context_s)
    latent = memory(Scenario(model="deepseek-r1", tensor_parallel=16))["kv_bytes_per_token"] / 16
    heads = memory(Scenario(model="llama-3.1-405b", tensor_parallel=8, weight_dtype="fp8"))
    assert latent == 576 * 61 * 2
    assert heads["kv_bytes_per_token"] == 2048 * 126 * 2


# --- what binds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"arrivals": "closed", "concurrency": 1}, "weights"),
        ({"arrivals": "closed", "concurrency": 200}, "compute"),
        ({"prompt_tokens": 100, "output_tokens": 2000, "arrivals": "closed", "concurrency": 250}, "kv"),
        ({"arrivals": "closed", "concurrency": 200, "max_batch": 64}, "queueing"),
        ({"arrivals": "offline", "max_batch": 32}, "queueing"),
        ({"policy": "static", "arrivals": "offline", "max_batch": 32}, "queueing"),
        ({"policy": "static", "arrivals": "offline", "max_batch": 512}, "kv_capacity"),
        ({"prompt_tokens": 9000, "arrivals": "offline"}, "kv_capacity"),
        ({"prompt_tokens": 9000, "arrivals": "closed", "concurrency": 8}, "compute"),
        # some 2.5 GB at 8 TB/s take less time than the launches of 18 layers
        (
            {"model": "gemma-2b", "weight_dtype": "fp8", "arrivals": "closed", "concurrency": 1}
            | {"accelerator": "b200"},
            "fixed",
        ),
        (
            {"accelerator": "rtx-4090", "tensor_parallel": 8, "arrivals": "offline", "max_batch": 1024},
            "communication",
        ),
        # Prompts fill the budget of every step: the queue grows for want of arithmetic, not of memory.
        ({"prompt_tokens": 4000, "output_tokens": 4, "arrival_per_s": 30.0}, "compute"),
        ({"prompt_tokens": 4000, "output_tokens": 4, "arrival_per_s": 30.0, "token_budget": 1024}, "compute"),
        # Steps of 64 tokens read the weights for few of them; the same requests with more in a step are
        # bound by arithmetic.
        (
            {"prompt_tokens": 2000, "arrivals": "closed", "concurrency": 60, "token_budget": 64},
            "token_budget",
        ),
        ({"prompt_tokens": 2000, "arrivals": "closed", "concurrency": 60}, "compute"),
        (
            {"prompt_tokens": 4000, "output_tokens": 4, "arrival_per_s": 30.0, "policy": "prefill_first"},
            "compute",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_binds(changes, limit):
    """Oracle: what would help: memory bandwidth, FLOP/s, places in the batch, room for the cache."""
    assert point(Scenario(requests=1000, **changes))["limit"] == limit


def test_the_part_that_binds_is_the_part_that_helps():
    """Oracle: experiment. Doubling the bandwidth helps one user most, doubling FLOP/s many short answers."""
    for users, answer, limit in ((1, 250, "weights"), (200, 50, "compute")):
        scenario = Scenario(arrivals="closed", concurrency=users, output_tokens=answer, requests=1000)
        base = point(scenario)
        faster_memory = point(scenario, hbm_gb_per_s=6700.0)["output_tok_per_s"]
        arithmetic = point(scenario, bf16_tflop_per_s=1978.0)["output_tok_per_s"]
        assert base["limit"] == limit
        assert (faster_memory > arithmetic) == (limit == "weights")
        assert max(faster_memory, arithmetic) > 1.2 * base["output_tok_per_s"]


def blocked(arrival_s, prompts, outputs, **rules):
    """Return the time in which the head of the queue waited for a place and for KV blocks [s]."""
    usage = run_kernel(SECOND, arrival_s, prompts, outputs, whole=True, **rules).usage
    return usage.batch_blocked_s, usage.kv_blocked_s


@pytest.mark.parametrize("policy", POLICIES)
def test_waiting_for_a_place_by_hand(policy):
    """Oracle: by hand. One place; the first request holds it from 0 to 3 s, the second arrives at 0.5 s."""
    assert blocked([0.0, 0.5], [1, 1], [3, 3], policy=policy, max_running=1) == (2.5, 0.0)


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_waiting_for_blocks_by_hand(policy):
    """Oracle: by hand. 6 blocks of a token; the first prompt holds 4 of them from 0 to 2 s (5 in its second
    step), the second, of 4 tokens, arrives at 0.5 s."""
    rules = {"policy": policy, "kv_blocks": 6, "kv_block_tokens": 1}
    assert blocked([0.0, 0.5], [4, 4], [2, 2], **rules) == (0.0, 1.5)


def test_a_static_batch_waits_for_blocks_by_hand():
    """Oracle: by hand. Two requests at once, blocks for one: the second waits for the 2 s of the first."""
    rules = {"policy": "static", "max_running": 2, "kv_blocks": 6, "kv_block_tokens": 1}
    assert blocked([0.0, 0.0], [4, 4], [2, 2], **rules) == (0.0, 2.0)


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_waiting_for_the_budget_is_not_blocked(policy):
    """Oracle: by hand. Room for all; four prompts of 8 tokens take turns in steps of 8 tokens."""
    rules = {"policy": policy, "token_budget": 8, "max_running": 4}
    assert blocked([0.0] * 4, [8] * 4, [1] * 4, **rules) == (0.0, 0.0)
