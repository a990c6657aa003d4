"""Results as text: JSON, CSV and aligned tables for a terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FORMATS = ("json", "table", "csv")
MISSING = "-"
WIDEST_CELL = 120
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # of a cell that a spreadsheet computes
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
Row = Mapping[str, Any]

LATENCIES = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
STATISTICS = ("mean", "p50", "p90", "p95", "p99", "n")
RATES = (
    "output_tok_per_s",
    "output_tok_per_s_per_accelerator",
    "request_per_s",
    "goodput_per_s",
    "slo_attainment_frac",
    "mfu_frac",
    "mbu_frac",
    "mean_batch",
)


def metrics_of(point: Mapping[str, Any], rates: Iterable[str] = RATES) -> dict[str, Any]:
    """Return the metrics of a flat point as JSON shows them: a table for each latency, then the rates."""
    latencies = {name: {part: point.get(f"{name}_{part}") for part in STATISTICS} for name in LATENCIES}
    return latencies | {name: point.get(name) for name in rates}


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: dicts, lists, text, ints, floats; nan and infinity are null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def json_text(value: object) -> str:
    """Return a value as JSON text."""
    return json.dumps(plain(value), indent=2, allow_nan=False)


def csv_text(rows: Sequence[Row]) -> str:
    """Return rows as CSV with a header, without the last line end; nan is an empty field."""
    out = io.StringIO()
    columns = columns_of(rows)
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writerow({key: disarmed(key) for key in columns})
    writer.writerows({key: disarmed(plain(value)) for key, value in row.items()} for row in rows)
    return out.getvalue().rstrip("\n")


def disarmed(value: Any) -> Any:
    """Return a value as a spreadsheet may open it: a text that it would take for a formula begins with `'`.

    References
    ----------
    OWASP, CSV Injection (https://owasp.org/www-community/attacks/CSV_Injection).

    Examples
    --------
    >>> disarmed("=1+1"), disarmed("-5"), disarmed(-5.0)
    ("'=1+1", '-5', -5.0)
    """
    if isinstance(value, list):
        return disarmed(str(value))
    if not isinstance(value, str) or not value.startswith(FORMULA_STARTS):
        return value
    return value if _NUMBER.fullmatch(value) else f"'{value}"


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Return all keys of the rows, in order of appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, the keys joined with a dot."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found |= flat(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = item
    return found


def cell(value: object) -> str:
    """Return a value as a table shows it: four significant digits, `-` for what is not there.

    Examples
    --------
    >>> [cell(value) for value in (1234.567, 0.0123456, 5, None, True)]
    ['1235', '0.01235', '5', '-', 'yes']
    """
    value = plain(value)
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return _digits(value)
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= WIDEST_CELL else text[: WIDEST_CELL - 3] + "..."


def _digits(value: float) -> str:
    """Return a number with four significant digits, whole digits never cut off."""
    if value == 0 or not 1e-4 <= abs(value) < 1e12:
        return f"{value:.4g}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}" if abs(value) >= 10_000 else f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def table_text(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return rows as an aligned table; numbers to the right, the unit is the last word of a header."""
    columns = columns or columns_of(rows)
    values = [[plain(row.get(column)) for column in columns] for row in rows]
    cells = [list(columns), *([cell(value) for value in row] for row in values)]
    numeric = [all(_is_number(row[place]) for row in values) for place in range(len(columns))]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    lines = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
