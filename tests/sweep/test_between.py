"""Between the points of a curve: the line, and the values around it. Oracle: by hand."""

from __future__ import annotations

import math

import pytest

from sim_core.sweep.between import at_speed
from tests.loops import each


@each([(200.0, math.nan, math.nan, math.nan), (100.0, 10, 10, 30), (60.0, 26, 10, 30), (10.0, 30, 30, 30)])
def test_the_line_and_its_range(speed: float, value: float, low: float, high: float) -> None:
    """By hand: from (50, 30) to (100, 10) the line falls by 0.4 for each tok/s."""
    assert at_speed([(50.0, 30.0), (100.0, 10.0)], speed) == pytest.approx((value, low, high), nan_ok=True)


def test_faster_points_serve_too() -> None:
    """By hand: at 60 a curve that dips to 5 there and gives 20 at 100 gives 20."""
    found = at_speed([(50.0, 10.0), (70.0, 0.0), (100.0, 20.0)], 60.0)
    assert found == (20.0, 20.0, 20.0)
