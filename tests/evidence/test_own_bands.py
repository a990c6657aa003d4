"""Bands of an engine of one's own: from points that no fit had seen, carried by links, profiles and files."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sim_core.evidence import trust
from sim_core.evidence.bands import ranked, widened
from sim_core.evidence.blind import Band
from sim_core.evidence.own import engine as own_engine
from sim_core.evidence.own.cases import METRICS
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.link.carry import carried_by
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.link.read import from_query
from sim_core.scenario.link.write import to_query
from sim_core.scenario.own_bands import Edges, OwnBands, parse_own_bands, write_own_bands
from sim_core.scenario.profiles import EngineProfile, profile_toml, read_profile
from sim_core.scenario.scenario import Scenario
from sim_core.view.trust.uploads import example

TEXT = "tpot:0.93:0.97:1.02:1.06,throughput:0.9:0.95:1.05:1.1,points:12,on:llama-3.1-8b/h100-sxm"
OWN = Scenario(constants="layer:9.5", own_bands=TEXT)


def test_bands_are_read_as_they_were_written() -> None:
    """Write then read is the identity; without a band there is no text."""
    found = parse_own_bands(TEXT)
    assert found.edges["tpot"] == Edges(0.93, 0.97, 1.02, 1.06)
    assert (found.points, found.model, found.accelerator) == (12, "llama-3.1-8b", "h100-sxm")
    assert write_own_bands(found) == TEXT
    assert write_own_bands(OwnBands()) == "" and parse_own_bands("") == OwnBands()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tpot:1:1:1", "write METRIC:LOW"),
        ("tpot:1:1:1:x", "write METRIC:LOW"),
        ("tpot:0:1:1:1", "between 0.001 and 1000"),
        ("tpot:1:1:1:nan", "write METRIC:LOW"),
        ("tpot:1:2:1:3", "must not fall"),
        ("e2e:1:1:1:1", "write METRIC:LOW"),
        ("points:-1", "write METRIC:LOW"),
        ("tpot:1:1:1:1,tpot:1:1:1:1", "twice"),
    ],
)
def test_what_is_no_band_is_refused(text: str, words: str) -> None:
    """Oracle: the words, read by eye."""
    with pytest.raises(ScenarioError, match=words):
        Scenario(own_bands=text)


def test_a_prediction_by_an_engine_of_ones_own_has_its_band() -> None:
    """By hand: the edges of the text; what it does not tell has none."""
    for scenario in (OWN, Scenario(step_profile="1:15.1", own_bands=TEXT)):
        found = trust.trust(scenario)
        assert found.tpot_band == pytest.approx(Band(0.93, 1.06))
        assert found.halves[0] == pytest.approx(Band(0.97, 1.02))
        assert math.isnan(found.ttft_band.low)
        assert "12 points of your own" in found.evidence


def test_on_another_model_or_accelerator_the_band_is_wider() -> None:
    """By hand: by half, in the logarithm, for each of the two, and the reason is said."""
    other = with_changes(OWN, accelerator="b200", model="llama-3.1-70b", tensor_parallel=4)
    found = trust.trust(other)
    assert found.tpot_band == pytest.approx(widened(Band(0.93, 1.06), 2))
    assert "measured on another model and accelerator" in found.reasons[-1]


def test_a_band_goes_with_its_engine() -> None:
    """Other constants, or none, have no band; a link and a profile carry it."""
    assert with_changes(OWN, constants="").own_bands == ""
    assert with_changes(OWN, constants="layer:9").own_bands == ""
    assert with_changes(OWN, seed=3).own_bands == TEXT
    assert from_query(to_query(OWN)) == (OWN, [])
    profile = EngineProfile(constants="layer:9.5", bands=TEXT)
    assert read_profile(profile_toml(profile).encode()) == profile
    assert carried_by(Scenario(), profile)[0] == OWN


def test_a_calibrated_engine_brings_its_band() -> None:
    """Oracle: the ratios of the points left out, by `ranked`; made-up points have 2% of noise."""
    engine = own_engine.calibrate([example(Scenario())], Scenario())
    ratios = 1 / engine.unseen[:, METRICS.index("tpot_ms")]
    told = parse_own_bands(engine.profile.bands)
    assert (told.points, told.model, told.accelerator) == (8, "llama-3.1-8b", "h100-sxm")
    whole = ranked(ratios.tolist())
    assert (told.edges["tpot"].low, told.edges["tpot"].high) == pytest.approx(tuple(whole), rel=0.01)
    assert 0.7 < whole.low < 1 < whole.high < 1.4


def test_points_near_saturation_say_nothing_of_ttft() -> None:
    """By hand: one of three lies near saturation; with it, the band of TTFT would reach to 5."""
    engine = own_engine.calibrate([example(Scenario())], Scenario())
    ratios = np.full((3, len(METRICS)), 1.0)
    ratios[:, METRICS.index("ttft_ms")] = (1.0, 0.9, 0.2)
    bare = dataclasses.replace(
        engine,
        entries=engine.entries[:3],
        fitted=np.zeros(3, bool),
        after=ratios,
        held_out=ratios,
        load_frac=np.array([0.5, 0.6, 0.99]),
    )
    found = own_engine.own_bands_of(bare, Scenario())
    assert found.edges["ttft"].high == pytest.approx(ranked([1.0, 1 / 0.9]).high)
