"""What a reader of a run's numbers must know, one sentence each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim_core.catalogue.calibrations import constants_note, parse_constants
from sim_core.engine.results import Run
from sim_core.fields.texts import counted
from sim_core.price.memory import limit_words, longer_than
from sim_core.price.work import BYTES_PER_VALUE, layout_warnings
from sim_core.results.classes import classes_of, classes_of_run
from sim_core.results.drafts import acceptance_words, supposed_drafter
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario, accelerator_of, model_of, named_engine
from sim_core.traffic.sessions import outgrown

STEADY_FRAC = 0.95
FEW_SAMPLES = 100
BLOCK_TOKENS = 16  # of an attention kernel, of which blocks hold a whole number
PREEMPTED_FRAC = 0.1
OUTGROWN_FRAC = 0.1  # of sessions that the context ends, beyond which they are not those that were asked for

POOL_KEYS = tuple(key for key, info in FIELDS.items() if info.group == "pools")


def warnings(
    scenario: Scenario, point: dict[str, Any], rejected: int, run: Run | None, *, whole: bool = False
) -> list[str]:
    """Return what a reader of the numbers must know, one sentence each.

    `whole` says that all of the run counts, since the window that was asked for is too short.
    """
    notes = _of_load(scenario, point, whole=whole)
    if rejected:
        notes += _rejections(run) if run is not None else [_rejected(scenario, rejected)]
    notes += [*_of_samples(scenario, point), *_of_room(scenario, point), *_whole_prompts(scenario, run)]
    notes += [*_without_effect(scenario, run), *_in_common(scenario, run), *_states(scenario)]
    if scenario.policy == "static" and scenario.replicas > 1:
        notes.append("Static batches: requests are dealt to the replicas in turn.")
    notes += [*_accepted(scenario), *layout_warnings(scenario), *_engine_elsewhere(scenario)]
    if note := constants_note(parse_constants(scenario.constants)):
        notes.append(note)
    return [*notes, *accelerator_of(scenario).warnings, *model_of(scenario).warnings]


def _of_load(scenario: Scenario, point: dict[str, Any], *, whole: bool) -> list[str]:
    """Return whether the run is too short for its window, overloaded, or not steady."""
    notes = []
    if whole:
        notes.append(
            f"The whole run counts ({counted(point['ttft_ms_n'], 'request')}), its warm-up too: the time "
            "until the last request arrives is too short. Raise `requests`."
        )
    if point["saturated"]:
        notes.append(
            "Saturated: overloaded, the queue grows over the run, since requests arrive faster than they "
            "finish. TTFT, E2E, goodput and cost depend on the length of the run."
        )
    elif _is_unsteady(scenario, point):
        notes.append(
            "Not steady: the engine held more and more requests during the run. Raise `requests` to see "
            "whether it keeps up."
        )
    return notes


def _of_samples(scenario: Scenario, point: dict[str, Any]) -> list[str]:
    """Return whether few requests are counted, or some that all clients sent at once."""
    notes = []
    if 0 < point["ttft_ms_n"] < FEW_SAMPLES:
        notes.append(f"The p99 rests on only {counted(point['ttft_ms_n'], 'request')}. Raise `requests`.")
    if _has_burst(scenario):
        needed = math.ceil(scenario.concurrency / max(scenario.warmup_frac, 0.1))
        also = " and `warmup_frac` to 0.1" if scenario.warmup_frac < 0.1 else ""
        notes.append(
            f"The start-up burst of {scenario.concurrency:,} clients lies in the statistics. "
            f"Raise `requests` to {needed:,}{also}."
        )
    return notes


def _of_room(scenario: Scenario, point: dict[str, Any]) -> list[str]:
    """Return whether more requests run than there is KV cache for, or fewer than may."""
    notes = []
    if point["preemptions"] > PREEMPTED_FRAC * point["ttft_ms_n"]:
        notes.append(
            f"{counted(point['preemptions'], 'preemption')}: more requests were let in than the KV cache can "
            "hold. Lower `max_batch`, or give the KV cache more memory."
        )
    if scenario.max_running < scenario.max_batch:
        notes.append(f"token_budget limits the running sequences to {scenario.max_running:,}.")
    return notes


def _accepted(scenario: Scenario) -> list[str]:
    """Return who drafts where it is no layer of the model's, and what a published length was measured on.

    An acceptance length of one's own needs no note.
    """
    if not scenario.spec_tokens:
        return []
    notes = [] if scenario.acceptance_length is not None else [acceptance_words(scenario)]
    return [*notes, *filter(None, [supposed_drafter(scenario)])]


def _rejections(run: Run) -> list[str]:
    """Return why requests were rejected: too long for the model, or for the KV cache; with the way out."""
    model, limit, pools = run.priced.model, run.price.request_limit_tokens, run.priced.pools
    prompts = run.prompt_tokens[run.rejected]
    lengths = prompts + run.output_tokens[run.rejected]
    beyond = lengths > model.max_position
    groups = [(lengths[beyond], limit), (lengths[~beyond & (lengths > limit)], limit)]
    if pools:
        groups.append((prompts[~beyond & (lengths <= limit)], pools.prefill.request_limit_tokens))
    reasons = (
        (these.size, *longer_than(model, held, int(these.min()))) for these, held in groups if these.size
    )
    return [f"{_they(count)} rejected: longer than {what}. {way_out}" for count, what, way_out in reasons]


def _rejected(scenario: Scenario, count: int) -> str:
    """Return that requests were rejected, of which no more than their number is known."""
    model = model_of(scenario)
    longest = limit_words(model, model.max_position)
    return f"{_they(count)} rejected: longer than {longest}, or than what the KV cache can hold."


def _they(count: int) -> str:
    return counted(count, "request") + (" was" if count == 1 else " were")


def _whole_prompts(scenario: Scenario, run: Run | None) -> list[str]:
    """Return that a prompt runs whole beyond the token budget, where nothing cuts it into chunks.

    Rejected requests do not run. SGLang does cut prompts, but runs the chunks one after another.
    """
    longest = int(run.prompt_tokens[~run.rejected].max(initial=0)) if run is not None else 0
    if scenario.policy != "prefill_first" or longest <= scenario.token_budget:
        return []
    found = (
        f"A prompt of {longest:,} tokens runs whole in one step, beyond token_budget "
        f"({scenario.token_budget:,}): "
    )
    if scenario.engine == "sglang":
        return [f"{found}SGLang cuts it into steps of that size, and decodes wait for all of them alike."]
    return [
        f"{found}engines without chunked prefill refuse it. Raise `token_budget`, or set `policy` to chunked."
    ]


def _in_common(scenario: Scenario, run: Run | None) -> list[str]:
    """Return what does not become of what prompts have in common, and of sessions as they were asked for."""
    if run is None:
        return []
    sent, notes = run.sent, []
    nothing = sent.session is None and sent.blocks is None and not sent.system_tokens
    if scenario.prefix_caching == "on" and nothing:
        notes.append(
            "prefix_caching is on, but the prompts have nothing in common. Set `turns` or `system_tokens`, "
            "or replay a trace with hash_ids or sessions."
        )
    if scenario.turns == 1 or sent.name or sent.session is None:
        return notes
    if scenario.prefix_caching == "off" and not scenario.prefix_hit_frac:
        notes.append("Each turn computes all that was said before again. Set `prefix_caching` to on.")
    if (ended := outgrown(scenario)) > OUTGROWN_FRAC * len(np.unique(sent.session)):
        model = model_of(scenario)
        notes.append(
            f"{counted(ended, 'session')} ended and began anew where the next turn would not have "
            f"fitted into {limit_words(model, model.max_position)}. Lower `turns` or `turn_tokens`."
        )
    return notes


def _states(scenario: Scenario) -> list[str]:
    """Return that less is found of a text whose layers keep a state, and by how much.

    References
    ----------
    vLLM 0.32, `config/cache.py`: `mamba_cache_mode`, "align", the state at ends of blocks alone;
    `platforms/interface.py`: `_align_hybrid_block_size`, a block takes as much memory as a state.
    """
    model = model_of(scenario)
    reuses = scenario.prefix_caching == "on" or scenario.prefix_hit_frac > 0
    if not reuses or not model.linear_attention_layers:
        return []
    note = f"{model.name} has layers that keep a state: engines store it at some places of a text only, and "
    element_bytes = BYTES_PER_VALUE[scenario.kv_dtype]
    token_bytes = model.kv_bytes_per_token(element_bytes) / max(model.kv_layers, 1)
    if not token_bytes:
        return [f"{note}find less of it than the cache here does."]
    layer_bytes = model.state_bytes(element_bytes) / model.linear_attention_layers
    tokens = BLOCK_TOKENS * math.ceil(layer_bytes / token_bytes / BLOCK_TOKENS)
    return [
        f"{note}find up to {tokens:,} tokens less of each text than the cache here does: a state "
        f"takes the memory of so many tokens in one of the {model.kv_layers} others, and that is a block."
    ]


def _without_effect(scenario: Scenario, run: Run | None) -> list[str]:
    """Return which keys do nothing as the others are, and the way out."""
    classes = classes_of(scenario) if run is None else classes_of_run(run)
    static, cached = scenario.policy == "static", scenario.prefix_caching == "on"
    idle = {
        "prefix_caching has no effect: static batches keep no cache. Choose policy=chunked.": (
            cached and static
        ),
        "prefix_hit_frac has no effect while prefix_caching is on: what is found is simulated.": (
            cached and not static and scenario.prefix_hit_frac > 0
        ),
        "host_cache_gb has no effect while prefix_caching is off. Set `prefix_caching` to on.": (
            not cached and scenario.host_cache_gb > 0
        ),
        "class_limits has no effect: requests of a trace, a list or sessions are of no class. The limits "
        "of all hold; draw the requests from the mix.": (scenario.class_limits != "" and not classes),
    }
    notes = [note for note, is_idle in idle.items() if is_idle]
    notes += [*_idle_turns(scenario, run), *_idle_drafts(scenario), *_idle_choices(scenario)]
    return [*notes, *_idle_ranks(scenario)]


def _idle_turns(scenario: Scenario, run: Run | None) -> list[str]:
    """Return which keys of sessions do nothing: there are none, or a trace or list says what is sent."""
    if scenario.arrivals == "trace" or (run is not None and run.sent.name):
        why = "a trace or list says itself which prompts begin alike. Draw the requests to have sessions."
        return _no_effect(scenario, ("turns", "system_tokens", "turn_tokens", "think_s"), f": {why}")
    keys = ("turn_tokens",) if scenario.arrivals == "closed" else ("turn_tokens", "think_s")
    why = "while turns is 1: no request goes on from another. Raise `turns`."
    return _no_effect(scenario, keys, f" {why}") if scenario.turns == 1 else []


def _idle_drafts(scenario: Scenario) -> list[str]:
    """Return which keys of speculation do nothing."""
    if not scenario.spec_tokens:
        keys = ("draft", "acceptance_length", "draft_params_b", "spec_by_batch")
        why = "while spec_tokens is 0: nothing is drafted. Raise `spec_tokens`."
        return _no_effect(scenario, keys, f" {why}")
    if scenario.draft == "ngram":
        why = "with draft=ngram: a look-up reads no parameters. Choose another `draft`."
        return _no_effect(scenario, ("draft_params_b",), f" {why}")
    return []


def _idle_choices(scenario: Scenario) -> list[str]:
    """Return which keys wait for other arrivals, another policy, or one pool or two."""
    now = f"while arrivals is {scenario.arrivals}. Choose arrivals="
    rates = scenario.arrivals not in ("closed", "offline")
    waiting = (
        (("arrival_per_s",), rates, f"{now}poisson."),
        (("arrival_cv",), scenario.arrivals == "gamma", f"{now}gamma."),
        (("concurrency",), scenario.arrivals == "closed", f"{now}closed."),
        (("trace_times",), scenario.arrivals == "trace", f"{now}trace, and give one."),
        (("batch_wait_ms",), scenario.policy == "static", "unless batches are static. Choose policy=static."),
        (("replicas",), not scenario.split, "with two pools. Set `prefill_workers` and `decode_workers`."),
        (POOL_KEYS, scenario.split, "in one pool. Choose policy=disaggregated."),
    )
    return _waiting(scenario, waiting)


def _idle_ranks(scenario: Scenario) -> list[str]:
    """Return which keys wait for ranks of attention, or for experts that are spread over devices."""
    pools = (scenario.prefill_expert_parallel, scenario.decode_expert_parallel) if scenario.split else ()
    spread = any(devices and devices > 1 for devices in (scenario.expert_parallel, *pools))
    ranks = scenario.attention_data_parallel > 1 and not scenario.split
    shared = "while expert_parallel is 1. Raise it."
    ranked = "without ranks of attention. Raise `attention_data_parallel`."
    if not model_of(scenario).is_moe:
        shared = ranked = f"since {model_of(scenario).name} has no experts to share. Choose another model."
    elif scenario.split:
        ranked = "with two pools. Choose another policy."
    waiting = (
        (("expert_imbalance", "two_batch_overlap"), spread, shared),
        (("prefill_wait_steps",), ranks, ranked),
    )
    return _waiting(scenario, waiting)


def _waiting(scenario: Scenario, rows: Sequence[tuple[Sequence[str], bool, str]]) -> list[str]:
    """Return which keys have no effect, of rows of keys, whether they count, and why they do not."""
    return [note for keys, count, why in rows if not count for note in _no_effect(scenario, keys, f" {why}")]


def _no_effect(scenario: Scenario, keys: Sequence[str], why: str) -> list[str]:
    """Return that those keys which differ from their defaults have no effect; nothing if none does."""
    given = [key for key in keys if getattr(scenario, key) != DEFAULTS[key]]
    names = ", ".join(given[:-1]) + " and " * (len(given) > 1) + given[-1] if given else ""
    return [f"{names} {'has' if len(given) == 1 else 'have'} no effect{why}"] if given else []


def _engine_elsewhere(scenario: Scenario) -> list[str]:
    """Return that the engine does not run on parts of this vendor."""
    named, part = named_engine(scenario), accelerator_of(scenario)
    if named is None or named.vendor in ("", part.vendor):
        return []
    return [
        f"{named.name} runs on {named.vendor} parts alone: {part.name} is priced as if it did there. Choose "
        "another `engine`."
    ]


def _has_burst(scenario: Scenario) -> bool:
    """Return whether clients who all begin at once are among those counted."""
    if scenario.arrivals != "closed" or scenario.concurrency == 1:
        return False
    return scenario.warmup_frac * scenario.requests < scenario.concurrency


def _is_unsteady(scenario: Scenario, point: dict[str, Any]) -> bool:
    """Return whether clearly fewer requests finished in the window than arrived in it (open loop)."""
    finished = point["request_per_s"] * point["window_s"]
    is_open = scenario.arrivals not in ("closed", "offline")
    return is_open and point["ttft_ms_n"] >= FEW_SAMPLES and finished < STEADY_FRAC * point["ttft_ms_n"]
