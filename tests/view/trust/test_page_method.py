"""The Method page."""

from __future__ import annotations

import json

import pytest

from tests.visits import healthy, open_page


@pytest.mark.parametrize("section", ["cost", "speculation", "controls", "presets"])
def test_every_heading_says_what_it_means(section: str) -> None:
    """Oracle: the columns of each table of the section, one by one."""
    tables = healthy(open_page("9_Method.py", method=section)).dataframe
    assert tables
    for table in tables:
        about = json.loads(table.proto.columns)
        assert [name for name in table.value if not about.get(name, {}).get("help")] == []
