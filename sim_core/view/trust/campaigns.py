"""Errors campaign by campaign, whether the bands hold, and what the last calibration changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim_core import catalogue
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence.bands import left_out_coverage
from sim_core.evidence.published import CAMPAIGN, FAMILIES, about, kind_of
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import number, percent
from sim_core.view.parts import pieces
from sim_core.view.parts.pieces import KeyFigure
from sim_core.view.trust.validation_figures import METRICS, inside


def by_campaign(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return one row a campaign: its points, the median of predicted over measured, and the median error.

    Errors are blind where some fit has not seen the campaign's model, else as the app predicts; the campaigns
    that are furthest off come first.
    """
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        blind = row[f"{metric}_blind"]
        ratio = blind if np.isfinite(blind) else 1 + row[f"{metric}_error_pct"] / 100
        if np.isfinite(ratio) and not row["status"]:
            kind = kind_of(row["traffic"], row["pools"], row["has_ranks"])
            name = (kind, *(str(row[key]) for key in CAMPAIGN[1:]))
            groups.setdefault(name, []).append(ratio)
    found = [
        dict(zip(CAMPAIGN, name, strict=True))
        | {"points": len(ratios), "ratio": float(np.median(ratios)), **_error(ratios)}
        for name, ratios in groups.items()
    ]
    return sorted(found, key=lambda row: -abs(np.log(row["ratio"])))


def _error(ratios: Sequence[float]) -> dict[str, float]:
    found = evidence_errors.errors(ratios)
    return {"error_pct": found.median_pct, "within_20_frac": found.within_20_frac}


def campaign_table(rows: Sequence[Row], metric: str) -> None:
    """Show the errors of every campaign, furthest off first."""
    heads = ("points", "predicted over measured, median", "median error", "within 20 %")
    lines = [
        (
            _name(row),
            (
                number(row["points"]),
                number(row["ratio"], 3),
                percent(row["error_pct"] / 100),
                percent(row["within_20_frac"]),
            ),
        )
        for row in by_campaign(rows, metric)
    ]
    caption = (
        f"Errors of {inside(metric)} by campaign, furthest off first: one model on one accelerator under one "
        "engine in one precision, whose points share an error of level"
    )
    pieces.table(caption, heads, lines, scroll=True)


def _name(row: Row) -> str:
    model, part = catalogue.model(row["model"]).name, catalogue.accelerator(row["accelerator"]).name
    pools = " · two pools" if row["kind"] == "split" else ""
    return f"{model} on {part} · {row['engine']} · {row['precision']}{pools}"


def coverage_figure() -> KeyFigure:
    """Return how many measurements of campaigns left out lie inside the bands of the others."""
    inside_it, outside_it = left_out_coverage("model"), left_out_coverage("accelerator", "pools")
    note = (
        f"TTFT {percent(inside_it['ttft'])} · throughput {percent(inside_it['throughput'])} · extrapolated "
        f"{percent(outside_it['tpot'])}; aim: 75 to 90 %"
    )
    return KeyFigure("The band of four in five holds, TPOT", percent(inside_it["tpot"]), note, wrap=True)


def changed_table() -> None:
    """Show the errors of the calibration before beside the present ones, each row without its model."""
    tables = evidence_errors.error_tables()
    before, now = tables["before"], tables["model"]
    if not before.get("date"):
        return
    heads = ("points", *(f"{METRICS[metric][0]}" for metric in METRICS))
    lines = [
        (
            "all" if family == "all" else FAMILIES[family],
            (
                f"{number(before[family]['rows'])} → {number(now[family]['rows'])}",
                *(_moved(before[family], now[family], metric) for metric in METRICS),
            ),
        )
        for family in ("all", *FAMILIES)
    ]
    caption = (
        f"Median errors of the calibration of {before['date']} and of {tables['date']}, each closed loop "
        f"predicted without its own model; {number(about()['usable'])} points of one pool are usable now"
    )
    pieces.table(caption, heads, lines, scroll=True)


def _moved(before: Row, now: Row, metric: str) -> str:
    old, new = (table[f"{metric}_pct"] / 100 for table in (before, now))
    return f"{percent(old)} → {percent(new)}"
