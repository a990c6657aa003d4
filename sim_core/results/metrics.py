"""Rows to numbers: percentiles, throughput, goodput, what binds, and how sure a percentile is.

The definitions are the Method page's. Latencies are the client's; statistics leave out the warm-up, and
in a closed loop the drain after the last arrival.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim_core import __version__
from sim_core.engine.kernels.gaps import GAP_BINS_PER_OCTAVE, GAP_EXPONENT_LOW
from sim_core.engine.kernels.sweep.tally import tally
from sim_core.engine.run import Run, Usage, counted_requests
from sim_core.price import cost
from sim_core.results.text import metrics_of
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of

QUANTILES = (50.0, 90.0, 95.0, 99.0)
LABELS = tuple(f"_p{quantile:.0f}" for quantile in QUANTILES)
STABLE_FRAC = 0.98
STEADY_FRAC = 0.95
GROWTH = 1.2
DRIFT = 0.0005
NEAR = 1.5  # further from a limit than this factor, no interval reaches it
BLOCKS = 20
STUDENT = 2.093  # 97.5th percentile of the t distribution with BLOCKS - 1 degrees of freedom
FEW_SAMPLES = 100
BLOCKED_FRAC = 0.2
PREEMPTED_FRAC = 0.1
SHORT = 10_000
USE = (
    "mfu_frac",
    "mbu_frac",
    "mean_batch",
    "idle_frac",
    "kv_used_frac",
    "kv_blocked_frac",
    "batch_blocked_frac",
    "prefill_frac",
)
LIMITS = ("weights", "kv", "compute", "communication", "fixed", "measured", "queueing", "kv_capacity")


class Window(NamedTuple):
    """The requests that the latency statistics use, and the time over which rates are counted [s]."""

    first: int
    last: int
    start_s: float
    end_s: float


class Rows(NamedTuple):
    """The finished requests of a run, in order of arrival; times in seconds."""

    arrival_s: np.ndarray
    output_tokens: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray


class Tally(NamedTuple):
    """What the requests and the time of a window hold.

    `ttft_ms` and `e2e_ms` have one entry a request, `tpot_ms` one for each with more than one token, in
    order of arrival; `gaps` are the gaps between their tokens, `met` the requests within both limits.
    `finished` requests, the `good` ones of them within both limits, and `tokens` (a request's lie evenly
    from its first to its last) count in the time.
    """

    ttft_ms: np.ndarray
    tpot_ms: np.ndarray
    e2e_ms: np.ndarray
    gaps: int
    met: int
    finished: int
    good: int
    tokens: float


def summarize(requests: pd.DataFrame, scenario: Scenario) -> dict[str, Any]:
    """Return the numbers of a run as one nested dictionary, the object of ``run --format json``.

    Parameters
    ----------
    requests : DataFrame
        What `simulate` returned. A table that has lost its run (read from a file, say) gives the
        latencies and rates; utilisation, shares and token gaps are then NaN. So does a part of a table.
    scenario : Scenario
        Its limits, warm-up, devices and prices apply.
    """
    run = requests.attrs.get("run")
    if run is not None and run.arrival_s.size != requests.shape[0]:
        run = None
    finished = (requests["status"] == "finished").to_numpy()
    columns = (requests[name].to_numpy()[finished] for name in Rows._fields)
    rejected = int(requests.shape[0] - finished.sum())
    return _summary(scenario, Rows(*columns), rejected, requests["preemptions"].sum().item(), run)


def summary_of(run: Run) -> dict[str, Any]:
    """Return the same for a run, without a table in between."""
    preemptions = run.preemptions.sum().item()
    return _summary(run.scenario, _rows(run), int(run.rejected.sum()), preemptions, run)


def _rows(run: Run) -> Rows:
    columns = (run.arrival_s, run.output_tokens, run.first_token_s, run.finished_s)
    if run.rejected.any():
        columns = tuple(column[~run.rejected] for column in columns)
    return Rows(*columns)


def _summary(
    scenario: Scenario, rows: Rows, rejected: int, preemptions: int, run: Run | None
) -> dict[str, Any]:
    point = measure(scenario, rows, rejected, run)
    arrived = rows.arrival_s.size + rejected
    return {
        "scenario": scenario.as_dict(),
        "requests": {
            "arrived": arrived,
            "finished": int(np.isfinite(rows.finished_s).sum()),
            "rejected": rejected,
            "preemptions": int(preemptions),
        },
        "window_s": point["window_s"],
        "saturated": point["saturated"],
        "meets_slo": point["meets_slo"],
        "metrics": metrics_of(point),
        "limits": {
            "binding": point["limit"],
            "shares": {
                name.removeprefix("share_"): value
                for name, value in point.items()
                if name.startswith("share_")
            },
            "kv_blocked_frac": point["kv_blocked_frac"],
            "batch_blocked_frac": point["batch_blocked_frac"],
            "kv_used_frac": point["kv_used_frac"],
            "prefill_frac": point["prefill_frac"],
            "idle_frac": point["idle_frac"],
        },
        "cost": {"usd_per_mtok": point["usd_per_mtok"], "joule_per_tok": point["joule_per_tok"]},
        **({"pools": pools_of(run)} if run is not None and run.split else {}),
        "warnings": warnings(scenario, point, rejected, run),
        "version": __version__,
    }


def point_of(run: Run) -> dict[str, Any]:
    """Return the numbers of a run as one flat row, as `frontier` tabulates them."""
    return measure(run.scenario, _rows(run), int(run.rejected.sum()), run)


def measure(scenario: Scenario, rows: Rows, rejected: int, run: Run | None) -> dict[str, Any]:
    """Return all metrics of the finished requests of a run as one flat row."""
    window = window_of(scenario, rows)
    held = tally_of(scenario, rows, window)
    point: dict[str, Any] = {}
    served_frac = rows.arrival_s.size / (rows.arrival_s.size + rejected)
    slo_percentile = scenario.slo_percentile / served_frac  # who is rejected waits for ever
    slo_ttft_ms = _latency(point, "ttft_ms", held.ttft_ms, slo_percentile)
    slo_tpot_ms = _latency(point, "tpot_ms", held.tpot_ms, slo_percentile)
    _latency(point, "e2e_ms", held.e2e_ms)
    _gap_latency(point, held, run)
    point["slo_attainment_frac"] = _ratio(held.met, held.ttft_ms.size) * served_frac
    point["slo_ttft_ms_reached"] = slo_ttft_ms
    point["slo_tpot_ms_reached"] = slo_tpot_ms
    _rates(point, scenario, held, window)
    _use(point, scenario, run)
    point["preemptions"] = int(run.preemptions.sum()) if run is not None else math.nan
    point["saturated"] = is_saturated(scenario, held, window)
    within = slo_ttft_ms <= scenario.slo_ttft_ms and not slo_tpot_ms > scenario.slo_tpot_ms
    point["meets_slo"] = bool(within and not point["saturated"])
    point["limit"] = binding(point)
    return point


def tally_of(scenario: Scenario, rows: Rows, window: Window) -> Tally:
    """Return the latencies of the requests in the window and what was made in it."""
    used = window.last - window.first
    ttft_ms, tpot_ms, e2e_ms = np.empty(used), np.empty(used), np.empty(used)
    many, *counts = tally(
        *rows, *window, scenario.slo_ttft_ms, scenario.slo_tpot_ms, ttft_ms, tpot_ms, e2e_ms
    )
    return Tally(ttft_ms, tpot_ms[:many], e2e_ms, *counts)


def request_per_s(run: Run) -> float:
    """Return the rate at which requests finish in the window of a run [1/s]."""
    rows = _rows(run)
    window = window_of(run.scenario, rows)
    return _ratio(tally_of(run.scenario, rows, window).finished, window.end_s - window.start_s)


def window_of(scenario: Scenario, rows: Rows) -> Window:
    """Return which requests and which time the statistics use.

    Open loop: after the warm-up, until the last arrival. Closed loop: the same, without the requests
    that end in the drain. Offline, and where nothing is left otherwise: everything.
    """
    count = rows.arrival_s.size
    counted = counted_requests(scenario, count)
    if counted is not None:
        start_s, end_s = float(rows.arrival_s[counted[0]]), float(rows.arrival_s.max())
        if end_s > start_s:
            return Window(*counted, start_s, end_s)
    return Window(0, count, float(rows.arrival_s.min()), float(np.nanmax(rows.finished_s)))


def is_saturated(scenario: Scenario, held: Tally, window: Window) -> bool:
    """Return whether requests arrive faster than they finish, and wait longer and longer (open loop).

    Fewer than 98% finish; and the median TTFT grows over the thirds of the requests: by a fifth, and by half
    a thousandth of the time (less is a batch that still fills up, in a run too short to tell).
    """
    arrived = window.last - window.first
    if scenario.arrivals in ("closed", "offline") or arrived < 20:
        return False
    if held.finished >= STABLE_FRAC * arrived:
        return False
    early, middle, late = (np.median(third) for third in np.array_split(held.ttft_ms, 3))
    grown_s = (late - early) / 1e3
    growing = early < middle < late and late > GROWTH * early
    return bool(growing and grown_s > DRIFT * (window.end_s - window.start_s))


def _latency(point: dict[str, Any], name: str, values_ms: np.ndarray, extra: float | None = None) -> float:
    """Enter mean, percentiles and sample count of a latency [ms]; return the `extra` percentile.

    A percentile above 100 lies among requests that were never answered: infinity.
    """
    wanted = QUANTILES if extra is None else (*QUANTILES, extra)
    found = percentiles(values_ms, wanted)
    point[f"{name}_mean"] = _ratio(np.add.reduce(values_ms), values_ms.size)
    for label, value in zip(LABELS, found, strict=False):
        point[name + label] = value
    point[f"{name}_n"] = int(values_ms.size)
    return math.inf if wanted[-1] > 100 else found[-1]


def percentiles(values: np.ndarray, wanted: tuple[float, ...]) -> list[float]:
    """Return percentiles, linear between ranks (short arrays sort faster than they select)."""
    if values.size == 0:
        return [math.nan] * len(wanted)
    neighbours, shares = _ranks(values.size, wanted)
    chosen = np.sort(values) if values.size < SHORT else np.partition(values, np.unique(neighbours))
    low, high = chosen[neighbours].tolist()
    return [a + share * (b - a) for a, b, share in zip(low, high, shares, strict=True)]


@lru_cache(maxsize=256)
def _ranks(count: int, wanted: tuple[float, ...]) -> tuple[np.ndarray, list[float]]:
    """Return the ranks below and above each percentile of `count` values, and how far between they lie."""
    ranks = np.minimum(np.array(wanted) / 100, 1.0) * (count - 1)
    low = ranks.astype(np.intp)
    return np.array([low, np.minimum(low + 1, count - 1)]), (ranks - low).tolist()


def _gap_latency(point: dict[str, Any], held: Tally, run: Run | None) -> None:
    """Enter the statistics of the gaps between tokens; percentiles from bins 1% wide."""
    counts = run.engine.gap_counts if run is not None else np.zeros(1, np.int64)
    (bins,) = (counts != 0).nonzero()  # of 7,000 bins, some hundreds are used
    cumulated = np.cumsum(counts[bins])
    decode_ms = np.add.reduce(held.e2e_ms) - np.add.reduce(held.ttft_ms)
    point["itl_ms_mean"] = _ratio(decode_ms, held.gaps)
    for label, gap_ms in zip(LABELS, _gap_percentiles_ms(bins, cumulated), strict=True):
        point["itl_ms" + label] = gap_ms
    point["itl_ms_n"] = int(cumulated[-1]) if bins.size else 0


def _gap_percentiles_ms(bins: np.ndarray, cumulated: np.ndarray) -> list[float]:
    """Return the percentiles of gaps [ms], linear inside their bins, from the bins in use."""
    if bins.size == 0:
        return [math.nan] * len(QUANTILES)
    ranks = [quantile / 100 * float(cumulated[-1]) for quantile in QUANTILES]
    gaps_ms = []
    for rank, place in zip(ranks, np.searchsorted(cumulated, ranks).tolist(), strict=True):
        before = cumulated.item(place - 1) if place else 0
        inside = (rank - before) / (cumulated.item(place) - before)
        octave, step = divmod(bins.item(place), GAP_BINS_PER_OCTAVE)
        gap_s = math.ldexp(0.5 + 0.5 * (step + inside) / GAP_BINS_PER_OCTAVE, octave + GAP_EXPONENT_LOW)
        gaps_ms.append(gap_s * 1e3)
    return gaps_ms


def _rates(point: dict[str, Any], scenario: Scenario, held: Tally, window: Window) -> None:
    """Enter throughput, request rate, goodput, cost and energy."""
    window_s = window.end_s - window.start_s
    devices = scenario.accelerators
    accelerator = accelerator_of(scenario)
    throughput = _ratio(held.tokens, window_s)
    point["window_s"] = window_s
    point["output_tok_per_s"] = throughput
    point["output_tok_per_s_per_accelerator"] = throughput / devices
    point["request_per_s"] = _ratio(held.finished, window_s)
    point["goodput_per_s"] = _ratio(held.good, window_s)
    point["tok_per_s_per_user"] = _ratio(1e3, point["tpot_ms_p50"])
    point["usd_per_mtok"] = cost.usd_per_mtok(devices, accelerator.price_usd_per_hour, throughput)
    point["joule_per_tok"] = cost.joule_per_tok(devices, accelerator.tdp_w, throughput)


def _use(point: dict[str, Any], scenario: Scenario, run: Run | None) -> None:
    """Enter utilisation, mean batch, and where the time of the steps went."""
    if run is None or run.engine.usage.elapsed_s <= 0:
        point.update(dict.fromkeys(USE, math.nan))
        return
    usage: Usage = run.engine.usage
    elapsed_s = usage.elapsed_s
    pools = _pools(run)
    devices = sum(pool.price.accelerators for pool in pools)
    for name, at in (("mfu_frac", 0), ("mbu_frac", 1)):
        point[name] = sum(pool.use[at] * pool.price.accelerators for pool in pools) / devices
    point["mean_batch"] = usage.running_s / elapsed_s * scenario.engines
    idle = sum((1.0 - pool.busy_frac) * pool.price.accelerators for pool in pools) / devices
    point["idle_frac"] = max(0.0, idle)
    point["kv_used_frac"] = usage.kv_used_s / elapsed_s / run.price.kv_blocks
    point["kv_blocked_frac"] = usage.kv_blocked_s / elapsed_s
    point["batch_blocked_frac"] = usage.batch_blocked_s / elapsed_s
    point["prefill_frac"] = prefill_frac(run)
    busy_s = sum(pool.usage.busy_s for pool in pools)
    shares = [cost.shares(pool.price, pool.usage) for pool in pools]
    for part in shares[0]:
        point[f"share_{part}"] = _ratio(sum(seconds[part] for seconds in shares), busy_s)


class Pool(NamedTuple):
    """One pool of a run: prices, usage, MFU and MBU, and the share of the time its workers are busy."""

    price: cost.Price
    usage: Usage
    use: tuple[float, float]
    busy_frac: float


def _pools(run: Run) -> list[Pool]:
    """Return the one pool of a run, or prefill and decode pool."""
    parts = [(run.split.prefill, run.split.usage)] if run.split else []
    found = []
    for price, usage in (*parts, (run.price, run.engine.usage)):
        use = cost.utilisation(price, usage, usage.elapsed_s / price.replicas)
        found.append(Pool(price, usage, use, _ratio(usage.busy_s, usage.elapsed_s)))
    return found


def pools_of(run: Run) -> dict[str, Any]:
    """Return how two pools are used: busy shares of workers and links, MFU, MBU, mean times of the stages.

    Empty for one pool.
    """
    if run.split is None:
        return {}
    prefill, decode = _pools(run)
    span_s = float(run.engine.finished_s.max() - run.engine.arrival_s.min())
    counted = counted_requests(run.scenario, run.engine.arrival_s.size)
    stages = run.stages().iloc[slice(*counted) if counted else slice(None)]
    return {
        "prefill": {"busy_frac": prefill.busy_frac, "mfu_frac": prefill.use[0], "mbu_frac": prefill.use[1]},
        "decode": {"busy_frac": decode.busy_frac, "mfu_frac": decode.use[0], "mbu_frac": decode.use[1]},
        "link": {"busy_frac": _ratio(run.split.link_busy_s, span_s * prefill.price.replicas)},
        "stage_ms": {name.replace(" ", "_"): 1e3 * float(stages[name].mean()) for name in stages},
    }


def binding(point: dict[str, Any]) -> str:
    """Return what binds a point.

    ``kv_capacity`` or ``queueing`` where, for more than a fifth of the time, the next request waited for KV
    blocks or for a place in the batch (whichever was longer); else the part with the largest share of the
    step time, overloaded or not.
    """
    blocked = {"kv_capacity": point["kv_blocked_frac"], "queueing": point["batch_blocked_frac"]}
    longest = max(blocked, key=blocked.__getitem__)
    if blocked[longest] > BLOCKED_FRAC:
        return longest
    shares = {name: value for name, value in point.items() if name.startswith("share_")}
    return max(shares, key=shares.__getitem__).removeprefix("share_") if shares else ""


def prefill_frac(run: Run) -> float:
    """Return the share of the step time that prompts cost: what steps of the same decodes would not need.

    A step that holds prompts costs its tokens, pairs and prompts beyond what its sampled rows alone
    would. Where prompts have steps of their own, those steps count as a whole (steps with more tokens than
    decodes there can be; short prompts are missed).
    """
    usage, step = run.engine.usage, run.price.step
    rows = usage.steps_by_rows.astype(float)
    if run.split is not None:
        return _ratio(run.split.usage.busy_s, run.split.usage.busy_s + run.engine.usage.busy_s)
    if run.scenario.policy != "chunked":
        alone = int(usage.steps_by_tokens[run.scenario.max_running + 1 :].sum())
        rows[min(round(usage.prefill_requests / max(alone, 1)), rows.size - 1)] -= alone
    decode_s = rows @ (step.token_s[: rows.size] + step.row_s)
    decode_s += step.decode_context_s * usage.context_tokens + step.window_context_s * usage.window_tokens
    decode_s += step.swap_token_s * usage.swapped_tokens
    return min(max(1.0 - _ratio(decode_s, usage.busy_s), 0.0), 1.0)


def padding_frac(run: Run) -> float:
    """Return the share of the slot-steps of static batches that requests already finished hold.

    A batch runs from the step that prefills it until its longest answer is done, and makes a token for each
    of its requests in every one of these steps, the first included; a slot that has made its own is held
    until then. 0 under the other policies, which give a slot away at once.
    """
    if run.scenario.policy != "static":
        return 0.0
    served = ~run.rejected
    first_s, outputs = run.first_token_s[served], run.output_tokens[served]
    _, batch, sizes = np.unique(first_s, return_inverse=True, return_counts=True)
    longest = np.zeros(sizes.size, np.int64)
    np.maximum.at(longest, batch, outputs)
    held = int((sizes * longest).sum())
    return 1 - int(outputs.sum()) / held if held else 0.0


def band(values: np.ndarray, quantile: float) -> tuple[float, float]:
    """Return a 95% interval of a percentile of correlated values in order of arrival.

    The share of values below the percentile has the variance of its means over 20 blocks, long enough that
    the correlation of neighbours stays within a block; the interval is read off at the ranks that lie that
    much lower and higher. NaN below 1,000 values.

    References
    ----------
    Schmeiser (1982), "Batch size effects in the analysis of simulation output": 10 to 30 blocks.
    Seila (1982), "A batching approach to quantile estimation in regenerative simulations".
    """
    length = values.size // BLOCKS
    if length < 50:
        return math.nan, math.nan
    (center,) = percentiles(values, (quantile,))
    below = (values[: BLOCKS * length] <= center).reshape(BLOCKS, length).mean(axis=1)
    error = 100 * STUDENT * float(below.std(ddof=1)) / math.sqrt(BLOCKS)
    low, high = percentiles(values, (max(quantile - error, 0.0), min(quantile + error, 100.0)))
    return low, high


def bands_of(run: Run) -> dict[str, float]:
    """Return 95% intervals of the p99 of TTFT and TPOT of a run [ms]."""
    rows = _rows(run)
    held = tally_of(run.scenario, rows, window_of(run.scenario, rows))
    found = {}
    for name in ("ttft_ms", "tpot_ms"):
        found[f"{name}_p99_low"], found[f"{name}_p99_high"] = band(getattr(held, name), 99.0)
    return found


def at_limit(run: Run, point: dict[str, Any]) -> str:
    """Return the latency limit that a run can neither keep nor break for sure; "" if there is none.

    That is ``ttft``, ``tpot`` or ``both``: it lies inside the 95% interval of the percentile held against it,
    so that more requests may decide either way.
    """
    scenario, names = run.scenario, []
    if not any(_is_near(point, scenario, name) for name in ("ttft", "tpot")):
        return ""
    rows = _rows(run)
    held = tally_of(scenario, rows, window_of(scenario, rows))
    for name in ("ttft", "tpot"):
        low, high = band(getattr(held, f"{name}_ms"), scenario.slo_percentile)
        if _is_near(point, scenario, name) and low <= getattr(scenario, f"slo_{name}_ms") <= high:
            names.append(name)
    return "both" if len(names) > 1 else "".join(names)


def _is_near(point: dict[str, Any], scenario: Scenario, name: str) -> bool:
    reached, limit = point[f"slo_{name}_ms_reached"], getattr(scenario, f"slo_{name}_ms")
    return limit / NEAR < reached < limit * NEAR


def warnings(scenario: Scenario, point: dict[str, Any], rejected: int, run: Run | None) -> list[str]:
    """Return what a reader of the numbers must know, one sentence each."""
    notes = []
    if point["saturated"]:
        notes.append(
            "Saturated: requests arrive faster than they finish; latencies grow with the length of the run."
        )
    elif _is_unsteady(scenario, point):
        notes.append(
            "Not steady: the engine held more and more requests during the run. Raise `requests` to see "
            "whether it keeps up."
        )
    if rejected:
        limit = f" (at most {run.price.request_limit_tokens:,} tokens each)" if run is not None else ""
        notes.append(f"{rejected:,} requests can never fit{limit} and were rejected.")
    if 0 < point["ttft_ms_n"] < FEW_SAMPLES:
        notes.append(f"The p99 rests on only {point['ttft_ms_n']} requests. Raise `requests`.")
    if scenario.arrivals == "closed" and scenario.warmup_frac * scenario.requests < scenario.concurrency:
        needed = math.ceil(scenario.concurrency / max(scenario.warmup_frac, 0.1))
        also = " and `warmup_frac` to 0.1" if scenario.warmup_frac < 0.1 else ""
        notes.append(
            f"The start-up burst of {scenario.concurrency:,} clients lies in the statistics. "
            f"Raise `requests` to {needed:,}{also}."
        )
    if point["preemptions"] > PREEMPTED_FRAC * point["ttft_ms_n"]:
        notes.append(
            f"{point['preemptions']:,} preemptions: more requests were let in than the KV cache can hold. "
            "Lower `max_batch`, or give the KV cache more memory."
        )
    if scenario.max_running < scenario.max_batch:
        notes.append(f"token_budget limits the running sequences to {scenario.max_running:,}.")
    if scenario.policy == "static" and scenario.replicas > 1:
        notes.append("Static batches: requests are dealt to the replicas in turn.")
    return [*notes, *accelerator_of(scenario).warnings, *model_of(scenario).warnings]


def _is_unsteady(scenario: Scenario, point: dict[str, Any]) -> bool:
    """Return whether clearly fewer requests finished in the window than arrived in it (open loop)."""
    finished = point["request_per_s"] * point["window_s"]
    is_open = scenario.arrivals not in ("closed", "offline")
    return is_open and point["ttft_ms_n"] >= FEW_SAMPLES and finished < STEADY_FRAC * point["ttft_ms_n"]


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan
