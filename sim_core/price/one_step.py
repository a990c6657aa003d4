"""One step by part: what its tokens, rows and contexts cost, and what they need at least."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sim_core.price.parts import Rates
from sim_core.price.price import NEEDS, Ledger, Price
from sim_core.price.step_cost import StepCost


def step_parts(
    price: Price, decode_batch: int, context: float, prefill_tokens: int = 0, prefill_start: int = 0
) -> dict[str, float]:
    """Return the seconds of one step by part.

    Parameters
    ----------
    decode_batch : int
        Sequences that decode.
    context : float
        Tokens each of them has in its KV cache before the step.
    prefill_tokens, prefill_start : int
        One prompt's chunk in the step, taken as its last, and the position it starts at.
    """
    return _one_step(price.ledger, price.step, decode_batch, context, prefill_tokens, prefill_start)


def step_needs(
    price: Price, decode_batch: int, context: float, prefill_tokens: int = 0, prefill_start: int = 0
) -> dict[str, float]:
    """Return the seconds that one step's FLOP and bytes take at peak rates; see `step_parts`."""
    if price.needs is None:
        return dict.fromkeys(NEEDS, math.nan)
    return _one_step(price.needs, price.step, decode_batch, context, prefill_tokens, prefill_start)


def _one_step(
    ledger: Ledger, step: StepCost, decodes: int, context: float, chunk: int, start: int
) -> dict[str, float]:
    prompts = 1 if chunk else 0
    tokens, rows = decodes + chunk, decodes + prompts
    last = ledger.token_s.shape[1] - 1
    counts = Rates(
        extra_tokens=max(tokens - last, 0),
        context_tokens=decodes * context,
        window_tokens=decodes * min(context, step.window_tokens),
        prefill_pairs=chunk * (start + chunk / 2),
        window_pairs=window_pairs(start, start + chunk, step.window_tokens),
        prefill_requests=prompts,
        swapped_tokens=0,
    )
    seconds = ledger.token_s[:, min(tokens, last)] + ledger.row_s[:, min(rows, ledger.row_s.shape[1] - 1)]
    seconds = seconds + ledger.rate_s @ np.asarray(counts, dtype=float)
    return dict(zip(ledger.headings, seconds.tolist(), strict=True))


def window_pairs(start: Any, end: Any, window: Any) -> Any:
    """Return the query-key pairs of a chunk that sees at most a window: min(x, window) from start to end.

    Of numbers, or of arrays that broadcast.
    """

    def below(x: Any) -> Any:
        inside = np.minimum(x, window)
        return inside * inside / 2 + (x - inside) * window

    return below(end) - below(start)
