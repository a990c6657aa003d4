"""`--model FILE`: a model of one's own from the `config.json` that hubs publish."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from sim_core.catalogue.models import own_text
from sim_core.catalogue.models.config import ReadConfig
from sim_core.catalogue.models.config.files import is_model_file, read_model

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
    if not is_model_file(name):
        return (f"model={name}",)
    found = read_model(name)
    for note in _notes(found):
        click.echo(f"{name}: {note}", err=True)
    return (f"own_model={own_text(found.model)}",)


def _notes(found: ReadConfig) -> list[str]:
    unknown = f"not understood: {', '.join(found.unknown)}" if found.unknown else ""
    stored = sorted(set(found.model.stored_dtypes("native")) - {"bf16"})
    native = f"stored as {' and '.join(stored)}, which weight_dtype=native takes" if stored else ""
    return [*found.assumed, *filter(None, [unknown, native])]
