"""Databases for tests: a SQLite file, and a PostgreSQL server of one's own, on a socket in a folder."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def sqlite_url(folder: Path) -> str:
    """Return the address of a SQLite file."""
    return f"sqlite:///{folder / 'rooms.sqlite'}"


def _programs() -> Path | None:
    """Return the folder with PostgreSQL's programs; Debian keeps them off the path."""
    known = shutil.which("initdb")
    if known:
        return Path(known).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def postgres_url() -> Iterator[str]:
    """Run a PostgreSQL server, which refuses to be root, and yield its address; skip where there is none."""
    pytest.importorskip("psycopg")
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server found")
    user = "postgres" if hasattr(os, "geteuid") and os.geteuid() == 0 else getpass.getuser()
    folder = tempfile.mkdtemp(prefix="pg")  # short: the name of a socket may not be long
    shutil.chown(folder, user)
    run = {"user": user} if user == "postgres" else {}
    data = f"{folder}/data"

    def do(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, **run)

    do(f"{programs}/initdb", "-D", data, "-A", "trust", "-U", "batchscope", "--no-sync")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=100"
    do(f"{programs}/pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://batchscope@/postgres?host={folder}"
    finally:
        do(f"{programs}/pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
