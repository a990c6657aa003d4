"""How far predictions of speculative decoding were off: published runs, each without its accelerator.

`benchmarks/validate.py --drafts` writes `presets/validation/drafts.toml`. Beside each error stands that of a
constant: the same run predicted without speculation, and divided by the speed-up that its engine has usually
brought on other accelerators. A prediction that is no better has no skill.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from sim_core.evidence.published import FOLDER

DRAFTS_FILE = FOLDER / "drafts.toml"


class Speculated(NamedTuple):
    """Errors in TPOT of runs with speculation [%]: median, nine of ten, and the median of a constant."""

    name: str
    rows: int
    median_pct: float
    p90_pct: float
    constant_pct: float

    @property
    def has_skill(self) -> bool:
        """Whether predictions are better than the constant."""
        return self.median_pct < self.constant_pct


@cache
def draft_tables() -> Mapping[str, Any]:
    """Return what the file says: constants found, and errors."""
    return MappingProxyType(tomllib.loads(DRAFTS_FILE.read_text(encoding="utf-8")))


@cache
def speculated() -> tuple[Speculated, ...]:
    """Return the errors over all runs, then by engine and accelerator."""
    return tuple(Speculated(name, **fields) for name, fields in draft_tables()["errors"].items())


def speculated_words() -> str:
    """Return what the runs say of a prediction, as part of a sentence."""
    every = speculated()[0]
    than = "less than" if every.has_skill else "no less than"
    return (
        f"{every.rows} published runs of DeepSeek-R1 with MTP, each predicted without its accelerator, are "
        f"off by {every.median_pct:.0f} % in TPOT (median), {than} by the usual speed-up of their engine "
        f"({every.constant_pct:.0f} %)"
    )
