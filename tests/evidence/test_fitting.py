"""An engine of one's own, fitted to points and steps: what was planted must come out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim_core import ScenarioError
from sim_core.catalogue.calibrations import write_constants
from sim_core.evidence.own.cases import (
    METRICS,
    Case,
    case_of,
    case_ratios,
    is_evidence,
    median_error,
    predict_cases,
)
from sim_core.evidence.own.fit import Fit, FittedLever, fit, levers_of, own_constants, speed_factor
from sim_core.evidence.own.formats.points import OwnPoint, OwnSteps
from sim_core.evidence.own.steps import fit_steps, with_overhead
from sim_core.price.price import price_of
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import requests_of

BASE = Scenario(prompt_cv=0.0, output_cv=0.0)
NOISE = 0.02


def point(**fields: object) -> OwnPoint:
    """Return a point that says nothing but what is given."""
    nan = math.nan
    empty = OwnPoint(
        name="a point",
        tool="test",
        arrivals="",
        concurrency=0,
        arrival_per_s=nan,
        arrival_cv=1.0,
        requests=0,
        prompt_tokens=1000.0,
        output_tokens=200.0,
        prompt_cv=0.0,
        output_cv=0.0,
        ttft_ms=nan,
        tpot_ms=nan,
        itl_ms=nan,
        e2e_ms=nan,
        output_tok_per_s=nan,
        request_per_s=nan,
        statistic="mean",
        rows=None,
    )
    return empty._replace(**fields)


def planted(
    constants: dict[str, float],
    clients: tuple[int, ...] = (1, 4, 16, 64, 128),
    steps_take: float = 1.0,
    base: Scenario = BASE,
    **lengths: float,
) -> list[Case]:
    """Return closed loops as an engine with other constants would measure them, with noise."""
    noise = np.random.default_rng(1)
    cases = []
    for count in clients:
        bare = point(arrivals="closed", concurrency=count, requests=10 * count, **lengths)
        case = case_of(bare, base)
        values = predict_cases([case], constants, steps_take)[0]
        values = values * np.exp(NOISE * noise.standard_normal(values.size))
        known = dict(zip(METRICS, values.tolist(), strict=True)) | {"itl_ms": math.nan, "e2e_ms": math.nan}
        cases.append(case._replace(point=bare._replace(**known)))
    return cases


def factors(found: Fit) -> dict[str, FittedLever]:
    return {item.lever.name: item for item in found.levers}


# --- points ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lever", "factor", "devices", "lengths"),
    [
        ("compute", 1.4, 1, {"prompt_tokens": 4000.0}),
        ("kv", 2.0, 1, {"prompt_tokens": 16000.0}),
        ("launches", 3.0, 8, {}),  # on one device weights hide them
        ("sequences", 6.0, 1, {"prompt_tokens": 200.0}),
        ("prompts", 3.0, 1, {"prompt_tokens": 300.0, "output_tokens": 50.0}),
        ("requests", 6.0, 1, {}),
    ],
)
def test_planted_constants_come_back(lever: str, factor: float, devices: int, lengths: dict) -> None:
    """Oracle: the factor that the points were made with, where devices, clients and lengths can show it."""
    base = BASE.replace(tensor_parallel=devices)
    logs = [math.log(factor) if item.name == lever else 0.0 for item in levers_of(base)]
    cases = planted(own_constants(base, logs), (1, 2, 4, 8, 16, 32, 64, 128), base=base, **lengths)
    found = fit(cases)
    levers = factors(found)
    assert levers[lever].factor == pytest.approx(factor, rel=0.2)
    assert levers[lever].told
    for metric in ("tpot_ms", "output_tok_per_s"):
        assert median_error(found.after, metric) < 1.5 * NOISE
        assert median_error(found.held_out, metric) < 2 * NOISE


def test_the_fit_predicts_points_it_has_not_seen() -> None:
    """Oracle: the planted engine at other lengths and clients, without noise."""
    own = {"reads": 1.5, "launches": 2.0, "sequence": 60.0}
    found = fit(planted(own), hold_out=False)
    others = planted(own, (2, 8, 32), prompt_tokens=300.0, output_tokens=400.0)
    before = case_ratios(others, predict_cases(others))
    after = case_ratios(others, predict_cases(others, found.constants))
    assert median_error(after, "tpot_ms") < 0.04 < median_error(before, "tpot_ms")


def test_what_the_points_cannot_tell_stays_with_the_calibration() -> None:
    """Oracle: one client with a short context reads hardly any KV cache and collects no batch."""
    found = fit(planted({}, (1,), prompt_tokens=16.0))
    levers = factors(found)
    for name in ("kv", "sequences", "compute"):
        assert not levers[name].told, name
        assert levers[name].factor == pytest.approx(1.0, abs=0.05), name


def test_nothing_fitted_is_faster_than_the_datasheet() -> None:
    """Oracle: bytes over bandwidth and FLOP over peak, even for points that claim to be far quicker."""
    cases = [case._replace(point=case.point._replace(tpot_ms=case.point.tpot_ms / 5)) for case in planted({})]
    own = BASE.replace(constants=write_constants(fit(cases, hold_out=False).constants))
    datasheet = price_of(BASE.replace(calibration="datasheet")).step
    assert (price_of(own).step.token_s >= datasheet.token_s).all()
    assert price_of(own).step.decode_context_s >= datasheet.decode_context_s


def test_few_points_are_not_held_out() -> None:
    """Oracle: with three points a fold would fit two: the held-out errors are left empty."""
    found = fit(planted({"layer": 80.0}, (1, 8, 64)))
    assert np.isnan(found.held_out).all()
    assert np.isfinite(found.after[:, 1]).all()


def test_the_levers_are_those_that_act() -> None:
    """Oracle: by the model: collectives act between devices only, and only models with experts have any."""
    assert "links" not in {lever.name for lever in levers_of(BASE)}
    wide = BASE.replace(tensor_parallel=2, weight_dtype="fp8")
    levers = {lever.name: lever for lever in levers_of(wide)}
    assert levers["links"].constants == ("collective_gap", "links")
    assert levers["compute"].constants == ("dense",)
    experts = {lever.name: lever for lever in levers_of(BASE.replace(model="mixtral-8x7b"))}
    assert experts["experts"].constants == ("experts",)
    assert "experts" not in levers


@pytest.mark.parametrize("planted_factor", [0.4, 1.0, 1.3, 30.0])
def test_the_speed_factor_is_the_planted_one(planted_factor: float) -> None:
    """Oracle: the factor by which every step was made longer."""
    cases = planted({}, (1, 8, 32), steps_take=planted_factor)
    assert speed_factor(cases) == pytest.approx(planted_factor, rel=0.03)


def test_a_wrong_schedule_is_no_matter_of_speed() -> None:
    """Oracle: points of an engine with four places: TTFT stays off once the factor has made TPOT right."""
    cases = [_measured_with_four_places(case) for case in planted({}, (16,))]
    factor = speed_factor(cases)
    left = case_ratios(cases, predict_cases(cases, steps_take=factor))
    assert median_error(left, "tpot_ms") < 0.01
    assert median_error(left, "ttft_ms") > 0.5


def _measured_with_four_places(case: Case) -> Case:
    small = case._replace(scenario=case.scenario.replace(max_batch=4))
    ttft_ms, tpot_ms = predict_cases([small])[0, :2].tolist()
    return case._replace(point=case.point._replace(ttft_ms=ttft_ms, tpot_ms=tpot_ms))


# --- what a point says ----------------------------------------------------------------------------


def test_clients_follow_from_rate_and_time() -> None:
    """Oracle: Little's law: 4 requests a second that take 2 s each are 8 open at a time."""
    case = case_of(point(request_per_s=4.0, e2e_ms=2000.0, tpot_ms=10.0), BASE)
    assert (case.scenario.arrivals, case.scenario.concurrency) == ("closed", 8)
    assert "Little" in case.assumed


def test_a_point_with_rows_is_replayed() -> None:
    """Oracle: the rows' own arrivals and lengths, in a run of as many requests."""
    rows = requests_of([0.0, 1.0, 2.0], [10, 20, 30], [5, 6, 7])
    case = case_of(point(rows=rows, requests=3, ttft_ms=9.0), BASE)
    assert (case.scenario.arrivals, case.scenario.requests) == ("trace", 3)
    assert np.isfinite(predict_cases([case])[0]).all()


def test_open_and_offline_points_keep_their_traffic() -> None:
    """Oracle: the point's own words."""
    gamma = case_of(point(arrivals="gamma", arrival_per_s=3.0, arrival_cv=2.0, requests=50), BASE)
    assert (gamma.scenario.arrivals, gamma.scenario.arrival_per_s, gamma.scenario.arrival_cv) == (
        "gamma",
        3,
        2,
    )
    assert case_of(point(arrivals="offline", requests=50), BASE).scenario.arrivals == "offline"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ttft_ms": 5.0}, "does not say how requests were sent"),
        ({"arrivals": "closed", "concurrency": 10**7}, "concurrency is 10,000,000"),
    ],
)
def test_a_point_that_does_not_say_what_was_sent_is_refused(fields: dict, words: str) -> None:
    """Oracle: the message names what is missing, or the limit."""
    with pytest.raises(ScenarioError, match=words):
        case_of(point(**fields), BASE)


def test_lengths_that_the_file_does_not_state_are_the_scenarios() -> None:
    """Oracle: a LoadGen summary has no prompt length: the scenario's mix is simulated, and it says so."""
    base = BASE.replace(mix="chat:1")
    case = case_of(point(arrivals="offline", requests=50, prompt_tokens=math.nan), base)
    assert case.scenario.mix == "chat:1"
    assert "lengths as in the scenario" in case.assumed
    assert case_of(point(arrivals="offline", requests=50), base).scenario.mix == ""


def test_points_without_a_figure_cannot_be_fitted() -> None:
    """Oracle: nothing measured, nothing to explain."""
    case = case_of(point(arrivals="closed", concurrency=4), BASE)
    with pytest.raises(ScenarioError, match="no point can be fitted"):
        fit([case])


def test_evidence_is_counted_once() -> None:
    """Oracle: by hand: gaps repeat TPOT, end-to-end time both, an open loop's rate is what was sent."""
    every = {"ttft_ms": 9.0, "tpot_ms": 9.0, "itl_ms": 9.0, "e2e_ms": 9.0, "output_tok_per_s": 9.0}
    closed = case_of(point(arrivals="closed", concurrency=4, **every), BASE)
    open_loop = case_of(point(arrivals="poisson", arrival_per_s=4.0, **every), BASE)
    only = case_of(point(arrivals="closed", concurrency=4, e2e_ms=9.0), BASE)
    assert is_evidence([closed, open_loop, only]).tolist() == [
        [True, True, False, False, True],
        [True, True, False, False, False],
        [False, False, False, True, False],
    ]


# --- steps ----------------------------------------------------------------------------------------


def steps(count: int, noise: float = NOISE, odd_frac: float = 0.0) -> OwnSteps:
    """Return steps of a planted engine: 10 ms, 0.05 ms a token, 0.0004 a context token, 2e-6 a pair."""
    draw = np.random.default_rng(2)
    tokens = draw.integers(1, 512, count)
    context = tokens * draw.integers(100, 2000, count)
    pairs = np.where(draw.random(count) < 0.3, draw.integers(0, 10**6, count), 0)
    time = (10 + 0.05 * tokens + 4e-4 * context + 2e-6 * pairs) * np.exp(noise * draw.standard_normal(count))
    time[draw.random(count) < odd_frac] *= 20  # a step that something else interrupted
    return OwnSteps(*(np.asarray(column, float) for column in (tokens, context, pairs, time)))


@pytest.mark.parametrize("odd_frac", [0.0, 0.03])
def test_planted_steps_come_back(odd_frac: float) -> None:
    """Oracle: the line the steps were made with, also when some of them were interrupted."""
    found = fit_steps(steps(3000, odd_frac=odd_frac))
    profile = found.profile
    assert profile.decode_context_ms_per_token == pytest.approx(4e-4, rel=0.03)
    assert profile.prefill_context_ms_per_pair == pytest.approx(2e-6, rel=0.15)
    wanted = 10 + 0.05 * np.array(profile.step_tokens)
    assert np.array(profile.step_time_ms) == pytest.approx(wanted, rel=0.06)
    assert found.error_frac < 1.5 * NOISE
    assert found.untold == ()


def test_exact_steps_are_predicted_exactly() -> None:
    """Oracle: a line without noise is its own fit, on steps held out."""
    found = fit_steps(steps(500, noise=0.0))
    assert found.predicted_ms == pytest.approx(found.measured_ms, rel=1e-6)
    assert found.bias_frac == pytest.approx(0.0, abs=1e-6)


def test_steps_that_cannot_tell_say_so() -> None:
    """Oracle: one context and no prompts in all steps: neither coefficient can be known."""
    count = 50
    alike = OwnSteps(
        np.arange(1.0, count + 1), np.full(count, 500.0), np.zeros(count), 10 + np.arange(count) / 10
    )
    found = fit_steps(alike)
    assert len(found.untold) == 2
    assert "decode contexts do not vary" in found.untold[0]
    with pytest.raises(ScenarioError, match="at least 10"):
        fit_steps(OwnSteps(*(column[:5] for column in alike)))


def test_a_quiet_point_tells_the_time_between_client_and_engine() -> None:
    """Oracle: 30 ms planted on top of what the profile predicts, half each way."""
    profile = EngineProfile(step_tokens=(1, 1000), step_time_ms=(10.0, 60.0))
    bare = case_of(point(arrivals="closed", concurrency=1, requests=5), BASE)
    on_profile = bare._replace(scenario=bare.scenario.replace(step_profile="1:10,1000:60"))
    ttft_ms = predict_cases([on_profile])[0, 0] + 30.0
    case = bare._replace(point=bare.point._replace(ttft_ms=ttft_ms))
    found = with_overhead(profile, [case])
    assert (found.request_before_ms, found.request_after_ms) == pytest.approx((15.0, 15.0))
