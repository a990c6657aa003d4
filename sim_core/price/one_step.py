"""One step by part: what its tokens, rows and contexts cost, and what they need at least."""

from __future__ import annotations

import numpy as np

from sim_core.catalogue.kernels import Amount
from sim_core.price.parts import Rates
from sim_core.price.price import Price
from sim_core.price.step_cost import pace_at


def step_parts(
    price: Price, decode_batch: int, context: float, prefill_tokens: int = 0, prefill_start: int = 0
) -> dict[str, float]:
    """Return the seconds of one step by part.

    Parameters
    ----------
    decode_batch : int
        Sequences that decode, with the drafts that so many have.
    context : float
        Tokens each of them has in its KV cache before the step.
    prefill_tokens, prefill_start : int
        One prompt's chunk in the step, taken as its last, and the position it starts at.
    """
    ledger, window = price.ledger, price.step.window_tokens
    prompts = 1 if prefill_tokens else 0
    pace = pace_at(price.step, decode_batch)
    tokens = decode_batch * (1 + int(pace["drafts"])) + prefill_tokens
    rows, scale = decode_batch + prompts, float(pace["context_scale"])
    last = ledger.token_s.shape[1] - 1
    counts = Rates(
        extra_tokens=max(tokens - last, 0),
        context_tokens=decode_batch * context * scale,
        window_tokens=decode_batch * min(context, window) * scale,
        prefill_pairs=prefill_tokens * (prefill_start + prefill_tokens / 2),
        window_pairs=window_pairs(prefill_start, prefill_start + prefill_tokens, window),
        prefill_requests=prompts,
        swapped_tokens=0,
    )
    seconds = ledger.token_s[:, min(tokens, last)] + ledger.row_s[:, min(rows, ledger.row_s.shape[1] - 1)]
    seconds = seconds + ledger.rate_s @ np.asarray(counts, dtype=float)
    return dict(zip(ledger.headings, seconds.tolist(), strict=True))


def window_pairs(start: Amount, end: Amount, window: Amount) -> Amount:
    """Return the query-key pairs of a chunk that sees at most a window: min(x, window) from start to end.

    Of numbers, or of arrays that broadcast.
    """

    def below(x: Amount) -> Amount:
        inside = np.minimum(x, window)
        return inside * inside / 2 + (x - inside) * window

    return below(end) - below(start)
