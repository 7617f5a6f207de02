"""Artifacts of runs, as files in the data folder."""

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


class Stored(NamedTuple):
    """An artifact that was stored."""

    size_bytes: int
    sha256: str
    location: str
    """URI of the bytes."""


class Listed(NamedTuple):
    """A file of a run."""

    path: str
    size_bytes: int


class ArtifactStore:
    """Keeps artifacts at ``<folder>/<run_id>/<path>``. Nothing outside the folder is reachable."""

    def __init__(self, folder: Path, *, bytes_max: int = 64 * 1024**3) -> None:
        """Use a folder, made when the first artifact comes.

        Args:
            folder: Where the artifacts are.
            bytes_max: The largest artifact, in bytes.
        """
        self.folder = folder.absolute()
        self.bytes_max = bytes_max

    def _file(self, run_id: str, path: str) -> Path:
        """The file of an artifact; raises ``InvalidRequest`` for a name that leads elsewhere."""
        parts = [run_id, *path.split("/")]
        if "/" in run_id or len(path) > _PATH_CHARACTERS_MAX:
            raise InvalidRequest(f"not an artifact path: {path[:100]!r} of run {run_id[:100]!r}")
        for part in parts:
            if (
                part in ("", ".", "..")
                or part.startswith(_UPLOADS)
                or "\\" in part
                or any(ord(c) < 32 or ord(c) == 127 for c in part)
                or len(part.encode("utf-8", "surrogatepass")) > _NAME_BYTES_MAX
            ):
                raise InvalidRequest(
                    f"not an artifact path: {path!r} of run {run_id!r}; a path is relative, with "
                    "'/' between names, without '.', '..', '\\' or control characters"
                )
        file = self.folder.joinpath(*parts)
        # A link inside the folder must not lead out of it either.
        if not file.parent.resolve().is_relative_to(self.folder.resolve()):
            raise InvalidRequest(f"artifact path {path!r} leads out of the artifact folder")
        return file

    def write(self, run_id: str, path: str) -> Upload:
        """Begin an upload."""
        return Upload(self._file(run_id, path), self.folder / _UPLOADS, self.bytes_max)

    def file(self, run_id: str, path: str) -> Path:
        """The file of an artifact that is there; raises ``NotFound``."""
        file = self._file(run_id, path)
        if file.is_symlink() or not file.is_file():
            raise NotFound(f"run {run_id!r} has no artifact {path!r} on this server")
        return file

    def list(self, run_id: str) -> list[Listed]:
        """All files of a run, by path."""
        top = self._file(run_id, "-").parent
        return [Listed(path, (top / path).stat().st_size) for path in sorted(_files(top, ""))]

    def delete(self, run_id: str, path: str) -> None:
        """Remove an artifact; raises ``NotFound``."""
        file = self.file(run_id, path)
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
