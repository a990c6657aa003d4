"""The site of the documents: whole HTML, links that lead somewhere, and nothing from outside."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.places import ROOT

pytest.importorskip("markdown_it")
from benchmarks import site

VOID = {"meta", "img", "source", "br", "hr"}
pytestmark = pytest.mark.slow  # its library is not among those of the app


class Reader(HTMLParser):
    """A parser that keeps links, what is loaded, names of places, and what was never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.links += [given["href"] or ""] if tag == "a" else []
        self.loaded += [given[key] or "" for key in ("src", "srcset") if key in given]
        self.names += [given["id"] or ""] if "id" in given else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    site.build(folder)
    return folder


def read(built: Path) -> dict[str, Reader]:
    return {path.name: Reader(path.read_text(encoding="utf-8")) for path in built.glob("*.html")}


def test_every_document_is_a_page_that_all_others_link(built: Path) -> None:
    """Oracle: the files of the repository."""
    documents = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    found = read(built)
    assert len(found) == len(documents)
    for reader in found.values():
        assert reader.open == [] and set(found) <= set(reader.links)


def test_every_link_and_picture_leads_somewhere(built: Path) -> None:
    """Oracle: the files and the names of places; pictures lie in the site, and no heading is named twice."""
    found = read(built)
    for reader in found.values():
        assert len(reader.names) == len(set(reader.names))
        assert reader.loaded == [place for place in reader.loaded if (built / place).is_file()]
        for link in (link for link in reader.links if "://" not in link):
            address, _, place = link.partition("#")
            assert not place or place in (found[address] if address else reader).names, link
            assert not address or address in found, link


def test_links_to_other_files_keep_their_words(built: Path) -> None:
    """Oracle: README's sentence on the kernels, whose file is not in the site."""
    text = (built / "index.html").read_text(encoding="utf-8")
    assert "<span>presets/kernels</span>" in text and 'href="presets' not in text
