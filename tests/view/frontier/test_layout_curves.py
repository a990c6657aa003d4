"""Curves of the Frontier page by the kind of layout."""

from sim_core.scenario.link.read import from_query
from sim_core.scenario.scenario import Scenario
from sim_core.view.parts.actions import frontier_command
from sim_core.view.session import sweeps
from tests.visits import APP, healthy, open_page, said

DENSE = Scenario(requests=300)
LARGE = Scenario(
    model="deepseek-r1", accelerator="h200", weight_dtype="fp8", tensor_parallel=8, arrivals="closed"
)


def sweep_of(scenario: Scenario) -> sweeps.Sweep:
    names = tuple(sweeps.layouts_on(scenario))
    return sweeps.Sweep(scenario, sweeps.LAYOUT, names, sweeps.sweep_key(scenario))


def test_there_is_a_curve_of_each_kind_and_the_own_one() -> None:
    """By definition: kinds that a model with experts has on eight devices; two pools do not fit."""
    names = list(sweeps.layouts_on(LARGE))
    assert {"TP 8", "TEP 8", "DEP 8"} <= set(names)
    assert "TP 1" in sweeps.layouts_on(DENSE)


def test_each_point_has_the_keys_of_its_layout() -> None:
    """Oracle: the scenario of the point itself."""
    for point in sweep_of(LARGE).points():
        if point.scenario is not None:
            assert all(
                getattr(point.scenario, key) == point.keys[key]
                for key in ("tensor_parallel", "attention_data_parallel", "expert_parallel", "replicas")
            )


def test_the_command_runs_each_layout() -> None:
    """By counting: one line for each curve, each with a link that can be read."""
    sweep = sweep_of(LARGE)
    lines = frontier_command(sweep, fine=False).splitlines()
    assert len(lines) == len(sweep.values)


def test_the_page_draws_them() -> None:
    """Oracle: no exception, and the own curve named."""
    app = healthy(open_page(APP, vary="layout", requests="300"))
    assert "TP 1" in said(app)
    assert from_query("vary=layout", ignore=("vary",))[1] == []


def test_pools_that_say_the_devices_of_their_workers_name_the_curve() -> None:
    """By hand: what one pool would have says nothing of workers of 2 and of 4 devices."""
    sized = Scenario(policy="disaggregated", prefill_tensor_parallel=2, decode_tensor_parallel=4)
    sized = sized.replace(prefill_workers=2, decode_workers=1)
    for scenario, name in ((sized, "2 × TP 2 → TP 4"), (sized.replace(decode_tensor_parallel=None), "TP 1")):
        assert sweeps.Sweep(scenario, "tensor_parallel", (1,), "concurrency").own == name
