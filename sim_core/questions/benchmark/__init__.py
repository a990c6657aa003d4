"""What a benchmark asks: its rules, and the systems that would do best under them."""
