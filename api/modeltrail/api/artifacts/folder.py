"""Artifacts in a local folder."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

from modeltrail.api.artifacts.storage import PIECE_BYTES, BadArtifacts, Entry, Pieces, Stat
from modeltrail.api.errors import InvalidRequest, Unavailable
from modeltrail.eventlog.durable import sync


class Folder:
    """The files of a folder.

    Links are neither followed nor listed, because they could lead out of it.
    """

    def __init__(self, folder: Path, uploads: str) -> None:
        """Use a folder, which is created with the first file.

        Args:
            folder: The folder.
            uploads: Key of the folder for uploads in progress.
        """
        self.folder: Path | None = folder.absolute()
        self.url = self.folder.as_uri()
        self.signed_headers: dict[str, str] = {}
        self._folder = self.folder
        self._uploads = self._folder / uploads

    def _path(self, key: str) -> Path:
        path = self._folder.joinpath(*key.split("/")) if key else self._folder
        if not path.parent.resolve().is_relative_to(self._folder.resolve()) and key:
            raise InvalidRequest(f"artifact path {key!r} leads out of the artifact folder")
        return path

    def check(self) -> None:
        if self._folder.exists() and not self._folder.is_dir():
            raise BadArtifacts(f"artifacts cannot be kept at {self._folder}: it is not a folder")

    def url_of(self, key: str) -> str:
        return self._folder.joinpath(*key.split("/")).as_uri()

    def write(self, key: str) -> FileSink:
        return FileSink(self._path(key), self._uploads)

    def stat(self, key: str) -> Stat | None:
        path = self._path(key)
        return None if path.is_symlink() or not path.is_file() else _stat(path.stat())

    def open(self, key: str) -> tuple[Stat, Pieces] | None:
        path = self._path(key)
        if path.is_symlink() or not path.is_file():
            return None
        try:
            source = path.open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(error, "read") from None
        # From here on, a file that replaces this one has no effect.
        stat = _stat(os.fstat(source.fileno()))
        return stat, _pieces(source, 0, stat.size_bytes)

    def read(self, key: str, start: int, end: int) -> Pieces:
        try:
            source = self._path(key).open("rb")
        except OSError as error:
            raise _unavailable(error, "read") from None
        return _pieces(source, start, end)

    def entries(self, key: str) -> list[Entry]:
        # With a name below it, the folder itself cannot be a link.
        folder = self._path(f"{key}/-" if key else "-").parent
        return [
            Entry(found.name, None if found.is_dir() else found.stat().st_size)
            for found in _scan(folder)
            if not found.is_symlink()
        ]

    def walk(self, key: str) -> Iterator[tuple[str, Stat]]:
        folder = self._path(f"{key}/-" if key else "-").parent
        for found in _scan(folder):
            below = f"{key}/{found.name}" if key else found.name
            if found.is_dir(follow_symlinks=False):
                yield from self.walk(below)
            elif found.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    yield below, _stat(found.stat())

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise _unavailable(error, "written") from None
        for folder in path.parents:
            if folder == self._folder:
                break
            try:
                folder.rmdir()
            except OSError:
                break  # not empty

    def signed(self, method: Literal["GET", "PUT"], key: str, valid_s: int) -> str | None:
        """Return None: a folder signs nothing."""
        return None


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unavailable(error, "read") from None


def _stat(found: os.stat_result) -> Stat:
    return Stat(
        found.st_size,
        f'"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"',
        datetime.fromtimestamp(found.st_mtime, UTC),
    )


def _pieces(source: BinaryIO, start: int, end: int) -> Pieces:
    """Yield the bytes of a part of a file, and close it at the end or when the caller stops."""
    pieces = _read(source, start, end)
    next(pieces)  # enters the block that closes the file, even if no byte is read
    return pieces


def _read(source: BinaryIO, start: int, end: int) -> Pieces:
    with source:
        yield b""
        source.seek(start)
        while start < end:
            piece = source.read(min(PIECE_BYTES, end - start))
            if not piece:
                raise Unavailable("the file became shorter while it was read")
            start += len(piece)
            yield piece


class FileSink:
    """A ``Sink`` that writes beside the destination, then renames."""

    def __init__(self, target: Path, uploads: Path) -> None:
        """Start writing in the folder ``uploads``."""
        self._target = target
        try:
            uploads.mkdir(parents=True, exist_ok=True)
            self._temporary = uploads / secrets.token_hex(16)
            self._out: BinaryIO = self._temporary.open("xb")
        except OSError as error:
            raise _unavailable(error, "written") from None

    def write(self, data: bytes) -> None:
        try:
            self._out.write(data)
        except OSError as error:
            raise _unavailable(error, "written") from None

    def finish(self) -> None:
        try:
            self._out.flush()
            os.fsync(self._out.fileno())
            self._out.close()
            self._target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._temporary, self._target)
            sync(self._target.parent)
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            raise InvalidRequest(
                f"{self._target.name!r} cannot be stored: a folder and a file cannot share a name"
            ) from None
        except OSError as error:
            raise _unavailable(error, "written") from None

    def abort(self) -> None:
        with suppress(OSError):  # on a full disk, closing fails as well
            self._out.close()
        self._temporary.unlink(missing_ok=True)


def _unavailable(error: OSError, what: str) -> Unavailable:
    if error.errno == errno.ENOSPC:
        return Unavailable("the disk of the artifact folder is full; nothing was stored")
    return Unavailable(f"the artifact folder cannot be {what}: {error.strerror}")
