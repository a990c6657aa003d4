"""From the times of requests to an answer: the window, latencies and their percentiles, the limits."""

from __future__ import annotations

import math

from sim_core.engine.compiling import Entry, inlined, inner, written_in
from sim_core.engine.kernels.answers.gap_percentiles import gap_percentiles
from sim_core.engine.kernels.answers.growth import queue_grows
from sim_core.engine.kernels.answers.records import Rows, Work
from sim_core.engine.kernels.answers.select import BLOCKS, band, percentiles
from sim_core.engine.kernels.records import ONE, ZERO

NEAR = 1.5  # further from a limit than this factor, no interval reaches it


@inner
def set_window(answer, rows):
    """Enter which requests and which time the statistics use.

    Those that are entered already, from the first of them to the last arrival; where there are none, or that
    is no time, everything.
    """
    answer.start_s = rows.arrival_s[answer.first]
    answer.end_s = rows.arrival_s[0]
    for i in range(rows.arrival_s.size):
        answer.end_s = max(answer.end_s, rows.arrival_s[i])
    if answer.last <= answer.first or not answer.end_s > answer.start_s:
        answer.whole = ONE if answer.last > answer.first else ZERO
        use_everything(answer, rows)


@inner
def use_everything(answer, rows):
    """Enter all requests, and the time from the first arrival to the last token."""
    count = rows.arrival_s.size
    answer.first = 0
    answer.last = count
    answer.start_s = rows.arrival_s[0]
    answer.end_s = -math.inf
    for i in range(count):
        answer.start_s = min(answer.start_s, rows.arrival_s[i])
        answer.end_s = max(answer.end_s, rows.finished_s[i])


@inlined
def tokens_until(first_token_s, finished_s, output_tokens, time_s):
    """Return the tokens of a request made by a time; they lie evenly from its first to its last."""
    if time_s < first_token_s:
        return 0.0
    if time_s >= finished_s:
        return float(output_tokens)
    return 1.0 + (output_tokens - 1) * (time_s - first_token_s) / (finished_s - first_token_s)


@inner
def tally(answer, asked, rows, work):
    """Write the latencies of the window's requests; enter what the window and its time hold.

    Of the time: requests finished, those of them within both limits (`good`), and tokens made. Of the
    requests: those within both limits (`met`), those of more than one token, and the gaps between these.
    """
    start_s, end_s = answer.start_s, answer.end_s
    many = gaps = met = finished = good = ZERO
    tokens = 0.0
    for i in range(rows.arrival_s.size):
        output, first_s, last_s = rows.output_tokens[i], rows.first_token_s[i], rows.finished_s[i]
        ttft = (first_s - rows.arrival_s[i]) * 1e3
        within = ttft <= asked.slo_ttft_ms
        tpot = 0.0
        if output > 1:
            tpot = (last_s - first_s) * 1e3 / (output - 1)
            within = within and tpot <= asked.slo_tpot_ms
        inside = start_s < last_s <= end_s
        finished += inside
        good += inside and within
        tokens += tokens_until(first_s, last_s, output, end_s)
        tokens -= tokens_until(first_s, last_s, output, start_s)
        if answer.first <= i < answer.last:
            work.ttft_ms[i - answer.first] = ttft
            work.e2e_ms[i - answer.first] = (last_s - rows.arrival_s[i]) * 1e3
            met += within
            if output > 1:
                work.tpot_ms[many] = tpot
                gaps += output - 1
                many += 1
    answer.many = many
    answer.gaps = gaps
    answer.met = met
    answer.finished = finished
    answer.good = good
    answer.tokens = tokens


@inner
def is_too_short(answer, work):
    """Return whether a window is shorter than an answer takes on average, or no request finishes in it.

    Its rates would be of other requests than its latencies.
    """
    used, making_ms = answer.last - answer.first, 0.0
    for i in range(used):
        making_ms += work.e2e_ms[i] - work.ttft_ms[i]
    return answer.finished == 0 or (answer.end_s - answer.start_s) * 1e3 < making_ms / used


@inner
def is_saturated(answer, asked, rows, work):
    """Return whether requests arrive faster than they finish, and wait longer and longer (open loop)."""
    arrived = answer.last - answer.first
    if not asked.open or arrived < BLOCKS or answer.finished >= arrived:
        return False
    return queue_grows(rows.arrival_s[answer.first :], arrived, work)


@inlined
def is_near(reached, limit):
    return limit / NEAR < reached < limit * NEAR


@inner
def is_at_limit(values_ms, count, reached, limit, quantile, work):
    """Return 1 where a limit lies inside the 95% interval of the percentile held against it, else 0."""
    if not is_near(reached, limit):
        return ZERO
    low, high = band(values_ms, count, quantile, work)
    return ONE if low <= limit <= high else ZERO


@written_in
def enter_bands(answer, used, many, work):
    """Enter the 95% intervals of the p99 of TTFT and TPOT."""
    answer.ttft_p99_low_ms, answer.ttft_p99_high_ms = band(work.ttft_ms, used, 99.0, work)
    answer.tpot_p99_low_ms, answer.tpot_p99_high_ms = band(work.tpot_ms, many, 99.0, work)


@written_in
def enter_limits(answer, asked, used, many, work):
    """Enter whether a limit lies in the interval of what is reached at its percentile."""
    quantile, ttft_ms, tpot_ms = asked.slo_percentile, answer.slo_ttft_ms, answer.slo_tpot_ms
    answer.at_ttft = is_at_limit(work.ttft_ms, used, ttft_ms, asked.slo_ttft_ms, quantile, work)
    answer.at_tpot = is_at_limit(work.tpot_ms, many, tpot_ms, asked.slo_tpot_ms, quantile, work)


@written_in
def describe_run(answer, asked, rows, gap_counts, quantiles, percentiles_ms, work):
    """Enter what the times of the served requests of one run say."""
    set_window(answer, rows)
    tally(answer, asked, rows, work)
    answer.saturated = ONE if is_saturated(answer, asked, rows, work) else ZERO
    if asked.whole or is_too_short(answer, work):
        answer.whole = ONE
        use_everything(answer, rows)
        tally(answer, asked, rows, work)
    used, many = answer.last - answer.first, answer.many
    percentiles(work.ttft_ms, used, quantiles, percentiles_ms[0], work)
    percentiles(work.tpot_ms, many, quantiles, percentiles_ms[1], work)
    percentiles(work.e2e_ms, used, quantiles, percentiles_ms[2], work)
    answer.gaps_counted, answer.gaps_mean_ms = gap_percentiles(gap_counts, quantiles[:-1], percentiles_ms[3])
    answer.slo_ttft_ms = math.inf if quantiles[-1] > 100 else percentiles_ms[0, -1]
    answer.slo_tpot_ms = math.inf if quantiles[-1] > 100 else percentiles_ms[1, -1]
    enter_limits(answer, asked, used, many, work)
    if asked.banded:
        enter_bands(answer, used, many, work)


@Entry
def describe_runs(answers, asked, rows, gap_counts, quantiles, percentiles_ms, work):
    """Enter all that the times of the served requests say, and the percentiles of each of `LATENCIES`.

    All runs have the same requests, at times of their own. Their answers come with the range of the requests
    that statistics are to use, an empty one for all.

    The last of the quantiles is the one that must keep the limits, of the served requests alone: above 100 it
    lies among those that were rejected and wait for ever. Gaps have no limit.
    """
    for run in range(answers.size):
        own_rows = Rows(
            rows.arrival_s[run], rows.output_tokens, rows.first_token_s[run], rows.finished_s[run]
        )
        own_work = Work(
            work.ttft_ms[run], work.tpot_ms[run], work.e2e_ms[run], work.chosen, work.places, work.bins
        )
        found_ms = percentiles_ms[run]
        describe_run(answers[run], asked, own_rows, gap_counts[run], quantiles, found_ms, own_work)
