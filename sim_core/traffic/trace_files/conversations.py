"""Conversations as text (ShareGPT): the first question and its answer of each, as lengths.

The file holds text, not tokens, and no times. Lengths are bytes of UTF-8 over 4, about what English has a
token; a list that was counted with the model's own tokenizer is better.

References
----------
anon8231489123/ShareGPT_Vicuna_unfiltered. vLLM's benchmark_dataset.py also takes the first two turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TextIO

import numpy as np

from sim_core.fields.errors import ScenarioError
from sim_core.traffic.trace_files.formats import MAX_ROWS, SHAREGPT, Columns

BYTES_PER_TOKEN = 4
BLOCK = 4_000_000  # characters read at a time
LONGEST = 20_000_000  # ... of one conversation
NOTE = (
    f"lengths are the text's bytes over {BYTES_PER_TOKEN}, about what English has a token: the file has "
    "text, not tokens."
)


def read_conversations(file: TextIO, name: str) -> Columns:
    """Return the lengths of the first question and answer of each conversation of a JSON array.

    Conversations without both are left out with a note; only lengths are kept in memory.

    Raises
    ------
    ScenarioError
        If an entry is no conversation, or none has a question and an answer.
    """
    places: list[int] = []
    lengths: list[tuple[int, int]] = []
    short = turns = 0
    for number, entry in enumerate(_entries(file, name), 1):
        said = _said(entry, name, number)
        if len(said) < 2 or not (said[0] and said[1]):
            short += 1
            continue
        turns += len(said) > 3
        places.append(number)
        lengths.append((_tokens(said[0]), _tokens(said[1])))
        if len(places) > MAX_ROWS:
            raise ScenarioError(f"{name} has more than {MAX_ROWS:,} conversations, the limit. Keep fewer.")
    if not lengths:
        raise ScenarioError(f"{name} has no conversation with a question and its answer.")
    table = np.array(lengths, dtype=np.float64)
    notes = [NOTE]
    if short:
        notes.append(f"{short:,} conversations without a question and its answer were left out.")
    if turns:
        notes.append(
            f"of {turns:,} conversations later turns are not used, only the first question and answer."
        )
    return Columns(
        SHAREGPT, np.zeros(len(table)), table[:, 0], table[:, 1], places.__getitem__, notes=tuple(notes)
    )


def is_conversations(text: str) -> bool:
    """Return whether the beginning of a JSON array is that of conversations."""
    return '"conversations"' in text[:100_000] or '"conversation"' in text[:100_000]


def _said(entry: object, name: str, number: int) -> list[str]:
    """Return what was said in a conversation, from the first question on."""
    turns = entry.get("conversations", entry.get("conversation")) if isinstance(entry, dict) else None
    if not isinstance(turns, list):
        raise ScenarioError(
            f"{name}, entry {number:,}: conversations is missing; each entry needs a list of turns with "
            "from and value."
        )
    turns = [turn for turn in turns if isinstance(turn, dict)]
    texts = [turn.get("value", turn.get("content")) for turn in turns if not _is(turn, "system")]
    asked = next((at for at, turn in enumerate(turns) if not _is(turn, "gpt", "assistant", "system")), 0)
    asked -= sum(_is(turn, "system") for turn in turns[:asked])
    return [text if isinstance(text, str) else "" for text in texts[asked:]]


def _is(turn: dict[str, object], *who: str) -> bool:
    return str(turn.get("from", turn.get("role", ""))).lower() in who


def _tokens(text: str) -> int:
    return max(round(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN), 1)


def _entries(file: TextIO, name: str) -> Iterator[object]:
    """Yield the entries of a JSON array one at a time."""
    decoder, held, place, number = json.JSONDecoder(), "", 0, 1
    for block in _blocks(file, name):
        held, place = held[place:] + block, 0
        while True:
            while place < len(held) and (held[place].isspace() or held[place] in "[,\ufeff"):
                place += 1
            if place == len(held) or held[place] == "]":
                break
            try:
                entry, place = decoder.raw_decode(held, place)
            except RecursionError:
                raise ScenarioError(f"{name}, entry {number:,} is nested too deeply.") from None
            except ValueError:
                if len(held) - place > LONGEST:
                    raise _cut(name, number) from None
                break
            yield entry
            number += 1
    if held[place:].strip() not in ("]", ""):
        raise _cut(name, number)


def _blocks(file: TextIO, name: str) -> Iterable[str]:
    try:
        while block := file.read(BLOCK):
            yield block
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{name} is not UTF-8 text ({error.reason}). Save the file as UTF-8.") from None


def _cut(name: str, number: int) -> ScenarioError:
    return ScenarioError(f"{name}, entry {number:,} is not valid JSON; the file may have been cut off.")
