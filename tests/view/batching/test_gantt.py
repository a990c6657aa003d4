"""The timeline as a picture: what is drawn is what the log holds, and Plotly accepts it."""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from sim_core.catalogue.models import model
from sim_core.results.story import KINDS, QUEUED
from sim_core.results.timeline import LATE, POLICIES, SEGMENT, Timeline, timelines
from sim_core.scenario.scenario import Scenario
from sim_core.view.batching.gantt import drawing as gantt
from sim_core.view.batching.gantt import late as late_tokens
from sim_core.view.batching.gantt.drawing import TimelinesDrawing, draw_timelines
from sim_core.view.batching.gantt.metrics import METRICS, queue_line
from sim_core.view.batching.gantt.parts import LOOKS, policy_style
from sim_core.view.batching.gantt.player import prompt_ends_s
from sim_core.view.drawing.words import THIN
from sim_core.view.session import sweeps

STEPS = ("start_s", "duration_s", "growth_s", "count", "decodes", "prefill_tokens", "prompts", "running",
         "kv_blocks_used", "step_tokens")  # fmt: skip
# Request 0 decodes while the 1,000 prompt tokens of request 1 come in two chunks. Lane 2 is the queue.
BARS = [
    (0, "prefill", 0.0, 0.1, 100, 0, 0),
    (0, "decode", 0.1, 0.5, 5, 0, 0),
    (1, "waiting", 0.15, 0.2, 0, 0, 2),
    (1, "prefill", 0.2, 0.3, 512, 0, 1),
    (1, "prefill", 0.3, 0.4, 488, 512, 1),
    (1, "decode", 0.4, 0.5, 1, 0, 1),
]
LOG = [
    (0.0, 0.1, 0.0, 1, 0, 100, 1, 1, 7, 100),
    (0.1, 0.1, 0.01, 2, 1, 0, 0, 1, 7, 1),
    (0.2, 0.1, 0.0, 1, 1, 512, 1, 2, 39, 513),
    (0.3, 0.1, 0.0, 1, 1, 488, 1, 2, 70, 489),
    (0.4, 0.1, 0.0, 1, 2, 0, 0, 2, 71, 2),
]
SLOW = [(0, 4, 0.3, 100.0, 69.0, 31.0, 1, 512), (0, 5, 0.4, 90.0, 60.0, 30.0, 1, 488)]
REQUESTS = pd.DataFrame({
    "request_id": [0, 1], "arrival_s": [0.0, 0.15], "prompt_tokens": [100, 1000], "output_tokens": [6, 2],
    "first_token_s": [0.1, 0.4], "finished_s": [0.5, 0.5], "preemptions": [0, 0],
})  # fmt: skip


def by_hand(policy: str = "chunked", bars: list = BARS, late: list = SLOW, **changes: Any) -> Timeline:
    """Return a timeline written down by hand."""
    rows = [(request, KINDS.index(kind), *rest, 0) for request, kind, *rest in bars]
    steps = pd.DataFrame(LOG, columns=list(STEPS))
    values = {
        "scenario": Scenario(), "policy": policy, "segments": np.array(rows, SEGMENT),
        "late": np.array(late, LATE), "steps": steps.assign(waiting=0), "slots": 2, "queue_lanes": 1,
        "kv_blocks": 100, "start_s": 0.0, "end_s": 0.5, "requests": REQUESTS, "rejected": np.array([], int),
        "summary": {}, "padding_frac": 0.0, "story": SimpleNamespace(run=SimpleNamespace(arrival_s=None)),
    }  # fmt: skip
    return Timeline(**(values | changes))


def refused() -> Timeline:
    """Return the timeline with a request 2 that never fits; it arrives after 0.25 s."""
    priced, price = SimpleNamespace(model=model("llama-3.1-8b")), SimpleNamespace(request_limit_tokens=2000)
    run = SimpleNamespace(arrival_s=np.array([0.0, 0.15, 0.25]), priced=priced, price=price)
    return by_hand(rejected=np.array([2]), story=SimpleNamespace(run=run))


SCENARIOS = {
    "usual": Scenario(requests=12, arrival_per_s=10, max_batch=4, output_tokens=30),
    "one request": Scenario(requests=1, output_tokens=5),
    "all at once": Scenario(requests=8, arrivals="offline", max_batch=4, output_tokens=20),
    "prompts beyond the budget": Scenario(requests=4, prompt_tokens=5000, token_budget=512, output_tokens=10),
    "short of memory": Scenario(
        requests=40, arrivals="offline", max_batch=32, kv_memory_frac=0.24, preemption="swap"
    ),
}


@cache
def run(name: str) -> dict[str, Timeline]:
    return timelines(SCENARIOS[name])


def traces(drawing: TimelinesDrawing, **wanted: Any) -> list[dict]:
    """Return the traces whose values are the wanted ones."""
    return [trace for trace in drawing.figure["data"] if wanted.items() <= trace.items()]


def axis_of(index: int) -> str:
    return "y" if index == 0 else f"y{index + 1}"


def words(text: str) -> str:
    return text.replace(THIN, " ")


@pytest.mark.parametrize("rows", ["slots", "requests"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_plotly_accepts_the_timeline(name: str, rows: str) -> None:
    """Oracle: Plotly's own schema, and JSON without NaN."""
    drawing = draw_timelines(run(name), rows=rows)
    go.Figure(drawing.figure)
    json.dumps([drawing.figure, drawing.player], allow_nan=False)


@pytest.mark.parametrize("rows", ["slots", "requests"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_bar_is_a_segment_of_the_log(name: str, rows: str) -> None:
    """Oracle: start, length, place and number of the timeline's segments, kind by kind."""
    found = run(name)
    drawing = draw_timelines(found, rows=rows)
    for index, policy in enumerate(POLICIES):
        segments = found[policy].segments
        for kind, look in LOOKS.items():
            expected = segments[segments["kind"] == KINDS.index(kind)]
            drawn = traces(drawing, type="bar", yaxis=axis_of(index), name=look.words)
            assert len(drawn) == (1 if expected.size else 0)
            if not drawn:
                continue
            order = np.lexsort((expected["start_s"], expected["request"]))
            np.testing.assert_allclose(drawn[0]["base"], expected["start_s"][order], atol=1e-4)
            lengths = (expected["end_s"] - expected["start_s"])[order]
            np.testing.assert_allclose(drawn[0]["x"], lengths, atol=2e-4)
            assert [row[0] for row in drawn[0]["customdata"]] == expected["request"][order].tolist()
            if rows == "requests":
                assert drawn[0]["y"] == expected["request"][order].tolist()
            elif KINDS.index(kind) not in QUEUED:
                assert drawn[0]["y"] == expected["lane"][order].tolist()


def test_places_in_the_queue_lie_below_the_slots() -> None:
    """Oracle: lane 2 is the only place in the queue, below the slots 0 and 1 and the line."""
    drawing = draw_timelines({"chunked": by_hand()})
    (waiting,) = traces(drawing, type="bar", name="waiting")
    (line,) = [shape for shape in drawing.figure["layout"]["shapes"] if shape["yref"] == "y"]
    assert 1.5 < line["y0"] < waiting["y"][0] - waiting["width"] / 2
    assert drawing.figure["layout"]["yaxis"]["ticktext"][-1] == "queue"


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_lines_are_the_steps(name: str) -> None:
    """Oracle: the columns of the step log at the middle of each row, and nought between rows."""
    found = run(name)
    drawing = draw_timelines(found)
    for number, (column, *_) in enumerate(METRICS):
        lines = traces(drawing, type="scatter", mode="lines", yaxis=axis_of(len(POLICIES) + number))
        assert len(lines) == len(POLICIES)
        if column == "waiting":
            continue
        for line, timeline in zip(lines, found.values(), strict=True):
            steps = timeline.steps
            end_s = steps["start_s"] + steps["duration_s"]
            assert value_at(line, (steps["start_s"] + end_s) / 2) == steps[column].tolist()
            pause = steps["start_s"].to_numpy()[1:] - end_s.to_numpy()[:-1]
            between = end_s.to_numpy()[:-1] + pause / 2
            assert not any(value_at(line, between[pause > 1e-3]))


def value_at(line: dict, times_s: Any) -> list[float]:
    place = np.searchsorted(line["x"], np.asarray(times_s), "right") - 1
    return [line["y"][at] for at in place.tolist()]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_queue_is_who_waits(name: str) -> None:
    """Oracle: the bars outside the batch that cover a moment, counted one by one."""
    for timeline in run(name).values():
        times_s, queued = queue_line(timeline)
        outside = [bar for bar in timeline.segments.tolist() if bar[1] in QUEUED]
        for first, last, count in zip(times_s[:-1], times_s[1:], queued, strict=False):
            middle = (first + last) / 2
            if last - first > 1e-5:
                assert count == sum(bar[2] <= middle < bar[3] for bar in outside)


def test_a_chunk_says_what_it_is_and_whom_it_delayed() -> None:
    """Oracle: the chunks of BARS, the late tokens of SLOW."""
    (prefill,) = traces(draw_timelines({"chunked": by_hand()}), type="bar", name="prefill")
    first, second, third = prefill["customdata"]
    assert first == (0, 100.0, "100", "100", "", "")
    assert second[:5] == (1, 100.0, "512", "1,000", " (1 to 512)")
    assert words(second[5]) == "<br>delayed 1 decode by 31 ms"
    assert third[2:5] == ("488", "1,000", " (513 to 1,000)")
    assert prefill["marker"]["line"]["width"] > 0
    assert "%{customdata[2]} of %{customdata[3]} tokens" in prefill["hovertemplate"]


def test_a_chunk_that_delays_nobody_says_so() -> None:
    """Oracle: one decode in the step of each chunk of request 1; a stalled one under prefill_first."""
    (prefill,) = traces(draw_timelines({"chunked": by_hand(late=[])}), type="bar", name="prefill")
    assert [row[5] for row in prefill["customdata"]] == [
        "",
        *["<br>with 1 decode in the step, none late"] * 2,
    ]
    bars = [*BARS[:1], (0, "stalled", 0.2, 0.4, 0, 0, 0), *BARS[2:]]
    held = draw_timelines({"prefill_first": by_hand("prefill_first", bars, [])})
    (prefill,) = traces(held, type="bar", name="prefill")
    assert [row[5] for row in prefill["customdata"][1:]] == ["<br>1 decode stood still meanwhile"] * 2


def test_a_decode_says_how_many_tokens_and_how_often() -> None:
    """Oracle: 5 tokens in 400 ms are one every 80 ms."""
    (decode,) = traces(draw_timelines({"chunked": by_hand()}), type="bar", name="decode")
    assert decode["customdata"][0] == (0, 400.0, 5, 80.0)


def test_a_late_token_is_tied_to_its_cause() -> None:
    """Oracle: the rows of SLOW: where they lie, and what the hover says."""
    drawing = draw_timelines({"chunked": by_hand()})
    (late,), (cause,) = traces(drawing, name="late token"), traces(drawing, name="its cause")
    assert (late["x"], late["y"]) == ([0.3, 0.4], [0, 0])
    assert words(late["text"][0]) == (
        "<b>Request 0: token 4 came 31 ms late</b><br>"
        "the prompt of request 1 (512 tokens) was in the same step"
    )
    np.testing.assert_allclose(cause["x"], [0.25, 0.35])
    assert all(0 < y < 1 for y in cause["y"])  # above the chunks in row 1
    first = draw_timelines({"prefill_first": by_hand("prefill_first")})
    assert "(512 tokens) went first" in traces(first, name="late token")[0]["text"][0]


def test_many_late_tokens_are_cut_to_the_worst_of_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: three late tokens, the worst of them 40 ms, from one chunk; the picture says that it cut."""
    monkeypatch.setattr(late_tokens, "LATE_MARKS", 2)
    slow = [(0, 4, 0.3, 1.0, 1.0, delay_ms, 1, 512) for delay_ms in (31.0, 40.0, 35.0)]
    drawing = draw_timelines({"chunked": by_hand(late=slow)})
    (late,) = traces(drawing, name="late token")
    assert len(late["x"]) == 1
    assert "came 40 ms late" in words(late["text"][0])
    assert late["text"][0].endswith("and delayed 2 more")
    assert "the worst of each chunk" in titles(drawing)


def titles(drawing: TimelinesDrawing) -> str:
    return " ".join(note["text"] for note in drawing.figure["layout"]["annotations"])


@pytest.mark.parametrize(
    ("limit", "said"),
    [("BARS", "longest of 6 bars"), ("ROWS", "drawn"), ("QUEUE_ROWS", "places in the queue")],
)
def test_what_is_left_out_is_said(limit: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: at most `limit` bars or rows, and words that say so."""
    monkeypatch.setattr(gantt, limit, 1)
    bars = [*BARS[:2], (1, "waiting", 0.1, 0.2, 0, 0, 3), *BARS[3:]]
    for rows in ("slots", "requests") if limit != "QUEUE_ROWS" else ("slots",):
        drawing = draw_timelines({"chunked": by_hand(bars=bars)}, rows=rows)
        assert said in titles(drawing)
        assert sum(len(trace["x"]) for trace in traces(drawing, type="bar")) < len(bars)


@pytest.mark.parametrize(("rows", "row"), [("slots", None), ("requests", 2)])
def test_a_request_that_never_fits_is_marked(rows: str, row: int | None) -> None:
    """Oracle: request 2, which arrives after 0.25 s."""
    drawing = draw_timelines({"chunked": refused()}, rows=rows)
    (cross,) = traces(drawing, name="never fits")
    assert cross["x"] == [0.25]
    assert "request 2 never fits" in cross["text"][0]
    assert "longer than what the KV cache can hold of one request, 2,000 tokens" in cross["hovertemplate"]
    assert row is None or cross["y"] == [row]
    low, high = drawing.figure["layout"]["yaxis"]["range"]
    assert high < cross["y"][0] < low
    go.Figure(drawing.figure)


def test_nothing_is_said_to_be_nothing() -> None:
    """Oracle: no bars, no player, words instead."""
    for found in ({}, {"chunked": by_hand(bars=[])}):
        drawing = draw_timelines(found)
        go.Figure(drawing.figure)
        assert drawing.player is None
        assert "Nothing happens" in titles(drawing)


def test_each_kind_has_one_entry_in_the_legend() -> None:
    """Oracle: the names of the traces, each shown once."""
    drawing = draw_timelines(run("short of memory"))
    shown = [trace["name"] for trace in drawing.figure["data"] if trace["showlegend"]]
    assert len(shown) == len(set(shown))
    assert {trace["name"] for trace in drawing.figure["data"]} == set(shown)
    assert "preempted, swapped out" in shown


def test_kinds_differ_without_colour() -> None:
    """Oracle: height, opacity and hatching, no two alike."""
    looks = {(look.height, look.opacity, look.hatch) for look in LOOKS.values()}
    assert len(looks) == len(LOOKS) == len(KINDS)


def test_policies_look_as_on_the_frontier() -> None:
    """Oracle: the look that the Frontier page gives a policy's curve."""
    from sim_core.view.drawing.figures import style

    sweep = sweeps.Sweep(Scenario(), "policy", POLICIES, "max_batch")
    for policy in POLICIES:
        assert policy_style(policy) == style(sweeps.look(sweep, policy))


def test_capacity_is_a_line_where_it_matters() -> None:
    """Oracle: 71 of 100 blocks in use; with 10,000 blocks the line would flatten everything."""
    for blocks, lines in ((100, 1), (10_000, 0)):
        drawing = draw_timelines({"chunked": by_hand(kv_blocks=blocks)})
        assert len([s for s in drawing.figure["layout"]["shapes"] if s["y0"] == blocks]) == lines
        assert f"of {blocks:,}" in titles(drawing)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_player_knows_the_steps(name: str) -> None:
    """Oracle: a row's steps, first + growth k each, last as long as the row."""
    found = run(name)
    player = draw_timelines(found).player
    assert player["end"] == pytest.approx(max(line.end_s for line in found.values()), abs=1e-4)
    for log, timeline in zip(player["policies"], found.values(), strict=True):
        first_s, growth_s, count = (np.array(log[key]) for key in ("first", "growth", "count"))
        lasts_s = count * first_s + growth_s * count * (count - 1) / 2
        np.testing.assert_allclose(lasts_s, timeline.steps["duration_s"], rtol=1e-4)
        assert log["over"] and len(log["done"]) == len(timeline.requests)


def test_the_player_names_the_request_of_a_chunk() -> None:
    """Oracle: rows 0, 2 and 3 of LOG hold one prompt each, of the requests 0, 1 and 1."""
    (log,) = draw_timelines({"chunked": by_hand()}).player["policies"]
    assert log["who"] == {"0": [0, 1], "2": [1, 1], "3": [1, 1]}


@pytest.mark.parametrize("name", SCENARIOS)
def test_prompts_end_with_a_token(name: str) -> None:
    """Oracle: all tokens but those that decodes made."""
    for timeline in run(name).values():
        decoded = timeline.segments["tokens"][timeline.segments["kind"] == KINDS.index("decode")].sum()
        assert prompt_ends_s(timeline).size == timeline.requests["output_tokens"].sum() - decoded


def test_a_window_shows_what_lies_inside() -> None:
    """Oracle: the window's own ends, and its bars cut to them."""
    found = {policy: line.window(0.3, 0.6) for policy, line in run("usual").items()}
    drawing = draw_timelines(found)
    assert (drawing.player["start"], drawing.player["end"]) == (0.3, 0.6)
    for trace in traces(drawing, type="bar"):
        assert min(trace["base"]) >= 0.3
        assert max(np.add(trace["base"], trace["x"])) <= 0.6 + 1e-6
    assert not all(log["over"] for log in drawing.player["policies"])


def test_the_picture_in_a_sentence() -> None:
    """Oracle: BARS and SLOW, in words."""
    assert words(draw_timelines({"chunked": by_hand()}).alt) == (
        "What 2 requests do over time, by scheduling policy: chunked ends at 500 ms with 2 late tokens."
    )


def test_sixty_requests_stay_light() -> None:
    """Oracle: what a browser is to receive for 60 requests under three policies: under 250 kB."""
    drawing = draw_timelines(timelines(Scenario(requests=60, arrival_per_s=12, max_batch=16)))
    size = len(json.dumps([drawing.figure, drawing.player], separators=(",", ":")))
    assert size < 250_000
