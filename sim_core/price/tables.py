"""Tables of the time of a step, by part, over its tokens and over the sequences it samples; and of needs.

Prices are looked up in them. Those over tokens do not depend on how many sequences there may be, on memory or
on the number of drafts, so one table serves many prices: the longest that was asked for is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.calibrations import Constants
from sim_core.catalogue.kernels import Amount
from sim_core.catalogue.models import Model
from sim_core.price.kernels import kernels_of
from sim_core.price.parts import (
    Rates,
    Terms,
    end_parts,
    group_parts,
    group_rate_parts,
    parts_of,
    rate_parts,
    stage_row_parts,
    terms,
    token_parts,
)
from sim_core.price.speculation import (
    Drafting,
    Speculation,
    added,
    draft_rate_parts,
    draft_row_parts,
    draft_terms,
    draft_token_parts,
)
from sim_core.price.work import Drafter, Layout, Work, work

NEEDS = ("compute", "memory")
TABLE_TOKENS_MAX = 32_768


class Tables(NamedTuple):
    """The tables that do not depend on `max_batch`, on memory or on how many drafts there are."""

    names: tuple[str, ...]  # of the parts
    terms: Terms
    drafting: Drafting | None  # of a pass of the layer that drafts, if one does
    token_s: np.ndarray
    token_parts_s: np.ndarray
    token_needs_s: np.ndarray
    group: _Group


class LongestTables:
    """The longest tables of a layout that were asked for; shorter ones are their beginnings."""

    def __init__(self, priced_from: Terms, drafting: Drafting | None) -> None:
        self._terms = priced_from, drafting
        self._tables: Tables | None = None

    def up_to(self, length: int) -> Tables:
        """Return the tables up to so many tokens."""
        whole = self._tables
        if whole is None or len(whole.token_s) <= length:
            self._tables = whole = _tables(*self._terms, length)
        return _begun(whole, length)


@lru_cache(maxsize=64)
def longest_tables(
    model: Model,
    accelerator: Accelerator,
    layout: Layout,
    method: tuple[Constants, bool],
    drafter: Drafter | None,
) -> LongestTables:
    """Return the tables of a layout, made as far as they are asked for.

    `method` holds the constants, and whether compute and memory time are joined smoothly.
    """
    priced_from = terms(work(model, accelerator, layout), kernels_of(model, accelerator, layout), *method)
    drafting = draft_terms(model, accelerator, layout, drafter, priced_from) if drafter else None
    return LongestTables(priced_from, drafting)


def _begun(whole: Tables, length: int) -> Tables:
    """Return the beginning of some tables."""
    last, (parts_s, slope_s), (needs_s, more_s) = length + 1, *whole.group
    shared = _group_length(whole.terms.work.ranks, length) + 1
    return whole._replace(
        token_s=whole.token_s[:last],
        token_parts_s=whole.token_parts_s[:, :last],
        token_needs_s=whole.token_needs_s[:, :last],
        group=_Group((parts_s[:, :shared], slope_s), (needs_s[:, :shared], more_s)),
    )


def _tables(priced_from: Terms, drafting: Drafting | None, length: int) -> Tables:
    load = priced_from.work
    tokens = np.arange(1, length + 1, dtype=float)
    names = parts_of(int(load.ranks))
    parts_s = _in_parts(names, length, token_parts(priced_from, tokens), draft_token_parts(drafting, tokens))
    needs_s = np.zeros((len(NEEDS), length + 1))
    own = load if load.ranks == 1 else load._replace(expert_compute_s=0.0, expert_read_s=0.0)
    needs_s[0, 1:] = (
        own.dense_compute_s + own.expert_compute_s + own.state_compute_s + own.kept_compute_s
    ) * tokens
    needs_s[1, 1:] = (
        own.dense_read_s + own.kept_read_s - own.expert_read_s * np.expm1(tokens * own.expert_miss_log)
    )
    return Tables(
        names,
        priced_from,
        drafting,
        parts_s.sum(axis=0),
        parts_s,
        needs_s,
        _group_tables(names, priced_from, drafting, length),
    )


class _Group(NamedTuple):
    """What all ranks share, over their tokens together: tables, and slopes beyond them."""

    parts: tuple[np.ndarray, np.ndarray]
    needs: tuple[np.ndarray, np.ndarray]


def _group_length(ranks: float, length: int) -> int:
    """Return the last entry of the table over the tokens of all ranks; there is none over those of one."""
    return 0 if ranks == 1 else int(min(ranks * length, TABLE_TOKENS_MAX))


def _group_tables(
    names: tuple[str, ...], priced_from: Terms, drafting: Drafting | None, length: int
) -> _Group:
    """Return time by part, and needed time, over the tokens of all ranks; nothing where there is one."""
    load = priced_from.work
    if load.ranks == 1:
        parts, needs = ((np.zeros((len(rows), 1)), np.zeros(len(rows))) for rows in (names, NEEDS))
        return _Group(parts, needs)
    length = _group_length(load.ranks, length)
    tokens = np.arange(1, length + 1, dtype=float)
    both = (priced_from, drafting.terms) if drafting and drafting.takes_tokens else (priced_from,)
    parts_s = _in_parts(names, length, *(group_parts(each, tokens) for each in both))
    slope_s = sum(np.array([float(group_rate_parts(each).get(part, 0.0)) for part in names]) for each in both)
    needs_s = np.zeros((len(NEEDS), length + 1))
    needs_s[0, 1:] = load.expert_compute_s * tokens
    needs_s[1, 1:] = -load.expert_read_s * np.expm1(tokens * load.expert_miss_log)
    return _Group((parts_s, np.asarray(slope_s)), (needs_s, np.array([load.expert_compute_s, 0.0])))


def _in_parts(names: tuple[str, ...], last: int, *prices: Mapping[str, Amount]) -> np.ndarray:
    """Return the sum of times by part as a table, nothing at 0. [s]"""
    parts_s = np.zeros((len(names), last + 1))
    for price in prices:
        for place, name in enumerate(names):
            parts_s[place, 1:] += price.get(name, 0.0)
    return parts_s


class RowTables(NamedTuple):
    """Tables over sampled sequences 0..max_batch; what the last of several stages does of them alone. [s]"""

    parts: np.ndarray
    needs: np.ndarray
    end_parts: np.ndarray
    end_needs: np.ndarray


def row_tables(tables: Tables, max_batch: int, speculation: Speculation | None) -> RowTables:
    """Return time by part, and needed time, over sampled sequences."""
    load, rows = tables.terms.work, np.arange(1, max_batch + 1, dtype=float)
    drafts = speculation.drafts_at(rows) if speculation else np.zeros(1)
    last = end_parts(tables.terms, rows, drafts)
    prices: list[Mapping[str, Amount]] = [stage_row_parts(tables.terms, rows, drafts), last]
    if speculation:
        draft = speculation.drafter.draft
        prices.append(draft_row_parts(tables.drafting, tables.terms, draft, rows, drafts))
    parts_s = _in_parts(tables.names, max_batch, *prices)
    end_s = _in_parts(tables.names, max_batch, last)  # engines in stages have no drafts
    ends_s = np.zeros((len(NEEDS), max_batch + 1))
    ends_s[0, 1:], ends_s[1, 1:] = load.head_compute_s * rows * (1 + drafts), load.head_read_s
    needs_s = ends_s.copy()
    needs_s[1, 1:] = load.head_read_s + load.state_read_s * rows * (1 + drafts / 2)
    return RowTables(parts_s, needs_s, end_s, ends_s)


def rate_needs(load: Work, drafts: int) -> Rates[dict[str, Amount]]:
    """Return the needed seconds per unit of each linear term, split by `NEEDS`; drafts are queries, too."""
    own_experts_s = load.expert_compute_s if load.ranks == 1 else 0.0
    return Rates(
        extra_tokens={
            "compute": load.dense_compute_s + own_experts_s + load.state_compute_s + load.kept_compute_s
        },
        context_tokens={"compute": (1 + drafts) * load.context_compute_s, "memory": load.context_read_s},
        window_tokens={"compute": (1 + drafts) * load.window_compute_s, "memory": load.window_read_s},
        prefill_pairs={"compute": load.pair_compute_s},
        window_pairs={"compute": load.window_pair_compute_s},
        prefill_requests={},
        swapped_tokens={},
    )


def rates_with(
    priced_from: Terms, drafting: Drafting | None, speculation: Speculation | None, drafts: int
) -> Rates[dict[str, Amount]]:
    """Return the seconds per unit of each linear term with so many drafts, split by part."""
    own = rate_parts(priced_from, drafts)
    if speculation is None:
        return own
    return added(own, draft_rate_parts(drafting, speculation.drafter.draft, drafts))


def context_scales(rates: dict[int, np.ndarray]) -> dict[int, float]:
    """Return by drafts how many times as much a context costs to read as with the first of them."""
    contexts = slice(Rates._fields.index("context_tokens"), Rates._fields.index("window_tokens") + 1)
    costs = {drafts: float(parts_s[:, contexts].sum()) for drafts, parts_s in rates.items()}
    first = next(iter(costs.values()))
    return {drafts: cost / first if first else 1.0 for drafts, cost in costs.items()}
