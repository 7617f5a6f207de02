"""The event log: one interface, three implementations, chosen by one URL."""

from modeltrail.eventlog.base import (
    EVENT_BYTES_MAX,
    REGISTRY,
    REGISTRY_PARTITION,
    RUNS,
    STREAMS,
    EventLog,
    LogClosed,
    LogError,
    LogMisconfigured,
    LogRecord,
    LogRefused,
    LogUnavailable,
    NewEvent,
    Partition,
    Position,
    Reader,
)
from modeltrail.eventlog.opening import open_log

__all__ = [
    "EVENT_BYTES_MAX",
    "REGISTRY",
    "REGISTRY_PARTITION",
    "RUNS",
    "STREAMS",
    "EventLog",
    "LogClosed",
    "LogError",
    "LogMisconfigured",
    "LogRecord",
    "LogRefused",
    "LogUnavailable",
    "NewEvent",
    "Partition",
    "Position",
    "Reader",
    "open_log",
]
