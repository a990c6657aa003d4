"""The kernels' cache on disk: what it follows from, what becomes of a damaged one, and doing without it."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sim_core.engine import kernels
from sim_core.engine.kernels.memory import prefix
from sim_core.engine.kernels.one_pool import advance, run_balanced, run_continuous
from sim_core.engine.kernels.static import run_static
from tests.places import ROOT

KERNELS = ROOT / "sim_core" / "engine" / "kernels"
COMMAND = ("-m", "sim_core", "run", "requests=30&output_tokens=20&prompt_cv=0&output_cv=0")
Python = Callable[..., subprocess.CompletedProcess]

# A small entry point, which calls an inner function: what 3 x 4 and one more are.
TINY = """
import sys
sys.path.insert(0, {folder!r})
from sim_core.engine import compiling
from tiny_kernel import times
print(times(3, 4))
"""
TINY_KERNEL = """
from sim_core.engine.compiling import Entry, inner

@inner
def one_more(a):
    return a + 1

@Entry
def times(a, b):
    return one_more(a * b)
"""
ANSWER = "13\n"


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """Return a program that calls a kernel of its own, which is quickly compiled."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "tiny_kernel.py").write_text(TINY_KERNEL)
    return TINY.format(folder=str(folder))


@pytest.fixture
def python(tmp_path: Path) -> Python:
    """Return a way to run Python on the product, with a cache of its own in `tmp_path`."""

    def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        arguments = ("-c", before + arguments[0]) if len(arguments) == 1 else arguments
        command = [sys.executable, "-W", "error", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture
def homeless(tmp_path: Path) -> Python:
    """Return a way to run Python where every place for the cache is blocked.

    A file stands where each directory would be: permissions would not stop root.
    """
    for folder in ("sim_core", "presets"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    plain = "import numba\n\n\n@numba.njit(cache=True)\ndef nothing():\n    pass\n"
    (tmp_path / "sim_core" / "plain.py").write_text(plain)
    blocked = tmp_path / "file"
    rooms = [path.parent for path in (tmp_path / "sim_core").rglob("__init__.py")]
    for path in (*(room / "__pycache__" for room in rooms), blocked):
        path.touch()
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "IPYTHONDIR"), str(blocked / "home"))

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-W", "error", *arguments]
        environment = os.environ | homes
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_kernels_do_without_a_cache(homeless: Python, tiny: str) -> None:
    """Oracle: Numba's own `cache=True`, which refuses there; the kernels compile all the same."""
    refused = homeless("-c", "from sim_core import plain")
    assert "no locator available" in refused.stderr
    done = homeless("-c", tiny + "print(compiling.FOLDER)")
    assert (done.returncode, done.stdout, done.stderr) == (0, ANSWER + "None\n", "")


@pytest.mark.slow
def test_a_run_without_a_cache(homeless: Python) -> None:
    """Oracle: the same command with a cache."""
    usual = subprocess.run([sys.executable, *COMMAND], cwd=ROOT, capture_output=True, text=True, check=True)
    alone = homeless(*COMMAND)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert json.loads(alone.stdout) == json.loads(usual.stdout)


@pytest.mark.slow
def test_a_damaged_cache_is_made_anew(python: Python, tiny: str, tmp_path: Path) -> None:
    """Oracle: the answer by hand, whichever file was cut or garbled, and files that are whole again."""
    assert python(tiny).stdout == ANSWER
    files = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*.nb*")}
    assert len(files) == 2  # an index and the code
    for path, whole in files.items():
        for damaged in (b"", whole[:100], whole[:200] + bytes(len(whole) - 200)):
            path.write_bytes(damaged)
            done = python(tiny)
            assert (done.returncode, done.stdout, done.stderr) == (0, ANSWER, ""), (path.name, len(damaged))
            assert path.stat().st_size > 200


def test_a_cache_is_used_again(python: Python, tiny: str) -> None:
    """Oracle: Numba's own count of hits and misses."""
    count = "found = times._compiled.stats\n"
    count += "print(sum(found.cache_hits.values()), sum(found.cache_misses.values()))"
    assert python(tiny + count).stdout == ANSWER + "0 1\n"
    assert python(tiny + count).stdout == ANSWER + "1 0\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_done_without(python: Python, tiny: str) -> None:
    """Oracle: the answer by hand, where no file can hold more than a few bytes."""
    full = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))\n"
    for _ in range(2):
        done = python(tiny, before=full)
        assert (done.returncode, done.stdout, done.stderr) == (0, ANSWER, "")
    assert python(tiny).stdout == ANSWER


def test_any_edit_of_the_kernels_is_noticed(tmp_path: Path) -> None:
    """Oracle: the folder's name, before and after a line is added to files that machine code follows from."""
    for folder in ("sim_core", "presets"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from sim_core.engine import compiling\nprint(compiling.FOLDER.name)"
    names = []
    edited = [*sorted((tmp_path / KERNELS.relative_to(ROOT)).rglob("*.py"))[::6]]
    edited += [tmp_path / "sim_core" / "price" / "step_cost.py"]
    for path in (None, *edited):
        if path:
            path.write_text(path.read_text() + "\n# changed\n")
        command = [sys.executable, "-c", code]
        names.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout)
    assert len(set(names)) == len(edited) + 1
    left = list((tmp_path / "sim_core" / "engine" / "__pycache__").glob("kernels-*"))
    assert [path.name + "\n" for path in left] == names[-1:]  # folders of old sources are gone


def test_python_calls_entry_points_alone() -> None:
    """Oracle: the source. A function compiled without a wrapper ends the process when Python calls it."""
    makers = {"inner", "inlined", "written_in"}
    inner = {name for path in KERNELS.rglob("*.py") for name in decorated(path, makers)}
    assert {"advance", "planned_step", "gap_bin"} <= inner
    for path in [*(ROOT / "sim_core").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        if KERNELS in path.parents:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        taken = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and "engine.kernels" in (node.module or "")
            for alias in node.names
        }
        assert not taken & inner - {"advance"}, path  # of which a test reads the options


def decorated(path: Path, decorators: set[str]) -> list[str]:
    """Return the functions of a file that have one of some decorators, or are made by one of another."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    made = [node for node in body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)]
    return [
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef)
        and decorators & {item.id for item in node.decorator_list if isinstance(item, ast.Name)}
    ] + [
        target.id
        for node in made
        if isinstance(node.value.func, ast.Name) and node.value.func.id in decorators
        for target in node.targets
    ]


@pytest.mark.slow
def test_every_kernel_is_compiled_once(python: Python) -> None:
    """Oracle: Numba's list of signatures after a run of each part in a new process: no function is compiled
    for other types again. What is written into another one, and what these runs do not use, has none.
    """
    done = python("""
import importlib, pkgutil
from sim_core import Scenario
from sim_core.engine import kernels, run
from sim_core.questions.shift.study import Study
from sim_core.results import metrics
for part in run.PARTS:
    part.use()
metrics.point_of(run.run(Scenario(requests=50)))
Study(Scenario(demand_hours=0.05, dwell_s=30.0, init_s=1.0, warm_up_s=1.0)).outcome("oracle")
for found in pkgutil.walk_packages(kernels.__path__, kernels.__name__ + "."):
    for name, item in vars(importlib.import_module(found.name)).items():
        if getattr(getattr(item, "py_func", None), "__module__", "") == found.name:
            print(len(item.signatures), found.name, name)
""")
    lines = done.stdout.splitlines()
    assert len(lines) > 90
    again = {line.split()[-1] for line in lines if not line.startswith(("0 ", "1 "))}
    # small ones: of engines and of groups of ranks, of those in two pools, and of stages
    assert again == {"bring_coming", "choose_replica", "group_behind", "report_work"}
    assert sum(line.startswith("1 ") for line in lines) > 90


@pytest.mark.slow
def test_what_keeps_texts_is_compiled_only_where_some_are_kept(python: Python) -> None:
    """Oracle: Numba's signatures after a run without a prefix cache: most of the compiling is not for it."""
    done = python("""
from sim_core.engine import run
from sim_core.engine.kernels.memory import by_block, by_session, pieces
run.PARTS[0].use()
for module in (by_block, by_session, pieces):
    print([name for name, item in vars(module).items() if getattr(item, "signatures", None)])
""")
    assert done.stdout.splitlines() == ["[]"] * 3


def test_every_function_says_whether_it_is_written_into_its_callers() -> None:
    """Oracle: Numba's options: what does not say takes it from its callers, and stands there many times."""
    options = {
        f"{found.name}.{name}": item.targetoptions
        for found in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}.")
        for name, item in vars(importlib.import_module(found.name)).items()
        if hasattr(item, "targetoptions")
    }
    assert len(options) > 90
    assert [name for name, given in options.items() if not {"forceinline", "inline"} & given.keys()] == []


def test_what_types_choose_is_called_by_kernels_alone() -> None:
    """Oracle: there is nothing to call from Python, which has no types to choose by."""
    with pytest.raises(TypeError, match="leave_text is called by kernels alone"):
        prefix.leave_text(None, None, None, 0, 0)


def test_kernels_are_compiled_for_exact_sums_and_many_threads() -> None:
    """Oracle: the house rules. No fast mathematics, no parallel regions, and no lock held while running."""
    for compiled in (run_continuous._compiled, run_balanced._compiled, run_static._compiled, advance):
        options = compiled.targetoptions
        assert options["nogil"] and not options.get("parallel") and not options.get("fastmath")


def test_what_is_compiled_for_other_types_later_is_kept_as_well(python: Python, tmp_path: Path) -> None:
    """Oracle: the list of the cache: it holds the digests of all files that there are in the end."""
    kernel = TINY_KERNEL.replace("one_more(a * b)", "a * b")
    (tmp_path / "tiny_kernel.py").write_text(kernel)
    code = TINY.format(folder=str(tmp_path)) + "print(times(0.5, 4.0))\n"
    assert python(code).stdout.split() == ["12", "2.0"]
    (listed,) = (tmp_path / "cache").rglob("files.json")
    kept = {path.name for path in listed.parent.rglob("*.nb*")}
    assert {Path(name).name for name in json.loads(listed.read_text())} == kept
    assert python(code).stdout.split() == ["12", "2.0"]
    assert {path.name for path in listed.parent.rglob("*.nb*")} == kept
