"""Measuring a server from outside: a simulated one with planted constants, and a real one on this machine."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sim_core.command.main import main
from sim_core.engine.run import run
from sim_core.engine.steps import each_step
from sim_core.evidence.own.probe import PROMPTS, Measured, measure_server, observe, probe_plan
from sim_core.evidence.own.server import OpenAIServer, Probe, Stream
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.profiles import EngineProfile, read_profile, write_profile
from sim_core.scenario.request_lists import write_request_list
from sim_core.scenario.scenario import Scenario

PLANTED = EngineProfile(
    step_tokens=(1, 32, 128, 8192),
    step_time_ms=(8.0, 9.5, 12.0, 300.0),
    decode_context_ms_per_token=2e-4,
    prefill_context_ms_per_pair=4e-6,
    request_before_ms=6.0,
    request_after_ms=4.0,
    kv_blocks=100_000,
)


class Simulated:
    """A server that is the product's own engine with a planted profile, and noise on what the client sees."""

    def __init__(self, noise: float = 0.0, fails_after: int = 10**9) -> None:
        self.noise, self.left, self.probes = np.random.default_rng(0), fails_after, []
        self.share = noise

    def run(self, probe: Probe) -> list[Stream]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.probes.append(probe)
        rows = [(0.0, probe.prompt_tokens, probe.output_tokens)] * probe.streams
        scenario = Scenario(
            arrivals="trace", request_list=write_request_list(rows), requests=probe.streams,
            step_profile=write_profile(PLANTED), token_budget=8192, max_batch=256,
        )  # fmt: skip
        done = run(scenario, log=True)
        steps = each_step(done.engine.log)
        decoding = done.engine.log["decodes"][steps.row] > 0
        ends_s = steps.end_s[decoding] + done.price.request_after_s
        streams = []
        for first, last in zip(done.first_token_s, done.finished_s, strict=True):
            later = ends_s[(ends_s > first + 1e-9) & (ends_s < last + 1e-9)]
            pieces = np.concatenate([[first], later]) * np.exp(self.share * self.noise.standard_normal())
            streams.append(Stream(0.0, tuple(pieces), probe.prompt_tokens, probe.output_tokens))
        return streams


def measured(noise: float = 0.0, **options: object) -> Measured:
    return measure_server(Simulated(noise), "planted", clock=lambda: 0.0, **options)


def times_ms(profile: EngineProfile, tokens: list[int]) -> np.ndarray:
    return np.interp(tokens, profile.step_tokens, profile.step_time_ms)


# --- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [2, 5, 32])
@pytest.mark.parametrize("longest", [20, 100, 2048, 100_000])
def test_the_plan_keeps_to_its_bounds(most: int, longest: int) -> None:
    """Oracle: the arguments: streams, lengths; prompts and batches both occur; a few dozen probes."""
    probes = probe_plan(most, longest)
    assert max(probe.streams for probe in probes) <= most
    assert max(probe.prompt_tokens + probe.output_tokens for probe in probes) <= max(longest, 3)
    assert {probe.output_tokens > 1 for probe in probes} == {True, False}
    assert len(probes) <= 60


def test_an_early_end_has_a_bit_of_everything() -> None:
    """Oracle: the first third of the plan."""
    probes = probe_plan(32, 8192)
    early = probes[: len(probes) // 3]
    assert {probe.prompt_tokens for probe in early} >= set(PROMPTS)
    assert max(probe.streams for probe in early) >= 8


# --- the fit --------------------------------------------------------------------------------------


def test_a_quiet_server_is_measured_exactly() -> None:
    """Oracle: the planted profile; only the sum of the ways there and back can be known."""
    found = measured()
    profile = found.profile
    assert times_ms(profile, [1, 4, 16, 32]) == pytest.approx(times_ms(PLANTED, [1, 4, 16, 32]), rel=0.02)
    assert times_ms(profile, [1024, 4096]) == pytest.approx(times_ms(PLANTED, [1024, 4096]), rel=0.03)
    assert profile.decode_context_ms_per_token == pytest.approx(2e-4, rel=0.05)
    assert profile.prefill_context_ms_per_pair == pytest.approx(4e-6, rel=0.1)
    assert profile.request_before_ms + profile.request_after_ms == pytest.approx(10.0, rel=0.1)
    assert found.error_frac < 0.01
    assert found.finished


def test_noise_is_stated_and_averaged() -> None:
    """Oracle: 3% of noise on each stream: the stated error is about that, the profile nearer."""
    found = measured(noise=0.03)
    assert 0.003 < found.error_frac < 0.06
    assert times_ms(found.profile, [1, 32]) == pytest.approx(times_ms(PLANTED, [1, 32]), rel=0.05)
    assert times_ms(found.profile, [2048]) == pytest.approx(times_ms(PLANTED, [2048]), rel=0.08)
    assert f"{found.error_frac:.1%}" in found.profile.source


def test_a_run_that_was_not_measured_is_predicted() -> None:
    """Oracle: the planted engine under traffic of its own: means within a few percent."""
    profile = measured(noise=0.02).profile
    scenario = Scenario(arrival_per_s=2.0, prompt_tokens=700, output_tokens=120, requests=300)
    ours, theirs = (run(scenario, profile=one) for one in (profile, PLANTED))
    for column in ("first_token_s", "finished_s"):
        means = [float((getattr(found, column) - found.arrival_s).mean()) for found in (ours, theirs)]
        assert means[0] == pytest.approx(means[1], rel=0.08)


def test_pieces_of_several_tokens_are_counted() -> None:
    """Oracle: by hand: 5 pieces 30 ms apart carry 15 tokens: 10 ms a token."""
    stream = Stream(0.0, (0.1, 0.13, 0.16, 0.19, 0.22), 100, 15)
    observation = observe(Probe(2, 100, 15), [stream, stream])
    assert observation.time_ms == pytest.approx(10.0)
    assert observation.tokens == 2


def test_streams_that_hardly_overlap_tell_nothing() -> None:
    """Oracle: one ends as the other begins."""
    early, late = (Stream(0.0, tuple(start + 0.01 * k for k in range(10)), 5, 10) for start in (0.0, 0.085))
    assert observe(Probe(2, 5, 10), [early, late]) is None


# --- limits and interruption ----------------------------------------------------------------------


def test_the_time_limit_ends_the_run() -> None:
    """Oracle: a clock that advances 10 s a probe: 15 of 42 probes in 150 s."""
    clock, lines = iter(range(0, 10_000, 10)), []
    found = measure_server(Simulated(), "x", seconds=150.0, clock=lambda: next(clock), progress=lines.append)
    assert not found.finished
    assert "Stopped early" in found.profile.source
    assert "150 s is over" in lines[-1]


def test_an_interruption_keeps_what_was_measured() -> None:
    """Oracle: 20 probes before Ctrl-C make a profile; 5 do not, and it says what is missing."""
    found = measure_server(Simulated(fails_after=20), "x", clock=lambda: 0.0)
    assert not found.finished
    assert found.profile.step_tokens[0] == 1
    with pytest.raises(ScenarioError, match="a profile needs at least 8"):
        measure_server(Simulated(fails_after=5), "x", clock=lambda: 0.0)


# --- over HTTP ------------------------------------------------------------------------------------


LISTED = b'{"data": [{"id": "tiny", "max_model_len": 600, "owned_by": "vllm"}]}'


class Handler(http.server.BaseHTTPRequestHandler):
    """A small OpenAI-compatible server; `mode` makes it misbehave."""

    mode = ""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.mode in ("401", "404", "429", "503"):
            self._answer(int(self.mode), "text/plain", b"no")
        elif self.mode == "html":
            self._answer(200, "text/html", b"<html>hello</html>")
        elif self.mode == "no models":
            self._answer(200, "application/json", b'{"data": []}')
        else:
            self._answer(200, "application/json", LISTED)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        plain = isinstance(asked["prompt"], str)
        if self.mode == "refuses" or (
            self.mode == "words only" and not (plain and "ignore_eos" not in asked)
        ):
            self._answer(400, "application/json", b'{"error": "bad"}')
            return
        count = len(asked["prompt"].split()) if plain else len(asked["prompt"])
        lines = [{"choices": [{"text": "x", "finish_reason": None}]}] * asked["max_tokens"]
        lines += [{"choices": [{"text": "", "finish_reason": "length"}]}]
        lines += [
            {"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": asked["max_tokens"]}}
        ]
        lines = {"error event": [{"error": {"message": "out of memory"}}], "silent": []}.get(self.mode, lines)
        text = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        text = {"not sse": "data: <p>\n\n", "long": "data: " + "x" * 1_100_000}.get(self.mode, text)
        self._answer(200, "text/event-stream", text.encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that has seen enough hangs up
            self.wfile.write(body)


@pytest.fixture
def address() -> Iterator[str]:
    """Serve on a free port of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()
    thread.join(10)
    Handler.mode = ""


def test_a_stream_is_read(address: str) -> None:
    """Oracle: what the server sends: as many pieces as tokens, its count of the prompt, times in order."""
    server = OpenAIServer(address, "tiny")
    assert server.longest == 600
    streams = server.run(Probe(3, 20, 7))
    assert [(len(s.pieces_s), s.prompt_tokens, s.output_tokens) for s in streams] == [(7, 20, 7)] * 3
    assert all(s.sent_s <= s.pieces_s[0] <= s.pieces_s[-1] for s in streams)


def test_a_server_that_takes_only_words_is_measured_too(address: str) -> None:
    """Oracle: two refusals, then words; the server's own count of the prompt stands."""
    Handler.mode = "words only"
    streams = OpenAIServer(address, "tiny").run(Probe(1, 12, 3))
    assert (streams[0].prompt_tokens, len(streams[0].pieces_s)) == (12, 3)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("401", "answers 401: an API key is needed; set OPENAI_API_KEY"),
        ("404", "usually ends in /v1"),
        ("429", "limits the rate"),
        ("503", "not ready yet"),
        ("html", "answers no JSON"),
        ("no models", "names no model"),
        ("refuses", "refuses the request (400)"),
        ("error event", "reports an error: {'message': 'out of memory'}"),
        ("silent", "had no token"),
        ("not sse", "holds no JSON"),
        ("long", "a line of more than 100,000 characters"),
    ],
)
def test_a_server_that_misbehaves_is_named(mode: str, words: str, address: str) -> None:
    """Oracle: one printable line that says what is wrong."""
    Handler.mode = mode
    with pytest.raises(ScenarioError) as raised:
        OpenAIServer(address, "tiny").run(Probe(2, 8, 4))
    assert words in str(raised.value)
    assert str(raised.value).isprintable()


def test_an_unknown_model_is_answered_with_the_known_ones(address: str) -> None:
    """Oracle: the server's list."""
    with pytest.raises(ScenarioError, match="no model 'big'; it serves tiny"):
        OpenAIServer(address, "big")


@pytest.mark.parametrize(
    "url", ["", "ftp://host/v1", "http://", "http://host:99999/v1", "file:///etc/passwd"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """Oracle: the message shows how an address looks."""
    with pytest.raises(ScenarioError, match="write http://HOST:PORT/v1"):
        OpenAIServer(url, "tiny")


def test_nobody_at_the_address(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """Oracle: exit 2 and one line; nothing is written."""
    out = tmp_path / "mine.toml"
    assert main(["measure", "http://127.0.0.1:9/v1", "--model", "x", "--out", str(out)]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert not out.exists()


def test_the_command_writes_a_profile(address: str, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """Oracle: the file reads back as a profile that names the model, its goodness of fit and the engine."""
    out = tmp_path / "mine.toml"
    assert main(["measure", address, "--model", "tiny", "--out", str(out), "--streams", "2"]) == 0
    profile = read_profile(out)
    assert profile.name == "tiny"
    assert "Measured from the client's side" in profile.source
    captured = capsys.readouterr()
    assert "a step of one token" in captured.out
    assert "1 of " in captured.err
    assert "the server says vLLM (owned_by: vllm)" in captured.err
    assert profile.engine == "vllm"


def test_an_engine_that_is_named_goes_before_the_server_s(address: str, tmp_path: Path) -> None:
    """Oracle: the option's engine in the profile; one that is not known is refused before measuring."""
    out = tmp_path / "mine.toml"
    wanted = ["measure", address, "--model", "tiny", "--out", str(out), "--streams", "2", "--engine"]
    assert main([*wanted, "sglang"]) == 0
    assert read_profile(out).engine == "sglang"
    assert main([*wanted, "slang"]) == 2
