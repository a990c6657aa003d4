"""The chosen point and pinned ones: what a click, the list and a link lead to.

Oracles: the rows of the chart; the scenario of a point, simulated by itself; the sentences.
"""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from sim_core import load_scenario
from sim_core.catalogue.models.own import EXAMPLE as OWN_EXAMPLE
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.own_bands import OWN_BANDS_EXAMPLE
from sim_core.sweep.points import LOAD, LOADS
from sim_core.view.drawing.figures import Y, drawable
from sim_core.view.drawing.names import names_of
from sim_core.view.drawing.words import THIN
from sim_core.view.frontier.chosen.page import row_of_pin, said_of_pin
from sim_core.view.frontier.chosen.points import place_name
from sim_core.view.session import state, sweeps
from sim_core.view.session.sweeps import Sweep
from tests.visits import APP, address, healthy, open_page, said

QUICK = {"requests": "400", "fine": "off"}
LINK = "requests=400"


def sweep_of(link: str, by: str = "tensor_parallel", values: tuple = (1, 2), along: str = LOAD) -> Sweep:
    return Sweep(load_scenario(link), by, values, along)


@pytest.mark.parametrize(
    "sweep",
    [
        sweep_of(LINK),
        sweep_of(LINK + "&arrivals=closed", along="concurrency"),
        sweep_of(LINK + "&hbm_gb_per_s=5000", "accelerator", ("h100-sxm", "b200")),
        sweep_of(LINK, "policy", ("chunked", "static")),
    ],
)
def test_a_point_s_scenario_gives_the_point(sweep: Sweep) -> None:
    """Oracle: the point of the chart itself, as drawn at once and as refined; its request rate has been cut
    by less than a thousandth.
    """
    for found in (sweeps.quick_result(sweep), sweeps.refined(sweep)):
        rows = drawable(found.rows)
        for row in (rows[2], rows[-3]):
            pinned = row_of_pin(sweep.scenario_at(row), found.fine)
            assert pinned["requests"] == row["requests"]
            assert pinned[Y] == pytest.approx(row[Y], rel=0.002 if found.fine else 0.01)


def chosen(**query: str) -> AppTest:
    return healthy(open_page(APP, **QUICK, **query))


def choose(app: AppTest, curve: str, load_frac: float) -> None:
    """Choose a point in the list, whose options are curve by curve in the order of the loads."""
    options = [option for option in app.selectbox(key="in_point").options if option.startswith(curve)]
    app.selectbox(key="in_point").select(options[LOADS.index(load_frac)])


def test_a_chosen_point_becomes_the_setting() -> None:
    """Oracle: the name of the point: its curve has two devices, and 0.45 of the rate that saturates them."""
    sweep = sweep_of(LINK, values=(1, 2, 4, 8))
    row = next(row for row in sweeps.quick_result(sweep).rows if place_name(sweep, row) == "2@0.45")
    app = chosen()
    choose(app, "TP 2", 0.45)
    healthy(app.run())
    assert address(app)["point"] == "2@0.45" and "TP 2, " in said(app)
    healthy(app.button(key="take_point").click().run())
    assert address(app)["tensor_parallel"] == "2"
    assert float(address(app)["arrival_per_s"]) == pytest.approx(row["arrival_per_s"], rel=1e-3)


def test_pinned_points_stand_side_by_side_in_the_link() -> None:
    """Oracle: the pins of the address are those that were pinned; the table names what differs."""
    app = chosen(point="2@0.45")
    healthy(app.button(key="pin_point").click().run())
    choose(app, "TP 4", 0.45)
    healthy(app.run())
    healthy(app.button(key="pin_point").click().run())
    pins = address(app)["pins"]
    assert pins.count("|") == 1 and "tensor_parallel=4" in pins
    again = chosen(pins=pins)
    assert "Pinned points" in said(again) and "A TP 2" in said(again) and "B TP 4" in said(again)
    healthy(again.button(key="unpin_0").click().run())
    assert "|" not in address(again)["pins"]


def test_a_link_with_too_many_or_broken_pins_says_so() -> None:
    """Oracle: the sentences."""
    notes: list[str] = []
    many = "|".join(f"max_batch={n}" for n in range(1, 9))
    view = state._read_view({"pins": many, "point": "x" * 81}, notes)
    assert len(view["pins"].split("|")) == state.PINS_LIMIT and view["point"] == ""
    assert notes == [
        "point must be a name of at most 80 characters. Ignored.",
        "pins holds 8 scenarios; the first 4 are compared.",
    ]
    app = chosen(point="no@such")
    assert any("has no point at such on no:" in caption.value for caption in app.caption)


def test_a_pin_that_makes_the_link_too_long_is_named() -> None:
    """Oracle: by hand: three lists of some 3,000 characters; the second pin has one entry more."""
    entries = [f"{i / 100:.2f}:100:{10 + i % 7}" for i in range(250)]
    lists = [",".join(entries), ",".join([*entries, "9.01:100:11"]), ",".join(entries[1:])]
    app = chosen(pins="max_batch=8")
    pins = "|".join(f"v=1&request_list={text}" for text in lists[:2])
    app.session_state["view"] = app.session_state["view"] | {"pins": pins}
    assert not any("characters" in warning.value for warning in healthy(app.run()).warning)
    app.session_state["view"] = app.session_state["view"] | {"pins": f"{pins}|v=1&request_list={lists[2]}"}
    (warning,) = [item.value for item in healthy(app.run()).warning if "characters" in item.value]
    assert "the limit is 8,000" in warning and "Pinned point B" in warning and "unpin it" in warning


def test_pinned_once_is_enough_and_the_base_stays() -> None:
    """By hand: of five pins in a row the first stays, and the second makes room."""
    app = chosen(pins="max_batch=8|max_batch=16|max_batch=32|max_batch=64", point="here")
    healthy(app.button(key="pin_point").click().run())
    assert [part.rpartition("max_batch=")[2] for part in address(app)["pins"].split("|")][:3] == [
        "8",
        "32",
        "64",
    ]
    healthy(app.button(key="pin_point").click().run())
    assert address(app)["pins"].count("|") == 3


def test_names_tell_what_differs() -> None:
    """By hand."""
    base = load_scenario("")
    assert names_of([base.replace(kv_dtype="fp8"), base]) == ["KV fp8", "KV bf16"]
    names = names_of([base.replace(arrival_per_s=4.0), base.replace(tensor_parallel=2, arrival_per_s=12.5)])
    assert [name.replace(THIN, " ") for name in names] == ["TP 1, 4 req/s", "TP 2, 12.5 req/s"]
    assert names_of([base, base]) == ["Llama-3.1-8B"] * 2
    own = with_changes(base, own_model="name:Small," + OWN_EXAMPLE)
    assert names_of([own, base]) == ["Small", "Llama-3.1-8B"]
    other = with_changes(base, own_model="name:Small," + OWN_EXAMPLE.replace("layers:2", "layers:4"))
    assert names_of([own, other, base]) == ["Small", "Small 2", "Llama-3.1-8B"]
    bands = base.replace(constants="layer:9.5", own_bands=OWN_BANDS_EXAMPLE)
    assert names_of([bands, base]) == ["constants layer:9.5", "no constants"]


def test_a_slide_says_of_a_pinned_point_that_it_is_overloaded() -> None:
    """By hand: at 12 req/s for one place the queue has no end; latencies have no value and say so."""
    pin = load_scenario("max_batch=1&requests=400")
    words = said_of_pin(row_of_pin(pin, False))
    assert "TTFT p99 overloaded, TPOT p99 " in words and "–" not in words
    assert "overloaded" not in said_of_pin(row_of_pin(pin.replace(max_batch=256), False))
