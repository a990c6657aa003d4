"""A day of rates: how many requests a second arrive in each part of a day, written, drawn or counted.

A day is a short text, so that a link can hold it:

- ``3,2,2,4,9,12``: rates of equal parts of 24 hours [1/s]; spaces or lines may stand between them;
- ``wave:6/10``: a daily wave of mean 6 and peak 10 requests/s, lowest at midnight, in 24 parts;
- ``demand``: the scenario's own traffic over time (`sim_core.traffic.demand`) around `arrival_per_s`;
- ``8h:`` before rates or a wave: they last 8 hours, not 24.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from sim_core.fields.errors import ScenarioError, shown
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.traffic import demand as demands

HOURS, PARTS = 24.0, 24
MOST_PARTS, MOST_HOURS = 288, 168.0  # five minutes of a day; a week
LEAST_HOURS = 1e-4  # shorter ones would be written with an exponent, which no day is read with
DIGITS = 4  # of a rate
MOST_SWING = float(FIELDS["rate_swing_frac"].high or 0.0)
FORMS = (
    "Write rates such as 2,2,5,9 (requests a second, in equal parts of 24 h), or a wave such as wave:6/10."
)
_LASTS = re.compile(r"^\s*([0-9.]+)\s*h\s*:", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s,;]+")


class Day(NamedTuple):
    """Mean rates of equal parts of some hours, after which they come again.

    Attributes
    ----------
    rates_per_s : tuple of float
        Of each part, from the beginning. [1/s]
    hours : float
        Of all parts together.
    """

    rates_per_s: tuple[float, ...]
    hours: float = HOURS

    @property
    def part_s(self) -> float:
        """How long a part lasts. [s]"""
        return 3600 * self.hours / len(self.rates_per_s)

    @property
    def peak_per_s(self) -> float:
        """The highest rate. [1/s]"""
        return max(self.rates_per_s)

    @property
    def requests(self) -> float:
        """Requests of all parts."""
        return sum(self.rates_per_s) * self.part_s

    @property
    def mean_per_s(self) -> float:
        """The mean rate. [1/s]"""
        return self.requests / (3600 * self.hours)

    @property
    def text(self) -> str:
        """The day as a text that `day_named` reads."""
        rates = ",".join(f"{rate:.{DIGITS}g}" for rate in self.rates_per_s)
        return rates if self.hours == HOURS else f"{self.hours:g}h:{rates}"


def day_named(text: str, scenario: Scenario) -> Day:
    """Return the day that a text names.

    Raises
    ------
    ScenarioError
        If it names none; the message says which word is wrong, and how a day is written.
    """
    lasts = _LASTS.match(text)
    hours = _hours(lasts.group(1)) if lasts else HOURS
    rest = text[lasts.end() :].strip() if lasts else text.strip()
    if rest.lower() == "demand" and not lasts:
        return drawn_day(scenario)
    if rest.lower().startswith("wave:"):
        return _wave(rest[len("wave:") :], hours, scenario)
    return checked_day(Day(tuple(_rate(word) for word in _BETWEEN.split(rest) if word), hours))


def checked_day(day: Day) -> Day:
    """Return a day whose rates can be; raises a `ScenarioError` otherwise."""
    count, most = len(day.rates_per_s), float(FIELDS["arrival_per_s"].high or 0.0)
    if count < 2:
        raise ScenarioError(f"a day has at least 2 rates; there {'is' if count else 'are'} {count}. {FORMS}")
    if count > MOST_PARTS:
        raise ScenarioError(f"a day has at most {MOST_PARTS} rates; there are {count:,}. Take means of them.")
    for part, rate in enumerate(day.rates_per_s):
        if not 0 <= rate <= most:
            raise ScenarioError(
                f"rate {part + 1} of the day is {rate:g} requests/s; it must be 0 to {most:,.0f}."
            )
    least = float(FIELDS["arrival_per_s"].low or 0.0)
    if day.peak_per_s < least:
        highest = f"the day's highest rate is {day.peak_per_s:g} requests/s"
        raise ScenarioError(f"{highest}; it must be {least:g} or more. {FORMS}")
    return day


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not LEAST_HOURS <= hours <= MOST_HOURS:
        limits = f"{LEAST_HOURS:g} to {MOST_HOURS:g} hours"
        raise ScenarioError(f"a day of {shown(text)} hours; it may last {limits}.")
    return hours


def _rate(word: str) -> float:
    try:
        rate = float(word)
    except ValueError:
        raise ScenarioError(f"the day holds {shown(word)}, which is no rate. {FORMS}") from None
    if not math.isfinite(rate):
        raise ScenarioError(f"the day holds {shown(word)}, which is no rate. {FORMS}")
    return rate


def _wave(text: str, hours: float, scenario: Scenario) -> Day:
    """Return a wave of a mean and a peak, by the cycle of traffic over time."""
    mean_text, mark, peak_text = text.partition("/")
    if not mark:
        raise ScenarioError(f"wave:{shown(text)} has no peak; write wave:MEAN/PEAK, such as wave:6/10.")
    mean, peak = _rate(mean_text), _rate(peak_text)
    most = 1 + MOST_SWING
    if not 0 < mean <= peak <= most * mean:
        raise ScenarioError(
            f"a wave of mean {mean:g} and peak {peak:g} requests/s cannot be: the peak is 1 to {most:g} "
            "times the mean, which is above 0. For higher peaks list the rates."
        )
    cycle = {"demand": "daily", "demand_hours": hours, "dwell_s": 1800 * hours}
    return drawn_day(scenario.replace(**cycle, arrival_per_s=mean, rate_swing_frac=peak / mean - 1))


def drawn_day(scenario: Scenario, parts: int = PARTS) -> Day:
    """Return the mean rates of a scenario's traffic over time around `arrival_per_s`.

    Raises
    ------
    ScenarioError
        If its traffic over time is a trace, which has requests of its own.
    """
    if scenario.demand == "trace":
        raise ScenarioError("demand is trace: give the trace's file as the day, or choose demand=daily.")
    times_s, wave = demands.wave(scenario)
    rate = scenario.arrival_per_s * (1 + scenario.rate_swing_frac * (2 * wave - 1))
    steps = np.diff(times_s) * (rate[1:] + rate[:-1]) / 2
    cumulated = np.concatenate([[0.0], np.cumsum(steps)])
    edges_s = np.linspace(0.0, times_s[-1], parts + 1)
    means = np.diff(np.interp(edges_s, times_s, cumulated)) / np.diff(edges_s)
    rates = tuple(float(f"{each:.{DIGITS}g}") for each in means)
    return checked_day(Day(rates, scenario.demand_hours))
