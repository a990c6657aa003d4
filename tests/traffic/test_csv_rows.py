"""Fields that belong to no column: an empty one is noted, any other is refused and named."""

from __future__ import annotations

import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.traffic.trace_files.csv_rows import MAX_LINE, rows_beyond, rows_of
from sim_core.traffic.trace_files.read import read_trace
from tests.hangs import no_hang

HEADER = "arrival_s,prompt_tokens,output_tokens"


def trace(*lines: str) -> object:
    return read_trace("\n".join((HEADER, *lines)).encode(), "mine.csv")


def test_a_comma_at_the_end_shifts_no_column() -> None:
    """Oracle: by hand; the note counts the lines."""
    found = trace("0,1000,200,", "1,1010,201,")
    assert found.prompt_tokens.tolist() == [1000, 1010]
    assert found.output_tokens.tolist() == [200, 201]
    assert found.notes[1:] == (
        "mine.csv: 2 lines end with a comma that the header does not have; columns are those that the header "
        "names.",
    )


@pytest.mark.parametrize("line", ["1,1,000,200", '"1","1","000","200"'])
def test_a_field_too_many_is_named_with_its_line(line: str) -> None:
    """Oracle: a thousands comma: no column of that line can be trusted."""
    with pytest.raises(ScenarioError, match=r"mine\.csv, line 3: '200' behind the last column"):
        trace("0,1,1", line)


def test_400_000_fields_cost_nothing() -> None:
    """Oracle: the message, and that it comes: looking at all fields again for each would take an hour."""
    with no_hang(), pytest.raises(ScenarioError, match="and 399,997 more behind the last column"):
        trace("0,1,1" + ",9" * 400_000)


@pytest.mark.parametrize("text", ["a,b\n1,2\n\n3,4,\n5,6,7\n", 'a,b\n"1",2\n\n3,4,\n5,6,"7"\n'])
def test_both_ways_to_count_agree(text: str) -> None:
    """Oracle: Python's csv, on the same rows without quotes."""
    found = [(row.line, row.surplus, row.is_whole) for row in rows_beyond(text, 2, "x")]
    assert found == [(4, [""], True), (5, ["7"], False)]
    assert [row.line for row in rows_of(text, "x")] == [1, 2, 4, 5]


@pytest.mark.parametrize("text", ["a,b\n" + "1" * (MAX_LINE + 1), 'a,b\n"' + "1" * 200_000])
def test_no_field_without_end_is_read(text: str) -> None:
    """Oracle: the limits of a line and of a field."""
    with pytest.raises(ScenarioError, match="line 2"):
        list(rows_of(text, "x"))


def test_a_request_of_a_megabyte_is_refused_unread() -> None:
    """Oracle: the clock and the line: its lists would take far more memory than their text."""
    line = '{"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[' + "[]," * 400_000 + "[]]}"
    with pytest.raises(ScenarioError, match="line 1, has 1,2"):
        read_trace(line.encode(), "mine.jsonl")
