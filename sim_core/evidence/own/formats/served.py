"""Which engine served what a file holds, as far as the file says.

Three kinds of words, the surest first: keys that name the engine, and metrics of its own; keys that say how
the tool talked to it (`backend`), which may be an API that many engines speak; and the tool itself, where it
is an engine's own benchmark. A kind that names two engines says nothing, and neither do those below it.

References
----------
vllm-project/vllm, vllm/benchmarks/lib/endpoint_request_func.py (`ASYNC_REQUEST_FUNCS`, the backends).
sgl-project/sglang, python/sglang/bench_serving.py (the same, and `server_info`).
sgl-project/genai-bench, genai_bench/protocol.py (`server_engine`).
llm-d/llm-d-benchmark, benchmark_report/schema_v0_1.py (`platform.engine`) and schema_v0_2.py (`tool`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from sim_core.evidence.own.formats.points import Content, Format

OWN_BENCHMARK = "its own benchmark"
OTHER = "another"  # engine than those known
NAMES = (
    ("tensorrt-llm", re.compile(r"tensorrt[-_ ]?llm|trt[-_ ]?llm|(?<![a-z])trt(?![a-z])", re.IGNORECASE)),
    ("sglang", re.compile(r"sglang|(?<![a-z])sgl(?![a-z])", re.IGNORECASE)),
    ("vllm", re.compile(r"vllm", re.IGNORECASE)),
    (OTHER, re.compile(r"\btgi\b|lmdeploy|deepspeed|scalellm|llama[._-]?cpp|ollama|\bmlc\b|\batom\b", re.I)),
)
# How their metrics' names begin.
METRIC = re.compile(r"(vllm|sglang|trtllm|tensorrt_?llm)[:_][a-z]", re.ASCII)
NAME = re.compile(r"(vllm|sglang|tensorrt[-_ ]?llm|trt[-_]?llm)(:\w*)?", re.IGNORECASE)
SURE = frozenset(
    f"{which}{what}"
    for which in ("", "serving_", "inference_", "llm_", "server_", "model_")
    for what in ("engine", "engine_name", "engine_type", "framework", "framework_name", "runtime", "server")
) | {"served_by", "owned_by", "image", "container_image", "server_type", "sut name", "server_software"}
TOLD = frozenset({"backend", "backend_type", "endpoint_type", "api_type", "api_backend"})
# Of many things: only a value that is a name counts.
WHOLE = frozenset({"name", "tool", "type", "kind", "type_"})
LINE = re.compile(r"^[\s#-]*([A-Za-z_ ]{3,20}?)\s*[:=]\s*(\S[^\n]{0,200})$", re.MULTILINE)
MOST_VALUES = 100_000
MOST_TEXT = 500_000


class Served(NamedTuple):
    """An engine's id, empty where the file does not say, and by which word it does."""

    engine: str = ""
    word: str = ""
    several: tuple[str, ...] = ()


def engine_in(text: str) -> str:
    """Return the engine that a text names, `OTHER` for one that is not known here; empty for none or several.

    Examples
    --------
    >>> engine_in("vllm/vllm-openai:v0.11.0"), engine_in("dynamo-trt"), engine_in("tgi"), engine_in("openai")
    ('vllm', 'tensorrt-llm', 'another', '')
    """
    found = [name for name, pattern in NAMES if pattern.search(text)]
    return found[0] if len(found) == 1 else ""


def served(content: Content, form: Format) -> Served:
    """Return which engine served what a file of a known format holds."""
    sure: dict[str, str] = {}
    told: dict[str, str] = {}
    for key, value in _words(content):
        kind = sure if key in SURE else told if key in TOLD else None
        if METRIC.match(key):
            sure.setdefault(engine_in(key.replace("_", "-")), key)
        elif kind is not None and (name := engine_in(value)):
            kind.setdefault(name, f"{key}: {value[:40]}")
        elif key in WHOLE and NAME.fullmatch(value.strip()):
            sure.setdefault(engine_in(value), f"{key}: {value[:40]}")
        elif key == "server_info":  # which only SGLang's tool asks for
            sure.setdefault("sglang", key)
    for found in (sure, told, {form.engine: OWN_BENCHMARK} if form.engine else {}):
        if len(found) > 1:
            return Served(several=tuple(sorted(found)))
        for name, word in found.items():
            return Served() if name == OTHER else Served(name, word)
    return Served()


def _words(content: Content) -> Iterator[tuple[str, str]]:
    """Yield keys, in small letters, with their values as far as these are text, wherever they stand."""
    if not content.entries:
        for key, value in LINE.findall(content.text[:MOST_TEXT]):
            yield key.strip().lower(), value.strip(" '\"")
        return
    left: list[object] = [content.entries]
    for _ in range(MOST_VALUES):
        if not left:
            return
        here = left.pop()
        if isinstance(here, list):
            left += [item for item in reversed(here[:MOST_VALUES]) if isinstance(item, (dict, list))]
        elif isinstance(here, dict):
            for key, value in here.items():
                yield str(key).lower(), value if isinstance(value, str) else ""
            left += [value for value in here.values() if isinstance(value, (dict, list))]
