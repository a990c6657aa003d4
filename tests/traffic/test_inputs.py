"""AIPerf's `inputs.json` as a trace: sessions and lengths of the payloads that it sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sim_core import ScenarioError
from sim_core.engine.run import run
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import Requests
from sim_core.traffic.trace_files.read import read_trace, with_trace


def say(role: str, tokens: int, letter: str = "a") -> dict[str, str]:
    """Return a message of so many tokens, four bytes each."""
    return {"role": role, "content": 4 * tokens * letter}


def read(*sessions: Any, indent: int | None = None) -> Requests:
    """Return the trace of sessions of payloads."""
    return read_trace(json.dumps({"data": sessions}, indent=indent).encode(), "inputs.json")


@pytest.mark.parametrize("indent", [None, 2])
def test_payloads_that_repeat_what_was_said(indent: int | None) -> None:
    """By hand: 100 tokens are asked, 20 answered, 30 asked more: 150 with 120 known; then 64 at most."""
    begin = [say("system", 60), say("user", 40)]
    later = [*begin, say("assistant", 20), say("user", 30)]
    payloads = [{"messages": begin, "max_tokens": 64}, {"messages": later, "max_tokens": 64}]
    alone = {"payloads": [{"prompt": "b" * 40, "max_tokens": 5}]}
    sent = read({"session_id": "s", "payloads": payloads}, alone, indent=indent)
    assert sent.prompt_tokens.tolist() == [100, 150, 10]
    assert sent.output_tokens.tolist() == [20, 64, 5]
    assert sent.known_tokens.tolist() == [0, 120, 0]
    assert not sent.timed
    assert sent.follows_s[1] == 0


def test_payloads_that_add_to_what_was_said() -> None:
    """By hand: turns of 100 and 30 tokens with answers of 64: the second prompt is 100 + 64 + 30."""
    payloads = [
        {"messages": [say("user", tokens, letter)], "max_completion_tokens": 64}
        for tokens, letter in ((100, "a"), (30, "b"))
    ]
    sent = read({"session_id": "s", "payloads": payloads})
    assert sent.prompt_tokens.tolist() == [100, 194]
    assert sent.known_tokens.tolist() == [0, 164]


def test_each_session_is_read_by_its_own_texts() -> None:
    """By hand: one session adds 30 and then 400 tokens, another repeats and gets an empty answer to a call.

    The whole prompts are 100, 194, 658 (100 + 64 + 30 + 64 + 400); and 100, of which the next has all: 100.
    """
    adds = [{"messages": [say("user", size)], "max_tokens": 64} for size in (100, 30, 400)]
    begin = [say("user", 100)]
    later = [*begin, {"role": "assistant", "content": None}, {"role": "tool", "content": ""}]
    repeats = [{"messages": one, "max_tokens": 8} for one in (begin, later)]
    sent = read({"session_id": "s", "payloads": adds}, {"session_id": "t", "payloads": repeats})
    assert sent.prompt_tokens.tolist() == [100, 194, 658, 100, 100]
    assert sent.output_tokens.tolist() == [64, 64, 64, 1, 8]
    assert sent.known_tokens.tolist() == [0, 164, 258, 0, 99]


def test_a_history_that_is_taken_back_begins_anew() -> None:
    """By hand: the third payload has less than was said: a session of its own."""
    first, then = [say("user", 50)], [say("user", 50), say("assistant", 9), say("user", 9)]
    sent = read(
        {"payloads": [{"messages": one, "max_tokens": 7} for one in (first, then, [say("user", 8, "c")])]}
    )
    assert sent.known_tokens.tolist() == [0, 59, 0]
    assert len(set(sent.session.tolist())) == 2


def test_it_runs_as_sessions() -> None:
    """Oracle: each request is answered, a turn after the one before, and finds its text."""
    begin = [say("user", 100)]
    later = [*begin, say("assistant", 20), say("user", 30)]
    sessions = [
        {"payloads": [{"messages": one, "max_tokens": 40} for one in (begin, later)]} for _ in range(5)
    ]
    sent = read(*sessions)
    found = run(with_trace(Scenario(prefix_caching="on"), sent), trace=sent)
    assert (found.finished_s > 0).all()
    assert sorted(found.engine.reused_tokens.tolist()) == [0] * 5 + [112] * 5


@pytest.mark.parametrize(
    ("session", "words"),
    [
        ({"payloads": [{"messages": [say("user", 5)]}]}, "says of no key how long"),
        ({"payloads": "none"}, "session 1: payloads is 'none'"),
        (7, "session 1: payloads is None"),
        ({"payloads": []}, "no session with payloads"),
    ],
)
def test_refusals_name_the_session(session: Any, words: str) -> None:
    """Each message names the file, the session and the way out."""
    kept = '{"data": [' + json.dumps(session) + '], "x": "payloads"}'
    with pytest.raises(ScenarioError, match=words):
        read_trace(kept.replace("[[", "[").encode(), "inputs.json")
