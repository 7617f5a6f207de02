"""Verify the log with its hash chains, as folded and as signed.

``verify`` computes the chain of each partition from the raw log. It compares the chain with the
hashes that the fold stored, and with signed checkpoints. The stored hashes identify the first event
that differs, but someone who changes the log can have the tables rebuilt from it. A checkpoint
cannot be forged without the key; see ``checkpoints``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from modeltrail.consumers.chain import FoldedChains, Head, Link, chain, chain_start
from modeltrail.consumers.checkpoints import Checkpoint, read_checkpoints
from modeltrail.eventlog import (
    REGISTRY_PARTITION,
    EventLog,
    LogRecord,
    LogUnavailable,
    Partition,
)

T = TypeVar("T")

_SILENCE_MAX_S = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem found by the verification."""

    kind: str
    """payload_changed, time_changed, event_missing, event_inserted, events_swapped, log_cut,
    checkpoint_differs, checkpoint_forged, or checkpoint_unreadable."""
    partition: Partition | None
    """The partition, or None for a line that cannot be read."""
    offset: int | None
    """The first affected offset, or None for a line that cannot be read."""
    message: str


@dataclass(frozen=True, slots=True)
class Covered:
    """How far one partition of the log was verified."""

    events: int
    """Number of events read from the log."""
    compared: int
    """Number of events that agree with what the fold stored."""
    signed_offset: int | None
    """The last offset that a valid checkpoint signs and agrees with, or None."""
    hash: bytes
    """The end of the chain, computed from the raw log."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of ``verify``."""

    partitions: Mapping[Partition, Covered]
    checkpoints: int
    """Number of checkpoints with a valid signature that the log agrees with."""
    findings: tuple[Finding, ...]
    """All problems; empty if there are none. The first of each partition comes first."""

    @property
    def ok(self) -> bool:
        """Whether nothing was changed."""
        return not self.findings

    @property
    def registry(self) -> Covered:
        """How far the registry was verified."""
        return self.partitions[REGISTRY_PARTITION]

    @property
    def events(self) -> int:
        """Number of events read, in all partitions."""
        return sum(covered.events for covered in self.partitions.values())


def verify(
    log: EventLog,
    folded: FoldedChains | None = None,
    *,
    checkpoints: Path | None = None,
    trusted_keys: Collection[bytes] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Compute the chains from the raw log, and compare them with the fold and the checkpoints.

    Args:
        log: The log.
        folded: The chains that the fold stored. Read its heads before calling this, so that an
            event missing in the log is known to be cut off.
        checkpoints: A ``checkpoints.jsonl`` to compare with.
        trusted_keys: Public keys (32 bytes) to trust; None for every key that the file names. That
            proves less: someone who can write the file can sign it with a new key.
        progress: Called regularly with the number of events done and the total.

    Raises:
        LogError: the log cannot be read.
    """
    end = log.end()
    good, findings = _good(checkpoints, trusted_keys)
    known = {p for checkpoint in good for p in checkpoint.heads}
    if folded is not None:
        known |= set(folded.heads)
    walks = {p: _Walk(p, folded, [c for c in good if p in c.heads]) for p in sorted({*end, *known})}
    done, total = 0, sum(end.values())
    for records in batches(log, end):
        for record in records:
            walks[Partition(record.stream, record.partition)].feed(record)
        done += len(records)
        if progress is not None:
            progress(done, total)
    for walk in walks.values():
        walk.finish()
    found = [finding for walk in walks.values() for finding in walk.findings]
    return Verdict(
        {
            p: Covered(walk.events, walk.compared, walk.signed_offset, walk.hash)
            for p, walk in walks.items()
        },
        sum(all(c in walks[p].agreed for p in c.heads) for c in good),
        (*found, *findings),
    )


def _good(
    path: Path | None, trusted_keys: Collection[bytes] | None
) -> tuple[list[Checkpoint], list[Finding]]:
    """Return the checkpoints with trusted signatures, and the problems of the others."""
    found, unreadable = ([], []) if path is None else read_checkpoints(path)
    findings = [
        Finding("checkpoint_unreadable", None, None, f"{path}, line {number}: not a checkpoint")
        for number in unreadable
    ]
    good = []
    for checkpoint in found:
        if not checkpoint.signature_holds():
            why = "the signature does not fit what it signs"
        elif trusted_keys is not None and checkpoint.public_key not in trusted_keys:
            why = f"it is signed with a key that is not trusted, {checkpoint.public_key.hex()}"
        else:
            good.append(checkpoint)
            continue
        for partition, head in sorted(checkpoint.heads.items())[:1]:
            where = f"{partition}, checkpoint of offset {head.offset}"
            findings.append(Finding("checkpoint_forged", partition, head.offset, f"{where}: {why}"))
    return good, findings


class _Walk:
    """Walks through one partition and compares each event with what is known."""

    def __init__(
        self, partition: Partition, folded: FoldedChains | None, checkpoints: list[Checkpoint]
    ) -> None:
        self.partition = partition
        self.findings: list[Finding] = []
        self.events = 0
        self.compared = 0
        self.hash = chain_start(partition)
        self.signed_offset: int | None = None
        self.agreed: list[Checkpoint] = []
        self._expected = 0
        self._held: LogRecord | None = None
        self._parted = False  # once log and fold differ, they differ to the end
        self._folded_head = None if folded is None else folded.heads.get(partition)
        self._links = _Ahead(iter(()) if folded is None else folded.links(partition))
        # The last item of the list is the next one reached.
        self._checkpoints = sorted(
            checkpoints, key=lambda c: c.heads[partition].offset, reverse=True
        )

    def feed(self, record: LogRecord) -> None:
        """Take the next record. It is checked once the following one is known."""
        held, self._held = self._held, record
        if held is not None:
            self._look(held, record)

    def finish(self) -> None:
        """End the walk: the log has no more records."""
        if self._held is not None:
            self._look(self._held, None)
            self._held = None
        if self._folded_head is not None and self._folded_head.offset >= self._expected:
            self._part(
                "log_cut",
                self._expected,
                f"the log ends here, but it was folded up to offset {self._folded_head.offset}",
            )
        if self._checkpoints:
            last = self._checkpoints[0]
            self._find(
                "log_cut",
                self._expected,
                f"the log ends here, but on {_time(last.time_ms)} it was signed up to offset "
                f"{last.heads[self.partition].offset}",
            )

    def _look(self, record: LogRecord, next_record: LogRecord | None) -> None:
        before = self.hash
        self.hash = chain(before, record.offset, record.appended_at_ms, record.payload)
        if record.offset != self._expected:
            self._part("event_missing", self._expected, _MISSING)
        elif not self._parted:
            link = next(self._links, None)  # None: the fold is not that far
            if link is not None and self._agrees(link):
                self.compared += 1
            elif link is not None:
                kind, message = _difference(before, link, record, self._links.ahead, next_record)
                self._part(kind, link.offset, message)
        self._reach(record.offset)
        self._expected = record.offset + 1
        self.events += 1

    def _agrees(self, link: Link) -> bool:
        head = self._folded_head
        if head is not None and head.offset == link.offset and head.hash != self.hash:
            return False
        return self.hash.startswith(link.hash)

    def _reach(self, offset: int) -> None:
        """Check the checkpoints up to this offset."""
        while self._checkpoints and self._checkpoints[-1].heads[self.partition].offset <= offset:
            checkpoint = self._checkpoints.pop()
            head = checkpoint.heads[self.partition]
            if head == Head(offset, self.hash):
                self.agreed.append(checkpoint)
                self.signed_offset = offset
            elif not any(f.kind == "checkpoint_differs" for f in self.findings):
                start = 0 if self.signed_offset is None else self.signed_offset + 1
                self.findings.append(
                    Finding(
                        "checkpoint_differs",
                        self.partition,
                        start,
                        f"{self.partition}, offsets {start} to {head.offset}: what the log holds "
                        f"there is not what was signed on {_time(checkpoint.time_ms)}",
                    )
                )

    def _part(self, kind: str, offset: int, message: str) -> None:
        if not self._parted:
            self._parted = True
            self._find(kind, offset, message)

    def _find(self, kind: str, offset: int, message: str) -> None:
        text = f"{self.partition}, offset {offset}: {message}"
        self.findings.append(Finding(kind, self.partition, offset, text))


_MISSING = "the event was taken out of the log"


def _difference(
    before: bytes,
    link: Link,
    record: LogRecord,
    next_link: Link | None,
    next_record: LogRecord | None,
) -> tuple[str, str]:
    """Return what happened to an event, by trying which change explains the stored hashes."""
    offset = link.offset

    def fits(link: Link, before: bytes, payload: bytes) -> bool:
        return chain(before, link.offset, link.appended_at_ms, payload).startswith(link.hash)

    if fits(link, before, record.payload):
        return (
            "time_changed",
            f"its time was {_time(link.appended_at_ms)} when it was folded, now it is "
            f"{_time(record.appended_at_ms)}",
        )
    # Check whether this event belongs one place later, and the next one belongs here.
    found_at_next = next_record is not None and fits(link, before, next_record.payload)
    whole = link.hash
    if next_record is not None and found_at_next:
        whole = chain(before, offset, link.appended_at_ms, next_record.payload)
    belongs_to_next = next_link is not None and fits(next_link, whole, record.payload)
    if belongs_to_next and found_at_next:
        return "events_swapped", "this event and the next were swapped"
    if belongs_to_next:
        return "event_missing", _MISSING
    if found_at_next:
        return "event_inserted", "an event was inserted that was not there"
    if len(link.hash) < len(before):
        return "payload_changed", "the event that was folded was changed, or taken out of the log"
    return "payload_changed", "the event is not the one that was folded"


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms since 1970"


class _Ahead(Generic[T]):
    """An iterator that can show its next item."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self.ahead: T | None = next(items, None)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = self.ahead
        if item is None:
            raise StopIteration
        self.ahead = next(self._items, None)
        return item


def batches(log: EventLog, end: Mapping[Partition, int]) -> Iterator[list[LogRecord]]:
    """Read all partitions of the log, up to the given offsets."""
    left = {partition for partition, offset in end.items() if offset}
    if not left:
        return
    with closing(log.reader({})) as reader:
        heard = time.monotonic()
        while left:
            records = reader.poll(1.0)
            if records:
                heard = time.monotonic()
            wanted = []
            for record in records:
                partition = Partition(record.stream, record.partition)
                if record.offset < end.get(partition, 0):
                    wanted.append(record)
                if record.offset >= end.get(partition, 0) - 1:
                    left.discard(partition)
            if wanted:
                yield wanted
            if time.monotonic() - heard > _SILENCE_MAX_S:
                raise LogUnavailable(
                    f"{log.url} gives no more events of {min(left)} before offset "
                    f"{end[min(left)]}, where it ends"
                )
