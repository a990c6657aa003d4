"""How far predictions of speculative decoding were off, beside what a constant speed-up says."""

from __future__ import annotations

from sim_core import catalogue
from sim_core.evidence.published import POOLS
from sim_core.evidence.speculated import Speculated, speculated
from sim_core.view.drawing.words import number, percent
from sim_core.view.parts import pieces

HEADS = ("runs", "median error in TPOT", "nine of ten within", "a constant's median", "skill")


def speculated_table() -> None:
    """Show the errors of runs with speculation, by engine and accelerator."""
    lines = [(_name(item), _cells(item)) for item in speculated()]
    caption = (
        "Speculative decoding: TPOT of InferenceX's runs of DeepSeek-R1 with MTP, each predicted "
        "without its accelerator; the constant is the same run predicted without speculation, over the usual "
        "speed-up of its engine on other accelerators"
    )
    pieces.table(caption, HEADS, lines, scroll=True)


def _name(item: Speculated) -> str:
    if item.name == "all" or item.name in POOLS.values():
        return item.name
    engine, part = item.name.rsplit(" ", 1)
    return f"{engine} on {catalogue.accelerator(part).name}"


def _cells(item: Speculated) -> tuple[str, ...]:
    median, p90, constant = (
        percent(value / 100) for value in (item.median_pct, item.p90_pct, item.constant_pct)
    )
    return number(item.rows), median, p90, constant, "yes" if item.has_skill else "none"
