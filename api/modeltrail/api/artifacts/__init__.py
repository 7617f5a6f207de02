"""Artifacts: the stores that keep them, uploads, and the check of what was recorded."""
