"""Writing to runs: who may, and what is known of runs that are written to."""
