"""Compare: gains by hand and against themselves, differences, frozen scenarios in the link, the page."""

from __future__ import annotations

import math
import re

import pytest
from streamlit.testing.v1 import AppTest

from sim_core import catalogue, load_scenario
from sim_core.price.memory import nothing_fits
from sim_core.questions import compare
from sim_core.scenario.link.write import to_query
from sim_core.scenario.own_bands import OWN_BANDS_EXAMPLE
from sim_core.scenario.scenario import model_of
from sim_core.sweep.capacity import seeded
from sim_core.sweep.frontier import frontier
from sim_core.sweep.points import LOAD, sweep_key
from sim_core.view.compare import figures as compare_figures
from sim_core.view.compare import page as view
from sim_core.view.compare.page import results
from sim_core.view.drawing import figures as drawing
from sim_core.view.drawing.verdicts import Limits
from sim_core.view.drawing.words import THIN
from sim_core.view.frontier import figures as frontier_figures
from sim_core.view.session import sweeps
from tests.loops import each
from tests.visits import address, finding, healthy, open_page, said

PAGE = "11_Compare.py"
QUICK = {"requests": "400"}
H100 = load_scenario("requests=400")
CHANGE = view.Change("KV bf16", "KV fp8")
SIDES = ([H100], [H100, load_scenario("requests=400&accelerator=b200")])


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
    assert found.gain == (0, 0)
    assert not found.gain.is_sure


def test_twice_the_device_is_twice_as_good() -> None:
    """Oracle: arithmetic: everything twice as fast in the datasheet calibration gives twice as many tokens at
    twice the interactivity, so at the same interactivity more than twice as many."""
    base = H100.replace(calibration="datasheet", arrivals="closed")
    part = catalogue.accelerator("h100-sxm")
    double = base.replace(
        hbm_gb_per_s=2 * part.hbm_gb_per_s, bf16_tflop_per_s=2.0 * part.bf16_tflop_per_s,
        link_gb_per_s=2.0 * part.link_gb_per_s,
    )  # fmt: skip
    found = compare.gain(base, double)
    assert found.gain.is_sure and found.gain.frac > 0.95
    back = compare.gain(double, base)
    if back.interactivity == found.interactivity:
        assert (1 + back.gain.frac) * (1 + found.gain.frac) == pytest.approx(1, rel=0.01)


def test_noise_is_not_called_a_difference() -> None:
    """Oracle: the same system under another seed: whatever differs is noise, and its words say so."""
    found = compare.gain(H100, H100.replace(seed=1000))
    assert abs(found.gain.frac) < 0.1
    assert found.gain.is_sure == (abs(found.gain.frac) > found.gain.error_frac)

    def words(frac: float, error_frac: float) -> str:
        return view.gain_words(CHANGE, compare.Gain(25.0, compare.Estimate(frac, error_frac)))

    assert "same throughput" in words(0.01, 0.02)
    assert "from KV bf16 to KV fp8: +15" in words(0.15, 0.01)
    assert "−15" in words(-0.15, 0.01)
    assert "2.5 times" in words(1.5, 0.01)
    assert "cannot be compared" in view.gain_words(CHANGE, compare.Gain(math.nan, compare.UNKNOWN))


@each([(0.1337, 0.021, "+13 % (±2 %)"), (0.1337, 0.004, "+13 %"), (-0.4721, 0.23, "−50 % (±20 %)"),
       (0.01337, 0.006, "+1.3 % (±0.6 %)")])  # fmt: skip
def test_digits_follow_the_error(frac: float, error_frac: float, words: str) -> None:
    """By hand: as many decimals as the first digit of the error has."""
    assert results.signed_words(compare.Estimate(frac, error_frac)).replace(THIN, " ") == words


def test_seeds_begin_anew_after_the_largest() -> None:
    """By hand: 2^53 is the largest, then come 0, 1, ...; both gains can be had there."""
    last = H100.replace(seed=2**53)
    assert [seeded(last.replace(seed=2**53 - 1), turn).seed for turn in range(4)] == [
        2**53 - 1, 2**53, 0, 1,
    ]  # fmt: skip
    other = last.replace(max_batch=64)
    assert math.isfinite(compare.gain(last, other).interactivity)
    assert compare.gain_within(last, other).first_keeps == compare.SEEDS


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


def test_what_a_speed_and_a_throughput_together_take() -> None:
    """Oracle: the factor found reaches both, a step less does not; a speed beyond physics takes too much."""
    base = H100.replace(arrivals="closed")
    half = compare.throughput_within(base, 100.0)
    found = compare.needed(base, 1.3 * half, 100.0)
    factor, sheet = found["hbm_gb_per_s"], catalogue.accelerator("h100-sxm").hbm_gb_per_s
    assert 1 < factor < 8
    for share, enough in ((factor, True), (factor / 1.04, False)):
        there = compare.throughput_within(base.replace(hbm_gb_per_s=sheet * share), 100.0)
        assert (there >= 1.3 * half) == enough
    assert all(math.isnan(value) for value in compare.needed(base, half, 1e5).values())


@pytest.mark.parametrize("arrivals", ["poisson", "closed", "offline"])
def test_the_best_point_between_the_steps(arrivals: str) -> None:
    """Oracle: no worse than any step of the curve, and a load 3% higher (one client more) breaks a limit."""
    side = H100.replace(arrivals=arrivals, slo_tpot_ms=20.0, slo_ttft_ms=60_000.0)
    top, coarse = compare.best_within(side), compare.best(compare.curve(side))
    assert top["meets_slo"] and top[compare.Y] >= coarse[compare.Y]
    key = sweep_key(side)
    step = 1.03 * top[key] if key == LOAD else top[key] + 1
    beyond = frontier(side.replace(requests=top["requests"]), {key: [step]}).iloc[0]
    assert not beyond["meets_slo"] or beyond[compare.Y] < top[compare.Y]


def test_gain_within_the_same_limits() -> None:
    """Oracle: none against itself, whatever its own limits and seed; arithmetic: twice the price at the same
    throughput costs twice as much; the reciprocal the other way round."""
    same = compare.gain_within(H100, H100.replace(slo_tpot_ms=5.0, seed=99))
    assert same.gain == (0, 0) and (same.usd_ratio, same.joule_ratio) == (1, 1)
    assert not same.gain.is_sure
    dear = compare.gain_within(H100, H100.replace(price_usd_per_hour=6.0))
    assert (dear.gain.frac, dear.usd_ratio, dear.joule_ratio) == (0, pytest.approx(2), 1)
    other = H100.replace(accelerator="h200")
    there, back = compare.gain_within(H100, other), compare.gain_within(other, H100)
    assert there.gain.is_sure
    assert (1 + there.gain.frac) * (1 + back.gain.frac) == pytest.approx(1, rel=0.005)
    power = catalogue.accelerator("h200").tdp_w / catalogue.accelerator("h100-sxm").tdp_w
    assert there.joule_ratio == pytest.approx(power / (1 + there.gain.frac), rel=0.1)  # drawn, not rated


def test_gain_within_the_same_limits_of_classes() -> None:
    """Oracle: none against itself, whatever limits of classes the second has; a mix without them has none."""
    mixed = H100.replace(mix="200/100:0.8,2000/50:0.2", class_limits="2000/50:5000/60")
    assert compare.gain_within(mixed, mixed.replace(class_limits="2000/50:1/1")).gain == (0, 0)
    assert compare.gain_within(mixed, H100).second_keeps == compare.SEEDS


def test_a_side_that_cannot_keep_the_limits_is_named() -> None:
    """Oracle: the physics floor: an A100 needs 15 GB / 2,039 GB/s = 7.4 ms for a token, an H200 3.1 ms."""
    first = H100.replace(accelerator="h200", slo_tpot_ms=7.0)
    found = compare.gain_within(first, first.replace(accelerator="a100-80-sxm"))
    assert (found.first_keeps, found.second_keeps) == (5, 0)
    assert "KV fp8 cannot keep them" in view.limits_gain_words(CHANGE, found, first)
    none = compare.gain_within(first.replace(slo_tpot_ms=1.0), first)
    assert "Neither KV bf16 nor KV fp8" in view.limits_gain_words(CHANGE, none, first)
    seldom = found._replace(second_keeps=2)
    assert "KV fp8 in 2" in view.limits_gain_words(CHANGE, seldom, first)


def test_words_of_the_gain_within_limits() -> None:
    """By hand: a difference within its error is none; cost and energy only where both are known."""
    sure = compare.LimitsGain(5, 5, compare.Estimate(0.34, 0.02), 1.3, math.nan)
    text = view.limits_gain_words(CHANGE, sure, H100)
    assert "34" in text and "±2" in text and "1.3× the cost per token" in text and "energy" not in text
    noise = sure._replace(gain=compare.Estimate(0.01, 0.02), usd_ratio=math.nan)
    text = view.limits_gain_words(CHANGE, noise, H100)
    assert "is the same" in text and "cost" not in text


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
    found = compare.gain(H100.replace(accelerator="h200"), H100)
    assert f"from H200 to H100-SXM: {results.signed_words(found.gain)}" in finding(app)
    top = compare.best(compare.curve(H100))
    assert top is not None and "H200" in said(app)


def test_a_setting_beside_itself_is_no_change() -> None:
    """Oracle: the words; none of a gain, which would be that of a name over the same name."""
    app = healthy(open_page(PAGE, **QUICK, versus="requests=400"))
    assert "Nothing is changed yet" in finding(app)
    assert "throughput per accelerator" not in finding(app)


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
    assert all(name in said(app) for name in ("B200", "H100-SXM"))
    figure_rows = view.side_rows(
        [H100, H100.replace(max_batch=64)], [compare.curve(H100), compare.curve(H100.replace(max_batch=64))]
    )
    assert {row["curve"] for row in figure_rows} == {"Now: batch ≤ 256", "Before: batch ≤ 64"}


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
    top = compare.best_within(base)[compare.Y]
    found = compare.needed(base, 1.2 * top)
    factor = found["bf16_tflop_per_s"]
    part = catalogue.accelerator("h100-sxm")
    assert 1 < factor < 8

    def reaches(share: float) -> bool:
        spec = base.replace(bf16_tflop_per_s=part.bf16_tflop_per_s * share)
        return compare.best_within(spec)[compare.Y] >= 1.2 * top

    assert reaches(factor) and not reaches(factor / 1.04)
    assert set(compare.needed(base, 0.5 * top).values()) == {1.0}
    assert all(math.isnan(value) for value in compare.needed(base, 100 * top).values())


def limit_batch(app: AppTest, most: int) -> None:
    """Move the slider; the second run draws the sidebar again, which the first leaves alone."""
    app.select_slider(key="in_max_batch").set_value(most).run()
    app.run()


def ghosts(app: AppTest) -> list[str]:
    """Return the buttons that forget a curve: there is one while the curve is drawn."""
    return [button.label for button in app.button if button.key == "forget"]


def test_the_curve_before_a_change_stays_until_forgotten() -> None:
    """Oracle: what A was; not another scenario, not a side that is drawn anyway, not in the link."""
    app = healthy(open_page(PAGE, **QUICK))
    assert not ghosts(app)
    limit_batch(app, 64)
    assert ghosts(healthy(app))
    assert app.session_state["compared_before"].max_batch == 256
    assert address(app) == {"v": "1", "requests": "400", "max_batch": "64"}
    limit_batch(app, 16)
    assert app.session_state["compared_before"].max_batch == 64
    app.button(key="forget").click().run()
    app.run()
    assert not ghosts(healthy(app))
    limit_batch(app, 32)
    assert ghosts(app)
    app.button(key="freeze").click().run()
    app.run()
    limit_batch(app, 64)
    assert not ghosts(healthy(app))  # what was last is what was frozen
    app.button(key="swap_1").click().run()
    assert not ghosts(healthy(app))  # another scenario is no change of this one


def test_the_curve_before_is_drawn_and_named() -> None:
    """Oracle: its points, and the key that has changed."""
    rows = [{"curve": "Last: batch limit 64", **row} for row in compare.curve(H100)]
    (trace,) = compare_figures.ghost(rows)
    assert trace["line"]["dash"] == "dot" and trace["name"] == "Last: batch limit 64"
    assert len(trace["x"]) == len(rows)
    assert compare_figures.ghost([]) == [] and compare_figures.ghost_sentence([]) == ""


def test_both_gains_are_said() -> None:
    """Oracle: the core's."""
    app = healthy(open_page(PAGE, **QUICK, versus="requests=400&accelerator=h200"))
    found = compare.gain_within(H100.replace(accelerator="h200"), H100)
    assert "from H200 to H100-SXM: −" in said(app)
    assert f"{results.signed_words(found.gain)} throughput per accelerator" in said(app)
    assert "per token." in said(app)
    table = said(app).rpartition("Results, at each one")[2]
    assert re.search(rf"{re.escape(results.signed_words(found.gain))}\s*<", table)  # one change, one figure


def test_the_page_says_what_it_takes() -> None:
    """Oracle: the core's factor."""
    app = open_page(PAGE, **QUICK, versus="requests=400&accelerator=h200")
    app.session_state["in_needed"] = True
    text = said(healthy(app.run()))
    assert "One spec of H100-SXM alone" in text
    assert "Memory bandwidth" in text


def test_what_measured_steps_would_take_is_not_offered() -> None:
    """Oracle: a spec does nothing to measured step times; the side that is predicted has its answer."""
    slow, fast = (f"1:20,256:{end},context:0.00003" for end in (90, 22))
    app = healthy(open_page(PAGE, **QUICK, step_profile=slow, versus="requests=400"))
    assert "in_needed" not in app.session_state
    captions = [item.value for item in app.caption]
    assert any(
        text.startswith("What would ")
        and text.endswith("That cannot be told: measured step times do not follow the specs.")
        for text in captions
    )
    app = healthy(open_page(PAGE, **QUICK, versus=f"requests=400&step_profile={fast}"))
    assert not any("cannot be told" in item.value for item in app.caption)


def test_words_of_a_factor() -> None:
    """By hand: too much, nothing, some; a spec that is not known is not said to be too small."""
    assert "no change of this spec alone is enough, even 8×" in results.factor_words("hbm_gb", math.nan, 80.0)
    assert results.factor_words("hbm_gb", 1.0, 80.0) == "nothing: it is enough"
    assert results.factor_words("hbm_gb", 1.5, 80.0).startswith("1.5×: 120")
    assert results.factor_words("link_gb_per_s", math.nan, None) == "not known"


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ({"token_budget": "1"}, "breaks the TTFT limit"),
        ({"slo_tpot_ms": "1"}, "breaks the TPOT limit"),
        ({"prompt_tokens": "200000"}, "turns too many requests away"),
    ],
)
def test_a_side_without_a_result_says_why(link: dict[str, str], words: str) -> None:
    """Oracle: what each change makes impossible by itself; B keeps the limits and is not spoken of."""
    app = healthy(open_page(PAGE, **QUICK, **link, versus="max_batch=64&requests=400"))
    (why,) = (caption.value for caption in app.caption if "has no result" in caption.value)
    assert why.startswith("Now: ")
    assert " has no result within its limits: the point that comes closest, " in why
    assert words in why


def test_the_points_of_one_scenario_are_not_faint() -> None:
    """Oracle: no other curve has better points; of two, those that another one beats are faint."""
    alone, two = (view.side_rows(sides, [compare.curve(side) for side in sides]) for sides in SIDES)
    assert sum(row["on_frontier"] for row in alone) > 1
    limits, frame = Limits(2000.0, 40.0), drawing.frame_around(two)
    along = sweeps.ALONG[sweep_key(H100)]
    (curve,) = (t for t in frontier_figures.pareto(alone, frame, along=along, own="A", limits=limits)["data"]
                if "marker" in t and t.get("mode") == "lines+markers")  # fmt: skip
    assert "opacity" not in curve["marker"]
    assert [row["on_frontier"] for row in two if row["curve"].startswith("Now")] == [False] * len(alone)


def test_counts_have_separators_and_a_singular() -> None:
    """Oracle: as they are written by hand."""
    many = load_scenario("requests=50000&token_budget=1")
    assert view._value(many, "requests") == "50,000"
    assert view._value(many, "token_budget").split() == ["1", "token"]
    assert "the shortest has 1 token (" in nothing_fits(model_of(many), 1, 1)


def test_a_card_says_constants_in_words() -> None:
    """By hand: a fitted engine is constants of one's own; its bands come with them."""
    own = {"constants": "layer:9.5", "own_bands": OWN_BANDS_EXAMPLE}
    app = healthy(open_page("11_Compare.py", requests="300", **own))
    cards = [item.value for item in app.caption if item.value.startswith("Requests per point 300")]
    assert cards == ["Requests per point 300, constants of your own"]
