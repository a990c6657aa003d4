"""`list`: the presets of each kind, and all keys; `model`: what a configuration says of one's own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import click

from sim_core import catalogue
from sim_core.catalogue.acceptance import MOST_MEASURED, acceptance_rows, acceptance_sources
from sim_core.catalogue.models import own_text
from sim_core.catalogue.models.config.files import read_model
from sim_core.catalogue.models.sizes import known_as, sizes
from sim_core.command.group import cli
from sim_core.command.output import emit, lines_of
from sim_core.results import text as report
from sim_core.scenario.link.write import to_query
from sim_core.scenario.ready import ready_scenarios
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario

LISTED = ("models", "accelerators", "engines", "acceptance", "workloads", "scenarios", "lessons", "keys")
LONG_COLUMNS = ("source", "notes", "story", "expected", "query", "help")  # in JSON, too long for a table


def _models() -> list[dict[str, Any]]:
    return [
        {
            "id": model.id,
            "name": model.name,
            "family": model.family,
            "layers": model.layers,
            "total_params_b": model.total_params / 1e9,
            "active_params_b": model.active_params / 1e9,
            "kv_kb_per_token": model.kv_bytes_per_token() / 1e3,
            "weights": model.native_weight_dtype,
            "source": model.source,
        }
        for model in catalogue.models().values()
    ]


def _accelerators() -> list[dict[str, Any]]:
    speeds = ("bf16_tflop_per_s", "fp8_tflop_per_s", "fp4_tflop_per_s", "hbm_gb_per_s", "hbm_gb")
    links = ("link_gb_per_s", "node_devices", "node_link_gb_per_s")
    power = ("tdp_w", "sustained_frac")
    keys = ("id", "name", "vendor", "year", *speeds, *links, *power, "price_usd_per_hour", "source")
    return [{key: getattr(part, key) for key in keys} for part in catalogue.accelerators().values()]


def _engines() -> list[dict[str, Any]]:
    return [dataclasses.asdict(item) for item in catalogue.engines().values()]


def _acceptance() -> list[dict[str, Any]]:
    numbers = [f"k{count}" for count in range(1, MOST_MEASURED + 1)]
    return [
        dict(row)
        | {name: float(row[name]) if row[name] else None for name in numbers}
        | {"source": "{title}, {url}. {note}".format_map(acceptance_sources()[row["source"]])}
        for row in acceptance_rows()
    ]


def _workloads() -> list[dict[str, Any]]:
    from sim_core.traffic.lengths import length_classes

    rows = []
    for name, item in catalogue.workloads().items():
        lengths = length_classes(Scenario(mix=name))[0]
        rows.append(
            {
                "id": name,
                "title": item.title,
                "prompt_tokens": round(lengths.prompt.mean, 1),
                "output_tokens": round(lengths.output.mean, 1),
                "source": item.source,
            }
        )
    return rows


def _scenarios() -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "title": item.title,
            "story": item.story,
            "expected": item.expected,
            "query": to_query(item.build()),
        }
        for name, item in ready_scenarios().items()
    ]


def _lessons() -> list[dict[str, Any]]:
    from sim_core.questions.teaching.lessons import as_dicts

    return as_dicts()


def _keys() -> list[dict[str, Any]]:
    return [
        {
            "id": key,
            "group": info.group,
            "label": info.label,
            "default": DEFAULTS[key],
            "unit": info.unit,
            "low": info.low if math.isfinite(info.low) else None,
            "high": info.high if math.isfinite(info.high) else None,
            "choices": " ".join(filter(None, info.choices)),
            "help": info.help,
        }
        for key, info in FIELDS.items()
    ]


LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "models": _models,
    "accelerators": _accelerators,
    "engines": _engines,
    "acceptance": _acceptance,
    "workloads": _workloads,
    "scenarios": _scenarios,
    "lessons": _lessons,
    "keys": _keys,
}


@cli.command("list")
@click.argument("kind", type=click.Choice(LISTED), metavar="|".join(LISTED))
@click.option("--format", "form", type=click.Choice(report.FORMATS), default="table", show_default=True)
def list_presets(kind: str, form: str) -> None:
    """List the presets of one kind by id, or the keys of a scenario."""
    rows = LISTS[kind]()
    if form == "json":
        emit(report.json_text(rows))
    elif form == "csv":
        emit(report.csv_text(rows))
    elif not rows:
        emit(f"No {kind} yet.")
    else:
        emit(report.table_text(rows, [key for key in report.columns_of(rows) if key not in LONG_COLUMNS]))


@cli.command("model", help="Show what a config.json says of a model, and its text for links and files.")
@click.argument("file")
@click.option("--format", "form", type=click.Choice(report.FORMATS), default="table", show_default=True)
def show_model(file: str, form: str) -> None:
    found = read_model(file)
    told = sizes(found.model) | {
        "known_as": [item.id for item in known_as(found.model)],
        "assumed": list(found.assumed),
        "not_understood": list(found.unknown),
        "own_model": own_text(found.model),
    }
    if form == "json":
        emit(report.json_text(told))
    elif form == "csv":
        emit(report.csv_text([told]))
    else:
        short = {
            key: value for key, value in told.items() if not isinstance(value, list) and key != "own_model"
        }
        lists = ("kinds", "known_as", "assumed", "not_understood")
        lines = [f"{key.replace('_', ' ')}: {line}" for key in lists for line in told[key]]
        emit("\n".join([lines_of(short), *lines, "", f"own_model = {told['own_model']}"]))
