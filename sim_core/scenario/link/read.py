"""The scenario as text: a link, a TOML file, a shell command, and back.

A link is plain `key=value` with the names, units and limits of `Scenario`; defaults are left out and
`v=1` states the schema. Links are read leniently (`from_query` ignores what is wrong and says so), files
and command-line values strictly (`from_toml`, `parse_value`, `load_scenario` raise `ScenarioError`).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from sim_core.scenario.scenario import (
    DEFAULTS,
    DIMENSIONS,
    FIELDS,
    SCHEMA_VERSION,
    SPECS,
    FieldInfo,
    Scenario,
    ScenarioError,
    check,
    did_you_mean,
    shown,
)

MAX_CHARACTERS = 8_000
MAX_PARAMETERS = 200
MAX_TOML_CHARACTERS = 200_000
MAX_NOTE_CHARACTERS = 400
RESERVED = frozenset({"embed", "embed_options"})  # Streamlit's own parameters
VIEW_KEYS = frozenset(  # what pages add to a link: how, not what, is shown
    (
        *("against", "among", "answers", "at_batch", "at_context", "axes", "batching", "bench", "calfrom"),
        *(
            "calmetric",
            "calview",
            "compare",
            "devices",
            "extent",
            "fine",
            "from_s",
            "lesson",
            "level",
            "over",
        ),
        *("phases", "pool_load", "pools", "rows", "rules", "setup", "shift", "show", "shown", "span_s"),
        *("sense", "split", "step", "strategy", "target_rate", "target_user", "tuned", "valcolour"),
        *("valengine", "valfamily", "valkind", "valmetric", "valpart", "valview", "vary", "versus"),
        *("room", "host", "me"),  # of the Room page alone, never in a shared link
    )
)
DESCRIPTIVE = ("title", "story", "expected", "description", "source")
NO_SPEED = ("hbm_gb", "tdp_w", "price_usd_per_hour")  # specs on which the time of a step does not depend
FLAT_CLASS = "flat"
FLAT_LENGTHS = frozenset({"prompt_tokens", "prompt_cv", "output_tokens", "output_cv"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


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


def value_text(key: str, value: Any) -> str:
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


def toml_text(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's, apart from DEL and lone surrogates."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")


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


# Text to values, strictly


def parse_value(key: str, text: str) -> Any:
    """Return the value of one key from text, checked; `none` takes an override back to the preset's value.

    Raises
    ------
    ScenarioError
        If the key is unknown, or the value is not of its type, outside its limits or an unknown id.
    """
    if key not in FIELDS:
        raise ScenarioError(f"unknown key {shown(key)}. {did_you_mean(key[:60], FIELDS)}")
    value = _typed(text, FIELDS[key])
    check_value(key, value)
    return value


def _typed(text: str, info: FieldInfo) -> Any:
    """Return text as the kind the key wants; text that is no number stays text, for the check to refuse."""
    if info.kind is str:
        return text
    word = text.strip()
    if info.optional and word == "none":
        return None
    if len(word) > 40 or not _NUMBER.fullmatch(word):
        return float(word) if word.lower().lstrip("+-") in ("nan", "inf", "infinity") else text
    number = float(word)
    if info.kind is int and number.is_integer():
        return int(word) if word.lstrip("+-").isdigit() else int(number)
    return number


def check_value(key: str, value: Any) -> None:
    """Raise a `ScenarioError` unless `value` may stand under `key`: type, limits, and known preset ids."""
    try:
        check(key, value, FIELDS[key])
    except OverflowError:
        raise ScenarioError(
            f"{key} is {shown(value)}; it must be at most {FIELDS[key].high:,.15g}."
        ) from None
    if key in ("model", "accelerator", "mix", "mix_other"):
        _check_ids(key, value)
    if key == "request_list" and value:
        from sim_core.scenario.request_lists import parse_request_list

        parse_request_list(value)
    if key == "constants" and value:
        from sim_core.catalogue.calibrations import calibration, parse_constants, with_constants

        with_constants(calibration("typical"), parse_constants(value))
    if key == "step_profile" and value:
        from sim_core.scenario.profiles import parse_profile

        parse_profile(value)


def _check_ids(key: str, value: str) -> None:
    """Raise a `ScenarioError` if `value` names a preset that does not exist, or is no mix."""
    from sim_core.catalogue import reader as presets

    if key in ("mix", "mix_other"):
        mix_classes(value)
        return
    known = presets.preset_ids("accelerators" if key == "accelerator" else "models")
    known = ("custom", *known) if key == "model" else known
    if value not in known:
        raise ScenarioError(f"unknown {key} {shown(value)}. {did_you_mean(value[:60], known)}")


def check_together(scenario: Scenario) -> None:
    """Raise a `ScenarioError` if the model's dimensions contradict one another."""
    from sim_core.catalogue import reader as presets

    presets.model_of(scenario)


def mix_classes(mix: str) -> list[str]:
    """Return the class names of a mix such as `chat:0.7,rag:0.3`, or raise a `ScenarioError`."""
    from sim_core.traffic.draws import parse_mix

    return [item.name for item in parse_mix(mix)] if mix.strip() else []


def with_changes(scenario: Scenario, /, **changes: Any) -> Scenario:
    """Return the scenario with some keys changed, as a person means it.

    Three rules beyond `Scenario.replace`, all overruled by naming the key itself:

    - A flat length (`prompt_tokens`, `prompt_cv`, `output_tokens`, `output_cv`) is meant to count: a mix
      without the class `flat` is set back to the one flat class.
    - Another `accelerator` comes with its own specs, another `model` with its own dimensions: overrides
      of the old one are dropped.
    - Measured step times hold for what they were measured on: another model, device, layout or precision
      drops the `step_profile`, and the calibration predicts again.

    Raises
    ------
    ScenarioError
        If a key is unknown or a value cannot be used.
    """
    for key, value in changes.items():
        if key not in FIELDS:
            raise ScenarioError(f"unknown key {shown(key)}. {did_you_mean(key[:60], FIELDS)}")
        check_value(key, value)
    implied: dict[str, Any] = {}
    if FLAT_LENGTHS & changes.keys() and FLAT_CLASS not in mix_classes(scenario.mix):
        implied["mix"] = ""
    for key, overrides in (("accelerator", SPECS), ("model", DIMENSIONS)):
        if changes.get(key, getattr(scenario, key)) != getattr(scenario, key):
            implied |= dict.fromkeys(overrides)
    if scenario.step_profile and any(changes.get(key, old) != old for key, old in _measured_on(scenario)):
        implied["step_profile"] = ""
    changed = scenario.replace(**(implied | changes))
    check_together(changed)
    return changed


def _measured_on(scenario: Scenario) -> list[tuple[str, Any]]:
    """Return the keys, with their values, that decide how long a step takes."""
    keys = ("model", *DIMENSIONS, "accelerator", *(key for key in SPECS if key not in NO_SPEED))
    keys += ("tensor_parallel", "expert_parallel", "weight_dtype", "kv_dtype", "calibration", "constants")
    return [(key, getattr(scenario, key)) for key in keys]


# Files


def from_toml(text: str, name: str = "the TOML text") -> Scenario:
    """Return the scenario of a TOML text: scenario keys plus those that describe it.

    Raises
    ------
    ScenarioError
        If the text is no TOML, a key is unknown, or a value has the wrong type or lies outside its limits.
    """
    table = read_toml(text, name)
    version = table.pop("v", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ScenarioError(
            f"{name}: v is {shown(version)}; this version reads v = {SCHEMA_VERSION}. "
            "Update Batchscope, or write the file again with this version."
        )
    for key in (*DESCRIPTIVE, "page"):
        if not isinstance(table.pop(key, ""), str):
            raise ScenarioError(f"{name}: {key} must be text in quotes.")
    for key in (key for key, value in table.items() if value == "none"):
        if key in FIELDS and FIELDS[key].optional:
            table[key] = None
    try:
        return with_changes(Scenario(), **table)
    except ScenarioError as error:
        raise ScenarioError(f"{name}: {error}") from None


def read_toml(text: str, name: str) -> dict[str, Any]:
    """Return the table of a TOML text, or raise a `ScenarioError` that names the file and the place."""
    if len(text) > MAX_TOML_CHARACTERS:
        raise ScenarioError(f"{name} is {len(text):,} characters long; the limit is {MAX_TOML_CHARACTERS:,}.")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError is also what an over-long number raises
        raise ScenarioError(f"{name} is not valid TOML: {_one_line(error)}") from None


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """Return a small UTF-8 text file, or raise a `ScenarioError` that says why it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(4 * MAX_TOML_CHARACTERS + 1)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ScenarioError(f"{what} {shown(str(path))} is not UTF-8 text. Save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or _one_line(error)
        raise ScenarioError(f"{what} {shown(str(path))} cannot be read: {reason}.") from None


def load_scenario(source: str | os.PathLike[str] | Scenario = "", /, **overrides: Any) -> Scenario:
    """Return a scenario from a preset id, a TOML path, a link or a query string, with keys overridden.

    Parameters
    ----------
    source : str, path or Scenario
        Empty for the default scenario; the id of a scenario preset; the path of a TOML file; a link
        (`https://...?v=1&max_batch=64`) or a query string (`max_batch=64&seed=3`).
    **overrides
        Scenario keys and their values, applied by the rules of `with_changes`: a flat length switches a
        mix without the class `flat` off, another accelerator or model comes with its own specs.

    Raises
    ------
    ScenarioError
        If the source cannot be found or read, or anything in it or in the overrides is wrong.

    Examples
    --------
    >>> load_scenario("max_batch=64", seed=3).changed()
    {'seed': 3, 'max_batch': 64}
    """
    return with_changes(_from_source(source), **overrides)


def _from_source(source: str | os.PathLike[str] | Scenario) -> Scenario:
    if isinstance(source, Scenario):
        return source
    if isinstance(source, os.PathLike):
        return _from_file(source)
    if not isinstance(source, str):
        raise ScenarioError(f"a scenario cannot be made from {shown(source)}; give an id, a path or a link.")
    text = source.strip()
    if not text:
        return Scenario()
    if text.startswith(("?", "http://", "https://")):
        return _from_link(text)
    if text.lower().endswith(".toml"):
        return _from_file(text)
    if "=" in text:
        return _from_link(text)
    return _from_preset(text)


def _from_link(text: str) -> Scenario:
    scenario, notes = from_query(text, ignore=VIEW_KEYS)
    if notes:
        # The notes tell what a page passed over; here nothing is passed over.
        raise ScenarioError(
            " ".join(re.sub(r" was ignored(?=\.)| Ignored: .*", "", note) for note in notes[:5])
        )
    return scenario


def _from_file(path: str | os.PathLike[str]) -> Scenario:
    return from_toml(read_text(path, "the scenario file"), Path(path).name)


def _from_preset(name: str) -> Scenario:
    from sim_core.catalogue import reader as presets

    known = presets.preset_ids("scenarios")
    if name not in known:
        raise ScenarioError(
            f"unknown scenario {shown(name)}. {did_you_mean(name[:60], known)} "
            "A scenario is a preset id, a path that ends in .toml, or a link with key=value."
        )
    return presets.scenario_preset(name).build()


# Links, leniently


def from_query(
    source: str | bytes | Mapping[str, Any], ignore: Iterable[str] = ()
) -> tuple[Scenario, list[str]]:
    """Return the scenario of a link and one note for each part that was ignored. Never raises.

    Parameters
    ----------
    source : str, bytes or mapping
        A link, a query string with or without `?`, or decoded parameters (values: text or a list of
        texts; `st.query_params` is one).
    ignore : iterable of str
        Keys that belong to the page and are passed over in silence.

    Returns
    -------
    scenario : Scenario
        The defaults, changed by every part that could be used.
    notes : list of str
        Printable sentences of at most 400 characters.
    """
    notes: list[str] = []
    pairs = _pairs(source, notes)
    texts = _last_texts(pairs, RESERVED | frozenset(ignore), notes)
    base = _ready(texts.pop("preset", ""), notes)
    values: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            values[key] = parse_value(key, text)
        except ScenarioError as error:
            notes.append(f"{error} {_fallback(key)}")
    scenario = _combined(values, notes, base)
    return scenario, [_printable(note) for note in notes]


def _ready(name: str, notes: list[str]) -> Scenario:
    """Return the ready scenario that a link begins with; the default one if it names none."""
    from sim_core.catalogue import reader as presets

    if not name:
        return Scenario()
    try:
        return presets.scenario_preset(name).build()
    except ScenarioError as error:
        notes.append(f"{error} Ignored: the default scenario is used.")
        return Scenario()


def _pairs(source: Any, notes: list[str]) -> list[tuple[str, str]]:
    """Return the (key, text) pairs of a link or mapping, capped in number and length."""
    if isinstance(source, Mapping):
        pairs = _mapping_pairs(source, notes)
    elif isinstance(source, (str, bytes, bytearray)):
        text = (
            source
            if isinstance(source, str)
            else bytes(source[: 4 * MAX_CHARACTERS]).decode("utf-8", "replace")
        )
        query = _query_part(text, notes)
        parts = query.split("&")
        pairs = [pair for part in parts for pair in parse_qsl(part, keep_blank_values=True)]
    else:
        notes.append(f"A {type(source).__name__} is not a link; the default scenario is used.")
        return []
    if len(pairs) > MAX_PARAMETERS:
        notes.append(f"The link has {len(pairs):,} parameters; only the first {MAX_PARAMETERS} were read.")
    return pairs[:MAX_PARAMETERS]


def _query_part(text: str, notes: list[str]) -> str:
    """Return what follows the `?` of a link, without fragment, cut to the longest length allowed."""
    if len(text) > MAX_CHARACTERS:
        notes.append(f"The link is too long; only its first {MAX_CHARACTERS:,} characters were read.")
        text = text[:MAX_CHARACTERS].rpartition("&")[0]  # never half a value
    text = text.strip()
    head, mark, tail = text.partition("?")
    if mark and "=" not in head:
        text = tail
    elif text.startswith(("http://", "https://")):
        text = ""
    return text.partition("#")[0]


def _mapping_pairs(source: Mapping[Any, Any], notes: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of decoded parameters; a key given several times has a list, or `get_all`."""
    get_all = getattr(source, "get_all", None)
    pairs: list[tuple[str, str]] = []
    length = 0
    for key in source:
        value = get_all(key) if callable(get_all) else source[key]
        for item in value if isinstance(value, (list, tuple)) else [value]:
            pair = (str(key), str(item))
            length += len(pair[0]) + len(pair[1]) + 2
            if length > MAX_CHARACTERS:
                notes.append(f"The link is too long; only its first {MAX_CHARACTERS:,} characters were read.")
                return pairs
            pairs.append(pair)
    return pairs


def _last_texts(
    pairs: list[tuple[str, str]], passed_over: frozenset[str], notes: list[str]
) -> dict[str, str]:
    """Return the text of every known key; unknown and repeated keys and newer schemas become notes."""
    texts: dict[str, str] = {}
    repeated: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for key, text in pairs:
        if key in passed_over:
            continue
        if key not in FIELDS and key not in ("v", "preset"):
            unknown[key] = None
        elif key in texts:
            repeated[key] = None
        texts[key] = text
    notes += [f"{key} is given more than once; the last value counts." for key in repeated]
    notes += [f"Unknown key {shown(key)} was ignored. {did_you_mean(key[:60], FIELDS)}" for key in unknown]
    if "v" in texts:
        _check_version(texts.pop("v"), notes)
    return {key: text for key, text in texts.items() if key in FIELDS or key == "preset"}


def _check_version(text: str, notes: list[str]) -> None:
    number = int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else None
    if number is None or number < 1:
        notes.append(
            f"v is {shown(text)}; it must be {SCHEMA_VERSION}. The link is read as v={SCHEMA_VERSION}."
        )
    elif number > SCHEMA_VERSION:
        notes.append(
            f"The link was written by a newer version (v={number}); this one reads v={SCHEMA_VERSION}, "
            "so what it shows may differ."
        )


def _combined(values: dict[str, Any], notes: list[str], base: Scenario) -> Scenario:
    """Return the scenario of values that are good alone; those that contradict the others become notes."""
    try:
        return _consistent(values, base)
    except ScenarioError as error:
        reason = error
    for key in reversed(values):
        rest = {other: value for other, value in values.items() if other != key}
        try:
            scenario = _consistent(rest, base)
        except ScenarioError:
            continue
        notes.append(f"{reason} {_fallback(key)}")
        return scenario
    return _accumulated(values, notes, base)


def _accumulated(values: dict[str, Any], notes: list[str], base: Scenario) -> Scenario:
    """Return the scenario of values taken one after the other, as far as they agree."""
    taken: dict[str, Any] = {}
    for key, value in values.items():
        try:
            _consistent(taken | {key: value}, base)
        except ScenarioError as error:
            notes.append(f"{error} {_fallback(key)}")
        else:
            taken[key] = value
    return _consistent(taken, base)


def _consistent(values: dict[str, Any], base: Scenario) -> Scenario:
    """Return a link's scenario: its values alone, or a ready scenario changed as a person means it."""
    if base.changed():
        return with_changes(base, **values)
    scenario = Scenario(**values)
    check_together(scenario)
    return scenario


def _fallback(key: str) -> str:
    """Return what is used in place of an ignored value."""
    default = DEFAULTS[key]
    if default is None:
        return "Ignored: the preset's value is used."
    return f"Ignored: {key} is {value_text(key, default) or 'empty'}, the default."


def _one_line(error: BaseException) -> str:
    return _printable(" ".join(str(error).split()))


def _printable(text: str) -> str:
    """Return text cut to a note's length, with what cannot be printed shown as `?`."""
    if len(text) > MAX_NOTE_CHARACTERS:
        text = text[: MAX_NOTE_CHARACTERS - 1] + "…"
    return "".join(character if character.isprintable() else "?" for character in text)
