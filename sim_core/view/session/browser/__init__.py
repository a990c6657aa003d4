"""Small parts that live in the browser: values that are typed, and the line of a first visit."""
