"""Figures over the rounds of published results: ratios to Offline, and the limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sim_core.view.drawing.figures import (
    BREAK,
    INK,
    MUTED,
    TALL_LAYOUT,
    TALL_MARGIN,
    Figure,
    Row,
    faded,
    log_ticks,
    short,
    ticks,
)
from sim_core.view.drawing.marks import axis, scatter
from sim_core.view.drawing.words import number, percent
from sim_core.view.scenarios.figures import RULES, entry_words

CLOSE = 1.5  # limits of a round within this factor have their words apart
WIDTH = 0.28  # of the strip in which accelerators of one round lie side by side


def ratios_over_rounds(rows: Sequence[Row], rule: str, accelerator: str, lines: Sequence[Row]) -> Figure:
    """Draw published ratios by round: each accelerator, the median of all, and the simulated median.

    Parameters
    ----------
    rows : sequence of mappings
        One a round and accelerator: ``round``, ``accelerator``, ``name``, and for `rule` the keys ``_count``,
        ``_min``, ``_median``, ``_max`` and ``_simulated``.
    rule : str
    accelerator : str
        The one that is drawn in colour.
    lines : sequence of mappings
        One a round: ``round``, ``count``, ``published`` and ``simulated`` medians.
    """
    names = sorted({row["round"] for row in rows})
    shown = [row for row in rows if row[f"{rule}_count"]]
    name, colour = RULES[rule]
    own = [row for row in shown if row["accelerator"] == accelerator]
    data = [_strip(shown, names, rule, faded(MUTED, 0.55), "published, by accelerator")]
    data += [_median(lines, names, "published", colour), _median(lines, names, "simulated", colour)]
    if own:
        data.append(_strip(own, names, rule, colour, f"{own[0]['name']}, published", size=12))
    most = max((row[f"{rule}_median"] for row in shown), default=1.0)
    return {
        "data": data,
        "layout": TALL_LAYOUT | {
            "margin": TALL_MARGIN | {"t": 64},
            "xaxis": _rounds_axis(names),
            "yaxis": axis(f"{name} [share of Offline]", range=[0, max(1.1, 1.08 * most)], tickformat=".0%"),
        },
    }  # fmt: skip


def _strip(
    rows: Sequence[Row], names: Sequence[str], rule: str, colour: str, title: str, size: int = 8
) -> dict:
    """Return the medians of accelerators, those of one round side by side."""
    inside = {name: [row["accelerator"] for row in rows if row["round"] == name] for name in names}
    x = [names.index(row["round"]) + _beside(row["accelerator"], inside[row["round"]]) for row in rows]
    text = [
        f"<b>{row['name']}, {row['round']}: median {percent(row[f'{rule}_median'])} of Offline</b><br>"
        f"{percent(row[f'{rule}_min'])} to {percent(row[f'{rule}_max'])}, "
        f"{entry_words(row[f'{rule}_count'])}, published{_simulated(row[f'{rule}_simulated'])}"
        for row in rows
    ]
    return scatter(
        short(x), short(row[f"{rule}_median"] for row in rows), mode="markers", name=title, text=text,
        hovertemplate="%{text}<extra></extra>", marker={"symbol": "diamond", "size": size, "color": colour},
    )  # fmt: skip


def _beside(part: str, parts: Sequence[str]) -> float:
    return 0.0 if len(parts) == 1 else WIDTH * (2 * parts.index(part) / (len(parts) - 1) - 1)


def _simulated(ratio: float) -> str:
    return f"<br>simulated {percent(ratio)}" if math.isfinite(ratio) else ""


def _median(lines: Sequence[Row], names: Sequence[str], kind: str, colour: str) -> dict:
    """Return the line of medians over all entries of a round: published ones, or simulated ones."""
    known = [row for row in lines if math.isfinite(row[kind])]
    look = {"published": {"dash": "solid", "width": 3}, "simulated": {"dash": "dot", "width": 2}}[kind]
    symbol = {"published": "diamond", "simulated": "circle-open"}[kind]
    return scatter(
        [names.index(row["round"]) for row in known],
        short(row[kind] for row in known),
        mode="lines+markers",
        name=f"median of all entries, {kind}",
        text=[
            f"<b>{row['round']}: {percent(row[kind])} of Offline</b><br>"
            f"median of {entry_words(row['count'])}, {kind}"
            for row in known
        ],
        hovertemplate="%{text}<extra></extra>",
        line={"color": colour, **look},
        marker={"symbol": symbol, "size": 9, "color": colour},
    )


def limits_over_rounds(limits: Sequence[Row]) -> Figure:
    """Draw the limits on TPOT of benchmarks by the round that first had them; tighter is lower.

    Parameters
    ----------
    limits : sequence of mappings
        ``benchmark``, ``rule``, ``round``, ``ttft_ms`` and ``tpot_ms``.
    """
    names = sorted({row["round"] for row in limits})
    data = [
        _limits([row for row in limits if row["rule"] == rule], names, rule, symbol)
        for rule, symbol in (("server", "square"), ("interactive", "diamond"))
    ]
    layout = TALL_LAYOUT | {
        "margin": TALL_MARGIN,
        "xaxis": _rounds_axis(names) | {"range": [-0.2, len(names) + 0.4]},
        "yaxis": axis("TPOT limit [ms]", type="log", range=[0.93, 2.6], **ticks(log_ticks(10, 280))),
    }
    return {"data": data, "layout": layout}


def _rounds_axis(names: Sequence[str]) -> dict:
    return axis("Round", tickvals=list(range(len(names))), ticktext=names, range=[-0.5, len(names) - 0.5])


def _limits(rows: Sequence[Row], names: Sequence[str], rule: str, symbol: str) -> dict:
    """Return the limits of one rule; benchmarks that share round and limit share a mark."""
    shared: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        shared.setdefault((row["round"], row["tpot_ms"]), []).append(row)
    return scatter(
        [names.index(name) for name, _ in shared],
        short(tpot_ms for _, tpot_ms in shared),
        mode="markers+text",
        name=RULES[rule][0],
        text=[_label([row["benchmark"] for row in group]) for group in shared.values()],
        textposition=[_side(place, shared, rule) for place in shared],
        customdata=[BREAK.join(_limit_words(row) for row in group) for group in shared.values()],
        hovertemplate="%{customdata}<extra></extra>",
        marker={"symbol": symbol, "size": 11, "color": RULES[rule][1]},
        textfont={"color": INK, "size": 11},
    )


def _label(names: Sequence[str]) -> str:
    """Return names on a line each, or one broken before its last word: rounds stand close on a phone."""
    if len(names) > 1:
        return BREAK.join(names)
    head, mark, tail = names[0].rpartition(" " if " " in names[0] else "-")
    return f"{head}{mark.strip()}{BREAK}{tail}" if head else names[0]


def _side(place: tuple[str, float], places: Iterable[tuple[str, float]], rule: str) -> str:
    """Return where a mark has its words: both rules may share a place, and marks of a round may be close."""
    if rule == "interactive":
        return "bottom right"
    name, tpot_ms = place
    beneath = any(other == name and tpot_ms < above_ms < CLOSE * tpot_ms for other, above_ms in places)
    return "middle left" if beneath else "top right"


def _limit_words(row: Row) -> str:
    return (
        f"<b>{row['benchmark']}, {RULES[row['rule']][0]}</b>: {number(row['tpot_ms'])} ms TPOT, "
        f"{number(row['ttft_ms'])} ms TTFT"
    )


def rounds_sentence(lines: Sequence[Row], rule: str, benchmark: str) -> str:
    """Return a chart of ratios in one sentence."""
    name = RULES[rule][0]
    if not lines:
        return f"No published {name} results of {benchmark} are stored."
    each = ", ".join(f"{row['round']} {percent(row['published'])}" for row in lines)
    return f"{name} throughput of {benchmark} as a share of Offline, median of published entries: {each}."
