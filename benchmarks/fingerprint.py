"""A word that stands for the formulas, so that rows predicted by others can be told from the present ones.

It covers what the blind predictions rest on: the tables of measured kernels, reference prices of models,
accelerators, layouts, precisions and both kinds of attention, the way of a KV cache between two pools, the
constants of the typical calibration, and what schedulers make of a few requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache

import numpy as np

from sim_core.catalogue.calibrations import calibration
from sim_core.catalogue.kernels import TABLES, kernel_rows
from sim_core.engine.run import simulate
from sim_core.price.pools import transfer_of
from sim_core.price.price import price_of
from sim_core.scenario.scenario import Scenario

PRICED = (  # dense, sliding window and native fp4, mixture of experts, latent attention
    Scenario(model="llama-3.1-8b"),
    Scenario(model="llama-3.3-70b", accelerator="mi300x", tensor_parallel=4, weight_dtype="fp8"),
    Scenario(model="gpt-oss-120b", accelerator="b200", weight_dtype="native", kv_dtype="fp8"),
    Scenario(model="mixtral-8x7b", accelerator="a100-80-sxm", tensor_parallel=2),
    Scenario(model="deepseek-r1", accelerator="h200", tensor_parallel=8, expert_parallel=8, kv_dtype="fp8",
             weight_dtype="fp8"),
)  # fmt: skip
TOKENS = (1, 7, 64, 500, 4096, 8192)
ROWS = (1, 16, 256)
REQUESTS = "0:1000:40x6,0.02:9000:5,0.31:300:60x4"
POLICIES = ("chunked", "prefill_first", "disaggregated")


@cache
def fingerprint() -> str:
    """Return a word that changes with the formulas, to nine digits: the same on all platforms."""
    text = " ".join(f"{value:.9g}" for value in _answers())
    text += " ".join(value for name in TABLES for row in kernel_rows(name) for value in row.values())
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _answers() -> Iterator[float]:
    yield from (value for value in calibration("typical").base if value is not None)
    for scenario in PRICED:
        yield from _priced(scenario)
    yield from transfer_of(Scenario(model="deepseek-r1", kv_dtype="fp8"))
    for policy in POLICIES:
        rows = simulate(Scenario(arrivals="trace", request_list=REQUESTS, policy=policy, max_batch=8))
        yield from rows.first_token_s
        yield from rows.finished_s


def _priced(scenario: Scenario) -> Iterator[float]:
    """Yield the price of steps: over tokens, over rows, and all that is one figure."""
    price = price_of(scenario)
    yield from price.step.token_s[list(TOKENS)]
    yield from price.step.row_s[list(ROWS)]
    yield from (value for value in price.step if isinstance(value, (int, float)))
    yield from (price.kv_blocks, price.before_s(np.full(1, 1000)), price.request_after_s)
