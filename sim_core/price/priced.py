"""A scenario with what it names and what its steps cost: made once a point, and handed on from there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import Model
from sim_core.price.pools import PoolPrices, pool_prices
from sim_core.price.price import Method, Price, price_of
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """A scenario, priced.

    Attributes
    ----------
    scenario : Scenario
    model, accelerator
        What it names, with its own changes.
    price : Price
        Of a step of the engine that decodes.
    pools : PoolPrices or None
        Of both pools and the way between them, where prefill has a pool of its own.
    """

    scenario: Scenario
    model: Model
    accelerator: Accelerator
    price: Price
    pools: PoolPrices | None = None

    @property
    def both_pools(self) -> PoolPrices:
        """The prices of both pools, of a scenario that has two."""
        if self.pools is None:
            raise ValueError("a scenario of one pool has no prices of two; look at `pools` first.")
        return self.pools

    def at(self, scenario: Scenario) -> Priced:
        """Return another scenario at the same prices, where only traffic, limits or seeds differ."""
        return dataclasses.replace(self, scenario=scenario)

    def by_pool(self) -> list[Price]:
        """Return the price of the one pool, or of prefill and of decode workers."""
        return [self.pools.prefill, self.price] if self.pools else [self.price]


def priced(
    scenario: Scenario,
    profile: EngineProfile | None = None,
    price: Price | None = None,
    method: Method | None = None,
) -> Priced:
    """Return a scenario with its prices, from its calibration or a measured engine profile.

    A `price` given stands in the place of the decoding engine's, a `method` in that of the calibration.

    Raises
    ------
    DoesNotFit
        If the weights and one KV block exceed the devices' memory.
    ScenarioError
        If the layout does not divide the model.
    """
    model, accelerator = model_of(scenario), accelerator_of(scenario)
    if not scenario.split:
        return Priced(scenario, model, accelerator, price or price_of(scenario, profile, method))
    pools = pool_prices(scenario, profile, method)
    pools = pools._replace(decode=price) if price else pools
    return Priced(scenario, model, accelerator, pools.decode, pools)
