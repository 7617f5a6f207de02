"""The fold: reads the log, folds it into DuckDB, and reports its position to waiting threads."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from modeltrail.consumers import store
from modeltrail.consumers.chain import Head, heads, links
from modeltrail.consumers.database import Database, News
from modeltrail.consumers.projections.registry import RegistryProjection, Snapshot
from modeltrail.consumers.projections.requests import Verdict
from modeltrail.consumers.store import Limits, LogContradicted, StoreError
from modeltrail.eventlog import (
    REGISTRY_PARTITION,
    EventLog,
    LogRecord,
    LogUnavailable,
    Partition,
    Position,
    Reader,
)
from modeltrail.schemas import Codec

if TYPE_CHECKING:
    from modeltrail.consumers.checkpoints import Checkpoint

logger = logging.getLogger("modeltrail.fold")

Progress = Callable[[int, int], None]
"""Called with the number of events done and the total."""

Watcher = Callable[[list[News], list[Verdict], dict[Partition, int]], None]
"""Called with the events of a batch, the verdicts among them, and how far the fold is now."""

_POLL_TIMEOUT_S = 1.0
_RETRY_PAUSE_S = 1.0
_SILENCE_MAX_S = 60.0
_BATCH_BYTES_MAX = 32 * 1024 * 1024
_REST_MAX_S = 0.05
_RESTS_PER_BATCH = 8
_VERDICTS_KEPT = 1_000


class FoldBehind(Exception):
    """The fold did not reach a position in time. The events are safe in the log."""


@dataclass(frozen=True, slots=True)
class FoldStatus:
    """The state of the fold."""

    positions: dict[Partition, int]
    """For each partition, the next offset to fold."""
    records: int
    """Number of records folded by this process."""
    repeats: int
    """Number of all repeated events, which had no second effect."""
    dead_letters: int
    error: str | None
    """Why the fold has stopped, or None."""
    folded_at_ms: int | None
    """Append time of the last record folded by this process, in ms since 1970 UTC."""


class Fold:
    """Folds a log into a DuckDB database. A fold owns its file."""

    def __init__(
        self,
        log: EventLog,
        database: Path | None,
        *,
        memory_limit: str | None = None,
        threads: int | None = None,
        on_registry_work: Callable[[], None] | None = None,
        accept: bool = False,
    ) -> None:
        """Make a fold; nothing is opened yet.

        Args:
            log: The log to read.
            database: The file, created if missing; None for a database in memory.
            memory_limit: DuckDB's, such as "4GB"; by default its own, 80 % of the machine's memory.
            threads: DuckDB's; by default one for each core.
            on_registry_work: Called, in the fold's thread, after a batch in which runs requested
                something from the registry.
            accept: If the log contradicts the tables, set them aside and fold the log, because the
                operator said that this log is the right one.
        """
        self._log = log
        self._path = database
        self._limits = Limits(memory_limit, threads)
        self._on_registry_work = on_registry_work
        self._accept = accept
        self.contradicted: str | None = None
        """How the log contradicts what was signed, found while the fold runs; or None."""
        self.checkpoint: Checkpoint | None = None
        """The newest signed checkpoint; None if the process signs none."""
        self._codec = Codec(lambda: log.schemas().values())
        self._database: Database | None = None
        self._reader: Reader | None = None
        self._folding = threading.Lock()
        self._folded = threading.Condition()
        self._positions: dict[Partition, int] = {}
        self._verdicts: dict[int, Verdict] = {}  # the latest ones, by offset
        self._records = 0
        self._folded_at_ms: int | None = None
        self._error: str | None = None
        self._batch_s = 0.0
        self._waiting = 0
        self._listeners: list[Callable[[], None]] = []
        self._watcher: Watcher | None = None
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # Opening and closing

    def open(self, progress: Progress | None = None) -> None:
        """Open the database, after rebuilding it if it cannot be used as it is.

        Raises:
            LogContradicted: the log is not the one that was folded; see ``accept``.
            StoreError: the file is in use, or its folder is read-only or full.
            LogError: the log cannot be read.
        """
        if self._path is not None:
            store.finish_swap(self._path, self._limits)
            why = self._why_unusable(self._path)
            if why is not None:
                logger.warning("%s: rebuilding from the log", why)
                rebuild(self._log, self._path, progress, limits=self._limits)
        self._database = Database(self._path, self._codec, self._limits)
        self._positions = self._database.positions()

    def open_as_left(self) -> None:
        """Open the database as it was left, to answer while the log is away.

        If there is no database of this version, an empty one in memory is opened.

        Raises:
            StoreError: the file is in use, or its folder is read-only or full.
        """
        path = self._path
        if path is not None:
            store.finish_swap(path, self._limits)
            if not self._is_usable(path):
                path = None
        self._database = Database(path, self._codec, self._limits)
        if path is None:
            self.describe()
        self._positions = self._database.positions()

    def describe(self) -> None:
        """Add the comments of views and columns to a database in memory; a file has them."""
        self._opened().describe()

    def _is_usable(self, path: Path) -> bool:
        if not path.exists():
            return False
        try:
            con = store.connect(path, self._limits)
        except duckdb.Error:
            return False
        with closing(con):
            return store.version_of(con) == store.PROJECTION_VERSION

    def _why_unusable(self, path: Path) -> str | None:
        """Return why a file has to be rebuilt, after setting it aside if it must be kept."""
        if not path.exists():
            return None
        try:
            con = store.connect(path, self._limits)
        except duckdb.Error as error:
            aside = store.set_aside(path, "unreadable")
            reason = str(error).splitlines()[0]
            return f"{path.name} cannot be read ({reason}) and was kept as {aside.name}"
        with closing(con):
            found = store.version_of(con)
            how = None
            if found is not None and found <= store.PROJECTION_VERSION:
                how = contradiction(self._log, con)
        if how is not None:
            if not self._accept:
                raise LogContradicted(path, how)
            aside = store.set_aside(path, "contradicted")
            return f"{path.name} {how}; it was kept as {aside.name}, as this log was accepted"
        if found == store.PROJECTION_VERSION:
            return None
        if found is not None and found < store.PROJECTION_VERSION:
            return f"{path.name} has version {found}, this program {store.PROJECTION_VERSION}"
        aside = store.set_aside(path, "newer" if found is not None else "foreign")
        author = f"a newer Modeltrail (version {found})" if found else "something else"
        return f"{path.name} was written by {author} and was kept as {aside.name}"

    def start(self, progress: Progress | None = None) -> None:
        """Open the database and fold in a separate thread. Raises like ``open``."""
        self.open(progress)
        self._thread = threading.Thread(target=self._run, name="modeltrail-fold", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the current batch, checkpoint and close."""
        self._stopping.set()
        self._hurry.set()
        if self._reader is not None:
            self._reader.wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._close_reader()
        with self._folding:
            database, self._database = self._database, None
            if database is not None:
                database.close()
                if database.path != self._path and self._path is not None:
                    store.finish_swap(self._path, self._limits)
        with self._folded:
            self._folded.notify_all()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self.step(_POLL_TIMEOUT_S):
                    self._rest()
                self._error = None
            except Exception as error:
                # A full disk, a log out of reach, or a bug: report it, and keep trying. Events wait
                # in the log meanwhile; skipping them would lose them silently.
                text = f"{type(error).__name__}: {error}"
                if text != self._error:
                    logger.error("the fold has stopped: %s", text)
                self._error = text
                self._close_reader()
                self._stopping.wait(_RETRY_PAUSE_S)

    def _rest(self) -> None:
        """Throttle: after a small batch, sleep a multiple of its duration.

        A batch of a few events costs hardly less than one of a thousand. Without a rest, a trickle
        of events would keep a core busy that requests could use. There is no rest while a reader is
        waiting.
        """
        if self._batch_s < _REST_MAX_S and not self._waiting:
            self._hurry.wait(min(_RESTS_PER_BATCH * self._batch_s, _REST_MAX_S))
        self._hurry.clear()

    # Folding

    def step(self, timeout_s: float = 0.0, until: Mapping[Partition, int] | None = None) -> int:
        """Fold one batch in the caller's thread.

        Args:
            timeout_s: How long to wait for records, in seconds.
            until: Fold nothing at or past these offsets.

        Returns:
            The number of records folded.
        """
        if self._reader is None:
            self._reader = self._log.reader(self._positions)
        records = self._reader.poll(timeout_s, _BATCH_BYTES_MAX)
        if until is not None:
            ends = {(p.stream, p.partition): n for p, n in until.items()}
            wanted = [r for r in records if r.offset < ends.get((r.stream, r.partition), 0)]
            if len(wanted) < len(records):
                self._close_reader()  # it has read too far; the next step opens another
            records = wanted
        if records:
            self._fold(records)
            if self._reader is not None:
                self._reader.commit(self._positions)
        return len(records)

    def _fold(self, records: list[LogRecord]) -> None:
        began = time.monotonic()
        with self._folding:
            database = self._opened()
            try:
                watcher, verdicts = self._watcher, list[Verdict]()

                def tell(decided: list[Verdict]) -> None:
                    verdicts.extend(decided)
                    self._tell(decided)

                news = database.fold(records, tell, watched=watcher is not None)
            except BaseException:
                self._close_reader()  # it is past records that must be read again
                raise
            self._publish(database)
            asks = database.asks_for_registry
        self._batch_s = time.monotonic() - began
        self._records += len(records)
        self._folded_at_ms = records[-1].appended_at_ms
        if asks and self._on_registry_work is not None:
            self._on_registry_work()
        for listener in self._listeners:
            listener()
        if watcher is not None:
            watcher(news, verdicts, self.positions())

    def _opened(self) -> Database:
        if self._database is None:
            raise StoreError("the projections are not open")
        return self._database

    def _tell(self, verdicts: list[Verdict]) -> None:
        """Announce verdicts before they are in the tables: they follow from the log alone."""
        if not verdicts:
            return
        with self._folded:
            for verdict in verdicts[-_VERDICTS_KEPT:]:
                self._verdicts[verdict.offset] = verdict
            while len(self._verdicts) > _VERDICTS_KEPT:
                del self._verdicts[next(iter(self._verdicts))]
            self._folded.notify_all()

    def _publish(self, database: Database) -> None:
        with self._folded:
            self._positions = database.positions()
            self._folded.notify_all()

    def catch_up(
        self, until: Mapping[Partition, int] | None = None, progress: Progress | None = None
    ) -> None:
        """Fold in the caller's thread up to the given offsets, by default the log's current end.

        Raises:
            LogError: the log ends earlier, or cannot be read.
        """
        goal = dict(self._log.end() if until is None else until)
        start = sum(self._positions.get(p, 0) for p in goal)
        total = sum(goal.values()) - start
        deadline = time.monotonic() + _SILENCE_MAX_S
        while any(self._positions.get(p, 0) < n for p, n in goal.items()):
            if self.step(0.2, goal):
                deadline = time.monotonic() + _SILENCE_MAX_S
                if progress is not None:
                    progress(sum(self._positions.get(p, 0) for p in goal) - start, total)
            elif time.monotonic() > deadline:
                raise LogUnavailable(f"the log gave nothing for {_SILENCE_MAX_S:g} s")

    def retry_dead_letters(self, progress: Progress | None = None) -> int:
        """Rebuild beside the running database and swap, if a dead letter can be decoded now.

        An event takes effect at its own position or not at all; therefore a rebuild. Queries and
        the fold continue meanwhile.

        Returns:
            The number of dead letters that can be decoded now.
        """
        found = self._opened().decodable_dead_letters()
        if found:
            path = store.beside(self._path) if self._path is not None else None
            if path is not None:
                if path == self._opened().path:
                    raise StoreError("a rebuilt database is in use already; restart first")
                store.remove(path)
            other = Fold(self._log, path, **self._limits._asdict())
            other._database = Database(path, self._codec, self._limits)
            other.catch_up(progress=progress)
            with self._folding:
                other.catch_up(self._positions)
                other._close_reader()
                rebuilt, old = other._opened(), self._opened()
                for partition, folded in old.partitions.items():
                    if rebuilt.partitions[partition].head != folded.head:
                        rebuilt.close()
                        raise LogContradicted(
                            self._path or Path("memory"), f"was folded from another {partition}"
                        )
                store.mark_complete(rebuilt.connection)
                self._database = rebuilt
                self._verdicts.clear()
                self._publish(rebuilt)
                old.close()
        return found

    # For readers

    @property
    def folder(self) -> Path | None:
        """The data folder with the fold's file; None for a database in memory."""
        return None if self._path is None else self._path.parent

    def positions(self) -> dict[Partition, int]:
        """For each partition, the next offset to fold. Everything before it can be queried."""
        return dict(self._positions)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function in the fold's thread after each batch. It must be quick."""
        self._listeners.append(listener)

    def watch(self, watcher: Watcher | None) -> None:
        """Call a function in the fold's thread with what each batch did; None for no more.

        It must be quick. The batch under way is not reported; ``settle`` waits for its end.
        """
        self._watcher = watcher

    def settle(self) -> dict[Partition, int]:
        """Wait for the end of the batch under way, and return how far the fold is then."""
        with self._folding:
            return self.positions()

    def wait_for(self, positions: Mapping[Partition, int], timeout_s: float) -> None:
        """Wait until everything before these offsets is folded. Raises ``FoldBehind``."""

        def reached() -> bool:
            return all(self._positions.get(p, 0) >= n for p, n in positions.items())

        if not self._wait_until(reached, timeout_s):
            wanted = ", ".join(f"{p}:{n}" for p, n in sorted(positions.items()))
            raise FoldBehind(
                self._error or f"the fold did not come as far as {wanted} in {timeout_s:g} s"
            )

    def verdict(self, position: Position, timeout_s: float) -> Verdict | None:
        """Wait until a registry request is decided, which is before it can be queried.

        Returns:
            None if the fold passed it without a verdict, as for a repeat, or too long ago.

        Raises:
            FoldBehind: not in time.
        """
        offset = position.offset
        self._wait_until(
            lambda: offset in self._verdicts or self._positions.get(position.within, 0) > offset,
            timeout_s,
        )
        verdict = self._verdicts.get(offset)
        if verdict is None:
            self.wait_for({position.within: offset + 1}, 0)
        return verdict

    @contextmanager
    def registry(
        self, next_offset: int, timeout_s: float
    ) -> Iterator[tuple[RegistryProjection, int]]:
        """Yield the registry in memory, with everything decided before an offset.

        The decisions may not be in the tables yet. Nothing is decided during the block, so keep it
        short.

        Yields:
            The registry, and the next offset to decide. The tables may be behind.

        Raises:
            FoldBehind: not in time.
            StoreError: the fold is closed.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            database = self._opened()
            with database.deciding:
                if database.decided >= next_offset:
                    yield database.registry, database.decided
                    return
            self._wait_until(
                lambda: self._opened().decided >= next_offset, deadline - time.monotonic()
            )
            if time.monotonic() > deadline:
                raise FoldBehind(
                    self._error or f"registry:{next_offset} was not decided in {timeout_s:g} s"
                )

    def snapshot(self) -> Snapshot:
        """Return what permissions depend on, as it was decided last. Raises ``StoreError``."""
        return self._opened().registry.snapshot

    def _wait_until(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        if reached():
            return True
        with self._folded:
            self._waiting += 1
            self._hurry.set()
            try:
                self._folded.wait_for(lambda: self._database is None or reached(), timeout_s)
            finally:
                self._waiting -= 1
        return reached()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection for queries, for one thread; close it.

        Raises ``StoreError`` if closed.
        """
        return self._opened().connection.cursor()

    def status(self) -> FoldStatus:
        """Return the state of the fold."""
        database = self._database
        return FoldStatus(
            positions=self.positions(),
            records=self._records,
            repeats=sum(f.repeats for f in list(database.partitions.values())) if database else 0,
            dead_letters=database.dead_letters if database else 0,
            error=self._error,
            folded_at_ms=self._folded_at_ms,
        )


def contradiction(log: EventLog, con: duckdb.DuckDBPyConnection) -> str | None:
    """Return how a log differs from what was folded, at its end; None if it does not.

    Checks the end of the log and the last folded event of each partition, which takes milliseconds;
    ``audit.verify`` checks everything. The tables may be of an older version.

    Raises:
        LogError: the log cannot be read.
    """
    stored = {
        Partition(stream, partition): rest
        for stream, partition, *rest in con.execute(
            "SELECT stream, partition, next_offset, last_digest, last_appended_at_ms"
            " FROM fold.positions WHERE next_offset > 0"
        ).fetchall()
    }
    end = log.end()
    for partition, (next_offset, *_) in sorted(stored.items()):
        if next_offset > end.get(partition, 0):
            return (
                f"is folded up to offset {next_offset - 1} of {partition}, but the log ends "
                f"at {end.get(partition, 0)}: it was cut, or it is another log"
            )
    last = {p: next_offset - 1 for p, (next_offset, *_) in stored.items()}
    with closing(log.reader({**end, **last})) as reader:
        deadline = time.monotonic() + _SILENCE_MAX_S
        while last and time.monotonic() < deadline:
            for record in reader.poll(0.5, 1):
                partition = Partition(record.stream, record.partition)
                if last.get(partition) == record.offset:
                    del last[partition]
                    _, digest, appended_at_ms = stored[partition]
                    found = hashlib.sha256(record.payload).digest(), record.appended_at_ms
                    if found != (digest, appended_at_ms):
                        return (
                            f"was folded from another log: {record.position} differs, or events "
                            "before it were taken out or put in"
                        )
    if last:
        raise LogUnavailable(f"the log gave nothing for {_SILENCE_MAX_S:g} s")
    return None


def rebuild(
    log: EventLog,
    database: Path,
    progress: Progress | None = None,
    *,
    limits: Limits = Limits(),  # noqa: B008 - immutable
) -> None:
    """Build the projections from the log, beside an old file if there is one, and swap.

    Args:
        log: The log.
        database: The file to create or replace; it must not be open anywhere.
        progress: Called with the progress.
        limits: DuckDB's.

    Raises:
        LogContradicted: the log is not the one that the old file was folded from.
    """
    known = _known_heads(log, database, limits)
    beside = store.beside(database)
    store.remove(beside)
    fold = Fold(log, beside, **limits._asdict())
    fold.open()
    try:
        fold.catch_up(None, progress)
        for partition, head in known.items():
            found = links(fold.cursor(), partition, head.offset, head.offset, 1)
            if not found or not head.hash.startswith(found[0].hash):
                raise LogContradicted(
                    database,
                    f"was folded from another log: {partition} up to {head.offset} differs",
                )
        store.mark_complete(fold.cursor())
    finally:
        fold.stop()
    store.finish_swap(database, limits)


def _known_heads(log: EventLog, database: Path, limits: Limits) -> dict[Partition, Head]:
    """Return the ends of the chains in an old file, of whatever version; empty without a file.

    Raises:
        LogContradicted: the log's end contradicts the file.
    """
    if not database.exists():
        return {}
    try:
        con = store.connect(database, limits)
    except duckdb.Error:
        return {}
    try:
        how = contradiction(log, con)
        if how is not None:
            raise LogContradicted(database, how)
        if store.version_of(con) == store.PROJECTION_VERSION:
            return heads(con)
        # Up to version 6, only the registry had a chain.
        rows = con.execute(
            'SELECT "offset", hash FROM fold.requests ORDER BY "offset" DESC LIMIT 1'
        ).fetchall()
        return {REGISTRY_PARTITION: Head(*rows[0])} if rows else {}
    except duckdb.Error:
        return {}
    finally:
        con.close()
