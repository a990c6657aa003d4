"""What runs may cost where somebody waits for them."""

from __future__ import annotations

import threading
import time
import tracemalloc
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim_core.engine import compiling, memory, two_pools, work
from sim_core.engine.kernels.records import Arrays
from sim_core.engine.run import run, run_priced
from sim_core.engine.work import Allowance, SpentUp, Stopped, TooMuch, UsedUp, allowed, shared
from sim_core.fields.errors import ScenarioError
from sim_core.price.priced import priced
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import BlockChains, requests_of

AMPLE = {"seconds": 1e6, "most_bytes": 10**12}
KINDS: dict[str, dict[str, Any]] = {
    "chunked": {},
    "prefill first": {"policy": "prefill_first"},
    "closed": {"arrivals": "closed"},
    "static": {"policy": "static", "max_batch": 8},
    "replicas": {"replicas": 4},
    "dealt": {"replicas": 4, "arrivals": "closed"},
    "routed turns": {"replicas": 4, "turns": 5, "router": "round_robin", "arrivals": "closed"},
    "routed turns, open": {"replicas": 8, "turns": 5, "router": "least_loaded"},
    "two pools": {"policy": "disaggregated"},
    "two pools, closed": {"policy": "disaggregated", "arrivals": "closed", "concurrency": 2},
    "many replicas": {"replicas": 256},
    "many workers": {"policy": "disaggregated", "prefill_workers": 256, "decode_workers": 256},
}


def scenario(kind: str, **more: Any) -> Scenario:
    return Scenario(**KINDS[kind] | {"requests": 400} | more)


def unfinished_at_the_end(monkeypatch: pytest.MonkeyPatch, kind: str, given: Allowance) -> list[int]:
    """Run a scenario and return how many requests the kernels have left unfinished whenever they ended."""
    found: list[int] = []

    def note(arrays: Arrays) -> None:
        found.append(int(np.isnan(arrays.requests["finished_s"]).sum()))
        work.check_turns(work.Turns(arrays.turns, arrays.stop))

    for module in (memory, two_pools):
        monkeypatch.setattr(module, "check_ended", note)
    asked = scenario(kind)
    with allowed(given):
        run_priced(priced(asked), requests_sent(asked))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_ends_at_once_where_nobody_waits(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Oracle: the flag is set before the run, so not one request may finish."""
    given = Allowance(**AMPLE)
    given.stop[0] = 1
    with pytest.raises(Stopped):
        unfinished_at_the_end(monkeypatch, kind, given)
    monkeypatch.undo()
    left: list[int] = []
    monkeypatch.setattr(work, "check_turns", lambda taken: None)
    left = unfinished_at_the_end(monkeypatch, kind, given)
    assert min(left) == (100 if kind == "dealt" else 400)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_ends_when_its_turns_are_used_up(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Oracle: each request takes a turn at least, and a thousand are fewer than its share of 2,000."""
    monkeypatch.setattr(work, "NEVER", 50)
    monkeypatch.setattr(work, "max", lambda value, least: value, raising=False)
    with pytest.raises(UsedUp):
        unfinished_at_the_end(monkeypatch, kind, Allowance(**AMPLE))


def test_a_run_stops_when_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the flag goes up while the kernel counts; alone it goes on for many minutes: 2e10 steps."""
    slow = {"token_budget": 1, "prompt_tokens": 100_000, "hbm_gb": 1e6, "output_tokens": 1}
    long = scenario("chunked", **slow | {"requests": 200_000})
    given, ended = Allowance(**AMPLE), []

    def work_it_out() -> None:
        with allowed(given), pytest.raises(Stopped):
            run(long)
        ended.append(True)

    run(scenario("chunked", requests=4))
    taken = work.Turns(np.array([work.NEVER]), given.stop)
    monkeypatch.setattr(memory, "turns", lambda log=False: taken)
    thread = threading.Thread(target=work_it_out, daemon=True)
    thread.start()
    while taken.left[0] == work.NEVER and thread.is_alive():
        time.sleep(0.01)
    given.stop[0] = 1
    thread.join(60)
    assert ended


@pytest.mark.parametrize("kind", KINDS)
def test_an_ample_allowance_changes_nothing(kind: str) -> None:
    """Oracle: the same run without an allowance, to the last bit."""
    asked = scenario(kind)
    with allowed(Allowance(**AMPLE)) as given:
        found = run(asked)
    assert given.cuts == {}
    alone = run(asked)
    np.testing.assert_array_equal(found.finished_s, alone.finished_s)
    assert str(point_of(found)) == str(point_of(alone))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_costs_too_much_has_fewer_requests(kind: str) -> None:
    """Oracle: the run of so many requests, and what the allowance notes."""
    asked = scenario(kind, requests=5_000_000)
    with allowed(Allowance(seconds=0.01, most_bytes=10**8)) as given, shared(5):
        found = run(asked)
    ((what, runs),) = given.cuts.items()
    assert what == ("requests", 5_000_000)
    assert runs == found.finished_s.size < 5000
    np.testing.assert_array_equal(found.finished_s, run(asked.replace(requests=int(runs))).finished_s)


def test_a_run_that_was_estimated_too_low_is_cut_by_the_kernel() -> None:
    """Oracle: decodes take all of the budget but one token, so each prompt takes as many turns as tokens."""
    full = scenario("chunked", requests=2000, token_budget=64, max_batch=64, arrival_per_s=1e3, output_cv=1.0)
    with allowed(Allowance(seconds=0.002, most_bytes=10**8)) as given, shared(1):
        found = run(full)
    assert found.finished_s.size == min(given.cuts.values()) < 2000


CACHED = {"prefix_caching": "on", "kv_block_tokens": 1, "prompt_cv": 0.0, "requests": 400}
HASHED = BlockChains(np.arange(401) * 20, np.arange(8000), 1000)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"system_tokens": 20_000, "prompt_tokens": 10, "long_prefill_token_threshold": 1000}, {}),
        ({"arrivals": "trace"}, {"blocks": HASHED}),
        ({"arrivals": "trace", "replicas": 8}, {"blocks": HASHED}),
        (
            {"arrivals": "trace"},
            {
                "session": np.arange(400, dtype=np.int32) // 2,
                "known_tokens": np.zeros(400, np.int32),
                "follows_s": np.full(400, np.nan),
            },
        ),
    ],
    ids=("system prompt", "hashes", "hashes of replicas", "interleaved sessions"),
)
def test_texts_compared_block_by_block_keep_within_the_memory(
    changes: dict[str, Any], told: dict[str, Any]
) -> None:
    """Oracle: what Python was handed out at most, beside the budget; texts of all requests take more."""
    trace = None
    if told:
        sent = requests_of(np.arange(400.0), np.full(400, 20_000), np.full(400, 10))
        trace = replace(sent, **told)
    few = Scenario(**(CACHED | changes | {"requests": 4}))
    run(few, trace=trace)  # kernels that are loaded meanwhile would count
    tracemalloc.start()
    try:
        with allowed(Allowance(seconds=1e3, most_bytes=40 * 10**6)) as given:
            found = run(Scenario(**(CACHED | changes)), trace=trace)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()
    assert 10 <= len(found.finished_s) < 400 and given.cuts


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replicas": 256, "output_tokens": 1_000_000}, "MB of this server's memory"),
        ({"token_budget": 1, "prompt_tokens": 100_000, "hbm_gb": 1e6}, "a single one of these requests"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_way_out(changes: dict[str, Any], words: str) -> None:
    """Oracle: the message names what is too much and the command, which runs it."""
    with allowed(Allowance(seconds=1e-3, most_bytes=3 * 10**8)), pytest.raises(TooMuch, match=words) as error:
        run(Scenario(**changes))
    assert "the command" in str(error.value)


def test_a_view_makes_no_run_after_three_times_its_allowance() -> None:
    """Oracle: the allowance, spent by hand; the message names it, and that is no fault of the scenario."""
    asked = scenario("chunked", requests=4)
    with allowed(Allowance(seconds=1.0, most_bytes=10**8)) as given:
        given.spend(2.9)
        run(asked)
        given.spend(0.2)
        with pytest.raises(SpentUp, match="its budget is 1 s") as error:
            run(asked)
    assert not isinstance(error.value, ScenarioError)


def test_compiling_is_no_work_of_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: the first call compiles for 10 s, each runs for 1 s; the second alone is work."""
    clock_s = [0.0]
    monkeypatch.setattr(compiling, "FOLDER", None)
    monkeypatch.setattr(compiling.time, "thread_time", lambda: clock_s[0])
    entry = compiling.Entry(lambda value: value + 1.0)

    class Compiled:
        overloads: dict[type, object] = {}  # noqa: RUF012

        def __call__(self, value: float) -> None:
            clock_s[0] += 1.0 if type(value) in self.overloads else 11.0
            self.overloads[type(value)] = self

    entry._compiled = Compiled()
    with allowed(Allowance(**AMPLE)) as given, work.accounted():
        entry(1.0)
        entry(2.0)
    assert given.spent_s == pytest.approx(1.0)


def test_what_is_kept_depends_on_nobody_who_asked_before() -> None:
    """Oracle: the same function without a memory: alone, beside others that share, and after a view that had
    spent all; what was left out is noted for everybody who gets it, and nothing where nobody waits.
    """
    asked = scenario("chunked", requests=100_000)

    @work.kept(8, 4.0)
    def finished(one: Scenario) -> int:
        return len(run(one).finished_s)

    with allowed(Allowance(seconds=0.05, most_bytes=10**8)) as spent, pytest.raises(SpentUp):
        spent.spend(1.0)
        finished(asked)
    found = []
    for share in (1.0, 30.0):
        with allowed(Allowance(seconds=0.05, most_bytes=10**8)) as given, shared(share):
            found.append((finished(asked), dict(given.cuts)))
    (first, cuts), second = found
    assert (first, cuts) == second
    assert 1000 < first < 100_000
    assert cuts == {("requests a trial", 100_000): first}
    assert finished(asked) == 100_000


def test_a_poll_that_ends_as_the_future_does_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: the first look times out, and by then the future is done."""

    class Late(Future):  # type: ignore[type-arg]
        looks = 0

        def result(self, timeout: float | None = None) -> int:
            self.looks += 1
            if self.looks == 1:
                self.set_result(7)
                raise TimeoutError
            return super().result(timeout)

    with allowed(Allowance(**AMPLE)):
        assert work.awaited(Late()) == 7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", [20, 2000, 20_000])
def test_the_estimate_is_no_less_than_half_of_the_turns(kind: str, prompt: int) -> None:
    """Oracle: the turns that the kernels count; kernels end a run that takes more than its part."""
    asked = scenario(kind, prompt_tokens=prompt, arrival_per_s=4.0, token_budget=512)
    assert turns_of(asked) <= 2 * asked.requests * work.turns_per_request(asked)


def of_ranks(count: int) -> dict[str, Any]:
    devices = max(count, 8)
    return {
        **{"model": "deepseek-v3", "accelerator": "gb200", "weight_dtype": "fp8", "kv_dtype": "fp8"},
        **{"tensor_parallel": devices, "attention_data_parallel": count, "expert_parallel": devices},
    }


RANK_LOADS: dict[str, dict[str, Any]] = {
    "one client": {"arrivals": "closed", "concurrency": 1},
    "clients": {"arrivals": "closed", "concurrency": 40},
    "arrivals": {"arrival_per_s": 4.0},
    "at once": {"arrivals": "offline"},
}
RANK_LAYOUTS: dict[str, dict[str, Any]] = {
    "one engine": {},
    "small steps": {"token_budget": 512},
    "replicas": {"replicas": 3, "router": "least_loaded"},
    "two pools": {"policy": "disaggregated"},
}


@pytest.mark.parametrize("load", RANK_LOADS)
@pytest.mark.parametrize("layout", RANK_LAYOUTS)
@pytest.mark.parametrize("ranks", [4, 64])
def test_the_estimate_follows_the_turns_of_ranks(ranks: int, layout: str, load: str) -> None:
    """Oracle: the turns that the kernels count, twice the estimate at most, which is five times them at most:
    where many begin and end together, a group takes about one step for each.
    """
    own = RANK_LAYOUTS[layout] | RANK_LOADS[load]
    for prompt, output in ((200, 300), (8000, 50)):
        lengths = {"prompt_tokens": prompt, "output_tokens": output}
        asked = Scenario(**of_ranks(ranks) | own | lengths, requests=150)
        estimate = asked.requests * work.turns_per_request(asked)
        turns = turns_of(asked)
        assert turns / 2 <= estimate <= 5 * turns


def turns_of(asked: Scenario) -> int:
    """Return the turns that the kernels count in a run."""
    with allowed(Allowance(**AMPLE)):
        taken = work.turns()
        monkey = pytest.MonkeyPatch()
        monkey.setattr("sim_core.engine.memory.turns", lambda log=False: taken)
        before = int(taken.left[0])
        run(asked)
        monkey.undo()
    return before - int(taken.left[0])


def test_no_more_views_compute_at_once_than_there_are_seats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a count of those within: one at a time with one seat, all in the end, also within a seat."""
    seat = threading.BoundedSemaphore(1)
    monkeypatch.setattr(work, "_seats", lambda: seat)
    within, most, done = [0], [0], []

    def view() -> None:
        with allowed(Allowance(**AMPLE)), work.seated(), work.seated():
            within[0] += 1
            most[0] = max(most[0], within[0])
            time.sleep(0.02)
            within[0] -= 1
        done.append(1)

    threads = [threading.Thread(target=view) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (most[0], len(done)) == (1, 5)
    assert seat.acquire(blocking=False)


def test_a_heavy_view_leaves_its_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: another one can take it meanwhile; and a view that nobody waits for gives up waiting."""
    seat = threading.BoundedSemaphore(1)
    monkeypatch.setattr(work, "_seats", lambda: seat)
    monkeypatch.setattr(work, "SEAT_POLL_S", 0.01)
    with allowed(Allowance(**AMPLE)) as given, work.seated():
        given.spend(2 * work.HEAVY_S)
        run(scenario("chunked", requests=4))
        assert seat.acquire(blocking=False)
    other = Allowance(**AMPLE)
    other.stop[0] = 1
    with allowed(other), pytest.raises(Stopped), work.seated():
        pass
