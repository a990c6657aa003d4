"""What is checked of every measured point, whatever tool it is from: how its load was sent, what contradicts.

Closed or open
--------------
Little's law: the requests open on average are the finished rate times the end-to-end time. A rate with a cap
on open requests is a closed loop where as many are open as the cap lets. Requests sent "all at once", of
which few are open on average, were held back by the client, and so was an open loop whose rate is not reached
though hardly any request waits.

Contradictions
--------------
E2E = TTFT + (n - 1) TPOT holds for the mean of every run, and tokens per second = requests per second x n.
Of figures that break this by far more than rounding and varied lengths can, the one that the others do not
support is left out and named; where none is supported, all that contradict are.

References
----------
Little, "A proof for the queuing formula L = lambda W", Operations Research 9, 1961.
"""

from __future__ import annotations

import math
from typing import Any

from sim_core.evidence.own.formats.points import (
    MAX_NOTES,
    NAN,
    NEARLY_EQUAL,
    OwnPoint,
    Upload,
    says_something,
)
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted

BINDS = 0.8  # open requests over the cap from which it holds requests back throughout
REACHED = 0.7  # finished rate over the sent one below which an open loop has not kept up
TAIL = 5.0  # end-to-end times that a run may go on after its last request was sent, half of them alone
LONGEST = 2 * TAIL  # of a run, over the mean: more than answers of very different length have
LEAST_GAP_MS = 0.02  # 50,000 tokens a second for one user
APART = 1.35  # factor between two figures for one thing from which they contradict
MOST_AT_ONCE = 300.0  # tokens in a gap: more are a unit gone wrong
APART_VARIED = 2.5  # the same for medians, and for a mean TPOT, which short answers behind prompts raise


def checked(upload: Upload) -> Upload:
    """Return an upload whose points say how they were sent, without figures that contradict, and its notes.

    Raises
    ------
    ScenarioError
        If nothing is left of any point.
    """
    points = tuple(map(_checked, upload.points))
    kept = tuple(point for point in points if says_something(point))
    notes = [*upload.notes, *_notes_of(points)]
    if points and not kept:
        raise ScenarioError(f"{upload.name}: its figures contradict one another. {notes[-1]}")
    if len(notes) > MAX_NOTES:
        notes = [*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES} more notes are not shown."]
    return upload._replace(points=kept, notes=tuple(notes))


def _checked(point: OwnPoint) -> OwnPoint:
    """Return one point, its times checked first: a wrong one would mislead Little's law."""
    timed = _latencies_checked(_gaps_read(_streams_checked(_unit_checked(point))))
    return _clients_checked(_throughput_checked(settled(timed)))


def _notes_of(points: tuple[OwnPoint, ...]) -> list[str]:
    """Return what is said of the points, each once, with the names of those it holds for."""
    holders: dict[str, list[str]] = {}
    for point in points:
        left_out = [f"Left out of the fit: {point.left_out}"] if point.left_out else []
        for note in dict.fromkeys((*point.notes, *left_out)):
            holders.setdefault(note, []).append(point.name)
    found = []
    for note, names in holders.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        found.append(note if len(names) == len(points) else f"{', '.join(names[:3])}{more}: {note}")
    return found


# --- closed or open -------------------------------------------------------------------------------


def e2e_ms(point: OwnPoint) -> float:
    """Return the end-to-end time, from TTFT and the time between tokens where a file does not give it."""
    gap_ms = point.tpot_ms if math.isfinite(point.tpot_ms) else point.itl_ms
    derived = point.ttft_ms + (point.output_tokens - 1) * gap_ms
    return point.e2e_ms if math.isfinite(point.e2e_ms) else derived


def open_requests(point: OwnPoint) -> float:
    """Return how many requests were open on average (Little's law), NaN where the point does not tell."""
    return point.request_per_s * e2e_ms(point) * 1e-3


def settled(point: OwnPoint) -> OwnPoint:
    """Return a point as a closed loop where Little's law says so, with a note; else as it stands."""
    if point.left_out or point.rows is not None or point.ramp_per_s:
        return point
    if point.arrivals == "closed" and point.concurrency:
        return _said(point, _closed_words(point))
    if point.arrivals == "offline":
        return _at_once(point)
    if point.arrivals in ("poisson", "gamma") and point.arrival_per_s > 0:
        return _capped(point) if point.max_open else _open(point)
    return point


def _said(point: OwnPoint, *notes: str) -> OwnPoint:
    return point._replace(notes=(*point.notes, *filter(None, notes)))


def _closed(point: OwnPoint, clients: int, why: str) -> OwnPoint:
    words = f"{why}: simulated as a closed loop of {counted(clients, 'client')}."
    return _said(point._replace(arrivals="closed", concurrency=clients), words)


def _closed_words(point: OwnPoint) -> str:
    """Return a note if far fewer requests were open than clients have, the end of the run allowed for."""
    busy, clients, count = open_requests(point), point.concurrency, point.requests or math.inf
    expected = 1 / (1 / clients + TAIL / count)
    if not busy < 0.5 * expected:
        return ""
    return (
        f"{clients:,} clients are stated, but rate x end-to-end time (Little's law) says {busy:,.3g} "
        f"requests were open on average: simulated with {clients:,}, as stated. If the tool kept fewer busy, "
        "the fitted engine is too fast."
    )


def _capped(point: OwnPoint) -> OwnPoint:
    """Return a rate with a cap on open requests: closed where the cap binds, else the open loop."""
    cap, busy = point.max_open, open_requests(point)
    reached = point.request_per_s / _expected_per_s(point)
    stated = _capped_words(point)
    if reached > 0.9 and busy > APART * cap:  # a cap that was never kept, a default written into the file
        return _said(
            _open(point), f"{stated}: but {busy:,.3g} were open on average, so there was no such cap."
        )
    if busy >= BINDS * cap or (reached < REACHED and busy >= BINDS * cap / 2):
        return _under_cap(point, f"{stated}: {busy:,.3g} were open on average (Little's law), the cap binds")
    if not math.isfinite(busy) and reached < REACHED:
        why = f"{stated}: only {point.request_per_s:.3g} a second finished, the cap binds"
        return _closed(point, cap, why)
    if math.isfinite(busy) or math.isfinite(reached):
        held = " at times" if busy >= BINDS * cap / 2 else ""
        few = f"{busy:,.3g} were open on average" if math.isfinite(busy) else "the rate was reached"
        return _said(_open(point), f"{stated}: {few}, so the cap{held or ' never'} binds; not simulated.")
    why = f"It does not say how requests were sent: {stated}, but neither the rate reached nor the end-to-end"
    return point._replace(left_out=f"{why} time, which tell whether the cap binds.")


def _under_cap(point: OwnPoint, why: str) -> OwnPoint:
    """Return a closed loop of as many clients as may be open; `_clients_checked` says why where more were."""
    if open_requests(point) > APART * point.max_open:
        return point._replace(arrivals="closed", concurrency=point.max_open)
    return _closed(point, point.max_open, why)


def _capped_words(point: OwnPoint) -> str:
    sent = f"{point.arrival_per_s:g} req/s" if point.arrival_per_s > 0 else "All at once"
    return f"{sent} with at most {point.max_open:,} open"


def _expected_per_s(point: OwnPoint) -> float:
    """Return the rate at which an open loop that keeps up finishes: the last answers take their time too."""
    rate, last_s = point.arrival_per_s, TAIL * 1e-3 * e2e_ms(point)
    if not point.requests or not math.isfinite(last_s):
        return rate
    return point.requests / (point.requests / rate + last_s)


def _open(point: OwnPoint) -> OwnPoint:
    """Return an open loop; closed where requests ended long after all were sent, though none took long.

    All are sent after n / rate. What the run took beyond that, one request at least was open.
    """
    beyond_s = point.requests / point.request_per_s - point.requests / point.arrival_per_s
    late = point.request_per_s < REACHED * point.arrival_per_s
    if not late or not beyond_s > LONGEST * 1e-3 * e2e_ms(point):
        return point
    busy = open_requests(point)
    why = (
        f"{point.arrival_per_s:g} req/s are stated, but {point.request_per_s:.3g} a second finished and only "
        f"{busy:,.3g} were open on average (Little's law), so the client held requests back"
    )
    return _closed(point, max(round(busy), 1), why)


def _at_once(point: OwnPoint) -> OwnPoint:
    """Return requests sent all at once: closed where a cap, stated or not, kept most of them back."""
    busy, cap = open_requests(point), point.max_open
    if cap and (not point.requests or cap < point.requests):
        return _under_cap(point, _capped_words(point))
    if busy * LONGEST < point.requests:
        few = f"but {busy:,.3g} of {point.requests:,} were open on average (Little's law)"
        return _closed(point, max(round(busy), 1), f"All at once, {few}")
    return point


# --- contradictions -------------------------------------------------------------------------------


def _unit_checked(point: OwnPoint) -> OwnPoint:
    """Return a point, left out where its times are far shorter than any engine's: seconds taken for ms."""
    each = (point.tpot_ms, point.itl_ms, point.e2e_ms / max(point.output_tokens - 1, 1.0))
    shortest = min((value for value in each if value > 0), default=math.inf)
    if shortest >= LEAST_GAP_MS or point.left_out:
        return point
    why = f"A token in {shortest:.2g} ms is faster than any engine: its times are in another unit than ms."
    return point._replace(left_out=why)


def _near(first: float, second: float, apart: float, above: float = 0.0) -> bool:
    """Return whether two figures are within a factor; the first may lie above by another one."""
    return first > 0 and second > 0 and 1 / apart <= first / second <= max(above, apart)


def _tolerance(point: OwnPoint) -> float:
    return APART_VARIED if point.statistic == "median" else APART


def _streams_checked(point: OwnPoint) -> OwnPoint:
    """Return a point whose answers came whole without what only a stream tells."""
    if not (point.ttft_ms == point.e2e_ms and point.output_tokens > 1):
        return point
    words = "TTFT is the whole latency: answers came whole, not streamed. TTFT, TPOT and ITL were left out."
    return point._replace(ttft_ms=NAN, tpot_ms=NAN, itl_ms=NAN, notes=(*point.notes, words))


def _gaps_read(point: OwnPoint) -> OwnPoint:
    """Return a point whose gaps hold several tokens as one without a time between tokens, but with these.

    They do where TPOT agrees with the end-to-end time and the mean gap is longer: an engine that drafts sends
    the tokens of a step together, and one with a stream interval those of several steps.
    """
    tokens = point.itl_ms / point.tpot_ms if point.tpot_ms > 0 else NAN  # 0: answers that came whole
    told = point.statistic == "mean" and APART < tokens <= MOST_AT_ONCE and point.e2e_ms > 0
    if not (told and point.ttft_ms > 0 and _agrees(point, "TPOT", point.tpot_ms)):
        return point
    words = f"A gap of its stream holds {tokens:.3g} tokens (mean ITL over mean TPOT): ITL is not compared."
    return point._replace(itl_ms=NAN, at_once_tokens=tokens, notes=(*point.notes, words))


def _latencies_checked(point: OwnPoint) -> OwnPoint:
    """Return a point whose E2E, TTFT and time between tokens agree."""
    apart, gaps = _tolerance(point), point.output_tokens - 1
    stated = {"TPOT": point.tpot_ms, "ITL": point.itl_ms}
    if point.ttft_ms > apart * point.e2e_ms:
        words = f"TTFT {point.ttft_ms:.4g} ms is more than E2E {point.e2e_ms:.4g} ms"
        late = any(gaps * value > apart * point.e2e_ms for value in stated.values())
        return _without(point, "e2e_ms" if late else "ttft_ms", words)
    if not (gaps >= 1 and point.e2e_ms > 0):
        return point
    ttft_ms = point.ttft_ms if math.isfinite(point.ttft_ms) else 0.0
    told = (point.e2e_ms - ttft_ms) / gaps  # the time between tokens that the other figures give
    agree = {name: _agrees(point, name, value) for name, value in stated.items() if math.isfinite(value)}
    if all(agree.values()):
        return point
    sum_words = f"E2E {point.e2e_ms:.4g} ms less TTFT over {gaps:.4g} gaps gives {told:.4g} ms"
    if any(agree.values()) or _e2e_supported(point, apart):
        for name, good in agree.items():
            if not good:
                words = f"{name} {stated[name]:.4g} ms contradicts the others: {sum_words}"
                point = _without(point, f"{name.lower()}_ms", words)
        return point
    rest = ttft_ms + gaps * next(value for value in stated.values() if math.isfinite(value))
    words = f"E2E {point.e2e_ms:.4g} ms contradicts TTFT and the gaps between tokens, {rest:.4g} ms"
    if (len(agree) == 2 and _near(point.tpot_ms, point.itl_ms, apart)) or _little_supports(
        point, rest, apart
    ):
        return _without(point, "e2e_ms", words)
    return _without(point, ("e2e_ms", *(f"{name.lower()}_ms" for name in agree)), words)


def _agrees(point: OwnPoint, name: str, gap_ms: float) -> bool:
    """Return whether a time between tokens fits the end-to-end time; without TTFT it may be less.

    The mean of TPOT counts short answers, which wait for others' prompts, as much as long ones.
    """
    apart = _tolerance(point)
    equal = point.output_cv <= 0.3 and point.output_cv != NEARLY_EQUAL  # rather than assumed to be
    above = APART_VARIED if name == "TPOT" and not equal else apart
    sum_ms = point.ttft_ms + (point.output_tokens - 1) * gap_ms
    if not math.isfinite(point.ttft_ms):
        return (point.output_tokens - 1) * gap_ms <= above * point.e2e_ms
    return _near(sum_ms, point.e2e_ms, apart, above)


def _e2e_supported(point: OwnPoint, apart: float) -> bool:
    return _little_supports(point, point.e2e_ms, apart)


def _little_supports(point: OwnPoint, e2e: float, apart: float) -> bool:
    """Return whether clients over rate, the end-to-end time of a closed loop, is about this one."""
    if point.arrivals != "closed" or not point.request_per_s > 0:
        return False
    return _near(1e3 * point.concurrency / point.request_per_s, e2e, apart)


def _throughput_checked(point: OwnPoint) -> OwnPoint:
    """Return a point whose tokens a second are its requests a second times their length."""
    told = point.request_per_s * point.output_tokens
    if not math.isfinite(told) or not math.isfinite(point.output_tok_per_s):
        return point
    if _near(told, point.output_tok_per_s, APART):
        return point
    words = (
        f"throughput {point.output_tok_per_s:,.4g} tok/s contradicts {point.request_per_s:.4g} requests a "
        f"second of {point.output_tokens:.4g} tokens, which are {told:,.4g} tok/s"
    )
    return _without(point, "output_tok_per_s", words)


def _clients_checked(point: OwnPoint) -> OwnPoint:
    """Return a point without a throughput that more clients would take than there are."""
    busy = open_requests(point)
    if point.arrivals != "closed" or point.left_out or not busy > APART * point.concurrency:
        return point
    words = (
        f"{point.request_per_s:.4g} requests a second of {e2e_ms(point):,.4g} ms need {busy:,.3g} clients "
        f"(Little's law), but {point.concurrency:,} are stated; the throughput contradicts"
    )
    if point.max_open:
        clients = counted(point.concurrency, "client")
        words = (
            f"{_capped_words(point)}: the cap binds: simulated as a closed loop of {clients}, "
            f"which cannot finish {point.request_per_s:.4g} requests of {e2e_ms(point):,.4g} ms a second "
            f"({busy:,.3g} would be open, Little's law); the throughput contradicts"
        )
    return _without(point, "output_tok_per_s", words)


def _without(point: OwnPoint, figures: str | tuple[str, ...], words: str) -> OwnPoint:
    """Return a point without some figures, and the note on it."""
    names = (figures,) if isinstance(figures, str) else figures
    what = "it is" if len(names) == 1 else "they are"
    nothing: dict[str, Any] = dict.fromkeys(names, NAN)
    return _said(point._replace(**nothing), f"{words[0].upper()}{words[1:]}; {what} left out.")
