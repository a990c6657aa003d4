"""Requests as columns: what a part of them keeps of sessions and of chains of blocks."""

from __future__ import annotations

import numpy as np

from sim_core.traffic.requests import BlockChains, Requests, own_column, requests_of
from tests.hangs import no_hang


def conversations() -> Requests:
    """Two conversations of three turns, interleaved, and a request alone."""
    sent = requests_of([0, 1, 1, 2, 3, 4, 5], [10, 10, 5, 30, 35, 60, 70], [5] * 7)
    columns = {
        "session": np.array([0, 1, -1, 0, 1, 0, 1], np.int32),
        "known_tokens": np.array([0, 0, 0, 15, 12, 35, 40], np.int32),
        "follows_s": np.array([np.nan, np.nan, np.nan, 1.0, 2.0, 3.0, 4.0]),
    }
    return Requests(sent.arrival_s, sent.prompt_tokens, sent.output_tokens, **columns)


def test_a_session_goes_on_without_the_turns_that_are_left_out():
    """Oracle: by hand. A prompt has no more in common with a turn further back than those between have."""
    part = conversations().take(np.array([0, 1, 2, 5, 6]))
    assert part.session.tolist() == [0, 1, -1, 0, 1]
    assert part.known_tokens.tolist() == [0, 0, 0, 15, 12]
    assert part.follows_s[3:].tolist() == [3.0, 4.0]
    assert np.isnan(part.follows_s[:3]).all()


def test_a_turn_without_those_before_is_the_first():
    """Oracle: by hand."""
    part = conversations().take(slice(3, None))
    assert part.known_tokens.tolist() == [0, 0, 35, 40]
    assert np.isnan(part.follows_s).tolist() == [True, True, False, False]


def test_requests_in_disorder_are_in_no_session():
    """Oracle: by hand. A turn cannot continue one that comes after it, or itself."""
    sent = conversations()
    assert sent.take(np.array([3, 0])).session is None
    assert sent.take(np.array([3, 3])).session is None
    assert sent.take(np.array([1, 0])).session.tolist() == [1, 0]


def test_chains_go_with_their_requests():
    """Oracle: by hand."""
    chains = BlockChains(np.array([0, 2, 2, 5]), np.array([7, 8, 1, 2, 3]), 512)
    sent = requests_of([0, 1, 2], [600, 5, 1100], [1, 1, 1])
    sent = Requests(sent.arrival_s, sent.prompt_tokens, sent.output_tokens, blocks=chains)
    part = sent.take(np.array([True, False, True])).blocks
    assert part.offsets.tolist() == [0, 2, 5]
    assert part.ids.tolist() == [7, 8, 1, 2, 3]
    assert sent.take(np.array([2, 1])).blocks.ids.tolist() == [1, 2, 3]
    assert sent.take(slice(0)).blocks.offsets.tolist() == [0]


def test_turns_taken_of_long_sessions_at_once() -> None:
    """Oracle: turn by turn, what all between have in common; and the clock: a session of 200,000 turns, of
    which a quarter is left out at a stretch, as windows do.
    """
    rng = np.random.default_rng(5)
    session = rng.integers(-1, 4, 200).astype(np.int32)
    known = rng.integers(0, 90, 200).astype(np.int32)
    nothing = np.full(200, np.nan)
    sent = Requests(
        np.arange(200.0), known + 1, known + 1, session=session, known_tokens=known, follows_s=nothing
    )
    for _ in range(20):
        numbers = np.flatnonzero(rng.random(200) < rng.random())
        part, last = sent.take(numbers), {}
        for at, number in enumerate(numbers.tolist()):
            mine = np.flatnonzero(session == session[number])
            between = mine[(mine > last.get(session[number], number)) & (mine <= number)]
            follows = session[number] >= 0 and session[number] in last
            assert part.known_tokens[at] == (known[between].min() if follows else 0)
            last[session[number]] = number


def test_part_of_a_long_chat_is_taken_in_time() -> None:
    """Oracle: by hand, and it ends. Looking through all turns before for each takes many minutes."""
    many = np.zeros(1_000_000, np.int32)
    columns = {"session": many, "known_tokens": many, "follows_s": np.zeros(1_000_000)}
    chat = Requests(np.arange(1_000_000.0), many + 1, many + 1, **columns)
    kept = np.ones(1_000_000, bool)
    kept[250_000:500_000] = False
    with no_hang():
        assert len(chat.take(kept)) == 750_000


def test_columns_of_kernels_have_one_type() -> None:
    """Oracle: NumPy's own `require`, which also says what need not be copied."""
    read_only = np.arange(3.0)
    read_only.flags.writeable = False
    for given in (
        np.arange(3.0),
        np.arange(3),
        np.arange(6.0)[::2],
        read_only,
        np.arange(3, dtype=np.float32),
    ):
        found, wanted = own_column(given, np.float64), np.require(given, np.float64, ["C", "W"])
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype and found.flags.c_contiguous and found.flags.writeable
        assert (found is given) == (wanted is given)
