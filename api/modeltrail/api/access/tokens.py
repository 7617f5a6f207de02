"""Tokens, which prove who acts. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import secrets

TOKEN_PREFIX = "mt_"
"""How every token begins, so that it is known where it turns up: in a password, or in a leak."""


def new_token() -> str:
    """A new token.

    It carries 256 random bits, so a plain hash of it cannot be searched, and needs no slow one.
    """
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """SHA-256 of a token, hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
