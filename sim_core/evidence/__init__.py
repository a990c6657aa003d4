"""How far to trust a prediction: published measurements, errors, badges and bands."""
