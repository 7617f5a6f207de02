"""Batches of encoded events as one body of a request."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from modeltrail.schemas.codec import Malformed

MEDIA_TYPE: Final = "application/vnd.modeltrail.events"
_LENGTH = struct.Struct("<I")


def frame(payloads: Iterable[bytes]) -> bytes:
    """The body of a request: each payload after its length, four little-endian bytes."""
    return b"".join(part for p in payloads for part in (_LENGTH.pack(len(p)), p))


def unframe(body: bytes) -> Iterator[bytes]:
    """The inverse of ``frame``; raises ``Malformed`` at the first payload that is cut off."""
    at = 0
    while at < len(body):
        if at + _LENGTH.size > len(body):
            raise Malformed("its length is cut off")
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        if at + length > len(body):
            raise Malformed(f"{length:,} bytes announced, {len(body) - at:,} are there")
        yield body[at : at + length]
        at += length
