"""Figures of the Traffic shift page: pure functions from rows to Plotly's JSON, each with a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from sim_core.fields.texts import counted
from sim_core.questions.shift.cluster import STATES, Span
from sim_core.questions.shift.report import timeline_rows
from sim_core.questions.shift.study import STRATEGIES, Outcome, Study, key_of
from sim_core.view.drawing.figures import COLOURS, INK, LAYOUT, MUTED, Figure, Row, faded, short
from sim_core.view.drawing.marks import axis, bar, horizontal, ink_on, note, scatter, upright
from sim_core.view.drawing.words import duration, number, percent

PREFILL, DECODE = COLOURS[1], COLOURS[0]
LOOKS = {  # colour, dash, marker of each strategy, the same in every figure
    "fixed": (MUTED, "solid", "circle"),
    "hindsight": (MUTED, "dot", "circle-open"),
    "reactive": (COLOURS[5], "solid", "square"),
    "predictive": (COLOURS[3], "dash", "diamond"),
    "oracle": (COLOURS[2], "dashdot", "triangle-up"),
    "free": (COLOURS[4], "dot", "triangle-down"),
    "one_pool": (COLOURS[1], "longdash", "hexagon"),
}
DOING = {
    "prefill": "prefilling",
    "decode": "decoding",
    "drain": "draining",
    "init": "starting",
    "load": "loading weights",
    "warm-up": "warming up",
    "sync": "joining",
}
ROWS = {"demand": (0.80, 1.0), "workers": (0.47, 0.745), "within": (0.235, 0.415), "queue": (0.0, 0.18)}
AWAY = ("init", "load", "warm-up", "sync")


def when(time_s: float) -> str:
    """Return a moment as h:mm:ss."""
    whole = round(time_s)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


# Over time


def over_time_figure(study: Study, outcome: Outcome, fixed: Outcome | None) -> Figure:
    """Draw demand, pools, attainment and queues of one strategy over time.

    `fixed` is drawn faintly beside its attainment, for comparison.
    """
    rows = timeline_rows(study, outcome)
    unit_s, unit = (3600.0, "h") if study.duration_s > 5400 else (60.0, "min")
    x = short((row["start_s"] + row["end_s"]) / 2 / unit_s for row in rows)
    data = [*_demand(rows, x), *_attainment(rows, x, outcome, fixed)]
    if outcome.spans:
        data += [*_workers(study, outcome, rows, x), *_queues(rows, x)]
    end = study.duration_s / unit_s
    axes = {
        "yaxis": _axis("Arrivals [req/s]", ROWS["demand"]),
        "yaxis5": axis(
            "Other kind",
            overlaying="y",
            side="right",
            range=[0, 1.02],
            showgrid=False,
            tickformat=".0%",
            tickvals=[0, 0.5, 1],
            visible=_has_other(rows),
        ),
        "yaxis2": _axis("Workers", ROWS["workers"])
        | {"range": [0, study.workers], "dtick": _step(study.workers)},
        "yaxis3": _axis("Within limits", ROWS["within"]) | {"range": [0, 1.03], "tickformat": ".0%"},
        "yaxis4": _axis("Waiting", ROWS["queue"]),
    }
    layout = (
        LAYOUT
        | axes
        | {
            "xaxis": axis(f"Time [{unit}]", range=[0, end], anchor="y4", showgrid=False),
            "hovermode": "x unified",
            "hoversubplots": "axis",
            "legend": {**LAYOUT["legend"], "traceorder": "normal"},
        }
    )
    return {"data": data, "layout": layout}


def _axis(title: str, domain: tuple[float, float]) -> dict:
    plain = {"separatethousands": True, "exponentformat": "none"}
    return axis(title, domain=list(domain), rangemode="tozero", nticks=4, **plain)


def _step(workers: int) -> int:
    return max(1, 2 ** max(math.ceil(math.log2(workers / 4)), 0))


def _has_other(rows: Sequence[Row]) -> bool:
    return math.isfinite(rows[0]["other_frac"])


def _demand(rows: Sequence[Row], x: list[float | None]) -> list[dict]:
    data = [
        scatter(
            x,
            short(row["arrival_per_s"] for row in rows),
            mode="lines",
            name="arrivals",
            line={"color": INK, "width": 1.5, "shape": "hvh"},
            showlegend=False,
            hovertemplate="%{y:.3g} req/s<extra>arrivals</extra>",
        )
    ]
    if _has_other(rows):
        data.append(
            scatter(
                x,
                short(row["other_frac"] for row in rows),
                mode="lines",
                yaxis="y5",
                name="other kind",
                fill="tozeroy",
                showlegend=False,
                fillcolor="rgba(204,121,167,0.16)",
                line={"color": COLOURS[3], "width": 1, "shape": "hvh"},
                hovertemplate="%{y:.0%}<extra>other kind</extra>",
            )
        )
    return data


def _workers(study: Study, outcome: Outcome, rows: Sequence[Row], x: list[float | None]) -> list[dict]:
    """Return the pools as a stack, on their way hatched, and the split that the traffic of the time wants."""
    want = [
        study.workers * row["needs_prefill_workers"] / total if total else math.nan
        for row in rows
        for total in [row["needs_prefill_workers"] + row["needs_decode_workers"]]
    ]
    middle_s = [(row["start_s"] + row["end_s"]) / 2 for row in rows]
    wanted = scatter(
        x,
        short(want),
        mode="lines",
        yaxis="y2",
        name="split that the traffic wants",
        line={"color": INK, "width": 1.5, "dash": "dot"},
        customdata=[doing(outcome.spans, moment) for moment in middle_s],
        hovertemplate="%{y:.2g} prefill workers<br>%{customdata}<extra>wanted</extra>",
    )
    return [*_stack(rows, x), wanted]


def _stack(rows: Sequence[Row], x: list[float | None]) -> list[dict]:
    """Return how many workers are where, one upon the other."""
    found = {state: np.array([row[f"workers_{key_of(state)}"] for row in rows]) for state in STATES}
    hatched = {"shape": "/", "fgcolor": MUTED, "size": 6, "solidity": 0.35}
    away = {"fillcolor": "rgba(0,0,0,0)", "fillpattern": hatched}
    layers = (
        ("prefill pool", found["prefill"], {"fillcolor": faded(PREFILL, 0.75)}),
        ("on the way", np.sum([found[state] for state in AWAY], axis=0), away),
        ("draining", found["drain"], {"fillcolor": "rgba(128,134,139,0.45)"}),
        ("decode pool", found["decode"], {"fillcolor": faded(DECODE, 0.75)}),
    )
    return [
        scatter(
            x,
            short(values),
            mode="lines",
            yaxis="y2",
            name=name,
            stackgroup="workers",
            line={"shape": "hvh", "width": 0},
            hovertemplate=f"%{{y:.2g}}<extra>{name}</extra>",
            **look,
        )
        for name, values, look in layers
    ]


def doing(spans: Sequence[Span], time_s: float) -> str:
    """Return in words what each worker is doing at a moment."""
    present = sorted(
        (STATES.index(span.state), span.worker) for span in spans if span.start_s <= time_s < span.end_s
    )
    parts = []
    for state, group in groupby(present, key=lambda item: item[0]):
        parts.append(f"{DOING[STATES[state]]}: {_ranges([worker + 1 for _, worker in group])}")
    return ", ".join(parts)


def _ranges(numbers: Sequence[int]) -> str:
    """Return 1, 2, 3, 7 as 1–3 7."""
    parts, start = [], 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            first, last = numbers[start], numbers[place - 1]
            parts.append(f"{first}" if first == last else f"{first}–{last}")
            start = place
    return " ".join(parts)


def _attainment(
    rows: Sequence[Row], x: list[float | None], outcome: Outcome, fixed: Outcome | None
) -> list[dict]:
    lines = []
    if fixed is not None and fixed.name != outcome.name:
        arrived, within = fixed.timeline.arrived, fixed.timeline.within
        with np.errstate(divide="ignore", invalid="ignore"):
            fixed_share = np.where(arrived > 0, within / arrived, math.nan)
        lines.append(("fixed split", fixed_share.tolist(), {"color": MUTED, "width": 1.5, "dash": "dot"}))
    share = [row["slo_attainment_frac"] for row in rows]
    name = STRATEGIES[outcome.name].lower()
    lines.append((name, share, {"color": LOOKS[outcome.name][0], "width": 2}))
    return [
        scatter(
            x,
            short(values),
            mode="lines",
            yaxis="y3",
            name=name,
            line=line,
            hovertemplate=f"%{{y:.0%}}<extra>within limits, {name}</extra>",
        )
        for name, values, line in lines
    ]


def _queues(rows: Sequence[Row], x: list[float | None]) -> list[dict]:
    looks = (("prefill", PREFILL, "solid"), ("decode", DECODE, "dash"))
    return [
        scatter(
            x,
            [row[f"{pool}_queue"] for row in rows],
            mode="lines",
            yaxis="y4",
            name=f"waiting for {pool}",
            showlegend=False,
            line={"color": colour, "width": 1.5, "dash": dash},
            hovertemplate=f"%{{y:,}}<extra>waiting for {pool}</extra>",
        )
        for pool, colour, dash in looks
    ]


def over_time_sentence(study: Study, outcome: Outcome) -> str:
    """Return the figure in one sentence."""
    moves = f"{len(outcome.moves)} moves of workers" if outcome.spans else "no pools"
    return (
        f"{STRATEGIES[outcome.name]} over {duration(1e3 * study.duration_s)}: {moves}, "
        f"{percent(outcome.attainment_frac)} of {counted(len(study.demand.requests), 'request')} within both "
        "limits."
    )


# When adapting pays


SHOWN = ("reactive", "predictive", "oracle", "free", "one_pool")


def benefits(
    rows: Sequence[Row], dwells: Sequence[float], even: Mapping[str, float], here: float | None
) -> Figure:
    """Draw what each strategy serves more than the fixed split, over how slowly traffic changes.

    Parameters
    ----------
    rows : sequence of mappings
        As `shift.sweep` yields them, those that are known so far.
    dwells : sequence of float
        All dwell times of the sweep, in times of a reallocation.
    even : mapping
        Where reactive and predictive break even; NaN or 0 where they do not.
    here : float, optional
        The scenario's own dwell time.
    """
    known = [row for row in rows if "fixed_frac" in row]
    data = [_benefit(known, name, 2.5 if name in even else 2) for name in SHOWN]
    words = [
        note(
            f"{STRATEGIES[name].lower()} breaks even",
            math.log10(value),
            0,
            xanchor="left",
            yanchor="top" if place else "bottom",
        )
        for place, (name, value) in enumerate(even.items())
        if value > 0 and math.isfinite(value)
    ]
    low, high = math.log10(min(dwells) / 1.25), math.log10(max(dwells) * 1.25)
    shapes = [horizontal(0, {"color": MUTED, "width": 1.5})]
    if here is not None and low < math.log10(here) < high:
        shapes.append(upright(here))
        side = "right" if math.log10(here) > (low + high) / 2 else "left"
        words.append(note(" this traffic ", math.log10(here), 1, yref="paper", xanchor=side, yanchor="top"))
    layout = LAYOUT | {
        "xaxis": axis(
            "Time between changes, in reallocation times",
            type="log",
            range=[low, high],
            tickvals=list(dwells),
            ticktext=[f"{number(value)}×" for value in dwells],
        ),
        "yaxis": axis("Within limits, against the fixed split [points]", zeroline=False),
        "shapes": shapes,
        "annotations": words,
    }
    return {"data": data, "layout": layout}


def _benefit(known: Sequence[Row], name: str, width: float) -> dict:
    """Return what one strategy serves more, where that is known."""
    colour, dash, marker = LOOKS[name]
    rows = [row for row in known if f"{name}_frac" in row]
    return scatter(
        [row["dwell_reallocations"] for row in rows],
        short(100 * (row[f"{name}_frac"] - row["fixed_frac"]) for row in rows),
        mode="lines+markers",
        name=STRATEGIES[name],
        line={"color": colour, "dash": dash, "width": width},
        marker={"symbol": marker, "size": 8},
        customdata=[
            [duration(1e3 * row["dwell_s"]), percent(row[f"{name}_frac"]), percent(row["fixed_frac"])]
            for row in rows
        ],
        hovertemplate=f"<b>{STRATEGIES[name]}</b>: %{{customdata[1]}} within limits, fixed split "
        "%{customdata[2]}<br>traffic changes every %{customdata[0]}<extra></extra>",
    )


def benefits_sentence(rows: Sequence[Row], even: Mapping[str, float]) -> str:
    """Return the figure in one sentence."""
    parts = []
    for name, value in even.items():
        where = "never for good" if math.isnan(value) else f"from {number(value, 2)} reallocation times on"
        parts.append(f"{STRATEGIES[name].lower()} {'at every speed' if value == 0 else where}")
    return f"Over {len(rows)} speeds of change, adapting beats the fixed split: {', '.join(parts)}."


# All strategies


def strategies(outcomes: Mapping[str, Outcome]) -> Figure:
    """Draw the share of requests within the limits under each strategy; those not known yet are empty."""
    names = list(reversed(STRATEGIES))
    found = [outcomes.get(name) for name in names]
    data = [
        bar(
            short(item.attainment_frac if item else math.nan for item in found),
            [STRATEGIES[name] for name in names],
            orientation="h",
            marker={"color": [LOOKS[name][0] for name in names]},
            text=[percent(item.attainment_frac) if item else "…" for item in found],
            textposition="auto",
            insidetextfont={"color": [ink_on(LOOKS[name][0]) for name in names]},
            showlegend=False,
            customdata=[number(item.goodput_per_s) if item else "–" for item in found],
            hovertemplate="<b>%{y}</b>: %{text} within limits, %{customdata} req/s<extra></extra>",
        )
    ]
    layout = LAYOUT | {
        "xaxis": axis("Requests within both limits", range=[0, 1.0], tickformat=".0%"),
        "yaxis": {"type": "category", "showgrid": False, "automargin": True},
        "bargap": 0.3,
    }
    return {"data": data, "layout": layout}


def strategies_sentence(outcomes: Mapping[str, Outcome]) -> str:
    """Return the figure in one sentence."""
    parts = [f"{STRATEGIES[name]} {percent(item.attainment_frac)}" for name, item in outcomes.items()]
    return f"Requests within both limits: {', '.join(parts)}."
