"""Pages, run as Streamlit runs them but without a browser."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import shlex
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from sim_core import capacity, catalogue, load_scenario
from sim_core.command.main import main
from sim_core.scenario.link.page_settings import PAGE_DEFAULTS, PAGE_KEYS, SETTINGS, choice_names
from sim_core.scenario.link.read import from_query
from sim_core.scenario.link.write import to_query
from sim_core.scenario.ready import ready_scenario
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.view.drawing.words import THIN, number
from sim_core.view.frontier import page as panels
from sim_core.view.parts import actions
from sim_core.view.session import server, sweeps
from tests.loops import each
from tests.places import ROOT
from tests.visits import APP, address, healthy, open_page

PAGES = sorted((ROOT / "pages").glob("*.py"))
SEED_ONLY = {"requests": "300"}  # small runs: these tests ask whether pages work, not what they say


def visit(**address: str) -> AppTest:
    """Open the app at an address and return it after its first run."""
    return open_page(APP, **(SEED_ONLY | address))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_page_runs_alone(page: Path) -> None:
    """Oracle: no exception; with the usual budget, the default scenario leaves out nothing."""
    app = AppTest.from_file(str(page), default_timeout=60)
    app.query_params["demand_hours"] = "0.03"
    healthy(app.run())
    assert not any("the command runs them all" in caption.value for caption in app.caption)


def test_the_app_opens_on_the_frontier() -> None:
    """Oracle: the landing page's finding, and a clean address for the defaults."""
    app = healthy(AppTest.from_file(str(APP), default_timeout=60).run())
    assert any("you keep" in element.proto.body for element in app.get("html"))
    assert address(app) == {}


@pytest.mark.parametrize("name", catalogue.preset_ids("scenarios"))
def test_every_ready_scenario_opens_from_its_link(name: str) -> None:
    """Oracle: the preset itself; scenario to link to page to link is the identity."""
    scenario = ready_scenario(name).build(requests=300)
    app = AppTest.from_file(str(APP), default_timeout=60)
    for part in to_query(scenario).split("&"):
        key, _, value = part.partition("=")
        app.query_params[key] = value
    healthy(app.run())
    assert app.session_state.scenario == scenario
    found, notes = from_query(address(app), ignore=PAGE_KEYS)
    assert (found, notes) == (scenario, [])


@pytest.mark.parametrize("show", SETTINGS["show"].choices)
@pytest.mark.parametrize("vary", SETTINGS["vary"].choices)
def test_every_view_runs(show: str, vary: str) -> None:
    """Oracle: no exception, and an address that holds the view."""
    app = healthy(visit(show=show, vary=vary))
    expected = {} if show == "frontier" else {"show": show}
    expected |= {} if vary == "tensor_parallel" else {"vary": vary}
    assert expected.items() <= address(app).items()


@pytest.mark.parametrize("arrivals", ["poisson", "gamma", "closed", "offline"])
@pytest.mark.parametrize("show", ["frontier", "load"])
def test_every_kind_of_arrivals_runs(arrivals: str, show: str) -> None:
    """Oracle: no exception."""
    healthy(visit(arrivals=arrivals, show=show, concurrency="16"))


@pytest.mark.parametrize("axes", SETTINGS["axes"].choices)
def test_every_kind_of_axes_runs(axes: str) -> None:
    """Oracle: no exception."""
    healthy(visit(axes=axes))


@pytest.mark.parametrize(
    "parameters",
    [
        {"model": "llama-3.1-405b"},
        {"hbm_gb": "1"},
        {"prompt_tokens": "1000000"},
        {"output_tokens": "1", "output_cv": "0"},
        {"slo_ttft_ms": "0.01", "slo_tpot_ms": "0.001"},
        {"accelerator": "cerebras-wse-3"},
        {"mix": "512/256:0.9,16000/64:0.1"},
        {"mix": "chat:1,code:1,rag:1"},
        {"tensor_parallel": "3"},
        {
            "model": "custom",
            "layers": "8",
            "hidden": "512",
            "heads": "8",
            "ffn_dim": "2048",
            "vocab": "32000",
        },
        {"arrivals": "closed", "requests": "1"},
        {"replicas": "3", "policy": "static"},
    ],
    ids=lambda parameters: " ".join(f"{key}={value}" for key, value in parameters.items())[:50],
)
@pytest.mark.parametrize("show", SETTINGS["show"].choices)
def test_unusual_scenarios_stay_usable(parameters: dict[str, str], show: str) -> None:
    """Oracle: no exception, whatever cannot run."""
    healthy(visit(show=show, **parameters))


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"max_batch": "99999999"}, "max_batch"),
        ({"hbm_gb_per_s": "nan"}, "hbm_gb_per_s"),
        ({"arrival_per_s": "1e400"}, "arrival_per_s"),
        ({"model": "<script>alert(1)</script>"}, "unknown model"),
        ({"nonsense": "1"}, "nonsense"),
        ({"show": "nonsense"}, "show must be one of"),
        ({"v": "7"}, "newer version"),
        ({"accelerator": "../../etc/passwd"}, "unknown accelerator"),
    ],
)
def test_a_bad_link_says_what_was_ignored(parameters: dict[str, str], word: str) -> None:
    """Oracle: one note that names the key; the rest of the app as by default; the note can be dismissed."""
    app = healthy(visit(**parameters))
    assert [word in note for note in app.session_state.notes] == [True]
    assert any(word in element.value for element in app.text)
    assert app.session_state.scenario == Scenario(requests=300)
    app.button(key="dismiss_notes").click().run()
    assert healthy(app).session_state.notes == []


def test_accelerators_to_compare_come_from_the_link() -> None:
    """Oracle: the link; unknown ids are left out."""
    app = healthy(visit(vary="accelerator", among="h200,nonsense,mi300x"))
    assert app.multiselect(key="in_among").value == ["h200", "mi300x", "h100-sxm"]
    assert app.session_state.notes == ["among names no accelerator with 'nonsense'. Ignored."]


def test_a_slider_changes_scenario_address_and_key_figures() -> None:
    """Oracle: twice the bandwidth of the H100's datasheet, 3350 GB/s."""
    app = visit()
    app.select_slider(key="in_hbm_gb_per_s").set_value(6700.0).run()
    assert healthy(app).session_state.scenario.hbm_gb_per_s == 6700
    assert address(app)["hbm_gb_per_s"] == "6700"
    assert any("bs-good" in element.proto.body for element in app.get("html"))


def test_an_overloaded_setting_withholds_what_depends_on_its_run() -> None:
    """Oracle: `capacity` and the saturation; the time per token of a full batch does not grow."""
    app = healthy(visit(arrival_per_s="60", requests="2000", fine="off"))
    [figures] = [element.proto.body for element in app.get("html") if "This setting" in element.proto.body]
    assert "60 req/s: overloaded" in figures
    here = figures.partition("This setting")[2]
    assert here.count(">–") == 5 and here.count("overloaded\n") >= 4
    found = capacity(Scenario(requests=2000))
    for rate_per_s in (found["arrival_per_s"], found["saturation_per_s"]):
        assert f"{number(rate_per_s)}{THIN}req/s" in here
    calm = healthy(visit(arrival_per_s="4", requests="2000", fine="off"))
    assert not any("overloaded" in element.proto.body for element in calm.get("html"))


def test_the_table_withholds_them_too() -> None:
    """Oracle: the rows that say they are overloaded."""
    app = healthy(visit(requests="20000", fine="off", show="table"))
    table = app.dataframe[0].value
    over = table[table["Overloaded"]]
    assert len(over) and len(over) < len(table)
    grows = ["TTFT p50 [ms]", "TTFT p99 [ms]", "Goodput [req/s]", "USD/Mtok", "J/tok"]
    assert over[grows].isna().all(axis=None)
    assert over["TPOT p99 [ms]"].notna().all()
    assert table[~table["Overloaded"] & (table["Why not"] == "")][grows].notna().all(axis=None)


def test_a_changed_spec_can_be_taken_back() -> None:
    """Oracle: the datasheet's own value is no override."""
    app = visit(hbm_gb_per_s="6700", tdp_w="500")
    [reset] = [button for button in app.button if button.label == "Reset to datasheet"]
    reset.click().run()
    assert healthy(app).session_state.scenario == Scenario(requests=300)
    app.run()
    own = catalogue.accelerator(Scenario().accelerator).hbm_gb
    app.select_slider(key="in_hbm_gb").set_value(2 * own).run()
    assert healthy(app).session_state.scenario == Scenario(requests=300, hbm_gb=2 * own)
    app.run()
    app.select_slider(key="in_hbm_gb").set_value(own).run()
    assert healthy(app).session_state.scenario == Scenario(requests=300)


def test_another_accelerator_comes_with_its_own_specs() -> None:
    """Oracle: the H200's datasheet, 4800 GB/s; the override of the H100 is dropped."""
    app = visit(hbm_gb_per_s="6700")
    app.selectbox(key="in_accelerator").select("h200").run()
    assert healthy(app).session_state.scenario.hbm_gb_per_s is None
    assert app.select_slider(key="in_hbm_gb_per_s").value == 4800


def test_a_refused_change_keeps_the_old_state_and_says_why() -> None:
    """Oracle: key/value heads divide the heads, so another number springs back."""
    app = visit(kv_heads="4")
    app.number_input(key="in_kv_heads").set_value(5).run()
    assert healthy(app).session_state.scenario.kv_heads == 4
    assert app.number_input(key="in_kv_heads").value == 4
    assert "kv heads" in app.warning[0].value
    app.selectbox(key="in_model").select("qwen3-8b").run()
    assert not healthy(app).warning


@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v3", "gpt-oss-120b", "mistral-7b"])
def test_custom_dimensions_open_with_those_of_the_model(model: str) -> None:
    """Oracle: the present model's file: every dimension a custom model needs is there, and can be changed."""
    app = visit(model=model, fine="off")
    app.selectbox(key="in_model").select("custom").run()
    assert not healthy(app).warning
    known, scenario = catalogue.model(model), app.session_state.scenario
    assert scenario.model == "custom"
    for key in ("layers", "hidden", "heads", "ffn_dim", "vocab", *(("experts",) if known.is_moe else ())):
        assert app.number_input(key=f"in_{key}").value == getattr(scenario, key) == getattr(known, key)
    app.number_input(key="in_layers").set_value(known.layers + 1).run()
    assert healthy(app).session_state.scenario.layers == known.layers + 1
    app.selectbox(key="in_model").select(model).run()
    assert healthy(app).session_state.scenario.changed().get("layers") is None


def test_two_kinds_of_traffic_share_a_slider() -> None:
    """Oracle: the mix in words."""
    app = visit()
    app.selectbox(key="in_first").select("chat").run()
    app.selectbox(key="in_second").select("rag").run()
    assert healthy(app).session_state.scenario.mix == "chat:0.5,rag:0.5"
    assert app.select_slider(key="in_share").options[-1] == "95 %"  # the slider must not end itself
    app.select_slider(key="in_share").set_value(80).run()
    assert healthy(app).session_state.scenario.mix == "chat:0.8,rag:0.2"


def test_expert_parallel_follows_tensor_parallel() -> None:
    """Oracle: eight-way experts do not divide two devices; the greatest common divisor does."""
    app = visit(model="mixtral-8x7b", tensor_parallel="8", expert_parallel="8")
    app.select_slider(key="in_tensor_parallel").set_value(2).run()
    assert healthy(app).session_state.scenario.expert_parallel == 2


def test_folded_controls_work() -> None:
    """Oracle: the scenario after a change in each folded group."""
    app = visit()
    app.session_state.in_advanced = True
    app.session_state.in_more_specs = True
    app.run()
    app.select_slider(key="in_token_budget").set_value(2048).run()
    app.run()
    app.select_slider(key="in_price_usd_per_hour").set_value(None).run()
    assert healthy(app).session_state.scenario.token_budget == 2048


def test_a_ready_scenario_opens_from_the_gallery() -> None:
    """Oracle: the preset."""
    app = visit()
    app.button(key="gallery").click().run()
    app.button(key="ready_kv-pressure").click().run()
    assert healthy(app).session_state.scenario == ready_scenario("kv-pressure").build()


def test_the_state_survives_a_move_between_pages() -> None:
    """Oracle: the scenario before the move."""
    app = visit(hbm_gb_per_s="5000")
    app.switch_page("pages/9_Method.py").run()
    assert healthy(app).session_state.scenario.hbm_gb_per_s == 5000
    assert address(app)["hbm_gb_per_s"] == "5000"
    app.switch_page("pages/1_Frontier.py").run()
    assert healthy(app).session_state.scenario.hbm_gb_per_s == 5000


def test_a_rested_chart_is_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the number of requests a point in the rows, and the interval under p99."""
    monkeypatch.setattr(sweeps, "refine", functools.partial(sweeps.refine, requests=3000))
    app = visit(seed="11")
    sweep = app.session_state.sweep_shown
    assert not sweeps.result(sweep).fine
    app.session_state.sweep_settled = sweep
    healthy(app.run())
    found = sweeps.result(sweep)
    assert found.fine
    assert {row["requests"] for row in found.rows} == {3000}
    low, high = found.here["ttft_ms_p99_low"], found.here["ttft_ms_p99_high"]
    assert low < found.here["ttft_ms_p99"] < high


@each(choice_names("method").items())
def test_a_link_opens_every_section_of_the_method_page(key: str, name: str) -> None:
    """Oracle: the list of sections: a link opens the one it names, and the address goes on naming it."""
    app = healthy(open_page("9_Method.py", method=key))
    assert app.session_state.in_method == name
    assert address(app) == ({} if key == PAGE_DEFAULTS["method"] else {"method": key})


def test_the_in_place_chart_is_sent_where_plotly_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the component's message: Plotly's JSON and the path of plotly.js on our own server."""
    monkeypatch.setattr(server, "_served", True)
    app = healthy(visit())
    payloads = [element.proto.bytes for element in app.get("bidi_component") if element.proto.bytes]
    assert any(server.PLOTLY_PATH.encode() in payload for payload in payloads)


def test_plotly_js_comes_from_the_installed_package() -> None:
    """Oracle: the route's answer decompresses to the file in the package."""
    import gzip

    import plotly
    from starlette.requests import Request

    request = Request({"type": "http", "headers": [(b"accept-encoding", b"gzip")]})
    answer = server.plotly_js(request)
    source = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes()
    assert gzip.decompress(answer.body) == source
    assert server.plotly_js(Request({"type": "http", "headers": []})).body == source


def printed_points(sweep: sweeps.Sweep, fine: bool) -> list[dict]:
    """Return what the commands that the page shows print, each run as it stands."""
    points = []
    for line in actions.frontier_command(sweep, fine).splitlines():
        with contextlib.redirect_stdout(printed := io.StringIO()):
            assert main(shlex.split(line)[3:]) == 0
        points += json.loads(printed.getvalue())
    return points


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("name", ["llama-3.1-8b-on-h100", "twice-the-bandwidth"])
def test_the_command_gives_the_page_s_numbers(name: str, fine: bool) -> None:
    """Oracle: the page's own rows; the command that it shows is run as it stands."""
    sweep = sweeps.Sweep(load_scenario(name), "tensor_parallel", (1, 2, 4, 8), "load_frac")
    if sweep.scenario.arrivals == "closed":
        sweep = dataclasses.replace(sweep, along="concurrency")
    shown = (sweeps.refined if fine else sweeps.quick_result)(sweep).rows
    assert any(row["requests"] == 50_000 for row in shown) == fine
    points = printed_points(sweep, fine)
    for key in ("output_tok_per_s", "output_tok_per_s_per_accelerator"):
        assert [row[key] for row in shown] == pytest.approx([point["metrics"][key] for point in points])


def test_a_changed_accelerator_is_compared_with_others_as_sold_on_the_command_line_too() -> None:
    """Oracle: the page's own rows; both commands are run as they stand."""
    scenario = Scenario(requests=300, arrivals="closed", hbm_gb_per_s=6700.0)
    sweep = sweeps.Sweep(scenario, "accelerator", ("h100-sxm", "h200"), "concurrency")
    points = printed_points(sweep, fine=False)
    key = "output_tok_per_s_per_accelerator"
    assert sweep.own == "H100-SXM (changed) TP 1"
    title, _ = panels.frontier_titles(sweep)
    assert title == "Llama-3.1-8B on H100-SXM with memory bandwidth 6.7\N{NARROW NO-BREAK SPACE}TB/s"
    shown = [row[key] for row in sweeps.quick_result(sweep).rows]
    assert shown == pytest.approx([point["metrics"][key] for point in points])


def test_the_present_accelerator_is_compared_at_its_best_layout_where_its_own_has_no_room() -> None:
    """Oracle: weights of 141 GB against 80 GB a device; the rows of the commands, run as they stand."""
    scenario = Scenario(model="llama-3.1-70b", requests=300, arrivals="closed")
    sweep = sweeps.Sweep(scenario, "accelerator", ("h100-sxm", "h200"), "concurrency")
    assert sweep.own == "H100-SXM TP 4"
    assert sweep.base("h100-sxm").replace(tensor_parallel=1) == scenario
    points = printed_points(sweep, fine=False)
    key = "output_tok_per_s_per_accelerator"
    shown = [row[key] for row in sweeps.quick_result(sweep).rows]
    assert min(shown) > 0
    assert shown == pytest.approx([point["metrics"][key] for point in points])


def test_a_setting_that_has_no_room_is_named_as_it_is_set_with_the_reason() -> None:
    """Oracle: weights of 141 GB on one device of 80 GB; its curve has the layout that has room."""
    app = healthy(visit(model="llama-3.1-70b", vary="accelerator", fine="off"))
    shown = next(item.proto.body for item in app.get("html") if "This setting" in item.proto.body)
    setting = shown[shown.index("This setting") :]
    assert "H100-SXM TP 1" in setting and "does not run" in setting
    assert "needs" in setting[setting.index("bs-reason") :]


@pytest.mark.parametrize("chosen", FIELDS["calibration"].choices)
def test_the_method_page_knows_every_calibration(chosen: str) -> None:
    """Oracle: the choices of the key; each is shown, the others than the present one as such."""
    app = healthy(open_page("9_Method.py", method="cost", calibration=chosen))
    caption = next(text.value for text in app.caption if "other calibrations" in text.value)
    named = {name for name in FIELDS["calibration"].choices if f"**{name}**" in caption}
    assert named == set(FIELDS["calibration"].choices) - {chosen}
