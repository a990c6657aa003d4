"""The way back: to the defaults, to the ready scenario one came from, of one control."""

from __future__ import annotations

from sim_core.scenario.ready import ready_scenario
from tests.visits import APP, address, healthy, open_page

QUICK = {"requests": "200", "fine": "off"}


def opened(**query: str):
    """Open the first page with the ways back in sight, as a press on their button leaves them."""
    app = open_page(APP, **query)
    app.session_state["in_reset_open"] = True
    return healthy(app.run())


def pressed(app, key: str):
    return healthy(app.button(key=key).click().run())


def test_one_press_goes_to_the_defaults() -> None:
    """By hand: a bare address is the default scenario."""
    app = pressed(opened(**QUICK, max_batch="64", accelerator="b200"), "reset_all")
    assert address(app).keys() <= {"fine"}


def test_a_ready_scenario_that_was_changed_is_had_again() -> None:
    """By hand: the keys that the link changed behind `preset=` are the preset's once more."""
    app = opened(preset="kv-pressure", max_batch="7", **QUICK)
    assert address(app)["max_batch"] == "7"
    app = pressed(app, "reset_preset")
    assert app.session_state.scenario == ready_scenario("kv-pressure").build()


def test_one_control_goes_back_alone() -> None:
    """The other change stays; the list names both with the values before and after."""
    app = opened(**QUICK, max_batch="64", slo_tpot_ms="25")
    label = app.button(key="reset_max_batch").label
    assert "64" in label and "256" in label
    app = pressed(app, "reset_max_batch")
    assert "max_batch" not in address(app) and address(app)["slo_tpot_ms"] == "25"


def test_a_spec_goes_back_to_the_datasheet_of_the_accelerator_that_is_there() -> None:
    """The preset has another part with another bandwidth of its own: that one means nothing here."""
    app = opened(preset="twice-the-bandwidth", **QUICK)
    mine = {"accelerator": "b200", "hbm_gb_per_s": 9000.0}
    assert ready_scenario("twice-the-bandwidth").build().hbm_gb_per_s
    app.session_state["scenario"] = app.session_state.scenario.replace(**mine)
    app = pressed(app.run(), "reset_hbm_gb_per_s")
    assert "hbm_gb_per_s" not in address(app) and address(app)["accelerator"] == "b200"


def test_a_session_without_a_ready_scenario_goes_back_to_defaults() -> None:
    """A link of one's own names none: there is nothing but the defaults to go back to."""
    app = opened(**QUICK, max_batch="64")
    assert not any(button.key == "reset_preset" for button in app.button)
    assert "origin" not in app.session_state
