"""Reports of further tools: one module for a tool or for two of one family."""
