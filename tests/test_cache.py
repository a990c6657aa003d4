"""The cache of compiled kernels: nothing breaks where no directory for it can be written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMAND = ("-m", "sim_core", "run", "requests=200", "--format", "json")

WINDOWS = "Windows takes the user's folder from the system"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason=WINDOWS)


@pytest.fixture
def homeless(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
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

    def python(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-W", "error", *arguments]
        environment = os.environ | homes
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return python


def test_kernels_do_without_a_cache(homeless: Callable[..., subprocess.CompletedProcess]) -> None:
    """Oracle: Numba's own `cache=True`, which refuses there; the kernels compile all the same."""
    refused = homeless("-c", "from sim_core import plain")
    assert "no locator available" in refused.stderr
    code = "from sim_core.engine.kernels import one_pool\nprint(type(one_pool.run_continuous).__name__)"
    ready = homeless("-c", code)
    assert (ready.returncode, ready.stdout, ready.stderr) == (0, "CPUDispatcher\n", "")


@pytest.mark.slow
def test_a_run_without_a_cache(homeless: Callable[..., subprocess.CompletedProcess]) -> None:
    """Oracle: the same command with a cache."""
    usual = subprocess.run([sys.executable, *COMMAND], cwd=ROOT, capture_output=True, text=True, check=True)
    alone = homeless(*COMMAND)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert json.loads(alone.stdout) == json.loads(usual.stdout)
