"""The pieces of the Room page: a host shows questions in large type, participants follow and predict.

The address names the room alone. Who a visitor is, the host with a key or a participant with a word, is kept
by their browser (`identity.js`): a reload loses nothing, and a copied address gives nothing away. A fragment
that draws nothing asks the store every other second what the room shows; the page is drawn again only when
something has changed, so a half-typed number stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from sim_core import catalogue
from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.rooms import STAGES, Room, RoomError, Rooms, new_participant, read_code
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import literal
from sim_core.view.learn import lesson_figures, room_figures
from sim_core.view.learn.lesson_words import explained, filled, guess_verdict, guess_words
from sim_core.view.learn.lessons import guess_field, guess_in
from sim_core.view.parts import actions, pieces
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.session import room_store, shell, state, sweeps
from sim_core.view.session.room_store import Place, guarded

HOST_S, FOLLOW_S, AGAIN_S = 1.0, 2.0, 5.0  # how often the store is asked; when it is silent
COUNTDOWN_S = (30, 60, 120)
NEXT = {"ask": "Reveal", "reveal": "Show the curve", "look": "Next question"}
SMALL = 15  # type on participants' own screens [px]
LARGE_TYPE = Path(__file__).parent / "large_type.css"
ROOMS_MIDDLE = "the room's middle"
_countdown = st.components.v2.component(
    "batchscope_countdown",
    js=(Path(__file__).parent / "countdown.js").read_text(encoding="utf-8"),
    css=".bs-countdown { font-size: 2.2rem; font-weight: 600; font-variant-numeric: tabular-nums; }",
    isolate_styles=False,
)
_identity = st.components.v2.component(
    "batchscope_identity", js=(Path(__file__).parent / "identity.js").read_text(encoding="utf-8")
)


def show() -> None:
    """Show the way in, the host's view or the participants'; where that cannot be, the reason."""
    try:
        _show(room_store.rooms())
    except RoomError as error:
        pieces.say(str(error))
        st.button("Another room", key="room_other", on_click=leave)
        state.publish()
    except SQLAlchemyError:
        pieces.say(
            "Rooms are not available: their database does not answer. This page keeps trying.",
            f"All other pages work. {room_store.SETTING} names the database, else it is a file of the app.",
        )
        _try_again()


def _show(store: Rooms) -> None:
    asked, place = st.query_params, room_store.place()
    if "room" in asked:
        code = read_code(asked["room"])
        if place is None or place.code != code:
            place = _recognised(store, code)
            if place is None:
                st.caption("Joining…")
                return
        st.session_state.room_place = place
    if place is None:
        entrance(store)
        state.publish()
        return
    (host if place.key else follow)(store, place)
    _remember(place)
    state.publish(room=place.code)


def _recognised(store: Rooms, code: str) -> Place | None:
    """Return who a visitor is, as the address or else their browser says; None before that has answered."""
    asked = st.query_params
    if store.is_host(code, asked.get("host", "")[:64]):
        return Place(code, key=asked["host"])
    if "me" in asked:
        return Place(code, me=asked["me"][:64])
    store.room(code)
    found = _identity(data={"code": code}, key=f"room_who_{code}", on_kept_change=lambda: None).kept
    if not found:
        return None
    who, _, word = str(found.get("who", ""))[:80].partition(" ")
    st.session_state.room_host_again = str(found.get("host", ""))[:64]
    return Place(code, key=word) if who == "host" and store.is_host(code, word) else Place(code, me=word)


def _remember(place: Place) -> None:
    """Let the visitor's browser keep who they are."""
    _identity(data={"code": place.code, "who": place.who, "host": place.key}, key="room_who")


@st.fragment(run_every=AGAIN_S)
def _try_again() -> None:
    """Draw the page again once the database answers."""
    try:
        room_store.rooms().end_old()
    except SQLAlchemyError:
        return
    shell.rerun_page()


def leave() -> None:
    """Forget the room in this browser."""
    st.session_state.pop("room_place", None)
    st.query_params.clear()


# The way in


def entrance(store: Rooms) -> None:
    """Show how to join a room and how to open one."""
    pieces.say(
        "A room predicts together, then looks.",
        "The host shows one question at a time; everybody sends a prediction from their own device, without "
        "a name; then the simulator answers.",
    )
    left, right = st.columns(2)
    with left.container(border=True), st.form("join_room", border=False):
        st.markdown("**Join a room**")
        st.text_input("Code", key="in_room_code", max_chars=12, placeholder="five letters", width=200)
        if st.form_submit_button("Join", type="primary"):
            code = read_code(st.session_state.in_room_code)
            store.room(code)
            _enter(Place(code, me=new_participant()))
    with right.container(border=True):
        st.markdown("**Open a room**")
        st.markdown("The questions are those of the lessons. The room ends by itself after eight hours.")
        if st.button("Open a room", key="open_room"):
            _enter(Place(*store.open()))


def _enter(place: Place) -> None:
    st.session_state.room_place = place
    st.query_params.from_dict({"room": place.code})
    st.rerun()


# What both see


def _heading(room: Room) -> None:
    """Draw the question; what one should know to answer it goes with the answer."""
    lesson, step = catalogue.lesson(room.lesson), room.question
    st.caption(f"Lesson {lessons.lesson_number(lesson)}: {lesson.title} · {step.title}")
    if room.stage == "ask":
        st.html(render("learn/lesson.html", text=explained(step.newcomer)))
    pieces.say(filled(step.question, step, lessons.answered(step, None)))


def _answer(room: Room, words: str) -> None:
    """Draw what the simulator says; with the curve, also why."""
    step = room.question
    st.html(render("learn/answer.html", text=words))
    if room.stage == "look":
        why = explained(filled(step.why, step, lessons.answered(step, None)))
        st.html(render("learn/lesson.html", text=why))


def _predictions(room: Room, guesses: list[float], size: int) -> None:
    """Draw what the room predicts; with the truth once that has been revealed."""
    step, shown = room.question, room.stage != "ask"
    chart(
        room_figures.predictions(step, guesses, shown, size),
        "room",
        room_figures.room_sentence(step, guesses, shown),
        height=20 * size,
        heading=Heading(step.title, "predictions of a room · simulated"),
    )


def _curve(room: Room, guess: float | None, whose: str, size: int) -> None:
    """Draw the figure asked for over the whole control."""
    step = room.question
    with st.spinner("Simulating…"):
        shown = {value: lessons.figure_at(step, value) for value in step.values}
    guess = None if step.choices else guess
    figure = lesson_figures.lesson_figure(step, shown, guess, whose)
    figure["layout"] |= {"font": {"size": size}}
    chart(
        figure,
        "room_curve",
        lesson_figures.lesson_sentence(step, shown, guess, whose),
        height=20 * size,
        heading=Heading(step.title, "simulated"),
    )


def _revealed(
    room: Room, guesses: list[float], words: str, mark: tuple[float | None, str], size: int
) -> None:
    """Draw the answer in words with the room's predictions, or later the curve with a mark (value, whose)."""
    _answer(room, words)
    if room.stage == "reveal":
        _predictions(room, guesses, size)
    else:
        _curve(room, *mark, size)


def _clock(store: Rooms, room: Room) -> None:
    """Draw the countdown, if one runs."""
    if room.stage == "ask" and room.closes_s is not None:
        left_s = room.closes_s - store.now_s()
        if left_s > 0:
            data = {"id": str(room.closes_s), "left_s": left_s}
            _countdown(data=data, key="room_clock", height="content", on_over_change=lambda: None)
        else:
            st.markdown("**Time is up.**")


# The host


def host(store: Rooms, place: Place) -> None:
    """Show the present question in large type, with the room's predictions, and the controls."""
    sweeps.wait_until_ready()
    room = store.room(place.code)
    st.html(LARGE_TYPE)
    left, right = st.columns([4, 1], gap="large")
    with right:
        join = f"{shell.address_of('Room')}?room={place.code}"
        st.image(actions.qr_code(join), width=170, alt="The address to join at, as a QR code")
        st.html(render("learn/code.html", code=place.code))
        _counts(store, place)
        _clock(store, room)
    with left:
        _heading(room)
        if room.stage == "ask":
            _live(store, place)
        else:
            guesses = store.guesses(room)
            words = room_figures.room_verdict(room.question, guesses)
            mark = median(guesses) if guesses else None, ROOMS_MIDDLE
            _revealed(room, guesses, words, mark, room_figures.LARGE)
    _controls(store, place, room)
    st.markdown(f":small[Join at {literal(join)}, code {place.code}.]")
    if "//localhost" in join or "//127." in join:
        st.caption(
            "Other devices cannot reach “localhost”. Start the app with `--server.address 0.0.0.0` and open "
            "it by this machine's name or address."
        )


@st.fragment(run_every=HOST_S)
def _counts(store: Rooms, place: Place) -> None:
    """Say who is here and how many have predicted."""
    with _patience():
        here, sent = store.here(place.code), len(store.guesses(store.room(place.code)))
        st.markdown(f"**{here}** here  \n**{sent}** predicted")


@st.fragment(run_every=HOST_S)
def _live(store: Rooms, place: Place) -> None:
    """Draw the predictions as they come, unless the host hides them."""
    with _patience():
        room = store.room(place.code)
        if room.hidden:
            st.caption("The predictions are hidden until they are revealed.")
            return
        _predictions(room, store.guesses(room), room_figures.LARGE)


def _controls(store: Rooms, place: Place, room: Room) -> None:
    """Draw the ways on and back, by arrow keys too, the countdown, the choice of a question and the end."""
    before, after = neighbour(room, -1), neighbour(room, 1)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(
            "Back",
            key="room_back",
            shortcut="Left",
            disabled=before is None,
            on_click=_turn,
            args=(store, place, before),
        )
        st.button(
            NEXT[room.stage],
            key="room_next",
            shortcut="Right",
            type="primary",
            disabled=after is None,
            on_click=_turn,
            args=(store, place, after),
        )
        if room.stage == "ask":
            for seconds in COUNTDOWN_S:
                _count_down(store, place, seconds)
        with st.popover("More"):
            _more(store, place, room)


def _tried(work: Callable[[], None]) -> None:
    """Do as `guarded` does, for a widget, which wants nothing back."""
    guarded(work)


def _count_down(store: Rooms, place: Place, seconds: int) -> None:
    """Draw the button that lets predictions close after so many seconds."""
    st.button(
        f"{seconds} s",
        key=f"room_count_{seconds}",
        icon=":material/timer:",
        type="tertiary",
        on_click=_tried,
        args=(lambda: store.count_down(place.code, place.key, seconds),),
        help="Predictions close when the time is up.",
    )


def _more(store: Rooms, place: Place, room: Room) -> None:
    """Draw what a host needs less often."""
    st.session_state.in_room_hide = room.hidden
    st.toggle(
        "Hide predictions until they are revealed",
        key="in_room_hide",
        on_change=_tried,
        args=(lambda: store.hide(place.code, place.key, st.session_state.in_room_hide),),
    )
    _jump(store, place, room)
    if room.view:
        st.button(
            "Stop showing the shared view",
            key="room_hide_view",
            on_click=_tried,
            args=(lambda: store.show_view(place.code, place.key, ""),),
        )
    st.button(
        "End the room and delete its data",
        key="room_delete",
        icon=":material/delete:",
        on_click=_end,
        args=(store, place),
    )


def _jump(store: Rooms, place: Place, room: Room) -> None:
    """Draw the choice of a question."""
    titles = {
        (item.id, number): f"{lessons.lesson_number(item)}.{number} {step.title}"
        for item, number, step in lessons.every_step()
    }
    st.session_state.in_room_step = (room.lesson, room.step)
    st.selectbox(
        "Question",
        list(titles),
        format_func=titles.__getitem__,
        key="in_room_step",
        on_change=lambda: _turn(store, place, (*st.session_state.in_room_step, "ask")),
    )


def neighbour(room: Room, by: int) -> tuple[str, int, str] | None:
    """Return lesson, step and stage so many places after what a room shows; None beyond the ends."""
    every = [(item.id, number, stage) for item, number, _ in lessons.every_step() for stage in STAGES]
    wanted = every.index((room.lesson, room.step, room.stage)) + by
    return every[wanted] if 0 <= wanted < len(every) else None


def _turn(store: Rooms, place: Place, to: tuple[str, int, str]) -> None:
    guarded(lambda: store.show(place.code, place.key, *to))


def _end(store: Rooms, place: Place) -> None:
    guarded(lambda: store.delete(place.code, place.key))
    leave()


# The participants


def follow(store: Rooms, place: Place) -> None:
    """Show what the host shows, with a field for one's own prediction."""
    room = store.attend(place.code, place.me)
    st.caption(f"Room {place.code}. Nobody sees who predicts what.")
    sweeps.wait_until_ready()
    _heading(room)
    guess = store.guess(room, place.me)
    if room.stage == "ask":
        _own(store, place, room, guess)
    else:
        step, guesses = room.question, store.guesses(room)
        own = guess is not None and guess_verdict(step, guess, lessons.answered(step, guess))
        words = own or room_figures.room_verdict(step, guesses)
        _revealed(room, guesses, words, (guess, "your prediction"), SMALL)
    _explore(room)
    _watch(store, place, room)


def _own(store: Rooms, place: Place, room: Room, guess: float | None) -> None:
    """Draw the field for a prediction, what was sent so far, and the time that is left."""
    _clock(store, room)
    if guess is not None:
        st.markdown(f"You predicted **{guess_words(room.question, guess)}**.")
    if not room.takes(store.now_s()):
        st.caption("Predictions are closed. The host reveals the answer.")
        return
    key = f"in_room_guess_{room.lesson}_{room.step}"
    with st.form("room_guess", border=False):
        guess_field(room.question, key)
        st.form_submit_button(
            "Change it" if guess is not None else "Predict",
            type="primary",
            on_click=_send,
            args=(store, place, room, key),
        )


def _send(store: Rooms, place: Place, room: Room, key: str) -> None:
    guess = guess_in(room.question, key)
    if guess is not None:
        guarded(lambda: store.send(place.code, place.me, (room.lesson, room.step), guess))


def _explore(room: Room) -> None:
    """Draw the ways off: the same step alone, and what the host shows beside it."""
    with st.container(horizontal=True):
        if room.view:
            title, _, query = room.view.partition("?")
            link = f"{shell.address_of(title)}?{query}"
            st.link_button("Open what the host shows", link, icon=":material/open_in_new:")
        if room.stage == "look":
            st.link_button(
                "Explore it alone",
                f"{shell.address_of('Lessons')}?lesson={room.lesson}&step={room.step}",
                type="tertiary",
                icon=":material/open_in_new:",
            )
        st.button("Leave the room", on_click=leave, type="tertiary")
        if again := st.session_state.get("room_host_again"):
            st.button(
                "Host it again",
                key="room_host_back",
                on_click=_host_again,
                args=(room.code, again),
                type="tertiary",
            )


def _host_again(code: str, key: str) -> None:
    """Make the visitor, whose browser has opened the room, its host again."""
    st.session_state.room_host_again = ""
    st.session_state.room_place = Place(code, key=key)


@st.fragment(run_every=FOLLOW_S)
def _watch(store: Rooms, place: Place, drawn: Room) -> None:
    """Draw the page again when the host has gone on, or the room has ended."""
    with _patience():
        if store.attend(place.code, place.me) != drawn:
            shell.rerun_page()


@contextmanager
def _patience() -> Iterator[None]:
    """Draw the page again if the room has ended; where the database is silent, wait for the next time."""
    try:
        yield
    except RoomError:
        shell.rerun_page()
    except SQLAlchemyError:
        st.caption("The room's database does not answer. This page keeps trying.")
