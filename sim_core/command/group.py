"""The command line: one group, to which each module adds its commands."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end the process while something is worked out of which nothing is kept.

    Compiled code runs on to its end before Python hears of the signal, which may be minutes.
    """
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not heard or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
