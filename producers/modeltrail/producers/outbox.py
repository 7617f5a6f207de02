"""The outbox: what a process has written to its local disk and not delivered yet.

There is one folder for each process and target:

    <root>/<host>-<pid>-<random>/
        lock        held (flock) while the owner lives, so that no other process delivers from it
        meta.json   the target, without secrets
        reserve     some bytes to free for the last events of a run when the disk is full
        events/     segments of frames, and the position up to which they were delivered
        artifacts/  the same for artifacts, in a separate queue, so that a long upload never
                    delays a heartbeat
        spool/      copies of the artifacts' files

Nothing here is fsynced: the operating system keeps what a killed process wrote, and only the log
acknowledges events, after its own fsync.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import struct
import time
import zlib
from typing import NamedTuple

from modeltrail.producers.notices import warn

SEGMENT_BYTES = 2 * 1024 * 1024
_RESERVE_BYTES = 64 * 1024
_LITTER_AGE_S = 3600.0
_HEADER = struct.Struct("<IIIH")  # payload bytes, CRC-32 of everything after it, points, key bytes
_POSITION = struct.Struct("<QQI")  # segment, offset, CRC-32 of the two


class Frame(NamedTuple):
    """One event, or one artifact to upload, as stored in the outbox."""

    key: str
    payload: bytes
    points: int
    """Number of metric points in it."""
    segment: int
    end: int
    """Offset of its end in its segment."""


def pack_frame(key: str, payload: bytes, points: int) -> bytes:
    """Return the bytes of a frame."""
    name = key.encode()
    rest = struct.pack("<IH", points, len(name)) + name + payload
    return struct.pack("<II", len(payload), zlib.crc32(rest)) + rest


def parse_frames(data: bytes, segment: int, start: int) -> list[Frame]:
    """Return the whole, undamaged frames at the start of ``data``.

    ``start`` is the offset of ``data`` in its segment.
    """
    frames, at = [], 0
    while at + _HEADER.size <= len(data):
        length, crc, points, key_bytes = _HEADER.unpack_from(data, at)
        body = at + _HEADER.size
        end = body + key_bytes + length
        if end > len(data) or zlib.crc32(memoryview(data)[at + 8 : end]) != crc:
            break
        key = data[body : body + key_bytes].decode()
        frames.append(Frame(key, data[body + key_bytes : end], points, segment, start + end))
        at = end
    return frames


class SegmentQueue:
    """A first-in-first-out queue of frames in files.

    One thread appends and one thread reads. They share only attributes that are assigned as a
    whole.
    """

    def __init__(self, folder: str, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Open the queue in ``folder``, new or as another process left it. Raises ``OSError``."""
        os.makedirs(folder, 0o700, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._fd = -1
        self._size = 0
        self._position_fd = os.open(
            os.path.join(folder, "position"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        segments = sorted(int(name[:-4]) for name in os.listdir(folder) if name.endswith(".seg"))
        self._place = self._read_position(segments)
        self.end = (segments[-1] + 1, 0) if segments else self._place
        self.appended = 0
        """Number of frames appended by this process."""
        self.handled = 0
        """Number of frames delivered or set aside by this process."""
        self.unrecorded: str | None = None
        """Why the position on disk is behind, or None if it is not."""
        self.damaged = 0
        """Number of segments whose rest could not be read: torn by a kill or a power cut."""
        self._bytes_in = sum(
            os.path.getsize(self._path(s)) for s in segments if s >= self._place[0]
        )
        self._bytes_out = self._place[1]
        # Write it now, while there may be room, so that its blocks exist when the disk is full.
        self.record()

    def _path(self, segment: int) -> str:
        return os.path.join(self._folder, f"{segment:012}.seg")

    def _read_position(self, segments: list[int]) -> tuple[int, int]:
        data = os.pread(self._position_fd, _POSITION.size, 0)
        if len(data) == _POSITION.size:
            segment, offset, crc = _POSITION.unpack(data)
            if crc == zlib.crc32(data[:16]) and (segment in segments or not segments):
                return segment, offset
        # Lost or torn: start with the oldest segment. The fold drops what arrives twice.
        return (segments[0], 0) if segments else (0, 0)

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes not handled yet."""
        return max(0, self._bytes_in - self._bytes_out)

    @property
    def empty(self) -> bool:
        """Return whether everything was handled."""
        return self._place >= self.end

    def append(self, frames: bytes, n: int = 1) -> None:
        """Append ``n`` frames. After an ``OSError``, none of them is stored."""
        if self._fd < 0 or self._size >= self._segment_bytes:
            self._roll()
        try:
            rest = memoryview(frames)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                self._size = self._segment_bytes  # continue in a new segment; readers skip the rest
            raise
        self._size += len(frames)
        self._bytes_in += len(frames)
        self.appended += n
        self.end = (self.end[0], self._size)

    def _roll(self) -> None:
        segment = self.end[0] if self._fd < 0 else self.end[0] + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self._path(segment), flags, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, 0
        self.end = (segment, 0)

    def read(self) -> list[Frame]:
        """Return the next frames, at most those of one segment; empty if there are none."""
        while self._place < self.end:
            segment, offset = self._place
            end = self.end
            try:
                with open(self._path(segment), "rb") as file:
                    file.seek(offset)
                    data = file.read(end[1] - offset if segment == end[0] else -1)
            except FileNotFoundError:
                data = b""
            frames = parse_frames(data, segment, offset)
            if frames or segment == end[0]:
                return frames
            if data:
                self.damaged += 1
                self._bytes_out += len(data)
            self._move(segment + 1, 0)
        return []

    def done(self, frames: list[Frame]) -> None:
        """Mark these frames as handled; they are the first ones of the last ``read``."""
        if not frames:
            return
        last = frames[-1]
        start = self._place[1] if last.segment == self._place[0] else 0
        self._move(last.segment, last.end)
        self._bytes_out += last.end - start
        self.handled += len(frames)

    def _move(self, segment: int, offset: int) -> None:
        passed = self._place[0]
        self._place = (segment, offset)
        self.record()
        for old in range(passed, segment):
            _unlink(self._path(old))
        if self.unrecorded is not None and passed < segment:
            self.record()  # there is space now

    def record(self) -> None:
        """Write the position, in place. If that fails, what was delivered stays delivered."""
        head = struct.pack("<QQ", *self._place)
        try:
            os.pwrite(self._position_fd, head + struct.pack("<I", zlib.crc32(head)), 0)
            self.unrecorded = None
        except OSError as error:
            self.unrecorded = error.strerror or str(error)

    def close(self) -> None:
        for fd in (self._fd, self._position_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._position_fd = -1


class Outbox:
    """The outbox of one process for one target. The holder of its lock owns it."""

    def __init__(self, path: str, lock_fd: int, target: str) -> None:
        """Use ``Outbox.create`` or ``Outbox.adopt``."""
        self.path = path
        self.target = target
        self._lock_fd = lock_fd
        self.spool = os.path.join(path, "spool")
        os.makedirs(self.spool, 0o700, exist_ok=True)
        self.events = SegmentQueue(os.path.join(path, "events"))
        self.artifacts = SegmentQueue(os.path.join(path, "artifacts"))
        self.spool_bytes = sum(entry.stat().st_size for entry in os.scandir(self.spool))

    @classmethod
    def create(cls, root: str, target: str) -> Outbox:
        """Create an outbox below ``root`` for a target (without secrets). Raises ``OSError``."""
        name = f"{os.uname().nodename}-{os.getpid()}-{os.urandom(4).hex()}"
        # Names that begin with a dot are ignored. It gets its final name once the lock is held.
        hidden, path = os.path.join(root, "." + name), os.path.join(root, name)
        os.mkdir(hidden, 0o700)
        with open(os.path.join(hidden, "meta.json"), "w", encoding="utf-8") as file:
            meta = {"target": target, "host": os.uname().nodename, "pid": os.getpid()}
            json.dump(meta, file)
        with open(os.path.join(hidden, "reserve"), "wb") as reserve:
            reserve.write(b"\0" * _RESERVE_BYTES)
        lock_fd = _lock(hidden)
        os.rename(hidden, path)
        return cls(path, lock_fd, target)

    @classmethod
    def adopt(cls, path: str) -> Outbox | None:
        """Take over an outbox whose owner has ended.

        Returns None if the owner is alive or the outbox is gone.

        Raises:
            OSError: the outbox cannot be read.
        """
        try:
            lock_fd = _lock(path)
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            return None
        try:
            with open(os.path.join(path, "meta.json"), encoding="utf-8") as file:
                target = str(json.load(file)["target"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            os.close(lock_fd)  # its owner removed it, or it is not an outbox
            return None
        return cls(path, lock_fd, target)

    @property
    def waiting_bytes(self) -> int:
        """Bytes on disk that are not delivered yet."""
        return self.events.waiting_bytes + self.artifacts.waiting_bytes + self.spool_bytes

    @property
    def empty(self) -> bool:
        """Return whether everything was delivered."""
        return self.events.empty and self.artifacts.empty

    def give_up_reserve(self) -> bool:
        """Free a few bytes of a full disk. Returns False if that was done before."""
        return _unlink(os.path.join(self.path, "reserve"))

    @property
    def unrecorded(self) -> str | None:
        """Why the position of what this process handled is not on disk, or None if it is."""
        queues = (self.events, self.artifacts)
        return next((q.unrecorded for q in queues if q.handled and q.unrecorded), None)

    def make_recordable(self) -> None:
        """Free the reserve if the disk has no room for the positions."""
        if (self.events.unrecorded or self.artifacts.unrecorded) and self.give_up_reserve():
            self.events.record()
            self.artifacts.record()

    def set_aside(self, frame: Frame, spooled: str | None = None) -> str:
        """Keep a refused event (and its file) for inspection. Returns the folder."""
        folder = os.path.join(os.path.dirname(self.path), "refused")
        os.makedirs(folder, 0o700, exist_ok=True)
        with open(os.path.join(folder, os.path.basename(self.path) + ".frames"), "ab") as file:
            file.write(pack_frame(frame.key, frame.payload, frame.points))
        if spooled is not None:
            os.replace(os.path.join(self.spool, spooled), os.path.join(folder, spooled))
        return folder

    def forget_spooled(self, name: str) -> None:
        path = os.path.join(self.spool, name)
        try:
            size = os.path.getsize(path)
            os.unlink(path)
        except FileNotFoundError:
            return
        self.spool_bytes -= size

    def close(self, *, forked: bool = False) -> None:
        """Release the lock. If everything was delivered, remove the folder too.

        Args:
            forked: This is a child's copy of the parent's outbox: close it and change nothing.
        """
        if not forked and self.empty:
            # Under a hidden name, or the remains after a kill would look like an outbox forever.
            hidden = _hidden(self.path)
            with contextlib.suppress(OSError):
                os.rename(self.path, hidden)
            shutil.rmtree(hidden, ignore_errors=True)
        self.events.close()
        self.artifacts.close()
        os.close(self._lock_fd)


def _lock(folder: str) -> int:
    """Open and lock a folder's lock file.

    Raises ``BlockingIOError`` if another process holds it.
    """
    fd = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _hidden(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, "." + name)


def remove_litter(path: str) -> None:
    """Remove an hour-old hidden folder, left by a kill while an outbox was created or removed.

    It contains no events: an outbox is renamed before its first event and after its last.
    """
    with contextlib.suppress(OSError):
        if time.time() - os.stat(path).st_mtime > _LITTER_AGE_S:
            shutil.rmtree(path, ignore_errors=True)


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def default_root() -> str:
    """Return the default folder of outboxes: ``modeltrail/outbox`` in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "modeltrail", "outbox")


def temporary_root() -> str:
    """Return the folder of outboxes for when the usual one is not writable."""
    return os.path.join(os.environ.get("TMPDIR") or "/tmp", f"modeltrail-outbox-{os.getuid()}")


def create_outbox(root: str | None, target: str) -> Outbox:
    """Create an outbox in ``root`` (None: the default), or else in the temporary folder.

    Raises:
        OSError: neither is writable.
    """
    wanted = os.path.abspath(root) if root else default_root()
    try:
        os.makedirs(wanted, 0o700, exist_ok=True)
        return Outbox.create(wanted, target)
    except OSError as error:
        fallback = temporary_root()
        os.makedirs(fallback, 0o700, exist_ok=True)
        if os.stat(fallback).st_uid != os.getuid():
            raise  # another user's folder in a shared place is not trusted
        outbox = Outbox.create(fallback, target)
        warn(
            f"the outbox {wanted} cannot be written ({error.strerror}); using {fallback}. "
            "Set MODELTRAIL_OUTBOX to a folder on a disk that lasts."
        )
        return outbox
