"""The ten questions of the docs. `python -m tests.house.test_questions` writes what their commands print."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

import pytest

from sim_core.view.session import shell
from tests.house.test_readme import CONSOLE, refreshed, same_word
from tests.house.test_readme import test_commands_print_what_is_shown as prints_what_is_shown
from tests.places import ROOT
from tests.visits import healthy, open_page

QUESTIONS = ROOT / "docs" / "questions.md"
TEXT = QUESTIONS.read_text(encoding="utf-8")
SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
LINKS = re.findall(r"\]\((http://localhost:8501/[^)\s]*)\)", TEXT)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition(".")[0])
def test_commands_and_the_words_around_them_say_the_same(section: str) -> None:
    """Oracle: the command, run again; a number set in bold is one of those that it prints."""
    (found,) = CONSOLE.findall(section)
    prints_what_is_shown(*found)
    for bold in re.findall(r"\*\*([\d.,]+)\*\*", section):
        assert any(same_word(word, bold) for word in found[1].split()), bold


@pytest.mark.parametrize("link", LINKS)
def test_every_link_opens_its_page_as_it_says(link: str) -> None:
    """Oracle: the page itself: no error, and nothing of the link that could not be used."""
    address = urlsplit(link)
    files = {shell.path_of(title): file for file, title in shell.PAGES}
    app = healthy(open_page(files[address.path.strip("/")], **dict(parse_qsl(address.query))))
    assert not app.session_state.notes
    assert not app.session_state.problem


def test_every_question_has_its_link() -> None:
    """Oracle: the sections; there are ten, numbered in order."""
    assert [int(section.partition(".")[0]) for section in SECTIONS] == list(range(1, 11))
    assert all("](http://localhost:8501/" in section for section in SECTIONS)


if __name__ == "__main__":
    QUESTIONS.write_text(CONSOLE.sub(refreshed, TEXT), encoding="utf-8")
