"""Memory: what weights, activations and the driver leave for the KV cache, and what to change if nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import Model
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.work import (
    Drafter,
    Held,
    Layout,
    cache_held,
    check_contexts,
    check_layout,
    check_stages,
    draft_token_bytes,
    draft_weight_bytes,
    group_sizes,
    kv_token_bytes,
    layout_of,
    stage_frac,
    state_bytes,
    weight_bytes,
    weights_held,
)
from sim_core.scenario.keys.parallel import MOST_STAGES
from sim_core.scenario.scenario import DEFAULTS, Scenario, accelerator_of, model_of


class DoesNotFit(ScenarioError):
    """The weights, or weights and one KV block, exceed the memory of the devices."""


# --- memory ---------------------------------------------------------------------------------------


class Engine(NamedTuple):
    """The engine's keys that memory and the price tables depend on."""

    kv_memory_frac: float
    kv_block_tokens: int
    token_budget: int
    max_batch: int
    replicas: int
    prefill_switch_ms: float | None
    drafter: Drafter | None = None  # whose weights and KV cache lie beside the model's


def engine_of(scenario: Scenario) -> Engine:
    """Return the part of a scenario that sets memory and table sizes."""
    drafter = Drafter(scenario.draft, scenario.draft_params_b) if scenario.spec_tokens else None
    stated = {name: getattr(scenario, name) for name in Engine._fields if name != "drafter"}
    return Engine(**stated, drafter=drafter)


# What one device keeps beside weights, activations and KV cache: the driver's context and, in a group, the
# buffers of collectives. vLLM measures 1.8 GiB on one H100 and 3.6 GiB on each of two
# (vllm-project/vllm#10511); 0.4 GB of the memory that nvidia-smi reports is never free.
CONTEXT_BYTES, GROUP_CONTEXT_BYTES = 2.2e9, 3.6e9
CONTEXT_FRAC_MAX = 0.05  # on a card of 24 GB the same engine keeps 0.3 to 1 GB

# The logits of one row while a token is drawn: a copy in fp32, sorted with its positions, their
# probabilities and sums; 28 bytes as vLLM profiles it with 1,024 rows (Qwen3-235B), 41 with 256 (Llama-3-8B).
# Beyond that, the largest default of an engine, batches are taken to be drawn in parts.
SAMPLING_BYTES = 32.0
SAMPLING_ROWS_MAX = 1024


class Memory(NamedTuple):
    """Memory of one device [bytes], and the tokens of KV cache that one rank of a replica holds."""

    usable_bytes: float
    weight_bytes: float
    activation_bytes: float
    context_bytes: float
    state_bytes: float
    token_bytes: float
    window_bytes: float
    kv_tokens: int


def _memory(model: Model, accelerator: Accelerator, layout: Layout, engine: Engine) -> Memory:
    """Return how a device's memory is used.

    Sliding-window layers keep only their window: that much is set aside for each of `max_batch` sequences,
    unless caching every token in every layer leaves more room. What a sequence keeps whatever its length is
    always set aside: engines hold a slot for each sequence that may run (TensorRT-LLM's `MambaCacheManager`,
    SGLang's `HybridReqToTokenPool`); vLLM takes it from the KV blocks as sequences arrive.
    """
    usable = accelerator.hbm_bytes * engine.kv_memory_frac
    weights = engine_weight_bytes(model, layout, engine)[1]
    activations = _activation_bytes(model, accelerator, layout, engine)
    context = _context_bytes(accelerator, layout)
    share = stage_frac(model, layout)
    state = state_bytes(model, layout) * share * engine.max_batch
    rest = usable - weights - activations - context - state
    drafted = draft_token_bytes(model, layout, engine.drafter) if engine.drafter else 0.0
    token_bytes, window_bytes = kv_token_bytes(model.attention, layout) * share + drafted, 0.0
    windows = [group for group in model.attention if group.forgets and group.layers]
    whole_bytes = kv_token_bytes([group for group in model.attention if group not in windows], layout) * share
    if windows and whole_bytes:
        set_aside = engine.max_batch * sum(
            kv_token_bytes([group], layout) * share * group.window_tokens for group in windows
        )
        if (rest - set_aside) / (whole_bytes + drafted) > rest / token_bytes:
            token_bytes, window_bytes = whole_bytes + drafted, set_aside
    tokens = math.floor(max(rest - window_bytes, 0.0) / token_bytes)
    return Memory(usable, weights, activations, context, state, token_bytes, window_bytes, tokens)


def engine_weight_bytes(model: Model, layout: Layout, engine: Engine) -> tuple[float, float]:
    """Return the bytes of all weights of an engine, those that draft too, and of those one device holds."""
    total, device = weight_bytes(model, layout)
    if engine.drafter is None:
        return total, device
    drafting, on_device = draft_weight_bytes(model, layout, engine.drafter)
    return total + drafting, device + on_device


def _context_bytes(accelerator: Accelerator, layout: Layout) -> float:
    """Return what the driver and the collectives keep of one device's memory; nothing of on-chip memory."""
    if accelerator.memory_on_chip:
        return 0.0
    kept = CONTEXT_BYTES if layout.devices == 1 else GROUP_CONTEXT_BYTES
    return min(kept, CONTEXT_FRAC_MAX * accelerator.hbm_bytes)


def _activation_bytes(model: Model, accelerator: Accelerator, layout: Layout, engine: Engine) -> float:
    """Return the memory that the largest step needs on one device: in a layer, or afterwards to sample.

    A layer holds its hidden states twice and the three inner states of its feed-forward block, in bf16.
    Sampling holds the logits of its rows, on every device; parts that keep all in SRAM leave them divided.
    """
    wide = max(model.ffn_dim, model.experts_per_token * model.expert_ffn_dim)
    layer = 2.0 * (2 * model.hidden + 3 * wide / layout.rank_devices) * engine.token_budget
    rows = min(engine.max_batch, engine.token_budget, SAMPLING_ROWS_MAX)
    copies = 1 / layout.rank_devices if accelerator.memory_on_chip else 1.0
    return max(layer, SAMPLING_BYTES * rows * model.vocab * copies)


def kv_blocks(model: Model, accelerator: Accelerator, layout: Layout, engine: Engine) -> int:
    """Return the KV blocks of one rank of a replica; raises `DoesNotFit` with what would help."""
    check_layout(model, layout)
    found = _memory(model, accelerator, layout, engine)
    blocks = found.kv_tokens // engine.kv_block_tokens
    if blocks >= 1:
        return blocks
    total = engine_weight_bytes(model, layout, engine)[0]
    count = layout.devices
    devices = f"{count} x {accelerator.name} {'has' if count == 1 else 'have'}"
    usable, fitted = count * found.usable_bytes / 1e9, count * accelerator.hbm_gb
    need = f"{model.name} needs {_figure(total / 1e9)} GB for weights"
    held_bytes = count * found.weight_bytes
    if held_bytes > found.usable_bytes * count >= total:  # copies alone are too much
        need += f", {_figure(held_bytes / 1e9)} GB with the copies of attention and experts on its devices"
    if found.usable_bytes > found.weight_bytes:
        beside = count * (found.activation_bytes + found.context_bytes) / 1e9
        need += f" and {_figure(beside)} GB for activations and the driver"
        if found.state_bytes:
            states = count * found.state_bytes / 1e9
            need += f" and {_figure(states)} GB for the states of {engine.max_batch:,} sequences (max_batch)"
        need += ", which leaves no KV block"
    raise DoesNotFit(
        f"{need}; {devices} {_figure(usable)} GB usable of {_figure(fitted)} GB. "
        f"{_what_would_fit(model, accelerator, layout, engine)}"
    )


def _fewer_states(model: Model, engine: Engine, fits: Callable[[Engine], bool]) -> list[str]:
    """Return the largest `max_batch` (a power of two) whose states leave room, where states take any."""
    if not model.state_bytes():
        return []
    sizes = (2**power for power in range(int(math.log2(engine.max_batch)), -1, -1))
    return [f"lower max_batch to {size:,}" for size in sizes if fits(engine._replace(max_batch=size))][:1]


def _more_stages(model: Model, layout: Layout, fits: Callable[[Layout], bool]) -> list[str]:
    """Return the fewest stages, a power of two, among which the model fits, if more help."""
    sizes = (2**power for power in range(1, int(math.log2(model.layers)) + 1))
    more = (size for size in sizes if size > layout.pipeline_parallel and size <= MOST_STAGES)
    found = next((size for size in more if fits(layout._replace(pipeline_parallel=size))), None)
    return [f"raise pipeline_parallel to at least {found}"] if found else []


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _what_would_fit(model: Model, accelerator: Accelerator, layout: Layout, engine: Engine) -> str:
    """Return a computed way out: the engine's usual sizes, more devices, or fewer bytes per weight."""

    def fits(candidate: Layout, engine: Engine = engine) -> bool:
        return _memory(model, accelerator, candidate, engine).kv_tokens >= engine.kv_block_tokens

    wider = [tp for tp in group_sizes(model, layout.expert_parallel) if tp > layout.tensor_parallel]
    devices = next((tp for tp in wider if fits(layout._replace(tensor_parallel=tp))), None)
    total = weight_bytes(model, layout)[0]
    lighter = [
        dtype
        for dtype in ("fp8", "fp4")
        if weight_bytes(model, layout._replace(weight_dtype=dtype))[0] < total
    ]
    dtype = next((name for name in lighter if fits(layout._replace(weight_dtype=name))), None)
    ways = [
        f"{'raise' if key == 'kv_memory_frac' else 'lower'} {key} to {DEFAULTS[key]:,}"
        for key in ("kv_memory_frac", "token_budget", "max_batch")
        if fits(layout, engine._replace(**{key: DEFAULTS[key]}))
    ]
    if layout.redundant_experts and fits(layout._replace(redundant_experts=0)):
        ways.append("lower redundant_experts to 0")
    ways += _fewer_states(model, engine, lambda fewer: fits(layout, fewer))
    ways += [f"raise tensor_parallel to at least {devices}"] if devices else []
    if not devices:
        ways += _more_stages(model, layout, fits)
    ways += [f"choose weight_dtype={dtype}"] if dtype else []
    if not ways:
        return "Choose a smaller model or a device with more memory."
    text = ", or ".join(ways)
    return f"{text[0].upper()}{text[1:]}."


def limit_words(model: Model, limit_tokens: int) -> str:
    """Return what sets the longest request an engine can hold, with its length."""
    if limit_tokens >= model.max_position:
        return f"the context window of {model.name}, {counted(model.max_position, 'token')}"
    return f"what the KV cache can hold of one request, {counted(limit_tokens, 'token')}"


def longer_than(model: Model, limit_tokens: int, tokens: int) -> tuple[str, str]:
    """Return what a request of so many tokens, which is refused, is too long for, and the way out.

    More memory does not help where the context window is too short as well.
    """
    if tokens > model.max_position:
        words = limit_words(model, model.max_position)
        return words, "Shorten the requests, or choose a model with a longer context."
    return limit_words(model, limit_tokens), "Shorten the requests, or give the KV cache more memory."


def nothing_fits(model: Model, limit_tokens: int, shortest: int, of: str = "prompt and answer") -> str:
    """Return why no request fits an engine, the shortest of which has so many tokens, and the way out."""
    limit, way_out = longer_than(model, limit_tokens, shortest)
    return (
        f"no request fits: the shortest has {counted(shortest, 'token')} ({of}), more than {limit}. {way_out}"
    )


def host_blocks(scenario: Scenario, block_tokens: int) -> int:
    """Return the KV blocks that a rank's part of a replica's host memory keeps of those that leave it."""
    if scenario.host_cache_gb == 0:
        return 0
    own_bytes = scenario.host_cache_gb * 1e9 / scenario.attention_data_parallel
    return int(own_bytes // (memory(scenario)["kv_bytes_per_token"] * block_tokens))


def held(scenario: Scenario) -> list[Held]:
    """Return what one device of a replica holds and how it is copied and split, its KV cache at last."""
    model, layout = model_of(scenario), layout_of(scenario)
    check_layout(model, layout)
    kv_bytes = memory(scenario)["kv_gb"] * 1e9 / layout.devices
    return [*weights_held(model, layout), cache_held(model, layout, kv_bytes)]


def memory(scenario: Scenario) -> dict[str, float]:
    """Return how one replica's memory is used: GB over its devices together, and tokens of KV cache.

    The tokens are those of all ranks together, the bytes of a token those of the rank that keeps it.

    Works for scenarios that do not fit, too: `kv_tokens` is then 0.
    """
    model, accelerator, layout = model_of(scenario), accelerator_of(scenario), layout_of(scenario)
    check_layout(model, layout)
    check_stages(model, layout)
    check_contexts(model, layout)
    found = _memory(model, accelerator, layout, engine_of(scenario))
    group_gb = layout.devices / 1e9
    beside = found.weight_bytes + found.activation_bytes + found.context_bytes + found.state_bytes
    kv_bytes = found.usable_bytes - beside
    return {
        "fitted_gb": accelerator.hbm_gb * layout.devices,
        "usable_gb": found.usable_bytes * group_gb,
        "weights_gb": found.weight_bytes * group_gb,
        "activations_gb": found.activation_bytes * group_gb,
        "context_gb": found.context_bytes * group_gb,
        "state_gb": found.state_bytes * group_gb,
        "kv_gb": max(kv_bytes, 0.0) * group_gb,
        "kv_bytes_per_token": found.token_bytes * layout.rank_devices * layout.pipeline_parallel,
        "kv_tokens": layout.ranks * (found.kv_tokens // scenario.kv_block_tokens) * scenario.kv_block_tokens,
    }
