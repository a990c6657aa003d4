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
from sim_core.evidence.further.speculated import DRAFTS_FILE
from sim_core.evidence.own.gaps import interval_told
from sim_core.evidence.published import FOLDER, POOLS, PublishedPoint, recipe_of
from sim_core.fields.errors import ScenarioError
from sim_core.price.speculation import chance, geometric

# SemiAnalysisAI/InferenceX, benchmarks/single_node/fixed_seq_len/dsr1_*_mtp.sh: `--speculative-num-steps`
# (SGLang), `--num-speculative-tokens` (ATOM), MTP (TensorRT-LLM).
RECIPE_DRAFTS = MappingProxyType({"SGLang": 2, "ATOM": 3, "TensorRT-LLM": 3})
AMD_DRAFTS = 3
RANKS_DRAFTS = 1  # of TensorRT-LLM on one pool with ranks: MTP=1 in dsr1_fp4_b200_trt_mtp.sh and its like
# By recipes: `stream_interval` of TensorRT-LLM, `--stream-interval` of SGLang.
INTERVALS = MappingProxyType({"SGLang": (1, 10, 30), "TensorRT-LLM": (10, 20, 100), "ATOM": (1,)})
FEWEST_GAPS = 3
# SemiAnalysisAI/InferenceX, pull request 649: random prompts in the chat template make about 2.50 tokens a
# step with three drafts, as MT-Bench does; without the template 3.55.
RANDOM_PROMPTS = (3, 2.50)
DRAFT_CONSTANTS = ("draft", "draft_sequence")  # in ms and us
NO_HOST = MappingProxyType(dict.fromkeys(DRAFT_CONSTANTS, 0.0))


class Predicted(NamedTuple):
    """A run with speculation, and its TPOT [ms] as predicted with speculation and without.

    `length` is its acceptance length.
    """

    point: PublishedPoint
    drafts: int
    length: float
    with_ms: float
    without_ms: float


# --- how a run speculates ---------------------------------------------------------------------------


def drafts_of(point: PublishedPoint) -> int:
    """Return how many tokens a run drafts by its recipe; 0 where no recipe is known."""
    recipe = recipe_of(point, speculates=True)
    if recipe:
        return recipe.drafts
    if point.engine == "TensorRT-LLM" and point.ranks > 1:
        return RANKS_DRAFTS
    if point.engine == "SGLang" and catalogue.accelerator(point.accelerator).vendor == "AMD":
        return AMD_DRAFTS
    return RECIPE_DRAFTS.get(point.engine, 0)


class Told(NamedTuple):
    """Acceptance lengths by engine, precision and drafts, as the gaps of runs' streams tell them."""

    lengths: Mapping[tuple[str, str, int], float]

    def of(self, point: PublishedPoint, drafts: int) -> float:
        """Return the length of a run's kind, NaN where gaps tell none."""
        return self.lengths.get((point.engine, point.precision, drafts), math.nan)


NOTHING_TOLD = Told(MappingProxyType({}))


def told_by_gaps(runs: Sequence[Run]) -> Told:
    """Return the median acceptance length of each kind of runs, from their mean gaps alone.

    The quotient of mean ITL and mean TPOT is a count of tokens, which does not depend on load or speed. It
    stands in place of a published length where at least `FEWEST_GAPS` runs tell it.
    """
    found: dict[tuple[str, str, int], list[float]] = {}
    for item in runs:
        drafts, point = drafts_of(item.point) if item.method else 0, item.point
        usual = INTERVALS.get(point.engine, ())
        interval = interval_told(item.gap_tokens, drafts, usual) if drafts else 0
        if interval:
            key = (point.engine, point.precision, drafts)
            found.setdefault(key, []).append(item.gap_tokens / interval)
    enough = {key: float(np.median(each)) for key, each in found.items() if len(each) >= FEWEST_GAPS}
    return Told(MappingProxyType(enough))


def length_of(point: PublishedPoint, drafts: int, draft: str = "mtp", told: Told = NOTHING_TOLD) -> float:
    """Return the acceptance length of a run: told by gaps, that of its prompts, or that of its model.

    Of another number of drafts than was published each draft is taken to be accepted with the same chance.
    """
    by_gaps = told.of(point, drafts)
    if by_gaps > 1:
        return by_gaps
    if point.model == "deepseek-r1" and point.source == "inferencex":
        known, length = RANDOM_PROMPTS
        return geometric(chance(length, known), drafts)
    found = acceptance_length(point.model, draft, drafts)
    return found.length if found else math.nan


def speculating(
    drafts: int, length: float, draft: str = "mtp", point: PublishedPoint | None = None
) -> dict[str, Any]:
    """Return the keys of a scenario that speculates, on two pools by the recipe of a point that does."""
    found = {"spec_tokens": drafts, "acceptance_length": length, "draft": draft}
    recipe = recipe_of(point, speculates=True) if point else None
    return found | ({"max_batch": recipe.decode_batch} if recipe else {})


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
    found, told = [], told_by_gaps(runs)
    for point in (item.point for item in runs if item.method):
        drafts = drafts_of(point)
        length = length_of(point, drafts, told=told) if drafts else math.nan
        if math.isnan(length):
            left_out["no recipe or publication says what is drafted or accepted"] += 1
            continue
        ways = (speculating(drafts, length, point=point), {})
        fast, plain = (simulated(point, own, **how).tpot_ms for how in ways)
        found.append(Predicted(point, drafts, length, fast, plain))
    return found


# --- the constant to be better than -----------------------------------------------------------------


def speed_ups(runs: Sequence[Run]) -> list[tuple[PublishedPoint, float]]:
    """Return by how much speculation has sped up TPOT, of points that were run with it and without.

    Points alike in engine, part, precision, layout, lengths and clients are a pair; of several runs of one
    point the median counts.
    """
    points: dict[tuple, dict[bool, list[PublishedPoint]]] = {}
    for point, method in ((item.point, item.method) for item in runs):
        key = (point.engine, point.accelerator, point.precision, point.tensor_parallel, point.expert_parallel)
        key += (point.model, point.prompt_tokens, point.output_tokens, point.clients, point.ranks)
        key += (point.prefill_workers, point.prefill_devices, point.prefill_ranks)
        key += (point.decode_workers, point.decode_devices, point.decode_ranks)
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
        for name in (POOLS[row.point.pools], f"{row.point.engine} {row.point.accelerator}"):
            groups.setdefault(name, []).append(place)
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
