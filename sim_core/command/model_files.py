"""`--model FILE`: a model of one's own from the `config.json` that hubs publish."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sim_core.catalogue.models import own_text
from sim_core.catalogue.models.config import ReadConfig, read_config
from sim_core.fields.errors import ScenarioError, shown
from sim_core.fields.texts import MAX_JSON_CHARACTERS, read_json, read_text

QUANTISED = "hf_quant_config.json"
MODEL_HELP = "A model preset, or your own: the config.json of a checkpoint, or the folder that it is in."


def model_option(command: Callable) -> Callable:
    """Add the option that names a model; the command is given it among its settings."""

    @functools.wraps(command)
    def with_model(*, model_name: str, settings: tuple[str, ...], **given: Any) -> Any:
        return command(settings=(*_settings(model_name or ""), *settings), **given)

    return click.option("--model", "model_name", metavar="FILE", help=MODEL_HELP)(with_model)


def _settings(name: str) -> tuple[str, ...]:
    """Return the settings that a model given by name or by file stands for."""
    if not name:
        return ()
    if not name.lower().endswith(".json") and not Path(name).is_dir():
        return (f"model={name}",)
    found = read_model(name)
    for note in _notes(found):
        click.echo(f"{name}: {note}", err=True)
    return (f"own_model={own_text(found.model)}",)


def read_model(path: str) -> ReadConfig:
    """Return the model of a configuration, given by its file or the folder that it is in.

    Formats of weights in a file of their own beside it, as of NVIDIA's checkpoints, are taken as well.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    table = _table(file)
    beside = file.with_name(QUANTISED)
    if isinstance(table, dict) and "quantization_config" not in table and beside.is_file():
        formats = _table(beside)
        if not isinstance(formats, dict):
            raise ScenarioError(f"{QUANTISED} is {shown(formats)}; it must be a table.")
        table |= {"quantization": formats.get("quantization")}
    return read_config(table, file.name)


def _table(file: Path) -> Any:
    return read_json(read_text(file, "the configuration", MAX_JSON_CHARACTERS), file.name)


def _notes(found: ReadConfig) -> list[str]:
    unknown = f"not understood: {', '.join(found.unknown)}" if found.unknown else ""
    stored = sorted(set(found.model.stored_dtypes("native")) - {"bf16"})
    native = f"stored as {' and '.join(stored)}, which weight_dtype=native takes" if stored else ""
    return [*found.assumed, *filter(None, [unknown, native])]
