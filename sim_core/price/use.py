"""Reading a price: shares of a run by part, utilisation, money and energy."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from sim_core.price.parts import Rates
from sim_core.price.price import Price


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
    counts = Rates(*(getattr(usage, name) for name in Rates._fields))
    seconds = price.ledger.total_s(usage.steps_by_tokens, usage.steps_by_rows, counts)
    return dict(zip(price.ledger.headings, seconds.tolist(), strict=True))


def utilisation(price: Price, usage: StepTotals, elapsed_s: float) -> tuple[float, float]:
    """Return the shares of peak FLOP/s and of memory bandwidth in use (MFU, MBU) over `elapsed_s`.

    Both count what the model needs, not what the engine happened to move. Where layers of different precision
    have different peaks, MFU is the share of time that the arithmetic takes at its peaks. NaN for a measured
    profile, whose device is not known.
    """
    if price.needs is None or elapsed_s <= 0:
        return math.nan, math.nan
    counts = Rates(*(getattr(usage, name) for name in Rates._fields))
    seconds = price.needs.total_s(usage.steps_by_tokens, usage.steps_by_rows, counts)
    mfu_frac, mbu_frac = (seconds / (elapsed_s * price.replicas)).tolist()
    return mfu_frac, mbu_frac


def usd_per_mtok(accelerators: int, price_usd_per_hour: float | None, output_tok_per_s: float) -> float:
    """Return the price of a million output tokens [USD], devices rented by the hour; nan without a price."""
    if not price_usd_per_hour or not output_tok_per_s > 0:
        return math.nan
    return accelerators * price_usd_per_hour / 3600 / output_tok_per_s * 1e6


def joule_per_tok(accelerators: int, tdp_w: float | None, output_tok_per_s: float) -> float:
    """Return the energy of one output token [J], an upper bound: every device at its rated power."""
    if not tdp_w or not output_tok_per_s > 0:
        return math.nan
    return accelerators * tdp_w / output_tok_per_s
