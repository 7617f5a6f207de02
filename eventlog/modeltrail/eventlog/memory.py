"""A log in memory, for tests: it keeps all promises of a log until the process ends."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from modeltrail.eventlog.base import (
    REGISTRY_PARTITION,
    RUNS,
    LogClosed,
    LogMisconfigured,
    LogRecord,
    NewEvent,
    Partition,
    Position,
    check_events,
)


class MemoryLog:
    """An event log in memory."""

    shared = False

    def __init__(self, run_partitions: int = 1, clock_ms: Callable[[], int] | None = None) -> None:
        """Make an empty log. ``clock_ms`` returns append times, in ms since 1970 UTC."""
        self.url = "memory:"
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._changed = threading.Condition()
        self._records: dict[Partition, list[LogRecord]] = {REGISTRY_PARTITION: []}
        self._run_partitions = run_partitions
        for i in range(run_partitions):
            self._records[Partition(RUNS, i)] = []
        self._schemas: dict[bytes, str] = {}
        self._latest_ms = 0
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise LogClosed("the log was closed")

    def append(self, events: Sequence[NewEvent], timeout_s: float = 30.0) -> list[Position]:
        check_events(events)
        with self._changed:
            self._check_open()
            now_ms = max(self._clock_ms(), self._latest_ms)  # append times never go backwards
            self._latest_ms = now_ms
            positions = []
            for event in events:
                partition = 0
                if event.stream == RUNS:
                    partition = zlib.crc32(event.key.encode()) % self._run_partitions
                records = self._records[Partition(event.stream, partition)]
                records.append(
                    LogRecord(event.stream, partition, len(records), now_ms, event.payload)
                )
                positions.append(records[-1].position)
            self._changed.notify_all()
        return positions

    def reader(self, start: Mapping[Partition, int]) -> MemoryReader:
        with self._changed:
            self._check_open()
            for partition, offset in start.items():
                if offset > len(self._records.get(partition, ())):
                    raise LogMisconfigured(f"the log ends before {partition}:{offset}")
        return MemoryReader(self, start)

    def end(self) -> dict[Partition, int]:
        with self._changed:
            self._check_open()
            return {p: len(records) for p, records in self._records.items()}

    def add_schemas(self, schemas: Mapping[bytes, str]) -> None:
        with self._changed:
            self._check_open()
            self._schemas = {**schemas, **self._schemas}

    def schemas(self) -> dict[bytes, str]:
        with self._changed:
            self._check_open()
            return dict(self._schemas)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class MemoryReader:
    """Reads a ``MemoryLog``."""

    def __init__(self, log: MemoryLog, start: Mapping[Partition, int]) -> None:
        self._log = log
        self._next = dict(start)
        self._woken = False
        self._closed = False

    def poll(self, timeout_s: float, bytes_max: int = 32 * 1024 * 1024) -> list[LogRecord]:
        with self._log._changed:
            self._log._changed.wait_for(self._ready, timeout_s)
            if self._closed or self._log._closed:
                raise LogClosed("the log or its reader was closed")
            self._woken = False
            out: list[LogRecord] = []
            for partition, records in self._log._records.items():
                for record in islice(records, self._next.get(partition, 0), None):
                    if out and bytes_max <= 0:
                        return out
                    out.append(record)
                    bytes_max -= len(record.payload)
                    self._next[partition] = record.offset + 1
            return out

    def _ready(self) -> bool:
        return (
            self._woken
            or self._closed
            or self._log._closed
            or any(len(r) > self._next.get(p, 0) for p, r in self._log._records.items())
        )

    def wake(self) -> None:
        with self._log._changed:
            self._woken = True
            self._log._changed.notify_all()

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Do nothing: a log in memory shows no lag."""

    def close(self) -> None:
        with self._log._changed:
            self._closed = True
            self._log._changed.notify_all()
