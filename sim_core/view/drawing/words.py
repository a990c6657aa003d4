"""Numbers and findings in words: the same format everywhere, three significant digits, thin spaces."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Integral
from typing import Any, NamedTuple

from sim_core.scenario.scenario import FIELDS

THIN = "\N{NARROW NO-BREAK SPACE}"
COUNTED = ("tokens", "requests", "workers")  # units that are words
_MARKS = re.compile(r"[\\`*\[\]{}<>$~|&]|(?<!\w)_|_(?!\w)")  # of Markdown, wherever they stand
_LINE_MARKS = re.compile(r"^([#+=-]|\d+[.)])")  # at the beginning of a line only
_ANY_KEY, _LONG_KEY = (  # longer ones first: one is the beginning of another
    "|".join(sorted((key for key in FIELDS if part in key), key=len, reverse=True)) for part in ("", "_")
)
_KEYS = re.compile(rf"(?<![\w=?&`/-])(?:({_ANY_KEY})=(?=\S)|({_LONG_KEY})(?![\w=`]))")
_GAPS = re.compile(rf"[^\S{THIN}]+")  # between words; a figure and its unit are one
_LINKS = re.compile(r":\S|@|www\.", re.IGNORECASE)  # links, icons and emoji, which no backslash prevents


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits, thousands grouped; a dash where there is none.

    An integer is a count and keeps all its digits: a batch limit of 1024 is not 1,020.

    Examples
    --------
    >>> number(12345.678), number(0.04567), number(150.0), number(float("nan")), number(1024)
    ('12,300', '0.0457', '150', '–', '1,024')
    """
    if isinstance(value, Integral):
        return f"{value:,}"
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    if rounded == int(rounded) and abs(rounded) >= 10 ** (digits - 1):
        return f"{int(rounded):,}"
    return f"{rounded:,.{max(decimals, 0)}f}".rstrip("0").rstrip(".") or "0"


def quantity(value: float | None, unit: str, digits: int = 3) -> str:
    """Return a number with its unit, a thin space between them; what is counted in words has a singular.

    Examples
    --------
    >>> quantity(1, "tokens").replace(THIN, " "), quantity(1, "s").replace(THIN, " ")
    ('1 token', '1 s')
    """
    unit = unit[:-1] if value == 1 and unit in COUNTED else unit
    return f"{number(value, digits)}{THIN}{unit}" if unit else number(value, digits)


def duration(value_ms: float | None, digits: int = 3) -> str:
    """Return a time given in ms in the unit people say it in.

    Examples
    --------
    >>> duration(38.21).replace(THIN, " "), duration(12345.0).replace(THIN, " ")
    ('38.2 ms', '12.3 s')
    """
    if value_ms is None or not math.isfinite(value_ms):
        return "–"
    return (
        quantity(value_ms / 1000, "s", digits) if abs(value_ms) >= 1000 else quantity(value_ms, "ms", digits)
    )


def spoken(text: str) -> str:
    """Return a message in which keys of the scenario are called as their controls are.

    A link, a file and a command have keys; a page has controls.

    Examples
    --------
    >>> spoken("Raise tensor_parallel to at least 2, or choose weight_dtype=fp8.")
    'Raise Tensor parallel to at least 2, or choose Weights: fp8.'
    """
    return _KEYS.sub(lambda key: f"{FIELDS[key[1]].label}: " if key[1] else FIELDS[key[2]].label, text)


def literal(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line: a message, a name, whatever came from outside.

    A word of which a link, an icon or an emoji would be made is set as code.

    Examples
    --------
    >>> print(literal("![x](a) <b>_no_ snake_case, at http://a.b"))
    !\\[x\\](a) \\<b\\>\\_no\\_ snake_case, at `http://a.b`
    """
    words = " ".join(
        _as_code(word) if _LINKS.search(word) else _escaped(word) for word in _GAPS.split(text.strip())
    )
    return _LINE_MARKS.sub(lambda mark: f"{mark[0][:-1]}\\{mark[0][-1]}", words)


def _escaped(word: str) -> str:
    return _MARKS.sub(lambda mark: f"\\{mark[0]}", word)


def _as_code(word: str) -> str:
    """Return a word as code, between more backticks than it holds in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", word)), default=0))
    edge = " " if "`" in (word[0], word[-1]) else ""
    return f"{fence}{edge}{word}{edge}{fence}"


def rate(value_per_s: float, unit: str, prefixes: tuple[str, ...] = ("G", "T", "P")) -> str:
    """Return a spec given in giga units with the prefix that keeps it short: 3350 GB/s as 3.35 TB/s."""
    for prefix in prefixes[:-1]:
        if abs(value_per_s) < 1000:
            return quantity(value_per_s, prefix + unit)
        value_per_s /= 1000
    return quantity(value_per_s, prefixes[-1] + unit)


def entry_label(name: str, year: int | None, key: str) -> str:
    """Return what a long list shows of an entry, so that typing finds it: words apart, year, and its id.

    A list that is searched takes letters in their order: "llama 70" is found in the first part, and
    "llama-3.1-70b", as hubs and links write it, in the last.

    Examples
    --------
    >>> entry_label("Llama-3.1-70B", 2024, "llama-3.1-70b")
    'Llama 3.1 70B · 2024 · llama-3.1-70b'
    """
    return " · ".join(filter(None, [name.replace("-", " "), str(year or ""), key]))


def percent(fraction: float | None) -> str:
    """Return a fraction as a percentage without decimals, unless it is small."""
    if fraction is None or not math.isfinite(fraction):
        return "–"
    return f"{number(100 * fraction, 2 if abs(fraction) < 0.995 else 3)}{THIN}%"


def signed(change: float) -> str:
    """Return a relative change with its sign; a dash where there is none."""
    if not math.isfinite(change):
        return "–"
    if abs(change) < 0.0005:
        return percent(0.0)
    return ("+" if change > 0 else "−") + percent(abs(change))


class Along(NamedTuple):
    """What tells the points of a curve apart: a column, a phrase for one point, its name and heading."""

    column: str
    phrase: str
    name: str
    heading: str

    def text(self, row: Mapping[str, Any]) -> str:
        """Return one point in words."""
        text = self.phrase.format(number(row.get(self.column)))
        return "1 client" if text == "1 clients" else text


def span_words(value_s: float) -> str:
    """Return a stretch of time in the unit that people say it in."""
    if value_s < 120:
        return quantity(value_s, "s")
    return quantity(value_s / 60, "min") if value_s < 7200 else quantity(value_s / 3600, "h")
