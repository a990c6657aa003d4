"""The tables of measured kernels: every row is a possible kernel, and says where it comes from."""

from __future__ import annotations

import tomllib

import pytest

from sim_core.catalogue import kernels
from sim_core.catalogue.accelerators import PEAKS
from sim_core.catalogue.reader import PRESETS

SOURCES = tomllib.loads((PRESETS / "kernels" / "sources.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", kernels.TABLES)
def test_every_row_is_possible_and_has_a_source(name: str) -> None:
    """Physics: shares lie above 0 and at most at 1, times and counts are not negative; a source is known."""
    for row in kernels.kernel_rows(name):
        assert row["source"] in SOURCES
        assert 0 < float(row["error_pct"]) <= 50
        for column, text in row.items():
            if column.endswith("_frac"):
                assert 0 < float(text) <= 1, row
            if column.endswith(("_us", "_tokens")):
                assert 0 <= float(text) < 300, row


@pytest.mark.parametrize("name", ["products", "experts", "attention"])
def test_a_kind_has_one_row_a_generation_and_engine(name: str) -> None:
    """Oracle: the key of a row; every generation is known, and an engine's own row replaces a common one."""
    keys = [(row["generation"], row["kind"], row.get("engine", "")) for row in kernels.kernel_rows(name)]
    assert len(set(keys)) == len(keys)
    assert {generation for generation, _, _ in keys} <= set(kernels.GENERATIONS)
    assert all((generation, kind, "") in keys for generation, kind, _ in keys)


def test_experts_multiply_in_a_known_precision() -> None:
    """Oracle: the precisions that accelerators have peaks for."""
    assert {row["arithmetic"] for row in kernels.kernel_rows("experts")} <= set(PEAKS)


def test_a_generation_without_a_row_takes_the_closest() -> None:
    """By the tables: Ada has no latent attention and takes Hopper's; nor has Infinity Fabric a row."""
    assert kernels.attention("ada", "mla", "fp8") == kernels.attention("hopper", "mla", "fp8")
    assert kernels.all_reduce("infinity_fabric", 8) == kernels.all_reduce("nvlink4", 8)


def test_the_largest_group_is_the_one_measured() -> None:
    """Oracle: the column of devices; beyond it the products' note calls latencies extrapolated."""
    assert max(int(row["devices"]) for row in kernels.kernel_rows("all_reduce")) == kernels.LARGEST_GROUP
