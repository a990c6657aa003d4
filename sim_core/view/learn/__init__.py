"""The pages for learning: Gallery, Lessons, Room."""
