"""Generated links over all pages: none raises, and what a link says is nowhere Markdown or HTML.

`pytest -m slow -k fuzz` tries 500. More, as a night has time for: `BATCHSCOPE_FUZZ_LINKS=10000`; a share of
them, beside others on another core: `BATCHSCOPE_FUZZ_FROM=5000`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from sim_core.view.session import room_store
from tests.databases import sqlite_url
from tests.links import PAGES, address, link
from tests.visits import open_page, said

FIRST = int(os.environ.get("BATCHSCOPE_FUZZ_FROM", "0"))
LINKS = int(os.environ.get("BATCHSCOPE_FUZZ_LINKS", "500"))
FEW = 13  # by default: one a page
KINDS = (
    "markdown",
    "caption",
    "error",
    "warning",
    "info",
    "success",
    "toast",
    "header",
    "subheader",
    "title",
)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)|\\.", re.DOTALL)
MARK_UP = re.compile(r"\]\((http|javascript)|<img|<script|:red\[|\$\\frac")


@pytest.fixture(autouse=True)
def _own_rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep rooms in a database of the test's own."""
    monkeypatch.setenv(room_store.SETTING, sqlite_url(tmp_path))
    room_store.rooms.clear()
    yield
    room_store.rooms()._engine.dispose()
    room_store.rooms.clear()


def problems(app: AppTest) -> list[str]:
    """Return what is wrong with a page: exceptions, and texts of the link that are mark-up."""
    found = [f"{error.value}" for error in app.exception]
    texts = [element.value for kind in KINDS for element in app.get(kind) if isinstance(element.value, str)]
    found += [text[:200] for text in texts if MARK_UP.search(CODE.sub("", text))]
    found += [tag[0] for tag in re.finditer(r"<(img src=x|script>alert)[^>]{0,50}", said(app))]
    return found


def try_links(numbers: range) -> None:
    """Open links; fail with all that are wrong, as they can be opened again."""
    wrong = {}
    for number in numbers:
        page, query = link(number)
        try:
            found = problems(open_page(page, **query))
        except Exception as error:
            found = [f"{type(error).__name__}: {error}"]
        if found:
            wrong[f"{number} {address(page, query)}"] = found
    assert not wrong, "\n".join(f"{name}\n    {found}" for name, found in wrong.items())


@pytest.mark.parametrize("number", range(FEW))
def test_one_link_a_page(number: int) -> None:
    """Oracle: no exception, no mark-up."""
    try_links(range(number, number + 1))


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(PAGES)), ids=[page.removesuffix(".py") for page in PAGES])
def test_fuzzed_links(place: int) -> None:
    """Oracle: no exception, no mark-up, whatever a link holds."""
    start = FIRST - FIRST % len(PAGES) + place
    try_links(range(start, start + LINKS, len(PAGES)))
