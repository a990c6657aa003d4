"""The one list of page settings: links, controls and pages agree with it."""

from __future__ import annotations

import pytest

from sim_core.catalogue.reader import preset_ids
from sim_core.questions import sensitivity as questions
from sim_core.questions.shift.study import STRATEGIES
from sim_core.scenario.link.page_settings import PAGE_DEFAULTS, PAGE_KEYS, SETTINGS, choice_names
from sim_core.scenario.link.read import from_query
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.view.compare import sensitivity
from sim_core.view.session import shell, state, sweeps
from sim_core.view.trust.validation_figures import METRICS
from tests.loops import each

CHOSEN = [(key, choice) for key, info in SETTINGS.items() for choice in info.choices]
NUMBERS = [key for key, info in SETTINGS.items() if info.kind is not str]
TEXTS = {key for key, info in SETTINGS.items() if info.kind is str and not info.choices}


def read(**address: str) -> tuple[dict[str, object], list[str]]:
    """Return the page settings of an address, and the notes."""
    notes: list[str] = []
    return state._read_view(address, notes), notes


def test_an_empty_address_gives_the_defaults() -> None:
    """Oracle: the list; a default is one of the choices, or within the limits."""
    assert read() == (dict(PAGE_DEFAULTS), [])


@each(CHOSEN)
def test_a_link_opens_every_choice(key: str, choice: str) -> None:
    """Oracle: the list."""
    assert read(**{key: choice}) == (PAGE_DEFAULTS | {key: choice}, [])


@each(NUMBERS)
def test_a_link_opens_every_number_within_its_limits(key: str) -> None:
    """Oracle: the limits of the list; just outside them the default is used, and a note says so."""
    info = SETTINGS[key]
    for value in (info.low, info.high):
        assert read(**{key: f"{value:.12g}" if info.kind is float else str(value)})[0][key] == value
    for text in ("x", "nan", str(info.low - 1), str(info.high + 1)):
        found, notes = read(**{key: text})
        assert found == PAGE_DEFAULTS and len(notes) == 1 and notes[0].startswith(f"{key} must be ")


def test_the_messages() -> None:
    """Oracle: the sentences, word for word."""
    assert read(lesson="x")[1][0].startswith("lesson must be one of 01-")
    assert read(lesson="x")[1][0].endswith(". Ignored.")  # the list of all has no name
    assert read(show="x", devices="0", from_s="x", among="tpu-v9,h200")[1] == [
        "from_s must be a number from 0 to 1,000,000,000. Ignored: 0 is used.",
        "devices must be a whole number from 1 to 64. Ignored: 8 is used.",
        "show must be one of frontier, load, table. Ignored: frontier is shown.",
        "among names no accelerator with 'tpu-v9'. Ignored.",
    ]


def test_what_reads_a_scenario_passes_them_over() -> None:
    """Oracle: the scenario's own keys; no setting has the name of one."""
    assert not PAGE_KEYS & FIELDS.keys()
    assert from_query(dict.fromkeys(PAGE_KEYS, "x"), ignore=PAGE_KEYS) == (Scenario(), [])


def test_settings_belong_to_pages_that_exist() -> None:
    """Oracle: the titles of the navigation."""
    titles = {title for _, title in shell.PAGES}
    assert {page for info in SETTINGS.values() for page in info.group.split(", ")} <= titles


def test_every_text_has_a_reader() -> None:
    """Oracle: the settings without choices that are no numbers."""
    assert state.GRAMMARS.keys() == TEXTS


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("strategy", STRATEGIES),
        ("vary", sweeps.VARY),
        ("sense", sensitivity.FIGURES),
        ("sense", questions.FIGURES),
        ("valmetric", METRICS),
        ("bench", preset_ids("benchmarks")),
        ("lesson", ("", *preset_ids("lessons"))),
    ],
)
def test_choices_that_are_made_elsewhere(key: str, names: object) -> None:
    """Oracle: the places that work them out."""
    assert set(choice_names(key)) == set(names)


class Long(str):
    """A text of which parts may be looked at, and not the whole."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def _whole(self, *_: object) -> None:
        pytest.fail("all of a long text is looked at")

    split = rsplit = splitlines = partition = rpartition = strip = lstrip = rstrip = replace = lower = _whole
    startswith = endswith = find = index = count = isprintable = isdigit = encode = __iter__ = _whole


@each([*SETTINGS])
def test_of_a_long_link_only_the_beginning_is_read(key: str) -> None:
    """Oracle: only as many characters as a link may have are looked at."""
    for text in ("h200," * 20_000, "|" * 100_000, "9" * 100_000):
        read(**{key: Long(text)})
