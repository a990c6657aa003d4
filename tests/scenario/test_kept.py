"""What people keep: as TOML and back, used and refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core.fields.errors import ScenarioError
from sim_core.scenario import kept as keeping
from sim_core.scenario.kept import KINDS, NOTHING, kept_toml, read_kept
from sim_core.scenario.scenario import Scenario, accelerator_of
from tests.scenario.test_address import scenarios

OWN = Scenario(
    prices="h100-sxm:2.1,rubin-(vr-nvl72):9.5",
    constants="layer:9.5",
    accelerator="b200",
    hbm_gb_per_s=9000.0,
    mix="chat:0.7,rag:0.3",
    slo_ttft_ms=500.0,
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=60)


def all_of(scenario: Scenario, name: str = "One") -> keeping.Kept:
    """Return everything of a scenario that can be kept, under one name."""
    found = NOTHING
    for kind in KINDS:
        try:
            found = keeping.keep(found, kind, name, keeping.entry_of(scenario, kind))
        except ScenarioError:  # nothing of its own of this kind
            continue
    return found


@settings(max_examples=60, deadline=None)
@given(scenario=scenarios(), name=NAMES)
def test_what_was_kept_comes_back(scenario: Scenario, name: str) -> None:
    """Write then read is the identity, whatever the scenario and the name, to the letter."""
    kept = all_of(scenario, name)
    text = kept_toml(kept)
    assert read_kept(text, "file.toml") == kept and kept_toml(read_kept(text, "file.toml")) == text


@settings(max_examples=60, deadline=None)
@given(scenario=scenarios())
def test_what_is_used_is_what_was_kept(scenario: Scenario) -> None:
    """In a scenario of defaults, which has no classes, each kind brings back its own keys and no others."""
    for kind, entries in all_of(scenario.replace(class_limits="")).items():
        for entry in entries.values():
            base = Scenario(mix=scenario.mix) if entry.get("class_limits") else Scenario()
            used = keeping.used(base, kind, entry)
            assert keeping.is_used(used, kind, entry)
            keys = {
                *KINDS[kind].keys,
                *base.changed(),
                "policy",
                "token_budget",
            }  # an engine comes with rules
            assert {key for key in used.changed() if getattr(used, key) != getattr(Scenario(), key)} <= keys


def test_limits_of_classes_are_kept_without_their_mix() -> None:
    """By hand: they come back, are used where the mix has the classes, and are refused where it has not."""
    mixed = Scenario(mix="chat:0.7,rag:0.3", class_limits="chat:1000/30")
    entry = keeping.entry_of(mixed, "limits")
    kept = keeping.keep(NOTHING, "limits", "Two", entry)
    assert read_kept(kept_toml(kept), "file.toml") == kept
    assert keeping.used(mixed.replace(class_limits=""), "limits", entry) == mixed
    with pytest.raises(ScenarioError, match="class_limits names 'chat', which the mix does not have"):
        keeping.used(Scenario(), "limits", entry)


def test_another_accelerator_of_ones_own_takes_the_specs_of_the_one_before_away() -> None:
    """By hand: after a changed B200, a plain H100 has no memory bandwidth of the former."""
    plain = keeping.entry_of(Scenario(), "accelerators")
    assert keeping.used(OWN, "accelerators", plain).hbm_gb_per_s is None


def test_a_kind_without_anything_of_its_own_is_not_kept() -> None:
    """No calibrated engine, no price: the message says where they come from."""
    with pytest.raises(ScenarioError, match=r"no engine of its own.*Calibrate page first"):
        keeping.entry_of(Scenario(), "engines")
    with pytest.raises(ScenarioError, match=r"no price list of its own.*Mine page first"):
        keeping.entry_of(Scenario(), "prices")
    assert keeping.entry_of(Scenario(), "limits") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits = 3", "limits is 3; write a table for each"),
        ("[[limits]]\na = 1", "write a table for each"),
        ("[limits]\na = 1", "limits, 'a': it is 1; write a table"),
        ("[limits.a]\nslo_ttft_ms = 'x'", "limits, 'a': slo_ttft_ms is 'x'; it must be a number"),
        ("[limits.a]\nslo_ttft_ms = nan", "must be a finite number"),
        ("[limits.a]\nmodel = 'llama-3.1-8b'", "unknown key 'model'"),
        ("[limit.a]\n", "unknown part 'limit'. Did you mean limits"),
        ("[limits.'']\n", "is no name to keep something under"),
        (f"[limits.{'a' * 61}]\n", "take 1 to 60 printable characters"),
        ('[limits."a\\u0007"]\n', "printable characters"),
        ("[prices.a]\nh100 = 2", "unknown accelerator 'h100'"),
        ("[prices.a]\nh100-sxm = -2", "must be above 0"),
        ("[prices.a]\nh100-sxm = true", "must be a number of USD an hour"),
        (f"[prices.a]\nh100-sxm = 1{'0' * 400}", "digits USD/h; it must be above 0"),
        ("[prices.a]\n", "no price list of its own"),
        ("[models.a]\nmodel = '../../etc/passwd'", "unknown model"),
        ("[models.a]\nmodel = 'own'", "own_model"),
        ("[engines.a]\nconstants = 'layer:1e99'", "must lie between"),
        ("v = 2", "this version reads v = 1"),
        ("a.b.c = 1", "key of several parts"),
        ("x" * 200_001, "the limit is 200,000"),
        ("[limits", "is not valid TOML"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words(text: str, words: str) -> None:
    """Each message names the file and, where there is one, the entry; oracle: the words, read by eye."""
    with pytest.raises(ScenarioError) as refused:
        read_kept(text, "file.toml")
    assert str(refused.value).startswith("file.toml") and words in str(refused.value)
    assert str(refused.value).isprintable()


def test_there_is_an_end_to_what_is_kept() -> None:
    """The 51st of a kind is refused, and so is more text than a file may have."""
    kept = NOTHING
    for number in range(keeping.MOST_OF_A_KIND):
        kept = keeping.keep(kept, "limits", str(number), {})
    with pytest.raises(ScenarioError, match="the limit is 50"):
        keeping.keep(kept, "limits", "one more", {})
    kept = keeping.keep(kept, "limits", "7", {"slo_ttft_ms": 1.0})  # the same name gives way
    with pytest.raises(ScenarioError, match="the limit is 200,000"):
        for number in range(keeping.MOST_OF_A_KIND):
            kept = keeping.keep(kept, "traffic", str(number), {"request_list": "0:1:1," * 1000})


def test_prices_hold_for_every_accelerator_that_they_name() -> None:
    """By hand: a list prices H100, an override of the scenario goes first, others keep their own."""
    scenario = Scenario(prices="h100-sxm:2.1,b200:3.75")
    assert accelerator_of(scenario).price_usd_per_hour == 2.1
    assert accelerator_of(scenario).name == accelerator_of(Scenario()).name
    assert accelerator_of(scenario.replace(accelerator="b200")).price_usd_per_hour == 3.75
    assert accelerator_of(scenario.replace(price_usd_per_hour=9.0)).price_usd_per_hour == 9.0
    other = scenario.replace(accelerator="a100-80-sxm")
    assert accelerator_of(other) == accelerator_of(Scenario(accelerator="a100-80-sxm"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("h100-sxm", "ACCELERATOR:USD"),
        ("h100-sxm:x", "ACCELERATOR:USD"),
        ("h100-sxm:nan", "finite"),
        ("h100-sxm:0", "above 0"),
        ("h100-sxm:1,h100-sxm:2", "twice"),
        ("h100:1", "unknown accelerator 'h100'"),
    ],
)
def test_a_price_that_is_none_is_refused(text: str, words: str) -> None:
    """Oracle: the words, read by eye."""
    with pytest.raises(ScenarioError, match=words):
        Scenario(prices=text)


def test_a_full_file_is_written_once_to_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the count: once for the file, not once for each of its entries, which is quadratic in them."""
    written = []
    monkeypatch.setattr(keeping, "kept_toml", lambda kept: written.append(kept) or kept_toml(kept))
    text = "".join(f"[limits.n{count}]\nslo_ttft_ms = 5.0\n" for count in range(keeping.MOST_OF_A_KIND))
    assert keeping.count_of(read_kept(text, "a file")) == keeping.MOST_OF_A_KIND
    assert len(written) == 1
    with pytest.raises(ScenarioError, match="a file has 51 limits; the limit is 50"):
        read_kept(f"{text}[limits.more]\n", "a file")
