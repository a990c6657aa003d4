"""How far a prediction can be trusted, in words: for a line, a hover text, the caption of a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sim_core.evidence import trust
from sim_core.evidence.bands import METRICS
from sim_core.evidence.blind import Band
from sim_core.evidence.trust import Trust
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.figures import BREAK, Row, in_lines, plain, wrapped
from sim_core.view.drawing.words import number

_NAMES = (("tpot_band", "TPOT"), ("ttft_band", "TTFT"), ("throughput_band", "throughput"))


def bands_words(found: Trust) -> str:
    """Return the bands in words; empty where there are none."""
    parts = _parts(found)
    return f"measured values lie, four times in five, within {', '.join(parts)}" if parts else ""


def width_words(found: Trust) -> str:
    """Return how far off such predictions are, half of them and four of five; empty without bands.

    "Within" is the further edge of a band, so that a band to one side is no narrower in words than it is.
    """
    halves = dict(zip(METRICS, found.halves, strict=True))
    known = [(name, key) for key, name in _NAMES if halves[key.removesuffix("_band")].low > 0]
    if not known:
        return ""
    narrow = [_within(halves[key.removesuffix("_band")]) for _, key in known]
    wide = [_within(getattr(found, key)) for _, key in known]
    half = _and([f"{width} in {name}" for width, (name, _) in zip(narrow, known, strict=True)])
    return f"half of such predictions are within {half}; four of five within {_and(wide)}"


def _and(items: Sequence[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def _within(band: Band) -> str:
    factor = max(band.high, 1 / band.low)
    if factor > 2:
        return f"a factor of {number(factor, 2)}"
    return f"{round(100 * max(band.high - 1, 1 - band.low))}\N{NARROW NO-BREAK SPACE}%"


def _parts(found: Trust) -> list[str]:
    bands = ((name, getattr(found, key)) for key, name in _NAMES)
    return [f"{name} {band_words(band)}" for name, band in bands if band.low > 0]


def band_words(band: Band) -> str:
    """Return a band as signed percentages, or as factors where it is wide.

    Examples
    --------
    >>> band_words(Band(0.875, 1.2)).replace("\\N{NARROW NO-BREAK SPACE}", " "), band_words(Band(0.4, 3.0))
    ('−12 to +20 %', '0.4× to 3×')
    >>> band_words(Band(0.998, 1.1)).replace("\\N{NARROW NO-BREAK SPACE}", " ")
    '0 to +10 %'
    """
    if band.low < 0.5 or band.high > 2.0:
        return f"{number(band.low, 2)}× to {number(band.high, 2)}×"
    low, high = (_signed(edge - 1) for edge in band)
    return f"{low} to {high}\N{NARROW NO-BREAK SPACE}%"


def _signed(share: float) -> str:
    """Return a share in whole percent with its sign, which 0 has not, as in `words.signed`."""
    whole = round(100 * share)
    return f"{whole:+d}".replace("-", "−") if whole else "0"


def measured_words(value: float, band: Band, words: Callable[[float], str], inverse: bool = False) -> str:
    """Return where measured values lie beside a predicted one, "" without a band; `inverse` of a time's band.

    Examples
    --------
    >>> measured_words(10.0, Band(0.5, 1.25), str), measured_words(10.0, Band(0.5, 1.25), str, inverse=True)
    ('80 % band 5.0 to 12.5', '80 % band 8.0 to 20.0')
    """
    if not (band.low > 0 and math.isfinite(value)):
        return ""
    low, high = (1 / band.high, 1 / band.low) if inverse else band
    return f"80 % band {words(value * low)} to {words(value * high)}"


def caption(scenario: Scenario | Trust) -> str:
    """Return badge and bands for the heading of a picture; "" where the scenario cannot be."""
    try:
        found = scenario if isinstance(scenario, Trust) else trust.trust(scenario)
    except ScenarioError:
        return ""
    first = [] if found.badge == trust.VALIDATED else [found.reasons[0].rstrip(".")]
    bands = ", ".join(_parts(found))
    return " · ".join([found.badge, *first, *([f"80 % of measured values: {bands}"] if bands else [])])


def badge_hover(row: Mapping[str, Any], reasons: bool = True) -> str:
    """Return the badge of a row with the columns of `Trust.columns`, as lines of a hover text, else ""."""
    if not row.get("badge"):
        return ""
    low, high = row.get("tpot_band_low_frac", math.nan), row.get("tpot_band_high_frac", math.nan)
    band = f" · TPOT {band_words(Band(low, high))}" if low > 0 else ""
    said = reasons and row["badge"] != trust.VALIDATED
    why = wrapped(plain(row["badge_reasons"])) if said else ""
    return BREAK + in_lines(f"{row['badge']}{band}", why)


def throughput_words(row: Row, value: float) -> str:
    """Return where measured throughput lies beside a predicted one, by the band of its row."""
    band = Band(*(row[f"throughput_band_{side}_frac"] for side in Band._fields))
    return measured_words(value, band, lambda at: number(at, 2))
