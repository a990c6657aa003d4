"""`shift`: traffic that changes over time, served by several strategies."""

from __future__ import annotations

import click

from sim_core.command.files import try_place, write_text
from sim_core.command.group import cli
from sim_core.command.inputs import SCENARIO_HELP, SET_HELP, Inputs, TraceFile, trace_option
from sim_core.command.model_files import model_option
from sim_core.command.output import Teller, emit, lines_of, say_on_stderr
from sim_core.fields.errors import ScenarioError, did_you_mean
from sim_core.results import text as report

STRATEGY_HELP = (
    "fixed, hindsight, reactive, predictive, oracle, free or one_pool; may be repeated. Default: all."
)
SHIFT_TABLE = (
    "strategy",
    "goodput_per_s",
    "slo_attainment_frac",
    "benefit_frac",
    "ttft_ms_p99",
    "tpot_ms_p99",
    "decisions",
    "moves",
    "accelerator_hours_away",
)


@cli.command(
    "shift",
    help=f"""Serve traffic that changes over time with two pools whose workers move, by several strategies.

{SCENARIO_HELP} Keys of the traffic are demand, demand_hours, dwell_s and others; see the Method page.""",
)
@click.argument("scenario", default="")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=SET_HELP)
@model_option
@trace_option
@click.option("--strategy", "names", multiple=True, metavar="NAME", help=STRATEGY_HELP)
@click.option("--worth", is_flag=True, help="Work out what each decision to move brought.")
@click.option("--volatility", is_flag=True, help="Compare the strategies over ever slower change instead.")
@click.option("--timeline-out", metavar="FILE", help="Write one CSV row per strategy and stretch of time.")
@click.option("--format", "form", type=click.Choice(report.FORMATS), default="json", show_default=True)
def shift_traffic(
    scenario: str,
    settings: tuple[str, ...],
    trace: TraceFile,
    names: tuple[str, ...],
    worth: bool,
    volatility: bool,
    timeline_out: str,
    form: str,
) -> None:
    inputs = Inputs(scenario, settings, "")
    if timeline_out:
        try_place(timeline_out)
    from sim_core.evidence import trust
    from sim_core.questions.shift import report as shift_report
    from sim_core.questions.shift import volatility as slower
    from sim_core.questions.shift.study import STRATEGIES, as_two_pools

    for name in names:
        if name not in STRATEGIES:
            raise ScenarioError(f"unknown strategy {name[:40]!r}. {did_you_mean(name, STRATEGIES)}")
    requests = trace.read()
    shown = as_two_pools(inputs.scenario, requests)
    for note in shift_report.sharing_words(inputs.scenario, shown, requests):
        say_on_stderr(f"Note: {note}")
    if volatility:
        rows = list(slower.sweep(inputs.scenario))
        emit({"json": report.json_text, "csv": report.csv_text, "table": report.table_text}[form](rows))
        return
    teller = Teller("{:.0%} of the strategies worked out; Ctrl-C ends it")
    found = shift_report.report(
        inputs.scenario, names or tuple(STRATEGIES), requests, worth, progress=teller.tell
    )
    for note in requests.notes if requests is not None else ():
        say_on_stderr(f"Note: {note}")
    if form == "csv":
        emit(report.csv_text(found.timeline))
    elif form == "table":
        emit("\n\n".join([lines_of(found.traffic), report.table_text(found.strategies, SHIFT_TABLE)]))
    else:
        known = {"trust": trust.trust(shown).as_dict()}
        emit(report.json_text(found.as_dict() | known))
    if timeline_out:
        write_text(report.csv_text(found.timeline) + "\n", timeline_out)
