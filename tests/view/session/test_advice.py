"""Advice with a handle: what its buttons change is what the finding says, by the ordinary route.

Oracles: memory by hand; the sentences of the findings; the address after a click.
"""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from sim_core import load_scenario
from sim_core.price.memory import memory
from sim_core.scenario.link.changes import with_changes
from sim_core.view.session.advice import room_advice
from tests.visits import APP, address, finding, healthy, open_page

QUICK = {"requests": "400", "fine": "off"}
LARGE = {"model": "llama-3.3-70b", "accelerator": "b200", "hbm_gb": "100"}


def advice(app: AppTest) -> dict[str, str]:
    """Return the advice of a page: the words of its buttons, with their keys."""
    return {button.label: button.key for button in app.button if str(button.key).startswith("advice")}


def test_what_makes_room() -> None:
    """By hand: 141 GB at two bytes a weight need two devices of 100 GB, or one byte; each makes room."""
    scenario = load_scenario("", **(LARGE | {"hbm_gb": 100.0}))
    found = {item.label: item.changes for item in room_advice(scenario)}
    assert found == {"Use TP 2": {"tensor_parallel": 2}, "Choose fp8 weights": {"weight_dtype": "fp8"}}
    for changes in found.values():
        assert memory(with_changes(scenario, **changes))["kv_tokens"] > 0
    narrow = {item.label for item in room_advice(scenario.replace(hbm_gb=60.0))}
    assert narrow == {"Use TP 4", "Choose fp4 weights"}
    assert room_advice(load_scenario("")) == []


@pytest.mark.parametrize(
    ("page", "view"), [(APP, {}), ("2_Two_phases.py", {}), ("2_Two_phases.py", {"phases": "kv"})]
)
def test_a_model_that_does_not_fit_gets_room_by_a_click(page: str, view: dict[str, str]) -> None:
    """Oracle: the address after the click, and a page without the advice."""
    app = healthy(open_page(page, **QUICK, **LARGE, **view))
    assert set(advice(app)) == {"Use TP 2", "Choose fp8 weights"}
    healthy(app.button(key=advice(app)["Choose fp8 weights"]).click().run())
    assert address(app)["weight_dtype"] == "fp8" and "Choose fp8 weights" not in advice(app)


def test_the_better_curve_is_taken_by_a_click() -> None:
    """Oracle: the finding names another curve than the setting's; after the click it is the setting's."""
    app = healthy(open_page(APP, **QUICK, tensor_parallel="8"))
    assert "with TP 1 at" in finding(app)
    healthy(app.button(key=advice(app)["Use TP 1"]).click().run())
    assert "tensor_parallel" not in address(app) and "Use TP 1" not in advice(app)


def test_an_overloaded_setting_offers_the_highest_rate() -> None:
    """Oracle: after the click the setting is no longer overloaded, and keeps its limits."""
    app = healthy(open_page(APP, **QUICK, arrival_per_s="60"))
    (label,) = [label for label in advice(app) if "req/s" in label]
    healthy(app.button(key=advice(app)[label]).click().run())
    assert float(address(app)["arrival_per_s"]) < 30 and not [text for text in advice(app) if "req/s" in text]


@pytest.mark.parametrize(
    ("page", "view"),
    [
        ("5_Disaggregation.py", {"pools": "ratio", "prefill_workers": "7", "decode_workers": "1"}),
        ("5_Disaggregation.py", {"pools": "stages", "prefill_workers": "1", "decode_workers": "7"}),
        ("5_Disaggregation.py", {"pools": "link", "kv_link_gb_per_s": "0.5"}),
        ("3_Batching.py", {"batching": "wait", "policy": "static", "batch_wait_ms": "5000"}),
        ("3_Batching.py", {"batching": "engines", "arrivals": "closed", "concurrency": "256"}),
        ("3_Batching.py", {"batching": "interference", "policy": "prefill_first"}),
        ("3_Batching.py", {"batching": "endings", "policy": "static"}),
        (
            "3_Batching.py",
            {"batching": "preemption", "kv_memory_frac": "0.3", "arrivals": "closed", "concurrency": "256"},
        ),
        (
            "2_Two_phases.py",
            {"phases": "speculation", "spec_tokens": "8", "acceptance_length": "3", "at_batch": "256"},
        ),
    ],
)
def test_every_click_leads_to_a_page_that_does_not_repeat_it(page: str, view: dict[str, str]) -> None:
    """Oracle: the address changes, and the advice that was followed is gone."""
    app = healthy(open_page(page, **QUICK, **view))
    found, before = advice(app), address(app)
    assert found
    label = next(iter(found))
    healthy(app.button(key=found[label]).click().run())
    assert address(app) != before and label not in advice(app)
