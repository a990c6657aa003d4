"""A scenario as text: links read leniently, files and commands strictly, and back."""
