"""The visitor's own files: how they come in, what became of them, and an example."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import streamlit as st

from sim_core.catalogue.calibrations import calibration
from sim_core.evidence.own.cases import METRICS, case_of, predict_cases
from sim_core.evidence.own.formats.points import OwnPoint, Upload
from sim_core.evidence.own.formats.read import MAX_BYTES, TOOLS, is_profile, read_upload
from sim_core.evidence.own.served import on_their_engine
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.scenario.link.carry import carried_by
from sim_core.scenario.profiles import read_profile
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.words import literal
from sim_core.view.session import budget, state

SHOWN = ("tpot_ms", "ttft_ms", "output_tok_per_s")

MOST_FILES = 20


# Files


def mine() -> dict[str, Upload]:
    """Return the visitor's uploads by name; they stay through moves between pages."""
    return st.session_state.setdefault("own_uploads", {})


def intake() -> None:
    """Draw the place for files, what became of them, and what can be uploaded."""
    turn = st.session_state.setdefault("own_turn", 0)
    st.file_uploader(
        "Results of your benchmark runs",
        accept_multiple_files=True,
        key=f"own_files_{turn}",
        on_change=_take_in,
        args=(turn,),
        help="Recognised by their content, not by their names. Read in memory, never stored.",
    )
    for problem in st.session_state.pop("own_problems", []):
        st.error(literal(problem), icon=":material/error:")
    for name, upload in mine().items():
        _file_row(name, upload)
    with st.container(horizontal=True, vertical_alignment="center"):
        if not mine():
            st.button(
                "Try it with an example", on_click=_example, icon=":material/science:", key="own_example"
            )
        else:
            st.button("Forget all files", on_click=_forget, type="tertiary", key="own_forget")
    with st.expander("What can be uploaded, and how to get it"):
        st.markdown(guide())


def _file_row(name: str, upload: Upload) -> None:
    what = [counted(len(upload.points), "point")] if upload.points else []
    what += [counted(upload.steps.time_ms.size, "step")] if upload.steps is not None else []
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{literal(name)}** · {TOOLS.get(upload.tool, upload.tool)} · {', '.join(what)}")
        st.button("Remove", key=f"own_drop_{name}", on_click=_drop, args=(name,), type="tertiary")
    for note in upload.notes:
        st.caption(literal(note))


def _take_in(turn: int) -> None:
    """Read the files that were just given, and empty the place for files."""
    problems = []
    for file in st.session_state.get(f"own_files_{turn}") or []:
        if len(mine()) >= MOST_FILES:
            problems.append(
                f"{file.name}: there are {MOST_FILES} files already, the limit; remove one first."
            )
            continue
        try:
            _read(file.getvalue(), file.name)
        except ScenarioError as error:
            problems.append(str(error))
    _set_engine()
    st.session_state.own_problems = problems
    st.session_state.own_turn = turn + 1
    st.session_state.pop("own_fit_to", None)


def _read(data: bytes, name: str) -> None:
    """Take a file in: measurements join the others, an engine profile is put in use at once."""
    if is_profile(data):
        profile = read_profile(data, name)
        state.replace(carried_by(st.session_state.scenario, profile)[0])
        return
    mine()[_free_name(name)] = read_upload(data, name)


def _set_engine() -> None:
    """Put the scenario on the engine that the files name, unless the visitor has chosen one.

    Only when files come in, so that whoever then takes the engine out of the sidebar is not overruled.
    """
    scenario = st.session_state.scenario
    found = on_their_engine(list(mine().values()), scenario)
    if found != scenario:
        state.change(
            **{key: value for key, value in found.as_dict().items() if value != getattr(scenario, key)}
        )


def _free_name(name: str) -> str:
    """Return a name that no other file has."""
    found, count = name, 2
    while found in mine():
        found, count = f"{name} ({count})", count + 1
    return found


def _drop(name: str) -> None:
    mine().pop(name, None)
    st.session_state.pop("own_fit_to", None)


def _forget() -> None:
    mine().clear()
    st.session_state.pop("own_fit_to", None)


def _example() -> None:
    scenario = st.session_state.scenario.replace(constants="", step_profile="")
    found = budget.made_or_why_not(lambda: example(scenario))
    if isinstance(found, str):
        st.session_state.own_problems = [found]
    else:
        mine()["example.csv"] = found


EXAMPLE_CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128)
EXAMPLE_FACTORS = {"launches": 1.8, "contexts": 1.33, "prefill_request": 2.0}


def example(scenario: Scenario) -> Upload:
    """Return made-up points: the scenario's own engine with other constants and 2% of noise."""
    known = {item.name: item for item in calibration(scenario.calibration).constants}
    own = {name: float(f"{known[name].stated * factor:.6g}") for name, factor in EXAMPLE_FACTORS.items()}
    noise = np.random.default_rng(0)
    found = []
    for clients in EXAMPLE_CLIENTS:
        point = OwnPoint(
            name=counted(clients, "client"),
            tool="example",
            arrivals="closed",
            concurrency=clients,
            arrival_per_s=math.nan,
            arrival_cv=1.0,
            requests=10 * clients,
            prompt_tokens=1000.0,
            output_tokens=250.0,
            prompt_cv=0.0,
            output_cv=0.0,
            ttft_ms=math.nan,
            tpot_ms=math.nan,
            itl_ms=math.nan,
            e2e_ms=math.nan,
            output_tok_per_s=math.nan,
            request_per_s=math.nan,
            statistic="mean",
            rows=None,
        )
        values = predict_cases([case_of(point, scenario)], own)[0]
        values = values * np.exp(0.02 * noise.standard_normal(values.size))
        known_values = dict(zip(METRICS, values.tolist(), strict=True))
        found.append(point._replace(**{name: known_values[name] for name in SHOWN}))
    note = (
        "Made up, not measured: the engine in the sidebar with 1.8 times the time per layer, three quarters "
        "of the bandwidth in attention, twice the fixed time of a prompt, and 2 % of noise."
    )
    return Upload("example.csv", "example", tuple(found), None, (note,))


@lru_cache(maxsize=1)
def guide() -> str:
    """Return what can be uploaded, as Markdown."""
    kinds = "\n".join(f"- {title}" for title in TOOLS.values())
    kinds += "\n- An engine profile (TOML), to put it in use again"
    return (
        f"{kinds}\n\nA handful of runs with different numbers of clients and different lengths tells most. "
        f"Files of up to {MAX_BYTES // 10**6} MB.\n\nNo file yet? `python -m sim_core measure "
        "http://HOST:PORT/v1 --model NAME --out my_engine.toml` measures a running server from outside in "
        "about two minutes. Steps logged by the engine itself say most: one line a step with "
        "`tokens,decode_context,prefill_pairs,time_ms`."
    )
