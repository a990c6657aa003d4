"""Figures of the Lessons page: what is known so far, the learner's guess, and then the truth beside it."""

from __future__ import annotations

import math

from sim_core.catalogue.lessons import LessonStep
from sim_core.questions.teaching.lessons import MEASURES, is_number
from sim_core.scenario.scenario import FIELDS
from sim_core.view.drawing.figures import COLOURS, INK, LAYOUT, PAPER, Figure, round_values, short, ticks
from sim_core.view.drawing.marks import Piece, axis, pointer, scatter
from sim_core.view.drawing.words import duration, number, quantity

TRUTH, GUESS = COLOURS[0], COLOURS[5]
PLOT_PX, WORDS_PX = (320.0, 240.0), (104.0, 22.0)  # width and height on a phone, where there is least room
MOVES_PX = tuple(
    (right, down) for down in (-40.0, 40.0, -75.0, 75.0, -110.0, 110.0) for right in (-64.0, 64.0, 0.0)
)
WIDE = 15.0  # values further apart than this factor stand on a logarithmic axis


def figure_words(step: LessonStep, value: float) -> str:
    """Return a figure of a step with its unit."""
    unit = MEASURES[step.measure].unit
    if unit == "ms":
        return duration(value)
    return quantity(float(f"{value:.3g}"), unit)


def control_words(step: LessonStep, value: str) -> str:
    """Return a value of a step's control in words."""
    if not is_number(step):
        return FIELDS[step.control].label_of(value)
    return quantity(_number(value), FIELDS[step.control].unit)


def _number(value: str) -> float:
    found = float(value)
    return int(found) if found.is_integer() else found


def _control_axis(step: LessonStep) -> Figure:
    """Return the axis of the control, its unit in the title: seven values stand side by side on a phone."""
    info = FIELDS[step.control]
    return axis(
        f"{info.label} [{info.unit}]" if info.unit and is_number(step) else info.label,
        tickvals=list(range(len(step.values))),
        range=[-0.5, len(step.values) - 0.5],
        ticktext=[
            number(_number(name)) if is_number(step) else control_words(step, name) for name in step.values
        ],
        showgrid=False,
    )


def lesson_figure(
    step: LessonStep, shown: dict[str, float], guess: float | None, whose: str = "your prediction"
) -> Figure:
    """Draw the figures that have been seen, over the control, and a guess where the question asks.

    Parameters
    ----------
    step : LessonStep
    shown : dict
        Figures by value of the control, those that the learner may see.
    guess : float, optional
        In the measure's unit; None for choices, and before one is made.
    whose : str
        Words at the guess.
    """
    names = [value for value in step.values if value in shown]
    x = [step.values.index(name) for name in names]
    known: Piece = {
        "type": "scatter" if is_number(step) else "bar",
        "x": x,
        "y": short(shown[name] for name in names),
        "name": "simulated",
        "customdata": [[control_words(step, name), figure_words(step, shown[name])] for name in names],
        "hovertemplate": "<b>%{customdata[0]}</b>: %{customdata[1]}<extra></extra>",
        "marker": {"color": TRUTH},
    }
    if is_number(step):
        line = {"color": TRUTH, "width": 2.5}
        known |= {"mode": "lines+markers", "line": line, "marker": {"color": TRUTH, "size": 10}}
    data = [known]
    if guess is not None:
        data.append(_guess(step, guess, whose))
    heights = [value for value in [*shown.values(), *([guess] if guess is not None else [])] if value > 0]
    log = len(heights) > 1 and max(heights) / min(heights) > WIDE and min([*shown.values(), 1.0]) >= 0
    log = log and is_number(step)
    measure = MEASURES[step.measure]
    layout = LAYOUT | {
        "xaxis": _control_axis(step),
        "yaxis": axis(
            f"{measure.name} [{measure.unit}]",
            rangemode="tozero",
            type="log" if log else "linear",
            separatethousands=True,
            exponentformat="none",
            **ticks(round_values((min(heights) / 1.3, 1.3 * max(heights)))) if log else {},
        ),
        "showlegend": False,
    }
    if guess is not None:
        layout["annotations"] = [_words_at(step, shown, guess, log, whose)]
    return {"data": data, "layout": layout}


def _words_at(step: LessonStep, shown: dict[str, float], guess: float, log: bool, whose: str) -> Piece:
    """Return the words at a guess, with a leader, where the line is furthest from them."""
    place, height = step.values.index(step.ask), math.log10(guess) if log and guess > 0 else guess
    right, down = _beside(step, shown, guess, log)
    look = {"bgcolor": PAPER, "borderpad": 3}
    return pointer(whose, place, height, color=INK, size=13, ax=right, ay=down, **look)


def _beside(step: LessonStep, shown: dict[str, float], guess: float, log: bool) -> tuple[float, float]:
    """Return how far right and down of a guess its words are furthest from the line, on a phone. [px]"""
    wide, high = PLOT_PX
    least = min(value for value in (*shown.values(), guess, 1.0) if value > 0)

    def level(value: float) -> float:
        return math.log(max(value, least)) if log else value

    levels = [level(value) for value in (*shown.values(), guess)]
    low = min(levels) if log else min(0.0, *levels)
    span = (max(levels) - low) or 1.0

    def place(name: str, value: float) -> tuple[float, float]:
        return (step.values.index(name) + 0.5) / len(step.values) * wide, (
            1 - (level(value) - low) / span
        ) * high

    known = [place(name, shown[name]) for name in step.values if name in shown]
    line = [
        (left[0] + part * (right[0] - left[0]), left[1] + part * (right[1] - left[1]))
        for left, right in zip(known, known[1:] or known, strict=False)
        for part in (share / 20 for share in range(21))
    ]
    x, y = place(step.ask, guess)

    def room(move: tuple[float, float]) -> float:
        across, along = x + move[0], y + move[1]
        if not WORDS_PX[0] / 2 <= across <= wide - WORDS_PX[0] / 2 or not -40 <= along <= high:
            return -wide
        return min(
            max(abs(px - across) - WORDS_PX[0] / 2, abs(py - along) - WORDS_PX[1] / 2) for px, py in line
        )

    return max(MOVES_PX, key=room)


def _guess(step: LessonStep, guess: float, whose: str) -> dict:
    """Return the mark of a guess where the question asks."""
    return scatter(
        [step.values.index(step.ask)],
        short([guess]),
        mode="markers",
        name=whose,
        hovertemplate=f"{figure_words(step, guess)}<extra>{whose}</extra>",
        marker={"color": GUESS, "size": 15, "symbol": "x", "line": {"color": INK, "width": 1}},
    )


def lesson_sentence(
    step: LessonStep, shown: dict[str, float], guess: float | None, whose: str = "your prediction"
) -> str:
    """Return the figure in one sentence."""
    parts = [f"{figure_words(step, value)} at {control_words(step, name)}" for name, value in shown.items()]
    text = f"{MEASURES[step.measure].name} over {FIELDS[step.control].label.lower()}: "
    text += ", ".join(parts)
    return text + (f"; {whose} {figure_words(step, guess)}." if guess is not None else ".")


def seen(step: LessonStep, at: str) -> list[str]:
    """Return the values that have been seen once the control has moved from the start to a value."""
    first, last = sorted((step.values.index(step.start), step.values.index(at)))
    return list(step.values[first : last + 1])


def ratio_words(ratio: float) -> str:
    """Return a ratio as people say it."""
    return number(ratio, 2)
