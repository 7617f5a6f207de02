"""The interface of the event log. Code outside this package does not know which log it uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NamedTuple, Protocol

from modeltrail.limits import EVENT_BYTES_MAX

RUNS = "runs"
REGISTRY = "registry"
STREAMS = (RUNS, REGISTRY)


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
    """The log is out of reach, full, or busy for too long.

    The events may or may not have been appended.
    """


class LogRefused(LogError):
    """The log does not accept these events from this caller. A retry does not help."""


class LogMisconfigured(LogError):
    """A URL, setting, topic or folder is wrong."""


class LogClosed(LogError):
    """The log was used after ``close()``."""


class Partition(NamedTuple):
    """A totally ordered part of a stream."""

    stream: str
    partition: int

    def __str__(self) -> str:
        """Return for example ``runs:3``."""
        return f"{self.stream}:{self.partition}"

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Parse the result of ``str()``. Raises ``ValueError``."""
        stream, _, number = text.partition(":")
        if stream not in STREAMS or not number.isdecimal():
            raise ValueError(f"not a partition: {text!r}; expected as in 'runs:3'")
        return cls(stream, int(number))


REGISTRY_PARTITION = Partition(REGISTRY, 0)
"""The only partition of the registry, which gives its requests one order."""


class Position(NamedTuple):
    """The place of an event in the log."""

    stream: str
    partition: int
    offset: int

    @property
    def within(self) -> Partition:
        """The partition of this position."""
        return Partition(self.stream, self.partition)

    def __str__(self) -> str:
        """Return for example ``runs:3:12345``."""
        return f"{self.stream}:{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parse the result of ``str()``. Raises ``ValueError``."""
        stream, *numbers = text.split(":")
        if stream not in STREAMS or len(numbers) != 2 or not all(n.isdecimal() for n in numbers):
            raise ValueError(f"not a position: {text!r}; expected as in 'registry:0:17'")
        return cls(stream, int(numbers[0]), int(numbers[1]))


class NewEvent(NamedTuple):
    """An event to append."""

    stream: str
    key: str
    """Events with the same key stay in order.

    In ``runs`` it is the run's id; in ``registry`` it is unused.
    """
    payload: bytes
    """The event in Avro single-object encoding; see ``modeltrail.schemas``."""


def check_events(events: Sequence[NewEvent]) -> None:
    """Check events against the limits of all logs. Raises ``LogRefused``."""
    for i, event in enumerate(events):
        if event.stream not in STREAMS:
            raise LogRefused(
                f"event {i} is for stream {event.stream!r}; there are {', '.join(STREAMS)}"
            )
        if len(event.payload) > EVENT_BYTES_MAX:
            raise LogRefused(
                f"event {i} has {len(event.payload):,} bytes; {EVENT_BYTES_MAX:,} are allowed"
            )


class LogRecord(NamedTuple):
    """An event in the log."""

    stream: str
    partition: int
    offset: int
    appended_at_ms: int
    """When the log appended it, in ms since 1970 UTC. Audits rely on this time."""
    payload: bytes

    @property
    def position(self) -> Position:
        """The event's place in the log."""
        return Position(self.stream, self.partition, self.offset)


class Reader(Protocol):
    """Reads a log from given positions on. Only ``wake`` may be called from another thread."""

    def poll(self, timeout_s: float, bytes_max: int = 32 * 1024 * 1024) -> list[LogRecord]:
        """Return the next records, in order within each partition.

        Returns as soon as there are records: about ``bytes_max`` bytes at most, but at least one
        record. Returns an empty list after ``timeout_s`` seconds.

        Raises:
            LogUnavailable: the log is out of reach; poll again.
            LogMisconfigured: the log ends before the position to read from.
            LogClosed: the reader or its log was closed.
        """

    def wake(self) -> None:
        """Make a ``poll`` that is waiting in another thread return at once."""

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Report the position of this reader to the log, for tools that show the lag.

        Best effort.
        """

    def close(self) -> None:
        """Release the resources of the reader."""


class EventLog(Protocol):
    """An append-only log of two streams. Thread-safe."""

    url: str
    """URL of the log, without passwords."""
    shared: bool
    """Whether other servers may append to it."""

    def append(self, events: Sequence[NewEvent], timeout_s: float = 30.0) -> list[Position]:
        """Append events, and return when all are durable (fsync, or ``acks=all``).

        Calls from several threads are committed in groups. Events of one call and one partition
        keep their order. A failed call may have appended some of its events: retry all of them with
        the same sequence numbers, and the fold drops the repeats.

        Raises:
            LogUnavailable: not durable within ``timeout_s``.
            LogRefused: an event is too large or not allowed.
        """

    def reader(self, start: Mapping[Partition, int]) -> Reader:
        """Return a reader of all partitions, from the given offsets on. The default offset is 0.

        If the log ends before one of them, it was cut short or is another log: ``LogMisconfigured``
        is raised here or by the first ``poll``.
        """

    def end(self) -> dict[Partition, int]:
        """Return for each partition the offset that its next event will get.

        Raises ``LogUnavailable``.
        """

    def add_schemas(self, schemas: Mapping[bytes, str]) -> None:
        """Store writer schemas (fingerprint to JSON text) with the log.

        Stored schemas are not replaced.
        """

    def schemas(self) -> dict[bytes, str]:
        """Return all stored writer schemas."""

    def close(self) -> None:
        """Finish the appends in progress, and release all resources."""


def record_at(
    log: EventLog, partition: Partition, offset: int, end: Mapping[Partition, int]
) -> LogRecord:
    """Return one event of the log.

    Args:
        log: The log, whose end is ``end`` or later.
        partition: The event's partition.
        offset: The event's offset.
        end: For each partition, the offset after its last event.

    Raises:
        LogError: the event cannot be read.
    """
    with closing(log.reader({**end, partition: offset})) as reader:
        for _ in range(60):
            for record in reader.poll(0.5, 1):
                if record.position.within == partition:
                    return record
    raise LogMisconfigured(f"cannot read the event at {partition}:{offset}")


def last_append_ms(log: EventLog) -> int | None:
    """Return the append time of the last event, or None if the log is empty.

    Raises ``LogError``.
    """
    end = log.end()
    return max(
        (record_at(log, p, n - 1, end).appended_at_ms for p, n in end.items() if n), default=None
    )
