"""Links as nobody would write them: any page, any keys, values good, extreme or hostile, and cheap to run."""

from __future__ import annotations

import math
import random
from urllib.parse import urlencode

from sim_core import catalogue
from sim_core.fields.field import FieldInfo
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.scenario import FIELDS
from tests.places import ROOT

PAGES = sorted(path.name for path in (ROOT / "pages").glob("*.py"))
HOSTILE = (
    *(
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "1e309",
        "-0.0",
        "0x10",
        "1_000",
        "１２",
        " 64 ",
        "64\n",
        "none",
    ),
    *(
        "None",
        "true",
        "null",
        "[]",
        "{}",
        "%s%n",
        "{{7*7}}",
        "${7*7}",
        "..",
        "../../etc/passwd",
        "a\x00b",
        "\x7f",
    ),
    *(
        "\u202eabc",
        "\ufeff1",
        "e\u0301" * 50,
        "\U0001f600",
        "9" * 400,
        "a" * 5000,
        "," * 500,
        ":" * 500,
        "|" * 50,
    ),
    *(
        "![x](http://127.0.0.1:9/t.png)",
        "[x](javascript:alert(1))",
        ":red[boo]",
        "$\\frac{1}{0}$",
        "`x`",
        "# x",
    ),
    *(
        "<img src=x onerror=alert(1)>",
        "</script><script>alert(1)</script>",
        "&lt;b&gt;",
        "'; DROP TABLE rooms;--",
    ),
    *(
        "=1+1",
        "@SUM(A1)",
        "a=b&c=d",
        "?v=1",
        "custom",
        "chat:0.5,rag:0.5",
        "1e6~100/1e6~100",
        "1..1/1..1:1e-6",
    ),
)
CHEAP = {  # ranges that a page works through within a moment
    "requests": (1, 300), "prompt_tokens": (1, 4000), "output_tokens": (1, 200),
    "prefill_workers": (1, 8), "decode_workers": (1, 8), "replicas": (1, 8), "devices": (1, 16),
    "arrival_per_s": (0.05, 20), "concurrency": (1, 128), "batch_wait_ms": (0, 5000),
    "demand_hours": (0.02, 0.1), "demand_load_frac": (0.1, 1.2), "control_s": (1, 60),
    "token_budget": (64, 16_384), "max_batch": (1, 512), "hbm_gb": (1, 1000),
}  # fmt: skip
SLOW = {("shift", "pays")}  # a view that works on for a quarter of a minute, drawing by drawing
LENGTHS = ("300/50", "20..4000/1..100", "500~1.5/80~0.5", "flat", "chat", "code")
TEXTS = {
    "constants": (
        "layer:9.5",
        "weight_read:0.71,step:0.3,request_before:12",
        "layer:1e9",
        "weight_read:1e-9",
    ),
    "step_profile": ("1:15.1", "1:15.1,256:220,context:0.0003,before:1.8,blocks:79", "1:1e-6,10000000:1e7"),
    "own_model": (
        "layers:2,hidden:512,ffn_dim:1024,vocab:1000/full,layers:2,heads:8,kv_heads:2,head_dim:64",
        "layers:1000,hidden:200000,ffn_dim:1,vocab:1/full,layers:1,heads:4096,kv_heads:1,head_dim:4096",
        "layers:4,hidden:64,ffn_dim:64,vocab:9/gdn,layers:3,heads:1,key_heads:1,head_dim:1,state_dim:1/"
        "dsa,layers:1,heads:1,kv_lora:1,qk_nope:1,qk_rope:1,v_dim:1,chosen_tokens:1",
        "x/y/z",
    ),
    "request_list": ("0:1000:200x8,0.5:4000:50", "0:1:1", "0:300:1x60,9:1:400", "1e6:1:1", "999999:1:1"),
    "answers": ("01-reading-and-writing:1:5", "03-why-batching-works:2:b,x", "1:2:3:4", ";;"),
    "among": ("h100-sxm,h200", "h200,h200,tpu-v9", "cerebras-wse-3,groq-lpu-v1"),
}


def link(number: int) -> tuple[str, dict[str, str]]:
    """Return page and query of a link; the number is its seed."""
    draw = random.Random(number)
    page = PAGES[number % len(PAGES)]
    query = {"requests": str(draw.randint(1, 300)), "demand_hours": "0.05", "prompt_tokens": "500"}
    query |= {"output_tokens": "50", "arrivals": draw.choice(FIELDS["arrivals"].choices)}
    views = [key for key, info in SETTINGS.items() if page_title(page) in info.group]
    for key in draw.sample(views, draw.randint(0, len(views))):
        query[key] = value(key, SETTINGS[key], draw)
    for key in draw.sample(sorted(FIELDS), draw.choice((0, 1, 2, 3, 5, 8, 13))):
        query[key] = value(key, FIELDS[key], draw)
    if draw.random() < 0.3:
        query["preset"] = draw.choice((*catalogue.preset_ids("scenarios"), *HOSTILE))
    for key in draw.sample(
        ("room", "host", "me", "embed", "v", "x", "<b>", "![x](y)"), draw.choice((0, 0, 0, 2))
    ):
        query[key] = draw.choice((*HOSTILE, "true", "1", "QXZV"))
    return page, query


def page_title(page: str) -> str:
    return page.partition("_")[2].removesuffix(".py").replace("_", " ")


def value(key: str, info: FieldInfo, draw: random.Random) -> str:
    """Return a value of a key, one in seven hostile, the others mostly good."""
    if draw.random() < 0.15:
        return draw.choice(HOSTILE)
    if key in ("mix", "mix_other"):
        return ",".join(
            f"{draw.choice(LENGTHS)}:{draw.uniform(0.1, 2):.3g}" for _ in range(draw.randint(1, 3))
        )
    if key in ("versus", "pins"):
        other = link(draw.randrange(10**6) * len(PAGES) + PAGES.index("9_Method.py"))[1]
        return "|".join(urlencode(other) for _ in range(draw.randint(1, 4)))
    if key in TEXTS:
        return draw.choice(TEXTS[key])
    if key in ("model", "accelerator"):
        return draw.choice(catalogue.preset_ids(f"{key}s"))
    if info.choices:
        return draw.choice([choice for choice in info.choices if (key, choice) not in SLOW])
    if info.kind is bool:
        return draw.choice(("true", "false"))
    if info.kind is str:
        return draw.choice(HOSTILE)
    low, high = CHEAP.get(key, (info.low, info.high))
    return number_between(low, high, info.kind is int, draw)


def number_between(low: float, high: float, whole: bool, draw: random.Random) -> str:
    """Return a number of a range: an end of it now and then, else of any size."""
    low, high = max(low, -1e9), min(high, 1e15)
    at = draw.choice((0.0, 1.0, draw.random(), draw.random(), draw.random()))
    smallest = max(low, 1e-6 * high, 1e-9)
    found = low if at == 0 else high if at == 1 else smallest * math.exp(at * math.log(high / smallest))
    return str(round(found)) if whole else f"{found:.6g}"


def address(page: str, query: dict[str, str]) -> str:
    """Return a link as a browser writes it."""
    return f"/{page_title(page).replace(' ', '_')}?{urlencode(query)}"
