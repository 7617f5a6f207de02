"""Single runs at an earlier moment, folded from their own events."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import duckdb

from modeltrail.consumers.database import Database
from modeltrail.consumers.store import Limits
from modeltrail.eventlog import EventLog, LogRecord, LogUnavailable, Partition
from modeltrail.schemas import Codec

EVENTS_MAX = 50_000
BYTES_MAX = 64 * 1024 * 1024
"""How many events of runs, and bytes of them, are folded for one question."""
_LIMITS = Limits("1GB", 1)
_NEAR = 200  # It is quicker to read this many other events than to begin elsewhere.
_POLL_BYTES = 256 * 1024
_SILENCE_MAX = 20


class TooMuch(Exception):
    """The events are more than are folded for one question."""


class Moments:
    """Folds the events of a few runs into a database in memory, and forgets them again.

    Runs are independent of each other and of the registry, so that their own events give the same
    state as a replay of the whole log.
    """

    def __init__(self, log: EventLog, codec: Codec) -> None:
        """Use a log. The database is made for the first question."""
        self._log = log
        self._codec = codec
        self._database: Database | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Forget the database."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    @contextmanager
    def folded(
        self, places: Mapping[Partition, Sequence[int]]
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield the fold's tables and views with these events only, given by their offsets.

        Raises:
            TooMuch: see ``EVENTS_MAX``.
            LogError: the log cannot be read.
        """
        records = list(self.records(places))
        with self._lock:
            if self._database is None:
                self._database = Database(None, self._codec, _LIMITS)
            with self._database.tentative(records) as con:
                yield con

    def records(self, places: Mapping[Partition, Sequence[int]]) -> Iterator[LogRecord]:
        """Yield the events at these offsets, in order. Raises like ``folded``."""
        if sum(map(len, places.values())) > EVENTS_MAX:
            raise TooMuch(f"there are more than {EVENTS_MAX:,} events")
        size = 0
        for partition, offsets in places.items():
            for some in _near(sorted(offsets)):
                for record in self._read(partition, some):
                    size += len(record.payload)
                    if size > BYTES_MAX:
                        raise TooMuch(f"the events have more than {BYTES_MAX:,} bytes")
                    yield record

    def _read(self, partition: Partition, offsets: Sequence[int]) -> Iterator[LogRecord]:
        wanted = set(offsets)
        reader = self._log.reader({**self._log.end(), partition: offsets[0]})
        try:
            for _ in range(_SILENCE_MAX):
                while records := reader.poll(0.5, _POLL_BYTES):
                    for record in records:
                        if record.position.within == partition and record.offset in wanted:
                            wanted.remove(record.offset)
                            yield record
                    if not wanted:
                        return
        finally:
            reader.close()
        raise LogUnavailable(f"the log did not give the event at {partition}:{min(wanted)}")


def _near(offsets: Sequence[int]) -> Iterator[list[int]]:
    """Yield the offsets in parts without large gaps."""
    part: list[int] = []
    for offset in offsets:
        if part and offset - part[-1] > _NEAR:
            yield part
            part = []
        part.append(offset)
    if part:
        yield part
