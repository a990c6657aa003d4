"""What lies around a plan: other rates and limits, the hours of a day, maps of who wins where."""
