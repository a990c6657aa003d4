"""From work to seconds: how each part of a step is priced, and which part is to blame."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import numpy as np

from sim_core.catalogue.calibrations import Constants
from sim_core.catalogue.kernels import Amount, Attention
from sim_core.price.kernels import Kernels, as_calibrated
from sim_core.price.work import Work

PARTS = ("weights", "kv", "compute", "communication", "fixed")
Entry = TypeVar("Entry")


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


class Terms(NamedTuple):
    """What a step is priced from: work, the kernels that do it, the host, and how the two times overlap."""

    work: Work
    kernels: Kernels
    constants: Constants
    smooth: bool


def terms(work: Work, kernels: Kernels, constants: Constants, smooth: bool) -> Terms:
    """Return what a step is priced from, its kernels as the constants have them."""
    return Terms(work, as_calibrated(kernels, work, constants), constants, smooth)


def token_parts(terms: Terms, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Return the time by part [s] of what depends on the new tokens of a step; `tokens` must be positive.

    Without graphs the host launches one kernel after another, ahead of the device until it falls behind. What
    it waits for is compared with these parts alone: attention over long contexts is added, though it would
    hide launches too, since a table over tokens knows no contexts.
    """
    work, kernels, constants, smooth = terms
    dense, experts = kernels.dense, kernels.experts
    dense_compute, dense_read = slower(
        work.dense_compute_s * (tokens + dense.fill_tokens) / dense.peak_frac,
        work.dense_read_s / dense.read_frac,
        smooth,
    )
    load, touched = expert_load(work, constants.expert_imbalance_frac, tokens)
    filled = experts.fill_tokens * work.expert_ratio * touched
    expert_compute, expert_read = slower(
        work.expert_compute_s * (load + filled) / experts.peak_frac,
        work.expert_read_s * touched / experts.read_frac,
        smooth,
    )
    latency_s = kernels.all_reduce.latency_s + constants.collective_gap_s
    parts = {
        "weights": dense_read + expert_read,
        "compute": dense_compute + expert_compute + _activation_s(terms) * tokens,
        "communication": work.collectives * latency_s + work.link_s * tokens / kernels.all_reduce.link_frac,
        "fixed": _launches_s(terms) + work.expert_slots * touched * experts.expert_s,
    }
    behind_s = work.eager_layers * constants.eager_layer_s - sum(parts.values())
    return parts | {"fixed": parts["fixed"] + np.maximum(behind_s, 0.0)}


def _launches_s(terms: Terms) -> Amount:
    """Return the time of a step's launches, and of the small kernels and the host between them. [s]"""
    work, kernels, constants, _ = terms
    return (
        constants.step_s
        + work.products * kernels.dense.launch_s
        + work.bf16_products * kernels.bf16.launch_s
        + work.layers * (kernels.context.launch_s + constants.layer_s)
        + work.latent_layers * constants.latent_layer_s
        + work.moe_layers * kernels.experts.layer_s
    )


def _activation_s(terms: Terms) -> Amount:
    """Return what one token takes beside its products: activations moved, states updated. [s]"""
    state_s = terms.work.state_compute_s / terms.kernels.row.prefill_frac
    moved_s = terms.work.activation_s * terms.constants.activation_passes / terms.kernels.bf16.read_frac
    return moved_s + state_s + terms.work.layers * terms.kernels.context.token_s


def expert_load(work: Work, imbalance_frac: float, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens as the most loaded device sees them, and the share of its experts that they touch.

    A token leaves an expert alone with chance 1 - k/E: T tokens touch E (1 - (1 - k/E)^T) on average.
    """
    load = np.minimum(
        tokens + imbalance_frac * work.expert_spread * np.sqrt(tokens), work.expert_load_max * tokens
    )
    return load, -np.expm1(load * work.expert_miss_log)


def row_parts(terms: Terms, rows: np.ndarray, drafts: Amount = 0) -> dict[str, np.ndarray]:
    """Return the time by part [s] of what depends on the sequences that a step samples; at least one.

    Those with drafts sample a row for each, and one more; the host is kept by a sequence once.
    """
    work, kernels, constants, smooth = terms
    sequences, rows = rows, rows * (1 + drafts)
    compute, read = slower(
        work.head_compute_s * (rows + kernels.bf16.fill_tokens) / kernels.bf16.peak_frac,
        work.head_read_s / kernels.bf16.read_frac,
        smooth,
    )
    latency_s = kernels.all_reduce.latency_s + constants.collective_gap_s
    return {
        "weights": read,
        "kv": work.state_read_s / kernels.row.read_frac * sequences,
        "compute": compute,
        "communication": np.where(work.collectives > 0, latency_s, 0.0)
        + work.head_link_s * rows / kernels.all_reduce.link_frac,
        "fixed": constants.sequence_s * sequences,
    }


def with_switch(constants: Constants, switch_ms: float | None) -> Constants:
    """Return constants with another fixed time for each prompt of a step, if one is given."""
    if switch_ms is None:
        return constants
    return constants._replace(prefill_request_s=switch_ms * 1e-3, prefill_layer_s=0.0)


class Rates(NamedTuple, Generic[Entry]):
    """One entry for each thing that a step counts beside its tokens and rows."""

    extra_tokens: Entry
    context_tokens: Entry
    window_tokens: Entry
    prefill_pairs: Entry
    window_pairs: Entry
    prefill_requests: Entry
    swapped_tokens: Entry


def rate_parts(terms: Terms, drafts: Amount = 0) -> Rates[dict[str, Amount]]:
    """Return for each linear term its seconds per unit, split by part (a dictionary each).

    Drafts are verified over a context that is read once.
    """
    work, kernels, constants, smooth = terms
    queries = 1 + drafts
    extra_compute = work.dense_compute_s / kernels.dense.peak_frac
    extra_compute = extra_compute + work.expert_compute_s / kernels.experts.peak_frac
    context, window = kernels.context, kernels.window
    return Rates(
        extra_tokens={
            "compute": extra_compute + _activation_s(terms),
            "communication": work.link_s / kernels.all_reduce.link_frac,
        },
        context_tokens=_decode_parts(context, work.context_compute_s * queries, work.context_read_s, smooth),
        window_tokens=_decode_parts(window, work.window_compute_s * queries, work.window_read_s, smooth),
        prefill_pairs={"compute": work.pair_compute_s / context.prefill_frac},
        window_pairs={"compute": work.window_pair_compute_s / window.prefill_frac},
        prefill_requests={"fixed": constants.prefill_request_s + work.layers * constants.prefill_layer_s},
        swapped_tokens={"communication": work.swap_s / constants.pcie_frac},
    )


def _decode_parts(attention: Attention, compute_s: Amount, read_s: Amount, smooth: bool) -> dict[str, Amount]:
    compute, read = slower(compute_s / attention.decode_frac, read_s / attention.read_frac, smooth)
    return {"compute": compute, "kv": read}
