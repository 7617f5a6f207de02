"""Who acts, and tokens that prove it. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

TOKEN_PREFIX = "mt_"
"""How every token begins, so that it is known where it turns up: in a password, or in a leak."""


class Actor(NamedTuple):
    """Who asks."""

    name: str
    verified: bool
    """True where a password or token proved the name; false where it is the client's own claim."""


def new_token() -> str:
    """A new token.

    It carries 256 random bits, so a plain hash of it cannot be searched, and needs no slow one.
    """
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """SHA-256 of a token, hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
