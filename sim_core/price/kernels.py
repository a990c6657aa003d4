"""Which measured kernels run a model on a device: chosen once, for a layout and an engine.

Shares of peak are kept as shares of the peak that `Work` divides by, so that a product whose arithmetic is
wider than its weights (4-bit weights without 4-bit units, say) has its lower share of the narrower peak.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from sim_core.catalogue import kernels as measured
from sim_core.catalogue.accelerators import DTYPES, Accelerator
from sim_core.catalogue.calibrations import Constants
from sim_core.catalogue.kernels import AllReduce, AllToAll, Amount, AttentionKernel, Experts, Product
from sim_core.catalogue.models import Model
from sim_core.price.work import (
    TERMS,
    Layout,
    Work,
    attention_flop_per_s,
    attention_pieces,
    padded,
    precisions,
)

K = TypeVar("K", Product, Experts)
LARGEST_NODE = 72  # of which an all-to-all was measured
PCIE4_BYTE_PER_S = 32e9  # of 16 lanes, one way


class Kernels(NamedTuple):
    """The kernels of one device, or of many as columns."""

    dense: Product
    bf16: Product  # LM head, router and what latent attention absorbs
    experts: Experts
    context: AttentionKernel  # of all tokens: of layers that see everything, and of indices
    window: AttentionKernel  # of tokens within reach
    row: AttentionKernel  # of states and short windows, once a decode
    all_reduce: AllReduce  # within a rank
    all_to_all: AllToAll  # of tokens and experts of all ranks, with the least latency
    merged: AllToAll  # the same with one copy for all experts of a device, and of a node
    gather: AllReduce  # of the tokens of all ranks


def kernels_of(model: Model, accelerator: Accelerator, layout: Layout) -> Kernels:
    """Return the kernels that run a model on an accelerator in a layout."""
    part, engine = accelerator, layout.engine
    dense = precisions(model, layout.weight_dtype)[0]
    scaling = fp8_scaling(model, layout)
    plain = measured.product(part.kernel_generation, "bf16", engine)
    return Kernels(
        dense=_sustained(_dense(part, dense, scaling, engine), part),
        bf16=_sustained(plain, part),
        experts=experts_of(model, part, layout, has_deepgemm=layout.ranks > 1),
        **_attention(model, part, layout),
        all_reduce=_all_reduce(part, layout, layout.rank_devices),
        all_to_all=_all_to_all(part, layout.tensor_parallel, "low-latency"),
        merged=_all_to_all(part, layout.tensor_parallel, "normal"),
        gather=_all_reduce(part, layout, layout.tensor_parallel),
    )


# --- which kind -----------------------------------------------------------------------------------


def fp8_scaling(model: Model, layout: Layout) -> str:
    """Return how 8-bit weights are scaled: as stated, else as the checkpoint that an engine serves does.

    TensorRT-LLM's own checkpoints of models that were not published in 8 bits are scaled per tensor.
    """
    if layout.fp8_scaling:
        return layout.fp8_scaling
    converted = layout.engine == "tensorrt-llm" and model.native_weight_dtype != "fp8"
    return "tensor" if converted else model.fp8_scaling


def _dense_kind(part: Accelerator, dtype: str, scaling: str) -> str:
    """Return the kind of dense product: weights in a format that the part lacks multiply in bf16."""
    if dtype == "int4":
        return "int4"
    if part.compute_dtype(dtype) != dtype or dtype == "bf16":
        return "bf16"
    return {"fp8": f"fp8-{scaling}", "fp4": "nvfp4"}.get(dtype, dtype)


def _expert_kind(model: Model, part: Accelerator, layout: Layout, scaling: str) -> str:
    """Return the kind of experts; 4-bit ones keep a checkpoint's own format, else follow the part."""
    dtype = precisions(model, layout.weight_dtype)[1]
    if dtype != "fp4":
        return _dense_kind(part, dtype, scaling)
    if layout.weight_dtype == "native" and model.native_fp4 == "mxfp4":
        return "mxfp4"
    return "nvfp4" if part.compute_dtype("fp4") == "fp4" else "int4"


# --- their rows -----------------------------------------------------------------------------------


def _dense(part: Accelerator, dtype: str, scaling: str, engine: str) -> Product:
    """Return the dense products of weights in a format.

    Weights that are widened go through kernels of small tiles, as 4-bit experts do (Marlin: Frantar et al.,
    "MARLIN: Mixed-Precision Auto-Regressive Parallel Inference on Large Language Models", 2024, section 3).
    """
    kind, generation = _dense_kind(part, dtype, scaling), part.kernel_generation
    found = measured.product(generation, kind, engine)
    widened_frac = measured.product(generation, "bf16", engine).peak_frac * _peak_ratio(part, "bf16", dtype)
    if kind == "int4":
        return found._replace(peak_frac=found.peak_frac * _peak_ratio(part, "bf16", dtype))
    if kind != "bf16":  # where bf16 is as fast at its peak, an engine widens rather than loses
        return found._replace(peak_frac=max(found.peak_frac, widened_frac))
    tile = found.fill_tokens
    if dtype != "bf16":
        tile = min(tile, measured.experts(generation, "int4")[0].fill_tokens)
    return found._replace(peak_frac=widened_frac, fill_tokens=tile)


def _sustained(kernel: K, part: Accelerator) -> K:
    """Return a kernel at the share of its peak that a part's power sustains."""
    return kernel._replace(peak_frac=np.minimum(kernel.peak_frac * part.sustained_frac, 1.0))


def experts_of(model: Model, part: Accelerator, layout: Layout, has_deepgemm: bool) -> Experts:
    """Return the experts of a layer.

    TensorRT-LLM runs 8-bit experts scaled per block on Blackwell by trtllm-gen, as open engines do, or by
    DeepGEMM, if `has_deepgemm`: its recipes have it where attention has ranks.

    References
    ----------
    SemiAnalysisAI/InferenceX, benchmarks/dsr1_fp8_b200_trt.sh and dsr1_fp8_b200_trt_mtp.sh: `MOE_BACKEND`.
    """
    kind = _expert_kind(model, part, layout, fp8_scaling(model, layout))
    dtype, generation = precisions(model, layout.weight_dtype)[1], part.kernel_generation
    is_open = kind == "fp8-block" and generation.startswith("blackwell") and not has_deepgemm
    found, arithmetic = measured.experts(generation, kind, "" if is_open else layout.engine)
    found = found._replace(peak_frac=found.peak_frac * _peak_ratio(part, arithmetic, dtype))
    return _sustained(found, part)


def _attention(model: Model, part: Accelerator, layout: Layout) -> dict[str, AttentionKernel]:
    """Return the attention of each term of a step: what its kernels reach, each by its share of the work.

    Launches are those of the layers, whatever their terms; layers without attention have none.
    """
    pieces = attention_pieces(padded(model, layout.rank_devices), part, layout)
    kinds = {group.kind for group in model.attention} | {piece.kernel for piece in pieces}
    known = {kind: _measured_attention(kind, part, layout) for kind in sorted(kinds)}
    launches = [(group.layers, known[group.kind].launch_s) for group in model.attention]
    mixing_s = 0.0
    if model.residual_streams > 1:
        mixing_s = float(_measured_attention("streams", part, layout).launch_s)
    none = (model.layers - model.attention_layers, 0.0)
    launch_s = _mean([*launches, none]) + mixing_s
    token_s = _mean([*((group.layers, known[group.kind].token_s) for group in model.attention), none])
    found = {}
    for term in TERMS:
        own = [(piece, known[piece.kernel]) for piece in pieces if piece.term == term]
        found[term] = AttentionKernel(
            launch_s,
            token_s,
            _share_of_all([(piece.read_s, kernel.read_frac) for piece, kernel in own]),
            _share_of_all([(piece.decode_s, kernel.decode_frac) for piece, kernel in own]),
            _share_of_all([(piece.prefill_s, kernel.prefill_frac) for piece, kernel in own]),
        )
    return found


def _measured_attention(kind: str, part: Accelerator, layout: Layout) -> AttentionKernel:
    found = measured.attention(part.kernel_generation, kind, layout.kv_dtype, layout.engine)
    ratio = part.attention_flop_per_s / attention_flop_per_s(part, layout.kv_dtype) * part.sustained_frac
    shares = {"decode_frac": found.decode_frac, "prefill_frac": found.prefill_frac}
    return found._replace(**{key: np.minimum(share * ratio, 1.0) for key, share in shares.items()})


def _share_of_all(parts: list[tuple[float, Amount]]) -> float:
    """Return the share of a peak that works of different shares reach together; 1 where there are none."""
    known = [(work_s, float(share)) for work_s, share in parts if work_s]
    shares = {share for _, share in known}
    if len(shares) < 2:
        return next(iter(shares), 1.0)
    return sum(work_s for work_s, _ in known) / sum(work_s / share for work_s, share in known)


def _mean(parts: list[tuple[int, Amount]]) -> float:
    """Return the mean of some values by their counts."""
    known = [(count, float(value)) for count, value in parts if count]
    values = {value for _, value in known}
    if len(values) == 1:
        return next(iter(values))
    return sum(count * value for count, value in known) / sum(count for count, _ in known)


def _all_reduce(part: Accelerator, layout: Layout, devices: int) -> AllReduce:
    """Return the all-reduce of a group; over nodes it waits for the network as an all-to-all does."""
    near, nodes = part.near(devices), part.nodes(devices)
    link = part.link(near)
    kind = link.kind
    if kind == "pcie":
        kind = "pcie5" if link.byte_per_s > PCIE4_BYTE_PER_S else "pcie4"
    found = measured.all_reduce(kind, near, layout.engine, layout.cuda_graphs == "on")
    if nodes == 1:
        return found
    over = measured.all_to_all(link.kind, near, nodes)
    alone = measured.all_to_all(link.kind, near, 1)
    return found._replace(latency_s=found.latency_s + over.latency_s - alone.latency_s)


def _all_to_all(part: Accelerator, devices: int, mode: str) -> AllToAll:
    node = min(part.node_devices or devices, LARGEST_NODE)
    return measured.all_to_all(part.link(part.near(devices)).kind, node, part.nodes(devices), mode)


def _peak_ratio(part: Accelerator, arithmetic: str, dtype: str) -> float:
    """Return the peak of the arithmetic over the peak at which `Work` counts weights of `dtype`."""
    known = part.attention_flop_per_s if arithmetic == "bf16" else part.flop_per_s(arithmetic)
    return min(known / part.flop_per_s(dtype), 1.0)


# --- as a calibration has them --------------------------------------------------------------------


def as_calibrated(kernels: Kernels, work: Work, constants: Constants) -> Kernels:
    """Return kernels as a calibration has them: its shares in their place, and its factors on their times.

    A factor below 1 lifts a share to 1 at most, the device's peak.
    """
    own, c = _stated(constants), constants
    dense, expert = own[work.dense_dtype], own[work.expert_dtype]
    fill, read = c.fill_tokens, c.weight_read_frac
    return Kernels(
        dense=_product(kernels.dense, dense, c),
        bf16=_product(kernels.bf16, own[work.head_dtype], c),
        experts=Experts(
            kernels.experts.layer_s * c.experts_times * c.launches_times,
            kernels.experts.expert_s * c.experts_times * c.launches_times,
            _share(kernels.experts.read_frac, read, c.experts_times * c.reads_times),
            _share(kernels.experts.peak_frac, expert, c.experts_times),
            kernels.experts.fill_tokens if fill is None else fill,
            kernels.experts.copy_bytes * c.experts_times * c.activation_passes,
        ),
        context=_calibrated(kernels.context, c),
        window=_calibrated(kernels.window, c),
        row=_calibrated(kernels.row, c),
        all_reduce=_reduced(kernels.all_reduce, c),
        all_to_all=kernels.all_to_all._replace(latency_s=kernels.all_to_all.latency_s * c.links_times),
        merged=kernels.merged._replace(latency_s=kernels.merged.latency_s * c.links_times),
        gather=_reduced(kernels.gather, c),
    )


def _reduced(all_reduce: AllReduce, c: Constants) -> AllReduce:
    return AllReduce(
        (all_reduce.latency_s if c.collective_s is None else c.collective_s) * c.links_times,
        _share(all_reduce.link_frac, c.link_frac, 1.0),
    )


def _calibrated(attention: AttentionKernel, c: Constants) -> AttentionKernel:
    return AttentionKernel(
        attention.launch_s * c.launches_times,
        attention.token_s * c.contexts_times,
        _share(attention.read_frac, c.kv_read_frac, c.contexts_times),
        _share(attention.decode_frac, c.attention_frac, c.contexts_times),
        _share(attention.prefill_frac, c.attention_frac, c.contexts_times),
    )


def _product(product: Product, peak_frac: np.ndarray, c: Constants) -> Product:
    return Product(
        product.launch_s * c.launches_times,
        _share(product.read_frac, c.weight_read_frac, c.reads_times),
        _share(product.peak_frac, peak_frac, c.dense_times),
        product.fill_tokens if c.fill_tokens is None else c.fill_tokens,
    )


def _stated(constants: Constants) -> np.ndarray:
    """Return the shares of peak that a calibration states for products, in the order of `DTYPES`."""
    shares = (getattr(constants, f"{dtype}_frac") for dtype in DTYPES)
    return np.array([np.nan if share is None else share for share in shares])


def _share(measured_frac: Amount, own_frac: Amount | None, times: float) -> Amount:
    """Return a share as measured or, where there is one, as the calibration states it, after its factor."""
    frac = measured_frac
    if own_frac is not None:
        frac = np.where(np.isnan(own_frac), measured_frac, own_frac)
    return np.minimum(frac / times, 1.0)
