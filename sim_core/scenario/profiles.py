"""Engine profiles: an engine of one's own, as a file and as part of a scenario.

A profile is a TOML file of one of two kinds:

- the measured time of its steps, in place of the computed one: a table over the tokens of a step, linear
  between its points and with the last slope beyond, plus what contexts, prompts and requests add;
- `constants` in place of some of a calibration's: then the time is computed, for any device and layout.

Both also go into a scenario and its link (`carried_by`): `constants` as they are, steps as one line of text
(`step_profile`), where ``1:15.1,256:220,context:0.0003`` are TOKENS:MS pairs and the additions by their short
names (`SHORT`).
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sim_core.catalogue.calibrations import NAMES, check_constants
from sim_core.catalogue.reader import check_id
from sim_core.fields.described import build, described, fields_of
from sim_core.fields.errors import ScenarioError, check_known, did_you_mean, shown
from sim_core.fields.field import check
from sim_core.fields.texts import read_text, read_toml, toml_value
from sim_core.scenario.own_bands import parse_own_bands

STEP_PROFILE_EXAMPLE = "1:15.1,256:220,context:0.0003"
MAX_TEXT = 3000
STEPS = ("step_tokens", "step_time_ms")
SHORT = MappingProxyType(
    {
        "context": "decode_context_ms_per_token",
        "pair": "prefill_context_ms_per_pair",
        "prompt": "prefill_request_ms",
        "before": "request_before_ms",
        "after": "request_after_ms",
        "blocks": "kv_blocks",
        "block_tokens": "kv_block_tokens",
    }
)


def _added_ms(help: str) -> Any:
    return described(help, 0.0, unit="ms", low=0.0, high=1e7)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """Measured step times of one engine, or its own constants in a calibration; checked when made, hashable.

    Raises
    ------
    ScenarioError
        If a value has the wrong type or lies outside its limits, or the two lists do not match.

    Examples
    --------
    >>> EngineProfile(step_tokens=(1, 256), step_time_ms=(15.0, 220.0)).kv_blocks is None
    True
    """

    name: str = described("What was measured", "")
    step_tokens: tuple[int, ...] = described(
        "Tokens of a step", (), unit="tokens", low=1, high=10_000_000, fewest=1, most=10_000
    )
    step_time_ms: tuple[float, ...] = described(
        "Time of a step", (), unit="ms", low=1e-6, high=1e7, fewest=1, most=10_000
    )
    decode_context_ms_per_token: float = _added_ms("Per token in the contexts of all decodes")
    prefill_context_ms_per_pair: float = _added_ms("Per chunk x (start + chunk / 2)")
    prefill_request_ms: float = _added_ms("Per request that prefills in the step")
    request_before_ms: float = _added_ms("Client to engine")
    request_after_ms: float = _added_ms("Engine to client")
    kv_blocks: int | None = described("KV blocks; else from memory", None, low=1, high=1_000_000_000)
    kv_block_tokens: int | None = described("Tokens per block; else the scenario's", None, low=1, high=4096)
    engine: str = described(
        "Serving engine that was measured; empty = not known", "", reads=partial(check_id, "engines")
    )
    calibration: str = described("The calibration that `constants` change", "typical", choices=NAMES)
    constants: str = described(
        "Constants in place of the calibration's; then there are no steps",
        "",
        reads=check_constants,
    )
    bands: str = described(
        "How far off it has been on points that no fit had seen, as a scenario's `own_bands`",
        "",
        reads=parse_own_bands,
    )
    source: str = described("Where, when and how it was measured", "")

    def __post_init__(self) -> None:
        for key, info in fields_of(EngineProfile).items():
            if not (self.constants and key in STEPS):
                check(key, getattr(self, key), info)
        if self.constants:
            self._check_alone()
            return
        if len(self.step_tokens) != len(self.step_time_ms):
            raise ScenarioError(
                f"step_tokens has {len(self.step_tokens)} values but step_time_ms has "
                f"{len(self.step_time_ms)}; give one time for each number of tokens."
            )
        for low, high in zip(self.step_tokens, self.step_tokens[1:], strict=False):
            if low >= high:
                raise ScenarioError(f"step_tokens must rise, but {high} follows {low}; sort and merge them.")

    def _check_alone(self) -> None:
        """Raise a `ScenarioError` unless the constants stand alone."""
        given = [key for key in (*STEPS, *SHORT.values()) if getattr(self, key)]
        if given:
            raise ScenarioError(
                f"constants and {given[0]} are both given: a profile holds measured steps or constants. "
                "Leave one of them out."
            )


def read_profile(source: str | os.PathLike[str] | bytes, name: str = "") -> EngineProfile:
    """Return an engine profile from a TOML file or its text.

    Parameters
    ----------
    source : path, str or bytes
        A path, or the text itself: bytes, or a string with an equals sign that does not end in `.toml`.
    name : str, optional
        What messages call it; by default the file's name.

    Raises
    ------
    ScenarioError
        If it cannot be read, or anything in it is unknown, missing, of the wrong type or out of range.
    """
    text, given = _text_of(source)
    name = name or given
    table = read_toml(text, name)
    try:
        return _from_table(table)
    except OverflowError:
        raise ScenarioError(f"{name}: a number has more than 300 digits. Correct it.") from None
    except ScenarioError as error:
        raise ScenarioError(f"{name}: {error}") from None


def _text_of(source: str | os.PathLike[str] | bytes) -> tuple[str, str]:
    """Return the text of a source and a name for it."""
    if isinstance(source, bytes):
        try:
            return source.decode("utf-8-sig"), "the profile"
        except UnicodeDecodeError:
            raise ScenarioError("the profile is not UTF-8 text. Save it as UTF-8.") from None
    if isinstance(source, str) and "=" in source and not source.endswith(".toml"):
        return source, "the profile"
    return read_text(source, "the profile"), Path(source).name


def _from_table(table: dict[str, Any]) -> EngineProfile:
    check_known(table, fields_of(EngineProfile))
    for key in STEPS:
        if key not in table and "constants" not in table:
            raise ScenarioError(
                f"the key {key} is missing; give the list (or constants, in a profile of these)."
            )
    return build(EngineProfile, table)


def profile_toml(profile: EngineProfile) -> str:
    """Return the profile as a TOML file that `read_profile` reads back; defaults are left out."""
    lines = []
    for field in dataclasses.fields(profile):
        value = getattr(profile, field.name)
        if value != field.default:
            lines.append(f"{field.name} = {toml_value(value)}")
    return "\n".join(lines) + "\n"


# --- as one line of text --------------------------------------------------------------------------


@lru_cache(maxsize=64)
def parse_profile(text: str) -> EngineProfile:
    """Return the profile of a line of text such as ``1:15.1,256:220,context:0.0003``.

    Raises
    ------
    ScenarioError
        If an entry has another form, a key is unknown or given twice, or the profile cannot be.
    """
    times_ms: dict[int, float] = {}
    added: dict[str, Any] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        key, mark, number = entry.partition(":")
        value = _number(number)
        if not mark or not math.isfinite(value):
            raise ScenarioError(
                f"step_profile has the entry {shown(entry)}; "
                f"write TOKENS:MS, such as {STEP_PROFILE_EXAMPLE!r}."
            )
        tokens = _number(key) if key[:1].isdigit() else math.nan
        if key not in SHORT and not tokens.is_integer():
            raise ScenarioError(f"step_profile has the unknown key {shown(key)}. {did_you_mean(key, SHORT)}")
        if key in added or tokens in times_ms:
            raise ScenarioError(f"step_profile gives {shown(key)} twice; keep one.")
        if key in SHORT:
            added[key] = (
                int(value)
                if fields_of(EngineProfile)[SHORT[key]].kind is int and value.is_integer()
                else value
            )
        else:
            times_ms[int(tokens)] = value
    try:
        return EngineProfile(
            step_tokens=tuple(sorted(times_ms)),
            step_time_ms=tuple(times_ms[tokens] for tokens in sorted(times_ms)),
            **{SHORT[key]: value for key, value in added.items()},
        )
    except ScenarioError as error:
        raise ScenarioError(f"step_profile: {error}") from None


def _number(text: str) -> float:
    try:
        return float(text) if len(text) < 30 else math.nan
    except ValueError:
        return math.nan


def write_profile(profile: EngineProfile) -> str:
    """Return a profile as the line that `parse_profile` reads, five digits each, without name and source.

    Raises
    ------
    ScenarioError
        If the line is longer than a scenario may carry; `thinned` makes a shorter one.
    """
    parts = [f"{tokens}:{time:.5g}" for tokens, time in _table(profile)]
    for short, name in SHORT.items():
        value = getattr(profile, name)
        if value:
            parts.append(f"{short}:{value}" if isinstance(value, int) else f"{short}:{value:.5g}")
    text = ",".join(parts)
    if len(text) > MAX_TEXT:
        raise ScenarioError(
            f"the profile's {len(profile.step_tokens):,} points make {len(text):,} characters; the limit in "
            f"a link is {MAX_TEXT:,}. Keep fewer points, or use the file with --profile."
        )
    return text


def _table(profile: EngineProfile) -> list[tuple[int, float]]:
    return list(zip(profile.step_tokens, profile.step_time_ms, strict=True))


def thinned(profile: EngineProfile, points: int = 60) -> tuple[EngineProfile, float]:
    """Return a profile with at most so many points, and the largest error that this makes, as a share.

    From the two ends on, the point whose time is farthest (as a share) from the line so far comes in.
    """
    tokens = np.asarray(profile.step_tokens, dtype=float)
    times = np.asarray(profile.step_time_ms)
    chosen = [0, tokens.size - 1] if tokens.size > 1 else [0]
    while True:
        kept = np.unique(chosen)
        error = np.abs(np.interp(tokens, tokens[kept], times[kept]) / times - 1)
        if kept.size >= min(points, tokens.size) or error.max() < 1e-9:
            break
        chosen.append(int(np.argmax(error)))
    step_tokens, step_time_ms = (int(t) for t in tokens[kept]), times[kept].tolist()
    shorter = dataclasses.replace(profile, step_tokens=tuple(step_tokens), step_time_ms=tuple(step_time_ms))
    return shorter, float(error.max())
