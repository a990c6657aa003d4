"""Pieces of pages: controls, charts, badges, things to take away."""
