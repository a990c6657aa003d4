"""Two hundred links and the ready scenarios answer as they did when they were recorded.

No oracle but the product itself, earlier: it does not say what is right, only that something has changed.
"""

from __future__ import annotations

import pytest

from tests.loops import each
from tests.record import FIGURES, Recorded, answer, differences, missing, recorded_set

MEANT = """
Is this change of answers meant? Then say so in CHANGELOG.md, and
  1. record anew, and read what differs:  python -m tests.record && git diff --word-diff tests/recorded.jsonl
  2. where figures have changed, not notes or messages alone, predict the rows of the evidence anew, which
     rest on them:  python -m benchmarks.validate FOLDER --blind
     (after a change of the cost model, of a bound or of an assumption: --folds --fit --blind; see there)
  3. refresh what the README shows:  python -m tests.house.test_readme
Is it not? Then links that people have sent to others no longer give what they gave."""
KNOWN = recorded_set()
LATER = ("preset", "model", "accelerator")  # a new preset is recorded the next time that anything is


@each(KNOWN, name=lambda one: one.link, advice=MEANT)
def test_links_answer_as_recorded(one: Recorded) -> None:
    """Snapshot: what was recorded; figures to a billionth."""
    lines = differences(one, answer(one.link))
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


def test_every_key_and_choice_is_recorded() -> None:
    """Oracle: the keys of the scenario and their choices."""
    lacking = missing(one.link for one in KNOWN)
    lacking = [f"{key}={value}" for key, value in lacking if key not in LATER]
    assert not lacking, f"no recorded link has {', '.join(lacking)}; run `python -m tests.record`"


def test_differences_are_seen_and_named() -> None:
    """By hand: another note, a figure off by 1e-8, one off by 1e-10, a move, a run that there was none of."""
    one = next(one for one in KNOWN if not isinstance(one.figures, str) and one.moves)
    figures = [one.figures[0] * (1 + 1e-8), one.figures[1] * (1 + 1e-10), *one.figures[2:]]
    other = one._replace(notes=["?"], figures=figures, moves=[one.moves[0] + 1, *one.moves[1:]])
    assert [line.partition(" is ")[0] for line in differences(one, other)] == [
        "notes",
        FIGURES[0],
        "reactive: decisions",
    ]
    (line,) = differences(one, one._replace(figures="does not fit"))
    assert line.startswith("figures are 'does not fit', were [")
