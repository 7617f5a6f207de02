"""Drops the repeats of retries and outbox replays, by producer id and sequence number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb

from modeltrail.consumers import tables

_KEPT_MAX = 200_000


@dataclass(slots=True)
class Producer:
    """What the fold knows of one producer."""

    producer_id: bytes
    stream: str
    partition: int
    last_sequence: int = -1
    missing: int = 0
    points_logged: int = 0
    points_dropped: int = 0


class Sequences:
    """The producers that are at work, as a cache of ``fold.producers``."""

    def __init__(self) -> None:
        """Know nobody."""
        self._known: dict[bytes, Producer] = {}
        self._new: set[bytes] = set()
        self._changed: dict[bytes, Producer] = {}

    def prepare(self, con: duckdb.DuckDBPyConnection, producer_ids: Iterable[bytes]) -> None:
        """Fetch the producers of a batch that are not known yet."""
        unknown = {p for p in producer_ids if p not in self._known}
        if not unknown:
            return
        rows = tables.lookup(
            con,
            "SELECT p.* FROM fold.producers p SEMI JOIN wanted w ON p.producer_id = w.id",
            {"id": list(unknown)},
        )
        for row in rows:
            self._known[row[0]] = Producer(*row)

    def accept(self, producer_id: bytes, sequence: int, stream: str, partition: int) -> int:
        """Take note of an event.

        Returns:
            -1 for a repeat, else the number of events missing just before this one.
        """
        producer = self._known.get(producer_id)
        if producer is None:
            producer = self._known[producer_id] = Producer(producer_id, stream, partition)
            self._new.add(producer_id)
        missing = sequence - producer.last_sequence - 1
        if missing < 0:
            return -1
        producer.last_sequence = sequence
        producer.missing += missing
        self._changed[producer_id] = producer
        return missing

    def __getitem__(self, producer_id: bytes) -> Producer:
        """A producer of the batch; change its counters before ``write``."""
        return self._known[producer_id]

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write what changed since the last write."""
        new = [p for p in self._changed.values() if p.producer_id in self._new]
        old = [p for p in self._changed.values() if p.producer_id not in self._new]
        if new:
            tables.insert(con, "fold.producers", _columns(new))
        if old:
            columns = _columns(old)
            del columns["stream"], columns["partition"]  # these stay
            tables.update(con, "fold.producers", ["producer_id"], columns)
        self._changed.clear()
        self._new.clear()
        if len(self._known) > _KEPT_MAX:
            self._known.clear()

    def forget(self) -> None:
        """Drop the cache, after a transaction that failed."""
        self.__init__()  # type: ignore[misc]


def _columns(producers: list[Producer]) -> dict[str, list[object]]:
    return {name: [getattr(p, name) for p in producers] for name in Producer.__dataclass_fields__}
