"""How well the house is kept: `python -m benchmarks.house` measures the product's source by its syntax tree.

One line a mark: what is measured, its value, its limit. `--verbose` lists the places behind each,
`--check` makes the exit status 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.source import (
    FUNCTIONS,
    PACKAGE,
    ROOMS,
    Import,
    Module,
    Product,
    body,
    circles,
    functions,
    graph_of,
    room_of,
)

ENTRIES = 12
ENTRIES_OF_SETS = 14  # folders that hold a set of things of one kind
SETS = {f"{PACKAGE}/engine/kernels", f"{PACKAGE}/evidence/own/formats"}
NO_ENTRIES = {"__init__.py", "__main__.py", "__pycache__"}
CODE_LINES = 500
PAGE_LINES = 8  # without the docstring and empty lines: enough for imports and one call
REGISTERED = {"command", "group"}  # decorators after which nobody need call a function by its name


class Mark(NamedTuple):
    """One line of the table, and what stands behind it."""

    what: str
    value: int
    limit: int
    places: list[str]

    @property
    def holds(self) -> bool:
        """Whether the value is within the limit."""
        return self.value <= self.limit


def marks(product: Product) -> list[Mark]:
    """Return every mark of a product."""
    return [
        _counted("circles between files", 0, file_circles(product)),
        _counted("circles between rooms", 0, room_circles(product)),
        _counted("imports against the order of rooms", 0, upward_imports(product)),
        _counted("lazy imports outside the command line", 1, lazy_imports(product)),
        *_entries(product),
        *_lengths(product),
        _largest("longest function body, lines", 42, body_lines(product)),
        _largest("most arguments", 8, arguments(product)),
        _counted("public names in several modules", 30, shared_names(product)),
        _counted("`fmt: skip`", 20, occurrences(product, r"# fmt: skip")),
        _counted("`: Any`", 40, occurrences(product, r": Any\b")),
        _counted("functions that only tests use", 0, unused_functions(product)),
        _counted(f"pages of more than {PAGE_LINES} lines", 0, long_pages(product)),
    ]


def _counted(what: str, limit: int, places: list[str]) -> Mark:
    return Mark(what, len(places), limit, places)


def _largest(what: str, limit: int, sizes: dict[str, int]) -> Mark:
    """Return the mark of the largest; its places are those over the limit, or else the largest alone."""
    order = sorted(sizes, key=lambda place: -sizes[place])
    over = [place for place in order if sizes[place] > limit] or order[:1]
    return Mark(what, max(sizes.values(), default=0), limit, [f"{place} {sizes[place]}" for place in over])


# --- rooms ----------------------------------------------------------------------------------------


def file_circles(product: Product) -> list[str]:
    """Return the groups of modules that import one another, directly or by way of others."""
    graph = graph_of((item.importer, item.imported) for item in product.imports)
    return [" <-> ".join(group) for group in circles(graph)]


def room_circles(product: Product) -> list[str]:
    """Return the groups of entries of one folder that import one another, at least one a folder itself."""
    edges = defaultdict(list)
    for item in product.imports:
        importer, imported = item.importer.split("."), item.imported.split(".")
        for depth in range(1, min(len(importer), len(imported))):
            if importer[:depth] == imported[:depth]:
                edges[depth].append((".".join(importer[: depth + 1]), ".".join(imported[: depth + 1])))
    folders = {".".join(module.package) for module in product.modules.values()}
    groups = [group for level in edges.values() for group in circles(graph_of(level))]
    return [" <-> ".join(group) for group in groups if folders & {*group}]


def upward_imports(product: Product) -> list[str]:
    """Return the imports from a room that comes later in the order of rooms."""

    def upward(item: Import) -> bool:
        importer, imported = room_of(item.importer), room_of(item.imported)
        return bool(importer and imported) and ROOMS.index(importer) < ROOMS.index(imported)

    return [f"{item.place} {item.imported}" for item in product.imports if upward(item)]


def lazy_imports(product: Product) -> list[str]:
    """Return the imports inside functions, but for those of the command line, which must start quickly."""
    modules = [module for module in product.modules.values() if room_of(module.name) != "command"]
    return [
        f"{module.place(node)} {ast.unparse(node)}"
        for module in modules
        for node in {node: None for function in functions(module.tree) for node in ast.walk(function)}
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def _entries(product: Product) -> Iterator[Mark]:
    """Yield the marks of entries a folder: Python files and folders. Other files go with their page."""
    counts = {}
    for folder in sorted({path.parent for path in (product.root / PACKAGE).rglob("*.py")}):
        entries = [path for path in folder.iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))]
        names = {path.name for path in entries} - NO_ENTRIES
        counts[folder.relative_to(product.root).as_posix()] = len(names)
    sets = {folder: count for folder, count in counts.items() if folder in SETS}
    yield _largest("most entries of a folder", ENTRIES, {key: counts[key] for key in counts.keys() - SETS})
    yield _largest("... of kernels and formats", ENTRIES_OF_SETS, sets)


# --- files and functions --------------------------------------------------------------------------


def _lengths(product: Product) -> Iterator[Mark]:
    """Yield the marks of the lengths of files."""
    lines = {module.path: len(module.text.splitlines()) for module in product.modules.values()}
    long = [f"{path} {count}" for path, count in lines.items() if count > CODE_LINES]
    yield _counted(f"files of more than {CODE_LINES} lines", 5, long)
    yield _largest("longest file, lines", 700, lines)


def body_lines(product: Product) -> dict[str, int]:
    """Return the lines of each function, from its first statement after the docstring to its last."""
    return {
        f"{module.place(function)} {function.name}": function.end_lineno - statements[0].lineno + 1
        for module in product.modules.values()
        for function in functions(module.tree)
        if (statements := body(function))
    }


def arguments(product: Product) -> dict[str, int]:
    """Return how many arguments each function takes, `self` and `cls` not counted."""
    return {
        f"{module.place(function)} {function.name}": len({*_argument_names(function.args)} - {"self", "cls"})
        for module in product.modules.values()
        for function in functions(module.tree)
    }


def _argument_names(taken: ast.arguments) -> Iterator[str]:
    every = (*taken.posonlyargs, *taken.args, taken.vararg, *taken.kwonlyargs, taken.kwarg)
    return (argument.arg for argument in every if argument)


def shared_names(product: Product) -> list[str]:
    """Return the public functions and classes whose name stands in several modules."""
    homes = defaultdict(list)
    for module in product.modules.values():
        for node in module.tree.body:
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
                homes[node.name].append(module.place(node))
    return [f"{name}: {', '.join(places)}" for name, places in sorted(homes.items()) if len(places) > 1]


def occurrences(product: Product, pattern: str) -> list[str]:
    """Return the places of a pattern in the text."""
    return [
        f"{module.path}:{number}"
        for module in product.modules.values()
        for number, line in enumerate(module.text.splitlines(), start=1)
        for _ in re.finditer(pattern, line)
    ]


def unused_functions(product: Product) -> list[str]:
    """Return the functions of modules whose name occurs nowhere in the product outside their own definition.

    What the package promises (`sim_core.__all__`) and what a decorator registers, such as a command,
    is used from outside.
    """
    used = defaultdict(set)
    for module in product.modules.values():
        for node in module.tree.body:
            for name in _mentions(node, module):
                used[name].add((module.name, getattr(node, "name", node.lineno)))
    return [
        f"{module.place(node)} {node.name}"
        for module in product.modules.values()
        for node in module.tree.body
        if isinstance(node, FUNCTIONS) and not _called_from_outside(node, product)
        if not used[node.name] - {(module.name, node.name)}
    ]


def _called_from_outside(function: ast.FunctionDef, product: Product) -> bool:
    decorators = {
        part.attr
        for item in function.decorator_list
        for part in ast.walk(item)
        if isinstance(part, ast.Attribute)
    }
    return bool(decorators & REGISTERED) or function.name in product.face or function.name.startswith("__")


def _mentions(statement: ast.stmt, module: Module) -> Iterator[str]:
    """Yield the names that a statement uses. An `__init__.py` that only hands a name on does not use it."""
    hands_on = module.path.endswith("__init__.py")
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias) and not hands_on:
            yield node.name


def long_pages(product: Product) -> list[str]:
    """Return the pages that are more than a docstring, a few imports and a call."""
    pages = [module for module in product.modules.values() if module.name.startswith("pages.")]
    sizes = {module.path: _lines_after_docstring(module) for module in pages}
    return [f"{path} {count}" for path, count in sizes.items() if count > PAGE_LINES]


def _lines_after_docstring(page: Module) -> int:
    docstring = ast.get_docstring(page.tree) is not None
    lines = page.text.splitlines()[page.tree.body[0].end_lineno if docstring else 0 :]
    return sum(bool(line.strip()) for line in lines)


# --- the table ------------------------------------------------------------------------------------


def table(measured: list[Mark], verbose: bool = False) -> str:
    """Return the marks as text, with the places behind each if asked for."""
    lines = [f"{'mark':<40} {'value':>6} {'limit':>6}"]
    for mark in measured:
        lines.append(f"{mark.what:<40} {mark.value:>6} {mark.limit:>6}  {'ok' if mark.holds else 'over'}")
        lines += [f"    {place}" for place in mark.places if verbose]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Print the marks of this product; return 1 if one is broken and `--check` asks for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit status 1 if a mark is broken")
    parser.add_argument("--verbose", action="store_true", help="list the places behind each mark")
    chosen = parser.parse_args(words)
    measured = marks(Product())
    print(table(measured, chosen.verbose))
    return int(chosen.check and not all(mark.holds for mark in measured))


if __name__ == "__main__":
    sys.exit(main())
