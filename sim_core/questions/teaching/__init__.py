"""Lessons and rooms: what is asked, what is true, and what a room predicts."""
