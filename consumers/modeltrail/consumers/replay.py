"""Replay: a private database of the state at some moment."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from modeltrail.consumers import store
from modeltrail.consumers.fold import Fold, FoldStatus, Progress
from modeltrail.eventlog import (
    STREAMS,
    EventLog,
    LogMisconfigured,
    Partition,
    Position,
    record_at,
)

Moment = datetime | Position | None
"""A time (by the log's append times), a position, or None for the current end of the log."""


def parse_moment(text: str) -> datetime | Position:
    """Parse an ISO 8601 time (UTC by default) or a position such as ``registry:0:17``.

    Raises:
        ValueError: it is neither.
    """
    if text.partition(":")[0] in STREAMS:
        return Position.parse(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"neither a time nor a position: {text!r}; "
            "expected as in '2026-03-01T12:00:00Z' or 'registry:0:17'"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def replay(
    log: EventLog, until: Moment, into: Path, progress: Progress | None = None
) -> FoldStatus:
    """Fold everything up to a moment into a new database.

    Args:
        log: The log to read.
        until: A time: fold all events appended at or before it. A position: fold its partition up
            to and including it, and the other partitions up to its time.
        into: The file to create; it must not exist.
        progress: Called with the progress.

    Raises:
        FileExistsError: ``into`` exists.
        LogMisconfigured: there is no event at that position.
    """
    if into.exists():
        raise FileExistsError(f"{into} exists; replay never overwrites a file")
    fold = Fold(log, into)
    try:
        fold.open()
        fold.catch_up(bounds(log, until), progress)
        return fold.status()
    except BaseException:
        fold.stop()
        store.remove(into)
        raise
    finally:
        fold.stop()


def bounds(log: EventLog, until: Moment) -> dict[Partition, int]:
    """Return for each partition the offset before which all events belong to the moment."""
    end = log.end()
    if until is None:
        return end
    if isinstance(until, datetime):
        limit_ms = int(until.timestamp() * 1000)
        return {p: _first_after(log, p, n, limit_ms, end) for p, n in end.items()}
    if until.offset >= end.get(until.within, 0):
        raise LogMisconfigured(
            f"there is no event at {until}; "
            f"{until.within} ends before offset {end.get(until.within, 0)}"
        )
    limit_ms = record_at(log, until.within, until.offset, end).appended_at_ms
    found = {p: _first_after(log, p, n, limit_ms, end) for p, n in end.items()}
    found[until.within] = until.offset + 1
    return found


def _first_after(
    log: EventLog, partition: Partition, end_offset: int, limit_ms: int, end: dict[Partition, int]
) -> int:
    """Return the first offset appended after a time. Append times never go backwards."""
    low, high = 0, end_offset
    while low < high:
        middle = (low + high) // 2
        if record_at(log, partition, middle, end).appended_at_ms > limit_ms:
            high = middle
        else:
            low = middle + 1
    return low
