"""A model's configuration as it lies on disk: a `config.json`, or the folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sim_core.catalogue.models.config.read import ReadConfig, read_config
from sim_core.fields.errors import ScenarioError, shown
from sim_core.fields.texts import MAX_JSON_CHARACTERS, read_json, read_text

QUANTISED = "hf_quant_config.json"


def is_model_file(name: str, folder: Path = Path()) -> bool:
    """Return whether a model is named by a file, or by a folder within another one."""
    return name.lower().endswith(".json") or (bool(name) and (folder / name).is_dir())


def read_model(path: str | Path) -> ReadConfig:
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
