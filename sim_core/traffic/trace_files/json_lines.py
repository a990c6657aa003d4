"""JSON lines: traces of Mooncake and Bailian, and AIPerf's sessions, with what their prompts have in common.

References
----------
.. [1] kvcache-ai/Mooncake, FAST25-release: `timestamp` in ms, `hash_ids` of 512 tokens each.
.. [2] alibaba-edu/qwen-bailian-usagetraces-anon: `timestamp` in s, `hash_ids` of 16 tokens each,
   `parent_chat_id`.
.. [3] ai-dynamo/aiperf, `mooncake_trace`: turns of one `session_id` in order; each adds its `input_length` to
   the conversation, `delay` ms after the answer before.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim_core.fields.errors import ScenarioError, shown
from sim_core.traffic.trace_files.aiperf import MeasuredTurns
from sim_core.traffic.trace_files.aiperf_inputs import inputs_rows
from sim_core.traffic.trace_files.formats import (
    JSON_LENGTHS,
    MOONCAKE,
    Columns,
    refuse_text,
    refuse_too_many,
)
from sim_core.traffic.trace_files.remarks import Unit, unit_of_timestamps, unused
from sim_core.traffic.trace_files.sharing import (
    BAILIAN_TOKENS,
    MOONCAKE_TOKENS,
    Hashes,
    Sharing,
    branches,
    chats,
    grown,
    known_of,
    lists_whole_prompts,
    numbered,
    turns_said,
)

MOST_KEYS = 50
MOST_DELAY_MS = 1e12
NEVER_MS = 1e300
MAX_JSON_LINE = 1_000_000  # characters of one request; its lists take far more memory than their text
SESSION, DELAY, HASHES, CHAT, PARENT = "session_id", "delay", "hash_ids", "chat_id", "parent_chat_id"
AT_ITS_TIME = "each turn is sent at its time, ended the one before or not"


@dataclass(slots=True)
class _Rows:
    """What is read, line by line."""

    lines: list[int] = field(default_factory=list)
    numbers: list[tuple[float, float, float]] = field(default_factory=list)
    sessions: list[object] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    chats: list[tuple[object, object]] = field(default_factory=list)
    hashes: Hashes = field(default_factory=Hashes)
    keys: dict[str, None] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)  # when the last turn of each session was
    whole: bool = False  # whether prompts are known to be whole; else their lengths tell
    timed: bool = False
    untimed_line: int = 0  # of a session that begins without a time
    records: MeasuredTurns = field(default_factory=MeasuredTurns)


def read_json_lines(text: str, name: str) -> Columns:
    """Return the columns of a trace of JSON lines."""
    if text.lstrip()[0] == "[":
        raise ScenarioError(f"{name} is one JSON array; {_one_object()}")
    refuse_too_many(text.count("\n"), name)
    rows = _Rows()
    for line, words in _filled_lines(text):
        for row in rows.records.rows(_json_row(words, name, line), name, line):
            _take(rows, row, name, line)
        if rows.timed and rows.untimed_line:
            raise _missing("timestamp", name, rows.untimed_line)
    if not rows.numbers:
        raise ScenarioError(f"{name} holds no request that was answered and counted.")
    return _columns(rows)


def read_inputs(text: str, name: str) -> Columns:
    """Return the columns of the sessions that AIPerf was given (`inputs.json`); a line is a session."""
    rows = _Rows(whole=True)
    for number, row in inputs_rows(text, name):
        _take(rows, row, name, number)
    if not rows.numbers:
        raise ScenarioError(f"{name} holds no session with payloads. Give the inputs.json of an AIPerf run.")
    rows.records.texts = True
    return _columns(rows)


def _columns(rows: _Rows) -> Columns:
    """Return what was read as columns of a trace."""
    table = np.array(rows.numbers, dtype=np.float64)
    form = MOONCAKE if rows.timed else JSON_LENGTHS
    unit = _unit(table[:, 0], rows) if rows.timed else Unit(0.0)
    if rows.records.measured:
        table[:, 0] -= rows.records.origin_ns / 1e6
    prompt, sharing, notes = _shared(rows, table)
    used = {*MOONCAKE.columns, DELAY, SESSION, *(key for key in notes if notes[key])}
    if notes[HASHES]:
        used.add(PARENT)  # the hashes say what a turn has of its parent
    said = (f"{note}." for note in notes.values() if note)
    return Columns(
        form,
        table[:, 0] * unit.seconds,
        prompt,
        table[:, 2],
        rows.lines.__getitem__,
        unit.seconds,
        (*filter(None, [unit.note]), *rows.records.notes(), *said, *unused(rows.keys, used)),
        sharing=sharing,
    )


def _take(rows: _Rows, row: dict[str, Any], name: str, line: int) -> None:
    """Take a line: its numbers, and what tells that its prompt begins like another."""
    session = _named(row, SESSION, name, line)
    rows.timed |= "timestamp" in row
    rows.delays.append(_give_timestamp(row, session, rows.sent, _delay(row, name, line)))
    if session is not None and "timestamp" not in row:
        rows.untimed_line = rows.untimed_line or line
        row["timestamp"] = rows.sent[str(session)] = 0.0
    sent, prompt, output = (_json_number(row, key, name, line) for key in MOONCAKE.columns)
    rows.numbers.append((sent, prompt, output))
    rows.lines.append(line)
    rows.sessions.append(session)
    rows.chats.append((_named(row, CHAT, name, line), _named(row, PARENT, name, line)))
    rows.hashes.add(_hash_ids(row.get(HASHES), name, line))
    if len(rows.keys) < MOST_KEYS:
        rows.keys |= dict.fromkeys(key for key in row if key.isprintable())


def _hash_ids(ids: object, name: str, line: int) -> list[int | str]:
    """Return the names of the pieces of a prompt, none where it has no list of them."""
    if not isinstance(ids, list):
        return []
    if set(map(type, ids)) <= {int, str}:
        return ids
    return [_name(one, f"{HASHES} has", HASHES, f"{name}, line {line}") for one in ids]


def _named(row: dict[str, Any], key: str, name: str, line: int) -> int | str | None:
    """Return the name that a row gives a conversation, None where it gives none."""
    value = row.get(key)
    return None if value is None else _name(value, f"{key} is", key, f"{name}, line {line}")


def _name(value: object, is_what: str, key: str, where: str) -> int | str:
    """Return what names a piece of a prompt or a conversation; a whole number, however it is written."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ScenarioError(
        f"{where}: {is_what} {shown(value)}; a name is a whole number or a text. Correct that line, or leave "
        f"{key} out."
    )


def _delay(row: dict[str, Any], name: str, line: int) -> float:
    """Return how long after the turn before a line is sent, 0 where it does not say. [ms]"""
    if row.get(DELAY) is None:
        return 0.0
    delay = _json_number(row, DELAY, name, line)
    if not delay < MOST_DELAY_MS:
        raise ScenarioError(
            f"{name}, line {line}: {DELAY} is {delay:g}; it must be a number of ms below {MOST_DELAY_MS:g}. "
            "Correct or remove that line."
        )
    return max(delay, 0.0)


def _give_timestamp(row: dict[str, Any], session: object, sent: dict[str, float], delay_ms: float) -> float:
    """Give a later turn without a time that of the turn before and its delay, which is returned, else NaN."""
    stamp = row.get("timestamp")
    wait = np.nan
    if session is not None and stamp is None and str(session) in sent:
        wait = delay_ms
        row["timestamp"] = stamp = sent[str(session)] + wait
    if session is not None and isinstance(stamp, (int, float)):
        sent[str(session)] = min(stamp, NEVER_MS)  # a longer one is named once all lines are read
    return wait


def _shared(rows: _Rows, table: np.ndarray) -> tuple[np.ndarray, Sharing | None, dict[str, str]]:
    """Return whole prompts, what they have in common, and a note on each key that tells it, else none."""
    notes = dict.fromkeys((SESSION, HASHES, PARENT), "")
    prompt, output = table[:, 1], table[:, 2]
    if not (np.isfinite(table).all() and (table >= 0).all() and (table < 1e12).all()):
        return prompt, None, notes  # whoever checks them names the line
    sharing = Sharing()
    session = numbered(rows.sessions)
    if (np.bincount(session + 1)[1:] > 1).any():
        prompt, sharing, notes[SESSION] = _sessions(rows, session, prompt, output)
    if rows.hashes.lacking < len(table):
        usual = BAILIAN_TOKENS if CHAT in rows.keys or PARENT in rows.keys else MOONCAKE_TOKENS
        blocks, notes[HASHES] = rows.hashes.chains(prompt.astype(np.int64), usual)
        sharing = sharing._replace(blocks=blocks)
    elif sharing.session is None and PARENT in rows.keys:
        session, before = chats(rows.chats)
        if (before >= 0).any():
            known = branches(session, before, prompt, output)
            sharing = Sharing(session, known, np.full(len(session), np.nan))
            notes[PARENT] = (
                f"parent_chat_id: {turns_said(session)}, each of which begins with its parent's text"
            )
    return prompt, sharing if any(part is not None for part in sharing) else None, notes


def _sessions(
    rows: _Rows, session: np.ndarray, prompt: np.ndarray, output: np.ndarray
) -> tuple[np.ndarray, Sharing, str]:
    """Return whole prompts, what they have in common as turns of sessions, and what must be said of it."""
    listed = "each lists its whole prompt"
    if rows.whole:
        listed = "each goes on with all that was said"
    elif not lists_whole_prompts(session, prompt, output):
        prompt, listed = grown(session, prompt, output), "each adds its input_length to all that was said"
    follows_s = np.array(rows.delays) / 1e3
    late = int((~np.isnan(follows_s)).sum())
    sent = f"{late:,} follow their delay after the answer before" if late else AT_ITS_TIME
    sharing = Sharing(session, known_of(session, prompt, output), follows_s)
    return prompt, sharing, f"session_id: {turns_said(session)}; {listed}; {sent}"


def _unit(timestamps: np.ndarray, rows: _Rows) -> Unit:
    keys = rows.keys
    if rows.records.measured:
        return Unit(1e-3)
    return unit_of_timestamps(timestamps, keys) if np.isfinite(timestamps).all() else Unit(1e-3)


def _one_object() -> str:
    return (
        'write each request as one line such as {"timestamp": 0, "input_length": 100, "output_length": 20}.'
    )


def _filled_lines(text: str) -> Iterator[tuple[int, str]]:
    for line, words in enumerate(io.StringIO(text), start=1):
        if words.strip():
            yield line, words


def _json_row(words: str, name: str, line: int) -> dict[str, Any]:
    """Return the object of one line."""
    if len(words) > MAX_JSON_LINE:
        raise ScenarioError(
            f"{name}, line {line}, has {len(words):,} characters; the limit is {MAX_JSON_LINE:,}. "
            "Leave all but the lengths out."
        )
    try:
        row = json.loads(words)
    except (ValueError, RecursionError):
        raise ScenarioError(f"{name}, line {line} is not one JSON object; {_one_object()}") from None
    if not isinstance(row, dict):
        raise ScenarioError(f"{name}, line {line} is not a JSON object; {_one_object()}")
    return row


def _json_number(row: dict[str, Any], key: str, name: str, line: int) -> float:
    if key not in row:
        raise _missing(key, name, line)
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse_text(str(value)[:100] or "''", key, name, line)
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _missing(key: str, name: str, line: int) -> ScenarioError:
    return ScenarioError(f"{name}, line {line}: {key} is missing; {_one_object()}")
