"""Launch texts against the real argument parsers of engines and clients.

BATCHSCOPE_PARSERS names one or more Pythons that have them, such as that of an environment made of
`requirements-parsers.txt`, as PATH does. What none of them has is skipped.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.launch.bench import aiperf_bench, guidellm_bench, vllm_bench
from sim_core.questions.deployment.launch.engines import sglang_command, vllm_command
from sim_core.scenario.scenario import Scenario

pytestmark = pytest.mark.slow

PARSERS = Path(__file__).with_name("engine_parsers.py")
GIVEN = os.environ.get("BATCHSCOPE_PARSERS", "").split(os.pathsep)
PYTHONS = [path for path in GIVEN if path and Path(path).exists()]
COMMANDS: dict[str, tuple[Callable[[Scenario], str], int, str]] = {  # how many words stand before the flags
    "vllm": (vllm_command, 2, "vllm"),
    "vllm-bench": (vllm_bench, 3, "vllm"),
    "sglang": (sglang_command, 3, "sglang"),
    "guidellm": (guidellm_bench, 1, "guidellm"),
    "aiperf": (aiperf_bench, 1, "aiperf"),
}
DENSE = Scenario(model="llama-3.1-70b", weight_dtype="fp8", tensor_parallel=4, replicas=3)
EXPERTS = DENSE.replace(model="deepseek-r1", accelerator="b200", tensor_parallel=8)
WIDE = EXPERTS.replace(attention_data_parallel=8, expert_parallel=8)
CHANGES: tuple[dict[str, object], ...] = (
    {},
    *({"kv_dtype": dtype} for dtype in ("bf16", "fp8")),
    *({"weight_dtype": dtype} for dtype in ("bf16", "fp8", "fp4", "int4", "int8")),
    *(
        {"spec_tokens": 3, "draft": draft, "acceptance_length": 2.5}
        for draft in ("mtp", "eagle", "parallel", "ngram")
    ),
    *({"policy": policy} for policy in ("chunked", "prefill_first")),
    *({"kv_block_tokens": tokens} for tokens in (1, 32, 64, 256)),
    *({"prefix_caching": word} for word in ("on", "off")),
    *({key: 2} for key in ("pipeline_parallel", "context_parallel")),
    {"expert_parallel": 8},
    {"redundant_experts": 32},
    {"two_batch_overlap": "on"},
    {"cuda_graphs": "off"},
    {"kv_memory_frac": 0.85},
    {"stream_interval_steps": 5},
    {"long_prefill_token_threshold": 512},
    {"prefill_wait_steps": 10},
    {"arrivals": "gamma", "arrival_cv": 2.0},
    {"arrival_per_s": 0.001},
    {"prompt_cv": 0.0, "output_cv": 0.0},
    {"prompt_cv": 1.5},
    {"slo_percentile": 99.9},
)


def deployments() -> list[Scenario]:
    """Return all that can be of three engines with each change."""
    found = []
    for engine, changes in itertools.product((DENSE, EXPERTS, WIDE), CHANGES):
        try:
            scenario = engine.replace(**changes)
            vllm_command(scenario)  # what does not fit has no launch text
        except ScenarioError:
            continue
        found.append(scenario)
    return found


@cache
def python_with(module: str) -> str | None:
    """Return a Python that has a module."""
    asked = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return next((path for path in PYTHONS if not subprocess.run([path, "-c", asked]).returncode), None)


def refusals(tool: str, commands: Sequence[Sequence[str]]) -> list[str]:
    """Return what a tool says to commands, "" where it takes them."""
    python = python_with(COMMANDS[tool][2])
    if python is None:
        pytest.skip(f"no Python of BATCHSCOPE_PARSERS has {COMMANDS[tool][2]}")
    given = {"input": json.dumps(commands), "capture_output": True, "text": True, "timeout": 300}
    said = subprocess.run([python, str(PARSERS), tool], check=False, **given)  # type: ignore[call-overload]
    assert said.returncode == 0, said.stderr[-2000:]
    return json.loads(said.stdout)


def words(tool: str, scenario: Scenario) -> list[str]:
    """Return a command as the tool gets it."""
    command, before, _ = COMMANDS[tool]
    return shlex.split(command(scenario).replace("\\\n", " "))[before:]


@pytest.mark.parametrize("tool", COMMANDS)
def test_engines_and_clients_take_every_flag_and_value(tool: str) -> None:
    """Oracle: the tool's own parser, over layouts, precisions, drafts, caches and traffic."""
    commands = list(dict.fromkeys(tuple(words(tool, scenario)) for scenario in deployments()))
    assert len(commands) >= 4
    said = dict(zip(commands, refusals(tool, commands), strict=True))
    assert {shlex.join(command): words for command, words in said.items() if words} == {}


@pytest.mark.parametrize("tool", COMMANDS)
def test_a_wrong_flag_and_a_wrong_value_are_refused(tool: str) -> None:
    """Oracle: the check itself: a flag that nobody has, and a number that is none."""
    plain = words(tool, DENSE)
    wrong = ["kind=poisson,rate=many" if "kind=poisson" in word else word for word in plain]
    if wrong == plain:
        place = next(place for place, word in enumerate(plain) if word.isdigit())
        wrong = [*plain[:place], "many", *plain[place + 1 :]]
    assert all(refusals(tool, [[*plain, "--no-such-flag-at-all", "1"], wrong]))
