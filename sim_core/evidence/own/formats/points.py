"""What a file of measurements holds: points, requests, steps; and how numbers are read from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.traffic.requests import Requests

MAX_ROWS = 200_000
MAX_POINTS = 200
MAX_NOTES = 20
MOST_FAILED = 0.1  # share of requests above which those that succeeded met another load than the one sent
NEARLY_EQUAL = 0.1  # variation of lengths that a tool asks to be equal: engines and tokenizers vary them
LARGEST = 1e12
MOST_DIGITS = 40
NAN = math.nan
MS_OF = {  # by what tools call a unit of time, in small letters
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1e3),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), 1.0),
    **dict.fromkeys(("us", "\u00b5s", "\u03bcs", "usec", "usecs", "microsecond", "microseconds"), 1e-3),
    **dict.fromkeys(("ns", "nsec", "nsecs", "nanosecond", "nanoseconds"), 1e-6),
}
REQUEST_COLUMNS = (
    "arrival_s",
    "prompt_tokens",
    "output_tokens",
    "ttft_ms",
    "e2e_ms",
)  # of a CSV, one row each


class OwnPoint(NamedTuple):
    """One measured operating point; a number that the file does not give is NaN, a count 0.

    Attributes
    ----------
    arrivals : str
        As in a scenario; empty where the file does not say how requests were sent.
    max_open : int
        Cap on open requests beside a rate, or on requests sent all at once; 0 is none.
    ramp_per_s : tuple of float
        Rates at even steps from the first request to the last, where the rate changes; else empty.
    prompt_cv, output_cv : float
        Variation of the lengths; NaN where the file does not tell, 0 where they are known to be equal.
    statistic : str
        Whether latencies are means or medians.
    rows : Requests or None
        The very requests, where the file holds them.
    left_out : str
        Why the point is shown but is no evidence, as a sentence; empty where it is.
    notes : tuple of str
        What else must be known of it: failed requests, figures left out, what was assumed.
    at_once_tokens : float
        Tokens that come in one gap of its stream, by its means, where those are several.
    """

    name: str
    tool: str
    arrivals: str = ""
    concurrency: int = 0
    arrival_per_s: float = NAN
    arrival_cv: float = 1.0
    requests: int = 0
    prompt_tokens: float = NAN
    output_tokens: float = NAN
    prompt_cv: float = NAN
    output_cv: float = NAN
    ttft_ms: float = NAN
    tpot_ms: float = NAN
    itl_ms: float = NAN
    e2e_ms: float = NAN
    output_tok_per_s: float = NAN
    request_per_s: float = NAN
    statistic: str = "mean"
    rows: Requests | None = None
    max_open: int = 0
    ramp_per_s: tuple[float, ...] = ()
    left_out: str = ""
    notes: tuple[str, ...] = ()
    at_once_tokens: float = NAN


class OwnSteps(NamedTuple):
    """Engine steps: new tokens, the sum of the decodes' contexts, the prompts' pairs, and the time."""

    tokens: np.ndarray
    decode_context: np.ndarray
    prefill_pairs: np.ndarray
    time_ms: np.ndarray


class Upload(NamedTuple):
    """What a file holds, and in `notes` what of it was left out or assumed.

    `engine` is the id of the engine that served, and `engine_word` what in the file says so; else both are
    empty.
    """

    name: str
    tool: str
    points: tuple[OwnPoint, ...]
    steps: OwnSteps | None
    notes: tuple[str, ...]
    engine: str = ""
    engine_word: str = ""


class Content(NamedTuple):
    """A file's content as readers see it: its text, and its JSON objects or its CSV's titles."""

    name: str
    text: str
    entries: list[dict[str, Any]]
    heads: list[str]

    @property
    def first(self) -> dict[str, Any]:
        """The first JSON object; empty in other files."""
        return self.entries[0] if self.entries else {}


class Format(NamedTuple):
    """One kind of file: how it is called, known by its content, and read.

    `title` is a line of Markdown for the list of what can be uploaded: the tool, a colon, its file.
    `holds_runs` says that an entry is a run, and not a request. `engine` is the id of the engine whose own
    benchmark the tool is.
    """

    tool: str
    title: str
    knows: Callable[[Content], bool]
    read: Callable[[Content], Upload]
    holds_runs: bool = True
    engine: str = ""


def finished(name: str, tool: str, points: list[OwnPoint], notes: list[str]) -> Upload:
    """Return the upload of the points that say something; without any, the file is refused."""
    useful = [point for point in points if says_something(point)]
    if not useful:
        said = [*notes, *(note for point in points for note in point.notes)]
        why = f" {said[0]}" if said else ""
        raise ScenarioError(
            f"{name} is a benchmark's result without any latency or throughput.{why} "
            "Upload one of a finished run."
        )
    if len(useful) < len(points):
        notes.append(f"{len(points) - len(useful)} entries without latency and throughput were left out.")
    if len(useful) > MAX_POINTS:
        notes.append(f"Only the first {MAX_POINTS} of {len(useful):,} points are used.")
    if len(notes) > MAX_NOTES:
        notes = [*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES} more notes are not shown."]
    return Upload(name, tool, tuple(useful[:MAX_POINTS]), None, tuple(notes))


def says_something(point: OwnPoint) -> bool:
    values = (point.ttft_ms, point.tpot_ms, point.itl_ms, point.e2e_ms, point.output_tok_per_s)
    return any(math.isfinite(value) for value in values)


def first_number(entry: object, *keys: str, low: float = 0.0) -> float:
    """Return the first of some keys that is a finite number of at least `low`, else NaN."""
    for key in keys:
        value = entry.get(key) if isinstance(entry, Mapping) else None
        if isinstance(value, str) and len(value) < MOST_DIGITS:
            value = number_in(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if isinstance(value, int) and value.bit_length() > 60:
            continue
        if math.isfinite(value) and low <= value <= LARGEST:
            return float(value)
    return NAN


def above_zero(entry: object, *keys: str) -> float:
    """Return the same for a number above 0."""
    return first_number(entry, *keys, low=1e-12)


def ms_of(unit: object, usual: str = "") -> float:
    """Return a unit of time, as a tool writes it, in ms; the `usual` one where none is written.

    Examples
    --------
    >>> ms_of("Milliseconds"), ms_of("s/token"), ms_of(None, "ms"), ms_of("tokens")
    (1.0, 1000.0, 1.0, nan)
    """
    text = str("" if unit is None else unit).strip().lower() or usual
    return MS_OF.get(text.removesuffix("/token"), NAN)


def whole(value: float) -> int:
    return round(value) if math.isfinite(value) and value >= 0.5 else 0


def number_in(text: str) -> float:
    """Return the number that a text is, commas between thousands aside, else NaN."""
    try:
        return float(text.replace(",", "")) if len(text) < MOST_DIGITS else NAN
    except ValueError:
        return NAN


def variation(entry: Mapping[str, Any], key: str) -> float:
    """Return the coefficient of variation of a list of lengths, empty ones included; NaN without one."""
    known = lengths_in(entry, key)
    if len(known) < 2 or not any(known):
        return NAN
    return min(float(np.std(known) / np.mean(known)), 10.0)


def lengths_in(entry: Mapping[str, Any], key: str) -> list[int]:
    """Return the lengths in a list, as far as they are such."""
    values = entry.get(key)
    if not isinstance(values, list):
        return []
    return [
        value
        for value in values[:MAX_ROWS]
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**7
    ]


def relative(deviation: float, mean: float) -> float:
    """Return a standard deviation over its mean: 0 where it is, NaN where either is not known."""
    return min(deviation / mean, 10.0) if deviation >= 0 and mean > 0 else NAN


def failures(done: float, failed: float, cut_off: float = 0.0) -> tuple[tuple[str, ...], str]:
    """Return what must be said of requests that failed, and why the run is no evidence if too many did."""
    done, failed, cut_off = (whole(count) for count in (done, failed, cut_off))
    total = done + failed + cut_off
    notes = []
    if failed:
        notes.append(f"{failed:,} of {total:,} requests failed; the figures are those of the others.")
    if cut_off:
        notes.append(f"{cut_off:,} of {total:,} requests were cut off when the run ended.")
    if failed <= MOST_FAILED * total:
        return tuple(notes), ""
    return tuple(notes), "So many requests failed that the others met another load than the one sent."


def point_name(arrivals: str, clients: int, rate: float) -> str:
    if arrivals == "closed" and clients:
        return counted(clients, "client")
    if math.isfinite(rate):
        return f"{rate:g} req/s"
    return "all at once" if arrivals == "offline" else "a run"


def sent_words(sent: Mapping[str, Any]) -> str:
    """Return the name of a point from how it was sent, in the words of its fields."""
    ramp = sent.get("ramp_per_s")
    if ramp:
        return f"{ramp[0]:g} to {ramp[-1]:g} req/s"
    return point_name(sent["arrivals"], sent.get("concurrency", 0), sent.get("arrival_per_s", NAN))


def as_object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def first_object(*places: object, key: str, other: str = "") -> dict[str, Any]:
    """Return the object under a key in the first of some places that has one."""
    for place in places:
        for name in (key, other):
            found = as_object(as_object(place).get(name))
            if found:
                return found
    return {}
