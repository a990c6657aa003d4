"""Typed numbers: what people write, in the unit of the field."""

from __future__ import annotations

import pytest

from sim_core.fields.amounts import amount_of
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import FIELDS
from sim_core.view.drawing.words import duration, quantity
from sim_core.view.parts.controls import SPECS


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("30", "ms", 30),
        ("30ms", "ms", 30),
        ("0.03 s", "ms", 30),
        ("1.5 min", "s", 90),
        ("250 µs", "ms", 0.25),
        ("27.5T", "GB/s", 27_500),
        ("1 token", "tokens", 1),
        ("0.5 B", "10^9", 0.5),
        ("300M", "10^9", 0.3),
        ("27.5 TB", "GB/s", 27_500),
        ("27.5 TB/s", "GB/s", 27_500),
        ("2500", "TFLOP/s", 2500),
        ("2.5P", "TFLOP/s", 2500),
        ("1.2k", "W", 1200),
        ("2k", "tokens", 2000),
        ("128K", "tokens", 128_000),
        ("1,024 tokens", "tokens", 1024),
        ("1 024", "", 1024),
        ("8 devices", "", 8),
        ("2 thousand", "", 2000),
        ("1.5 million", "tokens", 1_500_000),
        ("90%", "", 0.9),
        ("99.9 %", "%", 99.9),
        ("12.5 req/s", "req/s", 12.5),
        ("1e3", "req/s", 1000),
        ("-1", "ms", -1),
        (".5", "s", 0.5),
    ],
)
def test_what_people_write_is_read(text: str, unit: str, value: float) -> None:
    """Oracle: the same amount by hand, in the unit of the field."""
    assert amount_of(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", "abc", "ms", "1.2.3", "--1", "1 2", "nan", "inf", "1e", "٣", "1;2", "0x10"]
)
@pytest.mark.parametrize("unit", ["", "ms", "GB/s"])
def test_what_is_no_number_is_refused(text: str, unit: str) -> None:
    """Oracle: the message shows what was typed and how to write it."""
    with pytest.raises(ScenarioError, match="write it such as"):
        amount_of(text, unit)


@pytest.mark.parametrize(
    ("text", "unit"),
    [("3 GB", "ms"), ("3 s", "GB/s"), ("3 TFLOP/s", "GB/s"), ("3%", "ms"), ("3 apples", "tokens")],
)
def test_other_units_are_refused(text: str, unit: str) -> None:
    """Oracle: seconds are no bytes."""
    with pytest.raises(ScenarioError, match="another unit"):
        amount_of(text, unit)


@pytest.mark.parametrize("key", sorted(SPECS.keys() - {"node_devices"}))
@pytest.mark.parametrize("value", [0.85, 96.0, 3350.0, 27_500.0])
def test_a_slider_s_own_words_are_read(key: str, value: float) -> None:
    """Oracle: the value that the slider shows; it rounds to three digits."""
    assert amount_of(SPECS[key][0](value), FIELDS[key].unit) == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize("value_ms", [0.5, 12.0, 830.0, 2500.0])
def test_latencies_and_counts_as_shown_are_read(value_ms: float) -> None:
    """Oracle: what was shown."""
    assert amount_of(duration(value_ms), "ms") == pytest.approx(value_ms, rel=0.01)
    assert amount_of(quantity(value_ms, "req/s"), "req/s") == pytest.approx(value_ms, rel=0.01)
