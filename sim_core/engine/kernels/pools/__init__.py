"""Two pools: prefill workers, a link each, decode workers; and workers that move between them."""
