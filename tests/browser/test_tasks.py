"""What people come for, done from the start of the app by keyboard alone, in so many steps.

Engineers ask, bring their model, engine and prices, keep and send; architects design; teachers find, teach
and open a room.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.browser.task import Task
from tests.browser.test_own_and_pools import finding
from tests.browser.visit import Visit
from tests.places import SAMPLES

pytestmark = pytest.mark.browser

QUICK = "/?fine=off"
CONFIG = (
    '{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 31,'
    '"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256}'
)
FIVE_FILES = ("vllm.json", "sglang.jsonl", "guidellm.json", "genai_bench.json", "trtllm_bench.json")


@pytest.fixture
def task(visit: Callable[..., Visit]) -> Task:
    """Return a visitor in front of the bare app."""
    return Task(visit(QUICK))


def test_how_many_of_which_and_what_they_cost(task: Task) -> None:
    """Two steps, 20 s: the page, the question as it is asked. Oracle: the address, the words."""
    field = task.page.get_by_role("textbox", name="Your question")
    task.step(lambda: task.turn_to("Plan"), lambda: field.count() == 1)
    asked = "70B fp8, H200 or B200, p99 TTFT 1 s, TPOT 30 ms, 3k/500, 20 req/s: how many, which TP, what cost"
    task.step(lambda: task.write(field, asked), lambda: task.says("20 requests/s, simulated"))
    assert task.took_s() <= 20
    told = {"weight_dtype": "fp8", "slo_ttft_ms": "1000", "slo_tpot_ms": "30", "prompt_tokens": "3000"}
    task.one.until(lambda: task.has(**told))  # the address follows what is drawn
    answer = finding(task.one)
    assert re.search(r"Take \d+ engines, each on \d+ \w+ \(TP\d+, fp8\): \d+ accelerators, .* USD/h", answer)
    assert task.says("H200", "B200", "Understood: Llama-3.3-70B")
    assert task.steps <= 2


def test_a_model_of_ones_own(task: Task) -> None:
    """Three steps: the entry, the text, the button. Oracle: its layers in the address, a rate."""
    field = task.page.get_by_role("textbox", name="Paste a config.json")
    use = task.page.get_by_role("button", name="Use it")
    task.step(lambda: task.choose("Model", "your own", "our own"), lambda: field.count() == 1)
    task.step(lambda: task.write(field, CONFIG, "Control+Enter"), lambda: use.count() == 1)
    task.step(lambda: task.press("Use it"), lambda: "layers:31" in task.one.address().get("own_model", ""))
    task.one.until(lambda: "tok/s" in finding(task.one))
    assert task.steps <= 4


def test_ones_own_engine_from_five_files(task: Task) -> None:
    """Three steps: the page, the files, the button. Oracle: each file is named; the address has constants."""
    use = "Use this engine on all pages"
    files, button = task.page.locator("input[type=file]"), task.page.get_by_role("button", name=use)
    task.step(lambda: task.turn_to("Calibrate"), lambda: files.count() > 0)
    given = [SAMPLES / name for name in FIVE_FILES]
    task.step(lambda: files.first.set_input_files(given), lambda: button.count() > 0)
    task.one.until(lambda: task.says(*FIVE_FILES), 60)
    task.step(lambda: task.press(use), lambda: "constants" in task.one.address())
    assert task.steps <= 3


def test_what_an_fp8_cache_brings(task: Task) -> None:
    """Three steps: freeze, choose, compare. Oracle: the finding tells the change from bf16 to fp8 in %."""
    task.step(lambda: task.press("Add to compare"), lambda: "versus" in task.one.address())
    task.step(lambda: task.choose("KV cache", "fp8", "fp8"), lambda: task.has(kv_dtype="fp8"))
    task.step(lambda: task.turn_to("Compare"), lambda: "/Compare" in task.page.url)
    task.one.until(lambda: bool(re.search(r"bf16 to .*fp8: [+−]?\d", finding(task.one))), 60)
    assert task.steps <= 3


def test_a_point_is_pinned_and_sent(task: Task, visit: Callable[..., Visit]) -> None:
    """Two steps each: the point and its pin; the panel and its link, which opens for somebody else so."""
    pinned = "Pinned points"
    task.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    task.step(lambda: task.choose("Look at a point", "TP 2", "TP 2"), lambda: "point" in task.one.address())
    task.step(lambda: task.press("Pin"), lambda: task.says(pinned))
    assert task.steps <= 2
    copy, clipboard = task.page.get_by_role("button", name="Copy link"), "navigator.clipboard.readText()"
    task.step(lambda: task.press("Share"), lambda: copy.count() == 1)
    task.step(lambda: task.press("Copy link"), lambda: "pins=" in task.page.evaluate(clipboard))
    assert task.steps <= 2 + 2
    sent = task.page.evaluate(clipboard)
    other = visit(sent[sent.index("/", len("http://")) :])
    assert other.page.locator(".stMain").get_by_text(pinned).count()


def test_a_price_of_ones_own(task: Task) -> None:
    """Three steps: the page, the price, the chart. By hand: at half the price a token costs half as much."""
    sheet = task.page.get_by_test_id("data-grid-canvas").first
    cost = task.page.locator(".bs-figure").filter(has_text="USD/Mtok")

    def figure() -> float:
        return float(re.search(r"[\d.]+", cost.locator(".value").first.inner_text())[0])

    before = figure()
    task.step(lambda: task.turn_to("Mine"), lambda: sheet.count() == 1)

    def price() -> None:
        task.reach(sheet)  # on the first row, which is the part in use
        for column in (1, 2):
            task.page.keyboard.press("ArrowRight")
            task.page.locator(f"#glide-cell-{column}-0:focus").wait_for(state="attached")
        task.page.keyboard.press("Enter")
        task.write(task.page.locator("input.gdg-input"), "1.5")

    task.step(price, lambda: task.has(prices="h100-sxm:1.5"))
    task.step(lambda: task.turn_to("Frontier"), lambda: cost.count() > 0)
    task.one.until(lambda: abs(figure() - before / 2) < 0.002)
    assert task.steps <= 3


def test_limits_kept_for_next_week(task: Task) -> None:
    """Four steps to keep them, two to have them again. Oracle: the address of a visit without any."""
    one = task.one.open("/?fine=off&slo_tpot_ms=25")
    kind, name = "Keep of this setting", one.page.get_by_label("Under the name")
    task.step(lambda: task.press("Mine"), lambda: name.count() == 1)
    task.step(lambda: task.choose(kind, "limits", "limits"), lambda: bool(name.count()))
    task.step(lambda: task.write(name, "Fast chat", "Tab"), lambda: name.input_value() == "Fast chat")
    kept = "localStorage.getItem('batchscope-mine') ?? ''"
    keep = lambda: "Fast chat" in one.page.evaluate(kept)  # noqa: E731
    task.step(lambda: task.press("Keep"), keep)
    assert task.steps <= 4
    again = Task(one.open(QUICK))
    fast = one.page.get_by_role("button", name="Fast chat")
    again.step(lambda: again.press("Mine"), lambda: fast.count() == 1)
    again.step(lambda: again.press("Fast chat"), lambda: again.has(slo_tpot_ms="25"))
    assert again.steps <= 2


def test_how_a_model_lies_best_on_eight_devices(task: Task) -> None:
    """Two steps: the page, the best. By hand: a model that fits one device is best copied to each."""
    best = re.compile(r"Use 8 × TP 1")
    button = task.page.get_by_role("button", name=best)
    task.step(lambda: task.turn_to("Layouts"), lambda: button.count() == 1)
    task.step(lambda: task.press(best), lambda: task.has(replicas="8"))
    assert task.steps <= 2


def test_chat_and_documents_each_within_its_limit(task: Task) -> None:
    """Two steps: the mix, the limits of a class. Oracle: a row for each class, one with limits of its own."""
    field = task.page.get_by_role("textbox", name="Limits by class")
    task.step(lambda: task.choose("mixed with", "rag", "Retrieval"), lambda: field.count() == 1)
    task.step(lambda: task.write(field, "rag:5000/50"), lambda: task.has(class_limits="rag:5000/50"))
    task.one.until(lambda: task.says("Latency by class of traffic", "5 s / 50 ms", "2 s / 40 ms"))
    assert task.steps <= 2


def test_whether_two_pools_pay(visit: Callable[..., Visit]) -> None:
    """Two steps: the page, its advice. Oracle: the split that the button names is in the address; prompts of
    twenty times their answers need more workers for prefill than for decode.
    """
    task = Task(visit(f"{QUICK}&prompt_tokens=3000&output_tokens=150"))
    advice = task.page.get_by_role("button", name=re.compile(r"^.*Use \d+P\d+D"))
    task.step(lambda: task.turn_to("Disaggregation"), lambda: advice.count() == 1)
    prefill, decode = re.search(r"(\d+)P(\d+)D", advice.inner_text()).groups()
    task.step(
        lambda: task.press(re.compile(r"Use \d+P\d+D")),
        lambda: task.one.address().get("prefill_workers", "4") == prefill,
    )
    assert task.one.address().get("decode_workers", "4") == decode
    assert int(prefill) > int(decode)
    assert task.steps <= 2


def test_which_accelerator_gives_most_for_a_dollar(task: Task) -> None:
    """Three steps: curves by accelerator, the menu, the axis. Oracle: names of curves, the axis's title."""
    up = task.page.get_by_role("combobox", name="Upwards")
    task.step(lambda: task.choose("Curves by", "accel", "accelerator"), lambda: task.has(vary="accelerator"))
    task.step(lambda: task.press("Axes"), lambda: up.count() == 1)
    task.page.keyboard.press("Tab")  # into the panel, which stands at the end of the document
    assert task.page.evaluate("document.activeElement.ariaLabel") == "Across"
    task.step(lambda: task.choose("Upwards", "USD", "tokens per USD"), lambda: "up" in task.one.address())
    title = "chart?._fullLayout.yaxis.title.text ?? ''"
    task.one.until(lambda: "USD" in task.one.chart(title))
    assert any("B200" in name for name in task.one.chart("chart.data.map((trace) => trace.name ?? '')"))
    assert task.steps <= 3


def test_an_accelerator_of_ones_own_beside_real_ones(task: Task) -> None:
    """Three steps: the page, the view, the bandwidth. Oracle: 8T are 8,000 GB/s; the finding judges it."""
    bandwidth = task.page.get_by_role("textbox", name=re.compile("Memory bandwidth"))
    design = "Design an accelerator"
    task.step(lambda: task.turn_to("Compare"), lambda: task.says(design))
    task.step(lambda: task.press(design, "radio"), lambda: bandwidth.count() > 0)

    def write() -> None:
        task.reach(bandwidth.first)
        task.page.keyboard.press("ControlOrMeta+a")
        task.write(bandwidth.first, "8T")

    task.step(write, lambda: task.has(hbm_gb_per_s="8000"))
    task.one.until(lambda: "This design gives" in finding(task.one))
    assert task.steps <= 3


def test_a_newcomer_takes_a_lesson(task: Task) -> None:
    """Four steps: the way in, a lesson, a prediction, the control. Oracle: the simulator's answer."""
    start = task.page.get_by_role("button", name="Start", exact=True)
    task.step(lambda: task.press(re.compile("Learn or teach"), "link"), lambda: start.count() > 1)
    guess = task.page.get_by_role("spinbutton")
    task.step(lambda: task.press("Start"), lambda: guess.count() == 1)
    task.step(lambda: task.write(guess, "1000"), lambda: "answers" in task.one.address())

    def move() -> None:
        task.reach(task.page.get_by_role("slider").first)
        task.page.keyboard.press("End")

    task.step(move, lambda: task.says("simulator says"))
    assert task.steps <= 4


def test_a_teacher_opens_a_room(task: Task) -> None:
    """Three steps: the page, the room, the first question. Oracle: a code to join by, who has predicted."""
    code = task.page.locator(".bs-code")
    task.step(lambda: task.turn_to("Room"), lambda: task.says("Open a room"))
    task.step(lambda: task.press("Open a room"), lambda: code.count() == 1)
    assert re.fullmatch(r"\w{6}", code.inner_text().strip())
    task.step(lambda: task.press(re.compile("Start")), lambda: task.says("predicted"))
    assert task.steps <= 3


def test_a_teacher_finds_a_ready_scenario(task: Task) -> None:
    """Three steps: the page, a word, its card. Oracle: the address has the scenario's model."""
    words = task.page.get_by_role("textbox", name="Words")
    cards = task.page.get_by_role("button", name="Open").filter(has_text="Open")
    task.step(lambda: task.turn_to("Gallery"), lambda: cards.count() > 5)
    task.step(lambda: task.write(words, "deepseek"), lambda: 0 < cards.count() < 5)
    task.step(
        lambda: (task.reach(cards.first), task.page.keyboard.press("Enter")),
        lambda: "deepseek" in task.page.url,
    )
    assert task.steps <= 3
