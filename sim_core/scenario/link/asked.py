"""A question for a deployment in everyday words: `70B fp8, H200 or B200, p99 TTFT 1 s, 3k/500, 20 req/s`.

Read strictly: what is not understood is named, and then nothing of the question is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sim_core.catalogue import accelerators, models
from sim_core.fields.amounts import amount_of
from sim_core.fields.errors import ScenarioError, did_you_mean, shown
from sim_core.fields.field import check
from sim_core.scenario.scenario import FIELDS

EXAMPLE = "70B fp8, H200 or B200, p99 TTFT 1 s, TPOT 30 ms, 3k/500, 20 req/s"
MOST_CHARACTERS = 400
DTYPES = tuple(filter(None, FIELDS["weight_dtype"].choices))
_NUMBER = r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?"
_COUNT = rf"(?:{_NUMBER})k?"
_DTYPE = "|".join(map(re.escape, DTYPES))
_PERCENTILE = r"p\d+(?:\.\d+)?"
_BOUND = r"(?:\s*(?:limit|of|within|under|below|at\s+most|is|=|:|≤|<=?))*"
_PASSED = re.compile(  # what joins the parts of a question, and what the page answers anyway
    r"[\s,;:?.&+]+|(?:how\s+many|which\s+(?:tp|one|layout|accelerators?)|what\s+(?:cost|does\s+it\s+cost))\b"
    r"|(?:and|or|on|at|with|for|in|the|a|of|weights?|tokens?|limits?|within)\b",
    re.IGNORECASE,
)
_FORMS = tuple(  # how the parts of a question are written; the first that fits
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?:(?P<before>{_PERCENTILE})\s+)?(?P<which>ttft|tpot|first\s+token|each\s+token)"
        rf"(?:\s+(?P<behind>{_PERCENTILE}))?{_BOUND}\s*(?P<time>(?:{_NUMBER})\s*(?:us|µs|ms|s|min)?)\b",
        rf"(?P<rate>{_COUNT})\s*(?:(?:req(?:uest)?s?\s*)?(?:/|per|a)\s*s(?:ec|econd)?|rps|qps)\b",
        rf"(?P<prompt>{_COUNT})\s*(?:tokens?\s*)?/\s*(?P<answer>{_COUNT})\b",
        rf"(?P<prompt>{_COUNT})\s+(?:tokens?\s+)?(?:in|inputs?|prompts?)\b",
        rf"(?P<answer>{_COUNT})\s+(?:tokens?\s+)?(?:out|outputs?|answers?)\b",
        r"(?:at\s+most|up\s+to|max)\s+(?P<most>\d{1,6})\s+(?:devices?|gpus?|accelerators?)\b",
        rf"(?P<before>{_PERCENTILE})\b",
        rf"kv(?:\s+cache)?\s+(?P<kv>{_DTYPE})\b|(?P<kv_first>{_DTYPE})\s+kv(?:\s+cache)?\b"
        rf"(?!\s+(?:{_DTYPE}))",
        rf"(?P<weights>{_DTYPE})\b",
    )
)
_KEYS = {"prompt": "prompt_tokens", "answer": "output_tokens", "rate": "arrival_per_s"}
_WORD = re.compile(r"[^\s,;?]+")
_END = re.compile(r"[,;?]|$")
_NO_MODEL = {"it", "h", *DTYPES}  # words of models' names that alone name none


class AskedFor(NamedTuple):
    """What a question says.

    Attributes
    ----------
    changes : mapping of str to object
        Keys of the scenario that it names, with their values.
    accelerators : tuple of str
        The candidates that it names, presets' ids; none: whichever there are.
    max_devices : int
        The most devices of a deployment; 0: any number.
    models : tuple of str
        All models that its words for the model may mean, the one taken first.
    """

    changes: Mapping[str, Any]
    accelerators: tuple[str, ...] = ()
    max_devices: int = 0
    models: tuple[str, ...] = ()


def asked(text: str, model: str = "") -> AskedFor:
    """Return what a question for a deployment says.

    Words for a model that several have (`70B`) mean the present one where it is among them, else the newest,
    of a year the one with the highest name. Words for an accelerator mean all of its forms (`H100`).

    Parameters
    ----------
    text : str
        Such as `EXAMPLE`, in any order.
    model : str
        The id of the present model.

    Raises
    ------
    ScenarioError
        If a word is not understood (all such are named), a thing is said twice, or a value cannot be.

    Examples
    --------
    >>> found = asked("70B fp8, H200 or B200, TPOT 30 ms, 3k/500", "llama-3.1-70b")
    >>> found.changes["model"], found.changes["slo_tpot_ms"], found.changes["prompt_tokens"]
    ('llama-3.1-70b', 30.0, 3000)
    >>> found.accelerators
    ('h200', 'b200')
    """
    if len(text) > MOST_CHARACTERS:
        raise ScenarioError(f"the question has {len(text):,} characters; the limit is {MOST_CHARACTERS}.")
    said = _Said()
    for part in _parts_of(text):
        said.take(part)
    if said.unknown:
        words = ", ".join(shown(word) for word in said.unknown)
        hint = did_you_mean(said.unknown[0].lower(), [*models(), *accelerators()])
        close = f" {hint}" if hint.startswith("Did") else ""
        raise ScenarioError(f"not understood: {words}.{close} Write it such as: {EXAMPLE}.")
    return said.asked(model)


class Named(NamedTuple):
    """Presets that some words name: of a kind, all that they may mean."""

    kind: str
    ids: tuple[str, ...]


def _parts_of(text: str) -> Iterator[re.Match[str] | Named | str]:
    """Yield the parts of a question: forms that fit, presets that are named, and words that are neither."""
    place = 0
    while place < len(text):
        passed = _PASSED.match(text, place)
        found = next(filter(None, (form.match(text, place) for form in _FORMS)), None)
        if found:
            yield found
            place = found.end()
        elif passed:
            place = passed.end()
        else:
            part, place = _named(text, place)
            yield part


def _named(text: str, start: int) -> tuple[Named | str, int]:
    """Return the presets that the longest run of words names, else the first word; and where it ends."""
    end = _END.search(text, start)
    words = list(_WORD.finditer(text, start, end.start() if end else len(text)))
    for count in range(len(words), 0, -1):
        run = [word[0].lower().rstrip(".:") for word in words[:count]]
        for kind, ids in (("accelerator", _accelerators("-".join(run))), ("model", _models(run))):
            if ids:
                return Named(kind, ids), words[count - 1].end()
    first = words[0] if words else _WORD.match(text, start)
    return (first[0], first.end()) if first else (text[start], start + 1)


def _accelerators(name: str) -> tuple[str, ...]:
    """Return the accelerator of a name, or all whose names begin with it."""
    known = accelerators()
    return (name,) if name in known else tuple(sorted(part for part in known if part.startswith(f"{name}-")))


def _models(run: list[str]) -> tuple[str, ...]:
    """Return the models in whose names all words occur; at least one word must be more than a number."""
    words = {word for each in run for word in ([each] if each in models() else each.split("-"))}
    if not any(re.search("[a-z]", word) and word not in _NO_MODEL for word in words) or words & {*DTYPES}:
        return ()
    return tuple(name for name in models() if words <= {name, *name.split("-")})


class _Said:
    """What has been said so far, each thing once."""

    def __init__(self) -> None:
        self.changes: dict[str, Any] = {}
        self.unknown: list[str] = []
        self.accelerators: dict[str, None] = {}
        self.models: tuple[str, ...] = ()
        self.most = 0

    def take(self, part: re.Match[str] | Named | str) -> None:
        """Take one part."""
        if isinstance(part, str):
            self.unknown.append(part)
        elif isinstance(part, re.Match):
            self._take_form({name: value for name, value in part.groupdict().items() if value})
        elif part.kind == "accelerator":
            self.accelerators |= dict.fromkeys(part.ids)
        elif self.models:
            raise ScenarioError(
                f"the question names two models, {self.models[0]} and {part.ids[0]}; a plan is of one."
            )
        else:
            self.models = part.ids

    def _take_form(self, given: Mapping[str, str]) -> None:
        for name, key in _KEYS.items():
            if name in given:
                self._set(key, amount_of(given[name].lower()))
        if "time" in given:
            first = given["which"].lower().startswith(("ttft", "first"))
            self._set("slo_ttft_ms" if first else "slo_tpot_ms", amount_of(given["time"].lower(), "ms"))
        for name in {"before", "behind"} & given.keys():
            self._set("slo_percentile", float(given[name][1:]))
        for name, key in (("weights", "weight_dtype"), ("kv", "kv_dtype"), ("kv_first", "kv_dtype")):
            if name in given:
                self._set(key, given[name].lower())
        if "most" in given:
            self._at_most(int(given["most"]))

    def _at_most(self, devices: int) -> None:
        if not devices:
            raise ScenarioError("at most 0 devices leave nothing to deploy; give 1 or more, or leave it out.")
        if self.most not in (0, devices):
            raise ScenarioError(f"max_devices is said twice, {self.most} and {devices}; a plan keeps one.")
        self.most = devices

    def _set(self, key: str, value: float | str) -> None:
        info = FIELDS[key]
        value = int(value) if info.kind is int and float(value).is_integer() else value
        check(key, value, info)
        if self.changes.get(key, value) != value:
            raise ScenarioError(f"{key} is said twice, {self.changes[key]} and {value}; a plan keeps one.")
        self.changes[key] = value

    def asked(self, model: str) -> AskedFor:
        """Return all of it, the model chosen among those that its words may mean."""
        if not (self.changes or self.accelerators or self.models or self.most):
            raise ScenarioError(f"the question says nothing yet. Write it such as: {EXAMPLE}.")
        known = models()
        names = sorted(
            self.models, key=lambda name: (name == model, known[name].year or 0, name), reverse=True
        )
        changes = ({"model": names[0]} if names else {}) | self.changes
        return AskedFor(changes, tuple(self.accelerators), self.most, tuple(names))
