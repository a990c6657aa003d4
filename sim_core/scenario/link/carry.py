"""An engine profile put into a scenario, so that its link carries it."""

from __future__ import annotations

from sim_core.scenario.link.changes import with_changes, with_engine
from sim_core.scenario.profiles import EngineProfile, thinned, write_profile
from sim_core.scenario.scenario import Scenario


def carried_by(scenario: Scenario, profile: EngineProfile) -> tuple[Scenario, float]:
    """Return the scenario with the profile in it, and the largest error that shortening its table made.

    It is on the profile's engine, unless it names one already.

    Raises
    ------
    ScenarioError
        If the profile cannot be put into a scenario.
    """
    scenario = with_engine(scenario, profile.engine)
    if profile.constants:
        own = {"calibration": profile.calibration, "constants": profile.constants}
        return with_changes(scenario, **own, step_profile="", own_bands=profile.bands), 0.0
    short, error = thinned(profile)
    steps = {"step_profile": write_profile(short), "own_bands": profile.bands}
    return with_changes(scenario, constants="", **steps), error
