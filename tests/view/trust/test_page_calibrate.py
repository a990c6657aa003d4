"""The Calibrate page and command, run as Streamlit and the shell run them but without a browser."""

from __future__ import annotations

import json
import math
import re
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from sim_core.command.main import main
from sim_core.engine import work
from sim_core.evidence.own import engine as own_engine
from sim_core.evidence.own.cases import METRICS, median_error
from sim_core.evidence.own.formats.points import OwnSteps, Upload
from sim_core.evidence.own.formats.read import read_upload
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.profiles import read_profile
from sim_core.scenario.scenario import Scenario
from sim_core.view.trust import calibrate_figures, uploads
from sim_core.view.trust.calibrate import file_words, fit_notes, point_rows
from sim_core.view.trust.uploads import example
from tests.visits import address, finding, healthy, open_page

visit = partial(open_page, "8_Calibrate.py")
REQUESTS = "arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms\n" + "".join(
    f"{0.5 * row},{500 + 10 * row},{50 + row},{40 + row % 3},{700 + 9 * row}\n" for row in range(40)
)
STEPS = "tokens,decode_context,prefill_pairs,time_ms\n" + "".join(
    f"{tokens},{context},{pairs},{9 + 0.05 * tokens + 2e-6 * pairs + 3e-4 * context}\n"
    for row, tokens in enumerate([1, 2, 4, 8, 16, 32, 64, 128] * 12)
    for context, pairs in [(tokens * 300 + 7 * row, 1000 * (row % 5))]
)


def with_example(**query: str) -> AppTest:
    """Return the page after its example was asked for."""
    return healthy(visit(**query).button("own_example").click().run())


# --- the page -------------------------------------------------------------------------------------


def test_the_page_begins_with_what_it_is_for() -> None:
    """Oracle: a finding and a way to try it; nothing is predicted yet."""
    app = healthy(visit())
    assert "a few points are enough" in finding(app)
    assert app.button("own_example") is not None


def test_an_example_that_costs_too_much_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the words of what refuses it, in place of the example; the way to try it is still there."""

    def refuse(scenario: Scenario) -> Upload:
        assert work.allowance() is not None
        raise work.TooMuch("more than a page may run")

    monkeypatch.setattr(uploads, "example", refuse)
    app = with_example()
    assert [error.value for error in app.error] == ["more than a page may run"]
    assert app.button("own_example") is not None


@pytest.mark.parametrize("view", ["points", "constants", "table"])
def test_every_view_of_the_example_runs(view: str) -> None:
    """Oracle: no exception; a finding with the errors; the address holds the view."""
    app = with_example(calview=view)
    assert "the median error of TPOT falls from" in finding(app)
    assert "Made up, not measured" in " ".join(text.value for text in app.caption)
    assert address(app).get("calview", "points") == view


def test_the_example_finds_what_was_planted() -> None:
    """Oracle: the made-up points: their errors fall to the noise, and steps take longer."""
    engine = own_engine.calibrate([example(Scenario())], Scenario())
    assert median_error(engine.before, "tpot_ms") > 0.1
    assert median_error(engine.after, "tpot_ms") < 0.03
    assert engine.speed > 1.05
    assert engine.speed_left == pytest.approx(1.0, abs=0.03)


def test_using_the_engine_puts_it_in_the_link_and_back() -> None:
    """Oracle: the address holds the constants and the page says so; the way back removes both."""

    def is_in_use() -> bool:
        said_so = any("In use on all pages" in text.value for text in app.markdown)
        assert said_so != any(button.key == "own_use" for button in app.button)
        return said_so

    app = with_example()
    assert not is_in_use()
    app = healthy(app.button("own_use").click().run())
    assert "layer:" in address(app)["constants"] and is_in_use()
    app = healthy(app.button("own_engine_off").click().run())
    assert "constants" not in address(app) and not is_in_use()


def test_other_pages_predict_the_engine_that_is_in_use() -> None:
    """Oracle: the Frontier page says so and shows other numbers than without it."""
    plain = healthy(open_page("1_Frontier.py"))
    own = healthy(open_page("1_Frontier.py", constants="layer:200"))
    assert finding(own) != finding(plain)
    assert "constants of your own" in " ".join(text.value for text in own.markdown)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["1_Frontier.py", "2_Two_phases.py", "3_Batching.py", "4_Scenarios.py",
                                  "7_Validation.py", "9_Method.py"])  # fmt: skip
@pytest.mark.parametrize("own", [{"constants": "layer:9.5"}, {"step_profile": "1:15.1,256:220,blocks:4000"}])
def test_every_page_takes_an_own_engine(page: str, own: dict[str, str]) -> None:
    """Oracle: no exception, and a word about whose engine it is."""
    app = healthy(open_page(page, **own))
    assert any("your own step times" in t.value or "of your own" in t.value for t in app.markdown)


def test_measured_steps_leave_with_a_word() -> None:
    """Oracle: another device drops them, and the page says why."""
    app = healthy(open_page("1_Frontier.py", step_profile="1:15.1,256:220"))
    app = healthy(app.selectbox("in_accelerator").select("h200").run())
    assert "step_profile" not in address(app)
    assert "hold for the model, device and layout" in app.warning[0].value


def test_points_are_left_out_of_the_fit_when_unticked() -> None:
    """Oracle: the engine itself: fitted to the chosen ones only, the others predicted unseen."""
    upload = example(Scenario())
    engine = own_engine.calibrate([upload], Scenario(), fit_to=(0, 2, 4, 6))
    assert np.flatnonzero(engine.fitted).tolist() == [0, 2, 4, 6]
    column = METRICS.index("tpot_ms")
    assert engine.unseen[1, column] == engine.after[1, column]
    assert median_error(engine.unseen, "tpot_ms") < 0.05


# --- files ----------------------------------------------------------------------------------------


def read(text: str, name: str = "mine.csv") -> Upload:
    return read_upload(text.encode(), name)


def test_requests_are_replayed() -> None:
    """Oracle: one point whose rows are the file's."""
    upload = read(REQUESTS)
    engine = own_engine.calibrate([upload], Scenario())
    assert len(engine.entries) == 1
    assert engine.entries[0].case.scenario.arrivals == "trace"
    assert engine.entries[0].case.scenario.requests == 40
    assert np.isfinite(engine.after[0, :2]).all()


def test_steps_make_a_profile_that_pages_can_carry() -> None:
    """Oracle: the planted line."""
    engine = own_engine.calibrate([read(STEPS)], Scenario())
    assert engine.kind == own_engine.STEPS
    assert engine.profile.decode_context_ms_per_token == pytest.approx(3e-4, rel=0.01)
    assert "median error" in engine.profile.source
    chosen = own_engine.calibrate([read(STEPS), read(REQUESTS)], Scenario(), kind=own_engine.POINTS)
    assert chosen.kind == own_engine.POINTS


@pytest.mark.parametrize(
    ("files", "kind", "words"),
    [([], "", "no file holds"), ([STEPS], "points", "the files hold no points")],
)
def test_files_that_allow_no_fit_say_so(files: list[str], kind: str, words: str) -> None:
    """Oracle: the message."""
    with pytest.raises(ScenarioError, match=words):
        own_engine.calibrate([read(text) for text in files], Scenario(), kind=kind)


def test_of_many_points_some_are_left_out() -> None:
    """Oracle: by hand: 24 of 50, from the first to the last."""
    point = example(Scenario()).points[0]
    many = Upload("x", "example", tuple(point for _ in range(50)), None, ())
    chosen = own_engine.fitted_by_default(own_engine.entries_of([many], Scenario()))
    assert len(chosen) == own_engine.FIT_POINTS
    assert (chosen[0], chosen[-1]) == (0, 49)


# --- figures --------------------------------------------------------------------------------------


def test_figures_have_a_sentence_and_no_markup_of_the_file() -> None:
    """Oracle: the file's own words appear as text."""
    upload = example(Scenario())
    bad = upload._replace(points=(upload.points[0]._replace(name="<img src=x>"), *upload.points[1:]))
    engine = own_engine.calibrate([bad], Scenario())
    rows = point_rows(engine, "tpot_ms")
    figure = calibrate_figures.before_after(rows, "tpot_ms")
    assert "<img" not in json.dumps(figure)
    assert "8 points" in calibrate_figures.before_after_sentence(rows, "tpot_ms")
    assert len(calibrate_figures.levers_figure(engine.levers)["data"]) >= 3
    assert calibrate_figures.levers_sentence(engine.levers)


def test_the_figure_of_steps_shows_those_held_out() -> None:
    """Oracle: as many markers as steps held out."""
    engine = own_engine.calibrate([read(STEPS)], Scenario())
    figure = calibrate_figures.held_out_steps_figure(engine.steps)
    assert len(figure["data"][0]["x"]) == engine.steps.tokens.size
    assert "held out" in calibrate_figures.steps_sentence(engine.steps)


def test_the_link_knows_every_view() -> None:
    """Oracle: the metrics that are compared, and what can be fitted to."""
    assert set(calibrate_figures.METRICS) == set(METRICS) == set(SETTINGS["calmetric"].choices)
    assert set(SETTINGS["calfrom"].choices) == {"auto", own_engine.POINTS, own_engine.STEPS}


# --- the command ----------------------------------------------------------------------------------


def test_the_command_writes_a_profile_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Oracle: the Python face: the same engine; the written profile reads back and runs."""
    file, out = tmp_path / "mine.csv", tmp_path / "my_engine.toml"
    file.write_text(REQUESTS, encoding="utf-8")
    assert main(["calibrate", "max_batch=64", str(file), "--out", str(out), "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    engine = own_engine.calibrate([read(REQUESTS)], Scenario(max_batch=64))
    assert printed["constants"] == engine.profile.constants == read_profile(out).constants
    assert printed["median_error_pct"]["tpot_ms"]["own_engine"] == pytest.approx(
        100 * median_error(engine.after, "tpot_ms")
    )
    assert main(["run", "requests=50", "--profile", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["trust"]["evidence"] == "your own measurement"


@pytest.mark.parametrize("form", ["table", "csv"])
def test_the_command_prints_other_forms(form: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Oracle: a line with the figure that was measured."""
    file = tmp_path / "steps.csv"
    file.write_text(REQUESTS, encoding="utf-8")
    assert main(["calibrate", "", str(file), "--format", form]) == 0
    assert "tpot_ms_own_error_pct" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("missing.csv", None, "cannot be read"), ("bad.csv", "nothing", "bad.csv")],
)
def test_the_command_refuses_with_one_line(
    name: str, text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Oracle: exit 2, the file named on standard error, nothing on standard output."""
    file = tmp_path / name
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert main(["calibrate", "", str(file)]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_a_point_says_what_it_lacks() -> None:
    """Oracle: a point without traffic stays in the table with its reason, and is not fitted."""
    upload = example(Scenario())
    lost = upload.points[0]._replace(arrivals="", concurrency=0, e2e_ms=math.nan)
    engine = own_engine.calibrate([upload._replace(points=(lost, *upload.points[1:]))], Scenario())
    rows = own_engine.rows(engine)
    assert "how requests were sent" in rows[0]["note"]
    assert not engine.fitted[0]
    assert "cannot be simulated" in " ".join(fit_notes(engine))
    assert OwnSteps._fields == ("tokens", "decode_context", "prefill_pairs", "time_ms")


# --- hostile files ---------------------------------------------------------------------------------

MARKS = "![x](http://127.0.0.1:9/t.png)<b>:red[boo]"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", json.dumps({MARKS: 1}).encode()),
        (f"{MARKS}.json", b"{}"),
        (f"{MARKS}.csv", REQUESTS.encode()),
        ("a.csv", (REQUESTS + f"1,1,1,1,{MARKS}\n").encode()),
        ("a.toml", f"step_tokens = [1]\n'{MARKS}' = 1\n".encode()),
        (f"{MARKS}.toml", b"step_tokens = [1]\n" + b"a." * 20_000 + b"a = 1\n"),
    ],
)
def test_a_file_s_text_is_no_markdown(name: str, data: bytes) -> None:
    """Oracle: CommonMark: in what is Markdown no picture, tag or directive is left outside of code."""
    app = visit()
    app.file_uploader[0].upload(name, data)
    app = healthy(app.run())
    texts = [
        element.value for kind in ("error", "markdown", "caption", "warning") for element in app.get(kind)
    ]
    assert any("\\[x" in text or "`" in text or "a.csv" in text for text in texts)
    for text in texts:
        bare = re.sub(r"`[^`]*`|\\\\.", "", text)
        assert "](http" not in bare
        assert "<b>" not in bare
        assert ":red[" not in bare


@pytest.mark.parametrize(
    "name", ["a.json", "it's mine.csv", "$(reboot).csv", "`x`;y|z&.csv", "-out.csv", "a\nb.csv"]
)
def test_names_in_the_command_are_quoted(name: str) -> None:
    """Oracle: Python's reading of a POSIX shell's words; a leading dash is no option."""
    [word] = shlex.split(file_words([name]))
    assert Path(word) == Path(name)
    assert not word.startswith("-")
