"""The projections in a DuckDB database, and the transaction that keeps them equal to the log."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import duckdb

from modeltrail.consumers import store, tables
from modeltrail.consumers.chain import chain, chain_start
from modeltrail.consumers.projections import Incoming, Projection
from modeltrail.consumers.projections.registry import RegistryProjection
from modeltrail.consumers.projections.requests import Verdict
from modeltrail.consumers.projections.runs import RunsProjection
from modeltrail.consumers.sequences import Sequences, numbering_of
from modeltrail.eventlog import REGISTRY_PARTITION, LogRecord, Partition, Position
from modeltrail.schemas import Codec, Malformed, SchemaError, event_stream, event_types

logger = logging.getLogger("modeltrail.fold")


@dataclass(slots=True)
class Folded:
    """How far a partition is folded; a row of ``fold.positions``."""

    next_offset: int = 0
    last_digest: bytes = b""
    last_appended_at_ms: int = 0
    repeats: int = 0
    head: bytes = b""
    """The hash of the chain before ``next_offset``."""


class News(NamedTuple):
    """An event that was just folded, for those who watch the fold."""

    record: LogRecord
    type: str | None
    event: Mapping[str, Any]
    """Empty if it could not be decoded."""
    outcome: Literal["applied", "repeat", "dead_letter"]
    error: str | None = None


class Database:
    """Projections, producers, dead letters and positions, which change together or not at all."""

    def __init__(self, path: Path | None, codec: Codec, limits: store.Limits) -> None:
        """Open a database, or create it if it is missing or empty; None for one in memory.

        Raises:
            StoreError: see ``store.connect``.
        """
        self.path = path
        self._codec = codec
        self._streams = {type: event_stream(type) for type in event_types()}
        self._runs = RunsProjection()
        self.registry = RegistryProjection()
        """Hold ``deciding`` to read it. It may be ahead of the tables, never of the log."""
        self.deciding = threading.RLock()
        self.decided = 0
        """The next offset of the registry to decide."""
        self._projections: dict[str, Projection] = {
            self._runs.stream: self._runs,
            self.registry.stream: self.registry,
        }
        self._sequences = Sequences()
        self._dead: list[tuple[LogRecord, str | None, str]] = []
        self._news: list[News] | None = None
        self._poison: dict[Position, str] = {}
        self.partitions: dict[Partition, Folded] = {}
        self._saved: set[Partition] = set()  # those in the table
        self._advanced: set[Partition] = set()  # those with records in the batch
        self.dead_letters = 0
        self.asks_for_registry = False
        self.connection = store.connect(path, limits)
        if store.version_of(self.connection) is None:
            _create(self.connection)
            if path is not None:
                self.describe()
        self._load()

    def describe(self) -> None:
        """Add the comments of views and columns, which takes as long as all the rest of a start.

        A database in memory is without them until then.
        """
        self.connection.execute("".join(_COMMENT.findall(_definitions())))

    def close(self) -> None:
        try:
            self.connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            # Readers in other threads may prevent this; the next start replays the WAL.
            logger.info("no checkpoint at the end: %s", error)
        self.connection.close()

    def positions(self) -> dict[Partition, int]:
        """For each partition, the offset of the next record to fold."""
        return {p: folded.next_offset for p, folded in self.partitions.items()}

    def _load(self) -> None:
        self._sequences.forget()
        with self.deciding:
            for projection in self._projections.values():
                projection.load(self.connection)
            self.partitions = _load_partitions(self.connection)
            self._note_decided()
        self._saved = set(self.partitions)
        self.dead_letters = tables.scalar(self.connection, "SELECT count(*) FROM fold.dead_letters")
        self._dead.clear()

    def _note_decided(self) -> None:
        folded = self.partitions.get(REGISTRY_PARTITION)
        self.decided = folded.next_offset if folded is not None else 0
        self.registry.publish(self.decided)

    def fold(
        self,
        records: list[LogRecord],
        tell: Callable[[list[Verdict]], None] = lambda verdicts: None,
        *,
        watched: bool = False,
    ) -> list[News]:
        """Fold records in one transaction. Records that were folded before are left out.

        Returns:
            What happened to each event, if it is ``watched``.

        The order of a commit, on which everything else depends:

        1. decode; an event that cannot be decoded becomes a dead letter
        2. drop repeats, by producer id and sequence number; another event with a used number
           becomes a dead letter
        3. apply each event to the projections' state; one that cannot be applied becomes a dead
           letter
        4. announce the verdicts; whatever happens from here on, the same will be decided again
        5. BEGIN; write the projections, producers, dead letters and positions; COMMIT

        If one of them fails, nothing of the batch has happened: the state is loaded from the
        tables, and the caller continues from ``positions()``.
        """
        self._news = [] if watched else None
        try:
            self._apply(records)
            tell(self.registry.verdicts())
            self.connection.execute("BEGIN TRANSACTION")
            self._write()
            self.connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self.connection.execute("ROLLBACK")
            self._load()
            raise
        self._saved |= self._advanced
        self.asks_for_registry = self._runs.asks_for_registry
        self._runs.asks_for_registry = False
        self.dead_letters += len(self._dead)
        self._dead.clear()
        return self._news or []

    @contextlib.contextmanager
    def tentative(self, records: list[LogRecord]) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield the tables with records of runs folded into them. Afterwards it is undone."""
        con = self.connection
        con.execute("BEGIN TRANSACTION")
        try:
            self._apply(records)
            self._write()
            yield con
        finally:
            con.execute("ROLLBACK")
            self._dead.clear()
            self._sequences.forget()
            self._runs.load(con)
            self.partitions = _load_partitions(con)

    def _apply(self, records: Iterable[LogRecord]) -> None:
        batches: dict[str, list[Incoming]] = {stream: [] for stream in self._projections}
        last: dict[Partition, LogRecord] = {}
        partition: Partition | None = None
        for record in records:
            if partition != (record.stream, record.partition):
                partition = Partition(record.stream, record.partition)
                folded = self.partitions.get(partition) or Folded(head=chain_start(partition))
                self.partitions[partition] = folded
                projection, batch = self._projections[record.stream], batches[record.stream]
            if record.offset < folded.next_offset:
                continue
            folded.next_offset = record.offset + 1
            last[partition] = record
            folded.head = chain(folded.head, record.offset, record.appended_at_ms, record.payload)
            projection.record_hash(record, folded.head)
            try:
                type, event = self._codec.decode(record.payload)
            except SchemaError as error:
                self._dead_letter(record, None, error)
                continue
            incoming = Incoming(record, type, event, numbering_of(record, event))
            if self._streams[type] == record.stream:
                batch.append(incoming)
            else:
                why = f"{type} does not belong into stream {record.stream}"
                self._dead_letter(record, incoming, Malformed(why))
        self._advanced = set(last)
        for partition, record in last.items():
            self.partitions[partition].last_digest = hashlib.sha256(record.payload).digest()
            self.partitions[partition].last_appended_at_ms = record.appended_at_ms
        self._sequences.prepare(self.connection, [i for batch in batches.values() for i in batch])
        for stream, batch in batches.items():
            projection = self._projections[stream]
            projection.prepare(self.connection, batch)
            if projection is not self.registry:
                self._apply_all(projection, batch)
                continue
            with self.deciding:
                try:
                    self._apply_all(projection, batch)
                except BaseException:
                    self._load()  # half a decision must not be visible
                    raise
                self._note_decided()

    def _apply_all(self, projection: Projection, batch: Iterable[Incoming]) -> None:
        may_have = partial(projection.may_have, self.connection)
        for incoming in batch:
            self._apply_one(projection, incoming, may_have)

    def _apply_one(
        self, projection: Projection, incoming: Incoming, may_have: Callable[[bytes], bool]
    ) -> None:
        record = incoming.record
        taken = None
        try:
            taken = self._sequences.accept(incoming, may_have)
            if taken is None:
                self.partitions[Partition(record.stream, record.partition)].repeats += 1
                projection.pass_over(incoming)
                self._note(incoming, "repeat")
                return
            if self._poison and record.position in self._poison:
                raise Malformed(self._poison[record.position])
            projection.apply(incoming, *taken)
            self._note(incoming, "applied")
        except SchemaError as error:
            if taken is not None:
                self._sequences.undo(*taken, incoming)
            self._dead_letter(record, incoming, error)
        except Exception as error:
            # A bug in a projection, which may have left half an effect in the state. Fold the batch
            # again from the tables, with this event as a dead letter.
            logger.exception("%s at %s could not be applied", incoming.type, record.position)
            self._poison[record.position] = f"{error.__class__.__name__}: {error}"
            raise

    def _note(self, incoming: Incoming, outcome: Literal["applied", "repeat"]) -> None:
        if self._news is not None:
            self._news.append(News(incoming.record, incoming.type, incoming.event, outcome))

    def _dead_letter(
        self, record: LogRecord, incoming: Incoming | None, error: SchemaError
    ) -> None:
        logger.warning("dead letter at %s: %s", record.position, error)
        type = None if incoming is None else incoming.type
        self._dead.append((record, type, str(error)))
        if self._news is not None:
            event = {} if incoming is None else incoming.event
            self._news.append(News(record, type, event, "dead_letter", str(error)))
        if incoming is not None and record.position not in self._poison:
            self._projections[record.stream].pass_over(incoming)

    def _write(self) -> None:
        con = self.connection
        for projection in self._projections.values():
            projection.write(con)
        self._sequences.write(con)
        if self._dead:
            columns = tables.rows(
                [record for record, _, _ in self._dead],
                ("stream", "partition", "offset", "appended_at_ms", "payload"),
            )
            columns["event_type"] = [type for _, type, _ in self._dead]
            columns["error"] = [error for _, _, error in self._dead]
            tables.insert(con, "fold.dead_letters", columns)
        old = {p: self.partitions[p] for p in self._advanced & self._saved}
        tables.update(con, "fold.positions", ("stream", "partition"), _positions(old))
        new = {p: self.partitions[p] for p in self._advanced - self._saved}
        tables.insert(con, "fold.positions", _positions(new))

    def decodable_dead_letters(self) -> int:
        """Return how many dead letters could not be decoded when they arrived, and can be now."""
        self._codec.forget_unknown()
        with closing(self.connection.cursor()) as cursor:
            found = cursor.execute(
                "SELECT payload FROM fold.dead_letters WHERE event_type IS NULL"
            ).fetchall()
        decodable = 0
        for (payload,) in found:
            with contextlib.suppress(SchemaError):
                self._codec.decode(payload)
                decodable += 1
        return decodable


_DEFINITIONS = (
    "runs",
    "logged_models",
    "registry",
    "registry_views",
    "access",
    "webhooks",
    "saved_views",
    "views",
)
_COMMENT = re.compile(r"^COMMENT ON (?:[^';]|'[^']*')+;$", re.M)


@cache
def _definitions() -> str:
    """Return the statements that define tables and views, in an order that they allow."""
    files = ("fold.sql", *(f"projections/{name}.sql" for name in _DEFINITIONS))
    return "".join((resources.files(__package__) / file).read_text("utf-8") for file in files)


def _create(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("BEGIN TRANSACTION; CREATE SCHEMA fold")
    con.execute(_COMMENT.sub("", _definitions()))
    con.execute(
        "INSERT INTO fold.meta VALUES ('version', ?), ('program', ?)",
        [str(store.PROJECTION_VERSION), program_version()],
    )
    con.execute("COMMIT")


def _positions(partitions: Mapping[Partition, Folded]) -> dict[str, list[Any]]:
    names = ("next_offset", "last_digest", "last_appended_at_ms", "repeats", "head")
    return {
        "stream": [p.stream for p in partitions],
        "partition": [p.partition for p in partitions],
        **tables.rows(list(partitions.values()), names),
    }


def _load_partitions(con: duckdb.DuckDBPyConnection) -> dict[Partition, Folded]:
    return {
        Partition(stream, partition): Folded(*rest)
        for stream, partition, *rest in con.execute("SELECT * FROM fold.positions").fetchall()
    }


def program_version() -> str:
    """Return the version of this program, such as "0.1.0"."""
    try:
        return version("modeltrail")
    except PackageNotFoundError:
        return "unknown"
