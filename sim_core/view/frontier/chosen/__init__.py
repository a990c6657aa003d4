"""The point of the chart that was chosen: what it is, why, and what can be done with it; pinned points."""
