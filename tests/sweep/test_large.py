"""Large sweeps: the same rows as a small one, whoever runs them and however often they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyarrow.parquet as pq
import pytest

from sim_core.command.main import BAD_INPUT, INTERRUPTED, main
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.frontier import frontier
from sim_core.sweep.large import run as large
from sim_core.sweep.large import workers as crews
from sim_core.sweep.large.chunks import run_chunk
from sim_core.sweep.large.grid import MOST_POINTS, Grid
from sim_core.sweep.large.lock import one_writer
from sim_core.sweep.large.parts import Parts
from sim_core.sweep.large.workers import PROCESSES, THREADS, Crew
from sim_core.traffic.requests import requests_of
from tests.places import ROOT

BASE = Scenario(requests=60)
VARY = {"tensor_parallel": [1, 3, 2], "load_frac": [0.3, 0.9], "max_batch": [4, 64]}  # 3 does not divide 32


def grid(**changes: object) -> Grid:
    return Grid(scenario=BASE, vary=VARY | changes)


def swept(out: Path, scheduler: str = THREADS, chunk: int = 5, **changes: object) -> pd.DataFrame:
    with Crew(scheduler, 2) as workers:
        large.sweep_to_file(grid(**changes), out, workers, chunk)
    return pd.read_parquet(out)


def test_combinations_are_those_of_nested_loops() -> None:
    """Oracle: three loops, the last key innermost."""
    found = [grid().keys(index) for index in range(len(grid()))]
    assert found == [
        {"tensor_parallel": devices, "load_frac": load, "max_batch": batch}
        for devices in VARY["tensor_parallel"]
        for load in VARY["load_frac"]
        for batch in VARY["max_batch"]
    ]


def test_rows_are_those_of_a_frontier(tmp_path: Path) -> None:
    """Oracle: `frontier` on the same values, which runs all at once in one process."""
    found = swept(tmp_path / "table.parquet")
    known = frontier(BASE, VARY)
    assert list(found["point"]) == list(range(12))
    assert list(found["feasible"]) == list(known["feasible"])
    assert set(found.loc[~found["feasible"], "tensor_parallel"]) == {3}
    assert found.loc[~found["feasible"], "reason"].str.contains("attention heads").all()
    for name in ("ttft_ms_p99", "output_tok_per_s", "arrival_per_s"):
        pd.testing.assert_series_equal(found[name], known[name])
    assert not (tmp_path / "table.parquet.parts").exists()


@pytest.mark.slow
def test_processes_give_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: threads. A page that another test has run would be run again as each process begins."""
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    one, other = swept(tmp_path / "a.parquet"), swept(tmp_path / "b.parquet", PROCESSES, chunk=3)
    pd.testing.assert_frame_equal(one, other)


def test_what_is_there_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the table of a sweep that nobody stopped; and the chunks that were asked for."""
    whole, out = swept(tmp_path / "whole.parquet"), tmp_path / "table.parquet"
    parts = Parts(out, grid().digest())
    for start, stop in ((4, 7), (7, 9)):
        parts.add(start, stop, run_chunk(grid(), start, stop))
    asked: list[tuple[int, int]] = []

    def noted(what: Grid, start: int, stop: int) -> object:
        asked.append((start, stop))
        return run_chunk(what, start, stop)

    monkeypatch.setattr(large, "run_chunk", noted)
    pd.testing.assert_frame_equal(swept(out, chunk=3), whole)
    assert sorted(asked[1:]) == [(0, 3), (3, 4), (9, 12)]  # the very first warms up


def test_a_digest_follows_from_every_request_of_a_trace() -> None:
    """Oracle: two traces that differ in the last answer alone, and one that differs in nothing."""
    traces = [requests_of([0.0, 1.0], [10, 20], [3, last]) for last in (4, 5, 4)]
    first, other, same = (Grid(scenario=BASE, vary=VARY, trace=trace).digest() for trace in traces)
    assert first == same != other


def test_another_sweep_is_refused(tmp_path: Path) -> None:
    """Oracle: a digest that follows from scenario and values; the message says what to do."""
    out = tmp_path / "table.parquet"
    Parts(out, grid().digest())
    with pytest.raises(ScenarioError, match=r"beginning of another sweep.*another --out"):
        swept(out, max_batch=[4, 128])


def test_a_table_is_never_lost_to_another_sweep(tmp_path: Path) -> None:
    """Oracle: the bytes that lay there; the same sweep again writes the same rows."""
    out, values = tmp_path / "table.parquet", {"tensor_parallel": [1], "load_frac": [0.3], "max_batch": [4]}
    first = swept(out, **values)
    kept = out.read_bytes()
    with pytest.raises(
        ScenarioError, match=r"table\.parquet' is there already.*another sweep.*another --out"
    ):
        swept(out, **values | {"max_batch": [8]})
    assert out.read_bytes() == kept and [path.name for path in tmp_path.iterdir()] == [out.name]
    pd.testing.assert_frame_equal(swept(out, **values), first)
    for held in (b"my notes", pd.DataFrame({"a": [1]}).to_parquet()):
        out.write_bytes(held)
        with pytest.raises(ScenarioError, match=r"holds what no sweep wrote\. Choose another --out"):
            swept(out, **values)
        assert out.read_bytes() == held


@pytest.mark.parametrize(("name", "text"), [("0-5.parquet", "cut short"), ("0-999.parquet", "")])
def test_damaged_parts_are_run_anew(tmp_path: Path, name: str, text: str) -> None:
    """Oracle: the table of a sweep that nothing happened to."""
    whole = swept(tmp_path / "whole.parquet")
    folder = Parts(tmp_path / "table.parquet", grid().digest()).folder
    (folder / name).write_text(text)
    pd.testing.assert_frame_equal(swept(tmp_path / "table.parquet"), whole)


def test_a_damaged_part_with_a_good_footer_is_run_anew(tmp_path: Path) -> None:
    """Oracle: the table of a sweep that nothing happened to; the footer still tells the right rows."""
    whole, parts = swept(tmp_path / "whole.parquet"), Parts(tmp_path / "table.parquet", grid().digest())
    parts.add(0, 5, run_chunk(grid(), 0, 5))
    path = parts.folder / "0-5.parquet"
    written = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    for place in range(start, start + 60):
        written[place] ^= 0xFF
    path.write_bytes(written)
    assert pq.read_metadata(path).num_rows == 5
    pd.testing.assert_frame_equal(swept(tmp_path / "table.parquet"), whole)


def test_parts_that_hold_the_same_points_count_once(tmp_path: Path) -> None:
    """Oracle: the table of a sweep of its own."""
    whole, parts = swept(tmp_path / "whole.parquet"), Parts(tmp_path / "table.parquet", grid().digest())
    for start, stop in ((0, 4), (2, 6), (3, 4)):
        parts.add(start, stop, run_chunk(grid(), start, stop))
    pd.testing.assert_frame_equal(swept(tmp_path / "table.parquet"), whole)


def test_two_sweeps_into_one_table_are_refused(tmp_path: Path) -> None:
    """Oracle: the second is told what to do; afterwards the table can be written, and no lock is left."""
    out = tmp_path / "new" / "table.parquet"
    with one_writer(out), pytest.raises(ScenarioError, match=r"another sweep is writing.*another --out"):
        swept(out)
    swept(out)
    assert [path.name for path in out.parent.iterdir()] == ["table.parquet"]


def test_a_killed_sweep_leaves_no_lock(tmp_path: Path) -> None:
    """Oracle: it is there while its process lives, and none afterwards, though its file is."""
    out = tmp_path / "table.parquet"
    hold = (
        "import pathlib, sys, time; from sim_core.sweep.large.lock import one_writer\n"
        "with one_writer(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", hold, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(ScenarioError, match="another sweep is writing"), one_writer(out):
            pass
        holder.kill()
    assert out.with_name("table.parquet.lock").exists()
    with one_writer(out):
        pass


def test_a_file_where_the_parts_wait_is_refused(tmp_path: Path) -> None:
    """The message names the file; a digest that is no text is that of another sweep."""
    (tmp_path / "table.parquet.parts").write_text("")
    with pytest.raises(ScenarioError, match="is a file, but the chunks"):
        Parts(tmp_path / "table.parquet", "a")
    (Parts(tmp_path / "other.parquet", "a").folder / "sweep.sha256").write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="another sweep"):
        Parts(tmp_path / "other.parquet", "a")


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The sentence names the table, why it is not complete, and that the same command goes on."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Parts, "add", full)
    command = ["sweep", "requests=20", "--vary", "max_batch=1,2", "--out", str(tmp_path / "table.parquet")]
    assert main(command) == BAD_INPUT
    assert "No space left on device. Stopped: 0 of 2 points are kept." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"max_bach": [1]}, "unknown key.*max_batch"),
        ({"max_batch": []}, "no values"),
        ({"seed": range(10_001), "requests": range(1, 10_001)}, f"limit is {MOST_POINTS:,}"),
        (
            dict.fromkeys(
                ("seed", "requests", "max_batch", "prompt_tokens", "output_tokens"), range(1, 10_000)
            ),
            f"limit is {MOST_POINTS:,}",
        ),
    ],
)
def test_what_cannot_be_varied_is_refused(vary: dict, message: str) -> None:
    """Oracle: the messages name the key, the limit and the way out."""
    with pytest.raises(ScenarioError, match=message):
        Grid(scenario=BASE, vary=vary)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [("slurm", "threads, processes, or the address"), ("tcp://127.0.0.1:1", "Dask")],
)
def test_schedulers_that_are_none_are_refused(
    scheduler: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the message names what there is, or what is missing: Dask itself, or its scheduler."""
    if crews.distributed is not None:  # nothing listens there, however long it is tried
        client = crews.distributed.Client
        in_short = lambda place, **more: client(place, **(more | {"timeout": "0.2s"}))  # noqa: E731
        monkeypatch.setattr(crews.distributed, "Client", in_short)
    with pytest.raises(ScenarioError, match=message), Crew(scheduler):
        pass


def test_the_command_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Oracle: two values times two; the table has their rows."""
    out = tmp_path / "table.parquet"
    vary = ("--vary", "max_batch=4,8", "--vary", "seed=1,2")
    assert main(["sweep", "--set", "requests=20", *vary, "--out", str(out), "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("key,value\npoints,4\nresumed,0\nrun,4\ncannot_run,0\n")
    assert pd.read_parquet(out)["max_batch"].tolist() == [4, 4, 8, 8]
    assert main(["sweep", *vary, "--out", str(tmp_path / "table.csv")]) == BAD_INPUT
    assert ".parquet" in capsys.readouterr().err


def test_points_that_cannot_run_are_counted_by_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Oracle: 3 devices do not divide 32 heads: two of four points; one row of them was there before."""
    out, vary = tmp_path / "table.parquet", {"tensor_parallel": [3, 1], "seed": [1, 2]}
    same = Grid(scenario=BASE, vary=vary)
    Parts(out, same.digest()).add(0, 1, run_chunk(same, 0, 1))
    given = ("--vary", "tensor_parallel=3,1", "--vary", "seed=1,2", "--out", str(out), "--format", "csv")
    assert main(["sweep", "--set", "requests=60", *given]) == 0
    said = capsys.readouterr()
    assert "points,4\nresumed,1\nrun,3\ncannot_run,2\n" in said.out
    assert "Note: 2 of 4 points cannot run: column `reason` says why." in said.err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")  # Dask's own
def test_a_worker_that_dies_loses_nothing(tmp_path: Path) -> None:
    """Oracle: the same sweep by threads, though one of two workers of a cluster is killed in mid-run."""
    cluster_of = pytest.importorskip("distributed").LocalCluster
    out, seeds, killed = tmp_path / "table.parquet", range(600), []
    many = Grid(scenario=BASE, vary={"seed": seeds})
    with cluster_of(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:

        def kill_one(progress: large.SweepProgress) -> None:
            if progress.run >= 100 and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)

        with Crew(cluster.scheduler_address) as workers:
            large.sweep_to_file(many, out, workers, 20, kill_one)
    assert killed
    with Crew(THREADS) as workers:
        large.sweep_to_file(many, tmp_path / "threads.parquet", workers, 50)
    pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(tmp_path / "threads.parquet"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent to a group of processes there")
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """Oracle: every point once, and some of them from before."""
    out = tmp_path / "table.parquet"
    seeds = ",".join(map(str, range(3000)))
    command = ["-m", "sim_core", "sweep", "--set", "requests=100", "--vary", f"seed={seeds}"]
    command = [sys.executable, *command, "--out", str(out), "--chunk", "20", "--format", "csv"]
    begun = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    parts = out.with_name("table.parquet.parts")
    while len(list(parts.glob("*-*.parquet"))) < 3:
        assert begun.poll() is None
        time.sleep(0.05)
    begun.send_signal(signal.SIGINT)
    assert "The same command goes on" in begun.communicate(timeout=120)[1]
    assert begun.returncode == INTERRUPTED
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    resumed = int(again.stdout.split("resumed,")[1].split()[0])
    assert resumed >= 60
    assert pd.read_parquet(out)["seed"].tolist() == list(range(3000))
