"""Traces whose prompts begin alike: sessions, chats with parents, hashes of pieces."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import Requests
from sim_core.traffic.trace_files.read import read_trace
from sim_core.traffic.trace_files.sharing import branches
from sim_core.traffic.trace_files.windows import Window
from tests.hangs import no_hang


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


@pytest.mark.parametrize(
    ("other", "said"),
    [(True, "True"), ([4], r"\[4\]"), (0.5, "0.5"), (None, "None"), ({}, "{}"), (float("nan"), "nan")],
    ids=str,
)
def test_what_is_no_name_is_refused(other: object, said: str) -> None:
    """Oracle: the message names file, line, value and what is expected."""
    expected = "a name is a whole number or a text. Correct that line, or leave"
    with pytest.raises(ScenarioError, match=rf"t, line 2: hash_ids has {said}; {expected} hash_ids"):
        read(row(900, 1, timestamp=0, hash_ids=[3, "a"]), row(900, 1, timestamp=0, hash_ids=[3, other]))
    for key in ("session_id", "chat_id", "parent_chat_id") if other is not None else ():
        with pytest.raises(ScenarioError, match=rf"t, line 2: {key} is {said}; {expected} {key}"):
            read(row(900, 1, timestamp=0, **{key: 7}), row(900, 1, timestamp=0, **{key: other}))


def test_whole_numbers_are_names_however_they_are_written() -> None:
    """Oracle: 3 and 3.0 are one number."""
    sent = read(*(row(600, 1, timestamp=0, hash_ids=ids) for ids in ([3, 4], [3.0, 5.0])))
    assert sent.blocks.ids.tolist() == [3, 4, 3, 5]
    sent = read(*(row(600, 1, timestamp=0, session_id=name) for name in (3, 3.0, 4.0)))
    assert sent.session.tolist() == [0, 0, 1]


def test_one_turn_that_lost_some_text_leaves_whole_prompts_whole() -> None:
    """Oracle: the prompts as listed: each of 20 adds 110 tokens, and one lacks 100 of those before."""
    prompts = [100 + 110 * turn - 100 * (turn == 12) for turn in range(20)]
    sent = read(*(row(prompt, 10, session_id="s", timestamp=1000 * at) for at, prompt in enumerate(prompts)))
    assert sent.prompt_tokens.tolist() == prompts
    assert sent.known_tokens.tolist() == [
        0,
        *(min(p + 10, q - 1) for p, q in itertools.pairwise(prompts)),
    ]


def test_a_window_keeps_sessions_whole() -> None:
    """Oracle: by hand: turns that follow another come with it, or not at all; others by their time."""
    rows = [row(100, 10, session_id=s, timestamp=1000 * s) for s in range(4)]
    rows += [row(10, 10, session_id=s, delay=1500) for s in range(4)]
    rows += [row(200, 10, session_id=1, timestamp=3_600_000)]
    sent = read(*rows, window=Window("0.0002", 0.0005))
    assert sent.session.tolist() == [1, 2, 1, 2]
    assert sent.known_tokens.tolist() == [0, 0, 110, 110]


def test_a_long_trace_of_hashes_is_read_whole() -> None:
    """Oracle: by hand: 2,000 requests of 100 ids."""
    line = json.dumps({"timestamp": 1, "input_length": 51_000, "output_length": 9, "hash_ids": [*range(100)]})
    text = "\n".join([line] * 2_000).encode()
    sent = read_trace(text, name="long")
    assert sent.blocks.ids.tolist() == [*range(100)] * 2_000


def record(
    session: int, turn: int, start_s: float, end_s: float, prompt: int, output: int, **more: object
) -> dict:
    about = {"session_num": session, "turn_index": turn, "benchmark_phase": "profiling"}
    about |= {
        "request_start_ns": round(1.7e18 + 1e9 * start_s),
        "request_end_ns": round(1.7e18 + 1e9 * end_s),
    }
    lengths = {"input_sequence_length": prompt, "output_sequence_length": output}
    metrics = {key: {"value": value, "unit": "tokens"} for key, value in lengths.items()}
    return {"metadata": about, "metrics": metrics, "error": None} | more


def test_measured_requests_are_sent_as_they_were() -> None:
    """Oracle: by hand: first turns at their time, later ones as long after the answer before as measured."""
    sent = read(
        record(0, 0, 10.0, 12.0, 100, 10),
        record(1, 0, 10.5, 11.0, 50, 5),
        record(0, 1, 15.0, 16.0, 130, 10),
        record(2, 0, 9.0, 9.5, 70, 5, metadata={"benchmark_phase": "warmup", "request_start_ns": 1}),
        record(3, 0, 16.0, 17.0, 70, 5, error={"code": 500}),
        record(4, 0, 16.0, 17.0, 70, 5),
    )
    assert sent.timed
    assert sent.arrival_s.tolist() == pytest.approx([0, 0.5, 3.0, 6.0])
    assert sent.prompt_tokens.tolist() == [100, 50, 130, 70]
    assert sent.known_tokens.tolist() == [0, 0, 110, 0]
    assert sent.follows_s.tolist() == pytest.approx([np.nan, np.nan, 3.0, np.nan], nan_ok=True)
    assert "2 requests of a warm-up, or without an answer: left out" in " ".join(sent.notes)


def test_conversations_that_aiperf_is_given_are_sessions() -> None:
    """Oracle: by hand: bytes over 4 a turn, each after all that was said; an answer needs its length."""
    turns = [
        {"text": "a" * 400, "output_length": 20},
        {"texts": ["b" * 40], "delay": 500, "output_length": 5},
    ]
    sent = read({"session_id": "s", "turns": turns}, {"session_id": "t", "turns": turns[:1]})
    assert sent.prompt_tokens.tolist() == [100, 130, 100]
    assert sent.known_tokens.tolist() == [0, 120, 0]
    assert not sent.timed
    with pytest.raises(ScenarioError, match="line 1: a turn has no output_length"):
        read({"session_id": "s", "turns": [{"text": "hello"}]})


def test_answers_to_one_chat_have_it_in_common_alone() -> None:
    """Oracle: what two rows have in common is the least of all rows between, looked up one by one."""
    rng = np.random.default_rng(0)
    parent = np.array([-1] + [rng.integers(0, row) for row in range(1, 60)])
    prompts, outputs = rng.integers(1, 99, (2, 60))
    known = branches(np.zeros(60, np.int32), parent, prompts, outputs)
    for row in range(1, 60):
        said = prompts[parent[row]] + outputs[parent[row]]
        assert known[row] == min(said, prompts[row] - 1, *known[parent[row] + 1 : row])


def test_many_answers_to_one_chat_are_read_in_time() -> None:
    """Oracle: by hand, and it ends. Looking through all answers for each of 100,000 takes ten minutes."""
    parent = np.r_[-1, np.zeros(99_999, np.int64)]
    with no_hang():
        known = branches(np.zeros(100_000, np.int32), parent, np.full(100_000, 200), np.full(100_000, 5))
    assert known.tolist() == [0, *[199] * 99_999]


@pytest.mark.parametrize("delay", ["1e308", "NaN", "Infinity", "9" * 400, '"soon"', "[1]", "true"])
def test_delays_that_are_none_are_named(delay: str) -> None:
    """By hand: the message names line and key, whether the file has times or none."""
    first = '"session_id": "a", "input_length": 9, "output_length": 9'
    for times in ("", '"timestamp": 5, '):
        text = f'{{{times}{first}}}\n{{{first}, "delay": {delay}}}'
        with pytest.raises(ScenarioError, match=r"^mine\.jsonl, line 2: delay is"):
            read_trace(text.encode(), "mine.jsonl")


def test_a_time_too_long_to_add_to_is_named() -> None:
    """By hand: the line with that time, not the next turn, which is sent some time after it."""
    turn = '"session_id": "a", "input_length": 9, "output_length": 9'
    text = f'{{"timestamp": {"9" * 400}, {turn}}}\n{{{turn}, "delay": 1.5}}'
    with pytest.raises(ScenarioError, match=r"^mine\.jsonl, line 1: timestamp is"):
        read_trace(text.encode(), "mine.jsonl")
