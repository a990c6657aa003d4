"""The templates: whatever texts they get, the elements of the page are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from jinja2 import Environment, UndefinedError, meta

from sim_core.catalogue import glossary
from sim_core.scenario.ready import ready_scenarios
from sim_core.view.drawing.figures import in_lines, lines_of, plain
from sim_core.view.drawing.templates import FOLDER, as_is, render
from sim_core.view.frontier.layouts.placement import Device, Drawn, HeldPart, Node
from sim_core.view.frontier.strip import Column
from sim_core.view.learn.lesson_words import explained
from sim_core.view.learn.thumbnails import FRAME, Picture
from sim_core.view.parts import html_report
from sim_core.view.parts.html_report import Report
from sim_core.view.parts.pieces import Cell, KeyFigure
from sim_core.view.session.browser.start import WayIn
from sim_core.view.session.record import Drawing

PLAIN = "lorem"
HOSTILE = (
    "<img src=x onerror=1>",
    "\"'&",
    "</p></td></div></table></svg></script><script>alert(1)</script><!--",
)
READY = next(iter(ready_scenarios().values()))


def key_figure(text: str) -> KeyFigure:
    return KeyFigure(text, text, f"{text}\n{text}", text, text, True, text, text, True)


def report(text: str) -> Report:
    """Return a report all of whose texts are `text`."""
    figure = {"data": [{"type": "scatter", "x": [1], "y": [1], "name": text}], "layout": {}}
    return Report(
        page=text,
        finding=text,
        notes=[text],
        charts=[Drawing(figure, text, text, text, 400)],
        badge=text,
        toml=text,
        link=text,
        command=text,
        version=text,
        date=text,
    )


def report_values(text: str) -> dict[str, Any]:
    return {
        "report": report(text),
        "configuration": [text],
        "table": text,
        "is_address": True,
        "style": as_is(html_report._HERE / "report.css"),
        "scripts": [as_is(html_report._HERE / "report.js")],
        "policy": text,
        "disclaimer": text,
    }


def worst_values(text: str) -> dict[str, Any]:
    names = ("model", "devices", "run", "url", "source", "entry", "query")
    return {"heads": [text] * 2, "cases": [dict.fromkeys(names, text) | {"figures": [text] * 3}]}


# For each template, its values with `text` wherever it takes a text.
VALUES: dict[str, Callable[[str], dict[str, Any]]] = {
    "frontier/blocked.html": lambda text: {"reasons": {text: text}},
    "frontier/key_figures.html": lambda text: {
        "label": text,
        "here": text,
        "best": key_figure(text),
        "cells": [key_figure(text)] * 2,
        "reason": text,
    },
    "frontier/limits.html": lambda text: {
        "title": text,
        "sentence": text,
        "columns": [Column(text, text, True, text, [(text, text)]), Column(text, text)],
        "entries": [(text, text)],
    },
    "frontier/story.html": lambda text: {"preset": replace(READY, title=text, story=text, expected=text)},
    "layouts/placement.html": lambda text: {
        "sentence": text,
        "workers": [
            Drawn(
                text,
                [Node(text, [Device(text, text, text, 30, True)])],
                text,
                [HeldPart(50.0, text, text)],
                [(text, text)],
                text,
            )
        ],
    },
    "learn/answer.html": lambda text: {"text": text},
    "learn/code.html": lambda text: {"code": text},
    "learn/explained.html": lambda text: {"text": text},
    "learn/lesson.html": lambda text: {"text": text},
    "learn/message.svg": lambda text: {"words": text, "frame": FRAME},
    "learn/no_picture.html": lambda text: {},
    "learn/thumbnail.svg": lambda text: {
        "it": Picture(text, text, text, text, True, 5.0, [(text, text, True)], (text, text)),
        "frame": FRAME,
        "accent": text,
    },
    "parts/badge.html": lambda text: {
        "colour": text,
        "mark": text,
        "badge": text,
        "summary": text,
        "reasons": [text] * 2,
    },
    "parts/iframe.html": lambda text: {"link": text},
    "parts/key_figures.html": lambda text: {"cells": [key_figure(text)], "heading": text, "count": text},
    "parts/legend.html": lambda text: {"entries": [(text, text)]},
    "parts/report.html": report_values,
    "parts/report_table.html": lambda text: {
        "same": [(text, text)],
        "heads": [(text, True)] * 20,
        "rows": [[(text, False)]],
        "count": 2,
        "on_paper": 14,
    },
    "parts/say.html": lambda text: {"finding": text, "notes": [text], "more": text, "after": text},
    "parts/story.html": lambda text: {"title": text, "text": text},
    "parts/strip_title.html": lambda text: {"title": text, "apart": True},
    "parts/table.html": lambda text: {
        "caption": text,
        "heads": [text],
        "lines": [(text, [Cell(text), Cell(text, text, text, text, text)])],
        "scroll": True,
    },
    "phases/card.html": lambda text: {
        "colour": text,
        "title": text,
        "where": text,
        "time": text,
        "each": text,
        "rings": [(text, text, text)],
        "notes": text,
    },
    "phases/measure.html": lambda text: dict.fromkeys(
        ("title", "value", "more_flops", "more_bandwidth", "measured"), text
    ),
    "scenarios/table.html": lambda text: {
        "heads": [text],
        "lines": [(text, [(text, text)])],
        "full_width": True,
    },
    "session/one_entry.html": lambda text: {},
    "session/start.html": lambda text: {"ways": [WayIn(text, text, text)]},
    "session/place.html": lambda text: {"place": 9, "title": "Method"},  # no text but that of the code
    "session/early_script.html": lambda text: {"path": text},
    "trust/worst.html": worst_values,
}


class Reader(HTMLParser):
    """A parser that keeps the elements with the names of their attributes, and every text and value."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.texts: list[str] = [""]
        self.feed(str(html))  # a piece of Markup would be escaped again
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attrs)))
        self.texts += [*(value or "" for _, value in attrs), ""]

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}",))
        self.texts.append("")

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment",))

    def handle_decl(self, decl: str) -> None:
        self.elements.append(("declaration",))

    def handle_data(self, data: str) -> None:
        self.texts[-1] += data

    def count(self, text: str) -> int:
        return sum(found.count(text) for found in self.texts)


def templates() -> Iterator[str]:
    """Return the names of all templates but the one that only others take from."""
    for file in sorted(FOLDER.rglob("*.*")):
        if file.name != "macros.html":
            yield file.relative_to(FOLDER).as_posix()


def test_every_template_is_tried_with_all_its_values() -> None:
    """Oracle: the files, and the names that Jinja's own parser finds undeclared in them."""
    assert list(templates()) == sorted(VALUES)
    for name, values in VALUES.items():
        source = Environment().parse((FOLDER / name).read_text(encoding="utf-8"))
        assert meta.find_undeclared_variables(source) == set(values(PLAIN)), name


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", VALUES)
def test_a_text_stays_text(name: str, hostile: str) -> None:
    """Oracle: Python's HTML parser: for a hostile text the same elements as for a word, and all of it."""
    usual, found = (Reader(render(name, **VALUES[name](text))) for text in (PLAIN, hostile))
    assert found.elements == usual.elements
    in_json = 1 if name == "parts/report.html" else 0  # there the text is written as JSON writes it
    assert found.count(hostile) >= usual.count(PLAIN) - in_json


def test_what_a_template_has_made_passes_through_another() -> None:
    """Oracle: by hand: an element inside, a text beside it."""
    inner = render("parts/story.html", title="<b>", text="")
    outer = render("parts/say.html", finding="<b>", notes=[], more=inner, after=None)
    assert outer.count("<b>") == 1 and outer.count("&lt;b&gt;") == 2


def test_a_value_that_is_missing_is_an_error() -> None:
    """Oracle: Jinja's strict undefined; a page does not show a gap in silence."""
    with pytest.raises(UndefinedError, match="title"):
        render("parts/story.html", text="")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_texts_with_terms_are_escaped_around_them(hostile: str) -> None:
    """Oracle: the glossary: one explanation, for a term beside a hostile text as for one beside a word."""
    term = next(iter(glossary()))
    usual, found = (Reader(explained(f"{text} {term} {text}")) for text in (PLAIN, hostile))
    assert found.elements == usual.elements and len(usual.elements) == 2
    assert found.count(hostile) == 2


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_report_of_hostile_texts_has_no_more_elements(hostile: str) -> None:
    """Oracle: the report of plain words; its table's rows come from a visitor's file."""
    usual, found = (
        Reader(
            html_report.report_html(
                replace(report(text), charts=(), rows=[{"name": text}, {"name": f"2 {text}"}])
            )
        )
        for text in (PLAIN, hostile)
    )
    assert found.elements == usual.elements
    assert found.count(hostile) == usual.count(PLAIN)


@pytest.mark.parametrize("text", [*HOSTILE, "a &lt;b&gt; c", "<br>"])
def test_a_visitors_text_has_no_markup_in_a_figure(text: str) -> None:
    """Oracle: HTML: Plotly knows tags and entities; here are no tags, and the entities give the text back."""
    assert not Reader(plain(text)).elements
    assert Reader(plain(text)).texts == [text]
    assert lines_of(in_lines(plain(text), "", "b")) == [plain(text), "b"]
