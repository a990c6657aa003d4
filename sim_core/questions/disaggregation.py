"""Does splitting prefill and decode over two pools pay? Both ways on the same devices and the same requests.

One pool has as many devices as both pools together, as engines with chunked prefill behind a router. The load
is a share of the rate at which that pool saturates, so that a comparison means the same on every device.

What counts is requests served within both latency limits per second: in an open loop the share of requests
that keep them times the rate at which they arrive. (Counting those that finish while the run lasts would
favour the quicker way for no other reason than that its requests end sooner.) Over lengths, the two ways are
compared by the highest rate at which the stated percentile keeps both limits.

Rate matching
-------------
A prefill worker turns out a request every ``p`` seconds: a step of as many mean prompts as the token budget
holds, divided by their number. What a prefix cache has of them at best is not computed. A decode worker every
``d``: output tokens x step time / batch, at the largest batch whose step stays within the TPOT limit and
whose KV cache fits. Ranks of attention of a worker all do as much, in one step. Of W workers, W p / (p + d)
should prefill. Theory knows no waiting: near the limits on TTFT and TPOT the simulated best lies elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine.results import STAGES, Run
from sim_core.engine.run import run
from sim_core.engine.work import kept
from sim_core.fields.errors import ScenarioError
from sim_core.price.pools import decode_of, one_pool_of, pool_prices, prefill_of
from sim_core.price.price import Price
from sim_core.price.step_cost import going, group_tokens_s, tokens_s
from sim_core.results.classes import limits_of_engine
from sim_core.results.metrics import point_of
from sim_core.results.reuse import best_hit_frac
from sim_core.results.use import pool_use
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.sweep.saturation import saturation_per_s
from sim_core.traffic.draws import mean_lengths
from sim_core.traffic.requests import Requests

LINKS_GB_PER_S = tuple(float(f"{10**power:.3g}") for power in np.linspace(-0.5, 3.0, 15))
FEWEST_REQUESTS = 4000  # many workers take long to reach a steady state
MAP_REQUESTS, MAP_WARM_UP = 3000, 0.3
MAP_RUNS = 300  # as one of so many a page counts each run of the map
LIVES = 6  # a trial on the map lasts at least so many times as long as a request is in the engine
NEAR = (-1, 0, 1)  # splits tried about the matched one on the map
SLOWEST, QUICKEST = 0.1, 1.5
BISECTIONS = 6


class Axes(NamedTuple):
    """Two keys of the scenario and the values that a map takes of each, upwards and to the right."""

    y: str
    y_values: tuple[int, ...]
    x: str
    x_values: tuple[int, ...]


LENGTHS = Axes(
    "prompt_tokens", (250, 500, 1000, 2000, 4000, 8000), "output_tokens", (16, 32, 64, 128, 256, 512)
)
LIMITS = Axes("slo_ttft_ms", (125, 250, 500, 1000, 2000, 4000), "slo_tpot_ms", (10, 15, 20, 30, 45, 70))


class Ways(NamedTuple):
    """The same requests on one pool and on two: scenarios, points (as `metrics.point_of`) and runs."""

    one: Scenario
    two: Scenario
    one_point: dict[str, Any]
    two_point: dict[str, Any]
    one_run: Run
    two_run: Run
    saturation_per_s: float

    @property
    def pools(self) -> dict[str, Any]:
        """How busy the pools and links are, and the mean times of the stages; see `results.use.pool_use`."""
        return pool_use(self.two_run)


def split_of(scenario: Scenario, prefill_workers: int | None = None) -> Scenario:
    """Return a scenario of two pools, with so many of its workers prefilling if a number is given."""
    split = scenario.replace(policy="disaggregated")
    if prefill_workers is None:
        return split
    workers = scenario.prefill_workers + scenario.decode_workers
    return split.replace(prefill_workers=prefill_workers, decode_workers=workers - prefill_workers)


def loaded(scenario: Scenario, load_frac: float) -> tuple[Scenario, float]:
    """Return the two-pool scenario under a share of what saturates one pool, and that rate [1/s].

    A closed loop keeps its clients and has no such rate (NaN); all other traffic becomes an open loop.
    """
    split = split_of(scenario)
    if scenario.arrivals in ("closed", "offline"):
        return split, math.nan
    drawn = split.replace(
        arrivals="gamma" if scenario.arrivals == "gamma" else "poisson",
        request_list="",
        requests=max(scenario.requests, FEWEST_REQUESTS),
    )
    top = saturation_per_s(one_pool_of(drawn))
    rate = float(f"{max(load_frac * top, FIELDS['arrival_per_s'].low):.4g}")
    return drawn.replace(arrival_per_s=rate), top


@kept(64, unit="requests")
def ways(scenario: Scenario, load_frac: float) -> Ways:
    """Return both ways of using the scenario's devices.

    Raises
    ------
    ScenarioError
        If the model does not fit a worker of either pool, or one engine of the one pool.
    """
    two, top = loaded(scenario, load_frac)
    one = one_pool_of(two)
    one_run, two_run = run(one), run(two)
    return Ways(one, two, _point(one_run), _point(two_run), one_run, two_run, top)


def _point(found: Run) -> dict[str, Any]:
    """Return a run's point, with what it serves within the limits as `served_per_s`; see the module."""
    point, scenario = point_of(found), found.scenario
    open_loop = scenario.arrivals in ("poisson", "gamma")
    served = point["slo_attainment_frac"] * scenario.arrival_per_s if open_loop else point["goodput_per_s"]
    return point | {"served_per_s": served}


def stage_rows(found: Ways, percentiles: Sequence[float] = (50.0, 99.0)) -> list[dict[str, Any]]:
    """Return the mean time of each stage, and those of the requests near some percentiles of E2E [ms]."""
    stages = found.two_run.stages()
    if stages is None:
        return []
    total = stages.sum(axis=1).to_numpy()
    rows = [{"what": "mean", **{name: 1e3 * float(stages[name].mean()) for name in STAGES}}]
    order = np.argsort(total)
    for percentile in percentiles:
        place = percentile / 100 * (order.size - 1)
        near = stages.iloc[order[max(int(place) - order.size // 200, 0) : int(place) + order.size // 200 + 1]]
        rows.append({"what": f"p{percentile:g}", **{name: 1e3 * float(near[name].mean()) for name in STAGES}})
    return rows


# --- the ratio ------------------------------------------------------------------------------------


def split_rows(scenario: Scenario, load_frac: float) -> list[dict[str, Any]]:
    """Return one row for each split of the workers into two pools, on the same requests.

    Each has `prefill_workers`, `decode_workers` and the metrics of a point, or `feasible` False and a reason.
    """
    two, _ = loaded(scenario, load_frac)
    workers = two.prefill_workers + two.decode_workers
    return [_ratio(split_of(two, count)) for count in range(1, workers)]


@kept(512, unit="requests")
def _cached_point(scenario: Scenario) -> dict[str, Any]:
    return _point(run(scenario))


def _ratio(scenario: Scenario) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prefill_workers": scenario.prefill_workers,
        "decode_workers": scenario.decode_workers,
        "accelerators": scenario.accelerators,
    }
    try:
        return row | {"feasible": True, "reason": ""} | _cached_point(scenario)
    except ScenarioError as error:
        return row | {"feasible": False, "reason": str(error), "served_per_s": math.nan}


def best_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row that serves most; of equals one that keeps the limits, then that of the lowest TTFT."""
    known = [row for row in rows if row["feasible"] and row["served_per_s"] > 0]
    if not known:
        return None
    return max(
        known, key=lambda row: (float(f"{row['served_per_s']:.3g}"), row["meets_slo"], -row["ttft_ms_p99"])
    )


class Matched(NamedTuple):
    """Rate matching: seconds that a request takes of a worker, and how many workers should prefill."""

    prefill_s: float
    decode_s: float
    batch: int
    workers: float


def matched(scenario: Scenario) -> Matched:
    """Return what theory says of the right split; see the module."""
    split = split_of(scenario)
    prices = pool_prices(split)
    return matched_at(split, prices.prefill, prices.decode)


def matched_at(split: Scenario, prefill: Price, decode: Price) -> Matched:
    """Return the same of two pools whose prices are known."""
    prompt, output = mean_lengths(split)
    batch, decode_s = _decode_rate(decode, split, prompt, output)
    prefill_s = float(prefill_need_s(prefill, split, np.array([prompt]), best_hit_frac(split))[0])
    workers = split.prefill_workers + split.decode_workers
    return Matched(prefill_s, decode_s, batch, workers * prefill_s / (prefill_s + decode_s))


def prefill_need_s(price: Price, split: Scenario, prompts: np.ndarray, hit_frac: float) -> np.ndarray:
    """Return the seconds that each prompt takes of a prefill worker: its share of a full step of its like.

    Parameters
    ----------
    prompts : ndarray of float64
        Their tokens.
    hit_frac : float
        Share of each that its cache has, and that need not be computed.
    """
    step, found = price.step, hit_frac * prompts
    new = np.maximum(prompts - found, 1.0)
    together = np.clip(np.floor(split.token_budget / new), 1, split.max_batch)
    tokens, last = together * new, step.token_s.size - 1
    step_s = np.interp(tokens, np.arange(last + 1), step.token_s)
    step_s += step.token_slope_s * np.maximum(tokens - last, 0)
    step_s += group_tokens_s(step, np.rint(price.ranks * tokens).astype(int))
    step_s += step.row_s[np.minimum(together, step.row_s.size - 1).astype(int)] + step.prefill_step_s
    own_s = step.prefill_request_s + step.prefill_pair_s * (prompts**2 - found**2) / 2
    if step.window_tokens:
        pairs = (_pairs_within(step.window_tokens, tokens) for tokens in (prompts, found))
        own_s = own_s + step.window_pair_s * np.subtract(*pairs)
    need_s: np.ndarray = (step_s / together + own_s) / price.ranks
    return need_s


def _pairs_within(window: int, tokens: np.ndarray) -> np.ndarray:
    """Return the pairs of a text's tokens that are no further apart than a window; half of a square."""
    pairs: np.ndarray = np.where(tokens <= window, tokens**2 / 2, window * tokens - window**2 / 2)
    return pairs


def _decode_rate(price: Price, split: Scenario, prompt: float, output: float) -> tuple[int, float]:
    """Return the batch of a decode worker, all of its ranks alike, and the seconds that a request takes."""
    step, context = price.step, prompt + output / 2
    held = max(int(price.kv_blocks * price.kv_block_tokens / (prompt + output)), 1)
    batches = np.arange(1, min(split.max_running, held, step.row_s.size - 1) + 1)
    seen = np.minimum(context, step.window_tokens) if step.window_tokens else 0.0
    verified, made, scale = going(step, batches)
    steps_s = (
        tokens_s(step, verified)
        + group_tokens_s(step, price.ranks * verified)
        + step.row_s[batches]
        + scale * batches * (step.decode_context_s * context + step.window_context_s * seen)
    )
    times_s = steps_s / made
    good = np.flatnonzero(1e3 * times_s <= limits_of_engine(split).tpot_ms)
    place = int(good[-1]) if good.size else 0
    batch = price.ranks * int(batches[place])
    return batch, float(max(output - 1, 1e-9) * times_s[place] / batch)


# --- when it pays ---------------------------------------------------------------------------------


@kept(32, MAP_RUNS)
def gain_map(scenario: Scenario, axes: Axes = LENGTHS, requests: int = MAP_REQUESTS) -> list[dict[str, Any]]:
    """Return how much more two pools can serve within the limits than one, over mean lengths or over limits.

    Every trial has as many `requests`, or more where they live long. The split is that of rate matching or
    one worker beside it, whichever keeps the limits best.

    Returns
    -------
    list of dict
        The two keys of the `axes`, `one_per_s` and `two_per_s` (the highest Poisson rates at which the stated
        percentile keeps both limits; 0 if none does), `prefill_workers`, and `gain_frac` (NaN where neither
        way keeps the limits).
    """
    base = split_of(scenario).replace(requests=requests, warmup_frac=MAP_WARM_UP, arrivals="poisson")
    if axes.x == LENGTHS.x:
        base = base.replace(mix="", request_list="")
    cells = [{axes.y: y, axes.x: x} for y in axes.y_values for x in axes.x_values]
    return [cell | _cell(base.replace(**cell)) for cell in cells]


def _cell(two: Scenario) -> dict[str, Any]:
    """Return what one cell of the map holds."""
    one = one_pool_of(two)
    try:
        top = saturation_per_s(one)
        one, two = (way.replace(requests=_enough(two, top)) for way in (one, two))
        ours = highest_per_s(one, top)
        best = _best_split(two, max(ours, SLOWEST * top))
        theirs = highest_per_s(best, top)
    except ScenarioError as error:
        return {"feasible": False, "reason": str(error), "gain_frac": math.nan}
    found = {"one_per_s": ours, "two_per_s": theirs, "prefill_workers": best.prefill_workers}
    return {"feasible": True, "reason": ""} | found | {"gain_frac": gain_of(theirs, ours)}


def _best_split(two: Scenario, rate_per_s: float) -> Scenario:
    """Return the split near rate matching that keeps the limits best at a rate; of equals the nearest."""
    workers, ideal = two.prefill_workers + two.decode_workers, matched(two).workers
    middle = min(max(round(ideal), 1), workers - 1)
    counts = sorted({min(max(middle + more, 1), workers - 1) for more in NEAR})
    tried = [split_of(two, count).replace(arrival_per_s=rate_per_s) for count in counts]

    def rank(split: Scenario) -> tuple[float, float]:
        return _point(run(split))["slo_attainment_frac"], -abs(split.prefill_workers - ideal)

    return max(tried, key=rank)


def _enough(two: Scenario, top_per_s: float) -> int:
    """Return the requests of a trial; few would end before the engines are as full as they would be."""
    running = top_per_s * mean_lengths(two)[1] * two.slo_tpot_ms / 1e3
    running = min(running, _places(two))
    return max(two.requests, round(LIVES * running))


def _places(two: Scenario) -> int:
    """Return the places of the batches of all workers of both pools, and of all of their ranks."""
    pools = (prefill_of(two), decode_of(two))
    return sum(pool.replicas * pool.attention_data_parallel * pool.max_batch for pool in pools)


def highest_per_s(scenario: Scenario, saturation: float, trace: Requests | None = None) -> float:
    """Return the highest Poisson rate that keeps the limits [1/s], to about 4%; 0 if none tried does.

    Rates from `SLOWEST` to `QUICKEST` times a known saturation are tried by bisection in the logarithm: a
    known number of short runs a cell, for maps of ratios and for trials of given requests. The capacity that
    pages and commands name is searched to half a percent, with long runs (`sweep/capacity.py`).
    """
    low, high = math.log(SLOWEST * saturation), math.log(QUICKEST * saturation)
    if not _keeps(scenario, math.exp(low), trace):
        return 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _keeps(scenario, math.exp(middle), trace) else (low, middle)
    return math.exp(low)


def _keeps(scenario: Scenario, rate_per_s: float, trace: Requests | None = None) -> bool:
    return point_of(run(scenario.replace(arrival_per_s=rate_per_s), trace=trace))["meets_slo"]


def gain_of(two: float, one: float) -> float:
    """Return how much more two pools serve than one, as a share; infinite if one serves nothing, else NaN."""
    if one > 0:
        return two / one - 1
    return math.inf if two > 0 else math.nan


# --- the link -------------------------------------------------------------------------------------


def link_sweep(
    scenario: Scenario, load_frac: float, links_gb_per_s: Sequence[float] = LINKS_GB_PER_S
) -> list[dict[str, Any]]:
    """Return the two pools' point for each bandwidth of the KV link, on the same requests."""
    two, _ = loaded(scenario, load_frac)
    return [
        {"kv_link_gb_per_s": link} | _ratio(two.replace(kv_link_gb_per_s=link)) for link in links_gb_per_s
    ]


def break_even_gb_per_s(rows: Sequence[dict[str, Any]], one_served_per_s: float) -> float:
    """Return the bandwidth from which two pools are as good as one: NaN if never, 0 if at any bandwidth."""
    links = np.array([row["kv_link_gb_per_s"] for row in rows])
    gains = np.array([row["served_per_s"] for row in rows]) - one_served_per_s
    below = np.flatnonzero(~(gains >= 0))
    if below.size == 0:
        return 0.0
    last = int(below[-1])
    if last == links.size - 1:
        return math.nan
    low, high = gains[last], gains[last + 1]
    share = -low / (high - low) if math.isfinite(low) and high > low else 0.5
    return float(np.exp(np.log(links[last]) + share * np.log(links[last + 1] / links[last])))
