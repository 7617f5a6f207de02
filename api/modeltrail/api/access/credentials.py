"""Passwords: hashed slowly, verified in constant time, remembered for a while, and not guessed."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from modeltrail.api.errors import InvalidRequest, TooBusy

if TYPE_CHECKING:
    from argon2 import PasswordHasher

K = TypeVar("K")
V = TypeVar("V")

PASSWORD_CHARACTERS_MIN = 12
PASSWORD_CHARACTERS_MAX = 1024
FAILURES_MAX = 10
"""Wrong passwords for one user from one address within ``FAILURES_S``."""
FAILURES_S = 60.0

_REMEMBERED_MAX = 1024
_REMEMBERED_S = 600.0
_COUNTED_MAX = 10_000
_AT_ONCE = 2
_WAIT_S = 5.0


class Presented(NamedTuple):
    """What a client sent to prove who it is."""

    user: str | None
    """None for a bearer token."""
    secret: str


def presented(authorization: str | None) -> Presented | None:
    """What a header ``Authorization`` presents; None for none, or one that is no use here."""
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
    # Imported when a password is first seen: a start should not pay for it.
    from argon2 import PasswordHasher

    return PasswordHasher()  # the library's choice of cost, which it keeps up to date


@cache
def _nobodys_hash() -> str:
    return _hasher().hash(secrets.token_hex(16))


def hash_password(password: str) -> str:
    """The Argon2 hash of a new password; raises ``InvalidRequest`` for one that is too short."""
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise InvalidRequest(f"Password must be at least {PASSWORD_CHARACTERS_MIN} characters.")
    if len(password) > PASSWORD_CHARACTERS_MAX:
        raise InvalidRequest(f"Password must be at most {PASSWORD_CHARACTERS_MAX} characters.")
    return _hasher().hash(password)


def _verify(hash: str | None, password: str) -> bool:
    from argon2.exceptions import Argon2Error, InvalidHash

    try:
        # For an unknown user as well, so that the time does not tell who is known.
        right = _hasher().verify(hash or _nobodys_hash(), password)
    except (Argon2Error, InvalidHash):
        return False
    return right and hash is not None


class Passwords:
    """Verifies passwords.

    A right one is remembered for some minutes, as long as it is the user's: to verify takes 50 ms
    and 64 MiB by design. After too many wrong ones for a user from an address, further ones are
    refused for a while without a look.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Remember none; ``clock`` gives seconds."""
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()
        self._gate = threading.BoundedSemaphore(_AT_ONCE)

    def verify(self, user: str, password: str, hash: str | None, address: str) -> bool:
        """Whether it is the user's password.

        Args:
            user: The name.
            password: What was presented.
            hash: The hash of the user's password; None if there is no such user, or no password.
            address: Where the request comes from.

        Raises:
            TooBusy: after too many wrong ones, or while too many are being verified.
        """
        who = (user[:250], address)
        name = user.encode("utf-8", "surrogatepass")
        text = b"%d:%s%s" % (len(name), name, password.encode("utf-8", "surrogatepass"))
        seen = hmac.digest(self._key, text, "sha256")
        now = self._clock()
        with self._lock:
            known = self._remembered.get(seen)
            if known is not None and known[0] == hash and now < known[1]:
                return True
            count, until = self._failures.get(who, (0, 0.0))
            if now >= until:
                count = 0
        if count >= FAILURES_MAX:
            raise TooBusy(
                f"too many wrong passwords for this user; try again in {until - now:.0f} s"
            )
        if not self._gate.acquire(timeout=_WAIT_S):
            raise TooBusy("too many passwords are being verified; try again in a moment")
        try:
            right = len(password) <= PASSWORD_CHARACTERS_MAX and _verify(hash, password)
        finally:
            self._gate.release()
        with self._lock:
            if right and hash is not None:
                _put(self._remembered, seen, (hash, now + _REMEMBERED_S), _REMEMBERED_MAX)
                self._failures.pop(who, None)
            else:
                count, until = self._failures.get(who, (0, 0.0))
                if now >= until:
                    count, until = 0, now + FAILURES_S
                _put(self._failures, who, (count + 1, until), _COUNTED_MAX)
        return right


def _put(kept: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > limit:
        kept.popitem(last=False)
