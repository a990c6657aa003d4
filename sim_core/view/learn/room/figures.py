"""Figures of a room: what it predicts, and then the truth among it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from sim_core.catalogue.lessons import LessonStep
from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.lessons import MEASURES
from sim_core.view.drawing.figures import COLOURS, INK, LAYOUT, Figure, round_values, short, ticks
from sim_core.view.drawing.marks import axis, bar, note, vertical
from sim_core.view.learn.lesson_figures import WIDE, figure_words, ratio_words

ROOM, TRUTH = COLOURS[4], COLOURS[5]
BINS = 24
LARGE = 20  # type that the last row can read [px]


def predictions(step: LessonStep, guesses: Sequence[float], shown: bool, size: int = LARGE) -> Figure:
    """Draw what a room predicts; once it may be `shown`, with the truth."""
    figure = _choices(step, guesses, shown) if step.choices else _numbers(step, guesses, shown)
    figure["layout"] |= {"font": {"size": size}, "showlegend": False, "bargap": 0.15}
    return figure


def _choices(step: LessonStep, guesses: Sequence[float], shown: bool) -> Figure:
    """Draw how many chose what; the right choice has another colour and a mark."""
    counts = [sum(guess == k for guess in guesses) for k in range(len(step.choices))]
    right = lessons.right_choice(step) if shown else -1
    names = [
        "<br>".join(textwrap.wrap(f"{'✓ ' if k == right else ''}{text}", 30))
        for k, text in enumerate(step.choices)
    ]
    bars = bar(
        counts,
        list(range(len(names))),
        orientation="h",
        text=counts,
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
        marker={"color": [TRUTH if k == right else ROOM for k in range(len(names))]},
    )
    layout = LAYOUT | {
        "xaxis": _counts("Predictions", max(counts, default=0)),
        "yaxis": {
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "autorange": "reversed",
            "showgrid": False,
            "ticklabelstandoff": 8,
        },
    }
    return {"data": [bars], "layout": layout}


def _numbers(step: LessonStep, guesses: Sequence[float], shown: bool) -> Figure:
    """Draw how many predicted about what; the truth and the middle prediction are lines with words."""
    lines = [(median(guesses), "the room's middle", INK, "dot")] if guesses else []
    if shown:
        lines.append((lessons.answered(step, None).truth, "simulator", TRUTH, "solid"))
    edges, log = _edges([*guesses, *(value for value, *_ in lines)])
    places = np.log10(edges) if log else edges
    counts = np.histogram(np.clip(np.asarray(guesses, float), edges[0], edges[-1]), edges)[0]
    bars = bar(
        short((places[1:] + places[:-1]) / 2, 8),
        counts.tolist(),
        marker={"color": ROOM},
        customdata=[[figure_words(step, end) for end in ends] for ends in pairwise(edges)],
        hovertemplate="%{y} from %{customdata[0]} to %{customdata[1]}<extra></extra>",
    )
    measure = MEASURES[step.measure]
    layout = LAYOUT | {
        "xaxis": axis(
            f"{measure.name} [{measure.unit}]",
            showgrid=False,
            showticklabels=bool(lines),
            range=[float(places[0]), float(places[-1])],
            **_ticks(edges, log),
        ),
        "yaxis": _counts("Predictions", int(counts.max(initial=0))),
        "margin": LAYOUT["margin"] | {"t": 70},
        "shapes": [],
        "annotations": [],
    }
    for k, (value, name, colour, dash) in enumerate(lines):
        x = float(np.log10(max(value, edges[0]))) if log else value
        layout["shapes"].append(vertical(x, {"color": colour, "width": 4, "dash": dash}))
        text = f"{name}: {figure_words(step, value)}"
        side = "left" if x < (places[0] + places[-1]) / 2 else "right"
        words = note(text, x, 1.0, yref="paper", yanchor="bottom", yshift=30 * k, xanchor=side)
        layout["annotations"].append(words | {"font": {"color": INK}})  # in the size of the room's type
    if not lines:
        empty = note("No predictions yet", 0.5, 0.5, xref="paper", yref="paper")
        layout["annotations"].append(empty | {"font": {}})
    return {"data": [bars], "layout": layout}


def _edges(values: Sequence[float]) -> tuple[np.ndarray, bool]:
    """Return edges of bins in which most values and the last one lie, and whether they grow by factors."""
    if not values:
        return np.linspace(0.0, 1.0, BINS + 1), False
    low, high = np.quantile(values, [0.03, 0.97])
    low, high = min(low, values[-1]), max(high, values[-1])
    positive = max(low, min((value for value in values if value > 0), default=1.0))
    if high / positive > WIDE:
        return np.geomspace(positive / 1.5, 1.5 * high, BINS + 1), True
    room = max(high - low, 0.2 * high, 1e-9)
    return np.linspace(max(0.0, low - 0.3 * room), high + 0.3 * room, BINS + 1), False


def _ticks(edges: np.ndarray, log: bool) -> dict[str, Any]:
    """Return ticks at round values; a logarithmic axis is drawn over the exponents."""
    if not log:
        return {"separatethousands": True, "exponentformat": "none", "nticks": 6}
    values = round_values((float(edges[0]), float(edges[-1])))
    return ticks(values) | {"tickvals": np.log10(values).tolist()}


def _counts(title: str, most: int) -> dict[str, Any]:
    """Return an axis that counts predictions, in whole numbers."""
    top = max(4, most)
    return axis(title, range=[0, 1.12 * top], dtick=max(1, -(-top // 5)))


def room_sentence(step: LessonStep, guesses: Sequence[float], shown: bool) -> str:
    """Return the figure in one sentence."""
    if not guesses:
        return "Nobody has predicted anything yet."
    count = f"{len(guesses)} predictions" if len(guesses) > 1 else "1 prediction"
    if not step.choices:
        return f"{count}, the middle one {figure_words(step, median(guesses))}." + (
            f" {room_verdict(step, guesses)}" if shown else ""
        )
    parts = [f"{text}: {sum(guess == k for guess in guesses)}" for k, text in enumerate(step.choices)]
    return f"{count}. {'; '.join(parts)}." + (f" {room_verdict(step, guesses)}" if shown else "")


def room_verdict(step: LessonStep, guesses: Sequence[float]) -> str:
    """Return how well a room has predicted, in one or two sentences."""
    found = lessons.answered(step, None)
    truth = figure_words(step, found.truth)
    if step.choices:
        right = lessons.right_choice(step)
        words = step.choices[right]
        said = f"The simulator says: {words[0].lower() + words[1:]} ({truth})."
        hits = sum(guess == right for guess in guesses)
        return said + (f" {hits} of {len(guesses)} said so." if guesses else "")
    said = f"The simulator says {truth}."
    if not guesses:
        return said
    close = sum(bool(lessons.answered(step, guess).right) for guess in guesses)
    middle = lessons.answered(step, median(guesses))
    far = ""
    if not middle.right and math.isfinite(middle.factor):
        way = "much" if middle.factor > 1 else "little"
        far = f" The room's middle is {ratio_words(max(middle.factor, 1 / middle.factor))} times too {way}."
    near = "came close to it" if MEASURES[step.measure].scale == 100 else "came within a quarter of it"
    return f"{said}{far} {close} of {len(guesses)} {near}."
