"""Why candidates lost: by reason, model and accelerator, the nearest of each kept with its sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from sim_core.questions.deployment.answer import Rejected
from sim_core.scenario.scenario import Scenario

LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "rank": "serves the rate, and is worse",
        "devices": "needs more devices",
        "tpot": "tokens come too slowly",
        "ttft": "first tokens come too late",
        "rejected": "too many requests do not fit",
        "memory": "does not fit memory",
        "price": "has no price or no power to rank by",
        "scenario": "cannot be laid out so",
        "equal": "works like another setting",
    }
)


class _Nearest(NamedTuple):
    number: int
    distance: float
    scenario: Scenario
    reason: str | Callable[[], str]

    @property
    def words(self) -> str:
        return self.reason if isinstance(self.reason, str) else self.reason()


class Losers:
    """Candidates that lost, by reason, model and accelerator."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str], _Nearest] = {}

    def add(
        self,
        limit: str,
        scenario: Scenario,
        reason: str | Callable[[], str],
        distance: float = 0.0,
        count: int = 1,
    ) -> None:
        """Count candidates that lost; the reason is that of the one with the smallest distance."""
        key = limit, scenario.accelerator, scenario.model
        known = self._groups.get(key)
        mine = _Nearest(count, distance, scenario, reason)
        if known is not None:
            kept = mine if distance < known.distance else known
            mine = kept._replace(number=known.number + count)
        self._groups[key] = mine

    def counts(self) -> dict[str, int]:
        """Return the losers by reason."""
        found: dict[str, int] = {}
        for (limit, *_), group in self._groups.items():
            found[limit] = found.get(limit, 0) + group.number
        return found

    def nearest(self, *limits: str) -> tuple[Scenario, str] | None:
        """Return the nearest loser, of some reasons, with its sentence; None if there is none."""
        found = [group for (limit, *_), group in self._groups.items() if limit in limits]
        nearest = min(found, key=lambda group: group.distance, default=None)
        return nearest and (nearest.scenario, nearest.words)

    def groups(self) -> tuple[Rejected, ...]:
        """Return them by reason, in the order of `LIMITS`, the nearest accelerators first."""
        order = list(LIMITS)
        items = sorted(
            self._groups.items(), key=lambda item: (order.index(item[0][0]), item[1].distance, item[0][1:])
        )
        return tuple(
            Rejected(limit, model, accelerator, group.number, group.words, group.scenario)
            for (limit, accelerator, model), group in items
        )
