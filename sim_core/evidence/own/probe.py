"""Measure a running OpenAI-compatible server from the outside, and write it down as an engine profile.

Two kinds of probes, a few dozen of them, within a time limit and never more streams than allowed:

- *prompts*: one request on the idle server; the time to its first token, over lengths of the prompt;
- *batches*: some streams at once, started together; the gap between their tokens once all of them decode,
  over their number and over the length of their contexts.

What a client sees is modelled as the engine's own step (see `sim_core.scenario.profiles`): piecewise linear
in the tokens of the step, plus context, plus pairs of prompt tokens, plus for a prompt the way there and
back. Above `STRAIGHT_FROM` tokens the line is straight, so that what bends there is attention. A client
cannot tell how the server splits long prompts into steps, nor the way there from the way back, which count
half each.

Prompts are random token ids, so that no prefix cache can help; a server that takes no ids gets random words.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sim_core.evidence.own.formats.points import OwnSteps
from sim_core.evidence.own.server import ANSWER, OutOfTime, Probe, Server, Stream, prompt_words
from sim_core.evidence.own.steps import StepLine, line_of
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.profiles import EngineProfile

SECONDS = 120.0
STREAMS = 32
PROMPTS = (16, 64, 128, 256, 512, 1024, 2048, 4096)
CONTEXTS = (64, 1024)
ROUNDS = 3
STRAIGHT_FROM = 128
FEWEST = 8  # observations that a profile needs
FOLDS = 4


class Measured(NamedTuple):
    """A profile and what it rests on.

    `observed` and `predicted_ms` are the observations and their prediction by fits that have not seen them.
    """

    profile: EngineProfile
    observed: OwnSteps
    predicted_ms: np.ndarray
    finished: bool

    @property
    def error_frac(self) -> float:
        """Median absolute error of an observation that the fit has not seen, as a share."""
        return float(np.median(np.abs(self.predicted_ms / self.observed.time_ms - 1)))


# --- the plan -------------------------------------------------------------------------------------


def probe_plan(most_streams: int, longest: int) -> list[Probe]:
    """Return the probes in order: everything once, then again, so that an early end has a bit of all.

    Parameters
    ----------
    most_streams : int
        Never more at a time.
    longest : int
        Longest prompt and answer together that the server takes. [tokens]
    """
    lengths = [length for length in PROMPTS if length + 2 <= longest] or [max(longest - 2, 1)]
    contexts = [length for length in CONTEXTS if length + ANSWER <= longest] or [max(longest - ANSWER, 1)]
    sizes = [2**power for power in range(20) if 2**power <= most_streams]
    probes = []
    for turn in range(ROUNDS):
        probes += [Probe(1, length, 1) for length in lengths]
        if turn < len(contexts):
            probes += [
                Probe(size, contexts[turn], min(ANSWER, max(longest - contexts[turn], 2))) for size in sizes
            ]
    return probes


# --- from streams to observations -----------------------------------------------------------------


class Observation(NamedTuple):
    """One time that a client saw, in the terms of a step; `requests` counts ways there and back in it."""

    tokens: float
    decode_context: float
    prefill_pairs: float
    time_ms: float
    requests: float


def observe(probe: Probe, streams: Sequence[Stream]) -> Observation | None:
    """Return what a probe tells: the time of a prompt, or of a batch's steps; None if nothing."""
    if not streams or not all(stream.pieces_s for stream in streams):
        return None
    if probe.output_tokens == 1:
        stream = streams[0]
        tokens = stream.prompt_tokens
        return Observation(tokens, 0.0, tokens**2 / 2, 1e3 * (stream.pieces_s[0] - stream.sent_s), 1.0)
    seen = _observe_batch(streams)
    return seen if seen and seen.time_ms > 0 else None  # pieces that came all at once tell no time


def _observe_batch(streams: Sequence[Stream]) -> Observation | None:
    """Return the step of a batch, from the time in which all streams decode."""
    start_s = max(stream.pieces_s[0] for stream in streams)
    end_s = min(stream.pieces_s[-1] for stream in streams)
    gaps, held = [], 0.0
    for stream in streams:
        inside = [at for at in stream.pieces_s if start_s <= at <= end_s]
        if len(inside) < 3 or stream.output_tokens < 2:
            return None
        per_piece = max(stream.output_tokens / len(stream.pieces_s), 1.0)
        gaps.append((inside[-1] - inside[0]) / ((len(inside) - 1) * per_piece))
        made = np.searchsorted(stream.pieces_s, (start_s + end_s) / 2) * per_piece
        held += stream.prompt_tokens + made
    return Observation(float(len(streams)), float(held), 0.0, 1e3 * float(np.median(gaps)), 0.0)


# --- from observations to a profile ---------------------------------------------------------------


def profile_of(observations: Sequence[Observation], name: str, finished: bool = True) -> Measured:
    """Return the profile that explains the observations best.

    Raises
    ------
    ScenarioError
        If there are too few observations, or none of prompts or of streams.
    """
    prompts = sum(item.requests > 0 for item in observations)
    if len(observations) < FEWEST or prompts < 2 or prompts == len(observations):
        raise ScenarioError(
            f"only {len(observations)} probes gave a time ({prompts} of prompts); a profile needs at least "
            f"{FEWEST}, of prompts and of streams. Give it more --seconds, or look at the server's log."
        )
    columns = np.array(observations, dtype=float)
    turns = np.arange(len(observations)) % FOLDS
    predicted = np.empty(len(observations))
    for turn in range(FOLDS):
        predicted[turns == turn] = _predicted(_fitted(columns[turns != turn]), columns[turns == turn])
    line = _fitted(columns)
    found = Measured(EngineProfile(constants="layer:1"), _steps(columns), predicted, finished)
    half_ms = line.request_ms / 2
    profile = replace(
        line.profile(),
        name=name[:200],
        request_before_ms=half_ms,
        request_after_ms=half_ms,
        source=_source(found, len(observations), prompts),
    )
    return found._replace(profile=profile)


def _source(found: Measured, count: int, prompts: int) -> str:
    cut = "" if found.finished else " Stopped early."
    return (
        f"Measured from the client's side: {prompts} prompts and {count - prompts} batches of streams.{cut} "
        f"Median error of a probe that the fit has not seen: {found.error_frac:.1%}. The way to the engine "
        "and back count half each; how the server splits long prompts cannot be seen."
    )


def _steps(columns: np.ndarray) -> OwnSteps:
    return OwnSteps(*columns.T[:4])


def _fitted(columns: np.ndarray) -> StepLine:
    """Return the line; it bends at the batch sizes and is straight from `STRAIGHT_FROM` tokens on."""
    tokens = columns[:, 0]
    batches = np.unique(tokens[columns[:, 4] == 0])
    knots = np.unique(np.concatenate([batches, [STRAIGHT_FROM, max(tokens.max(), STRAIGHT_FROM + 1)]]))
    return line_of(_steps(columns), knots, columns[:, 4])


def _predicted(line: StepLine, columns: np.ndarray) -> np.ndarray:
    return line.at(_steps(columns)) + line.request_ms * columns[:, 4]


# --- the run --------------------------------------------------------------------------------------


def measure_server(
    server: Server,
    name: str,
    *,
    most_streams: int = STREAMS,
    longest: int = 8192,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[str], None] = lambda line: None,
) -> Measured:
    """Run the plan against a server and return its profile.

    Ends early at the time limit, when the server's own time is over (`OutOfTime`), or on Ctrl-C.

    Raises
    ------
    ScenarioError
        If the server cannot be used, or too little was measured.
    """
    probes = probe_plan(most_streams, longest)
    started_s = clock()
    found: list[Observation] = []
    finished = False
    try:
        server.run(Probe(1, 16, 2))  # the first request compiles, loads, connects
        for place, probe in enumerate(probes):
            spent_s = clock() - started_s
            if spent_s > seconds:
                progress(f"The time of {seconds:.0f} s is over after {place} of {len(probes)} probes.")
                break
            progress(f"{place + 1:>3} of {len(probes)}, {spent_s:5.1f} s: {prompt_words(probe)}")
            observation = observe(probe, server.run(probe))
            found += [observation] if observation else []
        finished = len(found) >= 0.9 * len(probes)
    except KeyboardInterrupt:
        progress(f"Interrupted after {len(found)} probes.")
    except OutOfTime:
        if not found:
            raise
        progress(f"The time of {seconds:.0f} s is over after {len(found)} probes.")
    return profile_of(found, name, finished)


def speed_words(found: Measured) -> str:
    """Return the profile in one line: a lone stream, a full batch, a prompt, the way there and back."""
    profile = found.profile
    batch = profile.step_tokens[-min(3, len(profile.step_tokens))]
    alone, full = (
        profile.step_time_ms[0],
        np.interp(batch, profile.step_tokens, profile.step_time_ms),
    )
    request = profile.request_before_ms + profile.request_after_ms
    return (
        f"a step of one token {alone:.3g} ms, of {batch} tokens {full:.3g} ms, "
        f"of {profile.step_tokens[-1]:,} {profile.step_time_ms[-1]:.3g} ms; "
        f"a request is {request:.3g} ms on its way"
    )


def is_reliable(found: Measured) -> bool:
    """Return whether probes that the fit has not seen are predicted within a fifth."""
    return math.isfinite(found.error_frac) and found.error_frac <= 0.2
