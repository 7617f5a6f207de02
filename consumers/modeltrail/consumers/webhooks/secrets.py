"""Encryption of the secrets that sign deliveries, before they are written to the log."""

from __future__ import annotations

import base64
import binascii
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEY_FILE = "webhook.key"
_KEY_BYTES = 32


class WebhookKeyError(Exception):
    """The key for webhook secrets cannot be used. The message says how to repair it."""


class SecretUnreadable(Exception):
    """A secret was encrypted with a key that this server does not have."""


class Secrets:
    """Encrypts and decrypts with Fernet. Thread-safe.

    The key is passed in, or created on first use in a file of the data folder that only its owner
    can read. Servers that share a log need the same key. Several keys can be given, separated by
    commas: the first encrypts, and all of them and the one in the file decrypt.
    """

    def __init__(self, folder: Path, keys: str | None = None) -> None:
        """Use the given keys, or the data folder's key.

        Raises:
            WebhookKeyError: a given key is invalid.
        """
        self._path = folder / KEY_FILE
        self._given = [key.strip() for key in (keys or "").split(",") if key.strip()]
        for key in self._given:
            _check(key, "MODELTRAIL_WEBHOOK_KEY")
        self._lock = threading.Lock()
        self._fernet: MultiFernet | None = None

    def encrypt(self, secret: str) -> str:
        """Return the encrypted secret for the log.

        Raises:
            WebhookKeyError: the key's file cannot be used.
        """
        return self._keys().encrypt(secret.encode()).decode()

    def decrypt(self, encrypted: str) -> str:
        """Return the secret.

        Raises:
            SecretUnreadable: none of this server's keys decrypts it.
            WebhookKeyError: the key's file cannot be used.
        """
        from cryptography.fernet import InvalidToken

        try:
            return self._keys().decrypt(encrypted.encode()).decode()
        except (InvalidToken, ValueError):
            raise SecretUnreadable(
                "its secret was encrypted with a key that this server does not have: start the "
                "server with that key in MODELTRAIL_WEBHOOK_KEY, or give the webhook a new secret"
            ) from None

    def _keys(self) -> MultiFernet:
        # Import cryptography when needed: it takes 0.1 s.
        from cryptography.fernet import Fernet, MultiFernet

        with self._lock:
            if self._fernet is None:
                keys = list(self._given)
                if not keys or self._path.exists():
                    keys.append(self._from_file(Fernet.generate_key))
                self._fernet = MultiFernet([Fernet(key) for key in keys])
            return self._fernet

    def _from_file(self, generate: Callable[[], bytes]) -> str:
        try:
            with suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(self._path, flags, 0o600), "wb") as file:
                    file.write(generate())
                    file.flush()
                    os.fsync(file.fileno())
            key = self._path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise WebhookKeyError(f"{self._path} cannot be used: {error}") from None
        _check(key, str(self._path))
        return key


def _check(key: str, where: str) -> None:
    try:
        good = len(base64.b64decode(key, altchars=b"-_", validate=True)) == _KEY_BYTES
    except (ValueError, binascii.Error):
        good = False
    if not good:
        raise WebhookKeyError(
            f"{where} holds no key: it takes {_KEY_BYTES} random bytes in base64, as this makes: "
            'python -c "from cryptography.fernet import Fernet; '
            'print(Fernet.generate_key().decode())"'
        )
