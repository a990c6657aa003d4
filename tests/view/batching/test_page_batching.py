"""The Batching page, run as Streamlit runs it but without a browser."""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
import subprocess
import sys
from functools import partial

import pandas as pd
import pytest

from sim_core import Scenario, ScenarioError, load_scenario
from sim_core.command.main import main
from sim_core.engine.run import run
from sim_core.evidence import trust
from sim_core.price.price import price_of
from sim_core.questions.experiments import endings as endings_experiment
from sim_core.questions.experiments import waiting as waiting_experiment
from sim_core.questions.experiments.common import one_engine
from sim_core.questions.experiments.engines import engine_runs
from sim_core.questions.experiments.preemption import crossover, mean_context
from sim_core.results.metrics import point_of
from sim_core.results.timeline import POLICIES, logged_scenario, timelines
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.ready import ready_scenario, ready_scenarios
from sim_core.view.batching import page as batching
from sim_core.view.batching import request_editor
from sim_core.view.batching.endings import _ending_trust
from sim_core.view.batching.experiments import replica_note
from sim_core.view.batching.waiting import _wait_trust
from sim_core.view.parts.engine_words import set_words
from tests.places import ROOT
from tests.visits import APP, FINDING, address, finding, healthy, open_page, said

visit = partial(open_page, "3_Batching.py")


@pytest.mark.parametrize("view", SETTINGS["batching"].choices)
@pytest.mark.parametrize(
    "name", ["llama-3.1-8b-on-h100", "deepseek-r1-on-h200-x8", "batching-irregular-endings"]
)
def test_every_view_runs(view: str, name: str) -> None:
    """Oracle: no exception, a finding, and an address that holds the view."""
    app = healthy(visit(batching=view, **query_of(name)))
    assert FINDING in said(app)
    assert address(app).get("batching", "timeline") == view


def query_of(name: str) -> dict[str, str]:
    return {key: str(value) for key, value in ready_scenario(name).scenario.items()} | {"requests": "300"}


@pytest.mark.parametrize(
    "query", [{"rows": "requests"}, {"extent": "run", "from_s": "12.5", "span_s": "3"}, {"shown": "1"}]
)
def test_what_is_looked_at_is_in_the_link(query: dict[str, str]) -> None:
    """Oracle: the address the page was opened at."""
    assert address(healthy(visit(**query))) == query


def test_the_token_budget_beside_the_chart_is_the_scenarios() -> None:
    """Oracle: the key the slider stands for, and the address."""
    app = healthy(visit(shown="12"))
    app.select_slider(key="page_token_budget").set_value(512).run()
    assert healthy(app).session_state.scenario.token_budget == 512
    assert address(app) == {"v": "1", "token_budget": "512", "shown": "12"}


@pytest.mark.parametrize(
    "name", [name for name, item in ready_scenarios().items() if item.page == "Batching" and not item.view]
)
def test_examples_keep_their_promise(name: str) -> None:
    """Oracle: the words of each example, as conditions on its timelines."""
    found = timelines(ready_scenario(name).build())
    delay = {policy: line.late["delay_ms"].max(initial=0) for policy, line in found.items()}
    if name == "batching-a-long-prompt-arrives":
        assert delay["chunked"] < 0.5 * delay["prefill_first"]
        finer = timelines(ready_scenario(name).build(token_budget=512))["chunked"]
        assert finer.late["delay_ms"].max() < delay["chunked"]
        ttft = [
            line.requests.set_index("request_id")["first_token_s"][8] for line in (found["chunked"], finer)
        ]
        assert ttft[1] > ttft[0]
    elif name == "batching-irregular-endings":
        assert found["static"].padding_frac > 0.4
        assert found["static"].end_s > 1.3 * found["chunked"].end_s
    elif name == "batching-out-of-kv-blocks":
        assert found["chunked"].summary["requests"]["preemptions"] >= 3
        assert found["static"].slots < found["chunked"].slots
    elif name == "batching-all-at-once":
        assert found["chunked"].end_s < 1.02 * found["prefill_first"].end_s
        assert delay["chunked"] < delay["prefill_first"]
    else:
        raise AssertionError(f"{name} has no condition")


def test_the_commands_write_the_same_step_logs(tmp_path, capsys, monkeypatch) -> None:
    """Oracle: the log that the page draws, row by row."""
    monkeypatch.chdir(tmp_path)
    scenario = load_scenario(
        "arrivals=trace&request_list=0:300:20x3,0.1:4000:9&max_batch=3&token_budget=512&replicas=4"
    )
    lines = batching.step_log_commands(scenario).splitlines()
    for policy, line in zip(POLICIES, lines, strict=True):
        assert main(shlex.split(line)[3:]) == 0
        written = pd.read_csv(tmp_path / f"steps-{policy}.csv", keep_default_na=False)
        drawn = timelines(scenario)[policy].story.run.steps().to_csv(index=False)
        pd.testing.assert_frame_equal(written, pd.read_csv(io.StringIO(drawn), keep_default_na=False))
    capsys.readouterr()


def test_the_finding_names_the_worst_delay() -> None:
    """Oracle: the log itself: eight decodes stand still for the whole document."""
    found = timelines(ready_scenario("batching-a-long-prompt-arrives").build())
    words = batching.timelines_finding(found)
    policy, row = batching.worst_late(found)
    assert (policy, row["cause"], row["cause_tokens"]) == ("prefill_first", 8, 16_000)
    assert "prompt of request 8 (16,000 tokens)" in words
    assert "Under chunked no token is more than" in words


def test_the_comparison_counts_all_requests() -> None:
    """Oracle: the table of requests, by hand."""
    scenario = Scenario(requests=12)
    rows = {row["policy"]: row for row in batching.policy_rows(timelines(scenario))}
    for policy, row in rows.items():
        requests = timelines(scenario)[policy].requests
        assert row["requests"] == 12
        wait_ms = (requests["first_token_s"] - requests["arrival_s"]).max() * 1e3
        assert row["ttft_ms_p99"] <= wait_ms + 1e3 * 0.2
        assert row["itl_ms_max"] >= row["itl_ms_p99"] >= row["itl_ms_p50"]
    assert rows["static"]["ends_s"] > rows["chunked"]["ends_s"]


def test_one_replica_is_followed() -> None:
    """Oracle: a timeline is of one engine, to which a quarter of the traffic of four goes; of a list, all."""
    assert logged_scenario(Scenario(replicas=8), "static").replicas == 1
    four = Scenario(replicas=4, arrival_per_s=20.0)
    followed = one_engine(four, 40)
    assert (followed.replicas, followed.requests, followed.arrival_per_s) == (1, 40, 5.0)
    page, alone = (
        finding(healthy(open_page("3_Batching.py", **query)))
        for query in ({"replicas": "4", "arrival_per_s": "20"}, {"arrival_per_s": "5"})
    )
    assert replica_note(four) in page
    done = "The same .*? requests are done under [^.]*"
    assert re.search(done, page)[0] == re.search(done, alone)[0]
    assert "one of 4 replicas, with its share" in replica_note(four)
    listed = four.replace(arrivals="trace", request_list="0:300:20")
    assert "all of its requests" in replica_note(listed)
    assert replica_note(Scenario()) == replica_note(four.replace(policy="disaggregated")) == ""


# Requests of one's own


def test_a_table_becomes_a_list() -> None:
    """Oracle: by hand; a row with an empty cell is left out, the rest is sorted by arrival."""
    rows = pd.DataFrame(
        {"arrival_s": [1.0, 0.0, 2.0], "prompt_tokens": [10, 20, None], "output_tokens": [5, 6, 7]}
    )
    assert request_editor.from_table(rows) == "0:20:6,1:10:5"
    with pytest.raises(ScenarioError, match="holds no request"):
        request_editor.from_table(rows.tail(1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arrival_s,prompt_tokens,output_tokens\n0,1000,200\n0.5,4000,50\n", "0:1000:200,0.5:4000:50"),
        ("0,1000,200\n0.5,4000,50", "0:1000:200,0.5:4000:50"),
        ("0:1000:200x2, 0.5:4000:50", "0:1000:200x2,0.5:4000:50"),
        ("0:1000:200\n0.5:4000:50", "0:1000:200,0.5:4000:50"),
        ('{"timestamp": 0, "input_length": 7, "output_length": 8, "hash_ids": []}', "0:7:8"),
    ],
)
def test_pasted_text_becomes_a_list(text: str, expected: str) -> None:
    """Oracle: by hand."""
    assert request_editor.from_text(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing is pasted"),
        ("0,-5,1", "the pasted text"),
        ("<script>alert(1)</script>", "the pasted text"),
        ("0:1:99999999", "request_list"),
        ("0:1:1," * 100_000, "600,000 characters are pasted; the limit is 100,000"),
    ],
)
def test_bad_pastes_are_refused_in_words(text: str, words: str) -> None:
    """Oracle: a `ScenarioError` that names what was pasted."""
    with pytest.raises(ScenarioError, match=words):
        request_editor.from_text(text)


def test_at_most_sixty_requests_are_taken() -> None:
    """Oracle: the limit the page states."""
    text = "\n".join(f"{n},100,{n + 1}" for n in range(100))
    assert request_editor.from_text(text).count(",") == 59


@pytest.mark.parametrize("show", ["frontier", "load", "table"])
def test_the_frontier_of_a_request_list(show: str) -> None:
    """Oracle: no exception: a list of requests is traffic like any other."""
    healthy(open_page(APP, arrivals="trace", request_list="0:300:20x3", show=show))


@pytest.mark.parametrize(
    "query",
    [
        {"requests": "1"},
        {"arrivals": "offline"},
        {"prompt_tokens": "20000", "prompt_cv": "0", "token_budget": "512"},
        {"arrivals": "trace", "request_list": "0:100:5,0:140000:5"},
        {"output_tokens": "1", "output_cv": "0"},
        {"model": "llama-3.1-405b"},
        {"arrivals": "trace"},
    ],
)
def test_extreme_inputs_are_answered(query: dict[str, str]) -> None:
    """Oracle: no exception; what cannot run is said."""
    app = healthy(visit(**query))
    assert FINDING in said(app) or app.warning


@pytest.mark.parametrize("view", ["wait", "preemption", "interference", "endings"])
def test_an_experiment_says_that_it_draws_requests(view: str) -> None:
    """Oracle: the note stands where the scenario replays a list, and nowhere else."""
    own = {"arrivals": "trace", "request_list": "0:300:20x3"}
    assert "list of requests is not replayed" in said(visit(batching=view, **own))
    assert "list of requests is not replayed" not in said(visit(batching=view))


def test_the_crossover_can_be_taken_away() -> None:
    """Oracle: the curves that are drawn, from the code of the page run in a fresh interpreter."""
    app = visit(batching="preemption", at_batch="8")
    command = next(block.value for block in app.code if "crossover" in block.value).splitlines()[-1]
    run = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows = [ast.literal_eval(line) for line in run.stdout.splitlines()]
    scenario = app.session_state.scenario
    found = crossover(scenario, mean_context(scenario), 8)
    own = [row for row in rows if row["flops_times"] == 1.0 and row["host_gb_per_s"] == found.host_gb_per_s]
    assert [row["recompute_ms"] for row in own[: len(found.contexts)]] == pytest.approx(
        found.recompute_ms[1.0]
    )
    assert [row["swap_ms"] for row in own[: len(found.contexts)]] == pytest.approx(found.swap_ms)
    even = found.even_gb_per_s[1.0]
    here = [row for row in rows[3 * len(found.contexts) :] if row["flops_times"] == 1.0]
    assert all((row["swap_ms"] < row["recompute_ms"]) == (row["host_gb_per_s"] > even) for row in here)


def test_rows_of_experiments_have_the_badge_of_their_policy() -> None:
    """Oracle: static batching is outside of what was measured, continuous batching is not."""
    waiting, endings = (
        waiting_experiment.waiting(Scenario(requests=300)),
        endings_experiment.endings(Scenario(max_batch=16)),
    )
    assert _wait_trust(waiting, waiting.rows[0]).badge == trust.EXTRAPOLATED
    assert _wait_trust(waiting, waiting.continuous).badge == trust.VALIDATED
    badges = {row["policy"]: _ending_trust(endings, row).badge for row in endings.rows}
    assert badges == {"static": trust.EXTRAPOLATED, "chunked": trust.VALIDATED}
    shown = said(visit())
    assert shown.count("Static batching (policy)") and f">{trust.VALIDATED}</span>" in shown


def test_two_pools_get_timelines_of_one() -> None:
    """Oracle: no exception; the step log that can be taken away is one of those that are drawn."""
    app = healthy(visit(policy="disaggregated"))
    assert FINDING in said(app)
    assert [file.label for file in app.get("download_button")].count("Step log") == 1


@pytest.mark.parametrize("from_s", ["1e9", "100"])
def test_a_stretch_behind_the_end_of_the_run_shows_its_last_one(from_s: str) -> None:
    """Oracle: no exception, and bars in the chart: some request is served in the last stretch."""
    query = {
        "extent": "run",
        "requests": "20",
        "from_s": from_s,
        "arrival_per_s": "20",
        "output_tokens": "50",
    }
    app = healthy(visit(**query))
    [drawing] = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    assert any(len(trace.get("x") or ()) for trace in drawing["data"])


def test_the_engines_run_the_same_requests_by_their_rules() -> None:
    """Oracle: presets/engines, and runs of the three links. A rule that the scenario names does not count."""
    scenario = load_scenario("kv-pressure", requests=200, admission="first_chunk")
    found = engine_runs(scenario)
    assert [row["admission"] for row in found.rows] == ["reserve_share", "reserve_output", "full_prompt"]
    for row in found.rows:
        alone = load_scenario("kv-pressure", requests=200, engine=row["engine"])
        assert row["output_tok_per_s"] == point_of(run(alone))["output_tok_per_s"]
    assert found.row("tensorrt-llm")["preemptions"] == 0


def test_the_view_of_engines_says_that_kernels_differ_too() -> None:
    """Oracle: the price list: a step of one token in fp8 is quicker by TensorRT-LLM's kernels."""
    layout = {"model": "llama-3.1-70b", "tensor_parallel": 4, "weight_dtype": "fp8", "requests": 100}
    shared, own = (
        price_of(load_scenario(engine=name, **layout)).step.token_s[1] for name in ("vllm", "tensorrt-llm")
    )
    assert own < 0.95 * shared
    captions = [caption.value for caption in healthy(visit(batching="engines", **layout)).caption]
    assert any("so do kernels that were measured by engine" in caption for caption in captions)


def test_the_sidebar_says_what_the_engine_has_set() -> None:
    """Oracle: presets/engines; a rule that is set otherwise is counted as one's own."""
    assert set_words(Scenario()) == ""
    named = load_scenario("engine=tensorrt-llm&model=qwen3-235b-a22b&tensor_parallel=8")
    assert set_words(named) == (
        "TensorRT-LLM: chunked, admission by prompt and whole answer, 8,192 tokens a step, "
        "first tokens seen 1 step late."
    )
    changed = load_scenario("engine=sglang&policy=chunked")
    assert set_words(changed).startswith(
        "SGLang (1 rule of your own): chunked, admission by prompt and a share"
    )
    streamed = set_words(load_scenario("engine=sglang&stream_interval_steps=30"))
    assert streamed.endswith("first tokens seen at once.")
    captions = [caption.value for caption in healthy(open_page(APP, engine="sglang")).caption]
    assert set_words(load_scenario("engine=sglang")) in captions
