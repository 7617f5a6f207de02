"""The event log: one interface with three implementations, chosen by URL."""

from modeltrail.eventlog.address import mistake_in
from modeltrail.eventlog.base import (
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
    last_append_ms,
    record_at,
)
from modeltrail.eventlog.opening import open_log

__all__ = [
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
    "last_append_ms",
    "mistake_in",
    "open_log",
    "record_at",
]
