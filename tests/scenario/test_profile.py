"""Engine profiles: read back as written, refused in one line, and priced as measured."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.profiles import EngineProfile, profile_toml, read_profile

EXAMPLE = """
name = "vLLM 0.32, my model, one CPU core"
step_tokens  = [1, 2, 4, 8, 16, 32, 64, 128, 256]       # total tokens in the step
step_time_ms = [15.1, 17.0, 15.6, 19.0, 25.1, 40.0, 62.0, 113.0, 221]
decode_context_ms_per_token = 0.0003
prefill_context_ms_per_pair = 0.000001
prefill_request_ms = 0
request_before_ms = 1.8
request_after_ms = 1.8
kv_blocks = 79
kv_block_tokens = 32
"""
LISTS = "step_tokens = [1, 2]\nstep_time_ms = [3.0, 4.0]\n"


def test_the_example_of_the_contract(tmp_path) -> None:
    """Oracle: the file by hand, through every way in."""
    profile = read_profile(EXAMPLE)
    assert profile.name == "vLLM 0.32, my model, one CPU core"
    assert profile.step_tokens == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    assert profile.step_time_ms[-1] == 221
    assert profile.decode_context_ms_per_token == 0.0003
    assert profile.prefill_context_ms_per_pair == 1e-6
    assert (profile.request_before_ms, profile.request_after_ms) == (1.8, 1.8)
    assert (profile.kv_blocks, profile.kv_block_tokens) == (79, 32)
    path = tmp_path / "engine=1.toml"
    path.write_text(EXAMPLE, encoding="utf-8-sig")
    assert read_profile(path) == read_profile(str(path)) == read_profile(EXAMPLE.encode()) == profile
    assert hash(profile) == hash(read_profile(EXAMPLE))


def test_what_may_be_left_out() -> None:
    """Oracle: the stated defaults: nothing added, KV memory as computed."""
    profile = read_profile(LISTS)
    assert profile == EngineProfile(step_tokens=(1, 2), step_time_ms=(3.0, 4.0))
    assert (profile.kv_blocks, profile.kv_block_tokens, profile.request_before_ms) == (None, None, 0.0)


TIMES = st.floats(1e-6, 1e7)
ADDED = st.floats(0, 1e7)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**7), TIMES), min_size=1, unique_by=lambda pair: pair[0]),
    st.lists(ADDED, min_size=5, max_size=5),
    st.none() | st.integers(1, 10**9),
    st.none() | st.integers(1, 4096),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
)
def test_round_trip(points, added, kv_blocks, kv_block_tokens, name) -> None:
    """Oracle: identity of TOML and back, whatever the numbers and the name."""
    tokens, times = zip(*sorted(points), strict=True)
    profile = EngineProfile(
        name=name,
        step_tokens=tokens,
        step_time_ms=times,
        decode_context_ms_per_token=added[0],
        prefill_context_ms_per_pair=added[1],
        prefill_request_ms=added[2],
        request_before_ms=added[3],
        request_after_ms=added[4],
        kv_blocks=kv_blocks,
        kv_block_tokens=kv_block_tokens,
    )
    assert read_profile(profile_toml(profile)) == profile


BAD = {
    "step_tokens = [1]": ["step_time_ms is missing"],
    "step_time_ms = [1]": ["step_tokens is missing"],
    "step_tokens = [1, 2]\nstep_time_ms = [3.0]": ["2 values", "has 1"],
    "step_tokens = [2, 1]\nstep_time_ms = [3.0, 4.0]": ["must rise", "1 follows 2"],
    "step_tokens = [1, 1]\nstep_time_ms = [3.0, 4.0]": ["must rise"],
    "step_tokens = [0, 1]\nstep_time_ms = [3.0, 4.0]": ["step_tokens[0] is 0", "between 1"],
    "step_tokens = [1.5]\nstep_time_ms = [3.0]": ["step_tokens[0] is 1.5", "whole number"],
    "step_tokens = [1, 'x']\nstep_time_ms = [3.0, 4.0]": ["step_tokens[1] is 'x'", "whole number"],
    "step_tokens = [1]\nstep_time_ms = [0]": ["step_time_ms[0] is 0 ms"],
    "step_tokens = [1]\nstep_time_ms = [-1.0]": ["step_time_ms[0] is -1 ms"],
    "step_tokens = [1]\nstep_time_ms = [nan]": ["step_time_ms[0] is nan", "finite"],
    "step_tokens = [1]\nstep_time_ms = [inf]": ["step_time_ms[0] is inf", "finite"],
    "step_tokens = [1]\nstep_time_ms = [true]": ["step_time_ms[0] is True", "number"],
    "step_tokens = []\nstep_time_ms = []": ["step_tokens is []", "1 to 10,000"],
    "step_tokens = 1\nstep_time_ms = 3.0": ["step_tokens is 1", "list"],
    "step_tokens = [[1]]\nstep_time_ms = [3.0]": ["step_tokens[0] is [1]"],
    f"step_tokens = [{'1,' * 10_001}]\nstep_time_ms = [1]": ["10,000"],
    f"step_tokens = [1{'0' * 400}]\nstep_time_ms = [1]": ["digits"],
    LISTS + "kv_blocks = 0": ["kv_blocks is 0", "between"],
    LISTS + "kv_blocks = 1.5": ["kv_blocks is 1.5", "whole number"],
    LISTS + "kv_block_tokens = 99999": ["99,999", "4,096"],
    LISTS + "request_before_ms = -1": ["request_before_ms is -1 ms"],
    LISTS + "prefil_request_ms = 1": ["prefil_request_ms", "Did you mean prefill_request_ms"],
    LISTS + "name = 3": ["name is 3", "text"],
    "step_tokens = [1": ["not valid TOML"],
    "= 3": ["not valid TOML"],
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_bad_profiles_say_what_to_do(text: str) -> None:
    """Oracle: by hand: one line with key, value and limit."""
    with pytest.raises(ScenarioError) as caught:
        read_profile(text, name="engine.toml")
    message = str(caught.value)
    assert message.startswith("engine.toml")
    assert all(word in message for word in BAD[text]), message
    assert message.isprintable()


def test_unreadable_profiles(tmp_path) -> None:
    """Oracle: one line for a missing file, a folder, an empty file and a binary one."""
    for path in (tmp_path / "missing.toml", tmp_path, "a\x00b"):
        with pytest.raises(ScenarioError, match="cannot be read"):
            read_profile(path)
    with pytest.raises(ScenarioError, match="UTF-8"):
        read_profile(b"\xff\xfe")
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    with pytest.raises(ScenarioError, match=r"empty\.toml: the key step_tokens is missing"):
        read_profile(empty)


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text(alphabet="step_tokns=[]1,.-e \n").map(lambda text: LISTS + text) | st.binary())
def test_no_content_raises_anything_else(source: str | bytes) -> None:
    """Oracle: a profile or a `ScenarioError`."""
    try:
        assert isinstance(read_profile(source), EngineProfile)
    except ScenarioError as error:
        assert "\n" not in str(error)
