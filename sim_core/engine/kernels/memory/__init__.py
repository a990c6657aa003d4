"""What the KV cache holds: the blocks of those that run, and of prompts that may come again."""
