"""The Two phases page."""
