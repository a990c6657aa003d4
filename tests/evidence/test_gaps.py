"""Acceptance lengths are read from the gaps of a stream."""

from __future__ import annotations

import json

import pytest

from sim_core.evidence.own import engine as own_engine
from sim_core.evidence.own.formats.checks import checked
from sim_core.evidence.own.formats.points import OwnPoint, Upload
from sim_core.evidence.own.formats.read import read_upload
from sim_core.evidence.own.gaps import interval_told, told_by_gaps
from sim_core.scenario.scenario import Scenario
from sim_core.view.trust.accepted import with_accepted

DRAFTING = Scenario(spec_tokens=2, acceptance_length=2.0)


def point(at_once: float, statistic: str = "mean") -> OwnPoint:
    """Return a checked run of 100 tokens, 10 ms each."""
    bare = OwnPoint("a run", "vllm", output_tokens=100.0, ttft_ms=50.0, tpot_ms=10.0, e2e_ms=1040.0)
    bare = bare._replace(itl_ms=10.0 * at_once, statistic=statistic)
    return checked(Upload("a file", "vllm", (bare,), None, ())).points[0]


def test_gaps_over_times_per_token_are_tokens_a_step() -> None:
    """Oracle: by hand: 21.4 ms between chunks at 10 ms a token are 2.14 tokens at once, of one step each."""
    found = told_by_gaps([point(2.0), point(2.14), point(2.3)], DRAFTING)
    assert found is not None
    assert (found.length, found.low, found.high) == pytest.approx((2.14, 2.0, 2.3))
    assert (found.interval_steps, found.points) == (1, 3)


@pytest.mark.parametrize(("at_once", "interval"), [(2.1, 1), (21.4, 10), (62.7, 30), (125.8, 50)])
def test_the_interval_is_what_the_drafts_allow(at_once: float, interval: int) -> None:
    """Oracle: of two drafts one to three tokens come of a step, so one usual interval is possible."""
    found = told_by_gaps([point(at_once)], DRAFTING)
    assert found is not None
    assert (found.interval_steps, found.length) == (interval, pytest.approx(at_once / interval))


def test_a_known_interval_is_taken() -> None:
    """Oracle: by hand: 50 tokens at once, streamed every 25 steps."""
    found = told_by_gaps([point(50.0)], DRAFTING.replace(stream_interval_steps=25))
    assert found is not None and found.length == pytest.approx(2.0)


@pytest.mark.parametrize(
    "points",
    [[], [point(1.0)], [point(2.1, "median")], [point(4.0)]],
)
def test_what_tells_nothing_is_not_read(points: list[OwnPoint]) -> None:
    """Oracle: the definition: no point, single tokens, medians, more than two drafts make in a step."""
    assert told_by_gaps(points, DRAFTING) is None
    assert interval_told(4.0, 2) == 0


def test_a_scenario_takes_what_was_measured() -> None:
    """Oracle: by hand: 2.14 tokens a step need two drafts; what three drafts accept stays below four."""
    found = told_by_gaps([point(2.14)], DRAFTING)
    assert found is not None
    taken = with_accepted(Scenario(), found)
    assert (taken.spec_tokens, taken.acceptance_length) == (2, 2.14)
    assert with_accepted(Scenario(spec_tokens=3), found).spec_tokens == 3


def test_a_file_of_a_drafting_engine_tells_its_acceptance() -> None:
    """Oracle: made for it: ITL is twice TPOT; such gaps are then no time per token to be held against."""
    rows = [
        {
            "backend": "vllm", "completed": 40, "max_concurrency": clients, "request_rate": "inf",
            "total_input_tokens": 40_000, "total_output_tokens": 8_000, "mean_ttft_ms": 60.0,
            "mean_tpot_ms": 9.0, "mean_itl_ms": 18.0, "mean_e2el_ms": 1851.0, "output_throughput": 400.0,
        }
        for clients in (2, 4)
    ]  # fmt: skip
    upload = read_upload("\n".join(map(json.dumps, rows)).encode(), "runs.jsonl")
    assert [each.at_once_tokens for each in upload.points] == pytest.approx([2.0, 2.0])
    engine = own_engine.calibrate([upload], Scenario(spec_tokens=1, acceptance_length=1.7))
    told = own_engine.summary(engine)["acceptance_length"]
    assert told["length"] == pytest.approx(2.0) and told["points"] == 2
    assert "itl_ms" not in own_engine.summary(engine)["median_error_pct"]
