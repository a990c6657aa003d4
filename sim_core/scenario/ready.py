"""Ready scenarios: TOML files of scenario keys, each with its story and what to look for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from sim_core.catalogue.lessons import PAGES_OF_PRESETS
from sim_core.catalogue.reader import naming_file, preset_ids, read_preset
from sim_core.fields.described import build, described
from sim_core.scenario.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioPreset:
    """A ready scenario with its one-line story and the finding to expect."""

    id: str
    title: str = described("Name")
    story: str = described("What happens")
    expected: str = described("What to look for")
    page: str = described("Page that shows it best", "Frontier", choices=PAGES_OF_PRESETS)
    audience: str = described(
        "For whom",
        "run",
        choices={"learn": "who learns", "run": "who runs an engine", "plan": "who plans hardware"},
    )
    view: str = described("View of that page, as it stands in links: `batching=caching`", "")
    scenario: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, **changes: object) -> Scenario:
        """Return the scenario with `changes` on top."""
        return Scenario(**self.scenario).replace(**changes)


@cache
def ready_scenarios() -> Mapping[str, ScenarioPreset]:
    """Return all ready scenarios by id, in alphabetical order."""
    return MappingProxyType({name: ready_scenario(name) for name in preset_ids("scenarios")})


def ready_id(scenario: Scenario) -> str:
    """Return the id of the ready scenario that a scenario is; "" where it is none."""
    return _ids().get(scenario, "")


@cache
def _ids() -> dict[Scenario, str]:
    return {preset.build(): name for name, preset in ready_scenarios().items()}


@cache
def ready_scenario(name: str) -> ScenarioPreset:
    """Return one ready scenario by id."""
    data = read_preset("scenarios", name)
    with naming_file("scenarios", name):
        told = [key for key in ("title", "story", "expected", "page", "audience", "view") if key in data]
        texts: dict[str, object] = {key: data.pop(key) for key in told}
        preset = build(ScenarioPreset, texts, id=name)
        Scenario().replace(**data)
    return dataclasses.replace(preset, scenario=MappingProxyType(data))
