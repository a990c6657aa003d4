"""Where a simulated ratio is no better than a constant, in words."""

from __future__ import annotations

from sim_core.evidence import entries
from sim_core.view.drawing.words import number

NAMES = {"server": "Server / Offline", "interactive": "Interactive / Offline"}
OF = {"all": "", "others": " of benchmarks that nothing was fitted to"}


def no_skill_words(rules: tuple[str, ...] = ("server", "interactive")) -> str:
    """Return which ratios have no skill yet, with both errors; "" where all have some."""
    found = [goal for rule in rules for goal in entries.without_skill(rule)[:1]]
    return "".join(
        f"**{NAMES[goal.rule.split()[0]]}: no skill yet.** Over {number(goal.count)} published ratios"
        f"{OF.get(goal.rows, ' of the benchmarks that were fitted to')} the simulated one is off by "
        f"{number(goal.error, 3)} on average, one constant for all of them by "
        f"{number(goal.constant or 0.0, 3)}: "
        "read the order of systems here, not the level. "
        for goal in found
    )
