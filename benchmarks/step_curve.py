"""How far steps of DeepSeek-V4-Flash are from a published curve, without fitting; development only.

vLLM times steps when it starts, to choose how many drafts pay: a verification by its tokens, a pass of drafts
by the requests that it drafts for. Nothing is scheduled, sampled or sent meanwhile, so what each sequence
takes of the host is left out of both.

References
----------
vllm-project/vllm-project.github.io#297 (2026-07-31), the command of the run: `--tensor-parallel-size 4
--enable-expert-parallel --kv-cache-dtype fp8 --max-model-len 8192 --max-num-seqs 256`,
`"max_cudagraph_capture_size": 1024`, DSpark with `"num_speculative_tokens": 7`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.printed import Predicted, cell, error_table, left_out_lines
from benchmarks.tables import LeftOut, Row, read_rows
from sim_core.price.steps import shapes
from sim_core.scenario.scenario import Scenario

STEP_CURVE = "step_cost_curve_dsv4_flash.csv"
CONTEXT_TOKENS = 8192
DRAFTS = 7
GRAPH_TOKENS = 1025  # largest step with a graph; the figure is read to a token
LARGEST = 65_536
VERIFY, BEYOND, DRAFT = "verify", "verify_beyond_graphs", "draft"


def step_curve_scores(folder: Path) -> dict[str, Any]:
    """Return the errors of a folder's curve: verifications within CUDA graphs and beyond, and drafts.

    Returns
    -------
    dict
        ``verify``, ``verify_beyond_graphs`` and ``draft`` hold errors in percent (`error_table`); ``rows``
        counts those used, ``left_out`` the others by reason.
    """
    left_out: Counter[str] = Counter()
    found = read_steps(folder / STEP_CURVE, left_out)
    tables = {
        name: error_table(np.array([step.predicted / step.measured for step in found if step.what == name]))
        for name in (VERIFY, BEYOND, DRAFT)
    }
    return {**tables, "rows": len(found), "left_out": dict(left_out)}


def read_steps(path: Path, left_out: Counter[str]) -> list[Predicted]:
    """Return the steps of a curve, by the part of it that they are of; count other rows by reason."""
    return read_rows(path, left_out, _step)


def _step(row: Row, number: int) -> Predicted:
    """Return which part of the curve a row is of, and what its step takes as predicted and measured. [ms]"""
    kind, size, measured_ms = row.text("kind").lower(), row.count("x"), row.above_zero("ms")
    if not measured_ms > 0:
        raise LeftOut("no time")
    if size > LARGEST:
        raise LeftOut("a step of more tokens than any engine takes")
    if kind.startswith("verify"):
        return Predicted(BEYOND if size > GRAPH_TOKENS else VERIFY, verify_ms(size), measured_ms)
    if kind.startswith("draft"):
        return Predicted(DRAFT, draft_ms(size), measured_ms)
    raise LeftOut(f"neither verifies nor drafts: {kind or 'no kind'}")


def verify_ms(tokens: int) -> float:
    """Return what a step takes that verifies so many tokens, eight of each request. [ms]"""
    graphs = "on" if tokens <= GRAPH_TOKENS else "off"
    steps = shapes.decode(tokens / (1 + DRAFTS), CONTEXT_TOKENS)
    found = shapes.seconds(_pricing("ngram", graphs), steps)
    return 1e3 * float(sum(sum(piece.values()) for name, piece in found.items() if name != "drafts"))


def draft_ms(requests: int) -> float:
    """Return what drafting seven tokens for each of so many requests takes. [ms]"""
    found = shapes.seconds(_pricing("parallel", "on"), shapes.decode(requests, CONTEXT_TOKENS))
    return 1e3 * float(sum(found["drafts"].values()))


@cache
def _pricing(draft: str, graphs: str) -> shapes.Pricing:
    """Return what prices the run's steps; the host does nothing for a sequence."""
    return shapes.pricing_of(
        Scenario(
            model="deepseek-v4-flash",
            accelerator="b300",
            tensor_parallel=4,
            expert_parallel=4,
            weight_dtype="native",
            kv_dtype="fp8",
            engine="vllm",
            cuda_graphs=graphs,
            spec_tokens=DRAFTS,
            acceptance_length=1.0,  # prices know none
            draft=draft,
            constants="sequence:0,draft:0,draft_sequence:0",
        )
    )


def step_curve_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the scores as a table to read."""
    columns = ("n", "median", "mean", "within_20", "bias")
    lines = [f"{'steps of DeepSeek-V4-Flash':<30}" + "".join(f"{name:>11}" for name in columns)]
    for name in (VERIFY, BEYOND, DRAFT):
        lines.append(f"{name:<30}" + "".join(f"{cell(found[name][key]):>11}" for key in columns))
    return [*lines, "", *left_out_lines(found["left_out"], "rows of the curve")]
