"""The Layouts page: all layouts of a model on some devices at once."""
