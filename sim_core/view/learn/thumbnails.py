"""Thumbnails of scenarios: a scenario's own curve as a small SVG in the colours of the page's text.

To the right are tokens a second per user, up is throughput per accelerator, both from nothing, as on the
Frontier page; ticks have no room, so a thumbnail shows a shape and not figures. No single curve shows traffic
that changes over hours; there the thumbnail is the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st

from sim_core.questions import compare
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.remembered import Remembered
from sim_core.traffic import demand
from sim_core.view.drawing.figures import Row, X, Y
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import quantity

WIDTH, HEIGHT = 320, 120
LEFT, RIGHT, TOP, BOTTOM = 18, 10, 8, 18
FOOT = HEIGHT - BOTTOM
FRAME = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "top": TOP, "foot": FOOT, "end": WIDTH - RIGHT}
ACCENT = "var(--st-primary-color, #3a93ad)"
_component = st.components.v2.component(  # st.html would throw the drawing away
    "batchscope_thumbnail",
    js="export default ({ data, parentElement }) => { parentElement.innerHTML = data.svg; };",
    isolate_styles=False,
)
_known: Remembered[Scenario, str] = Remembered(96)


def draw_thumbnail(svg: str, key: str) -> None:
    """Draw a thumbnail."""
    _component(data={"svg": svg}, key=key)


def known_thumbnail(scenario: Scenario) -> str | None:
    """Return a scenario's thumbnail if it has been drawn for anybody."""
    return _known.get(scenario)


def of(scenario: Scenario) -> str:
    """Return a scenario's thumbnail as SVG."""
    return _known.of(scenario, lambda: curve_svg(compare.curve(scenario), scenario.slo_tpot_ms))


def placeholder(words: str) -> str:
    """Return a picture that says why there is none, in the same size."""
    return str(render("learn/message.svg", words=words, frame=FRAME))


class Picture(NamedTuple):
    """What a thumbnail shows: its words, a line, and the meaning of both axes."""

    words: str
    line: str  # the points of the line
    right: str
    up: str
    filled: bool = False  # beneath the line
    edge: float | None = None  # right of it, the frame is shaded
    dots: Sequence[tuple[str, str, bool]] = ()  # across, up, whether it is full
    ring: tuple[str, str] | None = None


def curve_svg(rows: Sequence[Row], slo_tpot_ms: float) -> str:
    """Return a curve as SVG: the stretch that keeps the TPOT limit shaded, the best point ringed."""
    points = [row for row in rows if row["feasible"]]
    if not points:
        return placeholder("This scenario does not fit its device: see why.")
    widest, highest = 1.06 * max(row[X] for row in points), 1.12 * max(row[Y] for row in points)

    def across(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(value / widest, 1)

    def place(row: Row) -> tuple[str, str]:
        return f"{across(row[X]):.1f}", f"{FOOT - (FOOT - TOP) * row[Y] / highest:.1f}"

    best = compare.best(points)
    return _svg(
        Picture(
            thumbnail_sentence(rows),
            line=" ".join(map(",".join, map(place, points))),
            right="faster for a user →",
            up="more for a device →",
            edge=round(across(1000 / slo_tpot_ms), 1),
            dots=[(*place(row), row["meets_slo"]) for row in points],
            ring=None if best is None else place(best),
        )
    )


def change_svg(scenario: Scenario) -> str:
    """Return how traffic changes over time as SVG: the share of requests with the other lengths."""
    times_s, wave = demand.wave(scenario)
    high, end = TOP + 6, WIDTH - RIGHT
    across = LEFT + (end - LEFT) * times_s / times_s[-1]
    up = FOOT - (FOOT - high) * (0.5 + scenario.mix_swing_frac * (wave - 0.5))
    span = quantity(scenario.demand_hours, "h")
    return _svg(
        Picture(
            f"Share of requests with the other lengths over {span}.",
            line=" ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, up, strict=True)),
            right=f"{span} →",
            up="other lengths →",
            filled=True,
        )
    )


def _svg(picture: Picture) -> str:
    return str(render("learn/thumbnail.svg", it=picture, frame=FRAME, accent=ACCENT))


def thumbnail_sentence(rows: Sequence[Row]) -> str:
    """Return what a thumbnail shows, for people who cannot see it."""
    best = compare.best(rows)
    if best is None:
        return "Throughput against speed for a user; no point keeps the limits."
    return (
        f"Throughput against speed for a user; the best point within the limits gives "
        f"{quantity(best[Y], 'tok/s')} per accelerator at {quantity(best[X], 'tok/s')} per user."
    )
