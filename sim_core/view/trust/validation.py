"""The pieces of the Validation page: predictions against published measurements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from sim_core import catalogue
from sim_core.evidence import assumed, bands
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence import published as measured
from sim_core.evidence.assumed import scenario_of
from sim_core.evidence.published import FAMILIES, NOT_STATED
from sim_core.scenario.link.page_settings import SETTINGS, choice_names
from sim_core.scenario.link.write import to_query
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import number, percent
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.pieces import KeyFigure
from sim_core.view.parts.sidebar import heading
from sim_core.view.parts.views import choose, views
from sim_core.view.session import state, sweeps
from sim_core.view.trust import validation_figures
from sim_core.view.trust.campaigns import campaign_table, changed_table, coverage_figure
from sim_core.view.trust.further import layouts_table, speculated_table
from sim_core.view.trust.validation_figures import (
    METRICS,
    ErrorSpread,
    Style,
    error_ratio_words,
    inside,
    value_words,
)

COLOURS_BY = {"family": "model family", "accelerator": "accelerator", "engine": "engine"}
WORST = 12
ERRATIC = ", ".join(sorted(measured.ERRATIC_VERSIONS))
ERRATIC_WORDS = "there a token takes up to five times as long for two clients as for one"
FEWEST = 3  # points that a spread needs


def filters_sidebar(scenario: Scenario) -> None:
    """Draw the filters."""
    with st.sidebar:
        heading("Published points")
        choose("valkind")
        choose("valfamily")
        names = {name: catalogue.accelerator(name).name for name in SETTINGS["valpart"].choices[1:]}
        choose("valpart", {"all": "All accelerators"} | names)
        choose("valengine")
        heading("Colour")
        views("valcolour")
        st.caption(
            "Filters choose among published measurements; the scenario of the other pages is left as it is."
        )


def show(scenario: Scenario) -> None:
    """Show the view that was asked for."""
    sweeps.wait_until_ready()
    show_finding()
    numbers()
    with st.container(horizontal=True, vertical_alignment="center"):
        views("valview")
        metric = _metric()
    rows = chosen(metric)
    view = {
        "points": show_predicted_over_measured,
        "errors": show_errors,
        "worst": worst,
        "rows": show_points_table,
    }[state.view("valview")]
    view(rows, metric)
    _scenario_line(scenario)
    _caption(rows, metric)
    _take_away(rows)


# What is shown


@lru_cache(maxsize=2)
def every_row(calibration: str = "typical") -> tuple[dict[str, Any], ...]:
    """Return all points of the table as rows, with names, predictions, and blind ratios where known."""
    rows = evidence_errors.as_rows(evidence_errors.scored(calibration))
    blind = {row.point.id: row for row in bands.blind() if row.unseen != "accelerator"}
    for row in rows:
        row["model_name"] = catalogue.model(row["model"]).name
        row["accelerator_name"] = catalogue.accelerator(row["accelerator"]).name
        row["source_title"] = measured.sources()[row["source"]].title
        known = blind.get(row["id"])
        row |= {f"{name}_blind": getattr(known, name) if known else float("nan") for name in METRICS}
    return tuple(rows)


def chosen(metric: str) -> list[dict[str, Any]]:
    """Return the rows that pass the filters and have the metric measured."""
    kind, family, part, engine = (state.view(key) for key in ("valkind", "valfamily", "valpart", "valengine"))
    return [
        row
        for row in every_row()
        if _is_kind(row, kind)
        and family in ("all", row["family"])
        and part in ("all", row["accelerator"])
        and (engine == "all" or row["engine"] == SETTINGS["valengine"].label_of(engine))
        and row[METRICS[metric][1]] > 0
    ]


def _is_kind(row: Row, kind: str) -> bool:
    """Return whether a row is of a kind; those with ranks of attention are one of their own."""
    if kind == "ranks" or (kind != "every" and row["has_ranks"]):
        return kind == "ranks" and bool(row["has_ranks"])
    if kind == "split":
        return row["pools"] == "split"
    return kind == "every" or (row["pools"] == "one" and kind == row["traffic"])


def known_metrics(kind: str) -> list[str]:
    """Return the metrics that some point of a kind has."""
    found = [
        metric
        for metric, (_, column, _) in METRICS.items()
        if any(_is_kind(row, kind) and row[column] > 0 for row in every_row())
    ]
    return found or list(METRICS)


def _metric() -> str:
    """Draw the choice of the metric and return it; one that these runs do not print gives way."""
    known = known_metrics(state.view("valkind"))
    if state.view("valmetric") not in known:
        state.set_view("valmetric", known[0])
    views("valmetric", {name: METRICS[name][0] for name in known})
    return state.view("valmetric")


@lru_cache(maxsize=4)
def looks(by: str) -> dict[str, Style]:
    """Return the look of every group of the table, those with most points first."""
    names = {
        "family": FAMILIES,
        "engine": {name: name for name in SETTINGS["valengine"].choice_labels[1:]},
        "accelerator": {name: catalogue.accelerator(name).name for name in _parts()},
    }[by]
    return validation_figures.styles(names)


def _parts() -> list[str]:
    counts: dict[str, int] = {}
    for point in measured.points():
        counts[point.accelerator] = counts.get(point.accelerator, 0) + (point.pools == "one")
    return sorted(counts, key=lambda name: (-counts[name], name))


# The headline: errors on what the fit has not seen


def show_finding() -> None:
    """Show the finding."""
    tables = evidence_errors.error_tables()["model"]
    families = ", ".join(
        f"{words} {_pct(tables[family]['tpot_pct'])}"
        for family, words in (("dense", "dense"), ("moe", "mixtures of experts"), ("mla", "MLA"))
    )
    whole = tables["all"]
    text = (
        f"For a model that the fit has never seen, the median error of TPOT is {_pct(whole['tpot_pct'])} "
        f"({families}), of TTFT {_pct(whole['ttft_pct'])}, of throughput {_pct(whole['throughput_pct'])}."
    )
    pieces.say(text)


def _pct(value: float) -> str:
    return percent(value / 100)


def numbers() -> None:
    """Show the errors in numbers, blind ones large and in-sample ones small."""
    tables = evidence_errors.error_tables()
    model, part, fitted = (tables[kind]["all"] for kind in ("model", "accelerator", "none"))
    cells = []
    for metric in METRICS:
        key = f"{metric}_pct"
        note = f"accelerator left out {_pct(part[key])} · in sample {_pct(fitted[key])}"
        cells.append(KeyFigure(f"{METRICS[metric][0]}, median error", _pct(model[key]), note, wrap=True))
    ranks = f"accelerator left out {part['rank']:.3f} · in sample {fitted['rank']:.3f}"
    cells.append(KeyFigure("Order of points (rank correlation)", f"{model['rank']:.3f}", ranks, wrap=True))
    noise = measured.about()["noise"]
    same = f"three of four within {_pct(noise['upper_quartile_pct'])}"
    cells.append(KeyFigure("Noise of such data", _pct(noise["median_pct"]), same, wrap=True))
    cells.append(coverage_figure())
    points = f"{number(model['rows'])} points"
    pieces.figures(cells, "Closed loops, each predicted without its own model", points)


# The views


def show_predicted_over_measured(rows: Sequence[Row], metric: str) -> None:
    """Show predicted against measured values."""
    by = state.view("valcolour")
    if not validation_figures.comparable_rows(rows, metric):
        _nothing()
        return
    chart(
        validation_figures.against(rows, metric, by, looks(by), revision=_revision(metric)),
        key="validation",
        alt=validation_figures.against_sentence(rows, metric),
        height=620,
        heading=Heading(
            f"Predicted against measured {inside(metric)}",
            f"{choice_names('valkind')[state.view('valkind')]} · published points · simulated",
            of_scenario=False,
        ),
        export=(1000, 800),
    )


def _revision(metric: str) -> str:
    keys = ("valkind", "valfamily", "valpart", "valengine", "valview")
    return " ".join([metric, *(state.view(key) for key in keys)])


def _nothing() -> None:
    text = "No published point passes these filters. Choose all models, all accelerators or all kinds."
    st.html(render("parts/story.html", title="", text=text))


def show_errors(rows: Sequence[Row], metric: str) -> None:
    """Show the errors of each group, blind and in sample."""
    by = state.view("valcolour")
    groups = [key for key in looks(by) if _ratios(rows, by, key, f"{metric}_blind").size >= FEWEST]
    if not groups:
        _nothing()
        return
    found = [_spread(rows, metric, by, key) for key in groups]
    chart(
        validation_figures.spreads(found, metric, looks(by), revision=_revision(metric)),
        key="errors",
        alt=validation_figures.spreads_sentence(found, metric, looks(by)),
        height=90 + 46 * len(found),
        heading=Heading(
            f"Predicted {inside(metric)} against measured, by {COLOURS_BY[by]}",
            f"{choice_names('valkind')[state.view('valkind')]} · pale: model not seen by the fit",
            of_scenario=False,
        ),
    )
    st.caption(
        "A pale bar holds four of five points, each predicted by a fit that has not seen its model; the "
        "diamond is their median. The thin bar and the tick are the same with all points fitted. Kinds of "
        "run that no fit uses have one of both. The ground is within 20 %."
    )
    _error_table(rows, metric, by, groups)
    with st.expander("Errors by campaign"):
        campaign_table(rows, metric)


def _ratios(rows: Sequence[Row], by: str, group: str | None, column: str) -> np.ndarray:
    """Return the known ratios of the points of a group that count."""
    values = [row[column] for row in rows if group in (None, row[by]) and not row["status"]]
    found = np.array(values, dtype=float)
    return found[np.isfinite(found)]


def _fitted(rows: Sequence[Row], metric: str, by: str, group: str | None) -> np.ndarray:
    return 1 + _ratios(rows, by, group, f"{metric}_error_pct") / 100


def _spread(rows: Sequence[Row], metric: str, by: str, group: str) -> ErrorSpread:
    blind, fitted = _ratios(rows, by, group, f"{metric}_blind"), _fitted(rows, metric, by, group)
    edges = [tuple(np.percentile(values, [10, 50, 90]).tolist()) for values in (blind, fitted)]
    return ErrorSpread(group, blind.size, *edges)


def _error_table(rows: Sequence[Row], metric: str, by: str, groups: Sequence[str]) -> None:
    """Show the error statistics of each group as a table."""
    heads = ("points", "median", "mean (MAPE)", "bias", "within 20 %", "median, in sample")
    names: list[tuple[str, str | None]] = [(looks(by)[group].name, group) for group in groups]
    if len(groups) > 1:
        names.append(("all of them", None))
    lines = []
    for name, group in names:
        blind = evidence_errors.errors(_ratios(rows, by, group, f"{metric}_blind"))
        fitted = evidence_errors.errors(_fitted(rows, metric, by, group))
        bias = f"{'−' if blind.bias_pct < 0 else '+'}{_pct(abs(blind.bias_pct))}"
        cells = (
            number(blind.rows),
            _pct(blind.median_pct),
            _pct(blind.mean_pct),
            bias,
            percent(blind.within_20_frac),
            _pct(fitted.median_pct),
        )
        lines.append((name, cells))
    caption = (
        f"Errors of {inside(metric)} on points whose model the fit has not seen, by "
        f"{COLOURS_BY[by]}; bias is the median of the signed error"
    )
    pieces.table(caption, heads, lines, scroll=True)


def worst(rows: Sequence[Row], metric: str) -> None:
    """Show the points that are furthest off, with their sources."""
    shown = worst_of(rows, metric)
    if not shown:
        _nothing()
        return
    heads = ("Point and source", "Measured", "Predicted", f"Predicted {inside(metric)} is")
    st.html(render("trust/worst.html", heads=heads, cases=[_case(row, metric) for row in shown]))


def worst_of(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return the rows whose predictions are off by the largest factors, worst first."""
    column = f"{metric}_error_pct"
    known = [row for row in rows if np.isfinite(row[column])]
    return sorted(known, key=lambda row: -abs(np.log(1 + row[column] / 100)))[:WORST]


def _case(row: Row, metric: str) -> dict[str, Any]:
    """Return what the table says of one bad case."""
    column = METRICS[metric][1]
    return {
        "model": row["model_name"],
        "devices": validation_figures.row_devices_words(row),
        "run": _run_words(row),
        "url": measured.sources()[row["source"]].url,
        "source": row["source_title"],
        "entry": row["entry"],
        "query": _query(row),
        "figures": (
            value_words(metric, row[column]),
            value_words(metric, row[f"predicted_{column}"]),
            error_ratio_words(1 + row[f"{metric}_error_pct"] / 100),
        ),
    }


def _run_words(row: Row) -> str:
    version = "" if row["engine_version"] == NOT_STATED else f" {row['engine_version']}"
    weights = f"weights {row['precision']}"
    words = f"{row['engine']}{version}, {weights}, {validation_figures.load_words(row)}"
    if row["engine_version"] in measured.ERRATIC_VERSIONS:
        words += f"; not fitted: {ERRATIC_WORDS}"
    return words + (f"; {row['status']}" if row["status"] else "")


def _query(row: Row) -> str:
    """Return the query that opens the point's scenario on a page."""
    point = next(point for point in measured.points() if point.id == row["id"])
    return to_query(scenario_of(point))


def show_points_table(rows: Sequence[Row], metric: str) -> None:
    """Show all points as a table."""
    if not rows:
        _nothing()
        return
    shown = pd.DataFrame(list(rows))[list(TABLE)]
    shown = shown.assign(**{key: shown[key].replace(0, np.nan) for key in ("devices", "clients")})
    shown = shown.rename(columns=TABLE)
    drawn = pieces.as_read(shown, list(shown.select_dtypes("number").columns))
    about = pieces.column_help(TABLE.values())
    st.dataframe(drawn, hide_index=True, height=560, column_config=about)


TABLE = {
    "model_name": "Model",
    "accelerator_name": "Accelerator",
    "devices": "Devices",
    "prompt_tokens": "Prompt",
    "output_tokens": "Answer",
    "clients": "Clients",
    "ttft_ms": "TTFT [ms]",
    "predicted_ttft_ms": "predicted TTFT",
    "tpot_ms": "TPOT [ms]",
    "predicted_tpot_ms": "predicted TPOT",
    "throughput_tok_per_s": "tok/s",
    "predicted_throughput_tok_per_s": "predicted tok/s",
    "engine": "Engine",
    "engine_version": "Version",
    "date": "Date",
    "precision": "Weights",
    "status": "Remark",
    "note": "Note",
    "id": "Id",
    "source_title": "Source",
    "entry": "Entry",
}


# Beneath


def _scenario_line(scenario: Scenario) -> None:
    """Show what the same evidence says of the visitor's own scenario."""
    st.html(render("parts/strip_title.html", title="Your scenario on the other pages", apart=True))
    trust_badge.badge(scenario)


def _caption(rows: Sequence[Row], metric: str) -> None:
    """Say what is shown and what it rests on."""
    kind = state.view("valkind")
    found = evidence_errors.errors(_fitted(rows, metric, "family", None))
    words = []
    if found.rows:
        words.append(
            f"{number(found.rows)} points, as the app predicts them: median error "
            f"{_pct(found.median_pct)}, {percent(found.within_20_frac)} within 20 %."
        )
    if state.view("valview") == "points" and found.rows:
        words.append("The bands are 10, 20 and 30 % wide.")
    if any(row["engine_version"] in measured.ERRATIC_VERSIONS for row in rows):
        words.append(f"TensorRT-LLM {ERRATIC} was not fitted: {ERRATIC_WORDS}.")
    if any(row["status"] for row in rows):
        words.append(
            "Hollow points have sparse or linear attention: its kernels are measured, but no run "
            "is fitted. They do not count."
        )
    if metric == "throughput" and any(row["throughput_derived"] for row in rows):
        words.append(
            "Where a closed loop's source prints no throughput, both sides follow from TTFT and TPOT."
        )
    words += [text for name, text in KIND_NOTES.items() if kind in (name, "every")]
    st.caption(" ".join(words))
    with st.expander("Speculative decoding: how far predictions were off"):
        speculated_table()
    with st.expander("Parallel layouts and networks, as published"):
        layouts_table()
    with st.expander("What the last calibration changed"):
        changed_table()
    with st.expander("How the points were chosen, and what is assumed"):
        st.markdown(_rule())


KIND_NOTES = {
    "server": "MLPerf entries run just below what a system can serve, where a few percent of speed decide "
    "the waiting; they are simulated with the submission calibration. MLPerf is a trademark of MLCommons; "
    "simulated figures are not MLPerf results.",
    "batch": "Engines of 2024 on AMD and Intel parts were far from today's speed; no fit uses them.",
    "split": "No fit uses points of two pools, and all but two are DeepSeek-R1. Their first tokens come far "
    "later than predicted, up to 38 s with four clients, which no prefill explains.",
    "ranks": "No fit uses points with ranks of attention but for one constant, how long ranks wait for one "
    "another; blind errors are of what other accelerators tell. Two in three are of two pools.",
    "burst": "A hundred requests at once and nothing after: no steady state, and no fit uses them.",
}


def _rule() -> str:
    """Return how the table was made, as Markdown."""
    about = measured.about()
    usable = about["usable"] + about["disaggregated"]
    left_out = "".join(f"\n- {count:,}: {reason}" for reason, count in about["left_out"].items())
    noise = about["noise"]
    return (
        f"**{about['chosen']:,} of {usable:,} usable points.** {about['rule']}\n\n"
        f"**Noise.** The same point measured on another version of an engine differs by "
        f"{noise['median_pct']} % in the median and by {noise['upper_quartile_pct']} % at the upper "
        "quartile. No model can be nearer than that.\n\n"
        f"**Left out before the choice.**\n{left_out}\n\n"
        f"**What sources leave open** is assumed alike for all rows.\n\n{ASSUMPTIONS}"
    )


ASSUMPTIONS = (assumed.__doc__ or "").partition("(`scenario_of`):\n\n")[2].rstrip()


def _take_away(rows: Sequence[Row]) -> None:
    code = (
        "from sim_core import as_rows, scored\n\nfor row in as_rows(scored()):\n"
        '    print(row["id"], row["tpot_ms"], row["predicted_tpot_ms"], row["source"], row["entry"])'
    )
    key = {"points": "validation", "errors": "errors"}.get(state.view("valview"), "")
    has_chart = bool(key) and bool(rows)
    actions.take_away(
        key if has_chart else "", actions.table_files(rows, "validation", published=True), code, "python"
    )
