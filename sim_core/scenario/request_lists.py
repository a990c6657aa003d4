"""A small set of requests as one line of text, so that a link can carry it.

`ARRIVAL_S:PROMPT:OUTPUT`, comma-separated; `xCOUNT` behind an entry repeats it. `0:1000:200x8,0.5:4000:50`
are eight requests at the start and one long prompt half a second later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

from sim_core.fields.errors import ScenarioError, shown
from sim_core.scenario.lengths import MOST_TOKENS

REQUEST_LIST_EXAMPLE = "0:1000:200x8,0.5:4000:50"
MAX_REQUESTS = 1_000
MAX_ARRIVAL_S = 1e6
_ENTRY = re.compile(
    r"(?P<arrival>\d{1,9}(?:\.\d{1,9})?|\.\d{1,9}):(?P<prompt>\d{1,7}):(?P<output>\d{1,7})(?:x(?P<count>\d{1,4}))?",
    re.ASCII,
)


@lru_cache(maxsize=64)
def parse_request_list(text: str) -> tuple[tuple[float, int, int], ...]:
    """Return the requests of a list as rows of arrival [s], prompt and answer tokens, sorted by arrival.

    Those of one moment keep their order.

    Raises
    ------
    ScenarioError
        If an entry has another form, a length outside its limits, or there are more than 1,000 requests.
    """
    rows: list[tuple[float, int, int]] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        arrival_s, prompt, output, count = _parse(entry)
        if len(rows) + count > MAX_REQUESTS:
            raise ScenarioError(
                f"request_list has more than {MAX_REQUESTS:,} requests, the limit. "
                "Keep fewer, or give a file with --trace."
            )
        rows += [(arrival_s, prompt, output)] * count
    if not rows:
        raise ScenarioError(f"request_list holds no request; write one such as {REQUEST_LIST_EXAMPLE!r}.")
    return tuple(sorted(rows, key=lambda row: row[0]))


def _parse(entry: str) -> tuple[float, int, int, int]:
    """Return arrival, prompt, output and count of one entry."""
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ScenarioError(
            f"request_list has the entry {shown(entry)}; write ARRIVAL_S:PROMPT:OUTPUT, "
            f"such as {REQUEST_LIST_EXAMPLE!r}."
        )
    arrival_s, prompt, output = float(match["arrival"]), int(match["prompt"]), int(match["output"])
    count = int(match["count"] or 1)
    if arrival_s > MAX_ARRIVAL_S:
        raise ScenarioError(
            f"request_list has an arrival at {arrival_s:,.15g} s; the limit is {MAX_ARRIVAL_S:,.0f} s."
        )
    for name, tokens in (("prompt", prompt), ("answer", output)):
        if not 1 <= tokens <= MOST_TOKENS:
            raise ScenarioError(
                f"request_list has a {name} of {tokens:,} tokens; it must lie between 1 and {MOST_TOKENS:,}."
            )
    if count < 1:
        raise ScenarioError(f"request_list repeats {shown(entry)} no time; leave the entry out.")
    return arrival_s, prompt, output, count


def write_request_list(rows: Iterable[tuple[float, int, int]]) -> str:
    """Return requests as a list; arrivals keep six decimals, equal neighbours become one entry.

    Examples
    --------
    >>> write_request_list([(0, 1000, 200), (0, 1000, 200), (0.5, 4000, 50)])
    '0:1000:200x2,0.5:4000:50'
    """
    entries = (f"{_seconds(arrival_s)}:{int(prompt)}:{int(output)}" for arrival_s, prompt, output in rows)
    counted = ((entry, sum(1 for _ in group)) for entry, group in groupby(entries))
    return ",".join(entry if count == 1 else f"{entry}x{count}" for entry, count in counted)


def _seconds(value: float) -> str:
    return f"{float(value):.6f}".rstrip("0").rstrip(".")
