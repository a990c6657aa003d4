"""What is said of a chosen point: what binds it, and how it stands to the limits."""

from __future__ import annotations

import math

from sim_core.view.drawing.figures import LIMITS, Row, lines_of
from sim_core.view.drawing.verdicts import Limits, verdict
from sim_core.view.drawing.words import number, percent

BECAUSE = {  # what a limit means, and what follows for more load
    "weights": "A step reads all weights, however few requests share it: more requests cost it little.",
    "kv": "A step reads the KV cache of all its requests: more of them, or longer ones, slow it down.",
    "compute": "The arithmetic units are busy: more tokens in a step take as much longer as they are more.",
    "communication": "Devices wait for one another's partial sums: fewer devices a group would wait less.",
    "all_to_all": "Tokens travel to the devices of their experts and back.",
    "lockstep": "All ranks wait for the one with most to do.",
    "bubbles": "A stage waits while others have what it needs: more requests at once fill the stages.",
    "fixed": "Latency that every step has, whatever is in it: larger steps share it.",
    "measured": "The step times are measured, and are not split into parts.",
    "queueing": "Requests wait for a place in the batch: a higher batch limit or more replicas let them in.",
    "kv_capacity": "Requests wait for room in the KV cache: more memory or a smaller KV format lets them in.",
    "token_budget": "Steps are as large as the token budget lets them be.",
}


def why_words(row: Row, limits: Limits) -> str:
    """Return why a point is where it is: what binds it, where the time goes, and its limits."""
    limit = row["limit"]
    text = f"What limits it is {LIMITS.get(limit, ('other things',))[0]}. {BECAUSE.get(limit, '')}"
    batch = row.get("mean_batch", math.nan)
    running = f"{number(batch)} requests run at a time. " if math.isfinite(batch) else ""
    stand = "; ".join(lines_of(verdict({"on_frontier": False} | dict(row), limits)))
    return f"{text.strip()} {_shares(row)}{running}It is {stand}.".replace("It is breaks", "It breaks")


def _shares(row: Row) -> str:
    """Return where the time of the steps goes, the largest parts of it."""
    shares = {name: row.get(f"share_{name}", math.nan) for name in LIMITS}
    known = {name: share for name, share in shares.items() if share >= 0.05}
    largest = sorted(known, key=known.__getitem__, reverse=True)[:3]
    words = ", ".join(f"{LIMITS[name][0]} {percent(known[name])}" for name in largest)
    return f"Time of its steps: {words}. " if words and largest != ["measured"] else ""
