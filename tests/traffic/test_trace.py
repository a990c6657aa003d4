"""Request traces: the three formats, and one clear line for everything that is no trace."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import Requests
from sim_core.traffic.trace_files import formats, read
from sim_core.traffic.trace_files.read import read_trace, with_trace
from tests.places import SHARED

OWN = "arrival_s,prompt_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def own(*rows: str) -> bytes:
    return (OWN + "\n".join(rows) + "\n").encode()


def mooncake(*rows: dict) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def entry(timestamp: object = 0, prompt: object = 5, output: object = 2) -> dict:
    return {"timestamp": timestamp, "input_length": prompt, "output_length": output, "hash_ids": [1, 2]}


# The formats


def test_own_csv() -> None:
    """Oracle: the file by hand; arrivals are kept as they stand."""
    trace = read_trace(own("0.25,100,20", "1.5,200,1", "1.5,1,1000000"), name="mine.csv")
    assert trace.arrival_s.tolist() == [0.25, 1.5, 1.5]
    assert trace.prompt_tokens.tolist() == [100, 200, 1]
    assert trace.output_tokens.tolist() == [20, 1, 1_000_000]
    assert trace.arrival_s.dtype == np.float64
    assert trace.prompt_tokens.dtype == trace.output_tokens.dtype == np.int64
    assert (trace.name, len(trace)) == ("mine.csv", 3)
    assert trace.notes == ("mine.csv: 3 requests over 1.25 s, 2.4 a second on average.",)


def test_azure_csv() -> None:
    """Oracle: by hand: 0.052 s, then 24 h 0 min 1 s after the first, whatever the time zone is written as."""
    text = (
        AZURE
        + "2023-11-16 18:17:03.9799600,4808,10\n"
        + "2023-11-16 18:17:04.0319600+00:00,3180,8\n"
        + "2023-11-17T18:17:04.9799600Z,110,27\n"
    )
    trace = read_trace(text.encode())
    np.testing.assert_allclose(trace.arrival_s, [0, 0.052, 86_401], atol=1e-9)
    assert trace.prompt_tokens.tolist() == [4808, 3180, 110]
    assert trace.output_tokens.tolist() == [10, 8, 27]


def test_mooncake_json_lines() -> None:
    """Oracle: by hand: milliseconds, shifted to start at 0; blank lines and extra keys do not count."""
    data = (
        mooncake(entry(3000, 6758, 500), entry(3000, 7322, 1)) + b"\n\n" + mooncake(entry(6500, 5, 2)) + b"\n"
    )
    trace = read_trace(data)
    assert trace.arrival_s.tolist() == [0, 0, 3.5]
    assert trace.prompt_tokens.tolist() == [6758, 7322, 5]
    assert trace.output_tokens.tolist() == [500, 1, 2]


def test_column_order_extra_columns_and_spaces_do_not_matter() -> None:
    """Oracle: the same requests."""
    plain = read_trace(own("0,100,20", "1,200,30"))
    text = ' output_tokens , user,"arrival_s",prompt_tokens\n 20,"a, b" , 0 ,100\n30,nan,1,2e2\n'
    other = read_trace(text.encode())
    for column in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert getattr(other, column).tolist() == getattr(plain, column).tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: data.replace(b"\n", b"\n\n"),
        lambda data: b"\n \n" + data + b"  \n\n",
        lambda data: data.rstrip(b"\n"),
    ],
    ids=["bom", "crlf", "cr", "blank lines", "blank ends", "no last newline"],
)
def test_line_ends_and_byte_order_marks_do_not_matter(change) -> None:
    """Oracle: the same requests."""
    trace = read_trace(change(own("0,100,20", "1.25,200,30")))
    assert trace.arrival_s.tolist() == [0, 1.25]
    assert trace.output_tokens.tolist() == [20, 30]


def test_sources(tmp_path) -> None:
    """Oracle: the same file as path, text path, bytes and open file."""
    path = tmp_path / "requests.csv"
    path.write_bytes(own("0,100,20"))
    with open(path, "rb") as file:
        opened = read_trace(file)
    for trace in (read_trace(path), read_trace(str(path)), opened):
        assert trace.name == "requests.csv"
        assert trace.prompt_tokens.tolist() == [100]
    assert read_trace(path.read_bytes()).name == "the trace"
    assert read_trace(io.StringIO(path.read_text())).prompt_tokens.tolist() == [100]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e8), st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1))
def test_own_csv_round_trip(rows: list[tuple[float, int, int]]) -> None:
    """Oracle: identity, to the last bit, after a stable sort."""
    trace = read_trace(own(*(f"{arrival!r},{prompt},{output}" for arrival, prompt, output in rows)))
    rows = sorted(rows, key=lambda row: row[0])
    found = zip(
        trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True
    )
    assert list(found) == rows


# What is put right, with a note


def test_unsorted_arrivals_are_sorted() -> None:
    """Oracle: by hand: two steps back (2 to 1 and 3 to 0); equal arrivals keep their order."""
    trace = read_trace(own("2,1,1", "1,2,1", "3,3,1", "0,4,1", "1,5,1"), name="t.csv")
    assert trace.arrival_s.tolist() == [0, 1, 1, 2, 3]
    assert trace.prompt_tokens.tolist() == [4, 2, 5, 1, 3]
    assert trace.notes[1:] == ("t.csv: 2 requests stood out of order of arrival: sorted.",)


def test_recorded_requests_without_output_count_one_token() -> None:
    """Oracle: the stated rule, for the two public formats."""
    azure = read_trace((AZURE + "2024-05-10 00:00:00,10,0\n2024-05-10 00:00:01,10,3\n").encode(), name="a")
    assert azure.output_tokens.tolist() == [1, 3]
    assert azure.notes[1:] == ("a: 1 request without output: counted as one token each.",)
    assert read_trace(mooncake(entry(output=0), entry(output=0))).notes[-1].endswith("one token each.")


# Units, span, and what is not used


def notes_of(*rows: dict) -> str:
    return " ".join(read_trace(mooncake(*rows), name="t").notes)


def row(sent: float, **more: object) -> dict:
    return {"timestamp": sent, "input_length": 100, "output_length": 10} | more


def test_every_trace_says_its_span_and_rate() -> None:
    """Oracle: by hand: 3 requests in 6 s are 0.5 a second; all at once have no rate."""
    assert "t: 3 requests over 6 s, 0.5 a second on average." in notes_of(row(0), row(3000), row(6000))
    assert "2 requests, all at one time" in notes_of(row(7), row(7))
    assert "t.csv: 1 request," in read_trace(own("5,1,1"), name="t.csv").notes[0]


@pytest.mark.parametrize("keys", [{"chat_id": 1}, {"parent_chat_id": -1}])
def test_bailian_counts_seconds(keys: dict) -> None:
    """Oracle: by hand; the same keys as Mooncake's, whose unit is ms, and a few of their own."""
    rows = [row(sent, **keys) for sent in (0.0, 1.5, 60.25)]
    assert read_trace(mooncake(*rows)).arrival_s.tolist() == [0, 1.5, 60.25]
    assert "read as seconds" in notes_of(*rows)


def test_whole_milliseconds_stay_milliseconds() -> None:
    """Oracle: the format; a trace with conversations in ms is no less in ms."""
    rows = [row(sent, chat_id=1) for sent in (0, 3000, 9000)]
    assert read_trace(mooncake(*rows)).arrival_s.tolist() == [0, 3, 9]
    assert "seconds" not in notes_of(row(0), row(3000))


def test_fractions_of_milliseconds_are_doubted() -> None:
    """Oracle: by hand: 60 requests in 90 units are 667 a second as ms; 3 in 4000.5 are less than one."""
    fast = [row(1.5 * number) for number in range(61)]
    assert read_trace(mooncake(*fast)).arrival_s[-1] == 90
    assert "read as seconds" in notes_of(*fast)
    slow = [row(0), row(2000.25), row(4000.5)]
    assert read_trace(mooncake(*slow)).arrival_s[-1] == pytest.approx(4.0005)
    assert "have fractions; read as milliseconds" in notes_of(*slow)


@pytest.mark.parametrize(("step", "words"), [(1, "very many a second"), (10_000_000, "very few a second")])
def test_absurd_rates_are_doubted(step: int, words: str) -> None:
    """Oracle: by hand: 1 ms apart is 1,000 a second, 10,000 s apart is 0.0001."""
    assert words in notes_of(*(row(step * number) for number in range(5)))


@pytest.mark.parametrize("key", ["hash_ids", "images", "parent_chat_id"])
def test_what_bears_on_the_load_and_is_not_used_is_said(key: str) -> None:
    """Oracle: the column's name stands in a note."""
    assert f"{key} is not used: " in notes_of(row(0, **{key: 1}), row(5000, **{key: 1}))


def test_other_columns_are_named_together() -> None:
    """Oracle: the header; names and counts of what is known are no loss."""
    azure = read_trace(b"TIMESTAMP,NumImages,Region,ContextTokens,GeneratedTokens\n2024-05-10,1,eu,5,5\n")
    assert "NumImages is not used: prompts count text tokens alone." in azure.notes[1]
    assert azure.notes[2].endswith("not used: Region.")
    assert "type" not in notes_of(row(0, type="text", turn=1))


def test_a_later_turn_comes_its_delay_after_the_one_before() -> None:
    """Oracle: by hand: 1 s, then 2 s later, then 0.5 s; another session has its own clock."""
    rows = [
        row(1000, session_id="a"),
        {"session_id": "a", "delay": 2000, "input_length": 5, "output_length": 5},
        row(1200, session_id="b"),
        {"session_id": "a", "delay": 500, "input_length": 5, "output_length": 5},
    ]
    assert read_trace(mooncake(*rows)).arrival_s.tolist() == pytest.approx([0, 0.2, 2, 2.5])
    assert "session_id: 4 turns of 2 sessions" in notes_of(*rows)
    with pytest.raises(ScenarioError, match="line 1: timestamp is missing"):
        read_trace(mooncake(*rows[1:]))


CASES = {
    "bailian_seconds.jsonl": (120.5, "read as seconds"),
    "mooncake_toolagent.jsonl": (27.482, "hash_ids"),
    "mooncake_multiturn.jsonl": (2.0, "session_id"),
    "azure2025_mm.csv": (2.0, "NumImages"),
}


@pytest.mark.parametrize("name", CASES)
def test_shared_cases(name: str) -> None:
    """Oracle: what is right of each, as the cases' README says."""
    path = SHARED / "cases" / name
    if not path.exists():
        pytest.skip("no shared cases here")
    trace = read_trace(path)
    assert trace.arrival_s[-1] == pytest.approx(CASES[name][0])
    assert CASES[name][1] in " ".join(trace.notes)


def test_arrays_are_read_only() -> None:
    """Oracle: visitors share a trace, so nobody may write to it."""
    trace = read_trace(own("0,100,20"))
    with pytest.raises(ValueError, match="read-only"):
        trace.arrival_s[0] = 1


# What is refused


BAD = {
    "empty": (b"", ["empty"]),
    "blank": (b" \n\n ", ["empty"]),
    "only a mark": (b"\xef\xbb\xbf", ["empty"]),
    "header only": (OWN.encode(), ["no requests"]),
    "wrong columns": (b"time,input,output\n1,2,3\n", ["line 1", "'time', 'input', 'output'", "arrival_s"]),
    "no header": (b"0,100,20\n1,100,20\n", ["line 1", "'0', '100', '20'", "arrival_s"]),
    "missing column": (b"arrival_s,prompt_tokens\n1,2\n", ["output_tokens"]),
    "column twice": (b"arrival_s,prompt_tokens,output_tokens,arrival_s\n1,2,3,4\n", ["arrival_s", "twice"]),
    "semicolons": (b"arrival_s;prompt_tokens;output_tokens\n1;2;3\n", ["semicolons", "commas"]),
    "tabs": (b"arrival_s\tprompt_tokens\toutput_tokens\n1\t2\t3\n", ["tabs", "commas"]),
    "text": (own("0,100,20", "1,abc,30"), ["line 3", "prompt_tokens is 'abc'", "number"]),
    "number with unit": (own("0s,100,20"), ["line 2", "arrival_s is '0s'"]),
    "underscore": (own("0,1_000,20"), ["line 2", "1_000"]),
    "boolean": (own("0,True,20"), ["line 2", "prompt_tokens is 'True'"]),
    "missing value": (own("0,100,20", "1,,30"), ["line 3", "prompt_tokens is missing"]),
    "short row": (own("0,100,20", "1,100"), ["line 3", "output_tokens is missing"]),
    "nan": (own("0,100,20", "nan,100,20"), ["line 3", "arrival_s is 'nan'"]),
    "infinite": (own("0,100,20", "inf,100,20"), ["line 3", "arrival_s is inf s"]),
    "negative arrival": (own("-1,100,20"), ["line 2", "arrival_s is -1 s", "between 0"]),
    "epoch arrival": (own("1700000000,100,20"), ["line 2", "1,700,000,000", "first request"]),
    "negative length": (own("0,100,-5"), ["line 2", "output_tokens is -5", "between 1 and 1,000,000"]),
    "no prompt": (own("0,0,20"), ["line 2", "prompt_tokens is 0"]),
    "no output": (own("0,5,0"), ["line 2", "output_tokens is 0", "between 1"]),
    "fraction": (own("0,100.5,20"), ["line 2", "prompt_tokens is 100.5", "whole number"]),
    "too long": (own("0,1000001,20"), ["line 2", "1,000,001", "1,000,000"]),
    "enormous": (own("0,1e300,20"), ["line 2", "1e+300"]),
    "beyond 64 bits": (own("0," + "9" * 40 + ",20"), ["line 2", "1e+40"]),
    "beyond doubles": (own("0," + "9" * 400 + ",20"), ["line 2", "inf"]),
    "blank lines before": (b"\n\n" + own("0,100,20", "", "1,x,30"), ["line 6", "'x'"]),
    "quoted newline before": (
        b'arrival_s,note,prompt_tokens,output_tokens\n0,"a\nb",1,1\n1,c,x,1\n',
        ["line 4", "'x'"],
    ),
    "open quote": (own('0,"100,20', "1,100,20"), ["not a CSV"]),
    "latin-1": (own("0,100,20") + "1,100,20,é\n".encode("latin-1"), ["line 3", "0xe9", "UTF-8"]),
    "utf-16": ((OWN + "0,1,2\n").encode("utf-16"), ["UTF-16", "UTF-8"]),
    "binary": (bytes(range(256)) * 10, ["binary"]),
    "zip": (b"PK\x03\x04\x14\x00\x00", ["binary"]),
    "one word": (b"hello", ["'hello'", "arrival_s"]),
    "html": (b"<!doctype html>\n<html><body>", ["html", "arrival_s"]),
    "bad clock": ((AZURE + "2023-11-16 18:17:03,1,2\nyesterday,1,2\n").encode(), ["line 3", "'yesterday'"]),
    "no clock": ((AZURE + ",1,2\n").encode(), ["line 2", "TIMESTAMP"]),
    "far clock": ((AZURE + "2000-01-01,1,2\n2020-01-01,1,2\n").encode(), ["line 3", "TIMESTAMP"]),
    "azure no prompt": ((AZURE + "2023-11-16,0,2\n").encode(), ["line 2", "ContextTokens is 0"]),
    "json array": (json.dumps([entry()]).encode(), ["JSON array", "one line"]),
    "nested json": (json.dumps({"requests": [entry()]}).encode(), ["line 1", "timestamp is missing"]),
    "pretty json": (json.dumps(entry(), indent=1).encode(), ["line 1", "one JSON object"]),
    "json text": (mooncake(entry()) + b"\nhello", ["line 2", "one JSON object"]),
    "json list line": (mooncake(entry()) + b"\n[1, 2]", ["line 2", "not a JSON object"]),
    "json key": (b'{"timestamp": 0, "input_length": 5}', ["line 1", "output_length is missing"]),
    "json string": (mooncake(entry(prompt="5")), ["line 1", "input_length is '5'"]),
    "json null": (mooncake(entry(prompt=None)), ["line 1", "input_length is 'None'"]),
    "json boolean": (mooncake(entry(prompt=True)), ["line 1", "input_length is 'True'"]),
    "json empty text": (mooncake(entry(prompt="")), ["line 1", "input_length"]),
    "json nan": (b'{"timestamp": NaN, "input_length": 5, "output_length": 5}', ["line 1", "nan ms"]),
    "json negative": (mooncake(entry(timestamp=-5)), ["line 1", "timestamp is -5 ms"]),
    "json enormous": (mooncake(entry(prompt=10**400)), ["line 1", "inf"]),
    "json huge text": (b'{"timestamp": ' + b"9" * 9000 + b"}", ["line 1"]),
    "json deep": (b'{"timestamp": ' + b"[" * 100_000, ["line 1"]),
    "json fraction": (mooncake(entry(prompt=5.5)), ["line 1", "5.5", "whole number"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_say_what_to_do(case: str) -> None:
    """Oracle: by hand: one short printable line with file, line, value, limit or way out."""
    data, words = BAD[case]
    with pytest.raises(ScenarioError) as caught:
        read_trace(data, name="bad.csv")
    message = str(caught.value)
    assert message.startswith("bad.csv")
    assert all(word in message for word in words), message
    assert message.isprintable()
    assert len(message) < 500


def test_limits_of_size(tmp_path, monkeypatch) -> None:
    """Oracle: the stated limits, lowered where a real file would be slow to make."""
    with pytest.raises(ScenarioError, match=r"longer than 5 MB"):
        read_trace(b"x" * 5_000_001, name="up.csv", max_bytes=read.MAX_UPLOAD_BYTES)
    path = tmp_path / "long.csv"
    path.write_bytes(own(*["0,1,1"] * 50))
    with pytest.raises(ScenarioError, match=r"long\.csv is longer"):
        read_trace(path, max_bytes=100)
    monkeypatch.setattr(formats, "MAX_ROWS", 10)
    with pytest.raises(ScenarioError, match="limit is 10"):
        read_trace(path)
    with pytest.raises(ScenarioError, match="limit is 10"):
        read_trace(mooncake(*[entry()] * 20))


def test_unreadable_files(tmp_path) -> None:
    """Oracle: one line for a missing file, a folder and a path no system has."""
    for path in (tmp_path / "missing.csv", tmp_path, "a\x00b"):
        with pytest.raises(ScenarioError, match="cannot be read"):
            read_trace(path)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200)
    | st.binary(max_size=60).map(lambda data: OWN.encode() + data)
    | st.text(alphabet='0129.,-+einfa"\n\r ;{}[]:\t#', max_size=80).map(lambda text: (OWN + text).encode())
    | st.text(alphabet='0129.,-+:TZ \n"', max_size=80).map(lambda text: (AZURE + text).encode())
    | st.text(alphabet='{}[]":,0129einput_lh \n', max_size=80).map(lambda text: ("{" + text).encode())
)
def test_no_content_raises_anything_else(data: bytes) -> None:
    """Oracle: a trace within its limits, or a `ScenarioError`."""
    try:
        trace = read_trace(data)
    except ScenarioError as error:
        assert str(error).isprintable()
        return
    assert isinstance(trace, Requests)
    assert np.all(np.diff(trace.arrival_s) >= 0)
    assert np.all((trace.arrival_s >= 0) & np.isfinite(trace.arrival_s))
    for lengths in (trace.prompt_tokens, trace.output_tokens):
        assert np.all((lengths >= 1) & (lengths <= read.MAX_TOKENS))


def test_many_rows_are_read_to_their_last_digit() -> None:
    """Oracle: the numbers that were written."""
    random = np.random.default_rng(0)
    arrival_s, prompts = np.cumsum(random.exponential(0.1, 50_000)).round(6), random.integers(1, 5000, 50_000)
    rows = zip(arrival_s.tolist(), prompts.tolist(), strict=True)
    data = (OWN + "".join(f"{arrival},{prompt},7\n" for arrival, prompt in rows)).encode()
    trace = read_trace(data)
    assert np.array_equal(trace.arrival_s, arrival_s)
    assert np.array_equal(trace.prompt_tokens, prompts)


# A trace as traffic


def test_a_trace_becomes_the_traffic() -> None:
    """Oracle: the stated rules of `with_trace`, and what `draw` then gives."""
    trace = read_trace(own("0,100,20", "1,200,30", "2,300,40"))
    scenario = with_trace(Scenario(), trace)
    assert (scenario.arrivals, scenario.requests) == ("trace", 3)
    drawn = requests_sent(scenario, trace)
    assert drawn.arrival_s.tolist() == [0, 1, 2]
    assert drawn.prompt_tokens.tolist() == [100, 200, 300]
    assert with_trace(Scenario(arrivals="closed"), trace).arrivals == "closed"
    assert with_trace(Scenario(requests=2), trace).requests == 2
    assert with_trace(Scenario(), trace, given={"requests", "arrivals"}) == Scenario()
