"""Projections: each turns events into tables."""
