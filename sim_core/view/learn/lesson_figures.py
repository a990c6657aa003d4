"""Figures of the Lessons page: what is known so far, the learner's guess, and then the truth beside it."""

from __future__ import annotations

from sim_core.catalogue.lessons import LessonStep
from sim_core.questions.teaching.lessons import MEASURES, is_number
from sim_core.scenario.scenario import FIELDS
from sim_core.view.drawing.figures import COLOURS, INK, LAYOUT, Figure, round_values, short, ticks
from sim_core.view.drawing.marks import Piece, axis, scatter
from sim_core.view.drawing.words import duration, number, quantity

TRUTH, GUESS = COLOURS[0], COLOURS[5]
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
    found = float(value)
    return quantity(int(found) if found.is_integer() else found, FIELDS[step.control].unit)


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
        "xaxis": axis(
            FIELDS[step.control].label,
            tickvals=list(range(len(step.values))),
            range=[-0.5, len(step.values) - 0.5],
            ticktext=[control_words(step, value) for value in step.values],
            showgrid=False,
        ),
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
    return {"data": data, "layout": layout}


def _guess(step: LessonStep, guess: float, whose: str) -> dict:
    """Return the mark of a guess where the question asks, with words beside it."""
    return scatter(
        [step.values.index(step.ask)],
        short([guess]),
        mode="markers+text",
        name=whose,
        text=[f"{whose} "],
        textposition="middle left",
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
