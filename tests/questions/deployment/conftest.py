"""A small question, and the best of its answers, for what lies around a plan."""

from __future__ import annotations

import pytest

from sim_core.questions.deployment.answer import Deployment
from sim_core.questions.deployment.plan import final_plan
from sim_core.questions.deployment.question import Question
from sim_core.scenario.scenario import Scenario


@pytest.fixture(scope="module")
def question() -> Question:
    """Return a question of two accelerators at a rate that takes a few replicas."""
    return Question(
        scenario=Scenario(prompt_tokens=800, output_tokens=100),
        rate_per_s=60.0,
        accelerators=("h100-sxm", "l40s"),
        free=("tensor_parallel",),
        top=2,
    )


@pytest.fixture(scope="module")
def row(question: Question) -> Deployment:
    """Return the best deployment for it."""
    return final_plan(question).rows[0]
