"""A view of a page as one HTML file that stands alone: it opens without a network and loads nothing.

plotly.js comes from the installed package and is part of the file; figures travel as JSON and are drawn by
the same code as those of the pages (`figure.js`). All texts are escaped, and the file's own policy (CSP)
forbids the browser to load anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from sim_core.results import text as report
from sim_core.view.drawing import figures
from sim_core.view.drawing.templates import as_is, render
from sim_core.view.session.record import Drawing

MOST_ROWS = 500
ON_PAPER = 14  # columns; report.css hides the others there
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
DISCLAIMER = "Simulated by Batchscope; not an MLPerf result"
_HERE = Path(__file__).parent / "assets"
_SCRIPTS = (  # plotly.js, and what draws the charts with it
    files("plotly").joinpath("package_data", "plotly.min.js"),
    _HERE / "figure.js",
    _HERE / "report.js",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report holds; every text is plain, `subtitle` of a drawing may have several lines."""

    page: str
    finding: str
    notes: Sequence[str] = ()
    charts: Sequence[Drawing] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    badge: str = ""
    toml: str = ""
    link: str = ""
    command: str = ""
    version: str = ""
    date: str = ""

    @property
    def said(self) -> tuple[str, ...]:
        """The finding and the notes, which nothing else need say again."""
        return (self.finding, *self.notes)

    @property
    def title(self) -> str:
        """The heading: that of the first chart, else the page's name."""
        return next((chart.title for chart in self.charts if chart.title), self.page)


def report_html(view: Report) -> str:
    """Return the report as HTML."""
    page = render(
        "parts/report.html",
        report=view,
        configuration=[line for line in _configuration(view.charts) if line not in " ".join(view.said)],
        table=report_table(view.rows),
        is_address=view.link.startswith(("http://", "https://")),
        style=as_is(_HERE / "report.css"),
        scripts=[as_is(script) for script in _SCRIPTS] if view.charts else [],  # type: ignore[arg-type]
        policy=POLICY,
        disclaimer=DISCLAIMER,
    )
    return str(page)


def _configuration(charts: Iterable[Drawing]) -> list[str]:
    """Return the lines beneath the titles of the charts, each once."""
    return list(dict.fromkeys(line for chart in charts for line in figures.lines_of(chart.subtitle) if line))


def report_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table, "" without any; what is the same in all rows stands above, once."""
    if not rows:
        return ""
    heads = report.columns_of(rows)
    same = {} if len(rows) == 1 else _same(rows, heads)
    heads = [head for head in heads if head not in same]
    return render(
        "parts/report_table.html",
        same=[(head, report.cell(value)) for head, value in same.items() if _is_known(value)],
        heads=[(head, _is_number(rows[0].get(head))) for head in heads],
        rows=[[_cell(row.get(head)) for head in heads] for row in rows[:MOST_ROWS]],
        count=len(rows),
        on_paper=ON_PAPER,
    )


def _same(rows: Sequence[Mapping[str, Any]], heads: Iterable[str]) -> dict[str, Any]:
    """Return the columns that are the same in all rows, with what they hold."""
    return {head: rows[0].get(head) for head in heads if len({_key(row.get(head)) for row in rows}) == 1}


def _key(value: object) -> str:
    return json.dumps(report.plain(value))


def _is_known(value: object) -> bool:
    return report.plain(value) not in (None, "")


def _cell(value: object) -> tuple[str, bool]:
    """Return a value in words, and whether it is a number, which stands to the right."""
    return report.cell(value), _is_number(value)


def _is_number(value: object) -> bool:
    value = report.plain(value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)
