"""Which engine served: from a file, from a server, into the scenario, its link and the profile."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sim_core.command.main import main
from sim_core.evidence.own import server as server_module
from sim_core.evidence.own.formats.points import Upload
from sim_core.evidence.own.formats.read import read_upload
from sim_core.evidence.own.served import engine_line, on_their_engine
from sim_core.evidence.own.server import OpenAIServer
from sim_core.scenario.link.carry import carried_by
from sim_core.scenario.profiles import profile_toml, read_profile
from sim_core.scenario.scenario import Scenario
from tests.evidence.test_own_engine import PROFILE
from tests.places import SAMPLES


def read(name: str, **changes: object) -> Upload:
    """Return a sample, its first object changed."""
    text = (SAMPLES / name).read_text(encoding="utf-8")
    if changes:
        found = json.loads(text)
        text = json.dumps([found[0] | changes, *found[1:]] if isinstance(found, list) else found | changes)
    return read_upload(text.encode(), name)


# --- what a file says -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "engine"),
    [
        ("vllm.json", {}, "vllm"),
        ("vllm.json", {"backend": "openai-chat"}, "vllm"),
        ("vllm.json", {"backend": "tensorrt-llm"}, "tensorrt-llm"),
        ("vllm.json", {"backend": "tgi"}, ""),
        ("vllm.json", {"backend": "vllm", "framework": "sglang"}, "sglang"),
        ("sglang.jsonl", {}, "sglang"),
        ("sglang_one_batch.jsonl", {}, "sglang"),
        ("trtllm_bench.json", {}, "tensorrt-llm"),
        ("inferencex.json", {}, "sglang"),
        ("guidellm.json", {}, ""),
        ("guidellm.json", {"metadata": {"owned_by": "vllm"}}, "vllm"),
        ("genai_bench.json", {"experiment_metadata": {"server_engine": "TensorRT-LLM"}}, "tensorrt-llm"),
        (
            "aiperf.json",
            {"input_config": {"backend": "tensorrtllm", "service_kind": "triton"}},
            "tensorrt-llm",
        ),
        ("aiperf.json", {"server_metrics": {"sglang:num_running_reqs": {"avg": 3.0}}}, "sglang"),
        ("inference_perf.json", {"server": {"type": "vllm"}}, "vllm"),
        ("evalscope.json", {"Model": "org/vllm-tuned"}, ""),
        ("llama_bench.json", {}, ""),
        ("requests.csv", {}, ""),
    ],
)
def test_a_file_says_which_engine_served(name: str, changes: dict, engine: str) -> None:
    """Oracle: the words that each tool documents; a model's name is none of them."""
    upload = read(name, **changes)
    assert upload.engine == engine
    assert bool(upload.engine_word) == bool(engine)


@pytest.mark.parametrize(("tool", "engine"), [("vllm", "vllm"), ("sglang", "sglang"), ("simulator", "")])
def test_a_report_in_yaml_says_it_too(tool: str, engine: str) -> None:
    """Oracle: the line written into the sample; llm-d's reports name the engine as a stack's `tool`."""
    text = (SAMPLES / "llmd_report.yaml").read_text(encoding="utf-8")
    text = text.replace("kind: inference_engine", f"kind: inference_engine\n      tool: {tool}")
    assert read_upload(text.encode(), "report.yaml").engine == engine


def test_a_file_of_two_engines_says_none_and_that_it_does() -> None:
    """Oracle: rows of both frameworks."""
    upload = read("inferencex.json", framework="vllm")
    assert upload.engine == ""
    assert any("more than one engine (SGLang and vLLM)" in note for note in upload.notes)


# --- into the scenario ----------------------------------------------------------------------------


def test_the_scenario_is_put_on_the_engine() -> None:
    """Oracle: the rules of presets/engines/tensorrt-llm.toml; the line names engine and word."""
    found = on_their_engine([read("trtllm_bench.json")], Scenario())
    assert (found.engine, found.policy) == ("tensorrt-llm", Scenario(engine="tensorrt-llm").policy)
    assert engine_line([read("sglang.jsonl")], found.replace(engine="sglang")) == (
        "The file says SGLang (backend: sglang): points are simulated on this engine."
    )


def test_what_was_set_by_hand_wins() -> None:
    """Oracle: another engine stays, and so does a rule that differs from the default or was named."""
    chosen = Scenario(engine="sglang")
    assert on_their_engine([read("vllm.json")], chosen) == chosen
    assert "your choice, SGLang, stands" in engine_line([read("vllm.json")], chosen)
    own = on_their_engine([read("vllm.json")], Scenario(policy="static", token_budget=512))
    assert (own.engine, own.policy, own.token_budget) == ("vllm", "static", 512)
    named = on_their_engine([read("sglang.jsonl")], Scenario(), given={"token_budget"})
    assert (named.engine, named.token_budget) == ("sglang", Scenario().token_budget)
    assert on_their_engine([read("sglang.jsonl")], Scenario(), given={"engine"}).engine == ""


def test_files_of_two_engines_are_said_and_set_nothing() -> None:
    """Oracle: which of the two it is, nobody can tell."""
    both = [read("vllm.json"), read("sglang.jsonl")]
    assert on_their_engine(both, Scenario()) == Scenario()
    assert "vLLM and SGLang" in engine_line(both, Scenario())
    assert engine_line([read("requests.csv")], Scenario()) == ""


def test_a_profile_carries_the_engine() -> None:
    """Oracle: written and read back; a scenario without an engine takes it, another one keeps its own."""
    profile = read_profile(profile_toml(PROFILE) + 'engine = "sglang"\n')
    assert profile.engine == "sglang"
    assert read_profile(profile_toml(profile)) == profile
    assert carried_by(Scenario(), profile)[0].engine == "sglang"
    assert carried_by(Scenario(engine="vllm"), profile)[0].engine == "vllm"


def test_the_command_writes_the_engine_and_uses_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Oracle: the sample's word in the profile; the run names the engine, and --set goes before the file."""
    out = str(tmp_path / "own.toml")
    sample = str(SAMPLES / "sglang.jsonl")
    assert main(["calibrate", "model=llama-3.1-8b", sample, "--out", out]) == 0
    assert "The file says SGLang (backend: sglang)" in capsys.readouterr().err
    assert read_profile(Path(out)).engine == "sglang"
    assert main(["run", "requests=20", "--profile", out, "--format", "json"]) == 0
    assert '"engine": "sglang"' in capsys.readouterr().out
    assert main(["calibrate", "model=llama-3.1-8b", sample, "--set", "engine=vllm", "--out", out]) == 0
    assert "your choice, vLLM, stands" in capsys.readouterr().err
    assert read_profile(Path(out)).engine == "vllm"


# --- what a server says ---------------------------------------------------------------------------

VLLM_METRICS = "# HELP vllm:num_requests_running Running.\nvllm:num_requests_running 1.0\n"
STALLS = "sglang:num_running_reqs 1.0\n"  # and after a minute that nobody should wait for
OWNED = '{"data": [{"id": "m", "owned_by": "%s"}]}'


@contextmanager
def serving(places: dict[str, str]) -> Iterator[str]:
    """Serve texts at some places on this machine; others are not found."""

    done = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            body = places.get(self.path, "").encode()
            if body == STALLS.encode():
                done.wait(60)
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        done.set()
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize(
    ("owner", "places", "engine", "word"),
    [
        ("vllm", {}, "vllm", "owned_by: vllm"),
        ("sglang", {}, "sglang", "owned_by: sglang"),
        ("tensorrt_llm", {}, "tensorrt-llm", "owned_by: tensorrt_llm"),
        ("an-org", {"/metrics": VLLM_METRICS, "/version": '{"version": "0.11.0"}'}, "vllm", "/metrics"),
        ("an-org", {"/metrics": "sglang:num_running_reqs 2.0\n"}, "sglang", "/metrics"),
        (
            "an-org",
            {"/metrics": '[{"iter": 1, "inflightBatchingStats": {}}]', "/version": '{"version": "0.20.0"}'},
            "tensorrt-llm",
            "/metrics",
        ),
        ("an-org", {"/get_server_info": '{"tp_size": 1, "version": "0.5.3"}'}, "sglang", "/get_server_info"),
        ("an-org", {"/version": '{"version": "0.11.0"}'}, "vllm", "/version"),
        ("an-org", {"/version": '{"version": "1.0.0"}'}, "", ""),
        ("an-org", {"/get_server_info": '{"data": []}'}, "", ""),
        ("an-org", {"/metrics": "<html>", "/get_server_info": "[", "/version": '"x"'}, "", ""),
        ("an-org", {}, "", ""),
    ],
)
def test_a_server_says_which_engine_it_is(owner: str, places: dict, engine: str, word: str) -> None:
    """Oracle: what each engine's server answers at its own places, `owned_by` first."""
    with serving({"/v1/models": OWNED % owner} | places) as address:
        found = OpenAIServer(address, "m").served()
    assert (found.engine, found.word) == (engine, word)


def test_a_place_that_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the next place tells the engine; the first one would name another, a minute later."""
    monkeypatch.setattr(server_module, "ENGINE_TIMEOUT_S", 0.2)
    places = {"/v1/models": OWNED % "an-org", "/metrics": STALLS, "/version": '{"version": "0.9.1"}'}
    with serving(places) as address:
        assert OpenAIServer(address, "m").served().engine == "vllm"
