"""Decodes of an engine in stages as steps of one: rounds, in which every stage has all batches once."""

from __future__ import annotations

import dataclasses

import numpy as np

from sim_core.price.parts import Ledger
from sim_core.price.price import Price
from sim_core.price.step_cost import PACE, TOKEN


def of_rounds(price: Price) -> Price:
    """Return the price of an engine whose steps are rounds of its stages; that of one stage is unchanged.

    B decodes in P groups take P batches of B / P, one after another through each stage, so a round, in which
    every group has its batch, lasts P times as long as a stage takes for such a batch; all contexts are read
    once. Fewer decodes than stages leave stages empty: one alone passes P of them for each token, and the LM
    head once. Prompts that are computed again are priced as if they were dealt, too.
    """
    stages = price.stages
    if stages == 1:
        return price
    step = price.step
    decodes = np.arange(step.row_s.size)
    largest = -(-decodes // stages)
    paces = np.zeros(decodes.size, PACE)
    paces["advance"] = TOKEN
    paces["context_scale"] = stages * largest / np.maximum(decodes, 1)
    paces["context_scale"][0] = 1.0
    row_s = _rows_dealt(step.row_s, step.end_s, stages)
    return dataclasses.replace(
        price,
        step=step._replace(token_s=_dealt(step.token_s, stages), row_s=row_s, end_s=row_s, paces=paces),
        ledger=_of_rounds(price.ledger, stages),
        stages=1,
        needs=None if price.needs is None else _of_rounds(price.needs, stages),
    )


def _of_rounds(ledger: Ledger, stages: int) -> Ledger:
    tokens_s = np.stack([_dealt(one_s, stages) for one_s in ledger.token_s])
    both = zip(ledger.row_s, ledger.end_s, strict=True)
    rows_s = np.stack([_rows_dealt(row_s, end_s, stages) for row_s, end_s in both])
    return dataclasses.replace(ledger, token_s=tokens_s, row_s=rows_s, end_s=rows_s)


def _rows_dealt(row_s: np.ndarray, end_s: np.ndarray, stages: int) -> np.ndarray:
    """Return a table over rows that are dealt to a batch a stage; what the last stage does alone counts once
    where batches are fewer than stages, since it waits then.
    """
    ends_s = _dealt(end_s, stages)
    ends_s[1:stages] = end_s[1]
    return _dealt(row_s - end_s, stages) + ends_s


def _dealt(table_s: np.ndarray, stages: int) -> np.ndarray:
    """Return a table over tokens or rows that are dealt to a batch a stage, all together."""
    return np.asarray(stages * table_s[-(-np.arange(table_s.size) // stages)])
