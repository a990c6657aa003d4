"""The list of requests that a link can carry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core import Scenario, ScenarioError, load_scenario, simulate
from sim_core.scenario.link.write import to_query
from sim_core.scenario.request_lists import (
    MAX_REQUESTS,
    REQUEST_LIST_EXAMPLE,
    parse_request_list,
    write_request_list,
)
from sim_core.scenario.scenario import FIELDS
from sim_core.traffic.draws import mean_lengths


def test_the_example():
    """Oracle: by hand: eight requests at 0, one at half a second."""
    assert parse_request_list(REQUEST_LIST_EXAMPLE) == ((0.0, 1000, 200),) * 8 + ((0.5, 4000, 50),)


def test_requests_stand_in_order_of_arrival():
    """Oracle: a stable sort by hand; spaces and a comma too many are forgiven."""
    found = parse_request_list(" 2:3:4 ,0.5:1:1, 0.5:2:2,")
    assert [prompt for _, prompt, _ in found] == [1, 2, 3]


rows = st.lists(
    st.tuples(st.integers(0, 10**9).map(lambda n: n / 1e6), st.integers(1, 10**6), st.integers(1, 10**6)),
    min_size=1,
    max_size=60,
)


@given(rows)
def test_write_then_read_is_the_identity(rows):
    """Oracle: the rows themselves, sorted by arrival."""
    found = parse_request_list(write_request_list(rows))
    expected = sorted(rows, key=lambda row: row[0])
    assert list(found) == expected


def test_sixty_different_requests_fit_the_limit():
    """Oracle: the longest usual entry, sixty times, against the limit of the key."""
    text = write_request_list((100 + n / 1000 + 0.000123, 100_000 + n, 10_000 + n) for n in range(60))
    assert len(text) <= FIELDS["request_list"].longest


@pytest.mark.parametrize(
    ("text", "words"),
    {
        "nonsense": ["request_list", "'nonsense'", "ARRIVAL_S:PROMPT:OUTPUT"],
        "0:0:5": ["prompt of 0 tokens", "between 1 and 1,000,000"],
        "0:5:0": ["answer of 0 tokens"],
        "0:5:5x0": ["no time"],
        "-1:5:5": ["'-1:5:5'"],
        "2000000:5:5": ["2,000,000 s", "1,000,000 s"],
        "0:5:5x1001": ["1,000 requests", "--trace"],
        ",": ["holds no request"],
        "0:1e3:5": ["'0:1e3:5'"],
    }.items(),
)
def test_bad_lists_are_refused_by_name(text, words):
    """Oracle: the message names the thing, the value, the limit and the way out."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario("arrivals=trace", request_list=text)
    for word in words:
        assert word in str(caught.value)


def test_a_list_runs_like_any_traffic():
    """Oracle: the list's own columns; the link carries it."""
    scenario = load_scenario("arrivals=trace&request_list=0:100:5,1:200:6x2")
    assert load_scenario(to_query(scenario)) == scenario
    found = simulate(scenario)
    assert found["prompt_tokens"].tolist() == [100, 200, 200]
    np.testing.assert_allclose(found["arrival_s"], [0, 1, 1])
    assert mean_lengths(scenario) == pytest.approx((500 / 3, 17 / 3))
    assert len(simulate(scenario.replace(requests=2))) == 2


def test_arrivals_trace_needs_a_list_or_a_file():
    """Oracle: the message names both ways out."""
    with pytest.raises(ScenarioError, match=r"--trace FILE.*request_list"):
        simulate(Scenario(arrivals="trace"))


def test_other_arrivals_leave_the_list_alone():
    """Oracle: the default scenario without one."""
    plain, listed = simulate(Scenario(requests=50)), simulate(Scenario(requests=50, request_list="0:1:1"))
    assert plain.equals(listed)


def test_the_limit_of_requests():
    """Oracle: the limit itself is allowed."""
    assert len(parse_request_list(f"0:1:1x{MAX_REQUESTS}")) == MAX_REQUESTS
