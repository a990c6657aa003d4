"""Thumbnails of scenarios: a scenario's own curve as a small SVG in the colours of the page's text.

To the right are tokens a second per user, up is throughput per accelerator, both from nothing, as on the
Frontier page; ticks have no room, so a thumbnail shows a shape and not figures. No single curve shows traffic
that changes over hours; there the thumbnail is the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from sim_core.questions import compare
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.remembered import Remembered
from sim_core.traffic import demand
from sim_core.view.drawing.figures import Row, X, Y
from sim_core.view.drawing.words import quantity

WIDTH, HEIGHT = 320, 120
LEFT, RIGHT, TOP, BOTTOM = 18, 10, 8, 18
ACCENT = "var(--st-primary-color, #3a93ad)"
_component = st.components.v2.component(  # st.html would throw the drawing away
    "batchscope_thumbnail",
    js="export default ({ data, parentElement }) => { parentElement.innerHTML = data.svg; };",
    isolate_styles=False,
)
_known: Remembered[Scenario, str] = Remembered(96)


def draw(svg: str, key: str) -> None:
    """Draw a thumbnail."""
    _component(data={"svg": svg}, key=key)


def known(scenario: Scenario) -> str | None:
    """Return a scenario's thumbnail if it has been drawn for anybody."""
    return _known.get(scenario)


def of(scenario: Scenario) -> str:
    """Return a scenario's thumbnail as SVG."""
    return _known.of(scenario, lambda: curve(compare.curve(scenario), scenario.slo_tpot_ms))


def placeholder(words: str) -> str:
    """Return a picture that says why there is none, in the same size."""
    text = f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">{escape(words)}</text>'
    return _svg(words, text)


def curve(rows: Sequence[Row], slo_tpot_ms: float) -> str:
    """Return a curve as SVG: the stretch that keeps the TPOT limit shaded, the best point ringed."""
    points = [row for row in rows if row["feasible"]]
    if not points:
        return placeholder("This scenario does not fit its device: see why.")
    widest, highest = 1.06 * max(row[X] for row in points), 1.12 * max(row[Y] for row in points)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(value / widest, 1)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / highest

    edge, best = x(1000 / slo_tpot_ms), compare.best(points)
    places = [(x(row[X]), y(row[Y])) for row in points]
    line = " ".join(f"{across:.1f},{up:.1f}" for across, up in places)
    dots = "".join(
        f'<circle cx="{across:.1f}" cy="{up:.1f}" r="2.4" '
        f'fill="{ACCENT if row["meets_slo"] else "none"}" stroke="{ACCENT}"/>'
        for row, (across, up) in zip(points, places, strict=True)
    )
    ring = "" if best is None else (
        f'<circle cx="{x(best[X]):.1f}" cy="{y(best[Y]):.1f}" r="6" fill="none" stroke="currentColor" '
        'stroke-width="1.6"/>'
    )  # fmt: skip
    return _svg(
        sentence(rows),
        f'<rect x="{edge:.1f}" y="{TOP}" width="{WIDTH - RIGHT - edge:.1f}" height="{HEIGHT - TOP - BOTTOM}" '
        f'fill="#00875f" opacity="0.13"/>{_axes("faster for a user →", "more for a device →")}'
        f'<polyline points="{line}" fill="none" stroke="{ACCENT}" stroke-width="1.8"/>{dots}{ring}',
    )


def change(scenario: Scenario) -> str:
    """Return how traffic changes over time as SVG: the share of requests with the other lengths."""
    times_s, wave = demand.wave(scenario)
    foot, high, end = HEIGHT - BOTTOM, TOP + 6, WIDTH - RIGHT
    across = LEFT + (end - LEFT) * times_s / times_s[-1]
    up = foot - (foot - high) * (0.5 + scenario.mix_swing_frac * (wave - 0.5))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, up, strict=True))
    span = quantity(scenario.demand_hours, "h")
    return _svg(
        f"Share of requests with the other lengths over {span}.",
        f'<polygon points="{LEFT},{foot} {line} {end},{foot}" fill="{ACCENT}" opacity="0.15"/>'
        f"{_axes(f'{span} →', 'other lengths →')}"
        f'<polyline points="{line}" fill="none" stroke="{ACCENT}" stroke-width="1.8"/>',
    )


def _axes(right: str, up: str) -> str:
    """Return both axes with what they mean."""
    foot, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    return (
        f'<path d="M{LEFT} {TOP}V{foot}H{end}" fill="none" stroke="currentColor" opacity="0.35"/>'
        f'<text x="{end}" y="{HEIGHT - 5}" text-anchor="end">{escape(right)}</text>'
        f'<text transform="translate(12 {foot}) rotate(-90)">{escape(up)}</text>'
    )


def _svg(words: str, inside: str) -> str:
    return (
        f'<svg class="bs-thumbnail" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">'
        f"{inside}</svg>"
    )


def sentence(rows: Sequence[Row]) -> str:
    """Return what a thumbnail shows, for people who cannot see it."""
    best = compare.best(rows)
    if best is None:
        return "Throughput against speed for a user; no point keeps the limits."
    return (
        f"Throughput against speed for a user; the best point within the limits gives "
        f"{quantity(best[Y], 'tok/s')} per accelerator at {quantity(best[X], 'tok/s')} per user."
    )
