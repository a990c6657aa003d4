"""One step by part: what its tokens, rows and contexts cost, and what each link carries meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sim_core.catalogue.kernels import Amount
from sim_core.price.kernels import kernels_of
from sim_core.price.parts import Rates, terms, travels_merged
from sim_core.price.price import Price, method_of
from sim_core.price.step_cost import pace_at
from sim_core.price.work import handed_on, layout_of, work
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of


def step_parts(
    price: Price,
    decode_batch: int,
    context: float,
    prefill_tokens: int = 0,
    prefill_start: int = 0,
    on_all_ranks: int | None = None,
) -> dict[str, float]:
    """Return the seconds of one step by part, all ranks of attention doing the same.

    Of an engine in stages, those of one batch that passes all of them, the LM head once.

    Parameters
    ----------
    decode_batch : int
        Sequences that decode, with the drafts that so many have.
    context : float
        Tokens each of them has in its KV cache before the step.
    prefill_tokens, prefill_start : int
        One prompt's chunk in the step, taken as its last, and the position it starts at.
    on_all_ranks : int, optional
        Sequences that decode on all ranks together, where the others have fewer.
    """
    ledger, window = price.ledger, price.step.window_tokens
    prompts = 1 if prefill_tokens else 0
    pace = pace_at(price.step, decode_batch)
    queries = 1 + int(pace["drafts"])
    tokens = decode_batch * queries + prefill_tokens
    others = (price.ranks - 1) * tokens if on_all_ranks is None else (on_all_ranks - decode_batch) * queries
    rows, scale = decode_batch + prompts, float(pace["context_scale"])
    last = ledger.token_s.shape[1] - 1
    counts = Rates(
        extra_tokens=max(tokens - last, 0),
        context_tokens=decode_batch * context * scale,
        window_tokens=decode_batch * min(context, window) * scale,
        prefill_pairs=prefill_tokens * (prefill_start + prefill_tokens / 2),
        window_pairs=window_pairs(prefill_start, prefill_start + prefill_tokens, window),
        prefill_requests=prompts,
        prefill_steps=prompts,
        swapped_tokens=0,
    )
    row = min(rows, ledger.row_s.shape[1] - 1)
    seconds = ledger.token_s[:, min(tokens, last)] + ledger.row_s[:, row]
    seconds = seconds + ledger.rate_s @ np.asarray(counts, dtype=float)
    together, end = tokens + others, ledger.group_s.shape[1] - 1
    seconds = seconds + ledger.group_s[:, min(together, end)] + max(together - end, 0) * ledger.group_slope_s
    if price.stages > 1:
        seconds = price.stages * seconds - (price.stages - 1) * ledger.end_s[:, row]
    return dict(zip(ledger.headings, seconds.tolist(), strict=True))


class LinkUse(NamedTuple):
    """What one device sends over a link in a step, one way: bytes, and the time that takes as measured."""

    link: str  # ``link`` between devices of a node, ``network`` between nodes, ``host``
    bytes: float
    seconds: float
    byte_per_s: float  # of the link, as its datasheet prints it


def links_of_step(scenario: Scenario, tokens: int, rows: int, swapped_tokens: int = 0) -> list[LinkUse]:
    """Return what each link of a device carries in a step, latencies left out, all ranks doing the same.

    Of a device of one stage, where there are several.

    Parameters
    ----------
    tokens, rows : int
        New tokens of each rank, and the sequences it samples.
    swapped_tokens : int
        Tokens whose KV cache goes to the host or comes back.
    """
    model, part, layout = model_of(scenario), accelerator_of(scenario), layout_of(scenario)
    rated = terms(work(model, part, layout), kernels_of(model, part, layout), *method_of(scenario))
    load, kernels = rated.work, rated.kernels
    merged, together = travels_merged(rated, tokens), load.ranks * tokens
    way = kernels.merged if merged else kernels.all_to_all
    sent_s = load.merged_link_s if merged else load.exchange_link_s
    across_s = load.merged_network_s if merged else load.exchange_network_s
    handed_s, handed_across_s = handed_on(model, part, layout)
    reduced, network_frac = kernels.all_reduce.link_frac, kernels.all_to_all.network_frac
    of_rank, of_group, of_stage = (
        part.link(part.near(devices)).byte_per_s
        for devices in (layout.rank_devices, layout.tensor_parallel, max(layout.tensor_parallel, 2))
    )
    near = [
        Carried(load.link_s * tokens + (load.head_link_s + load.context_link_s) * rows, reduced, of_rank),
        Carried(handed_s * tokens, reduced, of_stage),
        Carried(sent_s * tokens, way.link_frac, of_group),
        Carried(load.gather_link_s * together, kernels.gather.link_frac, of_group),
    ]
    network = part.network_byte_per_s
    far = [
        Carried(load.network_s * tokens + load.head_network_s * rows, network_frac, network),
        Carried(handed_across_s * tokens, reduced, network),
        Carried(across_s * tokens, way.network_frac, network),
        Carried(load.gather_network_s * together, network_frac, network),
    ]
    host = [Carried(load.swap_s * swapped_tokens, rated.constants.pcie_frac, part.pcie_byte_per_s)]
    return [
        _used("link", near, of_stage),
        _used("network", far, network),
        _used("host", host, part.pcie_byte_per_s),
    ]


class Carried(NamedTuple):
    """What some traffic takes at a link's full rate, the share of that rate it reaches, and the rate."""

    time_s: Amount
    frac: Amount
    byte_per_s: float


def _used(link: str, parts: Sequence[Carried], byte_per_s: float) -> LinkUse:
    moved = sum(float(part.time_s) * part.byte_per_s for part in parts)
    seconds = sum(float(part.time_s) / float(part.frac) for part in parts)
    return LinkUse(link, moved, seconds, byte_per_s)


def window_pairs(start: Amount, end: Amount, window: Amount) -> Amount:
    """Return the query-key pairs of a chunk that sees at most a window: min(x, window) from start to end.

    Of numbers, or of arrays that broadcast.
    """

    def below(x: Amount) -> Amount:
        inside = np.minimum(x, window)
        return inside * inside / 2 + (x - inside) * window

    return below(end) - below(start)
