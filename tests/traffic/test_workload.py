"""Drawn traffic: theory for its moments, common random numbers, and the grammar of mixes."""

from __future__ import annotations

import csv
import math
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core import catalogue
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.lengths import UNKNOWN, Lognormal, Quantiles, UniformIntegers
from sim_core.scenario.mixes import MAX_CLASSES, parse_mix
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import mean_lengths, requests_sent
from sim_core.traffic.lengths import length_classes
from sim_core.traffic.requests import requests_of
from tests.places import SHARED

TRACES = SHARED / "traces"
MANY = 200_000


ROWS = requests_of(np.array([0.5, 2.0, 1.0]), np.array([10, 20, 30]), np.array([1, 2, 3]))


def ranks(values: np.ndarray) -> np.ndarray:
    """Return average ranks, ties sharing theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


# Shapes and limits


@pytest.mark.parametrize("arrivals", ["poisson", "gamma", "closed", "offline"])
@pytest.mark.parametrize("requests", [1, 7, 70_000])
@pytest.mark.parametrize("mix", ["", "chat:1,512..1024/100~0.5:1"])
def test_arrays_are_what_the_engine_takes(arrivals, requests, mix):
    """Contract: contiguous columns of one length, whole tokens of at least 1, arrivals that never fall."""
    drawn = requests_sent(Scenario(arrivals=arrivals, requests=requests, mix=mix))
    assert [column.dtype for column in drawn.columns()] == [np.float64, np.int64, np.int64]
    assert all(column.flags.c_contiguous and column.shape == (requests,) for column in drawn.columns())
    assert drawn.prompt_tokens.min() >= 1 and drawn.output_tokens.min() >= 1
    assert np.all(np.diff(drawn.arrival_s) >= 0)
    if arrivals in ("closed", "offline"):
        assert not drawn.arrival_s.any()
    else:
        assert drawn.arrival_s[0] > 0 or arrivals == "gamma"


def test_one_visitor_cannot_change_another_ones_draws():
    """Invariant: what is shared cannot be written to, and what a kernel gets is its own."""
    first = requests_sent(Scenario())
    kept = [column.copy() for column in first.columns()]
    for column in (first.prompt_tokens, first.output_tokens):
        with pytest.raises(ValueError, match="read-only"):
            column[:] = 0
    for column in first.columns():
        column[:] = 0
    assert all(np.array_equal(*pair) for pair in zip(kept, requests_sent(Scenario()).columns(), strict=True))


# Moments


def test_poisson_gaps():
    """Theory: exponential gaps have mean 1 / rate and cv 1; bands of 4 standard errors."""
    gaps = np.diff(requests_sent(Scenario(requests=MANY, arrival_per_s=5.0)).arrival_s, prepend=0.0)
    assert gaps.mean() == pytest.approx(0.2, rel=4 / math.sqrt(MANY))
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("cv", [0.1, 0.5, 1.0, 3.0])
def test_gamma_gaps(cv):
    """Theory: gamma gaps of shape 1 / cv^2 have the asked mean and cv."""
    scenario = Scenario(arrivals="gamma", arrival_cv=cv, requests=MANY, arrival_per_s=5.0)
    gaps = np.diff(requests_sent(scenario).arrival_s, prepend=0.0)
    assert gaps.mean() == pytest.approx(0.2, rel=4 * cv / math.sqrt(MANY))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_gamma_of_cv_1_is_poisson():
    """Identity: a gamma of shape 1 is the exponential, drawn alike."""
    plain, gamma = requests_sent(Scenario()), requests_sent(Scenario(arrivals="gamma", arrival_cv=1.0))
    assert np.array_equal(plain.arrival_s, gamma.arrival_s)


@pytest.mark.parametrize(("mean", "cv"), [(1000, 0.5), (250, 1.0), (5000, 0.1)])
def test_lognormal_lengths(mean, cv):
    """Theory: the asked mean and cv, within 4 standard errors; rounding moves the mean by nothing."""
    lengths = requests_sent(Scenario(prompt_tokens=mean, prompt_cv=cv, requests=MANY)).prompt_tokens
    assert lengths.mean() == pytest.approx(mean, rel=4 * cv / math.sqrt(MANY) + 1e-4)
    assert lengths.std() / lengths.mean() == pytest.approx(cv, rel=0.03)


def test_fixed_and_uniform_lengths():
    """By hand: cv 0 is one value; 3..6 takes four values, a quarter each (4 standard errors)."""
    drawn = requests_sent(Scenario(mix="1024/3..6", requests=MANY))
    assert set(drawn.prompt_tokens) == {1024}
    values, counts = np.unique(drawn.output_tokens, return_counts=True)
    assert list(values) == [3, 4, 5, 6]
    assert counts / MANY == pytest.approx([0.25] * 4, abs=4 * math.sqrt(0.25 * 0.75 / MANY))


def test_short_means_stay_at_one_token_or_more():
    """Limit: a mean of 1 with a wide spread rounds up to 1, never to 0."""
    drawn = requests_sent(Scenario(prompt_tokens=1, prompt_cv=10.0, output_tokens=1, output_cv=10.0))
    assert drawn.prompt_tokens.min() == drawn.output_tokens.min() == 1


@pytest.mark.parametrize("name", catalogue.preset_ids("workloads"))
def test_workloads_reproduce_their_tables(name):
    """The preset's own figures: mean, quantiles and rank correlation of 200,000 draws."""
    preset = catalogue.workloads()[name]
    scenario = Scenario(mix=name, requests=MANY)
    drawn = requests_sent(scenario)
    means = mean_lengths(scenario)
    for side, lengths, mean in zip(("prompt", "output"), drawn.columns()[1:], means, strict=True):
        spread = lengths.std() / lengths.mean()
        assert lengths.mean() == pytest.approx(mean, rel=5 * spread / math.sqrt(MANY) + 0.002), side
        if preset.is_empirical(side):
            table = getattr(preset, f"{side}_quantiles")
            # A draw lies below the quantile at p with probability p; the band is one of rounding and chance.
            for p, value in zip(preset.probabilities, table, strict=True):
                assert np.mean(lengths < math.floor(value)) <= p + 0.005
                assert np.mean(lengths <= math.ceil(value)) >= p - 0.005
    if drawn.output_tokens.min() < drawn.output_tokens.max():
        found = spearman(drawn.prompt_tokens, drawn.output_tokens)
        assert found == pytest.approx(preset.rank_correlation, abs=0.02)


@pytest.mark.skipif(not TRACES.is_dir(), reason="the public traces are not here")
@pytest.mark.parametrize(
    ("name", "file", "columns"),
    [
        ("chat", "azure_2023_conv.csv", ("ContextTokens", "GeneratedTokens")),
        ("code", "azure_2023_code.csv", ("ContextTokens", "GeneratedTokens")),
        (
            "summarisation",
            "vidur_arxiv_summarization_lengths.csv",
            ("num_prefill_tokens", "num_decode_tokens"),
        ),
        ("sharegpt-vicuna", "sharegpt_vicuna_lengths.csv", ("input_length", "output_length")),
        ("mlperf-mixtral-8x7b", "mlperf_lengths_mixtral-8x7b.csv", ("input_length", "output_length")),
        ("mlperf-llama3.1-405b", "mlperf_lengths_llama3-1-405b.csv", ("input_length", "output_length")),
    ],
)
def test_tables_stand_for_their_traces(name, file, columns):
    """The trace itself: means within 2%, rank correlation within 0.01 of the table's."""
    with (TRACES / file).open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    prompt, output = (np.array([float(row[column]) for row in rows]) for column in columns)
    assert mean_lengths(Scenario(mix=name)) == pytest.approx((prompt.mean(), output.mean()), rel=0.02)
    assert catalogue.workloads()[name].rank_correlation == pytest.approx(spearman(prompt, output), abs=0.01)


# Common random numbers


def test_rate_moves_arrivals_alone():
    """Identity: twice the rate halves the times exactly and leaves the lengths."""
    slow, fast = requests_sent(Scenario(arrival_per_s=2.0)), requests_sent(Scenario(arrival_per_s=4.0))
    assert np.array_equal(slow.arrival_s, 2 * fast.arrival_s)
    assert np.array_equal(slow.prompt_tokens, fast.prompt_tokens)
    assert np.array_equal(slow.output_tokens, fast.output_tokens)


def test_each_length_key_moves_its_own_side():
    """Identity: other prompts, same arrivals and outputs; and longer means longer for every request."""
    plain = requests_sent(Scenario())
    longer = requests_sent(Scenario(prompt_tokens=2000, arrivals="gamma"))
    assert np.array_equal(plain.output_tokens, longer.output_tokens)
    assert np.all(longer.prompt_tokens > plain.prompt_tokens)


def test_mix_slider_moves_few_requests():
    """Identity: between weights 0.30 and 0.31 only requests in that hundredth change class."""
    before, after = (
        requests_sent(Scenario(mix=f"100/10:{1 - share},200/20:{share}")) for share in (0.30, 0.31)
    )
    changed = before.prompt_tokens != after.prompt_tokens
    assert 0 < changed.sum() < 0.03 * len(changed)
    assert set(before.prompt_tokens[changed]) == {100}


@pytest.mark.parametrize("keys", [{}, {"arrivals": "gamma"}, {"mix": "chat:1,flat:1,reasoning:2"}])
@pytest.mark.parametrize("requests", [1, 999, 80_000])
def test_more_requests_continue_the_sequence(keys, requests):
    """Identity: the first requests of a longer run are the shorter run."""
    short, long = (
        requests_sent(Scenario(requests=requests, **keys)),
        requests_sent(Scenario(requests=100_000, **keys)),
    )
    for column, longer in zip(short.columns(), long.columns(), strict=True):
        assert np.array_equal(column, longer[:requests])


def test_seeds_and_streams_differ():
    """Independence: another seed changes every column; columns of one seed are uncorrelated."""
    one, two = requests_sent(Scenario(seed=1)), requests_sent(Scenario(seed=2))
    assert not any(np.array_equal(a, b) for a, b in zip(one.columns(), two.columns(), strict=True))
    gaps = np.diff(one.arrival_s, prepend=0.0)
    for first, second in ((gaps, one.prompt_tokens), (gaps, one.output_tokens), one.columns()[1:]):
        assert abs(spearman(first, second)) < 0.08
    assert requests_sent(Scenario(seed=2**53, requests=3)).arrival_s.shape == (3,)


# Mixes


def test_class_shares():
    """Weights by hand: 3 to 1 is three quarters (4 standard errors); classes keep their own lengths."""
    drawn = requests_sent(Scenario(mix="100/10:3,200/20:1", requests=MANY))
    assert np.mean(drawn.prompt_tokens == 100) == pytest.approx(0.75, abs=4 * math.sqrt(0.1875 / MANY))
    assert np.array_equal(drawn.output_tokens, np.where(drawn.prompt_tokens == 100, 10, 20))


def test_grammar_by_hand():
    """Each form of a class, written out."""
    chat, flat, inline = parse_mix(" chat:0.5, flat:2 ,512..1024/1000~0.8:1e-1")
    assert (chat.name, chat.weight, type(chat.prompt)) == ("chat", 0.5, Quantiles)
    assert (flat.prompt, flat.output, flat.weight) == (UNKNOWN, UNKNOWN, 2.0)
    assert (inline.prompt, inline.output) == (UniformIntegers(512, 1024), Lognormal(1000.0, 0.8))
    assert inline.weight == 0.1
    assert parse_mix("1024/256")[0].prompt == Lognormal(1024.0, 0.0)


def test_flat_class_takes_the_flat_keys():
    """Identity: a mix of `flat` alone is no mix."""
    plain, mixed = requests_sent(Scenario()), requests_sent(Scenario(mix="flat:3"))
    assert all(np.array_equal(*pair) for pair in zip(plain.columns(), mixed.columns(), strict=True))
    assert length_classes(Scenario())[0].prompt == Lognormal(1000, 0.5)


def test_mean_lengths_by_hand():
    """Weighted by hand: (3 * 1000 + 200..400) / 4; quantiles by the trapezoid rule."""
    assert mean_lengths(Scenario(mix="1000/100~2:3,200..400/20:1")) == pytest.approx((825.0, 80.0))
    assert mean_lengths(Scenario()) == (1000.0, 250.0)
    assert Quantiles((0.0, 0.5, 1.0), (0.0, 10.0, 30.0)).mean == pytest.approx(0.5 * 5 + 0.5 * 20)


def test_mean_is_the_mean_of_the_draws():
    """Agreement of the two ways to the mean, within 4 standard errors."""
    scenario = Scenario(mix="chat:1,summarisation:1,300..500/64:1", requests=MANY)
    drawn = requests_sent(scenario)
    for lengths, mean in zip(drawn.columns()[1:], mean_lengths(scenario), strict=True):
        assert lengths.mean() == pytest.approx(mean, abs=4 * lengths.std() / math.sqrt(MANY) + 0.1)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ("chta:1", r"unknown class 'chta' in mix\. Did you mean chat"),
        ("../presets/workloads/chat:1", "is no length"),
        ("chat,rag", "mix class 'chat' has no weight; write chat:1"),
        ("chat:0.7,", "class without a name"),
        (",", "class without a name"),
        (":1", "class without a name"),
        ("chat:0,rag:1", "weight '0'; it must be a number above 0"),
        ("chat:nan,rag:1", "weight 'nan'"),
        ("chat:inf", "weight 'inf'"),
        ("chat:1e400", "weight '1e400'"),
        ("chat:-1", "weight '-1'"),
        ("chat:1:2", "weight '1:2'"),
        ("chat:1_0", "weight '1_0'"),
        ("chat:१", "weight"),
        ("chat:", "weight ''"),
        ("0/10", "length 0; it must lie between 1 and 1,000,000"),
        ("10/0..5", "length 0; it must lie"),
        ("10/1e9", "length 1e.09; it must lie"),
        ("10/5..4", "runs backwards; write 4..5"),
        ("10/100~11", "variation 11; it must lie between 0 and 10"),
        ("10/100~nan", "is no length"),
        ("10/10/10", "'10/10' is no length"),
        ("10/", "'' is no length"),
        ("10/1.5..3", "is no length"),
        (",".join(["chat:1"] * (MAX_CLASSES + 1)), "mix has 9 classes; the limit is 8"),
    ],
)
def test_mixes_that_cannot_be_read(mix, message):
    """Messages by hand: the part at fault and what to write instead."""
    with pytest.raises(ScenarioError, match=message):
        requests_sent(Scenario(mix=mix))


@given(st.text(alphabet=string.digits + "chatrgfl:,./~e-+ \n\x00é", max_size=60))
def test_any_text_is_a_mix_or_an_error(mix):
    """Any text: requests of at least one token, or a `ScenarioError` in a few lines."""
    try:
        drawn = requests_sent(Scenario(mix=mix, requests=20))
    except ScenarioError as error:
        assert len(str(error)) < 600
        return
    assert drawn.prompt_tokens.min() >= 1 and drawn.output_tokens.min() >= 1
    assert all(math.isfinite(mean) for mean in mean_lengths(Scenario(mix=mix)))


# Traces


def test_trace_gives_times_and_lengths():
    """By hand: three rows, put in order of arrival; `requests` takes the first two."""
    drawn = requests_sent(Scenario(arrivals="trace"), ROWS)
    assert list(drawn.arrival_s) == [0.5, 1.0, 2.0]
    assert list(drawn.prompt_tokens) == [10, 30, 20]
    assert list(requests_sent(Scenario(arrivals="trace", requests=2), ROWS).output_tokens) == [1, 2]
    assert mean_lengths(Scenario(requests=2), ROWS) == (15.0, 1.5)


@pytest.mark.parametrize("arrivals", ["closed", "offline", "poisson"])
def test_other_arrivals_take_the_lengths_of_a_trace_in_order(arrivals):
    """By hand: order kept, times as without a trace."""
    drawn = requests_sent(Scenario(arrivals=arrivals), ROWS)
    assert list(drawn.prompt_tokens) == [10, 20, 30]
    assert np.array_equal(drawn.arrival_s, requests_sent(Scenario(arrivals=arrivals, requests=3)).arrival_s)


def test_missing_and_empty_traces():
    """Messages by hand."""
    with pytest.raises(ScenarioError, match="no trace: give one"):
        requests_sent(Scenario(arrivals="trace"))
    empty = requests_of(np.empty(0), np.empty(0), np.empty(0))
    with pytest.raises(ScenarioError, match="at least one row"):
        requests_sent(Scenario(arrivals="trace"), empty)
