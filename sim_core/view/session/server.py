"""What the web server adds to Streamlit's own: plotly.js from the installed package, and a warm start."""

from __future__ import annotations

import gzip
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files

import streamlit as st
from plotly.offline import get_plotlyjs_version
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from streamlit.runtime.pages_manager import PagesManager

PLOTLY_PATH = f"chart/plotly-{get_plotlyjs_version()}.min.js"
_served = False


def routes() -> list[Route]:
    """Return the routes the app adds, below the configured base path."""
    global _served
    _served = True
    PagesManager.uses_pages_directory = False  # else a first visit to /Method would find no navigation
    base = st.get_option("server.baseUrlPath").strip("/")
    prefix = f"/{base}" if base else ""
    return [Route(f"{prefix}/{PLOTLY_PATH}", plotly_js)]


def serves_plotly() -> bool:
    """Return whether this process offers plotly.js to the page; without it charts use Streamlit's own."""
    return _served


@cache
def _plotly_gzip() -> bytes:
    """Return plotly.js, compressed once for all visitors (1.4 instead of 4.8 MB)."""
    return gzip.compress(files("plotly").joinpath("package_data", "plotly.min.js").read_bytes(), 6)


def plotly_js(request: Request) -> Response:
    """Answer with plotly.js; the version is in the path, so browsers may keep it for good."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Content-Encoding": "gzip"}
    body = _plotly_gzip()
    if "gzip" not in request.headers.get("accept-encoding", ""):
        body = gzip.decompress(body)
        del headers["Content-Encoding"]
    return Response(body, media_type="text/javascript", headers=headers)


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """Warm up beside the start of the server, so that the first visitor waits less; show the page."""
    threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
    if not st.get_option("server.headless"):
        webbrowser.open(f"http://localhost:{st.get_option('server.port')}")
    yield


def _warm_up() -> None:
    from sim_core.view.session import sweeps

    _plotly_gzip()
    sweeps.prepare()
