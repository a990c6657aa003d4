"""Sessions as traffic: what each turn carries on from the one before."""

from __future__ import annotations

import numpy as np
import pytest

from sim_core.engine.run import run
from sim_core.results.metrics import summarize
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.traffic.draws import mean_lengths, requests_sent
from sim_core.traffic.sessions import TurnDraws, in_sessions, texts
from tests.hangs import no_hang

USERS = Scenario(
    turns=20,
    turn_tokens=500,
    prompt_tokens=3000,
    output_tokens=300,
    system_tokens=2000,
    think_s=5.0,
    arrivals="closed",
    concurrency=16,
    requests=4000,
)
ARRIVING = USERS.replace(arrivals="poisson", arrival_per_s=4.0)
KINDS = (
    USERS,
    ARRIVING,
    USERS.replace(turns=400),
    USERS.replace(mix="chat:0.7,rag:0.3", turn_tokens=None),
    ARRIVING.replace(arrivals="offline", turns=2, requests=7),
    USERS.replace(concurrency=5000),
)


@pytest.mark.parametrize("scenario", KINDS)
def test_each_turn_begins_with_all_that_was_said(scenario) -> None:
    """Oracle: the rule, turn after turn: a prompt is the prompt and answer before it, and something new."""
    sent = requests_sent(scenario)
    limit = model_of(scenario).max_position
    said: dict[int, int] = {}
    for row in range(len(sent)):
        session, known = int(sent.session[row]), int(sent.known_tokens[row])
        prompt, output = int(sent.prompt_tokens[row]), int(sent.output_tokens[row])
        assert known == said.get(session, 0)
        assert prompt > known
        assert prompt > scenario.system_tokens
        if scenario.arrivals == "closed":
            assert np.isnan(sent.follows_s[row]) == (row < scenario.concurrency)
        else:
            assert np.isnan(sent.follows_s[row]) == (session not in said)
        assert prompt + output <= limit
        said[session] = prompt + output
    assert len(sent) == scenario.requests
    assert (np.diff(sent.arrival_s) >= 0).all()
    assert list(dict.fromkeys(sent.session.tolist())) == list(range(len(said)))


def test_turns_and_think_times_have_the_stated_means() -> None:
    """Oracle: means of geometric and exponential draws, within four standard errors."""
    sent = requests_sent(USERS.replace(concurrency=1, requests=40_000, model="custom", **_DIMENSIONS))
    counts = np.bincount(sent.session)
    assert counts.mean() == pytest.approx(20, abs=4 * 20 / len(counts) ** 0.5)
    waits_s = sent.follows_s[~np.isnan(sent.follows_s)]
    assert waits_s.mean() == pytest.approx(5, abs=4 * 5 / len(waits_s) ** 0.5)


_DIMENSIONS = {
    "layers": 2,
    "hidden": 256,
    "heads": 4,
    "kv_heads": 4,
    "head_dim": 64,
    "ffn_dim": 512,
    "vocab": 1000,
}


def test_a_closed_loop_begins_as_it_goes_on() -> None:
    """Oracle: a stationary process: prompts are as long at the beginning as in the middle and at the end."""
    sent = requests_sent(USERS.replace(concurrency=1000, requests=30_000))
    thirds = [part.mean() for part in np.split(sent.prompt_tokens, 3)]
    assert max(thirds) / min(thirds) < 1.05


def test_sessions_arrive_so_that_requests_come_at_the_rate() -> None:
    """Oracle: the law of large numbers: the last session begins when all requests have come at the rate."""
    sent = requests_sent(ARRIVING.replace(requests=40_000))
    begun_s = sent.arrival_s[np.isnan(sent.follows_s)]
    assert begun_s[-1] == pytest.approx(40_000 / 4.0, rel=0.1)


def test_keys_stretch_what_they_name_and_nothing_else() -> None:
    """Oracle: common random numbers: the same sessions at another pace, and more of the same."""
    sent, slower = requests_sent(USERS), requests_sent(USERS.replace(think_s=50.0))
    assert (sent.prompt_tokens == slower.prompt_tokens).all()
    assert slower.follows_s == pytest.approx(10 * sent.follows_s, nan_ok=True)
    more = requests_sent(USERS.replace(requests=8000))
    assert (more.prompt_tokens[:4000] == sent.prompt_tokens).all()


def test_a_session_that_outgrows_the_context_begins_anew() -> None:
    """Oracle: a model of 131,072 tokens: sessions of any length end below, and others begin."""
    endless = USERS.replace(turns=10_000, requests=20_000)
    sent = requests_sent(endless)
    assert sent.session.max() + 1 > endless.concurrency
    longest = [sent.prompt_tokens[sent.session == number].max() for number in range(endless.concurrency)]
    assert min(longest) > 100_000


def test_turns_too_long_begin_anew_as_counted_one_by_one() -> None:
    """Oracle: the text so far, added up turn by turn in a loop."""
    rng = np.random.default_rng(0)
    first, added, output = rng.integers(1, 50, (3, 400))
    fresh = rng.random(400) < 0.05
    fresh[0] = True
    found = texts(TurnDraws(first, added, output, fresh), 120)
    session, text = -1, 0
    for i in range(400):
        anew = fresh[i] or text + added[i] + output[i] > 120
        session, known = session + anew, 0 if anew else text
        text = known + (first[i] if anew else added[i]) + output[i]
        assert (found.session[i], found.known_tokens[i]) == (session, known)
        assert found.prompt_tokens[i] == text - output[i]


def test_sessions_that_outgrow_the_context_again_and_again_are_drawn_in_time() -> None:
    """Oracle: it ends. Parting one more of them in each pass over all requests takes ten minutes."""
    scenario = Scenario(
        turns=10_000, prompt_tokens=40_000, turn_tokens=40_000, prompt_cv=0.0, requests=400_000, think_s=1.0
    )
    with no_hang():
        assert len(in_sessions(scenario)) == 400_000


def test_a_system_prompt_lengthens_every_prompt() -> None:
    """Oracle: the same draws without it."""
    plain = Scenario(requests=50)
    sent, longer = requests_sent(plain), requests_sent(plain.replace(system_tokens=700))
    assert (longer.prompt_tokens == sent.prompt_tokens + 700).all()
    assert longer.system_tokens == 700
    assert mean_lengths(plain.replace(system_tokens=700))[0] == mean_lengths(plain)[0] + 700


def test_users_think_between_requests_that_stand_alone() -> None:
    """Oracle: Little's law: each of 10 users has one request a cycle of answer and think time, 20 s."""
    users = Scenario(arrivals="closed", concurrency=10, think_s=20.0, requests=4000, output_tokens=20)
    point = summarize(run(users).requests(), users)
    cycle_s = 20 + point["metrics"]["e2e_ms"]["mean"] / 1e3
    assert point["metrics"]["request_per_s"] == pytest.approx(10 / cycle_s, rel=0.05)
    plain = Scenario(arrivals="closed", concurrency=10, requests=4000, output_tokens=20)
    assert (requests_sent(users).output_tokens == requests_sent(plain).output_tokens).all()


def test_mean_lengths_are_those_of_the_sessions() -> None:
    """Oracle: the mean of what is sent."""
    sent = requests_sent(USERS)
    assert mean_lengths(USERS) == (sent.prompt_tokens.mean(), sent.output_tokens.mean())
