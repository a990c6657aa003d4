"""The keys that pages add to a link: how, not what, is shown."""

from __future__ import annotations

VIEW_KEYS = frozenset(  # what pages add to a link: how, not what, is shown
    (
        *("against", "among", "answers", "at_batch", "at_context", "axes", "batching", "bench", "calfrom"),
        *(
            "calmetric",
            "calview",
            "compare",
            "devices",
            "extent",
            "fine",
            "from_s",
            "lesson",
            "level",
            "over",
        ),
        *("phases", "pool_load", "pools", "rows", "rules", "setup", "shift", "show", "shown", "span_s"),
        *("sense", "split", "step", "strategy", "target_rate", "target_user", "tuned", "valcolour"),
        *("valengine", "valfamily", "valkind", "valmetric", "valpart", "valview", "vary", "versus"),
        *("room", "host", "me"),  # of the Room page alone, never in a shared link
    )
)
