"""All sensible layouts of a model on a number of devices, each as a scenario, or the reason why it cannot be.

A layout uses all devices: groups that are alike, behind a router, or a pool of workers for prompts and one
for answers. A group is of one of these families:

- *tensor*: every matrix is divided among its devices;
- *experts*: attention is divided so, the routed experts are spread whole over the devices;
- *ranks*: each device computes the attention of requests of its own, the experts are spread over all;
- *stages*: layers are divided among stages, each divided among its devices;
- *pools*: workers for prompts and workers for answers, each of one of the families above.

Left out as not sensible: groups of tensor parallelism over several nodes where the model fits one, heads that
do not divide, stages of several nodes, and pools of workers that are slower by far than the matched ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sim_core.catalogue.models import Model
from sim_core.fields.errors import ScenarioError
from sim_core.fields.field import check
from sim_core.price.pools import decode_of, prefill_of, with_measured_link
from sim_core.price.priced import priced
from sim_core.questions import disaggregation
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario, accelerator_of, model_of

FAMILIES = {
    "tensor": "TP",
    "experts": "TP + EP",
    "ranks": "DP attention + EP",
    "stages": "PP × TP",
    "pools": "two pools",
}
NODE_DEVICES = 8  # of a server, where the accelerator's own are not known
STAGES = (2, 4, 8)
WIDEST = 64  # ranks that are simulated one by one
SPLITS = (0, 1)  # workers for prompts beside the matched number
PREFILL_SHAPES, DECODE_SHAPES = 2, 3  # of a family among the workers: wider ones make no better pools


class Shape(NamedTuple):
    """How one group of devices, or one worker, is laid out."""

    tensor_parallel: int
    ranks: int = 1
    expert_parallel: int = 1
    stages: int = 1

    @property
    def devices(self) -> int:
        """Devices of the group."""
        return self.tensor_parallel * self.stages

    @property
    def family(self) -> str:
        """Which of `FAMILIES` it is of."""
        if self.stages > 1:
            return "stages"
        if self.ranks > 1:
            return "ranks"
        return "experts" if self.expert_parallel > 1 else "tensor"

    @property
    def name(self) -> str:
        """What people call it: TP, TEP (tensor and expert parallel), DEP (DP attention, expert parallel)."""
        kind = "DEP" if self.ranks > 1 else "TEP" if self.expert_parallel > 1 else "TP"
        text = f"{kind} {self.tensor_parallel}"
        if 1 < self.ranks < self.tensor_parallel:
            text += f" in {self.ranks} ranks"
        return text if self.stages == 1 else f"PP {self.stages} × {text}"

    def keys(self, pool: str = "") -> dict[str, Any]:
        """Return it as keys of a scenario: of the one pool, or of the workers of `prefill` or `decode`."""
        prefix = f"{pool}_" if pool else ""
        return {
            f"{prefix}tensor_parallel": self.tensor_parallel,
            f"{prefix}attention_data_parallel": self.ranks,
            f"{prefix}expert_parallel": self.expert_parallel,
            f"{prefix}pipeline_parallel": self.stages,
        }


class Option(NamedTuple):
    """A layout of all devices.

    Attributes
    ----------
    family, name : str
        Which of `FAMILIES`, and what people call it.
    scenario : Scenario
        That runs it on all devices.
    devices : int
        All devices.
    unit : Scenario
        The smallest part of it that serves by itself: one group, or pools of the same ratio.
    units : int
        How many of these there are.
    reason : str
        Why it cannot be; "" if it can.
    """

    family: str
    name: str
    scenario: Scenario
    devices: int
    unit: Scenario
    units: int
    reason: str = ""


def layouts_of(scenario: Scenario, devices: int, families: Collection[str] = tuple(FAMILIES)) -> list[Option]:
    """Return all sensible layouts of a scenario's model on so many of its accelerators.

    Model, precision, engine, traffic and limits are the scenario's; its own layout plays no part. A layout
    that cannot be has its reason.

    Raises
    ------
    ScenarioError
        If `devices` is not within the limits of `tensor_parallel`.
    """
    check("devices", devices, FIELDS["tensor_parallel"])
    plain = without_layout(scenario)
    shapes = [shape for shape in shapes_of(plain, devices) if devices % shape.devices == 0]
    found = [_of_groups(plain, devices, shape) for shape in shapes if shape.family in families]
    if "pools" in families and plain.policy != "static":
        found += _all_pools(plain, devices)
    return found


LAYOUT_KEYS = (
    "tensor_parallel",
    "expert_parallel",
    "replicas",
    "attention_data_parallel",
    "pipeline_parallel",
    "context_parallel",
    "prefill_workers",
    "decode_workers",
    *(
        f"{pool}_{key}"
        for pool in ("prefill", "decode")
        for key in ("tensor_parallel", "attention_data_parallel", "expert_parallel", "pipeline_parallel")
    ),
)


def without_layout(scenario: Scenario) -> Scenario:
    """Return a scenario on one device, in one pool, all else as it is."""
    policy = "chunked" if scenario.split else scenario.policy
    return scenario.replace(policy=policy, **{key: DEFAULTS[key] for key in LAYOUT_KEYS})


def own_layout(scenario: Scenario) -> Option:
    """Return the layout that a scenario has."""
    if scenario.split:
        prefill, decode = (_shape_of(pool(scenario)) for pool in (prefill_of, decode_of))
        counts = scenario.prefill_workers, scenario.decode_workers
        name, family = _pools_name(counts, prefill, decode), "pools"
    else:
        shape = _shape_of(scenario)
        name, family = _times(scenario.replicas, shape.name), shape.family
    return Option(family, name, scenario, scenario.accelerators, scenario, 1, reason_against(scenario))


def _shape_of(pool: Scenario) -> Shape:
    ranks, stages = pool.attention_data_parallel, pool.pipeline_parallel
    return Shape(pool.tensor_parallel, ranks, pool.expert_parallel, stages)


def shapes_of(scenario: Scenario, most: int) -> list[Shape]:
    """Return the sensible shapes of a group of at most so many devices, narrow ones first."""
    model = model_of(scenario)
    node = min(accelerator_of(scenario).node_devices or NODE_DEVICES, most)
    found = [*_divided(scenario, model, most), *_spread(model, most), *_staged(model, node, most)]
    return sorted(dict.fromkeys(found), key=lambda shape: (list(FAMILIES).index(shape.family), shape))


def sensible_widths(scenario: Scenario, widths: Sequence[int]) -> list[int]:
    """Return the widths of groups of one rank within a node, and the next one beyond where none fits."""
    node = accelerator_of(scenario).node_devices or NODE_DEVICES
    inside = [width for width in widths if width <= node]
    alone = {"expert_parallel": 1, "attention_data_parallel": 1}
    fits = any(not reason_against(scenario, tensor_parallel=width, **alone) for width in reversed(inside))
    return inside + ([] if fits else [width for width in widths if width > node][:1])


def _divided(scenario: Scenario, model: Model, most: int) -> Iterator[Shape]:
    """Yield groups that divide every matrix."""
    for width in sensible_widths(scenario, [width for width in _powers(most) if model.heads % width == 0]):
        yield Shape(width)
        if model.experts and width > 1 and model.experts % width == 0:
            yield Shape(width, expert_parallel=width)


def _spread(model: Model, most: int) -> Iterator[Shape]:
    """Yield groups whose devices each compute attention of their own, experts over all, over nodes too."""
    if not model.experts:
        return
    for width in range(2, min(most, WIDEST) + 1):
        if model.experts % width == 0:
            yield Shape(width, ranks=width, expert_parallel=width)


def _staged(model: Model, node: int, most: int) -> Iterator[Shape]:
    for stages in STAGES:
        for width in _powers(min(node, most // stages)):
            if stages <= model.layers and model.heads % width == 0:
                yield Shape(width, stages=stages)


def _powers(most: int) -> list[int]:
    return [2**power for power in range(int(math.log2(most)) + 1)] if most >= 1 else []


def _of_groups(scenario: Scenario, devices: int, shape: Shape) -> Option:
    """Return groups of a shape on all devices, behind a router."""
    count = devices // shape.devices
    try:
        unit = scenario.replace(**shape.keys())
    except ScenarioError as error:
        return Option(shape.family, _times(count, shape.name), scenario, devices, scenario, count, str(error))
    whole = unit.replace(replicas=count)
    return Option(shape.family, _times(count, shape.name), whole, devices, unit, count, reason_against(unit))


def _times(count: int, name: str) -> str:
    return name if count == 1 else f"{count} × {name}"


def reason_against(scenario: Scenario, **changes: Any) -> str:
    """Return why a scenario, with some keys changed, cannot be laid out so; "" if it can."""
    try:
        priced(scenario.replace(**changes) if changes else scenario)
    except ScenarioError as error:
        return str(error)
    return ""


# --- two pools ------------------------------------------------------------------------------------


def _all_pools(scenario: Scenario, devices: int) -> list[Option]:
    """Return pools of every two shapes that fit, split as rate matching says, and beside it."""
    prefills, decodes = (
        _worker_shapes(scenario, devices - 1, most) for most in (PREFILL_SHAPES, DECODE_SHAPES)
    )
    found: dict[str, Option] = {}
    for prefill in prefills:
        for decode in decodes:
            for option in _pools(scenario, devices, prefill, decode):
                found.setdefault(option.name, option)
    return list(found.values())


def _worker_shapes(scenario: Scenario, widest: int, most: int) -> list[Shape]:
    """Return the shapes of workers that fit: of tensor parallelism and of ranks the narrowest few."""
    kept: list[Shape] = []
    for family in ("tensor", "ranks"):
        shapes = [shape for shape in shapes_of(scenario, widest) if shape.family == family]
        if family == "ranks":  # doubling: one more device makes no other layout
            shapes = [shape for shape in shapes if shape.devices & (shape.devices - 1) == 0]
        fit = (shape for shape in shapes if not reason_against(scenario, **shape.keys()))
        kept += itertools.islice(fit, most)
    return kept


def _pools(scenario: Scenario, devices: int, prefill: Shape, decode: Shape) -> Iterator[Option]:
    """Yield splits of the devices into workers of two shapes: the matched one, and one beside it."""
    for count in _splits(scenario, devices, prefill, decode):
        rest = devices - count * prefill.devices
        others = rest // decode.devices
        common = math.gcd(count, others)
        keys = {"policy": "disaggregated"} | prefill.keys("prefill") | decode.keys("decode")
        name = _pools_name((count, others), prefill, decode)
        try:
            pools = scenario.replace(**keys, prefill_workers=count, decode_workers=others)
            whole = with_measured_link(pools)
            unit = whole.replace(prefill_workers=count // common, decode_workers=others // common)
        except ScenarioError as error:
            yield Option("pools", name, scenario, devices, scenario, 1, str(error))
            continue
        yield Option("pools", name, whole, devices, unit, common, reason_against(unit))


def _pools_name(counts: tuple[int, int], prefill: Shape, decode: Shape) -> str:
    return " → ".join(map(_times, counts, (prefill.name, decode.name)))


def _splits(scenario: Scenario, devices: int, prefill: Shape, decode: Shape) -> Iterable[int]:
    """Return numbers of workers for prompts that leave a whole number of the others, near the matched one."""
    possible = [
        count
        for count in range(1, devices // prefill.devices + 1)
        if (rest := devices - count * prefill.devices) > 0 and rest % decode.devices == 0
    ]
    if not possible:
        return []
    try:
        ideal = _matched(scenario, prefill, decode) * devices / prefill.devices
    except ScenarioError:
        return []
    near = sorted(possible, key=lambda count: (abs(count - ideal), count))
    return sorted(near[: len(SPLITS)])


def _matched(scenario: Scenario, prefill: Shape, decode: Shape) -> float:
    """Return the share of the devices that rate matching gives to prompts."""
    keys = {"policy": "disaggregated"} | prefill.keys("prefill") | decode.keys("decode")
    found = disaggregation.matched(scenario.replace(**keys, prefill_workers=1, decode_workers=1))
    prompts, answers = found.prefill_s * prefill.devices, found.decode_s * decode.devices
    return prompts / (prompts + answers)
