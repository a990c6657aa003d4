"""Power and energy: by hand, and against measured means."""

from __future__ import annotations

import dataclasses
import math

import pytest

from sim_core import catalogue
from sim_core.engine.run import run
from sim_core.price.use import mean_power_w
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import Scenario

PART = dataclasses.replace(catalogue.accelerator("h100-sxm"), tdp_w=1000.0, idle_w=100.0)


def test_power_by_hand():
    """Arithmetic: of 10 s, 4 idle at 100 W, 2 bound by memory at 550, 3 by arithmetic at 1,000, 1 waiting
    at 350 W: (400 + 1,100 + 3,000 + 350) / 10.
    """
    spent = {"weights": 1.5, "kv": 0.5, "compute": 3.0, "communication": 0.25, "fixed": 0.75}
    assert mean_power_w(PART, spent, 10.0) == pytest.approx(485)
    assert mean_power_w(PART, {"compute": 2.0}, 2.0) == 1000
    assert mean_power_w(PART, {}, 5.0) == mean_power_w(PART, {}, 0.0) == 100


def test_power_that_is_not_known():
    """Rule: no rated power, no figure; no idle power, a seventh of the rated; measured steps, the rated."""
    assert math.isnan(mean_power_w(dataclasses.replace(PART, tdp_w=None), {}, 1.0))
    assert mean_power_w(dataclasses.replace(PART, idle_w=None), {}, 1.0) == pytest.approx(140)
    assert mean_power_w(PART, {"measured": 1.0}, 1.0) == 1000
    assert mean_power_w(dataclasses.replace(PART, tdp_w=50.0), {}, 1.0) == 50  # never above the rated


@pytest.mark.parametrize(
    ("accelerator", "dtype", "prompt", "clients", "power_w"),
    [
        ("mi355x", "fp8", 1024, 4, 508),
        ("mi355x", "fp8", 1024, 16, 645),
        ("mi355x", "fp8", 8192, 32, 744),
        ("mi355x", "fp4", 1024, 8, 562),
        ("h200", "fp8", 8192, 4, 298),
    ],
)
def test_power_is_near_what_was_measured(accelerator, dtype, prompt, clients, power_w):
    """Published means of InferenceX, DeepSeek-R1 on 8 devices, answers of 1,024 tokens: within a quarter.
    Rated power, 1,400 and 700 W, is 1.9 to 2.8 times as much.
    """
    lengths = {"prompt_tokens": int(0.9 * prompt), "prompt_cv": 0.06, "output_tokens": 920, "output_cv": 0.06}
    crowd = {"arrivals": "closed", "concurrency": clients, "requests": 4 * clients}
    layout = {"model": "deepseek-r1", "weight_dtype": dtype, "tensor_parallel": 8}
    scenario = Scenario(accelerator=accelerator, **layout, **crowd, **lengths)
    assert point_of(run(scenario))["power_w_per_accelerator"] == pytest.approx(power_w, rel=0.25)


def test_energy_is_no_second_cost():
    """Invariant: at a hundredth of the load a token costs a hundred times the money, and of energy less so,
    since idle devices draw a seventh of their power.
    """
    busy, calm = (point_of(run(Scenario(requests=300, arrival_per_s=rate))) for rate in (20.0, 0.2))
    assert calm["power_w_per_accelerator"] < 0.4 * busy["power_w_per_accelerator"]
    money, energy = (calm[name] / busy[name] for name in ("usd_per_mtok", "joule_per_tok"))
    assert energy < 0.4 * money


def test_answers_of_one_token_are_averaged_over_the_pool_that_worked():
    """Oracle: the prefill pool as one pool of its own; the other pool counts for its idle power alone."""
    two = Scenario(
        policy="disaggregated",
        prefill_workers=2,
        decode_workers=1,
        output_tokens=1,
        output_cv=0.0,
        requests=200,
    )
    found = point_of(run(two))
    assert 0 < found["mbu_frac"] < found["mfu_frac"] < 1
    assert found["limit"] == "compute" and found["share_compute"] > 0.5
    assert 99 < found["power_w_per_accelerator"] < 700
