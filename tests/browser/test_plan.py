"""From a question to a deployment in a real browser: the Plan page, and a table of one's own as a map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sim_core.scenario.scenario import Scenario
from sim_core.sweep.large.grid import Grid
from sim_core.sweep.large.run import sweep_to_file
from sim_core.sweep.large.workers import THREADS, Crew
from tests.browser.test_own_and_pools import finding, fits
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser

# Notes when the ranking by arithmetic is there, which soon gives way to that by runs.
WATCH = """() => {
    const look = () => { window.estimated ||= /requests.s, estimated/.test(document.body.innerText); };
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def text(one: Visit) -> str:
    return one.page.locator(".stMain").inner_text()


def test_three_inputs_a_ranking_and_what_to_do_with_it(visit: Callable[..., Visit]) -> None:
    """Oracle: an estimate, then runs; the first row's button sets its replicas, its text serves its model."""
    one = visit("/Plan?plan_parts=chosen&among=h100-sxm,h200,b200", ".bs-finding")
    one.page.evaluate(WATCH)
    box = one.page.get_by_role("combobox").first  # the model
    box.click()
    one.page.get_by_role("option").first.wait_for()
    box.fill("llama 70")
    one.page.locator("[role=option]").filter(has_text="llama-3.1-70b").first.click()
    one.until(lambda: one.address().get("model") == "llama-3.1-70b")
    for label, key in (("Request rate", "arrival_per_s"), ("Each token within", "slo_tpot_ms")):
        one.slider(label).focus()
        one.page.keyboard.press("ArrowRight")
        one.until(lambda key=key: key in one.address())
    one.until(lambda: "requests/s, simulated" in text(one), 60)
    one.until(lambda: finding(one).startswith("Take "), 60)
    assert one.page.evaluate("window.estimated")
    one.page.get_by_text("Serve and test the first row").click()
    served = one.page.locator("code").filter(has_text="vllm serve").first
    served.wait_for()
    assert "Llama-3.1-70B" in served.inner_text()
    one.page.get_by_role("button", name="Add 1 to compare").click()
    one.until(lambda: "versus" in one.address())
    one.page.get_by_role("button", name="Use 1:").click()
    one.until(lambda: {"accelerator", "replicas", "tensor_parallel"} & one.address().keys())


def test_the_plan_fits_a_narrow_screen(visit: Callable[..., Visit]) -> None:
    """Oracle: nothing is wider than the 400 pixels there are."""
    narrow = {"width": 400, "height": 800}
    one = visit("/Plan?plan_parts=mine&plan_around=rate&plan_spare=1", viewport=narrow)
    one.until(lambda: "spare" in finding(one), 60)
    assert fits(one)


def test_a_table_of_ones_own_becomes_a_map(visit: Callable[..., Visit], tmp_path: Path) -> None:
    """Oracle: the values that were swept are the map's axes; the file's name is on the page."""
    out = tmp_path / "own.parquet"
    vary = {"tensor_parallel": (1, 2), "max_batch": (16, 64)}
    with Crew(THREADS, 1) as crew:
        sweep_to_file(Grid(scenario=Scenario(requests=200), vary=vary), out, crew)
    one = visit("/Atlas")
    one.page.locator("input[type=file]").set_input_files(out)
    one.until(lambda: "own.parquet" in text(one), 60)
    one.until(
        lambda: sorted(one.chart("chart.data[0].z.length + '' + chart.data[0].z[0].length")) == ["2", "2"]
    )
