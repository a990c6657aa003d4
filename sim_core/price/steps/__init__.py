"""Steps of given sizes: one or many, by part, what each needs, and the least time they could take."""
