"""A scenario as text: a query, a TOML file, a shell command. Defaults are left out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from sim_core.fields.texts import toml_text
from sim_core.scenario.scenario import FIELDS, SCHEMA_VERSION, Scenario

DESCRIPTIVE = ("title", "story", "expected", "description", "source")


# Scenario to text


def to_query(scenario: Scenario) -> str:
    """Return the scenario as a query string, without `?`: `v=1` and every key that differs from its default.

    Examples
    --------
    >>> to_query(Scenario(max_batch=64, mix="chat:0.7,rag:0.3"))
    'v=1&mix=chat:0.7,rag:0.3&max_batch=64'
    """
    parts = [f"v={SCHEMA_VERSION}"]
    for key, value in scenario.changed().items():
        parts.append(f"{key}={quote(value_text(key, value), safe=',:~/.', errors='replace')}")
    return "&".join(parts)


def value_text(key: str, value: float | str | None) -> str:
    """Return a value as text that `parse_value` reads back exactly; None as `none` (as the preset says).

    A key that is no scenario key (`load_frac` of a sweep) holds a number.
    """
    if value is None:
        return "none"
    if key not in FIELDS or FIELDS[key].kind is float:
        return repr(float(value)).removesuffix(".0")
    return str(value)


def to_toml(
    scenario: Scenario,
    title: str = "",
    story: str = "",
    expected: str = "",
    description: str = "",
    source: str = "",
) -> str:
    """Return the scenario as a TOML file: the descriptive texts given, model, accelerator, changed keys."""
    texts = dict(zip(DESCRIPTIVE, (title, story, expected, description, source), strict=True))
    lines = [f"{key} = {toml_text(text)}" for key, text in texts.items() if text]
    lines += [""] if lines else []
    values = {"model": scenario.model, "accelerator": scenario.accelerator} | scenario.changed()
    for key in (key for key in FIELDS if key in values):
        kind, value = FIELDS[key].kind, values[key]
        is_text = kind is str or value is None  # TOML has no null: "none", as in a link
        lines.append(f"{key} = {toml_text(value_text(key, value)) if is_text else repr(kind(value))}")
    return "\n".join(lines) + "\n"


def command_for(
    scenario: Scenario,
    command: str = "run",
    vary: Mapping[str, Iterable[Any]] | None = None,
    trace: str = "",
    profile: str = "",
    format: str = "",
) -> str:
    """Return the shell command that reproduces a view, quoted for POSIX shells.

    Parameters
    ----------
    scenario : Scenario
        What the view shows.
    command : str
        `run`, `frontier`, `capacity` or `shift`.
    vary : mapping of key to values, optional
        Only for `frontier`: the scenario keys, or `load_frac`, that it varies.
    trace, profile : str
        File names, when the view uses them.
    format : str
        Output format, when not the default.
    """
    words = ["python", "-m", "sim_core", command, to_query(scenario)]
    for key, values in (vary or {}).items():
        mark = ";" if key == "mix" else ","  # a mix has commas of its own
        words += ["--vary", f"{key}={mark.join(value_text(key, value) for value in values)}"]
    for option, value in (("--trace", trace), ("--profile", profile), ("--format", format)):
        words += [option, value] if value else []
    return shlex.join(words)
