"""Who runs the chunks of a large sweep: threads or processes of this machine, or a Dask cluster."""

from __future__ import annotations

import os
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context

from sim_core.fields.errors import ScenarioError

try:
    import distributed
except ImportError:  # the only package that is no requirement
    distributed = None

THREADS, PROCESSES = "threads", "processes"
VARIABLE = "BATCHSCOPE_SCHEDULER"
_SCHEMES = ("tcp://", "tls://", "ws://", "wss://", "ucx://")


class Crew(AbstractContextManager["Crew"]):
    """Executors behind one name, with how many work at once.

    Parameters
    ----------
    scheduler : str
        ``threads``, ``processes``, or the address of a Dask scheduler such as ``tcp://host:8786``; empty
        stands for the environment's `BATCHSCOPE_SCHEDULER`, else threads: kernels release the lock, and
        nothing is sent or compiled twice.
    count : int
        Threads or processes; 0 = one a core. A cluster has its own.

    Raises
    ------
    ScenarioError
        If the scheduler has no such name, cannot be reached, or Dask is not installed.
    """

    def __init__(self, scheduler: str = "", count: int = 0) -> None:
        name = scheduler or os.environ.get(VARIABLE, "") or THREADS
        self.count = count or os.cpu_count() or 1
        self._client: AbstractContextManager | None = None
        if name == THREADS:
            self.executor: Executor = ThreadPoolExecutor(self.count, "large-sweep")
        elif name == PROCESSES:
            self.executor = ProcessPoolExecutor(self.count, get_context("spawn"))
        elif name.startswith(_SCHEMES):
            self._join_cluster(name)
        else:
            raise ScenarioError(
                f"no scheduler is called {name[:60]!r}: choose {THREADS}, {PROCESSES}, or the address of a "
                "Dask scheduler such as tcp://host:8786."
            )

    def _join_cluster(self, address: str) -> None:
        if distributed is None:
            raise ScenarioError(
                f"a sweep on {address} needs Dask, here and on every worker: "
                "pip install -r requirements-cluster.txt"
            )
        try:
            client = distributed.Client(address, timeout="10s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise ScenarioError(f"no Dask scheduler answers at {address}: {error}") from None
        self._client = client
        self.count = max(sum(client.nthreads().values()), 1)
        self.executor = client.get_executor(retries=5)

    def __exit__(self, *_: object) -> None:
        if self._client is None:
            self.executor.shutdown(wait=True, cancel_futures=True)
        else:
            self._client.__exit__(None, None, None)
