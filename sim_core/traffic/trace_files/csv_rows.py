"""Rows of CSV files by the names of their columns, whatever else stands in them.

A field behind the header's last column belongs to no column. Where it is empty (a line that ends with a
comma) nothing is lost; else the line cannot be trusted, for which of its commas is one too many is unknown.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sim_core.fields.errors import ScenarioError, shown

MAX_NUMBER = 40  # characters
MAX_LINE = 1_000_000  # characters; a field takes far more memory than its text


class Row(NamedTuple):
    """One line of a CSV: where it stands, its fields, and what stands behind the header's last column."""

    line: int
    fields: list[str]
    surplus: list[str]

    @property
    def is_whole(self) -> bool:
        """Whether nothing stands behind the last column, or only empty fields."""
        return not any(field.strip() for field in self.surplus)

    def surplus_words(self) -> str:
        """Return what stands behind the last column."""
        named = ", ".join(shown(field, 20) for field in self.surplus[:3])
        more = f" and {len(self.surplus) - 3:,} more" if len(self.surplus) > 3 else ""
        return f"{named}{more} behind the last column of the header"


def rows_of(text: str, name: str, skipped: int = 0) -> Iterator[Row]:
    """Yield the rows of a CSV, its header first; blank lines are none.

    Where the text is the header and a later part of a file, `skipped` lines stand between the two.

    Raises
    ------
    ScenarioError
        If a line is no CSV; the message names it.
    """
    reader = csv.reader(_lines(text, name, skipped), skipinitialspace=True)
    width = 0
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            width = width or len(fields)
            yield Row(skipped + reader.line_num, fields[:width], fields[width:])
    except csv.Error as error:
        line = skipped + reader.line_num
        raise ScenarioError(f"{name}, line {line}, is no CSV to be read: {error}.") from None


def rows_beyond(text: str, width: int, name: str, skipped: int = 0) -> Iterator[Row]:
    """Yield the rows with more fields than the `width` of the header; quick where nothing is quoted."""
    if '"' in text:
        yield from (row for row in rows_of(text, name, skipped) if row.surplus)
        return
    lines = text.split("\n")
    if max(map(len, lines)) >= MAX_LINE:
        lines = [line.rstrip("\n") for line in _lines(text, name, skipped)]  # raises, naming the line
    wide = [number for number, line in enumerate(lines) if line.count(",") >= width]
    for number in wide:
        fields = lines[number].split(",")
        yield Row(skipped + number + 1, fields[:width], fields[width:])


def _lines(text: str, name: str, skipped: int) -> Iterator[str]:
    """Yield the lines of a text; raise at one that is too long for a table."""
    for number, line in enumerate(io.StringIO(text), start=skipped + 1):
        if len(line) > MAX_LINE:
            raise ScenarioError(
                f"{name}, line {number:,}, has {len(line):,} characters; the limit is {MAX_LINE:,}. "
                "Write one row a line."
            )
        yield line


def places_of(header: Row, names: tuple[str, ...], name: str) -> list[int]:
    """Return where some columns stand, whatever their case; raise unless each stands there once."""
    heads = [head.strip().lower() for head in header.fields]
    for wanted in names:
        if heads.count(wanted) > 1:
            raise ScenarioError(
                f"{name}, line {header.line}: the column {wanted} stands there twice; keep one."
            )
        if wanted not in heads:
            raise ScenarioError(
                f"{name}, line {header.line}: there is no column {wanted}, or a quotation mark has no end."
            )
    return [heads.index(wanted) for wanted in names]


def field_number(fields: list[str], place: int) -> float:
    """Return a field as a number, NaN where it is none."""
    text = fields[place] if place < len(fields) else ""
    try:
        return float(text) if len(text) <= MAX_NUMBER else np.nan
    except ValueError:
        return np.nan


def commas_notes(count: int) -> tuple[str, ...]:
    """Return what is said of lines that end with empty fields; nothing of none."""
    if not count:
        return ()
    what = "1 line ends with a comma" if count == 1 else f"{count:,} lines end with a comma"
    return (f"{what} that the header does not have; columns are those that the header names.",)
