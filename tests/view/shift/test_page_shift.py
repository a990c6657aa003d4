"""The Traffic shift page, run as Streamlit runs it but without a browser."""

from __future__ import annotations

import csv
import io
import json
import shlex

import pytest
from streamlit.testing.v1 import AppTest

from sim_core import catalogue
from sim_core.command.main import main
from sim_core.questions.shift.cluster import REALLOCATIONS
from sim_core.questions.shift.report import decision_rows
from sim_core.questions.shift.study import BINS, Study, brought
from sim_core.questions.shift.volatility import SWEEP, SWEEP_STRATEGIES
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.link.read import from_query
from sim_core.scenario.link.write import to_query
from sim_core.scenario.ready import ready_scenario
from sim_core.view.drawing.words import percent
from sim_core.view.shift import words as shift_words
from sim_core.view.shift.pays import known_row
from tests.places import ROOT
from tests.visits import address, finding, healthy, open_page, said

PAGE = "6_Traffic_shift.py"
VIEWS = SETTINGS["shift"].choices
QUICK = {"demand_hours": "0.03", "dwell_s": "30", "prefill_workers": "2", "decode_workers": "2",
         "cooldown_s": "20", "observe_s": "10", "slo_tpot_ms": "20", "init_s": "2",
         "warm_up_s": "2"}  # fmt: skip


def visit(**changes: str) -> AppTest:
    """Open the page at an address and return it after its last run; fail if it shows an error."""
    return healthy(open_page(PAGE, **(QUICK | changes)))


def scenario_of(app: AppTest):
    return app.session_state["scenario"]


def test_a_window_of_an_uploaded_trace() -> None:
    """Oracle: by hand: of a request a minute, ten hours, half an hour from the second hour on holds 30."""
    rows = "".join(f"{60 * at},100,10\n" for at in range(600))
    app = open_page(PAGE, **(QUICK | {"demand": "trace"}))
    upload = ("week.csv", b"arrival_s,prompt_tokens,output_tokens\n" + rows.encode(), "text/csv")
    app.file_uploader(key="in_shift_file").set_value(upload).run()
    assert len(app.session_state["shift_trace"][1]) == 600
    app.text_input(key="in_shift_from").set_value("2").run()
    app.number_input(key="in_shift_hours").set_value(0.5).run()
    trace = app.session_state["shift_trace"][1]
    assert trace.arrival_s.tolist() == [60 * at for at in range(30)]
    app.text_input(key="in_shift_from").set_value("soon").run()
    assert "window's start is 'soon'" in app.error[0].value
    assert "shift_trace" not in app.session_state


@pytest.mark.parametrize("strategy", SETTINGS["strategy"].choices)
def test_every_strategy_over_time(strategy: str) -> None:
    """Oracle: the strategy's own outcome stands in the table; nothing is left to work out."""
    app = visit(strategy=strategy)
    study = Study(scenario_of(app))
    assert percent(study.outcome(strategy).attainment_frac) in said(app)
    assert "…" not in said(app)


@pytest.mark.slow
@pytest.mark.parametrize("shown", VIEWS)
@pytest.mark.parametrize(
    "changes",
    [
        {"demand": "steady"}, {"demand": "daily"}, {"demand": "step"}, {"demand": "spike"},
        {"demand": "trace"}, {"model": "llama-3.1-405b"}, {"model": "custom"}, {"slo_tpot_ms": "0.1"},
        {"prefill_workers": "1", "decode_workers": "1"}, {"demand_hours": "1000"},
        {"demand_load_frac": "none", "arrival_per_s": "3"}, {"arrivals": "closed", "policy": "static"},
        {"decode_tensor_parallel": "2"}, {"prompt_tokens": "1000000"}, {"mix_other": "code:1"},
        {"drain": "migrate", "rate_swing_frac": "0.5", "mix_swing_frac": "0.5"}, {"dwell_s": "0.1"},
    ],
)  # fmt: skip
def test_no_input_breaks_a_view(shown: str, changes: dict[str, str]) -> None:
    """Oracle: no exception; the page says what it found or why it cannot."""
    if shown == "pays":
        changes = changes | {"init_s": "0", "warm_up_s": "0", "storage_gb_per_s": "1000000", "control_s": "2"}
    assert finding(visit(shift=shown, **changes))


def test_the_finding_names_the_shares() -> None:
    """Oracle: the outcomes."""
    app = visit(shift="strategies")
    study = Study(scenario_of(app))
    words = finding(app)
    for name in ("fixed", "one_pool"):
        assert percent(study.outcome(name).attainment_frac) in words


def test_every_move_is_in_the_table() -> None:
    """Oracle: the outcome's decisions, and what each brought by doing without it."""
    app = visit(strategy="predictive", forecast_s="10")
    study = Study(scenario_of(app))
    outcome = study.outcome("predictive")
    assert len(outcome.decisions) >= 1
    text = said(app)
    rows = decision_rows(study, outcome)
    for row, gained in zip(rows, brought(study, outcome), strict=True):
        before, after = row["prefill_workers_before"], row["prefill_workers_after"]
        assert f"{before}P{4 - before}D → {after}P{4 - after}D" in text
        assert f"{abs(gained):,}" in text


def test_the_sweep_fills_in_completely() -> None:
    """Oracle: one point for each dwell time in the file to take away, with every strategy."""
    app = visit(shift="pays", init_s="0", warm_up_s="0", storage_gb_per_s="1000000", control_s="2")
    known = [known_row(scenario_of(app), times) for times in SWEEP]
    assert all(row is not None and f"{name}_frac" in row for row in known for name in SWEEP_STRATEGIES)


def test_the_load_slider_moves_the_traffic() -> None:
    """Oracle: the address holds the new load, and the traffic has fewer requests."""
    app = visit(shift="strategies")
    before = len(Study(scenario_of(app)).demand.requests)
    app.select_slider(key="page_demand_load_frac").set_value(0.5).run()
    healthy(app)
    assert address(app)["demand_load_frac"] == "0.5"
    assert len(Study(scenario_of(app)).demand.requests) < 0.8 * before


def test_a_kind_of_move_sets_its_phases() -> None:
    """Oracle: the values of the kind."""
    app = visit(shift="strategies")
    app.selectbox(key="in_shift_kind").set_value("flip").run()
    healthy(app)
    expected = REALLOCATIONS["flip"][1]
    assert {key: getattr(scenario_of(app), key) for key in expected} == expected


def test_stopping_keeps_what_is_known() -> None:
    """Oracle: after a stop, the button goes on, and what was not worked out is said to be missing."""
    app = AppTest.from_file(str(ROOT / "pages" / PAGE), default_timeout=120)
    for key, value in (QUICK | {"shift": "strategies", "seed": "77"}).items():
        app.query_params[key] = value
    scenario, _ = from_query(QUICK | {"seed": "77"})
    app.session_state["shift_stopped"] = hash((to_query(scenario), "strategies", "reactive"))
    healthy(app.run())
    assert "…" in said(app)
    assert any("Stopped" in caption.value for caption in app.caption)
    app.button(key="shift_go_on").click().run()
    assert "…" not in said(healthy(app))


def test_the_reproduce_command_gives_the_same_numbers(capsys) -> None:
    """Oracle: the command line, run as printed."""
    app = visit(strategy="fixed")
    command = next(code.value for code in app.get("code") if "sim_core shift" in code.value)
    assert main(shlex.split(command)[3:]) == 0
    found = json.loads(capsys.readouterr().out)["strategies"][0]
    assert found["strategy"] == "fixed"
    assert percent(found["slo_attainment_frac"]) in said(app)


@pytest.mark.parametrize("name", [n for n in catalogue.preset_ids("scenarios") if n.startswith("shift-")])
def test_ready_scenarios_open_here(name: str) -> None:
    """Oracle: the presets say that this page shows them best."""
    assert ready_scenario(name).page == "Traffic shift"


def test_the_command_writes_timeline_and_decisions(capsys, tmp_path) -> None:
    """Oracle: rows by strategy and stretch of time; workers in all states add up to all workers."""
    query = "&".join(f"{key}={value}" for key, value in QUICK.items())
    out = tmp_path / "timeline.csv"
    arguments = ["shift", query, "--strategy", "fixed", "--strategy", "reactive", "--worth"]
    assert main([*arguments, "--timeline-out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [part["strategy"] for part in found["strategies"]] == ["fixed", "reactive"]
    assert all("brought" in row for part in found["strategies"] for row in part["decision_rows"])
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert len(rows) == 2 * BINS
    for row in rows:
        assert sum(float(row[key]) for key in row if key.startswith("workers_")) == pytest.approx(4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy", "reactiv"], ["'reactiv'", "reactive"]),
        (["--set", "demand=trace"], ["no trace", "--trace"]),
        (["--trace", "missing.csv"], ["missing.csv", "cannot be read"]),
        (["--set", "demand_hours=1000"], ["limit is 2,000,000", "demand_hours"]),
        (["--set", "demand_hours=1e9"], ["demand_hours", "1,000"]),
        (["--set", "decode_tensor_parallel=2"], ["keeps its devices"]),
    ],
)
def test_the_command_refuses_in_one_line(capsys, arguments: list[str], words: list[str]) -> None:
    """Oracle: by hand: the thing, the value, the limit and the way out."""
    assert main(["shift", "demand_hours=0.02", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_the_command_sweeps_volatility(capsys) -> None:
    """Oracle: one row for each dwell time."""
    query = "init_s=0&warm_up_s=0&storage_gb_per_s=1000000&control_s=2&prefill_workers=1&decode_workers=1"
    assert main(["shift", query, "--volatility", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["dwell_reallocations"]) for row in rows] == list(SWEEP)


@pytest.mark.parametrize(
    ("share", "best", "words"),
    [
        ({"fixed": 0.9}, "", "A fixed split keeps both limits for 90 % of the requests."),
        (
            {"fixed": 0.5, "predictive": 0.95},
            "predictive",
            "; adapting pays: the predictive strategy for 95 %.",
        ),
        ({"fixed": 0.9, "reactive": 0.5}, "reactive", "; adapting hurts: the reactive strategy for 50 %."),
        ({"fixed": 0.9, "reactive": 0.9}, "reactive", "; the reactive strategy for 90 % too."),
        (
            {"fixed": 0.28, "hindsight": 0.99, "predictive": 0.95},
            "predictive",
            "; another split pays, not adapting: 99 %, the predictive strategy 95 %.",
        ),
        (
            {"fixed": 0.28, "hindsight": 0.5, "predictive": 0.95},
            "predictive",
            "(another one would reach 50 %) keeps both limits for 28 % of the requests; adapting pays: the "
            "predictive strategy for 95 %.",
        ),
    ],
)
def test_adapting_pays_only_where_no_other_split_does_as_well(
    share: dict[str, float], best: str, words: str
) -> None:
    """Oracle: by hand, from the shares."""
    assert shift_words._adapting_words(share, best).replace("\u202f", " ").endswith(words)
