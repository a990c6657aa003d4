"""The rooms: who may import whom. Oracle of every test: the layout in the README and in the house style."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

import sim_core
from tests.places import ROOT

VIEW = ROOT / "sim_core" / "view"
CORE = sorted({*(ROOT / "sim_core").rglob("*.py")} - {*VIEW.rglob("*.py")})
PAGES = [ROOT / "app.py", *sorted((ROOT / "pages").glob("*.py"))]
SOURCES = [*CORE, *sorted(VIEW.rglob("*.py")), *PAGES, *sorted((ROOT / "benchmarks").glob("*.py"))]
SCREEN = {"streamlit", "plotly"}
NETWORK = {"requests", "httpx", "aiohttp", "urllib3", "http", "socket", "ftplib", "smtplib", "urllib.request"}
ONLINE = {
    "own/server.py",
    "benchmarks/real_engine.py",
    "benchmarks/workshop.py",
}  # they talk to servers that their user names or starts
UNSAFE = {"pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib"}


@cache
def imported(path: Path) -> set[str]:
    """Return the modules a file imports anywhere, with their packages: `a.b.c` gives `a`, `a.b`, `a.b.c`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names]
    return {".".join(words[:length]) for words in parts for length in range(1, len(words) + 1)}


def importers(paths: Iterable[Path], names: set[str]) -> list[str]:
    """Return which files import any of some modules, each with what it imports of them."""
    found = {path.relative_to(ROOT): sorted(imported(path) & names) for path in paths}
    return [f"{path}: {', '.join(taken)}" for path, taken in found.items() if taken]


def test_the_core_knows_no_screen() -> None:
    """Oracle: inside `sim_core`, only `view` may know Streamlit and Plotly, and the core does not know it."""
    assert importers(CORE, SCREEN | {"sim_core.view", "app"}) == []
    assert len(importers(VIEW.rglob("*.py"), SCREEN)) > 20  # that is what importing it looks like


def test_pages_and_the_view_compute_nothing() -> None:
    """Oracle: they call the simulator's face and draw what it returns, never the compiler or a kernel."""
    compiled = {"numba", "sim_core.engine.kernels"}
    assert importers([*PAGES, *VIEW.rglob("*.py")], compiled) == []
    assert importers(CORE, compiled) != []


def test_one_room_is_compiled() -> None:
    """Oracle: the folder of the cache, which follows from the kernels' room alone."""
    users = {path.relative_to(ROOT / "sim_core") for path in CORE if "numba" in imported(path)}
    assert users == {Path("engine", "compiling.py"), Path("engine", "progress.py")}  # which only listens


def test_nothing_reaches_the_network_or_unpickles() -> None:
    """Oracle: the product works without a network, and never executes what it reads."""
    offline = [path for path in SOURCES if "/".join(path.parts[-2:]) not in ONLINE]
    assert len(offline) == len(SOURCES) - len(ONLINE)
    assert importers(offline, NETWORK | UNSAFE) == []


def test_only_a_command_measures_over_the_network() -> None:
    """Oracle: `measure` talks to the server that its user names; no page and no other module imports it."""
    assert not imported(ROOT / "sim_core" / "evidence" / "own" / "probe.py") & UNSAFE
    users = [path for path in SOURCES if "sim_core.evidence.own.probe" in imported(path)]
    assert {path.name for path in users} <= {"own.py", "real_engine.py"}


def test_nothing_evaluates_text() -> None:
    """Oracle: no `eval`, `exec` or `compile` of text from links and files."""
    unsafe = {"eval", "exec", "compile", "__import__"}
    calls = {path.relative_to(ROOT): sorted(called(path) & unsafe) for path in SOURCES}
    assert {path: names for path, names in calls.items() if names} == {}


def called(path: Path) -> set[str]:
    """Return the plain names that a file calls."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


def modules_after(code: str) -> set[str]:
    """Return the modules a fresh interpreter holds after running some code."""
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_core_loads_no_screen() -> None:
    """Oracle: the modules of a fresh interpreter that imported every module of the core."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in CORE if not path.stem.startswith("__")]
    names = ", ".join(".".join(path.parts) for path in paths)
    assert not modules_after(f"import {names}") & SCREEN


def test_light_work_loads_no_compiler() -> None:
    """Oracle: the modules of a fresh interpreter after links, TOML and `list`."""
    links = "from sim_core import load_scenario, Scenario\nload_scenario('seed=3&mix=flat:1')"
    assert not modules_after(links) & {"numba", "pandas", "sim_core.engine.kernels"}
    listing = (
        "import io\nfrom sim_core.command.main import main\nout, sys.stdout = sys.stdout, io.StringIO()\n"
    )
    listing += "main(['list', 'accelerators'])\nsys.stdout = out"
    assert not modules_after(listing) & {"numba", "pandas", "sim_core.engine.kernels"}


def test_the_public_face() -> None:
    """Oracle: the promised names, whatever was imported before; `frontier` is a function, not a module."""
    from sim_core import Scenario, ScenarioError, capacity, frontier, load_scenario, simulate, summarize

    for function in (capacity, frontier, load_scenario, simulate, summarize):
        assert callable(function)
    assert issubclass(ScenarioError, ValueError)
    assert load_scenario("") == Scenario()
    assert sim_core.frontier is frontier
    assert set(sim_core.__all__) <= set(dir(sim_core))
    with pytest.raises(AttributeError, match="nonsense"):
        sim_core.nonsense  # noqa: B018


def test_one_version() -> None:
    """Oracle: pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sim_core.__version__ == project["version"]


def test_functions_stay_short():
    """Oracle: the house rule that no function of the product has more than 60 lines."""
    long = {}
    for path in [*(ROOT / "sim_core").rglob("*.py"), *(ROOT / "pages").glob("*.py"), ROOT / "app.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                long[f"{path.name}:{node.name}"] = node.end_lineno - node.lineno + 1
    assert long == {}


def test_how_many_of_what_is_said_in_one_place() -> None:
    """Oracle: `counted` puts the plural's letter to a noun, nobody else does."""
    plural = re.compile(r"""["']s["'] if [\w.]+ (?:>|!=|==) 1""")
    found = [path for path in SOURCES if plural.search(path.read_text(encoding="utf-8"))]
    assert [path.name for path in found] == []


def test_no_room_hands_on_what_another_defines() -> None:
    """Oracle: `X as X` is how a module says so; names are imported from where they are defined."""
    again = re.compile(r"^from .* import .*\b(\w+) as \1\b", re.MULTILINE)
    found = {path.name for path in SOURCES if again.search(path.read_text(encoding="utf-8"))}
    assert found == set()
