"""Experiments with the scheduler: waiting for a batch, preemption, interference, endings."""
