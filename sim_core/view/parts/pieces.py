"""Small pieces that pages share: the finding, key figures, and tables with differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import streamlit as st

from sim_core.view.drawing.words import number, percent
from sim_core.view.session import record

STILL = 0.005  # a relative difference below this is not worth showing


def say(finding: str, *notes: str, more: str = "") -> None:
    """Show the finding, beneath it what was assumed, and `more` (HTML) that is on the page alone."""
    notes = tuple(note for note in notes if note)
    record.begin(finding, notes)
    lines = "".join(f'<p class="bs-story">{escape(note)}</p>' for note in notes) + more
    st.html(f'<p class="bs-finding">{escape(finding)}</p>{lines}')


def figure(name: str, value: str, note: str, *, wrap: bool = False, style: str = "", kind: str = "") -> str:
    """Return one key figure as HTML; `value` and `note` are HTML, `wrap` lets the note take several lines."""
    lines = ' style="white-space:normal"' if wrap else ""
    own = f' style="{style}"' if style else ""
    classes = f"bs-figure {kind}".rstrip()
    return (
        f'<div class="{classes}"{own}><div class="name">{escape(name)}</div>'
        f'<div class="value">{value}</div><div class="note"{lines}>{note}</div></div>'
    )


def figures(cells: Iterable[str], heading: str = "") -> None:
    """Show key figures in a row, under a heading (HTML) if there is one."""
    top = f"<h2>{heading}</h2>" if heading else ""
    text = "".join(cells)
    st.html(f'<div class="bs-figures bs-row"><section class="here">{top}<div>{text}</div></section></div>')


def table(
    caption: str, heads: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]], scroll: bool = False
) -> None:
    """Show a small table; its cells are HTML, such as `cells` makes. A wide one may `scroll` sideways."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in row)}</tr>'
        for name, row in lines
    )
    text = (
        f'<table class="bs-compare"><caption>{escape(caption)}</caption>'
        f"<thead><tr><td></td>{top}</tr></thead><tbody>{body}</tbody></table>"
    )
    region = f'tabindex="0" role="region" aria-label="{escape(caption)}"'  # for the keyboard to scroll it
    st.html(f'<div style="overflow-x:auto" {region}>{text}</div>' if scroll else text)


def cells(values: Sequence[float], format: Callable[[Any], str], more_is_better: bool | None) -> list[str]:
    """Return values as cells, each with its difference from the first; None: neither way is better."""
    found = []
    for value in values:
        base = values[0]
        known = found and base > 0 and math.isfinite(value) and abs(value / base - 1) >= STILL
        found.append(escape(format(value)) + (_difference(value / base, more_is_better) if known else ""))
    return found


def _difference(ratio: float, more_is_better: bool | None) -> str:
    text = f"{number(ratio, 2)}×" if ratio >= 2 else f"{'+' if ratio > 1 else '−'}{percent(abs(ratio - 1))}"
    good = (ratio > 1) == more_is_better
    kind = "" if more_is_better is None else f' class="{"bs-good" if good else "bs-bad"}"'
    return f" <small{kind}>{text}</small>"
