"""Rows to numbers: percentiles, throughput, goodput, what binds, and how sure a percentile is.

The definitions are the Method page's. Latencies are the client's; statistics leave out the warm-up, and
in a closed loop with one the drain after the last arrival.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from sim_core import __version__
from sim_core.engine.kernels.answers.records import Rows
from sim_core.engine.results import Run, RunsAtLoads
from sim_core.fields.errors import ScenarioError
from sim_core.price.use import either, joule_per_tok, ratio, usd_per_mtok
from sim_core.results.answers import LABELS, NO_GAPS, Answer, answer_of, answer_of_rows
from sim_core.results.classes import enter_classes
from sim_core.results.limits import binding, binding_all
from sim_core.results.text import metrics_of
from sim_core.results.use import cache_summary, cache_use, enter_use, pool_use
from sim_core.results.warnings import warnings
from sim_core.scenario.scenario import Scenario, accelerator_of

OCCUPIED = (
    *("kv_blocked_frac", "batch_blocked_frac", "budget_full_frac"),
    *("kv_used_frac", "prefill_frac", "idle_frac"),
)


def summarize(requests: pd.DataFrame, scenario: Scenario) -> dict[str, Any]:
    """Return the numbers of a run as one nested dictionary, the object of ``run --format json``.

    Parameters
    ----------
    requests : DataFrame
        What `simulate` returned. A table that has lost its run (read from a file, say) gives the
        latencies and rates; utilisation, shares, energy and token gaps are then NaN. So does a part of it.
    scenario : Scenario
        Its limits, warm-up, devices and prices apply.

    Raises
    ------
    ScenarioError
        If no request of the table finished, or a finished one lacks a time.
    """
    run = requests.attrs.get("run")
    if run is not None and run.arrival_s.size != requests.shape[0]:
        run = None
    finished = (requests["status"] == "finished").to_numpy()
    rows = Rows(*(requests[name].to_numpy()[finished] for name in Rows._fields))
    _check_times(rows)
    rejected = int(requests.shape[0] - finished.sum())
    gap_counts = NO_GAPS if run is None else run.engine.gap_counts
    whole = run is not None and run.whole
    answer = answer_of_rows(scenario, rows, rejected, gap_counts, whole=whole)
    point = measure(scenario, answer, run)
    return {
        "scenario": scenario.as_dict(),
        "requests": {
            "arrived": answer.served + rejected,
            "finished": answer.served,
            "rejected": rejected,
            "preemptions": int(requests["preemptions"].sum()),
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
            **{name: point[name] for name in OCCUPIED},
        },
        "cost": {"usd_per_mtok": point["usd_per_mtok"], "joule_per_tok": point["joule_per_tok"]},
        **({"pools": pool_use(run)} if run is not None and run.split else {}),
        **({"prefix_cache": found} if run is not None and (found := cache_summary(run)) else {}),
        "warnings": warnings(scenario, point, rejected, run, whole=answer.found.whole == 1),
        "version": __version__,
    }


def _check_times(rows: Rows) -> None:
    """Refuse rows from which no latency follows: a run never has them, a table that was edited may."""
    if not rows.arrival_s.size:
        raise ScenarioError("no request of the table finished: there is nothing to summarize.")
    for name in ("arrival_s", "first_token_s", "finished_s"):
        missing = np.flatnonzero(~np.isfinite(getattr(rows, name).astype(float)))
        if missing.size:
            raise ScenarioError(
                f"{name} of the finished request {missing[0]} (counted from 0) is no time. Fill it in, or "
                "mark the request as rejected."
            )


def point_of(run: Run, answer: Answer | None = None) -> dict[str, Any]:
    """Return the numbers of a run as one flat row, as `frontier` tabulates them."""
    return measure(run.scenario, answer or answer_of(run), run)


def measure(scenario: Scenario, answer: Answer, run: Run | None) -> dict[str, Any]:
    """Return all metrics of the finished requests of a run as one flat row."""
    point = figures_of(scenario, answer, run)
    if run is not None:
        enter_classes(point, run, answer.found)
    point["limit"] = binding(point)
    return point


def measure_all(runs: RunsAtLoads, answers: Answer) -> dict[str, list[Any]]:
    """Return the same of runs side by side, which have no classes: a column for each figure."""
    with np.errstate(divide="ignore", invalid="ignore"):  # of a run without a step; nobody asks for its row
        figures = figures_of(runs.scenario, answers, runs)
    count = len(runs.arrival_s)
    columns = {
        name: value.tolist() if isinstance(value, np.ndarray) else [value] * count
        for name, value in figures.items()
    }
    columns["limit"] = binding_all(columns)
    return columns


def figures_of(scenario: Scenario, answer: Answer, run: Run | RunsAtLoads | None) -> dict[str, Any]:
    """Return the metrics of a run but for those of classes; of runs side by side, each as an array."""
    point: dict[str, Any] = {}
    found = answer.found
    for name, count in (("ttft", found.used), ("tpot", found.many), ("e2e", found.used)):
        _latency(point, name, answer, ratio(answer.sums_ms[name], count), count)
    gaps = either(found.gaps_counted > 0, found.gaps_counted, found.gaps)
    _latency(point, "itl", answer, answer.itl_mean_ms, gaps)
    served_frac = answer.served / (answer.served + answer.rejected)
    point["slo_attainment_frac"] = ratio(found.met, found.used) * served_frac
    point["slo_ttft_ms_reached"] = found.slo_ttft_ms  # who is rejected waits for ever
    point["slo_tpot_ms_reached"] = found.slo_tpot_ms
    _rates(point, scenario, answer)
    enter_use(point, scenario, run)
    _energy(point, scenario)
    point.update(cache_use(run) if run is not None else {})
    point["preemptions"] = run.all_preemptions if run is not None else math.nan
    point["saturated"] = found.saturated == 1
    breaks = (found.slo_tpot_ms > scenario.slo_tpot_ms) | point["saturated"]
    point["meets_slo"] = either(breaks, False, found.slo_ttft_ms <= scenario.slo_ttft_ms)
    return point


def _latency(point: dict[str, Any], name: str, answer: Answer, mean_ms: float, count: int) -> None:
    """Enter mean, percentiles and sample count of a latency [ms]."""
    point[f"{name}_ms_mean"] = mean_ms
    for label, value_ms in zip(LABELS, answer.percentiles_ms[name], strict=True):
        point[f"{name}_ms{label}"] = value_ms
    point[f"{name}_ms_n"] = count


def _rates(point: dict[str, Any], scenario: Scenario, answer: Answer) -> None:
    """Enter throughput, request rate, goodput and cost."""
    devices = scenario.accelerators
    price_usd_per_hour = accelerator_of(scenario).price_usd_per_hour
    throughput = ratio(answer.found.tokens, answer.found.window_s)
    point["window_s"] = answer.found.window_s
    point["output_tok_per_s"] = throughput
    point["output_tok_per_s_per_accelerator"] = throughput / devices
    point["request_per_s"] = answer.request_per_s
    point["goodput_per_s"] = ratio(answer.found.good, answer.found.window_s)
    point["tok_per_s_per_user"] = ratio(1e3, point["tpot_ms_p50"])
    point["usd_per_mtok"] = usd_per_mtok(devices, price_usd_per_hour, throughput)
    point["joule_per_tok"] = math.nan  # of the power, which is known once it is known how the engine was used


def _energy(point: dict[str, Any], scenario: Scenario) -> None:
    """Enter the energy of a token at the mean power; nan where no run says it."""
    watts, rate = point["power_w_per_accelerator"], point["output_tok_per_s"]
    point["joule_per_tok"] = joule_per_tok(scenario.accelerators, watts, rate)
