"""The rules of engines: admission and first tokens, by hand; named engines, by what each of them does."""

from __future__ import annotations

import numpy as np
import pytest

from sim_core import load_scenario
from sim_core.engine.run import run
from tests.runs import make_cost, run_kernel

# one step takes 10 s, whatever it holds: times below are steps
STEP = make_cost(token_s=[0.0] + [10.0] * 400)
POOL = {"kv_block_tokens": 1, "token_budget": 8, "max_running": 4}


def timeline(requests, **rules):
    """Return first and last steps of each request, and how often it was preempted."""
    found = run_kernel(STEP, *map(list, zip(*requests, strict=True)), **{**POOL, **rules})
    first, last = found.first_token_s / 10, found.finished_s / 10
    return list(zip(first.tolist(), last.tolist(), found.preemptions.tolist(), strict=True))


def test_a_whole_prompt_must_fit():
    """Oracle: by hand. 19 blocks of a token; A holds 6 after step 1, one more after each of steps 2 to 5.

    B's prompt of 14 never fits beside it, and takes steps 6 and 7. If its first chunk alone has to fit, it
    joins step 1 with the 2 tokens left of the budget and takes 7 in step 2; in step 3 it wants 5 more, and 2
    are left: it loses all, and so again in steps 4 and 5.
    """
    requests = [(0, 6, 5), (0, 14, 1)]
    assert timeline(requests, kv_blocks=19, admission="full_prompt") == [(1, 5, 0), (7, 7, 0)]
    assert timeline(requests, kv_blocks=19, admission="first_chunk") == [(1, 5, 0), (7, 7, 2)]
    assert timeline(requests, kv_blocks=22, admission="first_chunk") == [(1, 5, 0), (3, 3, 0)]


def test_a_preempted_request_must_fit_with_what_it_had_made():
    """Oracle: by hand. 9 blocks: A and B take 4 each and hold 5 and 4 when step 2 finds one block for two.

    B has made a token, so 5 must be free; A's steps 2 to 4 leave 4, 3 and 2. It comes back in step 5.
    """
    requests = [(0, 4, 4), (0, 4, 4)]
    assert timeline(requests, kv_blocks=9, admission="full_prompt") == [(1, 4, 0), (1, 7, 1)]


def test_prompt_and_longest_answer_are_reserved():
    """Oracle: by hand. 19 blocks; A wants 6 + 5, B 3 + 2, together 16: B joins step 1, and is in by step 2.
    Where answers may have 9 tokens, they want 15 + 12: B waits for A's end after step 5."""
    requests = [(0, 6, 5), (0, 3, 2)]
    assert timeline(requests, kv_blocks=19, admission="reserve_output") == [(1, 5, 0), (2, 3, 0)]
    limited = timeline(requests, kv_blocks=19, admission="reserve_output", max_output_tokens=9)
    assert limited == [(1, 5, 0), (6, 7, 0)]


def test_a_share_of_the_answers_is_reserved():
    """Oracle: by hand, answers of up to 100. In step 1 the newcomer A counts whole: no room for B's 3 + 100.

    In step 2 A holds 7 and may make 99, of which 0.7: B's 104 (a block for waste) must be less than what
    remains, 181 - 7 - 69.3 = 104.7. With 180 blocks it never does while A runs: A takes one a step, and its
    share falls by 0.8 (1 x 0.7, and a 600th of 0.602 of some 98).
    """
    requests = [(0, 6, 5), (0, 3, 2)]
    rules = {"admission": "reserve_share", "max_output_tokens": 100}
    assert timeline(requests, kv_blocks=181, **rules) == [(1, 5, 0), (2, 3, 0)]
    assert timeline(requests, kv_blocks=180, **rules) == [(1, 5, 0), (6, 7, 0)]


def test_long_answers_reserve_no_more_than_4096_tokens():
    """Oracle: as above with answers of up to 9,000, both cut to 4,096: 4,100 < 6,975 - 7 - 0.7 x 4,096.

    With a block less it fits in step 3, where the share is a 600th of 0.602 smaller: 6,974 - 8 - 2,863.1.
    """
    requests = [(0, 6, 5), (0, 3, 2)]
    rules = {"admission": "reserve_share", "max_output_tokens": 9000}
    assert timeline(requests, kv_blocks=6975, **rules) == [(1, 5, 0), (2, 3, 0)]
    assert timeline(requests, kv_blocks=6974, **rules) == [(1, 5, 0), (3, 4, 0)]


def test_short_prompts_pass_a_long_one():
    """Oracle: by hand, 8 tokens a step. A's 16 take two steps, B's 3 the third. With at most 4 of a prompt in
    a step, A takes four, and B passes it in the first; a second long prompt begins in A's last step."""
    short, long = [(0, 16, 1), (0, 3, 2)], [(0, 16, 1), (0, 8, 1)]
    assert timeline(short) == [(2, 2, 0), (3, 4, 0)]
    assert timeline(short, long_prefill_token_threshold=4) == [(4, 4, 0), (1, 2, 0)]
    assert timeline(long, long_prefill_token_threshold=4) == [(4, 4, 0), (5, 5, 0)]


# --- engines by name --------------------------------------------------------------------------------


def test_what_reserves_whole_answers_never_preempts():
    """Oracle: GUARANTEED_NO_EVICT. Where vLLM preempts, TensorRT-LLM admits fewer, and SGLang between."""
    runs = {
        name: run(load_scenario("kv-pressure", engine=name)) for name in ("vllm", "sglang", "tensorrt-llm")
    }
    assert runs["vllm"].preemptions.sum() > 0
    assert runs["tensorrt-llm"].preemptions.sum() == 0
    assert runs["sglang"].scenario.policy == "prefill_first"


def test_first_tokens_are_seen_late():
    """Oracle: by hand. Ten decode steps late at an answer's own pace, a streaming interval of 5 another four;
    ends stay, and no first token is seen after its end."""
    query = "model=deepseek-r1&accelerator=h200&tensor_parallel=8&weight_dtype=native&requests=40"
    query += "&output_tokens=30&output_cv=0.8"
    plain = run(load_scenario(query))
    late = run(load_scenario(query, first_token_lag_steps=10.0, stream_interval_steps=5))
    rest = plain.output_tokens - 1
    pace_s = (plain.finished_s - plain.first_token_s) / np.maximum(rest, 1)
    np.testing.assert_array_equal(late.finished_s, plain.finished_s)
    np.testing.assert_allclose(late.first_token_s, plain.first_token_s + np.minimum(rest, 14) * pace_s)
    assert (rest < 14).any()


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
def test_the_first_token_waits_for_no_streaming_interval(engine: str) -> None:
    """Oracle: the engines' sources: of an interval n SGLang sends token 1, n + 1, ...; vLLM and TensorRT-LLM
    send the first one whatever the interval is. So it is as late as without one, and ends stay."""
    query = "model=deepseek-r1&accelerator=h200&tensor_parallel=8&weight_dtype=native&requests=40"
    every, bare = (run(load_scenario(query, engine=engine, stream_interval_steps=n)) for n in (30, 1))
    np.testing.assert_array_equal(every.first_token_s, bare.first_token_s)


def test_a_first_token_is_not_seen_after_the_last():
    """Invariant: first token <= done, to the last bit, where the lag is longer than the answers."""
    keys = {"requests": 200, "output_tokens": 50, "prompt_tokens": 1, "output_cv": 2.0, "prompt_cv": 0.0}
    engine = {"arrivals": "offline", "warmup_frac": 0.0, "max_batch": 7, "stream_interval_steps": 1000}
    late = run(load_scenario("", **keys, **engine))
    assert (late.first_token_s <= late.finished_s).all()


def test_two_pools_answer_from_the_decode_pool() -> None:
    """Oracle: by hand. A decode worker with one place, prompts as quick as they come: a request waits for the
    answer before it, and its client sees no token until then; without an engine named, once its prompt is
    done. What is made, and when it ends, is the same."""
    query = "model=llama-3.1-8b&policy=disaggregated&decode_workers=1&max_batch=1&requests=6"
    query += "&arrivals=offline&warmup_frac=0"
    query += "&prompt_tokens=100&prompt_cv=0&output_tokens=50&output_cv=0&accelerator=h100-sxm"
    bare = run(load_scenario(query))
    named = run(load_scenario(query, engine="vllm", policy="disaggregated", first_token_lag_steps=0.0))
    np.testing.assert_array_equal(named.finished_s, bare.finished_s)
    after_s = bare.first_token_s[0] - bare.engine.first_token_s[0]
    np.testing.assert_allclose(named.first_token_s, named.split.joined_s + after_s)
    order = np.argsort(named.finished_s)
    assert (named.first_token_s[order][1:] >= named.finished_s[order][:-1] - 1e-9).all()
    assert (bare.first_token_s <= named.first_token_s).all()
    assert bare.first_token_s.max() < named.finished_s[order][0]


def test_an_answer_of_one_token_joins_no_decodes() -> None:
    """Oracle: it ends with its prompt, whoever answers."""
    query = "model=llama-3.1-8b&policy=disaggregated&requests=5&output_tokens=1&output_cv=0&engine=vllm"
    found = run(load_scenario(query))
    np.testing.assert_array_equal(found.first_token_s, found.finished_s)
