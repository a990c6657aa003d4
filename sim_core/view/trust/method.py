"""The Method page, made from the code it describes: docstrings, field limits, calibrations and presets."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.acceptance import MOST_MEASURED, acceptance_rows, acceptance_sources
from sim_core.catalogue.calibrations import Constant, calibration
from sim_core.catalogue.engines import engines
from sim_core.catalogue.models.attention import Attention
from sim_core.catalogue.models.model import Model
from sim_core.catalogue.workloads import WorkloadPreset
from sim_core.fields.described import fields_of
from sim_core.fields.field import FieldInfo
from sim_core.price import price as prices
from sim_core.price.use import IDLE_POWER_FRAC, POWER_FRAC
from sim_core.price.work import exchange
from sim_core.questions import compare, design, sensitivity, speculation
from sim_core.questions.deployment import curves, layouts, recorded
from sim_core.questions.deployment.around import day, winners
from sim_core.questions.deployment.search import candidates, fleet, headroom, pools, race, trials
from sim_core.questions.shift.cluster import DEFAULT_SOURCES
from sim_core.questions.teaching import lessons, rooms
from sim_core.results import reuse
from sim_core.results.limits import bands_of, binding
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario, calibration_of
from sim_core.sweep.capacity import CAPACITY_REQUESTS
from sim_core.sweep.ranges import SEEDS
from sim_core.traffic import replay, sessions, units
from sim_core.view.drawing.figures import LIMITS
from sim_core.view.drawing.words import number, quantity
from sim_core.view.parts import pieces
from sim_core.view.parts.engine_words import comes_with, engine_flags
from sim_core.view.parts.views import tabs

_TEXT = (Path(__file__).parent / "method.md").read_text(encoding="utf-8")


def show(scenario: Scenario) -> None:
    """Draw the page."""
    st.title("Method")
    st.markdown(
        "Batchscope draws requests, prices each step of the engine, and runs the scheduler's rules step by "
        "step. Formulas, constants, limits and presets on this page come from the code and its files."
    )
    sections = {
        "definitions": _definitions,
        "cost": lambda: _cost(scenario),
        "scheduler": _scheduler,
        "speculation": _speculation,
        "layouts": _layouts,
        "plans": _plans,
        "pools": lambda: st.markdown(section("Two pools")),
        "shifts": _shifting,
        "comparing": _comparing,
        "timelines": lambda: st.markdown(section("Timelines and late tokens")),
        "engine": lambda: st.markdown(section("Your own engine")),
        "teaching": _teaching,
        "controls": _controls,
        "presets": _presets,
        "limits": lambda: st.markdown(section("Limits")),
    }
    for key, tab in tabs("method").items():
        if tab.open:
            with tab:
                sections[key]()


def section(title: str) -> str:
    """Return one section of the written part."""
    text = _TEXT.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    host, tuned = calibration("typical").base, calibration("submission").base
    values = {"{switch}": quantity(1e3 * host.prefill_request_s, "ms")}
    values |= {"{layer}": quantity(1e3 * host.prefill_layer_s, "ms")}
    values |= {"{step_layer}": quantity(1e3 * tuned.prefill_step_layer_s, "ms")}
    values |= {"{engines}": "; ".join(map(comes_with, engines().values()))}
    values |= {"{capacity_requests}": f"{CAPACITY_REQUESTS:,}", "{seeds}": str(SEEDS)}
    power = {"memory": POWER_FRAC["kv"], "waiting": POWER_FRAC["fixed"], "idle": IDLE_POWER_FRAC}
    values |= {f"{{{name}_power}}": f"{100 * frac:.0f} %" for name, frac in power.items()}
    values |= {"{pays}": prose(speculation)}
    for name, value in values.items():
        text = text.replace(name, value)
    return text.strip()


def _definitions() -> None:
    st.markdown(section("Definitions"))
    st.markdown("**What limits a point.** " + prose(binding))
    words = [(name, text) for name, (text, _) in LIMITS.items()]
    st.table(pd.DataFrame(words, columns=["Limit", "In words"]), hide_index=True)
    st.markdown("**Intervals.** " + prose(bands_of))


def _shifting() -> None:
    st.markdown(section("Traffic that shifts"))
    st.markdown("**Where the defaults come from**")
    rows = [
        (key, quantity(DEFAULTS[key], FIELDS[key].unit), source) for key, source in DEFAULT_SOURCES.items()
    ]
    st.table(pd.DataFrame(rows, columns=["Key", "Default", "Source"]), hide_index=True)
    st.caption(
        "They come from different machines and engines; together they are an assumption. Other kinds of "
        "move: a role flip with the weights in place took 0.38 s (vllm-conf, pd_role_switch); weights from "
        "host memory come at about 20 GB/s (vLLM sleep mode, 2025); a new node needs 60 to 90 s for its "
        "machine and 4 to 5 minutes for its image (Anyscale, on autoscaling Llama-3-70B)."
    )


def _comparing() -> None:
    for title, part in (("Side by side", compare), ("A design", design), ("What matters most", sensitivity)):
        st.markdown(f"**{title}.** {prose(part)}")


def _teaching() -> None:
    st.markdown(prose(lessons))
    st.markdown(prose(rooms))


def _cost(scenario: Scenario) -> None:
    st.markdown(prose(prices))
    chosen = calibration_of(scenario)
    st.subheader(f"Calibration: {chosen.title}")
    st.markdown(f"{chosen.description} Data: {chosen.data}. Date: {chosen.date}.")
    rows = [dataclasses.asdict(constant) for constant in chosen.constants]
    table = pd.DataFrame(rows)[["meaning", "value", "unit", "low", "high", "source"]]
    _sheet(table, "content", {key: info.help for key, info in fields_of(Constant).items()})
    for name, errors in chosen.errors.items():
        st.markdown(f"**Errors: {name.replace('_', ' ')}**")
        st.table(_error_table(errors), hide_index=True)
    st.caption(_other_calibrations(scenario.calibration))


def _other_calibrations(chosen: str) -> str:
    """Return what the calibrations beside the chosen one are."""
    others = {name: calibration(name) for name in FIELDS["calibration"].choices if name != chosen}
    described = " ".join(f"**{name}**: {other.description}" for name, other in others.items())
    return f"The other calibrations. {described}"


def _error_table(errors: Mapping[str, Any]) -> pd.DataFrame:
    """Return an error table of a calibration file, whatever its nesting."""
    if isinstance(errors, dict) and any(isinstance(value, dict) for value in errors.values()):
        rows = [
            {"what": name} | (value if isinstance(value, dict) else {"value": value})
            for name, value in errors.items()
        ]
        return pd.DataFrame(rows).astype(str)
    if isinstance(errors, dict):
        return pd.DataFrame(errors.items(), columns=["what", "value"]).astype(str)
    return pd.DataFrame({"value": [str(errors)]})


def _scheduler() -> None:
    st.markdown(section("Scheduler"))
    st.markdown("**Traffic.** " + prose(units))
    st.markdown("**Sessions.** " + prose(sessions))
    st.markdown("**Hit rates.** " + prose(reuse))


def _layouts() -> None:
    st.markdown(section("Ranks of attention"))
    st.markdown("**What travels.** " + prose(exchange))
    st.markdown(section("Pipelines, and contexts in parts"))
    for title, part in (("Layouts of some devices", layouts), ("What they are worth", curves)):
        st.markdown(f"**{title}.** {prose(part)}")


def _plans() -> None:
    st.markdown(section("Plans"))
    parts = {
        "Candidates": candidates,
        "The race": race,
        "Runs": trials,
        "Whole replicas": fleet,
        "Two pools": pools,
        "Headroom": headroom,
        "Recorded requests": recorded,
        "A trace at another rate": replay,
        "Over the day": day,
        "Which wins where": winners,
    }
    for title, part in parts.items():
        st.markdown(f"**{title}.** {prose(part)}")


def _speculation() -> None:
    st.markdown(section("Speculation"))
    st.markdown("**Published acceptance lengths** [tokens a step], by number of drafts K")
    rows = [
        {"Model": row["model"], "Draft": row["draft"], "Head": row["head"], "Workload": row["workload"]}
        | {f"K {count}": float(row[f"k{count}"] or "nan") for count in range(1, MOST_MEASURED + 1)}
        | {"Source": acceptance_sources()[row["source"]]["title"]}
        for row in acceptance_rows()
    ]
    drafts = {
        f"K {count}": f"With {quantity(count, 'drafts')} a step." for count in range(1, MOST_MEASURED + 1)
    }
    _sheet(pd.DataFrame(rows), 420, ACCEPTANCE_HELP | drafts)


def _controls() -> None:
    defaults = Scenario()
    rows = [
        {
            "Control": info.label,
            "Key": key,
            "Meaning": info.help.replace("`", ""),
            "Effect": catalogue.key_effects()[key].effect.replace("`", ""),
            "In engines": engine_flags(key).replace("`", ""),
            "Unit": info.unit,
            "Default": "as the preset"
            if getattr(defaults, key) is None
            else str(getattr(defaults, key)) or "none",
            "Allowed": _allowed(info),
        }
        for key, info in FIELDS.items()
    ]
    st.markdown("The key is the name in links, files and on the command line.")
    _sheet(pd.DataFrame(rows), 620, CONTROL_HELP)


def _allowed(info: FieldInfo) -> str:
    if info.choices:
        return ", ".join(info.choices)
    if info.kind is str or not (math.isfinite(info.low) and math.isfinite(info.high)):
        return ""
    return f"{number(info.low)} to {number(info.high)}"


def _presets() -> None:
    st.markdown(
        "Every preset is a file with its source; figures marked announced were not measured by others."
    )
    kinds: dict[str, tuple[Mapping[str, FieldInfo], Iterable[Any]]] = {
        "Accelerators": (fields_of(Accelerator), catalogue.accelerators().values()),
        "Models": (fields_of(Model), catalogue.models().values()),
        "Workloads": (fields_of(WorkloadPreset), catalogue.workloads().values()),
    }
    for title, (fields, items) in kinds.items():
        st.subheader(title)
        about = {key: info.help for key, info in fields.items()} | {
            "attention": "Layers of each kind of attention"
        }
        _sheet(_preset_table(items), 420, about)


def _sheet(table: pd.DataFrame, height: int | Literal["content"], about: Mapping[str, str]) -> None:
    """Show a table whose headings say what they mean when pointed at."""
    config = pieces.column_help(table.columns, about)
    st.dataframe(table, hide_index=True, height=height, placeholder="–", column_config=config)


CONTROL_HELP = {
    "Control": "What the control is called on the pages.",
    "Key": "Its name in links, files and on the command line.",
    "Meaning": "What is set.",
    "Effect": "What more of it does to latency and throughput.",
    "In engines": "What real engines call it, and their default.",
    "Unit": "Of values in links and files; what is typed on a page may have another.",
    "Default": "Where nothing is set.",
    "Allowed": "Choices, or the lowest and the highest value.",
}
ACCEPTANCE_HELP = {
    "Model": "The model that checks the drafts.",
    "Draft": "How tokens are drafted.",
    "Head": "The head that drafts, as published.",
    "Workload": "What was asked: acceptance depends on it.",
    "Source": "Where it was published.",
}


def _preset_table(items: Iterable[Any]) -> pd.DataFrame:
    """Return presets as a table, without columns that are empty for all, and without long number lists."""
    rows = [
        {
            field.name: getattr(item, field.name)
            for field in dataclasses.fields(item)
            if field.name not in ("id", "probabilities", "prompt_quantiles", "output_quantiles")
        }
        for item in items
    ]
    for row in rows:
        if groups := row.get("attention"):
            row["attention"] = ", ".join(map(_layers_words, groups))
    table = pd.DataFrame(rows)
    told = [name for name in table if table[name].replace("", None).notna().any()]
    return table[sorted(told, key=lambda name: name != "name")]


def _layers_words(group: Attention) -> str:
    window = f" in a window of {group.window_tokens:,}" if group.window_tokens else ""
    return f"{group.layers} × {group.kind}{window}"


def prose(item: object) -> str:
    """Return the docstring of a module or function as Markdown."""
    text = inspect.getdoc(item) or ""
    if text.startswith("Return "):
        text = text[7].upper() + text[8:]
    text = re.sub(r"^(.+)\n-{3,}$", r"**\1**\n", text, flags=re.MULTILINE)
    return text.replace("``", "`")
