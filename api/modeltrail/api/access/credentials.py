"""Passwords: slow hashes, verification in constant time, a short memory, and no guessing."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import threading
import time
from asyncio import wrap_future
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from modeltrail.api.errors import InvalidRequest, TooBusy
from modeltrail.api.gates import Gate
from modeltrail.limits import NAME_CHARACTERS_MAX

if TYPE_CHECKING:
    from argon2 import PasswordHasher

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

PASSWORD_CHARACTERS_MIN = 12
PASSWORD_CHARACTERS_MAX = 1024
FAILURES_MAX = 10
"""Maximum number of wrong passwords for one user from one address within ``FAILURES_S``."""
FAILURES_S = 60.0

_REMEMBERED_MAX = 1024
_REMEMBERED_S = 600.0
_COUNTED_MAX = 10_000
_AT_ONCE = 2
_WAITING_MAX = 256
_WAIT_S = 5.0
_NICE = 5
_CHANGES_MAX = 4


class Presented(NamedTuple):
    """The credentials that a client sent."""

    user: str | None
    """None for a bearer token."""
    secret: str


def presented(authorization: str | None) -> Presented | None:
    """Return the credentials in a header ``Authorization``, or None without usable ones."""
    scheme, _, rest = (authorization or "").strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer" and rest:
        return Presented(None, rest)
    if scheme.lower() == "basic" and rest:
        try:
            user, colon, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (ValueError, binascii.Error):
            return None
        return Presented(user, password) if colon else None
    return None


@cache
def _hasher() -> PasswordHasher:
    # Imported when a password is first seen, so that it does not delay the start.
    from argon2 import PasswordHasher

    return PasswordHasher()  # the library's default cost, which it keeps up to date


@cache
def _nobodys_hash() -> str:
    return _hasher().hash(secrets.token_hex(16))


@cache
def _workers() -> ThreadPoolExecutor:
    """Return the threads for hashes: few, because each hash takes 64 MiB, and with low priority."""

    def step_back() -> None:
        # The threads that hashing starts inherit it.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)

    return ThreadPoolExecutor(_AT_ONCE, "modeltrail-passwords", step_back)


_changes = threading.BoundedSemaphore(_CHANGES_MAX)


def _in_turn(work: Callable[..., T], *args: object) -> T:
    """Call a function in one of the threads for hashes. Raises ``TooBusy``.

    The caller's own thread waits, so only a few may.
    """
    if not _changes.acquire(blocking=False):
        raise TooBusy("too many passwords are being changed; try again in a moment")
    try:
        return _workers().submit(work, *args).result()
    finally:
        _changes.release()


def hash_password(password: str) -> str:
    """Return the Argon2 hash of a new password.

    Raises:
        InvalidRequest: it is too short or too long.
        TooBusy: too many others are being hashed.
    """
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise InvalidRequest(f"Password must be at least {PASSWORD_CHARACTERS_MIN} characters.")
    if len(password) > PASSWORD_CHARACTERS_MAX:
        raise InvalidRequest(f"Password must be at most {PASSWORD_CHARACTERS_MAX} characters.")
    return _in_turn(_hasher().hash, password)


def _verify(hash: str | None, password: str) -> bool:
    from argon2.exceptions import Argon2Error, InvalidHash

    if len(password) > PASSWORD_CHARACTERS_MAX:
        return False
    try:
        # For an unknown user as well, so that the time does not reveal which users exist.
        right = _hasher().verify(hash or _nobodys_hash(), password)
    except (Argon2Error, InvalidHash):
        return False
    return right and hash is not None


class _Asked(NamedTuple):
    """A password to verify."""

    who: tuple[str, str]
    """Name and address, for which wrong passwords are counted."""
    seen: bytes
    """A digest of name and password, which are not stored."""
    hash: str | None


class Passwords:
    """Verifies passwords.

    A correct one is remembered for some minutes while it is valid, because verification takes 50 ms
    and 64 MiB by design. After too many wrong ones for a user from an address, further ones are
    refused for a while without verification.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Make it; ``clock`` returns seconds."""
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()
        self._gate = Gate(
            _AT_ONCE, waiting_max=_WAITING_MAX, wait_s=_WAIT_S, what="sign-ins with a password"
        )

    async def verify(self, user: str, password: str, hash: str | None, address: str) -> bool:
        """Return whether it is the user's password. Waiting holds no thread.

        Args:
            user: The name.
            password: The presented password.
            hash: The hash of the user's password; None if there is no such user or password.
            address: The address that the request comes from.

        Raises:
            TooBusy: after too many wrong ones, or while too many are being verified.
        """
        asked = self._asked(user, password, hash, address)
        if self._remembers(asked):
            return True
        async with self._gate.enter():
            if self._remembers(asked):  # an earlier one in the queue may have been the same
                return True
            right = await wrap_future(_workers().submit(_verify, hash, password))
        return self._note(asked, right)

    def confirm(self, user: str, password: str, hash: str | None, address: str) -> bool:
        """Verify the password of a user who has signed in. The caller's thread waits."""
        asked = self._asked(user, password, hash, address)
        return self._remembers(asked) or self._note(asked, _in_turn(_verify, hash, password))

    def _asked(self, user: str, password: str, hash: str | None, address: str) -> _Asked:
        name = user.encode("utf-8", "surrogatepass")
        text = b"%d:%s%s" % (len(name), name, password.encode("utf-8", "surrogatepass"))
        return _Asked(
            (user[:NAME_CHARACTERS_MAX], address), hmac.digest(self._key, text, "sha256"), hash
        )

    def _remembers(self, asked: _Asked) -> bool:
        """Return whether it was recently correct. Raises ``TooBusy`` after too many wrong ones."""
        now = self._clock()
        with self._lock:
            known = self._remembered.get(asked.seen)
            if known is not None and known[0] == asked.hash and now < known[1]:
                return True
            count, until = self._failures.get(asked.who, (0, 0.0))
        if count >= FAILURES_MAX and now < until:
            left_s = ceil(until - now)
            raise TooBusy(
                f"too many wrong passwords for this user; try again in {left_s} s",
                retry_after_s=left_s,
            )
        return False

    def _note(self, asked: _Asked, right: bool) -> bool:
        now = self._clock()
        with self._lock:
            if right and asked.hash is not None:
                kept = (asked.hash, now + _REMEMBERED_S)
                _put(self._remembered, asked.seen, kept, _REMEMBERED_MAX)
                self._failures.pop(asked.who, None)
            else:
                count, until = self._failures.get(asked.who, (0, 0.0))
                if now >= until:
                    count, until = 0, now + FAILURES_S
                _put(self._failures, asked.who, (count + 1, until), _COUNTED_MAX)
        return right


def _put(kept: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > limit:
        kept.popitem(last=False)
