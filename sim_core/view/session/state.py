"""What a visitor's session holds: one Scenario, a few view settings, and the address bar that shows both.

The scenario lives under one key of `st.session_state`, so it survives moves between pages. Widgets are
seeded from it and write back through `change`; after each run `publish` makes the address bar hold exactly
what differs from the defaults. The address is read at the start of a session and when the visitor goes
back or forward. At other times it may lag behind a quick hand and is not believed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from sim_core import catalogue
from sim_core.fields.errors import ScenarioError
from sim_core.fields.field import is_within
from sim_core.questions import compare
from sim_core.questions.teaching import lessons
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.link.page_settings import PAGE_DEFAULTS, PAGE_KEYS, SETTINGS
from sim_core.scenario.link.read import MAX_CHARACTERS, from_query
from sim_core.scenario.link.write import to_query
from sim_core.scenario.ready import ready_id, ready_scenario
from sim_core.scenario.scenario import SPECS, Scenario
from sim_core.traffic.day import day_named
from sim_core.view.drawing.columns import chosen_columns, columns_text

AMONG = "among"
AMONG_LIMIT = 6
COLUMNS = "columns"
VERSUS = "versus"
FROZEN_LIMIT = compare.MOST - 1
PINS, PINS_LIMIT = "pins", 4
POINT, POINT_CHARACTERS = "point", 80
ANSWERS = "answers"
PLAN_DAY, PLAN_MODELS = "plan_day", "plan_models"
# Changes after which the old axis ranges mean little:
REFIT = {"model", "arrivals", "calibration", "constants", "step_profile"}
STEPS_DROPPED = (
    "Your measured step times hold for the model, device and layout they were measured on; the calibration "
    "predicts again. The browser's back button returns to them."
)


def start() -> Scenario:
    """Return the session's scenario; reads the address at the start and after going back or forward."""
    if "scenario" not in st.session_state:
        adopt(st.query_params)
    elif _went_through_history():
        distrust_address()
        adopt(st.query_params)
    return st.session_state.scenario


def adopt(address: Mapping[str, Any]) -> None:
    """Take scenario and view settings from an address; what could not be used is kept as notes."""
    scenario, notes = from_query(address, ignore=PAGE_KEYS)
    old = st.session_state.get("scenario", scenario)
    if any(getattr(old, key) != getattr(scenario, key) for key in REFIT):
        forget_frames()
    st.session_state.scenario = scenario
    _note_origin(scenario, str(address.get("preset", "")))
    st.session_state.notes = notes
    st.session_state.view = _read_view(address, notes)
    st.session_state.problem = ""
    _forget_compared()


def _read_view(address: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the page settings of an address; what cannot be used is noted."""
    return {key: _read(key, str(address.get(key, PAGE_DEFAULTS[key])), notes) for key in SETTINGS}


def _read(key: str, text: str, notes: list[str]) -> Any:
    """Return one page setting from text: by a grammar of its own, or as a choice or a number."""
    if key in GRAMMARS:
        return GRAMMARS[key](text, notes)
    return _read_choice(key, text, notes) if SETTINGS[key].choices else _read_number(key, text, notes)


def _read_choice(key: str, text: str, notes: list[str]) -> str:
    choices, default = SETTINGS[key].choices, str(PAGE_DEFAULTS[key])
    if text in choices:
        return text
    instead = f": {default} is shown" if default else ""
    notes.append(f"{key} must be one of {', '.join(filter(None, choices))}. Ignored{instead}.")
    return default


def _read_number(key: str, text: str, notes: list[str]) -> float:
    info, default = SETTINGS[key], SETTINGS[key].kind(PAGE_DEFAULTS[key])
    try:
        value = info.kind(text) if len(text) < 30 else math.nan
    except ValueError:
        value = math.nan
    if is_within(value, info):
        return value
    what = "a whole number" if info.kind is int else "a number"
    notes.append(
        f"{key} must be {what} from {info.low:,g} to {info.high:,.0f}. Ignored: {default:g} is used."
    )
    return default


def _read_ids(key: str, kind: str, text: str, notes: list[str]) -> str:
    """Return presets of one kind, as many as may be; unknown ones are noted."""
    asked = [name for name in text[:MAX_CHARACTERS].split(",") if name]
    unknown = [name for name in asked if name not in catalogue.preset_ids(kind)]
    if unknown:
        shown = ", ".join(repr(name[:40]) for name in unknown[:4])
        notes.append(f"{key} names no {kind[:-1]} with {shown}. Ignored.")
    return ",".join(_known(asked, kind))


def _read_columns(text: str, notes: list[str]) -> str:
    """Return the columns of the table; unknown ones are noted."""
    names, unknown = chosen_columns(text[:MAX_CHARACTERS])
    if unknown:
        shown = ", ".join(repr(name[:40]) for name in unknown[:4])
        notes.append(f"{COLUMNS} names no column of the table with {shown}. Ignored.")
    return columns_text(names)


def _read_answers(text: str, notes: list[str]) -> str:
    """Return the learner's answers; what makes no sense is noted."""
    found, lost = lessons.parse_answers(text[:4000])
    if lost:
        notes.append(f"{ANSWERS} has {lost} that are no answer such as 1.2=b or 1.1=5000. Ignored.")
    return lessons.answers_text(found)


def _read_scenarios(key: str, most: int, text: str, notes: list[str]) -> str:
    """Return the scenarios that a setting holds, each as far as it can be used."""
    parts = [part for part in text[:MAX_CHARACTERS].split("|") if part]
    if len(parts) > most:
        notes.append(f"{key} holds {len(parts)} scenarios; the first {most} are compared.")
    found = [from_query(part, ignore=PAGE_KEYS) for part in parts[:most]]
    notes += [note for _, more in found for note in more]
    return "|".join(to_query(scenario) for scenario, _ in found)


def _read_day(text: str, notes: list[str]) -> str:
    """Return rates over a day; what is none is noted."""
    try:
        if text:
            day_named(text[:MAX_CHARACTERS], Scenario())
    except ScenarioError as error:
        notes.append(f"{PLAN_DAY}: {error} Ignored.")
        return ""
    return text


def _read_point(text: str, notes: list[str]) -> str:
    """Return the name of a point of the chart; whether it is one, the page says."""
    if len(text) <= POINT_CHARACTERS and text.isprintable():
        return text
    notes.append(f"{POINT} must be a name of at most {POINT_CHARACTERS} characters. Ignored.")
    return ""


GRAMMARS: Mapping[str, Callable[[str, list[str]], str]] = {  # readers of the texts without fixed choices
    AMONG: partial(_read_ids, AMONG, "accelerators"),
    PLAN_MODELS: partial(_read_ids, PLAN_MODELS, "models"),
    ANSWERS: _read_answers,
    PLAN_DAY: _read_day,
    VERSUS: partial(_read_scenarios, VERSUS, FROZEN_LIMIT),
    PINS: partial(_read_scenarios, PINS, PINS_LIMIT),
    POINT: _read_point,
    COLUMNS: _read_columns,
}


def frozen() -> list[Scenario]:
    """Return the scenarios that are compared with the present one."""
    return _held(VERSUS)


def pinned() -> list[Scenario]:
    """Return the pinned points, each as the scenario that it is of; the first is what others are held to."""
    return _held(PINS)


def pin(scenario: Scenario) -> None:
    """Pin a point beside those that are pinned already; of too many, the one after the first makes room."""
    sides = [side for side in pinned() if side != scenario]
    if len(sides) == PINS_LIMIT:
        del sides[1]
    _hold(PINS, [*sides, scenario])


def unpin(place: int) -> None:
    """Let the pinned point at a place (0 is the first) go."""
    sides = pinned()
    del sides[place]
    _hold(PINS, sides)


def _held(key: str) -> list[Scenario]:
    return [from_query(part)[0] for part in view(key).split("|") if part]


def _hold(key: str, sides: list[Scenario]) -> None:
    set_view(key, "|".join(map(to_query, sides)))


def freeze(scenario: Scenario | None = None) -> None:
    """Keep a scenario, by default the present one, for comparison; the oldest makes room for it."""
    sides = [*frozen(), scenario or st.session_state.scenario][-FROZEN_LIMIT:]
    _hold(VERSUS, sides)


def thaw(place: int) -> None:
    """Let the frozen scenario at a place (1 is the first) go."""
    sides = frozen()
    del sides[place - 1]
    _hold(VERSUS, sides)


def swap(place: int) -> None:
    """Exchange the present scenario for the frozen one at a place."""
    sides = frozen()
    sides[place - 1], mine = st.session_state.scenario, sides[place - 1]
    _hold(VERSUS, sides)
    replace(mine)


def _known(names: list[str], kind: str = "accelerators") -> list[str]:
    known = catalogue.preset_ids(kind)
    return [name for name in dict.fromkeys(names) if name in known][:AMONG_LIMIT]


def _went_through_history() -> bool:
    """Return whether this run was caused by the browser's back or forward button."""
    return getattr(get_script_run_ctx(), "is_history_navigation", False)


def change(**changes: object) -> bool:
    """Change the scenario; if the result is no valid scenario, keep the old one and say why."""
    before = st.session_state.scenario
    try:
        st.session_state.scenario = after = with_changes(before, **changes)
    except ScenarioError as error:
        st.session_state.problem = str(error)
        return False
    dropped = before.step_profile and not after.step_profile and "step_profile" not in changes
    if dropped or changes.keys() & REFIT:
        forget_frames()
    st.session_state.problem = STEPS_DROPPED if dropped else ""
    return True


def move_to(scenario: Scenario) -> None:
    """Make a scenario the session's by the changes that lead to it, as if they were made by hand."""
    change(**compare.changes_to(st.session_state.scenario, scenario))


def replace(scenario: Scenario) -> None:
    """Put another scenario in place of the session's."""
    st.session_state.scenario = scenario
    _note_origin(scenario)
    st.session_state.problem = ""
    st.session_state.notes = []
    st.session_state.pop("values_now", None)  # another scenario is no change of this one
    _forget_compared()
    forget_frames()


def _note_origin(scenario: Scenario, named: str = "") -> None:
    """Note the ready scenario that a session starts from: which a link names, or a scenario is."""
    found = named if named in catalogue.preset_ids("scenarios") else ready_id(scenario)
    if found:
        st.session_state.origin = found


def origin() -> str:
    """Return the id of the ready scenario that the session has last had; "" where it has had none."""
    return st.session_state.get("origin", "")


def start_point() -> Scenario:
    """Return what single controls go back to: the ready scenario that one came from, else the defaults."""
    return ready_scenario(origin()).build() if origin() else Scenario()


def put_back(key: str) -> None:
    """Put one key back; a spec of another accelerator than there to what its datasheet says."""
    usual = start_point()
    other = key in SPECS and usual.accelerator != st.session_state.scenario.accelerator
    change(**{key: None if other else getattr(usual, key)})


def before() -> Scenario | None:
    """Return what the session's scenario was before its last change, as far as the Compare page has shown it.

    None where it has not changed there, where it was put in place of another one, or when forgotten.
    """
    now = st.session_state.scenario
    if st.session_state.get("compared_now", now) != now:
        st.session_state.compared_before = st.session_state.compared_now
    st.session_state.compared_now = now
    return st.session_state.get("compared_before")


def forget_before() -> None:
    """Forget what the scenario was before its last change."""
    st.session_state.pop("compared_before", None)


def _forget_compared() -> None:
    """Forget what the Compare page has shown: the scenario that comes is no change of that one."""
    forget_before()
    st.session_state.pop("compared_now", None)


def frame(name: str, make: Callable[[], Any]) -> tuple[Any, str]:
    """Return the axis ranges kept under a name, made when first asked for, and a word for their generation.

    The word changes only when the ranges are made anew; the chart keeps the visitor's zoom until then.
    """
    frames = st.session_state.setdefault("frames", {})
    if name not in frames:
        frames[name] = make()
    return frames[name], f"{name} {st.session_state.get('fits', 0)}"


def forget_frames() -> None:
    """Forget the axis ranges, so that the next figures fit their points."""
    st.session_state.frames = {}
    st.session_state.fits = st.session_state.get("fits", 0) + 1


def note_shown(sweep: object) -> None:
    """Note what the chart shows, for when it has rested."""
    st.session_state.sweep_shown = sweep


def settle() -> None:
    """Note that the chart has rested on what it shows."""
    st.session_state.sweep_settled = st.session_state.get("sweep_shown")


def is_settled(sweep: object) -> bool:
    """Return whether the chart has rested on this sweep."""
    return st.session_state.get("sweep_settled") == sweep


def view(key: str) -> str:
    """Return one view setting."""
    return st.session_state.view[key]


def view_number(key: str) -> float:
    """Return one numeric view setting."""
    return st.session_state.view[key]


def set_number(key: str, value: float) -> None:
    """Change one numeric view setting; a value beyond its limits becomes the limit."""
    info = SETTINGS[key]
    value = info.kind(min(max(value, info.low), info.high))
    st.session_state.view = st.session_state.view | {key: value}


def set_view(key: str, value: str) -> None:
    """Change one view setting."""
    if key in ("vary", AMONG):
        forget_frames()
    st.session_state.view = st.session_state.view | {key: value}


def among(scenario: Scenario) -> list[str]:
    """Return the accelerators to compare: the chosen ones, or the scenario's with a few well-known ones."""
    chosen = [name for name in view(AMONG).split(",") if name]
    if chosen:
        return chosen
    known = ("a100-80-sxm", "h100-sxm", "h200", "b200", "mi300x")
    return list(dict.fromkeys([scenario.accelerator, *_known(list(known))]))[:5]


def address_parameters() -> dict[str, str]:
    """Return what the address holds: `v` and every key of scenario and view that differs from its default."""
    scenario: Scenario = st.session_state.scenario
    found = dict(parse_qsl(to_query(scenario), keep_blank_values=True)) if scenario.changed() else {}
    view: dict[str, Any] = st.session_state.view
    return found | {key: _text(value) for key, value in view.items() if value != PAGE_DEFAULTS[key]}


def link_characters() -> int:
    """Return how long the present state is as a link, as `MAX_CHARACTERS` counts it."""
    return sum(len(key) + len(value) + 2 for key, value in address_parameters().items())


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


def publish(**more: str) -> None:
    """Make the address bar hold the present state, and what a page adds to it."""
    wanted = address_parameters() | more
    if st.session_state.pop("distrusted", False) or st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def distrust_address() -> None:
    """Let the next `publish` write the address even where it seems to be right.

    On the way to another page, or back, the browser may have kept or got the parameters of what was before.
    """
    st.session_state.distrusted = True


def embedded() -> bool:
    """Return whether the page stands in a frame of another one (`embed=true`), to be looked at only."""
    return bool(st.context.is_embedded)


def link(**more: str) -> str:
    """Return the address of the present state, absolute where the browser has told its own."""
    base = (st.context.url or "").partition("?")[0]
    query = "&".join(
        f"{key}={quote(value, safe=',:~/.')}" for key, value in (address_parameters() | more).items()
    )
    if base and not urlsplit(base).path:
        base += "/"
    return f"{base}?{query}" if query else base
