"""Stages and contexts in parts: what a device holds and does, by hand, and what is refused."""

from __future__ import annotations

import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import DoesNotFit, memory
from sim_core.price.pools import pool_prices
from sim_core.price.price import price_of
from sim_core.price.steps.one_step import links_of_step, step_parts
from sim_core.price.work import layout_of, layout_warnings, weight_bytes, work
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of

LARGE = Scenario(model="llama-3.1-70b", tensor_parallel=2)
LATENT = Scenario(model="deepseek-v3", accelerator="h200", tensor_parallel=8, weight_dtype="fp8")


def of(scenario):
    return work(model_of(scenario), accelerator_of(scenario), layout_of(scenario))


def test_one_stage_is_as_without():
    """The work of one stage, and of contexts in one part, is that of a group, bit for bit."""
    found = of(LARGE)
    assert found.send_s == found.send_link_s == found.context_collectives == found.context_link_s == 0
    assert price_of(LARGE).stages == 1


def test_a_stage_holds_its_share_of_the_layers():
    """By hand: 80 layers on 4 stages are 20 each, with a quarter of the work; the LM head, 128,256 x 8192
    values in bf16, is that of the last stage alone, over two devices 1.05 GB.
    """
    whole, stage = of(LARGE), of(LARGE.replace(pipeline_parallel=4))
    for name in ("layers", "dense_read_s", "dense_compute_s", "context_read_s", "collectives", "link_s"):
        assert getattr(stage, name) == pytest.approx(getattr(whole, name) / 4), name
    assert stage.head_read_s == whole.head_read_s
    total, device = weight_bytes(model_of(LARGE), layout_of(LARGE.replace(pipeline_parallel=4)))
    head = 128_256 * 8192 * 2 / 2
    alone = weight_bytes(model_of(LARGE), layout_of(LARGE))
    assert total == alone[0]
    assert device == pytest.approx((alone[1] - 2 * head) / 4 + head)


def test_the_largest_stage_sets_memory_and_pace():
    """By hand: 61 layers on 4 stages are 16 in the largest, 16 / 61 of the layers' time and KV cache."""
    stage = of(LATENT.replace(pipeline_parallel=4))
    assert stage.layers == pytest.approx(16)
    assert memory(LATENT.replace(pipeline_parallel=4))["kv_bytes_per_token"] == pytest.approx(
        memory(LATENT)["kv_bytes_per_token"] * 4 * 16 / 61
    )
    assert "61 layers do not divide among 4 stages: the largest has 16" in " ".join(
        layout_warnings(LATENT.replace(pipeline_parallel=4))
    )


def test_devices_of_all_stages_count():
    """By hand: 2 devices x 4 stages x 3 replicas, and their price."""
    scenario = LARGE.replace(pipeline_parallel=4, replicas=3)
    assert scenario.accelerators == 24
    assert price_of(scenario).accelerators == 24
    pools = LARGE.replace(policy="disaggregated", prefill_workers=2, decode_workers=1)
    assert pools.replace(decode_pipeline_parallel=4).accelerators == 2 * 2 + 2 * 4
    assert pool_prices(pools.replace(decode_pipeline_parallel=4)).decode.accelerators == 8


def test_hidden_states_are_sent_within_a_node_or_over_the_network():
    """By hand: 8192 values and as many residuals in bf16 are 32,768 bytes a token, half of it from each of
    two devices over 450 GB/s, and gathered; over 50 GB/s where 16 devices are two nodes of 8.
    """
    near = of(LARGE.replace(pipeline_parallel=4))
    assert near.send_link_s == pytest.approx(32_768 / 2 / 450e9 * 2)
    far = of(LARGE.replace(pipeline_parallel=8))
    assert far.send_link_s == pytest.approx(32_768 / 2 / 50e9 + 32_768 / 2 / 450e9)
    assert far.send_s > near.send_s > 0
    assert "span several nodes of 8" in " ".join(layout_warnings(LARGE.replace(pipeline_parallel=8)))


@pytest.mark.parametrize("parts", [2, 8])
def test_a_latent_cache_is_divided_among_its_copies(parts):
    """By hand: each of 8 devices has a copy of a latent cache; in N parts each holds and reads 1 / N of it,
    for N times as many heads, and exchanges queries and outputs twice a layer.
    """
    whole, part = of(LATENT), of(LATENT.replace(context_parallel=parts))
    assert part.context_read_s == pytest.approx(whole.context_read_s / parts)
    assert part.context_collectives == 2 * 61
    assert part.pair_compute_s == whole.pair_compute_s
    token_bytes = memory(LATENT.replace(context_parallel=parts))["kv_bytes_per_token"]
    assert token_bytes == pytest.approx(memory(LATENT)["kv_bytes_per_token"] / parts)
    heads, values = 128, (512 + 64) + 512
    sent = (parts - 1) / 8 * heads * values * 2 * 61
    assert part.context_link_s == pytest.approx(sent / 450e9)


def test_contexts_in_parts_pay_where_they_are_long():
    """Reading a long context takes most of a decode, exchanging a few rows does not: faster at 100,000
    tokens, not at 100.
    """
    whole, parts = price_of(LATENT), price_of(LATENT.replace(context_parallel=8))
    long, short = (
        [sum(step_parts(price, 16, tokens).values()) for price in (whole, parts)] for tokens in (100_000, 100)
    )
    assert long[1] < 0.6 * long[0]
    assert short[1] > short[0]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"pipeline_parallel": 64}, "has 32 layers, of which each stage needs one. Choose 32 or less"),
        ({"context_parallel": 2, "tensor_parallel": 8}, "Choose 1, or raise tensor_parallel to 16"),
        (
            {
                "context_parallel": 4,
                "model": "deepseek-v3",
                "tensor_parallel": 8,
                "attention_data_parallel": 8,
            },
            "with 1 device to a rank 1 device holds the same .* Choose 1, or raise tensor_parallel to 32",
        ),
        ({"context_parallel": 3, "tensor_parallel": 32}, "4 devices hold the same KV cache"),
        ({"pipeline_parallel": 2, "policy": "static"}, "Choose policy=chunked or prefill_first"),
        ({"pipeline_parallel": 2, "spec_tokens": 2}, "Set spec_tokens to 0, or pipeline_parallel to 1"),
        (
            {"prefill_pipeline_parallel": 2, "spec_tokens": 2, "policy": "disaggregated"},
            "Set spec_tokens to 0, or prefill_pipeline_parallel to 1",
        ),
        ({"pipeline_parallel": 2, "step_profile": "1:5,100:10"}, "Set pipeline_parallel to 1"),
        (
            {"pipeline_parallel": 2, "model": "deepseek-v3", "tensor_parallel": 8}
            | {"attention_data_parallel": 8},
            "ranks of attention are not simulated in stages",
        ),
    ],
)
def test_impossible_layouts_are_refused_with_the_way_out(keys, words):
    """Each message names the thing, its value, the limit and what is possible."""
    with pytest.raises(ScenarioError, match="|".join([words.replace("(", "\\(")])):
        price_of(Scenario(**keys))


def test_what_does_not_fit_one_group_is_advised_stages():
    """Devices of 1.6 GB, which hold neither 1/32 of 16 GB of weights beside a step nor, with 32 heads, less
    of it: more stages do.
    """
    with pytest.raises(DoesNotFit, match=r"[Rr]aise pipeline_parallel to at least"):
        price_of(Scenario(tensor_parallel=32, hbm_gb=1.6))


def test_stages_of_either_pool_are_noted():
    """By hand: 61 layers on 4 stages are 16 in the largest, whichever pool has them."""
    split = LATENT.replace(policy="disaggregated")
    for pool in ("prefill", "decode"):
        notes = layout_warnings(split.replace(**{f"{pool}_pipeline_parallel": 4}))
        assert sum("the largest has 16" in note for note in notes) == 1
        assert sum("span several nodes of 8" in note for note in notes) == 1
        assert sum("go by rounds" in note for note in notes) == (pool == "decode")


def test_stages_of_several_nodes_need_a_network():
    """By hand: 64 stages of 8 TPUs v5e are two of its pods of 256, joined by an unknown network."""
    notes = layout_warnings(LARGE.replace(accelerator="tpu-v5e", tensor_parallel=8, pipeline_parallel=64))
    assert any("network link is not known" in note for note in notes)


def test_links_carry_what_stages_hand_on():
    """By hand, 2 stages of 8 H200 in 2 nodes, 256 tokens: each device sends an eighth of hidden states and
    residual sums, 2 x 2 bytes x 7168, over the network, and gathers the rest within its node.
    """
    one, two = links_of_step(LATENT, 256, 1), links_of_step(LATENT.replace(pipeline_parallel=2), 256, 1)
    sent = 256 * 4 * 7168
    assert one[1].bytes == 0 and two[1].bytes == pytest.approx(sent / 8)
    head = one[0].bytes - of(LATENT).link_s * 256 * 450e9
    layers = of(LATENT.replace(pipeline_parallel=2)).link_s * 256 * 450e9
    assert two[0].bytes == pytest.approx(layers + head + sent * 7 / 8)


def test_links_carry_what_contexts_in_parts_exchange():
    """By hand: rows times what each exchanges, beside what the group sends anyway."""
    parts = LATENT.replace(context_parallel=8)
    more = links_of_step(parts, 64, 64)[0].bytes - links_of_step(LATENT, 64, 64)[0].bytes
    assert more == pytest.approx(64 * of(parts).context_link_s * 450e9) and more > 0


def test_replicas_of_stages_are_dealt_to_in_turn():
    """What a router does not do is said."""
    notes = layout_warnings(LARGE.replace(pipeline_parallel=2, replicas=2))
    assert any("dealt to them in turn" in note for note in notes)


def test_every_stage_exchanges_contexts_in_parts():
    """By hand, 2 stages of 8 H200: a token meets two collectives in each of 61 layers, of which the largest
    stage has 31, and the LM head once; so beside one group it takes 1/61 of them more, and not half.
    """
    one, two = (price_of(LATENT.replace(context_parallel=8, pipeline_parallel=p)) for p in (1, 2))
    lone = [step_parts(price, 1, 5000)["communication"] for price in (one, two)]
    without = [step_parts(price_of(LATENT.replace(pipeline_parallel=p)), 1, 5000) for p in (1, 2)]
    more = [found - plain["communication"] for found, plain in zip(lone, without, strict=True)]
    assert more[1] == pytest.approx(more[0] * 62 / 61)


def test_every_stage_reads_the_states_of_its_layers():
    """By hand, 48 layers of Qwen3-Next on 2 stages: each reads half of the states, together all."""
    linear = Scenario(model="qwen3-next-80b-a3b", accelerator="h200", tensor_parallel=2)
    states = [step_parts(price_of(linear.replace(pipeline_parallel=p)), 1, 0)["kv"] for p in (1, 2)]
    assert states[0] > 0 and states[1] == pytest.approx(states[0])


def test_a_step_passes_all_stages_and_meets_the_head_once():
    """By hand: 4 stages take four times a stage's step, less three times what the last one does alone."""
    price = price_of(LARGE.replace(pipeline_parallel=4))
    stage_s = price.step.token_s[8] + price.step.row_s[8] + 8 * 1000 * price.step.decode_context_s
    expected = 4 * stage_s - 3 * price.step.end_s[8]
    assert sum(step_parts(price, 8, 1000).values()) == pytest.approx(expected)
    assert 0 < price.step.end_s[8] == price.step.row_s[8]
