"""Weights in formats of different width: what is packed, and what stays wide."""

from __future__ import annotations

import dataclasses

import pytest

from sim_core import catalogue
from sim_core.price.work import Layout, weight_bytes, work


def test_attention_of_four_bit_checkpoints_stays_wide():
    """By hand, DeepSeek-R1 in 4 bits on 8 devices: 61 layers' projections of queries, keys and values stay in
    bf16, an eighth of them on each, the down-projections whole; the output is packed like all else.
    """
    packed, wide = (8, 1, "fp4", "bf16"), 2 - (0.5 + 1 / 32)
    model = catalogue.model("deepseek-r1")
    bare = dataclasses.replace(model, fp4_attention="")
    inputs = 61 * (1536 * 128 * 192 + 512 * 128 * 256) / 8
    downs = 61 * 7168 * (1536 + 512 + 64)
    part = catalogue.accelerator("b200")
    kept, all_packed = (work(each, part, Layout(*packed)) for each in (model, bare))
    assert kept.kept_read_s == pytest.approx(2 * (inputs + downs) / 8e12)
    assert kept.kept_compute_s == pytest.approx(2 * (inputs + downs) / part.flop_per_s("bf16"))
    assert kept.products == all_packed.products - 2 * 61
    assert all_packed.kept_read_s == 0
    more = weight_bytes(model, Layout(*packed))[1] - weight_bytes(bare, Layout(*packed))[1]
    assert more == pytest.approx(wide * (inputs + downs))
    in_8_bits = (work(each, part, Layout(8, 1, "fp8", "bf16")) for each in (model, bare))
    assert next(in_8_bits) == next(in_8_bits)
