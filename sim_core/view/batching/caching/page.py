"""The view of the prefix cache: what it finds and saves, how many users fit, what more room brings."""

from __future__ import annotations

from functools import partial

import streamlit as st

from sim_core.evidence import trust
from sim_core.evidence.trust import Trust
from sim_core.questions.experiments.caching import (
    Caching,
    caching,
    draws_sessions,
    options_of,
    shares_prefixes,
)
from sim_core.scenario.link.write import command_for
from sim_core.scenario.ready import ready_scenarios
from sim_core.scenario.scenario import Scenario
from sim_core.view.batching.caching.figures import (
    account_areas,
    account_sentence,
    capacity_curve,
    capacity_sentence,
    user_curves,
    user_sentence,
)
from sim_core.view.batching.experiments import rate_words, titles
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.parts import actions, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.pieces import Line, cells, say, table
from sim_core.view.session import shell, state


def show_caching(scenario: Scenario) -> None:
    """Show what a prefix cache does for a scenario's requests."""
    if not shares_prefixes(scenario):
        _nothing_shared(scenario)
        return
    found = caching(scenario)
    say(caching_finding(found), *caching_notes(scenario, found))
    trust_badge.badge(found.scenario)
    chart(
        capacity_curve(found),
        key="capacity",
        alt=capacity_sentence(found),
        height=420,
        heading=titles(found.scenario, "What a cache of any size would find"),
    )
    st.caption(
        "The hit rate is the share of prompt tokens that the cache finds and that need not be computed. The "
        "curve follows from the requests alone, taken in order: what is used between two turns is what a "
        "least-recently-used cache must hold to find the earlier one again. The diamond is the engine's run, "
        "in which requests that run at the same time take room, too."
    )
    if found.users:
        _users(found)
    _account(found)
    _options_table(found)
    cases = options_of(found.scenario)
    rows = [{"room": name, **row} for name, row in found.options.items()]
    rows += [{"room": f"{row['users']} users", **row} for row in found.users]
    files = actions.table_files(rows, "caching", partial(_trust_of, found))
    actions.take_away("caching", files, "\n".join(command_for(case) for case in cases.values()))


def _trust_of(found: Caching, row: Row) -> Trust:
    return trust.trust(options_of(found.scenario).get(row["room"], found.scenario))


def _nothing_shared(scenario: Scenario) -> None:
    """Say that there is nothing to be found, and offer what has something."""
    say(
        "These requests have nothing in common that a cache could keep. Give them turns or a system prompt, "
        "under Conversations in the sidebar, or open an example."
    )
    trust_badge.badge(scenario)
    names = [name for name, preset in ready_scenarios().items() if preset.build().turns > 1]
    with st.container(horizontal=True):
        for name in names:
            title = ready_scenarios()[name].title
            st.button(title, key=f"open_{name}", on_click=_open, args=(name,), icon=":material/forum:")


def _open(name: str) -> None:
    state.replace(ready_scenarios()[name].build())
    shell.rerun_page()


def caching_finding(found: Caching) -> str:
    """Return what the cache finds of what there is to find, what that saves, and how many fit."""
    now, ideal = found.now, found.reuse.ideal_frac
    without = found.options["no cache"]
    text = (
        f"Of the prompts' tokens {percent(ideal)} were sent before, and the cache finds "
        f"{percent(now['hit_frac'])}: of {_millions(now['prompt_tokens_sent'])} tokens "
        f"{_millions(now['prompt_tokens_computed'])} are computed."
    )
    if without["feasible"]:
        text += (
            f" TTFT p50 is {duration(now['ttft_ms_p50'])}, without the cache "
            f"{duration(without['ttft_ms_p50'])}."
        )
    return text + (f" {_cliff(found)}" if found.users else "")


def _millions(tokens: float) -> str:
    return f"{number(tokens / 1e6)} million" if tokens >= 1e6 else number(tokens)


def _cliff(found: Caching) -> str:
    """Return where sessions no longer fit: by the rule of thumb, and in the simulation."""
    rows = [row for row in found.users if row["feasible"]]
    good = [row for row in rows if row["hit_frac"] >= 0.9 * found.reuse.ideal_frac]
    rule = f"By rule of thumb {number(found.fits, 2)} sessions fit on the device"
    if not good:
        return f"{rule}; in the simulation not even {quantity(rows[0]['users'], 'users')} keep their hits."
    last = good[-1]["users"]
    after = next((row for row in rows if row["users"] > last), None)
    if after is None:
        return f"{rule}; {quantity(last, 'users')}, the most tried, keep their hits."
    return (
        f"{rule}; {quantity(last, 'users')} keep their hits, {number(after['users'])} find only "
        f"{percent(after['hit_frac'])} and wait {duration(after['ttft_ms_p50'])} for a first token."
    )


def caching_notes(scenario: Scenario, found: Caching) -> list[str]:
    """Return what was assumed beside the scenario."""
    said = []
    if scenario.prefix_caching == "off":
        said.append("This scenario has its prefix cache off; shown is what it would do.")
    if draws_sessions(scenario) and scenario.arrivals != "closed":
        said.append("Users are clients of a closed loop; the scenario's own arrivals are in the first chart.")
    if scenario.replicas > 1:
        said.append("Shown is one replica with its share of the traffic, each session on its own replica.")
    return said


def _users(found: Caching) -> None:
    chart(
        user_curves(found),
        key="users",
        alt=user_sentence(found.users),
        height=560,
        heading=titles(found.scenario, "More and more users"),
    )
    st.caption(
        "Each user holds one session at a time and thinks between its turns. While sessions fit, their "
        "history is found; once they do not, each turn finds that others have taken its room, and computes "
        "it all again, or waits for the host. The dotted line is KV tokens over what a session holds between "
        "turns, on average."
    )


def _account(found: Caching) -> None:
    chart(
        account_areas(found),
        key="account",
        alt=account_sentence(found),
        height=300,
        heading=titles(found.scenario, "What the KV blocks are for"),
    )
    st.caption(
        f"{account_sentence(found)} A cached block is free for whoever needs it: the one that was used the "
        "longest time ago goes first."
    )


def _options_table(found: Caching) -> None:
    """Show what other rooms for the cache bring."""
    shown = {name: row for name, row in found.options.items() if row["feasible"]}
    rows = list(shown.values())
    lines: list[Line] = [
        ("KV cache on the device", [quantity(row["kv_tokens"], "tokens") for row in rows]),
        (
            "Host cache",
            [quantity(row["host_tokens"], "tokens") if row["host_tokens"] else "–" for row in rows],
        ),
        ("Hit rate", [percent(row["hit_frac"]) for row in rows]),
        ("... on the device", [percent(row["device_hit_frac"]) for row in rows]),
        ("... on the host", [percent(row["host_hit_frac"]) for row in rows]),
        ("Prompt tokens computed", cells([row["prompt_tokens_computed"] for row in rows], _millions, False)),
        ("TTFT p50", cells([row["ttft_ms_p50"] for row in rows], duration, False)),
        ("TTFT p99", cells([row["ttft_ms_p99"] for row in rows], duration, False)),
        ("TPOT p50", cells([row["tpot_ms_p50"] for row in rows], duration, False)),
        ("Output", cells([row["output_tok_per_s"] for row in rows], rate_words, True)),
    ]
    table("What more room brings; differences are against the first", list(shown), lines, scroll=True)
