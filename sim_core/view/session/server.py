"""What the web server adds: plotly.js, scripts of pages and components, kernels compiled early."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files

import streamlit as st
from plotly.offline import get_plotlyjs_version
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime.pages_manager import PagesManager

from sim_core.view.drawing.templates import render

PLOTLY_PATH = f"chart/plotly-{get_plotlyjs_version()}.min.js"
KEEP = "public, max-age=31536000, immutable"  # what lies at an address never changes
_served = False


def routes() -> list[Route]:
    """Return the routes the app adds, below the configured base path."""
    global _served
    _served = True
    PagesManager.uses_pages_directory = False  # else a first visit to /Method would find no navigation
    base = st.get_option("server.baseUrlPath").strip("/")
    prefix = f"/{base}" if base else ""
    return [
        Route(f"{prefix}/{PLOTLY_PATH}", plotly_js),
        Route(f"{prefix}/chart/{{name}}.js", component_js),
        Route(f"{prefix}/Frontier", first_page),
    ]


def script(name: str, source: str, style: str = "") -> str:
    """Return the script of a component: a few lines that load it from this server, once a page.

    Streamlit sends a component's script and style anew with every answer. Without this server's routes, the
    script is returned itself.

    Parameters
    ----------
    name : str
        Its name in the address.
    source : str
        A JavaScript module; its default export draws the component.
    style : str
        Its style, which the page gets with it.
    """
    whole = f"{source}\n{_ADD_STYLE % json.dumps(style)}" if style else source
    if not _served:
        return whole
    path = f"chart/{name}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}.js"
    _scripts[path] = whole.encode()
    return _LOAD_SCRIPT % json.dumps(path)


_scripts: dict[str, bytes] = {}
_ADD_STYLE = "document.head.appendChild(document.createElement('style')).textContent = %s;"
# A page's address does not say below which base path the server is; that of Streamlit's script does.
_LOAD_SCRIPT = """
const bundle = document.querySelector('script[type="module"][src*="static/js/"]');
const { default: show } = await import(new URL("../../" + %s, bundle ? bundle.src : document.baseURI).href);
export default show;
"""


def component_js(request: Request) -> Response:
    """Answer with the script of a component, whose digest is in its path."""
    body = _scripts.get(f"chart/{request.path_params['name']}.js")
    if body is None:
        return Response(status_code=404)
    return Response(body, media_type="text/javascript", headers={"Cache-Control": KEEP})


def first_page(request: Request) -> Response:
    """Answer the first page's name with its address, to which Streamlit gives no name, and the same query."""
    query = f"?{request.url.query}" if request.url.query else ""
    return Response(status_code=307, headers={"Location": f"./{query}"})


def middleware() -> list[Middleware]:
    """Return what stands between browser and app."""
    return [Middleware(HeadScripts)]


def serves_plotly() -> bool:
    """Return whether this process offers plotly.js to the page; without it charts use Streamlit's own."""
    return _served


_SHORTCUTS = (b"accept-encoding", b"if-none-match", b"if-modified-since")


class HeadScripts:
    """Add two scripts to a page's head, which run before Streamlit's.

    One loads plotly.js, which takes a second, when the page first has time: before its first chart. The other
    keeps the browser's history to one entry an act.
    """

    _END = b"</head>"
    _TAGS = (
        render("session/one_entry.html").encode()
        + render("session/early_script.html", path=PLOTLY_PATH).encode()
        + _END
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, with the scripts in the head of an HTML page."""
        start: Message = {}

        async def add(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message  # is sent with the body, whose length it holds
                return
            body = message.get("body", b"")
            if start and self._END in body:
                message["body"] = body.replace(self._END, self._TAGS, 1)
                headers = MutableHeaders(raw=start["headers"])
                if "content-length" in headers:
                    more = len(message["body"]) - len(body)
                    headers["content-length"] = str(int(headers["content-length"]) + more)
            if start:
                await send(start)
                start = {}
            await send(message)

        if is_page(scope):
            await self._app(_plain(scope), receive, add)
        else:
            await self._app(scope, receive, send)


def _plain(scope: Scope) -> Scope:
    """Return a request for the whole text: what is compressed, or kept by the browser, cannot be added to."""
    kept = [(name, value) for name, value in scope["headers"] if name.lower() not in _SHORTCUTS]
    return {**scope, "headers": kept}


def is_page(scope: Scope) -> bool:
    """Return whether a page of HTML is asked for, as a browser does that opens an address."""
    return scope["type"] == "http" and "text/html" in Headers(scope=scope).get("accept", "")


@cache
def _plotly_gzip() -> bytes:
    """Return plotly.js, compressed once for all visitors (1.4 instead of 4.8 MB)."""
    return gzip.compress(files("plotly").joinpath("package_data", "plotly.min.js").read_bytes(), 6)


def plotly_js(request: Request) -> Response:
    """Answer with plotly.js; the version is in the path, so browsers may keep it for good."""
    headers = {"Cache-Control": KEEP, "Content-Encoding": "gzip"}
    body = _plotly_gzip()
    if "gzip" not in request.headers.get("accept-encoding", ""):
        body = gzip.decompress(body)
        del headers["Content-Encoding"]
    return Response(body, media_type="text/javascript", headers=headers)


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """Prepare the simulator from the start of the server on, for the first visitor; show the page."""
    threading.Thread(target=_prepare, name="prepare", daemon=True).start()
    if not st.get_option("server.headless"):
        webbrowser.open(f"http://localhost:{st.get_option('server.port')}")
    yield


def _prepare() -> None:
    from sim_core.view.session.preparation import KERNELS  # imports the simulator

    KERNELS.begin()
    _plotly_gzip()
