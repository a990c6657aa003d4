"""The findings of the Two phases page in words, one for each view: what its numbers say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sim_core.view.drawing.figures import LIMITS, Row
from sim_core.view.drawing.words import duration, number, percent, quantity, signed
from sim_core.view.phases.figures import largest_part, sequences
from sim_core.view.phases.hardware_figures import KINDS

OWN_CACHE = "since every sequence brings its own KV cache to read"


def roofline_finding(
    prefill: Row, decode: Row, without: float, there: float, edge: float, context: float, room: int
) -> str:
    """Return what the roofline says.

    Parameters
    ----------
    prefill, decode : mapping
        The whole prefill and the whole decode step of the present batch.
    without, there : float
        Batches from which decode is compute-bound without context, and at this one; infinite if none.
    edge : float
        Context beyond which no batch is. [tokens]
    context, room : float and int
        The present context [tokens], and the largest batch that the KV cache holds there.
    """
    uses = (
        f"Prefill keeps {percent(prefill['mfu_frac'])} of the arithmetic busy, decode with "
        f"{sequences(decode['batch'])} {percent(decode['mfu_frac'])}."
    )
    if math.isinf(without):
        return f"{uses} No batch makes decode compute-bound here, not even without context."
    first = "a batch of any size" if without <= 1 else f"about {sequences(round(without))}"
    bound = f"Decode would be compute-bound from {first} at no context"
    if math.isinf(there):
        return f"{uses} {bound}; beyond {tokens(edge)} of context never, {OWN_CACHE}."
    here = f"{bound}; at {tokens(context)} from {number(round(there))}"
    if there > room:
        return f"{uses} {here}, but only {number(room)} fit."
    return f"{uses} {here}."


def tokens(count: float) -> str:
    """Return a number of tokens in words."""
    return f"{number(round(count))} token" + ("" if round(count) == 1 else "s")


def step_finding(prefill: Row, decode: Row) -> str:
    """Return what two steps say."""

    def mostly(row: Row) -> str:
        part = largest_part(row)
        return f"{percent(row[f'{part}_ms'] / row['time_ms'])} of it {LIMITS[part][0]}"

    per_token = prefill["time_ms"] / prefill["size"], decode["time_ms"] / decode["size"]
    ratio = per_token[1] / per_token[0]
    times = f"{number(ratio, 2)} times" if ratio >= 1.05 else "no more than"
    return (
        f"A prefill of {tokens(prefill['size'])} takes {duration(prefill['time_ms'])}, "
        f"{mostly(prefill)}; a decode "
        f"step of {sequences(decode['size'])} takes {duration(decode['time_ms'])}, {mostly(decode)}. "
        f"A decoded token costs {times} a prefilled one."
    )


def idle_finding(row: Row) -> str:
    """Return how much of the device idles in one step."""
    compute, memory = row["mfu_frac"], row["mbu_frac"]
    if compute >= memory:
        return f"{percent(1 - compute)} of the arithmetic and {percent(1 - memory)} of the bandwidth wait."
    return f"{percent(1 - compute)} of the arithmetic waits."


MEASURES = {  # heading, unit, what more of it is
    "decode": "Decode speed",
    "ttft": "Time to first token",
    "limits": "Throughput within the limits",
}


def value(measure: str, amount: float) -> str:
    """Return a measure's value in words."""
    if not math.isfinite(amount):
        return "does not run"
    if measure == "ttft":
        return duration(1e3 * amount)
    if amount <= 0:
        return "none within the limits"
    return quantity(amount, "tok/s" if measure == "decode" else "tok/s/acc.")


def specs_finding(rows: Sequence[Row]) -> str:
    """Return what doubling each spec brings."""
    by_measure = {row["measure"]: row for row in rows}
    texts = {
        key: (signed(row["more_flops"]), signed(row["more_bandwidth"])) for key, row in by_measure.items()
    }
    decode, ttft, limits = (texts[key] for key in MEASURES)
    end = (
        f"within the latency limits throughput gains {limits[0]} or {limits[1]}."
        if by_measure["limits"]["value"] > 0
        else "nothing runs within the latency limits."
    )
    return (
        f"Twice the arithmetic changes decode speed by {decode[0]} and the first token's time by "
        f"{ttft[0]}; twice "
        f"the bandwidth by {decode[1]} and {ttft[1]}; {end}"
    )


def kv_finding(rows: Sequence[Row], model: str, context: float, copies: int) -> str:
    """Return what the KV cache allows, of latent vectors with so many copies."""
    own = next(row for row in rows if row["own"])
    others = [f"{number(row['largest_batch'])} with {_with(row['kind'])}" for row in rows if not row["own"]]
    text = (
        f"At {tokens(context)} each, {sequences(own['largest_batch'])} of {model} fit beside the weights; it "
        f"would be {', '.join(others[:-1])}, and {others[-1]}."
    )
    if copies > 1 and any(row["kind"] == "latent" for row in rows):
        text += f" A latent vector is kept by each of {number(copies)} devices."
    return text


def _with(kind: str) -> str:
    return {"latent": "a latent vector", "window": "a sliding window"}.get(kind, KINDS[kind][0])


def floor_finding(
    rows: Sequence[Row], model: str, devices: int, limit_ms: float, tokens_a_step: float = 1.0
) -> str:
    """Return what the floor says; with speculation of so many tokens a step, of the mean over them."""
    own = next(row for row in rows if row["own"])
    name = own["name"] if devices == 1 else f"{number(devices)} × {own['name']}"
    timed = [row for row in rows if row["floor_ms"] > 0 and row["fits"]]
    kept = sum(row["floor_ms"] <= limit_ms for row in timed)
    typical = sum(row["typical_ms"] <= limit_ms for row in timed)
    if not timed:
        text = "No accelerator holds the model in this layout."
    else:
        count = "All" if kept == len(timed) > 1 else f"{number(kept)} of the"
        also = "too" if typical == kept else number(typical)
        text = (
            f"{count} {number(len(timed))} accelerators that hold the model could keep the limit of "
            f"{duration(limit_ms)} per token; with a typical engine {also}."
        )
    if not own["fits"]:
        return f"{own['reason']} {text}"
    least = f"Alone on {name}, a sequence of {model} gets no token in less than {duration(own['floor_ms'])}"
    if tokens_a_step > 1:
        return (
            f"{least} on average: every weight in use must be read for each step, and a step makes "
            f"{number(tokens_a_step)} tokens with speculation. {text}"
        )
    return f"{least}: every weight in use must be read for each one, and the next token waits for it. {text}"
