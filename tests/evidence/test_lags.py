"""How late engines show first tokens: found on rows, and never on those left out."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from benchmarks.lags import (
    FIELDS,
    SPLIT_FIELD,
    TOKENIZER,
    engines_with,
    find_lags,
    find_split_lags,
    find_tokenizer,
    least_error,
)
from benchmarks.validate import base_of, predict_unseen
from sim_core import catalogue
from sim_core.catalogue.calibrations import calibration
from sim_core.evidence import published as measured
from sim_core.evidence.assumed import scenario_of
from sim_core.evidence.predicted import Bench, bench_of, predict
from sim_core.evidence.published import LENGTHS

BASE = calibration("typical").base


def planted(engine: str, steps: float) -> Bench:
    """Return loops of models with experts whose first tokens are seen so many steps late, and no more."""
    points = [
        point
        for point in measured.points()
        if point.fitted and (point.engine, point.family) == (engine, "moe") and point.lengths == LENGTHS[1]
    ]
    bench = bench_of(points)
    field = FIELDS["moe"]
    seen = predict(
        bench, BASE, engines=engines_with({"vllm": {field: steps}, "tensorrt-llm": {field: steps}})
    )
    late = [point._replace(ttft_ms=ttft) for point, ttft in zip(points, seen[:, 0].tolist(), strict=True)]
    return bench_of(late)


@pytest.mark.parametrize("steps", [0.0, 7.0, 22.5])
def test_a_planted_lag_comes_back(steps: float) -> None:
    """Oracle: the lag that the rows were made with; SGLang, which has none, takes that of all engines, and
    latent attention that of models with experts."""
    found = find_lags(planted("vLLM", steps), BASE)
    assert found["vllm"] == {FIELDS["dense"]: 0.0, FIELDS["moe"]: steps, FIELDS["mla"]: steps}
    assert found["sglang"] == found["vllm"]


def test_single_runs_gone_wrong_do_not_pull() -> None:
    """Oracle: a third of the runs wait a minute; the others say what the lag is."""
    predicted = np.column_stack([np.full(30, 100.0), np.full(30, 10.0), np.full(30, 1.0)])
    point = next(point for point in measured.points() if point.fitted)
    seen = [point._replace(ttft_ms=60_000.0 if place % 3 == 0 else 150.0) for place in range(30)]
    assert least_error(seen, predicted) == 5.0
    assert least_error([], predicted[:0]) == 0.0


@pytest.mark.parametrize("token_us", [0.0, 2.5, 8.0])
def test_a_planted_tokenizer_comes_back(token_us: float) -> None:
    """Oracle: the time that the rows were made with, while another one is assumed, whatever lag they have."""
    bench = planted("vLLM", 4.0)
    read = BASE._replace(prompt_token_before_s=token_us * 1e-6)
    seen = predict(bench, read, engines=engines_with({"vllm": {FIELDS["moe"]: 4.0}}))
    rows = bench_of(
        [p._replace(ttft_ms=ttft) for p, ttft in zip(bench.points, seen[:, 0].tolist(), strict=True)]
    )
    assert find_tokenizer(rows, read) == {TOKENIZER: token_us}


def test_a_tokenizer_is_not_pulled_by_runs_gone_wrong() -> None:
    """Oracle: a tenth of the runs wait a minute; the others say what a token takes."""
    bench = planted("vLLM", 0.0)
    seen = predict(bench, BASE, engines=engines_with({}))[:, 0]
    seen[::10] = 60_000.0
    rows = bench_of([p._replace(ttft_ms=ttft) for p, ttft in zip(bench.points, seen.tolist(), strict=True)])
    assert find_tokenizer(rows, BASE)[TOKENIZER] == pytest.approx(BASE.prompt_token_before_s * 1e6)


def test_rows_left_out_are_predicted_with_the_lags_of_the_others() -> None:
    """Oracle: the same row under two folds that differ in the lag: so many steps of its TPOT."""
    bench = planted("vLLM", 0.0)
    folds = [{"constants": {}, "lags": {"vllm": {FIELDS["moe"]: steps}}} for steps in (0.0, 9.0)]
    early, late = (predict_unseen(bench, fold) for fold in folds)
    np.testing.assert_allclose(late[:, 0] - early[:, 0], 9 * early[:, 1])
    np.testing.assert_array_equal(early, predict(bench, base_of({}), engines=engines_with({})))


def test_folds_have_lags_of_their_own() -> None:
    """Oracle: all rows of latent attention under TensorRT-LLM are B200's; a fold without them cannot know the
    lag that `presets/engines` holds, and one with them does."""
    folds = tomllib.loads((measured.FOLDER / "folds.toml").read_text(encoding="utf-8"))["accelerator"]
    lags = {name: fold["lags"]["tensorrt-llm"][FIELDS["mla"]] for name, fold in folds.items()}
    held = catalogue.engine("tensorrt-llm").latent_first_token_lag_steps
    assert abs(lags["b200"] - held) > 1 and abs(lags["h200"] - held) <= 1


def test_lags_of_two_pools_are_found_on_the_rows_given() -> None:
    """Oracle: rows that are 7 steps of their TPOT later than predicted, and an engine without rows, which
    takes the lag of all."""
    split = [p for p in measured.points() if p.pools == "split" and p.engine == "TensorRT-LLM"]
    latent = [point for point in split if point.family == "mla"]
    predicted = np.column_stack(
        [np.full(len(latent), 100.0), np.full(len(latent), 10.0), np.ones(len(latent))]
    )
    found = find_split_lags([point._replace(ttft_ms=170.0) for point in latent], predicted)
    assert {name: lags[SPLIT_FIELD] for name, lags in found.items()} == dict.fromkeys(found, 7.0)


def test_recipes_limit_decode_workers() -> None:
    """Oracle: `ctx1_gen4_tep8_batch32`, four workers of 32 for 192 clients: a third of them wait."""
    point = next(p for p in measured.points() if p.pools == "split" and p.engine == "TensorRT-LLM")
    point = point._replace(
        accelerator="gb200", precision="fp4", prompt_tokens=1024, output_tokens=1024, prefill_workers=1,
        prefill_devices=4, decode_workers=4, decode_devices=8, clients=192,
    )  # fmt: skip
    assert scenario_of(point).max_batch == 32
    assert scenario_of(point._replace(clients=193)).max_batch == 193
