"""What holds for all tests: Hypothesis profiles, and kernels that are compiled once for all workers.

Hypothesis is quick and repeatable by default, deep with `--hypothesis-profile=slow`.
"""

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, settings

from tests.places import ROOT

# The first example compiles the kernels, which no deadline would forgive.
COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}

settings.register_profile("quick", max_examples=150, derandomize=True, database=None, **COMMON)
settings.register_profile("slow", max_examples=5000, print_blob=True, **COMMON)
settings.load_profile("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels before the workers of a whole suite begin: each of them would, at the same time."""
    config = session.config
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        from sim_core.engine import progress

        if not progress.has_cache():
            command = [sys.executable, "-m", "sim_core.view.session.preparation"]
            subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
