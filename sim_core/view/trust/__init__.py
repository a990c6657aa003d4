"""The pages of trust: Validation, Calibrate, Method."""
