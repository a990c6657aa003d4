"""What a prefix cache would find again: at best, and at any size.

How often an LRU cache of any size would hit follows from one pass over the requests in order: what lies
between two uses of a text is what must be kept to find it again [1]_. A conversation is kept whole and lost
from its end, as engines free blocks, so one distance tells for each prompt how much of it a cache would find.
Requests are taken one after the other: what runs at the same time counts as used.

References
----------
.. [1] Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9, 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim_core.engine.kernels.memory.reuse import depths_of_uses
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import Requests

SAMPLE = 4000  # requests from which the share that a cache finds is known
SENDING = ("model", "traffic", "lengths", "caching")  # groups of keys that say what is sent


@dataclass(frozen=True, slots=True, eq=False)
class Reuse:
    """What of some prompts could be found again.

    Attributes
    ----------
    prompt_tokens : int
        All that is sent.
    known_tokens, between_tokens : ndarray of int64
        Texts that were sent before, in whole blocks, and what is used between: a cache of `between_tokens`
        finds nothing of it, each token more one of its tokens.
    kept_tokens : float
        What a conversation takes between two of its turns, on average, the system prompt aside.
    """

    prompt_tokens: int
    known_tokens: np.ndarray
    between_tokens: np.ndarray
    kept_tokens: float

    @property
    def ideal_frac(self) -> float:
        """Share of the prompts that a cache without limit finds."""
        return float(self.known_tokens.sum()) / self.prompt_tokens

    def hit_frac(self, capacity_tokens: float) -> float:
        """Return the share of the prompts that an LRU cache of so many tokens finds."""
        found = np.clip(capacity_tokens - self.between_tokens, 0, self.known_tokens)
        return float(found.sum()) / self.prompt_tokens

    @property
    def largest_tokens(self) -> int:
        """The least capacity that finds all there is to find."""
        return int((self.between_tokens + self.known_tokens).max(initial=0))


@lru_cache(maxsize=8)
def reuse_of(sent: Requests, block_tokens: int, first: int = 0) -> Reuse:
    """Return what of the prompts of requests could be found again, in order of the requests.

    At least one token of each prompt is computed, and blocks are found whole, as engines have it. Prompts
    before the `first` count for those after them, but are not counted.
    """
    uses = _uses_of_chains(sent, block_tokens) if sent.blocks else _uses_of_sessions(sent, block_tokens)
    starts, items, sizes, known, turn = uses
    depths = np.empty(len(items), np.int64)
    count = int(items.max(initial=-1)) + 1
    blank = np.full(count, -1, np.int64), np.zeros(count, np.int64), np.zeros(len(items) + 1, np.int64)
    depths_of_uses(starts, items, sizes, depths, *blank)
    again = (depths >= 0) & (known > 0)
    again[: starts[first]] = False
    kept = float(sizes[turn].mean()) if turn.any() else 0.0
    return Reuse(int(sent.prompt_tokens[first:].sum()), known[again], depths[again], kept)


def best_hit_frac(scenario: Scenario, trace: Requests | None = None) -> float:
    """Return the share of a scenario's prompts, or a trace's, that need not be computed at best.

    The share that it states; or of a cache that is simulated, all that was sent before: as if nothing were
    evicted, and whoever is sent a prompt had what was computed of it before.
    """
    if scenario.prefix_caching == "off":
        return scenario.prefix_hit_frac
    if trace is not None:
        return reuse_of(trace, scenario.kv_block_tokens).ideal_frac
    if scenario.turns == 1 and not scenario.system_tokens:
        return 0.0
    other = {key: DEFAULTS[key] for key, info in FIELDS.items() if info.group not in SENDING}
    sent = scenario.replace(**other | {"requests": min(scenario.requests, SAMPLE), "arrival_per_s": 1.0})
    return _ideal_frac(sent, scenario.kv_block_tokens)


@lru_cache(maxsize=64)
def _ideal_frac(scenario: Scenario, block_tokens: int) -> float:
    return reuse_of(requests_sent(scenario), block_tokens).ideal_frac


def _uses_of_chains(sent: Requests, block_tokens: int) -> tuple[np.ndarray, ...]:
    """Return the uses of pieces: groups, items, what each takes and is worth, and which are turns."""
    assert sent.blocks is not None
    offsets, ids, tokens = sent.blocks
    counts = np.diff(offsets)
    place = np.arange(len(ids)) - np.repeat(offsets[:-1], counts)
    prompt = np.repeat(sent.prompt_tokens, counts)
    useful = (prompt - 1) // block_tokens * block_tokens  # one token at least is computed
    known = np.minimum((place + 1) * tokens, useful) - np.minimum(place * tokens, useful)
    sizes = np.minimum((place + 1) * tokens, _up(prompt, block_tokens)) - place * tokens
    _, items = np.unique(ids, return_inverse=True)
    return offsets, items.astype(np.int64), sizes, known, np.zeros(len(ids), bool)


def _uses_of_sessions(sent: Requests, block_tokens: int) -> tuple[np.ndarray, ...]:
    """Return the same of conversations; the system prompt, which all share, stands first in each."""
    count = len(sent)
    session = np.full(count, -1) if sent.session is None else sent.session.astype(np.int64)
    known = np.zeros(count, np.int64) if sent.known_tokens is None else sent.known_tokens.astype(np.int64)
    alone = session < 0
    session = np.where(alone, session.max(initial=-1) + np.cumsum(alone), session)
    system = sent.system_tokens // block_tokens * block_tokens
    most = (sent.prompt_tokens - 1) // block_tokens * block_tokens
    text = (sent.prompt_tokens + sent.output_tokens) // block_tokens * block_tokens
    own = np.minimum(known // block_tokens * block_tokens, most)
    uses = {
        "items": np.column_stack((np.zeros(count, np.int64), session + 1)),
        "sizes": np.column_stack((np.full(count, system), np.maximum(text - system, 0))),
        "known": np.column_stack((np.minimum(system, most), np.maximum(own - system, 0))),
        "turn": np.column_stack((np.zeros(count, bool), ~alone)),
    }
    return (np.arange(0, 2 * count + 1, 2), *(column.ravel() for column in uses.values()))


def _up(tokens: np.ndarray, block_tokens: int) -> np.ndarray:
    return -(-tokens // block_tokens) * block_tokens
