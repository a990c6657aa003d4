"""Shell commands of this program as Python that gives the same: for notebooks, beside the command."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sim_core.scenario.link.changes import parse_value
from sim_core.scenario.scenario import FIELDS

PROGRAM = ["python", "-m", "sim_core"]
FLAGS = ("--volatility", "--worth")  # options without a value
NEEDS_FILES = {"--trace", "--profile", "--model"}  # what they name lies with the visitor


class Command(NamedTuple):
    """One command: its name, its scenario as text, its options in order."""

    name: str
    scenario: str
    options: tuple[tuple[str, str], ...]

    def values(self, option: str) -> list[str]:
        """Return all values of an option."""
        return [value for name, value in self.options if name == option]


def python_of(commands: str) -> str:
    """Return Python that gives what shell commands give; "" where one has no counterpart.

    Parameters
    ----------
    commands : str
        Lines such as `command_for` writes; what stands behind `#` is passed over.

    Examples
    --------
    >>> print(python_of("python -m sim_core frontier 'v=1&seed=3' --vary max_batch=8,16"))
    from sim_core import frontier, load_scenario
    <BLANKLINE>
    table = frontier(load_scenario("v=1&seed=3"), vary={"max_batch": [8, 16]})
    print(table)
    """
    found = [_command(line) for line in commands.splitlines() if line.split("#")[0].strip()]
    known = [each for each in found if each is not None and each.name in _WRITERS]
    if not known or len(known) < len(found) or any(_needs_files(each) for each in known):
        return ""
    imports: set[str] = set()
    blocks = []
    for name, group in groupby(known, lambda each: each.name):
        needs, text = _WRITERS[name](list(group))
        imports |= set(needs)
        blocks.append(text)
    return "\n".join([_imports(imports), "", "\n\n".join(blocks)])


def _needs_files(command: Command) -> bool:
    """Return whether an option names a file; several models of a plan are presets."""
    needed = NEEDS_FILES & {name for name, _ in command.options}
    if command.name == "plan" and all("," in names for names in command.values("--model")):
        needed -= {"--model"}
    return bool(needed)


def _command(line: str) -> Command | None:
    """Return a line as a command; None where it is none of this program's."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return None
    if words[:3] != PROGRAM or len(words) < 4:
        return None
    name, rest = words[3], words[4:]
    scenario = rest.pop(0) if rest and not rest[0].startswith("--") else ""
    options = []
    while rest:
        option = rest.pop(0)
        options.append((option, "" if option in FLAGS or not rest else rest.pop(0)))
    return Command(name, scenario, tuple(options))


def _imports(names: Iterable[str]) -> str:
    """Return the import lines; a name with dots is imported from its own module."""
    own = sorted(name for name in names if "." not in name)
    lines = ["import pandas as pd"] if "pd" in own else []
    lines += [f"from sim_core import {', '.join(name for name in own if name != 'pd')}"]
    modules = sorted(name.rsplit(".", 1) for name in names if "." in name)
    for module, pairs in groupby(modules, lambda pair: pair[0]):
        lines.append(f"from sim_core.{module} import {', '.join(name for _, name in pairs)}")
    return "\n".join(lines)


def _loaded(command: Command) -> str:
    changes = "".join(f", {_setting(text)}" for text in command.values("--set"))
    return f"load_scenario({_text(command.scenario)}{changes})"


def _setting(text: str) -> str:
    key, _, value = text.partition("=")
    return f"{key}={_value(key, value)}"


def _value(key: str, text: str) -> str:
    value = parse_value(key, text) if key in FIELDS else float(text)
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    """Return a Python string in double quotes, as formatters have it."""
    return f'"{text}"' if text.isprintable() and not {'"', "\\"} & {*text} else repr(text)


Written = tuple[tuple[str, ...], str]  # what it imports, and the lines


def _frontier(commands: Sequence[Command]) -> Written:
    """Return the call that gives the table, of several commands one beneath the other."""
    calls = []
    for each in commands:
        pairs = [_vary(text) for text in each.values("--vary")]
        vary = f", vary={{{', '.join(pairs)}}}" if pairs else ""
        calls.append(f"frontier({_loaded(each)}{vary})")
    needs = ("frontier", "load_scenario")
    if len(calls) == 1:
        return needs, f"table = {calls[0]}\nprint(table)"
    parts = "".join(f"    {call},\n" for call in calls)
    return (*needs, "pd"), f"table = pd.concat([\n{parts}], ignore_index=True)\nprint(table)"


def _vary(text: str) -> str:
    key, _, values = text.partition("=")
    mark = ";" if key == "mix" else ","
    return f'"{key}": [{", ".join(_value(key, value) for value in values.split(mark))}]'


def _run(commands: Sequence[Command]) -> Written:
    lines, needs = [], {"load_scenario"}
    for each in commands:
        lines.append(f"scenario = {_loaded(each)}")
        if each.values("--steps-out"):
            needs.add("engine.run.run")
            lines += [
                "steps = run(scenario, log=True).steps()  # one row a run of equal steps",
                "print(steps)",
            ]
            continue
        needs |= {"simulate", "summarize"}
        lines += [
            "requests = simulate(scenario)  # one row a request",
            "print(summarize(requests, scenario))",
        ]
    return tuple(needs), "\n".join(lines)


def _capacity(commands: Sequence[Command]) -> Written:
    return ("capacity", "load_scenario"), "\n".join(f"print(capacity({_loaded(each)}))" for each in commands)


PLAN_TYPES: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("rate", "growth", "margin", "start-up"), float),
    **dict.fromkeys(("max-devices", "top", "spare"), int),
}
PLAN_NAMES = {
    **{"growth": "growth_frac", "margin": "margin_frac", "start-up": "typed_s", "start-from": "kind"},
    "model": "models",
}
START_OPTIONS = ("start-from", "start-up")  # of a plan over the day
AROUND = "questions.deployment.around"


def _plan(commands: Sequence[Command]) -> Written:
    lines, needs = [], {"load_scenario", "pd"}
    for each in commands:
        given = {name.removeprefix("--"): value for name, value in each.options if name != "--set"}
        lines.append(f"scenario = {_loaded(each)}")
        write = _day if "day" in given else _map if "map" in given else _ranking
        more, text = write(given)
        needs |= set(more)
        lines.append(f"{text}\nprint(table)")
    return tuple(needs), "\n".join(lines)


def _ranking(given: dict[str, str]) -> Written:
    rate = _rate(given)
    return (
        ("plan",),
        f'found = plan(scenario, {rate}{_named(given)})\ntable = pd.DataFrame(found.as_dict()["rows"])',
    )


def _rate(given: dict[str, str]) -> str:
    """Take the rate out of the options of a plan; without one it is the scenario's."""
    return repr(float(given.pop("rate"))) if "rate" in given else "scenario.arrival_per_s"


def _named(given: dict[str, str]) -> str:
    """Return options as named arguments behind others."""
    words = []
    for name, value in given.items():
        typed = PLAN_TYPES.get(name, str)(value)
        written = _text(typed) if isinstance(typed, str) else repr(typed)
        words.append(f", {PLAN_NAMES.get(name, name.replace('-', '_'))}={written}")
    return "".join(words)


def _day(given: dict[str, str]) -> Written:
    """Return the plan for the peak of a day, and its parts as the table."""
    start = _named({name: given.pop(name) for name in START_OPTIONS if name in given})
    lines = [
        f"day = day_named({_text(given.pop('day'))}, scenario)",
        f"found = plan(scenario, day.peak_per_s{_named(given)})",
        f"hours = day_plan(found.question, found.rows[0], day{start})",
        'table = pd.DataFrame(day_dict(hours)["parts"])',
    ]
    needs = ("plan", "traffic.day.day_named", f"{AROUND}.day.day_dict", f"{AROUND}.day.day_plan")
    return needs, "\n".join(lines)


def _map(given: dict[str, str]) -> Written:
    """Return the map of winners, and its cells as the table."""
    sides = ", ".join(_text(side.strip()) for side in given.pop("map").split(","))
    rate = _rate(given)
    needs = [f"{AROUND}.winners.confirmed_map", f"{AROUND}.winners.estimated_map"]
    needs.append("questions.deployment.plan.question_named")
    parts = _text(given.pop("accelerators", "all"))
    free = "DEFAULT_FREE"
    if "free" in given:
        free = _text(given.pop("free"))
    else:
        needs.append("questions.deployment.question.DEFAULT_FREE")
    lines = [
        f"question = question_named(scenario, {rate}, {parts}, {free}{_named(given)})",
        f"found = confirmed_map(estimated_map(question, {sides}))",
        'table = pd.DataFrame(found.as_dict()["cells"])',
    ]
    return tuple(needs), "\n".join(lines)


def _shift(commands: Sequence[Command]) -> Written:
    lines, needs = [], {"load_scenario", "pd"}
    for each in commands:
        if each.values("--volatility"):
            needs.add("questions.shift.volatility.sweep")
            lines.append(f"table = pd.DataFrame(sweep({_loaded(each)}))\nprint(table)")
            continue
        needs.add("questions.shift.report.report")
        chosen = "".join(f"{_text(name)}, " for name in each.values("--strategy")).rstrip()
        names = f"({chosen})" if chosen else "tuple(STRATEGIES)"
        needs |= set() if chosen else {"questions.shift.study.STRATEGIES"}
        lines.append(f"found = report({_loaded(each)}, {names}, None, {bool(each.values('--worth'))})")
        lines.append("table = pd.DataFrame(found.strategies)\nprint(table)")
    return tuple(needs), "\n".join(lines)


_WRITERS: dict[str, Callable[[Sequence[Command]], Written]] = {
    "run": _run,
    "frontier": _frontier,
    "capacity": _capacity,
    "plan": _plan,
    "shift": _shift,
}
