"""The MLPerf-like page, run as Streamlit runs it but without a browser."""

from __future__ import annotations

import math
import re

import pytest
from streamlit.testing.v1 import AppTest

from sim_core import catalogue
from sim_core.command.main import main
from sim_core.evidence import trust
from sim_core.questions.benchmark import search as benchmark_search
from sim_core.questions.benchmark.ways import candidates
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.view.drawing.words import THIN
from sim_core.view.scenarios.page import above_offline, limit_curves, row_trust, scenario_rows
from sim_core.view.scenarios.published import marks
from sim_core.view.scenarios.study import _study, own_limits
from tests.visits import finding, healthy, open_page, said

PAGE = "4_Scenarios.py"


def visit(**address: str) -> AppTest:
    """Open the page at an address and return it after its first run; fail if it shows an error."""
    return healthy(open_page(PAGE, **({"accelerator": "h200"} | address)))


def captions(app: AppTest) -> str:
    return " ".join(element.value for element in app.caption)


@pytest.mark.parametrize(
    "bench",
    [
        pytest.param(name, marks=pytest.mark.slow if k else ())
        for k, name in enumerate(SETTINGS["bench"].choices)
    ],
)
@pytest.mark.parametrize("rules", SETTINGS["rules"].choices)
def test_every_view_of_every_benchmark(bench: str, rules: str) -> None:
    """Oracle: no exception, a finding, and the words that MLCommons asks for."""
    app = visit(bench=bench, rules=rules)
    assert finding(app)
    assert "MLPerf is a trademark of MLCommons" in captions(app)
    assert "MLPerf-like" in captions(app)


def test_a_figure_below_zero_has_a_minus() -> None:
    """Oracle: a hyphen does not stand before a digit, neither of a share nor of a difference."""
    text = said(healthy(visit(rules="published")))
    assert "−" in text and not re.search(r">-\d", text)


def test_benchmarks_of_the_page() -> None:
    """Oracle: the preset files."""
    assert set(SETTINGS["bench"].choices) == set(catalogue.preset_ids("benchmarks"))


def slow(address: dict[str, str]):
    """Return a case that takes seconds: it runs with the slow tests."""
    return pytest.param(address, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(
    "address",
    [
        {"devices": "1"},
        {"devices": "7"},
        slow({"devices": "64", "bench": "llama3.1-8b"}),
        {"accelerator": "l4", "bench": "llama3.1-405b"},
        {"accelerator": "cerebras-wse-3"},
        {"accelerator": "corsair"},
        {"setup": "own", "tensor_parallel": "3"},
        {
            "setup": "own",
            "tensor_parallel": "8",
            "weight_dtype": "fp8",
            "policy": "static",
            "max_batch": "16",
        },
        {"setup": "own", "tensor_parallel": "4", "policy": "prefill_first"},
        {"setup": "own", "tensor_parallel": "8", "max_batch": "1"},
        slow({"tuned": "off", "calibration": "datasheet"}),
        slow({"slo_tpot_ms": "0.001", "slo_ttft_ms": "0.01"}),
        {"slo_tpot_ms": "10000000", "slo_ttft_ms": "100000000"},
        {"slo_percentile": "50", "model": "custom", "arrivals": "offline"},
        {"hbm_gb_per_s": "100", "against": "ttft"},
    ],
)
@pytest.mark.parametrize("rules", ["limits", "bars", "points"])
def test_no_input_breaks_a_view(rules: str, address: dict[str, str]) -> None:
    """Oracle: no exception; the page says what it found or why it cannot."""
    assert finding(visit(**address, rules=rules))


def test_a_model_that_does_not_fit_is_said() -> None:
    """Oracle: the message of memory, in place of a chart."""
    assert "needs" in finding(visit(bench="llama3.1-405b", devices="1"))


def test_an_unknown_benchmark_is_noted() -> None:
    """Oracle: the note names the choices; the default is shown."""
    app = visit(bench="llama7-1t")
    assert any("bench must be one of" in text.value for text in app.text)
    assert "Llama 2 70B" in finding(app)


def test_the_controls_write_the_address() -> None:
    """Oracle: the address bar."""
    app = visit()
    app.selectbox(key="in_bench").set_value("mixtral-8x7b")
    app.select_slider(key="in_devices").set_value(2)
    app.toggle(key="in_tuned").set_value(False)
    healthy(app.run())
    found = {key: "".join(value) for key, value in app.query_params.items()}
    assert (found["bench"], found["devices"], found["tuned"]) == ("mixtral-8x7b", "2", "off")
    assert "Mixtral" in finding(app)


def test_two_pools_of_ones_own_are_shown_as_they_are_run() -> None:
    """Oracle: what a pool leaves out it has of the one pool, two devices wide; rules have the same two."""
    own = {"setup": "own", "policy": "disaggregated", "tensor_parallel": "2", "max_batch": "32"}
    own |= {"decode_tensor_parallel": "1", "bench": "llama3.1-8b"}
    for rules in ("limits", "points"):
        visit(**own, rules=rules)
    app = visit(**own, rules="bars")
    table = next(block.body for block in app.get("html") if "What binds" in block.body)
    assert table.count("4 × TP 2 prefill, 4 × TP 1 decode") == 4
    assert not any("one replica" in block.value for block in app.code)


def test_drafts_are_shown_where_interactive_uses_them() -> None:
    """Oracle: the rules: three drafts of the model's own layers, in Interactive and nowhere else."""
    app = visit(bench="deepseek-r1", accelerator="gb200", rules="bars")
    table = next(block.body for block in app.get("html") if "What binds" in block.body)
    lines = [line for line in table.split("<tr") if "3 drafts" in line]
    assert len(lines) == 1 and "Interactive" in lines[0]
    assert any("Interactive may use 3 drafts" in text.value for text in app.caption)
    own = {"setup": "own", "tensor_parallel": "8", "weight_dtype": "fp4"}
    app = visit(bench="deepseek-r1", accelerator="gb200", **own)
    assert any("none is added here" in text.value for text in app.caption)


@pytest.mark.slow
def test_a_rack_has_two_pools_within_the_budget_of_a_page() -> None:
    """Oracle: the search without a budget, whose Interactive has two pools on 64 of a rack."""
    app = visit(bench="gpt-oss-120b", accelerator="gb200", devices="64", rules="bars")
    table = next(block.body for block in app.get("html") if "What binds" in block.body)
    lines = [line for line in table.split("<tr") if " prefill, " in line]
    assert len(lines) == 1 and "Interactive" in lines[0]


def test_more_than_offline_is_called_an_error() -> None:
    """Oracle: a limit cannot add throughput, so shares above 1 are said to be wrong, and no others."""
    assert above_offline([0.4, 1.0, math.nan]) == above_offline([]) == ""
    assert "up to 48% more does so by error" in above_offline([0.4, 1.48, 1.03]).replace(THIN, "")


@pytest.mark.parametrize("rules", ["limits", "bars", "points"])
def test_the_page_says_where_it_shows_more_than_offline(rules: str) -> None:
    """Oracle: its shares of Offline, of answers so long that the runs of a page are too short for them."""
    app = visit(bench="deepseek-r1", accelerator="gb200", rules=rules)
    assert "more than Offline" in said(app)


def test_a_benchmark_without_interactive() -> None:
    """Oracle: Mixtral's rules; the finding speaks of Server alone."""
    text = finding(visit(bench="mixtral-8x7b", devices="2"))
    assert "200" in text and "one every" not in text


def test_the_commands_repeat_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the command line; the run it names meets the limits the page says it meets."""
    import json
    import shlex

    app = visit(bench="llama3.1-8b", devices="1")
    text = next(block.value for block in app.code if "sim_core run" in block.value)
    lines = [line for line in text.splitlines() if " run " in line]
    assert len(lines) == 4
    assert main([*shlex.split(lines[1])[3:], "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["meets_slo"]
    assert found["scenario"]["mix"] == "mlperf-llama3.1-8b"


@pytest.mark.slow
def test_looser_limits_of_ones_own_never_cost() -> None:
    """Oracle: monotony of every drawn line, also of lines with a looser other limit."""
    visit(bench="llama3.1-8b")
    benchmark = catalogue.benchmark("llama3.1-8b")
    options = tuple(candidates(_tuned(benchmark), 8))
    study = _study(benchmark.id, _tuned(benchmark), 8, False)
    shown = marks(study._replace(options=options), None)
    lines = sorted(limit_curves(study, shown, "ttft"), key=lambda line: line.other_ms)
    speeds = [[row["output_tok_per_s_per_accelerator"] for row in line.rows] for line in lines]
    assert all(line == sorted(line) for line in speeds)
    assert all(tight <= loose for tight, loose in zip(*speeds, strict=True))


def _tuned(benchmark: catalogue.Benchmark):
    from sim_core.scenario.scenario import Scenario

    return benchmark_search.tuned(benchmark, Scenario(accelerator="h200", calibration="submission"))


def test_rows_have_the_badge_and_band_of_their_rule() -> None:
    """Oracle: the band of each rule from the entries; a limit that nothing keeps is no prediction."""
    visit(bench="llama3.1-8b", devices="1")
    benchmark = catalogue.benchmark("llama3.1-8b")
    study = _study(benchmark.id, _tuned(benchmark), 1, False)
    rows = scenario_rows(study, own_limits(study.options[0].replace(slo_tpot_ms=0.01)))
    for row in rows:
        found = row_trust(study, row)
        if row["rule"] == "own":
            assert found == trust.NO_TRUST
        else:
            assert found.badge == trust.VALIDATED
            assert found.throughput_band == trust.entry_band(study.options[0], row["rule"])
    assert len({row_trust(study, row).throughput_band for row in rows}) == len(rows)


@pytest.mark.parametrize("rules", ["limits", "bars"])
def test_headline_numbers_have_a_band(rules: str) -> None:
    """Oracle: the words of the band; the datasheet's bound has none."""
    named = "80 % band"
    assert said(visit(bench="llama3.1-8b", devices="1", rules=rules)).count(named) >= 1
    bare = said(visit(bench="llama3.1-8b", devices="1", rules=rules, tuned="off", calibration="datasheet"))
    assert "80 % band 1" not in bare and "tok/s to" not in bare
