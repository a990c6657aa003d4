"""Traces whose prompts begin alike: sessions, chats with parents, hashes of pieces."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import Requests
from sim_core.traffic.trace_files.read import read_trace
from sim_core.traffic.trace_files.windows import Window


def read(*rows: dict, **how: object) -> Requests:
    return read_trace("\n".join(json.dumps(row) for row in rows).encode(), name="t", **how)


def row(prompt: int, output: int, **others: object) -> dict:
    return {"input_length": prompt, "output_length": output, **others}


def test_turns_that_list_what_they_add_grow() -> None:
    """Oracle: by hand, as AIPerf sends them: 300, then 300 + 40 + 150, then 490 + 40 + 20."""
    sent = read(
        row(300, 40, session_id="s", timestamp=0),
        row(150, 40, session_id="s", delay=2000),
        row(900, 1, session_id=7, timestamp=500),
        row(20, 5, session_id="s"),
    )
    assert sent.prompt_tokens.tolist() == [300, 900, 490, 550]
    assert sent.known_tokens.tolist() == [0, 0, 340, 530]
    assert sent.session.tolist() == [0, 1, 0, 0]
    assert sent.follows_s.tolist() == pytest.approx([np.nan, np.nan, 2, 0], nan_ok=True)
    assert "each adds its input_length" in " ".join(sent.notes)


def test_turns_that_list_whole_prompts_stay() -> None:
    """Oracle: by hand: each prompt is longer than all that was said before it."""
    sent = read(
        row(300, 40, session_id="s", timestamp=0),
        row(490, 40, session_id="s", timestamp=9000),
        row(531, 5, session_id="s", timestamp=12000),
    )
    assert sent.prompt_tokens.tolist() == [300, 490, 531]
    assert sent.known_tokens.tolist() == [0, 340, 530]
    assert np.isnan(sent.follows_s).all()


def test_sessions_without_times_are_lengths() -> None:
    """Oracle: as a benchmark with a fixed number of users sends them: no time but the delay."""
    sent = read(
        row(300, 40, session_id="s"), row(150, 40, session_id="s", delay=1000), row(9, 9, session_id="t")
    )
    assert not sent.timed
    assert sent.known_tokens.tolist() == [0, 340, 0]
    closed = requests_sent(Scenario(arrivals="closed", concurrency=2), sent)
    assert closed.follows_s.tolist() == pytest.approx([np.nan, 1, np.nan], nan_ok=True)
    with pytest.raises(ScenarioError, match="line 1: timestamp is missing"):
        read(row(300, 40, session_id="s"), row(150, 40, timestamp=0))


def test_chats_continue_their_parent() -> None:
    """Oracle: by hand: two children of one parent have that parent's text in common, and no more."""
    sent = read(
        row(100, 10, chat_id=1, parent_chat_id=-1, timestamp=0.0),
        row(300, 10, chat_id=2, parent_chat_id=1, timestamp=1.5),
        row(400, 10, chat_id=3, parent_chat_id=2, timestamp=2.5),
        row(500, 10, chat_id=4, parent_chat_id=1, timestamp=3.5),
        row(50, 10, chat_id=5, parent_chat_id=-1, timestamp=4.5),
        row(111, 10, chat_id=6, parent_chat_id=4, timestamp=5.5),
    )
    assert sent.session.tolist() == [0, 0, 0, 0, 1, 0]
    assert sent.known_tokens.tolist() == [0, 110, 310, 110, 0, 110]
    assert "parent_chat_id: 6 turns of 2 sessions" in " ".join(sent.notes)


@pytest.mark.parametrize(("keys", "tokens"), [({}, 512), ({"chat_id": 1}, 16), ({}, 64)])
def test_the_size_of_a_piece_follows_from_the_ids(keys: dict, tokens: int) -> None:
    """Oracle: as many ids as prompts need at one size, in either public format or another."""
    lengths = [1, tokens, tokens + 1, 5 * tokens]
    ids = [list(range(-(-length // tokens))) for length in lengths]
    sent = read(
        *(row(length, 1, timestamp=0, hash_ids=own, **keys) for length, own in zip(lengths, ids, strict=True))
    )
    assert sent.blocks.tokens == tokens
    assert sent.blocks.offsets.tolist() == [0, 1, 2, 4, 9]
    assert sent.blocks.ids.tolist() == [0, 0, 0, 1, 0, 1, 2, 3, 4]
    assert "44.4% of them stood in an earlier prompt" in " ".join(sent.notes)


def test_ids_of_any_kind_are_told_apart() -> None:
    """Oracle: the ids themselves: words, numbers of 64 bits and more; those past a prompt's end are none."""
    sent = read(
        row(600, 1, timestamp=0, hash_ids=[3, 2**63 + 5]),
        row(600, 1, timestamp=0, hash_ids=["a", 3, "beyond"]),
        row(600, 1, timestamp=0, hash_ids=[3, 2**63 + 5]),
        row(600, 1, timestamp=0),
    )
    first, second, third, last = np.split(sent.blocks.ids, sent.blocks.offsets[1:-1])
    assert first.tolist() == third.tolist()
    assert second.tolist()[1] == first.tolist()[0]
    assert len({*first.tolist(), *second.tolist()}) == 3
    assert not len(last)


def test_a_window_keeps_sessions_whole() -> None:
    """Oracle: by hand: turns that follow another come with it, or not at all; others by their time."""
    rows = [row(100, 10, session_id=s, timestamp=1000 * s) for s in range(4)]
    rows += [row(10, 10, session_id=s, delay=1500) for s in range(4)]
    rows += [row(200, 10, session_id=1, timestamp=3_600_000)]
    sent = read(*rows, window=Window("0.0002", 0.0005))
    assert sent.session.tolist() == [1, 2, 1, 2]
    assert sent.known_tokens.tolist() == [0, 0, 110, 110]


def test_a_long_trace_of_hashes_is_read_at_once() -> None:
    """Oracle: the clock: 20,000 requests of 100 ids in seconds."""
    line = json.dumps({"timestamp": 1, "input_length": 51_000, "output_length": 9, "hash_ids": [*range(100)]})
    text = "\n".join([line] * 20_000).encode()
    began_s = time.perf_counter()
    sent = read_trace(text, name="long")
    assert time.perf_counter() - began_s < 6  # 1 s on a free core
    assert len(sent.blocks.ids) == 2_000_000
