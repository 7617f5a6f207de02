"""Tokens: who may talk to the server. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from pathlib import Path
from typing import NamedTuple

_PREFIX = "mt_"


class Actor(NamedTuple):
    """Who asks."""

    name: str
    verified: bool
    """True where a token proved the name; false where it is the client's own claim."""


class TokensError(Exception):
    """The tokens file cannot be used; the message says how to repair it."""


class Tokens:
    """The tokens of a file; a changed file counts from the next request on.

    The file is JSON: a name to the SHA-256 of its token, hexadecimal. A token carries 256 random
    bits, so a plain hash of it cannot be searched, and needs no slow password hash.
    """

    def __init__(self, file: Path) -> None:
        """Read the file; raises ``TokensError``."""
        self.file = file
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._names: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        try:
            stat = self.file.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return
            entries = json.loads(self.file.read_text(encoding="utf-8"))
            self._names = {str(digest): str(name) for name, digest in entries.items()}
            self._stamp = stamp
        except FileNotFoundError:
            raise TokensError(
                f"there is no tokens file {self.file}; make a first token with: "
                f"modeltrail token NAME --tokens {self.file}"
            ) from None
        except (OSError, ValueError, AttributeError) as error:
            raise TokensError(f"cannot read the tokens file {self.file}: {error}") from None

    def actor(self, token: str) -> Actor | None:
        """Who holds this token; None if nobody does."""
        digest = _digest(token)
        with self._lock:
            self._read()
            for known, name in self._names.items():
                if hmac.compare_digest(known, digest):
                    return Actor(name, True)
        return None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def make_token(file: Path, name: str) -> str:
    """Make a token for a name, in place of the one that it had; returns it, for the last time.

    Raises:
        TokensError: the file cannot be read or written.
    """
    entries: dict[str, str] = {}
    try:
        if file.exists():
            entries = dict(json.loads(file.read_text(encoding="utf-8")))
        token = _PREFIX + secrets.token_urlsafe(32)
        entries[name] = _digest(token)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(entries, out, indent=2)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, file)
    except (OSError, ValueError) as error:
        raise TokensError(f"cannot write the tokens file {file}: {error}") from None
    return token
