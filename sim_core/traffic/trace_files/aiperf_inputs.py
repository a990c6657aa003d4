"""AIPerf's `inputs.json`: the payloads that a run sends, by session.

A payload is what goes to a server, so that its texts tell its lengths: bytes over 4, as of all texts. Where
payloads repeat what was said before, the answers are among their messages; else each adds to the session,
and an answer is as long as the payload allows.

References
----------
ai-dynamo/aiperf, tutorial "Inputs JSON replay": `data` is a list of `session_id` and `payloads`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from sim_core.fields.errors import ScenarioError, shown
from sim_core.traffic.trace_files.conversations import BYTES_PER_TOKEN

Row = dict[str, Any]
LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "min_tokens")
TEXTS = ("messages", "prompt", "input")


def is_inputs(beginning: str) -> bool:
    """Return whether a file begins like one of payloads."""
    return re.match(r'\s*\{\s*"data"\s*:\s*\[', beginning) is not None and '"payloads"' in beginning


def inputs_rows(text: str, name: str) -> Iterator[tuple[int, Row]]:
    """Yield the number of each session from 1 on, and a row for each of its payloads: its whole prompt."""
    try:
        data = json.loads(text)["data"]
    except (ValueError, RecursionError):
        raise ScenarioError(f"{name} is no JSON. Give the inputs.json of an AIPerf run as it is.") from None
    for number, session in enumerate(data, start=1):
        payloads = session.get("payloads") if isinstance(session, dict) else None
        if not isinstance(payloads, list) or not all(isinstance(payload, dict) for payload in payloads):
            raise ScenarioError(
                f"{name}, session {number}: payloads is {shown(payloads)}; it must list what is sent. "
                "Correct or remove that session."
            )
        own = str(session.get("session_id") or f"session {number}")
        yield from ((number, row) for row in _rows(payloads, own, f"{name}, session {number}"))


def _rows(payloads: list[Row], session: str, where: str) -> Iterator[Row]:
    """Yield the lengths of a session's payloads; one that takes back what was said begins another session."""
    said = [_messages(payload) for payload in payloads]
    repeats = any(_continues(before, after) for before, after in pairwise(said))
    part = before_tokens = 0
    for place, (payload, messages) in enumerate(zip(payloads, said, strict=True)):
        if repeats and place and not _continues(said[place - 1], messages):
            part += 1
        following = said[place + 1] if place + 1 < len(said) else []
        prompt = before_tokens + max(_tokens(messages), 1)
        if repeats and _continues(messages, following):
            answers = [one for one in following[len(messages) :] if _role(one) == "assistant"]
            output = min(_tokens(answers), _tokens(following) - prompt - 1) if answers else 0
        else:
            output = _longest_answer(payload, where, place)
        output, name = max(output, 1), session if not part else f"{session} {part}"
        before_tokens = 0 if repeats else prompt + output
        yield {"session_id": name, "input_length": prompt, "output_length": output}


def _messages(payload: Row) -> list[object]:
    """Return the texts of a payload: its messages, or its prompts."""
    texts: Any = next((payload[key] for key in TEXTS if key in payload), [])
    return texts if isinstance(texts, list) else [texts]


def _continues(before: list[object], after: list[object]) -> bool:
    return 0 < len(before) < len(after) and after[: len(before)] == before


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _tokens(messages: list[object]) -> int:
    """Return the tokens of some messages, by the bytes of their texts."""
    size = sum(len(_text(message).encode("utf-8", "replace")) for message in messages)
    return round(size / BYTES_PER_TOKEN)


def _text(message: object) -> str:
    """Return the text of a message, or of a part of one."""
    if isinstance(message, dict):
        return _text(message.get("content", message.get("text", "")))
    if isinstance(message, list):
        return "".join(map(_text, message))
    return message if isinstance(message, str) else ""


def _longest_answer(payload: Row, where: str, place: int) -> int:
    """Return how long the answer to a payload may be."""
    for key in LENGTHS:
        value = payload.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    raise ScenarioError(
        f"{where}: payload {place + 1} says of no key how long its answer is. Add max_completion_tokens, or "
        "replay what AIPerf measured (profile_export.jsonl)."
    )
