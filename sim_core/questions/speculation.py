"""What drafts and their verification bring and cost, from prices alone.

A step in which B sequences verify K drafts each makes B times the acceptance length (AL) of tokens, and takes
the time of B (K + 1) tokens and of the drafts; without drafts it makes B tokens. Prompts go on arriving as
answers are made: F prompt tokens for each token made, which no draft can shorten. So with

- `a0` and `aK` the seconds of a step without drafts and with K,
- `b0` and `bK` the seconds that prompts take for each token that a sequence makes in a step,

the speed-up of a sequence, and of all, is ``AL (a0 + b0) / (aK + AL bK)``. It is above 1 where AL exceeds
``aK / (a0 + b0 - bK)``, the break-even length. The heavier the prompts, the closer it is to 1 from below: a
token saved is a small part of the time. Only steps are priced: no queue, no waiting, no end of a request.

References
----------
Leviathan, Kalman, Matias (2023), "Fast inference from transformers via speculative decoding", ICML,
section 3.1: K drafts that are accepted alike, with chance a, make (1 - a^(K+1)) / (1 - a) tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sim_core.catalogue.acceptance import Acceptance, closest_length, known_methods
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.price import Price
from sim_core.price.priced import priced
from sim_core.price.speculation import accepted
from sim_core.price.steps.one_step import step_parts
from sim_core.questions.phases import decoding, largest_batch, setting
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario
from sim_core.traffic.draws import mean_lengths

DRAFTS = tuple(range(1, 9))  # as many as engines are run with
SUPPOSED_DRAFTS = 3  # where a scenario has none
LEAST_GAIN = 1.005  # a speed-up below it is none
NO_SPECULATION: Mapping[str, Any] = MappingProxyType(
    {key: DEFAULTS[key] for key, info in FIELDS.items() if info.group == "speculation"}
)


# --- what is assumed ------------------------------------------------------------------------------


class Supposed(NamedTuple):
    """How a scenario speculates, or would.

    Attributes
    ----------
    scenario : Scenario
        With drafts.
    length : float
        Its acceptance length; NaN where neither the scenario nor a publication says one.
    published : Acceptance or None
        What is published for its model and way of drafting, with the number of drafts closest to its own.
    """

    scenario: Scenario
    length: float
    published: Acceptance | None

    @property
    def is_own(self) -> bool:
        """Whether the scenario itself says the length."""
        return self.scenario.acceptance_length is not None

    @property
    def drafts(self) -> int:
        """Drafts of a step."""
        return self.scenario.spec_tokens


def brief(scenario: Scenario) -> str:
    """Return how a scenario speculates, as briefly as a chart names it; "" if it does not.

    Examples
    --------
    >>> brief(Scenario(spec_tokens=3, acceptance_length=2.5)), brief(Scenario())
    ('3 drafts', '')
    """
    if scenario.spec_tokens and scenario.spec_by_batch:
        return f"drafts by batch {scenario.spec_by_batch}"
    return counted(scenario.spec_tokens, "draft") if scenario.spec_tokens else ""


def supposed(scenario: Scenario, decodes: int = 0) -> Supposed:
    """Return how a scenario speculates; one that does not, as it would with what is published for its model.

    Of the published ways the first counts, with three drafts or as many as were measured closest to that;
    where nothing is published, the scenario's own way with three. Where drafts follow the load, those of so
    many `decodes` count, if any.

    Raises
    ------
    ScenarioError
        If its policy or its token budget leaves no room for drafts.
    """
    if scenario.spec_tokens:
        chosen = _at_load(scenario, decodes)
    else:
        ways = known_methods(scenario.model)
        way = scenario.draft if scenario.draft in ways or not ways else ways[0]
        closest = closest_length(scenario.model, way, SUPPOSED_DRAFTS)
        drafts = closest.drafts if closest else SUPPOSED_DRAFTS
        chosen = scenario.replace(**dict(NO_SPECULATION) | {"draft": way, "spec_tokens": drafts})
    published = closest_length(chosen.model, chosen.draft, chosen.spec_tokens)
    return Supposed(chosen, _accepted(chosen, chosen.spec_tokens), published)


def _at_load(scenario: Scenario, decodes: int) -> Scenario:
    """Return a scenario with the drafts that so many decodes have, if they follow the load and any are."""
    here = scenario.drafts_at(on_a_rank(scenario, decodes))
    if not here or here == scenario.spec_tokens:
        return scenario
    own = scenario.acceptance_length
    length = own if own is None else accepted(scenario, here)
    return scenario.replace(spec_tokens=here, spec_by_batch="", acceptance_length=length)


def _accepted(scenario: Scenario, drafts: int) -> float:
    """Return the acceptance length of a scenario with another number of drafts; NaN where none is known."""
    try:
        return accepted(scenario, drafts)
    except ScenarioError:
        return math.nan


def length_at(how: Supposed, drafts: int) -> float:
    """Return the acceptance length with another number of drafts, as prices have it; NaN where none is known.

    It is the published one, unless the scenario says its own; else every draft is taken to be accepted with
    the chance that the length known says.
    """
    return _accepted(how.scenario, drafts)


# --- what it costs --------------------------------------------------------------------------------


class Trade(NamedTuple):
    """What a step costs with drafts and without, for a number of sequences.

    Attributes
    ----------
    decodes, drafts : int
    plain, verified : mapping of str to float
        Seconds by part of a step without drafts, and of one that drafts and verifies.
    plain_prompt_s, prompt_s : float
        Seconds that prompts take for each token that a sequence makes in a step, without and with drafts.
    """

    decodes: int
    drafts: int
    plain: Mapping[str, float]
    verified: Mapping[str, float]
    plain_prompt_s: float
    prompt_s: float

    def speed_up(self, length: float) -> float:
        """Return how many times as fast tokens are made; below 1 speculation loses."""
        return length * (self.plain_s + self.plain_prompt_s) / (self.verified_s + length * self.prompt_s)

    @property
    def plain_s(self) -> float:
        """Time of a step without drafts. [s]"""
        return sum(self.plain.values())

    @property
    def verified_s(self) -> float:
        """Time of a step that drafts and verifies. [s]"""
        return sum(self.verified.values())

    @property
    def break_even(self) -> float:
        """Acceptance length at which nothing is won or lost; infinite where no length wins."""
        left = self.plain_s + self.plain_prompt_s - self.prompt_s
        return self.verified_s / left if left > 0 else math.inf

    @property
    def grown(self) -> str:
        """The part of a step that drafts and their verification lengthen most."""
        return max(self.verified, key=lambda part: self.verified[part] - self.plain.get(part, 0.0))

    def prompt_frac(self, length: float) -> float:
        """Return the share of the time that prompts take, with drafts."""
        prompts_s = length * self.prompt_s
        return prompts_s / (self.verified_s + prompts_s)


def trades(scenario: Scenario, batches: Iterable[int], context_tokens: float, drafts: int) -> list[Trade]:
    """Return what steps cost with so many drafts and without, for several numbers of sequences.

    Parameters
    ----------
    scenario : Scenario
        Whose own number of drafts does not matter.
    batches : iterable of int
        Numbers of sequences; those whose drafts exceed the token budget are left out.
    context_tokens : float
        Tokens that each has in its KV cache.
    drafts : int

    Raises
    ------
    DoesNotFit
        If the weights and one KV block exceed the devices' memory.
    """
    fitting = [batch for batch in batches if fits_budget(scenario, batch, drafts)]
    if not fitting:
        return []
    most = on_a_rank(scenario, max(fitting))
    plain, drafting = (_priced(scenario, count, most) for count in (0, drafts))
    shares = _Prompts.of(scenario)
    return [
        Trade(
            batch,
            drafts,
            step_parts(plain, own, context_tokens, on_all_ranks=batch),
            step_parts(drafting, own, context_tokens, on_all_ranks=batch),
            shares.seconds(plain, own, context_tokens, 0),
            shares.seconds(drafting, own, context_tokens, drafts),
        )
        for batch in fitting
        for own in [on_a_rank(scenario, batch)]
    ]


def on_a_rank(scenario: Scenario, decodes: int) -> int:
    """Return how many of an engine's sequences are on the rank of attention with the most of them."""
    return -(-decodes // decoding(scenario).attention_data_parallel)


def fits_budget(scenario: Scenario, decodes: int, drafts: int) -> bool:
    """Return whether so many sequences can verify so many drafts in one step: drafts count as tokens."""
    if scenario.policy not in ("chunked", "disaggregated"):
        return True
    return on_a_rank(scenario, decodes) * (drafts + 1) <= scenario.token_budget


def _priced(scenario: Scenario, drafts: int, most: int) -> Price:
    """Return the price of steps that decode with so many drafts, whatever is accepted, for up to `most`."""
    changes: dict[str, Any] = dict(NO_SPECULATION) | {"max_batch": max(most, scenario.max_batch)}
    if drafts:
        keep = {key: getattr(scenario, key) for key in ("draft", "draft_params_b")}
        changes |= keep | {"spec_tokens": drafts, "acceptance_length": 1.0}
    return priced(scenario.replace(**changes, replicas=1)).price


class _Prompts(NamedTuple):
    """The prompts that come with the tokens made: their mean length, and the steps they are priced in."""

    tokens: int
    per_output: float  # prompts for each token made
    budget: int  # tokens of a step that prompts share with decodes; 0: prompts have steps of their own
    apart: bool  # on other devices

    @classmethod
    def of(cls, scenario: Scenario) -> _Prompts:
        prompt, output = mean_lengths(scenario)
        budget = scenario.token_budget if scenario.policy == "chunked" else 0
        return cls(max(1, round(prompt)), 1 / max(output, 1.0), budget, scenario.split)

    def seconds(self, price: Price, decodes: int, context_tokens: float, drafts: int) -> float:
        """Return the time of prompts for each token that every one of the sequences makes. [s]

        In steps shared with decodes, what the tokens of a mean chunk add to a step; they are as many as the
        budget leaves, and the chunk lies in the middle of its prompt. All ranks of attention do the same.
        """
        if self.apart:
            return 0.0
        prompts = decodes * self.per_output
        if not self.budget:
            return prompts * sum(step_parts(price, 0, 0.0, self.tokens).values())
        room = max(self.budget - decodes * (drafts + 1), 1)
        chunk = min(room, self.tokens)
        start = (self.tokens - chunk) // 2
        with_chunk = step_parts(price, decodes, context_tokens, chunk, start)
        alone = step_parts(price, decodes, context_tokens)
        added = sum(with_chunk.values()) - sum(alone.values())
        return prompts * self.tokens / chunk * added


# --- by load --------------------------------------------------------------------------------------


def _batches(scenario: Scenario, own: int, context_tokens: float) -> list[int]:
    """Return the numbers of sequences to look at: powers of two up to what runs at once, and one's own."""
    engine = decoding(scenario)
    places = engine.attention_data_parallel * engine.max_batch
    most = max(min(places, largest_batch(engine, context_tokens)), 1)
    powers = [2**power for power in range(20) if 2**power <= most]
    return sorted({*powers, most, own})


def speculation_rows(scenario: Scenario, own: int = 32, context_tokens: float = 0) -> list[dict[str, Any]]:
    """Return the speed-up of every number of drafts over the number of sequences, one row for each pair.

    Parameters
    ----------
    scenario : Scenario
    own : int
        A number of sequences to have among the others.
    context_tokens : float
        Tokens each has cached; 0 means the scenario's mean.

    Returns
    -------
    list of dict
        `decodes`, `drafts`, `acceptance_length`, `speed_up`, `break_even_length`, `step_ms` and
        `plain_step_ms`, `prompt_frac` (share of the time that prompts take), `limit` (the part that grows
        most), `is_best` (of its number of sequences, if it gains).
    """
    how = supposed(scenario, own)
    if math.isnan(how.length):
        return []
    context = setting(scenario, own, context_tokens).context_tokens
    sizes = _batches(scenario, own, context)
    rows = [
        _row(trade, length_at(how, drafts))
        for drafts in sorted({*DRAFTS, how.drafts})
        for trade in trades(how.scenario, sizes, context, drafts)
    ]
    best = {size: _best(rows, size) for size in sizes}
    return [row | {"is_best": row["drafts"] == best[row["decodes"]]} for row in rows]


def _row(trade: Trade, length: float) -> dict[str, Any]:
    return {
        "decodes": trade.decodes,
        "drafts": trade.drafts,
        "acceptance_length": length,
        "speed_up": trade.speed_up(length),
        "break_even_length": trade.break_even,
        "step_ms": 1e3 * trade.verified_s,
        "plain_step_ms": 1e3 * trade.plain_s,
        "prompt_frac": trade.prompt_frac(length),
        "limit": trade.grown,
    }


def _best(rows: Sequence[Mapping[str, Any]], decodes: int) -> int:
    """Return the number of drafts that is fastest for so many sequences: 0 where every one loses."""
    mine = [row for row in rows if row["decodes"] == decodes and row["speed_up"] > LEAST_GAIN]
    return max(mine, key=lambda row: row["speed_up"])["drafts"] if mine else 0


def as_table(rows: Iterable[Mapping[str, Any]], ranks: int = 1) -> str:
    """Return the best numbers of drafts by load as the scenario's `spec_by_batch` has them: those of a rank.

    Examples
    --------
    >>> rows = [{"decodes": n, "drafts": k, "is_best": True} for n, k in ((1, 5), (2, 5), (4, 3))]
    >>> as_table([*rows, {"decodes": 8, "drafts": 3, "is_best": False}])
    '1-3:5,4-7:3,8-:0'
    """
    sizes: dict[int, int] = {}
    for row in rows:
        size = -(-row["decodes"] // ranks)
        sizes.setdefault(size, 0)
        if row["is_best"]:
            sizes[size] = row["drafts"]
    spans: list[tuple[int, int]] = []
    for size in sorted(sizes):
        if not spans or spans[-1][1] != sizes[size]:
            spans.append((size if spans else 1, sizes[size]))
    ends = [*(start - 1 for start, _ in spans[1:]), None]
    return ",".join(
        f"{start}-{'' if end is None else end}:{drafts}"
        for (start, drafts), end in zip(spans, ends, strict=True)
    )


def pays_map(scenario: Scenario, own: int = 32, context_tokens: float = 0) -> dict[str, Any]:
    """Return the speed-up over sequences and acceptance length, for the number of drafts that is supposed.

    Returns
    -------
    dict
        `decodes`, `lengths` (from 1 to drafts + 1), `speed_up` (a list for each length), `break_even` (the
        length at which nothing is won, for each number of sequences).
    """
    how = supposed(scenario, own)
    context = setting(scenario, own, context_tokens).context_tokens
    found = trades(how.scenario, _batches(scenario, own, context), context, how.drafts)
    steps = 8 * how.drafts
    lengths = [1 + how.drafts * step / steps for step in range(steps + 1)]
    return {
        "decodes": [trade.decodes for trade in found],
        "lengths": lengths,
        "speed_up": [[trade.speed_up(length) for trade in found] for length in lengths],
        "break_even": [trade.break_even for trade in found],
    }
