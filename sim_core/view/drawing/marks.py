"""Pieces of Plotly's JSON that many figures hold; `more` is keys as Plotly has them."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from sim_core.view.drawing.figures import MUTED, SOFT, short

Piece = dict[str, Any]


def scatter(x: object, y: object, **more: object) -> Piece:
    """Return a trace of places: markers, lines or words, as its `mode` says."""
    return {"type": "scatter", "x": x, "y": y, **more}


def bar(x: object, y: object, **more: object) -> Piece:
    """Return a trace of bars."""
    return {"type": "bar", "x": x, "y": y, **more}


def ink_on(colour: str) -> str:
    """Return black or white for words on a colour `#rrggbb`, whichever stands out more.

    Contrast is that of relative luminances, as WCAG 2.2 defines both; one of the two always reaches 4.58.

    Examples
    --------
    >>> ink_on("#0072B2"), ink_on("#009E73")
    ('#ffffff', '#000000')
    """
    shares = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    luminance = sum(map(operator.mul, (0.2126, 0.7152, 0.0722), linear))
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def spread(low: Iterable[float], middle: Iterable[float], high: Iterable[float], **look: object) -> Piece:
    """Return bars from the middle of each place to its low and its high."""
    places = list(zip(low, middle, high, strict=True))
    up, down = short(top - at for _, at, top in places), short(at - foot for foot, at, _ in places)
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, **look}


def axis(title: str, **more: object) -> Piece:
    """Return an axis with its title."""
    return {"title": {"text": title}, **more}


def note(text: str, x: object, y: object, *, color: str = SOFT, size: float = 12, **more: object) -> Piece:
    """Return words in a figure, without an arrow; `x` and `y` in the axes' own coordinates."""
    font = {"color": color, "size": size}
    return {"text": text, "x": x, "y": y, "showarrow": False, "font": font, **more}


def pointer(text: str, x: object, y: object, *, color: str, size: float = 14, **more: object) -> Piece:
    """Return a text beside a place (`ax`, `ay`, in pixels), with a thin line that leads there."""
    font, thin = {"color": color, "size": size}, {"arrowcolor": MUTED, "arrowwidth": 1, "arrowhead": 0}
    return {"text": text, "x": x, "y": y, "font": font, "standoff": 9, **thin, **more}


def vertical(x: object, line: Piece, **more: object) -> Piece:
    """Return a line at a value of x, over the whole height."""
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line, **more}


def upright(x: float) -> Piece:
    """Return a dotted line at a value of x, over the whole height and beneath the traces."""
    return vertical(x, {"color": MUTED, "width": 1.5, "dash": "dot"}, xref="x", layer="below")


def horizontal(y: object, line: Piece, **more: object) -> Piece:
    """Return a line at a value of y, over the whole width."""
    return {"type": "line", "y0": y, "y1": y, "xref": "paper", "x0": 0, "x1": 1, "line": line, **more}


def segment(x: tuple[Any, Any], y: tuple[Any, Any], line: Piece, **more: object) -> Piece:
    """Return a straight line between two places."""
    return {"type": "line", "x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1], "line": line, **more}
