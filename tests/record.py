"""A recorded set of links with what the product makes of each: `python -m tests.record` records it anew.

`tests/recorded.jsonl` holds the names of the figures, then a link a line: what the lenient reader
makes of it, its notes, the figures of a short run, or why there is none, and, where the link says how workers
move, what a cluster that moves them makes of changing traffic. Links on file stay; where a key, a choice or a
preset stands in none, some are drawn. `tests/house/test_recorded.py` compares.
"""

from __future__ import annotations

import json
import math
import random
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sim_core.catalogue.reader import preset_ids
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price.steps.one_step import step_parts
from sim_core.questions.shift.study import Study
from sim_core.results.metrics import point_of
from sim_core.scenario.link.page_settings import PAGE_KEYS
from sim_core.scenario.link.read import from_query
from sim_core.scenario.link.write import to_query
from sim_core.scenario.ready import ready_scenario
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario
from tests.places import ROOT

FILE = ROOT / "tests" / "recorded.jsonl"
SEED = 2026
LINKS = 200  # drawn ones, beside those of the ready scenarios and of the README
MOST_REQUESTS = 120
DIGITS = 12
TOLERANCE = 1e-9  # other processors round otherwise
MISTAKEN_FRAC = 0.2
POINT = (  # figures of a run, as `point_of` calls them
    *("limit", "saturated", "meets_slo", "output_tok_per_s", "goodput_per_s", "window_s", "mean_batch"),
    *("ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "tpot_ms_p99", "itl_ms_p99", "e2e_ms_p99", "preemptions"),
    *("kv_used_frac", "kv_blocked_frac", "mfu_frac", "usd_per_mtok", "joule_per_tok"),
)
PRICED = ("decode_step_s", "prompt_step_s", "kv_blocks")
STRATEGIES = ("reactive", "predictive")
MOVING = {"reallocation", "strategy"}  # groups of keys that only workers on the move obey
MOVES = ("decisions", "moves", "served", "away_s")  # of each strategy
FIGURES = (*PRICED, "elapsed_s", "rejected", *POINT)

MIXES = ("chat:0.7,rag:0.3", "flat:1,code:2", "512~0.3/256~0.2:0.9,16000/64:0.1", "4000~0.5/50~0.5")
TEXTS = {  # texts with a grammar of their own
    "mix": MIXES,
    "mix_other": MIXES,
    "class_limits": ("flat:1500/30", "flat:300/60"),
    "request_list": ("0:1000:200x8,0.5:4000:50", "0:1:1,0:200:30x40,2:20000:10", "1.5:300:4x20"),
    "own_model": (
        "layers:32,hidden:4096,ffn_dim:14336,vocab:128256/full,layers:32,heads:32,kv_heads:8,head_dim:128",
        "layers:24,hidden:2048,vocab:150000,experts:64,experts_per_token:4,expert_ffn_dim:768/"
        "full,layers:6,heads:16,kv_heads:2,head_dim:128/"
        "gdn,layers:18,heads:16,key_heads:8,head_dim:128,state_dim:128",
    ),
    "constants": ("layer:9.5,weight_read:0.71", "prefill_request:3,sequence:40", "step:4000,collective:20"),
    "step_profile": ("1:15.1,256:220,context:0.0003", "1:9,64:11,2048:90,pairs:0.00001,prompt:4,blocks:4000"),
}
TYPICAL = {  # of numbers whose default says nothing of their size
    **{"layers": 40, "hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn_dim": 12_000},
    **{
        "vocab": 100_000,
        "experts": 16,
        "experts_per_token": 2,
        "expert_ffn_dim": 4096,
        "window_tokens": 2048,
    },
    **{
        "bf16_tflop_per_s": 800.0,
        "fp8_tflop_per_s": 1600.0,
        "fp4_tflop_per_s": 3200.0,
        "int8_top_per_s": 1600.0,
    },
    **{"hbm_gb_per_s": 3000.0, "hbm_gb": 120.0, "link_gb_per_s": 400.0, "pcie_gb_per_s": 64.0},
    **{"tdp_w": 700.0, "price_usd_per_hour": 3.0, "prefill_switch_ms": 5.0, "rate_swing_frac": 0.5},
    **{"prefill_tensor_parallel": 2, "decode_tensor_parallel": 2, "seed": 7, "requests": 90},
    **{"tensor_parallel": 2, "expert_parallel": 2, "replicas": 2, "prefill_workers": 2, "decode_workers": 2},
}
USUAL = (  # keys that most links have some of
    *("model", "accelerator", "arrivals", "arrival_per_s", "concurrency", "prompt_tokens", "output_tokens"),
    *("prompt_cv", "output_cv", "policy", "max_batch", "token_budget", "preemption", "replicas", "hbm_gb"),
    *("kv_memory_frac", "calibration", "weight_dtype", "kv_dtype", "tensor_parallel"),
)
WRONG = ("nan", "-1", "abc", "", "1e400", "0", "1.5.2", "none", "99999999999999")
MISTAKES = (
    *("max_bach=3", "v=7", "v=x", "preset=no-such-scenario", "seed=1&seed=2", "experts_per_token=900"),
    *("tensor_parallel=3", "mix=chat:x", "mix=nobody:1", "request_list=0:1", "constants=layer:9,layer:8"),
    *("step_profile=1:2,1:3", "model=llama-4", "policy=Chunked", "kv_heads=7&heads=32", "%F0%9F%92%A3=1"),
)


class Recorded(NamedTuple):
    """A link, the query of what it is read as, the notes of the reader, and the figures of a short run.

    Instead of figures, a text says why there is no run. `moves` is empty where no key tells how workers move.
    """

    link: str
    reads: str
    notes: list[str]
    figures: list[Any] | str
    moves: list[float]


# --- answers --------------------------------------------------------------------------------------


def answer(link: str) -> Recorded:
    """Return what the product makes of a link today."""
    scenario, notes = from_query(link, ignore=PAGE_KEYS)
    try:
        figures: list[Any] | str = list(map(_short, figures_of(scenario)))
    except ScenarioError as error:
        figures = str(error)
    return Recorded(link, to_query(scenario), notes, figures, list(map(_short, moves_of(scenario))))


def figures_of(scenario: Scenario) -> list[Any]:
    """Return the figures of a scenario with few requests, in the order of `FIGURES`."""
    small = scenario.replace(requests=min(scenario.requests, MOST_REQUESTS))
    found = run(small)
    price, point = found.priced.price, point_of(found)
    steps_s = [
        sum(step_parts(price, *step).values()) for step in ((min(32, small.max_batch), 1000), (0, 0, 512))
    ]
    elapsed_s = float(found.finished_s[~found.rejected].max())
    return [*steps_s, price.kv_blocks, elapsed_s, int(found.rejected.sum()), *(point[name] for name in POINT)]


def moves_of(scenario: Scenario) -> list[float]:
    """Return what strategies make of changing traffic where workers move as a scenario says."""
    keys = {key: value for key, value in scenario.changed().items() if FIELDS[key].group in MOVING}
    if not keys:
        return []
    study = Study(ready_scenario("shift-too-fast").build().replace(demand_hours=0.2, **keys))
    found = map(study.outcome, STRATEGIES)
    return [value for one in found for value in (len(one.decisions), len(one.moves), one.served, one.away_s)]


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def differences(recorded: Recorded, found: Recorded) -> list[str]:
    """Return what is not as it was recorded, a line each."""
    lines = [
        f"{name} is {now!r}, was {was!r}"
        for name, was, now in zip(("reads", "notes"), recorded[1:3], found[1:3], strict=True)
        if was != now
    ]
    moves = [f"{strategy}: {name}" for strategy in STRATEGIES for name in MOVES]
    lines += _differing(FIGURES, recorded.figures, found.figures)
    return lines + _differing(moves, recorded.moves, found.moves)


def _differing(names: Sequence[str], were: list[Any] | str, are: list[Any] | str) -> list[str]:
    if isinstance(were, str) or isinstance(are, str) or len(were) != len(are):
        return [] if were == are else [f"figures are {are!r}, were {were!r}"]
    pairs = zip(names, were, are, strict=False)
    return [f"{name} is {now!r}, was {was!r}" for name, was, now in pairs if not _same(was, now)]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (str, bool)):
        return one == other
    return math.isclose(one, other, rel_tol=TOLERANCE) or (math.isnan(one) and math.isnan(other))


# --- links ----------------------------------------------------------------------------------------


def wanted() -> list[tuple[str, str]]:
    """Return every key with every value that some link must have; with "" where any will do."""
    ids = {"preset": "scenarios", "model": "models", "accelerator": "accelerators"}
    found = [(key, name) for key, kind in ids.items() for name in preset_ids(kind)]
    for key, info in FIELDS.items():
        if key not in ids:
            found += [(key, value) for value in TEXTS.get(key) or info.choices or ("",)]
    return found


def missing(links: Iterable[str]) -> list[tuple[str, str]]:
    """Return what is wanted and stands in no link."""
    there = {
        (key, value) for link in links for key, _, value in (part.partition("=") for part in link.split("&"))
    }
    there |= {(key, "") for key, _ in there}
    return [pair for pair in wanted() if pair not in there]


def links_of(known: Iterable[str]) -> list[str]:
    """Return the known links, and as many more as it takes to have everything that is wanted."""
    links = list(known) or list(_of_the_readme())
    links += [f"preset={name}" for key, name in missing(links) if key == "preset"]
    count = sum(not link.startswith("preset=") for link in links)
    while count < LINKS or missing(links):
        links.append(drawn(random.Random(f"{SEED} {count}"), missing(links)))
        count += 1
    return links


def _of_the_readme() -> Iterator[str]:
    """Yield the scenarios of the commands that the README shows."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in re.findall(
        r"^\$ python -m sim_core (?:run|frontier|capacity|shift) (.*)$", text, re.MULTILINE
    ):
        source, *rest = shlex.split(command)
        changes = [word for word in rest if "=" in word and "," not in word]
        yield "&".join([source if "=" in source else f"preset={source}", *changes])


def drawn(chance: random.Random, lacking: list[tuple[str, str]]) -> str:
    """Return a random link that has some of what is lacking, and perhaps a mistake."""
    values = dict(chance.sample(lacking, min(3, len(lacking))))
    for key in chance.sample(USUAL, chance.randint(1, 5)):
        values.setdefault(key, "")
    values = {key: value or any_value(chance, key) for key, value in values.items()}
    if values.get("arrivals") == "trace":
        values.setdefault("request_list", chance.choice(TEXTS["request_list"]))
    if "request_list" in values:
        values["arrivals"] = "trace"
    mistaken = chance.random() < MISTAKEN_FRAC
    values |= {} if mistaken else _that_fits(values)
    link = "&".join(f"{key}={value}" for key, value in values.items())
    return f"{link}&{_mistake(chance, values)}" if mistaken else link


def any_value(chance: random.Random, key: str) -> str:
    """Return a value that a key may well have."""
    info = FIELDS[key]
    kinds = {"model": "models", "accelerator": "accelerators"}
    choices = preset_ids(kinds[key]) if key in kinds else TEXTS.get(key) or info.choices
    if choices:
        return chance.choice(choices)
    usual = TYPICAL.get(key, DEFAULTS[key]) or min(info.high, 1.0)
    value = min(max(usual * 2.0 ** chance.randint(-2, 2), info.low), info.high)
    return f"{value:.3g}" if info.kind is float else str(round(value))


def _that_fits(values: dict[str, str]) -> dict[str, str]:
    """Return the fewest devices that hold the model, so that most links can run; none where none do."""
    for devices in (values.get("tensor_parallel", "1"), "2", "4", "8", "16"):
        more = {"tensor_parallel": devices} if devices != "1" else {}
        recorded = answer("&".join(f"{key}={value}" for key, value in (values | more).items()))
        if not isinstance(recorded.figures, str):
            return more
    return {}


def _mistake(chance: random.Random, values: dict[str, str]) -> str:
    if chance.random() < 0.5:
        return chance.choice(MISTAKES)
    return f"{chance.choice([*values, *FIELDS])}={chance.choice(WRONG)}"


# --- the file -------------------------------------------------------------------------------------


def recorded_set() -> list[Recorded]:
    """Return what is on file."""
    head, *lines = FILE.read_text(encoding="utf-8").splitlines()
    assert json.loads(head) == list(FIGURES), "the figures are others; run `python -m tests.record`"
    return [Recorded(*json.loads(line)) for line in lines]


def main() -> None:
    """Record anew, and say how many links answer otherwise than before."""
    known = recorded_set() if FILE.exists() else []
    found = [answer(link) for link in links_of(one.link for one in known)]
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in (FIGURES, *found)]
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    changed = sum(bool(differences(*pair)) for pair in zip(known, found, strict=False))
    print(f"{len(found)} links in {FILE.relative_to(ROOT)}: {changed} changed, {len(found) - len(known)} new")


if __name__ == "__main__":
    main()
