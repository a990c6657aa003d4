"""One description of every field. Oracle of every test: the description in the code, or the sentence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from sim_core import ScenarioError
from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.calibrations import calibration
from sim_core.fields.described import build, described, fields_of
from sim_core.fields.field import check
from sim_core.scenario.scenario import FIELDS, SPECS, Scenario


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of every kind of field."""

    id: str
    name: str = described("Name", choices={"one": "the first", "two_three": "others"})
    count: int = described("Count", 1, low=1, high=9)
    power_w: float | None = described("Power", None, unit="W", low=0.0, high=1e6)
    sold: bool = described("Sold", True)
    rates: tuple[float, ...] = described("Rates", (), low=0.0, high=1.0, fewest=1, most=3)
    authors: tuple[str, ...] = described("Authors", ())
    text: str = described("Text", "")


def test_a_description_is_read_from_the_field_and_its_annotation() -> None:
    """Oracle: the class above, read by eye; `id` has no description and is none of the file's keys."""
    found = fields_of(Part)
    assert list(found) == ["name", "count", "power_w", "sold", "rates", "authors", "text"]
    assert [info.kind for info in found.values()] == [str, int, float, bool, float, str, str]
    assert [name for name, info in found.items() if info.many] == ["rates", "authors"]
    assert [name for name, info in found.items() if info.optional] == ["power_w"]
    assert [name for name, info in found.items() if info.empty] == ["text"]
    assert found["power_w"].label == "power w"
    assert found["name"].label_of("one") == "the first"
    assert found["name"].label_of("another") == "another"


def test_a_table_becomes_a_dataclass() -> None:
    """Oracle: the values by hand; whole numbers become floats where floats are asked for."""
    made = build(Part, {"name": "one", "power_w": 700, "rates": [0, 1], "authors": ["A"]}, id="x")
    assert made == Part(id="x", name="one", power_w=700.0, rates=(0.0, 1.0), authors=("A",))
    assert type(made.power_w) is type(made.rates[0]) is float


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nam": "one"}, "unknown key 'nam'. Did you mean name?"),
        ({"id": "y"}, "unknown key 'id'. Known: name, count, power_w, sold, rates, authors, text."),
        ({"name": None}, "the key name is missing; add it."),
        ({"name": "three"}, "name is 'three'; choose one of one, two_three."),
        ({"count": 1.5}, "count is 1.5; it must be a whole number."),
        ({"count": True}, "count is True; it must be a whole number."),
        ({"power_w": 0}, "power_w is 0 W; it must be above 0 and at most 1,000,000 W."),
        ({"sold": 1}, "sold is 1; it must be true or false."),
        ({"rates": []}, "rates is []; it must be a list of 1 to 3 numbers."),
        ({"rates": 0.5}, "rates is 0.5; it must be a list of 1 to 3 numbers."),
        ({"rates": [0.5, 2]}, "rates[1] is 2; it must lie between 0 and 1."),
        ({"authors": [1]}, "authors is [1]; it must be a list of texts."),
    ],
)
def test_a_wrong_table_is_refused(changes: dict[str, Any], message: str) -> None:
    """Oracle: the sentences, which name the key, the value and the way out."""
    table = {key: value for key, value in ({"name": "one"} | changes).items() if value is not None}
    with pytest.raises(ScenarioError) as raised:
        build(Part, table, id="x")
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("key", "value", "limits"),
    [
        ("slo_percentile", 100.0, "between 50 and 99.9 %."),
        ("seed", 2**60, f"between 0 and {2**53:,}."),
        ("arrival_per_s", 0.0, "between 1e-06 and 1,000,000 req/s."),
    ],
)
def test_limits_are_told_as_they_are_written(key: str, value: float, limits: str) -> None:
    """By hand: no digit more of 99.9, and none less of the largest seed."""
    with pytest.raises(ScenarioError) as raised:
        check(key, value, FIELDS[key])
    assert str(raised.value).endswith(limits)


def test_a_spec_is_described_once() -> None:
    """Oracle: the datasheet's description of each spec; a scenario may leave it out."""
    sheet = fields_of(Accelerator)
    for key in SPECS:
        same = dataclasses.replace(sheet[key], group="accelerator", optional=True)
        assert FIELDS[key] == dataclasses.replace(same, zero=FIELDS[key].zero)
        assert not FIELDS[key].zero


def test_every_choice_has_a_label() -> None:
    """Oracle: as many labels as choices, and a default among the choices."""
    for key, info in FIELDS.items():
        assert len(info.choice_labels) == len(info.choices)
        assert not info.choices or getattr(Scenario(), key) in info.choices


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ("layer:200000", "constants sets layer to 200000 us; it must lie between 0 and 100000 us."),
        ("weight_read:1.5", "constants sets weight_read to 1.5 frac; it must lie between 0.01 and 1 frac."),
    ],
)
def test_constants_are_checked_as_all_fields_are(constants: str, message: str) -> None:
    """Oracle: the limits of a constant of one's own, by its unit."""
    with pytest.raises(ScenarioError) as raised:
        calibration("typical", constants)
    assert str(raised.value) == message
