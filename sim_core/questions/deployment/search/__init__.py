"""The search: candidates with bounds, races by runs, two pools, and why others lost."""
