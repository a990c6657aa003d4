"""What the devices of a group send one another in a step: within a node and over the network between nodes.

Two kinds of traffic. An all-reduce sums what the devices of one rank have each a part of; a ring sends each
byte 2 (n - 1) / n times. Over several nodes it is done in three parts: reduced within each node, the parts
summed over the nodes, each device its own over its own network link, and gathered again within.
Where ranks of attention share their experts, tokens travel to them and back. Experts that lie whole on one
device are reached by an all-to-all, in 8 bits with a scale for 32 values where the experts' weights are no
wider, and back in bf16. Kernels of low latency send a copy for every expert of a token; normal ones a copy
for all of its experts on one device, and over the network one for all on one node, handed on there. Experts
that are cut in parts need every token on every device: gathered before, their parts summed afterwards, which
moves as much as an all-reduce.

References
----------
Thakur, Rabenseifner, Gropp (2005), "Optimization of collective communication operations in MPICH", section 4.
DeepEP (deepseek-ai/DeepEP), README: low-latency kernels, dispatch in FP8 and combine in BF16.
"""

from __future__ import annotations

from typing import NamedTuple

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import Model
from sim_core.price.work.layout import Layout, precisions

BF16_BYTES = 2.0
FP8_SENT_BYTES = 1 + 1 / 32


class Ring(NamedTuple):
    """How often an all-reduce sends a byte of one device: within its node, and over the network."""

    within: float
    across: float


def ring(part: Accelerator, devices: int) -> Ring:
    """Return how often an all-reduce over so many devices sends a byte within nodes and over the network."""
    near = part.near(devices)
    nodes = part.nodes(devices)
    return Ring(2 * (near - 1) / near, 2 * (nodes - 1) / nodes / near)


def sums(model: Model, layout: Layout) -> tuple[int, int]:
    """Return the all-reduces of a step within a rank, and those of them that sum hidden states.

    Where tokens travel to experts of all ranks, none is left behind these.
    """
    travelling = model.moe_layers if layout.ranks > 1 else 0
    return model.layer_collectives * model.layers - travelling, 2 * model.layers - travelling


def reducing(model: Model, part: Accelerator, layout: Layout) -> dict[str, float]:
    """Return the fields of `Work` that say what the devices of a rank send one another. [s at full rate]"""
    devices = layout.rank_devices
    way, (reductions, states) = ring(part, devices), sums(model, layout)
    link_byte_per_s, network_byte_per_s = part.link(part.near(devices)).byte_per_s, part.network_byte_per_s
    return {
        "link_s": states * way.within * model.hidden * BF16_BYTES / link_byte_per_s,
        "network_s": states * way.across * model.hidden * BF16_BYTES / network_byte_per_s,
        "collectives": float(reductions) if devices > 1 else 0.0,
        "head_link_s": way.within / 2 * model.vocab * BF16_BYTES / link_byte_per_s,
        "head_network_s": way.across / 2 * model.vocab * BF16_BYTES / network_byte_per_s,
    }


def travels(model: Model, layout: Layout) -> bool:
    """Return whether tokens are sent to whole experts of other ranks, and not gathered on all devices."""
    return layout.ranks > 1 and layout.expert_parallel == layout.tensor_parallel and model.experts > 0


def sent_bytes(model: Model, layout: Layout) -> float:
    """Return what one copy of a token sends to one layer's expert and back. [bytes]"""
    narrow = precisions(model, layout.weight_dtype)[1] != "bf16"
    width = model.latent_expert_dim or model.hidden
    return width * ((FP8_SENT_BYTES if narrow else BF16_BYTES) + BF16_BYTES)


class Exchange(NamedTuple):
    """The fields of `Work` that say what ranks send one another."""

    exchanges: float
    exchange_link_s: float
    exchange_network_s: float
    merged_link_s: float
    merged_network_s: float
    nodes: float
    gathers: float
    gather_link_s: float
    gather_network_s: float


def exchange(model: Model, part: Accelerator, layout: Layout) -> Exchange:
    """Return what ranks send one another so that each token reaches its experts, all layers together.

    Of the experts of a token, chosen alike, a device itself has one in `tensor_parallel`, and its node as
    many more as it has devices.
    """
    devices, layers = layout.tensor_parallel, float(model.moe_layers)
    near, nodes = part.near(devices), part.nodes(devices)
    if layout.ranks == 1 or not layers:
        return Exchange(*(0.0,) * 5, float(nodes), *(0.0,) * 3)
    link_byte_per_s = part.link(near).byte_per_s
    if not travels(model, layout):
        way, moved = ring(part, devices), layers * model.hidden * BF16_BYTES
        across_s = moved * way.across / part.network_byte_per_s
        within_s = moved * way.within / link_byte_per_s
        return Exchange(*(0.0,) * 5, float(nodes), layers, within_s, across_s)
    copy, chosen = layers * sent_bytes(model, layout), model.experts_per_token
    reached, nodes_reached = places(devices, chosen), places(nodes, chosen)
    return Exchange(
        exchanges=layers,
        exchange_link_s=copy * chosen * (near - 1) / devices / link_byte_per_s,
        exchange_network_s=copy * chosen * (devices - near) / devices / part.network_byte_per_s,
        merged_link_s=copy * reached * (near - 1) / near / link_byte_per_s,
        merged_network_s=copy * nodes_reached * (nodes - 1) / nodes / part.network_byte_per_s,
        nodes=float(nodes),
        gathers=0.0,
        gather_link_s=0.0,
        gather_network_s=0.0,
    )


def places(number: int, chosen: int) -> float:
    """Return how many of some places have at least one of the experts that a token chooses.

    Examples
    --------
    >>> round(places(8, 8), 3)
    5.251
    """
    return number * (1 - (1 - 1 / number) ** chosen)
