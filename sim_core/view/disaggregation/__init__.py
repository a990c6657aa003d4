"""The Disaggregation page."""
