"""Tokens, which prove who the actor is. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import secrets

TOKEN_PREFIX = "mt_"
"""The beginning of every token, so that one is recognized, as a password or in a leak."""


def new_token() -> str:
    """Return a new token.

    It contains 256 random bits, so a plain hash cannot be searched, and no slow hash is needed.
    """
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """Return the SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
