"""What a team offers to all visitors: files in `presets/team/`, or those that `BATCHSCOPE_PRESETS` names."""

from __future__ import annotations

import os
from pathlib import Path

from sim_core.catalogue.reader import PRESETS
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import printable, read_text
from sim_core.scenario.kept import NOTHING, Kept, read_kept, with_all_of

SETTING = "BATCHSCOPE_PRESETS"  # a TOML file such as the Mine page exports, or a folder of such
FOLDER = PRESETS / "team"  # where the setting names no other place
MOST_FILES = 50


def team_kept() -> tuple[Kept, list[str]]:
    """Return what the team's files hold, and why some cannot be read; a broken one takes nothing from others.

    They are read when asked for, so that a new file is there without a new start.
    """
    place = os.environ.get(SETTING, "").strip()
    found, problems = NOTHING, []
    try:
        files = _files(Path(place) if place else FOLDER)
    except OSError as error:
        return found, [printable(f"{SETTING} names {place[:200]}, which cannot be read: {error.strerror}.")]
    if len(files) > MOST_FILES:
        problems.append(
            f"{SETTING} names a folder of {len(files):,} files; the first {MOST_FILES} by name are read. "
            "Join some: a file may hold many things."
        )
    for path in files[:MOST_FILES]:
        try:
            found = _with_file(found, path)
        except ScenarioError as error:
            problems.append(str(error))
    if place and not files and not Path(place).is_dir():
        problems.append(f"{SETTING} names {place[:200]}, which is neither a file nor a folder.")
    return found, [printable(problem) for problem in problems]  # names may be no text


def _with_file(found: Kept, path: Path) -> Kept:
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise ScenarioError(f"{path.name} is no file but a folder, a pipe or a device. Move it away.")
    more = read_kept(read_text(path, "the team's file"), path.name)
    try:
        return with_all_of(found, more)
    except ScenarioError as error:
        raise ScenarioError(f"{path.name}: with the files before it {error}") from None


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place] if place.exists() else []
    return sorted(place.glob("*.toml"))
