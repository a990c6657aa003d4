"""The scenario as text: a link, a TOML file, a shell command, and back.

A link is plain `key=value` with the names, units and limits of `Scenario`; defaults are left out and
`v=1` states the schema. Links are read leniently (`from_query` ignores what is wrong and says so), files
and command-line values strictly (`from_toml`, `parse_value`, `load_scenario` raise `ScenarioError`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from sim_core.catalogue.reader import listed_by
from sim_core.fields.errors import ScenarioError, did_you_mean, shown
from sim_core.fields.texts import printable
from sim_core.scenario.link.changes import parse_value, with_changes
from sim_core.scenario.link.write import value_text
from sim_core.scenario.ready import ready_scenario
from sim_core.scenario.scenario import DEFAULTS, FIELDS, SCHEMA_VERSION, Scenario

MAX_CHARACTERS = 8_000
MAX_PARAMETERS = 200
RESERVED = frozenset({"embed", "embed_options"})  # Streamlit's own parameters


class Note(NamedTuple):
    """What is wrong with a part of a link: as a page says it, which goes on, and as a refusal does."""

    lenient: str
    strict: str


TOO_LONG = Note(
    f"The link is too long; only its first {MAX_CHARACTERS:,} characters were read.",
    f"The link is too long; the limit is {MAX_CHARACTERS:,} characters. Write a TOML file.",
)


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
    scenario, notes = read_link(source, ignore)
    return scenario, [printable(note.lenient) for note in notes]


def read_link(
    source: str | bytes | Mapping[str, Any], ignore: Iterable[str] = ()
) -> tuple[Scenario, list[Note]]:
    """Return the scenario of a link and what is wrong with it, as `from_query` does, in both words."""
    notes: list[Note] = []
    pairs = _pairs(source, notes)
    texts = _last_texts(pairs, RESERVED | frozenset(ignore), notes)
    base = _ready(texts.pop("preset", ""), notes)
    values: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            values[key] = parse_value(key, text)
        except ScenarioError as error:
            notes.append(_ignored(error, key))
    return _combined(values, notes, base), notes


def _ready(name: str, notes: list[Note]) -> Scenario:
    """Return the ready scenario that a link begins with; the default one if it names none."""
    if not name:
        return Scenario()
    try:
        return ready_scenario(name).build()
    except ScenarioError as error:
        notes.append(Note(f"{error} Ignored: the default scenario is used.", str(error)))
        return Scenario()


def _pairs(source: object, notes: list[Note]) -> list[tuple[str, str]]:
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
        what = f"A {type(source).__name__} is not a link"
        notes.append(Note(f"{what}; the default scenario is used.", f"{what}."))
        return []
    if len(pairs) > MAX_PARAMETERS:
        many = f"The link has {len(pairs):,} parameters"
        notes.append(
            Note(
                f"{many}; only the first {MAX_PARAMETERS} were read.",
                f"{many}; the limit is {MAX_PARAMETERS}.",
            )
        )
    return pairs[:MAX_PARAMETERS]


def _query_part(text: str, notes: list[Note]) -> str:
    """Return what follows the `?` of a link, without fragment, cut to the longest length allowed."""
    if len(text) > MAX_CHARACTERS:
        notes.append(TOO_LONG)
        text = text[:MAX_CHARACTERS].rpartition("&")[0]  # never half a value
    text = text.strip()
    head, mark, tail = text.partition("?")
    if mark and "=" not in head:
        text = tail
    elif text.startswith(("http://", "https://")):
        text = ""
    return text.partition("#")[0]


def _mapping_pairs(source: Mapping[Any, Any], notes: list[Note]) -> list[tuple[str, str]]:
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
                notes.append(TOO_LONG)
                return pairs
            pairs.append(pair)
    return pairs


def _last_texts(
    pairs: list[tuple[str, str]], passed_over: frozenset[str], notes: list[Note]
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
    for key in repeated:
        twice = f"{key} is given more than once"
        notes.append(Note(f"{twice}; the last value counts.", f"{twice}. Give it once."))
    for key in unknown:
        what, meant = f"Unknown key {shown(key)}", did_you_mean(key[:60], FIELDS, listed_by("keys"))
        notes.append(Note(f"{what} was ignored. {meant}", f"{what}. {meant}"))
    if "v" in texts:
        _check_version(texts.pop("v"), notes)
    return {key: text for key, text in texts.items() if key in FIELDS or key == "preset"}


def _check_version(text: str, notes: list[Note]) -> None:
    number = int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else None
    if number is None or number < 1:
        wrong = f"v is {shown(text)}; it must be {SCHEMA_VERSION}."
        notes.append(Note(f"{wrong} The link is read as v={SCHEMA_VERSION}.", wrong))
    elif number > SCHEMA_VERSION:
        newer = f"The link was written by a newer version (v={number}); this one reads v={SCHEMA_VERSION}"
        notes.append(
            Note(f"{newer}, so what it shows may differ.", f"{newer}. Install that one, or leave v out.")
        )


def _combined(values: dict[str, Any], notes: list[Note], base: Scenario) -> Scenario:
    """Return the scenario of values that are good alone; those that contradict the others become notes."""
    try:
        return with_changes(base, **values)
    except ScenarioError as error:
        reason = error
    for key in reversed(values):
        rest = {other: value for other, value in values.items() if other != key}
        try:
            scenario = with_changes(base, **rest)
        except ScenarioError:
            continue
        notes.append(_ignored(reason, key))
        return scenario
    return _accumulated(values, notes, base)


def _accumulated(values: dict[str, Any], notes: list[Note], base: Scenario) -> Scenario:
    """Return the scenario of values taken one after the other, as far as they agree."""
    taken: dict[str, Any] = {}
    for key, value in values.items():
        try:
            with_changes(base, **{**taken, key: value})
        except ScenarioError as error:
            notes.append(_ignored(error, key))
        else:
            taken[key] = value
    return with_changes(base, **taken)


def _ignored(error: ScenarioError, key: str) -> Note:
    return Note(f"{error} {_fallback(key)}", str(error))


def _fallback(key: str) -> str:
    """Return what is used in place of an ignored value."""
    default = DEFAULTS[key]
    if default is None:
        return "Ignored: the preset's value is used."
    return f"Ignored: {key} is {value_text(key, default) or 'empty'}, the default."
