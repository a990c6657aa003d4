"""What is asked: the scenario, and the small languages of its texts."""
