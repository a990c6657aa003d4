"""The picture of a layout: nodes and devices, groups, ranks and stages, and what one device holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st

from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.questions.deployment.placement import Share, Worker, kinds_of_groups
from sim_core.scenario.scenario import Scenario, accelerator_of
from sim_core.view.drawing.figures import COLOURS, LIMITS, MUTED
from sim_core.view.drawing.templates import Markup, render
from sim_core.view.drawing.words import duration, literal, number, quantity, rate, spoken
from sim_core.view.session import state

DRAWN = 144  # devices; of more, so many are drawn
UNKNOWN_NODE = 8  # devices drawn together where a node's size is not known
POOLS = {"": "", "prefill": "Prefill: ", "decode": "Decode: "}
HUES = {"": COLOURS[0], "prefill": COLOURS[1], "decode": COLOURS[0]}
TINTS = (55, 30)  # percent of the colour, of groups in turn
PARTS = {
    "weights": LIMITS["weights"][1],
    "experts": LIMITS["compute"][1],
    "kv": LIMITS["kv"][1],
    "beside": MUTED,
    "free": "color-mix(in srgb, currentColor 12%, transparent)",
}


class Device(NamedTuple):
    """A device: what stands in it, its colour, and whether its group begins with it."""

    text: str
    hint: str
    colour: str
    tint: int
    first: bool


class Node(NamedTuple):
    """Devices that reach one another without the network."""

    hint: str
    cells: list[Device]


class HeldPart(NamedTuple):
    """What one device holds of something."""

    percent: float
    colour: str
    words: str


class Drawn(NamedTuple):
    """One kind of group as the template draws it."""

    title: str
    nodes: list[Node]
    more: str
    parts: list[HeldPart]
    entries: list[tuple[str, str]]
    links: str


def show_placement(scenario: Scenario, name: str = "Layout") -> None:
    """Offer the picture of how a scenario's model lies on its devices; where it cannot, the reason."""
    if state.embedded():
        return
    with st.expander(name, key="in_placement", on_change="rerun") as more:
        if not more.open:
            return
        try:
            st.html(placement(scenario))
        except ScenarioError as error:
            st.caption(literal(spoken(str(error))))


def placement(scenario: Scenario) -> Markup:
    """Return the picture of a scenario's layout."""
    workers, node = kinds_of_groups(scenario), accelerator_of(scenario).node_devices
    drawn = [_drawn(worker, node) for worker in workers]
    return render(
        "layouts/placement.html",
        sentence=placement_sentence(scenario, workers),
        workers=drawn,
    )


def placement_sentence(scenario: Scenario, workers: Sequence[Worker]) -> str:
    """Return the picture in words."""
    name = accelerator_of(scenario).name
    parts = [
        f"{_title(worker)}; each {name} holds " + "; ".join(map(_share_words, worker.shares))
        for worker in workers
    ]
    return f"Layout of {scenario.accelerators} x {name}. {'. '.join(parts)}."


def _drawn(worker: Worker, node: int | None) -> Drawn:
    total, most = worker.groups * worker.devices, DRAWN
    cells = [_cell(worker, place) for place in range(min(total, most))]
    size = node or UNKNOWN_NODE
    nodes = [Node(_node_hint(node, at // size), cells[at : at + size]) for at in range(0, len(cells), size)]
    percent = [100 * share.gb / worker.device_gb for share in worker.shares]
    words = [_share_words(share) for share in worker.shares]
    colours = [PARTS[share.kind] for share in worker.shares]
    parts = [HeldPart(round(each, 2), *look) for each, *look in zip(percent, colours, words, strict=True)]
    more = f"and {counted(total - most, 'device')} more" if total > most else ""
    return Drawn(
        _title(worker), nodes, more, parts, list(zip(words, colours, strict=True)), link_words(worker)
    )


def _share_words(share: Share) -> str:
    text = f"{share.name} {quantity(share.gb, 'GB')}"
    return f"{text}: {share.spread}" if share.spread else text


LINKS = {"link": "the links of its node", "network": "the network", "host": "the host link"}


def link_words(worker: Worker) -> str:
    """Return what a device sends in a full step, link by link."""
    if not worker.links:
        return "A device sends nothing to others in a step."
    kind = "tokens of prompts" if worker.pool == "prefill" else "tokens"
    each = " of each rank" if worker.ranks > 1 else ""
    parts = [
        f"{rate(use.bytes / 1e9, 'B', ('G', 'T'))} over {LINKS[use.link]} ({duration(1e3 * use.seconds)})"
        for use in worker.links
    ]
    step = f"In a step of {number(worker.step_tokens)} {kind}{each}"
    return f"{step} a device sends {' and '.join(parts)}, at measured speeds."


def _node_hint(node: int | None, place: int) -> str:
    return f"node {place + 1}" if node else "devices; how many a node has is not known"


def _title(worker: Worker) -> str:
    """Return what one kind of group is, in words."""
    each = counted(worker.devices, "device")
    words = [f"{counted(worker.groups, 'group')} of {each}" if worker.groups > 1 else f"one group of {each}"]
    if worker.pool:
        words = [f"{counted(worker.groups, 'worker')} of {each}"]
    words += [f"{worker.ranks} ranks of attention"] if worker.ranks > 1 else []
    words += [f"{worker.stages} stages of layers"] if worker.stages > 1 else []
    text = POOLS[worker.pool] + ", ".join(words)
    return text[0].upper() + text[1:]


def _cell(worker: Worker, place: int) -> Device:
    """Return a device by its place among all of its kind."""
    group, own = divmod(place, worker.devices)
    stage, within = divmod(own, worker.devices // worker.stages)
    rank = within * worker.ranks // (worker.devices // worker.stages)
    text, words = "", [f"group {group + 1}"]
    if worker.stages > 1:
        text, words = f"s{stage + 1}", [*words, f"stage {stage + 1} of {worker.stages}"]
    if worker.ranks > 1:
        text, words = f"r{rank + 1}", [*words, f"rank {rank + 1} of {worker.ranks}"]
    tint = TINTS[(stage if worker.stages > 1 else group) % 2]
    return Device(text, ", ".join(words), HUES[worker.pool], tint, own == 0)
