"""The native routes, under /api/v1, and those of operation."""
