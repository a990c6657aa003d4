"""Constants and step times of one's own, as a scenario carries them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sim_core import ScenarioError, load_scenario, simulate, summarize
from sim_core.catalogue.calibrations import calibration, parse_constants, write_constants
from sim_core.engine.run import run
from sim_core.evidence import trust
from sim_core.evidence.blind import NO_BAND
from sim_core.price.price import price_of, slowed
from sim_core.price.steps.shapes import pricing_of
from sim_core.price.use import shares
from sim_core.scenario.link.carry import carried_by
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.link.read import from_query
from sim_core.scenario.link.write import to_query
from sim_core.scenario.profiles import (
    MAX_TEXT,
    EngineProfile,
    parse_profile,
    profile_toml,
    read_profile,
    thinned,
    write_profile,
)
from sim_core.scenario.scenario import Scenario, calibration_of

PROFILE = EngineProfile(
    step_tokens=(1, 2, 256),
    step_time_ms=(15.1, 17.25, 220.0),
    decode_context_ms_per_token=0.0003,
    prefill_context_ms_per_pair=1e-6,
    prefill_request_ms=0.5,
    request_before_ms=1.8,
    request_after_ms=2.5,
    kv_blocks=79,
    kv_block_tokens=32,
)


# --- constants ------------------------------------------------------------------------------------


def test_own_constants_replace_those_of_the_calibration_and_no_others() -> None:
    """Oracle: the file's constants; only the two named ones differ, in base units."""
    own = calibration_of(Scenario(constants="layer:9.5,weight_read:0.71"))
    file = calibration("typical")
    changed = {
        name: value for name, value in own.base._asdict().items() if value != file.base._asdict()[name]
    }
    assert changed == {"layer_s": pytest.approx(9.5e-6), "weight_read_frac": 0.71}
    assert {item.name for item in own.constants if item.source == "your own"} == {"layer", "weight_read"}
    assert calibration("typical") is file  # the cached file itself is untouched


def test_own_constants_price_steps_everywhere_alike() -> None:
    """Oracle: by hand: a microsecond more for each of 32 layers in each step, in price and roofline."""
    base = Scenario(constants="layer:9.5")
    more = base.replace(constants="layer:10.5")
    layers = 32  # Llama 3.1 8B
    first, second = price_of(base), price_of(more)
    assert second.step.token_s[1:] - first.step.token_s[1:] == pytest.approx(layers * 1e-6)
    difference = pricing_of(more).terms.constants.layer_s - pricing_of(base).terms.constants.layer_s
    assert difference == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layers:9.5", "'layers'. Did you mean layer"),
        ("layer", "write NAME:NUMBER"),
        ("layer:fast", "write NAME:NUMBER"),
        ("layer:nan", "write NAME:NUMBER"),
        ("layer:inf", "write NAME:NUMBER"),
        ("layer:1,layer:2", "twice"),
        ("layer:-1", "between 0 and 100000 us"),
        ("weight_read:1.01", "between 0.01 and 1 frac"),  # faster than the datasheet
        ("weight_read:0", "between 0.01 and 1 frac"),
    ],
)
def test_constants_that_cannot_be_are_refused_with_the_way_out(text: str, words: str) -> None:
    """Oracle: the message names the constant and its limits; a link falls back and says so."""
    with pytest.raises(ScenarioError, match=words.replace(".", r"\.")):
        load_scenario("", constants=text)
    scenario, notes = from_query({"constants": text})
    assert scenario.constants == ""
    assert words in notes[0]


@pytest.mark.parametrize(
    "text", ["expert_half_width:1500", "expert_product:3", "moe_layer:5,expert:0.09,layer:20"]
)
def test_constants_of_former_links_are_left_out_with_a_note(text: str) -> None:
    """Oracle: what is left of the text prices the scenario, and a sentence names what does not count."""
    scenario, notes = from_query({"constants": text})
    assert scenario.constants == text
    assert not notes
    left = ",".join(entry for entry in text.split(",") if entry.startswith("layer"))
    assert calibration_of(scenario).base == calibration_of(Scenario(constants=left)).base
    said = summarize(simulate(scenario.replace(requests=50)), scenario)["warnings"]
    assert any("expert" in note and "of `constants`" in note for note in said)


def test_constants_round_trip_as_text() -> None:
    """Oracle: identity on four digits."""
    text = "layer:9.5,weight_read:0.7123"
    assert write_constants(parse_constants(text)) == text


# --- step profile ---------------------------------------------------------------------------------


def test_a_profile_round_trips_as_a_line_of_text() -> None:
    """Oracle: identity, but for the texts that a link leaves out."""
    assert parse_profile(write_profile(PROFILE)) == PROFILE
    named = dataclasses.replace(PROFILE, name="mine", source="here")
    assert parse_profile(write_profile(named)) == PROFILE


def test_a_profile_in_the_link_predicts_as_the_file_does() -> None:
    """Oracle: the run with `--profile`, bit for bit; the link's round trip keeps it."""
    scenario = Scenario(arrivals="closed", concurrency=4, requests=60)
    with_file = simulate(scenario, profile=read_profile(profile_toml(PROFILE).encode()))
    carried = scenario.replace(step_profile=write_profile(PROFILE))
    read, notes = from_query(to_query(carried))
    assert notes == []
    assert read == carried
    assert np.array_equal(simulate(read)["finished_s"], with_file["finished_s"], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1", "write TOKENS:MS"),
        ("1:fast", "write TOKENS:MS"),
        ("1:nan", "write TOKENS:MS"),
        ("1:2,contexts:3", "'contexts'. Did you mean context"),
        ("1:2,1:3", "twice"),
        ("1:2,before:3,before:4", "twice"),
        ("1.5:2", "unknown key"),
        ("context:0.1", "step_tokens is []"),
        ("0:2", "between 1 and 10,000,000"),
        ("1:-2", "step_time_ms[0] is -2"),
        ("1:2,blocks:1.5", "kv_blocks is 1.5; it must be a whole number"),
        ("1:2," * 800, "the limit is 3,000"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_with_the_way_out(text: str, words: str) -> None:
    """Oracle: the message names the entry or the value and what is allowed."""
    with pytest.raises(ScenarioError) as raised:
        load_scenario("", step_profile=text)
    assert words in str(raised.value)


def test_measured_steps_are_dropped_with_what_they_were_measured_on() -> None:
    """Oracle: the rule in `with_changes`: another device, layout or precision; not traffic or price."""
    own = Scenario(step_profile="1:15.1")
    for changes in ({"accelerator": "h200"}, {"tensor_parallel": 2}, {"hbm_gb_per_s": 5000.0},
                    {"weight_dtype": "fp8"}, {"model": "llama-3.1-70b"}):  # fmt: skip
        assert with_changes(own, **changes).step_profile == "", changes
    for changes in ({"arrival_per_s": 3.0}, {"max_batch": 8}, {"price_usd_per_hour": 2.0},
                    {"policy": "static"}, {"accelerator": "h100-sxm"}):  # fmt: skip
        assert with_changes(own, **changes).step_profile == "1:15.1", changes
    both = with_changes(own, accelerator="h200", step_profile="1:9")
    assert both.step_profile == "1:9"  # named itself, it is taken


def test_a_long_table_is_thinned_to_what_a_link_holds() -> None:
    """Oracle: a line with one bend is exact with three points; a smooth curve is close with 60."""
    tokens = tuple(range(1, 2001))
    bent = EngineProfile(step_tokens=tokens, step_time_ms=tuple(max(5.0, t / 100) for t in tokens))
    short, error = thinned(bent, 3)
    assert short.step_tokens == (1, 500, 2000)
    assert error < 1e-9
    curved = dataclasses.replace(bent, step_time_ms=tuple(5 + t**0.7 for t in tokens))
    short, error = thinned(curved)
    assert len(short.step_tokens) == 60
    assert error < 0.005
    assert len(write_profile(short)) < MAX_TEXT
    with pytest.raises(ScenarioError, match="Keep fewer points"):
        write_profile(curved)


def test_a_profile_of_constants_predicts_as_the_constants_do() -> None:
    """Oracle: the scenario with the same constants; the file's round trip is the identity."""
    profile = EngineProfile(name="mine", constants="layer:9.5,weight_read:0.71", source="here")
    assert read_profile(profile_toml(profile).encode()) == profile
    scenario = Scenario(arrivals="closed", concurrency=4, requests=60)
    carried, error = carried_by(scenario, profile)
    assert carried == scenario.replace(constants="layer:9.5,weight_read:0.71")
    assert error == 0
    assert np.array_equal(
        simulate(scenario, profile=profile)["finished_s"], simulate(carried)["finished_s"], equal_nan=True
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('constants = "layers:9.5"', "'layers'. Did you mean layer"),
        ('constants = "layer:9.5"\nstep_tokens = [1]\nstep_time_ms = [2.0]', "both given"),
        ('constants = "layer:9.5"\nkv_blocks = 12', "both given"),
        ('constants = "layer:9.5"\ncalibration = "mine"', "choose one of typical"),
        ('name = "nothing"', "step_tokens is missing"),
    ],
)
def test_a_profile_of_constants_that_cannot_be_is_refused(text: str, words: str) -> None:
    """Oracle: the message names what is wrong."""
    with pytest.raises(ScenarioError, match=words):
        read_profile(text.encode())


def test_steps_and_constants_are_carried_one_at_a_time() -> None:
    """Oracle: measured steps replace the calibration, so that constants beside them mean nothing."""
    both, _ = carried_by(Scenario(constants="layer:9.5"), PROFILE)
    assert (both.constants, both.step_profile) == ("", write_profile(PROFILE))
    back, _ = carried_by(both, EngineProfile(constants="layer:9.5"))
    assert (back.constants, back.step_profile) == ("layer:9.5", "")


def test_own_engines_are_no_evidence_of_the_published_points() -> None:
    """Oracle: the bands rest on published points under the typical calibration; neither engine has any."""
    for scenario in (Scenario(constants="layer:9.5"), Scenario(step_profile="1:15.1")):
        found = trust.trust(scenario)
        assert found.evidence == "your own measurement"
        assert found.tpot_band == pytest.approx(NO_BAND, nan_ok=True)
    assert trust.trust(Scenario(constants="layer:9.5", policy="static")).badge == trust.EXTRAPOLATED


def test_slowed_steps_take_longer_and_nothing_else_changes() -> None:
    """Oracle: by hand: without overheads, steps twice as long take every moment twice as far."""
    scenario = Scenario(
        arrivals="closed", concurrency=4, requests=40, step_profile="1:10,256:20,context:0.001"
    )
    usual = price_of(scenario)
    slow = slowed(usual, 2.0)
    first, second = (run(scenario, price=price) for price in (usual, slow))
    assert second.finished_s == pytest.approx(2 * first.finished_s)
    assert shares(slow, second.engine.usage)["measured"] == pytest.approx(second.engine.usage.busy_s)
    assert slow.kv_blocks == usual.kv_blocks
