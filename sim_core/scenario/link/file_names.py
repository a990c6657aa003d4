"""What files are called after: the scenario that they are of."""

from __future__ import annotations

import hashlib
import re

from sim_core.catalogue.models import OWN
from sim_core.scenario.link.write import to_query
from sim_core.scenario.ready import ready_id
from sim_core.scenario.scenario import Scenario, model_of

NAMED = ("model", "own_model", "accelerator", "tensor_parallel", "replicas")  # what the name itself says
MOST_CHARACTERS = 60
_NO_NAME = re.compile(r"[^a-z0-9.]+")


def file_name(scenario: Scenario) -> str:
    """Return what files of a scenario are called: a ready one's id, else model, accelerator and devices.

    Where anything else differs from the defaults, six digits tell such scenarios apart; the same scenario has
    the same ones for ever.

    Examples
    --------
    >>> file_name(Scenario(tensor_parallel=2)), file_name(Scenario(tensor_parallel=2, seed=3))
    ('llama-3.1-8b-h100-sxm-x2', 'llama-3.1-8b-h100-sxm-x2-b96d9c')
    """
    if ready := ready_id(scenario):
        return ready
    model = scenario.model if scenario.model != OWN else model_of(scenario).name
    name = _plain(f"{model} {scenario.accelerator}")[:MOST_CHARACTERS] + f"-x{scenario.accelerators}"
    if not scenario.changed().keys() - set(NAMED):
        return name
    return f"{name}-{hashlib.blake2b(to_query(scenario).encode(), digest_size=3).hexdigest()}"


def _plain(text: str) -> str:
    """Return a text as a part of a file's name on any system."""
    return _NO_NAME.sub("-", text.lower()).strip("-.")
