"""Views of the Atlas page: a large table of simulations as a map."""
