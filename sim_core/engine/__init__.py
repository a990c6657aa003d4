"""How it runs: requests through the batching engine, on one pool of devices or on two."""

import os

# Numba reads it when it is imported. The inlining that the kernels ask for does the work of the highest
# level, which takes a fifth longer to compile and runs no faster (`python -m benchmarks.speed`).
os.environ.setdefault("NUMBA_OPT", "1")
