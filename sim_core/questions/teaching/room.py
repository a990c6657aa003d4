"""A room as it is shown, who is in it, and what may be sent to it: values and checks, without a store.

A code is read aloud: six of 23 letters, 148 million codes, so that with 200 rooms one guess in 740,000 finds
one. A participant is a random word with a signature that only the room's store can make (HMAC, RFC 2104):
whoever sends a word of their own is nobody, and the link that people share names the room alone.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from typing import NamedTuple

from sim_core import catalogue
from sim_core.catalogue.lessons import LessonStep
from sim_core.fields.errors import ScenarioError, shown

MOST_VALUE = 1e9
LOBBY = "lobby"  # before the first question
STAGES = ("ask", "reveal", "look")  # of every question
LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ"  # none that is mistaken for another, or for a digit
CODE_LENGTH = 6
FEW = 0.5  # of those who are here; fewer predictions want a second word before they are revealed
_CODE = re.compile(f"[{LETTERS}]{{{CODE_LENGTH}}}", re.ASCII)
_TOKEN = re.compile(r"[0-9a-f]{16}\.[0-9a-f]{32}", re.ASCII)


class RoomError(ScenarioError):
    """Something that a room does not take; the message says what, and the way out."""


class NotNow(RoomError):
    """Something that a room may take a little later; a page that asks again by itself is let in then."""


class Room(NamedTuple):
    """What a room shows.

    Attributes
    ----------
    code : str
    lesson : str
        Id of a lesson.
    step : int
        Number of its step, from 1.
    stage : str
        `LOBBY`, or one of `STAGES`: predictions are taken, the truth is revealed, the whole curve is shown.
    closes_s : float or None
        When predictions are taken no more, as the store's clock says. [s]
    view : str
        A page of the app that the host shows: its title, a question mark, the query of a link; "" for none.
    hidden : bool
        Whether predictions are to be seen only once they are revealed.
    locked : bool
        Whether nobody new is let in.
    """

    code: str
    lesson: str
    step: int
    stage: str
    closes_s: float | None
    view: str
    hidden: bool
    locked: bool = False

    @property
    def question(self) -> LessonStep:
        """The step that the room shows."""
        return catalogue.lesson(self.lesson).steps[self.step - 1]

    def takes(self, now_s: float) -> bool:
        """Return whether predictions are taken at a time."""
        return self.stage == "ask" and (self.closes_s is None or now_s < self.closes_s)


class Opened(NamedTuple):
    """A room that has just been opened: its code, and the key that only its host gets."""

    code: str
    key: str


class Prediction(NamedTuple):
    """One prediction as the host takes it away; participants are numbered as they came, from 1."""

    lesson: str
    step: int
    participant: int
    value: float


def new_code() -> str:
    """Return a code at random."""
    return "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))


def read_code(text: str) -> str:
    """Return a code as people type it: small letters and blanks do not matter.

    Raises
    ------
    RoomError
        If it cannot be a code.
    """
    code = re.sub(r"[\s-]", "", text[:40]).upper()
    if _CODE.fullmatch(code):
        return code
    like = f"{CODE_LENGTH} letters, such as KWMTAB"
    if not code:
        raise RoomError(f"No room code is given. Type the one that the host shows: {like}.")
    if len(code) != CODE_LENGTH:
        count = f"{len(code)}" if len(text) <= 40 else "far more"
        raise RoomError(f"{shown(text)} is no room code: it has {count} characters; a code has {like}.")
    raise RoomError(
        f"{shown(text)} is no room code. A code has {like}, none of them I, L or O, and no digits."
    )


def new_token(secret: str) -> str:
    """Return what makes a browser one more participant of the room with this secret; it says nothing else."""
    participant = secrets.token_hex(8)
    return f"{participant}.{_signature(secret, participant)}"


def participant_of(secret: str, token: str) -> str:
    """Return the participant whose token this is.

    Raises
    ------
    RoomError
        If the room with this secret has not made the token.
    """
    participant, _, signature = token.partition(".") if _TOKEN.fullmatch(token) else ("", "", "")
    if not hmac.compare_digest(signature, _signature(secret, participant)):
        raise RoomError("This browser belongs to no participant of the room. Join it by its code.")
    return participant


def _signature(secret: str, participant: str) -> str:
    return hmac.new(secret.encode(), participant.encode(), hashlib.sha256).hexdigest()[:32]


def check_guess(step: LessonStep, value: float) -> float:
    """Return a prediction as it is kept: the number of a choice, or a figure in the measure's unit.

    Raises
    ------
    RoomError
        If the step has no such choice, or the figure is out of range.
    """
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RoomError(f"A prediction is a number, not {shown(str(value))}.")
    if step.choices and value not in range(len(step.choices)):
        raise RoomError(f"There is no choice {value:g}: there are {len(step.choices)}.")
    if not 0 <= value <= MOST_VALUE:
        raise RoomError(f"A prediction lies between 0 and {MOST_VALUE:,.0f}, not at {value:g}.")
    return float(value)


def too_few(predicted: int, here: int) -> bool:
    """Return whether so few of those who are here have predicted that a reveal wants a second word."""
    return predicted < FEW * here
