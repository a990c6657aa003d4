"""How long ranks of attention wait for one another is found on published runs, without the runs it judges."""

from __future__ import annotations

import math
import tomllib

import numpy as np
import pytest

from benchmarks.rank_sync import (
    NAME,
    RANKS_FILE,
    Waiting,
    error_lines,
    find_wait_ms,
    unseen_rank_constants,
    wait_lines,
)
from sim_core.catalogue.calibrations import calibration
from sim_core.evidence import published as measured
from sim_core.evidence.blind import blind
from sim_core.evidence.coverage import coverage, most_ranks
from sim_core.evidence.trust import EXTRAPOLATED, VALIDATED, trust
from sim_core.scenario.scenario import Scenario

WIDE = Scenario(
    model="deepseek-r1", accelerator="b200", weight_dtype="fp8", engine="tensorrt-llm", arrivals="closed",
    concurrency=128, tensor_parallel=8, expert_parallel=8, attention_data_parallel=8, prompt_tokens=1024,
    output_tokens=1024,
)  # fmt: skip


def planted(wait_ms: float) -> Waiting:
    """Return runs of the table with ranks that wait so long, and twice as long where prompts are mixed in."""
    points = tuple(p for p in measured.points() if p.has_ranks and p.tpot_ms > 0)
    growth = np.where([point.pools == "one" for point in points], 2.0, 1.0)
    bare_ms = np.linspace(10.0, 60.0, len(points))
    return Waiting(points, bare_ms + wait_ms * growth, bare_ms, growth)


def test_a_planted_wait_comes_back() -> None:
    """Oracle: 2.5 ms a step, of all runs and without each part; a run three times as slow pulls little."""
    runs = planted(2.5)
    assert find_wait_ms(runs) == pytest.approx(2.5, rel=0.01)
    found = tomllib.loads("\n".join(wait_lines(runs)))
    assert set(found["without"]) == {point.accelerator for point in runs.points}
    assert all(table[NAME] == pytest.approx(2.5, rel=0.01) for table in found["without"].values())
    seen_ms = runs.seen_ms.copy()
    seen_ms[3] *= 3
    assert find_wait_ms(runs._replace(seen_ms=seen_ms)) == pytest.approx(2.5, rel=0.1)


def test_the_calibration_holds_the_wait_of_all_runs() -> None:
    """Oracle: `presets/validation/ranks.toml`; what is scored on a part comes from the others."""
    found = tomllib.loads(RANKS_FILE.read_text(encoding="utf-8"))
    typical = {item.name: item.value for item in calibration("typical").constants}
    assert typical[NAME] == pytest.approx(found["all"][NAME])
    for part, constants in found["without"].items():
        assert unseen_rank_constants(part)[NAME] == constants[NAME]
    assert "all" in found["errors"] and found["errors"]["all"]["rows"] == found["rows"]


def test_errors_are_told_by_campaign() -> None:
    """Invariant: each campaign's rows once, and all together."""
    points = [point for point in measured.points() if point.has_ranks and point.pools == "one"][:3]
    found = tomllib.loads("\n".join(error_lines(points)))["errors"]
    assert found["all"]["rows"] == len(points) == sum(t["rows"] for n, t in found.items() if n != "all")


# The badge


def test_ranks_are_validated_where_they_were_measured() -> None:
    """Oracle: the table: DeepSeek-R1 on B200 with 8 ranks is in it, and its band is that of such rows."""
    assert coverage().ranks["blackwell", "mla"] >= 8
    found = trust(WIDE)
    assert (found.badge, most_ranks(WIDE)) == (VALIDATED, 8)
    assert "with ranks of attention" in found.evidence
    assert all(math.isfinite(edge) for edge in found.tpot_band)
    assert any(row.unseen == "ranks" for row in blind())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accelerator": "rtx-pro-6000"}, "divides attention into ranks"),
        ({"tensor_parallel": 128, "expert_parallel": 128, "attention_data_parallel": 128}, "have up to"),
        ({"accelerator": "h200", "tensor_parallel": 64, "expert_parallel": 64, "attention_data_parallel": 64},
         "over nodes of 8"),
        ({"accelerator": "mi355x", "engine": ""}, "MI355X"),
        ({"attention_data_parallel": 1, "pipeline_parallel": 2, "engine": ""}, "stages of layers"),
    ],
)  # fmt: skip
def test_layouts_that_nobody_measured_are_extrapolated(changes: dict[str, object], words: str) -> None:
    """Oracle: the table has no such row; the reason names the input."""
    found = trust(WIDE.replace(**changes))
    assert found.badge == EXTRAPOLATED and words in " ".join(found.reasons)
