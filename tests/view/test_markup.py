"""HTML is made by templates: no Python of the pages holds a tag."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = [
    ROOT / "app.py",
    *sorted((ROOT / "pages").glob("*.py")),
    *sorted((ROOT / "sim_core/view").rglob("*.py")),
]
TAG = re.compile(r"</?[a-zA-Z]|<!--|<!D|</?$")  # the last: a tag whose name is a value
PLOTLY = re.compile(
    r"</?(b|i|br|extra)>|<span style=\"color:$|</span>"
)  # mark-up of figures, not of the page
FIGURES = {  # files beside those named figures that write hovers and legends of figures
    "batching/gantt/drawing.py",
    "batching/gantt/metrics.py",
    "batching/gantt/parts.py",
    "batching/gantt/late.py",
    "drawing/verdicts.py",
}
EXCEPTIONS = {
    "drawing/templates.py": {"</script", "<!--"},  # what is replaced, for a script must not hold it
    "learn/lesson_summary.py": {"- Step: <"},  # an address in Markdown
}


def literals(tree: ast.AST) -> Iterator[str]:
    """Return all texts of a file, and the pieces of its f-strings, but no docstrings."""
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.value


def tags(source: str, draws: bool = False) -> list[str]:
    """Return the texts of a file that hold a tag; Plotly's own count as none in a file that draws."""
    texts = literals(ast.parse(source))
    return [text for text in texts if TAG.search(PLOTLY.sub("", text) if draws else text)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_text_holds_a_tag(file: Path) -> None:
    """Oracle: Python's own parser, on every literal and every piece of an f-string."""
    name = file.relative_to(ROOT).as_posix().removeprefix("sim_core/view/")
    draws = name.endswith("figures.py") or name in FIGURES
    assert set(tags(file.read_text(encoding="utf-8"), draws)) == EXCEPTIONS.get(name, set())


@pytest.mark.parametrize(
    ("source", "draws"),
    [
        ('x = f"<p>{y}</p>"', False),
        ('x = "<" + name + ">"', False),
        ("x = '<b>' + y", False),
        ("x = '<img src=x>'", True),
        ('x = f"<a href={y}>"', True),
    ],
)
def test_the_search_finds_tags(source: str, draws: bool) -> None:
    """Oracle: by hand, so that the test above can fail."""
    assert tags(source, draws)


def test_nothing_goes_around_the_templates() -> None:
    """Oracle: the names by which Streamlit, Jinja and MarkupSafe let a text through unescaped."""
    unsafe = re.compile(r"unsafe_allow_\w+|\bMarkup\(|\bescape\(")
    found = {
        (file.relative_to(ROOT / "sim_core/view").as_posix(), name)
        for file in (ROOT / "sim_core/view").rglob("*.py")
        for name in unsafe.findall(file.read_text(encoding="utf-8").replace("re.escape(", ""))
    }
    assert found == {("drawing/templates.py", "Markup("), ("drawing/figures.py", "escape(")}
    for file in (ROOT / "sim_core/view/templates").rglob("*.*"):
        assert not re.search(r"\|\s*safe|autoescape", file.read_text(encoding="utf-8")), file.name
