"""Preset files: figures against their sources, sizes by hand, and refusal of what is wrong."""

from __future__ import annotations

import csv
import dataclasses
import math
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core import catalogue
from sim_core.catalogue import reader
from sim_core.catalogue.accelerators import DTYPES
from sim_core.catalogue.models import custom_dimensions
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.ready import ready_scenario, ready_scenarios
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of, model_of
from sim_core.traffic import draws
from tests.loops import each
from tests.places import ROOT, SHARED

REFERENCE = SHARED / "reference"
WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5, "int8": 1.0, "int4": 0.5}

needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference tables are not here")


def reference(table: str) -> list[dict[str, str]]:
    """Return the rows of one reference table beside the checkout."""
    with (REFERENCE / table).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def preset_id(name: str) -> str:
    return name.lower().replace(" ", "-")


# Sizes by hand


def test_llama_8b_by_hand():
    """Arithmetic by hand: 32 layers of GQA (32 + 8 heads of 128) and SwiGLU, two vocabulary matrices."""
    attention = 4096 * 4096 * 2 + 4096 * 1024 * 2  # q and o, k and v
    feed_forward = 3 * 4096 * 14336
    model = catalogue.models()["llama-3.1-8b"]
    assert model.total_params == 32 * (attention + feed_forward) + 2 * 128256 * 4096 == 8_029_995_008
    assert model.active_params == model.total_params
    assert model.kv_bytes_per_token() == 32 * 2 * 8 * 128 * 2 == 131_072
    assert model.kv_bytes_per_token(1) == 65_536
    assert (model.moe_layers, model.dense_layers, model.full_layers) == (0, 32, 32)


def test_weights_read_in_a_decode_step_by_hand():
    """Check value of the physics floor: 15.0 GB without the embedding table, 4.48 ms at 3.35 TB/s."""
    model, part = catalogue.models()["llama-3.1-8b"], catalogue.accelerators()["h100-sxm"]
    read_bytes = 2 * (model.total_params - model.embedding_params)
    assert read_bytes == pytest.approx(15.0e9, rel=0.002)
    assert read_bytes / part.hbm_byte_per_s == pytest.approx(4.48e-3, rel=0.001)


def test_deepseek_by_hand():
    """Arithmetic by hand: MLA keeps 512 + 64 numbers a layer; 58 MoE layers of 256 experts."""
    model = catalogue.models()["deepseek-r1"]
    attention = (
        7168 * 1536  # query down
        + 1536 * 128 * (128 + 64)  # query up
        + 7168 * (512 + 64)  # latent and rotary key
        + 512 * 128 * (128 + 128)  # keys and values up
        + 128 * 128 * 7168  # out
    )
    assert model.attention_params == attention
    assert model.kv_bytes_per_token() == 61 * (512 + 64) * 2 == 70_272
    assert model.moe_layers == 58
    assert model.expert_params == 3 * 7168 * 2048
    assert model.total_params == pytest.approx(671.03e9, rel=1e-4)
    assert model.active_params == pytest.approx(37.55e9, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "total_b", "active_b", "kv_bytes"),
    [
        ("mixtral-8x7b", 46.703, 12.880, 131_072),
        ("llama-4-maverick", 400.711, 17.184, 196_608),
        ("gemma-3-27b", 27.008, 27.008, 507_904),
        ("falcon-180b", 178.552, 178.552, 163_840),
        ("qwen3-30b-a3b", 30.532, 3.353, 98_304),
    ],
)
def test_sizes_of_other_shapes(name, total_b, active_b, kv_bytes):
    """Parameter counts that follow from the published config files, to their last printed digit."""
    model = catalogue.models()[name]
    assert model.total_params / 1e9 == pytest.approx(total_b, abs=5e-4)
    assert model.active_params / 1e9 == pytest.approx(active_b, abs=5e-4)
    assert model.kv_bytes_per_token() == kv_bytes


def test_layer_patterns_by_hand():
    """Counting layers: Gemma 3 sees everything in every sixth, gpt-oss in every second."""
    models = catalogue.models()
    assert models["gemma-3-27b"].full_layers == sum(layer % 6 == 0 for layer in range(1, 63)) == 10
    assert models["gemma-3-12b"].full_layers == 8
    assert models["gpt-oss-120b"].full_layers == models["gpt-oss-120b"].window_layers == 18
    assert models["mistral-7b"].full_layers == 0
    assert models["llama-4-scout"].full_layers == 12
    assert models["qwen3.5-397b-a17b"].full_layers == models["qwen3.5-397b-a17b"].kv_layers == 15


def test_published_sizes_agree():
    """Published totals: within 2% of the computed ones (model cards round)."""
    for model in catalogue.models().values():
        assert model.total_params / 1e9 == pytest.approx(model.total_params_b, rel=0.02), model.name


def test_published_active_sizes_agree():
    """Published active parameters: within 2% or their last digit, with both vocabulary matrices or fewer."""
    for model in catalogue.models().values():
        if model.active_params_b:
            counts = [(model.active_params - left * model.embedding_params) / 1e9 for left in range(3)]
            near = [count == pytest.approx(model.active_params_b, rel=0.02) for count in counts]
            assert any(near) or model.active_params_b in map(round, counts), (model.name, counts)


# Against the whole tables


@needs_reference
def test_models_match_reference():
    """Reference table of models: every computed column, to its last printed digit."""
    rows = reference("models.csv")
    assert {preset_id(row["model"]) for row in rows} <= set(catalogue.models())
    for row in rows:
        model = catalogue.models()[preset_id(row["model"])]
        assert model.name == row["model"]
        index_bytes = sum(group.layers * group.index_bytes for group in model.attention)  # not in the table
        kv_bytes = model.kv_bytes_per_token() - index_bytes
        assert kv_bytes == float(row["kv_bytes_per_token_bf16"]), model.name
        if index_bytes:
            assert index_bytes == 78 * 132
        elif row["total_params_b_computed"]:
            assert model.total_params / 1e9 == pytest.approx(float(row["total_params_b_computed"]), abs=6e-4)
            assert model.active_params / 1e9 == pytest.approx(
                float(row["active_params_b_computed"]), abs=6e-4
            )


PACKAGES = ("mi250", "mi250x")  # the table's figures are of two devices
HALVED = ("bf16_tflop_per_s", "int8_top_per_s", "hbm_gb_per_s", "link_gb_per_s", "tdp_w", "sram_mb")
CORRECTED = {(part, key) for part in PACKAGES for key in HALVED}
CORRECTED |= {
    ("rubin-(vr-nvl72)", f"{dtype}_tflop_per_s") for dtype in DTYPES
}  # the table's fp4 is not dense


@needs_reference
def test_accelerators_match_reference():
    """Reference table of accelerators: every figure, empty where the source is silent."""
    rows = reference("accelerators.csv")
    assert {preset_id(row["name"]) for row in rows} <= set(catalogue.accelerators())
    columns = {
        "bf16_tflop_per_s": ("bf16_dense_tflops", 1),
        "fp8_tflop_per_s": ("fp8_dense_tflops", 1),
        "fp4_tflop_per_s": ("fp4_dense_tflops", 1),
        "int8_top_per_s": ("int8_dense_tops", 1),
        "hbm_gb_per_s": ("memory_bw_tb_s", 1000),
        "link_gb_per_s": ("interconnect_gb_s_bidirectional", 0.5),
        "tdp_w": ("tdp_w", 1),
        "sram_mb": ("l2_or_sram_mb", 1),
    }
    for row in rows:
        part = catalogue.accelerators()[preset_id(row["name"])]
        assert (part.name, part.vendor, str(part.year)) == (row["name"], row["vendor"], row["year"])
        for key, (column, factor) in columns.items():
            expected = pytest.approx(float(row[column]) * factor) if row[column] else None
            if (part.id, key) not in CORRECTED:
                assert getattr(part, key) == expected, (part.name, key)
        if part.id in PACKAGES:
            continue
        # GB are printed, GiB (7% more) are meant and, less what the driver keeps, reported.
        assert 0.998 < part.hbm_gb / float(row["memory_gb"]) <= 2**30 / 1e9 + 0.002, part.name


LINKED = {  # names of the table of links, and ours
    **{"H100 SXM": "h100-sxm", "H200 SXM": "h200", "B200 SXM": "b200", "B300 SXM": "b300"},
    **{"GB200 NVL72": "gb200", "GB300 NVL72": "gb300"},
    **{"MI300X": "mi300x", "MI325X": "mi325x", "MI355X": "mi355x"},
}


@needs_reference
def test_domains_and_networks_match_reference():
    """Reference table of links: size of the domain and network card; its usable GB are GiB as reported.

    The memory model starts from `hbm_gb` and takes the driver's context off: what the table calls usable is
    that start, so nothing is taken off twice.
    """
    for row in reference("accelerator_links.csv"):
        part = catalogue.accelerators()[LINKED[row["name"]]]
        assert part.node_devices == int(row["scaleUpWorldSize"]), part.name
        if row["scaleOutBandwidth"] != "null":
            gbit = float(row["scaleOutBandwidth"].removesuffix(" Gbit/s"))
            assert part.node_link_gb_per_s == gbit / 8, part.name
        usable_gib = float(row["memory"].removesuffix(" GB"))
        assert part.hbm_bytes / 2**30 == pytest.approx(usable_gib, rel=0.01), part.name


@needs_reference
def test_added_parts_match_reference():
    """Reference table of parts to add: memory, bandwidth and dense peaks as it prints them."""
    printed = {row["accelerator"].split(" (")[0]: row for row in reference("accelerators_missing.csv")}
    figures = {  # GB, TB/s, and the narrowest peak with its PFLOP/s
        "mi455x": ("MI455X", 432, 19.6, ("fp4", 40)),
        "tpu-8i": ("TPU 8i", 288, 8.6, ("fp4", 10.1)),
        "tpu-8t": ("TPU 8t", 216, 6.5, ("fp4", 12.6)),
        "dgx-spark": ("DGX Spark", 128, 0.273, ("fp4", 0.5)),
        "h20": ("H20 / H20-141", 96, 4.0, ("fp8", 0.296)),
        "h20-141": ("H20 / H20-141", 141, 4.8, ("bf16", 0.148)),
        "ascend-910c": ("Ascend 910C / Atlas A3", 128, 3.2, ("bf16", 0.752)),
        "h800": ("H800", 80, 3.35, ("bf16", 0.989)),
    }
    for name, (row, memory_gb, tb_per_s, (dtype, pflop_per_s)) in figures.items():
        part = catalogue.accelerators()[name]
        assert str(memory_gb) in printed[row]["memory"], name
        assert 0.998 < part.hbm_gb / memory_gb <= 2**30 / 1e9 + 0.002, name
        assert part.hbm_gb_per_s == 1000 * tb_per_s, name
        assert getattr(part, f"{dtype}_tflop_per_s") == pytest.approx(1000 * pflop_per_s), name


# What every file must hold


def test_every_part_is_usable_or_says_what_is_missing():
    """Invariant: a peak for each precision, never above a narrower one, or an error that names the key."""
    for part in catalogue.accelerators().values():
        assert part.hbm_bytes > 0 and part.hbm_byte_per_s > 0 and part.link(2).byte_per_s > 0
        for dtype in DTYPES:
            try:
                assert part.flop_per_s(dtype) > 0
            except ScenarioError as error:
                assert f"{dtype}_tflop_per_s" in str(error) and part.name in str(error)
        assert bool(part.price_note) == (part.price_usd_per_hour is not None)
        assert part.announced == (part.confidence == "low")


def test_narrow_weights_are_widened_where_there_is_no_hardware():
    """Rule by hand: A100 multiplies everything in bf16, H100 fp4 in fp8, B200 each in its own."""
    parts = catalogue.accelerators()
    assert [parts["a100-80-sxm"].compute_dtype(dtype) for dtype in DTYPES] == ["bf16"] * 3
    assert [parts["h100-sxm"].compute_dtype(dtype) for dtype in DTYPES] == ["bf16", "fp8", "fp8"]
    assert [parts["b200"].compute_dtype(dtype) for dtype in DTYPES] == list(DTYPES)
    assert parts["h100-sxm"].flop_per_s("fp4") == 1979e12


def test_missing_peaks_are_named():
    """Message by hand: a part known only in fp4, one known in nothing, and one mended by the scenario."""
    narrow = dataclasses.replace(
        catalogue.accelerators()["b200"], bf16_tflop_per_s=None, fp8_tflop_per_s=None
    )
    assert narrow.flop_per_s("fp4") == 9e15
    with pytest.raises(ScenarioError, match=r"no bf16 figure; set bf16_tflop_per_s or choose .*=fp4"):
        narrow.flop_per_s("bf16")
    assert narrow.attention_flop_per_s == 9e15 and "optimistic" in narrow.warnings[0]
    wafer = catalogue.accelerators()["cerebras-wse-3"]
    with pytest.raises(ScenarioError, match=r"no fp8 figure; set fp8_tflop_per_s, .* no model runs"):
        wafer.flop_per_s("fp8")
    with pytest.raises(ScenarioError, match="set bf16_tflop_per_s"):
        _ = wafer.attention_flop_per_s
    mended = accelerator_of(Scenario(accelerator="cerebras-wse-3", bf16_tflop_per_s=1000.0))
    assert mended.flop_per_s("fp4") == mended.attention_flop_per_s == 1e15


def test_a_package_of_two_devices_is_two():
    """Datasheet by hand: 362.1 TFLOP/s, 3.277 TB/s and 128 GB (2 x 65,520 MiB are reported), halved."""
    for name, package in {"mi250": 362.1, "mi250x": 383.0}.items():
        part = catalogue.accelerators()[name]
        assert 2 * part.bf16_tflop_per_s == package and 2 * part.hbm_gb_per_s == 3277
        assert part.hbm_bytes == pytest.approx(65520 * 2**20, rel=1e-3)


def test_parts_of_a_new_generation_run_the_default_model():
    """Rule by hand: dense peaks halve from fp4 to fp8, and the host is reached over NVLink-C2C."""
    rubin = catalogue.accelerators()["rubin-(vr-nvl72)"]
    assert rubin.flop_per_s("fp4") == 2 * rubin.flop_per_s("fp8") == 35e15
    assert rubin.flop_per_s("bf16") == 4e15
    assert catalogue.accelerators()["gb200"].pcie_byte_per_s == 225e9


def test_gated_and_linear_attention_by_hand():
    """Qwen3.5-397B: 15 layers with 4096 x (3 x 32 + 2 x 2) x 256 and 45 with 4096 x ((2 x 16 + 3 x 64) x 128
    + 2 x 64) parameters of attention; the card says 17 billion active, the checkpoint's text 17.4.
    """
    model = catalogue.models()["qwen3.5-397b-a17b"]
    assert model.all_attention_params == 15 * 104_857_600 + 45 * 117_964_800
    assert model.active_params / 1e9 == pytest.approx(17.4, rel=0.01)
    assert model.total_params / 1e9 == pytest.approx(397, rel=0.01)


def test_the_means_of_reasoning_are_those_it_states():
    """Oracle: what is drawn; before, the answers' mean was 2% above the stated one."""
    prompt, output = draws.mean_lengths(Scenario(mix="reasoning"))
    assert f"are {prompt:,.0f} and {output:,.0f}" in catalogue.workloads()["reasoning"].notes


@pytest.mark.parametrize(
    ("name", "gb_per_s"),
    [
        ("h100-sxm", {2: 450, 4: 450, 8: 450}),  # a switch
        ("mi300x", {2: 64, 4: 3 * 64, 8: 7 * 64}),  # one wire of 64 GB/s to each of 7
        ("gaudi3", {2: 75, 4: 225, 8: 525}),  # 3 ports of 25 GB/s to each of 7; 3 of the 24 leave the server
        ("tpu-v5e", {2: 50, 4: 100, 8: 150, 16: 200}),  # 2 x 2 has two of four wires, 4 x 4 all
        ("h200-nvl", {2: 450, 4: 450, 8: 64}),  # bridges for two or four, then PCIe 5.0
        ("h100-pcie", {2: 300, 4: 64, 8: 64}),
        ("l4", {2: 32, 4: 32}),  # no link: PCIe 4.0 x16
    ],
)
def test_a_group_sees_the_links_it_has(name: str, gb_per_s: dict[int, int]) -> None:
    """Wires by hand, from the datasheets: what one device sends to a group of n, one way."""
    part = catalogue.accelerators()[name]
    assert {devices: part.link(devices).byte_per_s / 1e9 for devices in gb_per_s} == gb_per_s


def test_what_carries_the_traffic_is_named():
    """By hand: without a link or beyond a bridge PCIe, as overridden; one's own, if faster, `other`."""
    l4 = Scenario(accelerator="l4")
    assert accelerator_of(l4).link(2) == ("pcie", 32e9)
    assert accelerator_of(l4.replace(pcie_gb_per_s=64.0)).link(2) == ("pcie", 64e9)
    assert accelerator_of(l4.replace(link_gb_per_s=32.0)).link(2) == ("pcie", 32e9)  # no faster than PCIe
    assert accelerator_of(l4.replace(link_gb_per_s=100.0)).link(8) == ("other", 100e9)
    bridged = catalogue.accelerators()["h100-pcie"]
    assert (bridged.link(2).kind, bridged.link(4).kind) == ("nvlink4", "pcie")
    for part in catalogue.accelerators().values():
        assert (part.link_peers is None) == (part.link_shape == "switch"), part.name


def test_native_precisions():
    """Published checkpoints: fp8 throughout, four-bit experts beside bf16, or bf16."""
    models = catalogue.models()
    assert models["deepseek-v3"].stored_dtypes("native") == ("fp8", "fp8")
    assert models["gpt-oss-120b"].stored_dtypes("native") == ("bf16", "fp4")
    assert models["llama-3.1-8b"].stored_dtypes("native") == ("bf16", "bf16")
    assert models["gpt-oss-120b"].stored_dtypes("fp8") == ("fp8", "fp8")


def test_tables_are_sorted_and_read_only():
    """Invariants of the tables: ids are file names, order as promised, nobody can write."""
    tables = {"accelerators": catalogue.accelerators(), "models": catalogue.models()}
    tables |= {"workloads": catalogue.workloads(), "scenarios": ready_scenarios()}
    for kind, table in tables.items():
        assert sorted(table) == list(catalogue.preset_ids(kind))
        assert all(name == preset.id for name, preset in table.items())
        with pytest.raises(TypeError):
            table["x"] = None
    years = [model.year for model in catalogue.models().values()]
    assert years == sorted(years, reverse=True)
    parts = [(part.announced, -part.year) for part in catalogue.accelerators().values()]
    assert parts == sorted(parts)
    with pytest.raises(dataclasses.FrozenInstanceError):
        catalogue.models()["phi-4"].layers = 1


def test_files_are_small_plain_text():
    """House rule: ids are lower case without spaces, files end in a newline, no carriage returns."""
    for path in reader.PRESETS.glob("*/*.toml"):
        assert path.stem == preset_id(path.stem)
        content = path.read_bytes()
        assert content.endswith(b"\n") and b"\r" not in content, path


# Overrides


def test_without_overrides_the_preset_itself():
    """Identity: nothing set, nothing copied."""
    assert model_of(Scenario()) is catalogue.models()["llama-3.1-8b"]
    assert accelerator_of(Scenario()) is catalogue.accelerators()["h100-sxm"]


def test_overrides_replace_what_is_set_and_nothing_else():
    """Comparison with the preset, field by field."""
    part = accelerator_of(Scenario(hbm_gb_per_s=6700.0))
    assert part == dataclasses.replace(
        catalogue.accelerators()["h100-sxm"], name="H100-SXM (changed)", hbm_gb_per_s=6700.0
    )
    model = model_of(Scenario(layers=16))
    assert (model.layers, model.hidden, model.total_params_b) == (16, 4096, None)


def test_layer_patterns_scale_with_layers():
    """Proportion by hand: 52 of 62 layers windowed is 8.4 of 10; a set window covers every layer."""
    assert model_of(Scenario(model="gemma-3-27b", layers=10)).window_layers == 8
    assert model_of(Scenario(model="gemma-3-27b", window_tokens=512)).window_layers == 62
    assert model_of(Scenario(model="qwen3.5-397b-a17b", window_tokens=512)).window_layers == 15
    assert model_of(Scenario(model="deepseek-r1", layers=2)).moe_layers == 0
    for name in catalogue.preset_ids("models"):
        for layers in (1, 2, 3, 7, 1000):
            assert model_of(Scenario(model=name, layers=layers)).layers == layers


@each(catalogue.preset_ids("models"))
def test_a_custom_model_made_of_a_preset_is_as_large_as_it(name: str) -> None:
    """Oracle: the preset, where its layers are all alike; its KV cache, wherever every layer has the same."""
    known = catalogue.model(name)
    made = model_of(Scenario(model="custom", **custom_dimensions(known)))
    caches = {group.cached_values + group.index_bytes for group in known.attention}
    kinds = {group.kind for group in known.attention}
    if len(caches) == 1 and known.attention_layers == known.layers and kinds <= {"full", "mla"}:
        assert made.kv_bytes_per_token() == known.kv_bytes_per_token()
    alike = not (known.shared_experts or known.first_dense_layers or known.moe_every > 1)
    alike &= known.attention_layers == known.layers
    if alike and known.gated_mlp and not known.tied_embeddings and kinds == {"full"}:
        assert (made.total_params, made.active_params) == (known.total_params, known.active_params)


def test_custom_model_by_hand():
    """Arithmetic by hand: MHA of 8 heads of 64, SwiGLU, two vocabulary matrices; then with experts."""
    given = {"model": "custom", "layers": 2, "hidden": 512, "heads": 8, "ffn_dim": 1024, "vocab": 1000}
    model = model_of(Scenario(**given))
    assert model.total_params == 2 * (4 * 512 * 512 + 3 * 512 * 1024) + 2 * 1000 * 512
    assert model.kv_bytes_per_token() == 2 * 2 * 8 * 64 * 2
    experts = model_of(Scenario(**given, experts=4, experts_per_token=2, expert_ffn_dim=256))
    assert experts.moe_layers == 2
    assert experts.total_params - experts.active_params == 2 * 2 * 3 * 512 * 256
    assert model_of(Scenario(**given, window_tokens=128)).window_layers == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "llama-3.1-7b"}, r"unknown model 'llama-3.1-7b'\. Did you mean .*llama-3.1-8b"),
        ({"model": "../models/phi-4"}, "unknown model"),
        ({"model": ""}, "unknown model"),
        ({"model": "custom", "layers": 2}, "also needs hidden, heads, ffn_dim, vocab"),
        ({"heads": 33}, "kv_heads that divides 33"),
        ({"experts": 8}, "experts_per_token and expert_ffn_dim all given"),
        ({"model": "mixtral-8x7b", "experts_per_token": 9}, "Choose at most 8"),
        ({"model": "deepseek-r1", "kv_heads": 8}, "Leave kv_heads unset"),
    ],
)
def test_models_that_cannot_be(changes, message):
    """Messages by hand: each names what to change."""
    with pytest.raises(ScenarioError, match=message):
        model_of(Scenario(**changes))


@given(st.text(max_size=80))
def test_hostile_ids(name):
    """Any text: a preset or a `ScenarioError`, never another error or a file outside the presets."""
    for lookup, key in ((model_of, "model"), (accelerator_of, "accelerator")):
        try:
            assert lookup(Scenario(**{key: name})).id == name
        except ScenarioError as error:
            assert len(str(error)) < 400


@given(
    st.fixed_dictionaries(
        {},
        optional={
            key: st.integers(1, int(info.high))
            for key, info in FIELDS.items()
            if info.group == "model" and info.optional
        },
    ),
    st.sampled_from([*catalogue.preset_ids("models"), "custom"]),
)
def test_any_dimensions_make_a_model_or_an_error(changes, name):
    """Any overrides within their limits: finite positive sizes or a `ScenarioError`."""
    try:
        model = model_of(Scenario(model=name, **changes))
    except ScenarioError:
        return
    assert 0 < model.active_params <= model.total_params
    assert model.kv_bytes_per_token() >= 0 and math.isfinite(model.kv_bytes_per_token())
    assert 0 <= model.full_layers <= model.kv_layers <= model.layers
    assert 0 <= model.moe_layers <= model.layers


# Files that are wrong

PART = {
    "name": '"X1"',
    "vendor": '"X"',
    "bf16_tflop_per_s": "100",
    "hbm_gb_per_s": "1000",
    "hbm_gb": "80",
    "year": "2025",
    "confidence": '"high"',
    "source": '"a sheet"',
}
TABLE = {
    "title": '"T"',
    "probabilities": "[0.0, 0.5, 1.0]",
    "prompt_quantiles": "[1, 2, 3]",
    "output_tokens": "100",
    "source": '"s"',
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes one preset into an otherwise empty folder of presets."""
    monkeypatch.setattr(reader, "PRESETS", tmp_path)

    def put(kind: str, keys: dict[str, str], **changes: str | None) -> None:
        lines = [f"{key} = {value}" for key, value in (keys | changes).items() if value is not None]
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / "x1.toml").write_text("\n".join(lines), encoding="utf-8")

    return put


def test_a_minimal_part_loads(write):
    """By hand: defaults where keys are absent, floats where whole numbers stand."""
    write("accelerators", PART)
    part = catalogue.accelerator.__wrapped__("x1")
    assert (part.bf16_tflop_per_s, part.pcie_gb_per_s, part.tdp_w, part.announced) == (
        100.0,
        32.0,
        None,
        False,
    )
    assert isinstance(part.bf16_tflop_per_s, float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hbm_gb": None}, "the key hbm_gb is missing"),
        ({"hmb_gb": "80"}, "unknown key 'hmb_gb'. Did you mean hbm_gb"),
        ({"hbm_gb": '"80"'}, "hbm_gb is '80'; it must be a number"),
        ({"hbm_gb": "-1"}, "hbm_gb is -1 GB; it must lie between"),
        ({"hbm_gb": "nan"}, "finite"),
        ({"year": "2025.5"}, "whole number"),
        ({"announced": "1"}, "true or false"),
        ({"confidence": '"sure"'}, "choose one of high, medium, low"),
        ({"source": "["}, "not valid TOML"),
    ],
)
def test_wrong_parts_are_refused(write, changes, message):
    """Messages by hand: file, key and way out in one line."""
    write("accelerators", PART, **changes)
    with pytest.raises(ScenarioError, match=message) as caught:
        catalogue.accelerator.__wrapped__("x1")
    assert "presets/accelerators/x1.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_tokens": "5"}, "either prompt_tokens or prompt_quantiles"),
        ({"output_tokens": None}, "either output_tokens or output_quantiles"),
        ({"prompt_quantiles": "[1, 3, 2]"}, "prompt_quantiles must not fall"),
        ({"prompt_quantiles": "[1, 2]"}, "has 2 values but probabilities has 3"),
        ({"probabilities": "[0.0, 0.5, 0.9]"}, "rise from 0 to 1"),
        ({"probabilities": "[0.0, 0.5, 2.0]"}, r"probabilities\[2\]"),
        ({"probabilities": "7"}, "list of at most"),
        ({"rank_correlation": "1.0"}, "rank_correlation is 1"),
    ],
)
def test_wrong_workloads_are_refused(write, changes, message):
    """Messages by hand."""
    write("workloads", TABLE, **changes)
    with pytest.raises(ScenarioError, match=message):
        catalogue.workload.__wrapped__("x1")


def test_wrong_scenarios_are_refused(write):
    """Messages by hand: an unknown key, and a value out of range."""
    texts = {"title": '"T"', "story": '"S"', "expected": '"E"'}
    for kind in ("models", "accelerators"):
        shutil.copytree(ROOT / "presets" / kind, reader.PRESETS / kind)
    write("scenarios", texts, max_bach="4")
    with pytest.raises(ScenarioError, match=r"x1.toml: unknown key 'max_bach'. Did you mean max_batch"):
        ready_scenario.__wrapped__("x1")
    write("scenarios", texts, max_batch="0")
    with pytest.raises(ScenarioError, match=r"x1.toml: max_batch is 0"):
        ready_scenario.__wrapped__("x1")


# Ready scenarios


@each(catalogue.preset_ids("scenarios"))
def test_ready_scenarios_hold_together(name):
    """Arithmetic: known ids, and weights that leave a tenth of the usable memory to the KV cache."""
    preset = ready_scenarios()[name]
    scenario = preset.build()
    model, part = model_of(scenario), accelerator_of(scenario)
    dense, expert = (WEIGHT_BYTES[dtype] for dtype in model.stored_dtypes(scenario.weight_dtype))
    experts = model.moe_layers * model.experts * model.expert_params
    weight_bytes = (model.total_params - experts) * dense + experts * expert
    usable_bytes = scenario.tensor_parallel * part.hbm_bytes * scenario.kv_memory_frac
    spare = 1.0 if preset.page == "Batching" else 0.9  # a timeline of a few requests may want a tiny cache
    assert weight_bytes < spare * usable_bytes
    prompt_tokens, output_tokens = draws.mean_lengths(scenario)
    assert prompt_tokens + output_tokens < model.max_position
    assert preset.title and preset.story and preset.expected
    if "mlperf" in name:
        assert "not an MLPerf result" in preset.story


def test_the_first_scenario_exists():
    """Contract: this id is the one every text uses."""
    assert ready_scenarios()["llama-3.1-8b-on-h100"].build(max_batch=64).max_batch == 64


def test_bursts_are_bound_by_the_first_token():
    """Oracle: the engine: at a low rate the limits hold; at one too high for them the TTFT fails."""
    from sim_core.engine.run import run
    from sim_core.results.metrics import point_of

    base = ready_scenarios()["bursty-code-completion"].build()
    low, high = (point_of(run(base.replace(arrival_per_s=rate))) for rate in (0.5, 8.0))
    assert low["meets_slo"] and not high["meets_slo"]
    assert high["slo_ttft_ms_reached"] > base.slo_ttft_ms
    assert high["slo_tpot_ms_reached"] <= base.slo_tpot_ms
