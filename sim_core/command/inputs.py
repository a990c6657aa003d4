"""What commands share at their beginning: options, and the scenario, trace and profile they name."""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from sim_core.command.model_files import model_option
from sim_core.fields.errors import ScenarioError
from sim_core.results import text as report
from sim_core.scenario.link.changes import parse_value, value_of, with_engine
from sim_core.scenario.link.load import load_scenario
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import Requests
from sim_core.traffic.trace_files.windows import WHOLE, Window

LOAD = "load_frac"  # the one thing that can be varied and is no scenario key
MAX_POINTS = 2_000

SCENARIO_HELP = """SCENARIO is the id of a scenario preset (see `list scenarios`), the path of a TOML file,
a share link or a query string such as "max_batch=64&seed=3"; without it, the default scenario."""
SET_HELP = (
    "Change one scenario key (see `list keys`); may be repeated. A flat length (prompt_tokens, ...) switches "
    "a mix off."
)
TRACE_HELP = (
    "Requests to replay: CSV with arrival_s,prompt_tokens,output_tokens, or an Azure, BurstGPT, Vidur, "
    "splitwise-sim, Mooncake or ShareGPT file."
)
FROM_HELP = "Where to begin in the trace: hours after its first request, or a date and time."
HOURS_HELP = "How many hours of the trace to replay; of a CSV of any length no more than these are kept."
VARY_HELP = """Vary one scenario key, or load_frac, the share of the rate that saturates a point; may be
repeated. Values of mix are separated by semicolons."""


def scenario_options(command: Callable) -> Callable:
    """Add the scenario argument and the options that every simulating command has."""
    options = (
        click.argument("scenario", default=""),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=SET_HELP),
        click.option("--profile", "profile_path", metavar="FILE", help="Measured step times, a TOML file."),
        click.option(
            "--format", "form", type=click.Choice(report.FORMATS), default="json", show_default=True
        ),
    )
    for option in reversed(options):
        command = option(command)
    return model_option(command)


def trace_option(command: Callable) -> Callable:
    """Add the options that name a trace and a window of it; the command is given both as one `trace`."""

    @functools.wraps(command)
    def with_window(*, trace_path: str, trace_from: str, trace_hours: float, **given: Any) -> Any:
        window = Window(trace_from or "", math.inf if trace_hours is None else trace_hours)
        return command(trace=TraceFile(trace_path or "", window), **given)

    options = (
        click.option("--trace", "trace_path", metavar="FILE", help=TRACE_HELP),
        click.option("--from", "trace_from", metavar="WHEN", help=FROM_HELP),
        click.option("--hours", "trace_hours", type=float, metavar="HOURS", help=HOURS_HELP),
    )
    for option in reversed(options):
        with_window = option(with_window)
    return with_window


class TraceFile(NamedTuple):
    """A trace as the command line names it."""

    path: str = ""
    window: Window = WHOLE

    @property
    def options(self) -> str:
        """The options of the command line that name it, quoted for POSIX shells; empty without a path."""
        return f" --trace {shlex.quote(self.path)}{self.window.options}" if self.path else ""

    def read(self) -> Requests | None:
        """Return its requests, None without a path."""
        from sim_core.traffic.trace_files.read import read_trace

        if self.path:
            return read_trace(self.path, window=self.window)
        if self.window.is_part:
            raise ScenarioError(
                "--from and --hours choose a part of a trace, and there is none: give --trace FILE."
            )
        return None


NO_TRACE = TraceFile()


class Inputs:
    """The scenario, trace and profile that a command line names."""

    def __init__(
        self, scenario: str, settings: tuple[str, ...], profile_path: str, trace: TraceFile = NO_TRACE
    ) -> None:
        changes = dict(setting_of(text) for text in settings)
        self.given = frozenset(changes)
        self.said_rate = "arrival_per_s" in changes
        self.scenario: Scenario = load_scenario(scenario, **changes)
        self.trace: Requests | None = None
        self.profile: EngineProfile | None = None
        self.notes: list[str] = []
        if profile_path:
            from sim_core.scenario.profiles import read_profile

            self.profile = read_profile(Path(profile_path))
            self.scenario = with_engine(self.scenario, self.profile.engine, changes)
        found = trace.read()
        if found is not None:
            self._take_trace(found, changes)

    def _take_trace(self, trace: Requests, changes: Mapping[str, Any]) -> None:
        from sim_core.traffic.trace_files.read import with_trace

        self.trace = trace
        self.scenario = with_trace(self.scenario, trace, given=changes)
        self.notes += trace.notes
        if self.scenario.requests < len(trace):
            self.notes.append(
                f"{trace.name}: the first {self.scenario.requests:,} of {len(trace):,} requests "
                "are used, as requests says."
            )


def setting_of(text: str) -> tuple[str, Any]:
    """Return key and value of one --set."""
    key, mark, value = text.partition("=")
    if not mark:
        raise ScenarioError(f"--set {text[:60]!r} has no equals sign; write --set KEY=VALUE.")
    return key.strip(), parse_value(key.strip(), value)


def variations(texts: tuple[str, ...], most: int = MAX_POINTS) -> dict[str, list[Any]]:
    """Return keys and values of all --vary, which make at most so many points."""
    vary: dict[str, list[Any]] = {}
    for text in texts:
        key, mark, values = text.partition("=")
        key = key.strip()
        parts = [part for part in values.split(";" if key == "mix" else ",") if part.strip()]
        if not mark or not parts:
            raise ScenarioError(f"--vary {text[:60]!r} has no values; write --vary KEY=VALUE,VALUE.")
        if key in vary:
            raise ScenarioError(f"--vary {key} stands there twice; give all its values in one.")
        vary[key] = list(dict.fromkeys(_varied_value(key, part.strip()) for part in parts))
    points = math.prod(map(len, vary.values()))
    if points > most:
        larger = "" if most > MAX_POINTS else ", or run them with `sweep`"
        raise ScenarioError(
            f"--vary makes {points:,} points; the limit is {most:,}. Give fewer values{larger}."
        )
    return vary


def _varied_value(key: str, text: str) -> Any:
    if key != LOAD:
        return parse_value(key, text)
    from sim_core.sweep.points import LOAD_INFO

    try:
        return value_of(LOAD, text, LOAD_INFO)
    except ScenarioError as error:
        raise ScenarioError(f"{error} It is a share: 0.5 is half of the rate that saturates.") from None
