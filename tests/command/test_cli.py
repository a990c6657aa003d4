"""The command line: what it prints, and one line with exit status 2 for whatever cannot be used."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim_core import catalogue, load_scenario, simulate, summarize
from sim_core.command.inputs import LOAD
from sim_core.command.lists import LISTED
from sim_core.command.main import main
from sim_core.command.output import LATENCIES, METRICS, STATISTICS
from sim_core.engine.work import seconds_of_run
from sim_core.results import text as report
from sim_core.scenario.link.write import command_for
from sim_core.scenario.ready import ready_scenarios
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.sweep.capacity import best_within
from sim_core.sweep.points import LOAD as ENGINE_LOAD
from sim_core.sweep.saturation import saturation_per_s
from tests.places import ROOT

SMALL = ("--set", "requests=40")
REQUEST_COLUMNS = (
    "request_id,arrival_s,prompt_tokens,output_tokens,first_token_s,finished_s,itl_max_s,preemptions,status"
)
PROFILE = "step_tokens = [1, 8]\nstep_time_ms = [10.0, 17.0]\nkv_blocks = 1000\nkv_block_tokens = 32\n"


def ask(capsys, *arguments: str) -> str:
    """Run a command line that must succeed and return its output."""
    status = main(list(arguments))
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    return captured.out


def refuse(capsys, *arguments: str) -> str:
    """Run a command line that must fail and return its one line of error."""
    status = main(list(arguments))
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.endswith("\n")
    assert captured.err.count("\n") == 1
    assert captured.err.strip().isprintable()
    return captured.err


def shell(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run a command line in its own interpreter."""
    command = [sys.executable, "-m", "sim_core", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, **options)


# run


def test_run_prints_the_promised_object(capsys) -> None:
    """Oracle: the keys of the contract, and the Python face for every number."""
    found = json.loads(ask(capsys, "run", "llama-3.1-8b-on-h100", "--format", "json", *SMALL))
    assert set(found["scenario"]) == set(FIELDS)
    assert set(found["requests"]) == {"arrived", "finished", "rejected", "preemptions"}
    for name in LATENCIES:
        assert tuple(found["metrics"][name]) == STATISTICS
    assert set(found["metrics"]) - set(LATENCIES) == set(METRICS) - {"tok_per_s_per_user"}
    assert {"window_s", "saturated", "limits", "cost", "warnings", "version"} <= set(found)
    assert set(found["cost"]) == {"usd_per_mtok", "joule_per_tok"}
    scenario = load_scenario("llama-3.1-8b-on-h100", requests=40)
    assert found.pop("trust")["badge"] == "validated region"
    assert found == json.loads(report.json_text(summarize(simulate(scenario), scenario)))
    assert found["requests"]["arrived"] == found["scenario"]["requests"] == 40


def test_run_as_table_and_csv(capsys) -> None:
    """Oracle: the JSON output: the same numbers, to four digits and in full."""
    found = json.loads(ask(capsys, "run", *SMALL))
    table = ask(capsys, "run", *SMALL, "--format", "table")
    assert "v=1&requests=40" in table
    ttft = next(line for line in table.splitlines() if line.startswith("ttft_ms")).split()
    assert float(ttft[1]) == pytest.approx(found["metrics"]["ttft_ms"]["mean"], rel=1e-3)
    assert max(map(len, table.splitlines())) <= 120
    rows = dict(csv.reader(io.StringIO(ask(capsys, "run", *SMALL, "--format", "csv"))))
    assert float(rows["metrics.ttft_ms.mean"]) == found["metrics"]["ttft_ms"]["mean"]


def test_an_overloaded_run_says_so_beside_its_figures(capsys) -> None:
    """Oracle: 40/s are more than the some 20/s that saturate the engine, asked by itself; JSON keeps all."""
    saturates_per_s = saturation_per_s(Scenario())
    assert 19 < saturates_per_s < 22
    table = ask(capsys, "run", "arrival_per_s=40", "--format", "table")
    lines = {line.split()[0]: line for line in table.splitlines() if line}
    for name in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"):
        assert lines[name].endswith("overloaded: grows with the run") == (name in ("ttft_ms", "e2e_ms"))
    assert f"keeps up with {saturates_per_s:.4g} requests/s at most" in table
    found = json.loads(ask(capsys, "run", "arrival_per_s=40"))
    assert found["saturated"] and found["metrics"]["ttft_ms"]["p99"] > 1000
    sweep = ask(capsys, "frontier", "", "--vary", "load_frac=0.5,1.5", "--format", "table").splitlines()
    assert ["overloaded" in line for line in sweep] == [False, False, True]
    assert "overloaded" not in ask(capsys, "run", *SMALL, "--format", "table")


def test_run_of_a_window_of_a_trace(capsys, tmp_path) -> None:
    """Oracle: by hand: of requests each half an hour, two come from one hour on."""
    path = tmp_path / "week.csv"
    rows = "".join(f"2024-05-10T0{at // 2}:{at % 2 * 3}0:00,{at + 1},5\n" for at in range(8))
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    for start in ("1", "2024-05-10T01:00"):
        found = json.loads(ask(capsys, "run", "--trace", str(path), "--from", start, "--hours", "1"))
        assert found["requests"]["finished"] == 2
        assert any("a window: 2 of the 8 rows" in warning for warning in found["warnings"])


def test_run_writes_requests_and_steps(capsys, tmp_path) -> None:
    """Oracle: the columns of the contract, `simulate` itself, and one step for every token of a request."""
    requests_path, steps_path = tmp_path / "requests.csv", tmp_path / "steps.csv"
    ask(capsys, "run", *SMALL, "--requests-out", str(requests_path), "--steps-out", str(steps_path))
    assert requests_path.read_bytes().startswith(REQUEST_COLUMNS.encode() + b"\n")
    table = pd.read_csv(requests_path)
    expected = simulate(load_scenario("", requests=40))
    assert len(table) == 40
    for column in ("arrival_s", "first_token_s", "finished_s"):
        np.testing.assert_array_equal(table[column], expected[column])
    assert set(table["status"]) == {"finished"}
    assert pd.read_csv(steps_path)["count"].sum() >= table["output_tokens"].max()


def test_run_of_a_trace(capsys, tmp_path) -> None:
    """Oracle: by hand: four requests, ten seconds apart, each served alone and in order of the file."""
    path, out = tmp_path / "trace.csv", tmp_path / "out.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,100,5\n10,200,1\n20,300,7\n30,400,2\n")
    found = json.loads(ask(capsys, "run", "--trace", str(path), "--requests-out", str(out)))
    assert found["scenario"]["arrivals"] == "trace"
    assert found["scenario"]["requests"] == found["requests"]["finished"] == 4
    table = pd.read_csv(out)
    assert table["arrival_s"].tolist() == [0, 10, 20, 30]
    assert table["output_tokens"].tolist() == [5, 1, 7, 2]
    alone = json.loads(ask(capsys, "run", "--trace", str(path), "--set", "requests=2"))
    assert alone["requests"]["arrived"] == 2
    assert any("first 2 of 4" in warning for warning in alone["warnings"])
    closed = json.loads(ask(capsys, "run", "arrivals=closed&concurrency=1", "--trace", str(path)))
    assert closed["scenario"]["arrivals"] == "closed"


def test_run_with_a_profile(capsys, tmp_path) -> None:
    """Oracle: by hand: one request of 8 prompt and 3 output tokens alone: 17 ms, then 2 x 10 ms."""
    path = tmp_path / "engine.toml"
    path.write_text(PROFILE)
    query = "requests=1&prompt_tokens=8&prompt_cv=0&output_tokens=3&output_cv=0&arrivals=offline"
    found = json.loads(ask(capsys, "run", query, "--profile", str(path)))["metrics"]
    assert found["ttft_ms"]["mean"] == pytest.approx(17)
    assert found["tpot_ms"]["mean"] == pytest.approx(10)
    assert found["e2e_ms"]["mean"] == pytest.approx(37)


def test_json_is_strict_where_a_number_does_not_exist(capsys) -> None:
    """Oracle: one-token answers have no TPOT: null, not NaN, so every JSON reader takes it."""
    text = ask(capsys, "run", *SMALL, "--set", "output_tokens=1", "--set", "output_cv=0")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert found["metrics"]["tpot_ms"]["p50"] is None
    assert found["metrics"]["tpot_ms"]["n"] == 0


def test_a_flat_length_switches_the_mix_off(capsys) -> None:
    """Oracle: the stated rule of `with_changes`, on the command line."""
    found = json.loads(ask(capsys, "run", "mix=chat:0.7,rag:0.3", *SMALL, "--set", "prompt_tokens=50"))
    assert (found["scenario"]["mix"], found["scenario"]["prompt_tokens"]) == ("", 50)


# frontier and capacity


def test_frontier_formats_agree(capsys) -> None:
    """Oracle: the keys of the contract; CSV and JSON hold the same numbers; an impossible point stays."""
    command = ("frontier", *SMALL, "--vary", "max_batch=2,4", "--vary", "tensor_parallel=1,3")
    points = json.loads(ask(capsys, *command, "--format", "json"))
    rows = list(csv.DictReader(io.StringIO(ask(capsys, *command, "--format", "csv"))))
    assert [(point["max_batch"], point["tensor_parallel"]) for point in points] == [
        (2, 1),
        (2, 3),
        (4, 1),
        (4, 3),
    ]
    for point, row in zip(points, rows, strict=True):
        assert {"feasible", "reason", "on_frontier", "meets_slo"} <= set(point)
        assert point["feasible"] == (point["tensor_parallel"] == 1)
        assert bool(point["reason"]) != point["feasible"]
        assert set(point["metrics"]) == {*LATENCIES, *METRICS}
        mean = point["metrics"]["ttft_ms"]["mean"]
        assert row["ttft_ms_mean"] == ("" if mean is None else repr(mean))
        assert point["metrics"]["ttft_ms"]["n"] in (
            36,
            40,
            None,
        )  # all of them where the window is shorter than the service
    table = ask(capsys, *command, "--format", "table").splitlines()
    assert len(table) == 5
    assert table[0].split()[:3] == ["max_batch", "tensor_parallel", "tok_per_s_per_user"]
    assert len({line.index("  ", 9) for line in table}) == 1


def test_frontier_over_load_and_mix(capsys) -> None:
    """Oracle: by hand: a load becomes a rate in proportion; classes of a mix are parted by semicolons."""
    loads = json.loads(ask(capsys, "frontier", *SMALL, "--vary", "load_frac=0.25,0.5"))
    rates = [point["arrival_per_s"] for point in loads]
    assert rates[1] == pytest.approx(2 * rates[0])
    mixes = json.loads(ask(capsys, "frontier", *SMALL, "--vary", "mix=chat:1;chat:0.7,rag:0.3"))
    assert [point["mix"] for point in mixes] == ["chat:1", "chat:0.7,rag:0.3"]
    assert ENGINE_LOAD == LOAD


def test_capacity(capsys) -> None:
    """Oracle: a run at the rate found meets the limits, as the point says."""
    command = ("capacity", "--set", "max_batch=16", "--set", "output_tokens=20", "--set", "prompt_tokens=100")
    found = json.loads(ask(capsys, *command))
    assert found["arrival_per_s"] > 0
    assert found["point"]["meets_slo"] is True
    assert found["range_per_s"]["low"] <= found["arrival_per_s"] <= found["range_per_s"]["high"]
    assert found["point"]["metrics"]["ttft_ms"]["p99"] <= Scenario().slo_ttft_ms
    table = ask(capsys, *command, "--format", "table")
    assert "arrival_per_s" in table
    assert "ttft_ms" in table


def test_capacity_of_clients(capsys) -> None:
    """Oracle: the best number of clients as the pages have it, beside the rate of an open loop."""
    small = ("capacity", "--set", "max_batch=16", "--set", "output_tokens=20", "--set", "prompt_tokens=100")
    found = json.loads(ask(capsys, *small, "--set", "arrivals=closed"))
    best = best_within(Scenario(max_batch=16, output_tokens=20, prompt_tokens=100, arrivals="closed"))
    assert found["own_arrivals"]["concurrency"] == best["concurrency"] > 1
    open_loop = json.loads(ask(capsys, *small))
    assert "own_arrivals" not in open_loop and open_loop["arrival_per_s"] == found["arrival_per_s"]


def test_capacity_of_the_impossible(capsys) -> None:
    """Oracle: with a limit below one step's time no rate will do: 0, without a point."""
    command = ("capacity", "--set", "slo_ttft_ms=0.01", "--set", "max_batch=4", "--set", "output_tokens=9")
    found = json.loads(ask(capsys, *command))
    assert (found["arrival_per_s"], found["point"]) == (0, None)
    assert "arrival_per_s" in ask(capsys, *command, "--format", "table")


# list, help, version


def test_list(capsys) -> None:
    """Oracle: the presets themselves."""
    for kind in (name for name in LISTED if name not in ("acceptance", "keys")):
        ids = list(ready_scenarios() if kind == "scenarios" else getattr(catalogue, kind)())
        assert [row["id"] for row in json.loads(ask(capsys, "list", kind, "--format", "json"))] == ids
        lines = ask(capsys, "list", kind).splitlines()
        assert [line.split()[0] for line in lines[1:]] == ids


def test_list_of_keys(capsys) -> None:
    """Oracle: the keys of the scenario, with one row read by hand."""
    rows = {row["id"]: row for row in json.loads(ask(capsys, "list", "keys", "--format", "json"))}
    assert list(rows) == list(FIELDS)
    assert rows["policy"]["choices"].split() == ["static", "prefill_first", "chunked", "disaggregated"]
    found = rows["arrival_per_s"]
    assert (found["default"], found["unit"], found["low"], found["high"]) == (12.0, "req/s", 1e-6, 1e6)
    assert len(ask(capsys, "list", "keys").splitlines()) == len(FIELDS) + 1


def test_list_of_acceptance_lengths(capsys) -> None:
    """Oracle: the golden curve of Kimi-K2.5 with EAGLE-3, read by hand; a source stands with every row."""
    rows = json.loads(ask(capsys, "list", "acceptance", "--format", "json"))
    row = next(row for row in rows if row["model"] == "kimi-k2.5")
    assert (row["draft"], row["workload"], row["k3"], row["k8"]) == ("eagle", "coding, thinking", 2.88, 3.77)
    assert all("https://" in row["source"] for row in rows)


def test_help_and_version(capsys) -> None:
    """Oracle: exit 0, and every command explains itself."""
    assert "frontier" in ask(capsys)
    assert "--set" in ask(capsys, "run", "--help")
    assert "--vary" in ask(capsys, "frontier", "-h")
    assert "0." in ask(capsys, "--version")


# Bad input


TRACE = "{tmp}/trace.csv"
BAD = {
    "run nope": ["unknown scenario 'nope'"],
    "run missing.toml": ["missing.toml", "cannot be read"],
    "run max_bacth=3": ["max_bacth", "max_batch"],
    "run --set max_batch": ["--set", "KEY=VALUE"],
    "run --set =3": ["unknown key ''"],
    "run --set max_batch=abc": ["max_batch is 'abc'", "whole number"],
    "run --set max_batch=0": ["max_batch is 0", "between 1 and 16,384"],
    "run --set arrival_per_s=nan": ["arrival_per_s is nan"],
    "run --set arrival_per_s=-1": ["arrival_per_s is -1 req/s"],
    "run --set accelerator=h10": ["unknown accelerator 'h10'"],
    "run --set mix=chat:x": ["mix", "weight"],
    "run --set policy=merged": ["choose one of static"],
    "run policy=disaggregated --steps-out {tmp}/s.csv": ["no step log of two pools"],
    "run --set expert_parallel=2": ["expert_parallel"],
    "run --set arrivals=trace": ["arrivals is trace", "--trace FILE"],
    "run --set accelerator=l4 --set model=llama-3.1-70b": ["GB"],
    "run --set tensor_parallel=3": ["tensor_parallel is 3"],
    "run --set prompt_tokens=1000000": ["no request fits"],
    "run --trace missing.csv": ["missing.csv", "cannot be read"],
    "run --trace {tmp}": ["cannot be read"],
    "run --from 3": ["there is none: give --trace FILE"],
    "shift --hours 3": ["there is none: give --trace FILE"],
    "run --trace {tmp}/bad.csv": ["bad.csv, line 2", "'x'"],
    "run --profile missing.toml": ["missing.toml", "cannot be read"],
    "run --profile {tmp}/bad.csv": ["bad.csv is not valid TOML"],
    "run --set requests=5 --requests-out {tmp}/none/out.csv": ["cannot be written"],
    "run --set requests=5 --steps-out {tmp}": ["cannot be written"],
    "run --format xml": ["--format", "'xml'"],
    "run --nonsense": ["--nonsense"],
    "run a b": ["argument"],
    "run --set": ["--set"],
    "frontier --vary max_batch": ["KEY=VALUE"],
    "frontier --vary max_batch=": ["no values"],
    "frontier --vary max_batch=1,x": ["max_batch is 'x'"],
    "frontier --vary max_bacth=1,2": ["max_bacth", "max_batch"],
    "frontier --vary seed=1 --vary seed=2": ["seed", "twice"],
    "frontier --vary load_frac=x": ["load_frac is 'x'"],
    "frontier --vary load_frac=-1": [
        "load_frac is -1; it must lie between 0.0001 and 100. It is a share: 0.5 is half of the rate"
    ],
    "run --set model=zzzqqq": ["unknown model 'zzzqqq'.", "`python -m sim_core list models` shows all."],
    "run --set zzzqqq=1": ["unknown key 'zzzqqq'.", "`python -m sim_core list keys` shows all."],
    "run zzzqqq=1": ["Unknown key 'zzzqqq'.", "`python -m sim_core list keys` shows all."],
    "frontier --vary zzzqqq=1": ["unknown key", "`python -m sim_core list keys` shows all."],
    "run zzzqqq": ["`python -m sim_core list scenarios` shows all."],
    "capacity --set model=nope": ["unknown model 'nope'"],
    "capacity --trace x.csv": ["--trace"],
    "list": ["models"],
    "list nonsense": ["'nonsense'"],
    "nonsense": ["nonsense"],
}


@pytest.mark.parametrize("command", BAD)
def test_bad_input_is_one_line(capsys, tmp_path, command: str) -> None:
    """Oracle: by hand: what is wrong, with value and limit or way out; status 2; nothing on stdout."""
    (tmp_path / "bad.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,x,1\n")
    message = refuse(capsys, *(word.format(tmp=tmp_path) for word in command.split()))
    assert all(word in message for word in BAD[command]), message


def test_too_many_points(capsys) -> None:
    """Oracle: the stated limit."""
    values = ",".join(map(str, range(1, 100)))
    message = refuse(capsys, "frontier", "--vary", f"seed={values}", "--vary", f"max_batch={values}")
    assert "9,801 points" in message


NUMBERS = st.floats().map(repr) | st.integers().map(str) | st.integers(1, 300).map(str)
SETTINGS = st.sampled_from(sorted(set(FIELDS) - {"requests", "concurrency"})).flatmap(
    lambda key: st.tuples(st.just(key), st.sampled_from(FIELDS[key].choices or ("", "flat")) | NUMBERS)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SETTINGS, max_size=4))
def test_no_settings_end_in_anything_but_a_result_or_a_line(capsys, pairs: list[tuple[str, str]]) -> None:
    """Oracle: status 0 with JSON, or 2 with one line."""
    words = [word for key, value in pairs for word in ("--set", f"{key}={value}")]
    status = main(["run", *words, "--set", "requests=20", "--set", "concurrency=3"])
    captured = capsys.readouterr()
    if status == 0:
        assert json.loads(captured.out)["requests"]["arrived"] == 20
    else:
        assert status == 2
        assert captured.out == ""
        assert captured.err.count("\n") == 1


# Long work


def test_a_long_run_is_said_beforehand(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the estimate; a short run says nothing, as all other tests here see."""
    monkeypatch.setattr("sim_core.command.simulate.LONG_S", 0.0)
    assert main(["run", *SMALL]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("Note: this run of 40 requests may take some 0 s by an estimate. Ctrl-C ends")
    assert json.loads(said.out)["requests"]["arrived"] == 40
    many = load_scenario(token_budget=1, prompt_tokens=100_000, hbm_gb=1e6, requests=50_000)
    assert 60 < seconds_of_run(many) < 600  # of one core; the slow test below waits for a part of it
    assert seconds_of_run(Scenario()) < 0.1


def test_shift_says_how_far_it_is(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the words on standard error; the answer alone is on standard output."""
    monkeypatch.setattr("sim_core.command.output.TOLD_EVERY_S", 0.0)
    quick = "demand_hours=0.1&dwell_s=60&prefill_workers=2&decode_workers=2"
    assert main(["shift", quick, "--strategy", "fixed", "--strategy", "reactive"]) == 0
    said = capsys.readouterr()
    shares = [int(line.partition("%")[0]) for line in said.err.splitlines()]
    assert shares == sorted(shares) and shares[0] < 10 and 50 in shares and shares[-1] > 90
    assert len(json.loads(said.out)["strategies"]) == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent to a group of processes there")
def test_ctrl_c_ends_a_long_run_at_once() -> None:
    """Oracle: the clock: the run, one call of compiled code, would take more than a minute."""
    asked = "token_budget=1&prompt_tokens=100000&output_tokens=1&hbm_gb=1000000&requests=50000"
    words = [sys.executable, "-m", "sim_core", "run", asked]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as begun:
        assert begun.stderr and "Ctrl-C ends it" in begun.stderr.readline()
        time.sleep(5)
        begun.send_signal(signal.SIGINT)
        assert begun.wait(timeout=10) == -signal.SIGINT


# In its own interpreter


def test_the_command_of_a_view_gives_its_numbers() -> None:
    """Oracle: `summarize` in this process, for the words a shell makes of `command_for`."""
    scenario = Scenario(max_batch=32, mix="chat:0.7,rag:0.3", requests=50)
    words = shlex.split(command_for(scenario, "run", format="json"))
    result = shell(*words[3:], check=True)
    expected = json.loads(report.json_text(summarize(simulate(scenario), scenario)))
    found = json.loads(result.stdout)
    assert found.pop("trust")["badge"]
    assert found == expected


def test_bad_input_in_a_process() -> None:
    """Oracle: status 2, one line, no traceback, from the interpreter itself."""
    result = shell("run", "--set", "max_batch=0")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode().count("\n") == 1
    assert b"Traceback" not in result.stderr


def test_a_terminal_without_utf8() -> None:
    """Oracle: the text with `?` for what ASCII lacks; status as ever."""
    plain = dict(os.environ, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    listed = shell("list", "scenarios", env=plain)
    assert (listed.returncode, listed.stderr) == (0, b"")
    assert listed.stdout.isascii()
    refused = shell("run", "--set", "model=…", env=plain)
    assert refused.returncode == 2
    assert refused.stderr.isascii()


@pytest.mark.skipif(os.name == "nt", reason="pipes close differently")
def test_a_reader_that_goes_away() -> None:
    """Oracle: `| head` must see no error: nothing on stderr, status 0."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sim_core", "list", "accelerators"]
    result = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk() -> None:
    """Oracle: one line and status 2."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "sim_core", "list", "accelerators"]
        result = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1


# Text


def test_cells() -> None:
    """Oracle: by hand: four significant digits, whole digits kept, commas from 10,000."""
    values = [0.0, 5, 12_345, 1234.567, 123_456.7, 0.0123456, 1.5e-9, 2e15, math.nan, None, True, "a\nb"]
    assert [report.cell(value) for value in values] == [
        "0",
        "5",
        "12,345",
        "1235",
        "123,457",
        "0.01235",
        "1.5e-09",
        "2e+15",
        "-",
        "-",
        "yes",
        "a b",
    ]


def test_plain_values() -> None:
    """Oracle: by hand: NumPy becomes Python, nan and infinity become null."""
    value = {
        "a": np.float64(1.5),
        "b": np.int64(2),
        "c": np.array([1.0, math.nan]),
        "d": (math.inf, np.bool_(True)),
    }
    assert report.plain(value) == {"a": 1.5, "b": 2, "c": [1.0, None], "d": [None, True]}
    assert type(report.plain(value)["b"]) is int
