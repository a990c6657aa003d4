"""The keys of a scenario, a group of related ones in each file; each class adds its own to the one before."""
