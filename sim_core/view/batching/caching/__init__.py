"""The view of the prefix cache: what it finds, who fits, what more room brings."""
