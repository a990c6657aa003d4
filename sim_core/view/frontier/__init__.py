"""The Frontier page."""
