"""What people come for, done from the start of the app, with the number of steps that it takes.

A step is what a visitor decides: a page, a choice, a text typed, a file given. Reading is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

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


class Task:
    """A visitor's steps, counted."""

    def __init__(self, one: Visit) -> None:
        self.one, self.steps = one, 0

    def step(self, act: Callable[[], Any], done: Callable[[], bool]) -> None:
        """Do something and wait for what it changes."""
        act()
        self.steps += 1
        self.one.until(done, 60)

    def says(self, *words: str) -> bool:
        text = self.one.page.locator(".stMain").inner_text()
        return all(word in text for word in words)

    def has(self, key: str, value: str) -> bool:
        return self.one.address().get(key) == value

    def press(self, name: str) -> None:
        self.one.page.get_by_role("button", name=name, exact=True).first.click()

    def choose(self, label: str, typed: str, option: str) -> None:
        """Type into a list until its first entry is the one that is meant."""
        box = self.one.page.get_by_role("combobox", name=label).first
        for _ in range(6):  # a page that is drawn again meanwhile closes the list
            box.scroll_into_view_if_needed()
            box.click()
            self.one.page.wait_for_timeout(1500)
            if self.one.page.get_by_role("option").count():
                break
        box.fill(typed)
        self.one.page.locator("[role=option]").filter(has_text=option).first.click()


def test_how_many_of_which_and_what_they_cost(visit: Callable[..., Visit]) -> None:
    """Two steps from the bare app: the page, the question as it is asked. Oracle: the address, the words."""
    one = visit(QUICK)
    task = Task(one)
    field = one.page.get_by_role("textbox", name="Your question")
    task.step(lambda: one.turn_to("Plan"), lambda: field.count() == 1)
    asked = "70B fp8, H200 or B200, p99 TTFT 1 s, TPOT 30 ms, 3k/500, 20 req/s: how many, which TP, what cost"
    task.step(
        lambda: (field.fill(asked), field.press("Enter")), lambda: task.says("20 requests/s, simulated")
    )
    told = {"weight_dtype": "fp8", "slo_ttft_ms": "1000", "slo_tpot_ms": "30", "prompt_tokens": "3000"}
    one.until(lambda: told.items() <= one.address().items())  # the address follows what is drawn
    answer = finding(one)
    assert re.search(r"Take \d+ engines, each on \d+ \w+ \(TP\d+, fp8\): \d+ accelerators, .* USD/h", answer)
    assert task.says("H200", "B200", "Understood: Llama-3.3-70B")
    assert task.steps <= 2


def test_a_model_of_ones_own(visit: Callable[..., Visit]) -> None:
    """Four steps: the entry, the text, the button. Oracle: the address has its layers, the finding a rate."""
    one = visit(QUICK)
    task = Task(one)
    field = one.page.get_by_role("textbox", name="Paste a config.json")
    use = one.page.get_by_role("button", name="Use it")
    task.step(lambda: task.choose("Model", "your own", "our own"), lambda: field.count() == 1)
    task.step(lambda: (field.fill(CONFIG), field.press("Control+Enter")), lambda: use.count() == 1)
    task.step(use.click, lambda: "layers:31" in one.address().get("own_model", ""))
    one.until(lambda: "tok/s" in finding(one))
    assert task.steps <= 4


def test_ones_own_engine_from_five_files(visit: Callable[..., Visit]) -> None:
    """Three steps: the page, the files, the button. Oracle: each file is named; the address has constants."""
    one = visit(QUICK)
    task = Task(one)
    files = one.page.locator("input[type=file]")
    task.step(lambda: one.turn_to("Calibrate"), lambda: files.count() > 0)
    given = [SAMPLES / name for name in FIVE_FILES]
    use = one.page.get_by_role("button", name="Use this engine on all pages")
    task.step(lambda: files.first.set_input_files(given), lambda: use.count() > 0)
    one.until(lambda: task.says(*FIVE_FILES), 60)
    task.step(use.first.click, lambda: "constants" in one.address())
    assert task.steps <= 3


def test_what_an_fp8_cache_brings(visit: Callable[..., Visit]) -> None:
    """Three steps: freeze, choose, compare. Oracle: the finding tells the change from bf16 to fp8 in %."""
    one = visit(QUICK)
    task = Task(one)
    task.step(lambda: task.press("Add to compare"), lambda: "versus" in one.address())
    task.step(lambda: task.choose("KV cache", "fp8", "fp8"), lambda: task.has("kv_dtype", "fp8"))
    task.step(lambda: one.turn_to("Compare"), lambda: "/Compare" in one.page.url)
    one.until(lambda: bool(re.search(r"bf16 to .*fp8: [+−]?\d", finding(one))), 60)
    assert task.steps <= 3


def test_a_point_is_pinned_and_sent(visit: Callable[..., Visit]) -> None:
    """Two steps each: the point and its pin; the button and its link, which opens for somebody else so."""
    one = visit(QUICK)
    task = Task(one)
    pinned = "Pinned points"
    task.step(lambda: task.choose("Look at a point", "TP 2", "TP 2"), lambda: "point" in one.address())
    task.step(lambda: task.press("Pin"), lambda: task.says(pinned))
    assert task.steps <= 2
    one.page.get_by_role("button", name="Share").first.click()
    link = one.page.get_by_test_id("stPopoverBody").locator("code").first
    link.wait_for()
    sent = link.inner_text()
    other = visit(sent[sent.index("/", len("http://")) :])
    assert other.page.locator(".stMain").get_by_text(pinned).count()
