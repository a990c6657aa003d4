"""What a prefix cache finds again, against a cache of blocks that is walked through."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from sim_core.results.reuse import reuse_of
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import BlockChains, Requests
from sim_core.traffic.trace_files.read import read_trace
from tests.places import SHARED

BLOCK = 16


def blocks_of_request(sent: Requests, row: int) -> list[tuple]:
    """Return names of the blocks of a request's text that is hashed, from the first token on."""
    prompt, text = int(sent.prompt_tokens[row]), int(sent.prompt_tokens[row] + sent.output_tokens[row])
    if sent.blocks:
        offsets, ids, tokens = sent.blocks
        own = ids[offsets[row] : offsets[row + 1]]
        covered = min(len(own) * tokens, prompt)
        return [(int(own[at * BLOCK // tokens]), at * BLOCK % tokens) for at in range(-(-covered // BLOCK))]
    shared = sent.system_tokens // BLOCK
    session = -1 if sent.session is None else int(sent.session[row])
    owner = ("alone", row) if session < 0 else ("session", session)
    return [("system", at) if at < shared else (*owner, at) for at in range(text // BLOCK)]


def found_by_walking(sent: Requests, capacity_blocks: float) -> int:
    """Return the tokens that an LRU cache finds, block by block."""
    cache: OrderedDict[tuple, None] = OrderedDict()
    found = 0
    for row in range(len(sent)):
        blocks = blocks_of_request(sent, row)
        most = (int(sent.prompt_tokens[row]) - 1) // BLOCK
        hits = 0
        while hits < min(most, len(blocks)) and blocks[hits] in cache:
            hits += 1
        found += hits * BLOCK
        for block in reversed(blocks):
            cache.pop(block, None)
            cache[block] = None
        while len(cache) > capacity_blocks:
            cache.popitem(last=False)
    return found


def chains(seed: int) -> Requests:
    """Return requests whose prompts branch at random, pieces of 64 tokens."""
    random = np.random.default_rng(seed)
    texts: list[list[int]] = [[]]
    prompts, ids, fresh = [], [], iter(range(10_000))
    for _ in range(60):
        stem = texts[random.integers(len(texts))]
        own = stem[: random.integers(max(len(stem), 1))] + [next(fresh) for _ in range(random.integers(1, 5))]
        texts.append(own)
        ids.append(own)
        prompts.append((len(own) - 1) * 64 + int(random.integers(1, 65)))
    offsets = np.concatenate(([0], np.cumsum([len(own) for own in ids])))
    blocks = BlockChains(offsets, np.concatenate(ids), 64)
    ones = np.ones(60, np.int64)
    return Requests(np.arange(60.0), np.array(prompts), ones, blocks=blocks)


def conversations(seed: int) -> Requests:
    """Return requests of some users, with a system prompt or without."""
    return requests_sent(
        Scenario(
            turns=4,
            prompt_tokens=120,
            turn_tokens=50,
            output_tokens=40,
            system_tokens=(0, 100, 7)[seed % 3],
            arrivals=("closed", "poisson")[seed % 2],
            concurrency=5,
            requests=80,
            seed=seed,
        )
    )


@pytest.mark.parametrize("make", [chains, conversations])
@pytest.mark.parametrize("seed", range(12))
def test_hits_of_any_capacity(make, seed: int) -> None:
    """Oracle: an LRU cache of blocks, walked through request by request, tail first."""
    sent = make(seed)
    reuse = reuse_of(sent, BLOCK)
    total = int(sent.prompt_tokens.sum())
    for capacity in (0, 1, 7, 20, 60, 200, 1e9):
        found = found_by_walking(sent, capacity)
        assert reuse.hit_frac(capacity * BLOCK) == pytest.approx(found / total, abs=1e-12)
    assert reuse.hit_frac(reuse.largest_tokens) == reuse.ideal_frac
    assert reuse.hit_frac(max(reuse.largest_tokens - 1, 0)) < reuse.ideal_frac or not reuse.ideal_frac


def test_requests_alone_have_nothing_in_common() -> None:
    """Oracle: no sessions, no system prompt: nothing is found; with one, it is, after the first."""
    assert reuse_of(requests_sent(Scenario(requests=100)), BLOCK).ideal_frac == 0
    sent = requests_sent(Scenario(requests=100, system_tokens=160))
    assert reuse_of(sent, BLOCK).ideal_frac == 99 * 160 / sent.prompt_tokens.sum()


@pytest.mark.parametrize(
    ("name", "at_3m", "here"), [("conversation", 0.41, 0.371), ("synthetic", 0.46, 0.484)]
)
def test_mooncake_capacity_curve(name: str, at_3m: float, here: float) -> None:
    """Oracle: Qin et al., FAST 2025, figure 9: share of the unlimited hit rate; and LRU over the same ids."""
    path = SHARED / "traces" / f"mooncake_{name}.jsonl"
    if not path.exists():
        pytest.skip("no shared traces here")
    reuse = reuse_of(read_trace(path), BLOCK)
    share = reuse.hit_frac(3e6) / reuse.ideal_frac
    assert share == pytest.approx(at_3m, abs=0.05)
    assert share == pytest.approx(here, abs=0.015)
    assert reuse.hit_frac(50e6) / reuse.ideal_frac > 0.99
