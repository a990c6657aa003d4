"""How far predictions of prefix caches are from published ones, without fitting; development only.

Three kinds of rows are predicted: the share of the unlimited hit rate that a capacity keeps, by public traces
(hash_ids); agents whose texts outgrow the device, with memory of the host and without; and prompts that are
found in host memory. Rows of a workload that is not told, and those of other caches, are left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.printed import Predicted, cell, error_table, left_out_lines, rounded
from benchmarks.tables import LeftOut, Row, model_id, read_rows
from sim_core import catalogue
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.results.metrics import point_of
from sim_core.results.reuse import Reuse, reuse_of
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import BlockChains, Requests
from sim_core.traffic.trace_files.read import read_trace

CACHING = "prefix_caching.csv"
HIT_RATE, THROUGHPUT = "hit_rate", "throughput"
BLOCK_TOKENS = 16
PROMPTS = 2000  # of a run on the host's memory: a rate does not depend on how many there are
HOST_GB = 2000.0
ANSWER_TOKENS = 444  # of an agent: InferenceX, agentic replays, median


def caching_scores(folder: Path) -> dict[str, Any]:
    """Return the errors of prefix caches in a folder's table.

    Returns
    -------
    dict
        ``hit_rate``: ``n`` rows, ``median`` and ``worst`` of the absolute error, in points of a share;
        ``throughput``: as of other rates, in percent; ``left_out``: other rows by reason.
    """
    left_out: Counter[str] = Counter()
    found = [one for row in read_rows(folder / CACHING, left_out, _reader(folder)) for one in row]
    points = [100 * abs(one.predicted - one.measured) for one in found if one.what == HIT_RATE]
    ratio = [one.predicted / one.measured for one in found if one.what == THROUGHPUT]
    return {
        HIT_RATE: {
            "n": len(points),
            "median": rounded(float(np.median(points)) if points else math.nan),
            "worst": rounded(max(points, default=math.nan)),
        },
        THROUGHPUT: error_table(np.array(ratio)),
        "left_out": dict(left_out),
    }


def caching_lines(found: dict[str, Any]) -> list[str]:
    """Return the scores in words."""
    hits, rates = found[HIT_RATE], found[THROUGHPUT]
    return [
        f"prefix caches: hit rate, {hits['n']} rows: {cell(hits['median'])} points (median), "
        f"{cell(hits['worst'])} (worst)",
        f"prefix caches: throughput, {rates['n']} rows: {cell(rates['median'])}% (median), "
        f"{cell(rates['p90'])}% (90th percentile)",
        *left_out_lines(found["left_out"]),
    ]


def _reader(folder: Path) -> Callable[[Row, int], list[Predicted]]:
    """Return what reads one row of a folder's table as the figures that it holds."""
    kinds: dict[str, Callable[[Row], list[Predicted]]] = {
        "hit rate against capacity": lambda row: _of_capacity(row, folder),
        "thrash": _of_agents,
        "throughput against cpu hit rate": _of_host,
    }

    def read(row: Row, number: int) -> list[Predicted]:
        kind = row.text("kind").lower()
        if kind not in kinds:
            raise LeftOut(f"a cache or a workload that the row does not tell: {kind or 'no kind'}")
        try:
            return kinds[kind](row)
        except ScenarioError as error:
            raise LeftOut(f"cannot be run: {error}") from None

    return read


# --- capacity ---------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _reuse(path: Path) -> Reuse:
    return reuse_of(read_trace(path), BLOCK_TOKENS)


def _of_capacity(row: Row, folder: Path) -> list[Predicted]:
    """Return the share of the unlimited hit rate of a trace that a capacity keeps."""
    name = re.sub(r"[^a-z0-9]+", "_", row.text("workload").lower().replace(" trace", "")).strip("_")
    places = (place / f"{name}.jsonl" for place in (folder, folder / "traces", folder.parent / "traces"))
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise LeftOut(f"the trace is not beside the table: {name}.jsonl")
    capacity = re.fullmatch(r"([0-9.]+) ?M tokens", row.text("cache"))
    tokens = float(capacity[1]) * 1e6 if capacity else math.inf
    if not capacity and row.text("cache") != "unlimited":
        raise LeftOut("a capacity that is no number of tokens")
    share = re.search(r"[0-9.]+$", row.text("value"))
    if not share:
        raise LeftOut("no value")
    reuse = _reuse(path)
    kept = reuse.hit_frac(min(tokens, reuse.largest_tokens)) / reuse.ideal_frac
    return [Predicted(HIT_RATE, kept, float(share[0]))]


# --- agents -----------------------------------------------------------------------------------------


def _of_agents(row: Row) -> list[Predicted]:
    """Return hit rate and throughput of agents, each a session that grows between two lengths of prompt.

    It takes as many turns as make the ideal hit rate: all of the longest prompt is new once.
    """
    lengths = re.search(r"prompts (\d+)-(\d+)k", row.text("workload"))
    if not lengths:
        raise LeftOut("agents whose prompts are not told")
    low, high = (1000 * int(text) for text in lengths.groups())
    ideal, clients = row.number("ideal_hit_rate"), row.count("concurrency")
    turns = max(round(2 * high / ((low + high) * (1 - ideal))), 2)
    added = (high - low) // (turns - 1) - ANSWER_TOKENS
    scenario = Scenario(
        model=_preset("models", model_id(row.text("model").split(" ")[0])),
        accelerator=_preset("accelerators", row.text("gpu").lower()),
        tensor_parallel=row.count("n_gpus"),
        weight_dtype="native",
        arrivals="closed",
        concurrency=clients,
        requests=clients * turns * 2,
        turns=turns,
        prompt_tokens=low,
        turn_tokens=max(added, 1),
        output_tokens=ANSWER_TOKENS,
        prefix_caching="on",
        host_cache_gb=HOST_GB if "host" in row.text("cache").lower() else 0.0,
        max_batch=clients,
        engine={"vllm": "vllm", "sglang": "sglang"}.get(row.text("engine").lower(), ""),
    )
    point = point_of(run(scenario))
    found = [
        Predicted(HIT_RATE, point["hit_frac"], row.number("hit_rate")),
        Predicted(THROUGHPUT, point["output_tok_per_s"], row.number("value")),
    ]
    return [one for one in found if math.isfinite(one.measured)]


def _preset(kind: str, name: str) -> str:
    """Return the id of a preset, which a table may name without its sizes."""
    known = MappingProxyType({"models": catalogue.models, "accelerators": catalogue.accelerators})[kind]()
    if name not in known:
        raise LeftOut(f"no such preset: {name}")
    return name


# --- memory of the host -----------------------------------------------------------------------------


def _of_host(row: Row) -> list[Predicted]:
    """Return the throughput of prompts of which a share has been computed before, and left the device."""
    share, length = row.number("hit_rate"), re.search(r"requests of (\d+)", row.text("workload"))
    if math.isnan(share) or not length:
        raise LeftOut("prompts or hit rate not told")
    gpu = {"h100": "h100-sxm"}.get(row.text("gpu").lower(), row.text("gpu").lower())
    scenario = Scenario(
        model=_preset("models", model_id(row.text("model"))),
        accelerator=_preset("accelerators", gpu),
        tensor_parallel=row.count("n_gpus", 1),
        arrivals="offline",
        prefix_caching="on",
        host_cache_gb=HOST_GB,
        engine="vllm",
    )
    tokens = int(length[1])
    sent = again(tokens, share)
    found = run(scenario.replace(requests=len(sent)), trace=sent)
    last = found.finished_s[: 2 * PROMPTS].max()
    rate = PROMPTS * tokens / (found.finished_s.max() - last)
    return [Predicted(THROUGHPUT, rate, row.above_zero("value"))]


def again(tokens: int, share: float) -> Requests:
    """Return prompts, others that drive them out, and then as many, a share of which are the first ones."""
    repeated = np.diff(np.floor(np.arange(PROMPTS + 1) * share + 1e-9)) > 0
    first = np.arange(PROMPTS)
    ids = np.concatenate((first, first + PROMPTS, np.where(repeated, first, first + 2 * PROMPTS)))
    ones = np.ones(ids.size, np.int64)
    chains = BlockChains(np.arange(ids.size + 1), ids, tokens)
    return Requests(np.zeros(ids.size), tokens * ones, ones, blocks=chains)
