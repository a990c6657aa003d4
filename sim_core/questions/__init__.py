"""What people ask: compare, design, split, explain. One module a question."""
