"""The visitor's own model in the sidebar: pasted, shown, confirmed, and carried on."""

from __future__ import annotations

import json

import pytest

from sim_core import catalogue
from sim_core.catalogue.models import own_text
from sim_core.scenario.scenario import model_of
from tests.catalogue.test_config import EXPERTS, ROWS, TINY
from tests.visits import healthy, open_page

QUANTISED = {**TINY, **EXPERTS, "quantization_config": {"quant_method": "mxfp4"}}


def visit(page: str = "1_Frontier.py", **query: str):
    return open_page(page, fine="off", requests="60", **query)


def said(app) -> str:
    return " ".join(element.value for element in (*app.markdown, *app.caption))


def test_it_opens_as_a_copy_of_the_model_before() -> None:
    """Oracle: the preset: the same sizes, in a text of its own."""
    app = visit(model="qwen3-8b")
    app.selectbox(key="in_model").select("own").run()
    scenario = healthy(app).session_state.scenario
    assert scenario.model == "own"
    assert model_of(scenario).total_params == catalogue.model("qwen3-8b").total_params
    app.selectbox(key="in_model").select("qwen3-8b").run()
    assert healthy(app).session_state.scenario.own_model == ""


def test_a_pasted_configuration_is_shown_and_used_once_confirmed() -> None:
    """By hand: 8 layers of 16 experts, stored in four bits; nothing changes before the button is pressed."""
    app = visit(model="own", own_model=own_text(catalogue.model("llama-3.1-8b")))
    app.text_area(key="in_own_config_0").set_value(json.dumps(QUANTISED)).run()
    assert model_of(healthy(app).session_state.scenario).layers == 32
    assert "Is this your model?" in said(app) and "8 layers: 16 experts" in said(app)
    app.button(key="in_own_use").click().run()
    scenario = healthy(app).session_state.scenario
    assert (model_of(scenario).layers, scenario.weight_dtype) == (8, "native")
    assert "Is this your model?" not in said(app)


@pytest.mark.parametrize("text", ["{", '{"hidden_size": "512"}', "[]", "<script>alert(1)</script>"])
def test_what_cannot_be_read_is_said_beside_the_field(text: str) -> None:
    """Oracle: the model stays, and an error names the file."""
    app = visit(model="own", own_model=own_text(catalogue.model("llama-3.1-8b")))
    app.text_area(key="in_own_config_0").set_value(text).run()
    assert "config.json" in app.error[0].value
    assert model_of(app.session_state.scenario).layers == 32
    app.run()
    assert not app.error


def test_what_was_assumed_and_what_is_not_understood_is_said() -> None:
    """By hand: nothing is said of key/value heads, and one entry is from a world to come."""
    table = {key: value for key, value in TINY.items() if key != "num_key_value_heads"}
    app = visit(model="own", own_model=own_text(catalogue.model("llama-3.1-8b")))
    app.text_area(key="in_own_config_0").set_value(json.dumps({**table, "engram_memory": 3})).run()
    assert "Key/value heads are not given" in said(healthy(app))
    assert "engram_memory" in said(app)
    app.button(key="in_own_drop").click().run()
    assert model_of(healthy(app).session_state.scenario).layers == 32


KINDS = ("deepseek-v4-flash", "qwen3.5-35b-a3b", "minimax-m3", "kimi-k3", "nemotron-h-56b-base-8k")


@pytest.mark.parametrize("page", ["1_Frontier.py", "2_Two_phases.py", "3_Batching.py", "11_Compare.py"])
@pytest.mark.parametrize("name", KINDS)
def test_pages_take_a_model_of_any_kind(page: str, name: str) -> None:
    """Oracle: no exception on a page whose link carries the model."""
    from sim_core.catalogue.models.config import read_config

    config = next(row["config"] for row in ROWS if row["model"] == name)
    query = {"model": "own", "own_model": own_text(read_config(config).model), "weight_dtype": "fp4"}
    healthy(visit(page, **query, accelerator="b300", tensor_parallel="8", concurrency="4", arrivals="closed"))
