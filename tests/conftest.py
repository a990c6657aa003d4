"""Hypothesis profiles: quick and repeatable by default, deep with `--hypothesis-profile=slow`."""

from hypothesis import HealthCheck, settings

# The first example compiles the kernels, which no deadline would forgive.
COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}

settings.register_profile("quick", max_examples=150, derandomize=True, database=None, **COMMON)
settings.register_profile("slow", max_examples=5000, print_blob=True, **COMMON)
settings.load_profile("quick")
