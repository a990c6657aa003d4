"""The pieces of the MLPerf-like page: what benchmark rules do to the throughput of one system."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from sim_core import catalogue
from sim_core.evidence import trust
from sim_core.evidence.blind import HALF_FRAC, HELD_FRAC, Band
from sim_core.evidence.trust import Trust
from sim_core.fields.errors import ScenarioError
from sim_core.questions.benchmark import rules as benchmark_rules
from sim_core.questions.benchmark.rules import Answer
from sim_core.questions.benchmark.search import Limits, tuned
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import Row, in_lines
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import duration, literal, number, percent, quantity
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts import sidebar as sidebar_parts
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.pieces import KeyFigure
from sim_core.view.parts.views import choose, dial, toggle, views
from sim_core.view.scenarios import figures, points_figures
from sim_core.view.scenarios.figures import BOUND, NAMES, RULES, LimitCurve, Mark, layout_words
from sim_core.view.scenarios.published import (
    DIAMONDS,
    cited,
    marks,
    published_ratio,
    show_published,
    spread_of,
)
from sim_core.view.scenarios.rounds import show_rounds
from sim_core.view.scenarios.skill import no_skill_words
from sim_core.view.scenarios.study import (
    DEVICES,
    SIMULATED,
    SystemStudy,
    own_answer,
    own_curve,
    own_limits,
    study,
)
from sim_core.view.session import shell, state


def show(scenario: Scenario) -> None:
    """Show the view that was asked for; where it cannot be, the controls and the reason."""
    views("rules", then=shell.rerun_page)
    if state.view("rules") == "published":
        show_published(catalogue.benchmark(state.view("bench")))
        return
    if state.view("rules") == "rounds":
        show_rounds(catalogue.benchmark(state.view("bench")), scenario.accelerator)
        return
    view = {"limits": show_limit_costs, "bars": show_shares, "points": show_operating_points}[
        state.view("rules")
    ]
    try:
        found = study(scenario)
    except ScenarioError as error:
        pieces.say_why(error)
        return
    view(found, scenario)


# The sidebar


def benchmark_sidebar(scenario: Scenario) -> None:
    """Draw the controls: the benchmark, and where its view follows them, the accelerator and its setup."""
    shown = state.view("rules")
    with st.sidebar:
        sidebar_parts.own_buttons()
        sidebar_parts.heading("Benchmark")
        names = {name: catalogue.benchmark(name).title for name in SETTINGS["bench"].choices}
        choose("bench", names)
        if shown == "published":  # of all accelerators, as they were set up
            return
        sidebar_parts.heading("System")
        sidebar_parts.accelerator_choice()
        if shown == "rounds":
            return
        best = state.view("setup") == "best"
        if best:
            dial("devices", DEVICES, number)
        sidebar_parts.spec_sliders(
            tuned(catalogue.benchmark(state.view("bench")), scenario) if best else scenario
        )
        sidebar_parts.heading("Setup")
        views("setup")
        if not best:
            sidebar_parts.engine_setting(scenario)
        toggle("tuned")


# What the views share


def _small_print(study: SystemStudy, extra: str = "") -> None:
    """Say what is simulated, what it assumes, and whose trademark it is."""
    base = study.options[0]
    notes = [*accelerator_of(base).warnings, *model_of(base).warnings]
    title = "benchmark submission" if base.calibration == "submission" else base.calibration
    st.caption(
        f"**{SIMULATED}** Weights {base.weight_dtype}, KV cache {base.kv_dtype}, calibration {title}; "
        f"lengths of {study.benchmark.dataset}; limits hold at the "
        f"{number(study.benchmark.percentile)}th percentile. {extra}{_draft_words(study)} "
        f"{no_skill_words()}"
        f"{_pool_words(study)}{literal(' '.join(notes))} {benchmark_rules.TRADEMARK}"
    )


def _draft_words(study: SystemStudy) -> str:
    """Return what the rules say of drafts, and what is simulated of it; "" where they allow none."""
    drafts = max(option.spec_tokens for option in study.under("interactive"))
    if not study.benchmark.interactive_speculative:
        return ""
    if study.sizes or not drafts:
        return " The rules allow speculative decoding in Interactive; none is added here."
    return f" Interactive may use {number(drafts)} drafts of the model's own layers, as the rules allow."


AS_OFFLINE = 0.01  # a share of it that is not worth a word


def above_offline(kept: Iterable[float]) -> str:
    """Return what to think of shares of Offline above 1, which no limit can bring; "" without any."""
    more = max((share - 1 for share in kept if share > 1 + AS_OFFLINE), default=0.0)
    if not more:
        return ""
    return (
        f"No limit can bring more than Offline: what reads up to {percent(more)} more does so by error. Runs "
        "that end before a full batch of long answers has settled read too high, and Offline's own loses the "
        "time in which its batch fills and empties."
    )


def _pool_words(study: SystemStudy) -> str:
    """Return that Interactive may have a pool for each phase, where that is tried."""
    if study.sizes or not any(option.split for option in study.options):
        return ""
    return "Interactive may have a pool for each phase, as racks are submitted. "


def row_trust(study: SystemStudy, row: Row) -> Trust:
    """Return how far a row of the page's tables can be trusted: its layout, and the band of its rule."""
    if not row["output_tok_per_s_per_accelerator"]:
        return trust.NO_TRUST
    keys = {*benchmark_rules.LAYOUT, *benchmark_rules.POOLS} - {"max_batch"}
    layout = {key: row[key] for key in keys if row.get(key)}
    scenario = study.options[0].replace(**layout)
    rule = row.get("rule") or row.get("line", "server")
    found = trust.trust(scenario)
    halves = (*found.halves[:2], _band(scenario, rule, HALF_FRAC))
    return found._replace(throughput_band=_band(scenario, rule), halves=halves)


def _band(scenario: Scenario, rule: str, held_frac: float = HELD_FRAC) -> Band:
    """Return the band of throughput under a rule; the visitor's own limits count as those of Server."""
    return trust.entry_band(scenario, rule if rule in benchmark_rules.RULES else "server", held_frac)


def _titles(study: SystemStudy) -> Heading:
    base = study.options[0]
    devices = base.accelerators
    subtitle = f"MLPerf-like, simulated · weights {base.weight_dtype}, KV cache {base.kv_dtype}"
    return Heading(
        f"{study.benchmark.title} on {devices} × {accelerator_of(base).name}",
        in_lines(subtitle, trust_words.caption(base)),
    )


# What a limit costs


def show_limit_costs(study: SystemStudy, scenario: Scenario) -> None:
    """Show the throughput that is kept against a latency limit."""
    along = state.view("against")
    own = own_limits(scenario)
    shown = marks(study, own)
    lines = limit_curves(study, shown, along)
    kept = (_speed(row) / study.offline for line in lines for row in line.rows)
    pieces.say(limit_finding(study, shown), above_offline(kept))
    trust_badge.badge(study.options[0])
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        views("against")
        sidebar_parts.limit_sliders()
    _, revision = state.frame(f"kept {along} {study.benchmark.id}", lambda: along)
    figure = figures.kept(lines, shown, study.offline, along=along, revision=revision)
    alt = figures.kept_sentence(lines, shown, along)
    chart(figure, "kept", alt, height=520, heading=_titles(study))
    _numbers(study, shown)
    other = NAMES["ttft" if along == "tpot" else "tpot"]
    searched = "the rate is" if study.sizes else "the best layout, batch limit and rate are"
    _small_print(
        study,
        f"Each line keeps the {other} limit named above it; at every point {searched} searched anew. "
        f"{DIAMONDS if spread_of(study) else ''}",
    )
    cited(study)
    rows = [
        {"line": line.rule, **row, "kept_frac": row["output_tok_per_s_per_accelerator"] / study.offline}
        for line in lines
        for row in line.rows
    ]
    actions.take_away(
        "kept", actions.table_files(rows, "limits", partial(row_trust, study)), figure_commands(study, own)
    )


def limit_curves(study: SystemStudy, shown: Sequence[Mark], along: str) -> list[LimitCurve]:
    """Return a curve for each mark's other limit; they pass through the marks' own limits.

    What keeps a limit keeps a looser one: no curve lies below that of a tighter limit and the same options.
    """
    other = "ttft" if along == "tpot" else "tpot"
    extra = tuple(mark.along_ms(along) for mark in shown)
    found: dict[str, LimitCurve] = {}
    best: dict[tuple[Scenario, ...], Sequence[Row]] = {}
    for mark in sorted(shown, key=lambda mark: mark.along_ms(other)):
        options = study.under(mark.rule)
        rows = own_curve(options, study.sizes, along, mark.along_ms(other), extra)
        tighter = best.get(options, rows)
        best[options] = [max(pair, key=_speed) for pair in zip(rows, tighter, strict=True)]
        found[mark.rule] = LimitCurve(mark.rule, mark.along_ms(other), best[options])
    return [found[mark.rule] for mark in shown]


def _speed(row: Row) -> float:
    return row["output_tok_per_s_per_accelerator"]


def limit_finding(study: SystemStudy, shown: Sequence[Mark]) -> str:
    """Return what the benchmark's limits cost, in words."""
    part = accelerator_of(study.options[0]).name
    by_rule = {mark.rule: mark for mark in shown}
    server, tight = by_rule["server"], by_rule.get("interactive")
    text = (
        f"{study.benchmark.title} on {part}: {quantity(study.offline, 'tok/s')} per accelerator Offline. "
        f"A token every {duration(server.tpot_ms)} leaves {percent(server.kept_frac)} of it"
    )
    if tight is None:
        return text + "."
    if not tight.kept_frac:
        return text + f", one every {duration(tight.tpot_ms)} cannot be kept at all."
    return text + f", one every {duration(tight.tpot_ms)} leaves {percent(tight.kept_frac)}."


def _numbers(study: SystemStudy, shown: Sequence[Mark]) -> None:
    """Show the scenarios in numbers: throughput, share, and what binds."""
    answer = study.answers["offline"]
    cells = [_cell(study, "offline", "no limit", study.offline, 1.0, setting_words(answer))]
    for mark in shown:
        asked = f"TTFT {duration(mark.ttft_ms)}, TPOT {duration(mark.tpot_ms)}"
        cells.append(
            _cell(
                study, mark.rule, asked, mark.kept_frac * study.offline, mark.kept_frac, BOUND[mark.bound_by]
            )
        )
    pieces.figures(cells)


def _cell(study: SystemStudy, rule: str, asked: str, throughput: float, kept: float, note: str) -> KeyFigure:
    name, colour = RULES[rule]
    speed, title = quantity(throughput, "tok/s"), f"{name[:1].upper()}{name[1:]} · {asked}"
    return KeyFigure(
        title,
        percent(kept),
        note="\n".join(part for part in (_measured(study, rule, throughput), note) if part),
        unit=f"{speed} per accelerator",
        edge="" if rule == "own" else colour,
        wrap=True,
    )


def _measured(study: SystemStudy, rule: str, throughput: float) -> str:
    """Return where measured throughput lies beside a simulated one; "" without a band or a throughput."""
    if not throughput:
        return ""
    words = partial(quantity, unit="tok/s", digits=2)
    return trust_words.measured_words(throughput, _band(study.options[0], rule), words)


def setting_words(answer: Answer | None) -> str:
    """Return the setting that was found, in words."""
    return layout_words(benchmark_rules.chosen_keys(answer.setting)) if answer else ""


def figure_commands(study: SystemStudy, own: Limits | None = None) -> str:
    """Return the shell commands that give the same figures."""
    found = list(study.answers.items())
    if own is not None:
        found.append(("own", own_answer(study, own)))
    lines = []
    for rule, answer in found:
        if answer is None:
            lines.append(f"# {RULES[rule][0]}: no rate keeps the limits")
            continue
        some, all_of_them = answer.scenario.accelerators, answer.setting.accelerators
        part = f", {number(some)} of {number(all_of_them)} devices" if some < all_of_them else ""
        note = part if rule == "offline" else f", at the rate found{part}"
        lines.append(f"# {RULES[rule][0]}{note}\n{command_for(answer.scenario)}")
        if rule != "offline":
            lines.append(command_for(answer.scenario, "capacity") + "  # searches the rate again")
    return "\n".join(lines)


# The scenarios side by side


def show_shares(study: SystemStudy, scenario: Scenario) -> None:
    """Show the scenarios side by side, published ratios beside them."""
    own = own_limits(scenario)
    rows = scenario_rows(study, own)
    pieces.say(bars_finding(rows), above_offline(row["kept_frac"] for row in rows))
    trust_badge.badge(study.options[0])
    sidebar_parts.limit_sliders_row()
    figure = figures.shares_figure(rows)
    chart(figure, "bars", figures.shares_sentence(rows), height=400, heading=_titles(study))
    _table(study, rows)
    _small_print(study, DIAMONDS if spread_of(study) else "")
    cited(study)
    actions.take_away(
        "bars", actions.table_files(rows, "scenarios", partial(row_trust, study)), figure_commands(study, own)
    )


def _asked(study: SystemStudy, rule: str, own: Limits) -> Limits | None:
    """Return the limits of a rule, or the visitor's own; None where there are none."""
    limits_ms = study.benchmark.limits_ms(rule)
    return own if rule == "own" else Limits(*limits_ms) if limits_ms else None


def scenario_rows(study: SystemStudy, own: Limits) -> list[dict[str, Any]]:
    """Return one row per scenario: throughput, share, latencies, setting, and what is published."""
    spread = spread_of(study)
    found = {**study.answers, "own": own_answer(study, own)}
    rows = []
    for rule, answer in found.items():
        asked = answer.limits if answer else _asked(study, rule, own)
        point = answer.point if answer else {}
        rows.append(
            {
                "rule": rule,
                "limits": "all at once"
                if asked is None
                else f"TTFT {duration(asked.ttft_ms)}, TPOT {duration(asked.tpot_ms)}",
                "kept_frac": study.kept(answer),
                "output_tok_per_s_per_accelerator": answer.output_tok_per_s_per_accelerator
                if answer
                else 0.0,
                "bound_by": answer.bound_by if answer else "floor",
                "setting": setting_words(answer),
                "arrival_per_s": answer.scenario.arrival_per_s if answer and rule != "offline" else None,
                "ttft_ms_p99": point.get("ttft_ms_p99"),
                "tpot_ms_p99": point.get("tpot_ms_p99"),
                "requests": answer.scenario.requests if answer else 0,
                "tpot_limit_ms": asked.tpot_ms if asked else None,
                "published": published_ratio(spread, rule),
                **(benchmark_rules.chosen_keys(answer.setting) if answer else {}),
            }
        )
    return rows


def bars_finding(rows: Sequence[Row]) -> str:
    """Return what each scenario keeps and which limit binds, in words."""
    parts = [
        f"{RULES[row['rule']][0]} keeps {percent(row['kept_frac'])} of Offline: {BOUND[row['bound_by']]}."
        for row in rows
        if row["rule"] in ("server", "interactive")
    ]
    return " ".join(parts)


def _table(study: SystemStudy, rows: Sequence[Row]) -> None:
    """Show the scenarios as a table."""
    heads = (
        "",
        "Throughput",
        "80 % band",
        "of Offline",
        "TTFT p99",
        "TPOT p99",
        "Rate",
        "Setting",
        "What binds",
    )
    st.html(
        render(
            "scenarios/table.html",
            heads=heads,
            lines=[(RULES[row["rule"]][0], [(text, "") for text in _cells(study, row)]) for row in rows],
            full_width=True,
        )
    )


def _cells(study: SystemStudy, row: Row) -> tuple[str, ...]:
    """Return the cells of one scenario."""
    speed = row["output_tok_per_s_per_accelerator"]
    return (
        quantity(speed, "tok/s"),
        _measured(study, row["rule"], speed).removeprefix("80 % band ") or "–",
        percent(row["kept_frac"]),
        duration(row["ttft_ms_p99"]) if row["rule"] != "offline" else "–",
        duration(row["tpot_ms_p99"]),
        quantity(row["arrival_per_s"], "req/s") if row["arrival_per_s"] else "–",
        row["setting"],
        BOUND[row["bound_by"]],
    )


# Operating points


def show_operating_points(study: SystemStudy, scenario: Scenario) -> None:
    """Show the scenarios as points on the trade-off between throughput and speed per user."""
    own = own_limits(scenario)
    rows = [row for row in scenario_rows(study, own) if row["tpot_ms_p99"]]
    server_ttft_ms = study.benchmark.server_ttft_ms
    extra = tuple(row["tpot_limit_ms"] for row in rows if row["tpot_limit_ms"])
    line = own_curve(study.under("server"), study.sizes, "tpot", server_ttft_ms, extra)
    pieces.say(points_finding(rows), above_offline(_speed(row) / study.offline for row in (*rows, *line)))
    trust_badge.badge(study.options[0])
    sidebar_parts.limit_sliders_row()
    _, revision = state.frame(f"points {study.benchmark.id}", lambda: 0)
    figure = points_figures.operating_points_figure(line, rows, revision)
    chart(figure, "points", points_figures.points_sentence(rows), height=520, heading=_titles(study))
    _small_print(
        study,
        f"The line keeps the Server's TTFT limit, {duration(server_ttft_ms)}; dotted: the TPOT limits. A "
        "point lies right of its limit where another limit, or a full batch, binds first. ",
    )
    actions.take_away(
        "points",
        actions.table_files([*rows, *line], "points", partial(row_trust, study)),
        figure_commands(study, own),
    )


def points_finding(rows: Sequence[Row]) -> str:
    """Return what the scenarios trade, in words."""
    by_rule = {row["rule"]: row for row in rows}
    first, last = (
        by_rule["offline"],
        by_rule.get("interactive") or by_rule.get("server") or by_rule["offline"],
    )
    if first is last:
        return "No rate keeps the limits; only Offline can be drawn."
    faster = first["tpot_ms_p99"] / last["tpot_ms_p99"]
    return (
        f"{RULES[last['rule']][0]} gives its users {number(faster, 2)} times the speed of Offline for "
        f"{percent(last['kept_frac'])} of the throughput."
    )
