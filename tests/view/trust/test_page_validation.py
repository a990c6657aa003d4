"""The Validation page, run as Streamlit runs it but without a browser."""

from __future__ import annotations

import json
from functools import partial

import pyarrow as pa
import pytest

from sim_core import load_scenario
from sim_core.command.main import main
from sim_core.evidence import published as measured
from sim_core.evidence import trust
from sim_core.evidence.blind import NO_BAND
from sim_core.evidence.coverage import STEEP_LOAD
from sim_core.evidence.errors import scored
from sim_core.evidence.further.layouts import published_series
from sim_core.evidence.further.speculated import speculated
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.view.drawing import figures, trust_words
from sim_core.view.drawing.verdicts import Limits
from sim_core.view.frontier.figures import pareto
from sim_core.view.parts import actions
from sim_core.view.session import sweeps
from sim_core.view.trust import validation as page
from tests.visits import FINDING, address, healthy, open_page, said

visit = partial(open_page, "7_Validation.py")


@pytest.mark.parametrize("view", SETTINGS["valview"].choices)
@pytest.mark.parametrize("kind", SETTINGS["valkind"].choices)
def test_every_view_of_every_kind_runs(view: str, kind: str) -> None:
    """Oracle: no exception, a finding, a badge, and an address that holds the view."""
    app = healthy(visit(valview=view, valkind=kind))
    assert FINDING in said(app)
    assert any(badge in said(app) for badge in (trust.VALIDATED, trust.EXTRAPOLATED, trust.ANNOUNCED))
    assert address(app).get("valview", "points") == view
    assert address(app).get("valkind", "closed") == kind


@pytest.mark.parametrize(
    "query",
    [
        {"valpart": "mi300x"},
        {"valkind": "batch", "valmetric": "throughput", "valpart": "mi300x", "valcolour": "engine"},
        {"valkind": "split", "valview": "rows", "valpart": "gb200"},
        {"valview": "worst", "valfamily": "mla", "valengine": "sglang", "valmetric": "ttft"},
        {"valview": "errors", "valkind": "server", "valcolour": "accelerator"},
        {"valview": "errors", "valengine": "mlperf"},
        {"valkind": "prefill", "valmetric": "tpot"},
        {"model": "llama-3.1-405b", "tensor_parallel": "1"},
        {"model": "custom"},
        {"accelerator": "trainium3", "calibration": "datasheet"},
        {"arrivals": "trace"},
        {"tensor_parallel": "1024"},
    ],
)
def test_extreme_links_are_answered(query: dict[str, str]) -> None:
    """Oracle: no exception, and the finding."""
    assert FINDING in said(healthy(visit(**query)))


def test_wrong_choices_are_named() -> None:
    """Oracle: the note names key and choices."""
    app = healthy(visit(valmetric="speed", valpart="<script>"))
    assert any("valmetric must be one of" in text.value for text in app.get("text"))


def test_filters_choose_rows() -> None:
    """Oracle: the table itself."""
    app = healthy(visit(valview="rows", valpart="h200", valengine="vllm"))
    shown = app.dataframe[0].value
    expected = [p for p in measured.points()
                if p.accelerator == "h200" and p.engine == "vLLM" and p.traffic == "closed"
                and p.pools == "one" and p.tpot_ms > 0]  # fmt: skip
    assert set(shown["Id"]) == {point.id for point in expected}


def test_the_table_has_its_thousands_apart() -> None:
    """By hand: prompts of 1,024 tokens, whole; a figure has four digits, and one that is not known a dash."""
    app = healthy(visit(valview="rows", valpart="h200", valengine="vllm"))
    shown, numbers = app.dataframe[0].value, ["Prompt", "TTFT [ms]"]
    assert 1024 in shown["Prompt"].to_numpy()
    words = pa.ipc.open_stream(app.dataframe[0].proto.arrow_data.styler.display_values).read_pandas()
    for said_as, value in zip(
        words[numbers].to_numpy().ravel(), shown[numbers].to_numpy().ravel(), strict=True
    ):
        assert said_as == ("–" if value != value else f"{value:,.10g}"), value


def test_the_worst_cases_carry_their_source_and_a_link() -> None:
    """Oracle: the rows with the largest factors; the link leads to the scenario that was simulated."""
    rows = [row for row in page.every_row() if row["pools"] == "one" and row["tpot_ms"] > 0]
    first = page.worst_of(rows, "tpot")[0]
    ratio = scored().ratio[:, 1]
    assert abs(1 + first["tpot_error_pct"] / 100) in (
        pytest.approx(ratio[~(ratio != ratio)].max()), pytest.approx(ratio[~(ratio != ratio)].min())
    )  # fmt: skip
    text = said(healthy(visit(valview="worst", valkind="every")))
    assert first["entry"][:30] in text and 'href="./?v=1' in text


def test_the_choices_of_accelerators_are_the_tables() -> None:
    """Oracle: the table."""
    parts = {point.accelerator for point in measured.points()}
    assert set(SETTINGS["valpart"].choices) == {"all", *parts}
    assert set(SETTINGS["valengine"].choice_labels[1:]) == {point.engine for point in measured.points()}


def test_the_command_line_says_how_far_to_trust(capsys) -> None:
    """Oracle: the badge of the scenario; every point of a frontier has one."""
    assert main(["run", "accelerator=mi300x&requests=300&arrival_per_s=1"]) == 0
    found = json.loads(capsys.readouterr().out)["trust"]
    expected = trust.trust(load_scenario("accelerator=mi300x"))
    assert found["badge"] == expected.badge and found["reasons"] == list(expected.reasons)
    assert found["tpot_band_low_frac"] == pytest.approx(expected.tpot_band.low)
    assert main(["frontier", "requests=300", "--vary", "weight_dtype=bf16,fp4"]) == 0
    points = json.loads(capsys.readouterr().out)
    assert [point["badge"] for point in points] == [trust.VALIDATED, trust.EXTRAPOLATED]
    assert all(point["tpot_band_low_frac"] < 1 < point["tpot_band_high_frac"] for point in points)


@pytest.mark.parametrize(
    ("page", "query"),
    [
        *(("2_Two_phases.py", {"phases": name}) for name in SETTINGS["phases"].choices),
        *(("3_Batching.py", {"batching": name, "requests": "200"}) for name in SETTINGS["batching"].choices),
        *(("4_Scenarios.py", {"rules": name}) for name in ("limits", "bars", "points")),
    ],
)
def test_every_view_with_predictions_has_a_badge(page: str, query: dict[str, str]) -> None:
    """Oracle: the badge of an announced accelerator, whatever the view."""
    app = healthy(open_page(page, accelerator="trainium3", **query))
    assert trust.ANNOUNCED in said(app)


def test_files_say_how_far_each_row_can_be_trusted() -> None:
    """Oracle: the badge of each row's own accelerator; rows that are no predictions have none."""
    app = healthy(open_page("2_Two_phases.py", phases="floor"))
    rows = [{"accelerator": "h100-sxm", "tpot_ms": 1.0}, {"accelerator": "trainium3", "tpot_ms": 2.0}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actions.st, "session_state", app.session_state)
        csv, predicted = (
            files[0].make()
            for files in (actions.table_files(rows, "x"), actions.table_files(rows, "x", load_scenario("")))
        )
    assert "badge" not in csv
    lines = predicted.splitlines()
    assert lines[0].split(",")[2:] == [*trust.NO_TRUST.columns(), "scenario"]
    assert trust.VALIDATED in lines[1]
    assert trust.ANNOUNCED in lines[2]


def test_capacity_says_how_far_to_trust(capsys) -> None:
    """Oracle: the badge of the scenario at the rate that was found, which is a share of what saturates."""
    assert main(["capacity", "requests=300"]) == 0
    found = json.loads(capsys.readouterr().out)
    load_frac = found["arrival_per_s"] / found["saturation_per_s"]
    assert found["trust"]["badge"] == trust.trust(load_scenario(""), load_frac=load_frac).badge
    assert main(["capacity", "requests=300&slo_tpot_ms=0.001"]) == 0
    assert json.loads(capsys.readouterr().out)["trust"]["badge"] == trust.VALIDATED


def test_each_curve_of_the_frontier_has_its_own_badge() -> None:
    """Oracle: the trust of each accelerator, in the rows that hover, table and files show."""
    app = healthy(open_page("1_Frontier.py", vary="accelerator", among="h100-sxm,trainium3", requests="300"))
    files = {button.label: button for button in app.get("download_button")}
    assert {"CSV", "JSON"} <= files.keys()
    scenario = app.session_state.scenario
    sweep = sweeps.Sweep(scenario, "accelerator", ("h100-sxm", "trainium3"), "load_frac")
    rows = sweeps.quick_result(sweep).rows
    steep = STEEP_LOAD
    badges = {(row["accelerator"], row["load_frac"] > steep): row["badge"] for row in rows}
    assert badges["h100-sxm", False] == trust.VALIDATED and badges["h100-sxm", True] == trust.EXTRAPOLATED
    assert badges["trainium3", False] == trust.ANNOUNCED
    drawn = pareto(rows, figures.frame_around(rows, False, False), along=sweeps.ALONG["load_frac"], own="",
                           limits=Limits(2000.0, 40.0), here=None, best=None)  # fmt: skip
    hovers = {
        row[0].partition(" · ")[0]: " ".join(row)
        for trace in drawn["data"]
        for row in trace.get("customdata", [])
    }
    (announced,) = (words for name, words in hovers.items() if name.startswith("Trainium3 TP "))
    assert trust.ANNOUNCED in announced


def test_where_measured_values_lie() -> None:
    """Oracle: arithmetic; a rate of a time has the inverse band."""
    found = trust.trust(load_scenario(""))
    low, high = found.tpot_band
    text = trust_words.measured_words(10.0, found.tpot_band, lambda value: f"{value:.2f}")
    assert text == f"80 % band {10 * low:.2f} to {10 * high:.2f}"
    assert trust_words.measured_words(10.0, NO_BAND, str) == ""
    assert f"{10 / high:.2f} to" in trust_words.measured_words(
        10.0, found.tpot_band, lambda value: f"{value:.2f}", inverse=True
    )
    assert trust_words.caption(found).startswith("validated region · 80 % of measured values: TPOT")


def test_the_errors_of_speculation_stand_beside_a_constants() -> None:
    """Oracle: `presets/validation/drafts.toml`; a group that is no better than the constant has no skill.

    It stands on the page as it opens, not behind one of its views.
    """
    text = said(healthy(visit()))
    every, *groups = speculated()
    assert "Speculative decoding: TPOT of InferenceX" in text
    assert f"{every.median_pct:.0f}\N{NARROW NO-BREAK SPACE}%" in text
    assert text.count("<td>none\n") == sum(not group.has_skill for group in groups)


def test_layouts_stand_as_measured_and_as_predicted() -> None:
    """Oracle: `presets/validation/layouts.csv`; every series has its source, those seen by a fit say so."""
    text = said(healthy(visit()))
    assert "Parallel layouts and networks, as published" in text
    for series in published_series():
        assert series.source in text
    assert text.count("in sample\n") == sum(series.seen for series in published_series())
