"""The app in a real browser: what paints, what moves, what stays, and that nothing leaves the machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

import sim_core
from sim_core.view.parts.chart import REFINING
from tests.browser.visit import CHART, PLOTTED, Visit

pytestmark = pytest.mark.browser


def test_the_chart_paints_and_says_what_it_shows(visit: Callable[..., Visit]) -> None:
    """Oracle: four curves by tensor parallelism, and a text alternative."""
    one = visit("/?fine=off")
    names = one.chart("chart.data.map((trace) => trace.name)")
    assert {"frontier", "TP 1", "TP 2", "TP 4", "TP 8"} <= set(names)
    assert "the best point within the limits is" in one.chart("chart.getAttribute('aria-label')")
    assert one.page.locator(".bs-finding").inner_text().startswith("Within p99 limits of")


def test_a_slider_redraws_in_place(visit: Callable[..., Visit]) -> None:
    """Oracle: the same element with other points on the same axes, and the address that says so."""
    one = visit("/?fine=off")
    one.chart("chart.dataset.mark = 'kept'")
    ranges, before = one.ranges(), one.curve()
    one.nudge("Memory bandwidth", 4)
    assert one.chart("chart.dataset.mark") == "kept"
    assert one.ranges() == ranges
    assert max(one.curve()) > max(before)
    one.until(lambda: "hbm_gb_per_s" in one.address())
    assert one.page.locator(".bs-good").count() > 0


def test_a_move_sends_little(visit: Callable[..., Visit]) -> None:
    """By hand: the figure has 18 kB, the strip of limits 8, all else 13; scripts come once a page. Of the
    messages two are of the layout and its picture, and one each of the list of points and the speed table.
    """
    one = visit("/?fine=off")
    sizes: list[int] = []
    one.page.on("websocket", lambda found: found.on("framereceived", lambda data: sizes.append(len(data))))
    one.page.reload()
    one.page.wait_for_selector(PLOTTED)
    one.nudge("Memory bandwidth", 1)
    one.page.wait_for_timeout(500)
    sizes.clear()
    one.nudge("Memory bandwidth", 1)
    one.page.wait_for_timeout(500)
    assert 20 < len(sizes) <= 36
    assert 20_000 < sum(sizes) <= 40_000


def test_a_link_restores_the_view_elsewhere(visit: Callable[..., Visit]) -> None:
    """Oracle: the first visitor's chart."""
    one = visit("/?fine=off")
    one.nudge("Memory bandwidth", 3)
    one.until(lambda: "hbm_gb_per_s" in one.address())
    link = urlsplit(one.page.url)
    other = visit(f"{link.path}?{link.query}")
    assert other.curve() == one.curve()
    assert other.slider("Memory bandwidth").get_attribute("aria-valuetext") == one.slider(
        "Memory bandwidth"
    ).get_attribute("aria-valuetext")


def test_zoom_survives_a_slider_and_fit_takes_it_back(visit: Callable[..., Visit]) -> None:
    """Oracle: the ranges before, between and after."""
    one = visit("/?fine=off")
    full = one.ranges()
    one.zoom()
    zoomed = one.ranges()
    assert zoomed != full
    one.nudge("Memory bandwidth", 2)
    assert one.ranges() == zoomed
    one.page.get_by_role("button", name="Fit").click()
    one.until(lambda: one.ranges() != zoomed)
    assert one.ranges()[0] == full[0] == 0


def test_back_undoes_a_change(visit: Callable[..., Visit]) -> None:
    """Oracle: the chart before the change."""
    one = visit("/?fine=off")
    before = one.curve()
    one.nudge("Memory bandwidth", 1)
    one.until(lambda: "hbm_gb_per_s" in one.address())
    one.page.go_back()
    one.until(lambda: one.curve() == before)
    assert "hbm_gb_per_s" not in one.address()


SENT = {"v": "1", "prompt_tokens": "3000", "max_batch": "64", "fine": "off"}


def place(one: Visit) -> tuple[str, dict[str, str], int]:
    """Return the path and the parameters of the address, and how many entries the history has."""
    return urlsplit(one.page.url).path, one.address(), one.page.evaluate("history.length")


def stands(one: Visit, path: str, address: dict[str, str], entries: int, prompt: str = "") -> None:
    """Wait until the address bar and, where one is named, the slider of the prompt say what they should."""
    one.until(lambda: one.page.locator(".bs-finding, [role=tab]").count() > 0)
    one.until(lambda: place(one) == (path, address, entries))
    one.page.wait_for_timeout(700)  # nothing more may come
    assert place(one) == (path, address, entries)
    if prompt:
        one.until(lambda: prompt in (one.slider("Prompt length").get_attribute("aria-valuetext") or ""))


def test_back_and_forward_go_through_pages_and_changes(visit: Callable[..., Visit]) -> None:
    """By hand: one entry a page and one a change, each with page and scenario; a reload keeps them."""
    one = visit("/?v=1&prompt_tokens=3000&max_batch=64&fine=off")
    moved, first = SENT | {"prompt_tokens": "4000"}, place(one)[2]
    one.turn_to("Two phases")
    stands(one, "/Two_phases", SENT, first + 1, "3,000")
    one.slider("Prompt length").focus()
    one.page.keyboard.press("ArrowRight")
    stands(one, "/Two_phases", moved, first + 2, "4,000")
    one.turn_to("Method")
    stands(one, "/Method", moved, first + 3)
    one.page.go_back()
    stands(one, "/Two_phases", moved, first + 3, "4,000")
    one.page.go_back()
    stands(one, "/Two_phases", SENT, first + 3, "3,000")
    one.page.reload()
    stands(one, "/Two_phases", SENT, first + 3, "3,000")
    one.page.go_back()
    stands(one, "/", SENT, first + 3, "3,000")
    one.page.go_forward()
    stands(one, "/Two_phases", SENT, first + 3, "3,000")
    one.page.go_forward()
    stands(one, "/Two_phases", moved, first + 3, "4,000")


def test_a_ready_scenario_adds_one_entry(visit: Callable[..., Visit]) -> None:
    """Oracle: by hand: the gallery is one, the page that it opens another; Back shows what was before."""
    one = visit("/?v=1&prompt_tokens=3000&max_batch=64&fine=off")
    first = place(one)[2]
    one.page.get_by_role("button", name="Ready scenarios").click()
    one.page.wait_for_selector(".st-key-ready_kv-pressure button")
    stands(one, "/Gallery", SENT, first + 1)
    one.page.locator(".st-key-ready_kv-pressure button").click()
    one.until(lambda: one.address().get("arrivals") == "closed")
    one.until(lambda: place(one)[::2] == ("/", first + 2))
    one.page.go_back()
    stands(one, "/Gallery", SENT, first + 2)
    one.page.go_back()
    stands(one, "/", SENT, first + 2, "3,000")


def test_the_sections_of_the_method_are_in_the_address(visit: Callable[..., Visit]) -> None:
    """Oracle: a link opens its section, a click goes to the address, Back opens the one before."""
    chosen = "[role=tab][aria-selected=true]"
    one = visit("/Method?method=scheduler", shows=chosen)
    shows = lambda name: one.until(lambda: one.page.locator(chosen).all_inner_texts() == [name])  # noqa: E731
    shows("Scheduler")
    one.page.get_by_role("tab", name="Presets", exact=True).click()
    one.until(lambda: one.address() == {"method": "presets"})
    one.page.wait_for_selector("text=Every preset is a file with its source")
    one.page.go_back()
    shows("Scheduler")
    one.page.reload()
    shows("Scheduler")


@pytest.mark.parametrize(
    ("path", "title", "marked"),
    [
        ("/Frontier?prompt_tokens=3000", "Frontier", "Frontier"),
        ("/Plan", "Plan", "Plan"),
        ("/Two_phases", "Two phases", "Why"),
        ("/Gallery", "Gallery", "Learn"),
        ("/Method", "Method", "Trust"),
    ],
)
def test_a_page_says_where_one_is(visit: Callable[..., Visit], path: str, title: str, marked: str) -> None:
    """Oracle: its title, and the only bold entry of the navigation, also for a page in a section."""
    one = visit(path, shows=".bs-finding, [role=tab]")
    one.until(lambda: one.page.title() == f"{title} · Batchscope")
    assert ("prompt_tokens" in one.address()) == ("prompt_tokens" in path)
    bold = """() => [...document.querySelectorAll("[data-testid=stTopNav] :is(a, button)")].filter((entry) =>
        getComputedStyle(entry.querySelector("p")).fontWeight >= 600).map((entry) => entry.innerText)"""
    one.until(lambda: one.page.evaluate(bold) == [marked])
    behind = """() => [...document.querySelectorAll("[data-testid=stTopNavSection] p")].map((name) =>
        getComputedStyle(name, "::after").content).filter((text) => text != "none")"""
    assert one.page.evaluate(behind) == ([] if marked == title else [f'" · {title}"'])


@pytest.mark.parametrize("width", [1024, 1200, 1400])
def test_no_page_of_the_navigation_is_folded_away(visit: Callable[..., Visit], width: int) -> None:
    """Oracle: the navigation's own mark of what it shows, where the name of a section is longest."""
    one = visit("/Disaggregation", shows=".bs-finding", viewport={"width": width, "height": 768})
    folded = "[data-testid='stTopNav'] > .rc-overflow-item[aria-hidden='true']:not(.rc-overflow-item-rest)"
    one.until(lambda: one.page.locator("[data-testid=stTopNavSection]").count() == 4)
    one.until(lambda: one.page.locator(folded).count() == 0)


def test_the_toolbar_leaves_the_legend_alone_on_touch(visit: Callable[..., Visit]) -> None:
    """Oracle: the boxes of both, which do not meet; the toolbar lies within the chart's frame."""
    one = visit("/?fine=off", viewport={"width": 400, "height": 850}, has_touch=True, is_mobile=True)
    boxes = one.page.evaluate(
        """() => [".modebar", ".legend", ".main-svg", ".bs-chart"].map((name) => {
        const box = document.querySelector(`.bs-chart${name === ".bs-chart" ? "" : " " + name}`);
        const { top, bottom } = box.getBoundingClientRect(); return [top, bottom]; })"""
    )
    bar, legend, chart, frame = boxes
    assert legend[1] < chart[1] <= bar[0] < bar[1] <= frame[1]


def test_a_rested_chart_is_refined_and_a_move_interrupts_it(visit: Callable[..., Visit]) -> None:
    """Oracle: the interval under p99 that only the finer simulation knows."""
    one = visit("/?seed=5")
    notes = one.page.locator(".bs-figure .note")
    one.until(lambda: any(re.search(r"\d–\d", text) for text in notes.all_inner_texts()), 120)
    one.nudge("Memory bandwidth", 1)
    assert any("n = " in text for text in notes.all_inner_texts())


def test_the_theme_follows_without_a_reload(visit: Callable[..., Visit]) -> None:
    """Oracle: light text on dark, dark text on light."""
    one = visit("/?fine=off", color_scheme="dark")
    dark = one.chart("chart._fullLayout.font.color")
    one.page.emulate_media(color_scheme="light")
    one.until(lambda: one.chart("chart._fullLayout.font.color") != dark)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_holds_everything(visit: Callable[..., Visit], scheme: str) -> None:
    """Oracle: nothing is wider than the 400 pixels; what is said of the chart stands beneath its axis."""
    one = visit("/?fine=off", viewport={"width": 400, "height": 800}, color_scheme=scheme)
    mark, title = ".bs-chart-mark", f"{CHART} .xtitle"
    one.page.locator(mark).first.evaluate(f"(mark) => {{ mark.textContent = '{REFINING}' }}")
    said, axis = (one.page.locator(name).first.bounding_box() for name in (mark, title))
    assert said["y"] >= axis["y"] + axis["height"]
    main = "document.querySelector('.stMain')"
    assert one.page.evaluate(f"() => {main}.scrollWidth") <= 400
    assert one.chart("chart.getBoundingClientRect().right") <= 400


def saved(one: Visit, button: str) -> Any:
    """Press a button of the take-away row and return the download that comes."""
    with one.page.expect_download() as waiting:
        one.page.get_by_role("button", name=button, exact=True).click()
    return waiting.value


def test_the_png_stands_alone(visit: Callable[..., Visit]) -> None:
    """Oracle: 1100 pixels wide at double resolution, opaque, higher than the drawing by its heading."""
    from PIL import Image

    file = saved(visit("/?fine=off"), "PNG")
    picture = Image.open(file.path())
    assert file.suggested_filename == "batchscope-frontier-llama-3.1-8b-on-h100.png"
    width, height = picture.size
    assert (width, height > 2 * 590) == (2200, True)
    assert picture.convert("RGBA").getpixel((5, 5))[3] == 255


def test_a_slide_has_the_pinned_points_and_its_source(visit: Callable[..., Visit]) -> None:
    """Oracle: 1920 x 1080 pixels; the page's finding, a line for each pin, and where it is from."""
    from PIL import Image

    one = visit("/?fine=off&pins=requests=400")
    note = "(figure, how) => { window.given = figure; return before(figure, how); }"
    one.page.evaluate(f"() => {{ const before = Plotly.downloadImage; Plotly.downloadImage = {note}; }}")
    file = saved(one, "Slide")
    with Image.open(file.path()) as picture:
        assert picture.size == (1920, 1080)
    assert file.suggested_filename == "batchscope-frontier-llama-3.1-8b-on-h100-slide.png"
    text = one.page.evaluate("window.given.layout.title.subtitle.text").replace("<br>", " ")
    said = " ".join(text.split())
    assert " ".join(one.page.locator(".bs-finding").inner_text().split()) in said
    assert re.search(r"A requests per point 400: [\d,]+ tok/s/acc\., .* TTFT p99 ", said), said
    assert f"Source: Batchscope {sim_core.__version__}, " in said


def test_the_svg_says_what_the_page_says(visit: Callable[..., Visit]) -> None:
    """Oracle: the page's finding, however it is broken into lines, its model, and the version."""
    one = visit("/?fine=off")
    file = saved(one, "SVG")
    texts = [text.text or "" for text in ElementTree.parse(file.path()).iter() if text.tag.endswith("tspan")]
    said = " ".join(" ".join(texts).split())
    assert file.suggested_filename == "batchscope-frontier-llama-3.1-8b-on-h100.svg"
    assert " ".join(one.page.locator(".bs-finding").inner_text().split()) in said
    assert "Llama-3.1-8B on H100-SXM" in " ".join(ElementTree.parse(file.path()).getroot().itertext())
    assert f"Batchscope {sim_core.__version__}" in said


@pytest.mark.parametrize("path", ["/?fine=off", "/Two_phases?phases=step", "/Batching"])
def test_a_report_opens_without_a_network(
    visit: Callable[..., Visit], chromium: Any, tmp_path: Path, path: str
) -> None:
    """Oracle: the page's finding and charts, drawn offline from the file, without a word on the console."""
    one = visit(path)
    one.page.wait_for_timeout(1500)
    file = tmp_path / "report.html"
    saved(one, "Report").save_as(file)
    context = chromium.new_context(color_scheme="dark")
    context.set_offline(True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector(PLOTTED)
    charts = one.page.locator(CHART).count()
    page.wait_for_function(f"() => document.querySelectorAll('{CHART}').length === {charts}")
    assert page.locator(".finding").inner_text() == one.page.locator(".bs-finding").inner_text()
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert said == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_frame_holds_finding_and_chart_alone(visit: Callable[..., Visit], scheme: str) -> None:
    """Oracle: what can be seen: no control, no navigation; a chart down to the end of the frame; the link."""
    size = {"width": 1280, "height": 720}
    one = visit("/?embed=true&fine=off&hbm_gb_per_s=5000", viewport=size, color_scheme=scheme)
    one.until(lambda: one.page.locator(".bs-finding").is_visible())
    others = (
        "button:not(.modebar-btn), .stMain a[href], .stApp header, input, .bs-story, .bs-figures, .bs-strip"
    )
    assert [item.inner_html() for item in one.page.locator(others).all() if item.is_visible()] == []
    box = one.page.locator(CHART).bounding_box()
    assert size["height"] - 40 < box["y"] + box["height"] <= size["height"]
    assert one.address() == {"embed": "true", "v": "1", "hbm_gb_per_s": "5000", "fine": "off"}
    one.page.set_viewport_size({"width": 1280, "height": 500})
    one.until(lambda: one.page.locator(CHART).bounding_box()["height"] < box["height"] - 200)


def test_a_frame_of_a_page_without_a_chart_holds_its_table(visit: Callable[..., Visit]) -> None:
    """Oracle: what can be seen: the ranking of the Plan page, not its controls, nor what it folds away."""
    path = "/Plan?embed=true&plan_parts=mine&prompt_tokens=800&output_tokens=100&arrival_per_s=60"
    one = visit(path, ".bs-compare")
    one.until(lambda: "simulated" in one.page.locator(".bs-compare caption").first.inner_text(), 60)
    assert one.page.locator(".bs-compare").first.is_visible()
    others = "button, header, input, [data-testid=stExpander]"
    assert [item.inner_html() for item in one.page.locator(others).all() if item.is_visible()] == []


def test_the_gallery_draws_curves_and_opens_links(visit: Callable[..., Visit]) -> None:
    """Oracle: a picture a card; the copied link opens the scenario on its page."""
    one = visit("/Gallery", shows="svg.bs-thumbnail polyline")
    cards = one.page.locator(".stButton").get_by_role("button", name="Open", exact=True)
    one.until(lambda: one.page.locator("svg.bs-thumbnail").count() == cards.count())
    one.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    one.page.get_by_label("Words").fill("decode happily")
    one.page.keyboard.press("Enter")
    one.until(lambda: cards.count() == 1)
    one.page.get_by_role("button", name="Copy link").click()
    one.page.get_by_role("button", name="Copied").wait_for()
    link = one.page.evaluate("() => navigator.clipboard.readText()")
    assert link == f"{one.url}/Batching?preset=batching-a-long-prompt-arrives"
    cards.click()
    one.until(lambda: urlsplit(one.page.url).path == "/Batching")
    one.until(lambda: "A long prompt arrives" in one.page.locator(".bs-story").inner_text())


def test_the_data_can_be_taken_away(visit: Callable[..., Visit]) -> None:
    """Oracle: one row a point, 4 curves of 12 points; the scenario is the page's own."""
    one = visit("/?fine=off&hbm_gb_per_s=5000")
    with one.page.expect_download() as waiting:
        one.page.get_by_role("button", name="CSV").click()
    lines = waiting.value.path().read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 4 * 12
    assert "output_tok_per_s_per_accelerator" in lines[0]
    assert all(line.endswith(",v=1&hbm_gb_per_s=5000") for line in lines[1:])
    with one.page.expect_download() as waiting:
        one.page.get_by_role("button", name="Scenario", exact=True).click()
    assert "hbm_gb_per_s = 5000" in waiting.value.path().read_text(encoding="utf-8")


def test_the_state_survives_a_move_between_pages(visit: Callable[..., Visit]) -> None:
    """Oracle: the address on both pages."""
    one = visit("/?fine=off&hbm_gb_per_s=5000")
    one.turn_to("Method")
    one.page.wait_for_selector("text=Cost of a step")
    one.until(lambda: one.address().get("hbm_gb_per_s") == "5000")
    one.turn_to("Frontier")
    one.page.wait_for_selector(PLOTTED)
    one.until(lambda: one.address().get("hbm_gb_per_s") == "5000")


def test_the_share_panel_holds_link_and_code(visit: Callable[..., Visit]) -> None:
    """Oracle: the address bar."""
    one = visit("/?fine=off&hbm_gb_per_s=5000")
    one.page.get_by_role("button", name="Share").click()
    one.page.wait_for_selector("text=Copy link")
    one.page.wait_for_selector("[data-testid=stImage] img, [data-testid=stImage] svg")
    link, framed, frame = one.page.get_by_test_id("stPopoverBody").locator("code").all_inner_texts()
    assert link == f"{one.url}/?v=1&hbm_gb_per_s=5000&fine=off"
    assert framed == f"{link}&embed=true"
    assert frame.startswith("<iframe") and framed.replace("&", "&amp;") in frame


def test_a_ready_scenario_opens(visit: Callable[..., Visit]) -> None:
    """Oracle: the story of the scenario, and its address."""
    one = visit("/?fine=off")
    one.page.get_by_role("button", name="Ready scenarios").click()
    one.page.wait_for_selector("svg.bs-thumbnail polyline")
    one.page.locator(".st-key-ready_kv-pressure button").click()
    one.until(lambda: "When the KV cache runs out" in one.page.locator(".bs-story").inner_text())
    one.until(lambda: one.address().get("arrivals") == "closed")


def test_controls_keep_their_values_from_page_to_page(visit):
    """Oracle: the address: a changed setting shows on every page's slider, and going back changes nothing."""
    one = visit().open("/?prompt_tokens=3000&max_batch=64")
    for name in ("Batching", "Two phases", "Batching", "Frontier"):
        one.turn_to(name)
        one.until(lambda: one.page.locator(".bs-finding").count() > 0)
        slider = one.slider("Prompt length")
        one.until(lambda slider=slider: "3,000" in (slider.get_attribute("aria-valuetext") or ""))
        one.until(lambda: one.address() == {"v": "1", "prompt_tokens": "3000", "max_batch": "64"})


PLACE = """(() => {
  const { x, y } = chart.data.find((trace) => trace.name === 'TP 2'), { xaxis, yaxis } = chart._fullLayout;
  const box = chart.getBoundingClientRect();
  return [box.x + xaxis._offset + xaxis.l2p(x[4]), box.y + yaxis._offset + yaxis.l2p(y[4])];
})()"""


def test_a_clicked_point_becomes_the_setting(visit: Callable[..., Visit]) -> None:
    """Oracle: the clicked point's own curve. It may move while the page settles: then it is clicked again."""
    one = visit("/?requests=400&fine=off")

    def clicked() -> bool:
        place = one.chart(PLACE)
        one.page.mouse.move(*place)
        one.page.wait_for_timeout(300)
        one.page.mouse.click(*place)
        one.page.wait_for_timeout(2000)
        return one.address().get("point", "").startswith("2@")

    one.until(clicked)
    one.page.get_by_role("button", name="Pin", exact=False).first.click()
    one.until(lambda: "tensor_parallel=2" in one.address().get("pins", ""))
    one.page.get_by_role("button", name="Make this my setting").first.click()
    one.until(lambda: one.address().get("tensor_parallel") == "2")
    assert not one.complaints
