"""Acceptance lengths as they were published: how many tokens a decode makes in a step that verifies drafts.

One row of `presets/acceptance/lengths.csv` is one model, one way of drafting and one workload, with a length
for each number of drafts that was measured; `source` names an entry of `sources.toml`. The first row of a
model and a way is its default. A length belongs to its workload: Kimi-K3 makes 3.8 tokens a step with 7
drafts on coding prompts, and 1.2 to 1.7 while agents are replayed.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from sim_core.catalogue.reader import PRESETS

MOST_MEASURED = 8  # drafts: the columns k1 to k8


class Acceptance(NamedTuple):
    """Tokens that a decode makes in a verified step, the model's own among them, and where that was seen."""

    length: float
    workload: str
    low: float  # over all workloads and heads of the model with as many drafts
    high: float
    head: str  # who drafted, such as "EAGLE-3"
    source: str  # title of the source
    url: str


@cache
def acceptance_rows() -> tuple[Mapping[str, str], ...]:
    """Return the rows of `presets/acceptance/lengths.csv`."""
    with (PRESETS / "acceptance" / "lengths.csv").open(encoding="utf-8", newline="") as lines:
        return tuple(MappingProxyType(row) for row in csv.DictReader(lines))


@cache
def acceptance_sources() -> Mapping[str, Mapping[str, str]]:
    """Return the sources of the table by their names: title, url and note of each."""
    text = (PRESETS / "acceptance" / "sources.toml").read_text(encoding="utf-8")
    return MappingProxyType(tomllib.loads(text))


def acceptance_length(model_id: str, method: str, spec_tokens: int) -> Acceptance | None:
    """Return the acceptance length published for a model, a way of drafting and a number of drafts.

    Parameters
    ----------
    model_id : str
        Id of a model, such as ``kimi-k2.5``.
    method : str
        The scenario's `draft`: ``mtp``, ``eagle``, ``parallel`` or ``ngram``.
    spec_tokens : int
        Drafts of a step.

    Returns
    -------
    Acceptance or None
        That of the model's first row, with the range over all its rows; None where nobody published one.

    Examples
    --------
    >>> acceptance_length("minimax-m3", "eagle", 3)[:4]
    (2.83, 'coding, thinking', 2.01, 3.32)
    """
    rows = [row for row in _rows_of(model_id, method) if row.get(f"k{spec_tokens}")]
    if not rows:
        return None
    lengths = [float(row[f"k{spec_tokens}"]) for row in rows]
    first, source = rows[0], acceptance_sources()[rows[0]["source"]]
    return Acceptance(
        lengths[0],
        first["workload"],
        min(lengths),
        max(lengths),
        first["head"],
        source["title"],
        source["url"],
    )


def known_lengths(model_id: str, method: str) -> dict[int, Acceptance]:
    """Return what is published for a model and a way of drafting, by number of drafts."""
    found = {drafts: acceptance_length(model_id, method, drafts) for drafts in range(1, MOST_MEASURED + 1)}
    return {drafts: acceptance for drafts, acceptance in found.items() if acceptance is not None}


def known_methods(model_id: str) -> tuple[str, ...]:
    """Return the ways of drafting for which lengths of a model are published, as values of `draft`."""
    return tuple(dict.fromkeys(row["draft"] for row in acceptance_rows() if row["model"] == model_id))


def _rows_of(model_id: str, method: str) -> list[Mapping[str, str]]:
    return [row for row in acceptance_rows() if (row["model"], row["draft"]) == (model_id, method)]
