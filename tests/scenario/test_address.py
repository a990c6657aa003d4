"""Links, TOML and shell commands: reading back what was written, and refusing what is wrong in words."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core import catalogue
from sim_core.catalogue.models.own import EXAMPLE as OWN_EXAMPLE
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import MAX_NOTE_CHARACTERS, read_toml
from sim_core.scenario.keys.parallel import ParallelKeys
from sim_core.scenario.link import write
from sim_core.scenario.link.changes import parse_value, with_changes
from sim_core.scenario.link.load import from_toml, load_scenario
from sim_core.scenario.link.read import MAX_CHARACTERS, from_query
from sim_core.scenario.link.write import command_for, to_query, to_toml
from sim_core.scenario.ready import ready_scenario, ready_scenarios
from sim_core.scenario.scenario import FIELDS, Scenario, admission_of, first_token_lag_of


def values_of(key: str) -> st.SearchStrategy:
    """Return all values a key may have, its limits included."""
    info = FIELDS[key]
    if key == "model":
        return st.sampled_from(catalogue.preset_ids("models"))
    if key == "accelerator":
        return st.sampled_from(catalogue.preset_ids("accelerators"))
    if key == "engine":
        return st.sampled_from(["", *catalogue.preset_ids("engines")])
    if key == "request_list":
        rows = st.tuples(st.integers(0, 99), st.integers(1, 10**6), st.integers(1, 10**6))
        return st.lists(rows, max_size=9).map(lambda rows: ",".join(f"{a}:{p}:{o}" for a, p, o in rows))
    if key == "own_model":
        return st.sampled_from(["", OWN_EXAMPLE, "name:A b-1.5," + OWN_EXAMPLE])
    if key == "constants":
        return st.sampled_from(["", "layer:9.5", "weight_read:0.71,step:0.3,request_before:12"])
    if key == "step_profile":
        return st.sampled_from(["", "1:15.1", "1:15.1,256:220,context:0.0003,before:1.8,blocks:79"])
    if key == "spec_by_batch":
        return st.sampled_from(["", "1-:0", "1-4:5,5-64:3,65-:0", "1-8:16,9-99:1"])
    if key == "class_limits":
        return st.sampled_from(["chat:1000/30", "rag:5e3/50.5,chat:.5/1"])
    if key == "own_bands":
        return st.sampled_from(["", "tpot:0.93:0.97:1.02:1.06,points:12,on:llama-3.1-8b/h100-sxm"])
    if key == "prices":
        return st.sampled_from(["", "h100-sxm:2.1", "b200:0.5,rubin-(vr-nvl72):12.25"])
    if key in ("mix", "mix_other"):
        classes = st.sampled_from(["flat", *catalogue.preset_ids("workloads")])
        weights = st.floats(1e-6, 1e6)
        parts = st.dictionaries(classes | inline_classes(), weights, max_size=4)
        return parts.map(lambda mix: ",".join(f"{name}:{weight!r}" for name, weight in mix.items()))
    if info.choices:
        return st.sampled_from(info.choices)
    if info.kind is int:
        return st.integers(int(info.low), int(info.high))
    return st.floats(info.low, info.high, exclude_min=info.optional, allow_subnormal=False)


def inline_classes() -> st.SearchStrategy:
    """Return classes such as `1024/256`, `512..1024/1000~0.5`."""
    fixed = st.integers(1, 1_000_000).map(str)
    uniform = fixed.map(lambda low: f"{low}..1000000")
    lognormal = st.floats(1, 1e6).map(lambda mean: f"{mean!r}~0.5")
    length = fixed | uniform | lognormal
    return st.tuples(length, length).map("/".join)


DIVIDED = ParallelKeys.__annotations__.keys()


def is_model_key(key: str) -> bool:
    return FIELDS[key].group == "model" and FIELDS[key].optional


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Draw a scenario with any keys changed (model dimensions are drawn in `custom_models`)."""
    keys = draw(st.sets(st.sampled_from([key for key in FIELDS if not is_model_key(key)])))
    values = {key: draw(values_of(key)) for key in sorted(keys)}
    if values.get("own_model"):
        values["model"] = "own"
    if values.get("class_limits"):
        values["mix"] = "chat:0.7,rag:0.3"
    degree = draw(st.integers(1, 32))
    values["expert_parallel"] = degree
    values["tensor_parallel"] = degree * draw(st.integers(1, 1024 // degree))
    try:
        return Scenario(**can_draft(values))
    except ScenarioError:  # stages and ranks that do not go with one another, or with drafts
        return Scenario(**can_draft({key: value for key, value in values.items() if key not in DIVIDED}))


def can_draft(values: dict) -> dict:
    """Return the values of keys with those of speculation in keeping with one another."""
    drafts = values.get("spec_tokens", 0)
    if not drafts:
        return values
    fitting = {"token_budget": max(values.get("token_budget", 0), 100)}
    if values.get("policy") == "static":
        fitting["policy"] = "chunked"
    if values.get("acceptance_length"):
        fitting["acceptance_length"] = min(values["acceptance_length"], drafts + 1.0)
    if values.get("spec_by_batch"):
        fitting["spec_by_batch"] = f"1-3:{drafts},4-:0"
    return values | fitting


@st.composite
def custom_models(draw: st.DrawFn) -> Scenario:
    """Draw a custom model: dimensions within their limits, heads a multiple of kv_heads."""
    values = {key: draw(values_of(key)) for key in ("layers", "hidden", "ffn_dim", "vocab", "head_dim")}
    values["kv_heads"] = draw(st.integers(1, 64))
    values["heads"] = values["kv_heads"] * draw(st.integers(1, 64))
    if draw(st.booleans()):
        values["window_tokens"] = draw(values_of("window_tokens"))
    if draw(st.booleans()):
        values["expert_ffn_dim"] = draw(values_of("expert_ffn_dim"))
        values["experts_per_token"] = draw(values_of("experts_per_token"))
        values["experts"] = draw(st.integers(values["experts_per_token"], 10_000))
    return Scenario(model="custom", **values)


def same_types(one: Scenario, other: Scenario) -> bool:
    return all(type(getattr(one, key)) is type(getattr(other, key)) for key in FIELDS)


# Round trips


@settings(max_examples=300, deadline=None)
@given(scenarios() | custom_models())
def test_link_round_trip(scenario: Scenario) -> None:
    """Oracle: identity. Whatever a scenario holds, its link and its TOML give it back, types included."""
    found, notes = from_query(to_query(scenario))
    assert notes == []
    assert found == scenario
    assert same_types(found, scenario)
    assert from_query("https://example.org/Frontier?" + to_query(scenario) + "#top") == (scenario, [])
    assert from_toml(to_toml(scenario, title="A title")) == scenario
    assert load_scenario(to_query(scenario)) == scenario


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FIELDS)).flatmap(lambda key: st.tuples(st.just(key), values_of(key))))
def test_single_values_round_trip(pair: tuple) -> None:
    """Oracle: identity, for every key over its whole range."""
    key, value = pair
    read = parse_value(key, write.value_text(key, value))
    assert read == value
    assert type(read) is type(value)


def test_a_key_without_a_value_survives_toml() -> None:
    """Oracle: identity; a load that is set by the rate alone is None, and its default is not."""
    scenario = Scenario(demand_load_frac=None)
    assert 'demand_load_frac = "none"' in to_toml(scenario)
    assert from_toml(to_toml(scenario)) == scenario


def test_query_is_readable_and_leaves_defaults_out() -> None:
    """Oracle: the text by hand."""
    assert to_query(Scenario()) == "v=1"
    scenario = Scenario(max_batch=64, mix="chat:0.7,rag:0.3", arrival_per_s=3, hbm_gb=0.1, seed=2**53)
    assert (
        to_query(scenario)
        == "v=1&hbm_gb=0.1&arrival_per_s=3&seed=9007199254740992&mix=chat:0.7,rag:0.3&max_batch=64"
    )


def test_awkward_text_survives_toml_and_cannot_break_a_link() -> None:
    """Oracle: identity of TOML; no scenario holds text that could set another key of a link."""
    awkward = 'quote " backslash \\ newline \n tab \t null \x00 del \x7f emoji 😀'
    text = to_toml(Scenario(seed=5), title=awkward, story=awkward, source="lone \ud800 surrogate")
    assert from_toml(text).seed == 5
    assert read_toml(text, "x")["title"] == awkward
    with pytest.raises(ScenarioError, match="unknown class"):
        Scenario(mix="a&max_batch=1#?% +;\n\ud800")


# Links, leniently


@settings(max_examples=400, deadline=None)
@given(st.text() | st.binary() | st.text(alphabet="v=1&?#%:.,_batchmxkeysnif0-9+e \n\x00\ud800٣"))
def test_no_text_raises(text: str | bytes) -> None:
    """Oracle: the promise of `from_query`; notes are short and printable whatever comes in."""
    scenario, notes = from_query(text)
    assert isinstance(scenario, Scenario)
    assert all(note.isprintable() and len(note) <= MAX_NOTE_CHARACTERS for note in notes)


PAIRS = st.tuples(
    st.sampled_from([*FIELDS, "v", "embed", "max_bacth"]),
    st.text(max_size=20)
    | st.floats().map(repr)
    | st.integers().map(str)
    | st.sampled_from(["", "none", "1e400", "-0", "0x10", "1_000", "nan", "infinity", "9" * 100, "custom"]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PAIRS, max_size=40))
def test_known_keys_with_any_values_never_raise(pairs: list[tuple[str, str]]) -> None:
    """Oracle: every parameter is either in the scenario or has a note; text and mapping agree."""
    mapping: dict[str, list[str]] = {}
    for key, text in pairs:
        mapping.setdefault(key, []).append(text)
    scenario, notes = from_query(mapping)
    assert all(note.isprintable() and len(note) <= MAX_NOTE_CHARACTERS for note in notes)
    refused = sum(
        1 for key, texts in mapping.items() if key in FIELDS and not is_read(scenario, key, texts[-1])
    )
    assert len(notes) >= refused


def is_read(scenario: Scenario, key: str, text: str) -> bool:
    try:
        return getattr(scenario, key) == parse_value(key, text)
    except ScenarioError:
        return False


@pytest.mark.parametrize(
    "source", [None, 3, 2.5, [], object(), {}, b"", "", "?", "&&&", "#", {1: 2}, {"a": None}]
)
def test_odd_sources_never_raise(source: object) -> None:
    """Oracle: the promise of `from_query`."""
    assert from_query(source)[0] == Scenario()


BAD_PARTS = {
    "max_bacth=3": ["max_bacth", "Did you mean max_batch"],
    "max_batch=abc": ["max_batch", "'abc'", "whole number", "256"],
    "max_batch=1.5": ["max_batch", "1.5", "whole number"],
    "max_batch=": ["max_batch", "''", "whole number"],
    "max_batch=0": ["max_batch is 0", "between 1 and 16,384"],
    "max_batch=1e300": ["max_batch", "16,384"],
    "max_batch=" + "9" * 5000: ["max_batch", "whole number"],
    "arrival_per_s=nan": ["arrival_per_s is nan", "finite"],
    "arrival_per_s=-inf": ["arrival_per_s is -inf", "finite"],
    "arrival_per_s=1e9": ["arrival_per_s", "1,000,000"],
    "hbm_gb=0": ["hbm_gb is 0", "above 0"],
    "accelerator=h10-sxm": ["accelerator", "'h10-sxm'", "h100-sxm"],
    "model=../../etc/passwd": ["model", "etc/passwd"],
    "policy=magic": ["policy is 'magic'", "chunked"],
    "policy=merged": ["choose one of static, prefill_first, chunked, disaggregated"],
    "fp8_scaling=row": ["choose one of tensor, block, or leave it empty."],
    "mix=chat:0.7,nonsense:0.3": ["mix", "'nonsense'"],
    "v=2": ["newer version", "v=2"],
    "v=x": ["v is 'x'"],
    "seed=1&seed=2": ["seed is given more than once"],
    "expert_parallel=4": ["expert_parallel is 4", "tensor_parallel is 1"],
    "heads=12": ["kv_heads"],
    "model=custom": ["custom", "layers"],
    "prompt_tokens=<script>alert(1)</script>": ["prompt_tokens", "<script>"],
    "seed=٣": ["seed", "whole number"],
    "=3": ["Unknown key ''"],
}


@pytest.mark.parametrize("query", BAD_PARTS)
def test_each_bad_part_is_one_clear_note(query: str) -> None:
    """Oracle: by hand: the key, the value, the limit or the way out stand in the note; the rest is kept."""
    scenario, notes = from_query(query + "&token_budget=512")
    assert len(notes) == 1
    assert all(word in notes[0] for word in BAD_PARTS[query]), notes[0]
    assert scenario.token_budget == 512
    assert set(scenario.changed()) <= {"token_budget", "seed"}


def test_good_neighbours_of_a_contradiction_are_kept() -> None:
    """Oracle: by hand: 3 devices cannot hold groups of 2, so one of the two keys goes, the rest stays."""
    scenario, notes = from_query("tensor_parallel=3&max_batch=7&expert_parallel=2&seed=4")
    assert len(notes) == 1
    assert (scenario.tensor_parallel, scenario.expert_parallel) == (3, 1)
    assert (scenario.max_batch, scenario.seed) == (7, 4)


def test_two_contradictions_are_two_notes() -> None:
    """Oracle: by hand: a pair that does not divide, and heads that are no multiple of 8 kv_heads."""
    scenario, notes = from_query("tensor_parallel=3&expert_parallel=2&heads=12&seed=4")
    assert len(notes) == 2
    assert scenario == Scenario(tensor_parallel=3, seed=4)


def test_page_and_streamlit_keys_pass_in_silence() -> None:
    """Oracle: the promise of `ignore` and of Streamlit's reserved names."""
    assert from_query("embed=true&embed_options=x&x=log&seed=3", ignore={"x"}) == (Scenario(seed=3), [])
    assert from_query({"x": ["a", "b"], "seed": "3"}, ignore=["x"]) == (Scenario(seed=3), [])


def test_repeated_keys_of_a_streamlit_mapping_are_seen() -> None:
    """Oracle: `st.query_params` shows the last of repeated values and gives all through `get_all`."""

    class Parameters(dict):
        def get_all(self, key: str) -> list[str]:
            return self[key]

        def __getitem__(self, key: str) -> list[str]:
            return super().__getitem__(key)

    scenario, notes = from_query(Parameters(seed=["1", "2"]))
    assert scenario.seed == 2
    assert notes == ["seed is given more than once; the last value counts."]


def test_long_links_are_cut_and_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the caps: 8,000 characters are looked at, and 200 parameters, however long a link is."""
    read: list[int] = []
    monkeypatch.setattr(
        "sim_core.scenario.link.read.parse_qsl",
        lambda text, **more: read.append(len(text)) or parse_qsl(text, **more),
    )
    scenario, notes = from_query("seed=3&" + "&".join(f"kv_block_tokens_{i}=1" for i in range(200)))
    assert scenario.seed == 3
    assert len(notes) == 1 + 199
    assert "201 parameters" in notes[0]
    read.clear()
    scenario, notes = from_query("seed=3&mix=" + "a" * 10_000_000)
    assert sum(read) <= MAX_CHARACTERS
    assert scenario == Scenario(seed=3)
    assert notes == [f"The link is too long; only its first {MAX_CHARACTERS:,} characters were read."]
    assert from_query("seed=3&max_batch=2" + "5" * MAX_CHARACTERS)[0] == Scenario(seed=3)
    assert from_query({"seed": "3", "mix": "a" * 9000})[0] == Scenario(seed=3)


def test_a_link_of_a_percent_encoded_mix_is_read() -> None:
    """Oracle: other programs escape `:` and `,`; both forms are the same link."""
    assert from_query("mix=chat%3A0.7%2Crag%3A0.3")[0].mix == "chat:0.7,rag:0.3"


# Values, strictly


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("max_batch", "64", 64),
        ("max_batch", " 64 ", 64),
        ("requests", "1e4", 10_000),
        ("requests", "64.0", 64),
        ("arrival_per_s", "3", 3.0),
        ("arrival_per_s", ".5", 0.5),
        ("hbm_gb", "none", None),
        ("seed", "9007199254740992", 2**53),
        ("policy", "static", "static"),
        ("mix", "", ""),
    ],
)
def test_parse_value(key: str, text: str, value: object) -> None:
    """Oracle: by hand; a float key gives a float, a whole-number key an int."""
    read = parse_value(key, text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text", ["", "x", "1,000", "1_000", "0x10", "1e", "--1", "1e999", "nan", "٣", "True"]
)
def test_parse_value_refuses(text: str) -> None:
    """Oracle: only plain decimal numbers are numbers."""
    with pytest.raises(ScenarioError, match="max_batch"):
        parse_value("max_batch", text)


# load_scenario


def test_default_and_sources(tmp_path) -> None:
    """Oracle: the same scenario through every way in."""
    scenario = Scenario(max_batch=64, seed=3)
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(scenario, title="Mine"), encoding="utf-8")
    assert load_scenario() == load_scenario("") == load_scenario("  ") == Scenario()
    for source in (
        path,
        str(path),
        "max_batch=64&seed=3",
        "?v=1&max_batch=64&seed=3",
        "https://host/Frontier?max_batch=64&seed=3&embed=true",
        "http://localhost:8501/?seed=3&max_batch=64#x",
        "http://localhost:8501/?seed=3&max_batch=64&vary=policy&axes=log",
        scenario,
    ):
        assert load_scenario(source) == scenario
    assert load_scenario("https://host/") == Scenario()
    assert load_scenario(path, seed=4) == Scenario(max_batch=64, seed=4)


def test_every_scenario_preset_loads_by_its_id() -> None:
    """Oracle: the preset itself."""
    for name, preset in ready_scenarios().items():
        assert load_scenario(name) == preset.build()
        assert load_scenario(name, seed=11).seed == 11


def test_flat_lengths_switch_a_mix_off() -> None:
    """Oracle: the stated rule, case by case."""
    mixed = Scenario(mix="chat:0.7,rag:0.3")
    assert with_changes(mixed, prompt_tokens=5).mix == ""
    assert with_changes(mixed, output_cv=0.0, mix="chat:1").mix == "chat:1"
    assert with_changes(mixed, max_batch=5).mix == "chat:0.7,rag:0.3"
    assert with_changes(Scenario(mix="flat:0.5,rag:0.5"), prompt_tokens=5).mix == "flat:0.5,rag:0.5"


def test_a_new_part_comes_with_its_own_figures() -> None:
    """Oracle: the stated rule: old overrides fall away unless given again; the same id changes nothing."""
    tuned = Scenario(hbm_gb=100.0, tdp_w=500.0, layers=16)
    other = next(name for name in catalogue.preset_ids("accelerators") if name != tuned.accelerator)
    assert with_changes(tuned, accelerator=other) == Scenario(accelerator=other, layers=16)
    assert with_changes(tuned, accelerator=other, tdp_w=9.0) == Scenario(
        accelerator=other, tdp_w=9.0, layers=16
    )
    assert with_changes(tuned, accelerator=tuned.accelerator) == tuned
    model = next(name for name in catalogue.preset_ids("models") if name != tuned.model)
    assert with_changes(tuned, model=model) == Scenario(model=model, hbm_gb=100.0, tdp_w=500.0)


BAD_SOURCES = {
    "llama-3.1-8b-on-h1000": ["unknown scenario", ".toml"],
    "missing.toml": ["missing.toml", "cannot be read"],
    "max_bacth=3": ["max_bacth", "max_batch"],
    "max_batch=3&max_batch=4": ["max_batch is given more than once. Give it once."],
    "v=9": ["newer version (v=9); this one reads v=1. Install that one, or leave v out."],
    "v=x": ["v is 'x'; it must be 1."],
    "seed=3&" + "seed=3&" * 200: ["parameters; the limit is 200."],
    "mix=" + "a" * 9000: ["too long; the limit is 8,000 characters. Write a TOML file."],
    "x" * 100_000: ["unknown scenario"],
    "\x00": ["unknown scenario"],
    "a\x00.toml": ["cannot be read"],
}


@pytest.mark.parametrize("source", BAD_SOURCES, ids=range(len(BAD_SOURCES)))
def test_bad_sources_say_what_to_do(source: str) -> None:
    """Oracle: by hand: one line with the name and the way out."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(source)
    assert all(word in str(caught.value) for word in BAD_SOURCES[source])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    for words in (
        "counts",
        "only the first",
        "only its first",
        "is read as",
        "may differ",
        "gnored",
        "is used",
    ):
        assert words not in str(caught.value), "a refusal does not say what a page goes on with"


@pytest.mark.parametrize(
    "changes",
    [
        {"max_bacth": 3},
        {"max_batch": "64"},
        {"max_batch": True},
        {"max_batch": 10**400},
        {"arrival_per_s": math.nan},
        {"accelerator": "h10"},
        {"model": None},
        {"mix": "nonsense:1"},
        {"mix": 3},
        {"expert_parallel": 2},
        {"model": "custom"},
        {"heads": 12},
    ],
)
def test_bad_overrides_are_refused(changes: dict) -> None:
    """Oracle: `ScenarioError`, and never another exception."""
    with pytest.raises(ScenarioError):
        load_scenario("", **changes)


def test_other_types_are_no_scenario() -> None:
    """Oracle: `ScenarioError` names what was given."""
    with pytest.raises(ScenarioError, match="42"):
        load_scenario(42)


# TOML


BAD_TOML = {
    "max_bacth = 3": ["max_bacth", "max_batch"],
    "max_batch = '64'": ["max_batch is '64'", "whole number"],
    "max_batch = 64.5": ["64.5", "whole number"],
    "max_batch = true": ["True", "whole number"],
    "max_batch = 99999": ["99,999", "16,384"],
    "max_batch = " + "9" * 400: ["max_batch", "16,384"],
    "max_batch = " + "9" * 5000: ["not valid TOML"],
    "arrival_per_s = nan": ["finite"],
    "[model]\nname = 'x'": ["model", "text"],
    "mix = ['chat']": ["mix", "text"],
    "title = 3": ["title must be text"],
    "v = 2": ["v is 2", "v = 1"],
    "max_batch = \nseed = 3": ["not valid TOML", "line 1"],
    "a = 1\na = 2": ["not valid TOML"],
    "max_batch = 1979-05-27": ["whole number"],
    "x = " + "[" * 5000: ["not valid TOML"],
    "# " + "x" * 300_000: ["200,000"],
}


@pytest.mark.parametrize("text", BAD_TOML, ids=range(len(BAD_TOML)))
def test_bad_toml_says_what_to_do(text: str) -> None:
    """Oracle: by hand: one line that names file, key, value and limit."""
    with pytest.raises(ScenarioError) as caught:
        from_toml(text, "mine.toml")
    message = str(caught.value)
    assert message.startswith("mine.toml")
    assert all(word in message for word in BAD_TOML[text]), message
    assert "\n" not in message


def test_toml_takes_descriptive_keys_and_a_byte_order_mark(tmp_path) -> None:
    """Oracle: by hand; editors on Windows write a byte-order mark."""
    path = tmp_path / "bom.toml"
    keys = ["v = 1", *(f"{key} = 'x'" for key in write.DESCRIPTIVE), "seed = 4"]
    text = "\r\n".join(keys)
    path.write_bytes(text.encode("utf-8-sig"))
    assert load_scenario(path) == Scenario(seed=4)


def test_unreadable_scenario_files(tmp_path) -> None:
    """Oracle: one line for a folder and for a binary file."""
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(folder)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(ScenarioError, match="UTF-8"):
        load_scenario(binary)


# Shell commands


@settings(max_examples=100, deadline=None)
@given(scenarios())
def test_command_reproduces_the_scenario(scenario: Scenario) -> None:
    """Oracle: a POSIX shell's own splitting gives the words back, and the link in them the scenario."""
    words = shlex.split(command_for(scenario, "run", trace="my trace's.csv", format="json"))
    assert words[:4] == ["python", "-m", "sim_core", "run"]
    assert load_scenario(words[4]) == scenario
    assert words[5:] == ["--trace", "my trace's.csv", "--format", "json"]


def test_command_for_a_sweep() -> None:
    """Oracle: the text by hand."""
    command = command_for(Scenario(seed=3), "frontier", vary={"max_batch": [1, 2], "arrival_per_s": [0.5]})
    assert command == (
        "python -m sim_core frontier 'v=1&seed=3' --vary max_batch=1,2 --vary arrival_per_s=0.5"
    )


def test_command_for_a_sweep_over_loads_and_mixes() -> None:
    """Oracle: the text by hand; the semicolons that part mixes are quoted from the shell."""
    vary = {"load_frac": (0.5, 1), "mix": ["chat:1", "chat:0.7,rag:0.3"]}
    assert command_for(Scenario(), "frontier", vary=vary) == (
        "python -m sim_core frontier v=1 --vary load_frac=0.5,1 --vary 'mix=chat:1;chat:0.7,rag:0.3'"
    )


def test_reading_links_imports_no_compiler() -> None:
    """Oracle: the modules loaded in a fresh interpreter."""
    code = "import sys, sim_core; sim_core.load_scenario('seed=3'); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numba", "pandas", "streamlit", "plotly"} & set(run.stdout.split())


# --- ready scenarios by name ----------------------------------------------------------------------


def test_a_link_may_begin_with_a_ready_scenario() -> None:
    """Oracle: the preset, changed as `with_changes` does it; from the page and from the command line."""
    base = ready_scenario("chat-and-documents").build()
    assert from_query("preset=chat-and-documents") == (base, [])
    changed, notes = from_query("https://host/?preset=chat-and-documents&max_batch=32")
    assert (changed, notes) == (base.replace(max_batch=32), [])
    assert from_query("preset=chat-and-documents&prompt_tokens=77")[0].mix == ""
    assert load_scenario("?preset=chat-and-documents&max_batch=32") == changed
    assert from_query(to_query(changed)) == (changed, [])


@pytest.mark.parametrize("name", ["no-such", "../../etc/passwd", "<script>", "x" * 2_000])
def test_an_unknown_ready_scenario_is_noted(name: str) -> None:
    """Oracle: the default scenario, and one printable note."""
    scenario, notes = from_query({"preset": name, "max_batch": "8"})
    assert scenario == Scenario(max_batch=8)
    assert len(notes) >= 1 and all(note.isprintable() for note in notes)


def test_an_engine_comes_with_its_rules_and_a_rule_named_wins() -> None:
    """Oracle: by hand. SGLang runs prompts alone; whoever names chunked has chunks; links keep both."""
    assert load_scenario("engine=sglang").policy == "prefill_first"
    mixed = load_scenario("engine=sglang&policy=chunked")
    assert mixed.policy == "chunked"
    assert to_query(mixed) == "v=1&engine=sglang&policy=chunked"
    assert to_query(with_changes(mixed, engine="")) == "v=1"
    assert to_query(with_changes(Scenario(), engine="sglang")) == "v=1&engine=sglang"


def test_a_scenario_made_in_python_takes_an_engine_as_it_is_given() -> None:
    """Oracle: by hand. `load_scenario` brings the engine's rules along, `Scenario` none; its link says so."""
    asked, made = (
        load_scenario(Scenario(max_batch=8), engine="sglang"),
        Scenario(max_batch=8, engine="sglang"),
    )
    assert (asked.policy, made.policy) == ("prefill_first", "chunked")
    assert asked == load_scenario("max_batch=8&engine=sglang")
    assert load_scenario(to_query(made)) == made


def test_another_engine_leaves_two_pools() -> None:
    """Oracle: by hand. Who serves on two pools does so under any engine."""
    split = load_scenario("policy=disaggregated&engine=sglang")
    assert split.policy == "disaggregated"
    assert with_changes(split, engine="vllm").policy == "disaggregated"


def test_rules_left_empty_follow_the_engine() -> None:
    """Oracle: presets/engines. A key of its own wins over them, 0 as well."""
    served = load_scenario("engine=tensorrt-llm&model=deepseek-r1")
    assert (admission_of(served), first_token_lag_of(served)) == ("reserve_output", 11.5)
    assert first_token_lag_of(with_changes(served, policy="disaggregated", decode_tensor_parallel=8)) == 14.5
    assert first_token_lag_of(with_changes(served, model="qwen3-235b-a22b")) == 1.0
    assert first_token_lag_of(with_changes(served, model="llama-3.1-8b")) == 0.0
    told = with_changes(served, admission="first_chunk", first_token_lag_steps=0.0)
    assert (admission_of(told), first_token_lag_of(told)) == ("first_chunk", 0.0)
    assert (admission_of(Scenario()), first_token_lag_of(Scenario())) == ("full_prompt", 0.0)
