"""Compare: gains by hand and against themselves, differences, frozen scenarios in the link, the page."""

from __future__ import annotations

import math

import pytest

from sim_core import compare, load_scenario, presets
from sim_core.address import to_query
from sim_core.frontier import frontier
from sim_core.view import compare as view
from sim_core.view.words import percent
from tests.visits import address, finding, healthy, open_page, said

PAGE = "11_Compare.py"
QUICK = {"requests": "400"}
H100 = load_scenario("requests=400")


def point(x: float, y: float, feasible: bool = True) -> dict:
    return {compare.X: x, compare.Y: y, "feasible": feasible, "meets_slo": True}


def test_throughput_at_an_interactivity() -> None:
    """By hand: linear between points; who is served faster is served too; nothing beyond the end."""
    rows = [point(100, 10), point(50, 60), point(20, 80), point(10, 70), point(0, 0, False)]
    assert compare.throughput_at(rows, 75) == 35
    assert compare.throughput_at(rows, 15) == 80
    assert compare.throughput_at(rows, 5) == 80
    assert math.isnan(compare.throughput_at(rows, 101))
    assert math.isnan(compare.throughput_at([], 10))


def test_a_curve_is_the_frontiers() -> None:
    """Oracle: `frontier` over the same key."""
    rows = compare.curve(H100.replace(arrivals="closed"))
    table = frontier(H100.replace(arrivals="closed"), {"concurrency": [row["concurrency"] for row in rows]})
    assert [row[compare.Y] for row in rows] == table[compare.Y].tolist()


def test_a_scenario_is_as_good_as_itself() -> None:
    """Oracle: no gain, no error: common random numbers."""
    found = compare.gain(H100, H100.replace())
    assert (found.gain_frac, found.error_frac) == (0, 0)
    assert not found.is_sure


def test_twice_the_device_is_twice_as_good() -> None:
    """Oracle: arithmetic: everything twice as fast in the datasheet calibration gives twice as many tokens at
    twice the interactivity, so at the same interactivity more than twice as many."""
    base = H100.replace(calibration="datasheet", arrivals="closed")
    part = presets.accelerator("h100-sxm")
    double = base.replace(
        hbm_gb_per_s=2 * part.hbm_gb_per_s, bf16_tflop_per_s=2.0 * part.bf16_tflop_per_s,
        link_gb_per_s=2.0 * part.link_gb_per_s,
    )  # fmt: skip
    found = compare.gain(base, double)
    assert found.is_sure and found.gain_frac > 0.95
    back = compare.gain(double, base)
    if back.interactivity == found.interactivity:
        assert (1 + back.gain_frac) * (1 + found.gain_frac) == pytest.approx(1, rel=0.01)


def test_noise_is_not_called_a_difference() -> None:
    """Oracle: the same system under another seed: whatever differs is noise, and its words say so."""
    found = compare.gain(H100, H100.replace(seed=1000))
    assert abs(found.gain_frac) < 0.1
    assert found.is_sure == (abs(found.gain_frac) > found.error_frac)
    sure = compare.Gain(25.0, 0.01, 0.02)
    assert "same throughput" in view.gain_words("B", sure)
    assert "15" in view.gain_words("B", compare.Gain(25.0, 0.15, 0.01))
    assert "less" in view.gain_words("B", compare.Gain(25.0, -0.15, 0.01))
    assert "2.5 times" in view.gain_words("B", compare.Gain(25.0, 1.5, 0.01))
    assert "cannot be compared" in view.gain_words("B", compare.Gain(math.nan, math.nan, math.nan))


def test_what_differs() -> None:
    """By hand."""
    other = H100.replace(max_batch=64, weight_dtype="fp8")
    assert compare.differences([H100, other]) == {"weight_dtype": ["bf16", "fp8"], "max_batch": [256, 64]}
    assert compare.differences([H100, H100]) == {}


def test_the_best_point_keeps_the_limits() -> None:
    """Oracle: all others that do."""
    rows = compare.curve(H100)
    top = compare.best(rows)
    assert top["meets_slo"]
    assert all(row[compare.Y] <= top[compare.Y] for row in rows if row["feasible"] and row["meets_slo"])
    assert compare.best([point(1, 1, False)]) is None


# --- the page -------------------------------------------------------------------------------------


def test_freeze_change_and_swap() -> None:
    """Oracle: the address, and who is A."""
    app = healthy(open_page(PAGE, **QUICK))
    app.button(key="freeze").click().run()
    assert address(healthy(app))["versus"] == "v=1&requests=400"
    app.select_slider(key="in_max_batch").set_value(64).run()
    assert "Inputs that differ" in said(healthy(app))
    app.button(key="swap_1").click().run()
    assert healthy(app).session_state["scenario"].max_batch == 256
    assert "max_batch=64" in address(app)["versus"]
    app.button(key="remove_1").click().run()
    assert "versus" not in address(healthy(app))


def test_the_gain_is_said() -> None:
    """Oracle: the core's gain."""
    app = healthy(open_page(PAGE, **QUICK, versus="requests=400&accelerator=h200"))
    found = compare.gain(H100, H100.replace(accelerator="h200"))
    assert percent(found.gain_frac) in finding(app)
    top = compare.best(compare.curve(H100))
    assert top is not None and "h200" in said(app)


def test_a_pasted_link_is_frozen() -> None:
    """Oracle: the address."""
    app = healthy(open_page(PAGE, **QUICK))
    app.text_input(key="in_paste").set_value("https://x.example/?v=1&max_batch=32&show=load").run()
    assert address(healthy(app))["versus"] == "v=1&max_batch=32"


@pytest.mark.parametrize(
    "versus",
    [
        "<script>alert(1)</script>", "|||", "max_batch=0", "x" * 100_000, "a=b|c=d|e=f|g=h",
        "model=llama-3.1-405b", "policy=static&arrivals=offline", "policy=disaggregated", "model=custom",
        "arrivals=closed|arrivals=offline",
    ],
)  # fmt: skip
def test_hostile_and_odd_links_are_answered(versus: str) -> None:
    """Oracle: no exception; a finding; nothing of the link as markup."""
    app = healthy(open_page(PAGE, **QUICK, versus=versus))
    assert finding(app)
    assert "<script" not in said(app)


def test_one_link_holds_three() -> None:
    """Oracle: what was frozen."""
    queries = [to_query(H100.replace(max_batch=64)), to_query(H100.replace(accelerator="b200"))]
    app = healthy(open_page(PAGE, **QUICK, versus="|".join(queries)))
    assert address(app)["versus"] == "|".join(queries)
    assert all(name in said(app) for name in ("b200", "h100-sxm"))
    figure_rows = view.labelled(
        [H100, H100.replace(max_batch=64)], [compare.curve(H100), compare.curve(H100.replace(max_batch=64))]
    )
    assert {row["curve"][0] for row in figure_rows} == {"A", "B"}


def test_every_page_can_add_to_the_comparison() -> None:
    """Oracle: the address of another page holds the frozen scenario."""
    app = healthy(open_page("1_Frontier.py", **QUICK, fine="off"))
    app.button(key="add_to_compare").click().run()
    assert address(healthy(app))["versus"] == "v=1&requests=400"


def test_points_are_evaluated_once() -> None:
    """Oracle: identity of a remembered curve."""
    assert compare.curve(H100) is compare.curve(H100.replace())


def test_what_it_takes() -> None:
    """Oracle: the smallest factor found reaches the target, and a step less does not; nothing is needed for
    what is there already; eight times is the end."""
    base = H100.replace(arrivals="closed")
    top = compare.best(compare.curve(base))[compare.Y]
    found = compare.needed(base, 1.2 * top)
    factor = found["bf16_tflop_per_s"]
    part = presets.accelerator("h100-sxm")
    assert 1 < factor < 8

    def reaches(share: float) -> bool:
        spec = base.replace(bf16_tflop_per_s=part.bf16_tflop_per_s * share)
        return compare.best(compare.curve(spec))[compare.Y] >= 1.2 * top

    assert reaches(factor) and not reaches(factor / 1.04)
    assert set(compare.needed(base, 0.5 * top).values()) == {1.0}
    assert all(math.isnan(value) for value in compare.needed(base, 100 * top).values())


def test_the_page_says_what_it_takes() -> None:
    """Oracle: the core's factor."""
    app = open_page(PAGE, **QUICK, versus="requests=400&accelerator=h200")
    app.session_state["in_needed"] = True
    text = said(healthy(app.run()))
    assert "One spec of A alone" in text
    assert "Memory bandwidth" in text
