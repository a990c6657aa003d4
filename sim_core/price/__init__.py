"""What a step costs, and why: from a scenario to a price list, by arithmetic alone."""
