"""A visitor's session: the scenario, the address bar, the frame of the window, what has been simulated."""
