"""What a visitor's session holds: one Scenario, a few view settings, and the address bar that shows both.

The scenario lives under one key of `st.session_state`, so it survives moves between pages. Widgets are
seeded from it and write back through `change`; after each run `publish` makes the address bar hold exactly
what differs from the defaults. The address is read at the start of a session and when the visitor goes
back or forward. At other times it may lag behind a quick hand and is not believed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from sim_core import catalogue
from sim_core.evidence import published as measured
from sim_core.fields.errors import ScenarioError
from sim_core.questions import compare
from sim_core.questions.teaching import lessons
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.link.page_keys import VIEW_KEYS
from sim_core.scenario.link.read import MAX_CHARACTERS, from_query
from sim_core.scenario.link.write import to_query
from sim_core.scenario.scenario import Scenario

VIEW: Mapping[str, tuple[str, ...]] = {  # view settings and their choices, the first is the default
    "vary": ("tensor_parallel", "policy", "weight_dtype", "accelerator", "max_batch"),
    "show": ("frontier", "load", "table"),
    "axes": ("linear", "log-x", "log-y", "log"),
    "fine": ("on", "off"),
    "phases": ("roofline", "step", "specs", "kv", "floor"),
    "split": ("off", "on"),
    "batching": ("timeline", "wait", "preemption", "interference", "endings"),
    "rows": ("slots", "requests"),
    "extent": ("first", "run"),
    "bench": tuple(dict.fromkeys(("llama2-70b", *catalogue.preset_ids("benchmarks")))),
    "rules": ("limits", "bars", "points", "published"),
    "against": ("tpot", "ttft"),
    "setup": ("best", "own"),
    "tuned": ("on", "off"),
    "calview": ("points", "constants", "steps", "table"),
    "calmetric": ("tpot_ms", "ttft_ms", "itl_ms", "e2e_ms", "output_tok_per_s"),
    "calfrom": ("auto", "points", "steps"),
    "compare": ("sides", "design", "sensitivity"),
    "sense": ("throughput", "ttft", "tpot", "usd", "joule"),
    "pools": ("ratio", "stages", "pays", "link"),
    "over": ("lengths", "limits"),
    "shift": ("time", "pays", "strategies"),
    "lesson": ("", *catalogue.preset_ids("lessons")),
    "level": ("newcomer", "engineer"),
    "strategy": ("reactive", "fixed", "hindsight", "predictive", "oracle", "free", "one_pool"),
    "valview": ("points", "errors", "worst", "rows"),
    "valmetric": ("tpot", "ttft", "throughput"),
    "valcolour": ("family", "accelerator", "engine"),
    "valkind": ("closed", "burst", "batch", "offline", "prefill", "server", "split", "every"),
    "valfamily": ("all", "dense", "moe", "mla"),
    "valengine": ("all", "tensorrt-llm", "vllm", "sglang", "mlperf"),
    "valpart": ("all", *measured.measured_accelerators()),
}


class Dial(NamedTuple):
    """A view setting that is a number: its default and its limits."""

    default: float
    low: float
    high: float


NUMBERS: Mapping[str, Dial] = {
    "at_batch": Dial(32, 1, 16_384),
    "at_context": Dial(0, 0, 1_000_000),  # 0: the scenario's own mean
    "shown": Dial(24, 1, 60),
    "from_s": Dial(0.0, 0.0, 1e9),
    "span_s": Dial(0.0, 0.0, 1e9),  # 0: as much as fits the picture
    "devices": Dial(8, 1, 64),
    "pool_load": Dial(0.8, 0.05, 1.5),
    "step": Dial(1, 1, 20),
    "target_user": Dial(0.0, 0.0, 1e6),  # 0: the limit on TPOT
    "target_rate": Dial(0.0, 0.0, 1e7),  # 0: half as much again as today
}
AMONG = "among"  # accelerators that are compared, comma-separated; the one view setting without fixed choices
AMONG_LIMIT = 6
VERSUS = "versus"  # frozen scenarios, their queries separated by bars
FROZEN_LIMIT = compare.MOST - 1
ANSWERS = "answers"  # of the learner, as `lessons.parse_answers` reads them
# Changes after which the old axis ranges mean little:
REFIT = {"model", "arrivals", "calibration", "constants", "step_profile"}
STEPS_DROPPED = (
    "Your measured step times hold for the model, device and layout they were measured on; the calibration "
    "predicts again. The browser's back button returns to them."
)


def start() -> Scenario:
    """Return the session's scenario; reads the address at the start and after going back or forward."""
    if "scenario" not in st.session_state or _went_through_history():
        adopt(st.query_params)
    return st.session_state.scenario


def adopt(address: Mapping[str, Any]) -> None:
    """Take scenario and view settings from an address; what could not be used is kept as notes."""
    scenario, notes = from_query(address, ignore=VIEW_KEYS)
    st.session_state.scenario = scenario
    st.session_state.notes = notes
    st.session_state.view = _read_view(address, notes)
    st.session_state.problem = ""
    _forget_compared()


def _read_view(address: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    view: dict[str, Any] = {key: _read_number(key, address, notes) for key in NUMBERS}
    for key, choices in VIEW.items():
        text = address.get(key, choices[0])
        if text not in choices:
            notes.append(f"{key} must be one of {', '.join(choices)}. Ignored: {choices[0]} is shown.")
            text = choices[0]
        view[key] = text
    asked = [name for name in address.get(AMONG, "").split(",") if name]
    view[AMONG] = ",".join(_known(asked))
    unknown = [name for name in asked if name not in catalogue.preset_ids("accelerators")]
    if unknown:
        shown = ", ".join(repr(name[:40]) for name in unknown[:4])
        notes.append(f"{AMONG} names no accelerator with {shown}. Ignored.")
    view[ANSWERS] = _read_answers(address, notes)
    view[VERSUS] = _read_versus(str(address.get(VERSUS, "")), notes)
    return view


def _read_answers(address: Mapping[str, Any], notes: list[str]) -> str:
    """Return the learner's answers from an address; what makes no sense is noted."""
    found, lost = lessons.parse_answers(str(address.get(ANSWERS, ""))[:4000])
    if lost:
        notes.append(f"{ANSWERS} has {lost} that are no answer such as 1.2=b or 1.1=5000. Ignored.")
    return lessons.answers_text(found)


def _read_versus(text: str, notes: list[str]) -> str:
    """Return frozen scenarios from an address, each as far as it can be used."""
    parts = [part for part in text[:MAX_CHARACTERS].split("|") if part]
    if len(parts) > FROZEN_LIMIT:
        notes.append(f"{VERSUS} holds {len(parts)} scenarios; the first {FROZEN_LIMIT} are compared.")
    found = [from_query(part, ignore=VIEW_KEYS) for part in parts[:FROZEN_LIMIT]]
    notes += [note for _, more in found for note in more]
    return "|".join(to_query(scenario) for scenario, _ in found)


def frozen() -> list[Scenario]:
    """Return the scenarios that are compared with the present one."""
    return [from_query(part)[0] for part in view(VERSUS).split("|") if part]


def freeze(scenario: Scenario | None = None) -> None:
    """Keep a scenario, by default the present one, for comparison; the oldest makes room for it."""
    sides = [*frozen(), scenario or st.session_state.scenario][-FROZEN_LIMIT:]
    _freeze_all(sides)


def thaw(place: int) -> None:
    """Let the frozen scenario at a place (1 is the first) go."""
    sides = frozen()
    del sides[place - 1]
    _freeze_all(sides)


def swap(place: int) -> None:
    """Exchange the present scenario for the frozen one at a place."""
    sides = frozen()
    sides[place - 1], mine = st.session_state.scenario, sides[place - 1]
    _freeze_all(sides)
    replace(mine)


def _freeze_all(sides: list[Scenario]) -> None:
    st.session_state.view = st.session_state.view | {VERSUS: "|".join(map(to_query, sides))}


def _read_number(key: str, address: Mapping[str, Any], notes: list[str]) -> float:
    """Return a numeric view setting from an address; one that cannot be used is noted."""
    dial = NUMBERS[key]
    text = str(address.get(key, dial.default))
    kind = type(dial.default)
    try:
        value = kind(text) if len(text) < 30 else math.nan
    except ValueError:
        value = math.nan
    if dial.low <= value <= dial.high:
        return value
    what = "a whole number" if kind is int else "a number"
    notes.append(
        f"{key} must be {what} from {dial.low:,g} to {dial.high:,.0f}. Ignored: {dial.default:g} is used."
    )
    return dial.default


def _known(names: list[str]) -> list[str]:
    known = catalogue.preset_ids("accelerators")
    return [name for name in dict.fromkeys(names) if name in known][:AMONG_LIMIT]


def _went_through_history() -> bool:
    """Return whether this run was caused by the browser's back or forward button."""
    return getattr(get_script_run_ctx(), "is_history_navigation", False)


def change(**changes: Any) -> bool:
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


def replace(scenario: Scenario) -> None:
    """Put another scenario in place of the session's."""
    st.session_state.scenario = scenario
    st.session_state.problem = ""
    st.session_state.notes = []
    st.session_state.pop("values_now", None)  # another scenario is no change of this one
    _forget_compared()
    forget_frames()


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


def note_shown(sweep: Any) -> None:
    """Note what the chart shows, for when it has rested."""
    st.session_state.sweep_shown = sweep


def settle() -> None:
    """Note that the chart has rested on what it shows."""
    st.session_state.sweep_settled = st.session_state.get("sweep_shown")


def is_settled(sweep: Any) -> bool:
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
    dial = NUMBERS[key]
    value = type(dial.default)(min(max(value, dial.low), dial.high))
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
    defaults = {key: choices[0] for key, choices in VIEW.items()} | {AMONG: "", ANSWERS: "", VERSUS: ""}
    defaults |= {key: dial.default for key, dial in NUMBERS.items()}
    view: dict[str, Any] = st.session_state.view
    return found | {key: _text(value) for key, value in view.items() if value != defaults[key]}


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


def publish(**more: str) -> None:
    """Make the address bar hold the present state, and what a page adds to it."""
    wanted = address_parameters() | more
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


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
