"""The runner: reads the log, and keeps the projections in DuckDB equal to it.

The order of one commit, which everything else leans on:

1. poll the log; decode; what cannot be decoded is a dead letter
2. drop the repeats, by producer id and sequence number
3. apply each event to the projections' state; what cannot be applied is a dead letter
4. BEGIN; write the projections, producers, dead letters and positions; COMMIT
5. tell those who wait, then the log's own lag tools

If 4 fails, nothing of the batch has happened: the state is loaded from the tables again, and the
batch is read once more from the stored positions.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import duckdb

from modeltrail.consumers import store, tables
from modeltrail.consumers.store import StoreError
from modeltrail.consumers.projections import Incoming, Projection
from modeltrail.consumers.projections.registry import RegistryProjection
from modeltrail.consumers.projections.runs import RunsProjection
from modeltrail.consumers.sequences import Sequences
from modeltrail.eventlog import EventLog, LogError, LogRecord, Partition, Position, Reader
from modeltrail.schemas import Codec, Malformed, SchemaError, event_stream, event_types

logger = logging.getLogger("modeltrail.fold")

Progress = Callable[[int, int], None]
"""Called with the number of events done and the number of events in all."""

_POLL_TIMEOUT_S = 1.0
_RETRY_PAUSE_S = 1.0
_BATCH_BYTES_MAX = 32 * 1024 * 1024


class FoldBehind(Exception):
    """The fold did not reach a position in time. The events are safe in the log."""


@dataclass(frozen=True, slots=True)
class FoldStatus:
    """How the fold is doing."""

    positions: dict[Partition, int]
    records: int
    repeats: int
    dead_letters: int
    error: str | None
    """Why the fold stands still; None if it does not."""
    folded_at_ms: int | None
    """Append time of the last record folded, in milliseconds since 1970 UTC."""


@dataclass(slots=True)
class _Progress:
    """What is stored of one partition."""

    next_offset: int = 0
    last_digest: bytes = b""
    last_appended_at_ms: int = 0
    repeats: int = 0


@dataclass(slots=True)
class _Counters:
    dead_letters: int = 0
    records: int = 0
    error: str | None = None
    folded_at_ms: int | None = None
    dead: list[tuple[LogRecord, str | None, str]] = field(default_factory=list)


class Fold:
    """Folds a log into a DuckDB database. One fold owns its file."""

    def __init__(
        self,
        log: EventLog,
        database: Path | None,
        *,
        memory_limit: str | None = None,
        threads: int | None = None,
        on_registry_work: Callable[[], None] | None = None,
    ) -> None:
        """Prepare a fold; nothing is opened yet.

        Args:
            log: The log to read.
            database: The file, made if missing; None for a database in memory.
            memory_limit: DuckDB's, as in "4GB"; its own default is 80 % of the machine's.
            threads: DuckDB's; by default one for each core.
            on_registry_work: Called, in the fold's thread, after a batch in which runs asked for
                something that the registry has to do.
        """
        self._log = log
        self._database = database
        self._settings = {"memory_limit": memory_limit, "threads": threads}
        self._on_registry_work = on_registry_work
        self._codec = Codec(lambda: log.schemas().values())
        self._streams = {type: event_stream(type) for type in event_types()}
        self._runs = RunsProjection()
        self._projections: dict[str, Projection] = {
            p.stream: p for p in (self._runs, RegistryProjection())
        }
        self._sequences = Sequences()
        self._partitions: dict[Partition, _Progress] = {}
        self._published: dict[Partition, int] = {}
        self._counters = _Counters()
        self._poison: dict[Position, str] = {}
        self._folded = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._con: duckdb.DuckDBPyConnection | None = None
        self._reader: Reader | None = None

    # Opening and closing

    def open(self, progress: Progress | None = None) -> None:
        """Open the database, rebuilding it first where it cannot be used as it is.

        Raises:
            StoreError: the file is in use, or its folder is read-only or full.
            LogError: the log cannot be read.
        """
        if self._database is not None:
            left = _beside(self._database)
            if left.exists():
                store.remove(left)
            why = self._why_unusable(self._database)
            if why is not None:
                logger.warning("%s: rebuilding from the log", why)
                rebuild(self._log, self._database, progress, **self._settings)
        self._open(self._database)

    def _why_unusable(self, database: Path) -> str | None:
        """Why a file has to be rebuilt, after moving it aside if that is called for."""
        if not database.exists():
            store.wal_of(database).unlink(missing_ok=True)
            return None
        try:
            con = store.connect(database, **self._settings)
        except duckdb.Error as error:
            aside = store.set_aside(database, "unreadable")
            first_line = str(error).splitlines()[0]
            return f"{database.name} cannot be read ({first_line}) and was kept as {aside.name}"
        try:
            found = store.version_of(con)
            stale = None
            if found == store.PROJECTION_VERSION:
                stale = self._why_stale(con)
        finally:
            con.close()
        if found == store.PROJECTION_VERSION:
            return f"{database.name} {stale}" if stale else None
        if found is not None and found < store.PROJECTION_VERSION:
            return f"{database.name} has version {found}, this program {store.PROJECTION_VERSION}"
        aside = store.set_aside(database, "newer" if found is not None else "foreign")
        return (
            f"{database.name} was written by "
            f"{f'a newer Modeltrail (version {found})' if found else 'something else'} "
            f"and was kept as {aside.name}"
        )

    def _why_stale(self, con: duckdb.DuckDBPyConnection) -> str | None:
        """Whether the file was folded from another log, or from one that has been cut since."""
        stored = _load_partitions(con)
        end = self._log.end()
        for partition, done in stored.items():
            if done.next_offset > end.get(partition, 0):
                return (
                    f"has folded {partition} up to offset {done.next_offset}, but the log ends at "
                    f"{end.get(partition, 0)}: the log was cut, or it is another one"
                )
        last = {p: d.next_offset - 1 for p, d in stored.items() if d.next_offset}
        reader = self._log.reader({**end, **last})
        try:
            missing, deadline = dict(last), time.monotonic() + 10
            while missing and time.monotonic() < deadline:
                for record in reader.poll(0.5, 1):
                    partition = Partition(record.stream, record.partition)
                    if missing.pop(partition, None) == record.offset:
                        digest = hashlib.sha256(record.payload).digest()
                        if digest != stored[partition].last_digest:
                            return f"was folded from another log: {record.position} differs"
        finally:
            reader.close()
        return None

    def _open(self, database: Path | None) -> None:
        con = store.connect(database, **self._settings)
        if store.version_of(con) is None:
            _create(con, self._projections.values())
        self._con = con
        self._load()

    def _load(self) -> None:
        assert self._con is not None
        self._sequences.forget()
        for projection in self._projections.values():
            projection.load(self._con)
        self._partitions = _load_partitions(self._con)
        self._published = {p: done.next_offset for p, done in self._partitions.items()}
        row = self._con.execute("SELECT count(*) FROM fold.dead_letters").fetchone()
        self._counters.dead_letters = row[0] if row else 0
        self._counters.dead.clear()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def start(self, progress: Progress | None = None) -> None:
        """Open the database and fold in a thread of its own; raises like ``open``."""
        self.open(progress)
        self._thread = threading.Thread(target=self._run, name="modeltrail-fold", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way, checkpoint and close."""
        self._stopping.set()
        if self._reader is not None:
            self._reader.wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._con is not None:
            try:
                self._con.execute("CHECKPOINT")
            except duckdb.Error as error:
                # Readers in other threads may keep it from this; the next start replays the WAL.
                logger.info("no checkpoint at the end: %s", error)
            self._con.close()
            self._con = None
        with self._folded:
            self._folded.notify_all()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step(_POLL_TIMEOUT_S)
                self._counters.error = None
            except Exception as error:
                # A full disk, a log out of reach, or a bug: say so, and try again for ever.
                # Events wait in the log meanwhile; skipping them would lose them in silence.
                text = f"{type(error).__name__}: {error}"
                if text != self._counters.error:
                    logger.error("the fold stands still: %s", text)
                self._counters.error = text
                self._stopping.wait(_RETRY_PAUSE_S)

    # One batch

    def step(self, timeout_s: float = 0.0, until: Mapping[Partition, int] | None = None) -> int:
        """Fold one batch in the caller's thread.

        Args:
            timeout_s: How long to wait for something to fold.
            until: Fold nothing at or past these offsets.

        Returns:
            The number of records folded.
        """
        if self._reader is None:
            self._reader = self._log.reader(
                {p: done.next_offset for p, done in self._partitions.items()}
            )
        records = self._reader.poll(timeout_s, _BATCH_BYTES_MAX)
        if until is not None:
            wanted = [
                r for r in records if r.offset < until.get(Partition(r.stream, r.partition), 0)
            ]
            if len(wanted) < len(records):
                self._reader.close()
                self._reader = None  # it has gone too far; the next step opens another
            records = wanted
        if records:
            self.fold(records)
            if self._reader is not None:
                self._reader.commit(self._published)
        return len(records)

    def fold(self, records: list[LogRecord]) -> None:
        """Fold records, which go on where each of their partitions stands, in one transaction."""
        con = self._con
        if con is None:
            raise StoreError("the fold is not open")
        try:
            self._apply(con, records)
            con.execute("BEGIN TRANSACTION")
            self._write(con)
            con.execute("COMMIT")
        except BaseException:
            self._back_to_the_tables(con)
            raise
        asks = self._runs.asks_for_registry
        self._runs.asks_for_registry = False
        self._counters.records += len(records)
        self._counters.dead_letters += len(self._counters.dead)
        self._counters.dead.clear()
        self._counters.folded_at_ms = records[-1].appended_at_ms
        with self._folded:
            self._published = {p: done.next_offset for p, done in self._partitions.items()}
            self._folded.notify_all()
        if asks and self._on_registry_work is not None:
            self._on_registry_work()

    def _back_to_the_tables(self, con: duckdb.DuckDBPyConnection) -> None:
        try:
            con.execute("ROLLBACK")
        except duckdb.Error:
            pass  # there was no transaction, or it is gone already
        self._load()

    def _apply(self, con: duckdb.DuckDBPyConnection, records: list[LogRecord]) -> None:
        batches: dict[str, list[Incoming]] = {stream: [] for stream in self._projections}
        for record in records:
            self._projections[record.stream].see(record)
            done = self._partitions.setdefault(
                Partition(record.stream, record.partition), _Progress()
            )
            done.next_offset = record.offset + 1
            done.last_appended_at_ms = record.appended_at_ms
            type = None
            try:
                type, event = self._codec.decode(record.payload)
                if self._streams[type] != record.stream:
                    raise Malformed(f"{type} does not belong into stream {record.stream}")
                batches[record.stream].append(Incoming(record, type, event))
            except SchemaError as error:
                self._dead_letter(record, type, error)
        for record in {(r.stream, r.partition): r for r in records}.values():
            digest = hashlib.sha256(record.payload).digest()
            self._partitions[Partition(record.stream, record.partition)].last_digest = digest
        self._sequences.prepare(
            con, [i.event["envelope"]["producer_id"] for b in batches.values() for i in b]
        )
        for stream, batch in batches.items():
            projection = self._projections[stream]
            projection.prepare(con, batch)
            for incoming in batch:
                self._apply_one(projection, incoming)

    def _apply_one(self, projection: Projection, incoming: Incoming) -> None:
        record = incoming.record
        envelope = incoming.event["envelope"]
        missing = self._sequences.accept(
            envelope["producer_id"], envelope["sequence"], record.stream, record.partition
        )
        if missing < 0:
            self._partitions[Partition(record.stream, record.partition)].repeats += 1
            return
        try:
            if record.position in self._poison:
                raise Malformed(self._poison[record.position])
            projection.apply(incoming, self._sequences[envelope["producer_id"]], missing)
        except SchemaError as error:
            self._dead_letter(record, incoming.type, error)
        except Exception as error:
            # A bug of ours, which may have left half an effect in the state. The batch is folded
            # again from the tables, and then this event is a dead letter.
            logger.exception("%s at %s could not be applied", incoming.type, record.position)
            self._poison[record.position] = f"{type(error).__name__}: {error}"
            raise

    def _dead_letter(self, record: LogRecord, type: str | None, error: Exception) -> None:
        logger.warning("dead letter at %s: %s", record.position, error)
        self._counters.dead.append((record, type, str(error)))

    def _write(self, con: duckdb.DuckDBPyConnection) -> None:
        for projection in self._projections.values():
            projection.write(con)
        self._sequences.write(con)
        if self._counters.dead:
            dead = self._counters.dead
            tables.insert(
                con,
                "fold.dead_letters",
                {
                    **tables.rows(
                        [record for record, _, _ in dead],
                        ("stream", "partition", "offset", "appended_at_ms", "payload"),
                    ),
                    "event_type": [type for _, type, _ in dead],
                    "error": [error for _, _, error in dead],
                },
            )
        con.execute("DELETE FROM fold.positions")
        tables.insert(
            con,
            "fold.positions",
            {
                "stream": [p.stream for p in self._partitions],
                "partition": [p.partition for p in self._partitions],
                **tables.rows(
                    list(self._partitions.values()),
                    ("next_offset", "last_digest", "last_appended_at_ms", "repeats"),
                ),
            },
        )

    # For readers

    def positions(self) -> dict[Partition, int]:
        """For each partition the next offset to fold; everything before it can be queried."""
        return dict(self._published)

    def wait_for(self, positions: Mapping[Partition, int], timeout_s: float) -> None:
        """Wait until everything before these offsets is folded; raises ``FoldBehind``."""

        def reached() -> bool:
            published = self._published
            return all(published.get(p, 0) >= n for p, n in positions.items())

        if reached():
            return
        with self._folded:
            if self._folded.wait_for(lambda: reached() or self._con is None, timeout_s):
                if reached():
                    return
        raise FoldBehind(
            self._counters.error
            or f"the fold did not come as far as {_text(positions)} within {timeout_s:g} s"
        )

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for queries, for one thread; close it. Raises ``StoreError`` if closed."""
        con = self._con
        if con is None:
            raise StoreError("the fold is not open")
        return con.cursor()

    def status(self) -> FoldStatus:
        """How the fold is doing."""
        return FoldStatus(
            positions=self.positions(),
            records=self._counters.records,
            repeats=sum(done.repeats for done in list(self._partitions.values())),
            dead_letters=self._counters.dead_letters,
            error=self._counters.error,
            folded_at_ms=self._counters.folded_at_ms,
        )

    def catch_up(
        self, until: Mapping[Partition, int] | None = None, progress: Progress | None = None
    ) -> None:
        """Fold in the caller's thread up to the given offsets, by default the log's end as of now.

        Raises:
            LogError: the log has less than that, or cannot be read.
        """
        goal = dict(self._log.end() if until is None else until)
        start = sum(self.positions().get(p, 0) for p in goal)
        total = sum(goal.values()) - start
        silent_since = time.monotonic()
        while any(self._published.get(p, 0) < n for p, n in goal.items()):
            if self.step(0.2, goal):
                silent_since = time.monotonic()
                if progress is not None:
                    progress(sum(self._published.get(p, 0) for p in goal) - start, total)
            elif time.monotonic() - silent_since > 60:
                raise LogError(f"the log gave nothing for 60 s on the way to {_text(goal)}")


def rebuild(
    log: EventLog,
    database: Path,
    progress: Progress | None = None,
    *,
    until: Mapping[Partition, int] | None = None,
    memory_limit: str | None = None,
    threads: int | None = None,
) -> None:
    """Build the projections anew beside an old file, from the log, and swap.

    Args:
        log: The log.
        database: The file to replace; it must not be open anywhere.
        progress: Told how far it is.
        until: Fold up to these offsets; by default to the log's end as of now.
        memory_limit: See ``Fold``.
        threads: See ``Fold``.
    """
    beside = _beside(database)
    store.remove(beside)
    fold = Fold(log, beside, memory_limit=memory_limit, threads=threads)
    fold._open(beside)
    try:
        fold.catch_up(until, progress)
    finally:
        fold.stop()
    store.swap(beside, database)


def _beside(database: Path) -> Path:
    return database.with_name(database.name + ".rebuild")


def _create(con: duckdb.DuckDBPyConnection, projections: object) -> None:
    con.execute("BEGIN TRANSACTION")
    con.execute("CREATE SCHEMA fold")
    tables.script(con, __package__, "fold.sql")
    for projection in list(projections):  # type: ignore[call-overload]
        projection.create(con)
    tables.script(con, f"{__package__}.projections", "views.sql")
    con.execute(
        "INSERT INTO fold.meta VALUES ('version', ?), ('program', ?)",
        [str(store.PROJECTION_VERSION), program_version()],
    )
    con.execute("COMMIT")


def _load_partitions(con: duckdb.DuckDBPyConnection) -> dict[Partition, _Progress]:
    return {
        Partition(row[0], row[1]): _Progress(*row[2:])
        for row in con.execute("SELECT * FROM fold.positions").fetchall()
    }


def program_version() -> str:
    """The version of this program, as in "0.1.0"."""
    try:
        return version("modeltrail")
    except PackageNotFoundError:
        return "unknown"


def _text(positions: Mapping[Partition, int]) -> str:
    return ", ".join(f"{p}:{n}" for p, n in sorted(positions.items()))
