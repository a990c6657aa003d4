"""Reading a price: shares of a run by part, utilisation, money and energy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar

import numpy as np

from sim_core.catalogue.accelerators import Accelerator
from sim_core.price.parts import Ledger, Rates
from sim_core.price.price import Price

Value = TypeVar("Value")

# Shares of the rated power that a device draws. Idle: nvidia-smi shows 73 to 120 W of 700 on H200, 132 to 198
# of 1,000 on B200, 162 to 181 of 1,200 on GB200. At work, by what sets the pace: fitted to 17 measured means
# of InferenceX (DeepSeek-R1 on MI355X, H200 and H100; 8% mean error), arithmetic held at the rated power.
# Decodes that saturate memory draw 0.2 to 0.43 on H200 (Ma, Afzal, Eitzinger, Wellein, "The illusion of power
# capping in LLM decode", 2026), 0.43 to 0.86 on H100 (ML.ENERGY benchmark, batches of 1 to 128).
IDLE_POWER_FRAC = 0.14
WAITING_POWER_FRAC, MEMORY_POWER_FRAC = 0.35, 0.55
POWER_FRAC = MappingProxyType(
    {
        "weights": MEMORY_POWER_FRAC,
        "kv": MEMORY_POWER_FRAC,
        "compute": 1.0,
        "communication": WAITING_POWER_FRAC,
        "all_to_all": WAITING_POWER_FRAC,
        "fixed": WAITING_POWER_FRAC,
        "lockstep": WAITING_POWER_FRAC,
        "bubbles": WAITING_POWER_FRAC,
        "measured": 1.0,  # what binds is not known: the rated power, an upper bound
    }
)


# What follows is of one run; of several side by side, each figure is an array with one entry a run.


def ratio(part: float | np.ndarray, whole: float) -> float:
    """Return a part of a whole; NaN of nothing."""
    if isinstance(whole, np.ndarray):
        return np.divide(part, whole, out=np.full(whole.shape, math.nan), where=whole > 0)
    return float(part / whole) if whole > 0 else math.nan


def at_least(value: float, least: float) -> float:
    """Return a value, or the least that it may be."""
    return np.maximum(value, least) if isinstance(value, np.ndarray) else max(value, least)


def at_most(value: float, most: float) -> float:
    """Return a value, or the most that it may be."""
    return np.minimum(value, most) if isinstance(value, np.ndarray) else min(value, most)


def either(which: bool, one: Value, other: Value) -> Value:
    """Return one value where something holds, else the other."""
    if isinstance(which, np.ndarray):
        return np.where(which, one, other)
    return one if which else other


class StepTotals(Protocol):
    """What steps add up to: how many there are of each size, and a total under each name of `Rates`."""

    @property
    def steps_by_tokens(self) -> np.ndarray: ...

    @property
    def steps_by_rows(self) -> np.ndarray: ...


def shares(price: Price, usage: StepTotals) -> dict[str, float]:
    """Return the busy seconds of a run by part; they add up to the run's busy time.

    Parameters
    ----------
    usage : StepTotals
        Histograms of steps over tokens and rows, and totals of the linear terms.
    """
    return dict(zip(price.ledger.headings, _total_s(price.ledger, usage), strict=True))


def _total_s(ledger: Ledger, usage: StepTotals) -> list[float]:
    """Return the seconds of a run under each heading, those of what ranks share among them."""
    counts = Rates(*(getattr(usage, name) for name in Rates._fields))
    total_s = ledger.total_s(usage.steps_by_tokens, usage.steps_by_rows, counts)
    together = getattr(usage, "steps_by_group_tokens", None)  # of totals of one rank there are none
    if together is not None and ledger.group_s.shape[1] > 1:
        total_s = total_s + ledger.group_total_s(together, getattr(usage, "group_extra_tokens", 0))
    return total_s.tolist() if total_s.ndim == 1 else list(total_s)


def utilisation(price: Price, usage: StepTotals, elapsed_s: float) -> tuple[float, float]:
    """Return the shares of peak FLOP/s and of memory bandwidth in use (MFU, MBU) over `elapsed_s`.

    Both count what the model needs, not what the engine happened to move. Where layers of different precision
    have different peaks, MFU is the share of time that the arithmetic takes at its peaks. NaN for a measured
    profile, whose device is not known.
    """
    if price.needs is None or np.all(elapsed_s <= 0):
        return math.nan, math.nan
    mfu_frac, mbu_frac = (each_s / (elapsed_s * price.replicas) for each_s in _total_s(price.needs, usage))
    return mfu_frac, mbu_frac


def usd_per_mtok(accelerators: int, price_usd_per_hour: float | None, output_tok_per_s: float) -> float:
    """Return the price of a million output tokens [USD], devices rented by the hour; nan without a price."""
    if not price_usd_per_hour:
        return math.nan
    return ratio(accelerators * price_usd_per_hour / 3600, output_tok_per_s) * 1e6


def mean_power_w(part: Accelerator, spent_s: Mapping[str, float], elapsed_s: float) -> float:
    """Return the mean power of one device [W]; nan where its rated power is not known.

    Parameters
    ----------
    spent_s : mapping
        Busy seconds by part, as `shares` returns them; the rest of `elapsed_s` the device is idle.
    """
    if not part.tdp_w:
        return math.nan
    idle_w = min(part.idle_w or IDLE_POWER_FRAC * part.tdp_w, part.tdp_w)
    busy_s = sum(spent_s.values())
    idle_s = at_least(elapsed_s - busy_s, 0.0)
    busy_j = part.tdp_w * sum(POWER_FRAC[name] * seconds for name, seconds in spent_s.items())
    all_s = idle_s + busy_s
    return either(all_s > 0, ratio(idle_w * idle_s + busy_j, all_s), idle_w)


def joule_per_tok(accelerators: int, power_w: float | None, output_tok_per_s: float) -> float:
    """Return the energy of one output token [J], every device at a mean power; nan where none is known."""
    return math.nan if power_w is None else ratio(accelerators * power_w, output_tok_per_s)
