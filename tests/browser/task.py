"""A visitor who works by keyboard alone and whose steps are counted, for what people come for.

A step is what a visitor decides: a page, a choice, a text typed, a file given. Reading is none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from tests.browser.visit import Visit

KEY_MS = 100  # no finger is quicker, and a cell of a table takes a figure only once it is drawn


class Task:
    """A visitor's steps, counted; each control is one that the Tab key reaches."""

    def __init__(self, one: Visit) -> None:
        self.one, self.page, self.steps = one, one.page, 0
        self.began_s = time.monotonic()

    def step(self, act: Callable[[], Any], done: Callable[[], bool], seconds: float = 60) -> None:
        """Do something and wait for what it changes."""
        act()
        self.steps += 1
        self.one.until(done, seconds)

    def took_s(self) -> float:
        return time.monotonic() - self.began_s

    def says(self, *words: str) -> bool:
        text = " ".join(self.page.locator(".stMain").inner_text().split())  # figures and units stand narrow
        return all(word in text for word in words)

    def has(self, **keys: str) -> bool:
        return keys.items() <= self.one.address().items()

    def reach(self, control: Any) -> None:
        """Put the focus on a control, as the Tab key would; one that it leaves out is refused."""
        control.wait_for()

        def held() -> bool:  # not at once while the page is drawn again
            control.focus()
            return control.evaluate("(here) => here === document.activeElement && here.tabIndex >= 0")

        self.one.until(held, 5)

    def press(self, name: str | re.Pattern, role: str = "button") -> None:
        """Press a button, link or choice by Enter."""
        exact = isinstance(name, str)
        self.reach(self.page.get_by_role(role, name=name, exact=exact).first)
        self.page.keyboard.press("Enter")

    def write(self, field: Any, text: str, end: str = "Enter") -> None:
        """Type into a field and end by a key."""
        self.reach(field)
        self.page.keyboard.type(text)
        self.page.wait_for_timeout(KEY_MS)
        self.page.keyboard.press(end)

    def choose(self, label: str, typed: str, option: str) -> None:
        """Type into a list until its first entry is the one that is meant."""
        box = self.page.get_by_role("combobox", name=label).first
        first = self.page.get_by_role("option").first
        for _ in range(6):  # a page that is drawn again meanwhile closes the list
            self.reach(box)
            self.page.keyboard.press("ControlOrMeta+a")
            self.page.keyboard.type(typed)
            self.page.wait_for_timeout(700)
            if first.count() and option in first.inner_text():
                break
        self.page.keyboard.press("Enter")

    def turn_to(self, title: str) -> None:
        """Go to another page by its link, or by the section of the navigation behind which it is."""
        link = self.page.get_by_role("link", name=title, exact=True)
        behind = self.page.get_by_role("menuitem", name=title, exact=True)
        sections = self.page.get_by_test_id("stTopNavSection")
        for section in range(0 if link.count() else sections.count()):
            self.reach(sections.nth(section))
            self.page.keyboard.press("Enter")
            self.page.wait_for_timeout(300)
            if behind.count():
                behind.first.focus()  # an arrow key or two
                break
            self.page.keyboard.press("Escape")
        if link.count():
            self.reach(link.first)
        self.page.keyboard.press("Enter")
