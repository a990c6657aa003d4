"""Many scenarios at once: sweeps, the frontier, saturation, capacity."""
