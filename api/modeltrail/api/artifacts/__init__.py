"""Artifacts: stores, uploads, and the verification of recorded files."""
