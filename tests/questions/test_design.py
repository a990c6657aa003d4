"""An accelerator of one's own: templates, spreading by hand, its file, its rivals, the view."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from sim_core import catalogue, load_scenario
from sim_core.catalogue import reader
from sim_core.price.price import price_of
from sim_core.price.steps.floor import floor_step_s
from sim_core.price.steps.one_step import step_parts
from sim_core.price.work import group_sizes
from sim_core.questions import compare, design
from sim_core.scenario.scenario import SPECS, model_of
from sim_core.view.compare import design_words
from sim_core.view.drawing.words import number
from tests.visits import address, finding, healthy, open_page, said

PAGE = "11_Compare.py"
BASE = load_scenario("requests=400")
CHIP = BASE.replace(**design.start_keys(BASE, "corsair"))


def test_kinds_follow_the_part() -> None:
    """Oracle: the notes of the presets: three parts have SRAM only."""
    assert set(design.starts(design.SRAM)) == {"cerebras-wse-3", "corsair", "groq-lpu-v1"}
    assert "h100-sxm" in design.starts(design.GPU) and "sn40l" in design.starts(design.GPU)
    assert (design.kind(BASE), design.kind(CHIP)) == (design.GPU, design.SRAM)


def test_a_part_with_int8_alone_gets_assumed_peaks() -> None:
    """By hand: fp8 as int8, bf16 half of it; printed peaks are left alone; nothing comes of nothing."""
    assert design.assumed_peaks(catalogue.accelerator("corsair")) == {
        "bf16_tflop_per_s": 1200.0, "fp8_tflop_per_s": 2400.0,
    }  # fmt: skip
    assert design.assumed_peaks(catalogue.accelerator("groq-lpu-v1")) == {}
    assert design.assumed_peaks(catalogue.accelerator("cerebras-wse-3")) == {}
    assert not design.is_own(CHIP) and design.is_own(CHIP.replace(hbm_gb=4.0))


def test_spreading_by_hand() -> None:
    """Arithmetic for Llama-3.1-8B: 8.03e9 parameters x 2 = 16.1 GB; 256 sequences of 1,250 tokens, in blocks
    of 16 (1,264), x 131,072 bytes = 42.4 GB. Of 8 GB a device may use 7.2: 58.5 / 7.2 -> 9 devices. In
    groups of 16 each of 8 KV heads is held twice: 1.0 + 5.3 GB and activations fit."""
    found = design.spread(CHIP.replace(hbm_gb=8.0))
    assert found.needed_gb == pytest.approx(16.06 + 256 * 1264 * 131_072 / 1e9, rel=0.001)
    assert (found.usable_gb, found.at_least, found.devices) == (pytest.approx(7.2), 9, 16)
    assert found.room >= found.sequences == 256
    assert design.spread_out(CHIP.replace(hbm_gb=8.0))["tensor_parallel"] == 16
    assert design.spread_out(BASE) == {}


def test_the_smallest_group_holds_all_and_the_next_smaller_does_not() -> None:
    """Oracle: rooms of all groups that divide the model."""
    for gb in (4.0, 8.0, 20.0, 100.0):
        chip = CHIP.replace(hbm_gb=gb, kv_dtype="fp8")
        found = design.spread(chip)
        groups = group_sizes(model_of(chip), 1)
        rooms = {
            size: design._room(chip.replace(tensor_parallel=size), found.sequence_tokens) for size in groups
        }
        enough = [size for size in groups if rooms[size] >= found.sequences]
        assert found.devices == (enough[0] if enough else 0)
        assert found.devices == 0 or found.devices >= min(found.at_least, groups[-1])


def test_other_layouts_are_spread_as_one_group() -> None:
    """Oracle: the same model without ranks, stages or redundant experts; the keys make a valid scenario."""
    large = CHIP.replace(model="deepseek-v3", weight_dtype="fp8", tensor_parallel=8, expert_parallel=8)
    plain = design.spread(large)
    layouts = [
        large.replace(attention_data_parallel=8, redundant_experts=8),
        large.replace(pipeline_parallel=2),
        large.replace(context_parallel=2),
    ]
    for layout in layouts:
        assert design.spread(layout)[:-1] == plain[:-1]
        assert layout.replace(**design.spread_out(layout)).tensor_parallel == (plain.devices or plain.most)


def test_what_is_impossible_is_said_with_its_reason() -> None:
    """By hand: 32 attention heads are the end of tensor parallelism; a device as large as said would do."""
    found = design.spread(CHIP)
    assert (found.devices, found.most, found.at_least) == (0, 32, 33)
    text = design_words.device_spread_words(CHIP, found)
    assert "No group holds it all" in text and "32 attention heads" in text and "52 sequences" in text
    larger = design.spread(CHIP.replace(hbm_gb=1.001 * found.device_gb))
    assert larger.devices and not design.spread(CHIP.replace(hbm_gb=0.99 * found.device_gb)).devices
    tiny = BASE.replace(**design.start_keys(BASE, "groq-lpu-v1"))
    assert "Not even the weights fit" in design_words.device_spread_words(tiny, design.spread(tiny))


def test_nothing_is_faster_than_bytes_over_bandwidth() -> None:
    """Oracle: the physics floor, for every group that an SRAM part can form."""
    for size in group_sizes(model_of(CHIP), 1):
        chip = CHIP.replace(hbm_gb=80.0, tensor_parallel=size, calibration="datasheet")
        assert sum(step_parts(price_of(chip), 1, 1000).values()) >= floor_step_s(chip, 1, 1000)


def test_the_all_reduces_of_a_step_are_counted_as_they_are_priced() -> None:
    """Oracle: by hand. MiniMax-M2.5 norms queries and keys over all heads: 3 in each of its 62 layers."""
    notes = design_words.design_notes(
        [load_scenario("model=minimax-m2.5&accelerator=b200&tensor_parallel=16")]
    )
    assert any("A step has 186 all-reduces." in note for note in notes)


def save(part: catalogue.Accelerator, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a part beside the presets, in a copy of them."""
    shutil.copytree(reader.PRESETS / "accelerators", folder / "accelerators")
    (folder / "accelerators" / f"{part.id}.toml").write_text(design.part_toml(part), encoding="utf-8")
    monkeypatch.setattr(reader, "PRESETS", folder)


def test_a_design_as_a_file_is_the_same_part(tmp_path, monkeypatch) -> None:
    """Oracle: the step times of the scenario whose overrides it was, by the loader of presets."""
    own = BASE.replace(
        hbm_gb_per_s=5000.0, hbm_gb=123.0, bf16_tflop_per_s=1234.5, tdp_w=900.0, link_gb_per_s=600.0,
        price_usd_per_hour=4.25, tensor_parallel=2,
    )  # fmt: skip
    part = dataclasses.replace(design.part_of(own), id="saved-gpu")
    save(part, tmp_path, monkeypatch)
    assert catalogue.accelerator("saved-gpu") == part
    saved = own.replace(**dict.fromkeys(SPECS), accelerator="saved-gpu")
    for name in ("token_s", "row_s", "decode_context_s", "prefill_pair_s"):
        assert np.array_equal(getattr(price_of(saved).step, name), getattr(price_of(own).step, name))
    assert price_of(saved).kv_blocks == price_of(own).kv_blocks


def test_an_sram_design_stays_one_as_a_file(tmp_path, monkeypatch) -> None:
    """Oracle: its kind, by the loader of presets; what is not known stays out of the file."""
    part = dataclasses.replace(design.part_of(CHIP.replace(hbm_gb=0.5)), id="saved-chip")
    save(part, tmp_path, monkeypatch)
    assert catalogue.accelerator("saved-chip").memory_on_chip
    assert "price_usd_per_hour" not in design.part_toml(part)


def test_rivals_are_real_parts_in_the_same_scenario() -> None:
    """By hand: an unchanged design is no rival of itself; beside an SRAM part each has its smallest group."""
    names = ["h100-sxm", "h200", "corsair"]
    assert [side.accelerator for side in design.rivals(BASE, names)] == ["h200", "corsair"]
    own = BASE.replace(hbm_gb_per_s=5000.0, tensor_parallel=2)
    found = {side.accelerator: side for side in design.rivals(own, names)}
    assert found["h100-sxm"].hbm_gb_per_s is None and found["h100-sxm"].tensor_parallel == 2
    assert found["corsair"].tensor_parallel == 32
    assert [side.tensor_parallel for side in design.rivals(CHIP, names)] == [1, 1]


def test_rivals_have_no_step_times_of_the_design() -> None:
    """Oracle: the curve of the part as the calibration predicts it."""
    steps = "1:8,256:30,context:0.00003"
    (rival,) = design.rivals(BASE.replace(step_profile=steps), ["h200"])
    assert compare.curve(rival) == compare.curve(BASE.replace(accelerator="h200"))


# --- the view -------------------------------------------------------------------------------------


def test_a_template_and_a_spec() -> None:
    """Oracle: the address holds the design; an SRAM part is spread over the group that holds it all."""
    app = healthy(open_page(PAGE, requests="400", compare="design"))
    app.button_group(key="in_template").set_value(design.SRAM).run()
    found = address(healthy(app))
    assert (found["accelerator"], found["tensor_parallel"]) == ("corsair", "32")
    assert "No group holds it all" in " ".join(item.value for item in app.markdown)
    app.text_input(key="in_own_hbm_gb").set_value("8").run()
    assert address(healthy(app))["tensor_parallel"] == "16" and address(app)["hbm_gb"] == "8"
    assert "extrapolation" in said(app)
    app.button_group(key="in_template").set_value(design.GPU).run()
    assert "hbm_gb" not in address(healthy(app)) and "tensor_parallel" not in address(app)


def test_a_bad_spec_is_refused_with_the_house_message() -> None:
    """Oracle: the scenario's own check; the design stays as it was."""
    app = healthy(open_page(PAGE, requests="400", compare="design"))
    app.text_input(key="in_own_hbm_gb_per_s").set_value("-5").run()
    assert "Memory bandwidth is -5 GB/s; it must be above 0" in app.warning[0].value
    assert app.session_state["scenario"].hbm_gb_per_s is None


def test_a_spec_is_typed_as_a_sliders_value_is() -> None:
    """By hand: 27.5T of bytes a second are 27,500 GB/s; what is no number is said and springs back."""
    app = healthy(open_page(PAGE, requests="400", compare="design"))
    app.text_input(key="in_own_hbm_gb_per_s").set_value("27.5T").run()
    assert address(healthy(app))["hbm_gb_per_s"] == "27500"
    assert app.text_input(key="in_own_hbm_gb_per_s").value == "27500"
    app.text_input(key="in_own_hbm_gb_per_s").set_value("fast").run()
    assert "'fast' is no number" in app.warning[0].value
    assert app.text_input(key="in_own_hbm_gb_per_s").value == "27500"


def test_the_finding_and_the_table() -> None:
    """Oracle: the core's best points."""
    app = healthy(
        open_page(PAGE, requests="400", compare="design", hbm_gb_per_s="6700", among="h100-sxm,b200")
    )
    own = compare.best_within(BASE.replace(hbm_gb_per_s=6700.0))[compare.Y]
    assert number(own) in finding(app) and "best real part shown (B200)" in finding(app)
    assert "your design, from H100-SXM" in said(app) and "USD/Mtok" in said(app)


@pytest.mark.parametrize(
    "query", [{}, {"target_user": "80", "target_rate": "5000"}, {"target_user": "1000000"}]
)
def test_what_a_target_takes(query: dict[str, str]) -> None:
    """Oracle: the core's factors, in words."""
    app = open_page(PAGE, requests="400", compare="design", **query)
    app.session_state["in_takes"] = True
    healthy(app.run())
    text = " ".join(item.value for item in app.markdown)
    assert "The smallest change that reaches" in text or "No change of one spec alone is enough" in text
    assert "One spec alone" in said(app)


def test_a_design_without_rivals() -> None:
    """By hand: nothing is said of real parts, with or without a price."""
    for side in (BASE, BASE.replace(accelerator="tpu-v7")):
        text = design_words.design_finding([side], [compare.curve(side)])
        assert text.startswith("This design gives") and text.endswith(".") and "real part" not in text


def test_no_target_for_measured_steps() -> None:
    """By hand: it is said why, and not offered."""
    steps = "1:8,256:30,context:0.00003"
    app = healthy(open_page(PAGE, requests="400", compare="design", step_profile=steps))
    assert "measured step times do not follow the specs" in said(app)
    assert "in_takes" not in app.session_state
    app = healthy(open_page(PAGE, requests="400", compare="design"))
    assert "do not follow the specs" not in said(app) and "in_takes" in app.session_state


def test_words_of_a_target() -> None:
    """By hand."""
    found = {
        "bf16_tflop_per_s": float("nan"),
        "hbm_gb_per_s": 1.4,
        "hbm_gb": 2.0,
        "link_gb_per_s": float("nan"),
    }
    text = design_words.takes(BASE, found, 60.0, 3000.0)
    assert "1.4 times the memory bandwidth" in text and "4.69" in text
    assert "No change of bf16 arithmetic or link bandwidth alone is enough" in text
    assert "as it is" in design_words.takes(BASE, dict.fromkeys(found, 1.0), 60.0, 3000.0)
    for name in ("l40s", "l4", "a10g", "rtx-4090"):  # no link is known
        part = BASE.replace(accelerator=name, slo_ttft_ms=60_000.0, slo_tpot_ms=1000.0)
        easy = compare.needed(part, 1.0)
        assert math.isnan(easy["link_gb_per_s"])
        assert "as it is" in design_words.takes(part, easy, 5.0, 1.0)
    none = design_words.takes(BASE, dict.fromkeys(found, float("nan")), 60.0, 3000.0)
    assert "No change of one spec alone is enough" in none


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        {"accelerator": "groq-lpu-v1"}, {"accelerator": "cerebras-wse-3"}, {"model": "deepseek-v3"},
        {"accelerator": "corsair", "model": "gpt-oss-120b", "weight_dtype": "native"},
        {"arrivals": "offline"},
        {"accelerator": "corsair", "model": "gemma-3-27b"}, {"model": "custom"}, {"slo_tpot_ms": "0.5"},
        {"policy": "disaggregated"}, {"arrivals": "closed", "output_tokens": "1", "output_cv": "0"},
        {"tensor_parallel": "3"}, {"tensor_parallel": "4", "expert_parallel": "4", "accelerator": "corsair"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("shown", ["design", "sensitivity"])
def test_odd_scenarios_are_answered(shown: str, query: dict[str, str]) -> None:
    """Oracle: no exception, and a finding."""
    app = open_page(PAGE, requests="300", compare=shown, **query)
    assert finding(healthy(app))
