"""Lessons: every claim holds in the simulator, every step opens, and answers survive a link."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core import catalogue
from sim_core.catalogue.lessons import LessonStep, check_step
from sim_core.command.main import main
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price.price import price_of
from sim_core.questions.shift.cluster import reallocation_s
from sim_core.questions.teaching import lessons
from sim_core.results.metrics import point_of
from sim_core.scenario.link.load import load_scenario
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.view.learn import lesson_figures, lesson_summary, lesson_words
from tests.loops import each
from tests.places import ROOT
from tests.visits import address, finding, healthy, open_page, said

PAGE = "10_Lessons.py"
STEPS = [(item, number) for item in catalogue.lessons().values() for number in range(1, len(item.steps) + 1)]
NUMBERS = [(item, number) for item, number in STEPS if not item.steps[number - 1].choices]


def step_id(step: tuple) -> str:
    """Return how a test calls a step."""
    item, number = step
    return f"{item.id}-{number}"


# --- content --------------------------------------------------------------------------------------


def test_a_start_has_the_unit_of_the_field() -> None:
    """By hand: whoever is to predict in milliseconds reads 4,720 ms, not 4.72 s; a choice has no unit."""
    step = catalogue.lessons()["14-what-a-cache-saves"].steps[0]
    found = lessons.Answered(4720.0, 145.0, 0.03, None, 1.0)
    asked = dataclasses.replace(step, choices=())
    chosen = dataclasses.replace(step, choices=("less", "more"), edges=(1.0,))
    assert lesson_words.filled("{start}", asked, found).replace("\u202f", " ") == "4,720 ms"
    assert lesson_words.filled("{start}", chosen, found).replace("\u202f", " ") == "4.72 s"


def test_the_unit_of_a_control_stands_once_along_its_axis() -> None:
    """By hand: seven lengths side by side on a phone are numbers, and their title says of what."""
    step = catalogue.lessons()["05-the-kv-cache"].steps[0]
    drawn = lesson_figures.lesson_figure(step, {step.start: 248.0}, None)["layout"]["xaxis"]
    assert drawn["title"]["text"] == "Prompt length [tokens]"
    assert drawn["ticktext"] == ["250", "500", "1,000", "2,000", "4,000", "8,000", "16,000"]


@each(STEPS, name=step_id)
def test_a_figure_brings_its_unit_and_the_text_does_not_say_it_again(item, number) -> None:
    """By hand: "248 requests requests run" says one word twice."""
    step = item.steps[number - 1]
    found = lessons.Answered(248.0, 40.0, 0.16, None, 1.0)
    for text in (step.question, step.why):
        words = re.findall(r"\w+", lesson_words.filled(text, step, found).lower())
        assert not [pair for pair in itertools.pairwise(words) if pair[0] == pair[1] and pair[0].isalpha()]


@each(STEPS, name=step_id)
def test_what_a_step_says_is_true(item, number) -> None:
    """Oracle: the simulator: the ratio of truth to start lies in the range in which the text is true, and for
    choices the right one is that of the claim."""
    step = item.steps[number - 1]
    low, high = step.claim
    assert low <= lessons.answered(step, None).ratio <= high
    if step.choices:
        low, high = step.claim
        right = lessons.right_choice(step)
        edges = (-math.inf, *step.edges, math.inf)
        assert edges[right] <= max(low, edges[right]) and min(high, edges[right + 1]) <= edges[right + 1]
        assert low >= edges[right] - 1e-9 and high <= edges[right + 1] + 1e-9


@each(STEPS, name=step_id)
def test_steps_are_well_made(item, number) -> None:
    """Oracle: known keys, measures and pages; no figure of the answer is typed into a text."""
    step = item.steps[number - 1]
    assert step.measure in lessons.MEASURES
    assert step.control in FIELDS
    for value in step.values:
        assert isinstance(lessons.scenario_at(step, value), Scenario)
    found = lessons.answered(step, None)
    assert "{truth}" in step.why
    typed = set(re.findall(r"\d[\d,.]*", step.why + step.question))
    computed = re.findall(r"\d[\d,.]*", lesson_figures.figure_words(step, found.truth))
    assert not typed & {word.rstrip(".,") for word in computed if len(word) > 2}
    assert len(step.newcomer) < 400 and len(step.engineer) < 400


def test_measures_are_the_metrics() -> None:
    """Oracle: the simulator's own point, in the measure's unit."""
    step = catalogue.lesson("02-the-roofline").steps[0]
    point = point_of(run(load_scenario(step.scenario, concurrency=64)))
    assert lessons.figure_at(step, "64") == pytest.approx(100 * point["mfu_frac"])


def words_of(lesson: str, number: int) -> str:
    """Return what a step tells engineers."""
    return catalogue.lesson(lesson).steps[number - 1].engineer


def test_figures_that_texts_state_are_those_of_the_simulator() -> None:
    """Oracle: the run that each text is about, and the price list's own KV cache."""
    one, many = (point_of(run(load_scenario("arrivals=closed", concurrency=count))) for count in (1, 64))
    assert "two thirds of it at batch 1" in words_of("02-the-roofline", 2)
    assert one["mbu_frac"] == pytest.approx(2 / 3, rel=0.05)
    assert "already a third arithmetic" in words_of("03-why-batching-works", 2)
    assert many["share_compute"] == pytest.approx(1 / 3, rel=0.1)
    cache = load_scenario(catalogue.lesson("05-the-kv-cache").steps[0].scenario)
    kv_bytes = price_of(cache).kv_blocks * cache.kv_block_tokens * 131_072
    assert f"about {kv_bytes / 1e9:.0f} GB are left" in words_of("05-the-kv-cache", 1)
    shifting = load_scenario(catalogue.lesson("11-traffic-that-shifts").steps[0].scenario)
    assert f"Reallocation {reallocation_s(shifting):.0f} s" in words_of("11-traffic-that-shifts", 1)


def test_drafts_that_miss_are_slower_than_none() -> None:
    """Oracle: the run without drafts, which the text says is the faster one."""
    step = catalogue.lesson("13-guessing-ahead").steps[1]
    assert "longer than without any guesses" in step.why
    without = point_of(run(load_scenario(step.scenario, spec_tokens=0)))
    assert lessons.figure_at(step, step.ask) > without[step.measure] > lessons.figure_at(step, step.start)


def made(**changes) -> LessonStep:
    """Return a step with parts of it changed."""
    step = catalogue.lesson("03-why-batching-works").steps[0]
    return dataclasses.replace(step, **changes)


def test_guesses_are_judged() -> None:
    """By hand: within a quarter of the truth is close; a factor tells how far off."""
    step = made()
    truth = lessons.figure_at(step, step.ask)
    assert lessons.answered(step, truth * 1.2).right
    far = lessons.answered(step, truth / 10)
    assert far.right is False and far.factor == pytest.approx(0.1)
    assert "10 times too little" in lesson_words.guess_verdict(step, truth / 10, far)
    assert "Well predicted" in lesson_words.guess_verdict(step, truth, lessons.answered(step, truth))


def test_choices_are_judged() -> None:
    """By hand: the ratio 1.3 lies in the second of four."""
    step = catalogue.lesson("03-why-batching-works").steps[1]
    assert lessons.right_choice(step) == 1
    assert [lessons.answered(step, choice).right for choice in range(4)] == [False, True, False, False]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"start": "3"}, "start"), ({"claim": (2.0, 1.0)}, "claim"), ({"choices": ("a", "b", "c")}, "2 edges")],
)
def test_wrong_steps_are_refused(changes: dict, words: str) -> None:
    """Oracle: by hand: the message names the step and what is wrong."""
    step = made(**changes)
    with pytest.raises(ScenarioError, match=words) as caught:
        check_step(step)
    assert step.title in str(caught.value)


# --- answers in a link ----------------------------------------------------------------------------


def test_answers_survive_a_link() -> None:
    """Oracle: what was put in."""
    answers = {(1, 1): 5000.0, (1, 2): 1.0, (3, 1): 0.5}
    text = lessons.answers_text(answers)
    assert text == "1.1=5000,1.2=b,3.1=0.5"
    assert lessons.parse_answers(text) == (answers, 0)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_no_answers_break(text: str) -> None:
    """Oracle: no exception, and what is read can be written and read again."""
    found, _ = lessons.parse_answers(text)
    written = lessons.answers_text(found)
    again, lost = lessons.parse_answers(written)
    assert lost == 0 and set(again) == set(found)


@pytest.mark.parametrize(
    "text", ["1.2=5000", "1.2=-3", "1.2=h", "1.1=b", "1.1=-5", "1.9=5", "99.1=5", "1.1=1e9", "1.1"]
)
def test_answers_that_answer_no_question(text: str) -> None:
    """Oracle: 1.1 asks for a figure, 1.2 has three choices; each page opens and says that one is ignored."""
    assert lessons.parse_answers(f"{text},3.1=7") == ({(3, 1): 7.0}, 1)
    app = healthy(open_page("9_Method.py", answers=text))
    assert "1 that are no answer" in app.text[0].value


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["newcomer", "engineer"])
@pytest.mark.parametrize(("item", "number"), STEPS, ids=map(step_id, STEPS))
def test_every_step_opens_and_reveals(item, number, level: str) -> None:
    """Oracle: no exception; before an answer no truth is told, after it the verdict is."""
    query = {"lesson": item.id, "step": str(number), "level": level}
    step = item.steps[number - 1]
    if level == "newcomer":
        before = healthy(open_page(PAGE, **query))
        assert finding(before) and "simulator says" not in said(before)
    truth = lesson_figures.figure_words(step, lessons.answered(step, None).truth)
    guess = "a" if step.choices else "5"
    app = healthy(open_page(PAGE, **query, answers=f"{lessons.lesson_number(item)}.{number}={guess}"))
    assert any(word in said(app) for word in ("simulator says", "Right:"))
    assert truth in said(app)


def test_predict_move_see() -> None:
    """Oracle: the address holds the guess; the verdict comes when the control is where the question asks."""
    app = healthy(open_page(PAGE, lesson="03-why-batching-works"))
    app.number_input(key="guess_03-why-batching-works_1").set_value(1000.0)
    next(button for button in app.button if button.label == "Predict").click().run()
    healthy(app)
    assert address(app)["answers"] == "3.1=1000"
    assert "simulator says" not in said(app)
    app.select_slider(key="move_03-why-batching-works_1").set_value("8").run()
    assert "simulator says" not in said(healthy(app))
    next(button for button in app.button if button.label.startswith("Go to")).click().run()
    assert "simulator says" in said(healthy(app))
    app.button(key="lesson_again").click().run()
    assert "answers" not in address(healthy(app))


def test_next_and_back_and_the_summary() -> None:
    """Oracle: the address; the summary names the answers and the simulator's."""
    app = healthy(open_page(PAGE, lesson="01-reading-and-writing", answers="1.1=500"))
    next(button for button in app.button if button.label == "Next").click().run()
    assert address(healthy(app))["step"] == "2"
    next(button for button in app.button if button.label == "Back").click().run()
    assert "step" not in address(healthy(app))
    next(button for button in app.button if button.label == "All lessons").click().run()
    text = re.sub(r"<[^>]*>", "", said(healthy(app)))  # terms are marked
    assert "500" in text and "1.1 A thousand tokens in" in text
    found = lesson_summary.lines({(1, 1): 500.0}, "http://here/Lessons")
    markdown = lesson_summary.markdown(found)
    assert "You: **500" in markdown and "python -m sim_core run" in markdown
    assert "<http://here/Lessons?lesson=01-reading-and-writing&step=1&answers=1.1=500>" in markdown
    printed = lesson_summary.page({(1, 1): 500.0}, found, "")
    assert printed.count('class="chart"') == 1 and "your prediction" in printed
    app.button(key="forget_answers").click().run()
    assert "answers" not in address(healthy(app))


@pytest.mark.parametrize(
    "query",
    [
        {"lesson": "<script>alert(1)</script>"}, {"lesson": "../../etc/passwd"}, {"step": "99"},
        {"lesson": "01-reading-and-writing", "step": "7"}, {"answers": "<script>,1.1=<b>,9.9=c"},
        {"answers": "x" * 100_000}, {"answers": "1.2=h", "lesson": "01-reading-and-writing", "step": "2"},
        {"level": "wizard"}, {"answers": "1.1=1e999"},
    ],
)  # fmt: skip
def test_hostile_links_are_answered(query: dict[str, str]) -> None:
    """Oracle: no exception, and nothing of the link stands in the page as markup."""
    app = healthy(open_page(PAGE, **query))
    assert "<script" not in said(app)


def test_terms_are_explained_once_where_they_first_appear() -> None:
    """Oracle: by hand; texts are escaped."""
    html = lesson_words.explained("Prefill is not prefill <b>; a token and tokens, TTFT and KV cache.")
    assert html.count('<abbr tabindex="0"') == 4
    assert "&lt;b&gt;" in html
    assert html.count("A piece of text") == 1


@pytest.mark.parametrize(("item", "number"), STEPS[::3], ids=map(step_id, STEPS[::3]))
def test_plotly_accepts_every_step(item, number) -> None:
    """Oracle: Plotly's own validation; the guess stands where the question asks."""
    step = item.steps[number - 1]
    shown = {value: lessons.figure_at(step, value) for value in lesson_figures.seen(step, step.ask)}
    assert {step.start, step.ask} <= set(shown)
    figure = lesson_figures.lesson_figure(step, shown, None if step.choices else 3.0)
    go.Figure(figure)
    if not step.choices:
        assert figure["data"][-1]["x"] == [step.values.index(step.ask)]


@pytest.mark.parametrize(("item", "number"), NUMBERS[::2], ids=map(step_id, NUMBERS[::2]))
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_words_of_a_guess_stand_off_the_line(item, number, factor) -> None:
    """Oracle: the line from point to point, drawn as on a phone: it does not meet the box of the words."""
    step = item.steps[number - 1]
    shown = {value: lessons.figure_at(step, value) for value in lesson_figures.seen(step, step.ask)}
    guess = factor * shown[step.ask]
    figure = lesson_figures.lesson_figure(step, shown, guess)
    (words,) = figure["layout"]["annotations"]
    log = figure["layout"]["yaxis"]["type"] == "log"
    levels = np.log(figure["data"][0]["y"]) if log else np.array(figure["data"][0]["y"], float)
    at = np.log(guess) if log else guess
    low, top = (min(*levels, at), max(*levels, at)) if log else (0.0, max(*levels, at))
    px = (np.array([*figure["data"][0]["x"], words["x"]]) + 0.5) / len(step.values) * 320
    py = 240 * (1 - (np.array([*levels, at]) - low) / (top - low))
    x, y = px[-1] + words["ax"], py[-1] + words["ay"]
    along = np.linspace(px[0], px[-2], 400)
    heights = np.interp(along, px[:-1], py[:-1])
    meets = bool(np.any((abs(along - x) < 50) & (abs(heights - y) < 8)))
    assert not meets
    assert words["text"] == "your prediction" and 50 <= x <= 270


def test_the_command_lists_lessons(capsys) -> None:
    """Oracle: the presets."""
    assert main(["list", "lessons"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in catalogue.preset_ids("lessons"))


def test_the_page_opens_from_the_app() -> None:
    """Oracle: all lessons stand on it."""
    app = healthy(open_page(PAGE))
    assert len([button for button in app.button if button.label == "Start"]) == len(catalogue.lessons())


def test_the_workshop_plan_leads_to_what_exists() -> None:
    """Oracle: the presets: every lesson and ready scenario that a link of the plan names."""
    text = (ROOT / "docs" / "facilitator.md").read_text(encoding="utf-8")
    named = re.findall(r"lesson=([\w.-]+)", text)
    assert len(set(named)) >= 9
    assert set(named) <= set(catalogue.preset_ids("lessons"))
    scenarios = re.findall(r"preset=([\w.-]+)", text)
    assert scenarios and set(scenarios) <= set(catalogue.preset_ids("scenarios"))
