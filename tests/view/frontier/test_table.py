"""The table of the Frontier page: what comes first, what is shown, and how a link says so."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from sim_core.view.drawing.columns import COLUMNS, USUAL, best_first, chosen_columns, columns_text, with_best
from sim_core.view.drawing.figures import Y
from tests.visits import APP, address, healthy, open_page

QUICK = {"requests": "300", "fine": "off", "show": "table"}


def row(throughput: float, meets_slo: bool, feasible: bool = True) -> dict[str, object]:
    return {Y: throughput, "meets_slo": meets_slo, "feasible": feasible}


def test_points_within_the_limits_come_first_most_throughput_first() -> None:
    """By hand: within 200, within 100, beyond the limits 900, and what cannot run at the end."""
    rows = [row(math.nan, False, feasible=False), row(900, False), row(100, True), row(200, True)]
    assert best_first(rows) == [rows[3], rows[2], rows[1], rows[0]]


def test_the_best_point_stands_once_whether_it_is_of_the_grid_or_not() -> None:
    """By hand: a capacity between the grid's points is a row more, a point of the grid is not."""
    rows = [row(100, True), row(200, True)]
    assert with_best(rows, rows[1]) == [rows[1], rows[0]]
    assert with_best(rows, row(210, True))[1:] == [rows[1], rows[0]]
    assert with_best(rows, None) == [rows[1], rows[0]]


def test_columns_are_read_from_their_own_text() -> None:
    """Write then read is the identity, in the order of the table; the usual ones are no text."""
    assert chosen_columns("usd_per_mtok,ttft_ms_p99") == (("ttft_ms_p99", "usd_per_mtok"), [])
    assert chosen_columns("nonsense,badge") == (("badge",), ["nonsense"])
    assert chosen_columns("") == (USUAL, []) and chosen_columns("nonsense")[0] == USUAL
    assert columns_text(chosen_columns("badge,mfu_frac")[0]) == "mfu_frac,badge"
    assert columns_text(USUAL) == ""


def test_the_table_marks_its_best_row_and_separates_thousands() -> None:
    """The marked row is the first, within the limits, and no row within them has more throughput."""
    app = healthy(open_page(APP, **QUICK))
    table = app.dataframe[0].value
    assert list(table["Best"][:2]) == ["★", ""]
    best = table[COLUMNS[Y]][0]
    assert table["Within limits"][0] and best == table[table["Within limits"]][COLUMNS[Y]].max()
    assert best > 1000
    words = pa.ipc.open_stream(app.dataframe[0].proto.arrow_data.styler.display_values).read_pandas()
    assert words[COLUMNS[Y]][0] == f"{best:,.0f}"


def test_the_filter_leaves_what_keeps_the_limits() -> None:
    """The rows of the filter are those of the whole table that keep the limits."""
    whole = healthy(open_page(APP, **QUICK, slo_tpot_ms="6")).dataframe[0].value
    app = healthy(open_page(APP, **QUICK, slo_tpot_ms="6", within="on"))
    shown = app.dataframe[0].value
    assert 0 < len(shown) == whole["Within limits"].sum() < len(whole)


def test_a_link_says_which_columns_are_shown() -> None:
    """A link's columns are the table's, beside those that name the point; what is none is noted."""
    app = healthy(open_page(APP, **QUICK, columns="usd_per_mtok,ttft_ms_p99,bogus"))
    assert list(app.dataframe[0].value.columns)[3:] == ["TTFT p99 [ms]", "USD/Mtok"]
    assert address(app)["columns"] == "ttft_ms_p99,usd_per_mtok"
    assert any("names no column of the table with 'bogus'" in text.value for text in app.text)


@pytest.mark.parametrize("limits", [{"slo_tpot_ms": "0.001"}])
def test_a_table_without_a_row_says_how_to_see_all(limits: dict[str, str]) -> None:
    """Where nothing keeps the limits, the filter says so in place of an empty table."""
    app = healthy(open_page(APP, **QUICK, within="on", **limits))
    assert not app.dataframe and "Switch the filter off" in app.info[0].value
