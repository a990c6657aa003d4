"""Sweeps of any size: a product of values, run in chunks by many workers, kept on disk, and resumed."""
