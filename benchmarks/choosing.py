"""How often predictions would have chosen the layout that was measured best; development only.

A cell is one accelerator, precision and pair of lengths, and the fewest tokens per second that each user must
get. Its candidates are the layouts that were measured there: engine, pools, ranks, experts, speculation. The
model is not told at how many clients a layout was run: it sweeps them itself, and ranks layouts by the output
tokens per second and device that they reach within the limit. A layout without a measured run within the
limit counts as a total loss, though its sources measured only a few numbers of clients: `within` leaves such
layouts out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.printed import rounded
from benchmarks.ranks import MEASURED, NOT_SHARED
from benchmarks.runs import Run
from benchmarks.speculation import Told, drafts_of, length_of, simulated, speculating, told_by_gaps
from sim_core.evidence.published import PublishedPoint

LIMITS = (10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0)  # tokens per second and user
SHOWN = 3  # layouts that a search shows first
SAID_OF_RUNS = (*NOT_SHARED, *MEASURED, "note")  # and not of their layout
FEWEST_LAYOUTS = SHOWN + 1  # in a cell that can tell anything
MOST_CLIENTS = 16384
REQUESTS_A_CLIENT = 3


class Layout(NamedTuple):
    """A measured layout of a cell: its runs as pairs of tok/s a user and tok/s a device, and one of them."""

    point: PublishedPoint
    method: str
    measured: tuple[tuple[float, float], ...]

    def best(self, limit: float) -> float:
        """Return the most tokens per second and device that were measured within a limit; 0 for none."""
        return max((rate for pace, rate in self.measured if pace >= limit), default=0.0)


class Swept(NamedTuple):
    """What a layout is predicted to give by clients: tok/s a user, falling, and tok/s a device."""

    pace: np.ndarray
    rate: np.ndarray

    def best(self, limit: float) -> float:
        """Return the most tokens per second and device within a limit; between clients that were simulated
        both are taken to change evenly."""
        inside = self.rate[self.pace >= limit]
        found = float(inside.max()) if inside.size else 0.0
        falls = np.flatnonzero((self.pace[:-1] >= limit) & (self.pace[1:] < limit))
        for place in falls:
            share = (self.pace[place] - limit) / (self.pace[place] - self.pace[place + 1])
            found = max(found, float(self.rate[place] + share * (self.rate[place + 1] - self.rate[place])))
        return found


def layouts_by_cell(runs: Sequence[Run]) -> dict[tuple[Any, ...], list[Layout]]:
    """Return the measured layouts of each accelerator, precision and pair of lengths.

    One that some of its runs state, and others by their recipe alone, is one layout.
    """
    found: dict[tuple[Any, ...], dict[tuple[Any, ...], list[PublishedPoint]]] = {}
    for item in runs:
        point = item.point
        cell = (point.accelerator, point.precision, point.prompt_tokens, point.output_tokens)
        bare = point._replace(clients=0)
        key = tuple(value for name, value in bare._asdict().items() if name not in SAID_OF_RUNS)
        found.setdefault(cell, {}).setdefault((*key, item.method), []).append(point)
    return {
        cell: [Layout(same[0], key[-1], tuple(map(_paced, same))) for key, same in layouts.items()]
        for cell, layouts in found.items()
    }


def _paced(point: PublishedPoint) -> tuple[float, float]:
    """Return the tokens per second of one user and of one device in a run."""
    request_s = 1e-3 * (point.ttft_ms + (point.output_tokens - 1) * point.tpot_ms)
    return 1e3 / point.tpot_ms, point.clients * point.output_tokens / request_s / point.devices


def sweep(layout: Layout, told: Told, lowest: float = LIMITS[0]) -> Swept:
    """Return what a layout is predicted to give from one client on, doubled until nobody gets `lowest`."""
    pace, rate, clients = [], [], 1
    drafts = drafts_of(layout.point) if layout.method else 0
    length = length_of(layout.point, drafts, told=told) if drafts else math.nan
    how = speculating(drafts, length) if drafts else {}
    while clients <= MOST_CLIENTS:
        point = layout.point._replace(clients=clients)
        count = {"requests": REQUESTS_A_CLIENT * clients, "max_batch": clients}
        found = simulated(point, **how, **count)
        if math.isnan(found.tpot_ms):
            break
        pace.append(1e3 / found.tpot_ms)
        rate.append(found.tok_per_s / point.devices)
        if pace[-1] < lowest:
            break
        clients *= 2
    return Swept(np.array(pace), np.array(rate))


def choice_scores(runs: Sequence[Run], limits: Iterable[float] = LIMITS) -> dict[str, Any]:
    """Return how well the model chooses layouts.

    Returns
    -------
    dict
        ``n`` cells with more than `SHOWN` layouts; in how many [%] the measured best is the model's ``first``
        and among its first three (``top_3``); ``loss_median`` and ``loss_mean`` of its first choice, and
        ``loss_of_3_mean`` of the best of its three [%]. ``within``: the same among layouts that were measured
        within the limit.
    """
    told, rows = told_by_gaps(runs), []
    for layouts in layouts_by_cell(runs).values():
        if len(layouts) >= FEWEST_LAYOUTS:
            swept = [sweep(layout, told) for layout in layouts]
            for limit in limits:
                rows.append(
                    (
                        np.array([layout.best(limit) for layout in layouts]),
                        np.array([each.best(limit) for each in swept]),
                    )
                )
    every = [_chosen(seen, ours) for seen, ours in rows if seen.max() > 0]
    within = [
        _chosen(seen[seen > 0], ours[seen > 0]) for seen, ours in rows if (seen > 0).sum() >= FEWEST_LAYOUTS
    ]
    return {**_summary(every), "within": _summary(within)}


class Chosen(NamedTuple):
    """One cell: the place of the measured best in the model's order, and what the model's choices lose."""

    place: int
    loss: float
    loss_of_shown: float


def _chosen(seen: np.ndarray, ours: np.ndarray) -> Chosen:
    """Return how the model's order of layouts, by `ours`, does on what was `seen`."""
    order = np.argsort(-ours, kind="stable")
    place = int(np.flatnonzero(order == seen.argmax())[0])
    losses = 1 - seen[order] / seen.max()
    return Chosen(place, float(losses[0]), float(losses[:SHOWN].min()))


def _summary(cells: Sequence[Chosen]) -> dict[str, float | None]:
    if not cells:
        return {"n": 0}
    place, loss, of_shown = map(np.array, zip(*cells, strict=True))
    shares = {
        "top_3": (place < SHOWN).mean(), "first": (place == 0).mean(), "loss_median": np.median(loss),
        "loss_mean": loss.mean(), "loss_of_3_mean": of_shown.mean(),
    }  # fmt: skip
    return {"n": len(cells)} | {name: rounded(100 * float(share)) for name, share in shares.items()}


def choice_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the scores of choosing as a table to read."""
    names = ("top_3", "first", "loss_median", "loss_mean", "loss_of_3_mean")
    lines = [f"{'choosing layouts, %':<28}{'n':>5}" + "".join(f"{name:>16}" for name in names)]
    for title, table in (("all layouts", found), ("measured within the limit", found["within"])):
        if table["n"]:
            lines.append(f"{title:<28}{table['n']:>5}" + "".join(f"{table[name]:>16}" for name in names))
    return lines
