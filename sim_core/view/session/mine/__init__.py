"""What a visitor keeps in their own browser, and what a team offers to all."""
