"""From work to seconds: how each part of a step is priced, and which part is to blame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from sim_core.catalogue.calibrations import Constants
from sim_core.catalogue.kernels import AllReduce, Amount, AttentionKernel
from sim_core.price.kernels import Kernels, as_calibrated
from sim_core.price.work import Work

PARTS = ("weights", "kv", "compute", "communication", "all_to_all", "fixed")
SENDING_FRAC = 24 / 132  # of the multiprocessors, on which normal kernels send (DeepEP, README, on H800)
LOW_LATENCY_TOKENS = 1024  # of a rank, for which SGLang's low-latency buffers have room at most
RANKS_ALONE = ("all_to_all",)  # parts of layouts alone that have several ranks of attention
Parts = dict[str, np.ndarray]
Entry = TypeVar("Entry")


def parts_of(ranks: int) -> tuple[str, ...]:
    """Return the parts that steps of so many ranks of attention have."""
    return PARTS if ranks > 1 else tuple(part for part in PARTS if part not in RANKS_ALONE)


# --- from work to seconds -------------------------------------------------------------------------


def slower(compute_s: Amount, memory_s: Amount, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the time of two overlapping activities, split into the part each is to blame for.

    The parts add up to (a^4 + b^4)^(1/4), in proportion a^4 : b^4; without `smooth` the slower takes it all.
    """
    if not smooth:
        wins = np.asarray(compute_s) > np.asarray(memory_s)
        return np.where(wins, compute_s, 0.0), np.where(wins, 0.0, memory_s)
    compute4 = compute_s * compute_s
    compute4 *= compute4
    memory4 = memory_s * memory_s
    memory4 *= memory4
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

    Where there are several ranks, they are the tokens of the fullest one, and what the experts take over
    those of all ranks stands in `group_parts`.

    Without graphs the host launches one kernel after another, ahead of the device until it falls behind. What
    it waits for is compared with these parts alone: attention over long contexts is added, though it would
    hide launches too, since a table over tokens knows no contexts.
    """
    whole = _token_parts(terms, tokens)
    if not np.any(terms.work.overlaps):
        return whole
    halves, _ = _in_halves(terms, tokens)
    return _where(faster_in_halves(terms, tokens), halves, whole)


def _token_parts(terms: Terms, tokens: np.ndarray) -> dict[str, np.ndarray]:
    work, kernels, constants, smooth = terms
    dense, alone = kernels.dense, work.ranks <= 1
    dense_compute, dense_read = slower(
        work.dense_compute_s * (tokens + dense.fill_tokens) / dense.peak_frac,
        work.dense_read_s / dense.read_frac,
        smooth,
    )
    kept_compute, kept_read = slower(
        work.kept_compute_s * (tokens + kernels.bf16.fill_tokens) / kernels.bf16.peak_frac,
        work.kept_read_s / kernels.bf16.read_frac,
        smooth,
    )
    experts = dict.fromkeys(("weights", "compute", "fixed"), np.zeros(()))
    if np.any(alone):
        experts = {part: np.where(alone, each_s, 0.0) for part, each_s in expert_parts(terms, tokens).items()}
    parts = {
        "weights": dense_read + experts["weights"] + kept_read,
        "compute": dense_compute + experts["compute"] + _activation_s(terms) * tokens + kept_compute,
        "communication": work.collectives * _latency_s(terms, kernels.all_reduce)
        + np.asarray(_reduced_s(terms, tokens))
        + work.send_s,
        "all_to_all": np.asarray(exchange_s(terms, tokens)),
        "fixed": _launches_s(terms) + experts["fixed"],
    }
    behind_s = work.eager_layers * constants.eager_layer_s - sum(parts.values())
    return parts | {"fixed": parts["fixed"] + np.maximum(behind_s, 0.0)}


def group_parts(terms: Terms, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Return the time by part [s] of what depends on the new tokens of all ranks together, at least one.

    Nothing where there is one rank.
    """
    whole = _group_parts(terms, tokens)
    if not np.any(terms.work.overlaps):
        return whole
    balanced = tokens / terms.work.ranks
    _, halves = _in_halves(terms, balanced)
    return _where(faster_in_halves(terms, balanced), halves, whole)


def _group_parts(terms: Terms, tokens: np.ndarray) -> dict[str, np.ndarray]:
    work, gather = terms.work, terms.kernels.gather
    experts = expert_parts(terms, tokens)
    experts["all_to_all"] = work.gathers * _latency_s(terms, gather) + _gathered_s(terms) * tokens
    return {part: np.where(work.ranks > 1, time_s, 0.0) for part, time_s in experts.items()}


def _in_halves(terms: Terms, tokens: np.ndarray) -> tuple[Parts, Parts]:
    """Return the time by part of two halves of all ranks' tokens, each computed while the other travels. [s]

    Of the fullest rank, and of what ranks share. Both halves launch everything and read all weights; the host
    plans a step and waits for other ranks once. A half on its way is hidden by the products, experts and
    launches of the other; attention over contexts would hide more, but no table over tokens knows it. Normal
    kernels take multiprocessors away from what is computed meanwhile, those of low latency none.
    """
    half = tokens / 2
    own, together = _token_parts(terms, half), _group_parts(terms, terms.work.ranks * half)
    beside = np.where(travels_merged(terms, half), 1 / (1 - SENDING_FRAC), 1.0)
    own, together = (parts | {"compute": parts["compute"] * beside} for parts in (own, together))
    once_s = terms.constants.step_s + _wait_s(terms)
    computed_s = sum(own.values()) - own["all_to_all"] + sum(together.values()) - once_s
    own = own | {"all_to_all": np.maximum(own["all_to_all"] - computed_s, 0.0)}
    doubled, shared = ({part: 2 * time_s for part, time_s in parts.items()} for parts in (own, together))
    return doubled | {"fixed": doubled["fixed"] - once_s}, shared


def faster_in_halves(terms: Terms, tokens: np.ndarray) -> np.ndarray:
    """Return whether a step of so many tokens of each rank is faster in halves; engines have a threshold."""
    whole = (_token_parts(terms, tokens), _group_parts(terms, terms.work.ranks * tokens))
    whole_s, halves_s = (
        sum(sum(parts.values()) for parts in both) for both in (whole, _in_halves(terms, tokens))
    )
    return np.asarray((terms.work.overlaps > 0) & (halves_s < whole_s))


def _where(chosen: np.ndarray, one: Parts, other: Parts) -> Parts:
    return {part: np.where(chosen, one[part], other[part]) for part in one}


def expert_parts(terms: Terms, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Return the time by part [s] that routed experts take for the tokens of a step."""
    work, experts = terms.work, terms.kernels.experts
    load, touched = expert_load(work, terms.constants.expert_imbalance_frac, tokens)
    filled = experts.fill_tokens * work.expert_ratio * touched
    compute, read = slower(
        work.expert_compute_s * (load + filled) / experts.peak_frac,
        work.expert_read_s * touched / experts.read_frac,
        terms.smooth,
    )
    return {
        "weights": read,
        "compute": compute + work.expert_copied_s * load * experts.copy_bytes,
        "fixed": work.expert_slots * touched * experts.expert_s,
    }


def exchange_s(terms: Terms, tokens: Amount) -> Amount:
    """Return how long the tokens of the fullest rank travel to experts and back, all layers together. [s]

    Steps of decodes, whose tokens fit the buffers of low-latency kernels, use these; others what is faster.
    """
    low_s, other_s = _both_ways_s(terms, tokens)
    return np.where(travels_merged(terms, tokens), other_s, low_s)


def travels_merged(terms: Terms, tokens: Amount) -> np.ndarray:
    """Return whether the tokens travel by normal kernels, which merge the copies for one place."""
    low_s, other_s = _both_ways_s(terms, tokens)
    return np.asarray((np.asarray(tokens) > LOW_LATENCY_TOKENS) & (other_s < low_s))


def _both_ways_s(terms: Terms, tokens: Amount) -> tuple[Amount, Amount]:
    """Return how long tokens travel by kernels of low latency, and by normal ones. [s]"""
    sent_s, merged_s = _exchanged_s(terms)
    exchanges, kernels = terms.work.exchanges, terms.kernels
    return (
        exchanges * kernels.all_to_all.latency_s + sent_s * tokens,
        exchanges * kernels.merged.latency_s + merged_s * tokens,
    )


def _exchanged_s(terms: Terms) -> tuple[Amount, Amount]:
    """Return what a token takes by kernels of either kind: the slower of both links sets the pace. [s]"""
    work, low, merged = terms.work, terms.kernels.all_to_all, terms.kernels.merged
    sent_s = np.maximum(work.exchange_link_s / low.link_frac, work.exchange_network_s / low.network_frac)
    merged_s = np.maximum(work.merged_link_s / merged.link_frac, work.merged_network_s / merged.network_frac)
    return sent_s, np.where(work.nodes <= merged.nodes, merged_s, np.inf)


def _reduced_s(terms: Terms, tokens: Amount) -> Amount:
    """Return what all-reduces within a rank move of some tokens, and sending them to the next stage. [s]"""
    work, kernels = terms.work, terms.kernels
    network_s = work.network_s * tokens / kernels.all_to_all.network_frac
    return (work.link_s + work.send_link_s) * tokens / kernels.all_reduce.link_frac + network_s


def _gathered_s(terms: Terms) -> Amount:
    """Return what gathering a token on all devices takes, and bringing its sums back. [s]"""
    work, kernels = terms.work, terms.kernels
    link_s = work.gather_link_s / kernels.gather.link_frac
    return link_s + work.gather_network_s / kernels.all_to_all.network_frac


def _latency_s(terms: Terms, collective: AllReduce) -> Amount:
    return collective.latency_s + terms.constants.collective_gap_s


def _wait_s(terms: Terms) -> Amount:
    """Return what ranks of latent attention wait for one another in a step; runs of others show none. [s]"""
    waits = (terms.work.ranks > 1) & (np.asarray(terms.work.latent_layers) > 0)
    return np.where(waits, terms.constants.rank_sync_s, 0.0)


def _launches_s(terms: Terms) -> Amount:
    """Return the time of a step's launches, and of the small kernels and the host between them. [s]"""
    work, kernels, constants, _ = terms
    return (
        constants.step_s
        + _wait_s(terms)
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

    The excess is what a scenario states, or that of tokens which choose at random.

    A token leaves an expert alone with chance 1 - k/E: T tokens touch E (1 - (1 - k/E)^T) on average.
    """
    random = tokens + imbalance_frac * work.expert_spread * np.sqrt(tokens)
    asked = np.where(work.expert_times > 0, work.expert_times * tokens, random)
    load = np.minimum(asked, work.expert_load_max * tokens)
    return load, -np.expm1(load * work.expert_miss_log)


def row_parts(terms: Terms, rows: np.ndarray, drafts: Amount = 0) -> dict[str, np.ndarray]:
    """Return the time by part [s] of what depends on the sequences that a step samples; at least one.

    Those with drafts sample a row for each, and one more; the host is kept by a sequence once.
    """
    own, last = stage_row_parts(terms, rows, drafts), end_parts(terms, rows, drafts)
    return {part: own.get(part, 0.0) + time_s for part, time_s in last.items()} | {"kv": own["kv"]}


def stage_row_parts(terms: Terms, rows: np.ndarray, drafts: Amount = 0) -> dict[str, np.ndarray]:
    """Return what the sequences that a step samples take in every stage, by part. [s]

    A state is read once, and written behind every row, so that it can be gone back to.
    """
    work, kernels = terms.work, terms.kernels
    verified = rows * (1 + drafts)
    return {
        "kv": work.state_read_s / kernels.row.read_frac * (rows + verified) / 2,
        "communication": work.context_collectives * _latency_s(terms, kernels.all_reduce)
        + work.context_link_s * verified / kernels.all_reduce.link_frac,
    }


def end_parts(terms: Terms, rows: np.ndarray, drafts: Amount = 0) -> dict[str, np.ndarray]:
    """Return what the sequences that a step samples take where the LM head lies, by part. [s]"""
    work, kernels, constants, smooth = terms
    sequences, rows = rows, rows * (1 + drafts)
    compute, read = slower(
        work.head_compute_s * (rows + kernels.bf16.fill_tokens) / kernels.bf16.peak_frac,
        work.head_read_s / kernels.bf16.read_frac,
        smooth,
    )
    network_s = work.head_network_s * rows / kernels.all_to_all.network_frac
    return {
        "weights": read,
        "compute": compute,
        "communication": np.where(work.collectives > 0, _latency_s(terms, kernels.all_reduce), 0.0)
        + work.head_link_s * rows / kernels.all_reduce.link_frac
        + network_s,
        "fixed": constants.sequence_s * sequences,
    }


def with_switch(constants: Constants, switch_ms: float | None) -> Constants:
    """Return constants with another fixed time for each prompt of a step, if one is given."""
    if switch_ms is None:
        return constants
    return constants._replace(
        prefill_request_s=switch_ms * 1e-3, prefill_layer_s=0.0, prefill_step_layer_s=0.0
    )


class Rates(NamedTuple, Generic[Entry]):
    """One entry for each thing that a step counts beside its tokens and rows."""

    extra_tokens: Entry
    context_tokens: Entry
    window_tokens: Entry
    prefill_pairs: Entry
    window_pairs: Entry
    prefill_requests: Entry
    prefill_steps: Entry
    swapped_tokens: Entry


def rate_parts(terms: Terms, drafts: Amount = 0) -> Rates[dict[str, Amount]]:
    """Return for each linear term its seconds per unit, split by part (a dictionary each).

    Drafts are verified over a context that is read once.
    """
    work, kernels, constants, smooth = terms
    queries = 1 + drafts
    extra_compute = work.dense_compute_s / kernels.dense.peak_frac
    extra_compute = extra_compute + work.kept_compute_s / kernels.bf16.peak_frac
    extra_compute = extra_compute + np.where(work.ranks > 1, 0.0, _expert_slope_s(terms))
    context, window = kernels.context, kernels.window
    return Rates(
        extra_tokens={
            "compute": extra_compute + _activation_s(terms),
            "communication": _reduced_s(terms, 1),
            "all_to_all": np.minimum(*_exchanged_s(terms)),
        },
        context_tokens=_decode_parts(context, work.context_compute_s * queries, work.context_read_s, smooth),
        window_tokens=_decode_parts(window, work.window_compute_s * queries, work.window_read_s, smooth),
        prefill_pairs={"compute": work.pair_compute_s / context.prefill_frac},
        window_pairs={"compute": work.window_pair_compute_s / window.prefill_frac},
        prefill_requests={"fixed": constants.prefill_request_s + work.layers * constants.prefill_layer_s},
        prefill_steps={"fixed": work.layers * constants.prefill_step_layer_s},
        swapped_tokens={"communication": work.swap_s / constants.pcie_frac},
    )


def group_rate_parts(terms: Terms) -> dict[str, Amount]:
    """Return the seconds of each token of all ranks beyond the table, split by part."""
    return {"compute": _expert_slope_s(terms), "all_to_all": _gathered_s(terms)}


def _expert_slope_s(terms: Terms) -> Amount:
    """Return what one token more takes of experts that are all busy. [s]"""
    work, experts = terms.work, terms.kernels.experts
    excess = np.minimum(np.where(work.expert_times > 0, work.expert_times, 1.0), work.expert_load_max)
    return (work.expert_compute_s / experts.peak_frac + work.expert_copied_s * experts.copy_bytes) * excess


def _decode_parts(
    attention: AttentionKernel, compute_s: Amount, read_s: Amount, smooth: bool
) -> dict[str, Amount]:
    compute, read = slower(compute_s / attention.decode_frac, read_s / attention.read_frac, smooth)
    return {"compute": compute, "kv": read}


# --- seconds by heading ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """Seconds by heading: over the tokens of a step, over its sampled rows, and per unit of each rate.

    Attributes
    ----------
    token_s : ndarray, shape (headings, table length)
    row_s, end_s : ndarray, shape (headings, max_batch + 1)
        Of an engine in stages, `end_s` is what the last one takes of it alone.
    rate_s : ndarray, shape (headings, len(Rates._fields))
    group_s : ndarray, shape (headings, table length)
        Over the tokens of all ranks of attention together; one column of zeros where there is one rank.
    group_slope_s : ndarray, shape (headings,)
        Of each of those tokens beyond the table.
    """

    headings: tuple[str, ...]
    token_s: np.ndarray
    row_s: np.ndarray
    rate_s: np.ndarray
    group_s: np.ndarray
    group_slope_s: np.ndarray
    end_s: np.ndarray

    def total_s(
        self, steps_by_tokens: np.ndarray, steps_by_rows: np.ndarray, counts: Rates[float]
    ) -> np.ndarray:
        """Return the seconds under each heading for histograms of steps and totals of the rates.

        Histograms and totals of several runs, along a first axis, give as many along the last one.
        """
        tokens = _products_s(self.token_s, np.asarray(steps_by_tokens, dtype=float))
        rows = _products_s(self.row_s, np.asarray(steps_by_rows, dtype=float))
        return tokens + rows + _products_s(self.rate_s, np.array(counts, dtype=float).T.copy())

    def group_total_s(self, steps_by_tokens: np.ndarray, beyond: float = 0.0) -> np.ndarray:
        """Return the seconds under each heading of what all ranks share.

        Parameters
        ----------
        steps_by_tokens : ndarray
            Steps by the tokens of all ranks together, up to the end of the table.
        beyond : float
            Tokens of all steps beyond it.
        """
        steps = np.asarray(steps_by_tokens, dtype=float)
        return self.group_s[:, : len(steps)] @ steps + beyond * self.group_slope_s


def _products_s(table_s: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the sums of a table's entries times how many there are of each, shape (headings,) or, where the
    counts are of several runs, (headings, runs); each run's are those that it has by itself, to the last bit.
    """
    used_s = table_s[:, : counts.shape[-1]]
    return np.vecdot(used_s if counts.ndim == 1 else used_s[:, None], counts)


def by_heading(headings: tuple[str, ...], rates: Rates[dict[str, Amount]]) -> np.ndarray:
    """Return dictionaries of seconds per unit as an array, shape (headings, rates)."""
    return np.array([[float(rate.get(heading, 0.0)) for rate in rates] for heading in headings])
