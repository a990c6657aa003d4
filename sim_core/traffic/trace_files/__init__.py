"""Traces in files: what is read of them in each format, and what must be said of it."""
