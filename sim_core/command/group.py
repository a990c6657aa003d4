"""The command line: one group, to which each module adds its commands."""

from __future__ import annotations

import click

from sim_core import __version__
from sim_core.command.output import emit


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batchscope")
@click.pass_context
def cli(context: click.Context) -> None:
    """Simulate LLM serving: latency and throughput of a model on accelerators under traffic."""
    if context.invoked_subcommand is None:
        emit(context.get_help())
