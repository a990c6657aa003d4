"""A running OpenAI-compatible server: prompts of known lengths, and the times of its answers.

Nothing that a server sends is trusted: one deadline holds for all requests together, whatever stage they are
in; lines, streams and answers have a most; counts that cannot be are left out with a note.
"""

from __future__ import annotations

import http.client
import json
import math
import queue
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from sim_core.evidence.own.formats.served import Served, engine_in
from sim_core.fields.errors import ScenarioError, shown
from sim_core.fields.texts import counted, printable

ANSWER = 48  # tokens of a stream in a batch

REQUEST_TIMEOUT_S = 120.0
WORDS = (
    "stone",
    "river",
    "seven",
    "lamp",
    "north",
    "paper",
    "green",
    "ladder",
    "quiet",
    "copper",
    "window",
    "salt",
)
LOWEST_ID, HIGHEST_ID = 100, 5000  # ids that every vocabulary has
MAX_LINE = 100_000  # bytes of an event; one with a token has some hundred
MAX_STREAM = 4_000_000  # bytes of an answer
MAX_LIST = 2_000_000  # bytes of the list of models
ENGINE_TIMEOUT_S = 5.0  # for each place that may tell the engine
SPARE_TOKENS = 100  # that a server's count may have beyond a few times what was sent or asked for

Answer = TypeVar("Answer")
Call = Callable[[http.client.HTTPConnection], Answer]


class OutOfTime(ScenarioError):
    """The time for the whole measurement is over."""


class Probe(NamedTuple):
    """Streams to be started together: how many, how long their prompts and their answers are. [tokens]"""

    streams: int
    prompt_tokens: int
    output_tokens: int


class Stream(NamedTuple):
    """What a client saw of one request: when it was sent and when each piece of the answer came. [s]

    Lengths are the server's own count where it gives one.
    """

    sent_s: float
    pieces_s: tuple[float, ...]
    prompt_tokens: int
    output_tokens: int


class Server(Protocol):
    """Anything that runs a probe; the real one talks HTTP."""

    def run(self, probe: Probe) -> list[Stream]:
        """Start the streams together and return what was seen of them."""


def prompt_words(probe: Probe) -> str:
    if probe.output_tokens == 1:
        return f"a prompt of {counted(probe.prompt_tokens, 'token')}"
    return f"{counted(probe.streams, 'stream')} with a context of {counted(probe.prompt_tokens, 'token')}"


# --- the server -----------------------------------------------------------------------------------


class OpenAIServer:
    """A server that speaks the OpenAI completions API over HTTP, streamed.

    `seconds` is the time for everything, from here on; `notes` says what of its answers was not believed.

    Raises
    ------
    ScenarioError
        If the address is none, nothing answers there, or the model is not served.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str = "",
        timeout_s: float = REQUEST_TIMEOUT_S,
        seconds: float = math.inf,
    ) -> None:
        self._until_s = time.monotonic() + seconds
        self._seconds = seconds
        self._secure, self._host, self._port, self._path = _parts_of(url)
        self._model, self._timeout_s = model, timeout_s
        self._headers = {"Content-Type": "application/json"} | _authorization(api_key)
        self._extras: dict[str, Any] = {"ignore_eos": True, "stream_options": {"include_usage": True}}
        self._ids = True
        self._random = random.Random(0)
        self._owner = ""
        self.notes: list[str] = []
        self.longest = self._check_model()

    def _check_model(self) -> int:
        """Return the longest context of the model, or a guess; raise unless the model is served."""
        [answer] = self._together([self._list_models])
        listed = answer.get("data") if isinstance(answer, dict) else None
        served = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        known = [item["id"] for item in served if isinstance(item.get("id"), str)]
        if not known:
            raise ScenarioError(f"{self._where('/models')} names no model; the address may lack its /v1.")
        if self._model not in known:
            names = ", ".join(printable(name)[:60] for name in known[:5])
            raise ScenarioError(f"the server has no model {shown(self._model)}; it serves {names}.")
        mine = next(item for item in served if item.get("id") == self._model)
        self._owner, longest = str(mine.get("owned_by", ""))[:60], mine.get("max_model_len")
        return longest if isinstance(longest, int) and 16 < longest < 10**8 else 4096 + ANSWER

    def served(self) -> Served:
        """Return which engine the server is, from the owner of its models, or from what only one has."""
        if name := engine_in(self._owner):
            return Served(name, f"owned_by: {printable(self._owner)}")
        for place, engine_of in _ENGINE_PLACES.items():
            try:
                [text] = self._together([self._text_call(place)], ENGINE_TIMEOUT_S)
            except ScenarioError:  # it has no such place, or does not show it
                continue
            if name := engine_of(text):
                return Served(name, place)
        return Served()

    def run(self, probe: Probe) -> list[Stream]:
        """Start the streams together and return what was seen of them."""
        while True:
            calls = [self._stream_call(self._body(probe), probe) for _ in range(probe.streams)]
            try:
                return self._together(calls)
            except _Refused:
                if not self._simplify():
                    raise

    def _simplify(self) -> bool:
        """Ask for less next time: no extensions, then words in place of ids; False if nothing is left."""
        if self._extras:
            self._extras = {}
            return True
        if self._ids:
            self._ids = False
            return True
        return False

    # One deadline

    def _together(self, calls: Sequence[Call[Answer]], timeout_s: float = math.inf) -> list[Answer]:
        """Return the answers of calls that begin at once, each in a thread with a connection of its own.

        No stage of a call can outlast the deadline: names are looked up and connections made in the threads
        too, and what still runs at the end is cut off, as it is when another call fails.
        """
        timeout_s = min(timeout_s, self._timeout_s)
        connections = [self._connection(timeout_s) for _ in calls]
        answers: queue.SimpleQueue[tuple[int, Answer | Exception]] = queue.SimpleQueue()
        begin = threading.Event()

        def one(place: int) -> None:
            begin.wait()
            with closing(connections[place]) as connection:
                try:
                    answers.put((place, calls[place](connection)))
                except Exception as error:
                    answers.put((place, error))

        try:
            _start([threading.Thread(target=one, args=(place,), daemon=True) for place in range(len(calls))])
            begin.set()
            found = dict(self._next(answers, timeout_s) for _ in calls)
        finally:
            begin.set()
            for connection in connections:
                connection.cut_off()
        return [found[place] for place in range(len(calls))]

    def _next(
        self, answers: queue.SimpleQueue[tuple[int, Answer | Exception]], timeout_s: float
    ) -> tuple[int, Answer]:
        """Return the next answer; raise what failed, or that it has taken too long."""
        left_s = self._left_s()
        try:
            place, answer = answers.get(timeout=min(left_s, timeout_s))
        except queue.Empty:
            if left_s > timeout_s:
                raise self._failed(TimeoutError()) from None
            raise self._out_of_time() from None
        if isinstance(answer, Exception):
            raise answer if isinstance(answer, ScenarioError) else self._failed(answer)
        return place, answer

    def _left_s(self) -> float:
        """Return the time that is left for everything; raise if there is none. [s]"""
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise self._out_of_time()
        return left_s

    def _out_of_time(self) -> OutOfTime:
        return OutOfTime(f"{self._where('')} has not answered within the {self._seconds:g} s given.")

    def _connection(self, timeout_s: float) -> _Connection:
        timeout_s = min(timeout_s, self._left_s())
        if self._secure:
            context = ssl.create_default_context()
            return _SecureConnection(self._host, self._port, timeout=timeout_s, context=context)
        return _Connection(self._host, self._port, timeout=timeout_s)

    # Requests

    def _body(self, probe: Probe) -> bytes:
        count = probe.prompt_tokens
        ids = [self._random.randrange(LOWEST_ID, HIGHEST_ID) for _ in range(count)]
        prompt = ids if self._ids else " ".join(self._random.choice(WORDS) for _ in range(count))
        extras = self._extras | ({"min_tokens": probe.output_tokens} if self._extras else {})
        wanted = {"model": self._model, "prompt": prompt, "max_tokens": probe.output_tokens, "stream": True}
        return json.dumps(wanted | {"temperature": 0} | extras).encode()

    def _stream_call(self, body: bytes, probe: Probe) -> Call[Stream]:
        """Return a call that sends one request and says when its pieces came."""

        def call(connection: http.client.HTTPConnection) -> Stream:
            sent_s = time.perf_counter()
            connection.request("POST", f"{self._path}/completions", body, self._headers)
            with connection.getresponse() as response:
                self._check_status(response, "/completions")
                pieces, usage = _read_events(response)
            if not pieces:
                raise ScenarioError("the server's stream had no token; is it a model that generates text?")
            prompt_tokens = self._count(usage, "prompt_tokens", probe.prompt_tokens)
            output_tokens = self._count(usage, "completion_tokens", len(pieces), probe.output_tokens)
            return Stream(sent_s, tuple(pieces), prompt_tokens, output_tokens)

        return call

    def _count(self, usage: dict[str, Any], key: str, seen: int, asked: int = 0) -> int:
        """Return the server's count of tokens if it can be, else what was seen, with a note.

        A word is a few tokens, and a piece may hold several; a hundred times as many is no count.
        """
        count = usage.get(key)
        if count is None:
            return seen
        most = 10 * max(seen, asked) + SPARE_TOKENS
        if isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= most:
            return count
        note = f"The server's {key} cannot be, such as {printable(shown(count))} for {seen:,}; left out."
        if not any(key in known for known in self.notes):
            self.notes.append(note)
        return seen

    def _list_models(self, connection: http.client.HTTPConnection) -> object:
        connection.request("GET", f"{self._path}/models", headers=self._headers)
        with connection.getresponse() as response:
            self._check_status(response, "/models")
            text = response.read(MAX_LIST + 1)
        if len(text) > MAX_LIST:
            raise ScenarioError(f"{self._where('/models')} answers more than {MAX_LIST / 1e6:g} MB.")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ScenarioError(
                f"{self._where('/models')} answers no JSON; the address may lack its /v1, "
                "or be another service."
            ) from None

    def _text_call(self, place: str) -> Call[str]:
        """Return a call for the text at a place of the server itself, beside its /v1; cut off if long."""

        def call(connection: http.client.HTTPConnection) -> str:
            connection.request("GET", f"{self._path.removesuffix('/v1')}{place}", headers=self._headers)
            with connection.getresponse() as response:
                self._check_status(response, place)
                return response.read(MAX_LIST).decode("utf-8", "replace")

        return call

    def _check_status(self, response: http.client.HTTPResponse, path: str) -> None:
        """Raise unless the server has accepted the request."""
        if response.status == 200:
            return
        text = printable(" ".join(response.read1(2000).decode("utf-8", "replace").split()))[:200]
        if response.status in (400, 422) and path == "/completions":
            raise _Refused(f"the server refuses the request ({response.status}): {text}")
        if 300 <= response.status < 400:
            text = f"it points to {shown(response.headers.get('Location', ''), 200)}; give that address."
        reason = _REASONS.get(response.status, text)
        raise ScenarioError(f"{self._where(path)} answers {response.status}: {printable(reason)}")

    def _failed(self, error: Exception) -> ScenarioError:
        if isinstance(error, TimeoutError):
            if self._until_s - time.monotonic() <= 0.1:
                return self._out_of_time()
            return ScenarioError(f"{self._where('')} has not answered for {self._timeout_s:.0f} s.")
        if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.InvalidURL):
            what = printable(str(error) or type(error).__name__)[:200]
            return ScenarioError(f"{self._where('')} does not answer as HTTP does: {what}.")
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ScenarioError(f"{self._where('')} cannot be reached: {printable(str(reason))[:200]}.")

    def _where(self, path: str) -> str:
        port = f":{self._port}" if self._port else ""
        return printable(f"{'https' if self._secure else 'http'}://{self._host}{port}{self._path}{path}")


# Which engine answers


def _engine_by_metrics(text: str) -> str:
    """Return the engine whose metrics these are: Prometheus text, or TensorRT-LLM's list of iterations."""
    found = {engine_in(name) for name in _METRIC_NAMES.findall(text)}
    if text.lstrip().startswith("[") and "inflightBatchingStats" in text:
        found.add("tensorrt-llm")
    return found.pop() if len(found) == 1 else ""


def _engine_by_version(text: str) -> str:
    """Return the engine by its version: named there, or vLLM, which tells a bare number below 1."""
    version = _object_in(text).get("version")
    if not isinstance(version, str):
        return ""
    return engine_in(text) or ("vllm" if re.match(r"0\.\d+\.\d", version) else "")


def _object_in(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_METRIC_NAMES = re.compile(r"^(?:# (?:HELP|TYPE) )?(vllm|sglang|trtllm|tensorrt_llm)[:_]", re.MULTILINE)
_SGLANG_KEYS = {"tp_size", "mem_fraction_static", "model_path", "internal_states", "schedule_policy"}
_ENGINE_PLACES: dict[str, Callable[[str], str]] = {  # the surest first: TensorRT-LLM tells a version too
    "/metrics": _engine_by_metrics,
    "/get_server_info": lambda text: "sglang" if _SGLANG_KEYS & _object_in(text).keys() else "",
    "/version": _engine_by_version,
}


class _Connection(http.client.HTTPConnection):
    """A connection that another thread may cut off, also where its answer has taken the socket over."""

    connected: socket.socket | None = None
    is_over = False

    def connect(self) -> None:
        super().connect()
        self.connected = self.sock
        if self.is_over:
            raise TimeoutError

    def cut_off(self) -> None:
        """End what the connection still does; its own thread then closes it."""
        self.is_over = True
        if self.connected is not None:
            with suppress(OSError):  # it has been closed
                socket.socket.shutdown(self.connected, socket.SHUT_RDWR)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    pass


class _Refused(ScenarioError):
    """A request that the server understands and does not take."""


_REASONS = {
    401: "an API key is needed; set OPENAI_API_KEY.",
    403: "the API key is not allowed to do this.",
    404: "there is no such place; the address usually ends in /v1.",
    429: "too many requests; the server limits the rate, so its own speed cannot be measured.",
    503: "the server is not ready yet; try again when the model is loaded.",
}


def _parts_of(url: str) -> tuple[bool, str, int | None, str]:
    """Return whether an address is secure, its host, its port and its path."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        good = parts.scheme in ("http", "https") and parts.hostname and len(parts.hostname) < 254
        if good and url.isprintable() and parts.path.isascii() and " " not in url:
            return parts.scheme == "https", str(parts.hostname), parts.port, parts.path.rstrip("/")
    except ValueError:  # a port or an IPv6 address that is none
        pass
    raise ScenarioError(f"{shown(url)} is no address of a server; write http://HOST:PORT/v1.")


def _authorization(api_key: str) -> dict[str, str]:
    if not (api_key.isascii() and api_key.isprintable()):
        raise ScenarioError("the API key holds characters that no key has; copy it again, without line ends.")
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _start(threads: Sequence[threading.Thread]) -> None:
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:
        raise ScenarioError(
            f"this machine does not run {len(threads):,} streams at once; give fewer --streams."
        ) from None


def _read_events(response: http.client.HTTPResponse) -> tuple[list[float], dict[str, Any]]:
    """Return when pieces of text came, and the usage that the server counts at the end."""
    pieces: list[float] = []
    usage: dict[str, Any] = {}
    closed_s = math.nan  # an empty last piece is a token of its own if the count says so
    for event in _events(response):
        now_s = time.perf_counter()
        counted = event.get("usage")
        usage = counted if isinstance(counted, dict) else usage
        choices = event.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            text, reason = choices[0].get("text"), choices[0].get("finish_reason")
            if isinstance(text, str) and (text or not reason):
                pieces.append(now_s)
            elif reason:
                closed_s = now_s
    counted = usage.get("completion_tokens")
    if math.isfinite(closed_s) and (not pieces or (isinstance(counted, int) and counted > len(pieces))):
        pieces.append(closed_s)
    return pieces, usage


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a stream of server-sent events, up to its end or `[DONE]`."""
    for line in _lines(response):
        head, _, value = line.strip().partition(b":")
        if head != b"data":
            continue
        if value.strip() == b"[DONE]":
            return
        try:
            event = json.loads(value)
        except (ValueError, RecursionError):
            raise ScenarioError(
                "the server's stream holds no JSON; is it an OpenAI-compatible one?"
            ) from None
        if isinstance(event, dict):
            if "error" in event:
                raise ScenarioError(f"the server reports an error: {printable(str(event['error']))[:200]}")
            yield event


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the lines of a stream, none longer than `MAX_LINE`, not more than `MAX_STREAM` in all. [bytes]"""
    total = 0
    while line := response.readline(MAX_LINE + 1):
        total += max(len(line), 40)  # a blank line takes time, too
        if len(line) > MAX_LINE:
            raise ScenarioError(f"the server's stream has a line of more than {MAX_LINE:,} characters.")
        if total > MAX_STREAM:
            raise ScenarioError(f"the server's stream goes on beyond {MAX_STREAM / 1e6:g} MB.")
        yield line
