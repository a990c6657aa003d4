"""Plays a workshop on one app: a host and many participants, `python -m benchmarks.workshop` (two minutes).

Every participant is a session as a browser would hold it: a websocket that draws the Room page, polls as
often as the page asks for, thinks for a while, sends a prediction and waits until the page shows it. Each
time stands beside the same with one participant alone, played before in the same run. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import sqlalchemy as sql
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.rooms import Rooms
from sim_core.view.session.room_store import SETTING

ROOT = Path(__file__).parent.parent
JOINING_S = 10.0  # within so long all come
THINKING_S = 8.0
LOOKING_S = 5.0
QUESTIONS = [(item.id, number) for item, number, step in lessons.every_step() if not step.choices][:4]
KINDS = {
    "join": "joins: the page is drawn",
    "poll": "polls: the page answers",
    "send": "predicts: the page shows it",
    "turn": "sees what the host has turned to",
}
Times = dict[str, list[float]]


class Session:
    """One visitor of the Room page, who notes how long everything takes."""

    def __init__(self, connection: websockets.ClientConnection, query: str, times: Times) -> None:
        self._connection, self._query, self._times = connection, query, times
        self.field = self.button = self._page = self.asks_who = ""
        self.fragments: dict[str, float] = {}  # those that ask to be drawn again, and how often [s]
        self.drawn_anew = False

    async def run(self, kind: str, fragment: str = "", guess: float | None = None) -> None:
        """Let the page run, or one of its fragments, with a prediction or without, until it is drawn."""
        message = BackMsg()
        ask = message.rerun_script
        ask.query_string, ask.fragment_id, ask.is_auto_rerun = self._query, fragment, bool(fragment)
        ask.page_name, ask.page_script_hash = ("" if self._page else "Room"), self._page
        if guess is not None:
            ask.widget_states.widgets.add(id=self.field, double_value=guess)
            ask.widget_states.widgets.add(id=self.button, trigger_value=True)
        if kind == "join" and self.asks_who:  # as the browser of somebody new answers (`identity.js`)
            kept = json.dumps({"kept": {"who": "new", "host": ""}})
            ask.widget_states.widgets.add(id=self.asks_who, json_value=kept)
        self.drawn_anew = False
        start_s = time.perf_counter()
        await self._connection.send(message.SerializeToString())
        while await self._goes_on():
            pass
        self._times[kind].append(time.perf_counter() - start_s)

    async def _goes_on(self) -> bool:
        """Take one message of the app; return whether the run goes on after it."""
        message = ForwardMsg.FromString(await asyncio.wait_for(self._connection.recv(), 60))
        what = message.WhichOneof("type")
        if what == "new_session" and not message.metadata.run.fragment_ids:
            self.fragments, self.field, self.button, self.drawn_anew = {}, "", "", True
        elif what == "navigation":
            self._page = message.navigation.page_script_hash
        elif what == "auto_rerun":
            self.fragments[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        elif what == "delta":
            self._note(message.delta.new_element)
        return what != "script_finished" or message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN

    def _note(self, element: object) -> None:
        if element.WhichOneof("type") == "number_input":
            self.field = element.number_input.id
        elif element.WhichOneof("type") == "button" and element.button.is_form_submitter:
            self.button = element.button.id
        elif (
            element.WhichOneof("type") == "bidi_component"
            and "identity" in element.bidi_component.component_name
        ):
            self.asks_who = element.bidi_component.id


class Workshop:
    """A room with its participants, and how long everything took."""

    def __init__(self, host: str, store: Rooms, participants: int) -> None:
        self._host, self._store, self._participants = host, store, participants
        self.code, self._key = store.open()
        self.times: Times = {kind: [] for kind in KINDS}
        self.counted: list[int] = []
        self._number, self._asks, self._turned_s, self._over = 0, False, 0.0, False
        self._show(0, "ask")

    async def play(self) -> None:
        """Play all questions; every session stays until the end."""
        people = [asyncio.create_task(self._participant(k)) for k in range(self._participants)]
        people.append(asyncio.create_task(self._presenter()))
        await asyncio.sleep(JOINING_S)
        for number in range(len(QUESTIONS)):
            self._show(number, "ask")
            await asyncio.sleep(THINKING_S + LOOKING_S)
            self.counted.append(len(self._store.guesses(self._store.room(self.code))))
            self._show(number, "reveal")
            await asyncio.sleep(LOOKING_S)
        self._over = True
        await asyncio.gather(*people)

    def end(self) -> None:
        """Delete the room."""
        self._store.delete(self.code, self._key)

    def _show(self, number: int, stage: str) -> None:
        self._number, self._asks, self._turned_s = number, stage == "ask", time.perf_counter()
        self._store.show(self.code, self._key, *QUESTIONS[number], stage)

    async def _participant(self, number: int) -> None:
        """Join, poll, and predict once for every question."""
        await asyncio.sleep(number * JOINING_S / self._participants)
        answered, think_until_s, turned_s = -1, 0.0, self._turned_s
        async with self._visit("", self.times) as session:
            while not self._over:
                if turned_s != self._turned_s:
                    turned_s, think_until_s = self._turned_s, self._turned_s + random.uniform(3, THINKING_S)
                ready = self._asks and answered != self._number and time.perf_counter() > think_until_s > 0
                if ready and session.button:
                    answered = self._number
                    await session.run("send", guess=1000.0 + number)
                await self._poll(session, self.times)

    async def _presenter(self) -> None:
        """Look at the host's page."""
        times: Times = {kind: [] for kind in KINDS}
        async with self._visit(f"host={self._key}", times) as session:
            while not self._over:
                await self._poll(session, times)

    async def _poll(self, session: Session, times: Times) -> None:
        """Wait as long as the page asks for, then let it draw what wants to be drawn again."""
        await asyncio.sleep(min(session.fragments.values(), default=1.0))
        for fragment in list(session.fragments):
            await session.run("poll", fragment)
            if session.drawn_anew:
                times["turn"].append(time.perf_counter() - self._turned_s)
                times["poll"].pop()
                break

    @contextlib.asynccontextmanager
    async def _visit(self, who: str, times: Times) -> AsyncIterator[Session]:
        async with websockets.connect(
            f"ws://{self._host}/_stcore/stream", origin=f"http://{self._host}", subprotocols=["streamlit"],
            max_size=None, ping_interval=None,
        ) as connection:  # fmt: skip
            session = Session(connection, f"room={self.code}&{who}".rstrip("&"), times)
            await session.run("join")
            if not who:
                times["join"].pop()
                await session.run("join")  # now that the page has asked who this is
            yield session


def app(url: str) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """Run the app with its rooms in a database; yield its address and process."""
    return served("app.py", {SETTING: url})


@contextlib.contextmanager
def served(script: str, settings: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Run a page of Streamlit with settings in its environment; yield its address and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless", "true"]
    server = subprocess.Popen(
        [*command, "--server.port", str(port)], cwd=ROOT, env=os.environ | settings,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        health = f"http://localhost:{port}/_stcore/health"
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=2):
                break
            time.sleep(0.2)
        yield f"localhost:{port}", server.pid
    finally:
        server.terminate()
        server.wait()


def busy_s(process: int) -> float:
    """Return the processor time that a process has used; nan where the system does not say. [s]"""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Play with one participant, then with many, and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--participants", type=int, default=50)
    parser.add_argument("--database", help="SQLAlchemy address; without it a SQLite file of its own")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        url = given.database or f"sqlite:///{folder}/rooms.sqlite"
        engine = sql.create_engine(url)
        store, played = Rooms(engine), []
        with app(url) as (host, process):
            for participants in (1, given.participants):
                workshop = Workshop(host, store, participants)
                start_s, start_busy_s = time.perf_counter(), busy_s(process)
                asyncio.run(workshop.play())
                share = (busy_s(process) - start_busy_s) / (time.perf_counter() - start_s)
                counted = ", ".join(map(str, workshop.counted))
                print(f"{participants:3} participants: {counted} predictions, {share:.0%} of a core")
                played.append(workshop.times)
                workshop.end()
        engine.dispose()
    print(f"\n{'':36}    alone      p50      p95      max    p50 : alone")
    for kind, words in KINDS.items():
        alone, together = (sorted(times[kind]) for times in played)
        one, middle = statistics.median(alone), statistics.median(together)
        figures = (one, middle, together[int(0.95 * len(together))], together[-1])
        print(f"{words:36}", *(f"{1e3 * figure:6.0f} ms" for figure in figures), f"{middle / one:8.1f} x")


if __name__ == "__main__":
    main()
