"""Choose the project's table of published operating points, and cross-validate on it; development only.

    python -m benchmarks.validate ../shared/reference             # scores all usable rows of the full tables
    python -m benchmarks.validate ANY_FOLDER --score [--json]     # errors of any such table, without a fit
    python -m benchmarks.validate ../shared/reference --choose    # writes measured.csv and about.toml
    python -m benchmarks.validate ../shared/reference --fit       # fits typical.toml
    python -m benchmarks.validate ../shared/reference --folds     # fits without each group: folds.toml
    python -m benchmarks.validate ../shared/reference --blind     # predicts rows unseen: blind.csv
    python -m benchmarks.validate ../shared/reference --drafts    # what drafts keep the host: drafts.toml
    python -m benchmarks.validate ../shared/reference --ranks     # how long ranks wait: ranks.toml
    python -m benchmarks.validate ../shared/reference --layouts   # predicts published layouts: layouts.csv

The folder holds `measured_serving.csv` and `mlperf_llm_results.csv`; everything is written to `presets`. What
a row needs to be used, and how rows are chosen, is said in `usable` and `choose`. Only constants of the host
are fitted, and the lags of first tokens found (`benchmarks.lags`): `--fit` takes seconds, `--folds` two
minutes. After every change of the cost model, of a table in `presets/kernels`, of a bound or of the
assumptions in `sim_core.evidence.assumed`, repeat `--folds --fit --blind`. A fold knows nothing of the
constants in `typical.toml`, only their bounds, and nothing of the lags in `presets/engines`: it finds its
own. `--fit` prints the lags of all rows, which `presets/engines` hold. After `--fit` alone, `--blind` is
enough. The bands follow from `blind.csv` by themselves: `--folds --blind` renews them, and prints how many
campaigns left out they hold. `--drafts` finds two more constants on runs with speculation
(`benchmarks.drafts`), `--ranks` a third on runs with ranks of attention (`benchmarks.rank_sync`); both print
those of all, which `presets/calibrations` hold. `--layouts` fits nothing: it predicts layouts of others anew.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import json
import math
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from benchmarks.choice import about_of, choose, csv_of, evenly
from benchmarks.drafts import write_drafts
from benchmarks.fingerprint import fingerprint
from benchmarks.lags import TOKENIZER, engines_with, find_lags, find_split_lags, find_tokenizer, lag_lines
from benchmarks.order import rank
from benchmarks.rank_sync import predict_unseen_ranks, write_ranks
from benchmarks.ranks import runs_with_ranks
from benchmarks.scores import before_lines, coverage_lines, scores, text_of
from benchmarks.series import write_layouts
from benchmarks.tables import usable
from sim_core import catalogue
from sim_core.catalogue.calibrations import CALIBRATIONS, Calibration, Constant, Constants, calibration
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence import published as measured
from sim_core.evidence.errors import METRICS
from sim_core.evidence.predicted import Bench, bench_of, predict, predict_alone
from sim_core.evidence.published import PublishedPoint, campaign

FEWEST_HELD_OUT = 10
EVALUATIONS = 10
MOST_FITTED = 20  # rows of a campaign that a fit sees, so that none outvotes the others
CAMPAIGN_FOLDS = 6
TPOT_SCALE = 0.12  # log error at which the loss turns from squared to absolute
TTFT_SCALE = 1.2


# --- the fit of the typical calibration -----------------------------------------------------------


def free_names(chosen: Calibration) -> list[str]:
    """Return the constants to be fitted to all figures: those whose bounds leave room, but the tokenizer."""
    free = (item for item in chosen.constants if item.low < item.high and item.value is not None)
    return [item.name for item in free if item.name != TOKENIZER]


def with_position(chosen: Calibration, position: np.ndarray) -> Calibration:
    """Return a calibration with its free constants placed between their bounds (0 = low, 1 = high)."""
    places = dict(zip(free_names(chosen), position, strict=True))
    constants = tuple(
        dataclasses.replace(item, value=_between(item, places[item.name])) if item.name in places else item
        for item in chosen.constants
    )
    return with_values(chosen, constants)


def _between(constant: Constant, place: float) -> float:
    return float(f"{constant.low + place * (constant.high - constant.low):.4g}")


def with_values(chosen: Calibration, constants: tuple[Constant, ...]) -> Calibration:
    """Return a calibration with other constants."""
    base = Constants(**{item.field: item.base for item in constants})
    return dataclasses.replace(chosen, constants=constants, base=base)


def fit(bench: Bench, evaluations: int) -> dict[str, float]:
    """Return the constants that fit a bench best, in the calibration's units.

    Every constant is global and bounded to its physical range; nothing is fitted per row, model, device or
    engine. The robust loss (soft L1 of log errors) keeps odd runs from pulling; TTFT weighs less, because it
    holds the history of a run: where all lengths are equal, requests march in waves. What TTFT alone tells,
    the tokenizer's time, is found before and after (`find_tokenizer`). Every fit starts in the middle of the
    bounds, with that time and the lags of first tokens that belong there, so a fit that leaves rows out knows
    nothing of them. Of each campaign at most `MOST_FITTED` rows are taken, evenly.
    """
    from scipy.optimize import least_squares

    bench = bench.part(_thinned(bench.points))
    bounds, seen = calibration("typical"), evidence_errors.measured(bench.points)
    start = np.full(len(free_names(bounds)), 0.5)
    middle = fitted_values(with_position(bounds, start))
    read = find_tokenizer(bench, base_of(middle))
    engines = engines_with(find_lags(bench, base_of(middle | read)))

    def constants(position: np.ndarray) -> Constants:
        return base_of(fitted_values(with_position(bounds, position)) | read)

    def residuals(position: np.ndarray) -> np.ndarray:
        error = np.log(predict(bench, constants(position), engines=engines) / seen)
        return np.concatenate([error[:, 1] / TPOT_SCALE, error[:, 0] / TTFT_SCALE])

    found = least_squares(residuals, start, bounds=(0.0, 1.0), loss="soft_l1", diff_step=0.02,
                          max_nfev=evaluations, xtol=1e-4, ftol=1e-4)  # fmt: skip
    return fitted_values(with_position(bounds, found.x)) | find_tokenizer(bench, constants(found.x))


def fitted_values(chosen: Calibration) -> dict[str, float]:
    """Return the free constants of a calibration by name, in its units."""
    free = free_names(chosen)
    return {item.name: item.stated for item in chosen.constants if item.name in free}


def _thinned(points: Sequence[PublishedPoint]) -> list[bool]:
    """Return which points to fit: at most `MOST_FITTED` of each campaign."""
    places: dict[tuple, list[int]] = {}
    for place, point in enumerate(points):
        places.setdefault(campaign(point), []).append(place)
    kept = {place for some in places.values() for place in evenly(some, MOST_FITTED)}
    return [place in kept for place in range(len(points))]


def write_typical(one: Sequence[PublishedPoint], left_out: dict[str, int]) -> None:
    """Fit `typical` to all usable closed loops, and write it with its errors."""
    points = [point for point in one if point.fitted]
    bench = bench_of(points)
    values = fit(bench, EVALUATIONS)
    print("\n".join(lag_lines(find_lags(bench, base_of(values)))))
    chosen = calibration("typical")
    constants = tuple(
        dataclasses.replace(item, value=values.get(item.name, item.value)) for item in chosen.constants
    )
    parts = sorted({catalogue.accelerator(point.accelerator).name for point in points})
    data = (
        f"{len(points)} closed-loop runs on {', '.join(parts[:-1])} and {parts[-1]} from "
        "ai-dynamo/aiconfigurator (silicon_sample.csv: InferenceX runs and the vendor's own)"
    )
    found = dataclasses.replace(
        chosen, constants=constants, base=base_of(values), date=str(datetime.date.today()), data=data,
        errors=typical_errors(one, bench, values, left_out),
    )  # fmt: skip
    (CALIBRATIONS / "typical.toml").write_text(toml_of(found), encoding="utf-8")


def typical_errors(
    one: Sequence[PublishedPoint], bench: Bench, values: dict[str, float], left_out: dict[str, int]
) -> dict[str, Any]:
    """Return the error tables of fitted constants: over all, by groups, and of runs that no fit uses."""
    folds = tomllib.loads((measured.FOLDER / "folds.toml").read_text(encoding="utf-8"))
    predicted = predict(bench, base_of(values))
    overall = {"in sample": _scores(bench.points, predicted)}
    for kind, groups in groups_of(bench.points).items():
        unseen = np.full((len(bench.points), 3), np.nan)
        for name, fold in folds[kind].items():
            inside = np.array([group == name for group in groups])
            unseen[inside] = predict_unseen(bench.part(inside), fold)
        overall[f"one {kind} left out"] = _scores(bench.points, unseen)
    ideal = predict(bench, calibration("datasheet").base, smooth=False)
    overall["datasheet calibration"] = _scores(bench.points, ideal)
    rest = [point for point in one if point.traffic in ("closed", "burst") and not point.fitted]
    rest_bench = bench_of(rest)
    reasons = [
        point.status or (point.traffic if point.traffic == "burst" else "erratic version") for point in rest
    ]
    return {
        "overall": overall,
        "by_model": _by_group(bench.points, predicted, [catalogue.model(p.model).name for p in bench.points]),
        "by_accelerator": _by_group(
            bench.points, predicted, [catalogue.accelerator(p.accelerator).name for p in bench.points]
        ),
        "by_engine": _by_group(bench.points, predicted, [p.engine for p in bench.points]),
        "not_fitted": _by_group(rest, predict(rest_bench, base_of(values)), reasons),
        "left_out": {reason: count for reason, count in left_out.items() if count},
    }


def _scores(points: Sequence[PublishedPoint], predicted: np.ndarray) -> dict[str, float]:
    """Return rows, median absolute errors and biases in percent, and the rank correlation of TPOT."""
    known = np.isfinite(predicted[:, 1])
    chosen, found = [point for point, ok in zip(points, known, strict=True) if ok], predicted[known]
    ratio = evidence_errors.ratios(chosen, found)
    scores: dict[str, float] = {"rows": len(chosen)}
    for index, metric in enumerate(METRICS):
        errors = evidence_errors.errors(ratio[:, index])
        scores |= {
            f"{metric}_pct": round(errors.median_pct, 1), f"{metric}_bias_pct": round(errors.bias_pct, 1)
        }  # fmt: skip
    order = rank(chosen, found[:, 1], evidence_errors.measured(chosen)[:, 1])
    return scores | ({"rank": round(order, 3)} if math.isfinite(order) else {})


def _by_group(
    points: Sequence[PublishedPoint], predicted: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    found = {}
    for name in sorted(set(groups)):
        inside = np.array([group == name for group in groups])
        found[name] = _scores([p for p, ok in zip(points, inside, strict=True) if ok], predicted[inside])
    return found


def toml_of(chosen: Calibration) -> str:
    """Return a calibration as TOML."""
    lines = [
        f'title = "{chosen.title}"',
        f'description = "{chosen.description}"',
        f'date = "{chosen.date}"',
        f'data = "{chosen.data}"',
        f"smooth = {'true' if chosen.smooth else 'false'}  # (a^4 + b^4)^(1/4) of compute and memory time",
    ]
    for constant in chosen.constants:
        lines += ["", "[[constants]]"]
        for field, value in dataclasses.asdict(constant).items():
            if value is None:
                continue
            lines.append(f"{field} = {_toml_value(value)}")
    for table, entries in chosen.errors.items():
        lines += ["", f"[errors.{table}]"]
        for name, value in entries.items():
            if isinstance(value, dict):
                inner = ", ".join(f"{key} = {_toml_value(figure)}" for key, figure in value.items())
                lines.append(f'"{name}" = {{ {inner} }}')
            else:
                lines.append(f'"{name}" = {_toml_value(value)}')
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:.15g}"


# --- predictions by fits that have not seen a row --------------------------------------------------


def base_of(values: dict[str, float]) -> Constants:
    """Return constants by name as the formulas take them."""
    chosen = calibration("typical")
    constants = (
        dataclasses.replace(item, value=values.get(item.name, item.value)) for item in chosen.constants
    )
    return with_values(chosen, tuple(constants)).base


def groups_of(points: Sequence[PublishedPoint]) -> dict[str, list[str]]:
    """Return by kind of fold the group of each point; campaigns are dealt in turn to `CAMPAIGN_FOLDS`."""
    campaigns = sorted({campaign(point) for point in points})
    turn = {key: str(place % CAMPAIGN_FOLDS) for place, key in enumerate(campaigns)}
    return {
        "accelerator": [point.accelerator for point in points],
        "model": [point.model for point in points],
        "campaign": [turn[campaign(point)] for point in points],
    }


def write_folds(points: Sequence[PublishedPoint]) -> None:
    """Fit without each accelerator, each model and each sixth of the campaigns, and write the constants."""
    fitted = [point for point in points if point.fitted]
    bench = bench_of(fitted)
    lines = [
        f"# Constants of fits that have not seen some rows; {datetime.date.today()}.",
        f"rows = {len(fitted)}",
    ]
    for kind, groups in groups_of(fitted).items():
        for name in sorted(set(groups)):
            inside = np.array([group == name for group in groups])
            if inside.sum() >= FEWEST_HELD_OUT:
                lines += _fold(bench, inside, f'{kind}."{name}"')
    (measured.FOLDER / "folds.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _fold(bench: Bench, inside: np.ndarray, title: str) -> list[str]:
    """Return a fit that has not seen some rows, and its errors on them, as lines of TOML."""
    others, part = bench.part(~inside), bench.part(inside)
    values = fit(others, EVALUATIONS)
    fold = {"constants": values, "lags": find_lags(others, base_of(values))}
    ratio = evidence_errors.ratios(part.points, predict_unseen(part, fold))
    medians = {
        f"{metric}_pct": round(evidence_errors.errors(ratio[:, index]).median_pct, 1)
        for index, metric in enumerate(METRICS)
    }
    print(title, int(inside.sum()), medians, flush=True)
    lines = ["", f"[{title}]", f"rows = {int(inside.sum())}"]
    lines += [f"{key} = {value}" for key, value in medians.items()]
    lines += [f"constants.{key} = {value:.15g}" for key, value in values.items()]
    return lines + lag_lines(fold["lags"])


def predict_unseen(bench: Bench, fold: dict[str, Any]) -> np.ndarray:
    """Return predictions by the constants and the lags of a fold, that has not seen the points."""
    return predict(bench, base_of(fold["constants"]), engines=engines_with(fold["lags"]))


def blind_rows() -> list[dict[str, Any]]:
    """Return ratios predicted / measured of the table's points by constants that have not seen them.

    `unseen` is what was left out of the fit: the point's ``accelerator``, its ``model``, ``all`` of its
    kind, two ``pools``, or ``ranks`` of attention: rows that no fit has used are predicted with the final
    constants, those of two pools with the lags of first tokens that other accelerators tell, those of ranks
    with constants of other accelerators.
    """
    folds = tomllib.loads((measured.FOLDER / "folds.toml").read_text(encoding="utf-8"))
    points = measured.points()
    fitted = [point for point in points if point.fitted]
    rows = []
    for kind in ("accelerator", "model"):
        for name, fold in folds[kind].items():
            chosen = [point for point in fitted if getattr(point, kind) == name]
            if chosen:  # the project's table may hold none of them
                found = predict_unseen(bench_of(chosen), fold)
                rows += _blind(chosen, kind, evidence_errors.ratios(chosen, found))
    ranks = [point for point in points if point.has_ranks]
    rest = [point for point in points if point not in {*fitted, *ranks}]
    alone = [point for point in rest if point.pools == "one"]
    split = [point for point in rest if point.pools == "split"]
    rows += _blind(alone, "all", evidence_errors.score(alone).ratio)
    rows += _blind(split, "pools", evidence_errors.ratios(split, _split_unseen(split)))
    return rows + _blind(ranks, "ranks", evidence_errors.ratios(ranks, predict_unseen_ranks(ranks)))


def _split_unseen(points: Sequence[PublishedPoint]) -> np.ndarray:
    """Return predictions of two pools with the lags of first tokens that other accelerators tell."""
    bare, found = predict_alone(points, engines=engines_with({})), np.full((len(points), 3), np.nan)
    for name in {point.accelerator for point in points}:
        inside = np.array([point.accelerator == name for point in points])
        others = [point for point, ok in zip(points, inside, strict=True) if not ok]
        engines = engines_with(find_split_lags(others, bare[~inside]))
        some = [point for point, ok in zip(points, inside, strict=True) if ok]
        found[inside] = predict_alone(some, engines=engines)
    return found


def _blind(points: Sequence[PublishedPoint], unseen: str, ratio: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"id": point.id, "unseen": unseen}
        | {
            metric: "" if math.isnan(value) else f"{value:.4g}"
            for metric, value in zip(METRICS, row, strict=True)
        }
        for point, row in zip(points, ratio, strict=True)
    ]


def error_tables(one: Sequence[PublishedPoint]) -> str:
    """Return `errors.toml`: errors over all usable closed loops of the full table, blind and in sample."""
    folds = tomllib.loads((measured.FOLDER / "folds.toml").read_text(encoding="utf-8"))
    fitted = [point for point in one if point.fitted]
    bench = bench_of(fitted)
    old, today = (measured.FOLDER / "errors.toml").read_text(encoding="utf-8"), str(datetime.date.today())
    lines = [
        f"# Median errors over all {len(fitted)} closed loops of the full table.",
        f'date = "{today}"',
        f'fingerprint = "{fingerprint()}"  # of the formulas and constants at that time',
        *before_lines(old, fingerprint(), today),
    ]
    for kind in ("model", "accelerator", "none"):
        predicted = np.full((len(fitted), 3), np.nan)
        for name, fold in folds.get(kind, {}).items():
            inside = np.array([getattr(point, kind) == name for point in fitted])
            predicted[inside] = predict_unseen(bench.part(inside), fold)
        if kind == "none":
            predicted = predict(bench, calibration("typical").base)
        lines += _error_lines(fitted, predicted, kind)
    return "\n".join(lines) + "\n"


def _error_lines(points: Sequence[PublishedPoint], predicted: np.ndarray, kind: str) -> list[str]:
    ratio = evidence_errors.ratios(points, predicted)
    lines = []
    for family in ("all", *measured.FAMILIES):
        inside = np.array([family in ("all", point.family) for point in points])
        inside &= np.isfinite(ratio[:, 1])
        found = [evidence_errors.errors(ratio[inside, index]) for index in range(3)]
        lines += ["", f"[{kind}.{family}]", f"rows = {int(inside.sum())}"]
        for metric, error in zip(METRICS, found, strict=True):
            lines += [f"{metric}_pct = {error.median_pct:.3g}", f"{metric}_bias_pct = {error.bias_pct:.3g}"]
        chosen = [point for point, ok in zip(points, inside, strict=True) if ok]
        observed = evidence_errors.measured(chosen)[:, 1]
        lines.append(f"rank = {rank(chosen, predicted[inside, 1], observed):.4g}")
    return lines


def write_blind(one: Sequence[PublishedPoint]) -> None:
    """Write the blind ratios of the table's points, and the errors over all usable ones."""
    (measured.FOLDER / "errors.toml").write_text(error_tables(one), encoding="utf-8")
    out = io.StringIO()
    writer = csv.DictWriter(out, ["id", "unseen", *METRICS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(blind_rows())
    (measured.FOLDER / "blind.csv").write_text(out.getvalue(), encoding="utf-8")


# --- the report -----------------------------------------------------------------------------------


def table(points: Sequence[PublishedPoint], ratio: np.ndarray, keys: dict[str, Any]) -> pd.DataFrame:
    """Return median errors of the three metrics by groups of points."""
    rows = []
    for name, of in keys.items():
        groups = np.array([str(of(point)) for point in points])
        for group in sorted(set(groups)):
            row: dict[str, Any] = {"by": name, "group": group}
            for index, metric in enumerate(METRICS):
                found = evidence_errors.errors(ratio[groups == group, index])
                row |= {f"{metric}_n": found.rows, f"{metric}_pct": round(found.median_pct, 1),
                        f"{metric}_bias": round(found.bias_pct, 1)}  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


KEYS = {
    "all": lambda point: "all",
    "traffic": lambda point: point.traffic,
    "family": lambda point: f"{point.traffic} {point.family}",
    "accelerator": lambda point: f"{point.traffic} {point.accelerator}",
    "engine": lambda point: f"{point.traffic} {point.engine}",
}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--score", "scoring", is_flag=True, help="Score the closed loops as they are, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON; errors and shares in %.")
@click.option("--choose", "choosing", is_flag=True, help="Write measured.csv and about.toml.")
@click.option("--fit", "fitting", is_flag=True, help="Fit the typical calibration; write typical.toml.")
@click.option(
    "--folds", is_flag=True, help="Fit without each accelerator, model, campaign; write folds.toml."
)
@click.option("--blind", is_flag=True, help="Predict rows by these fits; write blind.csv and errors.toml.")
@click.option("--ranks", is_flag=True, help="Fit how long ranks wait; write ranks.toml.")
@click.option("--layouts", is_flag=True, help="Predict published layouts; write layouts.csv.")
@click.option("--drafts", is_flag=True, help="Fit what drafts keep the host; write drafts.toml.")
def main(
    folder: Path, scoring: bool, as_json: bool, choosing: bool, fitting: bool, folds: bool, blind: bool,
    ranks: bool, drafts: bool, layouts: bool,
) -> None:  # fmt: skip
    """Score, choose, fit or cross-validate."""
    if scoring:
        answer = scores(folder)
        print(json.dumps(answer, indent=2) if as_json else text_of(answer))
        return
    for asked, write in ((ranks, write_ranks), (drafts, write_drafts), (layouts, write_layouts)):
        if asked:
            print(write(folder))
            return
    pd.set_option("display.width", 200, "display.max_rows", 500)
    one, split, left_out = usable(folder, runs_with_ranks(folder))
    print(f"{len(one)} points of one pool, {len(split)} disaggregated; left out: {left_out}")
    started = time.perf_counter()
    found = evidence_errors.score(one)
    print(f"scored in {time.perf_counter() - started:.2f} s")
    counted = [place for place, point in enumerate(one) if not point.status]
    print(table([one[i] for i in counted], found.ratio[counted], KEYS).to_string())
    if choosing:
        chosen = choose([*one, *split])
        (measured.FOLDER / "measured.csv").write_text(csv_of(chosen), encoding="utf-8")
        about = about_of(one, split, left_out, len(chosen))
        (measured.FOLDER / "about.toml").write_text(about, encoding="utf-8")
        print(f"{len(chosen)} points chosen")
    if folds:
        write_folds(one)
    if fitting:
        write_typical(one, left_out)
        print("\n".join(lag_lines(find_split_lags(split, predict_alone(split, engines=engines_with({}))))))
        calibration.cache_clear()
    if blind:
        write_blind(one)
        print("\n".join(coverage_lines()))


if __name__ == "__main__":
    main()
