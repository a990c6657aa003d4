"""The table of the Frontier page: its columns, which of them are shown, and the order of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sim_core.view.drawing.figures import Row, X, Y

COLUMNS = {
    X: "tok/s/user",
    Y: "tok/s per acc.",
    "ttft_ms_p50": "TTFT p50 [ms]",
    "ttft_ms_p99": "TTFT p99 [ms]",
    "tpot_ms_p50": "TPOT p50 [ms]",
    "tpot_ms_p99": "TPOT p99 [ms]",
    "itl_ms_p99": "ITL p99 [ms]",
    "e2e_ms_p50": "E2E p50 [ms]",
    "e2e_ms_p99": "E2E p99 [ms]",
    "output_tok_per_s": "tok/s in all",
    "request_per_s": "Requests/s",
    "goodput_per_s": "Goodput [req/s]",
    "slo_attainment_frac": "Share within limits",
    "mean_batch": "Mean batch",
    "mfu_frac": "MFU",
    "mbu_frac": "MBU",
    "usd_per_mtok": "USD/Mtok",
    "joule_per_tok": "J/tok",
    "limit": "Limited by",
    "meets_slo": "Within limits",
    "saturated": "Overloaded",
    "badge": "Badge",
    "reason": "Why not",
}
HELP = {  # of headings that no term of the glossary explains
    "tok/s per acc.": "Tokens of all answers in a second, over all accelerators in use.",
    "tok/s in all": "Tokens of all answers in a second.",
    "Requests/s": "Requests that are answered in a second.",
    "Share within limits": "The share of requests that keep the limits on TTFT and TPOT, both.",
    "Mean batch": "Requests that are written at the same time, on average over the run.",
    "Limited by": "What takes most of the time, or keeps requests waiting.",
    "Within limits": "Whether the percentile of TTFT and of TPOT that the limits name keeps them.",
    "Overloaded": "Whether requests come faster than they are answered: queues then grow with the run.",
    "Badge": "How far predictions of such a system were tested against measurements.",
    "Why not": "Why a point cannot run.",
}
USUAL = (
    *(X, Y, "ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "tpot_ms_p99", "goodput_per_s", "mean_batch"),
    *("usd_per_mtok", "joule_per_tok", "limit", "meets_slo", "saturated", "badge", "reason"),
)


def chosen_columns(text: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the columns that a text such as `ttft_ms_p99,usd_per_mtok` names, and names that are none.

    They stand in the order of `COLUMNS`; a text without any means the usual ones.
    """
    asked = dict.fromkeys(name for name in text.split(",") if name)
    known = tuple(name for name in COLUMNS if name in asked)
    return known or USUAL, [name for name in asked if name not in COLUMNS]


def columns_text(names: Iterable[str]) -> str:
    """Return columns as the text that `chosen_columns` reads; the usual ones are an empty one."""
    chosen = set(names)
    known = tuple(name for name in COLUMNS if name in chosen)
    return "" if set(known) == set(USUAL) else ",".join(known)


def best_first(rows: Iterable[Row]) -> list[Row]:
    """Return rows as one chooses among them: within the limits first, most throughput first, then the rest.

    What cannot run comes last.
    """
    return sorted(rows, key=lambda row: (not row["feasible"], not row["meets_slo"], -_throughput(row)))


def _throughput(row: Row) -> float:
    value = row.get(Y)
    return value if value is not None and value == value else 0.0  # a row that does not run has nan


def with_best(rows: Sequence[Row], best: Row | None) -> list[Row]:
    """Return the rows, ranked, with the best point first: it lies between those of the grid, or is one."""
    others = [row for row in rows if row is not best]
    return [*([best] if best else []), *best_first(others)]
