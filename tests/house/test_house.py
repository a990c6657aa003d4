"""The marks of the house. Oracle of every test: a small package with one fault, planted by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import house
from benchmarks.source import ROOMS, Product, circles
from tests.places import ROOT

Make = Callable[[dict[str, str]], Product]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a way to write a product: paths under `sim_core`, or under the root if they begin with `/`."""

    def write(files: dict[str, str]) -> Product:
        for name, text in files.items():
            path = tmp_path / name[1:] if name.startswith("/") else tmp_path / "sim_core" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return Product(tmp_path)

    return write


def value(product: Product, what: str) -> int:
    """Return the value of the one mark whose name begins so."""
    (mark,) = [mark for mark in house.marks(product) if mark.what.startswith(what)]
    return mark.value


def test_a_circle_of_three_files(make: Make) -> None:
    """Planted: a -> b -> c -> a, the last inside a function; d only looks on."""
    product = make(
        {
            "price/a.py": "from sim_core.price import b\n",
            "price/b.py": "from sim_core.price.c import name\n",
            "price/c.py": "name = 1\ndef late():\n    import sim_core.price.a\n",
            "price/d.py": "from . import a\n",
        }
    )
    assert house.file_circles(product) == ["sim_core.price.a <-> sim_core.price.b <-> sim_core.price.c"]
    assert house.room_circles(product) == []


def test_two_circles_stay_two() -> None:
    """By hand: a <-> b, c <-> d, and an arrow between them in one direction."""
    assert circles({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}) == [["a", "b"], ["c", "d"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}}) == []


def test_a_circle_of_rooms_without_one_of_files(make: Make) -> None:
    """Planted: one file of each of two folders imports a file of the other; no file imports itself back."""
    product = make(
        {
            "view/shift/page.py": "from sim_core.view.parts.chart import chart\n",
            "view/shift/words.py": "",
            "view/parts/chart.py": "def chart(): ...\n",
            "view/parts/badge.py": "from sim_core.view.shift import words\n",
        }
    )
    assert house.file_circles(product) == []
    assert house.room_circles(product) == ["sim_core.view.parts <-> sim_core.view.shift"]


def test_an_import_against_the_order(make: Make) -> None:
    """Planted: fields imports price, plainly and by the package's face; price may import fields."""
    product = make(
        {
            "__init__.py": '_HOMES = {"cost": "price.a"}\n',
            "fields/a.py": "from sim_core.price.a import cost\n",
            "fields/b.py": "import os\nfrom sim_core import cost\n",
            "price/a.py": "from sim_core.fields import a\ndef cost(): ...\n",
        }
    )
    assert house.upward_imports(product) == [
        "sim_core/fields/a.py:1 sim_core.price.a",
        "sim_core/fields/b.py:2 sim_core.price.a",
    ]


def test_lazy_imports(make: Make) -> None:
    """Planted: three in functions, one nested. The command line may, and a condition is no function."""
    nested = "def outer():\n    import os\n    def inner():\n        import re\n"
    product = make(
        {
            "price/a.py": "if True:\n    import os\n" + nested,
            "price/b.py": "class A:\n    async def run(self):\n        from os import path\n",
            "command/a.py": nested,
        }
    )
    assert [place.split(" ", 1)[1] for place in house.lazy_imports(product)] == [
        "import os",
        "import re",
        "from os import path",
    ]


def test_entries_are_code(make: Make) -> None:
    """Planted: two files and a folder with code; a style sheet, templates and `__init__` do not count."""
    names = ("__init__.py", "__main__.py", "a.py", "b.py", "c/d.py", "look.css", "templates/a.html")
    product = make(dict.fromkeys([f"price/{name}" for name in names], ""))
    assert value(product, "most entries") == 3
    sets = make(dict.fromkeys([f"engine/kernels/{letter}.py" for letter in "abcdefghijklmn"], ""))
    assert value(sets, "most entries") == 3
    assert value(sets, "... of kernels") == 14


def test_lengths(make: Make) -> None:
    """Planted: 501 lines in one file; a body of three lines between a signature of three and a docstring."""
    function = 'def f(\n    a,\n):\n    """Say.\n\n    More.\n    """\n    a = 1\n    # why\n    return a\n'
    product = make({"price/a.py": "a = 1\n" * 501, "price/b.py": "a = 1\n" * 500, "price/c.py": function})
    assert value(product, "files of more") == 1
    assert value(product, "longest file") == 501
    assert value(product, "longest function") == 3
    assert house.body_lines(product) == {"sim_core/price/c.py:1 f": 3}


def test_arguments_of_every_kind(make: Make) -> None:
    """Planted: six arguments; `self` is none, nor are the arguments of a default value."""
    text = "class A:\n    def f(self, a, /, b, *c, d=lambda x, y: x, e: int = 1, **g): ...\n"
    assert house.arguments(make({"price/a.py": text})) == {"sim_core/price/a.py:2 f": 6}


def test_names_in_several_modules(make: Make) -> None:
    """Planted: one public name in two modules; private names and methods do not count."""
    text = "def shared(): ...\ndef _own(): ...\nclass A:\n    def run(self): ...\n"
    product = make({"price/a.py": text, "price/b.py": text.replace("class A", "class B")})
    assert house.shared_names(product) == ["shared: sim_core/price/a.py:1, sim_core/price/b.py:1"]


def test_occurrences_in_the_text(make: Make) -> None:
    """Planted: two annotations in one line, and one comment; a name that only begins so is another."""
    text = "def f(a: Any, b: Any) -> Any: ...\nc: Anything = 1\nd = [1,\n     2]  # fmt: skip\n"
    product = make({"price/a.py": text})
    assert value(product, "`: Any`") == 2
    assert house.occurrences(product, "# fmt: skip") == ["sim_core/price/a.py:4"]


def test_functions_that_only_tests_use(make: Make) -> None:
    """Planted: one that calls itself alone, and one that a folder's `__init__` only hands on."""
    product = make(
        {
            "__init__.py": '_HOMES = {"promised": "price.a"}\ndef __getattr__(name): ...\n',
            "price/__init__.py": "from sim_core.price.a import handed_on\n",
            "price/a.py": "def promised(): ...\ndef alone(n):\n    alone(n - 1)\ndef handed_on(): ...\n",
            "price/b.py": "def used(): ...\ndef renamed(): ...\ndef attribute(): ...\n",
            "command/a.py": "@cli.command('run')\ndef run():\n    used()\n    b.attribute()\n",
            "command/b.py": "from sim_core.price.b import renamed as other\n",
        }
    )
    assert house.unused_functions(product) == [
        "sim_core/price/a.py:2 alone",
        "sim_core/price/a.py:4 handed_on",
    ]


def test_long_pages(make: Make) -> None:
    """Planted: nine lines of code beneath a docstring of nine; eight are allowed."""
    docstring = '"""A page.\n' + "Words.\n" * 7 + '"""\n\n'
    product = make({"/pages/1_A.py": docstring + "a = 1\n" * 9, "/pages/2_B.py": docstring + "a = 1\n\n" * 8})
    assert house.long_pages(product) == ["pages/1_A.py 9"]


def test_the_exit_status(make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Planted: nothing, then a circle. Only `--check` complains, and `--verbose` names the files."""
    for product, status in (
        (make({"price/a.py": ""}), 0),
        (
            make({"price/a.py": "from sim_core.price import b\n", "price/b.py": "import sim_core.price.a\n"}),
            1,
        ),
    ):
        monkeypatch.setattr(house, "Product", lambda product=product: product)
        assert house.main([]) == 0
        assert house.main(["--check", "--verbose"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert "circles between files                         1      0  over" in lines
    assert "    sim_core.price.a <-> sim_core.price.b" in lines


def test_the_rooms_of_the_product() -> None:
    """Oracle: the order of rooms. What has been reached stays: no circle, and no import against the order."""
    product = Product()
    folders = {path.parent.name for path in (ROOT / "sim_core").glob("*/__init__.py")}
    assert folders == {*ROOMS}
    assert house.file_circles(product) == house.room_circles(product) == house.upward_imports(product) == []
