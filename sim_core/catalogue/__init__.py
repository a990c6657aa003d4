"""What is known: accelerators, models, workloads, benchmarks, calibrations, lessons; each with its source."""

from sim_core.catalogue.accelerators import Accelerator, accelerator, accelerators
from sim_core.catalogue.benchmarks import (
    Benchmark,
    Check,
    CheckedSystem,
    LatencyLimit,
    PublishedSpread,
    benchmark,
    benchmarks,
    latency_limits,
    published,
    published_check,
)
from sim_core.catalogue.engines import ServingEngine, engine, engines, key_effects
from sim_core.catalogue.lessons import Lesson, LessonStep, glossary, lesson, lessons
from sim_core.catalogue.models import Model, model, models
from sim_core.catalogue.reader import listed_by, preset_ids
from sim_core.catalogue.workloads import WorkloadPreset, workload, workloads

__all__ = [
    "Accelerator",
    "Benchmark",
    "Check",
    "CheckedSystem",
    "LatencyLimit",
    "Lesson",
    "LessonStep",
    "Model",
    "PublishedSpread",
    "ServingEngine",
    "WorkloadPreset",
    "accelerator",
    "accelerators",
    "benchmark",
    "benchmarks",
    "engine",
    "engines",
    "glossary",
    "key_effects",
    "latency_limits",
    "lesson",
    "lessons",
    "listed_by",
    "model",
    "models",
    "preset_ids",
    "published",
    "published_check",
    "workload",
    "workloads",
]
