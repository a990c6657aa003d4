"""Build the site of the documents: `python -m benchmarks.site` writes HTML into site/, or a folder of yours.

README, docs/ and CHANGELOG become pages that link one another and open without a server or a network. Links
to other files of the repository lose their address and keep their words; those of the app stay.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "site"
DOCS = "docs"
FIRST, LAST = ("README.md", "docs/questions.md", "docs/pages.md"), ("CHANGELOG.md",)
NAMES = {"README.md": ("index.html", "Batchscope"), "CHANGELOG.md": ("changes.html", "Changes")}
PICTURE = re.compile(r'(?:(?<=\bsrc=")|(?<=\bsrcset="))[^"]+')  # in the few pieces of HTML there are
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)


class Page(NamedTuple):
    """A document: where it stands in the repository and in the site, and what it is called."""

    source: str
    address: str
    title: str


def pages() -> list[Page]:
    """Return all documents in the order in which they are listed."""
    others = {path.relative_to(ROOT).as_posix() for path in (ROOT / DOCS).glob("*.md")} - {*FIRST}
    return [_page(source) for source in (*FIRST, *sorted(others), *LAST)]


def _page(source: str) -> Page:
    heading = (ROOT / source).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    address, title = NAMES.get(source, (f"{PurePosixPath(source).stem}.html", heading))
    return Page(source, address, title)


def build(folder: Path) -> list[Page]:
    """Write the site into a folder, which is made where there is none; return its pages."""
    found = pages()
    for page in found:
        text = TEMPLATES.get_template("site.html").render(
            pages=found, address=page.address, title=page.title, body=Markup(body(page, found))
        )
        (folder / page.address).parent.mkdir(parents=True, exist_ok=True)
        (folder / page.address).write_text(text, encoding="utf-8")
    for picture in (ROOT / DOCS).rglob("*.png"):
        target = folder / picture.relative_to(ROOT / DOCS)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target)
    return found


def body(page: Page, found: Sequence[Page]) -> str:
    """Return a document as HTML, its links those of the site and its headings with names."""
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse((ROOT / page.source).read_text(encoding="utf-8"))
    addresses = {other.source: other.address for other in found}
    _name_headings(tokens)
    for token in _all(tokens):
        if token.type in ("html_block", "html_inline"):
            token.content = PICTURE.sub(lambda place: _picture(page, place.group()), token.content)
        elif token.type == "image":
            token.attrSet("src", _picture(page, str(token.attrs["src"])))
    for opened, closed in _links(tokens):
        address = _address(page, str(opened.attrs["href"]), addresses)
        if address:
            opened.attrSet("href", address)
        else:
            opened.tag, opened.attrs, closed.tag = "span", {}, "span"
    return str(reader.renderer.render(tokens, reader.options, {}))


def _all(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or ())


def _links(tokens: Sequence[Token]) -> Iterator[tuple[Token, Token]]:
    """Yield where each link begins and ends; no link holds another."""
    ends = [token for token in _all(tokens) if token.type in ("link_open", "link_close")]
    return zip(ends[::2], ends[1::2], strict=True)


def _name_headings(tokens: Sequence[Token]) -> None:
    """Give each heading the name by which links know it: its words, in lower case, joined by hyphens.

    Of several with the same words, all but the first have a number behind.
    """
    known: Counter[str] = Counter()
    for opened, words in pairwise(tokens):
        if opened.type == "heading_open":
            text = "".join(child.content for child in words.children or ())
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            opened.attrSet("id", f"{name}-{known[name]}" if known[name] else name)
            known[name] += 1


def _address(page: Page, link: str, addresses: dict[str, str]) -> str:
    """Return where a link leads in the site; "" where to a file that is not in it."""
    if "://" in link or link.startswith("#"):
        return link
    path, mark, place = link.partition("#")
    address = addresses.get(_in_repository(page, path), "")
    return address and f"{address}{mark}{place}"


def _picture(page: Page, place: str) -> str:
    return _in_repository(page, place).removeprefix(f"{DOCS}/")


def _in_repository(page: Page, place: str) -> str:
    return normpath((PurePosixPath(page.source).parent / place).as_posix())


def main() -> None:
    """Build the site where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="where to; site/ by default")
    folder = parser.parse_args().folder
    if folder.exists() and not folder.is_dir():
        parser.error(f"{folder} is a file: name a folder, or none for {FOLDER.name}/.")
    print(f"{len(build(folder))} pages in {folder}")


if __name__ == "__main__":
    main()
