"""How many tokens an engine makes in a step, told by the gaps of its stream.

A client counts a gap wherever something arrives. An engine that drafts sends the tokens of a step together,
and one with a stream interval those of several steps. So the mean gap (ITL) is longer than the mean time per
output token (TPOT) by as many tokens as come at once, and

    acceptance length = mean ITL / mean TPOT / stream interval

Means, not medians: of gaps of several kinds a median is one kind's. The quotient does not depend on load, as
acceptance does not: 2.09 to 2.34 from 1 to 2,048 clients of one engine in InferenceX's runs of DeepSeek-R1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sim_core.evidence.own.formats.points import OwnPoint
from sim_core.fields.texts import counted
from sim_core.scenario.scenario import Scenario

ALONE = 1.15  # tokens a step up to which nothing was accepted, within what means scatter
USUAL_INTERVALS = (1, 10, 20, 30, 50, 100)  # steps, as engines' recipes set them
MOST_DRAFTS = 15  # where the scenario does not say


class Accepted(NamedTuple):
    """Tokens of a decode's step as gaps tell them: the median over points, the least and the most.

    `interval_steps` is the stream interval that was taken.
    """

    length: float
    low: float
    high: float
    interval_steps: int
    points: int

    @property
    def words(self) -> str:
        """The finding as a sentence."""
        over = f"; {self.low:.3g} to {self.high:.3g} over {counted(self.points, 'point')}"
        where = (
            f", if the engine streams every {self.interval_steps} steps" if self.interval_steps > 1 else ""
        )
        return (
            f"By the gaps of the stream (mean ITL over mean TPOT) a decode makes {self.length:.3g} tokens a "
            f"step{over if self.points > 1 else ''}{where}: its acceptance length."
        )


def interval_told(tokens: float, drafts: int, intervals: Iterable[int] = USUAL_INTERVALS) -> int:
    """Return the shortest stream interval under which a step makes from one token to `drafts` + 1; else 0.

    Examples
    --------
    >>> interval_told(21.4, 2), interval_told(21.4, 2, (1, 100))
    (10, 0)
    """
    return next((steps for steps in intervals if 1 < tokens / steps <= drafts + 1), 0)


def told_by_gaps(points: Sequence[OwnPoint], scenario: Scenario) -> Accepted | None:
    """Return the acceptance length that the gaps of points tell; None where they are those of single tokens.

    The scenario's stream interval counts if it has one, else the one that the scenario's drafts allow.
    """
    tokens = sorted(point.at_once_tokens for point in points if math.isfinite(point.at_once_tokens))
    if not tokens:
        return None
    interval = scenario.stream_interval_steps
    if interval == 1 and tokens[0] > (scenario.spec_tokens or MOST_DRAFTS) + 1:
        interval = interval_told(tokens[len(tokens) // 2], scenario.spec_tokens or MOST_DRAFTS)
    lengths = [each / interval for each in tokens] if interval else []
    if not lengths or lengths[-1] <= ALONE:
        return None
    middle = len(lengths) // 2
    length = lengths[middle] if len(lengths) % 2 else 0.5 * (lengths[middle - 1] + lengths[middle])
    return Accepted(length, lengths[0], lengths[-1], interval, len(lengths))
