"""Published points, their predictions, error statistics, and the badge."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.fingerprint import fingerprint
from benchmarks.scores import rank
from sim_core import Scenario, catalogue, load_scenario
from sim_core.catalogue.calibrations import calibration
from sim_core.engine.run import run
from sim_core.engine.work import Allowance, allowed
from sim_core.evidence import bands, entries, errors, trust
from sim_core.evidence import published as measured
from sim_core.evidence.assumed import has_deepgemm, kv_dtype, late_steps, poll_steps, scenario_of
from sim_core.evidence.bands import left_out_coverage, widened
from sim_core.evidence.blind import HALF_FRAC, NO_BAND, Band, Blind, blind
from sim_core.evidence.predicted import alone, bench_of, predict, predict_alone
from sim_core.evidence.published import PublishedPoint, read_points
from sim_core.evidence.trust import ANNOUNCED, EXTRAPOLATED, VALIDATED
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.ready import ready_scenarios
from tests.loops import each
from tests.places import ROOT

ROW = {
    "id": "A1", "traffic": "closed", "pools": "one", "date": "2026-01-02", "engine": "vLLM",
    "engine_version": "0.1", "model": "llama-3.1-8b", "accelerator": "h100-sxm", "devices": "1",
    "tensor_parallel": "1", "expert_parallel": "1", "prefill_workers": "", "prefill_devices": "",
    "decode_workers": "", "decode_devices": "", "precision": "fp8", "prompt_tokens": "1024",
    "output_tokens": "128", "lengths": "fixed", "clients": "8", "arrival_per_s": "", "ttft_ms": "100",
    "tpot_ms": "10", "output_tok_per_s": "", "statistic": "mean", "source": "argonne", "entry": "a row",
    "note": "",
}  # fmt: skip

HEADER = ",".join(ROW)


def table(*changes: dict[str, str]) -> str:
    return "\n".join([HEADER, *(",".join((ROW | change).values()) for change in changes)])


# The table


def test_the_table_is_wide() -> None:
    """Oracle: what the page promises: hundreds of points, three families, six accelerators and more."""
    points = measured.points()
    one = [point for point in points if point.pools == "one"]
    assert 300 <= len(points) <= 800
    assert {point.family for point in one if point.fitted} == {"dense", "moe", "mla"}
    parts = {point.accelerator for point in one}
    assert len(parts) >= 6
    assert {"mi300x", "a100-80-sxm", "l40s", "gh200-96"} <= parts
    assert {point.traffic for point in points} == set(measured.TRAFFIC)
    assert sum(point.pools == "split" for point in points) >= 30


@each(measured.points(), name=lambda point: point.id)
def test_every_point_can_be_cited(point: PublishedPoint) -> None:
    """Oracle: source, place in it, date, engine and version stand there; MLPerf ones in its own form."""
    source = measured.sources()[point.source]
    assert source.title and source.url.startswith("https://") and source.commit
    assert point.entry and point.date and point.engine and point.engine_version and point.statistic
    if point.source.startswith("mlperf"):
        assert "trademark" in source.note
        assert "closed division" in point.entry and "entry" in point.entry


def test_a_point_of_two_pools_is_run_on_its_workers() -> None:
    """Oracle: by hand: 2 x 4 devices prefill, 3 x 8 decode; one client: TTFT and TPOT of a run on these."""
    workers = {"prefill_workers": "2", "prefill_devices": "4", "decode_workers": "3", "decode_devices": "8"}
    (point,) = read_points(table({"pools": "split", "clients": "1"} | workers), "mine.csv")
    scenario = scenario_of(point)
    assert (scenario.policy, scenario.accelerators, point.fitted) == ("disaggregated", 32, False)
    done = run(scenario.replace(requests=3))
    found = errors.score([point])
    assert found.predicted[0, 0] == pytest.approx(1e3 * (done.first_token_s - done.arrival_s)[0])
    steps_s = (done.finished_s - done.first_token_s)[0]
    assert found.predicted[0, 1] == pytest.approx(1e3 * steps_s / (point.output_tokens - 1))


def test_the_errors_of_two_pools_are_told() -> None:
    """Oracle: medians over the table's blind rows, taken here; the badge of such a scenario says them."""
    rows = [row for row in blind() if row.unseen == "pools"]
    tpot, throughput = (
        errors.errors([getattr(row, metric) for row in rows]).median_pct for metric in ("tpot", "throughput")
    )
    words = " ".join(trust.trust(Scenario(policy="disaggregated")).reasons)
    assert f"{tpot:.0f} % in TPOT, {throughput:.0f} % in throughput" in words


def test_no_source_is_idle() -> None:
    """Oracle: the rows."""
    assert {point.source for point in measured.points()} == set(measured.sources())


def test_a_good_row_is_read() -> None:
    """Oracle: the row, by hand."""
    (point,) = read_points(table({}), "mine.csv")
    assert (point.clients, point.ttft_ms, point.tpot_ms) == (8, 100.0, 10.0)
    assert math.isnan(point.output_tok_per_s) and math.isnan(point.arrival_per_s)
    assert point.family == "dense" and point.replicas == 1 and point.fitted


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tpot_ms": "fast"}, r"line 3 \(A2\): tpot_ms is 'fast'"),
        ({"tpot_ms": "-1"}, r"line 3 \(A2\): tpot_ms is '-1'"),
        ({"ttft_ms": "inf"}, r"line 3 \(A2\): ttft_ms is 'inf'"),
        ({"clients": "2.5"}, r"line 3 \(A2\): clients is 2.5; it must be a whole"),
        ({"clients": ""}, r"line 3 \(A2\): clients is empty"),
        ({"model": "llama-9"}, r"line 3 \(A2\): model 'llama-9' is unknown"),
        ({"accelerator": "h900"}, r"line 3 \(A2\): accelerator 'h900'"),
        ({"precision": "fp7"}, r"line 3 \(A2\): precision 'fp7'"),
        ({"traffic": "tidal"}, r"line 3 \(A2\): traffic 'tidal'"),
        ({"lengths": "some"}, r"line 3 \(A2\): lengths 'some'"),
        ({"entry": ""}, r"line 3 \(A2\): entry is empty"),
        ({"date": ""}, r"line 3 \(A2\): date is empty"),
        ({"ttft_ms": "", "tpot_ms": ""}, r"line 3 \(A2\): nothing is measured"),
        ({"pools": "split"}, r"line 3 \(A2\): prefill_workers is empty"),
        ({"traffic": "server"}, r"line 3 \(A2\): arrival_per_s is empty"),
        ({"id": "A1"}, r"line 3: id 'A1' stands there twice"),
        ({"note": "one, two"}, r"line 3 has 29 fields; the header has 28"),
    ],
)
def test_bad_rows_are_refused_by_line_and_name(change: dict[str, str], words: str) -> None:
    """Oracle: the line, the row's id, the column and the value stand in the message."""
    with pytest.raises(ScenarioError, match=words):
        read_points(table({}, {"id": "A2"} | change), "mine.csv")


def test_bad_columns_are_refused() -> None:
    """Oracle: the name of the column."""
    with pytest.raises(ScenarioError, match="line 1: column 'clients' is missing"):
        read_points(HEADER.replace("clients,", ""), "mine.csv")
    with pytest.raises(ScenarioError, match="line 1: column 'mood' is unknown"):
        read_points(HEADER + ",mood", "mine.csv")
    with pytest.raises(ScenarioError, match="source 'nowhere' is unknown"):
        read_points(table({"source": "nowhere"}), "mine.csv", frozenset({"argonne"}))


# Predictions and errors


def test_errors_by_hand() -> None:
    """Oracle: errors of -10, 0, 10, 30, 50%: median 10, mean 20, bias 10, three of five within 20%."""
    found = errors.errors([0.9, 1.0, 1.1, 1.3, 1.5, math.nan])
    assert found == errors.Errors(5, 10.0, 20.0, 10.0, 0.6)
    assert errors.errors([]).rows == 0


def test_rank_by_hand() -> None:
    """Oracle: 1 - 6 sum(d^2) / (n (n^2 - 1)): two neighbours swapped of five give 1 - 12 / 120 = 0.9."""
    points = read_points(table(*({"id": f"A{n}", "clients": str(n)} for n in range(1, 6))), "mine.csv")
    measured_ms = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert rank(points, [1, 2, 3, 5, 4], measured_ms) == pytest.approx(0.9)
    assert math.isnan(rank(points[:4], [1, 2, 3, 4], measured_ms[:4]))


def test_ratios_by_hand() -> None:
    """Oracle: 110 / 100 and 8 / 10; without a printed throughput, (100 + 127 x 10) / (110 + 127 x 8)."""
    points = read_points(table({}, {"id": "A2", "output_tok_per_s": "500"}), "mine.csv")
    found = errors.ratios(points, np.array([[110.0, 8.0, 600.0]] * 2))
    assert found[0] == pytest.approx([1.1, 0.8, 1370 / 1126])
    assert found[1] == pytest.approx([1.1, 0.8, 1.2])


def test_a_point_is_predicted_as_the_simulator_runs_it() -> None:
    """Oracle: the simulator's own face on the point's scenario; its finer table of step times: 1%."""
    point = next(p for p in measured.points() if p.fitted and p.lengths == "fixed" and p.engine == "vLLM")
    found = run(scenario_of(point))
    expected = (
        1e3 * (found.first_token_s - found.arrival_s).mean(),
        1e3 * ((found.finished_s - found.first_token_s) / (found.output_tokens - 1)).mean(),
        found.output_tokens.sum() / (found.finished_s.max() - found.arrival_s.min()),
    )
    predicted = errors.score([point]).predicted[0]
    assert predicted == pytest.approx(expected, rel=0.01)


def test_a_prediction_is_the_same_within_the_budget_of_a_view() -> None:
    """Oracle: the same point without a budget; one that would cut its requests to a few."""
    point = next(
        one for one in measured.points() if one.pools == "split" and scenario_of(one).requests <= 500
    )
    expected = predict_alone([point])
    with allowed(Allowance(seconds=1e-3, most_bytes=10**9)):
        found = predict_alone([point])
    np.testing.assert_array_equal(found, expected)


def test_late_first_tokens_are_those_of_the_recipe() -> None:
    """Oracle: `presets/engines`, and half of 10 or 30 steps between looks for requests; the first token of a
    streaming interval is sent at once."""
    polled = [p for p in measured.points() if poll_steps(p)]
    chosen = {p.clients: p for p in polled if p.model.startswith("deepseek")}
    assert {late_steps(p) for c, p in chosen.items() if c < 16} == {11.0 + 5}
    assert {late_steps(p) for c, p in chosen.items() if c >= 16} == {11.0 + 15}
    for family, late in (("moe", 2.5), ("dense", 0.0)):
        drawn = [p for p in measured.points() if p.engine == "vLLM" and p.family == family and p.fitted]
        assert {late_steps(p) for p in drawn if p.lengths == "80-100%"} == {late}


def test_experts_run_by_the_kernels_of_their_recipe():
    """Oracle: InferenceX's recipes: DeepGEMM until TensorRT-LLM 1.2, then with ranks of attention alone. Its
    products pad small batches, so a step of few tokens takes longer.
    """
    late = next(
        p for p in measured.points()
        if (p.engine, p.accelerator, p.precision) == ("TensorRT-LLM", "b200", "fp8")
        and p.model == "deepseek-r1" and p.fitted
    )._replace(date="2026-02-01", clients=8)  # fmt: skip
    early = late._replace(date="2025-12-15")
    assert [has_deepgemm(point) for point in (late, early, late._replace(ranks=8))] == [False, True, True]
    assert not has_deepgemm(early._replace(pools="split"))
    new_ms, old_ms = predict(bench_of([late, early]), calibration("typical").base)[:, 1]
    assert new_ms < 0.85 * old_ms


@pytest.mark.parametrize(
    ("model", "precision", "accelerator", "few", "many", "cache"),
    [
        ("deepseek-r1", "fp4", "b200", 10, 30, "fp8"),
        ("qwen3.5-397b-a17b", "bf16", "b200", 10, 30, "bf16"),
        ("qwen3.5-397b-a17b", "fp8", "b200", 10, 30, "fp8"),
        ("qwen3.5-397b-a17b", "fp4", "b200", 30, 30, "fp8"),
        ("qwen3.5-397b-a17b", "fp8", "b300", 10, 10, "fp8"),
        ("glm-5", "fp4", "b200", 10, 10, "fp8"),
        ("glm-5", "fp8", "b300", 0, 0, "fp8"),
        ("glm-5", "fp8", "h200", 0, 0, "bf16"),
    ],
)
def test_recipes_of_sglang(
    model: str, precision: str, accelerator: str, few: int, many: int, cache: str
) -> None:
    """Oracle: InferenceX's scripts for these, read one by one: how often it polls, and the KV cache."""
    any_loop = next(p for p in measured.points() if poll_steps(p))
    named = {"model": model, "precision": precision, "accelerator": accelerator}
    points = [any_loop._replace(clients=clients, **named) for clients in (8, 16)]
    assert [poll_steps(p) for p in points] == [few, many]
    assert {kv_dtype(p) for p in points} == {cache}


@each([p for p in measured.points() if p.pools == "one"][::7], name=lambda p: p.id)
def test_nothing_is_faster_than_the_datasheet(point: PublishedPoint) -> None:
    """Oracle: the typical prediction is slower than the datasheet's bound, in every figure."""
    typical = errors.score([point]).predicted[0]
    bound = errors.score([point], "datasheet").predicted[0]
    if point.traffic == "server":  # their calibration has no request overhead
        return
    assert not (typical[:2] < bound[:2]).any() and not typical[2] > bound[2]


def test_the_goals_on_points_whose_model_was_not_seen() -> None:
    """Oracle: the goals: TPOT 12, 16 and 16%, TTFT 28%, throughput 12%."""
    tables = errors.error_tables()["model"]
    assert tables["dense"]["tpot_pct"] <= 12
    assert tables["moe"]["tpot_pct"] <= 16
    assert tables["mla"]["tpot_pct"] <= 16
    assert tables["all"]["ttft_pct"] <= 28
    assert tables["all"]["throughput_pct"] <= 12
    assert tables["all"]["rank"] >= 0.97


def test_what_is_kept_is_what_is_predicted() -> None:
    """Oracle: today's runs of every twelfth point. If it fails: `python -m benchmarks.alone`."""
    kept = errors.made_before()
    one_by_one = [point for point in measured.points() if alone(point)]
    assert list(kept) == [point.id for point in one_by_one]
    some = one_by_one[::12]
    np.testing.assert_allclose([kept[point.id] for point in some], errors.score(some).predicted, rtol=1e-5)


def test_blind_predictions_belong_to_the_formulas() -> None:
    """Oracle: the word that stood for formulas and constants when the rows were predicted."""
    assert errors.error_tables()["fingerprint"] == fingerprint(), (
        "formulas have changed since the rows in presets/validation were predicted; run "
        "`python -m benchmarks.validate FOLDER --blind` and commit blind.csv and errors.toml"
    )


def test_blind_predictions_are_repeated() -> None:
    """Oracle: rows that no fit used, predicted again with the present code."""
    rows = [row for row in blind() if row.unseen == "all"][::5]
    found = errors.score([row.point for row in rows]).ratio
    stored = np.array([row[2:] for row in rows])
    np.testing.assert_allclose(found, stored, rtol=2e-3)


# Trust


BY_BADGE = [(VALIDATED, ("model",)), (EXTRAPOLATED, ("accelerator", "pools"))]


@pytest.mark.parametrize(("badge", "unseen"), BY_BADGE)
def test_bands_hold_four_of_five_of_a_campaign_left_out(badge: str, unseen: tuple[str, ...]) -> None:
    """Oracle: each campaign's measurements against the band of all others; the goal is 75 to 90%."""
    for metric, share in left_out_coverage(*unseen).items():
        assert 0.75 <= share <= 0.9, f"{badge}: {metric} {share:.1%}"


@pytest.mark.parametrize(("badge", "unseen"), BY_BADGE)
def test_narrow_bands_hold_half(badge: str, unseen: tuple[str, ...]) -> None:
    """Oracle: the same with the band of half of the measurements."""
    for metric, share in left_out_coverage(*unseen, held_frac=HALF_FRAC).items():
        assert 0.45 <= share <= 0.6, f"{badge}: {metric} {share:.1%}"


def campaigns_of(monkeypatch: pytest.MonkeyPatch, sizes: dict[str, list[float]]) -> None:
    """Put blind rows in the place of the stored ones: of each engine, logarithmic errors of TPOT."""
    rows = [
        {"id": f"{engine}{place}", "engine": engine}
        for engine, logs in sizes.items()
        for place in range(len(logs))
    ]
    points = read_points(table(*rows), "mine.csv")
    logs = [size for each in sizes.values() for size in each]
    found = tuple(
        Blind(point, "model", math.nan, math.exp(log), math.nan)
        for point, log in zip(points, logs, strict=True)
    )
    monkeypatch.setattr(bands, "blind", lambda: found)
    for cached in (bands.closest, bands.factor):
        cached.cache_clear()


@pytest.fixture
def made_up_campaigns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, list[float]]], None]]:
    yield partial(campaigns_of, monkeypatch)
    for cached in (bands.closest, bands.factor):
        cached.cache_clear()


def test_a_band_by_hand(made_up_campaigns: Callable[[dict[str, list[float]]], None]) -> None:
    """Oracle: six campaigns of one error each, by hand; two have the sign the other way.

    Sizes 1 to 6, mean 3.5. Against the mean of the others, (21 - s) / 5, their scores are 5 s / (21 - s): of
    six, the place 0.8 (6 + 1) = 5.6 is the sixth: 30 / 15 = 2. For half it is the fourth: 20 / 17.
    """
    made_up_campaigns({"a": [0.1], "b": [-0.2], "c": [0.3], "d": [0.4], "e": [-0.5], "f": [0.6]})
    found = bands.closest("dense", "hopper", "model")
    assert found.typical["tpot"] == pytest.approx(0.35)
    assert math.log(found.band("tpot").high) == pytest.approx(2 * 0.35)
    assert math.log(found.band("tpot", HALF_FRAC).low) == pytest.approx(-20 / 17 * 0.35)


def test_many_points_of_one_campaign_are_one(
    made_up_campaigns: Callable[[dict[str, list[float]]], None],
) -> None:
    """Oracle: one campaign written down twenty times over moves nothing."""
    sizes = {"a": [0.1, 0.2], "b": [-0.2], "c": [0.3], "d": [0.4], "e": [-0.5], "f": [0.6]}
    made_up_campaigns(sizes)
    once = bands.closest("dense", "hopper", "model").band("tpot")
    made_up_campaigns(sizes | {"a": [0.1, 0.2] * 20})
    assert bands.closest("dense", "hopper", "model").band("tpot") == pytest.approx(once)


def test_bands_widen_by_half_a_step() -> None:
    """Oracle: by hand: 0.5 to 2 is one octave each way; a step makes it one and a half: 2^-1.5 to 2^1.5."""
    assert widened(Band(0.5, 2.0), 1) == pytest.approx(Band(2**-1.5, 2**1.5))
    assert widened(Band(0.9, 1.2), 0) == pytest.approx(Band(0.9, 1.2))


BADGES = [
    ("", VALIDATED, ()),
    ("model=llama-3.1-70b&tensor_parallel=4&weight_dtype=fp8", VALIDATED, ()),
    ("model=deepseek-r1&accelerator=b200&tensor_parallel=8&weight_dtype=fp8", VALIDATED, ()),
    ("accelerator=mi300x", EXTRAPOLATED, ("MI300X",)),
    ("accelerator=trainium3", ANNOUNCED, ("announced",)),
    ("hbm_gb_per_s=6700", EXTRAPOLATED, ("hbm_gb_per_s",)),
    ("model=llama-3.1-405b&tensor_parallel=8&weight_dtype=fp8", EXTRAPOLATED, ("405", "billion")),
    ("prompt_tokens=100000&prompt_cv=0", EXTRAPOLATED, ("prompt has 100,000 tokens (prompt_tokens)",)),
    ("output_tokens=2&output_cv=0", EXTRAPOLATED, ("answer has 2 tokens (output_tokens)",)),
    ("output_tokens=1&output_cv=0", EXTRAPOLATED, ("answer has 1 token (output_tokens)",)),
    ("arrivals=closed&concurrency=5000&max_batch=5000", EXTRAPOLATED, ("5,000 sequences",)),
    ("arrivals=offline&max_batch=4096&requests=100000", EXTRAPOLATED, ("4,096 sequences",)),
    ("policy=static", EXTRAPOLATED, ("Static batching (policy)",)),
    ("weight_dtype=fp4", EXTRAPOLATED, ("dense models in fp4 on H100",)),
    ("accelerator=b300&weight_dtype=fp8", EXTRAPOLATED, ("dense models on B300",)),
    ("tensor_parallel=16", EXTRAPOLATED, ("16 devices a group (tensor_parallel)",)),
    ("model=qwen3.5-397b-a17b&tensor_parallel=8&weight_dtype=fp8", EXTRAPOLATED, ("linear attention",)),
    ("calibration=datasheet", EXTRAPOLATED, ("bound",)),
    ("spec_tokens=3&acceptance_length=2", EXTRAPOLATED, ("Speculative decoding (spec_tokens)",)),
]


@pytest.mark.parametrize(("query", "badge", "words"), BADGES)
def test_badges_by_table(query: str, badge: str, words: tuple[str, ...]) -> None:
    """Oracle: the table above, from what the published points cover."""
    found = trust.trust(load_scenario(query))
    assert found.badge == badge
    for word in words:
        assert word in " ".join(found.reasons)


@pytest.mark.parametrize(
    ("query", "badge", "words"),
    [
        (
            "weight_dtype=fp8&engine=sglang",
            VALIDATED,
            "dense models in fp8 on Hopper parts were measured under SGLang",
        ),
        (
            "model=qwen3-235b-a22b&tensor_parallel=8&weight_dtype=fp8&engine=sglang",
            EXTRAPOLATED,
            "SGLang (engine) with mixtures of experts in fp8",
        ),
        (
            "model=qwen3-235b-a22b&tensor_parallel=8&weight_dtype=fp8&engine=vllm",
            VALIDATED,
            "under TensorRT-LLM, vLLM",
        ),
        ("model=qwen3-235b-a22b&tensor_parallel=8&weight_dtype=fp8", VALIDATED, "in fp8 on Hopper parts"),
    ],
)
def test_the_badge_knows_engine_and_kernels(query: str, badge: str, words: str) -> None:
    """Oracle: the table: on Hopper parts no closed loop of SGLang is of experts in fp8; dense ones are."""
    found = trust.trust(load_scenario(query))
    assert found.badge == badge
    assert words in " ".join(found.reasons)


def test_only_pools_that_there_are_count_as_stages_and_nodes() -> None:
    """By definition: one pool has no prefill workers, and two whose workers are stated no other groups."""
    large = {"model": "deepseek-r1", "accelerator": "h200", "weight_dtype": "fp8"}
    one = Scenario(**large, tensor_parallel=8, prefill_pipeline_parallel=2)
    wide = Scenario(**large, tensor_parallel=128, policy="disaggregated")
    narrow = wide.replace(prefill_tensor_parallel=8, decode_tensor_parallel=8)
    staged = one.replace(policy="disaggregated", pipeline_parallel=4, decode_pipeline_parallel=1)
    said = [" ".join(trust.trust(scenario).reasons) for scenario in (one, wide, narrow, staged)]
    assert "stages of layers" not in said[0] and "2 stages of layers" in said[3]
    assert "group of 128 devices over nodes" in said[1] and "devices over nodes" not in said[2]


def test_a_heavy_load_is_outside() -> None:
    """Oracle: the stated edge, 90% of what saturates."""
    assert trust.trust(Scenario(), load_frac=0.89).badge == VALIDATED
    heavy = trust.trust(Scenario(), load_frac=0.97)
    assert heavy.badge == EXTRAPOLATED and "97%" in heavy.reasons[0]


@pytest.mark.parametrize(
    ("load_frac", "says"),
    [
        (0.97, "97% of what saturates: there, a few percent of speed decide the waiting"),
        (1.04, "104% of what saturates: there, a few percent of speed decide whether the queue grows"),
        (1.5, "150% of what saturates: the queue grows for as long as requests are sent"),
        (52.58, "52.6 times what saturates: the queue grows"),
        (2000.0, "2,000 times what saturates: the queue grows"),
    ],
)
def test_a_load_beyond_saturation_is_no_close_call(load_frac: float, says: str) -> None:
    """Oracle: the bands: ten percent of speed decide near saturation, and nothing at a multiple of it."""
    (reason,) = [text for text in trust.trust(Scenario(), load_frac=load_frac).reasons if "load" in text]
    assert says in reason
    assert ("few percent" in reason) == (load_frac < 1.1)


def test_more_outside_is_wider() -> None:
    """Oracle: the stated rule: every further input widens the bands."""
    once, twice = (
        trust.trust(load_scenario(f"accelerator=h200&policy=static&{more}"))
        for more in ("", "prompt_tokens=100000&prompt_cv=0")
    )
    for name in ("tpot_band", "ttft_band", "throughput_band"):
        (low, high), (lower, higher) = getattr(once, name), getattr(twice, name)
        assert lower < low < high < higher


def test_own_points_of_a_part_that_was_never_fitted_count() -> None:
    """Oracle: MI300X runs of 2024 are several times slower than predicted; the band must say so.

    Medians of their campaigns, ranks of n + 1.
    """
    own = [row for row in blind() if row.unseen == "all" and row.point.accelerator == "mi300x"]
    names = {measured.campaign(row.point) for row in own if math.isfinite(row.throughput)}
    slow = sorted(
        float(np.median([1 / row.throughput for row in own if measured.campaign(row.point) == name]))
        for name in names
    )
    low = trust.trust(Scenario(accelerator="mi300x")).throughput_band.low
    assert low <= np.interp(0.1 * (len(slow) + 1) - 1, range(len(slow)), slow) * 1.001


@pytest.mark.parametrize("count", [3, 5, 8])
@pytest.mark.parametrize("kind", ["standard_normal", "laplace"])
def test_a_band_of_few_ratios_holds_what_it_claims(count: int, kind: str) -> None:
    """Oracle: drawn logarithms: the next one lies inside in four cases of five, of tails twice as heavy too.

    By their ranks alone five would hold two in three.
    """
    logs = getattr(np.random.default_rng(5), kind)(size=(1500, count + 1))
    found = [bands.ranked(np.exp(row[:-1]).tolist()) for row in logs]
    held = [band.low <= math.exp(row[-1]) <= band.high for band, row in zip(found, logs, strict=True)]
    assert 0.77 <= np.mean(held) <= 0.87


def test_one_ratio_says_nothing_of_the_next() -> None:
    """Oracle: there is no spread."""
    assert bands.ranked([1.3]) == NO_BAND == bands.ranked([math.nan, 2.0])


def test_a_bound_and_an_own_measurement_have_no_band() -> None:
    """Oracle: the rule."""
    assert trust.trust(Scenario(calibration="datasheet")).tpot_band == NO_BAND
    assert trust.trust(Scenario(), profile=SimpleNamespace(bands="")).badge == VALIDATED


@each([p for p in measured.points() if p.fitted][::9], name=lambda p: p.id)
def test_the_evidence_is_inside_what_it_covers(point: PublishedPoint) -> None:
    """Oracle: a point that was fitted lies in the validated region."""
    found = trust.trust(scenario_of(point))
    assert found.badge == VALIDATED, found.reasons


def test_trust_is_light() -> None:
    """Oracle: the modules of a fresh interpreter: a badge needs neither the compiler nor pandas."""
    code = "import sys\nfrom sim_core import Scenario\nfrom sim_core.evidence import trust\n"
    code += "trust.trust(Scenario())\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"numba", "sim_core.engine.kernels", "streamlit"}


def test_every_scenario_preset_has_a_badge() -> None:
    """Oracle: no exception, a known badge and a reason."""
    for preset in ready_scenarios().values():
        found = trust.trust(preset.build())
        assert found.badge in (VALIDATED, EXTRAPOLATED, ANNOUNCED) and found.reasons


def test_columns_of_a_sweep() -> None:
    """Oracle: the trust of each point's own scenario; a point that cannot be has none."""
    found = trust.columns(Scenario(), {"weight_dtype": "fp4", "feasible": True})
    assert found["badge"] == EXTRAPOLATED and found["tpot_band_low_frac"] < 1 < found["tpot_band_high_frac"]
    assert trust.columns(Scenario(), {"tensor_parallel": 4, "load_frac": 0.5})["badge"] == VALIDATED
    assert trust.columns(Scenario(), {"tensor_parallel": 3, "expert_parallel": 2})["badge"] == ""


def test_the_band_of_a_step() -> None:
    """Oracle: batch and context are covered or not, traffic does not count; the band is the model's."""
    static = Scenario(policy="static", arrivals="offline", requests=100_000, prompt_tokens=100_000)
    found = trust.of_step(static, 32, 2000.0)
    assert found.badge == VALIDATED
    assert found.tpot_band == trust.trust(Scenario()).tpot_band
    for batch, context, words in ((16_000, 2000.0, "sequences at once"), (32, 1e6, "context of 1,000,000")):
        found = trust.of_step(static, batch, context)
        assert found.badge == EXTRAPOLATED and words in found.reasons[0]
    assert "100,000 tokens" in trust.of_step(static, 32).reasons[0]


def test_the_columns_are_the_command_lines_words() -> None:
    """Oracle: `as_dict`."""
    found = trust.trust(Scenario(accelerator="trainium3"))
    row, printed = found.columns(), found.as_dict()
    assert row.pop("badge_reasons") == " ".join(printed["reasons"])
    assert row == {key: printed[key] for key in row} and len(row) == 7
    assert trust.NO_TRUST.columns().keys() == found.columns().keys()


# Entries


def test_entries_and_their_band() -> None:
    """Oracle: the files of published and simulated figures, for one pair; ranks of n + 1 for the band."""
    pair = next(p for p in entries.pairs() if (p.benchmark, p.accelerator) == ("llama2-70b", "h200"))
    spread = next(row for row in catalogue.published("llama2-70b") if row.accelerator == "h200")
    systems = [s for s in catalogue.published_check("mlperf").systems if s.benchmark == "llama2-70b"]
    system = max((s for s in systems if s.accelerator == "h200"), key=lambda s: s.entries)
    assert pair.offline == pytest.approx(spread.offline_median / system.offline)
    assert pair.server / pair.offline == pytest.approx(spread.server_median / system.server_counted)
    inside = Scenario(
        model="llama-2-70b", accelerator="h200", weight_dtype="fp8", mix="mlperf-llama2-70b",
        calibration="submission",
    )  # fmt: skip
    found = trust.trust(inside)
    assert found.badge == VALIDATED and math.isnan(found.tpot_band.low)
    ratios = [p.offline for p in entries.pairs() if p.benchmark in entries.FITTED_TO]
    edges = [
        np.interp((len(ratios) + 1) * share, range(1, len(ratios) + 1), sorted(ratios))
        for share in (0.1, 0.9)
    ]
    assert found.throughput_band == pytest.approx(tuple(edges))
    assert trust.entry_band(inside) == found.throughput_band
    assert (
        trust.entry_band(inside.replace(calibration="typical"))
        == trust.trust(inside.replace(calibration="typical")).throughput_band
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "gemma-7b"}, "no published entry of Gemma-7B"),
        ({"accelerator": "l4"}, "no published entry of Llama 2 70B on L4"),
        ({"weight_dtype": "bf16"}, "weights in bf16"),
        ({"mix": ""}, "requests (mix)"),
        ({"policy": "static"}, "static batching"),
        ({"hbm_gb_per_s": 9000.0}, "is changed"),
    ],
)
def test_what_entries_do_not_cover_is_named(changes: dict, words: str) -> None:
    """Oracle: one input moved out of what is published; the band is wider than inside."""
    inside = Scenario(
        model="llama-2-70b", accelerator="h200", weight_dtype="fp8", mix="mlperf-llama2-70b",
        calibration="submission",
    )  # fmt: skip
    found = trust.trust(inside.replace(**changes))
    assert found.badge == EXTRAPOLATED and words.lower() in " ".join(found.reasons).lower()
    assert found.throughput_band.high > trust.trust(inside).throughput_band.high


def test_the_benchmarks_fitted_to_are_the_calibrations() -> None:
    """Oracle: what the calibration file says of its data."""
    assert f"MLPerf {' and '.join(entries.FITTED_TO)} alone" in calibration("submission").data
