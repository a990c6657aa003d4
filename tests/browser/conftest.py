"""A running app and a Chromium, for tests marked `browser`. CHROMIUM names another browser binary."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.visit import EXPECTED_NOISE, PLOTTED, Visit
from tests.places import ROOT

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def app_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the app as the README says and yield its address."""
    port = _free_port()
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless", "true",
               "--server.port", str(port)]  # fmt: skip
    rooms = f"sqlite:///{log.parent}/rooms.sqlite"
    env = os.environ | {"BATCHSCOPE_ROOMS_URL": rooms, "PYTHONFAULTHANDLER": "1"}
    with log.open("w") as out:
        server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)
    url = f"http://localhost:{port}"
    try:
        _wait_until_up(url, server, log)
        yield url
        assert server.poll() is None, f"the server stopped by itself: {log.read_text()[-4000:]}"
    finally:
        server.terminate()
        server.wait(10)


def _wait_until_up(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """Yield a headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        pytest.skip("no Chromium found; install one or set CHROMIUM")
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, app_url: str) -> Iterator[Callable[..., Visit]]:
    """Yield a function that opens the app for a new visitor; at the end, nobody may have complained."""
    visits, contexts = [], []

    def start(path: str = "/", shows: str = PLOTTED, **options: Any) -> Visit:
        context = chromium.new_context(**({"viewport": {"width": 1400, "height": 900}} | options))
        contexts.append(context)
        visits.append(Visit(context.new_page(), app_url))
        return visits[-1].open(path, shows)

    yield start
    complaints = [text for one in visits for text in one.complaints if not EXPECTED_NOISE.search(text)]
    outside = [url for one in visits for url in one.outside]
    for context in contexts:
        context.close()
    assert not complaints
    assert not outside
