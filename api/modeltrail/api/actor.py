"""The actor of an event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from modeltrail.limits import REASON_CHARACTERS_MAX


class Actor(NamedTuple):
    """The user in whose name an event is appended."""

    name: str
    verified: bool
    """True if a password or token proved the name, false if it is the client's own claim."""


@dataclass(frozen=True)
class Asker:
    """Who asks for something, with the reason, key and client of the request."""

    actor: Actor
    reason: str | None = None
    idempotency_key: str | None = None
    """Requests of one actor with one key take effect once."""
    client: str | None = None
    """The program that asks."""

    def saying(self, reason: str | None) -> Self:
        """Return the same with this reason, if there is one, cut to the limit of the trail."""
        return replace(self, reason=reason[:REASON_CHARACTERS_MAX]) if reason else self
