"""The Traffic shift page."""
