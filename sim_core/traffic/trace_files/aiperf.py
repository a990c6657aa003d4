"""AIPerf's files of single requests: what it measured of each, and the conversations that it is given.

Records [1]_ become the sessions that they measured: a first turn is sent when it was, a later one as long
after the answer before as it was then. Conversations [2]_ have texts, so lengths are bytes over 4, and
sessions without times.

References
----------
.. [1] ai-dynamo/aiperf, `profile_export.jsonl`: `metadata` (session, times in ns) and `metrics` of a request.
.. [2] ai-dynamo/aiperf, `multi_turn` input: `session_id` and `turns` with `text`, `delay` in ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.traffic.trace_files.conversations import BYTES_PER_TOKEN, NOTE

Row = dict[str, Any]
LENGTHS = ("output_length", "max_tokens", "max_completion_tokens")


@dataclass(slots=True)
class MeasuredTurns:
    """What earlier lines of a file say of later ones."""

    origin_ns: float = math.nan
    ended_ns: dict[str, float] = field(default_factory=dict)
    left_out: int = 0
    texts: bool = False

    def rows(self, row: Row, name: str, line: int) -> list[Row]:
        """Return a line as rows of a trace: itself, a measured request, or the turns of a conversation."""
        if isinstance(row.get("metadata"), dict) and isinstance(row.get("metrics"), dict):
            return self._measured(row, row["metadata"], row["metrics"])
        if isinstance(row.get("turns"), list) and "input_length" not in row:
            self.texts = True
            return [_turn(turn, row, name, line) for turn in row["turns"] if isinstance(turn, dict)]
        return [row]

    def _measured(self, row: Row, about: Row, metrics: Row) -> list[Row]:
        """Return a request that was answered while it counted; none for others."""
        start_ns, end_ns = (_number(about.get(key)) for key in ("request_start_ns", "request_end_ns"))
        if row.get("error") or "warm" in str(about.get("benchmark_phase", "")).lower():
            self.left_out += 1
            return []
        session = str(about.get("x_correlation_id", about.get("session_num", "")))
        found: Row = {"session_id": session}
        for key, of in (
            ("input_length", "input_sequence_length"),
            ("output_length", "output_sequence_length"),
        ):
            found[key] = _number(metrics.get(of))
        if session in self.ended_ns:
            found["delay"] = max(start_ns - self.ended_ns[session], 0.0) / 1e6
        else:
            self.origin_ns = start_ns if math.isnan(self.origin_ns) else min(start_ns, self.origin_ns)
            found["timestamp"] = start_ns / 1e6
        self.ended_ns[session] = end_ns
        return [found]

    @property
    def measured(self) -> bool:
        """Whether the file holds what was measured of requests, with times in ms since an epoch."""
        return not math.isnan(self.origin_ns)

    def notes(self) -> list[str]:
        """Return what must be said of the file."""
        notes = [NOTE] if self.texts else []
        if self.left_out:
            notes.append(f"{counted(self.left_out, 'request')} of a warm-up, or without an answer: left out.")
        return notes


def _number(value: object) -> float:
    """Return a number, or the value of a metric with its unit; nan for others."""
    if isinstance(value, dict):
        value = value.get("value", value.get("avg"))
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if known else math.nan  # type: ignore[arg-type]


def _turn(turn: Row, row: Row, name: str, line: int) -> Row:
    """Return one turn of a conversation, its length from its text."""
    texts = turn.get("texts", turn.get("text", turn.get("content", "")))
    text = "".join(str(part) for part in texts) if isinstance(texts, list) else str(texts)
    output = next((turn[key] for key in LENGTHS if key in turn), None)
    if output is None:
        raise ScenarioError(
            f"{name}, line {line}: a turn has no output_length; give each turn the length of its answer, "
            "since the file has none. Add it, or replay what AIPerf measured (profile_export.jsonl)."
        )
    length = max(round(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN), 1)
    kept = {key: turn[key] for key in ("timestamp", "delay") if turn.get(key) is not None}
    return {"session_id": str(row.get("session_id", f"line {line}")), "input_length": length, **kept} | {
        "output_length": output
    }
