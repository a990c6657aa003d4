"""What is known: accelerators, models, workloads, benchmarks, calibrations, lessons; each with its source."""
