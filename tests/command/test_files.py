"""Files that commands write: whole or not at all, after the result is printed, and safe in a spreadsheet."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from sim_core.command import files
from sim_core.command.main import main
from sim_core.fields.errors import ScenarioError
from sim_core.results.text import csv_text

SMALL = ["requests=50"]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    """Oracle: the folder: one file, with the text, and the rights of any new file."""
    files.write_text("a\nb\n", str(tmp_path / "out.txt"))
    assert left_in(tmp_path) == ["out.txt"]
    assert (tmp_path / "out.txt").read_text() == "a\nb\n"
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "out.txt").stat().st_mode == plain.stat().st_mode


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a disk that is full halfway: the file from before, and nothing beside it."""
    place = tmp_path / "out.txt"
    place.write_text("old")

    def full(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"ha")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ScenarioError, match="No space left on device"):
        files.write_text("new", str(place))
    assert place.read_bytes() == b"old"
    assert left_in(tmp_path) == ["out.txt"]


def test_links_and_rights_stay(tmp_path: Path) -> None:
    """Oracle: the link still is one, its file is written, and only its owner may read it as before."""
    place, link = tmp_path / "out.txt", tmp_path / "link.txt"
    place.write_text("old")
    place.chmod(0o600)
    link.symlink_to(place)
    files.write_text("new", str(link))
    assert link.is_symlink()
    assert place.read_text() == "new"
    assert place.stat().st_mode & 0o777 == 0o600


def test_a_device_is_written_to_and_not_replaced() -> None:
    """Oracle: /dev/null is a device before and after."""
    files.try_place(os.devnull)
    files.write_text("x", os.devnull)
    assert Path(os.devnull).is_char_device()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_is_read_only_is_not_replaced(tmp_path: Path) -> None:
    """Oracle: its rights, and what it holds."""
    place = tmp_path / "out.txt"
    place.write_text("old")
    place.chmod(0o444)
    for write in (files.try_place, lambda path: files.write_text("new", path)):
        with pytest.raises(ScenarioError, match="Permission denied"):
            write(str(place))
    assert place.read_text() == "old"


@pytest.mark.parametrize("path", ["missing/out.csv", ".", "a\x00b"])
def test_a_place_where_nothing_can_be_written_is_told_at_once(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Oracle: exit 2, the path and why, before anything is simulated: nothing is printed."""
    out = str(tmp_path / path) if "\x00" not in path else path
    for option in ("--requests-out", "--steps-out"):
        assert main(["run", *SMALL, option, out]) == 2
        printed = capsys.readouterr()
        assert "cannot be written" in printed.err
        assert printed.out == ""
    assert main(["shift", "demand_hours=0.1", "--timeline-out", out]) == 2
    assert capsys.readouterr().out == ""


def test_the_result_is_printed_before_files_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a place that fails after it was tried: the metrics stand on standard output all the same."""
    monkeypatch.setattr("sim_core.command.simulate.try_place", lambda path: None)
    assert main(["run", *SMALL, "--requests-out", str(tmp_path / "missing" / "out.csv")]) == 2
    printed = capsys.readouterr()
    assert "metrics" in json.loads(printed.out)
    assert "cannot be written" in printed.err


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_what_a_spreadsheet_would_compute_is_text(text: str, tmp_path: Path) -> None:
    """Oracle: OWASP's list of first characters; numbers, also negative ones and in text, stay numbers."""
    lines = csv_text([{"name": text, "value": -5.5, "shown": "-5.5", "many": [text]}])
    assert f"'{text}" in lines
    assert ",-5.5,-5.5," in lines
    files.write_csv(pd.DataFrame({"name": [text], "value": [-5.5]}), str(tmp_path / "out.csv"))
    read = pd.read_csv(tmp_path / "out.csv", lineterminator="\n")
    assert read.name[0] == f"'{text}"
    assert read.value[0] == -5.5
