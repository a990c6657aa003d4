"""Many points in one call, and what their requests say."""
