"""CSV tables: one row a request, or one row a step of the engine."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim_core.evidence.own.formats.points import (
    LARGEST,
    MAX_ROWS,
    NAN,
    REQUEST_COLUMNS,
    Content,
    Format,
    OwnPoint,
    OwnSteps,
    Upload,
    finished,
)
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.traffic.requests import requests_of
from sim_core.traffic.trace_files.csv_rows import Row, commas_notes, field_number, places_of, rows_of
from sim_core.traffic.trace_files.remarks import doubts, extent


def _columns(text: str, names: tuple[str, ...], name: str) -> tuple[pd.DataFrame, list[str]]:
    """Return some columns as numbers, at most `MAX_ROWS` rows by their lines, and notes.

    What is no number becomes NaN; a line with more fields than the header names is left out.
    """
    rows = rows_of(text, name)
    places = places_of(next(rows), names, name)
    lines: list[int] = []
    numbers: list[list[float]] = []
    commas, surplus, notes = 0, 0, []
    first: Row | None = None
    for row in rows:
        if len(numbers) == MAX_ROWS:
            notes.append(f"Only the first {MAX_ROWS:,} rows are used, the limit.")
            break
        if not row.is_whole:
            first, surplus = first or row, surplus + 1
            continue
        commas += bool(row.surplus)
        lines.append(row.line)
        numbers.append([field_number(row.fields, place) for place in places])
    notes += commas_notes(commas)
    if first is not None:
        notes.append(_surplus_note(first, surplus))
        if not numbers:
            raise ScenarioError(f"{name} has no usable row. {notes[-1]}")
    table = np.array(numbers, dtype=float).reshape(-1, len(names))
    return pd.DataFrame(table, index=lines, columns=list(names)), notes


def _surplus_note(first: Row, count: int) -> str:
    lines = f"Line {first.line:,} has" if count == 1 else f"{count:,} lines, the first {first.line:,}, have"
    return f"{lines} {first.surplus_words()}; left out. Name the column in the header, or quote the field."


def _kept(frame: pd.DataFrame, good: pd.Series, name: str, what: str, notes: list[str]) -> pd.DataFrame:
    """Return the good rows; the others are noted with the first of their lines."""
    bad = int((~good).sum())
    if bad:
        line = int(frame.index[np.flatnonzero(~good.to_numpy())[0]])
        notes.append(f"{bad:,} of {len(frame):,} rows were left out, the first near line {line:,}: {what}.")
    if not good.any():
        raise ScenarioError(f"{name} has no usable row: {what}. Correct it.")
    return frame[good]


def csv_steps(content: Content) -> Upload:
    """Return the steps of a CSV."""
    frame, notes = _columns(content.text, OwnSteps._fields, content.name)
    finite = np.isfinite(frame).all(axis=1) & (frame <= LARGEST).all(axis=1)
    good = finite & (frame.tokens >= 1) & (frame.decode_context >= 0) & (frame.prefill_pairs >= 0)
    good &= frame.time_ms > 0
    what = "tokens at least 1, time_ms above 0 and no negative number are needed"
    frame = _kept(frame, good, content.name, what, notes)
    steps = OwnSteps(*(frame[key].to_numpy() for key in OwnSteps._fields))
    return Upload(content.name, "steps", (), steps, tuple(notes))


def csv_requests(content: Content) -> Upload:
    """Return the requests of a CSV as one point that can be replayed."""
    frame, notes = _columns(content.text, REQUEST_COLUMNS, content.name)
    lengths = (frame.prompt_tokens.round() >= 1) & (frame.output_tokens.round() >= 1)
    lengths &= (frame.prompt_tokens <= 1e6) & (frame.output_tokens <= 1e6)
    good = lengths & (frame.arrival_s >= 0) & (frame.arrival_s <= 1e8)
    what = "arrival_s of at least 0 and lengths of 1 to 1,000,000 tokens are needed"
    frame = _kept(frame, good, content.name, what, notes).sort_values("arrival_s", kind="stable")
    for key in ("ttft_ms", "e2e_ms"):
        frame[key] = frame[key].where((frame[key] > 0) & (frame[key] <= LARGEST))
    wrong = frame.e2e_ms < frame.ttft_ms
    if wrong.any():
        notes.append(f"{int(wrong.sum()):,} rows have an e2e_ms below their ttft_ms; both were left out.")
        frame.loc[wrong, ["ttft_ms", "e2e_ms"]] = NAN
    arrival_s = frame.arrival_s.to_numpy()
    notes = [extent(arrival_s), *doubts(arrival_s), *notes]
    return finished(content.name, "requests", [_requests_point(frame)], notes)


def _requests_point(frame: pd.DataFrame) -> OwnPoint:
    rows = requests_of(
        frame.arrival_s.to_numpy() - frame.arrival_s.iloc[0],
        frame.prompt_tokens.round().to_numpy(np.int64),
        frame.output_tokens.round().to_numpy(np.int64),
    )
    ttft_ms, e2e_ms = frame.ttft_ms.to_numpy(), frame.e2e_ms.to_numpy()
    many = rows.output_tokens > 1
    gaps_ms = (e2e_ms - ttft_ms)[many]
    tpot = gaps_ms / (rows.output_tokens[many] - 1)
    finished_s = rows.arrival_s + 1e-3 * e2e_ms
    known = np.isfinite(finished_s)
    span_s = float(finished_s[known].max()) if known.any() else NAN
    return OwnPoint(
        name=counted(len(frame), "request"),
        tool="requests",
        arrivals="trace",
        requests=len(frame),
        prompt_tokens=float(rows.prompt_tokens.mean()),
        output_tokens=float(rows.output_tokens.mean()),
        ttft_ms=_mean(ttft_ms),
        tpot_ms=_mean(tpot),
        e2e_ms=_mean(e2e_ms),
        output_tok_per_s=float(rows.output_tokens[known].sum()) / span_s if known.any() else NAN,
        request_per_s=float(known.sum()) / span_s if known.any() else NAN,
        rows=rows,
    )


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else NAN


def _has(content: Content, names: tuple[str, ...]) -> bool:
    """Return whether a CSV has each of some columns, whatever the case of its titles."""
    return {*names} <= {head.lower() for head in content.heads}


FORMATS = (
    Format(
        "requests",
        f"A CSV of requests: `{','.join(REQUEST_COLUMNS)}`",
        knows=lambda content: _has(content, REQUEST_COLUMNS),
        read=csv_requests,
    ),
    Format(
        "steps",
        f"A CSV of engine steps: `{','.join(OwnSteps._fields)}`",
        knows=lambda content: _has(content, OwnSteps._fields),
        read=csv_steps,
    ),
)
