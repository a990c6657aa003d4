"""`run`, `frontier` and `capacity`: one scenario, many, and the highest rate within limits."""

from __future__ import annotations

from typing import Any

import click

from sim_core.command.files import try_place, write_csv
from sim_core.command.group import cli, ended_by_ctrl_c
from sim_core.command.inputs import (
    SCENARIO_HELP,
    VARY_HELP,
    Inputs,
    scenario_options,
    trace_option,
    variations,
)
from sim_core.command.output import (
    emit,
    nested,
    points_text,
    report_text,
    rows_of_table,
    say_on_stderr,
    time_words,
)
from sim_core.fields.texts import counted

LONG_S = 30.0  # that a run may take before it is said


@cli.command("run", help=f"Simulate one scenario and print its metrics.\n\n{SCENARIO_HELP}")
@scenario_options
@trace_option
@click.option("--requests-out", metavar="FILE", help="Write one CSV row per request.")
@click.option("--steps-out", metavar="FILE", help="Write one CSV row per run of equal engine steps.")
def print_run(form: str, requests_out: str, steps_out: str, **source: Any) -> None:
    inputs = Inputs(**source)
    for path in filter(None, (requests_out, steps_out)):
        try_place(path)
    from sim_core.engine import run as simulator  # after the inputs: a typing error is answered at once
    from sim_core.evidence import trust
    from sim_core.results.metrics import summarize

    _say_if_long(inputs, bool(steps_out))
    with ended_by_ctrl_c():
        result = simulator.run(
            inputs.scenario,
            trace=inputs.trace,
            profile=inputs.profile,
            itl_max=bool(requests_out),
            log=bool(steps_out),
        )
        requests = result.requests()
        summary = dict(summarize(requests, inputs.scenario))
        load_frac = _load_frac(inputs)
    summary["warnings"] = [*inputs.notes, *summary.get("warnings", ())]
    if summary["saturated"] and load_frac:
        summary["warnings"].append(_what_holds(inputs.scenario.arrival_per_s / load_frac))
    found = trust.trust(inputs.scenario, profile=inputs.profile, trace=inputs.trace, load_frac=load_frac)
    summary["trust"] = found.as_dict()
    emit(report_text(summary, form))
    if requests_out:
        write_csv(requests, requests_out)
    if steps_out:
        write_csv(result.steps(), steps_out)


def _say_if_long(inputs: Inputs, log: bool) -> None:
    """Say beforehand where a run may take long, and how to end it."""
    from sim_core.engine.work import requests_of, seconds_of_run

    about_s = seconds_of_run(inputs.scenario, inputs.trace, log)
    if about_s > LONG_S:
        run = f"this run of {counted(requests_of(inputs.scenario, inputs.trace), 'request')}"
        say_on_stderr(
            f"Note: {run} may take some {time_words(about_s)} by an estimate. Ctrl-C ends it; fewer "
            "`requests` take less."
        )


def _load_frac(inputs: Inputs) -> float | None:
    """Return the load of an open loop, which runs the engine once or twice; other traffic has none."""
    from sim_core.sweep.saturation import saturation_per_s

    scenario = inputs.scenario
    if scenario.arrivals not in ("poisson", "gamma"):
        return None
    return scenario.arrival_per_s / saturation_per_s(scenario, inputs.trace, inputs.profile)


def _what_holds(saturation_per_s: float) -> str:
    return (
        f"The engine keeps up with {saturation_per_s:.4g} requests/s at most; `capacity` finds the highest "
        "rate within the limits."
    )


@cli.command("frontier", help=f"Simulate many variations and print their Pareto frontier.\n\n{SCENARIO_HELP}")
@scenario_options
@trace_option
@click.option("--vary", "varied", multiple=True, metavar="KEY=V1,V2,...", help=VARY_HELP)
def print_frontier(form: str, varied: tuple[str, ...], **source: Any) -> None:
    inputs = Inputs(**source)
    options = {"vary": variations(varied)} if varied else {}
    from sim_core import frontier as sweep
    from sim_core.evidence import trust

    given: dict[str, Any] = {"trace": inputs.trace, "profile": inputs.profile}
    with ended_by_ctrl_c():
        table = sweep(inputs.scenario, **given, **options)
    for note in inputs.notes:
        say_on_stderr(f"Note: {note}")
    rows = [row | trust.columns(inputs.scenario, row, **given) for row in rows_of_table(table)]
    emit(points_text(rows, form, options.get("vary", {})))


def _own_best(inputs: Inputs) -> dict[str, Any] | None:
    """Return the best number of clients, or batch limit, of traffic that has no rate; None if none does."""
    from sim_core.sweep.capacity import Y, best_within
    from sim_core.sweep.points import sweep_key

    best, key = best_within(inputs.scenario, profile=inputs.profile), sweep_key(inputs.scenario)
    return None if best is None else {"arrivals": inputs.scenario.arrivals, key: best[key], Y: best[Y]}


@cli.command(
    "capacity",
    help="Find the highest stable request rate within the latency limits, and between which rates five seeds "
    f"find it.\n\n{SCENARIO_HELP}",
)
@scenario_options
def print_capacity(form: str, **source: Any) -> None:
    inputs = Inputs(**source)
    from sim_core import capacity as search
    from sim_core.evidence import trust
    from sim_core.sweep.capacity import open_loop
    from sim_core.sweep.ranges import SEEDS

    with ended_by_ctrl_c():
        found = dict(search(inputs.scenario, profile=inputs.profile, seeds=SEEDS))
    asked = open_loop(inputs.scenario)
    load_frac = found["arrival_per_s"] / found["saturation_per_s"] if found["saturation_per_s"] else None
    found["trust"] = trust.trust(asked, profile=inputs.profile, load_frac=load_frac).as_dict()
    if found["point"] is not None:
        found["point"] = nested(found["point"])
    if asked.arrivals != inputs.scenario.arrivals:
        found["own_arrivals"] = _own_best(inputs)
    emit(report_text(found, form))
