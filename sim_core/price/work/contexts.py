"""Context parallelism of decodes: devices that would hold the same KV cache divide it among them.

Tensor parallelism copies the cache where there are fewer key/value heads than devices, and that of latent
attention, which has one head, to every device. Under context parallelism of N each of N such devices holds
every N-th piece of a context. For a decode they gather the queries of one another, each attends to its part
for the heads of all, and the parts are reduced. Prompts are computed as without.

References
----------
vLLM, `docs/serving/context_parallel_deployment.md` (which sizes are possible, and why), `vllm/v1/attention/
ops/common.py` (`cp_lse_ag_out_rs`); "Decode context parallelism", vLLM blog, 2026-08-07.
"""

from __future__ import annotations

import math

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import GROUPED, Attention, Model
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.work.layout import Layout

EXCHANGES = 2  # a layer: queries are gathered, outputs reduced
VALUE_BYTES = 2.0


def copies(group: Attention, tensor_parallel: int) -> int:
    """Return how many devices hold the same KV cache of a kind of layer."""
    heads = group.kv_heads if group.kind in GROUPED else 1
    return tensor_parallel // heads if tensor_parallel % heads == 0 else 1


def check_contexts(model: Model, layout: Layout) -> None:
    """Raise a `ScenarioError` if the devices that hold the same KV cache cannot divide it as asked."""
    parts, tp = layout.context_parallel, layout.rank_devices
    if parts == 1:
        return
    cached = [group for group in model.attention if group.has_cache and group.layers]
    most = math.gcd(*(copies(group, tp) for group in cached))
    if cached and most % parts == 0:
        return
    heads = min((group.kv_heads if group.kind in GROUPED else 1 for group in cached), default=0)
    possible = ", ".join(str(n) for n in range(1, most + 1) if most % n == 0)
    needed = parts * heads * layout.ranks
    raise ScenarioError(
        f"context_parallel is {parts}, but with {counted(tp, 'device')} to a rank {most} "
        f"{'device holds' if most == 1 else 'devices hold'} the same KV cache of {model.name} (KV heads: "
        f"{heads}), which context_parallel must divide. Choose {'' if most == 1 else 'one of '}{possible}"
        + (f", or raise tensor_parallel to {needed}." if cached and parts * heads > tp else ".")
    )


def exchanging(model: Model, accelerator: Accelerator, layout: Layout) -> dict[str, float]:
    """Return what decodes exchange: how often in a step, and for how long each of them. [s]"""
    parts, tp = layout.context_parallel, layout.rank_devices
    if parts == 1:
        return {"context_collectives": 0.0, "context_link_s": 0.0}
    cached = [group for group in model.attention if group.has_cache]
    values = sum(group.layers * group.decode_flop / 2 for group in cached)  # of a query and its output
    moved = (parts - 1) / tp * values * VALUE_BYTES
    return {
        "context_collectives": float(EXCHANGES * sum(group.layers for group in cached)),
        "context_link_s": moved / accelerator.link(accelerator.near(tp)).byte_per_s,
    }
