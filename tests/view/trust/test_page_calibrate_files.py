"""Whatever a file lacks, the Calibrate page shows the rest: each sample, and each sample less one key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from sim_core.command.main import main
from sim_core.evidence.own import engine as own_engine
from sim_core.evidence.own.cases import METRICS, Case, case_ratios, predict_cases
from sim_core.evidence.own.engine import OwnEngine
from sim_core.evidence.own.fit import Fit
from sim_core.evidence.own.formats.read import FORMATS, read_upload
from sim_core.fields.errors import ScenarioError
from sim_core.results import text as report
from sim_core.scenario.scenario import Scenario
from sim_core.view.trust import calibrate, calibrate_figures
from sim_core.view.trust.uploads import guide
from tests.places import ROOT, SAMPLES
from tests.visits import address, finding, healthy, open_page, said

NAMES = sorted(path.name for path in SAMPLES.iterdir())
BASE = Scenario()


# --- the engine that a file names -----------------------------------------------------------------


def with_sample(name: str, **query: str) -> AppTest:
    """Return the page after a sample was uploaded."""
    app = open_page("8_Calibrate.py", **query)
    app.file_uploader[0].upload(name, (SAMPLES / name).read_bytes())
    return healthy(app.run())


def test_a_file_sets_the_engine_and_the_page_says_so() -> None:
    """Oracle: the sample's word; the link carries the engine, and whoever takes it out is not overruled."""
    app = with_sample("sglang.jsonl", model="qwen3-30b-a3b")
    assert address(app)["engine"] == "sglang"
    assert "The file says SGLang (backend: sglang)" in said(app)
    app = healthy(app.selectbox("in_engine").select("").run())
    assert "engine" not in address(app)
    assert "the scenario names no engine" in said(app)


def test_an_engine_that_was_chosen_stays() -> None:
    """Oracle: the link's engine, and the page says that it is not the file's."""
    app = with_sample("sglang.jsonl", engine="vllm")
    assert address(app)["engine"] == "vllm"
    assert "your choice, vLLM, stands" in said(app)


# --- a sample less one key ------------------------------------------------------------------------


def shortened(name: str) -> Iterator[bytes]:
    """Yield a sample less one key, column, row or line, for each of them."""
    text = (SAMPLES / name).read_text(encoding="utf-8")
    if text[0] in "{[":
        yield from _less_a_key(text)
    elif name.endswith(".csv"):
        rows = [line.split(",") for line in text.splitlines()]
        for column in range(len(rows[0])):
            yield "\n".join(",".join(row[:column] + row[column + 1 :]) for row in rows).encode()
        yield from _less_a_line(text)
    else:
        yield from _less_a_line(text)


def _less_a_line(text: str) -> Iterator[bytes]:
    lines = text.splitlines()
    for place in range(len(lines)):
        yield "\n".join(lines[:place] + lines[place + 1 :]).encode()


def _less_a_key(text: str) -> Iterator[bytes]:
    """Yield the file without a key in all of its objects, for each path of keys."""
    try:
        entries = [json.loads(text)]
    except ValueError:
        entries = [json.loads(line) for line in text.splitlines() if line.strip()]
    for path in dict.fromkeys(path for entry in entries for path in _paths(entry)):
        yield "\n".join(json.dumps(_without(entry, path)) for entry in entries).encode()


def _paths(entry: Any) -> Iterator[tuple]:
    inner = entry.items() if isinstance(entry, dict) else enumerate(entry) if isinstance(entry, list) else ()
    for key, value in inner:
        yield (key,)
        yield from ((key, *path) for path in _paths(value))


def _without(entry: Any, path: tuple) -> Any:
    if not isinstance(entry, (list, dict)):
        return entry
    copy: Any = entry.copy()
    if path[0] not in (copy if isinstance(copy, dict) else range(len(copy))):
        return copy
    if len(path) > 1:
        copy[path[0]] = _without(copy[path[0]], path[1:])
    else:
        copy.pop(path[0])
    return copy


# --- the page's own functions ---------------------------------------------------------------------


def unfitted(cases: Sequence[Case], hold_out: bool = True) -> Fit:
    """Stand in for the fit, which takes a second: the calibration as it is."""
    before = case_ratios(cases, predict_cases(cases))
    return Fit({"layer": 9.5}, (), before, before, np.full(before.shape, np.nan))


def shown(engine: OwnEngine) -> None:
    """Draw and write everything that the page and the command show of an engine."""
    assert calibrate.fit_finding(engine).endswith(".")
    for note in calibrate.fit_notes(engine):
        assert "nan" not in note.split()
    table = calibrate.table_rows(engine)
    assert len(table) == len(engine.entries)
    for metric in METRICS:
        rows = calibrate.point_rows(engine, metric)
        json.dumps(calibrate_figures.before_after(rows, metric), allow_nan=False)
        calibrate_figures.before_after_sentence(rows, metric)
    assert "nan" not in " ".join(row["Load"] for row in table).split()
    assert report.json_text(own_engine.summary(engine) | {"points": own_engine.rows(engine)})
    assert report.csv_text(own_engine.rows(engine)) or not engine.entries


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_less_one_key_is_shown_or_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: no exception but a ScenarioError in one printable line, and no nan in any text."""
    monkeypatch.setattr(own_engine, "fit", unfitted)
    monkeypatch.setattr(own_engine, "speed_factor", lambda cases: 1.0 if cases else np.nan)
    for data in shortened(name):
        try:
            engine = own_engine.calibrate([read_upload(data, name)], BASE)
        except ScenarioError as error:
            assert str(error).isprintable()
            continue
        shown(engine)


# --- the page as it runs --------------------------------------------------------------------------


def page_with(*names: str) -> AppTest:
    """Return the page, on the table of points, with some samples uploaded."""
    app = AppTest.from_file(str(ROOT / "pages" / "8_Calibrate.py"), default_timeout=120)
    app.session_state["own_uploads"] = {
        name: read_upload((SAMPLES / name).read_bytes(), name) for name in names
    }
    app.query_params["calview"] = "table"
    return app.run()


def test_the_page_shows_every_sample() -> None:
    """Oracle: no exception; among them a summary without prompt lengths and a batch without latencies."""
    names = [name for name in NAMES if name != "steps.csv"]
    app = healthy(page_with(*names))
    assert "Fitted to" in finding(app)
    table = app.get("arrow_data_frame")[0].value if app.get("arrow_data_frame") else app.dataframe[0].value
    assert set(table["File"]) == set(names)


def test_a_summary_without_prompt_lengths_is_shown() -> None:
    """Oracle: the prompt's length is the scenario's, and the table says so."""
    healthy(page_with("mlperf_log_summary.txt"))
    engine = own_engine.calibrate([read_upload((SAMPLES / "mlperf_log_summary.txt").read_bytes(), "m")], BASE)
    (row,) = calibrate.table_rows(engine)
    assert row["Load"].startswith("as in the scenario → 294 tokens")
    assert "prompt lengths as in the scenario" in row["Remark"].lower()


def test_the_list_of_formats_is_made_from_the_readers() -> None:
    """Oracle: every reader's own title."""
    for form in FORMATS:
        assert form.title in guide()


# --- one unreadable file among many ---------------------------------------------------------------


def test_too_few_steps_leave_the_points(capsys: pytest.CaptureFixture) -> None:
    """Oracle: three steps make no profile; the points beside them are fitted, and the steps named."""
    files = [str(SAMPLES / name) for name in ("steps.csv", "vllm.json")]
    assert main(["calibrate", "", *files, "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["fitted_to"] == own_engine.POINTS
    assert "The steps make no profile" in captured.err
    app = healthy(page_with("steps.csv", "vllm.json"))
    assert "The steps make no profile" in said(app)


def test_one_unreadable_file_is_named_and_the_others_are_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Oracle: the same constants as without it; its name and reason on standard error."""
    good, bad = SAMPLES / "vllm.json", tmp_path / "half.json"
    bad.write_text(good.read_text(encoding="utf-8")[:200], encoding="utf-8")
    missing = tmp_path / "missing.json"
    assert main(["calibrate", "", str(good), "--format", "json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main(["calibrate", "", str(bad), str(good), str(missing), "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["constants"] == alone["constants"]
    assert "half.json is not valid JSON" in captured.err
    assert "missing.json' cannot be read" in captured.err
    assert main(["calibrate", "", str(bad), str(missing)]) == 2
