"""What is sent: requests drawn from a seed, replayed from a trace, or changing over time."""
