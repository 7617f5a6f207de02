"""Deliver the registry's events to webhooks."""
