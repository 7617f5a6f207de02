"""The log's interface. Nothing outside this package knows which log is in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

RUNS = "runs"
REGISTRY = "registry"
STREAMS = (RUNS, REGISTRY)

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""The largest payload that a log takes."""


class LogError(Exception):
    """The log could not do what was asked.

    LogError
    ├── LogUnavailable   out of reach, full, or busy for too long; a retry may help, and repeats
    │                    that it leaves are removed by the fold
    ├── LogRefused       these events, or this caller, are refused; a retry will not help
    ├── LogMisconfigured wrong URL, setting, topic or folder; the message says how to repair it
    └── LogClosed        the log was closed by this process
    """


class LogUnavailable(LogError):
    """Out of reach, full, or busy for too long. What became of the events is not known."""


class LogRefused(LogError):
    """The log will not take these events from this caller. Retrying will not help."""


class LogMisconfigured(LogError):
    """A URL, setting, topic or folder is wrong."""


class LogClosed(LogError):
    """The log was used after ``close()``."""


class Partition(NamedTuple):
    """One totally ordered part of a stream."""

    stream: str
    partition: int

    def __str__(self) -> str:
        """As in ``runs:3``."""
        return f"{self.stream}:{self.partition}"

    @classmethod
    def parse(cls, text: str) -> Partition:
        """The inverse of ``str()``; raises ``ValueError``."""
        stream, _, number = text.partition(":")
        if stream not in STREAMS or not number.isdecimal():
            raise ValueError(f"not a partition: {text!r}; expected as in 'runs:3'")
        return cls(stream, int(number))


REGISTRY_PARTITION = Partition(REGISTRY, 0)
"""The registry's only partition: its requests are decided in one order."""


class Position(NamedTuple):
    """Where one event is."""

    stream: str
    partition: int
    offset: int

    @property
    def within(self) -> Partition:
        """The partition of this position."""
        return Partition(self.stream, self.partition)

    def __str__(self) -> str:
        """As in ``runs:3:12345``."""
        return f"{self.stream}:{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """The inverse of ``str()``; raises ``ValueError``."""
        stream, *numbers = text.split(":")
        if stream not in STREAMS or len(numbers) != 2 or not all(n.isdecimal() for n in numbers):
            raise ValueError(f"not a position: {text!r}; expected as in 'registry:0:17'")
        return cls(stream, int(numbers[0]), int(numbers[1]))


class NewEvent(NamedTuple):
    """An event to append."""

    stream: str
    key: str
    """Events of one key stay in order. ``runs``: the run's id. ``registry``: not used."""
    payload: bytes
    """Avro single-object encoding, see ``modeltrail.schemas``."""


def check_events(events: Sequence[NewEvent]) -> None:
    """Refuse events that no log takes; raises ``LogRefused``."""
    for i, event in enumerate(events):
        if event.stream not in STREAMS:
            raise LogRefused(
                f"event {i} is for stream {event.stream!r}; there are {', '.join(STREAMS)}"
            )
        if len(event.payload) > EVENT_BYTES_MAX:
            raise LogRefused(
                f"event {i} has {len(event.payload):,} bytes; {EVENT_BYTES_MAX:,} is the most"
            )


class LogRecord(NamedTuple):
    """An event as the log holds it."""

    stream: str
    partition: int
    offset: int
    appended_at_ms: int
    """When the log took it, in milliseconds since 1970 UTC; the time that audits go by."""
    payload: bytes

    @property
    def position(self) -> Position:
        """Where it is."""
        return Position(self.stream, self.partition, self.offset)


class Reader(Protocol):
    """Reads on from given positions. For one thread, but for ``wake``."""

    def poll(self, timeout_s: float, bytes_max: int = 32 * 1024 * 1024) -> list[LogRecord]:
        """The next records, in order within each partition; empty after ``timeout_s`` seconds.

        Returns as soon as there is anything: about ``bytes_max`` bytes at most, but at least one
        record.

        Raises:
            LogUnavailable: the log is out of reach; poll again.
            LogMisconfigured: the log ends before the position to read from.
            LogClosed: the reader or its log was closed.
        """
        ...

    def wake(self) -> None:
        """Make a ``poll`` that waits in another thread return at once."""
        ...

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Tell the log how far its reader has come, for tools that show the lag; best effort."""
        ...

    def close(self) -> None:
        """Free what the reader holds."""
        ...


class EventLog(Protocol):
    """An append-only log of two streams. Safe for use by several threads."""

    url: str
    """Where it is, without passwords."""

    def append(self, events: Sequence[NewEvent], timeout_s: float = 30.0) -> list[Position]:
        """Append events; returns when all are durable (fsync, or ``acks=all``).

        Calls by several threads are committed in groups. Events of one call and one partition keep
        their order. A failed call may have appended some of its events: retry all of them with
        their sequence numbers unchanged, and the fold removes the repeats.

        Raises:
            LogUnavailable: not durable within ``timeout_s``.
            LogRefused: too large, or not allowed.
        """
        ...

    def reader(self, start: Mapping[Partition, int]) -> Reader:
        """A reader of all partitions, from the given offsets on; a missing one means 0.

        A log that ends before one of them was cut short, or is another log: that raises
        LogMisconfigured, here or at the first ``poll``.
        """
        ...

    def end(self) -> dict[Partition, int]:
        """For every partition the offset that its next event will get. Raises LogUnavailable."""
        ...

    def add_schemas(self, schemas: Mapping[bytes, str]) -> None:
        """Keep writer schemas (fingerprint to JSON text) with the log; known ones are left."""
        ...

    def schemas(self) -> dict[bytes, str]:
        """All writer schemas that were kept."""
        ...

    def close(self) -> None:
        """Finish appends under way and free what is held."""
        ...


def append_ms(
    log: EventLog, partition: Partition, offset: int, end: Mapping[Partition, int]
) -> int:
    """Append time of an event that is in the log, in milliseconds since 1970 UTC.

    Args:
        log: The log, whose end is ``end``.
        partition: The event's partition.
        offset: Its offset.
        end: For each partition the offset after its last event.

    Raises:
        LogError: it cannot be read.
    """
    reader = log.reader({**end, partition: offset})
    try:
        for _ in range(60):
            for record in reader.poll(0.5, 1):
                if record.position.within == partition:
                    return record.appended_at_ms
    finally:
        reader.close()
    raise LogMisconfigured(f"cannot read the event at {partition}:{offset}")


def last_append_ms(log: EventLog) -> int | None:
    """Append time of the log's last event; None if it is empty. Raises ``LogError``."""
    end = log.end()
    return max((append_ms(log, p, n - 1, end) for p, n in end.items() if n), default=None)
