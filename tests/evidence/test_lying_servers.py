"""Servers that lie, stall or flood: one line, in the time given, in little memory, every socket closed."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from sim_core.command import own
from sim_core.command.main import main
from sim_core.evidence.own.probe import measure_server
from sim_core.evidence.own.server import OpenAIServer, Probe
from sim_core.fields.errors import ScenarioError
from tests.loops import each

SECONDS = 1.0
SPARE_S = 60.0  # for a busy machine to notice that the time is over; servers that stall do so for ever
Send = Callable[[socket.socket, dict], None]
HEAD = b"HTTP/1.1 200 OK\r\n"
EVENTS = HEAD + b"Content-Type: text/event-stream\r\nConnection: close\r\n\r\n"
PIECE = b'data: {"choices":[{"text":"a"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def sized(body: bytes, *headers: bytes) -> bytes:
    return (
        HEAD + b"".join(line + b"\r\n" for line in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


def listed(models: object) -> bytes:
    return sized(json.dumps({"data": models}).encode())


GOOD_LIST = listed([{"id": "m", "max_model_len": 600}])


def says(data: bytes) -> Send:
    return lambda client, asked: client.sendall(data)


def repeats(head: bytes, data: bytes, pause_s: float = 0.0) -> Send:
    def send(client: socket.socket, asked: dict) -> None:
        client.sendall(head)
        while True:
            client.sendall(data)
            time.sleep(pause_s)

    return send


def silent(client: socket.socket, asked: dict) -> None:
    client.recv(1)  # until the other side ends


def streams(usage: object = None, piece: bytes = PIECE, end: bytes = DONE, then: Send | None = None) -> Send:
    def send(client: socket.socket, asked: dict) -> None:
        client.sendall(EVENTS + piece)
        for _ in range(asked.get("max_tokens", 1) - 1):
            time.sleep(0.001)
            client.sendall(piece)
        if usage is not None:
            client.sendall(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
        client.sendall(end)
        if then is not None:
            then(client, asked)

    return send


class Liar:
    """A server on this machine: what it says to a GET and to a POST, and how many connections are open."""

    def __init__(self, get: Send, post: Send) -> None:
        self.get, self.post, self.open = get, post, 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with self._lock:
            self.open += 1
        with client, contextlib.suppress(OSError, ValueError):
            head, asked = self._read(client)
            (self.get if head.startswith(b"GET") else self.post)(client, asked)
        with self._lock:
            self.open -= 1

    @staticmethod
    def _read(client: socket.socket) -> tuple[bytes, dict]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(65536) or b"\r\n\r\n"
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        while length and len(body) < int(length[1]):
            body += client.recv(65536)
        return head, json.loads(body) if body else {}

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def lies(get: Send = says(GOOD_LIST), post: Send = streams()) -> Iterator[Liar]:  # noqa: B008
    server = Liar(get, post)
    try:
        yield server
        until_s = time.monotonic() + SPARE_S
        while server.open and time.monotonic() < until_s:
            time.sleep(0.01)
        assert server.open == 0, "a connection is still open"
    finally:
        server.close()


def measured(server: Liar, streams: int = 4) -> str:
    """Return what becomes of measuring a server, in one line; fail if it takes too long."""
    started_s = time.monotonic()
    try:
        client = OpenAIServer(server.address, "m", seconds=SECONDS)
        found = measure_server(client, "m", most_streams=streams, longest=client.longest, seconds=SECONDS)
        words = " ".join([found.profile.source, *client.notes])
    except ScenarioError as error:
        words = str(error)
    assert time.monotonic() - started_s < SECONDS + SPARE_S
    assert words.isprintable()
    assert len(words) < 1000
    return words


# --- the list of models ----------------------------------------------------------------------------

LISTS = {
    "null": (says(listed(None)), "names no model"),
    "number": (says(listed(5)), "names no model"),
    "texts": (says(listed(["m"])), "names no model"),
    "list": (says(sized(b"[1]")), "names no model"),
    "ids that are no texts": (says(listed([{"id": 5}, {"id": None}, {"id": ["m"]}])), "names no model"),
    "id of a megabyte": (says(listed([{"id": "\x1b[31m" + "x" * 10**6}])), "it serves ?[31mxxx"),
    "NaN": (says(sized(b'{"data": NaN}')), "names no model"),
    "deep": (says(sized(b"[" * 100_000)), "answers no JSON"),
    "digits": (says(sized(b"9" * 100_000)), "answers no JSON"),
    "more than the limit": (says(sized(b" " * 3_000_000)), "answers more than 2 MB"),
    "gzip of a gigabyte": (
        says(sized(gzip.compress(bytes(10**7)), b"Content-Encoding: gzip")),
        "answers no JSON",
    ),
    "redirect": (
        says(HEAD.replace(b"200", b"302") + b"Location: http://a\x07.b/\r\n\r\n"),
        "answers 302: it points to",
    ),
    "no HTTP": (says(b"220 ftp\r\n"), "does not answer as HTTP does"),
    "no status": (says(b"HTTP/1.1 abc\r\n\r\n"), "does not answer as HTTP does"),
    "status of 9 digits": (says(b"HTTP/1.1 200000000 OK\r\n\r\n"), "does not answer as HTTP does"),
    "HTTP 9": (says(b"HTTP/9.9 200 OK\r\n\r\n{}"), "does not answer as HTTP does"),
    "HTTP 0.9": (says(b"HTTP/0.9 200 OK\r\n\r\n{}"), ""),
    "nothing": (says(b""), "does not answer as HTTP does"),
    "silence": (silent, "has not answered within the 1 s"),
    "drip of the status": (repeats(b"", b"H", 0.1), "has not answered within the 1 s"),
    "drip of headers": (repeats(HEAD + b"X: ", b"y", 0.1), "has not answered within the 1 s"),
    "drip of the body": (
        repeats(HEAD + b"Content-Length: 999999\r\n\r\n", b" ", 0.1),
        "has not answered within the 1 s",
    ),
    "headers without end": (repeats(HEAD, b"X: y\r\n" * 1000), "does not answer as HTTP does"),
    "header without end": (repeats(HEAD + b"X: ", b"y" * 65536), "does not answer as HTTP does"),
    "status without end": (repeats(b"HTTP/1.1 200 ", b"y" * 65536), "does not answer as HTTP does"),
    "continue without end": (repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "has not answered within"),
    "body without end": (repeats(HEAD + b"\r\n", b" " * 65536), "answers more than 2 MB"),
    "chunks without end": (
        repeats(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b" " * 1024 + b"\r\n"),
        "answers more than 2 MB",
    ),
    "chunk of no size": (
        says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n"),
        "does not answer as HTTP does",
    ),
    "chunk of all sizes": (
        says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
        "does not answer as HTTP does",
    ),
    "error without end": (repeats(b"HTTP/1.1 500 X\r\n\r\n", b"\x1b[31m" * 1000), "answers 500: "),
    "refusal that stalls": (repeats(b"HTTP/1.1 500 X\r\nContent-Length: 9999\r\n\r\n", b"x", 0.1), ""),
}  # fmt: skip


@pytest.mark.slow
@each(LISTS)
def test_lists_of_models(name: str) -> None:
    """Oracle: the sentence, the clock, and the sockets."""
    get, words = LISTS[name]
    with lies(get=get) as server:
        assert words in measured(server)


# --- streams ---------------------------------------------------------------------------------------

STREAMS = {
    "500": (says(b"HTTP/1.1 500 X\r\nContent-Length: 1\r\n\r\nx"), "answers 500: x"),
    "always 400": (says(b"HTTP/1.1 400 X\r\nContent-Length: 1\r\n\r\nx"), "refuses the request (400)"),
    "400 without end": (repeats(b"HTTP/1.1 400 X\r\n\r\n", b"x" * 1000), "refuses the request (400)"),
    "closed": (says(b""), "does not answer as HTTP does"),
    "silence": (silent, "has not answered within the 1 s"),
    "empty stream": (says(EVENTS), "had no token"),
    "not UTF-8": (says(EVENTS + b"data: \xff\xfe\n\n"), "holds no JSON"),
    "deep": (says(EVENTS + b"data: " + b"[" * 50_000 + b"\n\n"), "holds no JSON"),
    "line without end": (repeats(EVENTS + b"data: ", b"a" * 65536), "a line of more than 100,000"),
    "events without end": (repeats(EVENTS, PIECE * 1000), "goes on beyond 4 MB"),
    "comments without end": (repeats(EVENTS, b": ping\n" * 5000), "goes on beyond 4 MB"),
    "blank lines without end": (repeats(EVENTS, b"\n" * 65536), ""),
    "drip of events": (repeats(EVENTS, PIECE, 0.1), "has not answered within the 1 s"),
    "drip of a line": (repeats(EVENTS + b"data: ", b"a", 0.05), "has not answered within the 1 s"),
    "chunks that drip": (
        repeats(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n\n\r\n", 0.05),
        "has not answered within the 1 s",
    ),
    "text null": (streams(piece=b'data: {"choices":[{"text":null}]}\n\n'), "had no token"),
    "text number": (streams(piece=b'data: {"choices":[{"text":5}]}\n\n'), "had no token"),
    "choices that are none": (streams(piece=b'data: {"choices":{"0":[]}}\n\n'), "had no token"),
    "error in colours": (
        says(EVENTS + b'data: {"error":"\\u001b[31m<b>"}\n\n'),
        "reports an error: ?[31m<b>",
    ),
}  # fmt: skip


@pytest.mark.slow
@each(STREAMS)
def test_streams(name: str) -> None:
    """Oracle: the sentence, the clock, and the sockets."""
    post, words = STREAMS[name]
    with lies(post=post) as server:
        assert words in measured(server)


@each([-5, 0, True, "x", [1], {"a": 1}, 1.5, math.nan, math.inf, 10**30, 10**17, 10**6])
def test_counts_that_cannot_be_are_left_out(count: object) -> None:
    """Oracle: what was sent and what came; a note names the count."""
    with lies(post=streams({"prompt_tokens": count, "completion_tokens": count})) as server:
        client = OpenAIServer(server.address, "m", seconds=20)
        [stream] = client.run(Probe(1, 16, 4))
        client.run(Probe(1, 16, 4))
    assert (stream.prompt_tokens, stream.output_tokens) == (16, 4)
    assert [note.split()[2] for note in client.notes] == ["prompt_tokens", "completion_tokens"]
    assert all(note.isprintable() for note in client.notes)


def test_a_stream_ends_with_done_even_if_the_server_keeps_it_open() -> None:
    """Oracle: the streams; who waits for the end of a server that never closes runs out of time."""
    with lies(post=streams(then=silent)) as server:
        client = OpenAIServer(server.address, "m", seconds=20)
        assert len(client.run(Probe(3, 16, 4))) == 3


def test_one_stream_that_fails_ends_the_others() -> None:
    """Oracle: it ends long before its time: the second of two never does, the first one fails at once."""
    turn = iter(range(100))

    def post(client: socket.socket, asked: dict) -> None:
        says(b"HTTP/1.1 500 X\r\n\r\n")(client, asked) if next(turn) == 0 else silent(client, asked)

    with lies(post=post) as server:
        client = OpenAIServer(server.address, "m", seconds=10 * SPARE_S)
        started_s = time.monotonic()
        with pytest.raises(ScenarioError, match="answers 500"):
            client.run(Probe(2, 16, 4))
        assert time.monotonic() - started_s < SPARE_S


def test_a_flood_takes_little_memory() -> None:
    """Oracle: Python's own count while 16 streams send lines without end: below 50 MB."""
    with lies(post=repeats(EVENTS + b"data: ", b"[]," * 20_000)) as server:
        client = OpenAIServer(server.address, "m", seconds=20)
        tracemalloc.start()
        try:
            with pytest.raises(ScenarioError, match="a line of more than"):
                client.run(Probe(16, 16, 4))
            assert tracemalloc.get_traced_memory()[1] < 50e6
        finally:
            tracemalloc.stop()


# --- the command -----------------------------------------------------------------------------------


def test_the_place_is_tried_before_the_server(tmp_path, capsys: pytest.CaptureFixture) -> None:
    """Oracle: no request reaches the server."""
    asked: list[int] = []
    with lies(get=lambda client, body: asked.append(1)) as server:
        out = str(tmp_path / "missing" / "mine.toml")
        assert main(["measure", server.address, "--model", "m", "--out", out]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not asked


def test_what_was_measured_is_printed_if_it_cannot_be_written(
    tmp_path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a folder that is gone after two minutes: the profile stands on standard output."""
    monkeypatch.setattr(own, "try_place", lambda path: None)
    with lies() as server:
        out = str(tmp_path / "missing" / "mine.toml")
        arguments = ["measure", server.address, "--model", "m", "--out", out, "--streams", "2"]
        assert main([*arguments, "--seconds", "5"]) == 2
    printed = capsys.readouterr()
    assert "step_tokens = [1, " in printed.out
    assert "cannot be written" in printed.err


@each(["http://h\x00st/v1", "http://[::1/v1", "http://host/a b", "http://" + "a" * 300, "http://host/\u00e4"])
def test_addresses_that_are_none(url: str) -> None:
    """Oracle: the message shows how an address looks."""
    with pytest.raises(ScenarioError, match="write http://HOST:PORT/v1"):
        OpenAIServer(url, "m")


@each(["a\nb", "ä", "a\r\nX-Other: 1"])
def test_keys_that_no_header_can_hold(key: str) -> None:
    """Oracle: one line that does not repeat the key."""
    with pytest.raises(ScenarioError, match="the API key holds characters"):
        OpenAIServer("http://127.0.0.1:9/v1", "m", key)
