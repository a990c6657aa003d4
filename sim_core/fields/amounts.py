"""Numbers as people type them: `27.5T`, `30 ms`, `2k`, `1,000`, `90%`."""

from __future__ import annotations

import re

from sim_core.fields.errors import ScenarioError, shown

PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
NUMBERS = {"thousand": 1e3, "million": 1e6, "billion": 1e9}
BILLIONS = {"B": 1.0, "billion": 1.0, "M": 1e-3, "million": 1e-3}  # of a field in 10^9, as parameters are
TIMES_S = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_TYPED = re.compile(
    r"([+-]?(?:\d+(?:[,_ ]\d{3})*|\d*)(?:\.\d+|\.)?(?:e[+-]?\d+)?)\s*(\D*)", re.ASCII | re.IGNORECASE
)
_PREFIXED = re.compile(r"(?P<prefix>[kKMGTPE]?)(?P<base>B|FLOP|OP|W)(?P<rest>(?:/s)?)")


def amount_of(text: str, unit: str = "") -> float:
    """Return a typed number in the unit of its field; a number alone is already in it.

    Letters for thousands, millions and so on count in the unit's base: `27.5T` of a field in GB/s is
    27,500, and so are `27.5 TB` and `27.5 TB/s`. As words they count in the unit itself: `2 thousand` of it
    are 2,000. Times have their own units; `90%` of a share is 0.9.

    Raises
    ------
    ScenarioError
        If the text is no number, or its unit none of the field's.

    Examples
    --------
    >>> amount_of("27.5T", "GB/s"), amount_of("2k", "tokens"), amount_of("0.03 s", "ms")
    (27500.0, 2000.0, 30.0)
    >>> amount_of("1,024"), amount_of("90%"), amount_of("95 %", "%")
    (1024.0, 0.9, 95.0)
    """
    match = _TYPED.fullmatch(text.strip()[:60])
    digits = match and match[1].translate({ord(mark): None for mark in ",_ "})
    try:
        number = float(digits or "")
    except ValueError:
        raise ScenarioError(f"{shown(text[:60])} is no number; write it such as {_example(unit)}.") from None
    factor = _factor(match[2].strip(), unit) if match else None
    if factor is None:
        raise ScenarioError(f"{shown(text[:60])} has another unit; write it such as {_example(unit)}.")
    return float(f"{number * factor:.15g}")


def _factor(word: str, unit: str) -> float | None:
    """Return by what a number with this word behind it is multiplied; None if the word does not belong."""
    if word in ("", unit) or (len(word) > 2 and f"{word}s" == unit):  # 1 token
        return 1.0
    if word == "%":
        return 0.01 if not unit else None
    if unit == "10^9":
        return BILLIONS.get(word)
    if word in NUMBERS:
        return NUMBERS[word]
    if not unit and len(word) > 2 and word.isalpha():
        return 1.0  # what is counted, as a slider says it: 8 devices
    if unit in TIMES_S:
        return TIMES_S[word] / TIMES_S[unit] if word in TIMES_S else PREFIXES.get(word)
    own, typed = _PREFIXED.fullmatch(unit), _PREFIXED.fullmatch(word)
    if own is None:
        return PREFIXES.get(word.removesuffix(unit).strip())
    if word in PREFIXES:
        return PREFIXES[word] / PREFIXES[own["prefix"]]
    if typed is None or typed["base"] != own["base"] or typed["rest"] not in ("", own["rest"]):
        return None
    return PREFIXES[typed["prefix"]] / PREFIXES[own["prefix"]]


def _example(unit: str) -> str:
    if unit in TIMES_S:
        return "30 ms" if unit == "ms" else f"2.5 {unit}"
    if _PREFIXED.fullmatch(unit):
        return f"2.5T or 2500 {unit}" if unit != "W" else "1.2k or 1200 W"
    return "2k or 2000" if unit == "tokens" else f"12.5 {unit}".strip()
