"""The product's source as data: its modules, and which of them imports which."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGE = "sim_core"
FILES = ("app.py", "pages/*.py", f"{PACKAGE}/**/*.py")
ROOMS = (
    "fields",
    "catalogue",
    "scenario",
    "traffic",
    "price",
    "engine",
    "results",
    "sweep",
    "evidence",
    "questions",
    "command",
    "view",
)  # in the order of the data: a room imports only rooms before it
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Module(NamedTuple):
    """One file; the name of a folder's `__init__.py` is the folder's."""

    name: str
    path: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> list[str]:
        """The parts of the name of the folder that it stands in."""
        parts = self.name.split(".")
        return parts if self.path.endswith("__init__.py") else parts[:-1]

    def place(self, node: ast.AST) -> str:
        """Return where a piece of it stands, as editors and terminals open it."""
        return f"{self.path}:{node.lineno}"


class Import(NamedTuple):
    """One module of the product imports another, at a place."""

    importer: str
    imported: str
    place: str


class Product:
    """The modules under a folder, by name."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        paths = [path for pattern in FILES for path in sorted(root.glob(pattern))]
        found = [_module(path, root) for path in paths]
        self.modules = {module.name: module for module in found}

    @cached_property
    def imports(self) -> list[Import]:
        """All imports of one module by another, those in functions too."""
        return [
            Import(module.name, target, module.place(node))
            for module in self.modules.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for target in sorted({self._home(name) for name in _names(node, module)} - {""})
        ]

    @cached_property
    def face(self) -> dict[str, str]:
        """The names that the package itself promises, with the modules that they come from."""
        tree = self.modules[PACKAGE].tree if PACKAGE in self.modules else ast.Module([], [])
        homes = [node.value for node in tree.body if isinstance(node, ast.Assign) and _is_homes(node)]
        return {name: f"{PACKAGE}.{home}" for node in homes for name, home in ast.literal_eval(node).items()}

    def _home(self, name: str) -> str:
        """Return the module that something imported comes from: "" for a package of others."""
        package, _, last = name.rpartition(".")
        if package == PACKAGE and last in self.face:
            return self.face[last]
        return next((known for known in (name, package) if known in self.modules), "")


def _module(path: Path, root: Path) -> Module:
    parts = path.relative_to(root).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Module(name, path.relative_to(root).as_posix(), text, ast.parse(text))


def _is_homes(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "_HOMES" for target in node.targets)


def _names(node: ast.Import | ast.ImportFrom, module: Module) -> list[str]:
    """Return what a statement imports, with full names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    package = module.package[: len(module.package) + 1 - node.level] if node.level else []
    start = ".".join([*package, *filter(None, [node.module])])
    return [f"{start}.{alias.name}" for alias in node.names]


def room_of(module: str) -> str:
    """Return the room that a module stands in: "" outside of all."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 and parts[1] in ROOMS else ""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions and methods of a tree, also those inside others."""
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))


def body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    """Return the statements of a function, without its docstring."""
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Return what can be reached from a node in at least one step."""
    seen: set[str] = set()
    new = set(graph.get(start, ()))
    while new:
        seen |= new
        new = {after for node in new for after in graph.get(node, ())} - seen
    return seen


def graph_of(edges: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Return edges as a graph, without those from a node to itself."""
    graph: dict[str, set[str]] = {}
    for start, end in edges:
        if start != end:
            graph.setdefault(start, set()).add(end)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes of which each can be reached from each other, sorted."""
    reach = {node: reachable(graph, node) for node in graph}
    groups = {
        frozenset(other for other in ends if node in reach.get(other, ()))
        for node, ends in reach.items()
        if node in ends
    }
    return sorted(sorted(group) for group in groups)
