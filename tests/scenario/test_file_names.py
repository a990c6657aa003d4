"""What files of a scenario are called."""

from __future__ import annotations

import re

from sim_core.scenario.link.file_names import file_name
from sim_core.scenario.scenario import Scenario

ANY_SYSTEM = re.compile(r"[a-z0-9.-]{1,80}")


def test_files_are_named_by_what_they_are_of() -> None:
    """By hand: a ready scenario has its id, others model, accelerator and devices."""
    assert file_name(Scenario()) == "llama-3.1-8b-on-h100"
    assert file_name(Scenario(accelerator="b200", tensor_parallel=4, replicas=2)) == "llama-3.1-8b-b200-x8"


def test_scenarios_that_differ_elsewhere_have_other_names() -> None:
    """Two seeds, two names; the same seed has the same one."""
    names = [file_name(Scenario(seed=seed)) for seed in (1, 2, 1)]
    assert names[0] == names[2] != names[1] and names[0].startswith("llama-3.1-8b-h100-sxm-x1-")


def test_a_model_of_ones_own_lends_its_name_as_far_as_a_file_can_bear_it() -> None:
    """A name with spaces, dots and capitals becomes part of a name that any system takes."""
    shape = "layers:2,hidden:512,ffn_dim:1024,vocab:1000/full,layers:2,heads:8,kv_heads:2,head_dim:64"
    own = Scenario(model="own", own_model=f"name:..My Model + 2 {'long ' * 6}x,{shape}")
    assert file_name(own).startswith("my-model-2-long") and ANY_SYSTEM.fullmatch(file_name(own))
