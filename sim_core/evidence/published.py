"""The project's own table of published operating points: facts, each with its source.

In `presets/validation`, `measured.csv` holds one measured point of a real engine a row, `sources.toml` where
they are printed, `about.toml` how they were chosen. `benchmarks/validate.py` writes the table by rule.
"""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from sim_core import catalogue
from sim_core.catalogue.accelerators import WEIGHT_DTYPES
from sim_core.catalogue.reader import PRESETS
from sim_core.fields.errors import ScenarioError, shown

FOLDER = PRESETS / "validation"
TRAFFIC = {
    "closed": "closed loop",
    "burst": "one burst of clients",
    "batch": "one batch at once",
    "offline": "everything at once",
    "prefill": "a single prefill",
    "server": "open loop",
}
POOLS = {"one": "one pool", "split": "disaggregated"}
LENGTHS = ("fixed", "80-100%")
FAMILIES = {"dense": "dense", "moe": "mixture of experts", "mla": "MLA with experts"}
NOT_STATED = "not stated"
SIMULATED, NOT_FITTED = "", "attention not fitted"


# --- the table ------------------------------------------------------------------------------------


class PublishedPoint(NamedTuple):
    """One measured operating point; a number that the source does not give is NaN, a count 0.

    `clients` are those of a closed loop, or the sequences of a batch; `statistic` says what the source's
    latencies are. Of two pools, the workers of each and the devices of one worker are known. Latencies in ms,
    throughput in output tokens per second of all devices together. Ranks of attention are those of one pool's
    group or of a worker of a pool: 0 or 1 where its devices share attention.
    """

    id: str
    traffic: str
    pools: str
    date: str
    engine: str
    engine_version: str
    model: str
    accelerator: str
    devices: int
    tensor_parallel: int
    expert_parallel: int
    prefill_workers: int
    prefill_devices: int
    decode_workers: int
    decode_devices: int
    precision: str
    prompt_tokens: int
    output_tokens: int
    lengths: str
    clients: int
    arrival_per_s: float
    ttft_ms: float
    tpot_ms: float
    output_tok_per_s: float
    statistic: str
    source: str
    entry: str
    note: str
    ranks: int = 0
    prefill_expert_parallel: int = 0
    prefill_ranks: int = 0
    decode_expert_parallel: int = 0
    decode_ranks: int = 0

    @property
    def family(self) -> str:
        """One of `FAMILIES`."""
        return family_of(catalogue.model(self.model))

    @property
    def replicas(self) -> int:
        """Independent copies that share the clients."""
        return max(self.devices // max(self.tensor_parallel, 1), 1)

    @property
    def most_ranks(self) -> int:
        """Ranks of attention of a group, of the pool that has more of them."""
        return max(self.ranks, self.prefill_ranks, self.decode_ranks, 1)

    @property
    def has_ranks(self) -> bool:
        """Whether attention is divided into ranks, in one pool or in either of two."""
        return self.most_ranks > 1

    @property
    def status(self) -> str:
        """Empty for a point that is simulated and counts, else why it does not."""
        return NOT_FITTED if catalogue.model(self.model).sparse else SIMULATED

    @property
    def fitted(self) -> bool:
        """Whether the fit of the typical calibration may have used the point."""
        steady = self.engine_version not in ERRATIC_VERSIONS
        loop = self.pools == "one" and self.traffic == "closed" and not self.has_ranks
        return loop and self.status == SIMULATED and steady


CAMPAIGN = ("kind", "model", "accelerator", "engine", "precision")


def campaign(point: PublishedPoint) -> tuple[str, str, str, str, str]:
    """Return what the points of one series of measurements share, and with it the level of their errors."""
    kind = kind_of(point.traffic, point.pools, point.has_ranks)
    return kind, point.model, point.accelerator, point.engine, point.precision


def kind_of(traffic: str, pools: str, has_ranks: bool = False) -> str:
    """Return the first part of a campaign: the kind of traffic, that it met two pools, or ranks."""
    where = "split" if pools == "split" else traffic
    return f"{where}, ranks" if has_ranks else where


class Source(NamedTuple):
    """Where rows come from."""

    title: str
    url: str
    commit: str
    note: str


LABELS = dict.fromkeys(("bf16/fp16", "fp16", "bfloat16", "float16"), "bf16")
LABELS |= dict.fromkeys(("nvfp4", "mxfp4"), "fp4") | {"w4a16": "int4", "w8a8": "int8"}
ERRATIC_VERSIONS = frozenset(
    {"1.3.0rc1"}
)  # TPOT of two clients up to five times that of one: shown, not fitted
_TEXTS = ("date", "engine", "engine_version", "precision", "statistic", "source", "entry")
_WORKERS = ("prefill_workers", "prefill_devices", "decode_workers", "decode_devices")
_LAYOUT = ("ranks", "prefill_expert_parallel", "prefill_ranks", "decode_expert_parallel", "decode_ranks")
_COUNTS = ("devices", "tensor_parallel", "expert_parallel", *_WORKERS, "clients", *_LAYOUT)
_LENGTHS = ("prompt_tokens", "output_tokens")
_MEASURED = ("arrival_per_s", "ttft_ms", "tpot_ms", "output_tok_per_s")


def family_of(model: catalogue.Model) -> str:
    """Return the family of a model: ``dense``, ``moe``, or ``mla`` (latent attention, with experts)."""
    if model.latent:
        return "mla"
    return "moe" if model.experts else "dense"


@cache
def points() -> tuple[PublishedPoint, ...]:
    """Return the project's own table of published operating points."""
    path = FOLDER / "measured.csv"
    return read_points(path.read_text(encoding="utf-8"), path.name, frozenset(sources()))


@cache
def sources() -> Mapping[str, Source]:
    """Return the sources of the rows by their ids."""
    table = tomllib.loads((FOLDER / "sources.toml").read_text(encoding="utf-8"))
    return MappingProxyType({name: Source(**fields) for name, fields in table.items()})


def read_points(
    text: str, name: str, known_sources: frozenset[str] | None = None
) -> tuple[PublishedPoint, ...]:
    """Return the points of a table in the form of `measured.csv`.

    Raises
    ------
    ScenarioError
        If a column is missing or unknown, or a row cannot be right; the message names line, row and value.
    """
    lines = csv.reader(text.splitlines())
    header = next(lines, [])
    blank = dict.fromkeys(PublishedPoint._field_defaults, "")
    wrong = sorted({*header, *blank} ^ set(PublishedPoint._fields))
    if wrong:
        state = "missing" if wrong[0] in PublishedPoint._fields else "unknown"
        raise ScenarioError(f"{name} line 1: column {shown(wrong[0])} is {state}.")
    found: dict[str, PublishedPoint] = {}
    for row in lines:
        if not row:
            continue
        where = f"{name} line {lines.line_num}"
        if len(row) != len(header):
            raise ScenarioError(f"{where} has {len(row)} fields; the header has {len(header)}.")
        values = blank | dict(zip(header, row, strict=True))
        point = _point(values, f"{where} ({values['id'] or 'no id'})", known_sources)
        if point.id in found:
            raise ScenarioError(f"{where}: id {shown(point.id)} stands there twice.")
        found[point.id] = point
    return tuple(found.values())


def _point(values: Mapping[str, str], where: str, known_sources: frozenset[str] | None) -> PublishedPoint:
    """Return one checked point."""
    for key in ("id", *_TEXTS):
        if not values[key].strip():
            raise ScenarioError(f"{where}: {key} is empty; a fact needs it (write {NOT_STATED!r} if so).")
    for key, known in (
        ("traffic", TRAFFIC),
        ("pools", POOLS),
        ("model", catalogue.preset_ids("models")),
        ("accelerator", catalogue.preset_ids("accelerators")),
        ("lengths", (*LENGTHS, *catalogue.preset_ids("workloads"))),
        ("source", known_sources),
    ):
        if known is not None and values[key] not in known:
            raise ScenarioError(f"{where}: {key} {shown(values[key])} is unknown.")
    numbers = {key: _number(values[key], key, where) for key in (*_COUNTS, *_LENGTHS, *_MEASURED)}
    whole = {key: _whole(numbers[key], key, where) for key in (*_COUNTS, *_LENGTHS)}
    if not any(math.isfinite(numbers[key]) for key in _MEASURED[1:]):
        raise ScenarioError(f"{where}: nothing is measured (ttft_ms, tpot_ms, output_tok_per_s are empty).")
    fields: dict[str, Any] = {**values, **numbers, **whole}
    point = PublishedPoint(**fields)
    for key in _needed(point):
        if getattr(point, key) < 1:
            raise ScenarioError(f"{where}: {key} is empty; {TRAFFIC[point.traffic]} needs it.")
    if point.traffic == "server" and not point.arrival_per_s > 0:
        raise ScenarioError(f"{where}: arrival_per_s is empty; an open loop needs it.")
    weight_dtype(point, where)
    return point


def _needed(point: PublishedPoint) -> list[str]:
    """Return the counts that a point of its kind must have."""
    if point.pools == "split":
        return [*_LENGTHS, *_WORKERS, "clients"]
    needed = [*_LENGTHS, "devices"]
    needed += [] if point.traffic in ("offline", "server") else ["clients"]
    return needed + ([] if point.traffic == "server" else ["tensor_parallel"])


def _number(text: str, key: str, where: str) -> float:
    """Return a number above 0, or NaN where the field is empty."""
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e9:
        raise ScenarioError(f"{where}: {key} is {shown(text)}; it must be a number above 0.")
    return value


def _whole(value: float, key: str, where: str) -> int:
    if math.isnan(value):
        return 0
    if value != int(value):
        raise ScenarioError(f"{where}: {key} is {value:g}; it must be a whole number.")
    return int(value)


def weight_dtype(point: PublishedPoint, where: str = "") -> str:
    """Return the weight precision of a point; an unknown label is an error, never a guess.

    Integers of four bits are native to a checkpoint that stores its experts so.
    """
    label = point.precision.lower()
    found = LABELS.get(label, label)
    integers = found == "int4" and catalogue.model(point.model).native_expert_dtype == "int4"
    if label == NOT_STATED or point.model.startswith("gpt-oss") or integers:
        return "native"
    if found not in WEIGHT_DTYPES:
        raise ScenarioError(f"{where or point.id}: precision {shown(label)} is unknown.")
    return found


@cache
def about() -> Mapping[str, Any]:
    """Return what `about.toml` says of the table: how it was chosen, and how noisy such data are."""
    return MappingProxyType(tomllib.loads((FOLDER / "about.toml").read_text(encoding="utf-8")))


# --- the recipes of runs --------------------------------------------------------------------------


class Recipe(NamedTuple):
    """What a public recipe says of a run on two pools.

    `decode_batch` is how many requests a decode worker, or each of its ranks, takes at once
    (`max_batch_size`); `drafts` are tokens drafted in a step, 0 without speculation.
    """

    decode_batch: int
    drafts: int
    decode_ranks: int
    redundant_experts: int


RECIPE = (
    "engine", "accelerator", "precision", "prompt_tokens", "output_tokens", "prefill_workers",
    "prefill_devices", "decode_workers", "decode_devices",
)  # fmt: skip
RECIPE_NAME = re.compile(r"_(dep|tep|dp|tp)(\d+)_batch\d+_eplb(\d+)_")
EXPERTS = 256  # of DeepSeek-R1, which all recipes here serve


def recipe_of(point: PublishedPoint, speculates: bool = False) -> Recipe | None:
    """Return the public recipe of a run on two pools, where there is one."""
    key = tuple(str(getattr(point, name)) for name in RECIPE)
    return _recipes().get((*key, str(point.clients), speculates))


@cache
def _recipes() -> Mapping[tuple[Any, ...], Recipe]:
    """Return the recipes of runs by what they share with a point.

    A recipe's name tells its layout, where the configuration that lists it may not: `dep` and `dp` divide
    attention into ranks, `tep` and `tp` do not; `eplb288` are 288 places for 256 experts.

    References
    ----------
    SemiAnalysisAI/InferenceX, .github/configs/nvidia-master.yaml (commit 0004cf5, 2026): clients and workers
    of each recipe; its name tells the rest. ishandhanani/srt-slurm, branch sa-submission-q1-2026, recipes/.
    """
    found = {}
    with (FOLDER / "recipes.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            recipe = _recipe(row)
            for clients in row["clients"].split():
                found[(*(row[name] for name in RECIPE), clients, recipe.drafts > 0)] = recipe
    return MappingProxyType(found)


def _recipe(row: Mapping[str, str]) -> Recipe:
    named = RECIPE_NAME.search(row["recipe"])
    if named is None:
        raise ScenarioError(f"recipes.csv: {shown(row['recipe'])} does not name a layout.")
    kind, devices, slots = named.groups()
    return Recipe(
        decode_batch=int(row["decode_batch"]),
        drafts=int(row["drafts"]),
        decode_ranks=int(devices) if kind in ("dep", "dp") else 1,
        redundant_experts=max(int(slots) - EXPERTS, 0),
    )
