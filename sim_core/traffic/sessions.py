"""Sessions: conversations whose every turn begins with all that was said before.

A session's first prompt is the system prompt and a prompt; each later one is the whole text so far and what
the user adds. Each answer is followed by another turn with the same chance, so that the number of turns is
geometric: a session has no memory of its length. Services see many short conversations and a long tail [1]_,
and times between turns that are about exponential within a kind of request [1]_, as think times are here.

In an open loop sessions arrive, so many that requests come at the asked rate. In a closed one each client
holds one session after another. Its first is met on the way, as whoever begins to watch a service finds it:
with the text of as many earlier turns as a session has had at any moment.

References
----------
.. [1] Wang et al., "KVCache Cache in the Wild", USENIX ATC 2025, section 3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sim_core.scenario.lengths import Lognormal
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.traffic.lengths import class_ids, length_classes, lengths_by_class, normals
from sim_core.traffic.requests import Requests
from sim_core.traffic.units import MET, THINKS, TURNS, arrivals_of, unit


class TurnDraws(NamedTuple):
    """What is drawn of each request, client after client: all that sessions are made of.

    Attributes
    ----------
    first_tokens, added_tokens, output_tokens : ndarray of int64
        Its prompt if it begins a session, what it adds if it does not, and its answer.
    fresh : ndarray of bool
        Whether it begins a session.
    """

    first_tokens: np.ndarray
    added_tokens: np.ndarray
    output_tokens: np.ndarray
    fresh: np.ndarray


class SessionTexts(NamedTuple):
    """Sessions, one entry a request: which it belongs to, its prompt, and what of that was said before."""

    session: np.ndarray
    prompt_tokens: np.ndarray
    known_tokens: np.ndarray


def has_sessions(scenario: Scenario) -> bool:
    """Return whether requests follow one another: turns of a session, or those of a user who thinks."""
    return scenario.turns > 1 or (scenario.arrivals == "closed" and scenario.think_s > 0)


def in_sessions(scenario: Scenario) -> Requests:
    """Return the requests of a scenario's sessions: in a closed loop those of its clients in turn.

    Sessions are numbered as they begin. In an open loop first turns follow nothing, in a closed one the last
    turn of their client.
    """
    closed, requests = scenario.arrivals == "closed", scenario.requests
    order = _order(scenario)
    limit = model_of(scenario).max_position
    drawn = _drawn(scenario, order, limit)
    found = texts(drawn, limit)
    begun = np.diff(found.session, prepend=-1) > 0
    think_s = scenario.think_s * unit(THINKS, scenario.seed, requests)[order]
    if closed:
        arrival_s, back = np.zeros(requests), np.empty_like(order)
        back[order] = np.arange(requests)
    else:
        begun_s = arrivals_of(scenario, int(begun.sum())) * (requests / begun.sum())
        arrival_s = earliest_s(begun_s, think_s, begun)
        back = np.argsort(arrival_s, kind="stable")
    follows = order >= scenario.concurrency if closed else ~begun
    return Requests(
        arrival_s[back],
        found.prompt_tokens[back],
        drawn.output_tokens[back],
        session=_renumbered(found.session[back]),
        known_tokens=found.known_tokens[back].astype(np.int32),
        follows_s=np.where(follows, think_s, np.nan)[back],
        system_tokens=scenario.system_tokens,
    )


def outgrown(scenario: Scenario) -> int:
    """Return how many of a scenario's sessions end because the next turn would not fit into the context."""
    limit = model_of(scenario).max_position
    drawn = _drawn(scenario, _order(scenario), limit)
    return int(texts(drawn, limit).session[-1]) + 1 - int(drawn.fresh.sum())


def _order(scenario: Scenario) -> np.ndarray:
    """Return the scenario's requests client after client; in an open loop there is one line of them."""
    clients = min(scenario.concurrency, scenario.requests) if scenario.arrivals == "closed" else 1
    return by_client(scenario.requests, clients)


def _renumbered(session: np.ndarray) -> np.ndarray:
    """Return sessions, numbered without a gap, numbered anew in the order in which they begin."""
    count = int(session.max(initial=-1)) + 1
    first = np.empty(count, np.int64)
    first[session[::-1]] = np.arange(session.size)[::-1]  # of equal ones the last is kept: where it begins
    number = np.empty(count, np.int32)
    number[np.argsort(first)] = np.arange(count)
    return number[session]


def _drawn(scenario: Scenario, order: np.ndarray, limit_tokens: int) -> TurnDraws:
    """Return what is drawn of each request, in an order: client after client."""
    requests, seed = len(order), scenario.seed
    closed = scenario.arrivals == "closed"
    first_of_all = order < scenario.concurrency if closed else order == 0
    fresh = begins(unit(TURNS, seed, requests)[order], scenario.turns, first_of_all)
    classes = length_classes(scenario)
    further = classes
    if scenario.turn_tokens is not None:
        lengths = Lognormal(scenario.turn_tokens, scenario.prompt_cv)
        further = tuple(replace(item, prompt=lengths) for item in classes)
    beginning = np.maximum.accumulate(np.arange(requests) * fresh)  # a session is of one class
    class_id = class_ids(classes, seed, requests)[order][beginning]
    chance = [draws[order] for draws in normals(seed, requests)]
    first, output = lengths_by_class(classes, class_id, *chance)
    added, _ = lengths_by_class(further, class_id, *chance)
    first = first + scenario.system_tokens
    if closed:
        a_turn = np.array([round(item.prompt.mean + item.output.mean) for item in further])[class_id]
        met = turns_had(unit(MET, seed, requests)[order], scenario.turns)
        room = np.maximum(limit_tokens - first - output, 1)  # a session that outgrew it began anew
        first = first + first_of_all * (met * a_turn % room)
    return TurnDraws(first, added, output, fresh)


def by_client(requests: int, clients: int) -> np.ndarray:
    """Return requests that `clients` send in turn, client after client: a permutation of their numbers."""
    rounds = -(-requests // clients)
    order = np.arange(rounds * clients).reshape(rounds, clients).T.ravel()
    return order[order < requests]


def begins(uniform: np.ndarray, turns: float, first: np.ndarray) -> np.ndarray:
    """Return which requests begin a session of so many turns each: the `first` and, by chance, others."""
    return first | (uniform < 1 / turns)


def turns_had(uniform: np.ndarray, turns: float) -> np.ndarray:
    """Return how many turns a session has had when it is met at any moment: geometric, from 0 on."""
    if turns <= 1:
        return np.zeros(len(uniform), np.int64)
    return np.floor(np.log1p(-uniform) / np.log1p(-1 / turns)).astype(np.int64)


def texts(drawn: TurnDraws, limit_tokens: int) -> SessionTexts:
    """Return the sessions of drawn requests; one ends before a turn that would be longer than the limit.

    The next turn then begins a session of its own, as an agent does that has run out of context.
    """
    return _texts(drawn._replace(fresh=_begins_anew(drawn, limit_tokens)))


def _begins_anew(drawn: TurnDraws, limit_tokens: int) -> np.ndarray:
    """Return which requests begin a session, those among them that would make one longer than a limit."""
    fresh = drawn.fresh.copy()
    said = np.cumsum(drawn.added_tokens + drawn.output_tokens)
    room = limit_tokens - drawn.first_tokens - drawn.output_tokens  # for what follows a first turn
    too_long = np.maximum(np.searchsorted(said, said + room, side="right"), np.arange(len(said)) + 1)
    begins = np.flatnonzero(fresh)
    ends = np.append(begins[1:], len(said))
    while len(begins):
        begins = too_long[begins]
        within = begins < ends
        begins, ends = begins[within], ends[within]
        fresh[begins] = True
    return fresh


def _texts(drawn: TurnDraws) -> SessionTexts:
    """Return the sessions of drawn requests, however long they grow."""
    session = np.cumsum(drawn.fresh) - 1
    said = np.where(drawn.fresh, drawn.first_tokens, drawn.added_tokens)
    before = np.cumsum(said + drawn.output_tokens) - said - drawn.output_tokens
    known = before - before[drawn.fresh][session]
    return SessionTexts(session, known + said, known)


def earliest_s(begun_s: np.ndarray, think_s: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Return when turns are sent if answers take no time, from when sessions begin and think times. [s]"""
    passed_s = np.cumsum(np.where(fresh, 0.0, think_s))
    session = np.cumsum(fresh) - 1
    return begun_s[session] + passed_s - passed_s[fresh][session]
