"""Which accelerators, how many, laid out how: layouts of a model, and deployments for a rate, ranked."""
