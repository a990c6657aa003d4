"""The Plan page."""

from __future__ import annotations

import re
import shlex
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from sim_core.command.main import main
from sim_core.engine.work import SpentUp
from sim_core.questions.deployment.plan import plans
from sim_core.questions.deployment.question import Question
from sim_core.view.drawing.words import duration
from sim_core.view.frontier.plan import day, page
from tests.visits import address, finding, healthy, open_page, said

visit = partial(open_page, "15_Plan.py", prompt_tokens="800", output_tokens="100", plan_parts="mine")


def test_the_page_says_what_to_take_and_why_others_lost() -> None:
    """Oracle: its words, and the scenario that a button sets: what the first row says."""
    at = healthy(visit(arrival_per_s="60"))
    assert ">Take " in finding(at)
    assert "Deployments for 60 requests/s, simulated" in said(at)
    assert "candidates lost" in " ".join(item.label for item in at.expander)
    assert any("vllm serve" in item.value for item in at.code)
    at.button(key="compare_plan_0").click().run()
    assert "accelerator" in at.session_state.view["versus"] or "replicas" in at.session_state.view["versus"]
    assert re.search(r">\s*1\.( =)? H100-SXM\s*<", said(at))
    at.button(key="use_plan_0").click().run()
    healthy(at)
    assert at.session_state.scenario.replicas > 1


def test_what_a_page_may_not_run_stays_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the estimate's rows stand, with why and the command; nothing is said to be simulated."""
    tried = []

    def cut_short(*given):
        tried.append(given)
        yield next(plans(*given))
        raise SpentUp("enough")

    monkeypatch.setattr(page, "plans", cut_short)
    at = healthy(visit(arrival_per_s="61", turns="3", prefix_caching="on"))
    assert "an estimate by arithmetic" in finding(at) and "every turn of a conversation" in finding(at)
    assert "Deployments for 61 requests/s, estimated" in said(at)
    assert not at.expander or "candidates lost" not in " ".join(item.label for item in at.expander)
    assert any("sim_core plan" in item.value for item in at.code)
    assert "Deployments for 61 requests/s, estimated" in said(healthy(at.run()))
    assert len(tried) == 1


def test_a_question_in_words_sets_what_it_says() -> None:
    """Oracle: the keys by hand, and the words of what was understood, until a control is moved."""
    at = healthy(visit(arrival_per_s="60"))
    at.text_input(key="in_plan_question").set_value("8B fp8, H200, TPOT 30 ms, 900/90, 50 req/s").run()
    asked = healthy(at).session_state.scenario
    assert (asked.model, asked.weight_dtype, asked.slo_tpot_ms) == ("llama-3.1-8b", "fp8", 30)
    assert (asked.prompt_tokens, asked.output_tokens, asked.arrival_per_s) == (900, 90, 50)
    assert address(at)["among"] == "h200" and address(at)["plan_parts"] == "chosen"
    line = next(item.value for item in at.caption if "Understood" in item.value)
    assert "Llama-3.1-8B (also so called: Qwen3-8B" in line and "fp8 weights" in line and "H200" in line
    assert "Deployments for 50 requests/s, simulated" in said(at)
    at.selectbox(key="in_weight_dtype").set_value("bf16").run()
    assert not any("Understood" in item.value for item in at.caption)


def test_a_question_that_is_not_understood_changes_nothing() -> None:
    """Oracle: the words are named, and the address is as before."""
    at = healthy(visit(arrival_per_s="60"))
    before = address(at)
    at.text_input(key="in_plan_question").set_value("8B, 50 req/s, fp9").run()
    assert any("Not understood: 'fp9'." in item.value for item in healthy(at).warning)
    assert address(at) == before


def test_the_command_understands_the_same_question(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the question that is put together, in which what an option says goes before."""
    asked: list[Question] = []
    monkeypatch.setattr(
        "sim_core.questions.deployment.plan.final_plan", lambda question, _: asked.append(question)
    )
    words = "70B fp8, H200 or B200, TPOT 30 ms, 3k/500, 20 req/s, at most 16 GPUs"
    with pytest.raises(AttributeError):  # nothing is final_plan
        main(["plan", "--question", words, "--set", "slo_tpot_ms=25"])
    found = asked[0]
    assert (found.rate_per_s, found.accelerators, found.max_devices) == (20.0, ("h200", "b200"), 16)
    assert (found.scenario.slo_tpot_ms, found.scenario.prompt_tokens) == (25.0, 3000)
    assert "understood model=llama-3.3-70b, weight_dtype=fp8" in capsys.readouterr().err


def test_an_impossible_question_is_answered_with_the_nearest() -> None:
    """Oracle: the sentence."""
    at = healthy(visit(slo_tpot_ms="0.5"))
    assert "No deployment serves" in finding(at)
    assert "even alone, TPOT is" in finding(at)


@pytest.mark.parametrize("objective", ["devices", "joule_per_tok"])
def test_the_command_of_the_page_asks_the_same(
    objective: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the question that the command puts together."""
    at = healthy(visit(arrival_per_s="30", plan_by=objective, plan_most="8", plan_rank="pessimistic"))
    asked: list[Question] = []
    monkeypatch.setattr(
        "sim_core.questions.deployment.plan.final_plan", lambda question, _: asked.append(question)
    )
    command = next(item.value for item in at.code if "sim_core plan" in item.value)
    with pytest.raises(AttributeError):  # nothing is final_plan
        main(shlex.split(command)[3:])
    wanted = [question for question in page._plans._known if question.objective == objective]
    assert asked[0].__class__ is Question
    assert asked[0].max_devices == 8
    assert sorted(asked[0].free) == sorted(wanted[-1].free)
    assert (asked[0].ranking, asked[0].rate_per_s) == ("pessimistic", 30.0)


def test_growth_margin_and_spare_engines_are_in_link_sentence_and_command() -> None:
    """Oracle: by hand: 40 requests/s that grow by half, a tenth beyond: 66; n + 1."""
    at = healthy(visit(arrival_per_s="40", plan_growth="0.5", plan_margin="0.1", plan_spare="1"))
    assert "66 requests/s (40 now, 50% growth and 10% margin)" in finding(at)
    assert "engines spare" in finding(at)
    assert any("--growth 0.5 --margin 0.1 --spare 1" in item.value for item in at.code)
    assert [at.select_slider(key=f"in_plan_{name}").value for name in ("growth", "margin", "spare")] == [
        0.5,
        0.1,
        1,
    ]


def test_chosen_accelerators_alone_are_considered() -> None:
    """Oracle: the link's; the page's command names them too."""
    at = healthy(visit(arrival_per_s="30", plan_parts="chosen", among="h200,b200"))
    assert at.multiselect(key="in_among").value == ["h200", "b200"]
    assert any("--accelerators h200,b200" in item.value for item in at.code)
    assert "H200" in said(at)
    assert "H100" not in said(at)


def test_no_control_of_the_sidebar_is_dead() -> None:
    """Oracle: layout and batch limit are found; specs of a part stand where the part is compared."""

    def sliders() -> set[str]:
        return {str(slider.key) for slider in healthy(at).select_slider}

    note = "H100-SXM is not among the chosen accelerators"
    at = visit(arrival_per_s="30", plan_parts="chosen", among="h200", pipeline_parallel="2")
    assert not sliders() & {"in_tensor_parallel", "in_max_batch", "in_hbm_gb_per_s"}
    assert any(note in item.value for item in at.sidebar.caption)
    at.multiselect(key="in_among").set_value(["h200", "h100-sxm"]).run()
    assert sliders() >= {"in_hbm_gb_per_s", "in_node_link_gb_per_s"}
    assert not any(note in item.value for item in at.sidebar.caption)
    at.multiselect(key="in_among").set_value(["h200"]).run()
    assert "in_hbm_gb_per_s" not in sliders()
    assert "in_node_link_gb_per_s" not in sliders()
    at.selectbox(key="in_plan_parts").set_value("mine").run()
    assert "in_hbm_gb_per_s" in sliders()


def test_what_a_plan_may_vary_is_no_control_of_the_sidebar() -> None:
    """Oracle: the free keys of the question; the link between pools counts wherever pools are looked at."""

    def keys(at: AppTest) -> set[str]:
        healthy(at)
        return {
            str(item.key).removeprefix("in_") for item in (*at.sidebar.select_slider, *at.sidebar.selectbox)
        }

    one, found, link = {"policy", "weight_dtype"}, {"prefill_workers", "decode_workers"}, "kv_link_gb_per_s"
    at = visit(arrival_per_s="30")
    assert keys(at) >= {*one, "kv_dtype"} and not keys(at) & {*found, link}
    at.toggle(key="in_plan_pools").set_value(True).run()
    at.toggle(key="in_plan_precision").set_value(True).run()
    assert keys(at) >= {"kv_dtype", link} and not keys(at) & (one | found)
    said_so = (
        "The plan finds the layout, the batch limit, the workers of two pools, the policy and the precision"
    )
    assert any(said_so in item.value for item in at.sidebar.caption)
    at = visit(arrival_per_s="30", policy="disaggregated")
    assert keys(at) >= {"policy", link} and not keys(at) & found
    assert "policy" in keys(visit(arrival_per_s="30", plan_pools="on", policy="static"))
    assert "policy" in keys(visit(arrival_per_s="30", plan_pools="on", plan_around="map"))


def test_a_part_without_a_published_price_is_planned_at_its_own() -> None:
    """By hand: 0.01 USD/h is the cheapest by far; without a price the sidebar says how to set one."""
    asked = {"accelerator": "ascend-910c", "plan_parts": "all", "arrival_per_s": "4"}
    at = healthy(visit(**asked))
    assert any("has no price, so the plan leaves it out" in item.value for item in at.sidebar.caption)
    assert "910C" not in finding(at)
    at = healthy(visit(**asked, price_usd_per_hour="0.01"))
    assert not any("has no price" in item.value for item in at.sidebar.caption)
    assert "910C" in finding(at)


@pytest.mark.parametrize(
    ("view", "words"),
    [("rate", "all other steps are an estimate"), ("limit", "a token costs"), ("regret", "as it stands")],
)
def test_a_link_opens_what_lies_around_the_first_row(view: str, words: str) -> None:
    """Oracle: the words of each view, which the ranking alone does not say."""
    assert words not in said(healthy(visit(arrival_per_s="30")))
    at = healthy(visit(arrival_per_s="30", plan_around=view))
    charts = " ".join(str(item.proto) for item in at.get("plotly_chart"))
    assert words in said(at) + charts


def test_what_lies_around_leaves_the_finding_of_a_report() -> None:
    """Oracle: the ranking alone; what lies around is said beneath it, and once."""
    alone = healthy(visit(arrival_per_s="30")).session_state.shown_now
    shown = healthy(visit(arrival_per_s="30", plan_around="limit")).session_state.shown_now
    assert shown.finding == alone.finding
    assert shown.notes[: len(alone.notes)] == alone.notes
    assert sum("a token costs" in words for words in (shown.finding, *shown.notes)) == 1


def test_what_comes_otherwise_stands_beneath_its_heads() -> None:
    """By hand: a fifth more and less of three things, each judged, with two costs and a share."""
    page_text = said(healthy(visit(arrival_per_s="30", plan_around="regret")))
    table = page_text.split("if it comes otherwise")[-1].split("</table>")[0]
    heads = re.findall(r'<th scope="col">\s*(.*?)\s*</th>', table)
    assert heads == ["As it stands", "Resized", "Best then", "Regret"]
    for key in ("Requests a second", "of a prompt", "of an answer"):
        for sign in "−+":
            row = re.search(rf"{key}, [{sign}]20\s%\s*</th>(.*?)</tr>", table, re.DOTALL)[1]
            cells = re.findall(r"<td>\s*(.*?)\s*</td>", row)
            assert cells[0] in ("keeps the limits", "misses a limit")
            assert float(cells[1]) >= float(cells[2]) and cells[3].endswith("%")


def test_published_answers_stand_beside_ours() -> None:
    """Oracle: the figures that A and D state, the devices of C, and the source of D."""
    at = healthy(visit(arrival_per_s="30", plan_around="examples"))
    words = said(at)
    assert "914" in words
    assert "735" in words
    assert f"16 devices, TTFT ≤ {duration(4000)}, request ≤ {duration(12_000)}" in words
    assert any("vLLM" in caption.value for caption in at.caption)


def test_the_day_is_in_the_link_and_in_the_command() -> None:
    """Oracle: the sentence of the command's own answer; the page's command asks for the same day."""
    at = healthy(visit(arrival_per_s="30", plan_around="day", plan_day="5,20,60", plan_start_s="600"))
    assert "Over the day" in said(at) and "a start of 10 min" in said(at)
    command = next(item.value for item in at.code if "sim_core plan" in item.value)
    assert command.endswith("--accelerators h100-sxm") and "--day 5,20,60 --start-up 600" in command
    assert "--rate" not in command
    assert "By the time that a replica takes to start" in said(at)


def test_a_day_that_is_not_given_is_a_wave_to_the_rate() -> None:
    """Oracle: its peak is the page's rate, so that the ranking above is the peak's own."""
    assert day.wave_to(30.0).peak_per_s == 30
    at = healthy(visit(arrival_per_s="30", plan_around="day"))
    assert "Over the day" in said(at)
    assert max(map(float, at.text_area(key="in_plan_day").value.split(","))) == 30


def test_another_day_may_be_typed() -> None:
    """Oracle: what is typed is in the link; what is no day is refused, and the one before stays."""
    at = healthy(visit(arrival_per_s="30", plan_around="day"))
    at.text_area(key="in_plan_day").set_value("wave:10/15").run()
    healthy(at)
    assert at.session_state.view["plan_day"] == "wave:10/15"
    at.text_area(key="in_plan_day").set_value("10,x").run()
    assert any("'x', which is no rate" in item.value for item in at.warning)
    assert at.session_state.view["plan_day"] == "wave:10/15"


def test_a_link_with_no_day_says_so() -> None:
    """Oracle: the note."""
    at = visit(arrival_per_s="30", plan_day="1,x")
    assert any("which is no rate" in note for note in at.session_state.notes)


def test_the_map_says_who_wins_where() -> None:
    """Oracle: the sentence, and the command of the same map."""
    at = healthy(
        visit(
            arrival_per_s="30",
            plan_around="map",
            plan_parts="chosen",
            among="h100-sxm,l40s",
            plan_down="ttft",
        )
    )
    assert re.search(r"wins \d+ of 35 cells", said(at))
    command = next(item.value for item in at.code if "sim_core plan" in item.value)
    assert "--rate 30 --map rate,ttft" in command


def test_a_map_shows_where_the_impossible_becomes_possible() -> None:
    """Oracle: 2 ms a token are too short, and 4 ms are served, as the plans for them say."""
    at = healthy(visit(arrival_per_s="30", slo_tpot_ms="2", plan_around="map"))
    assert "No deployment serves" in said(at)
    assert re.search(r"wins \d+ of 35 cells.*cannot be served", said(at))


def test_a_map_of_equal_sides_is_refused() -> None:
    """Oracle: the sentence."""
    at = visit(arrival_per_s="30", plan_around="map", plan_down="rate")
    assert "choose two inputs" in said(at)


def uploaded(app: AppTest, rows: str) -> AppTest:
    """Return the page after a visitor has given it a trace."""
    trace = f"arrival_s,prompt_tokens,output_tokens\n{rows}".encode()
    app.file_uploader(key="in_plan_file").set_value(("mine.csv", trace, "text/csv")).run()
    return healthy(app)


def test_a_trace_of_ones_own_is_planned_for() -> None:
    """Oracle: by hand: 1,200 requests over 199.833 s are 6.005 a second; the command names the file."""
    at = visit(plan_traffic="trace", accelerator="l4", slo_ttft_ms="4000")
    assert "Upload a trace, or choose the requests as set." in finding(at)
    at = uploaded(at, "".join(f"{i / 6:.6f},{200 + 7 * (i % 100)},{20 + i % 50}\n" for i in range(1200)))
    assert address(at)["arrival_per_s"] == "6.005"
    assert "Deployments for 6 requests/s, simulated" in said(at) or "for 6.005 requests/s" in said(at)
    assert "Replayed are the 1,200 requests of mine.csv, 17 times over, at their own rate." in finding(at)
    command = next(item.value for item in at.code if "sim_core plan" in item.value)
    assert "--trace FILE --rate 6.005" in command and "arrivals=trace" in command
    at.number_input(key="in_plan_hours").set_value(0.01).run()
    assert "Replayed are the 216 requests of mine.csv" in finding(healthy(at))
    assert "rests on the slowest 2.2 of them" in finding(at)
    assert any("--trace FILE --hours 0.01" in item.value for item in at.code)
    assert any(item.value.startswith("Other pages do not have the trace") for item in at.caption)
    at.button(key="use_plan_0").click().run()
    set_now = healthy(at).session_state.scenario
    assert (set_now.arrivals, set_now.request_list) == ("poisson", "")


def test_a_trace_that_is_none_is_refused_on_the_page() -> None:
    """Oracle: the words, and no ranking."""
    at = uploaded(visit(plan_traffic="trace"), "0,x,3\n")
    assert "Prompt length is 'x'; it must be a number" in at.error[0].value
    assert "Deployments for" not in said(at)


def test_a_list_of_requests_in_the_link_is_planned_for() -> None:
    """Oracle: by hand: nine requests in half a second are 18 a second."""
    at = healthy(visit(arrivals="trace", request_list="0:1000:200x8,0.5:4000:50"))
    assert "Deployments for 18 requests/s, simulated" in said(at)
    assert "Replayed are the 9 requests recorded" in finding(at)


def test_several_models_share_a_ranking_in_a_short_link() -> None:
    """Oracle: names in table, sentence and command; the link lists what stands beside the present model."""
    at = healthy(visit(arrival_per_s="30", plan_models="qwen3-8b,nonsense"))
    assert any("plan_models names no model with 'nonsense'" in note for note in at.session_state.notes)
    assert at.multiselect(key="in_plan_models").value == ["qwen3-8b"]
    assert "Qwen3-8B" in said(at) and "of Llama-3.1-8B" in finding(at)
    assert any("--model llama-3.1-8b,qwen3-8b" in item.value for item in at.code)
    at.multiselect(key="in_plan_models").set_value([]).run()
    assert "plan_models" not in address(healthy(at))
    assert "Qwen3-8B" not in said(at)
