"""Runs that are written to."""
