"""The engines' and clients' own argument parsers, run by a Python that has them: what do they refuse?

`python engine_parsers.py TOOL < commands.json` reads a JSON list of argument lists and prints a JSON list of
what TOOL says to each, "" where it takes it. It imports nothing of this project, for the Python that runs it
has other packages: those of `requirements-parsers.txt`, or others.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import sys
from collections.abc import Callable
from typing import Any

Taker = Callable[[list[str]], Any]


def vllm() -> Taker:
    """Return what reads the arguments of `vllm serve`, and the settings that stand in JSON."""
    from vllm.config import SpeculativeConfig
    from vllm.config.speculative import SpeculativeMethod
    from vllm.engine.arg_utils import EngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())

    def take(words: list[str]) -> None:
        given = parser.parse_args(words)
        args = EngineArgs.from_cli_args(given)
        if args.eplb_config.num_redundant_experts and not args.enable_eplb:
            raise ValueError("num_redundant_experts is set but EPLB is not enabled")
        if args.enable_dbo and not args.all2all_backend.startswith(("deepep", "nixl")):
            raise ValueError(f"all2all backend {args.all2all_backend} does no microbatching")
        drafts = args.speculative_config or {}
        unknown = drafts.keys() - {field.name for field in dataclasses.fields(SpeculativeConfig)}
        if unknown or (drafts and drafts["method"] not in _choices(SpeculativeMethod)):
            raise ValueError(f"speculative config {drafts}")

    return take


def _choices(literal: Any) -> set[str]:
    """Return the values of a literal type, those of others within it, too."""
    parts = getattr(literal, "__args__", ())
    return {part for part in parts if isinstance(part, str)}.union(*map(_choices, parts))


def vllm_bench() -> Taker:
    """Return what reads the arguments of `vllm bench serve`."""
    from vllm.entrypoints.cli.benchmark.serve import BenchmarkServingSubcommand
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    BenchmarkServingSubcommand.add_cli_args(parser)
    return parser.parse_args


def sglang() -> Taker:
    """Return what reads the arguments of `sglang.launch_server`."""
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser.parse_args


def guidellm() -> Taker:
    """Return what reads the arguments of `guidellm`, up to where it would begin."""
    from guidellm.cli import cli

    async def begin(*args: object, **more: object) -> None:
        return None

    module = sys.modules["guidellm.cli.run"]
    module.entry.benchmark_generative_text = begin
    return lambda words: cli.main(words, standalone_mode=False)


def aiperf() -> Taker:
    """Return what reads the arguments of `aiperf` and makes the plan of its run."""
    from aiperf.cli_commands.profile import app
    from aiperf.config.flags.resolver import resolve_config
    from aiperf.config.loader import build_benchmark_plan

    def take(words: list[str]) -> None:
        _, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
        build_benchmark_plan(resolve_config(bound.arguments["cli_config"], None))

    return take


TOOLS: dict[str, Callable[[], Taker]] = {
    "vllm": vllm,
    "vllm-bench": vllm_bench,
    "sglang": sglang,
    "guidellm": guidellm,
    "aiperf": aiperf,
}


def refusal(take: Taker, words: list[str]) -> str:
    """Return what is said against some words; "" if they are taken."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            take(words)
    except SystemExit:
        return (said.getvalue().strip() or "refused").splitlines()[-1]
    except Exception as error:  # whatever a tool's own types raise
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    """Print what the tool says to the commands that are given."""
    with contextlib.redirect_stdout(sys.stderr):  # engines talk while they load
        take = TOOLS[sys.argv[1]]()
        found = [refusal(take, words) for words in json.load(sys.stdin)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
