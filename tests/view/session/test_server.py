"""What the web server adds to Streamlit's pages."""

from __future__ import annotations

import asyncio
import re

import pytest
from starlette.requests import Request

from sim_core.view.session import server
from sim_core.view.session.server import PLOTLY_PATH, HeadScripts

PAGE = b"<html><head><title>t</title></head><body></body></html>"


def answered(body: bytes, accept: bytes) -> tuple[int, bytes]:
    """Return the length that the headers name and the body, as a browser gets them that asks for less."""
    sent = []

    async def app(scope: dict, receive: None, send: object) -> None:
        shortcuts = {b"accept-encoding", b"if-none-match"} & dict(scope["headers"]).keys()
        assert not shortcuts or b"text/html" not in accept, "a page may come compressed, or not at all"
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def send(message: dict) -> None:
        sent.append(message)

    headers = [(b"accept", accept), (b"accept-encoding", b"gzip"), (b"if-none-match", b'"old"')]
    asyncio.run(HeadScripts(app)({"type": "http", "headers": headers}, None, send))
    start, content = sent
    return int(dict(start["headers"])[b"content-length"]), content["body"]


def test_a_page_keeps_its_history_and_loads_plotly_early() -> None:
    """Oracle: the page as it was, with two scripts in its head and a length that agrees."""
    length, body = answered(PAGE, b"text/html,*/*")
    assert length == len(body)
    (tags,) = re.findall(rb"<script.*</script>", body, re.DOTALL)
    assert body.replace(tags, b"") == PAGE
    assert tags.startswith(b'<script data-for="history">')
    assert f'<script data-path="./{PLOTLY_PATH}">'.encode() in tags


@pytest.mark.parametrize(
    ("query", "there"), [(b"", "./"), (b"v=1&prompt_tokens=3000", "./?v=1&prompt_tokens=3000")]
)
def test_the_first_page_opens_by_its_name(query: bytes, there: str) -> None:
    """Oracle: the address of the first page, with the same query."""
    request = {"type": "http", "path": "/Frontier", "query_string": query, "headers": []}
    answer = server.first_page(Request(request))
    assert (answer.status_code, answer.headers["location"]) == (307, there)
    assert "/Frontier" in [route.path for route in server.routes()]


def test_what_is_no_page_is_left_alone() -> None:
    """Oracle: what the app answered: a script with the same tags, a page without a head, compressed."""
    assert answered(PAGE, b"*/*") == (len(PAGE), PAGE)
    for body in (b"<p>", b"\x1f\x8b\x08"):
        assert answered(body, b"text/html") == (len(body), body)


def test_a_script_is_served_once_and_not_sent_with_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the source. What is sent names an address that follows from it, where source and style are."""
    source, style = "export default function () {}\n" * 1000, '.a { content: "\\"; }'
    monkeypatch.setattr(server, "_served", False)
    assert server.script("thing", source).startswith(source)
    monkeypatch.setattr(server, "_served", True)
    sent = server.script("thing", source, style)
    assert len(sent) < 400
    (name,) = re.findall(r'"chart/(thing-[0-9a-f]{16})\.js"', sent)
    found = server.component_js(Request({"type": "http", "path_params": {"name": name}}))
    assert found.body.decode().startswith(source)
    assert '.a { content: \\"\\\\\\"; }' in found.body.decode()
    assert "immutable" in found.headers["cache-control"]
    assert server.script("thing", source + "\n", style) != sent
    other = server.component_js(Request({"type": "http", "path_params": {"name": "thing-0"}}))
    assert other.status_code == 404
