"""The Two phases page, run as Streamlit runs it but without a browser."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tomllib

import pytest
from streamlit.testing.v1 import AppTest

from sim_core import catalogue, questions
from sim_core.evidence import trust
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.ready import ready_scenario, ready_scenarios
from sim_core.view.phases.hardware import _maps_text, tpot_limits
from tests.places import ROOT
from tests.visits import finding, healthy, open_page, said

PAGE = "2_Two_phases.py"
LARGE = {"model": "deepseek-r1", "accelerator": "h200", "weight_dtype": "native"}
VIEWS = SETTINGS["phases"].choices


def visit(**address: str) -> AppTest:
    """Open the page at an address and return it after its first run; fail if it shows an error."""
    return healthy(open_page(PAGE, **({"requests": "300"} | address)))


def captions(app: AppTest) -> str:
    """Return all captions of the page."""
    return " ".join(element.value for element in app.caption)


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "name",
    [name for name, item in ready_scenarios().items() if item.page in ("Frontier", "Two phases")][::2],
)
def test_every_view_of_every_ready_scenario(view: str, name: str) -> None:
    """Oracle: no exception, and a finding."""
    from sim_core.scenario.link.write import to_query

    address = dict(part.split("=", 1) for part in to_query(ready_scenario(name).build()).split("&"))
    assert finding(visit(**address, phases=view))


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "address",
    [
        {"model": "llama-3.1-405b"},
        {"output_tokens": "1", "output_cv": "0"},
        {"at_context": "1000000", "at_batch": "16384"},
        {"at_batch": "37", "at_context": "3333", "split": "on"},
        {"calibration": "datasheet"},
        {"accelerator": "a100-80-sxm", "weight_dtype": "fp8"},
        {"accelerator": "corsair"},
        {"accelerator": "cerebras-wse-3", "weight_dtype": "fp8"},
        {"tensor_parallel": "3"},
        {"prompt_tokens": "1000000"},
        {"slo_tpot_ms": "0.001"},
        {"model": "custom"},
        {"policy": "static", "arrivals": "closed", "mix": "chat:0.7,rag:0.3"},
        {"hbm_gb_per_s": "5000", "bf16_tflop_per_s": "500"},
        {
            "model": "deepseek-v4-flash",
            "accelerator": "h200",
            "tensor_parallel": "8",
            "weight_dtype": "native",
        },
        {"model": "qwen3.5-397b-a17b", "accelerator": "b300", "tensor_parallel": "8", "weight_dtype": "fp8"},
        {"model": "nvidia-nemotron-3-super-120b-a12b-fp8", "accelerator": "b300", "tensor_parallel": "2"},
        {"model": "minimax-m3", "accelerator": "b300", "tensor_parallel": "4", "weight_dtype": "fp8"},
        {"model": "llama-3.1-70b", "tensor_parallel": "2", "pipeline_parallel": "4"},
        LARGE | {"tensor_parallel": "16", "attention_data_parallel": "16", "expert_parallel": "16"},
        LARGE | {"tensor_parallel": "8", "pipeline_parallel": "2", "context_parallel": "8"},
    ],
)
def test_no_input_breaks_a_view(view: str, address: dict[str, str]) -> None:
    """Oracle: no exception; the page says what it found or why it cannot."""
    assert finding(visit(**address, phases=view))


def test_what_does_not_fit_is_said() -> None:
    """Oracle: the message of memory, in place of a chart."""
    assert "needs 812 GB for weights" in finding(visit(model="llama-3.1-405b"))
    assert "must divide" in finding(visit(tensor_parallel="3", phases="floor"))


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "specs"])  # which simulates
def test_what_sparse_layers_read_is_said(view: str) -> None:
    """Oracle: the words on GLM-5.2's layers under every chart; a model that reads everything needs none."""
    address = {"model": "glm-5.2", "accelerator": "b300", "tensor_parallel": "8", "weight_dtype": "fp8"}
    assert "reading 2,048 tokens that an index over all chooses" in captions(visit(**address, phases=view))
    assert "reading the whole context" not in captions(visit(phases=view))


def test_the_cache_of_states_is_shown() -> None:
    """By hand: a sequence of Qwen3.5-27B keeps 65.5 kB a token, and a state in a slot of its own."""
    app = visit(model="qwen3.5-27b", accelerator="h200", phases="kv")
    text = said(app).replace("\u202f", " ")
    assert "its own kinds of layers" in text and "65.5 kB a token" in text
    assert "sets the state of a sequence aside" in captions(app)


def test_the_dials_write_the_view() -> None:
    """Oracle: the address."""
    app = visit()
    app.select_slider(key="in_at_batch").set_value(64)
    healthy(app.run())
    assert "".join(app.query_params["at_batch"]) == "64"
    app.select_slider(key="in_at_context").set_value(4096)
    healthy(app.run())
    assert "".join(app.query_params["at_context"]) == "4096"


def test_more_of_a_spec_is_written_to_the_scenario() -> None:
    """Oracle: twice the datasheet, in every precision it has; once is no override."""
    app = visit(phases="specs")
    app.select_slider(key="in_more_flops").set_value(2.0)
    healthy(app.run())
    scenario, sheet = app.session_state.scenario, catalogue.accelerator("h100-sxm")
    assert scenario.bf16_tflop_per_s == 2 * sheet.bf16_tflop_per_s
    assert scenario.fp8_tflop_per_s == 2 * sheet.fp8_tflop_per_s
    assert scenario.fp4_tflop_per_s is None and scenario.hbm_gb_per_s is None
    app.select_slider(key="in_more_bandwidth").set_value(0.5)
    app.select_slider(key="in_more_flops").set_value(1.0)
    healthy(app.run())
    assert app.session_state.scenario.hbm_gb_per_s == sheet.hbm_gb_per_s / 2
    assert app.session_state.scenario.bf16_tflop_per_s is None


def test_the_code_runs_outside_the_page() -> None:
    """Oracle: the code of each view, in a fresh interpreter; none knows what another has imported."""
    codes = []
    for view in VIEWS:
        app = visit(phases=view)
        codes.append(next(element.value for element in app.code if "load_scenario" in element.value))
    each = "import json, sys\nfor code in json.load(sys.stdin):\n    exec(code, {})\n    print('end of view')"
    run = subprocess.run(
        [sys.executable, "-c", each], input=json.dumps(codes), cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    printed = run.stdout.split("end of view\n")[:-1]
    assert len(printed) == len(VIEWS)
    assert all(text.count("{") >= 3 for text in printed)


def test_limits_come_from_files() -> None:
    """Oracle: the TOML files."""
    files = sorted((ROOT / "presets" / "limits").glob("*.toml"))
    found = {tomllib.loads(path.read_text(encoding="utf-8"))["tpot_ms"] for path in files}
    drawn = {ms for ms, _, own in tpot_limits(ready_scenario("kv-pressure").build()) if not own}
    assert drawn <= {float(ms) for ms in found}


def test_the_badge_is_that_of_what_is_looked_at() -> None:
    """Oracle: 16,384 sequences at once, and a context of 100,000 tokens, are outside, the traffic not."""
    assert trust.VALIDATED in said(visit(phases="step"))
    assert "16,384 sequences at once" in said(visit(phases="step", at_batch="16384"))
    assert "context of 100,000 tokens" in said(visit(phases="roofline", at_context="100000"))


def test_the_maps_can_be_taken_away() -> None:
    """Oracle: three measures; only the datasheet's own place is validated."""
    scenario = ready_scenario("llama-3.1-8b-on-h100").build(requests=300)
    text = _maps_text(scenario, questions.phases.setting(scenario, 32))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["measure"] for row in rows} == {"decode", "ttft", "limits"}
    inside = [row for row in rows if row["badge"] == trust.VALIDATED]
    assert inside and all(float(row["flops"]) == float(row["bandwidth"]) == 1 for row in inside)
    assert all("is changed" in row["badge_reasons"] for row in rows if row not in inside and row["value"])


def test_how_an_engine_deals_its_sequences_is_said() -> None:
    """Oracle: the words on stages and on ranks beneath the charts."""
    app = visit(model="llama-3.1-70b", tensor_parallel="2", pipeline_parallel="4", phases="step")
    assert "dealt to 4 batches, one a stage" in captions(app)
    app = visit(
        **LARGE, tensor_parallel="16", attention_data_parallel="16", expert_parallel="16", phases="roofline"
    )
    assert "dealt to 16 ranks of attention" in captions(app)
