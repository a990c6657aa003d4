"""The Plan page: deployments for a rate, ranked."""
