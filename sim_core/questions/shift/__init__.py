"""Traffic that shifts, and workers that move between two pools."""
