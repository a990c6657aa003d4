"""Rows to numbers: percentiles, throughput, goodput, what binds, and how sure a percentile is.

The definitions are the Method page's. Latencies are the client's; statistics leave out the warm-up, and
in a closed loop the drain after the last arrival.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from sim_core import __version__
from sim_core.engine.results import Run
from sim_core.price.use import joule_per_tok, usd_per_mtok
from sim_core.results.limits import binding
from sim_core.results.percentiles import LABELS, QUANTILES, gap_percentiles_ms, percentiles
from sim_core.results.text import metrics_of
from sim_core.results.use import enter_use, pool_use
from sim_core.results.warnings import warnings
from sim_core.results.window import Rows, Tally, Window, is_saturated, ratio, rows_of, tally_of, window_of
from sim_core.scenario.scenario import Scenario, accelerator_of


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
    return _summary(run.scenario, rows_of(run), int(run.rejected.sum()), preemptions, run)


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
        **({"pools": pool_use(run)} if run is not None and run.split else {}),
        "warnings": warnings(scenario, point, rejected, run),
        "version": __version__,
    }


def point_of(run: Run) -> dict[str, Any]:
    """Return the numbers of a run as one flat row, as `frontier` tabulates them."""
    return measure(run.scenario, rows_of(run), int(run.rejected.sum()), run)


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
    point["slo_attainment_frac"] = ratio(held.met, held.ttft_ms.size) * served_frac
    point["slo_ttft_ms_reached"] = slo_ttft_ms
    point["slo_tpot_ms_reached"] = slo_tpot_ms
    _rates(point, scenario, held, window)
    enter_use(point, scenario, run)
    point["preemptions"] = int(run.preemptions.sum()) if run is not None else math.nan
    point["saturated"] = is_saturated(scenario, held, window)
    within = slo_ttft_ms <= scenario.slo_ttft_ms and not slo_tpot_ms > scenario.slo_tpot_ms
    point["meets_slo"] = bool(within and not point["saturated"])
    point["limit"] = binding(point)
    return point


def _latency(point: dict[str, Any], name: str, values_ms: np.ndarray, extra: float | None = None) -> float:
    """Enter mean, percentiles and sample count of a latency [ms]; return the `extra` percentile.

    A percentile above 100 lies among requests that were never answered: infinity.
    """
    wanted = QUANTILES if extra is None else (*QUANTILES, extra)
    found = percentiles(values_ms, wanted)
    point[f"{name}_mean"] = ratio(np.add.reduce(values_ms), values_ms.size)
    for label, value in zip(LABELS, found, strict=False):
        point[name + label] = value
    point[f"{name}_n"] = int(values_ms.size)
    return math.inf if wanted[-1] > 100 else found[-1]


def _gap_latency(point: dict[str, Any], held: Tally, run: Run | None) -> None:
    """Enter the statistics of the gaps between tokens; percentiles from bins 1% wide."""
    counts = run.engine.gap_counts if run is not None else np.zeros(1, np.int64)
    (bins,) = (counts != 0).nonzero()  # of 7,000 bins, some hundreds are used
    cumulated = np.cumsum(counts[bins])
    decode_ms = np.add.reduce(held.e2e_ms) - np.add.reduce(held.ttft_ms)
    point["itl_ms_mean"] = ratio(decode_ms, held.gaps)
    for label, gap_ms in zip(LABELS, gap_percentiles_ms(bins, cumulated), strict=True):
        point["itl_ms" + label] = gap_ms
    point["itl_ms_n"] = int(cumulated[-1]) if bins.size else 0


def _rates(point: dict[str, Any], scenario: Scenario, held: Tally, window: Window) -> None:
    """Enter throughput, request rate, goodput, cost and energy."""
    window_s = window.end_s - window.start_s
    devices = scenario.accelerators
    accelerator = accelerator_of(scenario)
    throughput = ratio(held.tokens, window_s)
    point["window_s"] = window_s
    point["output_tok_per_s"] = throughput
    point["output_tok_per_s_per_accelerator"] = throughput / devices
    point["request_per_s"] = ratio(held.finished, window_s)
    point["goodput_per_s"] = ratio(held.good, window_s)
    point["tok_per_s_per_user"] = ratio(1e3, point["tpot_ms_p50"])
    point["usd_per_mtok"] = usd_per_mtok(devices, accelerator.price_usd_per_hour, throughput)
    point["joule_per_tok"] = joule_per_tok(devices, accelerator.tdp_w, throughput)
