"""Plans for recorded requests: against an exhaustive search, their rate by hand, rows that run again."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest

from sim_core import plan
from sim_core.command.main import main
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.around.row import regrets
from sim_core.questions.deployment.around.winners import estimated_map
from sim_core.questions.deployment.plan import final_plan
from sim_core.questions.deployment.question import Question
from sim_core.questions.deployment.recorded import by_means, means_with_reuse, recorded_words, requests_of_run
from sim_core.questions.deployment.search.candidates import Field
from sim_core.results.metrics import point_of
from sim_core.scenario.link.load import load_scenario
from sim_core.scenario.scenario import Scenario, accelerator_of
from sim_core.sweep.estimate import gap_cv
from sim_core.traffic.draws import mean_lengths
from sim_core.traffic.requests import Requests, requests_of
from sim_core.traffic.texts import known_before
from sim_core.traffic.trace_files.read import read_trace

REPLAYED = Scenario(arrivals="trace", slo_ttft_ms=1000.0, slo_tpot_ms=30.0)


def bursts(seed: int, count: int = 2500) -> Requests:
    """Return requests in bursts, at about 5 a second."""
    draw = np.random.default_rng(seed)
    arrival_s = np.cumsum(draw.gamma(0.2, 1.0, count))
    return requests_of(
        arrival_s, draw.integers(100, 2500, count), draw.integers(10, 250, count), "bursts.csv"
    )


TRACE = bursts(0)


def question(trace: Requests = TRACE, rate: float = 60.0, **more: object) -> Question:
    given = {"accelerators": ("l40s", "h100-sxm", "mi300x"), "free": ("tensor_parallel",), "top": 3} | more
    return Question(scenario=REPLAYED, rate_per_s=rate, trace=trace, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(2))
def test_the_search_over_a_trace_finds_what_an_exhaustive_one_finds(seed: int) -> None:
    """Oracle: replicas one after the other of every accelerator and width, each a run of the scaled trace."""
    trace, best = bursts(seed), math.inf
    costs: dict[float, set[tuple[str, int]]] = {}
    for part in ("l40s", "h100-sxm", "mi300x"):
        for width in (1, 2, 4):
            keys = {"accelerator": part, "tensor_parallel": width, "arrival_per_s": 60.0, "requests": 20_000}
            one = REPLAYED.replace(trace_times="scaled", **keys)
            price = width * (accelerator_of(one).price_usd_per_hour or math.inf)
            for count in range(1, int(min(best, 40 * price) / price + 1e-9) + 1):
                if point_of(run(one.replace(replicas=count), trace=trace))["meets_slo"]:
                    costs.setdefault(count * price, set()).add((part, width))
                    best = min(best, count * price)
                    break
    rows = [row for row in final_plan(question(trace)).rows if row.rank == 1]
    assert {row.usd_per_hour for row in rows} == {best}
    assert {(row.scenario.accelerator, row.scenario.tensor_parallel) for row in rows} <= costs[best]


def test_the_default_rate_is_the_mean_of_the_trace() -> None:
    """Oracle: by hand: 2,500 requests over the time from the first to the last."""
    found = plan(REPLAYED, trace=TRACE, accelerators="h100-sxm", free="max_batch", top=1)
    rate = 2500 / (TRACE.arrival_s[-1] - TRACE.arrival_s[0])
    assert found.question.rate_per_s == pytest.approx(rate, rel=1e-12)
    assert "Replayed are the 2,500 requests of bursts.csv, 8 times over, at their own rate." in found.sentence


def test_bursts_take_more_than_the_same_lengths_at_random() -> None:
    """Oracle: the same trace whose lengths alone are taken: arrivals at random need no more devices."""
    drawn = Question(**{**_fields(question()), "scenario": REPLAYED.replace(arrivals="poisson")})
    replayed, plain = final_plan(question()).rows[0], final_plan(drawn)
    assert replayed.usd_per_hour >= plain.rows[0].usd_per_hour
    assert "Lengths are those of the 2,500 requests of bursts.csv" in plain.sentence
    assert plain.rows[0].scenario.requests == 2500


def _fields(asked: Question) -> dict[str, object]:
    return {name: getattr(asked, name) for name in Question.__dataclass_fields__}


def written(trace: Requests, path: Path) -> Path:
    columns = zip(trace.arrival_s.tolist(), trace.prompt_tokens, trace.output_tokens, strict=True)
    lines = [f"{time_s!r},{prompt},{output}" for time_s, prompt, output in columns]
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]) + "\n")
    return path


@pytest.mark.parametrize("arrivals", ["trace", "poisson", "gamma"])
def test_the_command_of_a_row_gives_its_latencies_again(
    arrivals: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: what `run` prints for the command under the table, with the file and its window.

    Whether the trace is replayed, or gives its lengths alone to arrivals that are drawn.
    """
    path = written(TRACE, tmp_path / "my trace.csv")
    words = [
        "plan",
        "slo_ttft_ms=1000&slo_tpot_ms=30",
        "--trace",
        str(path),
        "--hours",
        "0.1",
        "--rate",
        "40",
    ]
    words += ["--accelerators", "h100-sxm", "--free", "max_batch", "--top", "1"]
    words += ["--set", f"arrivals={arrivals}"]
    assert main([*words, "--format", "json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["trace"] == "my trace.csv"
    assert main([*words, "--format", "table"]) == 0
    again = next(line for line in capsys.readouterr().out.splitlines() if "Rank 1 again: " in line)
    command = shlex.split(again.removeprefix("Rank 1 again: "))[3:]
    drawn = [] if arrivals == "trace" else ["--set", f"arrivals={arrivals}"]
    assert command[2:] == ["--trace", str(path), "--hours", "0.1", *drawn]
    assert main(command) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    row = out["rows"][0]
    assert (metrics["ttft_ms"]["p99"], metrics["tpot_ms"]["p99"]) == (row["ttft_ms"], row["tpot_ms"])


def test_a_list_in_the_link_is_planned_for_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: a run of the row's scenario keeps the limits; nine requests say no p99, and that is said."""
    link = "arrivals=trace&request_list=0:1000:200x8,0.5:4000:50"
    words = ["plan", link, "--rate", "5", "--accelerators", "h100-sxm", "--free", "max_batch", "--top", "1"]
    assert main(words) == 0
    out = json.loads(capsys.readouterr().out)
    assert point_of(run(load_scenario(out["rows"][0]["scenario"])))["meets_slo"]
    assert "The p99 rests on less than one of them" in out["sentence"]


def test_two_pools_are_sized_by_the_trace() -> None:
    """Oracle: runs of the trace on all small numbers of workers."""
    asked = question(rate=30.0, accelerators=("mi300x",), free=("policy",), top=3)
    best = next(row for row in final_plan(asked).rows if row.scenario.split)
    kept = []
    for prefill in range(1, 4):
        for decode in range(1, 4):
            shown = best.scenario.replace(prefill_workers=prefill, decode_workers=decode)
            if point_of(run(shown, trace=TRACE))["meets_slo"]:
                kept.append(prefill + decode)
    assert best.accelerators == min(kept)


# --- what arithmetic knows of a trace ---------------------------------------------------------------


def test_runs_are_whole_passes() -> None:
    """Oracle: by hand: 5,000 are two passes of 2,500, 20,001 nine; lengths are as many as there are."""
    assert [requests_of_run(REPLAYED, TRACE, wanted) for wanted in (5000, 20_001)] == [5000, 22_500]
    drawn = REPLAYED.replace(arrivals="poisson")
    assert [requests_of_run(drawn, TRACE, wanted) for wanted in (1000, 5000)] == [1000, 2500]
    assert requests_of_run(drawn, None, 5000) == 5000


def test_a_trace_is_stated_by_its_mean_lengths() -> None:
    """Oracle: the means of the file, and a scenario without recorded requests as it is."""
    shown = by_means(REPLAYED.replace(requests=2500), TRACE)
    assert mean_lengths(shown) == (round(TRACE.prompt_tokens.mean()), round(TRACE.output_tokens.mean()))
    plain = Scenario(mix="chat:1")
    assert by_means(plain, None) is plain


def test_a_percentile_that_few_requests_tell_is_said_to_be_unsure() -> None:
    """Oracle: by hand: ten of 1,000 are beyond p99, and enough; of 900 there are nine."""
    few, enough = bursts(0, 900), bursts(0, 1000)
    assert "rests on the slowest 9 of them" in recorded_words(REPLAYED, few, 5.0, 900)
    assert "rests on" not in recorded_words(REPLAYED, enough, 5.0, 1000)


TEXTS = [  # of 512 tokens each; the third prompt begins as the first, the fourth as the third
    ([1, 2], 1024),
    ([3, 2], 1024),
    ([1, 4], 1000),
    ([1, 4, 5], 1500),
]


def texts() -> Requests:
    rows = [
        {"timestamp": 500 * i, "input_length": size, "output_length": 20, "hash_ids": ids}
        for i, (ids, size) in enumerate(TEXTS)
    ]
    return read_trace("\n".join(map(json.dumps, rows)).encode(), name="texts.jsonl")


def test_what_a_cache_may_hold_of_a_trace_by_hand() -> None:
    """Oracle: nothing of the first two (a text counts from its beginning), 512 tokens, and 1,024."""
    assert known_before(texts()).tolist() == [0, 0, 512, 1000 + 24]
    caching = REPLAYED.replace(prefix_caching="on")
    assert 0 < means_with_reuse(caching, texts()).prefix_hit_frac < 0.5
    assert means_with_reuse(REPLAYED, texts()).prefix_hit_frac == 0.0


def test_a_bound_counts_what_a_cache_may_hold_of_a_trace() -> None:
    """Oracle: runs: an engine that keeps its limits is not above its bound, which the cache lifts."""
    draw = np.random.default_rng(3)
    rows = [
        {
            "timestamp": int(250 * i),
            "input_length": 4096,
            "output_length": 30,
            "hash_ids": [*range(10 * user, 10 * user + 7), 1000 + i],
        }
        for i, user in enumerate(draw.integers(0, 20, 3000).tolist())
    ]
    trace = read_trace("\n".join(map(json.dumps, rows)).encode(), name="users.jsonl")
    plain, cached = (
        Field(
            Question(
                scenario=REPLAYED.replace(prefix_caching=caching),
                rate_per_s=4.0,
                accelerators=("h100-sxm",),
                free=("max_batch",),
                trace=trace,
            )
        ).found[0]
        for caching in ("off", "on")
    )
    assert cached.bound_per_s > 1.5 * plain.bound_per_s
    shown = cached.scenario.replace(requests=6000)
    served = [
        rate
        for rate in np.geomspace(0.3, 1.2, 12) * cached.bound_per_s
        if point_of(run(shown.replace(arrival_per_s=rate), trace=trace))["meets_slo"]
    ]
    assert plain.bound_per_s < max(served) <= cached.bound_per_s


def test_bursts_are_in_the_estimate() -> None:
    """Oracle: gaps of a gamma distribution of shape 0.2 vary by 1 / sqrt(0.2) = 2.24; even ones do not."""
    assert gap_cv(TRACE) == pytest.approx(0.2**-0.5, rel=0.1)
    assert gap_cv(requests_of([0.0, 1.0, 2.0], [1, 1, 1], [2, 2, 2])) == 0.0


# --- around the first row, and refusals -------------------------------------------------------------


def test_of_a_trace_the_load_alone_comes_otherwise() -> None:
    """Oracle: the keys; lengths of a map are refused with the way out."""
    asked = question(top=1)
    found = regrets(asked, final_plan(asked).rows[0])
    assert [(each.key, each.factor) for each in found] == [("arrival_per_s", 0.8), ("arrival_per_s", 1.2)]
    with pytest.raises(ScenarioError, match=r"lengths come from the trace.*choose another side"):
        estimated_map(asked, "rate", "prompt")


@pytest.mark.parametrize(
    ("scenario", "trace", "words"),
    [
        (REPLAYED, None, "arrivals is trace but there is no trace"),
        (REPLAYED, requests_of([1.0, 1.0], [10, 10], [5, 5], "once.csv"), "all come at one moment"),
    ],
)
def test_what_cannot_be_replayed_is_refused(scenario: Scenario, trace: Requests | None, words: str) -> None:
    """Oracle: the sentences."""
    with pytest.raises(ScenarioError, match=words):
        plan(scenario, trace=trace, accelerators="h100-sxm")
