"""The command line: `python -m sim_core run|frontier|capacity|shift|...`, the product without a browser.

Exit status 0, or 2 with one line on standard error for input that cannot be used.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from sim_core import __version__, catalogue
from sim_core.fields.errors import ScenarioError, did_you_mean
from sim_core.results import text as report
from sim_core.results.text import LATENCIES, RATES, STATISTICS
from sim_core.scenario.link.changes import parse_value
from sim_core.scenario.link.load import load_scenario
from sim_core.scenario.link.write import to_query
from sim_core.scenario.ready import ready_scenarios
from sim_core.scenario.scenario import FIELDS, Scenario

BAD_INPUT = 2
INTERRUPTED = 130
MAX_POINTS = 2_000
LISTED = ("models", "accelerators", "workloads", "scenarios", "lessons")
LOAD = "load_frac"  # the one thing that can be varied and is no scenario key
METRICS = (*RATES, "tok_per_s_per_user")
FRONTIER_TABLE = (
    "tok_per_s_per_user",
    "output_tok_per_s_per_accelerator",
    "request_per_s",
    "ttft_ms_p50",
    "ttft_ms_p99",
    "tpot_ms_p50",
    "tpot_ms_p99",
    "mean_batch",
    "limit",
    "saturated",
    "meets_slo",
    "on_frontier",
    "badge",
)
CALIBRATE_TABLE = (
    "name",
    "arrivals",
    "fitted",
    "tpot_ms",
    "tpot_ms_calibration_error_pct",
    "tpot_ms_own_error_pct",
    "tpot_ms_unseen_error_pct",
    "ttft_ms",
    "ttft_ms_own_error_pct",
    "output_tok_per_s",
    "output_tok_per_s_own_error_pct",
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
LONG_COLUMNS = ("source", "story", "expected", "query")  # in JSON, too long for a table

SCENARIO_HELP = """SCENARIO is the id of a scenario preset (see `list scenarios`), the path of a TOML file,
a share link or a query string such as "max_batch=64&seed=3"; without it, the default scenario."""
SET_HELP = "Change one scenario key; may be repeated. A flat length (prompt_tokens, ...) switches a mix off."
TRACE_HELP = (
    "Requests to replay: CSV with arrival_s,prompt_tokens,output_tokens, or an Azure or Mooncake file."
)
STRATEGY_HELP = (
    "fixed, hindsight, reactive, predictive, oracle, free or one_pool; may be repeated. Default: all."
)
VARY_HELP = """Vary one scenario key, or load_frac, the share of the rate that saturates a point; may be
repeated. Values of mix are separated by semicolons."""


# What the commands share


def scenario_options(command: Callable) -> Callable:
    """Add the scenario argument and the options that every simulating command has."""
    options = (
        click.argument("scenario", default=""),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=SET_HELP),
        click.option("--profile", "profile_path", metavar="FILE", help="Measured step times, a TOML file."),
        click.option(
            "--format", "form", type=click.Choice(report.FORMATS), default="json", show_default=True
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def trace_option(command: Callable) -> Callable:
    """Add the option that names a trace."""
    return click.option("--trace", "trace_path", metavar="FILE", help=TRACE_HELP)(command)


class Inputs:
    """The scenario, trace and profile that a command line names."""

    def __init__(
        self, scenario: str, settings: tuple[str, ...], profile_path: str, trace_path: str = ""
    ) -> None:
        changes = dict(_setting(text) for text in settings)
        self.scenario: Scenario = load_scenario(scenario, **changes)
        self.trace = self.profile = None
        self.notes: list[str] = []
        if profile_path:
            from sim_core.scenario.profiles import read_profile

            self.profile = read_profile(Path(profile_path))
        if trace_path:
            self._take_trace(trace_path, changes)

    def _take_trace(self, path: str, changes: Mapping[str, Any]) -> None:
        from sim_core.traffic.traces import read_trace, with_trace

        self.trace = read_trace(path)
        self.scenario = with_trace(self.scenario, self.trace, given=changes)
        self.notes += self.trace.notes
        if self.scenario.requests < len(self.trace):
            self.notes.append(
                f"{self.trace.name}: the first {self.scenario.requests:,} of {len(self.trace):,} requests "
                "are used, as requests says."
            )


def _setting(text: str) -> tuple[str, Any]:
    """Return key and value of one --set."""
    key, mark, value = text.partition("=")
    if not mark:
        raise ScenarioError(f"--set {text[:60]!r} has no equals sign; write --set KEY=VALUE.")
    return key.strip(), parse_value(key.strip(), value)


def _variations(texts: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return keys and values of all --vary."""
    vary: dict[str, list[Any]] = {}
    for text in texts:
        key, mark, values = text.partition("=")
        key = key.strip()
        parts = [part for part in values.split(";" if key == "mix" else ",") if part.strip()]
        if not mark or not parts:
            raise ScenarioError(f"--vary {text[:60]!r} has no values; write --vary KEY=VALUE,VALUE.")
        if key in vary:
            raise ScenarioError(f"--vary {key} stands there twice; give all its values in one.")
        vary[key] = list(dict.fromkeys(_varied_value(key, part.strip()) for part in parts))
    points = math.prod(map(len, vary.values()))
    if points > MAX_POINTS:
        raise ScenarioError(
            f"--vary makes {points:,} points; the limit is {MAX_POINTS:,}. Give fewer values."
        )
    return vary


def _varied_value(key: str, text: str) -> Any:
    if key != LOAD:
        return parse_value(key, text)
    try:
        return parse_value("arrival_per_s", text)  # a rate too: the same limits
    except ScenarioError as error:
        raise ScenarioError(str(error).replace("arrival_per_s", LOAD)) from None


def emit(text: str) -> None:
    """Write a result to standard output; a reader that has gone away (`| head`) is no error."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(0) from None
    except OSError as error:
        _drop_output()
        raise ScenarioError(f"the output cannot be written: {error.strerror}.") from None


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail over it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _write_csv(table: Any, path: str) -> None:
    """Write a DataFrame to a file."""
    try:
        table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScenarioError(f"{path[:100]!r} cannot be written: {reason}.") from None


# The commands


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batchscope")
@click.pass_context
def cli(context: click.Context) -> None:
    """Simulate LLM serving: latency and throughput of a model on accelerators under traffic."""
    if context.invoked_subcommand is None:
        emit(context.get_help())


@cli.command(help=f"Simulate one scenario and print its metrics.\n\n{SCENARIO_HELP}")
@scenario_options
@trace_option
@click.option("--requests-out", metavar="FILE", help="Write one CSV row per request.")
@click.option("--steps-out", metavar="FILE", help="Write one CSV row per run of equal engine steps.")
def run(form: str, requests_out: str, steps_out: str, **source: Any) -> None:
    inputs = Inputs(**source)
    from sim_core.engine import run as simulator  # after the inputs: a typing error is answered at once
    from sim_core.evidence import trust
    from sim_core.results.metrics import summarize

    result = simulator.run(
        inputs.scenario,
        trace=inputs.trace,
        profile=inputs.profile,
        itl_max=bool(requests_out),
        log=bool(steps_out),
    )
    requests = result.requests()
    if requests_out:
        _write_csv(requests, requests_out)
    if steps_out:
        _write_csv(result.steps(), steps_out)
    summary = dict(summarize(requests, inputs.scenario))
    summary["warnings"] = [*inputs.notes, *summary.get("warnings", ())]
    found = trust.with_load(inputs.scenario, profile=inputs.profile, trace=inputs.trace)
    summary["trust"] = found.as_dict()
    emit(_report(summary, form))


@cli.command(help=f"Simulate many variations and print their Pareto frontier.\n\n{SCENARIO_HELP}")
@scenario_options
@trace_option
@click.option("--vary", "varied", multiple=True, metavar="KEY=V1,V2,...", help=VARY_HELP)
def frontier(form: str, varied: tuple[str, ...], **source: Any) -> None:
    inputs = Inputs(**source)
    options = {"vary": _variations(varied)} if varied else {}
    from sim_core import frontier as sweep
    from sim_core.evidence import trust

    given = {"trace": inputs.trace, "profile": inputs.profile}
    table = sweep(inputs.scenario, **given, **options)
    for note in inputs.notes:
        say(f"Note: {note}")
    rows = [row | trust.columns(inputs.scenario, row, **given) for row in _rows(table)]
    emit(_points(rows, form, options.get("vary", {})))


@cli.command(help=f"Find the highest stable request rate within the latency limits.\n\n{SCENARIO_HELP}")
@scenario_options
def capacity(form: str, **source: Any) -> None:
    inputs = Inputs(**source)
    from sim_core import capacity as search
    from sim_core.evidence import trust
    from sim_core.sweep.capacity import open_loop

    found = dict(search(inputs.scenario, profile=inputs.profile))
    asked = open_loop(inputs.scenario)
    load_frac = found["arrival_per_s"] / found["saturation_per_s"] if found["saturation_per_s"] else None
    found["trust"] = trust.trust(asked, profile=inputs.profile, load_frac=load_frac).as_dict()
    if found["point"] is not None:
        found["point"] = _nested(found["point"])
    emit(_report(found, form))


@cli.command(
    "shift",
    help=f"""Serve traffic that changes over time with two pools whose workers move, by several strategies.

{SCENARIO_HELP} Keys of the traffic are demand, demand_hours, dwell_s and others; see the Method page.""",
)
@click.argument("scenario", default="")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=SET_HELP)
@trace_option
@click.option("--strategy", "names", multiple=True, metavar="NAME", help=STRATEGY_HELP)
@click.option("--worth", is_flag=True, help="Work out what each decision to move brought.")
@click.option("--volatility", is_flag=True, help="Compare the strategies over ever slower change instead.")
@click.option("--timeline-out", metavar="FILE", help="Write one CSV row per strategy and stretch of time.")
@click.option("--format", "form", type=click.Choice(report.FORMATS), default="json", show_default=True)
def shift_traffic(
    scenario: str,
    settings: tuple[str, ...],
    trace_path: str,
    names: tuple[str, ...],
    worth: bool,
    volatility: bool,
    timeline_out: str,
    form: str,
) -> None:
    inputs = Inputs(scenario, settings, "", "")
    from sim_core.evidence import trust
    from sim_core.questions.shift import report as shift_report
    from sim_core.questions.shift import volatility as slower
    from sim_core.questions.shift.study import STRATEGIES, plain
    from sim_core.traffic.traces import read_trace

    for name in names:
        if name not in STRATEGIES:
            raise ScenarioError(f"unknown strategy {name[:40]!r}. {did_you_mean(name, STRATEGIES)}")
    trace = read_trace(trace_path) if trace_path else None
    if volatility:
        rows = list(slower.sweep(inputs.scenario))
        emit({"json": report.json_text, "csv": report.csv_text, "table": report.table_text}[form](rows))
        return
    found = shift_report.report(inputs.scenario, names or tuple(STRATEGIES), trace, worth)
    for note in trace.notes if trace is not None else ():
        say(f"Note: {note}")
    if timeline_out:
        _write_text(report.csv_text(found.timeline) + "\n", timeline_out)
    if form == "csv":
        emit(report.csv_text(found.timeline))
    elif form == "table":
        emit("\n\n".join([_lines(found.traffic), report.table_text(found.strategies, SHIFT_TABLE)]))
    else:
        known = {"trust": trust.trust(plain(inputs.scenario)).as_dict()}
        emit(report.json_text(found.as_dict() | known))


@cli.command(
    help=f"""Fit an engine profile to files of your own measurements, and print how well it fits.

{SCENARIO_HELP} It says which model, device, layout and engine were measured.

FILES are results of benchmark tools, a CSV of requests or of engine steps; they are recognised by content."""
)
@click.argument("scenario")
@click.argument("files", nargs=-1, required=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=SET_HELP)
@click.option("--out", metavar="FILE", help="Write the profile, a TOML file for --profile.")
@click.option("--format", "form", type=click.Choice(report.FORMATS), default="table", show_default=True)
def calibrate(scenario: str, files: tuple[str, ...], settings: tuple[str, ...], out: str, form: str) -> None:
    base = Inputs(scenario, settings, "").scenario
    from sim_core.evidence.own import engine as own_engine
    from sim_core.evidence.own.formats.read import read_upload
    from sim_core.scenario.profiles import to_toml

    read = [read_upload(_bytes_of(path), Path(path).name) for path in files]
    for note in (f"{upload.name}: {note}" for upload in read for note in upload.notes):
        say(f"Note: {note}")
    engine = own_engine.calibrate(read, base)
    if out:
        _write_text(to_toml(engine.profile), out)
    rows, summary = own_engine.rows(engine), own_engine.summary(engine)
    if form == "csv":
        emit(report.csv_text(rows))
    elif form == "json":
        emit(report.json_text(summary | {"points": rows}))
    else:
        blocks = [report.table_text(rows, CALIBRATE_TABLE)] if rows else []
        emit("\n\n".join([*blocks, _lines(summary)]))


@cli.command(
    help="""Measure a running OpenAI-compatible server from outside, and write an engine profile.

URL is its address, such as http://localhost:8000/v1. In about two minutes some hundred requests are sent:
prompts of several lengths one by one, and some streams at once. Ctrl-C ends early and keeps what was
measured. An API key is read from the environment."""
)
@click.argument("url")
@click.option("--model", required=True, help="The model's name, as the server lists it.")
@click.option(
    "--out", required=True, metavar="FILE", help="Where the profile goes, a TOML file for --profile."
)
@click.option(
    "--seconds", default=120.0, show_default=True, type=click.FloatRange(5, 3600), help="Time limit."
)
@click.option("--streams", default=32, show_default=True, type=click.IntRange(2, 512), help="Most at a time.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, metavar="NAME")
def measure(url: str, model: str, out: str, seconds: float, streams: int, api_key_env: str) -> None:
    from sim_core.evidence.own import probe
    from sim_core.evidence.own.server import OpenAIServer
    from sim_core.scenario.profiles import to_toml

    server = OpenAIServer(url, model, os.environ.get(api_key_env, ""))
    found = probe.measure(
        server, model, most_streams=streams, longest=server.longest, seconds=seconds, progress=say
    )
    _write_text(to_toml(found.profile), out)
    emit(f"{out}: {probe.speed_words(found)}.\n{found.profile.source}")
    if not probe.is_reliable(found):
        say("Note: probes are predicted badly; the server may have been busy with other requests.")


def _bytes_of(path: str) -> bytes:
    """Return a file of measurements, not more of it than may be read."""
    from sim_core.evidence.own.formats.read import MAX_BYTES

    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScenarioError(f"{path[:100]!r} cannot be read: {reason}.") from None


def _write_text(text: str, path: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScenarioError(f"{path[:100]!r} cannot be written: {reason}.") from None


@cli.command("list")
@click.argument("kind", type=click.Choice(LISTED), metavar="|".join(LISTED))
@click.option("--format", "form", type=click.Choice(report.FORMATS), default="table", show_default=True)
def list_presets(kind: str, form: str) -> None:
    """List the presets of one kind by id."""
    rows = LISTS[kind]()
    if form == "json":
        emit(report.json_text(rows))
    elif form == "csv":
        emit(report.csv_text(rows))
    elif not rows:
        emit(f"No {kind} yet.")
    else:
        emit(report.table_text(rows, [key for key in report.columns_of(rows) if key not in LONG_COLUMNS]))


# What the commands print


def _report(summary: Mapping[str, Any], form: str) -> str:
    """Return one result as JSON, as `key,value` lines, or as tables."""
    if form == "json":
        return report.json_text(summary)
    if form == "csv":
        return report.csv_text([{"key": key, "value": value} for key, value in report.flat(summary).items()])
    return _tables(summary)


def _tables(summary: Mapping[str, Any]) -> str:
    """Return one result as text: the scenario, the latencies, then every other number."""
    rest = dict(summary)
    point = dict(rest.pop("point", None) or {})
    metrics = dict(rest.pop("metrics", None) or point.pop("metrics", {}))
    warnings = list(rest.pop("warnings", ()))
    trust = dict(rest.pop("trust", None) or {})
    reasons, _ = trust.pop("reasons", ()), trust.pop("evidence", "")
    warnings += reasons if trust.get("badge") != "validated region" else ()
    scenario = rest.pop("scenario", None)
    latencies = [{"latency": key} | metrics.pop(key) for key in LATENCIES if key in metrics]
    numbers = (
        report.flat(rest) | metrics | report.flat(point) | report.flat({"trust": trust} if trust else {})
    )
    blocks = [f"scenario  {to_query(Scenario(**scenario))}"] if scenario else []
    blocks += [report.table_text(latencies)] if latencies else []
    blocks.append(_lines(numbers))
    blocks += ["\n".join(f"Note: {warning}" for warning in warnings)] if warnings else []
    return "\n\n".join(blocks)


def _lines(values: Mapping[str, Any]) -> str:
    """Return keys and values, one line each."""
    numbers = report.flat(values)
    width = max(map(len, numbers))
    return "\n".join(f"{key:<{width}}  {report.cell(value)}" for key, value in numbers.items())


def _rows(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a DataFrame; counts that pandas turned into floats are whole again."""
    rows = [report.plain(row) for row in table.to_dict("records")]
    counts = {key for key in table if key.endswith("_n") or (key in FIELDS and FIELDS[key].kind is int)}
    for row in rows:
        row.update({key: int(row[key]) for key in counts if row[key] is not None})
    return rows


def _points(rows: list[dict[str, Any]], form: str, vary: Mapping[str, Any]) -> str:
    """Return the points of a sweep as JSON (metrics nested as `run` does), CSV or a table."""
    if form == "json":
        return report.json_text([_nested(row) for row in rows])
    if form == "csv":
        return report.csv_text(rows)
    keys = [key for key in rows[0] if key in (*FIELDS, LOAD) and (key != "requests" or key in vary)]
    reason = ["reason"] if any(row["reason"] for row in rows) else []
    return report.table_text(rows, [*keys, *FRONTIER_TABLE, *reason])


def _nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point with its metrics under one key, in the shape of `run`."""
    metrics = report.metrics_of(row, METRICS)
    moved = {*METRICS, *(f"{name}_{part}" for name in LATENCIES for part in STATISTICS)}
    rest = {key: value for key, value in row.items() if key not in moved}
    return rest | {"metrics": metrics}


def _models() -> list[dict[str, Any]]:
    return [
        {
            "id": model.id,
            "name": model.name,
            "family": model.family,
            "layers": model.layers,
            "total_params_b": model.total_params / 1e9,
            "active_params_b": model.active_params / 1e9,
            "kv_kb_per_token": model.kv_bytes_per_token() / 1e3,
            "weights": model.native_weight_dtype,
            "source": model.source,
        }
        for model in catalogue.models().values()
    ]


def _accelerators() -> list[dict[str, Any]]:
    keys = ("bf16_tflop_per_s", "fp8_tflop_per_s", "fp4_tflop_per_s", "hbm_gb_per_s", "hbm_gb")
    keys = ("id", "name", "vendor", "year", *keys, "link_gb_per_s", "tdp_w", "price_usd_per_hour", "source")
    return [{key: getattr(part, key) for key in keys} for part in catalogue.accelerators().values()]


def _workloads() -> list[dict[str, Any]]:
    from sim_core.traffic.draws import length_classes

    rows = []
    for name, item in catalogue.workloads().items():
        lengths = length_classes(Scenario(mix=name))[0]
        rows.append(
            {
                "id": name,
                "title": item.title,
                "prompt_tokens": round(lengths.prompt.mean, 1),
                "output_tokens": round(lengths.output.mean, 1),
                "source": item.source,
            }
        )
    return rows


def _scenarios() -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "title": item.title,
            "story": item.story,
            "expected": item.expected,
            "query": to_query(item.build()),
        }
        for name, item in ready_scenarios().items()
    ]


def _lessons() -> list[dict[str, Any]]:
    from sim_core.questions.teaching.lessons import as_dicts

    return as_dicts()


LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "models": _models,
    "accelerators": _accelerators,
    "workloads": _workloads,
    "scenarios": _scenarios,
    "lessons": _lessons,
}


# The way in


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 must not stop a result
    try:
        cli.main(arguments, prog_name="python -m sim_core", standalone_mode=False)
    except click.exceptions.Abort:
        return INTERRUPTED
    except (click.ClickException, ScenarioError) as error:
        return _fail(error.format_message() if isinstance(error, click.ClickException) else str(error))
    except MemoryError:
        return _fail("there is not enough memory for this; lower requests.")
    return 0


def _fail(message: str) -> int:
    """Say in one line what is wrong and return the exit status for it."""
    say(f"Error: {' '.join(message.split())}")
    return BAD_INPUT


def say(line: str) -> None:
    """Write a line to standard error, where there is one."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)
