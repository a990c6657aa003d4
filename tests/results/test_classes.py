"""Latencies and limits of each class of a mix.

Oracles: NumPy's percentiles over the requests of a class, by the draw of the classes; by hand.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim_core import ScenarioError, capacity, load_scenario, summarize
from sim_core.engine.run import run
from sim_core.questions.deployment.plan import plan
from sim_core.results.answers import answer_of
from sim_core.results.classes import class_column, classes_of, limits_of_engine
from sim_core.results.metrics import point_of
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.link.read import from_query
from sim_core.scenario.mixes import class_limits
from sim_core.traffic.lengths import class_ids, length_classes
from sim_core.traffic.requests import requests_of
from tests.visits import APP, address, healthy, open_page, said

MIX = "200/100:0.8,6000/50:0.2"
SHORT, LONG = "200/100", "6000/50"
BASE = load_scenario(f"mix={MIX}&arrival_per_s=6&requests=1500")


def test_latencies_of_each_class() -> None:
    """Oracle: NumPy's percentiles over the requests of the class that lie in the window."""
    found = run(BASE)
    answer, point = answer_of(found), point_of(found)
    kinds = class_ids(length_classes(BASE), BASE.seed, BASE.requests)[answer.found.first : answer.found.last]
    ttft_ms = 1e3 * (found.first_token_s - found.arrival_s)[answer.found.first : answer.found.last]
    for kind, name in enumerate((SHORT, LONG)):
        for part in (50, 99):
            column = point[class_column("ttft", f"p{part}", name)]
            assert column == pytest.approx(np.percentile(ttft_ms[kinds == kind], part))
    assert point["ttft_ms_p50 6000/50"] > 2 * point["ttft_ms_p50 200/100"]
    assert sum(point[class_column("ttft", "n", name)] for name in (SHORT, LONG)) == answer.found.used


def test_a_class_keeps_its_own_limits() -> None:
    """By hand: documents break a limit that chats keep; given more time, everything keeps its limits."""
    strict = BASE.replace(slo_ttft_ms=280.0)
    free = strict.replace(class_limits=f"{LONG}:5000/100")
    assert not point_of(run(strict))["meets_slo"] and point_of(run(free))["meets_slo"]
    assert capacity(free)["arrival_per_s"] > 1.2 * capacity(strict)["arrival_per_s"]
    point = point_of(run(free))
    reached = max(point[f"ttft_ms_p99 {name}"] / limit for name, limit in ((SHORT, 280), (LONG, 5000)))
    assert point["slo_ttft_ms_reached"] == pytest.approx(280 * reached)


def test_one_class_that_misses_its_limit_is_enough() -> None:
    """By hand: no document can keep its limit; four of five requests are none, and keep theirs."""
    point = point_of(run(BASE.replace(class_limits=f"{LONG}:1/100")))
    assert not point["meets_slo"] and point["slo_attainment_frac"] == pytest.approx(0.8, abs=0.05)
    assert point["goodput_per_s"] == pytest.approx(0.8 * point["request_per_s"], rel=0.1)


def test_the_same_limits_for_all_are_those_of_all() -> None:
    """Oracle: goodput and attainment without limits of classes."""
    same = BASE.replace(class_limits=",".join(f"{name}:2000/40" for name in (SHORT, LONG)))
    ours, theirs = point_of(run(same)), point_of(run(BASE))
    for key in ("goodput_per_s", "slo_attainment_frac"):
        assert ours[key] == pytest.approx(theirs[key])


def test_who_is_turned_away_waits_for_ever() -> None:
    """By hand: a class of prompts that no context window holds reaches no limit; the other class does."""
    base = BASE.replace(mix="200/100:0.5,900000/50:0.5", class_limits="200/100:2000/40")
    point = point_of(run(base))
    assert math.isinf(point["slo_ttft_ms_reached"]) and not point["meets_slo"]
    assert point["ttft_ms_p99 200/100"] < 2000


def test_requests_of_a_trace_are_of_no_class() -> None:
    """Oracle: the same trace, as many requests as would be drawn, under a scenario without a mix."""
    sent = requests_of(np.arange(60) * 0.1, np.full(60, 300), np.full(60, 20))
    plain = load_scenario("arrivals=closed&concurrency=4&requests=60&slo_ttft_ms=60000&slo_tpot_ms=1000")
    mixed = plain.replace(mix=MIX, class_limits=f"{SHORT}:0.01/0.001")
    found = run(mixed, trace=sent)
    assert point_of(found) == pytest.approx(point_of(run(plain, trace=sent)), nan_ok=True)
    notes = summarize(found.requests(), mixed)["warnings"]
    assert any(note.startswith("class_limits has no effect") for note in notes)


@pytest.mark.parametrize("query", ["", "arrivals=closed&turns=4&mix=chat:1,rag:1"])
def test_one_class_and_sessions_have_none(query: str) -> None:
    """By hand: there is nothing to tell apart, or requests of a session are no draws of a class."""
    assert classes_of(load_scenario(query)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rag", "write CLASS:TTFT_MS/TPOT_MS"),
        ("rag:1000", "write CLASS:TTFT_MS/TPOT_MS"),
        ("rag:0/30", "above 0"),
        ("rag:1e99/30", "above 0"),
        ("rag:1/1,rag:2/2", "twice"),
        ("chat:1/1", "'chat', which the mix does not have. Its classes are rag, flat."),
        (",".join(f"rag{n}:1/1" for n in range(9)), "the limit is 8"),
    ],
)
def test_refusals_name_the_way_out(text: str, words: str) -> None:
    """Oracle: the sentences, in a link as well."""
    with pytest.raises(ScenarioError, match=words.replace("'", ".")):
        load_scenario("", mix="rag:1,flat:1", class_limits=text)
    _, notes = from_query({"mix": "rag:1,flat:1", "class_limits": text})
    assert notes


def test_another_mix_keeps_the_limits_that_it_can() -> None:
    """By hand."""
    base = load_scenario("", mix="rag:1,flat:1", class_limits="rag:5000/50,flat:1000/30")
    assert with_changes(base, mix="rag:1,chat:1").class_limits == "rag:5000/50"
    assert with_changes(base, prompt_tokens=10).class_limits == base.class_limits
    assert with_changes(base, mix="").class_limits == "flat:1000/30"
    assert dict(class_limits(base.class_limits))["rag"] == (5000.0, 50.0)


def test_the_page_shows_each_class() -> None:
    """Oracle: the classes and the limits of the link, in the table, on the chart and in the sidebar."""
    link = {"mix": MIX, "class_limits": f"{LONG}:5000/100", "requests": "400", "fine": "off"}
    app = healthy(open_page(APP, **link))
    words = said(app)
    assert "Latency by class of traffic, this setting" in words and SHORT in words and LONG in words
    assert app.text_input(key="in_class_limits").value == f"{LONG}:5000/100"
    app.text_input(key="in_class_limits").set_value(f"{SHORT}:300/20")
    assert address(healthy(app.run()))["class_limits"] == f"{SHORT}:300/20"
    for show in ("load", "table"):
        healthy(open_page(APP, show=show, **link))


def test_a_class_that_sent_nothing_says_nothing() -> None:
    """By hand: of a class with one request in 10^9 there is none in 300, and nothing of it that is late."""
    point = point_of(
        run(BASE.replace(mix=f"{SHORT}:1,{LONG}:1e-9", class_limits=f"{LONG}:5000/80", requests=300))
    )
    assert point[class_column("ttft", "n", LONG)] == 0 and point["meets_slo"]
    assert point["slo_ttft_ms_reached"] == pytest.approx(point[f"ttft_ms_p99 {SHORT}"])


def test_what_an_engine_must_keep_whatever_the_class() -> None:
    """By hand: steps are shared, so the shortest TPOT holds; a first token may be as late as that of any."""
    own = BASE.replace(slo_ttft_ms=500.0, slo_tpot_ms=20.0, class_limits=f"{LONG}:5000/80")
    assert limits_of_engine(own) == (5000.0, 20.0)
    assert limits_of_engine(own.replace(class_limits=f"{SHORT}:300/10,{LONG}:5000/80")) == (5000.0, 10.0)
    assert limits_of_engine(own.replace(class_limits="")) == (500.0, 20.0)


@pytest.mark.parametrize("free", ["tensor_parallel", "tensor_parallel,policy"])
def test_a_plan_asks_for_the_limits_of_the_classes(free: str) -> None:
    """By hand: where every class has limits of its own, those of all do not matter, however short."""
    own = f"{SHORT}:2000/40,{LONG}:2000/40"
    wide = BASE.replace(class_limits=own, requests=500)
    narrow = wide.replace(slo_ttft_ms=1.0, slo_tpot_ms=1.0)
    asked = {"accelerators": "h100-sxm,a100-80-sxm", "free": free, "objective": "devices"}
    found = [plan(scenario, 6.0, **asked) for scenario in (wide, narrow)]
    rows, others = ([(row.layout, row.accelerators) for row in each.rows] for each in found)
    assert rows == others and rows
