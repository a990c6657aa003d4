"""Tables of the time of a step, by part, over its tokens and over the sequences it samples; and of needs.

Prices are looked up in them. Those over tokens do not depend on how many sequences there may be, on memory or
on the number of drafts, so one table serves many prices: the longest that was asked for is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
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
PIECE_TOKENS = 8_192


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
    names = parts_of(int(load.ranks))
    parts = partial(token_parts, priced_from), partial(draft_token_parts, drafting)
    parts_s = _over_tokens(names, length, *parts)
    own = load if load.ranks == 1 else load._replace(expert_compute_s=0.0, expert_read_s=0.0)
    return Tables(
        names,
        priced_from,
        drafting,
        parts_s.sum(axis=0),
        parts_s,
        _over_tokens(NEEDS, length, partial(_token_needs, own)),
        _group_tables(names, priced_from, drafting, length),
    )


def _token_needs(load: Work, tokens: np.ndarray) -> Mapping[str, Amount]:
    """Return the time that new tokens need, by `NEEDS`. [s]"""
    compute_s = load.dense_compute_s + load.expert_compute_s + load.state_compute_s + load.kept_compute_s
    experts_s = _experts_read_s(load, tokens)
    return {"compute": compute_s * tokens, "memory": load.dense_read_s + load.kept_read_s + experts_s}


def _experts_read_s(load: Work, tokens: np.ndarray) -> np.ndarray:
    """Return the time of reading the experts that tokens meet. [s]"""
    read_s: np.ndarray = -load.expert_read_s * np.expm1(tokens * load.expert_miss_log)
    return read_s


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
    both = (priced_from, drafting.terms) if drafting and drafting.takes_tokens else (priced_from,)
    parts_s = _over_tokens(names, length, *(partial(group_parts, each) for each in both))
    slope_s = sum(np.array([float(group_rate_parts(each).get(part, 0.0)) for part in names]) for each in both)
    needs_s = _over_tokens(NEEDS, length, partial(_group_needs, load))
    return _Group((parts_s, np.asarray(slope_s)), (needs_s, np.array([load.expert_compute_s, 0.0])))


def _group_needs(load: Work, tokens: np.ndarray) -> Mapping[str, Amount]:
    """Return the time that new tokens of all ranks need, by `NEEDS`. [s]"""
    return {"compute": load.expert_compute_s * tokens, "memory": _experts_read_s(load, tokens)}


def _over_tokens(
    names: tuple[str, ...], length: int, *prices: Callable[[np.ndarray], Mapping[str, Amount]]
) -> np.ndarray:
    """Return the sum of times by part as a table over tokens, nothing at 0. [s]

    It is made piece by piece, so that what is worked out on the way stays in a core's cache.
    """
    table_s = np.zeros((len(names), length + 1))
    for first in range(1, length + 1, PIECE_TOKENS):
        tokens = np.arange(first, min(first + PIECE_TOKENS, length + 1), dtype=float)
        piece_s = table_s[:, first : first + tokens.size]
        for price in prices:
            _add(piece_s, names, price(tokens))
    return table_s


def _in_parts(names: tuple[str, ...], last: int, *prices: Mapping[str, Amount]) -> np.ndarray:
    """Return the sum of times by part as a table, nothing at 0. [s]"""
    table_s = np.zeros((len(names), last + 1))
    for price in prices:
        _add(table_s[:, 1:], names, price)
    return table_s


def _add(table_s: np.ndarray, names: tuple[str, ...], price: Mapping[str, Amount]) -> None:
    """Add times by part to the rows of a table."""
    for row_s, name in zip(table_s, names, strict=True):
        row_s += price.get(name, 0.0)


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
        prefill_steps={},
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
