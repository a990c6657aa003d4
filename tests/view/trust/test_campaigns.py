"""Errors campaign by campaign, whether bands hold, and what the last calibration changed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sim_core.evidence import errors as evidence_errors
from sim_core.evidence.bands import left_out_coverage
from sim_core.evidence.published import FAMILIES
from sim_core.view.drawing.words import percent
from sim_core.view.trust.campaigns import by_campaign, coverage_figure
from sim_core.view.trust.validation import every_row
from tests.visits import healthy, open_page, said

ROW = {
    "pools": "one", "traffic": "closed", "model": "llama-3.1-8b", "accelerator": "h100-sxm", "engine": "vLLM",
    "precision": "fp8", "status": "", "tpot_blind": math.nan, "tpot_error_pct": math.nan,
    "has_ranks": False,
}  # fmt: skip


def row(**changes: Any) -> dict[str, Any]:
    return ROW | changes


def test_errors_by_campaign_by_hand() -> None:
    """Oracle: by hand: blind ratios 1.1 and 1.3, and one of two pools known only as predicted, 0.5."""
    rows = [
        row(tpot_blind=1.1),
        row(tpot_blind=1.3, tpot_error_pct=900.0),
        row(pools="split", tpot_error_pct=-50.0),
        row(engine="SGLang"),
        row(tpot_blind=9.0, status="attention not fitted"),
    ]
    far, near = by_campaign(rows, "tpot")
    assert (far["kind"], far["points"], far["ratio"], far["error_pct"]) == ("split", 1, 0.5, 50.0)
    assert (near["points"], near["ratio"], near["within_20_frac"]) == (2, pytest.approx(1.2), 0.5)


def test_every_point_that_counts_is_in_one_campaign() -> None:
    """Oracle: the rows with a known error of TPOT whose attention is modelled."""
    rows = [item for item in every_row() if item["tpot_ms"] > 0]
    counted = [item for item in rows if not item["status"] and math.isfinite(item["tpot_error_pct"])]
    assert sum(item["points"] for item in by_campaign(rows, "tpot")) == len(counted)


def test_the_page_says_whether_bands_hold() -> None:
    """Oracle: the coverage on campaigns left out."""
    figure = coverage_figure()
    assert figure.value == percent(left_out_coverage("model")["tpot"])


def test_the_page_shows_what_the_last_calibration_changed() -> None:
    """Oracle: both tables of errors, family by family."""
    tables = evidence_errors.error_tables()
    text = said(healthy(open_page("7_Validation.py")))
    for family in ("all", *FAMILIES):
        for table in (tables["before"], tables["model"]):
            assert percent(table[family]["tpot_pct"] / 100) in text
