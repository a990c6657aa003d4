"""What published points cover, and which inputs of a scenario lie outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.accelerators import PEAKS
from sim_core.evidence.blind import blind
from sim_core.evidence.further.speculated import speculated_words
from sim_core.evidence.published import PublishedPoint, family_of, points, weight_dtype
from sim_core.fields.texts import counted
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.traffic.draws import mean_lengths
from sim_core.traffic.requests import Requests

SLACK = 1.25  # lengths and batches this far beyond the measured ones still count as covered
SIZE_SLACK = 1.5  # and models
STEEP_LOAD = 0.9
OVERLOAD = 1.1  # beyond it no error of the speed that predictions have makes the engine keep up
GENERATION_WORDS = {
    "ampere": "Ampere",
    "ada": "Ada",
    "hopper": "Hopper",
    "blackwell": "Blackwell",
    "blackwell-ultra": "Blackwell Ultra",
    "rtx-blackwell": "Blackwell RTX",
}
FAMILY_WORDS = {"dense": "dense models", "moe": "mixtures of experts", "mla": "models with latent attention"}


# --- what is covered ------------------------------------------------------------------------------


class Coverage(NamedTuple):
    """What the published closed loops cover; sizes in parameters, lengths in tokens.

    `kernels` holds, by generation of parts and family of models, the engines that were measured with each
    precision of the weights; `ranks`, by the same, the most ranks of attention of a group, and `ranked` the
    parts of these points, which no fit has used. `nodes` is the largest group over several nodes, by family.
    """

    accelerators: Mapping[str, int]
    models: Mapping[str, int]
    sizes: Mapping[str, tuple[float, float]]
    tensor_parallel: Mapping[str, int]
    expert_parallel: int
    kernels: Mapping[tuple[str, str], Mapping[str, frozenset[str]]]
    prompt_tokens: tuple[float, float]
    output_tokens: tuple[float, float]
    context_tokens: float
    clients: int
    ranks: Mapping[tuple[str, str], int]
    ranked: frozenset[str]
    nodes: Mapping[str, int]


@cache
def coverage() -> Coverage:
    """Return what the points cover that the fit may have used."""
    rows = [point for point in points() if point.fitted]
    families = {family: [point for point in rows if point.family == family] for family in FAMILY_WORDS}
    parts = sorted({point.accelerator for point in rows})
    return Coverage(
        accelerators={name: sum(point.accelerator == name for point in rows) for name in parts},
        models={point.model: sum(other.model == point.model for other in rows) for point in rows},
        sizes={
            family: _range(catalogue.model(p.model).total_params for p in of)
            for family, of in families.items()
        },
        tensor_parallel={family: max(p.tensor_parallel for p in of) for family, of in families.items()},
        expert_parallel=max(point.expert_parallel for point in rows),
        kernels=_kernels_of(rows),
        prompt_tokens=_range(point.prompt_tokens for point in rows),
        output_tokens=_range(point.output_tokens for point in rows),
        context_tokens=max(point.prompt_tokens + point.output_tokens / 2 for point in rows),
        clients=max(point.clients // point.replicas for point in rows),
        ranks=_ranks_of(points()),
        ranked=frozenset(point.accelerator for point in points() if point.has_ranks),
        nodes=_nodes_of(points()),
    )


def _ranks_of(rows: Iterable[PublishedPoint]) -> Mapping[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for row in rows:
        key, most = (generation_of(row.accelerator), row.family), row.most_ranks
        if most > 1:
            found[key] = max(found.get(key, 1), most)
    return found


def _nodes_of(rows: Iterable[PublishedPoint]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        group = max(row.tensor_parallel, row.prefill_devices, row.decode_devices)
        if row.traffic == "closed" and catalogue.accelerator(row.accelerator).nodes(group) > 1:
            found[row.family] = max(found.get(row.family, 0), group)
    return found


def _kernels_of(rows: Iterable[PublishedPoint]) -> Mapping[tuple[str, str], Mapping[str, frozenset[str]]]:
    found: dict[tuple[str, str], dict[str, frozenset[str]]] = {}
    for row in rows:
        kinds = found.setdefault((generation_of(row.accelerator), row.family), {})
        stored = _stored(row)
        kinds[stored] = kinds.get(stored, frozenset()) | {row.engine}
    return found


def generation_of(accelerator: str) -> str:
    """Return the generation of a part: parts of one run the same kernels. Without one it is its own."""
    return catalogue.accelerator(accelerator).generation or accelerator


def _range(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return min(found), max(found)


def _stored(point: PublishedPoint) -> str:
    return _most_weights(catalogue.model(point.model), weight_dtype(point))


def _most_weights(model: catalogue.Model, dtype: str) -> str:
    """Return the precision of most weights: of the experts where there are any."""
    return model.stored_dtypes(dtype)[1 if model.experts else 0]


class Outside(NamedTuple):
    """One input that is not covered: which, and in words why."""

    what: str
    words: str


def outside(
    scenario: Scenario,
    trace: Requests | None = None,
    load_frac: float | None = None,
    context_tokens: float | None = None,
) -> list[Outside]:
    """Return the inputs of a scenario that the published points do not cover.

    Where one step is looked at, its context counts in place of the lengths of the traffic.
    """
    covered, model = coverage(), model_of(scenario)
    checks = (
        _accelerator(scenario, covered),
        _model(scenario, model, covered),
        _layout(scenario, family_of(model), covered),
        _ranks(scenario, family_of(model), covered),
        _nodes(scenario, family_of(model), covered),
        _stages(scenario),
        _kernels(scenario, covered),
        _lengths(scenario, covered, trace) if context_tokens is None else _context(covered, context_tokens),
        _clients(scenario, covered),
        scheduling(scenario),
        _load(load_frac),
    )
    return [item for found in checks for item in found]


def _accelerator(scenario: Scenario, covered: Coverage) -> list[Outside]:
    name = catalogue.accelerator(scenario.accelerator).name
    measured = covered.ranked if most_ranks(scenario) > 1 else covered.accelerators
    if scenario.accelerator not in measured:
        found = [Outside("accelerator", f"no published closed loop on {name} is in the table")]
        vendor = catalogue.accelerator(scenario.accelerator).vendor
        if vendor not in {catalogue.accelerator(part).vendor for part in covered.accelerators}:
            found.append(Outside("vendor", f"nor is one on any other part of {vendor}"))
        return found
    return changed_specs(scenario)


def changed_specs(scenario: Scenario) -> list[Outside]:
    """Return whether the accelerator is another one than is sold."""
    part, sold = accelerator_of(scenario), catalogue.accelerator(scenario.accelerator)
    names = (*PEAKS.values(), "hbm_gb_per_s", "hbm_gb", "link_gb_per_s")
    changed = [key for key in names if getattr(part, key) != getattr(sold, key)]
    if changed:
        return [Outside("accelerator", f"{sold.name} is changed: {', '.join(changed)}")]
    return []


def _model(scenario: Scenario, model: catalogue.Model, covered: Coverage) -> list[Outside]:
    if model.sparse:
        return [Outside("model", f"no fitted model has sparse or linear attention, as {model.name} has")]
    if scenario.model in covered.models and model == catalogue.model(scenario.model):
        return []
    low, high = covered.sizes[family_of(model)]
    size, words = model.total_params, FAMILY_WORDS[family_of(model)]
    if low / SIZE_SLACK <= size <= high * SIZE_SLACK:
        return []
    return [
        Outside(
            "model",
            f"{model.name} has {size / 1e9:.3g} billion parameters; measured {words} have "
            f"{low / 1e9:.3g} to {high / 1e9:.3g}",
        )
    ]


def _layout(scenario: Scenario, family: str, covered: Coverage) -> list[Outside]:
    if most_ranks(scenario) > 1:  # whose groups are others
        return []
    limits = (
        ("tensor_parallel", covered.tensor_parallel[family]),
        ("expert_parallel", covered.expert_parallel),
    )
    return [
        Outside(key, f"{asked} devices a group ({key}); measured {FAMILY_WORDS[family]} use up to {most}")
        for key, most in limits
        if (asked := getattr(scenario, key)) > most
    ]


def most_ranks(scenario: Scenario) -> int:
    """Return the ranks of attention of a scenario's groups, of the pool that has more of them."""
    shared = scenario.attention_data_parallel
    return max(shared, scenario.prefill_ranks, scenario.decode_ranks) if scenario.split else shared


def most_stages(scenario: Scenario) -> int:
    """Return the stages of a scenario's engines, of the pool that has more of them."""
    if scenario.split:
        return max(scenario.prefill_stages, scenario.decode_stages)
    return scenario.pipeline_parallel


def _ranks(scenario: Scenario, family: str, covered: Coverage) -> list[Outside]:
    """Return whether more ranks of attention share their experts than were measured on such parts."""
    asked, generation = most_ranks(scenario), generation_of(scenario.accelerator)
    most = covered.ranks.get((generation, family), 1)
    if asked <= max(most, 1) * SLACK or asked == 1:
        return []
    parts = f"{GENERATION_WORDS.get(generation, catalogue.accelerator(scenario.accelerator).name)} parts"
    if most == 1:
        words = f"no published run of {FAMILY_WORDS[family]} on {parts} divides attention into ranks"
        return [Outside("ranks", f"{words} (attention_data_parallel)")]
    words = (
        f"{asked} ranks of attention (attention_data_parallel); measured {FAMILY_WORDS[family]} on {parts}"
    )
    return [Outside("ranks", f"{words} have up to {most}")]


def _nodes(scenario: Scenario, family: str, covered: Coverage) -> list[Outside]:
    """Return whether a group lies over more nodes than was measured."""
    both = (scenario.prefill_tensor_parallel, scenario.decode_tensor_parallel)
    stated = both if scenario.split else (None,)
    group = max(devices or scenario.tensor_parallel for devices in stated)
    part = accelerator_of(scenario)
    most = covered.nodes.get(family, 0)
    if part.nodes(group) == 1 or group <= most * SLACK:
        return []
    words = f"a group of {group} devices over nodes of {part.near(group)} (node_devices); "
    words += f"measured {FAMILY_WORDS[family]} "
    return [Outside("nodes", words + (f"have up to {most} so" if most else "stay within a node"))]


def _stages(scenario: Scenario) -> list[Outside]:
    """Return whether layers or contexts are divided among devices, of which no published loop is known."""
    stages, found = most_stages(scenario), []
    if stages > 1:
        words = f"{stages} stages of layers (pipeline_parallel); no published closed loop has them"
        found.append(Outside("pipeline", words))
    if scenario.context_parallel > 1:
        words = f"contexts in {scenario.context_parallel} parts (context_parallel); no published closed loop "
        found.append(Outside("contexts", words + "divides them"))
    return found


def _kernels(scenario: Scenario, covered: Coverage) -> list[Outside]:
    """Return whether kernels of the family, the precision or the engine were not measured on such parts."""
    if scenario.accelerator not in covered.accelerators:
        return []
    model, name = model_of(scenario), catalogue.accelerator(scenario.accelerator).name
    generation, family = generation_of(scenario.accelerator), family_of(model)
    known = covered.kernels.get((generation, family))
    parts = f"{name} or another {GENERATION_WORDS.get(generation, generation)} part"
    if known is None:
        words = f"no published closed loop of {FAMILY_WORDS[family]} on {parts} is in the table"
        return [Outside("model", words)]
    stored = _most_weights(model, scenario.weight_dtype)
    if stored not in known:
        words = f"weights of {FAMILY_WORDS[family]} in {stored} on {parts} (weight_dtype); measured: "
        return [Outside("weight_dtype", words + ", ".join(sorted(known)))]
    if scenario.engine and (engine := catalogue.engine(scenario.engine).name) not in known[stored]:
        words = f"{engine} (engine) with {FAMILY_WORDS[family]} in {stored} on {parts}; measured: "
        return [Outside("engine", words + ", ".join(sorted(known[stored])))]
    return []


def kernel_words(scenario: Scenario) -> str:
    """Return the engines measured with a scenario's kernels: of its family, precision and generation."""
    family, generation = family_of(model_of(scenario)), generation_of(scenario.accelerator)
    stored = _most_weights(model_of(scenario), scenario.weight_dtype)
    engines = sorted(coverage().kernels.get((generation, family), {}).get(stored, ()))
    parts = f"{GENERATION_WORDS.get(generation, generation)} parts"
    kind = f"{FAMILY_WORDS[family]} in {stored} on {parts}"
    return f"kernels of {kind} were measured under {', '.join(engines)}"


def _lengths(scenario: Scenario, covered: Coverage, trace: Requests | None) -> list[Outside]:
    found = []
    for key, mean in zip(("prompt_tokens", "output_tokens"), mean_lengths(scenario, trace), strict=True):
        low, high = getattr(covered, key)
        if not low / SLACK <= mean <= high * SLACK:
            what = "prompt" if key == "prompt_tokens" else "answer"
            tokens = counted(round(mean), "token")
            words = f"the mean {what} has {tokens} ({key}); measured {low:,.0f} to {high:,.0f}"
            found.append(Outside(key, words))
    return found


def _context(covered: Coverage, tokens: float) -> list[Outside]:
    """Return whether sequences hold more, or fewer, tokens than in any point half-way through its answers."""
    low = covered.prompt_tokens[0] + covered.output_tokens[0] / 2
    high = covered.context_tokens
    if low / SLACK <= tokens <= high * SLACK:
        return []
    return [Outside("context", f"a context of {tokens:,.0f} tokens; measured {low:,.0f} to {high:,.0f}")]


def _clients(scenario: Scenario, covered: Coverage) -> list[Outside]:
    """Return whether more sequences may run at once than were measured; in an open loop nobody can say."""
    if scenario.arrivals == "closed":
        each = -(-scenario.concurrency // (scenario.replicas * most_ranks(scenario)))
        key, most = "concurrency", min(each, scenario.max_running)
    elif scenario.arrivals == "offline":
        key, most = "max_batch", min(scenario.max_running, scenario.requests)
    else:
        return []
    if most <= covered.clients * SLACK:
        return []
    return [Outside(key, f"{most:,} sequences at once ({key}); measured up to {covered.clients:,}")]


def scheduling(scenario: Scenario) -> list[Outside]:
    found = []
    if scenario.policy == "static":
        found.append(Outside("policy", "static batching (policy); measured engines batch continuously"))
    if scenario.split:
        found.append(Outside("policy", f"two pools (policy); {pools_words()}"))
    if scenario.spec_tokens:
        found.append(Outside("speculation", f"speculative decoding (spec_tokens); {speculated_words()}"))
    if scenario.prefix_caching == "on" or scenario.prefix_hit_frac > 0:
        found.append(Outside("caching", "prompts share what was said before (caching); measured ones do not"))
    if scenario.calibration == "datasheet":
        found.append(
            Outside("calibration", "the datasheet calibration is a physical bound, not a prediction")
        )
    return found


def _load(load_frac: float | None) -> list[Outside]:
    if load_frac is None or load_frac <= STEEP_LOAD:
        return []
    return [Outside("load", load_words(load_frac))]


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def load_words(load_frac: float) -> str:
    """Return what a load near saturation or beyond it, of which it is a share, does to a prediction."""
    if load_frac > OVERLOAD:
        load = f"{load_frac:.0%} of" if load_frac < 2 else f"{_rounded(load_frac)} times"
        return f"the load is {load} what saturates: the queue grows for as long as requests are sent"
    decide = "the waiting" if load_frac <= 1 else "whether the queue grows without end"
    return f"the load is {load_frac:.0%} of what saturates: there, a few percent of speed decide {decide}"


def pools_words() -> str:
    """Return what the published points of two pools say of the predictions; no fit has used them."""
    return _error_words("pools", "of two pools")


def ranks_words() -> str:
    """Return what the published points with ranks of attention say of the predictions."""
    return _error_words("ranks", "with ranks of attention")


@cache
def _error_words(unseen: str, which: str) -> str:
    rows = [row for row in blind() if row.unseen == unseen]
    errors = {
        metric: round(100 * float(np.nanmedian([abs(getattr(row, metric) - 1) for row in rows])), 6)
        for metric in ("tpot", "throughput", "ttft")
    }
    tpot, throughput, ttft = (f"{error:.0f} %" for error in errors.values())
    return (
        f"{len(rows)} published points {which} are off by {tpot} in TPOT, {throughput} in throughput "
        f"and {ttft} in TTFT (medians)"
    )
