"""The fold: from the log to DuckDB."""
