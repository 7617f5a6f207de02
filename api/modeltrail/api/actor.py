"""Who acts."""

from __future__ import annotations

from typing import NamedTuple


class Actor(NamedTuple):
    """Who asks."""

    name: str
    verified: bool
    """True where a password or token proved the name; false where it is the client's own claim."""
