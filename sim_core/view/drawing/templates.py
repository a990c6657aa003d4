"""HTML and SVG of the pages, made by the template files in `view/templates` and by nothing else.

A template gets plain texts and numbers and escapes each of them, so a visitor's text stays text. What one
template has made, another one takes as it is (`Markup`); Python never puts a tag together.
"""

from __future__ import annotations

from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sim_core.view.drawing.terms import pieces_of

FOLDER = Path(__file__).parent.parent / "templates"
_environment = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["pieces"] = pieces_of
_environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}


def render(name: str, **values: object) -> Markup:
    """Return a template with its values in place, each of them escaped.

    Examples
    --------
    >>> str(render("parts/strip_title.html", title="<b> & more", apart=False))
    '<div class="bs-strip-title">&lt;b&gt; &amp; more</div>'
    """
    return Markup(_environment.get_template(name).render(values))


@cache
def as_is(file: Traversable) -> Markup:
    """Return a style sheet or script, of this package or another one, which HTML holds unescaped."""
    text = file.read_text(encoding="utf-8")
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
