"""The timelines of requests under each policy: drawing, metrics beside it, late tokens, playing."""
