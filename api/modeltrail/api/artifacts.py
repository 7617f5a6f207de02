"""Artifacts of runs and logged models, as files in the data folder."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from modeltrail.api.errors import InvalidRequest, NotFound, TooLarge, Unavailable

_NAME_BYTES_MAX = 255
_PATH_CHARACTERS_MAX = 1_000
_UPLOADS = ".uploads"
_SHARED = ("models", "other")

OTHER = "other/files"
"""The owner of files that belong to neither a run nor a logged model."""


def of_model(model_id: str) -> str:
    """The owner that stands for a logged model; for a run it is the run's id."""
    return f"models/{model_id}"


class Stored(NamedTuple):
    """An artifact that was stored."""

    size_bytes: int
    sha256: str
    location: str
    """URI of the bytes."""


class Listed(NamedTuple):
    """A file."""

    path: str
    size_bytes: int


class Entry(NamedTuple):
    """A file or folder within a folder."""

    name: str
    size_bytes: int | None
    """None for a folder."""


class ArtifactStore:
    """Keeps artifacts at ``<folder>/<owner>/<path>``. Nothing outside the folder is reachable.

    An owner is the id of a run, ``of_model(id)``, or ``OTHER``.
    """

    def __init__(self, folder: Path, *, bytes_max: int = 64 * 1024**3) -> None:
        """Use a folder, made when the first artifact comes.

        Args:
            folder: Where the artifacts are.
            bytes_max: The largest artifact, in bytes.
        """
        self.folder = folder.absolute()
        self.bytes_max = bytes_max

    def _file(self, owner: str, path: str) -> Path:
        """The file of an artifact; raises ``InvalidRequest`` for a name that leads elsewhere."""
        kind, slash, _ = owner.partition("/")
        parts = [*owner.split("/"), *path.split("/")]
        if (kind in _SHARED) != bool(slash) or len(path) > _PATH_CHARACTERS_MAX:
            raise InvalidRequest(f"not an artifact path: {path[:100]!r} of {owner[:100]!r}")
        for part in parts:
            if (
                part in ("", ".", "..")
                or part.startswith(_UPLOADS)
                or "\\" in part
                or any(ord(c) < 32 or ord(c) == 127 for c in part)
                or len(part.encode("utf-8", "surrogatepass")) > _NAME_BYTES_MAX
            ):
                raise InvalidRequest(
                    f"not an artifact path: {path!r} of {owner!r}; a path is relative, with "
                    "'/' between names, without '.', '..', '\\' or control characters"
                )
        file = self.folder.joinpath(*parts)
        # A link inside the folder must not lead out of it either.
        if not file.parent.resolve().is_relative_to(self.folder.resolve()):
            raise InvalidRequest(f"artifact path {path!r} leads out of the artifact folder")
        return file

    def write(self, owner: str, path: str) -> Upload:
        """Begin an upload."""
        return Upload(self._file(owner, path), self.folder / _UPLOADS, self.bytes_max)

    def file(self, owner: str, path: str) -> Path:
        """The file of an artifact that is there; raises ``NotFound``."""
        file = self._file(owner, path)
        if file.is_symlink() or not file.is_file():
            raise NotFound(f"{owner!r} has no artifact {path!r} on this server")
        return file

    def entries(self, owner: str, path: str = "") -> list[Entry]:
        """What is directly in a folder of an owner, by name; nothing if there is no such folder."""
        folder = self._file(owner, f"{path}/-" if path else "-").parent
        try:
            found = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(
            Entry(e.name, None if e.is_dir() else e.stat().st_size)
            for e in found
            if not e.is_symlink() and not e.name.startswith(_UPLOADS)
        )

    def list(self, owner: str, path: str = "") -> list[Listed]:
        """All files of an owner, or of one of its folders; paths are the owner's, in order."""
        top = self._file(owner, f"{path}/-" if path else "-").parent
        prefix = f"{path}/" if path else ""
        root = self._file(owner, "-").parent
        return [Listed(p, (root / p).stat().st_size) for p in sorted(_files(top, prefix))]

    def delete(self, owner: str, path: str) -> None:
        """Remove an artifact; raises ``NotFound``."""
        file = self.file(owner, path)
        file.unlink()
        for folder in file.parents:
            if folder == self.folder:
                break
            try:
                folder.rmdir()
            except OSError:
                break  # not empty


def _files(folder: Path, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder / entry.name, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            yield prefix + entry.name


class Upload:
    """Bytes on their way into the store. They appear whole, after fsync, or not at all."""

    def __init__(self, target: Path, uploads: Path, bytes_max: int) -> None:
        """Begin; the bytes gather in the folder ``uploads`` until ``finish``."""
        self._target = target
        self._bytes_max = bytes_max
        self._size = 0
        self._digest = hashlib.sha256()
        try:
            uploads.mkdir(parents=True, exist_ok=True)
            self._temporary = uploads / secrets.token_hex(16)
            self._out: BinaryIO = self._temporary.open("xb")
        except OSError as error:
            raise _unavailable(error) from None

    def __enter__(self) -> Upload:
        """The upload; leaving the block without ``finish`` forgets it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what is left."""
        with suppress(OSError):  # on a full disk, closing fails as writing did
            self._out.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Take more bytes; raises ``TooLarge``, or ``Unavailable`` if the disk is full."""
        self._size += len(data)
        if self._size > self._bytes_max:
            raise TooLarge(f"an artifact may have {self._bytes_max:,} bytes at most")
        self._digest.update(data)
        try:
            self._out.write(data)
        except OSError as error:
            raise _unavailable(error) from None

    def finish(self) -> Stored:
        """Put the bytes in place, durably."""
        try:
            self._out.flush()
            os.fsync(self._out.fileno())
            self._out.close()
            self._target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._temporary, self._target)
            folder = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            raise InvalidRequest(
                f"{self._target.name!r} cannot be stored: a folder and a file of one name collide"
            ) from None
        except OSError as error:
            raise _unavailable(error) from None
        return Stored(self._size, self._digest.hexdigest(), self._target.as_uri())


def _unavailable(error: OSError) -> Unavailable:
    if error.errno == errno.ENOSPC:
        return Unavailable("the disk of the artifact folder is full; nothing was stored")
    return Unavailable(f"the artifact folder cannot be written: {error.strerror}")
