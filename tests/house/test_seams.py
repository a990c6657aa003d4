"""Rules where two parts of the product meet, each small enough to be lost without anybody noticing."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from sim_core import Scenario, catalogue, simulate
from sim_core.command.main import main
from sim_core.evidence import entries, trust
from sim_core.evidence.bands import WIDER, closest, own_band, ranked
from sim_core.evidence.coverage import outside
from sim_core.evidence.published import family_of
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.link.read import from_query
from sim_core.scenario.scenario import model_of

STEPS = "1:10,1001:110"  # linear: 0.1 ms a token, 10 ms for the first


# Measured steps, and keys that contradict each other


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"model": "llama-3.1-70b"}, False),
        ({"layers": 16}, False),
        ({"accelerator": "h200"}, False),
        ({"hbm_gb_per_s": 1000.0}, False),
        ({"hbm_gb": 40.0}, True),
        ({"tensor_parallel": 2}, False),
        ({"weight_dtype": "fp8"}, False),
        ({"kv_dtype": "fp8"}, False),
        ({"calibration": "datasheet"}, False),
        ({"constants": "layer:9.5"}, False),
        ({"max_batch": 8}, True),
        ({"prefill_switch_ms": 7.0}, True),
    ],
)
def test_measured_steps_go_with_what_they_were_measured_on(changes: dict[str, Any], kept: bool) -> None:
    """Oracle: whether the key decides how long a step takes, as the documented rule has it."""
    found = with_changes(Scenario(step_profile=STEPS), **changes)
    assert bool(found.step_profile) == kept


@pytest.mark.parametrize(("switch_ms", "ttft_ms"), [(None, 23.0), (0.0, 20.0), (7.0, 27.0)])
def test_the_switch_counts_beside_measured_steps(switch_ms: float | None, ttft_ms: float) -> None:
    """Oracle: by hand: 101 tokens take 20 ms, and the prompt the profile's 3 ms or what is given instead."""
    scenario = Scenario(
        step_profile=f"{STEPS},prompt:3",
        prefill_switch_ms=switch_ms,
        arrivals="trace",
        request_list="0:101:1",
    )
    assert simulate(scenario).first_token_s[0] == pytest.approx(1e-3 * ttft_ms, rel=1e-12)


@pytest.mark.parametrize(
    ("query", "kept"),
    [("heads=40&kv_heads=16", {"heads": 40}), ("kv_heads=16&heads=40", {"kv_heads": 16})],
)
def test_of_keys_that_contradict_each_other_the_last_is_dropped(query: str, kept: dict[str, Any]) -> None:
    """Oracle: 16 key/value heads serve no 40 query heads; each alone fits the preset's 32 and 8."""
    scenario, notes = from_query(query)
    assert scenario.changed() == kept
    assert len(notes) == 1


# Bands


def log_width(band: Any) -> float:
    return math.log(band.high / band.low)


@pytest.mark.parametrize("part", [part.id for part in catalogue.accelerators().values() if part.announced])
def test_announced_figures_widen_the_bands(part: str) -> None:
    """Oracle: the stated rule: half wider for each further input outside, and once more where announced."""
    scenario = Scenario(accelerator=part)
    further = len({item.what for item in outside(scenario)}) - 1 + 1
    held = closest(family_of(model_of(scenario)), part, "accelerator").bands()
    found = trust.trust(scenario)
    for name in ("ttft", "tpot", "throughput"):
        wide = log_width(getattr(found, f"{name}_band"))
        assert wide == pytest.approx(log_width(held[name]) * (1 + WIDER * further))


def test_announced_figures_widen_the_band_of_entries() -> None:
    """Oracle: the same rule: half wider for each reason, one of which is that the figures are announced."""
    scenario = Scenario(
        model="llama-2-70b", tensor_parallel=4, accelerator="trainium3", calibration="submission"
    )
    found = trust.trust(scenario)
    assert "announced" in found.reasons[0]
    held = ranked(entries.entry_ratios("llama-2-70b", "offline"))
    wide = log_width(found.throughput_band)
    assert wide == pytest.approx(log_width(held) * (1 + WIDER * len(found.reasons)))


def test_a_part_that_was_never_fitted_has_the_mirrored_band_of_its_throughput_in_tpot() -> None:
    """Oracle: an engine that makes 1/x of the tokens takes x times as long for each of them."""
    own, found = own_band("mi300x"), trust.trust(Scenario(accelerator="mi300x"))
    assert own.low < 0.5 < own.high < 2.0  # far from symmetric: its mirror image is another band
    assert found.tpot_band.high == pytest.approx(1 / own.low)
    assert found.tpot_band.low <= 1 / own.high


# Where the time went


def limits_of(capsys: pytest.CaptureFixture, query: str) -> dict[str, Any]:
    """Return what a run says, from the command line."""
    assert main(["run", query]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("layout", "devices"),
    [
        ("prefill_workers=1&decode_workers=3", (1, 3)),
        ("prefill_workers=3&decode_workers=1", (3, 1)),
        ("prefill_workers=2&decode_workers=2&decode_tensor_parallel=4", (2, 8)),
    ],
)
def test_idle_devices_are_counted_not_pools(
    capsys: pytest.CaptureFixture, layout: str, devices: tuple[int, int]
) -> None:
    """Oracle: the share of the devices' time that is idle, from how busy the workers of each pool are."""
    found = limits_of(capsys, f"policy=disaggregated&{layout}&requests=200&arrival_per_s=8")
    busy = [found["pools"][name]["busy_frac"] for name in ("prefill", "decode")]
    assert abs(busy[0] - busy[1]) > 0.05
    idle = sum(count * (1 - share) for count, share in zip(devices, busy, strict=True)) / sum(devices)
    assert found["limits"]["idle_frac"] == pytest.approx(idle)


@pytest.mark.parametrize(
    ("requests", "blocks", "admission", "blocked"),
    [
        ("0:1000:1x4", 10_000, "full_prompt", False),  # the budget of 512 tokens makes them wait
        ("0:1000:1x2", 80, "first_chunk", False),  # the head's next chunk fits, if not its whole prompt
        ("0:1000:1x2", 80, "full_prompt", True),
        ("0:1000:1,0:1000:200,0:1000:1", 80, "first_chunk", True),  # once the second decodes, no chunk fits
    ],
)
def test_who_waits_for_the_token_budget_is_not_blocked_by_kv(
    capsys: pytest.CaptureFixture, requests: str, blocks: int, admission: str, blocked: bool
) -> None:
    """Oracle: by hand: 512 tokens are 32 blocks of 16, a whole prompt is 63."""
    query = f"arrivals=trace&request_list={requests}&token_budget=512&warmup_frac=0"
    query += f"&admission={admission}"
    found = limits_of(capsys, f"{query}&step_profile={STEPS},blocks:{blocks},block_tokens:16")
    assert (found["limits"]["kv_blocked_frac"] > 0) == blocked
    assert found["limits"]["batch_blocked_frac"] == 0
