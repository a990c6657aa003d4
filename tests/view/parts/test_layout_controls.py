"""The sidebar's controls of ranks, stages and nodes."""

import pytest
from streamlit.testing.v1 import AppTest

from tests.visits import APP, address, healthy, open_page

LARGE = {"model": "deepseek-r1", "accelerator": "h200", "weight_dtype": "fp8", "requests": "300"}
RANKS = LARGE | {"tensor_parallel": "8", "attention_data_parallel": "8", "expert_parallel": "8"}


def sliders(app: AppTest) -> set[str]:
    return {str(slider.key) for slider in app.select_slider}


@pytest.mark.parametrize("page", ["1_Frontier.py", "11_Compare.py"])
def test_nodes_of_another_size_can_be_shown(page: str) -> None:
    """Oracle: no exception; the words of a changed part need a format for each of its specs."""
    query = {"node_devices": "16", "node_link_gb_per_s": "25", "requests": "300"}
    app = healthy(open_page(page, **query))
    assert query.items() <= address(app).items()


def test_ranks_have_controls_where_there_are_experts() -> None:
    """Oracle: the keys that make sense for each model."""
    keys = {"in_attention_data_parallel", "in_expert_parallel", "in_expert_imbalance", "in_redundant_experts"}
    always = {"in_pipeline_parallel", "in_context_parallel", "in_node_devices", "in_node_link_gb_per_s"}
    assert keys | always <= sliders(healthy(open_page(APP, **RANKS)))
    dense = healthy(open_page(APP, requests="300", node_devices="4"))
    assert always <= sliders(dense)
    assert not keys & sliders(dense)


def test_fewer_devices_take_fewer_ranks() -> None:
    """By hand: 8 ranks on 8 devices become 4 on 4, and the experts with them."""
    app = healthy(open_page(APP, **RANKS))
    healthy(app.select_slider("in_tensor_parallel").set_value(4).run())
    scenario = app.session_state.scenario
    assert (scenario.attention_data_parallel, scenario.expert_parallel) == (4, 4)
    assert app.session_state.problem == ""


def test_the_datasheets_own_number_of_devices_is_no_override() -> None:
    """By hand: an H200 comes in nodes of eight."""
    app = healthy(open_page(APP, **LARGE, node_devices="16"))
    healthy(app.select_slider("in_node_devices").set_value(8).run())
    assert app.session_state.scenario.node_devices is None
