"""docs/architecture.md: its picture is the code's, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import architecture
from benchmarks.source import Product
from tests.places import ROOT


def test_the_picture_is_the_codes() -> None:
    """Oracle: the docstrings and imports of today."""
    text = architecture.FILE.read_text(encoding="utf-8")
    assert architecture.BEGIN in text and architecture.END in text
    assert text == architecture.redrawn(text, Product()), (
        "docs/architecture.md shows other rooms than the code has: "
        "run `python -m benchmarks.architecture` and commit what it writes."
    )


def test_a_picture_by_hand(tmp_path: Path) -> None:
    """By hand: engine imports price and fields, price imports fields: the long arrow is left out."""
    files = {
        "fields/__init__.py": '"""Limits, so-called "fields".\n\nMore of them.\n"""\n',
        "price/__init__.py": '"""Prices."""\nfrom sim_core import fields\n',
        "engine/__init__.py": '"""Runs."""\n',
        "engine/run.py": "from sim_core.price import cost\nfrom sim_core.fields import check\n",
    }
    for name, text in files.items():
        path = tmp_path / "sim_core" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    product = Product(tmp_path)
    assert architecture.picture(product).splitlines() == [
        "```mermaid",
        "flowchart TD",
        '    engine["<b>engine</b><br>Runs."]',
        '    price["<b>price</b><br>Prices."]',
        '    fields["<b>fields</b><br>Limits, so-called #quot;fields#quot;."]',
        "    engine --> price",
        "    price --> fields",
        "```",
    ]
    around = f"Before.\n{architecture.BEGIN}old\n{architecture.END}After.\n"
    assert architecture.redrawn(around, product) == around.replace("old\n", architecture.picture(product))


def test_what_it_names_exists() -> None:
    """Oracle: the files."""
    text = architecture.FILE.read_text(encoding="utf-8")
    targets = re.findall(r"`((?:sim_core|presets|tests|docs|benchmarks)/[\w./]*)`", text)
    assert len(targets) > 40
    assert [target for target in targets if not (ROOT / target).exists()] == []
