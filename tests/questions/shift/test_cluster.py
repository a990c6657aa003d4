"""A cluster whose workers move: states add up, nobody is lost, moves by hand, and a queue by theory."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from sim_core import load_scenario
from sim_core.engine.kernels.pools.moves import MovePlan
from sim_core.engine.kernels.records import DECODES, PREFILLS
from sim_core.engine.run import run_priced
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.price.pools import pool_prices
from sim_core.price.priced import priced
from sim_core.price.step_cost import Transfer
from sim_core.questions.shift.cluster import (
    STATES,
    Cluster,
    check_workers,
    phases_s,
    reallocation_s,
    spans,
    state_s,
)
from sim_core.questions.shift.study import Study
from sim_core.traffic.demand import Demand
from sim_core.traffic.requests import requests_of
from tests.engine.test_moves import engine_of
from tests.runs import make_cost

WORKERS = "demand_hours=0.03&prefill_workers=3&decode_workers=2"
SMALL = f"{WORKERS}&slo_tpot_ms=20"
RANKS = "model=gpt-oss-20b&tensor_parallel=2&expert_parallel=2&attention_data_parallel=2"


def driven(query: str, seed: int, hours: float = 0.03) -> tuple[Cluster, Study]:
    """Return a cluster after a random wish every few seconds."""
    study = Study(load_scenario(query))
    random = np.random.default_rng(seed)
    cluster = Cluster(study.scenario, study.pools, study.demand, 3)
    for now_s in np.arange(3.0, 3600 * hours, 3.0):
        cluster.advance(now_s)
        cluster.ask(int(random.integers(-1, 8)), float(now_s))
    cluster.advance(math.inf)
    return cluster, study


QUERIES = (
    f"{SMALL}&init_s=2&warm_up_s=1&sync_s=0",
    f"{SMALL}&init_s=0&warm_up_s=0&sync_s=0&storage_gb_per_s=1000000",
    f"{SMALL}&drain=migrate&init_s=5",
    f"{SMALL}&drain=migrate&init_s=1&hbm_gb=22&kv_memory_frac=0.95",
    f"{SMALL}&init_s=1&hbm_gb=22&kv_memory_frac=0.95&preemption=swap",
    f"{SMALL}&demand_load_frac=1.4&init_s=1",
    f"{WORKERS}&pipeline_parallel=2&slo_tpot_ms=60&init_s=1",
    f"{WORKERS}&pipeline_parallel=2&slo_tpot_ms=60&init_s=1&drain=migrate",
    f"{WORKERS}&{RANKS}&init_s=1",
    f"{WORKERS}&{RANKS}&init_s=1&drain=migrate&prefill_attention_data_parallel=1",
)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_nobody_is_lost_or_served_twice(query: str, seed: int) -> None:
    """Oracle: counting: every request that fits has all its tokens, once; memory is whole at the end."""
    cluster, study = driven(query, seed)
    assert len(cluster.decisions) > 3
    requests = cluster.engine.decode.stacked.requests
    assert requests.size == cluster.kept.sum() == len(study.demand.requests)
    first, done = requests["first_token_s"], requests["finished_s"]
    assert np.isfinite(done).all()
    assert np.all(first >= study.demand.requests.arrival_s) and np.all(done >= first)
    assert np.all(done[requests["output"] > 1] > first[requests["output"] > 1])
    pool = cluster.engine.decode
    decode = pool.ranks if pool.ranks.size else pool.states
    assert decode["unfinished"].sum() == decode["running"].sum() == decode["decodes"].sum() == 0
    assert set(decode["free_blocks"].flat) == {study.pools.decode.kv_blocks}
    assert decode["context"].sum() == 0


@pytest.mark.parametrize("query", QUERIES[:3])
def test_states_add_up_to_all_workers_all_the_time(query: str) -> None:
    """Oracle: workers x duration; each worker's spans follow one another without gap."""
    cluster, study = driven(query, 7)
    end_s = study.duration_s
    found = spans(cluster, study.scenario, end_s)
    assert sum(state_s(found).values()) == pytest.approx(5 * end_s, rel=1e-12)
    for worker in range(5):
        own = [span for span in found if span.worker == worker]
        assert own[0].start_s == 0 and own[-1].end_s == end_s
        assert all(before.end_s == after.start_s for before, after in pairwise(own))
    away_s = sum(state_s(found)[state] for state in STATES[3:])
    moves = cluster.moves()
    whole_s = np.clip(np.minimum(moves["ready_s"], end_s) - moves["drained_s"], 0, None).sum()
    assert away_s == pytest.approx(whole_s, rel=1e-9)


def test_a_ready_worker_stays_in_each_pool() -> None:
    """Oracle: whatever is asked for, at every moment one worker of each pool takes work."""
    cluster, study = driven(f"{SMALL}&init_s=20", 3)
    moves = cluster.moves()
    for now_s in np.arange(3.0, study.duration_s, 1.0):
        pools = [pool_of_worker(cluster, moves, worker, now_s) for worker in range(5)]
        assert {PREFILLS, DECODES} <= set(pools), now_s


def pool_of_worker(cluster: Cluster, moves: np.ndarray, worker: int, now_s: float) -> int | None:
    """Return the pool in which a worker takes work at a moment; None while it is on its way."""
    past = moves[(moves["worker"] == worker) & (moves["asked_s"] <= now_s)]
    if past.size == 0:
        return int(cluster.start[worker])
    return int(past[-1]["to"]) if past[-1]["ready_s"] <= now_s else None


def test_the_least_busy_worker_leaves() -> None:
    """Oracle: the numbers of unfinished requests at that moment."""
    study = Study(load_scenario(SMALL))
    cluster = Cluster(study.scenario, study.pools, study.demand, 2)
    cluster.advance(40.0)
    unfinished = cluster.engine.decode.states["unfinished"].copy()
    cluster.ask(3, 40.0)
    (worker,) = cluster.moves()["worker"]
    assert worker >= 2 and unfinished[worker] == unfinished[2:].min()


def test_phases_by_hand() -> None:
    """Oracle: bytes of the worker's weights over the bandwidth of its storage, the rest as asked."""
    scenario = load_scenario(
        "model=llama-3.1-70b&tensor_parallel=4&init_s=1&warm_up_s=2&sync_s=3&storage_gb_per_s=10"
    )
    found = phases_s(scenario)
    assert found["load"] == pytest.approx(memory(scenario)["weights_gb"] / 10)
    assert found["load"] == pytest.approx(141.1 / 10, rel=0.01)  # 70.55 billion parameters of 2 bytes
    assert reallocation_s(scenario) == pytest.approx(6 + found["load"])


def test_pools_of_different_workers_are_refused() -> None:
    """Oracle: by hand."""
    with pytest.raises(ScenarioError, match="keeps its devices"):
        check_workers(load_scenario("policy=disaggregated&decode_tensor_parallel=2"))


def test_workers_of_different_stages_are_refused() -> None:
    """Oracle: by hand."""
    with pytest.raises(ScenarioError, match=r"2 stages and decode workers 1.*prefill_pipeline_parallel"):
        check_workers(load_scenario("policy=disaggregated&prefill_pipeline_parallel=2"))


@pytest.mark.parametrize(
    "layout",
    ["pipeline_parallel=1", "pipeline_parallel=3", RANKS, f"{RANKS}&prefill_attention_data_parallel=1"],
)
def test_workers_that_stay_are_two_pools(layout: str) -> None:
    """Oracle: the run of the same two pools, whose workers may have stages or ranks, to the last bit."""
    study = Study(load_scenario(f"{WORKERS}&policy=disaggregated&slo_tpot_ms=90&{layout}"))
    cluster = Cluster(study.scenario, study.pools, study.demand, study.scenario.prefill_workers)
    cluster.advance(math.inf)
    found = run_priced(priced(study.scenario), study.demand.requests)
    requests, after_s = cluster.engine.decode.stacked.requests, study.pools.decode.request_after_s
    np.testing.assert_allclose(requests["first_token_s"] + after_s, found.first_token_s, rtol=1e-12)
    np.testing.assert_allclose(requests["finished_s"] + after_s, found.finished_s, rtol=1e-12)


# --- by hand --------------------------------------------------------------------------------------


RULES = {
    "max_running": 8, "prefill_max_running": 8, "token_budget": 64, "kv_blocks": 10**6,
    "prefill_kv_blocks": 10**6, "kv_block_tokens": 16, "preemption": "recompute",
}  # fmt: skip


FREE = Transfer(0.0, 0.0, 1, False)


def moved(requests, plan, worker, to, at_s, transfer=FREE, workers=3, prefill=1):
    """Return engine results and the move: a prefill token takes 1 s, a decode step 2 s."""
    costs = make_cost(np.arange(200.0)), make_cost([0.0] + [2.0] * 100)
    engine = engine_of(*costs, transfer, requests, RULES, plan, workers, prefill)
    engine.advance(at_s)
    engine.ask_move(worker, to, at_s)
    engine.advance(math.inf)
    return engine.results(), engine.moves[0]


def test_a_decode_worker_finishes_first() -> None:
    """By hand: a prompt of 3 tokens ends at 3; 5 more tokens of 2 s each take worker 1 until 13. Asked to
    leave at 6, it is drained at 13 and, with 10 s of reallocation, ready at 23."""
    (found, _), move = moved([(0.0, 3, 6)], MovePlan(10.0, False, False), 1, PREFILLS, 6.0)
    assert found.finished_s.tolist() == [13.0]
    assert (move["drained_s"], move["ready_s"]) == (13.0, 23.0)


def test_a_migrating_request_travels_and_goes_on() -> None:
    """By hand: first token at 3, then steps 3-5 and 5-7 on worker 1. Asked to leave at 6, its step ends at 7:
    prompt 3 + 2 tokens of KV cache travel for 1 + 5 x 0.5 = 3.5 s to worker 2, where the three tokens that
    are left take until 10.5 + 6 = 16.5. Worker 1 is drained when its link is: at 10.5."""
    transfer = Transfer(0.5, 1.0, 1, False)
    costs = make_cost(np.arange(200.0)), make_cost([0.0] + [2.0] * 100)
    engine = engine_of(*costs, FREE, [(0.0, 3, 6)], RULES, MovePlan(10.0, True, False), 3, 1)
    engine.advance(6.0)
    engine._links = engine._links._replace(transfer=transfer)
    engine.ask_move(1, PREFILLS, 6.0)
    engine.advance(math.inf)
    found, split = engine.results()
    assert found.finished_s.tolist() == [16.5]
    assert split.stages["receiver"].tolist() == [2]
    assert (engine.moves[0]["drained_s"], engine.moves[0]["ready_s"]) == (10.5, 20.5)


def test_the_ranks_of_a_worker_migrate_over_links_of_their_own() -> None:
    """By hand: four prompts of 3 tokens end in one step at 6, the first and third on rank 0 of worker 0,
    whose link brings both before the others: workers 1 and 2 have two decodes each, one a rank. Asked to
    leave at 7, worker 1 ends its step at 8: 4 tokens of each travel for 1 + 4 x 0.5 = 3 s, side by side, to
    worker 2, where the four tokens that are left take from its next step on, at 12, until 12 + 8 = 20."""
    transfer = Transfer(0.5, 1.0, 1, False)
    costs = make_cost(np.arange(200.0)), make_cost([0.0] + [2.0] * 100)
    rules = {**RULES, "prefill_ranks": 2, "ranks": 2}
    engine = engine_of(*costs, FREE, [(0.0, 3, 6)] * 4, rules, MovePlan(10.0, True, False), 3, 1)
    engine.advance(7.0)
    engine._links = engine._links._replace(transfer=transfer)
    engine.ask_move(1, PREFILLS, 7.0)
    engine.advance(math.inf)
    found, split = engine.results()
    assert split.stages["receiver"].tolist() == [2, 2, 2, 2]
    assert split.stages["transfer_end_s"].tolist() == [11.0, 11.0, 6.0, 6.0]
    assert found.finished_s.tolist() == [20.0, 20.0, 16.0, 16.0]
    assert (engine.moves[0]["drained_s"], engine.moves[0]["ready_s"]) == (11.0, 21.0)


def test_a_prefill_worker_hands_over_before_it_leaves() -> None:
    """By hand: worker 0 prefills 4 tokens until 4 and sends them for 1 + 4 x 0.5 = 3 s. A decode worker takes
    the request into its step at 7, which frees worker 0; asked at 2, it is ready at 7 + 10 = 17."""
    transfer = Transfer(0.5, 1.0, 1, False)
    (found, _), move = moved([(0.0, 4, 2)], MovePlan(10.0, False, False), 0, DECODES, 2.0, transfer, 3, 2)
    assert found.finished_s.tolist() == [9.0]
    assert (move["step_end_s"], move["drained_s"], move["ready_s"]) == (4.0, 7.0, 17.0)


def test_a_worker_that_has_moved_takes_prompts() -> None:
    """By hand: worker 0 is busy with a prompt of 20 tokens until 20. Worker 1, idle, is asked at 1 and ready
    at 4; the prompt of 5 tokens that came at 2 starts there at 4 and ends at 9."""
    (found, split), _ = moved([(0.0, 20, 1), (2.0, 5, 1)], MovePlan(3.0, False, False), 1, PREFILLS, 1.0)
    assert split.stages["prefill_start_s"].tolist() == [0.0, 4.0]
    assert found.first_token_s.tolist() == [20.0, 9.0]
    assert split.stages["sender"].tolist() == [0, 1]


# --- theory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_prefill_pool_alone_is_an_m_d_1_queue(load: float) -> None:
    """Oracle: Pollaczek-Khinchine: rho / (2 (1 - rho)) x service. One worker, prompts of one length that fill
    a step alone, answers of one token; 400,000 requests, so the mean wait is known within about 2%."""
    scenario = load_scenario("policy=disaggregated&prefill_workers=1&decode_workers=1&token_budget=1000")
    pools = pool_prices(scenario)
    step = pools.prefill.step
    service_s = (
        step.token_s[1000] + step.row_s[1] + step.prefill_pair_s * 1000**2 / 2 + step.prefill_request_s
    )
    count = 400_000
    arrival_s = np.cumsum(np.random.default_rng(5).standard_exponential(count)) * service_s / load
    requests = requests_of(arrival_s, np.full(count, 1000), np.ones(count, int))
    demand = Demand(requests, float(arrival_s[-1]), arrival_s[:1], arrival_s[:1], arrival_s[:1])
    cluster = Cluster(scenario, pools, demand, 1)
    cluster.advance(math.inf)
    wait_s = cluster.engine.stages["prefill_start_s"] - cluster.engine.requests.arrival_s
    assert np.mean(wait_s) == pytest.approx(load / (2 * (1 - load)) * service_s, rel=0.03)
    assert np.allclose(
        cluster.engine.stages["prefill_end_s"] - cluster.engine.stages["prefill_start_s"], service_s
    )
