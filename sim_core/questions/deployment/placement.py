"""Where a layout puts what: groups, what each device holds of a model, and what each link carries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sim_core.fields.texts import counted
from sim_core.price.memory import held, memory
from sim_core.price.pools import decode_of, prefill_of
from sim_core.price.steps.one_step import LinkUse, links_of_step
from sim_core.price.work import Held
from sim_core.scenario.scenario import Scenario

KINDS = {"routed experts": "experts", "KV cache": "kv"}  # of what is held; all else are other weights
SMALLEST_GB = 0.005


class Share(NamedTuple):
    """What one device holds of something: `kind` is ``weights``, ``experts``, ``kv``, ``beside`` or ``free``.

    `spread` says in words how it lies on the devices of a group.
    """

    kind: str
    name: str
    gb: float
    spread: str


class Worker(NamedTuple):
    """One kind of group of devices: engines of one pool, or the workers of one of two.

    Attributes
    ----------
    pool : str
        ``prefill`` or ``decode`` of two pools; "" of one.
    groups, devices : int
        Groups that are alike, and the devices of each.
    ranks, stages : int
        Of attention, and of layers, in each group.
    shares : tuple of Share
        What the fullest device holds; together all of its memory.
    links : tuple of LinkUse
        What a device sends over each link in a full step.
    step_tokens : int
        New tokens of that step, of each rank.
    """

    pool: str
    groups: int
    devices: int
    ranks: int
    stages: int
    shares: tuple[Share, ...]
    links: tuple[LinkUse, ...]
    step_tokens: int

    @property
    def device_gb(self) -> float:
        """Memory of a device. [GB]"""
        return sum(share.gb for share in self.shares)


def kinds_of_groups(scenario: Scenario) -> list[Worker]:
    """Return the kinds of groups of a scenario's devices: one, or those of both pools.

    Works for scenarios that do not fit, too: nothing is left for the KV cache then.

    Raises
    ------
    ScenarioError
        If the layout does not divide the model.
    """
    if not scenario.split:
        return [_worker(scenario, "")]
    return [_worker(prefill_of(scenario), "prefill"), _worker(decode_of(scenario), "decode")]


def _worker(pool: Scenario, name: str) -> Worker:
    devices = pool.tensor_parallel * pool.pipeline_parallel
    tokens, rows = full_step(pool, name)
    links = tuple(link for link in links_of_step(pool, tokens, rows) if link.bytes > 0)
    return Worker(
        name,
        pool.replicas,
        devices,
        pool.attention_data_parallel,
        pool.pipeline_parallel,
        tuple(share for share in _shares(pool, devices) if share.gb >= SMALLEST_GB),
        links,
        tokens,
    )


def full_step(pool: Scenario, name: str) -> tuple[int, int]:
    """Return the new tokens and the rows of a full step: of prompts in a prefill pool, else of decodes."""
    if name == "prefill":
        return pool.token_budget, 1
    decodes = pool.max_running
    return decodes * (1 + pool.spec_tokens), decodes


def _shares(pool: Scenario, devices: int) -> Iterator[Share]:
    """Yield what one device holds, in the order of a picture."""
    parts, whole = held(pool), memory(pool)
    each_gb = {key: whole[key] / devices for key in whole if key.endswith("_gb")}
    *weights, cache = parts
    for part in weights:
        yield Share(KINDS.get(part.what, "weights"), part.what, part.device_bytes / 1e9, held_words_of(part))
    rest_gb = each_gb["weights_gb"] - sum(part.device_bytes for part in weights) / 1e9
    yield Share("weights", "the layer that drafts", rest_gb, "")
    words = held_words_of(cache)
    if pool.attention_data_parallel > 1:
        words = f"of requests of its own rank, one of {pool.attention_data_parallel}"
    yield Share("kv", cache.what, cache.device_bytes / 1e9, words)
    beside_gb = each_gb["activations_gb"] + each_gb["context_gb"] + each_gb["state_gb"]
    yield Share("beside", "activations, driver", beside_gb, "on every device")
    free_gb = each_gb["fitted_gb"] - each_gb["weights_gb"] - cache.device_bytes / 1e9 - beside_gb
    yield Share("free", "kept free", free_gb, "on every device")


def held_words_of(part: Held) -> str:
    """Return how a part of a model lies on the devices of a group.

    Examples
    --------
    >>> held_words_of(Held("attention", 1e9, 2, 4)), held_words_of(Held("routers", 1e9, 8, 1))
    ('2 copies, each split over 4 devices', 'a copy on each of 8 devices')
    """
    copies, parts = round(part.copies), round(part.parts)
    if parts <= 1:
        return f"a copy on each of {counted(copies, 'device')}" if copies > 1 else "whole"
    split = f"split over {counted(parts, 'device')}"
    return f"{copies} copies, each {split}" if copies > 1 else split
