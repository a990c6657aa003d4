"""What a reader of a prediction should know of how a model is divided: what was never measured."""

from __future__ import annotations

from collections.abc import Iterator

from sim_core.catalogue.accelerators import LINK_SHAPES, Accelerator
from sim_core.catalogue.kernels import LARGEST_EXCHANGE, LARGEST_GROUP, is_exchange_measured
from sim_core.price.work.exchange import travels
from sim_core.price.work.layout import Layout, layout_of, padded, pool_keys
from sim_core.price.work.stages import stage_warnings
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of


def layout_warnings(scenario: Scenario) -> list[str]:
    """Return what a reader of a prediction should know of how the model is divided."""
    model, part = model_of(scenario), accelerator_of(scenario)
    pools = ("prefill", "decode") if scenario.split else ()
    plain = layout_of(scenario)
    known = {_of_pool(plain, pool_keys(scenario, pool)) for pool in pools} or {plain}
    layouts = sorted(known, key=lambda layout: (layout.rank_devices, layout.tensor_parallel, layout.ranks))
    groups = sorted({layout.rank_devices for layout in layouts})
    filled = [
        f"{model.name} has {model.heads} attention heads, filled up to {padded(model, tp).heads} to divide "
        f"among {tp} devices; vLLM and SGLang refuse that on GPUs."
        for tp in groups
        if model.heads % tp
    ]
    joined = sorted({*groups, *(layout.tensor_parallel for layout in layouts)})
    slow = [_slow_link(part, part.near(tp)) for tp in joined if tp > 1 and part.link_gb_per_s]
    ranks = [note for layout in layouts if layout.ranks > 1 for note in _of_ranks(scenario, part, layout)]
    found = [*(_reduced(part, tp) for tp in groups), *filled, *slow, *ranks, _network(part, layouts)]
    found += stage_warnings(scenario)
    return list(dict.fromkeys(filter(None, found)))


def _of_pool(layout: Layout, keys: dict[str, int]) -> Layout:
    return Layout(**(layout._asdict() | {key: keys[key] for key in keys if key in Layout._fields}))


def _reduced(part: Accelerator, devices: int) -> str:
    """Return that all-reduces of a group were not measured, "" where they were."""
    nodes, near = part.nodes(devices), part.near(devices)
    if devices <= LARGEST_GROUP and nodes == 1:
        return ""
    if nodes > 1:
        return (
            f"All-reduces over {devices:,} devices in {nodes} nodes are extrapolated: within a node as "
            "measured, between nodes at the latency and the share of the network of all-to-alls."
        )
    network = "" if part.node_devices else ", and no slower network between servers is counted"
    return (
        f"All-reduces over {near:,} devices are extrapolated: they were measured on up to {LARGEST_GROUP}"
        f"{network}."
    )


def _of_ranks(scenario: Scenario, part: Accelerator, layout: Layout) -> Iterator[str]:
    """Yield what is not measured where ranks of attention share their experts."""
    devices = layout.tensor_parallel
    near = part.near(devices)
    if travels(model_of(scenario), layout):
        if not is_exchange_measured(part.link(near).kind):
            yield (
                f"No all-to-all was measured over the links of {part.name}: its latency and its share of the "
                "link are assumed."
            )
        elif near > LARGEST_GROUP or devices > LARGEST_EXCHANGE:
            yield (
                f"All-to-alls over {devices:,} devices are extrapolated: they were measured on nodes of "
                f"{LARGEST_GROUP}, and on up to {LARGEST_EXCHANGE} devices."
            )
    else:
        yield (
            f"Experts lie in parts on several devices: the tokens of all {layout.ranks} ranks are gathered "
            "on every device, as vLLM does by default; no all-to-all is priced."
        )
    if 1 < layout.ranks < devices:
        yield (
            f"No published run has {layout.ranks} ranks of attention on {devices} devices: measured layouts "
            f"have 1 or {devices}."
        )
    if layout.two_batch_overlap == "on" and travels(model_of(scenario), layout):
        yield (
            "Two-batch overlap: tokens travel behind products and experts alone; attention over long "
            "contexts would hide more."
        )


def _network(part: Accelerator, layouts: list[Layout]) -> str:
    """Return that nobody says how fast a part's network is, where a layout needs it."""
    if part.node_link_gb_per_s or all(part.nodes(layout.devices) == 1 for layout in layouts):
        return ""
    each = part.network_byte_per_s / 1e9
    return (
        f"{part.name}'s network link is not known: {each:g} GB/s a device are taken. Set node_link_gb_per_s."
    )


def _slow_link(part: Accelerator, devices: int) -> str:
    """Return that a group cannot use all of a device's links; "" where it can."""
    link, whole = part.link(devices), part.link_gb_per_s or 0.0
    used = link.byte_per_s / 1e9
    if used >= whole:
        return ""
    if link.kind == "pcie":
        joined = (part.link_peers or 1) + 1
        return f"{part.name}'s links join {joined} devices; {devices} use PCIe, {used:g} of {whole:g} GB/s."
    shape = LINK_SHAPES[part.link_shape]
    return f"Of {part.name}'s {whole:g} GB/s of links, {devices} devices use {used:g}: {shape}."
