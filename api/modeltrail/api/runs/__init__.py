"""Writing to runs: permissions, and what is known about runs that are written to."""
