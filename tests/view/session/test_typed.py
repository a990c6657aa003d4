"""What is typed over a slider's value is understood as the slider says it."""

from __future__ import annotations

import re

import pytest

from sim_core.fields.amounts import amount_of
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.scenario import FIELDS
from sim_core.view.session.browser import exact
from tests.visits import healthy, open_page

PAGES = [
    ("1_Frontier.py", {"mix": "chat:0.7,rag:0.3", "arrivals": "gamma", "policy": "static"}),
    ("2_Two_phases.py", {"phases": "specs"}),
    ("2_Two_phases.py", {"phases": "speculation", "spec_tokens": "3"}),
    ("3_Batching.py", {"batching": "interference"}),
    ("3_Batching.py", {"batching": "preemption"}),
    ("5_Disaggregation.py", {}),
    ("6_Traffic_shift.py", {"demand_hours": "0.03"}),
    ("11_Compare.py", {"compare": "design"}),
    ("14_Layouts.py", {}),
    ("15_Plan.py", {"plan_around": "day"}),
]


@pytest.mark.parametrize(("page", "view"), PAGES)
def test_every_slider_takes_what_it_shows(page: str, view: dict[str, str]) -> None:
    """Oracle: the slider's own stops; those that are numbers are read, each larger than the last."""
    app = healthy(open_page(page, requests="300", fine="off", **view))
    assert app.select_slider
    for slider in app.select_slider:
        key = str(slider.key).partition("_")[2]
        info = FIELDS.get(key) or SETTINGS.get(key) or app.session_state[f"typed_{key}"].info
        stops = [str(stop).partition(" · ")[0] for stop in slider.options]
        numbers = [stop for stop in stops if re.fullmatch(r"[\d.,]+[^:,]*", stop)]
        found = [amount_of(stop, info.unit) for stop in numbers]
        assert found == sorted(set(found)), (key, numbers)


def test_a_value_of_no_key_is_written_by_who_drew_it() -> None:
    """Oracle: the mix, and the specs, that the typed values are."""
    app = healthy(open_page("1_Frontier.py", requests="300", fine="off", mix="chat:0.5,rag:0.5"))
    assert app.session_state["typed_share"].info.unit == "%"
    app = healthy(open_page("2_Two_phases.py", phases="specs"))
    info = app.session_state["typed_more_flops"].info
    assert exact.amount_of("2", info.unit) == exact.amount_of("2×", info.unit) == 2


@pytest.mark.parametrize(
    ("text", "shown", "read"),
    [("80", "75\u202f%", 0.8), ("0.8", "75\u202f%", 0.8), ("1", "75\u202f%", 1), ("120 %", "75\u202f%", 1.2)],
)
def test_a_share_is_typed_as_it_is_shown(text: str, shown: str, read: float) -> None:
    """By hand: 80 typed over 75 % is 80 %, and not eighty times."""
    assert amount_of(exact.in_percent(text, shown)) == pytest.approx(read)
