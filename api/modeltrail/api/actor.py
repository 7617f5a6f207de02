"""Who acts, and who asks for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from modeltrail.schemas.limits import REASON_CHARACTERS_MAX


class Actor(NamedTuple):
    """Who asks."""

    name: str
    verified: bool
    """True where a password or token proved the name; false where it is the client's own claim."""


@dataclass(frozen=True)
class Asker:
    """Who asks for something, and what they say beside the request itself."""

    actor: Actor
    reason: str | None = None
    idempotency_key: str | None = None
    """Requests of one actor with one key take effect once."""
    client: str | None = None
    """The program that asks."""

    def saying(self, reason: str | None) -> Self:
        """The same with this reason, if there is one, cut to what the trail keeps."""
        return replace(self, reason=reason[:REASON_CHARACTERS_MAX]) if reason else self
