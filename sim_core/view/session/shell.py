"""What all pages share: the frame of the window, the navigation, the style."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.errors import StreamlitAPIException

from sim_core.engine import work
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import literal, spoken
from sim_core.view.session import budget, record, state
from sim_core.view.session.browser import access, exact, start

ROOT = Path(__file__).parent.parent.parent.parent
SECTIONS = {  # of the navigation: pages by file and title; those of a named one are behind its name
    "": (
        ("1_Frontier.py", "Frontier"),
        ("15_Plan.py", "Plan"),
        ("14_Layouts.py", "Layouts"),
        ("16_Atlas.py", "Atlas"),
        ("11_Compare.py", "Compare"),
        ("8_Calibrate.py", "Calibrate"),
    ),
    "Why": (
        ("2_Two_phases.py", "Two phases"),
        ("3_Batching.py", "Batching"),
        ("4_Scenarios.py", "MLPerf-like"),
    ),
    "Pools": (("5_Disaggregation.py", "Disaggregation"), ("6_Traffic_shift.py", "Traffic shift")),
    "Learn": (("13_Gallery.py", "Gallery"), ("10_Lessons.py", "Lessons"), ("12_Room.py", "Room")),
    "Trust": (("7_Validation.py", "Validation"), ("17_Mine.py", "Mine"), ("9_Method.py", "Method")),
}
PAGES = tuple(page for pages in SECTIONS.values() for page in pages)
ANSWER = "answer"  # key of the fragment that holds a page's answer; a slider reruns only that
_HERE = Path(__file__).parent


def run_page() -> None:
    """Draw the page that was asked for."""
    pages = {
        section: [
            st.Page(ROOT / "pages" / file, title=title, default=(file, title) == PAGES[0])
            for file, title in group
        ]
        for section, group in SECTIONS.items()
    }
    st.logo(_HERE / "logo.svg", size="large")  # its colour stands on light and dark
    page = st.navigation(pages, position="hidden" if state.embedded() else "top", expanded=True)
    st.set_page_config(f"{page.title} · Batchscope", layout="wide", initial_sidebar_state="auto")
    _mark_place(page.title)
    _turn_to(page.title)
    page.run()


def _mark_place(title: str) -> None:
    """Name the page on the button of the navigation behind which it is, if it is behind one."""
    places = [title for _, title in SECTIONS[""]] + [name for name in SECTIONS if name]
    section = next(name for name, pages in SECTIONS.items() if title in dict(pages).values())
    st.html(render("session/place.html", place=places.index(section or title) + 1, title=title))


def _turn_to(title: str) -> None:
    """Let the widgets of another page start anew: Streamlit keeps their values, but the browser does not."""
    if st.session_state.get("shown_page") != title:
        state.distrust_address()
        for key in [key for key in st.session_state if str(key).startswith(("in_", "page_"))]:
            del st.session_state[key]
        st.session_state.shown_page = title


def draw(show: Callable[[Scenario], None], sidebar: Callable[[Scenario], None] | None = None) -> None:
    """Draw a page: its sidebar, if it has one, and its answer."""
    scenario = begin()
    if sidebar is not None:
        sidebar(scenario)
    st.session_state.left_out = (
        True  # the place may hold a caption: it is emptied, else nothing may fill it later
    )
    _answer(show, st.empty())


@st.fragment(key=ANSWER)
def _answer(show: Callable[[Scenario], None], place: DeltaGenerator) -> None:
    """Show what a page says of the session's scenario, which a control may have changed, and publish it.

    What it leaves out stands at a place before it, which costs a move nothing while nothing is left out.
    """
    scenario = st.session_state.scenario
    with budget.of_view() as given:
        try:
            show(scenario)
        except work.Stopped:
            budget.end_overtaken()
        except (ScenarioError, work.SpentUp) as error:
            st.warning(literal(spoken(str(error))), icon=":material/hourglass_disabled:")
    page = st.session_state.get("shown_page", "")
    left_out = budget.words(budget.cuts(page, state.address_parameters(), given.cuts))
    if left_out:
        place.caption(f":material/content_cut: {left_out}")
    elif st.session_state.get("left_out"):
        place.empty()
    st.session_state.left_out = left_out
    state.publish()


def begin() -> Scenario:
    """Start a page: the style, the session's scenario, and what there is to say about the address."""
    st.html(_HERE / "style.css")
    if state.embedded():
        st.html(_HERE / "embedded.css")
    exact.typed_values()
    access.mend()
    _ways_in()
    record.begin_record()
    scenario = state.start()
    if st.session_state.notes:
        with st.container(border=True, key="link_notes"):
            st.markdown("**Not everything in this link could be used.**")
            st.text("\n".join(st.session_state.notes))
            st.button("Got it", on_click=_dismiss, key="dismiss_notes")
    else:
        st.empty()  # so that what follows keeps its place
    if st.session_state.problem:
        st.warning(literal(spoken(st.session_state.problem)), icon=":material/info:")
    else:
        st.empty()
    _own_engine(scenario)
    return scenario


def _ways_in() -> None:
    """Say to a first visitor what this is, and turn to the page that they choose."""
    if state.embedded() or st.session_state.get("shown_page") == "Room":
        return
    asked = start.ways_in({way.page: address_of(way.page) for way in start.WAYS})
    if asked:
        open_page(asked)


def _own_engine(scenario: Scenario) -> None:
    """Say that predictions are those of the visitor's own engine, with the way back."""
    if not (scenario.constants or scenario.step_profile):
        st.empty()
        return
    words = (
        "Predictions use **your own step times**, measured. Model, device and layout are those they were "
        "measured on; change one, and the calibration predicts again."
        if scenario.step_profile
        else f"Predictions use **constants of your own** in the {scenario.calibration} calibration."
    )
    with st.container(horizontal=True, vertical_alignment="center", key="own_engine"):
        st.markdown(f":material/tune: {words}")
        st.button("Back to the calibration", on_click=_drop_own_engine, type="tertiary", key="own_engine_off")


def _drop_own_engine() -> None:
    state.change(constants="", step_profile="")


def open_page(title: str) -> None:
    """Go to a page by its title, with the scenario as it is; a dialog or popover closes on the way."""
    file = next(file for file, name in PAGES if name == title)
    st.switch_page(ROOT / "pages" / file, query_params=st.query_params.to_dict())  # none: a bare address


def address_of(title: str) -> str:
    """Return the address of a page without a query, absolute where the browser has told its own."""
    here, _, _ = (st.context.url or "").partition("?")
    root = here.removesuffix(path_of(st.session_state.get("shown_page", "")))
    return root.rstrip("/") + "/" + path_of(title)


def path_of(title: str) -> str:
    """Return the path of a page beneath the app's: its file's name, as Streamlit has it; "" for the first."""
    file = next((file for file, name in PAGES[1:] if name == title), "")
    return file.partition("_")[2].removesuffix(".py")


def rerun_answer() -> None:
    """End a callback so that only the page's answer is drawn again; the sidebar is left alone."""
    try:
        st.rerun(ANSWER)
    except StreamlitAPIException:  # the answer has not been drawn yet: the whole page is
        return


def draw_answer_again() -> None:
    """Draw the page's answer again, with what has been worked out meanwhile."""
    try:
        st.rerun(ANSWER)
    except StreamlitAPIException:  # it has not been drawn before: the whole page is
        st.rerun()


def rerun_page() -> None:
    """End a fragment's callback so that the whole page is drawn again: the sidebar shows what has changed."""
    st.rerun("app")


def _dismiss() -> None:
    st.session_state.notes = []
