"""The settings of pages: how, not what, is shown. One list, which links, controls and tests are made from.

A link carries them beside the scenario's keys. What reads a scenario passes them over; the session reads
them (`sim_core/view/session/state.py`), and the controls take their names and choices from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sim_core.catalogue.reader import preset_ids, with_measurements
from sim_core.fields.described import described, fields_of
from sim_core.fields.field import FieldInfo


def _on(*pages: str) -> Callable[..., Any]:
    """Return the maker of the settings of some pages: each with its default, and what its control is called.

    `choices` are named where their names are nobody else's; `help` is what the control says when pointed at.
    """
    return lambda default, label="", help="", **about: described(
        help, default, group=", ".join(pages), label=label, **about
    )


_frontier, _phases, _batching, _calibrate = map(_on, ("Frontier", "Two phases", "Batching", "Calibrate"))
_benchmarks, _pools, _shift, _compare = map(
    _on, ("MLPerf-like", "Disaggregation", "Traffic shift", "Compare")
)
_lessons, _validation, _method = map(_on, ("Lessons", "Validation", "Method"))
_PLAN_SIDES = {
    "rate": "Request rate",
    "ttft": "Limit on TTFT",
    "tpot": "Limit on TPOT",
    "prompt": "Prompt length",
    "output": "Answer length",
    "price": "Price of the present one",
    "bandwidth": "Bandwidth of the present one",
}
_one_step = _on("Two phases", "Batching")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """Every setting of a page with its default, in the order of the address bar."""

    at_batch: int = _one_step(32, low=1, high=16_384)
    at_context: int = _one_step(0, unit="tokens", low=0, high=1_000_000)  # 0: the scenario's own mean
    shown: int = _batching(24, "Requests shown", low=1, high=60)
    from_s: float = _batching(0.0, "Look from", low=0.0, high=1e9)
    span_s: float = _batching(0.0, low=0.0, high=1e9)  # 0: as much as fits the picture
    devices: int = _benchmarks(8, "Devices", "All of them serve this model.", low=1, high=64)
    pool_load: float = _pools(
        0.8,
        "Load",
        "Request rate, as a share of the rate at which one pool of the same devices saturates.",
        low=0.05,
        high=1.5,
    )
    step: int = _lessons(1, low=1, high=20)
    layout_devices: int = _on("Layouts")(8, "Devices", "All of them serve this model.", low=1, high=1024)
    # 0: the limit on TPOT
    target_user: float = _on("Frontier", "Compare", "Layouts")(
        0.0, "For each user, at least", unit="tok/s", low=0.0, high=1e6
    )
    # 0: half as much again as today
    target_rate: float = _compare(0.0, "Per accelerator, at least", unit="tok/s", low=0.0, high=1e7)

    atlas_metric: str = _on("Atlas")(
        "usd",
        "Best",
        choices={"device": "per accelerator", "usd": "per dollar", "watt": "per watt"},
    )
    # 0: by its phases
    plan_start_s: float = _on("Plan")(
        0.0, "Start-up time", "From its order until it serves.", unit="s", low=0.0, high=86_400.0
    )
    plan_most: int = _on("Plan")(0, "Devices, at most", low=0, high=65_536)  # 0: any number
    plan_growth: float = _on("Plan")(
        0.0, "Growth", "By what share the request rate will grow.", low=0.0, high=100.0
    )
    plan_margin: float = _on("Plan")(
        0.0, "Safety margin", "What it shall serve beyond the grown rate.", low=0.0, high=100.0
    )
    plan_spare: int = _on("Plan")(
        0,
        "Spare engines",
        "Beyond those that the rate needs, in case one fails: n + 1. Of two pools, workers of each.",
        low=0,
        high=16,
    )

    vary: str = _frontier(
        "tensor_parallel",
        "Curves by",
        choices=(
            *("tensor_parallel", "policy", "weight_dtype", "accelerator", "max_batch", "spec_tokens"),
            "layout",
        ),
    )
    plan_by: str = _on("Plan")(
        "usd_per_hour",
        "Best by",
        choices={
            "usd_per_hour": "USD per hour",
            "devices": "devices",
            "usd_per_mtok": "USD per Mtok",
            "joule_per_tok": "joule per token",
        },
    )
    plan_rank: str = _on("Plan")(
        "plain",
        "Ranking",
        choices={
            "plain": "As predicted",
            "trusted": "Validated first",
            "pessimistic": "At the band's slow end",
        },
    )
    plan_parts: str = _on("Plan")(
        "all",
        "Accelerators",
        choices={"all": "All with a price", "chosen": "Chosen ones", "mine": "The present one"},
    )
    plan_traffic: str = _on("Plan")(
        "set",
        "Requests",
        "As the sidebar says, or a file of yours, scaled to the request rate.",
        choices={"set": "As set", "trace": "A trace"},
    )
    plan_pools: str = _on("Plan")("off", "Two pools, too", choices=("off", "on"))
    plan_precision: str = _on("Plan")(
        "off", "Any precision", "Narrow formats are quicker, and not free in quality.", choices=("off", "on")
    )
    plan_around: str = _on("Plan")(
        "none",
        "Around the first row",
        choices={
            "none": "The ranking alone",
            "rate": "Devices over the rate",
            "limit": "Cost over the limit",
            "regret": "If it comes otherwise",
            "day": "Over the day",
            "map": "Which wins where",
            "examples": "Published answers",
        },
    )
    plan_across: str = _on("Plan")("rate", "Across", choices=_PLAN_SIDES)
    plan_down: str = _on("Plan")("tpot", "Down", choices=_PLAN_SIDES)
    plan_start: str = _on("Plan")(
        "node",
        "A replica starts",
        choices={
            "node": "on a new node, weights from storage",
            "disk": "from its local disk",
            "memory": "from host memory",
        },
    )
    show: str = _frontier(
        "frontier", "Show", choices={"frontier": "Frontier", "load": "Load curve", "table": "Table"}
    )
    within: str = _frontier("off", "Within limits only", choices=("off", "on"))
    axes: str = _on("Frontier", "Compare", "Layouts")("linear", choices=("linear", "log-x", "log-y", "log"))
    across: str = _frontier(
        "user",
        "Across",
        choices={
            "user": "tok/s/user",
            "ttft": "TTFT p50",
            "ttft_p99": "TTFT p99",
            "e2e": "E2E p50",
            "e2e_p99": "E2E p99",
        },
    )
    up: str = _frontier(
        "device",
        "Upwards",
        choices={
            "device": "tok/s per accelerator",
            "usd": "tokens per USD",
            "watt": "tok/s per watt",
            "mw": "tok/s per MW",
        },
    )
    fine: str = _frontier("on", choices=("on", "off"))
    phases: str = _phases(
        "roofline",
        "Show",
        choices={
            "roofline": "Roofline",
            "step": "One step",
            "specs": "More FLOPs or bandwidth?",
            "kv": "KV cache",
            "floor": "The floor",
            "speculation": "Does speculation pay?",
        },
    )
    split: str = _phases("off", "weights and attention apart", choices=("off", "on"))
    batching: str = _batching(
        "timeline",
        "Show",
        choices={
            "timeline": "Timeline",
            "wait": "Waiting for a batch",
            "preemption": "Out of KV cache",
            "interference": "Interference",
            "endings": "Irregular endings",
            "engines": "Engines",
            "caching": "Prefix cache",
        },
    )
    rows: str = _batching("slots", "Rows", choices={"slots": "by slot", "requests": "by request"})
    extent: str = _batching("first", "How much", choices={"first": "First requests", "run": "Whole run"})
    bench: str = _benchmarks(
        "llama2-70b", "Benchmark", choices=tuple(dict.fromkeys(("llama2-70b", *preset_ids("benchmarks"))))
    )
    rules: str = _benchmarks(
        "limits",
        "Show",
        choices={
            "limits": "What a limit costs",
            "bars": "Offline to Interactive",
            "points": "Operating points",
            "published": "Published results",
            "rounds": "Over the rounds",
        },
    )
    against: str = _benchmarks("tpot", "Against", choices={"tpot": "TPOT limit", "ttft": "TTFT limit"})
    setup: str = _benchmarks("best", "Setup", choices={"best": "Best found", "own": "My setting"})
    tuned: str = _benchmarks(
        "on",
        "Tuned as for a submission",
        "On: step times of an engine tuned for one benchmark (calibration `submission`). "
        "Off: the scenario's own calibration, by default that of open-source engines.",
        choices=("on", "off"),
    )
    calview: str = _calibrate(
        "points",
        "Show",
        choices={
            "points": "Before and after",
            "constants": "Constants",
            "steps": "Steps",
            "table": "All points",
        },
    )
    calmetric: str = _calibrate(
        "tpot_ms", "Metric", choices=("tpot_ms", "ttft_ms", "itl_ms", "e2e_ms", "output_tok_per_s")
    )
    calfrom: str = _calibrate(
        "auto",
        "Fit to",
        choices={"auto": "What there is", "points": "Operating points", "steps": "Measured steps"},
    )
    compare: str = _compare(
        "sides",
        "Show",
        choices={
            "sides": "A or B?",
            "design": "Design an accelerator",
            "sensitivity": "What matters most?",
        },
    )
    sense: str = _compare(
        "throughput",
        "Figure",
        choices={
            "throughput": "Throughput within the limits",
            "ttft": "TTFT p99",
            "tpot": "TPOT p99",
            "usd": "Cost",
            "joule": "Energy",
        },
    )
    pools: str = _pools(
        "ratio",
        "Show",
        choices={
            "ratio": "The ratio",
            "stages": "One pool or two",
            "pays": "When it pays",
            "link": "The KV link",
        },
    )
    over: str = _pools("lengths", "Map over", choices={"lengths": "Over lengths", "limits": "Over limits"})
    shift: str = _shift(
        "time",
        "Show",
        choices={"time": "Over time", "strategies": "All strategies", "pays": "When adapting pays"},
    )
    lesson: str = _lessons("", choices=("", *preset_ids("lessons")))  # empty: the list of all
    level: str = _lessons("newcomer", "Level", choices={"newcomer": "Newcomer", "engineer": "Engineer"})
    strategy: str = _shift(
        "reactive",
        "Strategy",
        choices=("reactive", "fixed", "hindsight", "predictive", "oracle", "free", "one_pool"),
    )
    valview: str = _validation(
        "points",
        "Show",
        choices={
            "points": "Predicted against measured",
            "errors": "Errors by group",
            "worst": "Worst cases",
            "rows": "All points",
        },
    )
    valmetric: str = _validation("tpot", "Metric", choices=("tpot", "ttft", "throughput"))
    valcolour: str = _validation(
        "family", "Colour", choices={"family": "Family", "accelerator": "Part", "engine": "Engine"}
    )
    valkind: str = _validation(
        "closed",
        "Kind of run",
        choices={
            "closed": "Closed loop",
            "burst": "One burst of clients",
            "batch": "One batch (2024 engines)",
            "offline": "Everything at once",
            "prefill": "A single prefill",
            "server": "Open loop (MLPerf entries)",
            "split": "Disaggregated",
            "ranks": "Ranks of attention",
            "every": "All kinds",
        },
    )
    valfamily: str = _validation(
        "all",
        "Model family",
        choices={
            "all": "All models",
            "dense": "Dense",
            "moe": "Mixture of experts",
            "mla": "MLA with experts",
        },
    )
    valengine: str = _validation(
        "all",
        "Engine",
        choices={
            "all": "All engines",
            "tensorrt-llm": "TensorRT-LLM",
            "vllm": "vLLM",
            "sglang": "SGLang",
            "mlperf": "MLPerf entry",
        },
    )
    valpart: str = _validation("all", "Accelerator", choices=("all", *with_measurements("accelerator")))

    method: str = _method(
        "definitions",
        "Section",
        choices={
            "definitions": "Definitions",
            "cost": "Cost of a step",
            "scheduler": "Scheduler",
            "speculation": "Speculation",
            "layouts": "Layouts",
            "plans": "Plans",
            "pools": "Two pools",
            "shifts": "Traffic that shifts",
            "comparing": "Comparing",
            "timelines": "Timelines",
            "engine": "Your own engine",
            "teaching": "Lessons and rooms",
            "controls": "Controls",
            "presets": "Presets",
            "limits": "Limits",
        },
    )

    columns: str = _frontier("")  # of the table, comma-separated; empty: the usual ones
    among: str = _on("Frontier", "Plan")("")  # accelerators that are compared, comma-separated
    plan_models: str = _on("Plan")("", "Other models, too")  # beside the present one, comma-separated
    plan_day: str = _on("Plan")("", "Rates over the day")  # empty: a wave that rises to the rate
    answers: str = _lessons("")  # of the learner
    versus: str = _compare("")  # frozen scenarios, their queries separated by bars
    point: str = _frontier("")  # the point of the chart that is looked at: its curve, "@", its place on it
    pins: str = _frontier("")  # pinned points: the queries of their scenarios, separated by bars


SETTINGS: Mapping[str, FieldInfo] = fields_of(PageSettings)
PAGE_DEFAULTS: Mapping[str, str | int | float] = MappingProxyType(dataclasses.asdict(PageSettings()))
ROOM_KEYS = frozenset({"room", "host", "me"})  # read by the Room page alone, and in no link that it shares
PAGE_KEYS = ROOM_KEYS | SETTINGS.keys()


def choice_names(key: str) -> dict[str, str]:
    """Return the choices of a setting, and what people call them."""
    info = SETTINGS[key]
    return dict(zip(info.choices, info.choice_labels, strict=True))
