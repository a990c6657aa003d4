"""What people keep: named engines, models, accelerators, prices, traffic and limits, in one TOML file.

Each is a part of a scenario: the keys of its kind that differ from the defaults. A visitor's own are kept in
their browser, a team's in a file on the server, and both are the same text::

    [limits."Premium chat"]
    slo_ttft_ms = 500.0

    [prices."Our contract"]
    h100-sxm = 2.1
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from sim_core.catalogue.prices import PRICE, parse_prices, write_prices
from sim_core.fields.described import checked_value
from sim_core.fields.errors import ScenarioError, check_known, did_you_mean, shown
from sim_core.fields.field import check
from sim_core.fields.texts import MAX_TOML_CHARACTERS, read_toml, toml_text, toml_value
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import DEFAULTS, DIMENSIONS, FIELDS, SCHEMA_VERSION, SPECS, Scenario

MOST_NAME = 60
MOST_OF_A_KIND = 50


class Kind(NamedTuple):
    """One kind of what is kept: what one and several are called, its keys, and what to do where a scenario
    has nothing of it; "" where the defaults are something, too.
    """

    one: str
    many: str
    keys: tuple[str, ...]
    else_do: str = ""


def _in_groups(*groups: str, but: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(key for key, info in FIELDS.items() if info.group in groups and key not in but)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "engines": Kind(
            "engine",
            "engines",
            ("engine", "calibration", "constants", "step_profile", "own_bands"),
            "Choose an engine, or fit one on the Calibrate page",
        ),
        "models": Kind("model", "models", ("model", "own_model", *DIMENSIONS)),
        "accelerators": Kind("accelerator", "accelerators", ("accelerator", *SPECS)),
        "prices": Kind("price list", "price lists", ("prices",), "Set prices on the Mine page"),
        "traffic": Kind(
            "kind of traffic",
            "kinds of traffic",
            _in_groups("traffic", "lengths", "caching", but=("requests", "seed")),
        ),
        "limits": Kind("set of limits", "sets of limits", _in_groups("limits")),
    }
)
_NAMING = ("model", "accelerator")  # always stated, also where they are the default
_OF_A_MIX = "class_limits"

Entry = Mapping[str, Any]  # keys of a scenario and their values
Kept = Mapping[str, Mapping[str, Entry]]  # by kind, then by name
NOTHING: Kept = MappingProxyType({kind: MappingProxyType({}) for kind in KINDS})


# --- one entry ------------------------------------------------------------------------------------


def entry_of(scenario: Scenario, kind: str) -> Entry:
    """Return what a scenario has of a kind.

    Raises
    ------
    ScenarioError
        If it has nothing of its own of a kind that is nothing without, such as prices.
    """
    if not _has(scenario, kind):
        about = KINDS[kind]
        raise ScenarioError(f"this setting has no {about.one} of its own. {about.else_do} first.")
    return MappingProxyType(_own(scenario, kind))


def _own(scenario: Scenario, kind: str) -> dict[str, Any]:
    """Return the keys of a kind that a scenario names or has otherwise than by default."""
    found = {key: getattr(scenario, key) for key in KINDS[kind].keys}
    return {key: value for key, value in found.items() if key in _NAMING or value != DEFAULTS[key]}


def kinds_in(scenario: Scenario) -> list[str]:
    """Return the kinds of which a scenario has something to keep."""
    return [kind for kind in KINDS if _has(scenario, kind)]


def _has(scenario: Scenario, kind: str) -> bool:
    return bool(_own(scenario, kind)) or not KINDS[kind].else_do


def used(scenario: Scenario, kind: str, entry: Entry) -> Scenario:
    """Return a scenario with what was kept in place of its own; keys of the kind that it does not name are
    as by default.

    Raises
    ------
    ScenarioError
        If what was kept does not go with the rest of the scenario.
    """
    return with_changes(scenario, **({key: DEFAULTS[key] for key in KINDS[kind].keys} | dict(entry)))


def is_used(scenario: Scenario, kind: str, entry: Entry) -> bool:
    """Return whether a scenario has what was kept."""
    return all(getattr(scenario, key) == entry.get(key, DEFAULTS[key]) for key in KINDS[kind].keys)


# --- all of them ----------------------------------------------------------------------------------


def keep(kept: Kept, kind: str, name: str, entry: Entry) -> Kept:
    """Return what is kept with one more; one of the same name gives way.

    Raises
    ------
    ScenarioError
        If the name cannot be one, or more would be kept than there may be.
    """
    return with_all_of(kept, {kind: {name: entry}})


def drop(kept: Kept, kind: str, name: str) -> Kept:
    """Return what is kept without one entry."""
    rest = {key: entry for key, entry in kept[kind].items() if key != name}
    return MappingProxyType({**kept, kind: MappingProxyType(rest)})


def with_all_of(kept: Kept, more: Kept) -> Kept:
    """Return what is kept with all of another, which wins where names are the same.

    Raises
    ------
    ScenarioError
        As `keep`.
    """
    for name in (name for entries in more.values() for name in entries):
        _check_name(name)
    found = {kind: MappingProxyType({**entries, **more.get(kind, {})}) for kind, entries in kept.items()}
    for kind, entries in found.items():
        _check_count(kind, len(entries))
    size = len(kept_toml(found))
    if size > MAX_TOML_CHARACTERS:
        raise ScenarioError(
            f"all that is kept would have {size:,} characters; the limit is {MAX_TOML_CHARACTERS:,}. "
            "Drop some first."
        )
    return MappingProxyType(found)


def _check_count(kind: str, count: int) -> None:
    if count > MOST_OF_A_KIND:
        raise ScenarioError(
            f"{count:,} {kind} would be kept; the limit is {MOST_OF_A_KIND}. Drop some first."
        )


def counts(kept: Kept) -> str:
    """Return how much of each kind is kept, in words.

    Examples
    --------
    >>> counts({"limits": {"Premium": {}}, "prices": {}, "traffic": {"Day": {}, "Night": {}}})
    '1 set of limits, 2 kinds of traffic'
    """
    found = {kind: len(entries) for kind, entries in kept.items() if entries}
    return ", ".join(f"{n} {KINDS[kind].one if n == 1 else KINDS[kind].many}" for kind, n in found.items())


def count_of(kept: Kept) -> int:
    """Return how many entries are kept."""
    return sum(map(len, kept.values()))


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > MOST_NAME or not name.isprintable() or name != name.strip():
        raise ScenarioError(
            f"{shown(name)} is no name to keep something under; take 1 to {MOST_NAME} printable characters, "
            "without spaces at its ends."
        )


# --- as TOML --------------------------------------------------------------------------------------


def kept_toml(kept: Kept) -> str:
    """Return what is kept as TOML, which `read_kept` reads back exactly."""
    lines = [f"v = {SCHEMA_VERSION}"]
    for kind, entries in kept.items():
        for name, entry in entries.items():
            lines += ["", f"[{kind}.{toml_text(name)}]"]
            lines += [f"{_bare(key)} = {toml_value(value)}" for key, value in _written(kind, entry).items()]
    return "\n".join(lines) + "\n"


def _written(kind: str, entry: Entry) -> Mapping[str, Any]:
    """Return an entry as a file has it: prices as a table of their own."""
    return parse_prices(entry["prices"]) if kind == "prices" else entry


def _bare(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() else toml_text(key)


def read_kept(text: str, name: str) -> Kept:
    """Return what a TOML text keeps; `name` is what messages call it.

    Raises
    ------
    ScenarioError
        If it is too long, no TOML, or anything in it is unknown, of the wrong type or out of range; the
        message names the entry.
    """
    table = read_toml(text, name)
    version = table.pop("v", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ScenarioError(f"{name}: v is {shown(version)}; this version reads v = {SCHEMA_VERSION}.")
    found: dict[str, dict[str, Entry]] = {}
    for kind, entries in table.items():
        if kind not in KINDS:
            raise ScenarioError(f"{name}: unknown part {shown(kind)}. {did_you_mean(kind[:60], KINDS)}")
        tables = _tables(entries, f"{name}: {kind}")
        if len(tables) > MOST_OF_A_KIND:
            raise ScenarioError(f"{name} has {len(tables):,} {kind}; the limit is {MOST_OF_A_KIND}.")
        found[kind] = {title: _named_entry(kind, title, entry, name) for title, entry in tables.items()}
    try:
        return with_all_of(NOTHING, found)
    except ScenarioError as error:
        raise ScenarioError(f"{name}: {error}") from None


def _named_entry(kind: str, title: str, table: object, name: str) -> Entry:
    """Return one entry of a file; what is wrong with it names file and entry."""
    try:
        _check_name(title)
        return _entry(kind, table)
    except ScenarioError as error:
        raise ScenarioError(f"{name}: {kind}, {shown(title)}: {error}") from None


def _tables(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ScenarioError(f'{place} is {shown(value)}; write a table for each, such as [kind."Name"].')
    return value


def _entry(kind: str, table: object) -> Entry:
    """Return one entry, checked: it must make a scenario of the default one.

    Limits of classes are left out of that, for the classes are those of a mix that the default has not.
    """
    values = _tables(table, "it")
    if kind == "prices":
        values = {"prices": write_prices(_checked_prices(values))}
    check_known(values, KINDS[kind].keys)
    entry = {key: checked_value(key, value, FIELDS[key]) for key, value in values.items()}
    entry_of(used(Scenario(), kind, {key: value for key, value in entry.items() if key != _OF_A_MIX}), kind)
    return MappingProxyType(entry)


def _checked_prices(values: Mapping[str, Any]) -> Mapping[str, float]:
    for name, price in values.items():
        if isinstance(price, bool) or not isinstance(price, int | float):
            raise ScenarioError(f"{name[:60]} is {shown(price)}; it must be a number of USD an hour.")
        check(name[:60], price, PRICE)
    return {name: float(price) for name, price in values.items()}
