"""The engine that measurements name: put into the scenario they are compared with, and said in a line."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sim_core.catalogue.engines import engine as known_engine
from sim_core.evidence.own.formats.points import Upload
from sim_core.evidence.own.formats.served import OWN_BENCHMARK
from sim_core.scenario.link.changes import with_engine
from sim_core.scenario.scenario import Scenario


def engines_of(uploads: Sequence[Upload]) -> tuple[str, ...]:
    """Return the ids of the engines that files name, each once."""
    return tuple(dict.fromkeys(upload.engine for upload in uploads if upload.engine))


def on_their_engine(uploads: Sequence[Upload], scenario: Scenario, given: Collection[str] = ()) -> Scenario:
    """Return the scenario on the engine that files name, if they name one; what was set by hand stays.

    `given` are the keys that a person has named.
    """
    named = engines_of(uploads)
    return with_engine(scenario, named[0], given) if len(named) == 1 else scenario


def engine_line(uploads: Sequence[Upload], scenario: Scenario) -> str:
    """Return what files say of the engine, and which one the scenario is on; empty where they say nothing."""
    named = engines_of(uploads)
    if not named:
        return ""
    if len(named) > 1:
        names = " and ".join(known_engine(name).name for name in named)
        return f"The files say {names}: a fit is of one engine. Keep the files of one, or choose it yourself."
    word = next(upload.engine_word for upload in uploads if upload.engine)
    says = f"The file says {known_engine(named[0]).name} ({word})"
    if word == OWN_BENCHMARK:
        says = f"The file says {known_engine(named[0]).name}, whose own benchmark wrote it"
    if scenario.engine == named[0]:
        return f"{says}: points are simulated on this engine."
    if scenario.engine:
        return f"{says}; your choice, {known_engine(scenario.engine).name}, stands."
    return f"{says}; the scenario names no engine, so its rules count as they are set."
