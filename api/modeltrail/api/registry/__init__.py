"""The registry: what commands need, what they rest on, and what holds now or held then."""
