"""What marks chosen and pinned points on the chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sim_core.view.drawing.figures import INK, Frame, Row
from sim_core.view.drawing.marks import scatter

LETTERS = "ABCD"  # of pinned points


def chosen_marks(chosen: Row | None, pins: Sequence[Row], frame: Frame) -> list[dict[str, Any]]:
    """Return a square around the chosen point, and a letter at each pinned one."""
    look = {"mode": "markers", "hoverinfo": "skip", "showlegend": False, "cliponaxis": False}
    found = []
    if chosen is not None and frame.drawable([chosen]):
        x, y = frame.place(chosen)
        square = {"symbol": "square-open", "size": 20, "color": INK, "line": {"width": 1.5, "color": INK}}
        found.append(scatter([x], [y], marker=square, **look))
    lettered = [(letter, row) for letter, row in zip(LETTERS, pins, strict=False) if frame.drawable([row])]
    if lettered:
        places = [frame.place(row) for _, row in lettered]
        words: dict[str, Any] = {
            "text": [f"<b>{letter}</b>" for letter, _ in lettered],
            "mode": "markers+text",
            "textposition": "bottom left",
        }
        found.append(
            scatter(
                [x for x, _ in places],
                [y for _, y in places],
                marker={"symbol": "cross", "size": 7, "color": INK},
                **(look | words),
            )
        )
    return found
