"""Figures and words that pages share: pure functions."""
