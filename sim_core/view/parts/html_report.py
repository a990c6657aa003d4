"""A view of a page as one HTML file that stands alone: it opens without a network and loads nothing.

plotly.js comes from the installed package and is part of the file; figures travel as JSON and are drawn by
the same code as those of the pages (`figure.js`). All texts are escaped, and the file's own policy (CSP)
forbids the browser to load anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from sim_core.results import text as report
from sim_core.view.session.record import Drawing

MOST_ROWS = 500
ON_PAPER = 14  # columns; report.css hides the others there
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
DISCLAIMER = "Simulated by Batchscope; not an MLPerf result"
_HERE = Path(__file__).parent / "assets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report holds; every text is plain, `subtitle` of a drawing may have `<br>`."""

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
    def title(self) -> str:
        """The heading: that of the first chart, else the page's name."""
        return next((chart.title for chart in self.charts if chart.title), self.page)


def build(view: Report) -> str:
    """Return the report as HTML."""
    body = [
        f'<p class="page">Batchscope · {escape(view.page)}</p>',
        f"<h1>{escape(view.title)}</h1>",
        *(f'<p class="muted">{escape(line)}</p>' for line in _configuration(view.charts)),
        f'<p class="finding">{escape(view.finding)}</p>' if view.finding else "",
        *(f"<p>{escape(note)}</p>" for note in view.notes),
        *(_figure(chart) for chart in view.charts),
        f"<p><b>How far to trust it.</b> {escape(view.badge)}</p>" if view.badge else "",
        table(view.rows),
        _source(view),
        f"<footer>{DISCLAIMER}. Batchscope {escape(view.version)}, {escape(view.date)}.</footer>",
    ]
    scripts = f"<script>{_plotly()}</script><script>{_script()}</script>" if view.charts else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(view.title)} · Batchscope</title><style>{_read('report.css')}</style></head>\n"
        f"<body><main>{''.join(body)}</main>\n{scripts}</body></html>\n"
    )


def _configuration(charts: Iterable[Drawing]) -> list[str]:
    """Return the lines beneath the titles of the charts, each once."""
    return list(dict.fromkeys(line for chart in charts for line in chart.subtitle.split("<br>") if line))


def _figure(chart: Drawing) -> str:
    """Return a chart's place, its sentence, and the figure itself for the script that draws it."""
    return (
        f'<figure><div class="chart" style="height:{chart.height}px"></div>'
        f"<figcaption>{escape(chart.alt)}</figcaption>"
        f'<script type="application/json">{embedded_json({"figure": chart.figure})}</script></figure>'
    )


def embedded_json(value: Any) -> str:
    r"""Return a value as JSON that cannot end or open anything inside a script element.

    Examples
    --------
    >>> embedded_json("</script><!--")
    '"\\u003c/script>\\u003c!--"'
    """
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table, "" without any; what is the same in all rows stands above, once."""
    if not rows:
        return ""
    heads = report.columns_of(rows)
    same = {head: rows[0].get(head) for head in heads if len({_key(row.get(head)) for row in rows}) == 1}
    heads = [head for head in heads if head not in same] if len(rows) > 1 else heads
    said = [f"{_head(head)} {escape(report.cell(value))}" for head, value in same.items() if _is_known(value)]
    above = f'<p class="muted">The same in all rows: {", ".join(said)}.</p>' if said and len(rows) > 1 else ""
    more = f"The first {MOST_ROWS} of {len(rows):,} rows. " if len(rows) > MOST_ROWS else ""
    top = "".join(f'<th scope="col"{_class(rows[0].get(head))}>{_head(head)}</th>' for head in heads)
    lines = "".join(f"<tr>{''.join(_cell(row.get(head)) for head in heads)}</tr>" for row in rows[:MOST_ROWS])
    return (
        f'<section class="table"><h2>Table</h2>{above}<div class="scroll" tabindex="0" role="group" '
        f'aria-label="Table"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
        f'<p class="muted">{more}Units are the last words of the headings.{_on_paper(len(heads))}</p>'
        "</section>"
    )


def _on_paper(columns: int) -> str:
    """Return, for paper alone, how many columns it leaves out."""
    if columns <= ON_PAPER:
        return ""
    return f'<span class="paper-only"> On paper are {ON_PAPER} of {columns} columns.</span>'


def _key(value: Any) -> str:
    return json.dumps(report.plain(value))


def _is_known(value: Any) -> bool:
    return report.plain(value) not in (None, "")


def _head(name: str) -> str:
    """Return a column's name, which may break at its underscores."""
    return escape(name).replace("_", "_<wbr>")


def _cell(value: Any) -> str:
    return f"<td{_class(value)}>{escape(report.cell(value))}</td>"


def _class(value: Any) -> str:
    """Return what sets numbers to the right."""
    value = report.plain(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return ' class="number"' if is_number else ""


def _source(view: Report) -> str:
    """Return scenario, link and command: how to get the same again."""
    link = escape(view.link)
    if view.link.startswith(("http://", "https://")):
        link = f'<a href="{link}">{link}</a>'
    parts = (
        ("Scenario", f"<pre>{escape(view.toml)}</pre>" if view.toml else ""),
        ("Link", f'<p class="link">{link}</p>' if link else ""),
        ("Reproduce", f"<pre>{escape(view.command)}</pre>" if view.command else ""),
    )
    return "".join(f"<section><h2>{name}</h2>{text}</section>" for name, text in parts if text)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _script() -> str:
    """Return what draws the charts."""
    return f"{_read('figure.js')}\n{_read('report.js')}"


@cache
def _plotly() -> str:
    """Return plotly.js, which holds nothing that would end its script element."""
    text = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
