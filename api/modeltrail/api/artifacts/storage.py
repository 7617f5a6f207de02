"""The interface of storages for artifacts."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from modeltrail.api.errors import ApiError

PIECE_BYTES = 1024 * 1024
"""How many bytes are read at a time."""


Pieces = Generator[bytes, None, None]
"""Bytes in pieces. A caller that does not read all of them calls ``close``."""


class BadArtifacts(ApiError):
    """A setting does not name a place for artifacts, or a package for it is not installed."""


class Stat(NamedTuple):
    """What a storage knows about a file without reading it."""

    size_bytes: int
    etag: str
    """Changes with the content; quoted as in HTTP. Empty if the storage has none."""
    modified_at: datetime
    """With a time zone."""


class Entry(NamedTuple):
    """A file or folder within a folder."""

    name: str
    size_bytes: int | None
    """None for a folder."""


class Sink(Protocol):
    """A file being written to a storage. It appears whole and durable, or not at all."""

    def write(self, data: bytes) -> None:
        """Write more bytes. Raises ``Unavailable``."""

    def finish(self) -> None:
        """Put the file in place. Raises ``InvalidRequest`` or ``Unavailable``."""

    def abort(self) -> None:
        """Discard the file. Does nothing after ``finish``."""


class Storage(Protocol):
    """Stores files under keys, which are names joined by ``/``.

    The caller has checked the keys (see ``modeltrail.api.artifacts``). Errors are raised as
    ``Unavailable``, with a message without credentials.
    """

    url: str
    """URL of the storage. The ``url_of`` a key begins with it."""
    folder: Path | None
    """Its local folder, or None."""
    signed_headers: dict[str, str]
    """Headers to send with a PUT to a signed URL."""

    def check(self) -> None:
        """Raise ``BadArtifacts`` if nothing can be stored here. Called once, at start."""

    def url_of(self, key: str) -> str:
        """Return the URL of a file."""

    def write(self, key: str) -> Sink:
        """Start to write a file, which replaces an existing one."""

    def stat(self, key: str) -> Stat | None:
        """Return what is known about a file, or None if it does not exist."""

    def open(self, key: str) -> tuple[Stat, Pieces] | None:
        """Return a file and its bytes, in pieces, or None if it does not exist."""

    def read(self, key: str, start: int, end: int) -> Pieces:
        """Return the bytes from ``start`` to before ``end``, which must be within the file."""

    def entries(self, key: str) -> list[Entry]:
        """Return what is directly in a folder, in any order; empty if there is no such folder."""

    def walk(self, key: str) -> Iterator[tuple[str, Stat]]:
        """Return all files below a folder, by key, in any order."""

    def delete(self, key: str) -> None:
        """Remove a file if it exists, and folders that become empty."""

    def signed(self, method: Literal["GET", "PUT"], key: str, valid_s: int) -> str | None:
        """Return a URL with which anyone can GET or PUT that file for a while, or None."""
