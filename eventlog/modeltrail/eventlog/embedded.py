"""A log in one SQLite file, which many processes can append to and read at the same time.

``<folder>/log.sqlite`` has one table for each stream and one for writer schemas. Triggers prevent
that a row is changed or deleted. Processes that write queue up at ``<folder>/log.lock``, because
there the kernel wakes the next one. SQLite's own lock is polled with growing pauses, which starves
writers.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modeltrail.eventlog.base import (
    STREAMS,
    LogClosed,
    LogError,
    LogMisconfigured,
    LogRecord,
    LogRefused,
    LogUnavailable,
    NewEvent,
    Partition,
    Position,
    check_events,
)
from modeltrail.eventlog.durable import sync
from modeltrail.eventlog.private import make_folder, open_private

logger = logging.getLogger("modeltrail.eventlog")

_FILE = "log.sqlite"
_LOCK = "log.lock"
_APPLICATION_ID = 0x4D544C47  # "MTLG", see PRAGMA application_id
_FORMAT = 1  # PRAGMA user_version

# Events of about 26 kB take 1.01 times their size with pages of 8 KiB, and 1.26 times with 16 KiB.
# Pages of 4 KiB are a fifth slower to write.
_PAGE_BYTES = 8 * 1024
_CACHE_KIB = 4 * 1024
# A commit that makes the write-ahead log larger than this copies it into the file while it holds
# the lock. Everything is then copied, so the next commit starts the write-ahead log from its
# beginning.
_CHECKPOINT_BYTES = 16 * 1024 * 1024
# Readers that use the write-ahead log prevent it from starting again. Beyond this size, writers
# wait for these readers to finish.
_WAL_BYTES_MAX = 128 * 1024 * 1024
_GROUP_BYTES_MAX = 32 * 1024 * 1024
_BUSY_TIMEOUT_MS = 10_000
_CLOSE_TIMEOUT_MS = 500
_AHEAD_MS_MAX = 60_000

# How often a waiting reader checks for commits of other processes; commits of its own process wake
# it. A check takes about 50 us of a core, mostly for waking up, so it is done less often when the
# log is quiet.
_LOOK_EVERY_S = 0.003
_LOOK_EVERY_QUIET_S = 0.015
_QUIET_AFTER_S = 0.25

_DDL = """
CREATE TABLE {stream} (
    offset INTEGER PRIMARY KEY,
    appended_at_ms INTEGER NOT NULL,  -- since 1970 UTC
    payload BLOB NOT NULL             -- Avro single-object encoding
) STRICT;
CREATE TRIGGER {stream}_in_order BEFORE INSERT ON {stream}
WHEN NEW.offset IS NOT (SELECT coalesce(max(offset) + 1, 0) FROM {stream})
BEGIN SELECT RAISE(ABORT, 'the log only grows at its end'); END;
CREATE TRIGGER {stream}_no_update BEFORE UPDATE ON {stream}
BEGIN SELECT RAISE(ABORT, 'the log is never rewritten'); END;
CREATE TRIGGER {stream}_no_delete BEFORE DELETE ON {stream}
BEGIN SELECT RAISE(ABORT, 'the log is never rewritten'); END;
"""
_SCHEMAS_DDL = """
CREATE TABLE schemas (
    fingerprint BLOB PRIMARY KEY,  -- CRC-64-AVRO as in the payloads, 8 bytes little-endian
    json TEXT NOT NULL
) STRICT;
CREATE TRIGGER schemas_no_replace BEFORE INSERT ON schemas
WHEN EXISTS (SELECT 1 FROM schemas WHERE fingerprint = NEW.fingerprint)
BEGIN SELECT RAISE(ABORT, 'the log is never rewritten'); END;
CREATE TRIGGER schemas_no_update BEFORE UPDATE ON schemas
BEGIN SELECT RAISE(ABORT, 'the log is never rewritten'); END;
CREATE TRIGGER schemas_no_delete BEFORE DELETE ON schemas
BEGIN SELECT RAISE(ABORT, 'the log is never rewritten'); END;
"""


class _Append:
    """One call of ``append`` in a group commit."""

    __slots__ = ("abandoned", "done", "error", "events", "positions")

    def __init__(self, events: Sequence[NewEvent]) -> None:
        self.events = events
        self.positions: list[Position] = []
        self.error: LogError | None = None
        self.done = False
        self.abandoned = False


class EmbeddedLog:
    """An event log in one SQLite file."""

    shared = False

    def __init__(self, folder: str | Path, *, create: bool = True) -> None:
        """Open the log.

        Args:
            folder: The folder of ``log.sqlite``.
            create: Create the folder and file if they do not exist. Otherwise nothing is written
                until the first ``append``, so that a log in a read-only folder can be read.

        Raises:
            LogMisconfigured: there is no log and ``create`` is false, it is not a log, its format
                is newer, or the folder is not writable.
            LogUnavailable: the disk is full or fails.
        """
        self._folder = Path(os.path.abspath(folder))
        self._path = self._folder / _FILE
        self.url = f"file:{quote(str(self._folder))}"
        self._closed = False
        self._may_write = create
        self._begin()
        if create:
            try:
                make_folder(self._folder)
            except OSError as e:
                raise LogMisconfigured(
                    f"cannot make the log's folder {self._folder}: {e.strerror}"
                ) from e
            lock = _FileLock(self._folder / _LOCK, _BUSY_TIMEOUT_MS / 1000)
            try:
                with self._commit_lock, lock:
                    self._create()
            finally:
                lock.close()
        elif not self._path.is_file():
            raise LogMisconfigured(f"there is no log at {self._path}")
        else:
            self._select("SELECT 1 FROM schemas LIMIT 0")
        _LIVE.add(self)

    def _begin(self) -> None:
        """Set up the state that a forked child must not share with its parent."""
        self._writing: sqlite3.Connection | None = None
        self._reported_ahead = False
        self._reading: sqlite3.Connection | None = None
        self._file_lock: _FileLock | None = None
        self._commit_lock = threading.Lock()  # held by the thread that commits for all
        self._queue_lock = threading.Lock()
        self._queue: list[_Append] = []
        self._select_lock = threading.Lock()
        self._changed = threading.Condition()

    def _forget(self) -> None:
        """In a forked child, leave the parent's connections alone and open new ones when needed."""
        _INHERITED.extend(c for c in (self._writing, self._reading) if c is not None)
        if self._file_lock is not None:
            self._file_lock.close()  # or the lock would remain if the parent is killed
        self._begin()

    # Appending

    def append(self, events: Sequence[NewEvent], timeout_s: float = 30.0) -> list[Position]:
        check_events(events)
        mine = _Append(events)
        until = time.monotonic() + timeout_s
        with self._queue_lock:
            if self._closed:
                raise LogClosed("the log was closed")
            self._queue.append(mine)
        # The thread that gets the lock commits everything queued by then. The others find their
        # events done.
        if not self._commit_lock.acquire(timeout=max(timeout_s, 0)):
            with self._queue_lock:
                mine.abandoned = True
            if not mine.done:
                raise LogUnavailable(f"{self._path}: not written within {timeout_s:g} s")
        else:
            try:
                while not mine.done:
                    self._commit_group(mine, until)
            finally:
                self._commit_lock.release()
        if mine.error is not None:
            raise mine.error
        return mine.positions

    def _commit_group(self, mine: _Append, until: float) -> None:
        """Write everything in the queue in one transaction. The caller holds ``_commit_lock``."""
        group: list[_Append] = []
        try:
            with self._writer_lock(until):
                # Take the queue only now, because it grew while other processes had the lock.
                group = self._take_group()
                self._write(group)
        except BaseException as e:
            if not group:
                # The lock could not be acquired: only calls whose time is up give up.
                with self._queue_lock:
                    self._queue.remove(mine)
                group = [mine]
            error = e if isinstance(e, LogError) else LogUnavailable(f"the commit broke off: {e!r}")
            for one in group:
                one.error, one.done = error, True
            if isinstance(e, LogError):
                return
            self._discard_writer()
            raise
        for one in group:
            one.done = True
        with self._changed:
            self._changed.notify_all()

    def _take_group(self) -> list[_Append]:
        with self._queue_lock:
            self._queue = [a for a in self._queue if not a.abandoned]
            size = count = 0
            for a in self._queue:
                size += sum(len(e.payload) for e in a.events)
                if count and size > _GROUP_BYTES_MAX:
                    break
                count += 1
            group, self._queue = self._queue[:count], self._queue[count:]
        return group

    def _write(self, group: list[_Append]) -> None:
        """Run the transaction.

        Its order:

        1. begin, as the only writer;
        2. read the end of both streams, and the latest append time;
        3. insert;
        4. commit: SQLite writes to the write-ahead log and syncs it (``synchronous=FULL``);
        5. past ``_CHECKPOINT_BYTES``, SQLite copies the write-ahead log into the file.
        """
        try:
            con = self._writer()
            con.execute("BEGIN IMMEDIATE")
            ends, latest_ms = {}, 0
            for stream in STREAMS:
                last = con.execute(
                    f"SELECT offset, appended_at_ms FROM {stream} ORDER BY offset DESC LIMIT 1"
                ).fetchone()
                ends[stream] = last[0] + 1 if last else 0
                latest_ms = max(latest_ms, last[1] if last else 0)
            now_ms = time.time_ns() // 1_000_000
            if latest_ms - now_ms > _AHEAD_MS_MAX and not self._reported_ahead:
                self._reported_ahead = True
                logger.warning(
                    "%s: its last event is dated %.0f s after now, so the clock was ahead then or "
                    "is behind now; what is appended until then gets that time, since append times "
                    "never go back",
                    self.url,
                    (latest_ms - now_ms) / 1000,
                )
            now_ms = max(now_ms, latest_ms)
            rows: dict[str, list[tuple[int, int, bytes]]] = {s: [] for s in STREAMS}
            for one in group:
                one.positions = []
                for stream, _, payload in one.events:
                    offset = ends[stream]
                    ends[stream] = offset + 1
                    rows[stream].append((offset, now_ms, payload))
                    one.positions.append(Position(stream, 0, offset))
            for stream, new in rows.items():
                if new:
                    con.executemany(f"INSERT INTO {stream} VALUES (?, ?, ?)", new)
            con.execute("COMMIT")
        except sqlite3.Error as e:
            self._discard_writer()
            raise self._translated(e) from e
        # The events are durable by now, even if this step fails or has to wait.
        with suppress(sqlite3.Error, FileNotFoundError):
            if os.stat(f"{self._path}-wal").st_size > _WAL_BYTES_MAX:
                con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def adopt(self, records: Sequence[LogRecord], timeout_s: float = 30.0) -> None:
        """Insert records of another log at their own positions and times.

        They are durable on return.

        Used for copies: in every stream, this log must end where the records begin.

        Raises:
            LogRefused: it does not, or this log has no such partition.
            LogUnavailable: not durable within ``timeout_s``.
        """
        rows: dict[str, list[tuple[int, int, bytes]]] = {stream: [] for stream in STREAMS}
        for record in records:
            if record.partition:
                raise LogRefused(f"{self._path} has no partition {record.position.within}")
            rows[record.stream].append((record.offset, record.appended_at_ms, record.payload))
        with self._commit_lock:
            if self._closed:
                raise LogClosed("the log was closed")
            with self._writer_lock(time.monotonic() + timeout_s):
                try:
                    con = self._writer()
                    con.execute("BEGIN IMMEDIATE")
                    for stream, new in rows.items():
                        con.executemany(f"INSERT INTO {stream} VALUES (?, ?, ?)", new)
                    con.execute("COMMIT")
                except sqlite3.IntegrityError as e:
                    self._discard_writer()
                    raise LogRefused(f"{self._path}: {e}") from e
                except sqlite3.Error as e:
                    self._discard_writer()
                    raise self._translated(e) from e

    def _writer(self) -> sqlite3.Connection:
        if self._writing is None:
            self._writing = self._connect("rw")
        return self._writing

    def _discard_writer(self) -> None:
        if self._writing is not None:
            with suppress(sqlite3.Error):
                self._writing.close()  # rolls back
            self._writing = None

    def _writer_lock(self, until: float) -> _FileLock:
        if self._file_lock is None:
            self._file_lock = _FileLock(self._folder / _LOCK)
        self._file_lock.timeout_s = until - time.monotonic()
        return self._file_lock

    # Opening

    def _create(self) -> None:
        """Create the file and its tables if needed. Holds the file lock."""
        fresh = not self._path.exists()
        try:
            if fresh:
                # SQLite gives the files beside it (-wal, -shm) the same mode. Never open a file
                # here that may be in use: closing it would drop all locks that this process has on
                # it (POSIX), and other processes would corrupt the log.
                os.close(open_private(self._path))
            con = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_TIMEOUT_MS / 1000)
            try:
                [tables] = con.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                if not tables and not con.execute("PRAGMA application_id").fetchone()[0]:
                    con.execute(f"PRAGMA page_size={_PAGE_BYTES}")
                    con.execute("PRAGMA journal_mode=WAL")
                    con.execute("PRAGMA synchronous=FULL")
                    ddl = "".join(_DDL.format(stream=s) for s in STREAMS) + _SCHEMAS_DDL
                    con.executescript(
                        f"BEGIN IMMEDIATE; {ddl}"
                        f"PRAGMA application_id={_APPLICATION_ID}; PRAGMA user_version={_FORMAT};"
                        "COMMIT;"
                    )
                self._check_format(con)
            finally:
                con.close()
            if fresh:
                # A file is durable only once its folder's entry is.
                for folder in (self._folder, self._folder.parent):
                    sync(folder)
        except sqlite3.Error as e:
            raise self._translated(e) from e
        except OSError as e:
            raise LogUnavailable(f"{self._folder}: {e.strerror}") from e

    def _check_format(self, con: sqlite3.Connection) -> None:
        application = con.execute("PRAGMA application_id").fetchone()[0]
        version = con.execute("PRAGMA user_version").fetchone()[0]
        if application != _APPLICATION_ID:
            raise LogMisconfigured(
                f"{self._path} is an SQLite file of another program; choose another folder"
            )
        if version != _FORMAT:
            raise LogMisconfigured(
                f"{self._path} has format {version}, and this version of Modeltrail knows "
                f"{_FORMAT}; upgrade Modeltrail"
            )

    def _connect(self, mode: str) -> sqlite3.Connection:
        """Return a new connection. ``mode`` is ``rw`` or ``ro``."""
        uri = f"file:{quote(str(self._path))}?mode={mode}"
        if mode == "ro" and not os.access(self._folder, os.W_OK) and not self._wal_exists():
            # No process can write here, and SQLite could not create the files that it shares with
            # writers.
            uri += "&immutable=1"
        con = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            timeout=_BUSY_TIMEOUT_MS / 1000,
            check_same_thread=False,
        )
        try:
            con.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            if mode == "rw":
                con.execute("PRAGMA synchronous=FULL")
                con.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_BYTES // _PAGE_BYTES}")
            self._check_format(con)
        except BaseException:
            con.close()
            raise
        return con

    def _wal_exists(self) -> bool:
        return os.path.exists(f"{self._path}-wal")

    def _translated(self, e: sqlite3.Error) -> LogError:
        """Return the ``LogError`` for an error of SQLite, with its repair."""
        code = getattr(e, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return LogUnavailable(f"{self._path}: the disk is full; free some space ({e})")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
            return LogMisconfigured(
                f"{self._path} cannot be opened or written ({e}); give this user write access to "
                f"the folder and the files in it (chown or chmod u+w), or choose another folder"
            )
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return LogMisconfigured(
                f"{self._path} is not a log, or is damaged ({e}); restore it from a backup, or "
                "choose another folder. Nothing was changed"
            )
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            return LogUnavailable(f"{self._path}: another program holds the file ({e})")
        return LogUnavailable(f"{self._path}: {e}")

    # Reading

    def reader(self, start: Mapping[Partition, int]) -> EmbeddedReader:
        if self._closed:
            raise LogClosed("the log was closed")
        end = self.end()
        for partition, offset in start.items():
            if partition not in end:
                raise LogMisconfigured(f"{self._path} has no partition {partition}")
            if offset > end[partition]:
                raise LogMisconfigured(
                    f"{self._path} ends at {partition}:{end[partition]}, and a reader wants to go "
                    f"on at {offset}: this is another log, or it was cut short. Restore it, or "
                    "rebuild the projections from it"
                )
        return EmbeddedReader(self, start)

    def end(self) -> dict[Partition, int]:
        columns = (f"(SELECT coalesce(max(offset) + 1, 0) FROM {s})" for s in STREAMS)
        [row] = self._select(f"SELECT {', '.join(columns)}")
        return {Partition(s, 0): n for s, n in zip(STREAMS, row, strict=True)}

    def add_schemas(self, schemas: Mapping[bytes, str]) -> None:
        known = self.schemas()
        new = [(f, text, f) for f, text in schemas.items() if f not in known]
        if not new:
            return
        with self._commit_lock:
            if self._closed:
                raise LogClosed("the log was closed")
            with self._writer_lock(time.monotonic() + _BUSY_TIMEOUT_MS / 1000):
                try:
                    con = self._writer()
                    con.execute("BEGIN IMMEDIATE")
                    con.executemany(
                        "INSERT INTO schemas SELECT ?, ? "
                        "WHERE NOT EXISTS (SELECT 1 FROM schemas WHERE fingerprint = ?)",
                        new,
                    )
                    con.execute("COMMIT")
                except sqlite3.Error as e:
                    self._discard_writer()
                    raise self._translated(e) from e

    def schemas(self) -> dict[bytes, str]:
        return dict(self._select("SELECT fingerprint, json FROM schemas"))

    def _select(self, sql: str) -> list[Any]:
        with self._select_lock:
            if self._closed:
                raise LogClosed("the log was closed")
            try:
                if self._reading is None:
                    self._reading = self._connect("ro")
                return self._reading.execute(sql).fetchall()
            except sqlite3.Error as e:
                raise self._translated(e) from e

    def close(self) -> None:
        """Close the log; see ``EventLog.close``.

        Afterwards ``log.sqlite`` alone contains the whole log, unless another process still uses
        it. In that case the last writer to close does the same.
        """
        with self._queue_lock:
            self._closed = True
        # If a read-only connection closed last, it would leave the write-ahead log as it is.
        with self._select_lock:
            if self._reading is not None:
                self._reading.close()
                self._reading = None
        with self._commit_lock:  # appends under way have finished
            self._empty_wal()
            self._discard_writer()
            if self._file_lock is not None:
                self._file_lock.close()
                self._file_lock = None
        with self._changed:
            self._changed.notify_all()

    def _empty_wal(self) -> None:
        """Copy the write-ahead log into the file, as far as other processes allow.

        The caller holds ``_commit_lock``.

        A copy of the file alone, or of the folder, is then complete. If this fails nothing is lost:
        SQLite reads the write-ahead log at the next start.
        """
        if not self._may_write and self._writing is None:
            return
        with suppress(sqlite3.Error, LogError, OSError):
            if not self._wal_exists():
                return
            con = self._writer()
            con.execute(f"PRAGMA busy_timeout={_CLOSE_TIMEOUT_MS}")
            with self._writer_lock(time.monotonic() + _CLOSE_TIMEOUT_MS / 1000):
                con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def __repr__(self) -> str:
        return f"EmbeddedLog({str(self._folder)!r})"


class EmbeddedReader:
    """Reads an ``EmbeddedLog`` with its own connection."""

    def __init__(self, log: EmbeddedLog, start: Mapping[Partition, int]) -> None:
        self._log = log
        self._next = {s: start.get(Partition(s, 0), 0) for s in STREAMS}
        self._woken = False
        self._closed = False
        self._con: sqlite3.Connection | None = None
        self._quiet_from = 0.0
        _LIVE.add(self)

    def _forget(self) -> None:
        if self._con is not None:
            _INHERITED.append(self._con)
        self._con = None

    def poll(self, timeout_s: float, bytes_max: int = 32 * 1024 * 1024) -> list[LogRecord]:
        until = time.monotonic() + timeout_s
        try:
            while True:
                if self._closed or self._log._closed:
                    raise LogClosed("the log or its reader was closed")
                if self._con is None:
                    self._con = self._log._connect("ro")
                # Read this before the rows, so that a commit in between counts as a change.
                version = self._con.execute("PRAGMA data_version").fetchone()[0]
                records = self._read(self._con, bytes_max)
                if records or not self._wait(self._con, version, until):
                    return records
        except sqlite3.Error as e:
            raise self._log._translated(e) from e

    def _read(self, con: sqlite3.Connection, bytes_max: int) -> list[LogRecord]:
        records = []
        for stream in STREAMS:
            rows = con.execute(
                f"SELECT offset, appended_at_ms, payload FROM {stream} "
                "WHERE offset >= ? ORDER BY offset",
                (self._next[stream],),
            )
            try:
                for offset, appended_at_ms, payload in rows:
                    records.append(LogRecord(stream, 0, offset, appended_at_ms, payload))
                    self._next[stream] = offset + 1
                    bytes_max -= len(payload)
                    if bytes_max <= 0:
                        return records
            finally:
                rows.close()  # end the read transaction, or writers could not reuse the WAL
        return records

    def _wait(self, con: sqlite3.Connection, version: int, until: float) -> bool:
        """Wait for a commit. Returns False if the time is up or the reader was woken."""
        with self._log._changed:
            while True:
                if self._woken:
                    self._woken = False
                    return False
                if self._closed or self._log._closed:
                    return True
                now = time.monotonic()
                if con.execute("PRAGMA data_version").fetchone()[0] != version:
                    self._quiet_from = now + _QUIET_AFTER_S
                    return True
                if now >= until:
                    return False
                pause = _LOOK_EVERY_S if now < self._quiet_from else _LOOK_EVERY_QUIET_S
                self._log._changed.wait(min(until - now, pause))

    def wake(self) -> None:
        with self._log._changed:
            self._woken = True
            self._log._changed.notify_all()

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Do nothing: readers of a file store their positions themselves."""

    def close(self) -> None:
        self._closed = True
        if self._con is not None:
            self._con.close()
            self._con = None


class _FileLock:
    """An exclusive ``flock`` as a context manager. The kernel releases it when the process dies."""

    def __init__(self, path: Path, timeout_s: float = 0.0) -> None:
        self.timeout_s = timeout_s
        self._path = path
        try:
            self._fd = open_private(path)
        except OSError as e:
            raise LogMisconfigured(
                f"cannot write in {path.parent} ({e.strerror}); give this user write access to the "
                "folder and the files in it (chown or chmod u+w), or choose another folder"
            ) from e

    def __enter__(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        # flock has no time-out, so a thread waits for it, and releases it if it comes too late.
        waiting = threading.Lock()
        late = False
        got = threading.Event()
        fd = self._fd

        def wait() -> None:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with waiting:
                if late:
                    os.close(fd)
                got.set()

        threading.Thread(target=wait, name="modeltrail-log-lock", daemon=True).start()
        if not got.wait(max(self.timeout_s, 0)):
            with waiting:
                late = not got.is_set()
            if late:
                # The thread keeps the old descriptor until it gets the lock.
                self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
                raise LogUnavailable(
                    f"{self._path}: another process held the log for {self.timeout_s:.1f} s"
                )

    def __exit__(self, *exc: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._fd)


_LIVE: weakref.WeakSet[EmbeddedLog | EmbeddedReader] = weakref.WeakSet()
# SQLite forbids a child to use, or even close, inherited connections. This list keeps them from the
# garbage collector.
_INHERITED: list[sqlite3.Connection] = []


def _after_fork() -> None:
    for one in list(_LIVE):
        one._forget()


os.register_at_fork(after_in_child=_after_fork)
