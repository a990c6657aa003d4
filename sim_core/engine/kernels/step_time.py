"""The time of a step, looked up and summed: the only arithmetic on a `StepCost`."""

from __future__ import annotations

import math

from sim_core.engine.compiling import inlined


@inlined
def token_time_s(cost, tokens):
    """Return the time that grows with the new tokens of a step [s]."""
    last = cost.token_s.size - 1
    if tokens <= last:
        return cost.token_s[tokens]
    return cost.token_s[last] + cost.token_slope_s * (tokens - last)


@inlined
def group_time_s(cost, tokens):
    """Return what the new tokens of all ranks together take beside the rank with the most [s]."""
    last = cost.group_s.size - 1
    if tokens <= last:
        return cost.group_s[tokens]
    return cost.group_s[last] + cost.group_slope_s * (tokens - last)


@inlined
def decode_time_s(cost, tokens, decodes, context, window):
    """Return the time of a step of decodes alone [s]; they take more tokens than one each with drafts."""
    return (
        token_time_s(cost, tokens)
        + cost.row_s[decodes]
        + cost.decode_context_s * context
        + cost.window_context_s * window
    )


@inlined
def planned_time_s(s, cost):
    """Return the time of the planned step [s]: decodes, prompt chunks and swaps together."""
    return (
        token_time_s(cost, s.tokens)
        + cost.row_s[s.rows]
        + cost.decode_context_s * s.step_context
        + cost.window_context_s * s.step_window
        + cost.prefill_pair_s * s.step_pairs
        + cost.window_pair_s * s.step_window_pairs
        + cost.prefill_request_s * s.prompts
        + (cost.prefill_step_s if s.prompts > 0 else 0.0)
        + cost.swap_token_s * s.swapped
    )


@inlined
def attention_s(s, cost):
    """Return what the planned step's contexts and pairs take [s]."""
    return (
        cost.decode_context_s * s.step_context
        + cost.window_context_s * s.step_window
        + cost.prefill_pair_s * s.step_pairs
        + cost.window_pair_s * s.step_window_pairs
    )


@inlined
def series_s(first_s, growth_s, count):
    """Return the sum of `count` step times that start at `first_s` and grow by `growth_s` a step."""
    return count * first_s + growth_s * (count * (count - 1) // 2)


@inlined
def steps_until(first_s, growth_s, wait_s, limit):
    """Return the fewest steps of the series that take at least `wait_s`, at most `limit`."""
    if series_s(first_s, growth_s, limit) < wait_s:
        return limit
    half = 0.5 * growth_s
    slope = first_s - half
    if half > 0.0:
        count = int((math.sqrt(slope * slope + 4.0 * half * wait_s) - slope) / (2.0 * half))
    else:
        count = int(wait_s / first_s)
    count = min(max(count, 1), limit)
    while count > 1 and series_s(first_s, growth_s, count - 1) >= wait_s:
        count -= 1
    while count < limit and series_s(first_s, growth_s, count) < wait_s:
        count += 1
    return count


@inlined
def pairs_between(start, end):
    """Return the query-key pairs of the prompt tokens from `start` to `end`: (end^2 - start^2) / 2."""
    return 0.5 * float((end - start) * (end + start))


@inlined
def window_pairs_between(start, end, window):
    """Return the same pairs where no query looks back further than `window` tokens."""
    inside = min(max(window, start), end)
    return pairs_between(start, inside) + float(window) * float(end - inside)
