"""Prices of one's own, of many accelerators at once: `h100-sxm:2.1,b200:3.75`, in USD an hour and device."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.reader import check_id
from sim_core.fields.described import fields_of
from sim_core.fields.errors import ScenarioError, shown
from sim_core.fields.field import check

PRICES_EXAMPLE = "h100-sxm:2.1,b200:3.75"
PRICE = fields_of(Accelerator)["price_usd_per_hour"]


@lru_cache(maxsize=256)
def parse_prices(text: str) -> Mapping[str, float]:
    """Return prices by accelerator. [USD/h per device]

    Raises
    ------
    ScenarioError
        If an entry has another form or stands there twice, names no accelerator, or its price is none.

    Examples
    --------
    >>> dict(parse_prices("h100-sxm:2.1,b200:3.75"))
    {'h100-sxm': 2.1, 'b200': 3.75}
    """
    found: dict[str, float] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, mark, number = entry.rpartition(":")
        try:
            price = float(number) if len(number) < 30 else None
        except ValueError:
            price = None
        if not mark or price is None:
            raise ScenarioError(
                f"prices has the entry {shown(entry)}; write ACCELERATOR:USD, such as {PRICES_EXAMPLE!r}."
            )
        check_id("accelerators", name)
        if name in found:
            raise ScenarioError(f"prices gives {name} twice; keep one.")
        check(f"prices: {name}", price, PRICE)
        found[name] = price
    return MappingProxyType(found)


def write_prices(prices: Mapping[str, float]) -> str:
    """Return prices as the text that `parse_prices` reads."""
    return ",".join(f"{name}:{price:.12g}" for name, price in prices.items())
