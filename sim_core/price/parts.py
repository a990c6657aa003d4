"""From work to seconds: how each part of a step is priced, and which part is to blame."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import numpy as np

from sim_core.catalogue.calibrations import Constants
from sim_core.price.work import Work

PARTS = ("weights", "kv", "compute", "communication", "fixed")
Entry = TypeVar("Entry")
Amount = float | np.ndarray  # of one thing, or of each of several


# --- from work to seconds -------------------------------------------------------------------------


def slower(compute_s: Amount, memory_s: Amount, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the time of two overlapping activities, split into the part each is to blame for.

    The parts add up to (a^4 + b^4)^(1/4), in proportion a^4 : b^4; without `smooth` the slower takes it all.
    """
    if not smooth:
        wins = np.asarray(compute_s) > np.asarray(memory_s)
        return np.where(wins, compute_s, 0.0), np.where(wins, 0.0, memory_s)
    compute4 = compute_s * compute_s
    compute4 = compute4 * compute4
    memory4 = memory_s * memory_s
    memory4 = memory4 * memory4
    both4 = compute4 + memory4
    total = np.sqrt(np.sqrt(both4))
    compute_part = total * (compute4 / np.maximum(both4, 1e-300))
    return compute_part, total - compute_part


def token_parts(work: Work, constants: Constants, smooth: bool, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Return the time by part [s] of what depends on the new tokens of a step; `tokens` must be positive."""
    gemm_frac = product_fracs(constants)
    fill = constants.fill_tokens
    dense_compute, dense_read = slower(
        work.dense_compute_s * (tokens + fill) / gemm_frac[work.dense_dtype],
        work.dense_read_s / constants.weight_read_frac,
        smooth,
    )
    load, touched = expert_load(work, constants.expert_imbalance_frac, tokens)
    expert_compute, expert_read = slower(
        work.expert_compute_s * (load + fill * work.expert_ratio * touched) / expert_frac(work, constants),
        work.expert_read_s * touched / constants.weight_read_frac,
        smooth,
    )
    activation_s = work.activation_s * constants.activation_passes / constants.weight_read_frac
    fixed = (
        constants.step_s
        + work.layers * constants.layer_s
        + work.latent_layers * constants.latent_layer_s
        + work.moe_layers * constants.moe_layer_s
        + work.expert_slots * constants.expert_s
    )
    return {
        "weights": dense_read + expert_read,
        "compute": dense_compute + expert_compute + activation_s * tokens,
        "communication": work.collectives * constants.collective_s
        + work.link_s * tokens / constants.link_frac,
        "fixed": fixed + 0.0 * tokens,
    }


def product_fracs(constants: Constants) -> np.ndarray:
    """Return the shares of peak that matrix products reach, in the order of `DTYPES`."""
    return np.array([constants.bf16_frac, constants.fp8_frac, constants.fp4_frac])


def expert_frac(work: Work, constants: Constants) -> np.ndarray:
    """Return the share of peak that the experts' products reach: the narrower their slices, the less."""
    narrow = work.expert_width / (work.expert_width + constants.expert_half_width_columns)
    return product_fracs(constants)[work.expert_dtype] * narrow


def expert_load(work: Work, imbalance_frac: float, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens as the most loaded device sees them, and the share of its experts that they touch.

    A token leaves an expert alone with chance 1 - k/E: T tokens touch E (1 - (1 - k/E)^T) on average.
    """
    load = np.minimum(
        tokens + imbalance_frac * work.expert_spread * np.sqrt(tokens), work.expert_load_max * tokens
    )
    return load, -np.expm1(load * work.expert_miss_log)


def row_parts(work: Work, constants: Constants, smooth: bool, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the time by part [s] of what depends on the sampled rows of a step; `rows` must be positive."""
    gemm_frac = product_fracs(constants)
    compute, read = slower(
        work.head_compute_s * (rows + constants.fill_tokens) / gemm_frac[work.head_dtype],
        work.head_read_s / constants.weight_read_frac,
        smooth,
    )
    collective = np.where(work.collectives > 0, constants.collective_s, 0.0)
    return {
        "weights": read,
        "compute": compute,
        "communication": collective + work.head_link_s * rows / constants.link_frac,
        "fixed": constants.sequence_s * rows,
    }


def with_switch(constants: Constants, switch_ms: float | None) -> Constants:
    """Return constants with another fixed time for each prompt of a step, if one is given."""
    return constants if switch_ms is None else constants._replace(prefill_request_s=switch_ms * 1e-3)


class Rates(NamedTuple, Generic[Entry]):
    """One entry for each thing that a step counts beside its tokens and rows."""

    extra_tokens: Entry
    context_tokens: Entry
    window_tokens: Entry
    prefill_pairs: Entry
    window_pairs: Entry
    prefill_requests: Entry
    swapped_tokens: Entry


def rate_parts(work: Work, constants: Constants, smooth: bool) -> Rates[dict[str, Amount]]:
    """Return for each linear term its seconds per unit, split by part (a dictionary each)."""
    gemm_frac = product_fracs(constants)
    attention = constants.attention_frac
    extra_compute = work.dense_compute_s / gemm_frac[work.dense_dtype]
    extra_compute = extra_compute + work.expert_compute_s / expert_frac(work, constants)
    activation_s = work.activation_s * constants.activation_passes / constants.weight_read_frac
    return Rates(
        extra_tokens={
            "compute": extra_compute + activation_s,
            "communication": work.link_s / constants.link_frac,
        },
        context_tokens=_attention_parts(work.context_compute_s, work.context_read_s, constants, smooth),
        window_tokens=_attention_parts(work.window_compute_s, work.window_read_s, constants, smooth),
        prefill_pairs={"compute": work.pair_compute_s / attention},
        window_pairs={"compute": work.window_pair_compute_s / attention},
        prefill_requests={"fixed": constants.prefill_request_s},
        swapped_tokens={"communication": work.swap_s / constants.pcie_frac},
    )


def _attention_parts(
    compute_s: float, read_s: float, constants: Constants, smooth: bool
) -> dict[str, Amount]:
    compute, read = slower(compute_s / constants.attention_frac, read_s / constants.kv_read_frac, smooth)
    return {"compute": compute, "kv": read}
