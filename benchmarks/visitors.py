"""Lets visitors move sliders on one app: `python -m benchmarks.visitors` (two minutes).

Every visitor is a session as a browser would hold it: a websocket that draws the Frontier page with a seed of
its own, moves a slider once in `--every` seconds, and waits until the page shows what follows. The same is
then measured again beside one visitor who asks for as much as the budget allows, move after move; and what
the app still uses once tabs that asked for so much are closed. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.workshop import app, busy_s

SLIDERS = ("in_max_batch", "in_token_budget", "in_slo_ttft_ms", "in_arrival_per_s")  # parts of their ids
HEAVY = "requests=5000000"
TIMEOUT_S = 60.0
TABS, OPEN_S, AFTER_S = 4, 1.0, 1.0  # are closed after some time; and how long afterwards one looks


@dataclass
class Visitor:
    """One visitor, who notes how long each move takes until the page shows what follows."""

    connection: websockets.ClientConnection
    query: str
    sliders: dict[str, object] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    failures: int = 0

    async def draw(self, widget: object | None = None) -> float:
        """Draw the page, with a slider moved or without; return how long that took [s]."""
        message = BackMsg()
        ask = message.rerun_script
        ask.query_string = self.query
        if widget is not None:
            chosen = random.choice(list(widget.options))  # one of the steps of a ladder
            ask.widget_states.widgets.add(id=widget.id).string_array_value.data.append(chosen)
        start_s = time.perf_counter()
        await self.connection.send(message.SerializeToString())
        while await self._goes_on():
            pass
        return time.perf_counter() - start_s

    async def move(self) -> None:
        """Move one of the sliders."""
        try:
            self.times_s.append(await self.draw(random.choice(list(self.sliders.values()))))
        except (TimeoutError, websockets.WebSocketException):
            self.failures += 1

    async def _goes_on(self) -> bool:
        """Take one message of the app; return whether the run goes on after it."""
        received = await asyncio.wait_for(self.connection.recv(), TIMEOUT_S)
        message = ForwardMsg.FromString(received)
        what = message.WhichOneof("type")
        if what == "delta":
            element = message.delta.new_element
            kind = element.WhichOneof("type")
            if kind == "exception":
                self.failures += 1
            elif (
                kind == "slider"
                and element.slider.options
                and any(name in element.slider.id for name in SLIDERS)
            ):
                self.sliders[element.slider.id] = element.slider
        return what != "script_finished" or message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN


@contextlib.asynccontextmanager
async def visit(host: str, query: str) -> AsyncIterator[Visitor]:
    """Open the page and draw it once."""
    async with websockets.connect(
        f"ws://{host}/_stcore/stream", origin=f"http://{host}", subprotocols=["streamlit"],
        max_size=None, ping_interval=None,
    ) as connection:  # fmt: skip
        visitor = Visitor(connection, query)
        await visitor.draw()
        yield visitor


async def light(host: str, number: int, given: argparse.Namespace, first_seed: int) -> Visitor:
    """Come, then move a slider once in a while."""
    await asyncio.sleep(number * given.joining / given.visitors)
    async with visit(host, f"seed={first_seed + number}") as visitor:
        until_s = time.perf_counter() + given.joining * (1 - number / given.visitors) + given.seconds
        next_s = time.perf_counter() + random.uniform(0, given.every)
        while next_s < until_s:
            await asyncio.sleep(max(next_s - time.perf_counter(), 0))
            await visitor.move()
            next_s += given.every
        return visitor


async def heavy(host: str, over: asyncio.Event) -> int:
    """Ask for heavy work without a pause; return how many answers came."""
    answers = 0
    while not over.is_set():
        with contextlib.suppress(TimeoutError, websockets.WebSocketException):
            async with visit(host, f"{HEAVY}&seed={random.randint(10**6, 10**9)}") as visitor:
                answers += 1
                while not over.is_set():
                    await visitor.move()
                    answers += 1
    return answers


async def closed_tabs(host: str, process: int) -> float:
    """Open heavy tabs, close them while they are worked out, and return what is then still used [cores]."""

    async def open_and_close() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_S), visit(host, f"{HEAVY}&seed={random.randint(10**6, 10**9)}"):
                pass

    await asyncio.gather(*(open_and_close() for _ in range(TABS)))
    await asyncio.sleep(AFTER_S)
    start_s, start_busy_s = time.perf_counter(), busy_s(process)
    await asyncio.sleep(2.0)
    return (busy_s(process) - start_busy_s) / (time.perf_counter() - start_s)


async def play(
    host: str, given: argparse.Namespace, first_seed: int, beside: bool
) -> tuple[list[Visitor], int]:
    """Return the visitors after their time, and the answers that the heavy one got."""
    over = asyncio.Event()
    other = asyncio.create_task(heavy(host, over)) if beside else None
    people = [asyncio.create_task(light(host, k, given, first_seed)) for k in range(given.visitors)]
    found = list(await asyncio.gather(*people))
    over.set()
    return found, await other if other else 0


def main() -> None:
    """Play both, and print what the visitors waited."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two moves of a visitor")
    parser.add_argument("--seconds", type=float, default=30.0, help="that all are there")
    parser.add_argument("--joining", type=float, default=15.0, help="seconds within which they come")
    given = parser.parse_args()
    with app("sqlite://") as (host, process):
        warm = argparse.Namespace(visitors=1, every=1.0, seconds=15.0, joining=0.0)
        asyncio.run(play(host, warm, 90_000, beside=False))  # compiles what is not in the cache
        for beside in (False, True):
            start_s, start_busy_s = time.perf_counter(), busy_s(process)
            people, heavy_answers = asyncio.run(play(host, given, 1000 + 500 * beside, beside))
            busy = busy_s(process) - start_busy_s
            share = busy / (time.perf_counter() - start_s)
            times_s = sorted(time_s for one in people for time_s in one.times_s)
            middle, most = times_s[len(times_s) // 2], times_s[int(0.95 * len(times_s))]
            words = f"beside one heavy visitor ({heavy_answers} answers)" if beside else "alone"
            print(
                f"{given.visitors} visitors {words}: {len(times_s)} moves, p50 {1e3 * middle:.0f} ms, "
                f"p95 {1e3 * most:.0f} ms, longest {1e3 * times_s[-1]:.0f} ms, "
                f"{sum(one.failures for one in people)} failures, {share:.0%} of a core, "
                f"{1e3 * busy / len(times_s):.0f} ms of it a move"
            )
        used = asyncio.run(closed_tabs(host, process))
        print(f"{TABS} heavy tabs, {AFTER_S:g} s after they were closed: {used:.0%} of a core")


if __name__ == "__main__":
    main()
