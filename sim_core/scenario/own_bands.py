"""How far off an engine of one's own has been: bands of measured / predicted on points that no fit had seen.

A scenario carries them beside its constants or step times, as one line of text such as
``tpot:0.93:0.97:1.02:1.06,points:12,on:llama-3.1-8b/h100-sxm``: of a metric the edges that hold four
measurements in five, and within them those that hold half; how many points they rest on, and of which model
and accelerator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from sim_core.fields.errors import ScenarioError, shown

METRICS = ("tpot", "ttft", "throughput")
OWN_BANDS_EXAMPLE = "tpot:0.93:0.97:1.02:1.06,points:12,on:llama-3.1-8b/h100-sxm"
FARTHEST = 1000.0  # times the prediction


class Edges(NamedTuple):
    """Edges of the bands of one metric, measured / predicted: of four in five, and of half."""

    low: float
    half_low: float
    half_high: float
    high: float


UNKNOWN = Edges(math.nan, math.nan, math.nan, math.nan)


class OwnBands(NamedTuple):
    """The bands by metric, how many points they rest on, and of which model and accelerator."""

    edges: Mapping[str, Edges] = MappingProxyType({})
    points: int = 0
    model: str = ""
    accelerator: str = ""


@lru_cache(maxsize=64)
def parse_own_bands(text: str) -> OwnBands:
    """Return the bands of a text.

    Raises
    ------
    ScenarioError
        If an entry has another form, stands there twice, or its edges are in no order.
    """
    edges: dict[str, Edges] = {}
    rest: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = entry.partition(":")
        if name in edges or name in rest:
            raise ScenarioError(f"own_bands gives {shown(name)} twice; keep one.")
        if name in METRICS:
            edges[name] = _edges(entry, value)
        elif name in ("points", "on"):
            rest[name] = value
        else:
            raise _wrong(entry)
    count = rest.get("points", "0")
    if not (count.isascii() and count.isdigit() and len(count) < 10):
        raise _wrong(f"points:{count}")
    model, _, accelerator = rest.get("on", "").partition("/")
    return OwnBands(MappingProxyType(edges), int(count), model, accelerator)


def _edges(entry: str, text: str) -> Edges:
    try:
        values = [float(part) if len(part) < 30 else math.nan for part in text.split(":")]
    except ValueError:
        raise _wrong(entry) from None
    if len(values) != len(Edges._fields) or not all(1 / FARTHEST <= value <= FARTHEST for value in values):
        raise _wrong(entry)
    if values != sorted(values):
        raise ScenarioError(f"own_bands has the entry {shown(entry)}; its four edges must not fall.")
    return Edges(*values)


def _wrong(entry: str) -> ScenarioError:
    return ScenarioError(
        f"own_bands has the entry {shown(entry)}; write METRIC:LOW:LOW:HIGH:HIGH, each between "
        f"{1 / FARTHEST:g} and {FARTHEST:g}, such as {OWN_BANDS_EXAMPLE!r}."
    )


def write_own_bands(found: OwnBands) -> str:
    """Return bands as the text that `parse_own_bands` reads, three digits each; "" without any."""
    if not found.edges:
        return ""
    parts = [
        f"{name}:{':'.join(f'{min(max(edge, 1 / FARTHEST), FARTHEST):.3g}' for edge in edges)}"
        for name, edges in found.edges.items()
    ]
    return ",".join([*parts, f"points:{found.points}", f"on:{found.model}/{found.accelerator}"])
