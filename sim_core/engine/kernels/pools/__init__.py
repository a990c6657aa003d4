"""Engines side by side: groups of ranks in lockstep, two pools, and workers that move between them."""
