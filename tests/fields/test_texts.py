"""TOML from outside: refused before it costs, read where it is flat."""

from __future__ import annotations

import tomllib
from unittest.mock import Mock

import pytest

from sim_core.fields.errors import ScenarioError, shown
from sim_core.fields.texts import read_text, read_toml
from tests.hangs import no_hang

MANY = 20_000


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * MANY + " = 1",
        "x = 1\n" + "a" + " . a" * MANY + " = 1",
        '"a"' + '."a"' * MANY + " = 1",
        "'a'" + ".'a'" * MANY + " = 1",
        "x = {a" + ".a" * MANY + " = 1}",
        "[a" + ".a" * MANY + "]",
        'x = "\\""  # "\n' + "a" + ".a" * MANY + " = 1",
        "x = '''\n''''''\ny = 1\n" + "a" + ".a" * MANY + " = 1",
    ],
    ids=["bare", "blanks", "quoted", "literal", "inline", "table", "after a string", "after lines"],
)
def test_a_key_of_many_parts_costs_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: `tomllib`, which takes seconds and gigabytes for as many parts, is never asked."""
    monkeypatch.setattr(tomllib, "loads", Mock(side_effect=AssertionError("it is parsed")))
    with no_hang(), pytest.raises(ScenarioError, match="key of several parts"):
        read_toml(text, "mine.toml")


def test_dots_that_are_no_keys_are_read() -> None:
    """Oracle: the values as TOML 1.0 reads them: dots in strings, comments, numbers and times."""
    text = (
        'a = "see www.a.b.c # \\" x.y.z"  # d.e.f.g\nb = \'1.2.3.4\'\nc = """x.y.z\n"k.l.m"""""\n'
        "d = [1.5, 2.5e3, -.0e1, 1_0.5]\ne = 1979-05-27T07:32:00.999\n".replace("-.0e1", "-0.0e1")
    )
    table = read_toml(text, "mine.toml")
    assert table["a"] == 'see www.a.b.c # " x.y.z'
    assert table["b"] == "1.2.3.4"
    assert table["c"] == 'x.y.z\n"k.l.m""'
    assert table["d"] == [1.5, 2500.0, 0.0, 10.5]
    assert table["e"].microsecond == 999_000


@pytest.mark.parametrize(
    "quote", ['x = """' + '\\"""' * MANY, "x = '''" + "a'" * MANY, '"' * MANY, "'" * MANY]
)
def test_strings_without_an_end_are_refused_at_once(quote: str) -> None:
    """Oracle: the message, and that it comes: no search may look from each quote to the end."""
    with no_hang(), pytest.raises(ScenarioError, match="is not valid TOML"):
        read_toml(quote, "mine.toml")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_read(end: str) -> None:
    """Oracle: by hand."""
    assert read_toml(f"a = 1{end}b = 2{end}", "mine.toml") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "text", ["a = " + "[" * MANY, "a = " + "{a=" * MANY, "a = " + "9" * MANY, "a = \x00"]
)
def test_what_the_parser_gives_up_on_is_refused(text: str) -> None:
    """Oracle: one line, no other exception."""
    with pytest.raises(ScenarioError, match="is not valid TOML"):
        read_toml(text, "mine.toml")


def test_a_number_too_long_for_python_is_shown_by_its_kind() -> None:
    """Oracle: Python writes no more than 4,300 digits, also inside of lists."""
    assert shown([1 << 100_000]) == "a list that is too long to be shown"
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "a list that is too long to be shown"


def test_a_long_file_is_not_called_another_encoding(tmp_path) -> None:
    """Oracle: a file that would be cut inside a character: its length is what is wrong."""
    (tmp_path / "long.toml").write_text("ä" * 500_000, encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"longer than 0\.8 MB"):
        read_text(tmp_path / "long.toml", "the profile")
