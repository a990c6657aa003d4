"""Visits to pages, run as Streamlit runs them but without a browser."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from tests.places import ROOT

# Streamlit reads the metadata of every installed package whenever a test opens an app, which takes as long as
# most pages do. They do not change meanwhile.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)

APP = ROOT / "app.py"
FINDING = '<p class="bs-finding">'


def open_page(page: Path | str, **query: str) -> AppTest:
    """Open a file of `pages`, or the app, at an address and return it after its first run.

    What reproduces a view, and what serves a plan, is drawn once it is opened, as this visitor does.
    """
    app = AppTest.from_file(str(ROOT / "pages" / page), default_timeout=120)
    for panel in ("in_reproduce", "in_serve"):
        app.session_state[panel] = True
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def healthy(app: AppTest) -> AppTest:
    """Return the app; fail if the page shows an error."""
    assert not app.exception, [error.value for error in app.exception]
    return app


def address(app: AppTest) -> dict[str, str]:
    """Return what the address bar holds."""
    return {key: "".join(value) for key, value in app.query_params.items()}


def said(app: AppTest) -> str:
    """Return all HTML that the page shows."""
    return " ".join(element.proto.body for element in app.get("html"))


def finding(app: AppTest) -> str:
    """Return the piece of HTML with the page's finding."""
    return next(body for element in app.get("html") if FINDING in (body := element.proto.body))
