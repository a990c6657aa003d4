"""The badge: how far a scenario's predictions can be trusted, in one line under a page's finding."""

from __future__ import annotations

import streamlit as st

from sim_core.evidence import trust
from sim_core.evidence.trust import Trust
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.templates import Markup, render
from sim_core.view.drawing.trust_words import bands_words, width_words
from sim_core.view.session import record

MARKS = {
    trust.VALIDATED: ("#00875f", "●"),
    trust.EXTRAPOLATED: ("#c2571a", "◐"),
    trust.ANNOUNCED: ("#80868b", "○"),
}


def badge(
    scenario: Scenario | Trust, *, profile: EngineProfile | None = None, load_frac: float | None = None
) -> None:
    """Show badge, bands and the first reason; nothing where the scenario cannot be."""
    try:
        if isinstance(scenario, Trust):
            found = scenario
        else:
            found = trust.trust(scenario, profile=profile, load_frac=load_frac)
    except ScenarioError:
        return
    record.add_badge(found)
    st.html(badge_line(found))


def badge_summary(found: Trust) -> str:
    """Return what lies outside and how far off such predictions are, in one line without the badge."""
    first, *more = found.reasons
    parts = [] if found.badge == trust.VALIDATED else [first if not more else f"{first} (+{len(more)} more)"]
    return " ".join([*parts, *_sentences(width_words(found))]) or first


def _sentences(words: str) -> list[str]:
    return [f"{words[0].upper()}{words[1:]}."] if words else []


def badge_sentence(found: Trust) -> str:
    """Return badge and summary as plain text."""
    return f"{found.badge.capitalize()}. {badge_summary(found)}"


def badge_line(found: Trust) -> Markup:
    """Return the badge line as HTML: what is outside, and the bands; all reasons unfold beneath."""
    colour, mark = MARKS[found.badge]
    how = [] if found.evidence == "none" else [f"Bands from {found.evidence}."]
    return render(
        "parts/badge.html",
        colour=colour,
        mark=mark,
        badge=found.badge,
        summary=badge_summary(found),
        reasons=[*found.reasons, *_sentences(bands_words(found)), *how],
    )
