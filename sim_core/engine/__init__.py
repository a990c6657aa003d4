"""How it runs: requests through the batching engine, on one pool of devices or on two."""
