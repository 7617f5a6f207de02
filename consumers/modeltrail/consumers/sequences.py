"""Recognize repeats, from retries and outbox replays, by producer id and sequence number.

The numbers of a producer count within one subject (a run, a logged model, or the registry) of one
partition, and for one actor. An event that uses the id of another's producer, for another run or
under another name, therefore does not change which of the true producer's events are repeats. See
decision 14.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from modeltrail.consumers import tables
from modeltrail.eventlog import RUNS, LogRecord
from modeltrail.schemas import Malformed

if TYPE_CHECKING:
    from modeltrail.consumers.projections import Incoming

JUMP_MAX = 2**31
"""How many numbers a producer may leave out at once. More are a mistake, not a loss."""

SEQUENCE_MAX = 2**53
_GAPS_MAX = 16
_KEPT_MAX = 50_000
_GAP = struct.Struct(">qq16sq")
_NO_ID = bytes(16)
_EVER_MS = -(2**63)


def subject_of(stream: str, event: Mapping[str, Any]) -> str:
    """Return what a producer's numbers count within: ``run/ID``, ``model/ID``, or ``registry``."""
    if stream == RUNS:
        if "run_id" in event:
            return f"run/{event['run_id']}"
        if "model_id" in event:
            return f"model/{event['model_id']}"
    return stream


def check_sequence(sequence: int, last: int | None = None) -> None:
    """Check that a sequence number is valid and can follow the last one. Raises ``Malformed``."""
    if not 0 <= sequence <= SEQUENCE_MAX:
        raise Malformed(f"a sequence number is 0 to {SEQUENCE_MAX:,}, not {sequence}")
    if last is not None and sequence - last > JUMP_MAX:
        raise Malformed(
            f"sequence number {sequence} is more than {JUMP_MAX:,} after the producer's last, "
            f"{last}"
        )


class Numbering(NamedTuple):
    """What sequence numbers count within: one producer's events on one subject of a partition."""

    producer_id: bytes
    partition: int
    subject: str


def numbering_of(record: LogRecord, event: Mapping[str, Any]) -> Numbering:
    """What the sequence number of an event counts within."""
    producer_id = event["envelope"]["producer_id"]
    return Numbering(producer_id, record.partition, subject_of(record.stream, event))


class _Gap(NamedTuple):
    """Numbers below the last one that had no effect."""

    first: int
    last: int
    event_id: bytes = _NO_ID
    """Id of the dead letter with the number; zeros if no event had it."""
    after_ms: int = _EVER_MS
    """When the event before was made, by the time in its id (UUIDv7)."""


def missing_in(gaps: bytes) -> list[tuple[int, int]]:
    """Return the first and last missing number of each gap in a ``fold.producers.gaps``.

    Dead letters are left out: they are no losses.
    """
    found = (_Gap(*gap) for gap in _GAP.iter_unpack(gaps))
    return [(gap.first, gap.last) for gap in found if gap.event_id == _NO_ID]


def losses(gaps: bytes) -> list[int]:
    """Return for each gap in a ``fold.producers.gaps`` when the event before was made, in ms.

    Dead letters are left out: they are no losses.
    """
    found = (_Gap(*gap) for gap in _GAP.iter_unpack(gaps))
    return [gap.after_ms for gap in found if gap.event_id == _NO_ID]


def _made_ms(event_id: bytes) -> int:
    return int.from_bytes(event_id[:6], "big")


@dataclass(slots=True)
class KnownProducer:
    """The state of one producer for one actor; a row of ``fold.producers``."""

    producer_id: bytes
    partition: int
    subject: str
    actor: str
    first_offset: int
    last_sequence: int = -1
    last_event_id: bytes = b""
    gaps: list[_Gap] = field(default_factory=list)
    untold: int = 0
    """Events missing before a dead letter, which its run has not counted yet."""
    points_logged: int = 0
    points_dropped: int = 0

    def gap(self, sequence: int) -> _Gap | None:
        """Return the gap that contains a number."""
        return next((g for g in self.gaps if g.first <= sequence <= g.last), None)

    def has(self, sequence: int) -> bool:
        """Return whether an event with this number has arrived."""
        return sequence <= self.last_sequence and self.gap(sequence) is None

    def fill(self, sequence: int, event_id: bytes, gap: _Gap) -> None:
        """Remove a number from a gap."""
        at = self.gaps.index(gap)
        parts = [
            gap._replace(last=sequence - 1, event_id=_NO_ID),
            _Gap(sequence + 1, gap.last, after_ms=_made_ms(event_id)),
        ]
        self.gaps[at : at + 1] = [part for part in parts if part.first <= part.last]

    def advance(self, sequence: int, event_id: bytes) -> None:
        """Advance to a number after the last."""
        if sequence > self.last_sequence + 1:
            after_ms = _made_ms(self.last_event_id) if self.last_event_id else _EVER_MS
            self.gaps.append(_Gap(self.last_sequence + 1, sequence - 1, after_ms=after_ms))
            del self.gaps[:-_GAPS_MAX]
        self.last_sequence, self.last_event_id = sequence, event_id


@dataclass(slots=True)
class _Scope:
    """One producer id within one subject of a partition, by actor. The first actor is the owner."""

    by_actor: dict[str, KnownProducer] = field(default_factory=dict)
    highest: int = -1


class Sequences:
    """The active producers, as a cache of ``fold.producers``."""

    def __init__(self) -> None:
        """Make an empty cache; ``prepare`` fills it."""
        self._known: dict[Numbering, _Scope] = {}
        self._new: set[int] = set()
        self._changed: dict[int, KnownProducer] = {}

    def prepare(self, con: duckdb.DuckDBPyConnection, batch: Iterable[Incoming]) -> None:
        """Load the unknown producers of a batch."""
        unknown = {incoming.numbering for incoming in batch} - self._known.keys()
        if not unknown:
            return
        ids, partitions, subjects = zip(*unknown, strict=True)
        rows = tables.lookup(
            con,
            "SELECT p.* FROM fold.producers p SEMI JOIN wanted w ON p.producer_id = w.id "
            "AND p.partition = w.partition AND p.subject = w.subject ORDER BY p.first_offset",
            {"id": ids, "partition": partitions, "subject": subjects},
        )
        for row in rows:
            producer = KnownProducer(*row)
            producer.gaps = [_Gap(*found) for found in _GAP.iter_unpack(row[7])]
            numbering = Numbering(producer.producer_id, producer.partition, producer.subject)
            scope = self._known.setdefault(numbering, _Scope())
            scope.by_actor[producer.actor] = producer
            scope.highest = max(scope.highest, producer.last_sequence)

    def accept(
        self, incoming: Incoming, may_have: Callable[[bytes], bool]
    ) -> tuple[KnownProducer, int] | None:
        """Count an event.

        Args:
            incoming: The event.
            may_have: Returns whether the event with an id may have been folded before.

        Returns:
            None for a repeat; else its producer, and the change in the number of missing events:
                those just before this one, or -1 if it was missing itself.

        Raises:
            Malformed: its number was used by another event, or is invalid. Nothing has changed.
        """
        envelope = incoming.event["envelope"]
        sequence, event_id, actor = envelope["sequence"], envelope["event_id"], envelope["actor"]
        numbering = incoming.numbering
        scope = self._known.get(numbering) or _Scope()
        producer = scope.by_actor.get(actor)
        if producer is not None and sequence == producer.last_sequence + 1 == scope.highest + 1:
            # Nearly every event is the next one. The rest would do the same, but slower.
            scope.highest = producer.last_sequence = sequence
            producer.last_event_id = event_id
            return self._taken(producer, 0)
        for holder in dict.fromkeys((actor, *list(scope.by_actor)[:1])):
            other = scope.by_actor.get(holder)
            if other is None or not other.has(sequence):
                continue
            if sequence == other.last_sequence:
                repeated = event_id == other.last_event_id
            else:
                repeated = other is producer and may_have(event_id)
            if repeated:
                return None
            raise Malformed(
                f"its producer's sequence number {sequence} was used before, by another event "
                f"of {holder!r}"
            )
        if producer is None:
            check_sequence(sequence, -1)
            producer = KnownProducer(*numbering, actor, incoming.record.offset)
            scope.by_actor[actor] = producer
            self._known[numbering] = scope
            self._new.add(id(producer))
        else:
            check_sequence(sequence, producer.last_sequence)
        gap = producer.gap(sequence)
        if gap is not None and gap.event_id == event_id:
            return None
        if sequence > scope.highest:
            missing = sequence - scope.highest - 1
            scope.highest = sequence
        else:
            # It was counted as missing, unless a dead letter or another actor's event had the
            # number.
            had = gap is not None and gap.event_id != _NO_ID
            others = (p for p in scope.by_actor.values() if p is not producer)
            missing = 0 if had or any(p.has(sequence) for p in others) else -1
        if gap is not None:
            producer.fill(sequence, event_id, gap)
        else:
            producer.advance(sequence, event_id)
        return self._taken(producer, missing)

    def _taken(self, producer: KnownProducer, missing: int) -> tuple[KnownProducer, int]:
        missing += producer.untold
        producer.untold = 0
        self._changed[id(producer)] = producer
        return producer, missing

    def undo(self, producer: KnownProducer, missing: int, incoming: Incoming) -> None:
        """Record that a counted event has no effect, so that another one may have its number."""
        envelope = incoming.event["envelope"]
        sequence = envelope["sequence"]
        producer.untold = missing
        producer.gaps.append(_Gap(sequence, sequence, envelope["event_id"]))
        producer.gaps.sort()
        del producer.gaps[:-_GAPS_MAX]

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write the changes since the last write."""
        new = [p for p in self._changed.values() if id(p) in self._new]
        old = [p for p in self._changed.values() if id(p) not in self._new]
        if new:
            tables.insert(con, "fold.producers", _columns(new))
        if old:
            columns = _columns(old)
            del columns["first_offset"]  # it never changes
            keys = ["producer_id", "partition", "subject", "actor"]
            tables.update(con, "fold.producers", keys, columns)
        self._changed.clear()
        self._new.clear()
        if len(self._known) > _KEPT_MAX:
            self._known.clear()

    def forget(self) -> None:
        """Clear the cache after a failed transaction."""
        self.__init__()  # type: ignore[misc]


def _columns(producers: list[KnownProducer]) -> dict[str, list[object]]:
    columns = tables.rows(producers, list(KnownProducer.__dataclass_fields__))
    columns["gaps"] = [b"".join(_GAP.pack(*gap) for gap in p.gaps) for p in producers]
    return columns
