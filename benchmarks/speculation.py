"""How far predictions of speculative decoding are from published runs, without fitting; development only.

Two questions are asked. What TPOT does a run with speculation have, held against the same prediction
without speculation, divided by the speed-up that its engine has usually brought? And by how much does
speculation speed up a pair of runs, held against a constant? A prediction that is no better than the
constant has no skill, and is told so.

Recipes say how many tokens are drafted. What is accepted is published for the very prompts of these runs, or
for the model, and is never fitted to a run here.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from benchmarks.pairs import PAIRS, Pair, read_pairs
from benchmarks.printed import cell, error_table, left_out_lines, rounded
from benchmarks.runs import RUNS, Run, read_runs
from sim_core import catalogue
from sim_core.catalogue.acceptance import acceptance_length
from sim_core.catalogue.calibrations import write_constants
from sim_core.engine.run import run
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence.assumed import at_once, scenario_of
from sim_core.evidence.published import FOLDER, PublishedPoint
from sim_core.evidence.speculated import DRAFTS_FILE
from sim_core.fields.errors import ScenarioError
from sim_core.price.speculation import chance, geometric

# SemiAnalysisAI/InferenceX, benchmarks/single_node/fixed_seq_len/dsr1_*_mtp.sh: `--speculative-num-steps`
# (SGLang), `--num-speculative-tokens` (ATOM), MTP (TensorRT-LLM).
RECIPE_DRAFTS = MappingProxyType({"SGLang": 2, "ATOM": 3, "TensorRT-LLM": 3})
AMD_DRAFTS = 3
# SemiAnalysisAI/InferenceX, pull request 649: random prompts in the chat template make about 2.50 tokens a
# step with three drafts, as MT-Bench does; without the template 3.55.
RANDOM_PROMPTS = (3, 2.50)
DRAFT_CONSTANTS = ("draft", "draft_sequence")  # in ms and us
NO_HOST = MappingProxyType(dict.fromkeys(DRAFT_CONSTANTS, 0.0))


class Predicted(NamedTuple):
    """A run with speculation, and its TPOT [ms] as predicted with speculation and without."""

    point: PublishedPoint
    drafts: int
    with_ms: float
    without_ms: float


# --- how a run speculates ---------------------------------------------------------------------------


def drafts_of(point: PublishedPoint) -> int:
    """Return how many tokens a run drafts by its recipe; 0 where no recipe is known."""
    if point.engine == "SGLang" and catalogue.accelerator(point.accelerator).vendor == "AMD":
        return AMD_DRAFTS
    return RECIPE_DRAFTS.get(point.engine, 0)


def length_of(point: PublishedPoint, drafts: int, draft: str = "mtp") -> float:
    """Return the acceptance length of a run: that of its prompts for DeepSeek-R1, else of its model.

    Of another number of drafts than was published each draft is taken to be accepted with the same chance.
    """
    if point.model == "deepseek-r1" and point.source == "inferencex":
        known, length = RANDOM_PROMPTS
        return geometric(chance(length, known), drafts)
    found = acceptance_length(point.model, draft, drafts)
    return found.length if found else math.nan


def speculating(drafts: int, length: float, draft: str = "mtp") -> dict[str, Any]:
    """Return the keys of a scenario that speculates."""
    return {"spec_tokens": drafts, "acceptance_length": length, "draft": draft}


# --- what is predicted ------------------------------------------------------------------------------


class Simulated(NamedTuple):
    """TPOT [ms], mean or median as it was measured, and output tokens per second of a run."""

    tpot_ms: float
    tok_per_s: float


def simulated(
    point: PublishedPoint, own: Mapping[str, float] = MappingProxyType({}), **changes: Any
) -> Simulated:
    """Return what a run is simulated to give, under constants that have not seen its accelerator.

    NaN where its scenario is refused. Constants of one's `own` stand in place of those.
    """
    try:
        constants = write_constants({**unseen_constants(point.accelerator), **own})
        scenario = scenario_of(point).replace(constants=constants, **changes)
        sent = at_once(point, scenario.requests)
        found = run(scenario, trace=sent)
    except ScenarioError:
        return Simulated(math.nan, math.nan)
    many = sent.output_tokens > 1
    each_s = (found.finished_s - found.first_token_s)[many] / (sent.output_tokens[many] - 1)
    tpot_s = np.median(each_s) if point.statistic == "median" else each_s.mean()
    return Simulated(1e3 * float(tpot_s), float(sent.output_tokens.sum() / found.finished_s.max()))


@cache
def unseen_constants(accelerator: str) -> Mapping[str, float]:
    """Return the constants that rows of other accelerators tell; those of all for a part without rows.

    They are the host's, from runs without speculation, and those of drafts.
    """
    folds, drafts = (
        tomllib.loads(path.read_text(encoding="utf-8")) for path in (FOLDER / "folds.toml", DRAFTS_FILE)
    )
    fold = folds["accelerator"].get(accelerator, {"constants": {}})
    return MappingProxyType(fold["constants"] | drafts["without"].get(accelerator, {}))


def predicted(
    runs: Sequence[Run], left_out: Counter[str], own: Mapping[str, float] = MappingProxyType({})
) -> list[Predicted]:
    """Return the runs with speculation as predicted; count those that cannot be."""
    found = []
    for point in (item.point for item in runs if item.method):
        drafts = drafts_of(point)
        length = length_of(point, drafts) if drafts else math.nan
        if math.isnan(length):
            left_out["no recipe or publication says what is drafted or accepted"] += 1
            continue
        fast, plain = (simulated(point, own, **how).tpot_ms for how in (speculating(drafts, length), {}))
        found.append(Predicted(point, drafts, fast, plain))
    return found


# --- the constant to be better than -----------------------------------------------------------------


def speed_ups(runs: Sequence[Run]) -> list[tuple[PublishedPoint, float]]:
    """Return by how much speculation has sped up TPOT, of points that were run with it and without.

    Points alike in engine, part, precision, layout, lengths and clients are a pair; of several runs of one
    point the median counts.
    """
    points: dict[tuple, dict[bool, list[PublishedPoint]]] = {}
    for point, method in runs:
        key = (point.engine, point.accelerator, point.precision, point.tensor_parallel, point.expert_parallel)
        key += (point.model, point.prompt_tokens, point.output_tokens, point.clients)
        points.setdefault(key, {}).setdefault(bool(method), []).append(point)
    found = []
    for sides in points.values():
        if len(sides) == 2:
            plain, fast = (
                float(np.median([point.tpot_ms for point in sides[side]])) for side in (False, True)
            )
            found.append((sides[True][0], plain / fast))
    return found


def usual(pairs: Sequence[tuple[PublishedPoint, float]], engine: str) -> float:
    """Return the usual speed-up of an engine, or of all where it has none; 1 where nobody has."""
    own = [ratio for point, ratio in pairs if point.engine == engine]
    every = own or [ratio for _, ratio in pairs]
    return float(np.median(every)) if every else 1.0


def beyond(
    pairs: Sequence[tuple[PublishedPoint, float]], accelerator: str
) -> list[tuple[PublishedPoint, float]]:
    """Return the pairs on other accelerators."""
    return [pair for pair in pairs if pair[0].accelerator != accelerator]


# --- scores -----------------------------------------------------------------------------------------


def speculation_scores(folder: Path) -> dict[str, Any]:
    """Return the errors in TPOT of runs with speculation, and in the speed-ups of pairs.

    Returns
    -------
    dict
        ``tpot``: n rows, median, mean and p90 of the absolute error [%] and ``within_20``; ``constant``: the
        median error [%] of the same runs predicted without speculation and divided by the usual speed-up of
        their engine on other accelerators, ``constant_in_sample`` by that of all. The same by engine and
        accelerator in ``groups``. ``pairs``: errors of speed-ups, of the median speed-up of the method and
        model as a ``constant``, and how often gain or loss is right (``same_sign``). ``left_out`` counts the
        other rows. What no row tells is None.
    """
    left_out: Counter[str] = Counter()
    runs = read_runs(folder / RUNS, left_out)
    rows = predicted(runs, left_out)
    usual_ms = _by_constant(rows, speed_ups(runs))
    groups: dict[str, list[int]] = {"all": list(range(len(rows)))}
    for place, row in enumerate(rows):
        groups.setdefault(f"{row.point.engine} {row.point.accelerator}", []).append(place)
    tables = {name: _table(rows, usual_ms, places) for name, places in groups.items()}
    first = tables.pop("all")
    pairs = read_pairs(folder / PAIRS, left_out)
    return {
        **first,
        "n": first["tpot"]["n"],
        "groups": tables,
        "pairs": _pair_scores(pairs, left_out),
        "left_out": {reason: count for reason, count in left_out.items() if count},
    }


def _by_constant(
    rows: Sequence[Predicted], pairs: Sequence[tuple[PublishedPoint, float]]
) -> dict[str, np.ndarray]:
    """Return TPOT [ms] without speculation over the usual speed-up: of other accelerators, and of all."""
    found: dict[str, list[float]] = {"constant": [], "constant_in_sample": []}
    for row in rows:
        engine = row.point.engine
        elsewhere = usual(beyond(pairs, row.point.accelerator), engine)
        found["constant"].append(row.without_ms / elsewhere)
        found["constant_in_sample"].append(row.without_ms / usual(pairs, engine))
    return {name: np.array(values) for name, values in found.items()}


def _table(
    rows: Sequence[Predicted], usual_ms: Mapping[str, np.ndarray], places: Sequence[int]
) -> dict[str, Any]:
    seen = np.array([rows[place].point.tpot_ms for place in places])
    with_ms = np.array([rows[place].with_ms for place in places])
    known = np.isfinite(with_ms)
    constants = {
        name: _median_pct(values[list(places)][known] / seen[known]) for name, values in usual_ms.items()
    }
    return {"tpot": error_table(with_ms[known] / seen[known]), **constants}


def _median_pct(ratio: np.ndarray) -> float | None:
    return rounded(evidence_errors.errors(ratio).median_pct)


# --- speed-ups of pairs -----------------------------------------------------------------------------


def predicted_speed_up(pair: Pair) -> float:
    """Return a pair's speed-up as simulated, in the measure of its row; NaN where it cannot be."""
    drafts = pair.drafts or drafts_of(pair.point)
    length = pair.length
    if math.isnan(length) and drafts:
        length = length_of(pair.point, drafts, pair.draft)
    if not drafts or math.isnan(length):
        return math.nan
    plain, fast = (simulated(pair.point, **how) for how in ({}, speculating(drafts, length, pair.draft)))
    return plain.tpot_ms / fast.tpot_ms if pair.of_user else fast.tok_per_s / plain.tok_per_s


def _pair_scores(pairs: Sequence[Pair], left_out: Counter[str]) -> dict[str, Any]:
    """Return the errors of speed-ups, beside those of the median speed-up of each method and model."""
    rows: list[tuple[str, float, float]] = []
    for pair in pairs:
        ratio = predicted_speed_up(pair)
        if math.isnan(ratio):
            left_out["no recipe or publication says what is drafted or accepted"] += 1
        else:
            rows.append((f"{pair.kind} {pair.point.model}", ratio, pair.speed_up))
    if not rows:
        return {}
    names, ours, seen = (np.array(column) for column in zip(*rows, strict=True))
    usually = np.array([np.median(seen[names == name]) for name in names])
    inside = {name: names == name for name in dict.fromkeys(names.tolist())}
    inside = {"all": np.ones(len(rows), bool), **inside}
    return {name: _pair_table(ours[same], seen[same], usually[same]) for name, same in inside.items()}


def _pair_table(ours: np.ndarray, seen: np.ndarray, usually: np.ndarray) -> dict[str, float | None]:
    """Return the errors of speed-ups, of usual ones as a constant, and how often gain or loss is right."""
    same_sign = float(np.mean((ours > 1) == (seen > 1)))
    constant = {"constant": _median_pct(usually / seen), "same_sign": rounded(100 * same_sign)}
    return error_table(ours / seen) | constant


# --- in words ---------------------------------------------------------------------------------------


def speculation_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the scores as a table to read."""
    head = f"{'n':>6}{'median %':>10}{'p90 %':>9}{'bias %':>9}{'constant %':>12}"
    lines = [f"{'TPOT with speculation':<28}{head}"]
    tables = {"all": found, **found["groups"]}
    lines += [_line(name, table["tpot"] | {"constant": table["constant"]}) for name, table in tables.items()]
    lines += ["", f"{'speed-up by speculation':<28}{head}"]
    lines += [_line(name, table) for name, table in found["pairs"].items()]
    return [*lines, "", *left_out_lines(found["left_out"], "rows about speculation")]


def _line(name: str, table: Mapping[str, Any]) -> str:
    widths = {"median": 10, "p90": 9, "bias": 9, "constant": 12}
    filled = "".join(f"{cell(table[key]):>{width}}" for key, width in widths.items())
    return f"{name:<28}{table['n']:>6}{filled}"
