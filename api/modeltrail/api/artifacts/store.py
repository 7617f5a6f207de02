"""Artifacts of runs and logged models: names, limits and checksums, on top of any storage."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from modeltrail.api.artifacts.folder import Folder
from modeltrail.api.artifacts.storage import BadArtifacts, Entry, Pieces, Sink, Stat, Storage
from modeltrail.api.errors import InvalidRequest, NotFound, TooLarge

_NAME_BYTES_MAX = 255
_PATH_CHARACTERS_MAX = 1_000
UPLOADS = ".uploads"
"""The folder for uploads in progress. No artifact can have such a name."""
_LOCKS = 256
_SHARED = ("models", "other")

OTHER = "other/files"
"""The owner of files that belong to neither a run nor a logged model."""


def of_model(model_id: str) -> str:
    """Return the owner for a logged model. The owner for a run is the run's id."""
    return f"models/{model_id}"


class Stored(NamedTuple):
    """A stored artifact."""

    size_bytes: int
    sha256: str
    location: str
    """URI of the bytes."""


class Listed(NamedTuple):
    """A file."""

    path: str
    size_bytes: int


def open_storage(url: str) -> Storage:
    """Return the storage that a URL names. Raises ``BadArtifacts`` or ``Unavailable``.

    Args:
        url: A folder, ``file:///folder``, ``s3://bucket/prefix``, ``gs://bucket/prefix``,
            ``az://container/prefix`` or ``abfss://container@account.dfs.core.windows.net/prefix``.
            Credentials come from the environment (``AWS_*``, ``GOOGLE_*``, ``AZURE_*``).
    """
    scheme = urlsplit(url).scheme if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", url) else ""
    if scheme == "":
        return Folder(Path(url).expanduser(), UPLOADS)
    if scheme == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise BadArtifacts(f"{url} names a folder of another machine")
        return Folder(Path(unquote(parts.path)), UPLOADS)
    from modeltrail.api.artifacts.objects import SCHEMES, open_objects

    if scheme not in SCHEMES:
        raise BadArtifacts(
            f"artifacts cannot be kept at {scheme}: expected a folder, or a URL that begins with "
            f"file:, {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    return open_objects(url)


class ArtifactStore:
    """Stores artifacts under ``<owner>/<path>``. Nothing outside its storage can be reached.

    An owner is the id of a run, ``of_model(id)``, or ``OTHER``.
    """

    def __init__(
        self, storage: Storage | Path, *, bytes_max: int = 64 * 1024**3, signs: bool = False
    ) -> None:
        """Use a storage or a folder.

        Args:
            storage: Where the artifacts are stored.
            bytes_max: Maximum size of an artifact, in bytes.
            signs: Give clients signed URLs to the storage, if it has them.
        """
        self.storage = Folder(storage, UPLOADS) if isinstance(storage, Path) else storage
        self.bytes_max = bytes_max
        self.signs = signs and self.storage.folder is None
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def changing(self, owner: str, path: str) -> threading.Lock:
        """Hold this while an artifact is replaced or removed and its event is appended.

        Otherwise, of two simultaneous changes, one could be the last in the store and the other in
        the log.
        """
        return self._locks[hash((owner, path)) % _LOCKS]

    def write(self, owner: str, path: str) -> Upload:
        """Start an upload."""
        key = key_of(owner, path)
        lock = self.changing(owner, path)
        return Upload(self.storage.write(key), self.storage.url_of(key), self.bytes_max, lock)

    def stat(self, owner: str, path: str) -> Stat:
        """Return what is known about an artifact. Raises ``NotFound``."""
        found = self.storage.stat(key_of(owner, path))
        if found is None:
            raise _missing(owner, path)
        return found

    def open(self, owner: str, path: str) -> tuple[Stat, Pieces]:
        """Return an artifact and its bytes, in pieces. Raises ``NotFound``."""
        found = self.storage.open(key_of(owner, path))
        if found is None:
            raise _missing(owner, path)
        return found

    def read(self, owner: str, path: str, start: int, end: int) -> Pieces:
        """Return a part of the bytes of an existing artifact."""
        return self.storage.read(key_of(owner, path), start, end)

    def entries(self, owner: str, path: str = "") -> list[Entry]:
        """Return what is directly in a folder of an owner, by name; empty without such a folder."""
        found = self.storage.entries(_folder(owner, path))
        return sorted(found, key=lambda entry: (entry.name, entry.size_bytes is None))

    def list(self, owner: str, path: str = "") -> list[Listed]:
        """Return all files of an owner or of one of its folders, in order.

        Paths are relative to the owner.
        """
        found = self.storage.walk(_folder(owner, path))
        return sorted(Listed(key[len(owner) + 1 :], stat.size_bytes) for key, stat in found)

    def delete(self, owner: str, path: str) -> None:
        """Remove an artifact. Raises ``NotFound``."""
        self.stat(owner, path)
        self.storage.delete(key_of(owner, path))


def key_of(owner: str, path: str) -> str:
    """Return the key of an artifact. Raises ``InvalidRequest`` for an unsafe name."""
    kind, slash, _ = owner.partition("/")
    if (
        (kind in _SHARED) != bool(slash)
        or len(path) > _PATH_CHARACTERS_MAX
        or re.match("[A-Za-z]:", path)  # on Windows, a client would write it elsewhere
    ):
        raise InvalidRequest(f"not an artifact path: {path[:100]!r} of {owner[:100]!r}")
    for part in (*owner.split("/"), *path.split("/")):
        if (
            part in ("", ".", "..")
            or part.startswith(UPLOADS)
            or "\\" in part
            or any(ord(c) < 32 or ord(c) == 127 or "\ud800" <= c <= "\udfff" for c in part)
            or len(part.encode()) > _NAME_BYTES_MAX
        ):
            raise InvalidRequest(
                f"not an artifact path: {path!r} of {owner!r}; a path is relative, with "
                "'/' between names, without '.', '..', '\\' or control characters"
            )
    return f"{owner}/{path}"


def _folder(owner: str, path: str) -> str:
    return key_of(owner, f"{path}/-" if path else "-").removesuffix("/-")


def _missing(owner: str, path: str) -> NotFound:
    return NotFound(f"{owner!r} has no artifact {path!r} on this server")


class Upload:
    """An artifact being stored. It appears whole and durable, or not at all."""

    def __init__(
        self, sink: Sink, location: str, bytes_max: int, lock: AbstractContextManager[object]
    ) -> None:
        """Count and hash what is written to a sink."""
        self._sink = sink
        self._location = location
        self._bytes_max = bytes_max
        self._lock = lock
        self._size = 0
        self._digest = hashlib.sha256()

    def __enter__(self) -> Upload:
        """Return the upload. Leaving the block without ``finish`` discards it."""
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.abort()

    def write(self, data: bytes) -> None:
        """Write more bytes. Raises ``TooLarge``, or ``Unavailable`` if the disk is full."""
        self._size += len(data)
        if self._size > self._bytes_max:
            raise TooLarge(f"an artifact may have at most {self._bytes_max:,} bytes")
        self._digest.update(data)
        self._sink.write(data)

    def finish(self, record: Callable[[Stored], object] | None = None) -> Stored:
        """Put the file in place, durably, then call ``record``, which appends the event."""
        stored = Stored(self._size, self._digest.hexdigest(), self._location)
        with self._lock:
            self._sink.finish()
            if record is not None:
                record(stored)
        return stored
