"""Kernels as they were measured: dense products, grouped experts, attention and all-reduces of real engines.

One row of a table in `presets/kernels` is the short form of many measured shapes of one kernel on one
generation of devices: the time of an empty launch, the shares of bandwidth and of peak that it reaches, and
the tokens that its tiles compute in vain. `error_pct` is the median error of that form over the shapes,
`source` names an entry of `sources.toml`.

A row whose `engine` is empty holds for every engine that has none of its own. A generation without a row of
a kind takes that of the next in `CLOSEST`: a wider guess.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from sim_core.catalogue.reader import PRESETS

CLOSEST: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ampere": ("hopper", "blackwell"),
        "ada": ("hopper", "blackwell"),
        "hopper": ("blackwell", "ampere"),
        "blackwell": ("hopper", "ampere"),
        "blackwell-ultra": ("blackwell", "hopper", "ampere"),
        "rtx-blackwell": ("blackwell", "hopper", "ampere"),
    }
)
GENERATIONS = tuple(CLOSEST)
LARGEST_GROUP = 8  # devices of the largest all-reduce that was measured
LARGEST_EXCHANGE = 64  # and of the largest all-to-all, over nodes of 8
TABLES = ("products", "experts", "attention", "all_reduce", "all_to_all")
OTHER_LINK = "nvlink4"
MICRO = 1e-6
NANO = 1e-9
Amount = float | np.ndarray  # of one device, or of each of several


class Product(NamedTuple):
    """A dense product of activations and a weight matrix."""

    launch_s: Amount
    read_frac: Amount
    peak_frac: Amount
    fill_tokens: Amount


class Experts(NamedTuple):
    """The experts of one layer: sorting, both grouped products, activation and combining, fused."""

    layer_s: Amount
    expert_s: Amount  # per expert touched
    read_frac: Amount
    peak_frac: Amount
    fill_tokens: Amount  # per expert touched
    copy_bytes: Amount  # moved for each value of a token and expert: sorted, quantised, handed on, combined


class AttentionKernel(NamedTuple):
    """The attention of one layer, shares of peak being those of the bf16 peak.

    A token's own time is that of small kernels between: choosing, compressing, quantising.
    """

    launch_s: Amount
    token_s: Amount
    read_frac: Amount
    decode_frac: Amount
    prefill_frac: Amount


class AllReduce(NamedTuple):
    """One all-reduce of a group of devices: latency, and share of the link by the ring's count of bytes."""

    latency_s: Amount
    link_frac: Amount


class AllToAll(NamedTuple):
    """Tokens on their way to experts and back: latency of both ways, and the shares of both links.

    `nodes` are the most over which such kernels are used.
    """

    latency_s: Amount
    link_frac: Amount
    network_frac: Amount
    nodes: Amount


# --- the tables -----------------------------------------------------------------------------------


@cache
def kernel_rows(name: str) -> tuple[Mapping[str, str], ...]:
    """Return the rows of one table of `presets/kernels`."""
    with (PRESETS / "kernels" / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        return tuple(MappingProxyType(row) for row in csv.DictReader(lines))


@cache
def kernel_row(name: str, generation: str, kind: str, engine: str) -> Mapping[str, str]:
    """Return the row of a kind of kernel: the engine's own or all engines', of the closest generation.

    Raises
    ------
    KeyError
        If no generation has such a kind.
    """
    found = {
        (row["generation"], row.get("engine", "")): row for row in kernel_rows(name) if row["kind"] == kind
    }
    for other in (generation, *CLOSEST[generation]):
        for whose in (engine, ""):
            if (other, whose) in found:
                return found[other, whose]
    raise KeyError(f"presets/kernels/{name}.csv has no kind {kind!r}")


def product(generation: str, kind: str, engine: str = "") -> Product:
    """Return a dense product: `kind` is ``bf16``, ``fp8-tensor``, ``fp8-block`` or ``nvfp4``."""
    row = kernel_row("products", generation, kind, engine)
    return Product(
        float(row["launch_us"]) * MICRO,
        float(row["read_frac"]),
        float(row["peak_frac"]),
        float(row["fill_tokens"]),
    )


def experts(generation: str, kind: str, engine: str = "") -> tuple[Experts, str]:
    """Return the experts of a layer, and the precision of the peak that their share refers to."""
    row = kernel_row("experts", generation, kind, engine)
    found = Experts(
        float(row["layer_us"]) * MICRO,
        float(row["expert_us"]) * MICRO,
        float(row["read_frac"]),
        float(row["peak_frac"]),
        float(row["fill_tokens"]),
        float(row["copy_bytes"]),
    )
    return found, row["arithmetic"]


def attention(generation: str, kind: str, kv_dtype: str, engine: str = "") -> AttentionKernel:
    """Return the attention of a layer: `kind` is a model's, or an ``index``, for a cache or for any."""
    of_cache = f"{kind}-{kv_dtype}"
    known = {row["kind"] for row in kernel_rows("attention")}
    row = kernel_row("attention", generation, of_cache if of_cache in known else kind, engine)
    return AttentionKernel(
        float(row["launch_us"]) * MICRO,
        float(row["token_ns"]) * NANO,
        float(row["read_frac"]),
        float(row["decode_frac"]),
        float(row["prefill_frac"]),
    )


def all_reduce(link: str, devices: int, engine: str = "", recorded: bool = True) -> AllReduce:
    """Return an all-reduce over a group, in a recorded graph or launched by itself.

    Between the sizes measured it is interpolated in the logarithm of the size; beyond the largest, latency
    goes on as it did and the share of the link stays. Links that nobody measured are taken as NVLink 4.
    """
    links = {row["link"] for row in kernel_rows("all_reduce")}
    rows = [
        row for row in kernel_rows("all_reduce") if row["link"] == (link if link in links else OTHER_LINK)
    ]
    own = [row for row in rows if row["engine"] == engine] or [row for row in rows if not row["engine"]]
    sizes = [math.log2(int(row["devices"])) for row in own]
    latencies_s = [float(row["latency_us" if recorded else "eager_us"]) * MICRO for row in own]
    at = math.log2(max(devices, 2))
    place = max(n for n, size in enumerate(sizes[:-1]) if size <= at)
    far = (at - sizes[place]) / (sizes[place + 1] - sizes[place])
    share = [float(row["link_frac"]) for row in own]
    return AllReduce(
        latencies_s[place] + far * (latencies_s[place + 1] - latencies_s[place]),
        share[place] + min(far, 1.0) * (share[place + 1] - share[place]),
    )


def is_exchange_measured(link: str) -> bool:
    """Return whether an all-to-all was measured over a kind of link."""
    return link != "other" and link in {row["link"] for row in kernel_rows("all_to_all")}


def all_to_all(link: str, node_devices: int, nodes: int, mode: str = "low-latency") -> AllToAll:
    """Return an all-to-all over nodes of so many devices each, by ``low-latency`` or ``normal`` kernels.

    The row is that of the link with the closest size of a node. Over nodes its latency grows by a fixed time
    and by one for each doubling of the nodes. Links that nobody measured have a row of their own, assumed.
    """
    rows = [row for row in kernel_rows("all_to_all") if row["mode"] == mode]
    own = [row for row in rows if row["link"] == link] or [row for row in rows if row["link"] == "other"]
    row = min(own, key=lambda row: abs(math.log2(int(row["node_devices"]) / node_devices)))
    over_us = float(row["network_us"]) + float(row["doubling_us"]) * math.log2(nodes) if nodes > 1 else 0.0
    return AllToAll(
        (float(row["latency_us"]) + over_us) * MICRO,
        float(row["link_frac"]),
        float(row["network_frac"]),
        float(row["nodes"]),
    )
