"""`plan`: which accelerators, how many, laid out how, for a rate within the limits."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sim_core.command.group import cli
from sim_core.command.inputs import SCENARIO_HELP, Inputs, TraceFile, scenario_options, trace_option
from sim_core.command.output import Teller, emit, say_on_stderr
from sim_core.fields.errors import ScenarioError
from sim_core.results import text as report
from sim_core.scenario.link.asked import EXAMPLE
from sim_core.scenario.link.asked import asked as read_question
from sim_core.scenario.link.changes import with_changes

if TYPE_CHECKING:
    from sim_core.questions.deployment.answer import Plan
    from sim_core.questions.deployment.question import Question
    from sim_core.traffic.day import Day

TABLE = (
    "rank",
    "tie",
    "accelerator",
    "weight_dtype",
    "layout",
    "max_batch",
    "replicas",
    "accelerators",
    "band",
    "capacity_per_s",
    "usd_per_hour",
    "usd_per_mtok",
    "joule_per_tok",
    "ttft_ms",
    "tpot_ms",
    "limit",
    "badge",
)
DAY_TABLES = {
    "ways": ("way", "accelerator_hours", "usd", "saved_frac", "lost_frac", "late_frac"),
    "parts": ("start_h", "rate_per_s", "accelerators", "accelerators_scheduled", "accelerators_reactive"),
    "start_ups": ("start_up_s", "scheduled_usd", "reactive_usd", "reactive_lost_frac"),
    "rivals": ("rank", "accelerator", "layout", "accelerators", "fixed_usd", "scheduled_usd"),
}
ASKED = ("accelerators", "free", "objective", "max_devices", "top", "spare", "ranking")
CELLS = ("accelerator", "layout", "accelerators", "worth", "ties", "second", "second_frac", "stage", "reason")
LOSERS = ("limit", "accelerator", "count", "reason")
RATE_HELP = "Requests a second. Default: the scenario's, or the trace's mean, whose times are scaled to it."
DAY_HELP = (
    "Plan over a day, for its peak and each part: rates of equal parts of 24 hours such as 2,2,5,9, "
    "wave:MEAN/PEAK, 8h: before either for 8 hours, demand (the scenario's keys), or a file: rates, counts "
    "by time, or a trace."
)
MAP_HELP = (
    "Instead of the ranking: which accelerator is best over two of rate, ttft, tpot (limits), prompt, output "
    "(lengths), price, bandwidth (of the scenario's accelerator), such as rate,tpot."
)
QUESTION_HELP = f'The question in words, such as "{EXAMPLE}"; other options go before it.'
LOOKED_AT = "{:.0%} of the engines looked at, likely winners first"
IN_TURNS = "Note: turns of conversations wait for answers, so runs go step by step and take longer."
_NAME_OF_FILE = re.compile(
    r"(?!wave:)[^,;\s]*(?:[/\\][^,;]*|\.[a-z]{2,8})", re.IGNORECASE
)  # as people name them
FREE_HELP = (
    "Keys that may vary, with commas: tensor_parallel, attention_data_parallel, expert_parallel, "
    "pipeline_parallel, max_batch, token_budget, weight_dtype, kv_dtype, engine, policy (with two pools). "
    "Default: the layout in one pool, and max_batch."
)


@cli.command(
    "plan",
    help="Rank deployments that serve a request rate within the latency limits: accelerators, layout and "
    f"whole replicas, each simulated at the rate, and why the others lost.\n\n{SCENARIO_HELP}",
)
@scenario_options
@trace_option
@click.option("--question", default="", metavar="TEXT", help=QUESTION_HELP)
@click.option("--rate", type=float, metavar="REQ/S", help=RATE_HELP)
@click.option("--accelerators", default="all", metavar="A,B|all", help="Presets; all: those with a price.")
@click.option("--free", default="", metavar="KEY,KEY", help=FREE_HELP)
@click.option(
    "--objective",
    default="usd_per_hour",
    metavar="NAME",
    help="usd_per_hour, devices, usd_per_mtok, joule_per_tok, or headroom (on max-devices).",
)
@click.option("--max-devices", type=int, metavar="N", help="Most accelerators of a deployment.")
@click.option("--top", type=int, default=10, show_default=True, metavar="K", help="Rows of the ranking.")
@click.option("--growth", type=float, default=0.0, metavar="FRAC", help="By what share the rate will grow.")
@click.option("--margin", type=float, default=0.0, metavar="FRAC", help="Safety margin on the rate.")
@click.option("--spare", type=int, default=0, metavar="N", help="Replicas beyond those needed.")
@click.option(
    "--ranking",
    default="plain",
    metavar="NAME",
    help="plain; trusted: the validated region first; pessimistic: steps as slow as the band allows.",
)
@click.option("--day", default="", metavar="RATES|FILE", help=DAY_HELP)
@click.option("--start-up", "start_up_s", type=float, metavar="S", help="Time that a replica takes to start.")
@click.option(
    "--start-from",
    default="node",
    metavar="KIND",
    help="Without --start-up: memory, disk or node, a new one whose weights come from storage.  "
    "[default: node]",
)
@click.option("--map", "sides", default="", metavar="X,Y", help=MAP_HELP)
def print_plan(form: str, rate: float | None, sides: str, trace: TraceFile, **given: Any) -> None:
    hours = DayOptions(given.pop("day"), given.pop("start_up_s"), given.pop("start_from"))
    asked = {name: given.pop(name) for name in ASKED}
    asked |= {"growth_frac": given.pop("growth"), "margin_frac": given.pop("margin")}
    question_text = given.pop("question")
    settings, models = _models_apart(given.pop("settings"))
    inputs = Inputs(settings=settings, **given, trace=trace)
    if inputs.profile is not None:
        raise ScenarioError(
            "--profile has the step times of one layout on one device; a plan prices others, too: "
            "leave it out."
        )
    from sim_core.questions.deployment.plan import final_plan, question_named
    from sim_core.questions.deployment.question import DEFAULT_FREE

    asked["free"] = asked["free"] or DEFAULT_FREE
    if question_text:
        _take_question(question_text, inputs, asked)
    if rate is None and inputs.said_rate:
        rate = inputs.scenario.arrival_per_s
    day = hours.read(inputs, rate)
    question = question_named(
        inputs.scenario, day.peak_per_s if day else rate, trace=inputs.trace, models=models, **asked
    )
    if sides:
        emit(_map_text(question, sides, form, day))
        return
    teller = Teller(LOOKED_AT, [IN_TURNS] if question.in_turns else ())
    found = final_plan(question, teller.tell)
    if not found.rows:
        raise ScenarioError(found.sentence)
    for note in inputs.trace.notes if inputs.trace else inputs.notes:  # all of a trace is replayed
        say_on_stderr(f"Note: {note}")
    options = trace.options + ("" if question.replays or not trace.path else _drawn(question))
    emit(hours.text_of(found, day, form, options) if day else _text(found, form, options))


def _drawn(question: Question) -> str:
    """Return the option under which a trace gives its lengths alone, as a plan has taken them."""
    from sim_core.sweep.capacity import open_loop

    return f" --set arrivals={open_loop(question.scenario).arrivals}"


def _models_apart(settings: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return settings with the first of several models, and all of these, with commas between them."""
    models = ""
    kept = []
    for setting in settings:
        key, mark, value = setting.partition("=")
        if key.strip() == "model":
            models = value if "," in value else ""
            value = value.partition(",")[0].strip()
        kept.append(f"{key}{mark}{value}")
    return tuple(kept), models


def _take_question(text: str, inputs: Inputs, asked: dict[str, Any]) -> None:
    """Take what a question says, but for what an option has said; a note tells what was understood."""
    from sim_core.questions.deployment.question import ALL

    said = read_question(text, inputs.scenario.model)
    changes = {key: value for key, value in said.changes.items() if key not in inputs.given}
    inputs.scenario = with_changes(inputs.scenario, **changes)
    if said.accelerators and asked["accelerators"] == ALL:
        asked["accelerators"] = ",".join(said.accelerators)
    asked["max_devices"] = asked["max_devices"] or said.max_devices or None
    inputs.said_rate |= "arrival_per_s" in changes
    words = ", ".join(f"{key}={value}" for key, value in changes.items())
    say_on_stderr(f"Note: understood {words + '; ' if words else ''}accelerators {asked['accelerators']}.")


def _map_text(question: Question, sides: str, form: str, day: Day | None) -> str:
    """Return who wins over two inputs as JSON, as CSV of the cells, or as a sentence and a table."""
    if day:
        raise ScenarioError("--map is of one rate, and --day has many: leave one of them out.")
    from sim_core.questions.deployment.around.winners import confirmed_map, estimated_map

    x, _, y = (side.strip() for side in sides.partition(","))
    answer = confirmed_map(estimated_map(question, x, y)).as_dict()
    if form == "json":
        return report.json_text(answer)
    if form == "csv":
        return report.csv_text(answer["cells"])
    columns = (answer["x"], answer["y"], *CELLS)
    return f"{answer['sentence']}{os.linesep}{os.linesep}{report.table_text(answer['cells'], columns)}"


class DayOptions(NamedTuple):
    """What the command line says of a day, and of how a replica starts."""

    text: str
    start_up_s: float | None
    start_from: str

    def read(self, inputs: Inputs, rate: float | None) -> Day | None:
        """Return the day that is meant, by a text or a file; None where there is none."""
        if not self.text:
            if self.start_up_s is not None:
                raise ScenarioError("--start-up is of a plan over the day: give --day RATES, too.")
            return None
        from sim_core.questions.deployment.around.day import check_start

        check_start(self.start_from, self.start_up_s)
        if rate is not None:
            raise ScenarioError("--day has the rates, and its peak is planned for: leave --rate out.")
        from sim_core.traffic.day import day_named
        from sim_core.traffic.day_files import read_day

        if not _is_file(self.text):
            if _NAME_OF_FILE.fullmatch(self.text):
                raise ScenarioError(f"--day: {_no_file(self.text)}, or rates such as 5,20,60.")
            return day_named(self.text, inputs.scenario)
        say_on_stderr(f"Note: {self.text}: its rates are planned for, with the lengths of the scenario.")
        return read_day(self.text, inputs.scenario)

    def text_of(self, found: Plan, day: Day, form: str, options: str) -> str:
        """Return a plan over a day as JSON, as CSV of its parts, or as sentences and tables."""
        from sim_core.questions.deployment.around.day import day_dict, day_plan, rivals_of

        start = self.start_from, self.start_up_s
        hours = day_plan(found.question, found.rows[0], day, *start)
        answer = day_dict(hours, rivals_of(found.question, found.rows, hours, *start))
        if form == "json":
            return report.json_text(found.as_dict() | {"day": answer})
        if form == "csv":
            return report.csv_text(answer["parts"])
        tables = [
            report.table_text(answer[name], columns) for name, columns in DAY_TABLES.items() if answer[name]
        ]
        plan_text = _text(found, form, options)
        return (os.linesep * 2).join([plan_text, answer["sentence"], answer["rivals_sentence"], *tables])


def _no_file(text: str) -> str:
    """Return that what is named is no file, and what to give."""
    if Path(text).is_dir():
        return f"{text[-100:]!r} is a folder. Give a file in it"
    return f"there is no file {text[-100:]!r}. Give its path"


def _is_file(text: str) -> bool:
    """Return whether a text names a file; one that is too long for a name does not."""
    try:
        return Path(text).is_file()
    except OSError:
        return False


def _text(found: Plan, form: str, options: str) -> str:
    """Return a plan as JSON, as CSV of its rows, or as the sentence, the rows and the losers.

    `options` name the trace that rows are run with.
    """
    answer, layouts = found.as_dict(), [row.layout for row in found.rows]
    if form == "json":
        return report.json_text(answer)
    if form == "csv":
        return report.csv_text(answer["rows"])
    rows = [_cells(row) | {"layout": layout} for row, layout in zip(answer["rows"], layouts, strict=True)]
    best = answer["rows"][0]["scenario"]
    several = ("model",) if found.question.compares_models else ()
    blocks = [answer["sentence"], report.table_text(rows, (*TABLE[:2], *several, *TABLE[2:]))]
    blocks += [f"Rank 1 again: python -m sim_core run '{best}'{options}"]
    if answer["rejected"]:
        blocks.append(report.table_text(answer["rejected"], (LOSERS[0], *several, *LOSERS[1:])))
    return f"{os.linesep}{os.linesep}".join(blocks)


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its band as one cell, and the settings that its scenario alone has."""
    from sim_core.scenario.link.load import load_scenario

    high = "?" if row["accelerators_high"] is None else row["accelerators_high"]
    settings = load_scenario(row["scenario"])
    return row | {"band": f"{row['accelerators_low']} to {high}", "max_batch": settings.max_batch}
