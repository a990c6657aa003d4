"""The Plan page's published answers: what others recommend for a stated question, and what we find."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import streamlit as st

from sim_core.questions.deployment.around.examples import AtLimits, Beside, answered_here, examples_sentence
from sim_core.questions.deployment.around.published import Example, examples
from sim_core.results import text as report
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing.words import duration, literal, number
from sim_core.view.parts import pieces
from sim_core.view.parts.actions import File
from sim_core.view.session import sweeps

HEADS = ("Layout", "Clients", "tok/s per device", "Mean TTFT", "Mean TPOT")
READING = (
    "Output tokens a second and device in a closed loop, with as many clients as keep the limits on the "
    "means; layouts and clients are those of a part of the devices that serves by itself. The present "
    "setting plays no part."
)
_found: Remembered[str, Beside] = Remembered(sweeps.REMEMBERED)


def show_examples() -> list[File]:
    """Show each published answer with ours; return them as files."""
    found = [_found.get(name) or _found.put(name, answered_here(each)) for name, each in examples().items()]
    pieces.say_more(examples_sentence(found))
    for each in found:
        _show(each)
    st.caption(READING)
    return _files(found)


def _show(each: Beside) -> None:
    example = each.example
    caption = f"{example.id.upper()}: {example.title}, {number(example.devices)} devices, {_limits(example)}"
    lines = [(f"{one.family}, {who}", _cells(one)) for who, one in _rows(each)]
    pieces.table(caption, HEADS, lines, scroll=True)
    kind = "Measured" if example.measured else "Predicted"
    st.caption(literal(f"{kind}: {example.source}. {example.notes}"))


def _limits(example: Example) -> str:
    limits = {"TTFT": example.ttft_ms, "TPOT": example.tpot_ms, "request": example.request_ms}
    return ", ".join(f"{name} ≤ {duration(value)}" for name, value in limits.items() if value is not None)


def _rows(each: Beside) -> Iterator[tuple[str, AtLimits]]:
    """Yield who says what: the source, we of its layout, and we of our best where that is another one."""
    yield from (("published", one) for one in each.stated)
    yield from (("the same layout here", one) for one in each.same)
    yield from (("best here", one) for one in each.best if one not in each.same)


def _cells(one: AtLimits) -> list[str]:
    latencies = (duration(value) for value in (one.ttft_ms, one.tpot_ms))
    return [
        one.layout or "not stated",
        number(one.clients) if one.clients else "",
        number(one.tok_per_s_per_device),
        *latencies,
    ]


def _files(found: Sequence[Beside]) -> list[File]:
    def rows() -> Sequence[Mapping[str, object]]:
        return [
            {"example": each.example.id, "from": who} | one._asdict()
            for each in found
            for who, one in _rows(each)
        ]

    return [
        File(
            "CSV, published answers",
            "batchscope-published-answers.csv",
            "text/csv",
            lambda: report.csv_text(rows()),
            rows,
        )
    ]
