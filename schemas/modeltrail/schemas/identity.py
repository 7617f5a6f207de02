"""Ids, and the envelope of events."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from typing import Any

_CAUSES = uuid.UUID("6d6f6465-6c74-5261-a96c-2d6361757365")
DEFAULT_EXPERIMENT = "Default"


def now_ms() -> int:
    """Return the time in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def new_event_id(at_ms: int | None = None) -> bytes:
    """Return a UUIDv7 (RFC 9562, section 5.7) as 16 bytes. ``at_ms`` is in ms since 1970 UTC."""
    if at_ms is None:
        at_ms = now_ms()
    random = bytearray(os.urandom(10))
    random[0] = 0x70 | (random[0] & 0x0F)
    random[2] = 0x80 | (random[2] & 0x3F)
    return (at_ms & 0xFFFF_FFFF_FFFF).to_bytes(6, "big") + bytes(random)


def uuid_from_cause(*cause: str) -> bytes:
    """Return the id of an event that is caused by something in the log, as 16 bytes.

    Every node derives the same id from the same cause, so the fold keeps one of their events.
    """
    return uuid.uuid5(_CAUSES, "\x1f".join(cause)).bytes


def parse_uuid(text: str) -> bytes:
    """Return the 16 bytes of a UUID in text form, with or without dashes. Raises ``ValueError``."""
    return uuid.UUID(text).bytes


def experiment_id(name: str, generation: int = 1) -> str:
    """Return the id of an experiment created under a name: a decimal string of up to 18 digits.

    The id is derived from the name, so that neither stream has to wait for the other. ``Default``
    is ``"0"``, as in MLflow. A name that became free by a rename and is used again has generation
    2, and so on.
    """
    if name == DEFAULT_EXPERIMENT and generation == 1:
        return "0"
    text = name if generation == 1 else f"{name}\x00{generation}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return str(int.from_bytes(digest[:8], "big") % (10**18 - 1) + 1)


def envelope(
    *,
    producer_id: bytes,
    sequence: int,
    actor: str,
    client: str,
    actor_verified: bool = False,
    reason: str | None = None,
    event_id: bytes | None = None,
    occurred_at_ms: int | None = None,
) -> dict[str, Any]:
    """Return an envelope as in the schema ``modeltrail.Envelope``.

    By default, it has a new id and the current time.
    """
    if occurred_at_ms is None:
        occurred_at_ms = now_ms()
    return {
        "event_id": event_id if event_id is not None else new_event_id(occurred_at_ms),
        "producer_id": producer_id,
        "sequence": sequence,
        "occurred_at_ms": occurred_at_ms,
        "actor": actor,
        "actor_verified": actor_verified,
        "client": client,
        "reason": reason,
    }
