"""What drafts cost: verification as tokens, drafting as steps, weights and KV cache of who drafts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sim_core.catalogue.models import own_text
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.price.parts import Rates
from sim_core.price.price import price_of
from sim_core.price.speculation import chance, geometric, speculation_of
from sim_core.price.step_cost import TOKEN, pace_at
from sim_core.price.steps import shapes
from sim_core.price.steps.floor import floor_step_s
from sim_core.price.steps.one_step import step_parts
from sim_core.price.tables import NEEDS
from sim_core.price.work import Drafter, draft_model
from sim_core.scenario.scenario import Scenario, model_of

BASE = Scenario(model="llama-3.1-70b", tensor_parallel=4)
R1 = Scenario(model="deepseek-r1", accelerator="h200", tensor_parallel=8, weight_dtype="native")


def drafted(scenario, drafts=3, length=2.4, **changes):
    return scenario.replace(spec_tokens=drafts, acceptance_length=length, **changes)


def step_s(scenario, decodes, context=1000, chunk=0):
    return sum(step_parts(price_of(scenario), decodes, context, chunk).values())


@pytest.mark.parametrize("scenario", [BASE, R1])
def test_ngrams_cost_what_the_tokens_and_rows_they_verify_cost(scenario):
    """Oracle: the same tokens and rows of a step without drafts; of the host each sequence twice."""
    plain, price = price_of(scenario), price_of(drafted(scenario, draft="ngram"))
    np.testing.assert_array_equal(price.step.token_s, plain.step.token_s)
    for decodes in (1, 16, 60):
        rows = 4 * decodes
        head_s = price.step.row_s[decodes] - plain.step.row_s[rows]
        host_s = (price.ledger.row_s[-1, decodes], plain.ledger.row_s[-1, decodes])
        assert host_s[0] == pytest.approx(2 * host_s[1])
        assert head_s == pytest.approx(host_s[0] - plain.ledger.row_s[-1, rows], abs=1e-12)


def test_drafts_one_by_one_take_a_pass_each():
    """Oracle: differences; with one draft more, a step takes one pass of the layer and of the head more, and
    the verification of one token more.
    """
    by_look_up = [step_s(drafted(BASE, drafts, 1.0, draft="ngram"), 8) for drafts in (2, 3, 4)]
    by_layer = [step_s(drafted(BASE, drafts, 1.0), 8) for drafts in (2, 3, 4)]
    passes = np.subtract(by_layer, by_look_up)
    second_s, third_s = np.diff(passes)
    assert second_s == pytest.approx(third_s, rel=0.02)
    at_once = [step_s(drafted(BASE, drafts, 1.0, draft="parallel"), 8) for drafts in (2, 3, 4)]
    assert np.diff(at_once).max() < np.diff(by_layer).min()


def test_a_context_is_read_once_for_all_drafts():
    """Oracle: by hand; where reading binds, three drafts by one layer beside 80 read 3/80 more, and four
    queries in place of one compute behind it; latent attention computes up to four times as much.
    """
    grown = price_of(drafted(BASE)).step.decode_context_s / price_of(BASE).step.decode_context_s
    assert 1 + 3 / 80 <= grown < 1.2
    latent = price_of(drafted(R1, draft="ngram")).step.decode_context_s / price_of(R1).step.decode_context_s
    assert 1.0 < latent <= 4.0


def test_what_attention_needs_counts_every_query():
    """By hand: with three drafts four queries are computed over a context that is read once."""
    plain, four = (price_of(scenario).needs.rate_s for scenario in (BASE, drafted(BASE)))
    context = Rates._fields.index("context_tokens")
    compute, memory = (NEEDS.index(name) for name in ("compute", "memory"))
    assert four[compute, context] == pytest.approx(4 * plain[compute, context])
    assert four[memory, context] == plain[memory, context] > 0


def test_who_drafts_lies_in_memory():
    """Oracle: by hand; DeepSeek-R1's MTP layer is 11.5 x 10^9 parameters of 8 bits, 1/61 of the KV cache."""
    plain, with_layer = memory(R1), memory(drafted(R1))
    assert with_layer["weights_gb"] - plain["weights_gb"] == pytest.approx(11.7, rel=0.03)
    assert with_layer["kv_bytes_per_token"] / plain["kv_bytes_per_token"] == pytest.approx(62 / 61)
    assert memory(drafted(R1, draft="ngram")) == plain
    stated = memory(drafted(BASE, draft="eagle", draft_params_b=2.0))["weights_gb"]
    assert stated - memory(BASE)["weights_gb"] == pytest.approx(4.0)


def test_a_larger_drafter_costs_its_reading():
    """Oracle: by hand; 1 x 10^9 parameters more in 16 bits on 4 H100s are 2 GB / 4 / 3.35 TB/s = 0.149 ms a
    draft at least, and no more than a half above.
    """
    small, large = (step_s(drafted(BASE, draft="eagle", draft_params_b=size), 1) for size in (1.0, 2.0))
    assert 3 * 0.149e-3 < large - small < 1.5 * 3 * 0.149e-3


@pytest.mark.parametrize("draft", ["mtp", "eagle", "parallel", "ngram"])
@pytest.mark.parametrize("scenario", [BASE, R1])
def test_no_step_beats_the_floor(scenario, draft):
    """Oracle: bytes and FLOP of what is verified, counted from the dimensions at peak rates."""
    for calibration in ("typical", "datasheet"):
        own = drafted(scenario, draft=draft, calibration=calibration)
        for decodes in (1, 32, 200):
            assert step_s(own, decodes) >= floor_step_s(own, decodes, 1000)
            assert floor_step_s(own, decodes, 1000) >= floor_step_s(scenario, decodes, 1000)


def test_the_floor_has_the_drafts_of_its_load():
    """Oracle: the table; above 4 decodes nothing is drafted, so the floor is that without speculation."""
    few = drafted(BASE, spec_by_batch="1-4:3,5-:0", accelerator="jotunn8", hbm_gb=200.0)
    alone = few.replace(spec_tokens=0)
    assert floor_step_s(few, 4096, 10) == floor_step_s(alone, 4096, 10)
    assert floor_step_s(few, 4, 10) >= floor_step_s(alone, 4, 10)


def test_no_more_decodes_run_than_the_batch_limit():
    """By hand: 512 // 2 = 256 fit with one draft each, of which the limit lets 100 run; 201 never do."""
    both = drafted(BASE, spec_by_batch="1-200:1,201-:3", max_batch=100, token_budget=390)
    assert both.max_running == 100
    assert drafted(BASE, spec_by_batch="1-200:1,201-:3", max_batch=300, token_budget=390).max_running == 195


def test_a_price_explains_its_steps_with_drafts():
    """Oracle: the sum; the parts of the ledger are the kernel's price list."""
    for own in (drafted(R1), drafted(R1, spec_by_batch="1-8:3,9-:0")):
        price = price_of(own)
        np.testing.assert_allclose(price.ledger.token_s.sum(axis=0), price.step.token_s)
        np.testing.assert_allclose(price.ledger.row_s.sum(axis=0), price.step.row_s)


def test_drafts_by_batch_are_those_of_the_table():
    """Oracle: the table; three drafts up to 8 decodes, then one, then none, each with its acceptance."""
    step = price_of(drafted(BASE, spec_by_batch="1-8:3,9-64:1,65-:0")).step
    assert [int(pace_at(step, n)["drafts"]) for n in (1, 8, 9, 64, 65, 256)] == [3, 3, 1, 1, 0, 0]
    lengths = [pace_at(step, n)["advance"] / TOKEN for n in (1, 9, 65)]
    a = chance(2.4, 3)
    assert lengths == pytest.approx([2.4, 1 + a, 1.0], abs=1e-6)


@pytest.mark.parametrize(("a", "drafts"), [(0.0, 3), (0.5, 1), (0.7, 4), (1.0, 8)])
def test_the_chance_gives_the_length_back(a, drafts):
    """Oracle: Leviathan et al. (2023), equation 1, and its inverse."""
    length = drafts + 1 if a == 1 else (1 - a ** (drafts + 1)) / (1 - a)
    assert geometric(a, drafts) == pytest.approx(length)
    assert chance(length, drafts) == pytest.approx(a, abs=1e-9)


def test_published_lengths_hold_where_none_is_given():
    """Oracle: the published table; a length of one's own stands before it."""
    own = Scenario(model="minimax-m3", tensor_parallel=8, spec_tokens=3, draft="eagle")
    assert speculation_of(own).levels[0].length == 2.83
    assert speculation_of(own.replace(acceptance_length=2.0)).levels[0].length == pytest.approx(2.0)
    with pytest.raises(ScenarioError, match="Give acceptance_length"):
        speculation_of(BASE.replace(spec_tokens=3))


@pytest.mark.parametrize("draft", ["mtp", "parallel", "ngram"])
def test_the_pages_price_steps_as_the_engine_does(draft):
    """Oracle: the price list of the kernels, of decodes and a chunk beside them; part by part but for other
    numbers of drafts than the first of the table, whose contexts are split as those of the first.
    """
    own = drafted(R1, draft=draft, spec_by_batch="1-8:3,9-:1")
    pricing, price = shapes.pricing_of(own), price_of(own)
    for decodes, chunk in ((1, 0), (8, 0), (40, 0), (6, 512)):
        shape = shapes.StepShape(float(decodes), 1000.0, float(chunk), 0.0, 1.0 if chunk else 0.0)
        listed, found = step_parts(price, decodes, 1000, chunk), shapes.parts(pricing, shape)
        assert float(sum(found.values())) == pytest.approx(sum(listed.values()), rel=1e-3)
        for part, seconds in found.items():
            assert decodes > 8 or float(seconds) == pytest.approx(
                listed.get(part, 0.0), rel=1e-3, abs=1e-6
            ), part
    assert float(pricing.made(8)) == pytest.approx(2.4)


V4 = Scenario(model="deepseek-v4-flash", accelerator="b300", tensor_parallel=4, weight_dtype="native")


def test_layers_for_a_block_take_its_places_alone():
    """Oracle: a model of three such layers; drafting seven tokens for each of 16 takes what a step of 112
    tokens takes there, with as many rows of the LM head, and prompts cost what they cost without drafts.
    """
    block = drafted(V4, 7, 3.0, draft="parallel", constants="step:0,draft:0,draft_sequence:0,sequence:0")
    by_look_up = block.replace(draft="ngram")
    drafting_s = step_s(block, 16) - step_s(by_look_up, 16)
    three = dataclasses.replace(
        draft_model(model_of(V4), Drafter("parallel", None)), total_params_b=None, active_params_b=None
    )
    assert three.layers == three.moe_layers == 3 and three.experts == 256
    alone = block.replace(model="own", own_model=own_text(three), spec_tokens=0, acceptance_length=None)
    joining_s = 3 * 4096**2 / 4 / 8e12  # read in 8 bits, by four devices; not part of the layers
    assert drafting_s == pytest.approx(step_s(alone, 112, 0) + joining_s, rel=0.05)
    prompt_s, plain_s = (step_s(each, 0, 0, 512) for each in (block, by_look_up))
    head_s = step_s(block, 1) - step_s(by_look_up, 1)
    assert prompt_s - plain_s == pytest.approx(head_s, rel=0.01)  # of its last token alone


def test_layers_for_a_block_lie_in_memory_and_keep_no_token():
    """By hand, V4-Flash: three layers of 257 experts of three matrices 4,096 x 2,048 in 4.25 bits, 10.3 GB,
    and 0.3 GB of what else they have; a window of a sequence is all they keep.
    """
    plain = memory(V4)
    own = memory(drafted(V4, 7, 3.0, draft="parallel"))
    experts_gb = 3 * 257 * 3 * 4096 * 2048 * (4.25 / 8) / 1e9
    assert experts_gb < own["weights_gb"] - plain["weights_gb"] < experts_gb + 0.8
    assert own["kv_bytes_per_token"] == pytest.approx(plain["kv_bytes_per_token"], rel=1e-3)
    stated = memory(drafted(V4, 7, 3.0, draft="parallel", draft_params_b=2.0))
    assert stated["weights_gb"] - plain["weights_gb"] == pytest.approx(4.0, rel=0.01)
