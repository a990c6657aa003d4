"""The examples of docstrings: what they print is what the code says."""

from __future__ import annotations

import doctest
import importlib

from tests.places import ROOT


def test_the_examples_in_docstrings_hold() -> None:
    """Oracle: the printed results in the docstrings."""
    files = [file for file in (ROOT / "sim_core").rglob("*.py") if ">>>" in file.read_text("utf-8")]
    assert len(files) > 20
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    failed = [name for name in names if doctest.testmod(importlib.import_module(name)).failed]
    assert failed == []
