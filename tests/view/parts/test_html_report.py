"""The report: one HTML file that stands alone, whatever texts and figures it holds."""

from __future__ import annotations

import json
import math
import re
import tomllib
from html.parser import HTMLParser

import pytest

from sim_core.view.parts import html_report
from sim_core.view.parts.html_report import ON_PAPER, Report, report_html
from sim_core.view.session.record import Drawing
from tests.places import ROOT

HOSTILE = "</script><script>alert(1)</script><!--<img src=https://evil.example/x onerror=alert(1)>"
VOID = {"meta", "wbr", "br", "img", "link"}


class Reader(HTMLParser):
    """A parser that keeps elements with their attributes, the text of each, and what was never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def view(text: str = "plain", rows: int = 3) -> Report:
    """Return a report all of whose texts are `text`."""
    figure = {"data": [{"type": "scatter", "x": [1, 2], "y": [1, 2], "name": text}], "layout": {"margin": {}}}
    charts = [Drawing(figure, text, text, f"{text}<br>{text}", 400)] * 2
    table = [{"name": text, "time_ms": float(row)} for row in range(rows)]
    return Report(
        page=text, finding=f"{text}!", notes=[f"{text}?"], charts=charts, rows=table, badge=text, toml=text,
        link=f"http://localhost:8501/?model={text}", command=text, version=text, date=text,
    )  # fmt: skip


def test_what_a_report_has_said_is_no_caption() -> None:
    """Oracle: a finding and a note that are a chart's text; another chart's is its caption."""
    drawings = [Drawing({"data": []}, words, words, "", 400) for words in ("found", "noted", "drawn")]
    page = Reader(report_html(Report(page="p", finding="found", notes=["noted"], charts=drawings, rows=[])))
    assert page.texts["figcaption"] == ["drawn"]


@pytest.mark.parametrize("text", ["plain", HOSTILE, "a & b < c \u2028 \"'", "</style></title></pre>"])
def test_a_report_is_whole_html_whatever_it_holds(text: str) -> None:
    """Oracle: Python's HTML parser: the same elements, all closed, for plain and for hostile texts."""
    found, plain = Reader(report_html(view(text))), Reader(report_html(view()))
    assert found.open == []
    assert [name for name, _ in found.elements if name != "wbr"] == [
        name for name, _ in plain.elements if name != "wbr"
    ]
    assert found.texts["h1"] == [text]
    assert text in found.texts["figcaption"]
    assert text in found.texts["td"] or text in "".join(found.texts["p"])


def test_a_report_loads_nothing() -> None:
    """Oracle: the attributes by which HTML loads, the functions by which CSS does, and the file's policy."""
    found = Reader(report_html(view(HOSTILE)))
    loading = {"src", "srcset", "poster", "data", "action", "background", "xlink:href"}
    assert not [attrs for _, attrs in found.elements if loading & attrs.keys()]
    assert {name for name, attrs in found.elements if "href" in attrs} == {"a"}
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {name for name, _ in found.elements}
    assert not re.search(r"url\(|@import", "".join(found.texts["style"]))
    assert any("default-src 'none'" in (attrs.get("content") or "") for _, attrs in found.elements)


def test_the_figure_comes_back_from_the_file() -> None:
    """Oracle: the figure that went in."""
    text = report_html(view(HOSTILE))
    found = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert [json.loads(item)["figure"] for item in found] == [item.figure for item in view(HOSTILE).charts]


def test_a_link_that_is_no_address_is_text() -> None:
    """Oracle: only http and https may be followed."""
    import dataclasses

    for link in ("javascript:alert(1)", "?v=1", ""):
        assert Reader(report_html(dataclasses.replace(view(), link=link))).count("a") == 0


def test_the_table_says_once_what_all_rows_share_and_stops() -> None:
    """Oracle: the rows: 600 of them, one column that differs, one that does not, one that is unknown."""
    rows = [{"place": place, "kind": "x", "unknown_ms": math.nan} for place in range(600)]
    found = Reader(html_report.report_table(rows))
    assert found.count("tr") == 1 + html_report.MOST_ROWS
    assert found.texts["th"] == ["place"]
    said = "".join(found.texts["p"])
    assert "The same in all rows: kind x." in said
    assert "The first 500 of 600 rows." in said
    assert html_report.report_table([]) == ""
    assert Reader(html_report.report_table(rows[:1])).texts["td"] == ["0", "x", "-"]


def test_paper_holds_as_many_columns_as_it_says() -> None:
    """Oracle: the style sheet."""
    style = (ROOT / "sim_core" / "view" / "parts" / "assets" / "report.css").read_text(encoding="utf-8")
    assert f"nth-child(n + {ON_PAPER + 1})" in style


def test_a_report_has_the_colours_of_the_app() -> None:
    """Oracle: .streamlit/config.toml, light and dark."""
    style = (ROOT / "sim_core" / "view" / "parts" / "assets" / "report.css").read_text(encoding="utf-8")
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
    parts = dict(zip(("light", "dark"), style.split("prefers-color-scheme: dark"), strict=True))
    for scheme, part in parts.items():
        for key, name in (
            ("textColor", "text-color"), ("backgroundColor", "background-color"),
            ("secondaryBackgroundColor", "secondary-background-color"), ("borderColor", "border-color"),
            ("linkColor", "link-color"),
        ):  # fmt: skip
            assert f"--st-{name}: {theme[scheme][key]};" in part


def test_a_report_without_charts_needs_no_plotly() -> None:
    """Oracle: the size of the file."""
    assert len(report_html(Report(page="Frontier", finding="Nothing runs."))) < 20_000
