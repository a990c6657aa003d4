"""The badge: how far a scenario's predictions can be trusted, in one line under a page's finding."""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from sim_core import trust
from sim_core.scenario import Scenario, ScenarioError
from sim_core.trust import Band, Trust
from sim_core.view.words import number

MARKS = {
    trust.VALIDATED: ("#00875f", "●"),
    trust.EXTRAPOLATED: ("#c2571a", "◐"),
    trust.ANNOUNCED: ("#80868b", "○"),
}
_NAMES = (("tpot_band", "TPOT"), ("ttft_band", "TTFT"), ("throughput_band", "throughput"))


def badge(scenario: Scenario, *, profile: Any = None, load_frac: float | None = None) -> None:
    """Show badge, bands and the first reason; nothing where the scenario cannot be."""
    try:
        found = trust.trust(scenario, profile=profile, load_frac=load_frac)
    except ScenarioError:
        return
    st.html(line(found))


def line(found: Trust) -> str:
    """Return the badge line as HTML: what is outside, and the bands; all reasons unfold beneath."""
    colour, mark = MARKS[found.badge]
    first, *more = found.reasons
    parts = [] if found.badge == trust.VALIDATED else [first if not more else f"{first} (+{len(more)} more)"]
    bands = bands_words(found)
    summary = " ".join([*parts, f"{bands[0].upper()}{bands[1:]}." if bands else ""])
    rest = "<br>".join(escape(reason) for reason in found.reasons)
    how = "" if found.evidence == "none" else f"<br>Bands from {escape(found.evidence)}."
    return (
        '<details style="font-size:0.85rem;max-width:68rem;margin:0.1rem 0 0">'
        '<summary style="cursor:pointer">'
        f'<b style="color:{colour};white-space:nowrap">{mark} {escape(found.badge)}</b> '
        f'<span style="opacity:0.8">{escape(summary or first)}</span></summary>'
        f'<span style="opacity:0.8">{rest}{how} See the Validation page.</span></details>'
    )


def bands_words(found: Trust) -> str:
    """Return the bands in words; empty where there are none."""
    parts = [
        f"{name} {band_words(getattr(found, key))}" for key, name in _NAMES if getattr(found, key).low > 0
    ]
    return f"measured values lie, four times in five, within {', '.join(parts)}" if parts else ""


def band_words(band: Band) -> str:
    """Return a band as signed percentages, or as factors where it is wide.

    Examples
    --------
    >>> band_words(Band(0.875, 1.2)).replace("\\N{NARROW NO-BREAK SPACE}", " "), band_words(Band(0.4, 3.0))
    ('−13 to +20 %', '0.4× to 3×')
    """
    if band.low < 0.5 or band.high > 2.0:
        return f"{number(band.low, 2)}× to {number(band.high, 2)}×"
    low, high = (_signed(edge - 1) for edge in band)
    return f"{low} to {high}\N{NARROW NO-BREAK SPACE}%"


def _signed(share: float) -> str:
    return f"{'−' if share < 0 else '+'}{abs(round(100 * share))}"
