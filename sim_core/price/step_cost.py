"""The price list that a scenario's steps are looked up in, and the price of sending a KV cache."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

TOKEN_BITS = 20
TOKEN = 1 << TOKEN_BITS  # the token clock counts in parts of a token, so that mean lengths add up exactly
PACE = np.dtype([("drafts", np.int64), ("advance", np.int64), ("context_scale", np.float64)], align=True)
PLAIN_PACE = np.array([(0, TOKEN, 1.0)], PACE)  # of decodes without drafts: a token each


NO_GROUP = np.zeros(1)


class StepCost(NamedTuple):
    """Price list of one engine step; every time in seconds, tables C-contiguous float64.

    `token_s[T]` prices the T new tokens of the step, `row_s[R]` the R rows it samples; the rest are
    coefficients of sums over the step: KV tokens read by decodes (`decode_context_s`, and
    `window_context_s` where each context counts at most `window_tokens`), query-key pairs of prompt
    chunks (`prefill_pair_s`, `window_pair_s`), prompts given a chunk, tokens swapped to or from the host.
    `prefill_step_s` is what a step takes more that has prompts, however many.

    `paces` says how decodes go on by how many there are, the last entry for all above: the tokens drafted for
    each and verified with its own, by how much the token clock advances in a step (in parts of a token,
    `TOKEN`), and how many times as much a context costs to read as `decode_context_s` says.

    Of an engine in stages these are the prices of one of them, and `end_s[R]` is the part of `row_s[R]` that
    the last one takes alone.

    Where ranks of attention share their experts, all that is above is of the rank with the most, and
    `group_s[T]` adds what the T new tokens of all ranks together take, beyond the table `group_slope_s` each.
    """

    token_s: np.ndarray
    row_s: np.ndarray
    token_slope_s: float
    decode_context_s: float
    window_context_s: float
    window_tokens: int
    prefill_pair_s: float
    window_pair_s: float
    prefill_request_s: float
    prefill_step_s: float
    swap_token_s: float
    paces: np.ndarray = PLAIN_PACE
    group_s: np.ndarray = NO_GROUP
    group_slope_s: float = 0.0
    end_s: np.ndarray = NO_GROUP


def pace_at(step: StepCost, decodes: int) -> np.void:
    """Return how so many decodes go on."""
    found: np.void = step.paces[min(decodes, step.paces.size - 1)]
    return found


class Going(NamedTuple):
    """How decodes go on, each an array over their numbers: tokens of a step, and those that each makes."""

    tokens: np.ndarray  # verified in a step, all decodes together
    made: np.ndarray  # by each decode
    context_scale: np.ndarray


def going(step: StepCost, decodes: np.ndarray) -> Going:
    """Return how so many decodes go on; numbers that are not whole go on as the next lower one."""
    rows = step.paces[np.minimum(np.asarray(decodes, float).astype(int), step.paces.size - 1)]
    return Going(decodes * (1 + rows["drafts"]), rows["advance"] / TOKEN, rows["context_scale"])


def tokens_s(step: StepCost, tokens: np.ndarray) -> np.ndarray:
    """Return what new tokens of a step take; whole numbers. [s]"""
    last = step.token_s.size - 1
    return step.token_s[np.minimum(tokens, last)] + step.token_slope_s * np.maximum(tokens - last, 0)


def group_tokens_s(step: StepCost, tokens: np.ndarray) -> np.ndarray:
    """Return what the new tokens of all ranks of a step take together; whole numbers. [s]"""
    last = step.group_s.size - 1
    return step.group_s[np.minimum(tokens, last)] + step.group_slope_s * np.maximum(tokens - last, 0)


# --- two pools: prefill workers, a link each, decode workers ----------------------------------------


class Transfer(NamedTuple):
    """What sending a prompt's KV cache to the decode pool takes.

    Without overlap a prompt of T tokens takes `token_s` x T after its step. Where layers are sent as they
    are done, only what the step could not hide remains: the last layer, or more where the link is slower.
    """

    token_s: float
    latency_s: float
    layers: int
    overlap: bool
