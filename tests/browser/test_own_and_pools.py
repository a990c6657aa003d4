"""Two phases, Disaggregation and Calibrate in a real browser: what paints, moves, fits and is taken in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.visit import PLOTTED, Visit
from tests.places import SAMPLES

pytestmark = pytest.mark.browser

TRACE_HEADER = "arrival_s,prompt_tokens,output_tokens"
POOLS = "prefill_workers=3&decode_workers=1&prompt_tokens=4000"


def finding(one: Visit) -> str:
    return one.page.locator(".bs-finding").first.inner_text()


def fits(one: Visit) -> bool:
    """Return whether nothing is wider than a screen of 400 pixels."""
    wide = one.page.evaluate("() => document.querySelector('.stMain').scrollWidth")
    return wide <= 400 and one.chart("chart.getBoundingClientRect().right") <= 400


@pytest.mark.parametrize("view", ["ratio", "stages", "pays", "link"])
def test_every_view_of_the_pools_paints(visit: Callable[..., Visit], view: str) -> None:
    """Oracle: a finding, a chart with a text alternative, and nothing wider than the screen."""
    one = visit(f"/Disaggregation?{POOLS}&pools={view}", viewport={"width": 400, "height": 800})
    assert finding(one)
    assert one.chart("chart.getAttribute('aria-label')")
    assert fits(one)


def test_the_limit_moves_the_pools(visit: Callable[..., Visit]) -> None:
    """Oracle: the address has the new limit, and the bars another height."""
    one = visit(f"/Disaggregation?{POOLS}&slo_tpot_ms=15")
    before = one.chart("Array.from(chart.data[0].y)")
    slider = one.page.get_by_role("slider", name="Each token within").last
    slider.focus()
    for _ in range(3):
        one.page.keyboard.press("ArrowRight")
    one.until(lambda: one.chart("Array.from(chart.data[0].y)") != before)
    one.until(lambda: float(one.address()["slo_tpot_ms"]) > 15)


@pytest.mark.parametrize("view", ["roofline", "step", "specs", "kv", "floor"])
def test_every_view_of_the_phases_fits_a_narrow_screen(visit: Callable[..., Visit], view: str) -> None:
    """Oracle: a finding, and nothing wider than the 400 pixels there are."""
    one = visit(f"/Two_phases?phases={view}", viewport={"width": 400, "height": 800})
    assert finding(one)
    assert fits(one)


def test_an_upload_is_fitted_put_in_use_and_taken_back(visit: Callable[..., Visit]) -> None:
    """Oracle: the sample's name and a chart; the address holds the constants until the banner's way back."""
    one = visit("/?fine=off")
    one.turn_to("Calibrate")
    one.page.wait_for_selector("text=Try it with an example")
    one.page.locator("input[type=file]").set_input_files(SAMPLES / "vllm.json")
    one.page.wait_for_selector("text=Forget all files")
    one.page.wait_for_selector(PLOTTED)
    assert "vllm.json" in one.page.locator(".stMain").inner_text()
    one.page.get_by_role("button", name="Use this engine on all pages").click()
    one.until(lambda: "constants" in one.address())
    one.turn_to("Frontier")
    one.until(lambda: "/Calibrate" not in one.page.url and "constants" in one.address())
    one.page.get_by_role("button", name="Back to the calibration").click()
    one.until(lambda: "constants" not in one.address())


def test_a_wrong_file_is_refused_in_words(visit: Callable[..., Visit]) -> None:
    """Oracle: the message names the file; the page stays."""
    one = visit("/?fine=off")
    one.turn_to("Calibrate")
    one.page.wait_for_selector("text=Try it with an example")
    wrong = {"name": "picture.json", "mimeType": "application/json", "buffer": bytes(range(256))}
    one.page.locator("input[type=file]").set_input_files(wrong)
    one.page.wait_for_selector("[data-testid=stAlert]")
    assert "picture.json" in one.page.locator("[data-testid=stAlert]").first.inner_text()
    assert one.page.get_by_role("button", name="Try it with an example").count() == 1


@pytest.mark.parametrize(
    ("path", "name", "text"),
    [
        ("/Calibrate", "a.json", '{"![x](http://127.0.0.1:9/k.png)": 1, ":red[boo]": 2}'),
        ("/Calibrate", "![x](http:##127.0.0.1:9#k.png).json", "{}"),
        ("/Traffic_shift?demand=trace", "a.csv", f"{TRACE_HEADER}\n![x](//127.0.0.1:9/t.png),1,1\n"),
    ],
)
def test_a_refused_file_is_text(visit: Callable[..., Visit], path: str, name: str, text: str) -> None:
    """Oracle: the message has the file's own characters; no picture or link is made of them, nor fetched."""
    one = visit(path, shows="[data-testid=stFileUploader]")
    file = {"name": name.replace("#", "\u2215"), "mimeType": "text/plain", "buffer": text.encode()}
    one.page.locator("input[type=file]").first.set_input_files([file])
    said = one.page.locator("[data-testid=stAlert]").filter(has_text="[x](").first
    said.wait_for()
    assert "![x](" in said.inner_text()
    assert said.locator("img, a").count() == 0


@pytest.mark.parametrize(
    ("typed", "found"),
    [("llama 70", "llama-3.1-70b"), ("r1", "deepseek-r1"), ("qwen3-235b", "qwen3-235b-a22b")],
)
def test_typing_finds_a_model(visit: Callable[..., Visit], typed: str, found: str) -> None:
    """Oracle: its id among the entries that are left, words apart or as hubs write them."""
    one = visit("/Frontier?fine=off")
    box = one.page.get_by_role("combobox").first
    box.click()
    one.page.get_by_role("option").first.wait_for()
    box.fill(typed)
    first = one.page.locator("[role=option]").filter(has_text=found).first
    one.until(lambda: first.is_visible())


def test_a_pasted_configuration_becomes_the_model(visit: Callable[..., Visit]) -> None:
    """Oracle: the address carries its layers, and a page elsewhere opens with them."""
    text = (
        '{"model_type": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 7,'
        '"num_attention_heads": 8, "vocab_size": 1000, "tie_word_embeddings": true}'
    )
    one = visit("/Frontier?fine=off")
    box = one.page.get_by_role("combobox").first
    box.click()
    box.fill("your own")
    one.page.keyboard.press("Enter")
    field = one.page.get_by_role("textbox", name="Paste a config.json")
    field.fill(text)
    field.press("Control+Enter")
    one.page.get_by_role("button", name="Use it").click()
    one.until(lambda: "layers:7" in one.address().get("own_model", ""))
    assert "7 layers: a dense block 1,024 wide" in one.page.locator("section.stSidebar").inner_text()
