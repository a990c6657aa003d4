"""The pieces of the Scenarios page: what benchmark rules do to the throughput of one system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache, partial
from html import escape
from typing import Any, NamedTuple

import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.benchmarks import Benchmark, PublishedSpread
from sim_core.evidence import entries, trust
from sim_core.evidence.blind import Band
from sim_core.evidence.trust import Trust
from sim_core.fields.errors import ScenarioError
from sim_core.questions import benchmark_rules
from sim_core.questions.benchmark_rules import Answer
from sim_core.questions.benchmark_search import Limits, candidates, system, tuned
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.parts import actions, controls, pieces, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.scenarios import figures as scenario_figures
from sim_core.view.scenarios.figures import BOUND, NAMES, RULES, Line, Mark, layout_words
from sim_core.view.session import state, sweeps

VIEWS = {"limits": "What a limit costs", "bars": "Scenarios", "points": "Operating points",
         "published": "Published results"}  # fmt: skip
AGAINST = {"tpot": "TPOT limit", "ttft": "TTFT limit"}
DEVICES = (1, 2, 4, 8, 16, 32, 64)
SIMULATED = "MLPerf-like: simulated, not an MLPerf result."


class Study(NamedTuple):
    """One system on the page: how it may be set up, and what it does under the rules."""

    benchmark: Benchmark
    options: tuple[Scenario, ...]
    sizes: tuple[int, ...]
    answers: dict[str, Answer | None]

    @property
    def offline(self) -> float:
        """Offline throughput. [tok/s per accelerator]"""
        return self.answers["offline"].output_tok_per_s_per_accelerator

    def kept(self, answer: Answer | None) -> float:
        """Return the share of Offline throughput that an answer keeps; 0 where there is none."""
        return answer.output_tok_per_s_per_accelerator / self.offline if answer else 0.0


def show(scenario: Scenario) -> None:
    """Show the view that was asked for; where it cannot be, the controls and the reason."""
    controls.views("rules", VIEWS)
    if state.view("rules") == "published":
        published(catalogue.benchmark(state.view("bench")))
        return
    view = {"limits": limits, "bars": bars, "points": points}[state.view("rules")]
    try:
        found = study(scenario)
    except ScenarioError as error:
        pieces.say(str(error))
        return
    view(found, scenario)


# The sidebar


def sidebar(scenario: Scenario) -> None:
    """Draw the controls: the benchmark, the accelerator, and how the system is set up."""
    with st.sidebar:
        controls.heading("Benchmark")
        names = {name: catalogue.benchmark(name).title for name in state.VIEW["bench"]}
        controls.choose("bench", names, "Benchmark")
        controls.heading("System")
        parts = {name: part.name for name, part in catalogue.accelerators().items()}
        controls.select("accelerator", list(parts), parts.get, hide=True)
        best = state.view("setup") == "best"
        if best:
            controls.dial("devices", "Devices", DEVICES, number, "All of them serve this model.")
        controls.specs(tuned(catalogue.benchmark(state.view("bench")), scenario) if best else scenario)
        controls.heading("Setup")
        controls.views("setup", {"best": "Best found", "own": "My setting"}, "Setup")
        if not best:
            controls.engine_setting(scenario)
        help = (
            "On: step times of an engine tuned for one benchmark (calibration `submission`). "
            "Off: the scenario's own calibration, by default that of open-source engines."
        )
        controls.toggle("tuned", "Tuned as for a submission", help)


# What is simulated


def study(scenario: Scenario) -> Study:
    """Return the system that scenario and view ask for, with its answers."""
    sweeps.wait_until_ready()
    if state.view("tuned") == "on":
        scenario = scenario.replace(calibration="submission")
    benchmark = catalogue.benchmark(state.view("bench"))
    own = state.view("setup") == "own"
    devices = scenario.accelerators if own else int(state.number("devices"))
    return _study(benchmark.id, _plain(scenario, own), devices, own)


def _plain(scenario: Scenario, own: bool) -> Scenario:
    """Return a scenario without what a study does not depend on, so that studies are shared."""
    kept = scenario.replace(
        slo_ttft_ms=1.0, slo_tpot_ms=1.0, arrival_per_s=1.0, arrival_cv=1.0, concurrency=1, requests=1,
        arrivals="poisson", mix="", request_list="", prompt_tokens=1, output_tokens=1, prompt_cv=0.0,
        output_cv=0.0, warmup_frac=0.1, slo_percentile=99.0,
    )  # fmt: skip
    if own:
        return kept
    return kept.replace(
        tensor_parallel=1, expert_parallel=1, replicas=1, weight_dtype="bf16", kv_dtype="bf16",
        policy="chunked", max_batch=256, token_budget=8192, router="least_loaded",
    )  # fmt: skip


@lru_cache(maxsize=128)
def _study(name: str, scenario: Scenario, devices: int, own: bool) -> Study:
    """Return one system's answers; kept for all visitors."""
    benchmark = catalogue.benchmark(name)
    if own:
        options, sizes = (system(benchmark, scenario),), (scenario.max_batch,)
    else:
        options, sizes = tuple(candidates(tuned(benchmark, scenario), devices)), ()
    return Study(benchmark, options, sizes, benchmark_rules.answers(benchmark, options, sizes))


@lru_cache(maxsize=512)
def _within(
    options: tuple[Scenario, ...], sizes: tuple[int, ...], asked: Limits, min_duration_s: float
) -> Answer | None:
    return benchmark_rules.within(options, asked, "own", sizes, min_duration_s)


def own_answer(study: Study, asked: Limits) -> Answer | None:
    """Return what the system does within the visitor's limits, in runs as long as the benchmark's."""
    return _within(study.options, study.sizes, asked, study.benchmark.min_duration_s)


@lru_cache(maxsize=512)
def _curve(
    options: tuple[Scenario, ...],
    sizes: tuple[int, ...],
    along: str,
    other_ms: float,
    extra: tuple[float, ...],
) -> list[Row]:
    steps = benchmark_rules.TPOT_STEPS_MS if along == "tpot" else benchmark_rules.TTFT_STEPS_MS
    return benchmark_rules.limit_curve(options, (*steps, *extra), along=along, other_ms=other_ms, sizes=sizes)


def own_limits(scenario: Scenario) -> Limits:
    """Return the visitor's limits. [ms]"""
    return Limits(scenario.slo_ttft_ms, scenario.slo_tpot_ms)


# What the views share


def _small_print(study: Study, extra: str = "") -> None:
    """Say what is simulated, what it assumes, and whose trademark it is."""
    base = study.options[0]
    notes = [*accelerator_of(base).warnings, *model_of(base).warnings]
    title = "benchmark submission" if base.calibration == "submission" else base.calibration
    rules = study.benchmark.interactive_speculative
    speculative = (
        " The rules allow speculative decoding in Interactive; it is not simulated." if rules else ""
    )
    st.caption(
        f"**{SIMULATED}** Weights {base.weight_dtype}, KV cache {base.kv_dtype}, calibration {title}; "
        f"lengths of {study.benchmark.dataset}; limits hold at the "
        f"{number(study.benchmark.percentile)}th percentile. {extra}{speculative} "
        f"{' '.join(notes)} {benchmark_rules.TRADEMARK}"
    )


_DIAMONDS = (
    "Diamonds: ratios of published closed-division entries on this accelerator, derived here, not official. "
)


def _cited(study: Study) -> None:
    """Say where the published ratios come from."""
    spread = spread_of(study)
    if spread is not None:
        with st.expander("Sources of the published ratios"):
            st.markdown(citation(study.benchmark, spread) + benchmark_rules.TRADEMARK)


def row_trust(study: Study, row: Row) -> Trust:
    """Return how far a row of the page's tables can be trusted: its layout, and the band of its rule."""
    if not row["output_tok_per_s_per_accelerator"]:
        return trust.NO_TRUST
    layout = {key: row[key] for key in ("tensor_parallel", "expert_parallel", "replicas") if row.get(key)}
    scenario = study.options[0].replace(**layout)
    rule = row.get("rule") or row.get("line", "server")
    return trust.trust(scenario)._replace(throughput_band=_band(scenario, rule))


def _band(scenario: Scenario, rule: str) -> Band:
    """Return the band of throughput under a rule; the visitor's own limits count as those of Server."""
    return trust.entry_band(scenario, rule if rule in benchmark_rules.RULES else "server")


def _titles(study: Study) -> dict[str, str]:
    base = study.options[0]
    devices = base.accelerators
    subtitle = f"MLPerf-like, simulated · weights {base.weight_dtype}, KV cache {base.kv_dtype}"
    subtitle += f"<br>{trust_words.caption(base)}"
    return {
        "title": f"{study.benchmark.title} on {devices} × {accelerator_of(base).name}",
        "subtitle": subtitle,
    }


def spread_of(study: Study) -> PublishedSpread | None:
    """Return the published results of the study's benchmark on its accelerator, if there are any."""
    part = study.options[0].accelerator
    return next((row for row in catalogue.published(study.benchmark.id) if row.accelerator == part), None)


def published_ratio(spread: PublishedSpread | None, rule: str) -> tuple[float, float, float, int] | None:
    """Return lowest, median and highest published ratio of a rule and the number of entries."""
    if spread is None or rule not in ("server", "interactive") or not getattr(spread, f"{rule}_count"):
        return None
    return tuple(getattr(spread, f"{rule}_{key}") for key in ("min", "median", "max", "count"))


def marks(study: Study, own: Limits | None) -> list[Mark]:
    """Return the benchmark's limits and the visitor's own as marks of a chart."""
    spread, found = spread_of(study), []
    for rule in ("server", "interactive"):
        asked = study.benchmark.limits_ms(rule)
        if asked is None:
            continue
        answer = study.answers.get(rule)
        bound_by = answer.bound_by if answer else "floor"
        found.append(Mark(rule, *asked, study.kept(answer), bound_by, published_ratio(spread, rule)))
    if own is not None:
        answer = own_answer(study, own)
        found.append(Mark("own", *own, study.kept(answer), answer.bound_by if answer else "floor"))
    return found


# What a limit costs


def limits(study: Study, scenario: Scenario) -> None:
    """Show the throughput that is kept against a latency limit."""
    along = state.view("against")
    own = own_limits(scenario)
    shown = marks(study, own)
    pieces.say(limit_finding(study, shown))
    trust_badge.badge(study.options[0])
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        controls.views("against", AGAINST, "Against")
        controls.own_limits()
    lines = curves(study, shown, along)
    _, revision = state.frame(f"kept {along} {study.benchmark.id}", lambda: along)
    figure = scenario_figures.kept(lines, shown, study.offline, along=along, revision=revision)
    alt = scenario_figures.kept_sentence(lines, shown, along)
    chart(figure, "kept", alt, height=520, **_titles(study))
    _numbers(study, shown)
    other = NAMES["ttft" if along == "tpot" else "tpot"]
    searched = "the rate is" if study.sizes else "the best layout, batch limit and rate are"
    _small_print(
        study,
        f"Each line keeps the {other} limit named above it; at every point {searched} searched anew. "
        f"{_DIAMONDS if spread_of(study) else ''}",
    )
    _cited(study)
    rows = [{"line": line.rule, **row, "kept_frac": row["output_tok_per_s_per_accelerator"] / study.offline}
            for line in lines for row in line.rows]  # fmt: skip
    actions.take_away(
        "kept", actions.table_files(rows, "limits", partial(row_trust, study)), commands(study, own)
    )


def curves(study: Study, shown: Sequence[Mark], along: str) -> list[Line]:
    """Return a curve for each mark's other limit; they pass through the marks' own limits.

    What keeps a limit keeps a looser one: no curve lies below that of a tighter limit.
    """
    other = "ttft" if along == "tpot" else "tpot"
    extra = tuple(mark.along_ms(along) for mark in shown)
    found, best = {}, []
    for mark in sorted(shown, key=lambda mark: mark.along_ms(other)):
        rows = _curve(study.options, study.sizes, along, mark.along_ms(other), extra)
        best = [max(pair, key=_speed) for pair in zip(rows, best, strict=True)] if best else rows
        found[mark.rule] = Line(mark.rule, mark.along_ms(other), best)
    return [found[mark.rule] for mark in shown]


def _speed(row: Row) -> float:
    return row["output_tok_per_s_per_accelerator"]


def limit_finding(study: Study, shown: Sequence[Mark]) -> str:
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


def _numbers(study: Study, shown: Sequence[Mark]) -> None:
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


def _cell(study: Study, rule: str, asked: str, throughput: float, kept: float, note: str) -> str:
    name, colour = RULES[rule]
    speed, title = quantity(throughput, "tok/s"), f"{name[:1].upper()}{name[1:]} · {asked}"
    edge = "" if rule == "own" else f"border-left: 3px solid {colour}; padding-left: 0.6rem"
    value = f"{percent(kept)} <small>{speed} per accelerator</small>"
    band = _measured(study, rule, throughput)
    notes = "<br>".join(escape(part) for part in (band, note) if part)
    return pieces.figure(title, value, notes, wrap=True, style=edge)


def _measured(study: Study, rule: str, throughput: float) -> str:
    """Return where measured throughput lies beside a simulated one; "" without a band or a throughput."""
    if not throughput:
        return ""
    words = partial(quantity, unit="tok/s", digits=2)
    return trust_words.measured(throughput, _band(study.options[0], rule), words)


def setting_words(answer: Answer | None) -> str:
    """Return the setting that was found, in words."""
    if answer is None:
        return ""
    keys = ("tensor_parallel", "expert_parallel", "replicas", "max_batch")
    row = {key: getattr(answer.scenario, key) for key in keys}
    if answer.rule == "offline":
        return f"each replica TP {row['tensor_parallel']}, batch ≤ {number(row['max_batch'])}"
    return layout_words(row)


def commands(study: Study, own: Limits | None = None) -> str:
    """Return the shell commands that give the same figures."""
    found = list(study.answers.items())
    if own is not None:
        found.append(("own", own_answer(study, own)))
    lines = []
    for rule, answer in found:
        if answer is None:
            lines.append(f"# {RULES[rule][0]}: no rate keeps the limits")
            continue
        note = ", one replica" if rule == "offline" else ", at the rate found"
        lines.append(f"# {RULES[rule][0]}{note}\n{command_for(answer.scenario)}")
        if rule != "offline":
            lines.append(command_for(answer.scenario, "capacity") + "  # searches the rate again")
    return "\n".join(lines)


# The scenarios side by side


def bars(study: Study, scenario: Scenario) -> None:
    """Show the scenarios side by side, published ratios beside them."""
    own = own_limits(scenario)
    rows = scenario_rows(study, own)
    pieces.say(bars_finding(rows))
    trust_badge.badge(study.options[0])
    controls.own_limits_row()
    figure = scenario_figures.bars(rows)
    chart(figure, "bars", scenario_figures.bars_sentence(rows), height=400, **_titles(study))
    _table(study, rows)
    _small_print(study, _DIAMONDS if spread_of(study) else "")
    _cited(study)
    actions.take_away(
        "bars", actions.table_files(rows, "scenarios", partial(row_trust, study)), commands(study, own)
    )


def scenario_rows(study: Study, own: Limits) -> list[dict[str, Any]]:
    """Return one row per scenario: throughput, share, latencies, setting, and what is published."""
    spread = spread_of(study)
    found = {**study.answers, "own": own_answer(study, own)}
    rows = []
    for rule, answer in found.items():
        asked = (
            answer.limits if answer else (own if rule == "own" else Limits(*study.benchmark.limits_ms(rule)))
        )
        point = answer.point if answer else {}
        rows.append({
            "rule": rule,
            "limits": "all at once" if asked is None
            else f"TTFT {duration(asked.ttft_ms)}, TPOT {duration(asked.tpot_ms)}",
            "kept_frac": study.kept(answer),
            "output_tok_per_s_per_accelerator": answer.output_tok_per_s_per_accelerator if answer else 0.0,
            "bound_by": answer.bound_by if answer else "floor",
            "setting": setting_words(answer),
            "arrival_per_s": answer.scenario.arrival_per_s if answer and rule != "offline" else None,
            "ttft_ms_p99": point.get("ttft_ms_p99"), "tpot_ms_p99": point.get("tpot_ms_p99"),
            "requests": answer.scenario.requests if answer else 0,
            "tpot_limit_ms": asked.tpot_ms if asked else None,
            "published": published_ratio(spread, rule),
        })  # fmt: skip
    return rows


def bars_finding(rows: Sequence[Row]) -> str:
    """Return what each scenario keeps and which limit binds, in words."""
    parts = [
        f"{RULES[row['rule']][0]} keeps {percent(row['kept_frac'])} of Offline: {BOUND[row['bound_by']]}."
        for row in rows
        if row["rule"] in ("server", "interactive")
    ]
    return " ".join(parts)


def _table(study: Study, rows: Sequence[Row]) -> None:
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
    body = ""
    for row in rows:
        cells = (
            RULES[row["rule"]][0],
            quantity(row["output_tok_per_s_per_accelerator"], "tok/s"),
            _measured(study, row["rule"], row["output_tok_per_s_per_accelerator"]).removeprefix("80 % band ")
            or "–",
            percent(row["kept_frac"]),
            duration(row["ttft_ms_p99"]) if row["rule"] != "offline" else "–",
            duration(row["tpot_ms_p99"]),
            quantity(row["arrival_per_s"], "req/s") if row["arrival_per_s"] else "–",
            row["setting"],
            BOUND[row["bound_by"]],
        )
        body += (
            f"<tr><th>{escape(cells[0])}</th>"
            + "".join(f'<td style="white-space: nowrap">{escape(cell)}</td>' for cell in cells[1:])
            + "</tr>"
        )
    head = "".join(f"<th>{head}</th>" for head in heads)
    st.html(
        '<div style="overflow-x: auto"><table class="bs-compare" style="max-width: none">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


# Operating points


def points(study: Study, scenario: Scenario) -> None:
    """Show the scenarios as points on the trade-off between throughput and speed per user."""
    own = own_limits(scenario)
    rows = [row for row in scenario_rows(study, own) if row["tpot_ms_p99"]]
    server = study.benchmark.limits_ms("server")
    extra = tuple(row["tpot_limit_ms"] for row in rows if row["tpot_limit_ms"])
    line = _curve(study.options, study.sizes, "tpot", server[0], extra)
    pieces.say(points_finding(rows))
    trust_badge.badge(study.options[0])
    controls.own_limits_row()
    _, revision = state.frame(f"points {study.benchmark.id}", lambda: 0)
    figure = scenario_figures.points(line, rows, revision)
    chart(figure, "points", scenario_figures.points_sentence(rows), height=520, **_titles(study))
    _small_print(
        study,
        f"The line keeps the Server's TTFT limit, {duration(server[0])}; dotted: the TPOT limits. A point "
        "lies right of its limit where another limit, or a full batch, binds first. ",
    )
    actions.take_away(
        "points",
        actions.table_files([*rows, *line], "points", partial(row_trust, study)),
        commands(study, own),
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


# Published results


def published(benchmark: Benchmark) -> None:
    """Show published results of a benchmark by accelerator beside simulated ones, and the errors."""
    check = catalogue.published_check("mlperf")
    rows = published_rows(benchmark)
    pieces.say(published_finding(benchmark, rows, check))
    if rows:
        height = 130 + 42 * len(rows)
        alt = scenario_figures.published_sentence(rows, benchmark.title)
        titles = {"title": f"{benchmark.title}, published closed-division results", "subtitle": SIMULATED}
        left, right = st.columns(2)
        with left:
            st.markdown("###### Offline throughput per accelerator")
            chart(scenario_figures.published_offline(rows), "published-offline", alt, height=height, **titles)
        with right:
            st.markdown("###### Server and Interactive, share of Offline")
            chart(scenario_figures.published_ratios(rows), "published-ratios", alt, height=height, **titles)
    st.markdown("###### How close is it? All benchmarks, all entries")
    _goals(check)
    with st.expander(f"Sources of the {number(sum(row['offline_count'] for row in rows))} results"):
        for spread in catalogue.published(benchmark.id):
            st.markdown(
                f"**{catalogue.accelerator(spread.accelerator).name}.** {citation(benchmark, spread)}"
            )
    st.caption(
        "Published: MLPerf Inference, datacenter, closed division, from the repositories of results. Ratios "
        "are derived here and are not official metrics. Simulated figures are MLPerf-like, not MLPerf "
        "results; they stand beside published ones to test this model, not to rank anything. "
        f"{benchmark_rules.TRADEMARK}"
    )
    files = [
        *actions.table_files(rows, "published", published=True),
        actions.File(
            "Sources", "batchscope-sources.json", "application/json", lambda: sources_text(benchmark)
        ),
    ]
    actions.take_away("published-ratios" if rows else "", files, check.command)


def published_rows(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Return one row per accelerator: the published spread, and what was simulated for most entries."""
    rows = []
    for spread in catalogue.published(benchmark.id):
        usual = entries.usual_system(benchmark.id, spread.accelerator)
        row: dict[str, Any] = {"accelerator": spread.accelerator,
                               "name": catalogue.accelerator(spread.accelerator).name}  # fmt: skip
        for rule in benchmark_rules.RULES:
            for key in ("count", "min", "median", "max"):
                row[f"{rule}_{key}"] = getattr(spread, f"{rule}_{key}")
            row[f"{rule}_simulated"] = getattr(usual, rule if rule == "offline" else f"{rule}_counted", None)
        rows.append(row | {"rounds": ", ".join(spread.rounds), "submitters": ", ".join(spread.submitters),
                           "division": spread.division, "retrieved": spread.retrieved})  # fmt: skip
    return sorted(rows, key=lambda row: row["offline_median"] or 0.0)


def published_finding(benchmark: Benchmark, rows: Sequence[Row], check: catalogue.Check) -> str:
    """Return how close the simulation comes, in words."""
    if not rows:
        return f"No published results of {benchmark.title} are stored here."
    by_rule = {(goal.rule, goal.rows): goal for goal in check.goals}
    offline = by_rule["offline", "all"]
    gaps = [abs(row["offline_simulated"] / row["offline_median"] - 1) for row in rows
            if row["offline_simulated"] and row["offline_median"]]  # fmt: skip
    typical = sorted(gaps)[len(gaps) // 2] if gaps else None
    return (
        f"Simulated Offline throughput lies {percent(offline.error)} from published at the median of "
        f"{number(offline.count)} results; for {benchmark.title}, {percent(typical)} over {len(gaps)} "
        "accelerators."
    )


GOAL_NAMES = {
    "offline": "Offline, tok/s per accelerator",
    "server": "Server / Offline, steady state",
    "server counted": "Server / Offline, as LoadGen counts",
    "interactive": "Interactive / Offline, steady state",
    "interactive counted": "Interactive / Offline, as LoadGen counts",
}


def _goals(check: catalogue.Check) -> None:
    """Show the errors against the goals and against the best constant guess."""
    heads = ("", "Rows", "Results", "Error", "Goal", "Best constant", "Bias")
    body = ""
    for goal in check.goals:
        met = "bs-good" if goal.error <= goal.goal else "bs-bad"
        size = percent if goal.rule == "offline" else _difference
        cells = (
            goal.rows,
            number(goal.count),
            size(goal.error),
            f"≤ {size(goal.goal)}",
            size(goal.constant),
            size(goal.bias),
        )
        name = GOAL_NAMES.get(goal.rule, goal.rule) if goal.rows == "all" else ""
        body += f"<tr><th>{escape(name)}</th>" + "".join(
            f'<td class="{met if place == 2 else ""}">{escape(cell)}</td>' for place, cell in enumerate(cells)
        ) + "</tr>"  # fmt: skip
    head = "".join(f"<th>{head}</th>" for head in heads)
    st.html(
        f'<div style="overflow-x: auto"><table class="bs-compare"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    st.caption(
        f"As last compared on {check.date}, calibration {check.calibration}, by `{check.command}`. Offline: "
        "median of the relative errors; ratios: mean of the absolute differences; bias: median of the signed "
        "ones. As LoadGen counts: tokens over the time until the last answer, for a run of the shortest "
        "length allowed, 600 s. That is a bound: logs show runs of 600 to 2,400 s, which lose less that way, "
        "and Server entries that keep clear of their limits (on average they use four fifths of TPOT), which "
        "is not simulated. DeepSeek's data-parallel attention is not modelled. The calibration was fitted "
        "to Llama 2 70B alone."
    )


def _difference(value: float | None) -> str:
    return "–" if value is None else number(value, 2).replace("-", "−")


def citation(benchmark: Benchmark, spread: PublishedSpread) -> str:
    """Return what must be said with published results."""
    ids = ", ".join(spread.entry_ids) or "by path (this round has no ids)"
    return (
        f"MLPerf Inference {', '.join(spread.rounds)}, datacenter, {spread.division} division, "
        f"{benchmark.id}: {number(spread.offline_count)} Offline results of {len(spread.submitters)} "
        f"submitters ({', '.join(spread.submitters)}); entries {ids}; retrieved {spread.retrieved} from the "
        "result repositories named in the file of sources. "
    )


def sources_text(benchmark: Benchmark) -> str:
    """Return every published spread with its entries and source paths, as JSON."""
    rows = [
        {name: getattr(spread, name) for name in PublishedSpread.__slots__ if name != "id"}
        for spread in catalogue.published(benchmark.id)
    ]
    return json.dumps(
        {"benchmark": benchmark.id, "trademark": benchmark_rules.TRADEMARK, "spreads": rows}, indent=1
    )
