"""Accelerators as their datasheets print them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from sim_core.catalogue.kernels import GENERATIONS
from sim_core.catalogue.reader import load_preset, preset_ids, with_measurements
from sim_core.fields.described import described
from sim_core.fields.errors import ScenarioError

DTYPES = ("bf16", "fp8", "fp4")
WEIGHT_DTYPES = (*DTYPES, "int8", "int4")
PEAKS: Mapping[str, str] = MappingProxyType(
    {dtype: f"{dtype}_tflop_per_s" for dtype in DTYPES} | {"int8": "int8_top_per_s"}
)
GIGA = 1e9
TERA = 1e12
CONFIDENCES = ("high", "medium", "low")
USUAL_NETWORK_GB_PER_S = 50.0  # a card of 400 Gb/s for each device
NVLINKS = ("nvlink3", "nvlink4", "nvlink5", "nvlink6")
LINK_KINDS = (*NVLINKS, "infinity_fabric", "xe_link", "ici", "neuronlink", "ethernet", "other", "pcie")
LINK_SHAPES = {
    "switch": "every device at full rate with any other",
    "mesh": "a wire to each peer",
    "torus": "a wire to each neighbour of a grid",
    "pair": "a bridge between few devices",
}


class Link(NamedTuple):
    """What carries traffic between the devices of a group: its kind, and one device's rate, one way."""

    kind: str
    byte_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One accelerator as its datasheet prints it: dense peaks, decimal units, one device.

    A spec the source does not give is None. `flop_per_s` says what is used instead, or that a figure
    is missing.
    """

    id: str
    name: str = described("Name")
    vendor: str = described("Vendor")
    bf16_tflop_per_s: float | None = described(
        "Dense bf16 peak: multiplications and additions in a second",
        None,
        label="bf16 arithmetic",
        unit="TFLOP/s",
        low=0.0,
        high=1e7,
    )
    fp8_tflop_per_s: float | None = described(
        "Dense fp8 peak: multiplications and additions in a second",
        None,
        label="fp8 arithmetic",
        unit="TFLOP/s",
        low=0.0,
        high=1e7,
    )
    fp4_tflop_per_s: float | None = described(
        "Dense fp4 peak: multiplications and additions in a second",
        None,
        label="fp4 arithmetic",
        unit="TFLOP/s",
        low=0.0,
        high=1e7,
    )
    int8_top_per_s: float | None = described(
        "Dense int8 peak; what a design starts from where no other is printed",
        None,
        label="int8 arithmetic",
        unit="TOP/s",
        low=0.0,
        high=1e7,
    )
    hbm_gb_per_s: float = described(
        "What a device reads from its memory in a second",
        label="Memory bandwidth",
        unit="GB/s",
        low=0.0,
        high=1e8,
    )
    hbm_gb: float = described(
        "Memory of one device, for weights and KV cache",
        label="Memory capacity",
        unit="GB",
        low=0.0,
        high=1e6,
    )
    link_gb_per_s: float | None = described(
        "What a device sends to the others of its node in a second, one direction",
        None,
        label="Link bandwidth",
        unit="GB/s",
        low=0.0,
        high=1e6,
    )
    interconnect: str = described("Link between devices", "")
    link_kind: str = described("Kind of link between devices", "other", choices=LINK_KINDS)
    link_shape: str = described("Shape of the link between devices", "switch", choices=LINK_SHAPES)
    link_peers: int | None = described(
        "Devices that one reaches directly, over wires that share its bandwidth alike", None, low=1, high=1024
    )
    node_devices: int | None = described(
        "Devices that reach one another without the network: of a board, a rack or a pod (scale-up domain)",
        None,
        label="Devices of a node",
        low=1,
        high=100_000,
    )
    node_link_gb_per_s: float | None = described(
        "Network link of a device to other domains, one direction (scale-out)",
        None,
        label="Network link",
        unit="GB/s",
        low=0.0,
        high=1e5,
    )
    pcie_gb_per_s: float = described(
        "What a device and its host exchange in a second, one direction",
        32.0,
        label="Host link",
        unit="GB/s",
        low=0.0,
        high=1e5,
    )
    tdp_w: float | None = described(
        "Watts of one device at full load", None, label="Power", unit="W", low=0.0, high=1e6
    )
    sustained_frac: float = described(
        "Share of the peaks that large products keep up under the power limit, relative to the part on which "
        "the kernels of its generation were measured",
        1.0,
        unit="frac",
        low=0.1,
        high=1.3,
    )
    idle_w: float | None = described("Power of an idle device", None, unit="W", low=0.0, high=1e6)
    year: int = described("Year of introduction", low=2000, high=2100)
    price_usd_per_hour: float | None = described(
        "Dollars for one device and hour", None, label="Price", unit="USD/h", low=0.0, high=1e5
    )
    price_note: str = described("Where the price comes from", "")
    sram_mb: float | None = described("Cache or on-chip memory", None, unit="MB", low=0.0, high=1e9)
    generation: str = described("Generation whose kernels were measured", "", choices=("", *GENERATIONS))
    confidence: str = described("How well the figures are known", choices=CONFIDENCES)
    announced: bool = described("Figures announced, not measured by others", False)
    source: str = described("Where the figures come from")
    notes: str = described("What to know", "")

    @property
    def hbm_bytes(self) -> float:
        """Memory capacity. [bytes]"""
        return self.hbm_gb * GIGA

    def changed(self, changes: dict[str, Any]) -> Accelerator:
        """Return the part with other specs; one with nothing but SRAM keeps being that, whatever its size."""
        if self.memory_on_chip and "hbm_gb" in changes:
            changes = changes | {"sram_mb": 1000 * changes["hbm_gb"]}
        return dataclasses.replace(self, name=f"{self.name} (changed)", **changes)

    @property
    def memory_on_chip(self) -> bool:
        """Whether the memory is the on-chip one: SRAM, and no HBM beside it."""
        return self.sram_mb is not None and self.sram_mb >= 1000 * self.hbm_gb

    @property
    def hbm_byte_per_s(self) -> float:
        """Memory bandwidth. [bytes/s]"""
        return self.hbm_gb_per_s * GIGA

    @property
    def pcie_byte_per_s(self) -> float:
        """Host link bandwidth, one direction. [bytes/s]"""
        return self.pcie_gb_per_s * GIGA

    def link(self, devices: int) -> Link:
        """Return what a device of a group sends over, and how fast, one way.

        A switch serves any group at the whole rate. In a mesh of `link_peers` wires a device of n uses those
        to the n - 1 others; in a torus, a group of 2^d devices is a cube with d wires at each. A bridge joins
        `link_peers` + 1 devices; a larger group, and parts without a link, use PCIe. A link of no known kind
        that is no faster than PCIe is taken for it.
        """
        peers = self.link_peers or 1
        if not self.link_gb_per_s or (self.link_shape == "pair" and devices > peers + 1):
            return Link("pcie", self.pcie_gb_per_s * GIGA)
        if self.link_kind == "other" and self.link_gb_per_s <= self.pcie_gb_per_s:
            return Link("pcie", self.link_gb_per_s * GIGA)
        wires = {"mesh": devices - 1.0, "torus": math.log2(devices)}.get(self.link_shape, peers)
        return Link(self.link_kind, self.link_gb_per_s * GIGA * min(max(wires, 1.0) / peers, 1.0))

    def near(self, devices: int) -> int:
        """Return how many of a group's devices one reaches by its links, itself among them.

        All, where its links are the network themselves, or nobody says how large a node is.
        """
        if self.node_devices is None or self.link_kind == "ethernet":
            return devices
        return min(devices, self.node_devices)

    def nodes(self, devices: int) -> int:
        """Return how many such neighbourhoods, or nodes, a group is spread over."""
        return math.ceil(devices / self.near(devices))

    @property
    def network_byte_per_s(self) -> float:
        """Network link of a device to other nodes; 400 Gb/s where its source states none. [bytes/s]"""
        return (self.node_link_gb_per_s or USUAL_NETWORK_GB_PER_S) * GIGA

    @property
    def kernel_generation(self) -> str:
        """Generation whose kernels stand for this part's: its own, else one of the same formats."""
        if self.generation:
            return self.generation
        if self.fp4_tflop_per_s is not None:
            return "blackwell"
        return "hopper" if self.fp8_tflop_per_s is not None else "ampere"

    def compute_dtype(self, dtype: str) -> str:
        """Return the precision in which weights of `dtype` are multiplied here.

        Without hardware for a narrow format its weights are widened first: fp4 to fp8, fp8 to bf16. Integers
        of 4 bits are stored, not computed (W4A16): they are widened to bf16. Those of 8 bits multiply
        activations of 8 bits (W8A8) where the part has faster units for them, else they are widened, too.

        Raises
        ------
        ScenarioError
            If no peak is known for `dtype` or any wider format.
        """
        if dtype in ("int8", "int4"):
            wide = self.attention_dtype
            faster = (self.int8_top_per_s or 0.0) > (getattr(self, PEAKS[wide]) or 0.0)
            return "int8" if dtype == "int8" and faster else wide
        for wider in reversed(DTYPES[: DTYPES.index(dtype) + 1]):
            if getattr(self, f"{wider}_tflop_per_s") is not None:
                return wider
        known = [narrow for narrow in DTYPES if getattr(self, f"{narrow}_tflop_per_s") is not None]
        other = f" or choose weight_dtype={known[0]}" if known else ""
        if not known:
            other = ", since its source prints no dense one; no model runs on it without"
        raise ScenarioError(f"{self.name} has no {dtype} figure; set {dtype}_tflop_per_s{other}.")

    def flop_per_s(self, dtype: str) -> float:
        """Return the dense peak at which weights of `dtype` are multiplied. [FLOP/s]"""
        return float(getattr(self, PEAKS[self.compute_dtype(dtype)]) * TERA)

    @property
    def attention_dtype(self) -> str:
        """Precision of attention arithmetic: bf16, or the widest format with a known peak."""
        for dtype in DTYPES:
            if getattr(self, f"{dtype}_tflop_per_s") is not None:
                return dtype
        return self.compute_dtype("bf16")

    @property
    def attention_flop_per_s(self) -> float:
        """Dense peak of attention arithmetic. [FLOP/s]"""
        return getattr(self, f"{self.attention_dtype}_tflop_per_s") * TERA

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of a prediction for this part should know."""
        found = []
        if self.announced:
            found.append(f"{self.name}: figures are announced, not measured by others.")
        peaks = [getattr(self, f"{dtype}_tflop_per_s") for dtype in DTYPES]
        if peaks[0] is None and any(peaks):
            found.append(
                f"{self.name} has no bf16 figure: attention is computed at its {self.attention_dtype} peak, "
                "an optimistic bound."
            )
        return tuple(found)


@cache
def accelerators() -> Mapping[str, Accelerator]:
    """Return all accelerators by id: the newest first, of a year those with measurements, then by name.

    Parts that are only announced stand last: nobody runs a model on one.
    """
    used = with_measurements("accelerator")
    found = [accelerator(name) for name in preset_ids("accelerators")]
    found.sort(key=lambda part: (part.announced, -part.year, part.id not in used, part.name.lower()))
    return MappingProxyType({part.id: part for part in found})


@cache
def accelerator(name: str) -> Accelerator:
    """Return one accelerator by id."""
    return load_preset("accelerators", name, Accelerator)
