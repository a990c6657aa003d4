"""The Mine page and its panel: what is kept is used, dropped, exported and imported; prices are one table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sim_core import catalogue
from sim_core.questions.deployment.question import with_a_price
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.words import THIN
from sim_core.view.session.mine import store, team
from sim_core.view.trust.mine import OWN, price_table, prices_in
from tests.visits import APP, address, finding, healthy, open_page

PAGE = "17_Mine.py"
KEPT = """
[limits."Premium chat"]
slo_ttft_ms = 500.0

[prices."Our contract"]
h100-sxm = 2.1

[engines.Ours]
constants = "layer:9.5"
"""


def opened(text: str = KEPT, page: object = PAGE, **query: str):
    """Open the page as a browser does that keeps a text."""
    app = open_page(page, **query)
    app.session_state[store.TEXT] = text
    return healthy(app.run())


def pressed(app, key: str):
    return healthy(next(button for button in app.button if button.key == key).click().run())


def test_the_page_says_what_is_kept_and_in_use() -> None:
    """By hand: one of each of three kinds; after one press the limits are in the link, and in use."""
    app = opened()
    assert "You keep 1 engine, 1 price list, 1 set of limits; none is in use." in finding(app)
    app = pressed(app, "in_use_mine_limits_Premium chat")
    assert address(app)["slo_ttft_ms"] == "500"
    assert "in use: Premium chat" in finding(app)


def test_a_price_list_and_an_engine_are_carried_by_the_link() -> None:
    """What is used stands in the address with the same keys as anywhere else."""
    app = pressed(pressed(opened(), "in_use_mine_prices_Our contract"), "in_use_mine_engines_Ours")
    assert address(app)["prices"] == "h100-sxm:2.1" and address(app)["constants"] == "layer:9.5"


def test_what_is_dropped_is_gone_from_the_browser() -> None:
    """The text that the browser is told to keep has the others only."""
    app = pressed(opened(), "in_drop_limits_Premium chat")
    text, _ = app.session_state[store.WRITE]
    assert "limits" not in text and "Our contract" in text


def test_what_is_set_now_is_kept_under_its_name() -> None:
    """From the panel's form: choose the kind, name it, keep."""
    app = opened("", slo_tpot_ms="25")
    app.selectbox(key="in_keep_kind_page").select("limits").run()
    app.text_input(key="in_keep_name_page").input("Fast").run()
    app = pressed(app, "in_keep_page")
    text, _ = app.session_state[store.WRITE]
    assert text == 'v = 1\n\n[limits."Fast"]\nslo_tpot_ms = 25.0\n'


def test_nothing_is_kept_before_the_browser_has_told_what_it_has() -> None:
    """Else what it has would be overwritten."""
    app = healthy(open_page(PAGE))
    assert app.button(key="in_keep_page").disabled


def test_what_the_browser_has_and_cannot_be_read_stays() -> None:
    """A newer version's file: it is said, kept as it is, and nothing is added to it."""
    app = opened("[from_tomorrow.x]\n")
    assert "What this browser keeps cannot be read" in app.warning[0].value
    app = pressed(app, "in_keep_page")
    assert store.WRITE not in app.session_state and "from_tomorrow" in app.warning[0].value


def test_a_file_of_a_team_is_offered_to_everybody(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with two files, one of them broken: what can be read is offered, the other is named."""
    (tmp_path / "a.toml").write_text(KEPT, encoding="utf-8")
    (tmp_path / "b.toml").write_text("[limits.x]\nfoo = 1\n", encoding="utf-8")
    monkeypatch.setenv(team.SETTING, str(tmp_path))
    app = healthy(open_page(PAGE))
    assert any(f"First token within 500{THIN}ms" in shown.value for shown in app.caption)
    assert any("b.toml: limits, 'x': unknown key 'foo'" in shown.value for shown in app.warning)
    assert address(pressed(app, "in_use_team_limits_Premium chat"))["slo_ttft_ms"] == "500"


def test_what_a_team_pays_is_said_in_words_and_counts_on_plan(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: a part without a published price, rented for 0.01 USD/h, is the cheapest by far."""
    ours = "[prices.Contract]\ngaudi3 = 1.7\nh100-sxm = 1.5\n"
    ours += '[accelerators.Rented]\naccelerator = "ascend-910c"\nprice_usd_per_hour = 0.01\n'
    (tmp_path / "team.toml").write_text(ours, encoding="utf-8")
    monkeypatch.setenv(team.SETTING, str(tmp_path))
    words = [shown.value for shown in healthy(open_page(PAGE)).caption]
    assert "USD/h: Gaudi3 1.7, H100-SXM 1.5" in words
    assert any(shown.startswith("Accelerator Ascend-910C, ") for shown in words)
    app = open_page("15_Plan.py", prompt_tokens="800", output_tokens="100", arrival_per_s="4")
    assert "910C" not in finding(healthy(app))
    app.session_state["in_mine_open"] = True
    assert "910C" in finding(pressed(healthy(app.run()), "in_use_team_accelerators_Rented"))


def test_a_place_that_is_none_is_said(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page names the setting and what it holds."""
    monkeypatch.setenv(team.SETTING, str(tmp_path / "nowhere"))
    assert any("BATCHSCOPE_PRESETS names" in shown.value for shown in healthy(open_page(PAGE)).warning)


def test_odd_places_are_said_and_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the sentences: a name that no system takes, a pipe that nobody writes, too many files."""
    many, full = tmp_path / "many", tmp_path / "full"
    for folder in (many, full):
        folder.mkdir()
    for count in range(team.MOST_FILES + 1):
        (many / f"{count:02}.toml").write_text("", encoding="utf-8")
    for name in "ab":
        limits = "".join(f"[limits.{name}{count}]\nslo_ttft_ms = 5.0\n" for count in range(30))
        (full / f"{name}.toml").write_text(limits, encoding="utf-8")
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    for place, words in (
        ("/" + "a" * 5000, "which cannot be read: File name too long"),
        ("/nowhere/\udcff", "names /nowhere/?, which is neither"),
        (pipe, "pipe.toml is no file but a folder, a pipe or a device"),
        (many, "a folder of 51 files; the first 50 by name are read"),
        (full, "b.toml: with the files before it 60 limits would be kept; the limit is 50"),
    ):
        monkeypatch.setenv(team.SETTING, str(place))
        _, problems = team.team_kept()
        assert len(problems) == 1
        assert words in problems[0]


def test_the_table_of_prices_and_the_scenario_say_the_same() -> None:
    """Write then read is the identity; an empty or zero field is no price."""
    table = price_table(Scenario(prices="b200:3.75,h100-sxm:2.1"))
    assert sorted(prices_in(table).split(",")) == ["b200:3.75", "h100-sxm:2.1"]
    table.loc[table["id"] == "b200", OWN] = 0.0
    assert prices_in(table) == "h100-sxm:2.1"


def test_the_part_in_use_is_priced_first() -> None:
    """By hand: it, then the one with a price of one's own, whatever the catalogue's order."""
    table = price_table(Scenario(accelerator="mi300x", prices="h100-sxm:2.1"))
    assert list(table["id"][:2]) == ["mi300x", "h100-sxm"]


def test_the_panel_is_on_every_page_with_a_sidebar() -> None:
    """The first page has its button, which costs nothing until it is opened: then it has the form."""
    app = healthy(open_page(APP, requests="200", fine="off"))
    assert "Mine" in [item.proto.popover.label for item in app.sidebar.get("popover")]
    assert not any(button.key == "in_keep_panel" for button in app.button)
    app.session_state["in_mine_open"] = True
    assert any(button.key == "in_keep_panel" for button in healthy(app.run()).button)


def test_files_in_the_presets_are_a_teams_too(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the setting names no place, the folder beside the presets is it; without one there is nothing."""
    monkeypatch.delenv(team.SETTING, raising=False)
    monkeypatch.setattr(team, "FOLDER", tmp_path)
    assert team.team_kept() == (team.NOTHING, [])
    (tmp_path / "ours.toml").write_text(KEPT, encoding="utf-8")
    found, problems = team.team_kept()
    assert set(found["limits"]) == {"Premium chat"} and problems == []


def test_own_prices_count_on_every_page_that_speaks_of_money() -> None:
    """By hand: half the price is half the cost per token; a part without a price is planned with one."""
    cost = {}
    for prices in ("h100-sxm:4", "h100-sxm:2"):
        app = healthy(open_page(APP, requests="200", fine="off", show="table", prices=prices))
        table = app.dataframe[0].value
        cost[prices] = table["USD/Mtok"][table["Tensor parallel"] == "TP 2"].dropna().iloc[0]
    assert cost["h100-sxm:4"] == pytest.approx(2 * cost["h100-sxm:2"], rel=1e-3)
    unpriced = next(name for name, part in catalogue.accelerators().items() if not part.price_usd_per_hour)
    assert unpriced not in with_a_price(Scenario(accelerator=unpriced))
    assert unpriced in with_a_price(Scenario(prices=f"{unpriced}:1.5"))
