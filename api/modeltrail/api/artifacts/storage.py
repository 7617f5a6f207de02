"""Where artifacts can be kept: what a storage must do, whichever it is."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from modeltrail.api.errors import ApiError

PIECE_BYTES = 1024 * 1024
"""How much is read at a time."""


Pieces = Generator[bytes, None, None]
"""Bytes, piece by piece; whoever does not want them all calls ``close``."""


class BadArtifacts(ApiError):
    """A setting does not name a place for artifacts, or what it takes is not installed."""


class Stat(NamedTuple):
    """What a storage knows of a file without reading it."""

    size_bytes: int
    etag: str
    """Changes with the content; with quotes, as HTTP has it. Empty if the storage has none."""
    modified_at: datetime
    """With its time zone."""


class Entry(NamedTuple):
    """A file or folder within a folder."""

    name: str
    size_bytes: int | None
    """None for a folder."""


class Sink(Protocol):
    """Bytes on their way into a storage. They appear whole, and durable, or not at all."""

    def write(self, data: bytes) -> None:
        """Take more bytes; raises ``Unavailable``."""
        ...

    def finish(self) -> None:
        """Put the bytes in place; raises ``InvalidRequest`` or ``Unavailable``."""
        ...

    def abort(self) -> None:
        """Forget the bytes; does nothing after ``finish``."""
        ...


class Storage(Protocol):
    """Keeps bytes under keys, which are names joined by ``/``.

    Keys were checked before they come here (see ``modeltrail.api.artifacts``). Whatever fails is
    raised as ``Unavailable``, with a message that holds no credentials.
    """

    url: str
    """Of the whole; ``url_of`` of a key begins with it."""
    folder: Path | None
    """Where it is on this machine; None if it is elsewhere."""
    signed_headers: dict[str, str]
    """What has to be sent with a PUT to a signed URL."""

    def check(self) -> None:
        """Raise ``BadArtifacts`` if nothing can be kept here; asked once, at start."""
        ...

    def url_of(self, key: str) -> str:
        """URL of a file."""
        ...

    def write(self, key: str) -> Sink:
        """Begin to write a file, in place of one that may be there."""
        ...

    def stat(self, key: str) -> Stat | None:
        """What is known of a file; None if there is none."""
        ...

    def open(self, key: str) -> tuple[Stat, Pieces] | None:
        """A file and its bytes, piece by piece; None if there is none."""
        ...

    def read(self, key: str, start: int, end: int) -> Pieces:
        """The bytes from ``start`` to before ``end``, which must be within the file."""
        ...

    def entries(self, key: str) -> list[Entry]:
        """What is directly in a folder, in any order; nothing if there is no such folder."""
        ...

    def walk(self, key: str) -> Iterator[tuple[str, Stat]]:
        """All files below a folder, by key, in any order."""
        ...

    def delete(self, key: str) -> None:
        """Remove a file if it is there, and folders that are empty then."""
        ...

    def signed(self, method: Literal["GET", "PUT"], key: str, valid_s: int) -> str | None:
        """A URL with which anybody may GET or PUT that file for a while; None if it has none."""
        ...
