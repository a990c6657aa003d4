"""HTML is made by templates: no Python of the pages holds a tag."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim_core.view.drawing.words import THIN, literal

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
    "frontier/plan/around.py",
    "frontier/plan/winners.py",
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


# --- texts from outside are no Markdown ------------------------------------------------------------

BOXES = {"error", "warning", "info", "success", "toast"}  # messages, which quote whatever was wrong
MARKDOWN = BOXES | {"caption", "markdown", "write", "header", "subheader", "title", "button", "expander"}
FROM_OUTSIDE = {"error", "problem", "problems", "requests_problem", "reason", "reasons", "note", "notes"}
FROM_OUTSIDE |= {"mix", "mix_other", "request_list", "short_name", "trace"}


def outside_texts(source: str) -> list[str]:
    """Return the Markdown of a file that may hold a text from outside which does not go through `literal`."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        if not isinstance(call.func, ast.Attribute) or ast.unparse(call.func.value) != "st":
            continue
        if call.func.attr not in MARKDOWN or not call.args:
            continue
        text = WithoutLiteral().visit(call.args[0])
        names = set(names_in(text))
        if names & FROM_OUTSIDE or (call.func.attr in BOXES and names - {"place"}):
            found.append(ast.unparse(text))
    return found


def names_in(tree: ast.AST) -> Iterator[str]:
    """Yield the names of variables, attributes, functions and keys, but not of what is only counted."""
    if isinstance(tree, ast.Call) and ast.unparse(tree.func) == "len":
        return
    if isinstance(tree, ast.Name):
        yield tree.id
    if isinstance(tree, ast.Attribute) and tree.attr in FROM_OUTSIDE:
        yield tree.attr
    if isinstance(tree, ast.Subscript) and isinstance(tree.slice, ast.Constant):
        yield str(tree.slice.value)
    for child in ast.iter_child_nodes(tree):
        yield from names_in(child)


class WithoutLiteral(ast.NodeTransformer):
    """Puts an empty text in place of what goes through `literal`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "literal":
            return ast.Constant("")
        return self.generic_visit(node)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_texts_from_outside_are_no_markdown(file: Path) -> None:
    """Oracle: Python's own parser: messages and the names of what comes from outside go through `literal`."""
    assert outside_texts(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "st.error(str(error))",
        "st.warning(st.session_state.problem, icon='x')",
        "st.caption(f'{trace.name}: {len(trace)} requests')",
        "st.caption(f\"{name} cannot run: {points[0]['reason']}\")",
        "st.caption(f'Mix: {scenario.mix}')",
        "st.markdown(' '.join(notes))",
    ],
)
def test_the_search_finds_texts_from_outside(source: str) -> None:
    """Oracle: the pages as they once were; the same through `literal` is fine."""
    assert outside_texts(source)
    assert not outside_texts(re.sub(r"\((.*?)(, icon='x')?\)$", r"(literal(\1)\2)", source))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![x](y)", r"!\[x\](y)"),
        ("<b>a_b</b> _c_ *d* ~e~", r"\<b\>a_b\</b\> \_c\_ \*d\* \~e\~"),
        ("# title\n- item", r"\# title - item"),
        ("1. x", r"1\. x"),
        ("a &amp; $x$ `code`", r"a \&amp; \$x\$ \`code\`"),
        (":red[boo] and :smile: and :material/tune:", "`:red[boo]` and `:smile:` and `:material/tune:`"),
        ("![x](http://127.0.0.1/t.png)", "`![x](http://127.0.0.1/t.png)`"),
        ("`www.a.b`", "`` `www.a.b` ``"),
        ("a@b.c, 0:1000:200", "`a@b.c,` `0:1000:200`"),
        ("mine.csv, line 3: 5 ms", "mine.csv, line 3: 5 ms"),
        (f" 41{THIN}%  of\nit", f"41{THIN}% of it"),
    ],
)
def test_a_literal_text_has_no_mark_up(text: str, shown: str) -> None:
    """Oracle: CommonMark 0.31, 2.4 and 6.1: escaped punctuation and code spans are literal."""
    assert literal(text) == shown
