"""Published answers beside ours: on the same devices, by the same measure, within the same limits.

Others rank layouts by the output tokens per second and device that clients of a closed loop get while the
means of TTFT and TPOT, or of a request as a whole, keep limits. So do these: of one pool and of two, the
layouts that the estimate ranks first are run with as many clients as keep the limits, and so is the layout
that the source names. What another model predicts has no time between client and engine; beside it ours has
none either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from sim_core.questions.deployment.answer import layout_called
from sim_core.questions.deployment.around.published import Example
from sim_core.questions.deployment.curves import X, Y, closed_loop, curve_of, simulated_row, value_at
from sim_core.questions.deployment.layouts import Option, layouts_of, own_layout
from sim_core.questions.deployment.search.race import fewest_that
from sim_core.scenario.link.load import load_scenario
from sim_core.scenario.scenario import Scenario

TRIED = 3  # layouts of one pool, and of two, that are run
MOST_CLIENTS = 4096  # of the smallest part of a layout
POOLS, ONE = "two pools", "one pool"
ENGINE_ALONE = "constants=request_before:0,prompt_token_before:0,request_after:0"


class AtLimits(NamedTuple):
    """A layout at the most clients that keep the limits.

    Attributes
    ----------
    family : str
        `POOLS` or `ONE`.
    layout : str
        Of a part of the devices that serves by itself; "" where a source states none.
    clients : int
        Of such a part; 0 where a source states none.
    tok_per_s_per_device : float
        Of answers.
    ttft_ms, tpot_ms : float
        Means.
    """

    family: str
    layout: str
    clients: int
    tok_per_s_per_device: float
    ttft_ms: float
    tpot_ms: float


class Beside(NamedTuple):
    """A published example with our figures; a family that does not keep the limits has none.

    Attributes
    ----------
    stated : tuple of AtLimits
        What the source states, two pools first.
    same : tuple of AtLimits
        What we find for the layouts that it names.
    best : tuple of AtLimits
        The best that we find of each family, the better one first.
    """

    example: Example
    stated: tuple[AtLimits, ...]
    same: tuple[AtLimits, ...]
    best: tuple[AtLimits, ...]

    @property
    def ratio(self) -> float | None:
        """Times as much that two pools give as one, by us; None where one of them keeps no limit."""
        rates = {found.family: found.tok_per_s_per_device for found in self.best}
        return rates[POOLS] / rates[ONE] if len(rates) > 1 else None

    @property
    def is_same_family(self) -> bool:
        """Whether two pools, which all examples recommend, are best here, too."""
        return bool(self.best) and self.best[0].family == POOLS


def answered_here(example: Example) -> Beside:
    """Return a published example with our figures."""
    every = [option for option in layouts_of(_with(example), example.devices) if not option.reason]
    same: list[AtLimits] = []
    best: list[AtLimits] = []
    for family, keys in ((POOLS, example.pools_layout), (ONE, example.one_layout)):
        named = [own_layout(_with(example, keys))] if keys else []
        found = [most_within(example, option) for option in named]
        same += filter(None, found)
        options = [option for option in every if (option.family == "pools") == (family == POOLS)]
        found += [most_within(example, option) for option in _worth_running(example, options)]
        best += sorted(filter(None, found), key=_rate, reverse=True)[:1]
    return Beside(example, _stated(example), tuple(same), tuple(sorted(best, key=_rate, reverse=True)))


def _rate(found: AtLimits) -> float:
    return found.tok_per_s_per_device


def _with(example: Example, keys: str = "") -> Scenario:
    """Return the scenario of an example in a layout, as its source counts times."""
    counted = "" if example.measured else ENGINE_ALONE
    return load_scenario("&".join(filter(None, (example.scenario, keys, counted))))


def _stated(example: Example) -> tuple[AtLimits, ...]:
    """Return the figures of the source."""
    found = []
    for family, name in ((POOLS, "pools"), (ONE, "one")):
        keys = getattr(example, f"{name}_layout")
        rate, *latencies = (
            getattr(example, f"{name}_{key}") for key in ("tok_per_s_per_device", "ttft_ms", "tpot_ms")
        )
        if rate is not None:
            layout = layout_called(_with(example, keys)) if keys else ""
            found.append(AtLimits(family, layout, 0, rate, *latencies))
    return tuple(found)


def _worth_running(example: Example, options: Sequence[Option]) -> list[Option]:
    """Return the layouts that the estimate ranks first."""
    curves = [curve_of(option) for option in options]
    curves.sort(key=lambda curve: -value_at(curve, 1e3 / _most_tpot_ms(example)))
    return [curve.option for curve in curves[:TRIED]]


def _most_tpot_ms(example: Example) -> float:
    """Return the longest TPOT that may be; under a limit on the request that of one whose TTFT is 0."""
    if example.tpot_ms is not None:
        return example.tpot_ms
    assert example.request_ms is not None
    return example.request_ms / (load_scenario(example.scenario).output_tokens - 1)


def most_within(example: Example, option: Option) -> AtLimits | None:
    """Return a layout at the most clients that keep the limits of an example; None if one does not."""
    unit = option.unit

    def row(clients: int) -> dict[str, Any]:
        return simulated_row(closed_loop(unit, clients))

    def fails(clients: int) -> bool:
        return not _keeps(example, unit, row(clients))

    near = [each["clients"] for each in curve_of(option).rows if each[X] >= 1e3 / _most_tpot_ms(example)]
    guess = round(max(near, default=1) / option.units)
    first = fewest_that(fails, 1, MOST_CLIENTS, min(max(guess, 1), MOST_CLIENTS)) or MOST_CLIENTS + 1
    if first == 1:
        return None
    best, family = row(first - 1), POOLS if unit.split else ONE
    latencies = float(best["ttft_ms_mean"]), float(best["tpot_ms_mean"])
    return AtLimits(family, layout_called(unit), first - 1, best[Y], *latencies)


def _keeps(example: Example, unit: Scenario, row: dict[str, Any]) -> bool:
    """Return whether the means of a run keep the limits."""
    ttft_ms, tpot_ms = row["ttft_ms_mean"], row["tpot_ms_mean"]
    request_ms = ttft_ms + tpot_ms * (unit.output_tokens - 1)
    return bool(
        row["feasible"]
        and ttft_ms <= example.ttft_ms
        and tpot_ms <= (example.tpot_ms or math.inf)
        and request_ms <= (example.request_ms or math.inf)
    )


# --- in words -------------------------------------------------------------------------------------


def examples_sentence(found: Sequence[Beside]) -> str:
    """Return in how many examples the same family is best, and by how much there and here."""
    same, count = sum(each.is_same_family for each in found), len(found)
    parts = [f"In {count} of {count} published answers two pools are best, and here in {same} of them"]
    parts += [_of_one(each) for each in found]
    return f"{'; '.join(parts)}."


def _of_one(each: Beside) -> str:
    """Return how much more two pools give than one, in the source and here."""
    name, stated = each.example.id.upper(), each.example.ratio
    ours = (
        "one of the two keeps the limits nowhere here"
        if each.ratio is None
        else f"{each.ratio:.3g} times one pool here"
    )
    return f"{name}: {ours}" + ("" if stated is None else f", {stated:.3g} there")
