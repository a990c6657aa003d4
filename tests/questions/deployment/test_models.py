"""Plans over several models: each model's own plan is the oracle of the one ranking."""

from __future__ import annotations

import json

import pytest

from sim_core import plan
from sim_core.command.main import main
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.around.row import staircase
from sim_core.questions.deployment.around.winners import estimated_map
from sim_core.questions.deployment.question import models_named
from sim_core.results.metrics import point_of
from sim_core.scenario.link.load import load_scenario
from sim_core.scenario.scenario import Scenario, model_of

BASE = Scenario(prompt_tokens=800, output_tokens=120, weight_dtype="fp8")
MODELS = ("llama-3.1-8b", "qwen3-32b", "gpt-oss-20b")
GIVEN = {"accelerators": "l40s,h100-sxm", "free": "tensor_parallel,max_batch"}


@pytest.fixture(scope="module")
def together():
    return plan(BASE, 40.0, models=",".join(MODELS), top=30, **GIVEN)


def test_one_ranking_is_the_plans_of_all_models_in_order(together) -> None:
    """Oracle: a plan for each model alone, their rows by cost; all 72 candidates are ranked or lost."""
    rows = []
    for name in MODELS:
        alone = plan(BASE.replace(model=name), 40.0, top=30, **GIVEN)
        rows += [
            (row.usd_per_hour, name, row.scenario.accelerator, row.layout, row.replicas) for row in alone.rows
        ]
    mine = [
        (row.usd_per_hour, row.scenario.model, row.scenario.accelerator, row.layout, row.replicas)
        for row in together.rows
    ]
    assert sorted(mine) == sorted(rows)
    assert [each[0] for each in mine] == sorted(each[0] for each in mine)
    assert together.counts["all"] == 3 * 2 * 4 * 3
    assert len(together.rows) + sum(group.count for group in together.rejected) == 72


def test_losers_are_told_apart_by_model() -> None:
    """Oracle: by hand: 33 GB of weights do not fit 24 GB with any of three batch limits; 8 do."""
    found = plan(
        BASE, 4.0, models=["llama-3.1-8b", "qwen3-32b"], accelerators="l4", free="tensor_parallel,max_batch"
    )
    short = {group.model: group.count for group in found.rejected if group.limit == "memory"}
    assert short == {"qwen3-32b": 3}
    keys = [(group.limit, group.model) for group in found.rejected]
    assert len(keys) == len(set(keys)) > 3


def test_the_sentence_names_the_models(together) -> None:
    """Oracle: the name of the first row's model, and of the next row with another model or accelerator."""
    best = together.rows[0].scenario
    others = (row.scenario for row in together.rows)
    other = next(each for each in others if (each.model, each.accelerator) != (best.model, best.accelerator))
    first, *rest = together.sentence.split(": ", 1)
    assert f"of {model_of(best).name}" in first
    assert f"of {model_of(other).name}" in rest[0]


def test_rows_name_their_model_only_where_several_were_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the keys; the row of another model runs again from its printed scenario."""
    words = ["plan", "prompt_tokens=800", "--rate", "9", "--accelerators", "h100-sxm", "--top", "4"]
    assert main([*words, "--model", "llama-3.1-8b,qwen3-8b"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in out["rows"]} == {"llama-3.1-8b", "qwen3-8b"}
    assert all("model" in group for group in out["rejected"])
    row = next(row for row in out["rows"] if row["model"] == "qwen3-8b")
    point = point_of(run(load_scenario(row["scenario"])))
    assert (point["ttft_ms_p99"], point["tpot_ms_p99"]) == (row["ttft_ms"], row["tpot_ms"])
    assert main([*words, "--model", "qwen3-8b"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert all("model" not in each for each in (*out["rows"], *out["rejected"]))
    assert main([*words, "--model", "llama-3.1-8b,qwen3-8b", "--format", "table"]) == 0
    assert "rank  tie  model" in capsys.readouterr().out


def test_what_lies_around_a_row_is_of_its_model(together) -> None:
    """Oracle: stairs of the row's own engine; a map, which names accelerators alone, is refused."""
    row = next(row for row in together.rows if row.scenario.model == "gpt-oss-20b")
    stairs = staircase(together.question, row)
    devices = row.scenario.tensor_parallel * (row.replicas)
    at = next(stair for stair in stairs if stair.devices == devices)
    assert at.simulated and at.rate_per_s >= 40.0
    with pytest.raises(ScenarioError, match="for one model"):
        estimated_map(together.question, "rate", "tpot")


def test_unknown_models_are_refused_with_what_is_near() -> None:
    """Oracle: the sentence; a list is read once each, in its order."""
    with pytest.raises(ScenarioError, match=r"unknown model 'qwen3'. Did you mean qwen3-8b"):
        plan(BASE, 9.0, models=["llama-3.1-8b", "qwen3"], **GIVEN)
    assert models_named(" b, a,b") == ("b", "a")
