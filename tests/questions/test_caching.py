"""What a prefix cache does for sessions: hit rates, the cliff, and where KV blocks are."""

from __future__ import annotations

import numpy as np
import pytest

from sim_core.engine.run import run
from sim_core.questions.experiments.caching import (
    account_of,
    caching,
    of_users,
    point,
    sessions_that_fit,
    users_tried,
)
from sim_core.results.metrics import summarize
from sim_core.results.reuse import reuse_of
from sim_core.scenario.ready import ready_scenario
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from tests.traffic.test_sessions import USERS

AGENTS = USERS.replace(concurrency=8, requests=1200, prefix_caching="on")


def test_the_engine_reaches_what_there_is_while_sessions_fit() -> None:
    """Oracle: an LRU cache of the pool's size, without an engine: it loses nothing, nor does the engine."""
    found = caching(AGENTS)
    assert found.reuse.hit_frac(found.now["kv_tokens"]) == found.reuse.ideal_frac
    assert found.now["hit_frac"] == pytest.approx(found.reuse.ideal_frac, abs=0.01)
    sent, computed = found.now["prompt_tokens_sent"], found.now["prompt_tokens_computed"]
    assert computed == pytest.approx((1 - found.now["hit_frac"]) * sent)
    assert found.options["no cache"]["prompt_tokens_computed"] == pytest.approx(sent, rel=0.05)


def test_the_cliff_lies_where_sessions_no_longer_fit() -> None:
    """Oracle: tokens of the pool over those of a session: well below all is found, well beyond hardly more
    than the system prompt."""
    found = caching(AGENTS)
    share = {row["users"] / found.fits: row["hit_frac"] for row in found.users}
    assert all(frac > 0.9 for size, frac in share.items() if size < 0.7)
    assert all(frac < 0.2 for size, frac in share.items() if size > 1.8)
    ttft_ms = {row["users"]: row["ttft_ms_p50"] for row in found.users}
    assert ttft_ms[64] > 100 * ttft_ms[8]


def test_blocks_used_cached_and_free_are_all_there_are() -> None:
    """Oracle: the account: no share is negative, and together they are at most all."""
    account = account_of(run(AGENTS.replace(concurrency=40), log=True))
    assert (account.used_frac >= 0).all()
    assert (account.cached_frac >= 0).all()
    assert (account.used_frac + account.cached_frac <= 1 + 1e-12).all()
    assert account.cached_frac.max() > 0.3


def test_a_report_says_what_the_cache_found() -> None:
    """Oracle: the point's own figures, and all there is to find where one session is alone; nothing is said
    where there is no cache.
    """
    found = run(AGENTS)
    told = summarize(found.requests(), AGENTS)["prefix_cache"]
    assert told["hit_frac"] == point(AGENTS)["hit_frac"]
    assert told["hit_frac"] == told["device_hit_frac"] + told["host_hit_frac"]
    roomy = AGENTS.replace(kv_memory_frac=0.95, concurrency=1, warmup_frac=0.0)
    alone = summarize(run(roomy).requests(), roomy)["prefix_cache"]
    assert 0.8 < alone["hit_frac"] == pytest.approx(alone["ideal_hit_frac"], rel=1e-3)  # but for last tokens
    assert told["ideal_hit_frac"] == pytest.approx(alone["ideal_hit_frac"], abs=0.02)
    off = AGENTS.replace(prefix_caching="off")
    summary = summarize(run(off).requests(), off)
    assert "prefix_cache" not in summary
    assert any("prefix_caching" in note for note in summary["warnings"])


def test_sessions_cut_by_the_context_are_told() -> None:
    """Oracle: sessions of 400 turns outgrow 131,072 tokens; those of 20 do not."""
    long = AGENTS.replace(turns=400, concurrency=4)
    notes = summarize(run(long).requests(), long)["warnings"]
    assert any("began anew" in note for note in notes)
    assert not any("began anew" in note for note in summarize(run(AGENTS).requests(), AGENTS)["warnings"])


def test_users_are_tried_closer_where_they_cease_to_fit() -> None:
    """Oracle: by hand."""
    assert {20, 22, 25, 28, 31} <= set(users_tried(25.0))
    assert users_tried(1e9) == users_tried(0.1)
    assert of_users(AGENTS, 500).requests == 6000


def test_a_pool_like_kimis_thrashes_between_8_and_16_users() -> None:
    """Oracle: InferenceX, perf-changelog and PR 2380, 2026-07: Kimi-K3 on eight B300, whose KV cache holds
    3.25 million tokens; prompts of 118,000 to 230,000 tokens of which 95 % were sent before: 2.7 % found with
    16 users.
    """
    agent = Scenario(turns=65, turn_tokens=2000, prompt_tokens=110_000, prompt_cv=0.3, output_tokens=444)
    agent = agent.replace(arrivals="closed", requests=800, model="custom", **DIMENSIONS)
    found = {}
    for users in (8, 16):
        sent = requests_sent(agent.replace(concurrency=users, requests=100 * users))
        reuse = reuse_of(sent, 16, 2 * users)
        found[users] = reuse.hit_frac(3.25e6) / reuse.ideal_frac
    assert 8 < sessions_that_fit(3.25e6, reuse) < 16
    assert found[8] > 0.95
    assert found[16] < 0.2


DIMENSIONS = {
    "layers": 2,
    "hidden": 256,
    "heads": 4,
    "kv_heads": 4,
    "head_dim": 64,
    "ffn_dim": 512,
    "vocab": 1000,
}


@pytest.mark.parametrize(
    ("name", "least", "most"), [("agents-that-fit", 0.9, 1.0), ("agents-too-many", 0.0, 0.2)]
)
def test_ready_agents(name: str, least: float, most: float) -> None:
    """Oracle: their texts: nearly all is found, or next to nothing."""
    found = point(ready_scenario(name).build())
    assert least <= found["hit_frac"] <= most
    assert np.isfinite(found["ttft_ms_p50"])
