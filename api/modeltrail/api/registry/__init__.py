"""The registry: commands and their evidence, its current state, and its earlier states."""
