"""Traces of other projects, lists of lengths, and windows of long files."""

from __future__ import annotations

import io
import json
import shlex
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.demand import demand_of
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.trace_files import tables
from sim_core.traffic.trace_files.read import read_trace, with_trace
from sim_core.traffic.trace_files.windows import Window
from tests.places import SHARED

BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
VIDUR = ",num_prefill_tokens,num_decode_tokens,arrived_at\n"
SPLITWISE = "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def notes_of(text: str, **how: object) -> str:
    return " ".join(read_trace(text.encode(), name="t", **how).notes)


# --- formats --------------------------------------------------------------------------------------


def test_burstgpt() -> None:
    """Oracle: by hand: seconds from the first request on; one of 0 response tokens has failed."""
    text = BURSTGPT + "5,ChatGPT,472,18,490,API log\n45,GPT-4,10,0,10,API log\n118,GPT-4,7,9,16,API log\n"
    trace = read_trace(text.encode(), name="t")
    assert trace.arrival_s.tolist() == [0, 113]
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([472, 7], [18, 9])
    said = " ".join(trace.notes)
    assert "1 request failed (Response tokens 0): left out." in said
    assert "Model is not used: requests to all models are replayed alike." in said


def test_vidur() -> None:
    """Oracle: by hand; the first column is a number of the row."""
    trace = read_trace((VIDUR + "0,374,44,0.5\n1,396,109,0.9\n").encode())
    assert trace.arrival_s.tolist() == pytest.approx([0, 0.4])
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([374, 396], [44, 109])


def test_splitwise_sim() -> None:
    """Oracle: by hand; what is not used of it is said."""
    trace = read_trace((SPLITWISE + "0,2,0,0.25,1,100,7\n1,2,0,1.5,1,200,8\n").encode())
    assert trace.arrival_s.tolist() == [0, 1.25]
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([100, 200], [7, 8])
    assert "batch_size is not used" in " ".join(trace.notes)


def test_titles_in_another_case_are_the_same() -> None:
    """Oracle: the same rows under the titles as they are documented."""
    text = BURSTGPT + "5,ChatGPT,472,18,490,API log\n"
    other = read_trace(text.replace(BURSTGPT, BURSTGPT.upper()).encode())
    assert other.prompt_tokens.tolist() == read_trace(text.encode()).prompt_tokens.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BURSTGPT + "5,ChatGPT,472,18,490,x\n9,ChatGPT,many,18,490,x\n", "line 3: Request tokens is 'many'"),
        (
            BURSTGPT + "5,ChatGPT,472,0,472,x\n",
            "holds no request that was answered: Response tokens 0 in every row",
        ),
        (BURSTGPT + "5,ChatGPT,0,3,3,x\n", "line 2: Request tokens is 0"),
        (BURSTGPT + "9,x,1,0,1,x\n8,x,1,1,2,x\n7,x,1,1.5,2,x\n", "line 4: Response tokens is 1.5"),
        (VIDUR + "0,374,44,soon\n", "line 2: arrived_at is 'soon'"),
        (SPLITWISE + "0,2,0,-1,1,5,5\n", "line 2: arrival_timestamp is -1 s"),
        (SPLITWISE.replace("prompt_size", "Token_Size") + "0,2,0,1,1,5,5\n", "the columns are"),
        (
            "Arrived_At,arrived_at,num_prefill_tokens,num_decode_tokens\n",
            "column arrived_at stands there twice",
        ),
    ],
)
def test_refusals_name_line_column_and_value(text: str, words: str) -> None:
    """Oracle: by hand."""
    with pytest.raises(ScenarioError) as raised:
        read_trace(text.encode(), name="t")
    assert words in str(raised.value)


# --- lengths without times ------------------------------------------------------------------------

CHATS = [
    {"id": "a", "conversations": [{"from": "human", "value": "x" * 40}, {"from": "gpt", "value": "y" * 9}]},
    {"id": "b", "conversations": [{"from": "human", "value": "alone"}]},
    {
        "id": "c",
        "conversations": [
            {"from": "system", "value": "be kind"},
            {"from": "human", "value": "ä" * 8},
            {"from": "gpt", "value": "z"},
            {"from": "human", "value": "more"},
            {"from": "gpt", "value": "more"},
        ],
    },
]


@pytest.mark.parametrize("lines", [False, True])
def test_sharegpt(lines: bool, tmp_path: Path) -> None:
    """Oracle: by hand: 40, 9, 16 and 1 bytes over 4, at least one token; the file reads as its text does."""
    text = json.dumps(CHATS, indent=2 if lines else None, ensure_ascii=False)
    path = tmp_path / "chats.json"
    path.write_text(text, encoding="utf-8")
    for trace in (read_trace(text.encode()), read_trace(path)):
        assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([10, 4], [2, 1])
        assert not trace.timed
        said = " ".join(trace.notes)
        assert (
            "bytes over 4" in said
            and "1 conversations without" in said
            and "of 1 conversations later" in said
        )


def test_conversations_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same entries read at once."""
    whole = read_trace(json.dumps(CHATS * 20).encode()).prompt_tokens.tolist()
    for block in (1, 7, 100):
        monkeypatch.setattr("sim_core.traffic.trace_files.conversations.BLOCK", block)
        assert read_trace(io.StringIO(json.dumps(CHATS * 20))).prompt_tokens.tolist() == whole


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"conversations": 3}]', "entry 1: conversations is missing"),
        ('[{"conversations": []}]', "has no conversation with a question and its answer"),
        (json.dumps(CHATS)[:-20], "entry 3 is not valid JSON; the file may have been cut off"),
        ('[{"conversations": [1, {"value": 3}, {"value": null}]}, 7]', "entry 2: conversations is missing"),
        ('[{"id": 1}]', "is one JSON array"),
    ],
)
def test_what_is_no_conversation_is_refused(text: str, words: str) -> None:
    """Oracle: the entry's number."""
    with pytest.raises(ScenarioError) as raised:
        read_trace(text.encode(), name="t")
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "header", ["input_length,output_length", "num_prefill_tokens,num_decode_tokens,pd_ratio"]
)
def test_lists_of_lengths_take_the_scenarios_arrivals(header: str) -> None:
    """Oracle: the same scenario's own arrivals; the lengths in their order."""
    rows = "\n".join(f"{100 + number},{10 + number}" + ",1" * header.count("pd") for number in range(5))
    trace = read_trace(f"{header}\n{rows}\n".encode(), name="t")
    scenario = with_trace(Scenario(arrival_per_s=3.0), trace)
    assert (scenario.arrivals, scenario.requests) == ("poisson", 5)
    sent = requests_sent(scenario, trace)
    assert sent.prompt_tokens.tolist() == [100, 101, 102, 103, 104]
    np.testing.assert_array_equal(sent.arrival_s, requests_sent(scenario).arrival_s)
    assert "without times" in " ".join(trace.notes)


def test_lengths_of_nothing_are_left_out() -> None:
    """Oracle: two of three rows are no request; the third keeps its line."""
    trace = read_trace(b"input_length,output_length\n0,5\n5,0\n7,3\n", name="t")
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([7], [3])
    assert "2 requests (input_length or output_length 0): left out." in " ".join(trace.notes)
    with pytest.raises(ScenarioError, match=r"line 4: output_length is 2\.5"):
        read_trace(b"input_length,output_length\n0,5\n5,0\n7,2.5\n", name="t")


def test_lengths_without_times_cannot_be_replayed() -> None:
    """Oracle: the way out stands in each message."""
    trace = read_trace(b"input_length,output_length\n5,5\n", name="t")
    with pytest.raises(ScenarioError, match="choose arrivals=poisson"):
        requests_sent(Scenario(arrivals="trace"), trace)
    with pytest.raises(ScenarioError, match="Give a trace with times"):
        demand_of(Scenario(demand="trace"), lambda *_: (), 2, trace)
    with pytest.raises(ScenarioError, match="no window of it"):
        read_trace(b"input_length,output_length\n5,5\n", window=Window(hours=1))


# --- windows --------------------------------------------------------------------------------------


def week(path: Path, count: int = 10_000, step_s: int = 60) -> Path:
    """Write an Azure trace with a request every so often, whose prompt is its number."""
    stamps = np.datetime64("2024-05-10T00:00:00") + np.arange(count) * np.timedelta64(step_s, "s")
    rows = "\n".join(f"{str(at).replace('T', ' ')}+00:00,{number + 1},5" for number, at in enumerate(stamps))
    path.write_text(AZURE + rows + "\n")
    return path


@pytest.mark.parametrize("start", ["36", "2024-05-11T12:00", "2024-05-11 12:00:00+00:00"])
def test_a_window_of_a_file(start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: minute 36 x 60 is request 2,161; two hours hold 120; file and content alike."""
    monkeypatch.setattr(tables, "ROWS_A_PIECE", 1000)
    path = week(tmp_path / "week.csv")
    window = Window(start, 2.0)
    for trace in (read_trace(path, window=window), read_trace(path.read_bytes(), window=window)):
        assert trace.prompt_tokens.tolist() == list(range(2161, 2281))
        assert trace.arrival_s.tolist() == [60 * number for number in range(120)]
    assert "a window: 120 of the 3,000 rows read." in " ".join(read_trace(path, window=window).notes)


def test_rows_out_of_order_are_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the window of the sorted file."""
    monkeypatch.setattr(tables, "ROWS_A_PIECE", 100)
    path = week(tmp_path / "week.csv", 1000)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[900], *lines[2:900], *lines[901:]]) + "\n")
    trace = read_trace(path, window=Window("14", 2))
    assert trace.prompt_tokens.tolist() == list(range(841, 961))


def test_a_window_of_an_own_csv_counts_from_where_it_begins(tmp_path: Path) -> None:
    """Oracle: by hand: from 1 h on for half an hour: 3,700 s and 5,000 s become 100 s and 1,400 s."""
    path = tmp_path / "own.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n10,1,1\n3700,2,1\n5000,3,1\n5400,4,1\n")
    for source in (path, path.read_bytes()):
        trace = read_trace(source, window=Window("1", 0.5))
        assert trace.arrival_s.tolist() == [100, 1400]


def test_a_window_of_json_lines() -> None:
    """Oracle: by hand, ms."""
    rows = [{"timestamp": 1000 * at, "input_length": at + 1, "output_length": 2} for at in (0, 4000, 8000)]
    text = "\n".join(json.dumps(row) for row in rows)
    assert read_trace(text.encode(), window=Window("1", 1)).prompt_tokens.tolist() == [4001]
    assert "a window: 1 request of 3." in notes_of(text, window=Window("1", 1))


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (Window("500", 1), "has no request from '500' on for 1 h"),
        (Window("-1", 1), "start is '-1'; it must be hours"),
        (Window("soon", 1), "start is 'soon'; give hours after the first request, or a date"),
        (Window("1", 0), "hours are 0"),
        (Window("1", float("nan")), "hours are nan"),
        (Window("2030-01-01", 1), "has no request from '2030-01-01' on"),
    ],
)
def test_windows_that_hold_nothing(window: Window, words: str, tmp_path: Path) -> None:
    """Oracle: the message names the value; a file and its content are refused alike."""
    path = week(tmp_path / "week.csv", 100)
    for source in (path, path.read_bytes()):
        with pytest.raises(ScenarioError) as raised:
            read_trace(source, name="t", window=window)
        assert words in str(raised.value)


def test_options_of_a_window() -> None:
    """Oracle: what a shell makes of them."""
    window = Window("2024-05-12 08:00", 1.5)
    assert shlex.split(window.options) == ["--from", "2024-05-12 08:00", "--hours", "1.5"]
    assert Window().options == ""


def test_clock_times_need_a_clock(tmp_path: Path) -> None:
    """Oracle: a trace that counts seconds has no date."""
    with pytest.raises(ScenarioError, match="counts from its beginning: give hours"):
        read_trace((VIDUR + "0,1,1,1\n").encode(), window=Window("2024-05-11", 1))


def test_errors_in_a_window_name_the_files_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the line that was spoilt."""
    monkeypatch.setattr(tables, "ROWS_A_PIECE", 100)
    path = week(tmp_path / "week.csv", 1000)
    lines = path.read_text().splitlines()
    lines[722] = lines[722].rpartition(",")[0] + ",2.5"
    path.write_text("\n".join(lines))
    with pytest.raises(ScenarioError, match=r"line 723: GeneratedTokens is 2\.5"):
        read_trace(path, window=Window("12", 1))


OWN = "arrival_s,prompt_tokens,output_tokens\n"
ODD_ROWS = {  # what stands in the file, and what is said of it
    "a comma between thousands": (OWN + "0,100,5\n1,1,234,5\n", "line 3: '5' behind the last column"),
    "a field further behind": (OWN + "0,100,5\n1,200,5,,x\n", "line 3: '', 'x' behind"),
    "a quoted line end": (OWN.strip() + ',note\n0,100,5,"a\nb"\n1,2,3,c,4\n', "line 4: '4' behind the last"),
    "blank lines": ("\n\n" + OWN + "\n0,100,5\n\n1,2,x\n", "line 7: output_tokens is 'x'"),
    "old line ends": (OWN.strip() + "\r0,100,5\r1,1,234,5\r", "line 3: '5' behind the last column"),
    "before the start": (OWN + "0,100,5\n-1,200,5\n", "line 3: arrival_s is -1 s"),
    "no time": (OWN + "0,100,5\n1,1,1\ninf,200,5\n", "line 4: arrival_s is inf s"),
    "empty fields": (OWN + "0,100,5,\n1,200,5,,\n2,200,5\n", "2 lines end with a comma"),
}


@pytest.mark.parametrize("rows_a_piece", [2, 1000])
@pytest.mark.parametrize("what", ODD_ROWS)
def test_a_window_misreads_no_row_that_the_whole_refuses(
    what: str, rows_a_piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: by hand: the line, whether the file is read whole, as content, or in pieces."""
    monkeypatch.setattr(tables, "ROWS_A_PIECE", rows_a_piece)
    text, words = ODD_ROWS[what]
    path = tmp_path / "odd.csv"
    path.write_text(text)
    said = []
    for source, window in ((path, Window()), (text.encode(), Window("0", 1)), (path, Window("0", 1))):
        try:
            said.append(" ".join(read_trace(source, name="odd.csv", window=window).notes))
        except ScenarioError as error:
            said.append(str(error))
    assert all(words in line for line in said), said


def test_a_window_reads_quoted_line_ends_over_the_edge_of_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the same rows read whole."""
    path = tmp_path / "quoted.csv"
    rows = "".join(f'{at},"a ""b""\n,\n{at}",{at + 1},5\n' for at in range(20))
    path.write_text("arrival_s,note,prompt_tokens,output_tokens\n" + rows)
    for lines in range(1, 12):
        monkeypatch.setattr(tables, "ROWS_A_PIECE", lines)
        found = read_trace(path, window=Window("0", 1))
        assert found.prompt_tokens.tolist() == read_trace(path).prompt_tokens.tolist() == list(range(1, 21))


def test_the_span_of_a_file_out_of_order_is_a_number(tmp_path: Path) -> None:
    """Oracle: by hand: the first row at 05:00 or the first request at 03:00, the last at 07:30."""
    path = tmp_path / "unordered.csv"
    stamps = ("05:00:00", "03:00:00", "07:30:00", "04:00:00")
    path.write_text(AZURE + "".join(f"2024-05-10 {at},1,1\n" for at in stamps))
    with pytest.raises(ScenarioError, match=r"it spans 4\.5 h"):
        read_trace(path, window=Window("20", 1))


def test_hours_that_are_no_number_are_refused(tmp_path: Path) -> None:
    """Oracle: a window without a start whose length is no number is not the whole file."""
    path = week(tmp_path / "week.csv", 10)
    for source in (path, path.read_bytes()):
        for hours in (float("nan"), float("-inf")):
            with pytest.raises(ScenarioError, match="they must be more than 0"):
                read_trace(source, window=Window("", hours))


def test_memory_of_a_window_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: tracemalloc: a window at the end of a file ten times as long takes at most half more."""
    monkeypatch.setattr(tables, "ROWS_A_PIECE", 5_000)
    peaks = []
    for count in (10_000, 100_000):
        path = week(tmp_path / f"{count}.csv", count)
        read_trace(path, window=Window(str(count / 60 - 1)))
        tracemalloc.start()
        assert len(read_trace(path, window=Window(str(count / 60 - 1)))) == 60
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


# --- cases of public traces, where they are at hand ------------------------------------------------

PUBLIC = {"burstgpt.csv": (4, 126.0, "failed"), "vidur.csv": (2, 0.8, "over 0.8 s")}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_cases(name: str) -> None:
    """Oracle: the rows of each file, by hand."""
    path = SHARED / "cases" / name
    if not path.exists():
        pytest.skip("no shared cases here")
    trace = read_trace(path)
    count, span_s, words = PUBLIC[name]
    assert (len(trace), float(trace.arrival_s[-1])) == (count, pytest.approx(span_s))
    assert words in " ".join(trace.notes)
