"""Formats of traces: their columns, and what a parser makes of a file before it is checked.

References
----------
Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and 2024.md.
HPMLL/BurstGPT: `Timestamp` in seconds; a request with 0 response tokens has failed.
microsoft/vidur, `TraceRequestGenerator`: `arrived_at` in seconds; its processed traces hold lengths alone.
Mutinifni/splitwise-sim, generate_trace.py: `arrival_timestamp` in seconds.
kvcache-ai/Mooncake, FAST25-release/traces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, NoReturn

import numpy as np
import pandas as pd

from sim_core.fields.errors import ScenarioError, shown
from sim_core.traffic.trace_files.sharing import Sharing

MAX_ROWS = 5_000_000
MAX_SPAN_S = 1e8


class Format(NamedTuple):
    """The columns of one format: arrival, prompt and output.

    Attributes
    ----------
    arrival : str
        Empty where a format holds lengths alone.
    clock : bool
        Whether arrivals are dates and times; else they are numbers.
    failed : bool
        Whether a request without output has failed, and is none of the load; else it counts as one token.
    """

    name: str
    arrival: str
    prompt: str
    output: str
    clock: bool = False
    failed: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """All that there are, in this order."""
        return tuple(filter(None, (self.arrival, self.prompt, self.output)))


OWN = Format("own CSV", "arrival_s", "prompt_tokens", "output_tokens")
AZURE = Format("Azure CSV", "TIMESTAMP", "ContextTokens", "GeneratedTokens", clock=True)
MOONCAKE = Format("Mooncake JSON lines", "timestamp", "input_length", "output_length")
JSON_LENGTHS = MOONCAKE._replace(name="JSON lines without times", arrival="")
BURSTGPT = Format("BurstGPT CSV", "Timestamp", "Request tokens", "Response tokens", failed=True)
VIDUR = Format("Vidur CSV", "arrived_at", "num_prefill_tokens", "num_decode_tokens")
SPLITWISE = Format("splitwise-sim CSV", "arrival_timestamp", "prompt_size", "token_size")
VIDUR_LENGTHS = VIDUR._replace(name="Vidur CSV of lengths", arrival="")
LENGTHS = Format("CSV of lengths", "", "input_length", "output_length")
SHAREGPT = Format("ShareGPT JSON", "", "the prompt", "the answer")
CSV_FORMATS = (OWN, AZURE, BURSTGPT, VIDUR, SPLITWISE, VIDUR_LENGTHS, LENGTHS)  # the first that fits
OTHERS = "an Azure, BurstGPT, Vidur, splitwise-sim, Mooncake or ShareGPT file"


class Columns(NamedTuple):
    """What a parser found: numbers as float64, not yet checked, and how to find a row in the file.

    `unit_s` is one step of the file's arrivals, `notes` what of the file was guessed or is not used, `origin`
    the clock time from which arrivals count, `sharing` what prompts have in common.
    """

    format: Format
    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    line_of: Callable[[int], int]
    unit_s: float = 1.0
    notes: tuple[str, ...] = ()
    origin: pd.Timestamp | None = None
    sharing: Sharing | None = None

    def rows(self, kept: np.ndarray) -> Columns:
        """Return the rows of a mask; each still knows its line."""
        if kept.all():
            return self
        places, line_of = np.flatnonzero(kept), self.line_of
        return self._replace(
            arrival_s=self.arrival_s[places],
            prompt_tokens=self.prompt_tokens[places],
            output_tokens=self.output_tokens[places],
            line_of=lambda row: line_of(int(places[row])),
            sharing=self.sharing and self.sharing.take(places),
        )


def check_arrivals(columns: Columns, name: str) -> None:
    """Raise a `ScenarioError` unless every arrival lies within 0 and `MAX_SPAN_S` seconds."""
    arrival_s = columns.arrival_s
    bad = np.flatnonzero(~((arrival_s >= 0) & (arrival_s <= MAX_SPAN_S)))
    if len(bad) == 0:
        return
    row = int(bad[0])
    key, value, unit, most = columns.format.arrival, arrival_s[row], "s", MAX_SPAN_S
    if columns.unit_s == 1e-3:
        value, unit, most = value * 1e3, "ms", MAX_SPAN_S * 1e3
    raise ScenarioError(
        f"{name}, line {columns.line_of(row)}: {key} is {value:,.15g} {unit}; it must lie between 0 and "
        f"{most:,.0f} {unit} after the start. Count from the first request."
    )


def refuse_text(cell: str, key: str, name: str, line: int) -> NoReturn:
    """Refuse a cell that is no number."""
    what = f"is {shown(cell)}; it must be a number" if cell.strip() else "is missing"
    raise ScenarioError(f"{name}, line {line}: {key} {what}. Correct or remove that line.")


def refuse_too_many(rows: int, name: str) -> None:
    """Refuse more than `MAX_ROWS` rows and a header."""
    if rows > MAX_ROWS + 1:
        raise ScenarioError(
            f"{name} has {rows:,} lines; the limit is {MAX_ROWS:,}. Keep fewer rows, or read a window of it: "
            "--from and --hours."
        )
