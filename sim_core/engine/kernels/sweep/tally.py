"""From the times of requests to latencies, and to what a window of time holds."""

from __future__ import annotations

from sim_core.engine.compiling import Entry, inlined


@inlined
def tokens_until(first_token_s, finished_s, output_tokens, time_s):
    """Return the tokens of a request made by a time; they lie evenly from its first to its last."""
    if time_s < first_token_s:
        return 0.0
    if time_s >= finished_s:
        return float(output_tokens)
    return 1.0 + (output_tokens - 1) * (time_s - first_token_s) / (finished_s - first_token_s)


@Entry
def tally(
    arrival_s,
    output_tokens,
    first_token_s,
    finished_s,
    first,
    last,
    start_s,
    end_s,
    slo_ttft_ms,
    slo_tpot_ms,
    ttft_ms,
    tpot_ms,
    e2e_ms,
):
    """Write the latencies of the requests from `first` to `last`; count what the time of the window holds.

    Return the entries of `tpot_ms`, the gaps, the requests within both limits; and what the time holds:
    requests finished, those of them within both limits, and tokens made.
    """
    many = gaps = met = finished = good = 0
    tokens = 0.0
    for i in range(arrival_s.size):
        ttft = (first_token_s[i] - arrival_s[i]) * 1e3
        within = ttft <= slo_ttft_ms
        tpot = 0.0
        if output_tokens[i] > 1:
            tpot = (finished_s[i] - first_token_s[i]) * 1e3 / (output_tokens[i] - 1)
            within = within and tpot <= slo_tpot_ms
        inside = start_s < finished_s[i] <= end_s
        finished += inside
        good += inside and within
        tokens += tokens_until(first_token_s[i], finished_s[i], output_tokens[i], end_s)
        tokens -= tokens_until(first_token_s[i], finished_s[i], output_tokens[i], start_s)
        if first <= i < last:
            ttft_ms[i - first] = ttft
            e2e_ms[i - first] = (finished_s[i] - arrival_s[i]) * 1e3
            met += within
            if output_tokens[i] > 1:
                tpot_ms[many] = tpot
                gaps += output_tokens[i] - 1
                many += 1
    return many, gaps, met, finished, good, tokens
