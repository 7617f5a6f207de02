"""The API and the command line."""
