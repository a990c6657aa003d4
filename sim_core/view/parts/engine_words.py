"""Engines in words: what the choice of one sets, and what a control does in them."""

from __future__ import annotations

from sim_core.catalogue.engines import ServingEngine, engine, key_effects
from sim_core.fields.texts import counted
from sim_core.scenario.scenario import FIELDS, Scenario, admission_of, named_engine, steps_to_first_seen
from sim_core.view.drawing.words import number


def rules_words(policy: str, admission: str, token_budget: int, late_steps: float) -> str:
    """Return an engine's rules as part of a sentence."""
    names = FIELDS["policy"].label_of(policy), FIELDS["admission"].label_of(admission)
    steps = "step" if late_steps == 1 else "steps"
    seen = f"{number(late_steps)} {steps} late" if late_steps else "at once"
    return f"{names[0]}, admission by {names[1]}, {token_budget:,} tokens a step, first tokens seen {seen}"


def comes_with(named: ServingEngine) -> str:
    """Return an engine and the rules that it comes with."""
    words = rules_words(named.policy, named.admission, named.token_budget, named.first_token_lag_steps)
    late = [named.lag_steps(True, *kind) for kind in ((False, False), (True, False), (True, True))]
    more = f" (models with experts {number(late[0])}, with latent attention {number(late[1])} steps late, "
    more += f"from two pools {number(late[2])})"
    return f"{named.name}: {words}{more if any(late) else ''}"


def set_words(scenario: Scenario) -> str:
    """Return what the choice of a scenario's engine has set, and how many of its rules are set otherwise.

    First tokens are seen late by the engine's lag and, where it holds them back, by the streaming interval.
    """
    named = named_engine(scenario)
    if named is None:
        return ""
    rules = scenario.policy, admission_of(scenario), scenario.token_budget, steps_to_first_seen(scenario)
    usual = named.policy, named.admission, named.token_budget, rules[3]
    own = sum(rule != came for rule, came in zip(rules, usual, strict=True))
    own += scenario.first_token_lag_steps is not None
    with_own = f" ({counted(own, 'rule')} of your own)" if own else ""
    return f"{named.name}{with_own}: {rules_words(*rules)}."


def help_of(key: str) -> str:
    """Return what a control says when pointed at, as Markdown.

    That is what its key means and does to latency and throughput, and its flag and default in engines.
    """
    info, words = FIELDS[key], key_effects()[key]
    said = info.help.replace("[", "\\[")
    return "\n\n".join(filter(None, (f"{said}. {words.effect}", engine_flags(key))))


def engine_flags(key: str) -> str:
    """Return the flag of a key in each engine that has one, with its default; "" where none has."""
    flags = key_effects()[key].flags
    return " · ".join(
        f"{engine(name).name} `{flag.flag}` (default: {flag.default})" for name, flag in flags.items()
    )
