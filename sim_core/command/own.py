"""`calibrate` and `measure`: an engine of one's own, from files or from a running server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sim_core.command.files import try_place, write_text
from sim_core.command.group import cli
from sim_core.command.inputs import SCENARIO_HELP, SET_HELP, Inputs
from sim_core.command.model_files import model_option
from sim_core.command.output import emit, lines_of, say_on_stderr
from sim_core.fields.errors import ScenarioError
from sim_core.results import text as report

if TYPE_CHECKING:
    from sim_core.evidence.own.formats.points import Upload
    from sim_core.evidence.own.server import OpenAIServer

CALIBRATE_HELP = f"""Fit an engine profile to files of your own measurements, and print how well it fits.

{SCENARIO_HELP} It says which model, device, layout and engine were measured.

FILES are results of benchmark tools, a CSV of requests or of engine steps; they are recognised by content."""
MEASURE_HELP = """Measure a running OpenAI-compatible server from outside, and write an engine profile.

URL is its address, such as http://localhost:8000/v1. In about two minutes some hundred requests are sent:
prompts of several lengths one by one, and some streams at once. Ctrl-C ends early and keeps what was
measured. An API key is read from the environment."""
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


@cli.command("calibrate", help=CALIBRATE_HELP)
@click.argument("scenario")
@click.argument("files", nargs=-1, required=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=SET_HELP)
@model_option
@click.option("--out", metavar="FILE", help="Write the profile, a TOML file for --profile.")
@click.option("--format", "form", type=click.Choice(report.FORMATS), default="table", show_default=True)
def print_calibration(
    scenario: str, files: tuple[str, ...], settings: tuple[str, ...], out: str, form: str
) -> None:
    asked = Inputs(scenario, settings, "")
    if out:
        try_place(out)
    from sim_core.evidence.own import engine as own_engine
    from sim_core.evidence.own.served import engine_line, on_their_engine
    from sim_core.scenario.profiles import profile_toml

    read = _readable(files)
    for note in (f"{upload.name}: {note}" for upload in read for note in upload.notes):
        say_on_stderr(f"Note: {note}")
    base = on_their_engine(read, asked.scenario, asked.given)
    if line := engine_line(read, base):
        say_on_stderr(f"Note: {line}")
    engine = own_engine.calibrate(read, base)
    rows, summary = own_engine.rows(engine), own_engine.summary(engine)
    if form == "csv":
        emit(report.csv_text(rows))
    elif form == "json":
        emit(report.json_text(summary | {"points": rows}))
    else:
        blocks = [report.table_text(rows, CALIBRATE_TABLE)] if rows else []
        emit("\n\n".join([*blocks, lines_of(summary)]))
    if engine.remark:
        say_on_stderr(f"Note: {engine.remark}")
    if out:
        write_text(profile_toml(engine.profile), out)


@cli.command("measure", help=MEASURE_HELP)
@click.argument("url")
@click.option("--model", required=True, help="The model's name, as the server lists it.")
@click.option(
    "--out", required=True, metavar="FILE", help="Where the profile goes, a TOML file for --profile."
)
@click.option(
    "--seconds",
    default=120.0,
    show_default=True,
    type=click.FloatRange(5, 3600),
    help="Time limit of everything.",
)
@click.option("--streams", default=32, show_default=True, type=click.IntRange(2, 512), help="Most at a time.")
@click.option("--engine", default="", metavar="NAME", help="The server's engine; by default as it says.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, metavar="NAME")
def write_measured_profile(
    url: str, model: str, out: str, seconds: float, streams: int, engine: str, api_key_env: str
) -> None:
    from sim_core.catalogue.reader import check_id
    from sim_core.evidence.own import probe
    from sim_core.evidence.own.server import OpenAIServer
    from sim_core.scenario.profiles import profile_toml

    if engine:
        check_id("engines", engine)
    try_place(out)
    server = OpenAIServer(url, model, os.environ.get(api_key_env, ""), seconds=seconds)
    engine = engine or _engine_of(server)
    found = probe.measure_server(
        server, model, most_streams=streams, longest=server.longest, seconds=seconds, progress=say_on_stderr
    )
    emit(f"{out}: {probe.speed_words(found)}.\n{found.profile.source}")
    for note in server.notes:
        say_on_stderr(f"Note: {note}")
    if not probe.is_reliable(found):
        say_on_stderr("Note: probes are predicted badly; the server may have been busy with other requests.")
    _write_or_print(profile_toml(replace(found.profile, engine=engine)), out)


def _engine_of(server: OpenAIServer) -> str:
    """Return the engine that a server is, by what it says, and say so."""
    from sim_core.catalogue.engines import engine

    found = server.served()
    if found.engine:
        say_on_stderr(f"Note: the server says {engine(found.engine).name} ({found.word}).")
    return found.engine


def _write_or_print(profile: str, out: str) -> None:
    """Write a profile that took minutes to measure; print it where it cannot be written."""
    try:
        write_text(profile, out)
    except ScenarioError:
        emit(profile)
        raise


def _readable(files: Sequence[str]) -> list[Upload]:
    """Return the measurements of the files that can be read, naming the others; the error if none can."""
    from sim_core.evidence.own.formats.read import read_upload

    found, refused = [], []
    for path in files:
        try:
            found.append(read_upload(_bytes_of(path), Path(path).name))
        except ScenarioError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    for reason in refused:
        say_on_stderr(f"Note: a file is left out: {reason}")
    return found


def _bytes_of(path: str) -> bytes:
    """Return a file of measurements, not more of it than may be read."""
    from sim_core.evidence.own.formats.read import MAX_BYTES

    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScenarioError(f"{path[:100]!r} cannot be read: {reason}.") from None
