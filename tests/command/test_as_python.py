"""The Python beside a command: it runs as it is printed, and gives what the command gives."""

from __future__ import annotations

import ast
import io
import json
import shlex

import pandas as pd
import pytest

from sim_core import summarize
from sim_core.scenario.link.as_python import python_of
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import Scenario
from tests.command.test_cli import ask

QUICK = Scenario(requests=60, seed=5)


def ran(command: str) -> dict[str, object]:
    """Return the names that the printed code leaves behind."""
    found: dict[str, object] = {}
    exec(python_of(command), found)
    return found


def asked(capsys, command: str, form: str) -> str:
    capsys.readouterr()  # what the printed code has printed
    return ask(capsys, *shlex.split(command)[3:], "--format", form)


def test_the_call_gives_the_table_of_the_command(capsys) -> None:
    """Oracle: the CSV that the command prints, in the columns that both have."""
    command = command_for(QUICK, "frontier", vary={"max_batch": (8, 16), "kv_dtype": ("bf16", "fp8")})
    table = ran(command)["table"]
    printed = pd.read_csv(io.StringIO(asked(capsys, command, "csv")))
    both = [name for name in table.select_dtypes("number").columns if name in printed]
    assert len(both) > 10
    pd.testing.assert_frame_equal(table[both], printed[both], check_dtype=False)


def test_several_commands_are_one_table() -> None:
    """Two frontiers, one beneath the other: as many rows as both have; what a mix needs is quoted."""
    parts = [command_for(QUICK, "frontier", vary={"mix": ("chat:0.7,rag:0.3", "chat:1"), "max_batch": (8,)})]
    parts += [command_for(QUICK.replace(seed=6), "frontier", vary={"load_frac": (0.5, 0.6)})]
    table = ran("\n".join(parts))["table"]
    assert list(table["mix"].dropna()) == ["chat:0.7,rag:0.3", "chat:1"]
    assert list(table["load_frac"].dropna()) == [0.5, 0.6]


def test_a_run_and_a_capacity_are_what_the_commands_print(capsys) -> None:
    """Oracle: the figures that the command prints as JSON."""
    command = "# a note\n" + command_for(QUICK) + "  # and another"
    found = ran(command)
    printed = json.loads(asked(capsys, command_for(QUICK), "json"))["metrics"]
    metrics = summarize(found["requests"], found["scenario"])["metrics"]
    assert metrics["output_tok_per_s"] == pytest.approx(printed["output_tok_per_s"])
    assert "print(capacity(load_scenario(" in python_of(command_for(QUICK, "capacity"))


def test_a_step_log_and_a_shift_have_their_calls() -> None:
    """The steps of a run are a table; the strategies of a shift are rows."""
    steps = ran(f"{command_for(QUICK)} --steps-out steps.csv")["steps"]
    assert len(steps) > 10
    shift = Scenario(policy="disaggregated", demand="step", demand_hours=0.02)
    table = ran(command_for(shift, "shift") + " --strategy fixed")["table"]
    assert list(table["strategy"]) == ["fixed"]


def test_a_plan_has_the_options_of_its_command() -> None:
    """By hand: a number stays a number, a text is quoted, names are those of `plan`."""
    text = python_of("python -m sim_core plan v=1 --rate 20 --objective devices --max-devices 8 --growth 0.5")
    assert 'plan(scenario, 20.0, objective="devices", max_devices=8, growth_frac=0.5)' in text


@pytest.mark.parametrize(
    ("options", "column"),
    [
        ("--rate 12 --spare 1", "accelerators"),
        ("--rate 12 --model qwen3-8b,llama-3.1-8b", "ttft_ms"),
        ("--day 3,12 --start-up 60 --growth 0.5", "accelerators_scheduled"),
        ("--day wave:4/6 --start-from disk", "accelerators_reactive"),
        ("--rate 12 --map rate,output --objective devices", "worth"),
    ],
)
def test_a_plan_its_day_and_its_map_have_their_calls(capsys, options: str, column: str) -> None:
    """Oracle: the table of the command's CSV."""
    scenario = QUICK.replace(requests=50, prompt_tokens=200, output_tokens=20)
    usual = "--accelerators h100-sxm --free tensor_parallel"
    command = f"{command_for(scenario, 'plan')} {usual} {options}"
    table = ran(command)["table"]
    told = pd.read_csv(io.StringIO(asked(capsys, command, "csv")))
    assert table[column].tolist() == pytest.approx(told[column].tolist(), nan_ok=True)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "python -m sim_core run v=1 --trace FILE",
        "rm -rf x",
        "python -m sim_core calibrate v=1",
        "python '",
    ],
)
def test_what_has_no_counterpart_has_no_code(command: str) -> None:
    """Files of the visitor's own, other programs, and commands that Python has no name for."""
    assert python_of(command) == ""


def test_nothing_of_a_link_becomes_code() -> None:
    """A text with quotes, backslashes and line breaks stays one text."""
    hostile = "v=1&x=\\\"');print('out')#\n"
    lines = python_of(shlex.join(["python", "-m", "sim_core", "run", hostile.replace("\n", "%0A")]))
    tree = compile(lines, "printed", "exec", flags=ast.PyCF_ONLY_AST)
    calls = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert sorted(calls) == ["load_scenario", "print", "simulate", "summarize"]
