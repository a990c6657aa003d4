"""The capacity by plain bisection between nothing and far too much: the oracle of the search."""

from sim_core.engine.run import run
from sim_core.results.metrics import point_of


def naive_capacity(scenario, requests=20_000, tolerance=0.005):
    """Return the highest rate within the limits of an open loop [1/s], and how many runs that took."""
    runs = 0

    def keeps(rate):
        nonlocal runs
        runs += 1
        return point_of(run(scenario.replace(arrival_per_s=rate, requests=requests)))["meets_slo"]

    low, high = 0.0, 0.01
    while keeps(high):
        low, high = high, 4 * high
    while high - low > tolerance * high and high > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low, runs
