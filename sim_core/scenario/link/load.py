"""Scenarios from presets, files and links, strictly: whatever is wrong raises a `ScenarioError`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sim_core.catalogue.models import own_text
from sim_core.catalogue.models.config.files import is_model_file, read_model
from sim_core.catalogue.reader import listed_by, preset_ids
from sim_core.fields.errors import ScenarioError, did_you_mean, shown
from sim_core.fields.texts import printable, read_text, read_toml
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.link.page_settings import PAGE_KEYS
from sim_core.scenario.link.read import read_link
from sim_core.scenario.link.write import DESCRIPTIVE
from sim_core.scenario.ready import ready_scenario
from sim_core.scenario.scenario import FIELDS, SCHEMA_VERSION, Scenario

# Files


def from_toml(text: str, name: str = "the TOML text", folder: Path | None = None) -> Scenario:
    """Return the scenario of a TOML text: scenario keys plus those that describe it.

    In a file, whose `folder` is known, `model` may be a path: of a `config.json` or the folder that it is in.

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
        return with_changes(Scenario(), **(_with_model_file(table, folder) if folder else table))
    except ScenarioError as error:
        raise ScenarioError(f"{name}: {error}") from None


def _with_model_file(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the keys of a file with its model's own text in place of the path of its configuration."""
    model = table.get("model")
    if not isinstance(model, str) or model in preset_ids("models") or not is_model_file(model, folder):
        return table
    others = {key: value for key, value in table.items() if key != "model"}
    return {**others, "own_model": own_text(read_model(folder / model).model)}


def load_scenario(source: str | os.PathLike[str] | Scenario = "", /, **overrides: object) -> Scenario:
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
    scenario, notes = read_link(text, ignore=PAGE_KEYS)
    if notes:
        raise ScenarioError(" ".join(printable(note.strict) for note in notes[:5]))
    return scenario


def _from_file(path: str | os.PathLike[str]) -> Scenario:
    return from_toml(read_text(path, "the scenario file"), Path(path).name, Path(path).parent)


def _from_preset(name: str) -> Scenario:
    known = preset_ids("scenarios")
    if name not in known:
        raise ScenarioError(
            f"unknown scenario {shown(name)}. {did_you_mean(name[:60], known, listed_by('scenarios'))} "
            "A scenario is a preset id, a path that ends in .toml, or a link with key=value."
        )
    return ready_scenario(name).build()
