"""A running OpenAI-compatible server: prompts of known lengths, and the times of its answers."""

from __future__ import annotations

import http.client
import json
import math
import random
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from sim_core.fields.errors import ScenarioError, shown

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
MAX_LINE = 1_000_000


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
        return f"a prompt of {probe.prompt_tokens:,} tokens"
    return f"{probe.streams} streams with a context of {probe.prompt_tokens:,} tokens"


# --- the server -----------------------------------------------------------------------------------


class OpenAIServer:
    """A server that speaks the OpenAI completions API over HTTP, streamed.

    Raises
    ------
    ScenarioError
        If the address is none, nothing answers there, or the model is not served.
    """

    def __init__(self, url: str, model: str, api_key: str = "", timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise ScenarioError(f"{shown(url)} is no address of a server; write http://HOST:PORT/v1.")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, port
        self._path, self._model, self._timeout_s = parts.path.rstrip("/"), model, timeout_s
        self._headers = {"Content-Type": "application/json"}
        self._headers |= {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._extras: dict[str, Any] = {"ignore_eos": True, "stream_options": {"include_usage": True}}
        self._ids = True
        self._random = random.Random(0)
        self.longest = self._check_model()

    def _check_model(self) -> int:
        """Return the longest context of the model, or a guess; raise unless the model is served."""
        answer = self._json("GET", "/models")
        known = [str(item.get("id")) for item in answer.get("data", []) if isinstance(item, dict)]
        if not known:
            raise ScenarioError(f"{self._where('/models')} names no model; the address may lack its /v1.")
        if self._model not in known:
            raise ScenarioError(
                f"the server has no model {shown(self._model)}; it serves {', '.join(known[:5])}."
            )
        served = next(item for item in answer["data"] if item.get("id") == self._model)
        longest = served.get("max_model_len")
        return int(longest) if isinstance(longest, int) and 16 < longest < 10**8 else 4096 + ANSWER

    def run(self, probe: Probe) -> list[Stream]:
        """Start the streams together and return what was seen of them."""
        bodies = [self._body(probe) for _ in range(probe.streams)]
        found: list[Stream | Exception] = [ScenarioError("no answer")] * probe.streams
        gate = threading.Barrier(probe.streams)

        def one(place: int) -> None:
            try:
                gate.wait(self._timeout_s)
                found[place] = self._stream(bodies[place], probe)
            except Exception as error:
                found[place] = error

        threads = [threading.Thread(target=one, args=(place,), daemon=True) for place in range(probe.streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self._timeout_s + 10)
        for item in found:
            if isinstance(item, _Refused) and self._simplify():
                return self.run(probe)
            if isinstance(item, Exception):
                raise item if isinstance(item, ScenarioError) else self._failed(item)
        return [item for item in found if isinstance(item, Stream)]

    def _simplify(self) -> bool:
        """Ask for less next time: no extensions, then words in place of ids; False if nothing is left."""
        if self._extras:
            self._extras = {}
            return True
        if self._ids:
            self._ids = False
            return True
        return False

    def _body(self, probe: Probe) -> bytes:
        count = probe.prompt_tokens
        ids = [self._random.randrange(LOWEST_ID, HIGHEST_ID) for _ in range(count)]
        prompt = ids if self._ids else " ".join(self._random.choice(WORDS) for _ in range(count))
        extras = self._extras | ({"min_tokens": probe.output_tokens} if self._extras else {})
        wanted = {"model": self._model, "prompt": prompt, "max_tokens": probe.output_tokens, "stream": True}
        return json.dumps(wanted | {"temperature": 0} | extras).encode()

    def _stream(self, body: bytes, probe: Probe) -> Stream:
        """Send one request and return when its pieces came."""
        with closing(self._connection()) as connection:
            sent_s = time.perf_counter()
            connection.request("POST", f"{self._path}/completions", body, self._headers)
            with connection.getresponse() as response:
                self._check_status(response, "/completions")
                pieces, usage = _read_events(response)
        if not pieces:
            raise ScenarioError("the server's stream had no token; is it a model that generates text?")
        prompt_tokens = usage.get("prompt_tokens") or probe.prompt_tokens
        output_tokens = usage.get("completion_tokens") or len(pieces)
        return Stream(sent_s, tuple(pieces), int(prompt_tokens), int(output_tokens))

    def _json(self, method: str, path: str) -> dict[str, Any]:
        try:
            with closing(self._connection()) as connection:
                connection.request(method, self._path + path, headers=self._headers)
                with connection.getresponse() as response:
                    self._check_status(response, path)
                    answer = json.loads(response.read(5_000_000))
        except ScenarioError:
            raise
        except (ValueError, RecursionError):
            raise ScenarioError(
                f"{self._where(path)} answers no JSON; the address may lack its /v1, or be another service."
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from None
        return answer if isinstance(answer, dict) else {}

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _check_status(self, response: http.client.HTTPResponse, path: str) -> None:
        """Raise unless the server has accepted the request."""
        if response.status == 200:
            return
        text = " ".join(response.read(2000).decode("utf-8", "replace").split())
        if response.status in (400, 422) and path == "/completions":
            raise _Refused(f"the server refuses the request ({response.status}): {_printable(text)[:200]}")
        reason = _REASONS.get(response.status, _printable(text)[:200])
        raise ScenarioError(f"{self._where(path)} answers {response.status}: {reason}")

    def _failed(self, error: Exception) -> ScenarioError:
        if isinstance(error, TimeoutError):
            return ScenarioError(f"{self._where('')} has not answered for {self._timeout_s:.0f} s.")
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ScenarioError(f"{self._where('')} cannot be reached: {_printable(str(reason))[:200]}.")

    def _where(self, path: str) -> str:
        port = f":{self._port}" if self._port else ""
        return f"{'https' if self._secure else 'http'}://{self._host}{port}{self._path}{path}"


class _Refused(ScenarioError):
    """A request that the server understands and does not take."""


_REASONS = {
    401: "an API key is needed; set OPENAI_API_KEY.",
    403: "the API key is not allowed to do this.",
    404: "there is no such place; the address usually ends in /v1.",
    429: "too many requests; the server limits the rate, so its own speed cannot be measured.",
    503: "the server is not ready yet; try again when the model is loaded.",
}


def _printable(text: str) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def _read_events(response: Iterable[bytes]) -> tuple[list[float], dict[str, Any]]:
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
            choice = choices[0]
            if choice.get("text") or (choice.get("text") == "" and not choice.get("finish_reason")):
                pieces.append(now_s)
            elif choice.get("finish_reason"):
                closed_s = now_s
    counted = usage.get("completion_tokens")
    if math.isfinite(closed_s) and (not pieces or (isinstance(counted, int) and counted > len(pieces))):
        pieces.append(closed_s)
    return pieces, usage


def _events(response: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a stream of server-sent events."""
    for line in response:
        if len(line) > MAX_LINE:
            raise ScenarioError("the server's stream has a line of more than a million characters.")
        head, _, value = line.strip().partition(b":")
        if head != b"data" or value.strip() == b"[DONE]":
            continue
        try:
            event = json.loads(value)
        except (ValueError, RecursionError):
            raise ScenarioError(
                "the server's stream holds no JSON; is it an OpenAI-compatible one?"
            ) from None
        if isinstance(event, dict):
            if "error" in event:
                raise ScenarioError(f"the server reports an error: {_printable(str(event['error']))[:200]}")
            yield event
