"""Published pairs with and without speculation, by any method, read as points; development only.

One row of `speculative_decoding.csv` is one point that was run both ways, and what it gained in one measure.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.runs import configuration, part_id
from benchmarks.tables import LeftOut, Row, priceable, read_rows
from sim_core import catalogue
from sim_core.evidence.published import LENGTHS, NOT_STATED, PublishedPoint

PAIRS = "speculative_decoding.csv"
METHODS = MappingProxyType(
    {"mtp": "mtp", "eagle": "eagle", "p-eagle": "parallel", "dspark": "parallel", "dflash": "parallel"}
)
# Where a source says no lengths: what SPEED-Bench's chats and most others are about.
SUPPOSED_TOKENS = (512, 1024)
NOT_ONE_POOL = ("disagg", "prefill", "pool", "dp", "node")
TIMES = ("tpot", "tok/s/user")  # measures of one user's pace; the others are of all together


class Pair(NamedTuple):
    """One point with and without speculation.

    `drafts` and `length` are 0 and NaN where the row does not say them, `tpot_ms` NaN where its measure is
    another; `of_user` says whether the speed-up is one user's or all users' together.
    """

    point: PublishedPoint
    kind: str
    draft: str
    drafts: int
    length: float
    tpot_ms: float
    speed_up: float
    of_user: bool


def read_pairs(path: Path, left_out: Counter[str]) -> list[Pair]:
    """Return the pairs of one pool in a table; count the others by reason."""
    return read_rows(path, left_out, _pair)


def _pair(row: Row, number: int) -> Pair:
    """Return one row as a pair; leave it out where it is none, or was run as nothing here is."""
    words = row.text("method").lower().split()
    kind, metric = (words or [""])[0].rstrip("0123456789."), row.text("metric").lower()
    reasons: Mapping[str, Callable[[], bool]] = {
        "speculation by a method that is not modelled": lambda: kind not in METHODS,
        "speculation that adapts to what was accepted": lambda: "adaptive" in words,
        "not held against a run without speculation": lambda: "ratio" in metric or "over" in words,
        "more than one pool, or data-parallel attention": lambda: any(
            word in row.text("layout").lower() for word in NOT_ONE_POOL
        ),
        "model or accelerator without a preset": lambda: (
            not named_model(row.text("model"))
            or part_id(row.text("gpu")) not in catalogue.preset_ids("accelerators")
        ),
    }
    for reason, out in reasons.items():
        if out():
            raise LeftOut(reason)
    of_user = any(word in metric for word in TIMES)
    drafts, length = row.number("spec_tokens"), row.number("acceptance_length")
    return Pair(
        point=priceable(_point(row, number)),
        kind=kind,
        draft=METHODS[kind],
        drafts=int(drafts) if drafts > 0 else 0,
        length=length if length >= 1 else math.nan,
        tpot_ms=row.above_zero("spec") if "tpot" in metric else math.nan,
        speed_up=_speed_up(row, metric),
        of_user=of_user,
    )


def _speed_up(row: Row, metric: str) -> float:
    """Return by how much speculation gained, above 1 for better; TPOT is better where it is lower."""
    base, fast = row.number("base"), row.number("spec")
    if base > 0 and fast > 0:
        return base / fast if "tpot" in metric else fast / base
    value = row.above_zero("speedup")
    if math.isnan(value):
        raise LeftOut("no speed-up, nor what it follows from")
    return value


def named_model(words: str) -> str:
    """Return the longest preset that a model's name begins with, "" where there is none."""
    name = re.sub(r"[\s_]+", "-", words.lower())
    known = [
        preset for preset in catalogue.preset_ids("models") if name == preset or name.startswith(f"{preset}-")
    ]
    return max(known, key=len, default="")


def _point(row: Row, number: int) -> PublishedPoint:
    """Return the point that was run both ways; what is measured of it is its speed-up alone."""
    layout, engine = row.text("layout").lower(), row.text("engine").split(" ")[0]
    prompt, output = (row.number(key) for key in ("isl", "osl"))
    stated = prompt > 0 and output > 0
    prompt, output = (prompt, output) if stated else SUPPOSED_TOKENS
    tensor = _number(r"\btp(\d+)", layout) or row.count("n_gpus", otherwise=1)
    return configuration(
        row,
        engine,
        row.text("source").startswith("InferenceX"),
        id=row.text("id") or f"pair {number}",
        model=named_model(row.text("model")),
        accelerator=part_id(row.text("gpu")),
        devices=row.count("n_gpus", otherwise=tensor),
        tensor_parallel=tensor,
        expert_parallel=_number(r"\bep(\d+)", layout) or 1,
        precision=re.split(r"[,\s]", row.text("precision"))[0] or NOT_STATED,
        prompt_tokens=int(prompt),
        output_tokens=int(output),
        lengths=LENGTHS["random" in row.text("workload").lower()],
        clients=row.count("concurrency"),
        statistic="median",
    )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0
