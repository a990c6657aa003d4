"""Layouts of a model on a number of devices: which there are, and that each is a scenario of its own."""

import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.layouts import FAMILIES, Shape, layouts_of, shapes_of
from sim_core.scenario.scenario import Scenario

DENSE = Scenario(model="llama-3.1-8b")
LARGE = Scenario(model="deepseek-r1", accelerator="gb200", weight_dtype="fp4")


@pytest.mark.parametrize(("scenario", "devices"), [(DENSE, 8), (DENSE, 6), (LARGE, 8), (LARGE, 72)])
def test_every_layout_uses_all_devices(scenario: Scenario, devices: int) -> None:
    """By counting: groups or workers times the devices of each are all devices."""
    options = layouts_of(scenario, devices)
    assert options
    for option in options:
        stages = option.scenario.pipeline_parallel
        whole = option.scenario.accelerators
        if option.reason == "":
            assert whole in (devices, devices // stages), option.name  # stages may be counted or not
            assert option.devices == devices
        assert option.family in FAMILIES


def test_names_are_unique_and_say_the_shape() -> None:
    """By hand: eight devices as four groups of two, one of eight, and ranks."""
    names = [option.name for option in layouts_of(LARGE, 8)]
    assert len(set(names)) == len(names)
    assert {"TP 8", "2 × TP 4", "TEP 8", "DEP 8", "2 × DEP 4", "DEP 4 → DEP 4"} <= set(names)


def test_a_dense_model_has_neither_ranks_nor_experts() -> None:
    """By definition: without experts nothing can be spread over ranks."""
    assert {shape.family for shape in shapes_of(DENSE, 8)} == {"tensor", "stages"}


def test_what_does_not_fit_says_why() -> None:
    """By hand: 359 GB of weights do not fit one device of 192 GB."""
    (single,) = (option for option in layouts_of(LARGE, 8) if option.name == "8 × TP 1")
    assert "needs" in single.reason


def test_tensor_parallelism_leaves_a_node_only_where_nothing_else_fits() -> None:
    """By hand: 8 x 80 GB hold no 671 GB of fp8 weights, 16 x 80 GB do; 8 x 141 GB do."""
    wide = LARGE.replace(accelerator="h100-sxm", weight_dtype="fp8")
    assert Shape(16) in shapes_of(wide, 32)
    assert Shape(32) not in shapes_of(wide, 32)
    assert Shape(16) not in shapes_of(wide.replace(accelerator="h200"), 32)


def test_the_own_layout_of_the_scenario_plays_no_part() -> None:
    """By definition: the same options from any layout of the same model."""
    own = LARGE.replace(tensor_parallel=8, expert_parallel=4, replicas=3)
    assert [option.scenario for option in layouts_of(own, 8)] == [
        option.scenario for option in layouts_of(LARGE, 8)
    ]


def test_devices_are_within_limits() -> None:
    """The limit of a group of devices is that of the key."""
    with pytest.raises(ScenarioError, match="devices"):
        layouts_of(DENSE, 0)
