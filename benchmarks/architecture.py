"""Draw the rooms into docs/architecture.md: `python -m benchmarks.architecture` writes what the code gives.

Words come from each room's `__init__.py`, arrows from the imports. An arrow that others imply is left out.
"""

from __future__ import annotations

import ast

from benchmarks.source import PACKAGE, ROOMS, ROOT, Product, graph_of, reachable, room_of

FILE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- the rooms, as `python -m benchmarks.architecture` draws them -->\n"
END = "<!-- end of the rooms -->\n"


def picture(product: Product) -> str:
    """Return the rooms as a flowchart in Mermaid's language, an arrow from each to those that it imports."""
    edges = [(room_of(item.importer), room_of(item.imported)) for item in product.imports]
    graph = direct(graph_of(edge for edge in edges if all(edge)))
    rooms = [room for room in ROOMS if f"{PACKAGE}.{room}" in product.modules]
    nodes = [f'    {room}["<b>{room}</b><br>{words(product, room)}"]' for room in rooms]
    arrows = [
        f"    {room} --> {other}"
        for room in reversed(rooms)
        for other in ROOMS
        if other in graph.get(room, ())
    ]
    return "\n".join(["```mermaid", "flowchart TD", *reversed(nodes), *arrows, "```", ""])


def words(product: Product, room: str) -> str:
    """Return the first line of a room's docstring."""
    text = ast.get_docstring(product.modules[f"{PACKAGE}.{room}"].tree) or ""
    return text.partition("\n")[0].replace('"', "#quot;")


def direct(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return a graph without the edges that a longer way replaces."""
    return {
        node: {end for end in ends if not any(end in reachable(graph, other) for other in ends)}
        for node, ends in graph.items()
    }


def redrawn(text: str, product: Product) -> str:
    """Return a text with the picture of today between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + picture(product) + END + after


if __name__ == "__main__":
    FILE.write_text(redrawn(FILE.read_text(encoding="utf-8"), Product()), encoding="utf-8")
