"""The command line: `python -m sim_core run|frontier|capacity|shift|...`, the product without a browser.

Exit status 0, or 2 with one line on standard error for input that cannot be used.
"""

from __future__ import annotations

import sys

import click

from sim_core.command import (  # noqa: F401  (they add their commands)
    lists,
    own,
    plan,
    shift,
    simulate,
    sweep,
)
from sim_core.command.group import cli
from sim_core.command.output import say_on_stderr
from sim_core.fields.errors import ScenarioError

BAD_INPUT = 2
INTERRUPTED = 130


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
    say_on_stderr(f"Error: {' '.join(message.split())}")
    return BAD_INPUT
