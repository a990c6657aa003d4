"""The chunks of a large sweep on disk: each a file that is whole or not there, joined into one at the end."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sim_core.fields.errors import ScenarioError

_NAME = re.compile(r"(\d+)-(\d+)\.parquet")
_DIGEST = "sweep.sha256"
ABOUT = "batchscope"
POSSIBLE = "feasible"  # the column that says whether a point can be run
SWEEP = "batchscope_sweep"  # the digest of the sweep whose table a file holds


class Parts:
    """The folder beside a table in which its chunks wait until all are there.

    Parameters
    ----------
    out : Path
        Where the table will lie.
    digest : str
        Of the sweep, `Grid.digest`.
    about : mapping, optional
        What the table says of itself (`ABOUT` of its metadata), so that a row can be run again.

    Raises
    ------
    ScenarioError
        If another table lies at `out`, the folder holds chunks of another sweep, or cannot be one.
    """

    def __init__(self, out: Path, digest: str, about: Mapping[str, Any] = MappingProxyType({})) -> None:
        _refuse_another(out, digest)
        self._out = out
        self._about = {ABOUT: json.dumps(dict(about)), SWEEP: digest}
        self.folder = out.with_name(f"{out.name}.parts")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise ScenarioError(
                f"{str(self.folder)[-100:]!r} is a file, but the chunks of the sweep wait in a folder of "
                "that name. Move that file away, or choose another --out."
            ) from None
        written = self.folder / _DIGEST
        known = written.read_bytes().decode(errors="replace").strip() if written.exists() else ""
        if (known or any(self._found())) and known != digest:
            raise ScenarioError(
                f"{str(self.folder)[-100:]!r} holds the beginning of another sweep, or of this one by "
                "another version. Delete that folder, or choose another --out."
            )
        written.write_text(digest, encoding="utf-8")
        self._drop_unusable()

    def _drop_unusable(self) -> None:
        """Drop the chunks that are cut short, damaged, or of points that others hold: they are run anew."""
        reached = 0
        for begin, end, path in sorted(self._found()):
            if begin < reached or _rows(path) != end - begin:
                path.unlink(missing_ok=True)
            else:
                reached = end

    def missing(self, count: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield the chunks of so many points that are not there yet, each of at most `size` points."""
        start = 0
        for begin, end in [*sorted((begin, end) for begin, end, _ in self._found()), (count, count)]:
            while start < begin:
                stop = min(start + size, begin)
                yield start, stop
                start = stop
            start = max(start, end)

    def points(self) -> int:
        """Return how many points are there."""
        return sum(end - begin for begin, end, _ in self._found())

    def impossible(self) -> int:
        """Return how many of the points that are there cannot be run."""
        columns = (pq.read_table(path, columns=[POSSIBLE])[POSSIBLE] for *_, path in self._found())
        return sum(len(column) - (pc.sum(column).as_py() or 0) for column in columns)

    def add(self, start: int, stop: int, table: pa.Table) -> None:
        """Keep the rows from `start` up to `stop`."""
        place = self.folder / f"{start}-{stop}.parquet"
        beside = place.with_suffix(f".{os.getpid()}")
        pq.write_table(table, beside, write_page_checksum=True)
        beside.replace(place)

    def join(self) -> None:
        """Write all rows, in order, as one table, and drop the parts. One part is held at a time.

        A column that some parts lack, or know as whole numbers, is as wide as the widest.
        """
        files = [path for _, _, path in sorted(self._found())]
        schema = pa.unify_schemas([pq.read_schema(path) for path in files], promote_options="permissive")
        schema = schema.with_metadata(self._about)
        beside = self.folder / "whole"
        with pq.ParquetWriter(beside, schema) as writer:
            for path in files:
                writer.write_table(_fitted(pq.read_table(path), schema))
        beside.replace(self._out)
        shutil.rmtree(self.folder)

    def _found(self) -> Iterator[tuple[int, int, Path]]:
        for path in self.folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                yield int(match[1]), int(match[2]), path


def _refuse_another(out: Path, digest: str) -> None:
    """Raise a `ScenarioError` if a file lies at `out` that is not empty, and not of the same sweep."""
    if not out.exists() or (out.is_file() and out.stat().st_size == 0):
        return
    try:
        about = pq.read_metadata(out).metadata or {}
    except (pa.ArrowException, OSError):
        about = {}
    if about.get(SWEEP.encode()) != digest.encode():
        swept = "the table of another sweep, or of this one by another version"
        held = swept if ABOUT.encode() in about else "what no sweep wrote"
        raise ScenarioError(
            f"{str(out)[-100:]!r} is there already and holds {held}. Choose another --out, or move that "
            "file away."
        )


def _rows(path: Path) -> int:
    """Return how many rows a chunk has; -1 if it cannot be read, or is not as it was written."""
    try:
        return int(pq.read_table(path, page_checksum_verification=True).num_rows)
    except (pa.ArrowException, OSError):
        return -1


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    names = set(table.schema.names)
    columns = (
        table[field.name].cast(field.type) if field.name in names else pa.nulls(len(table), field.type)
        for field in schema
    )
    return pa.table(list(columns), schema=schema)
