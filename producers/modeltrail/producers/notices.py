"""Warnings through the logger ``modeltrail``, which never cause an error of their own."""

from __future__ import annotations

import contextlib

from modeltrail.producers.forks import fork_gate


def warn(message: str) -> None:
    """Log a warning. Called from the producers' own threads and at exit, not from log calls."""
    with fork_gate:
        import logging

    with contextlib.suppress(Exception):  # a failing handler must not end a producer's thread
        logging.getLogger("modeltrail").warning("%s", message)
