"""Webhooks: events of the log, told to those who asked."""
