"""Makes events as producers and servers do, with sequence numbers."""

from __future__ import annotations

from typing import Any

from modeltrail.eventlog import NewEvent
from modeltrail.schemas import Codec, encode, envelope, event_stream, pack, uuid_from_cause


class Writer:
    """A producer: gives its events sequence numbers."""

    def __init__(self, name: str = "writer", *, actor: str = "ann") -> None:
        self.producer_id = uuid_from_cause("test", name)
        self.actor = actor
        self.sequence = 0

    def event(
        self, type: str, *, key: str = "", reason: str | None = None, **body: Any
    ) -> NewEvent:
        header = envelope(
            producer_id=self.producer_id,
            sequence=self.sequence,
            actor=self.actor,
            client="tests/1",
            reason=reason,
            event_id=uuid_from_cause("test", self.producer_id.hex(), str(self.sequence)),
            occurred_at_ms=1_700_000_000_000 + self.sequence,
        )
        self.sequence += 1
        key = key or body.get("run_id") or "registry"
        return NewEvent(event_stream(type), key, encode(type, {"envelope": header, **body}))


class RunWriter(Writer):
    """A producer of one run."""

    def __init__(self, run_id: str, name: str | None = None, *, actor: str = "ann") -> None:
        super().__init__(name or run_id, actor=actor)
        self.run_id = run_id

    def of_run(self, type: str, **body: Any) -> NewEvent:
        return self.event(type, run_id=self.run_id, **body)

    def started(self, **given: Any) -> NewEvent:
        body: dict[str, Any] = {
            "experiment_id": None,
            "experiment_name": "digits",
            "name": "a run",
            "parent_run_id": None,
            "user": "ann",
            "started_at_ms": 1_700_000_000_000,
            "source": None,
            "heartbeat_interval_ms": None,
        }
        return self.of_run("RunStarted", **{**body, **given})

    def ended(self, status: str = "FINISHED", **given: Any) -> NewEvent:
        body = {"ended_at_ms": 1_700_000_060_000, "message": None}
        return self.of_run("RunEnded", status=status, **{**body, **given})

    def points(self, *points: tuple[str, int, int, float]) -> NewEvent:
        """Points given as (key, step, timestamp in ms, value)."""
        keys = list(dict.fromkeys(p[0] for p in points))
        columns = pack(
            [keys.index(p[0]) for p in points],
            [p[1] for p in points],
            [p[2] for p in points],
            [p[3] for p in points],
        )
        return self.of_run("MetricsLogged", series=[{"key": k} for k in keys], **columns)

    def metric(self, key: str, step: int, value: float) -> NewEvent:
        return self.points((key, step, 1_700_000_000_000 + step, value))


JUMPS = (1, 2, 1000, 2**31, 2**62, -1, -(2**63))
"""Sequence numbers of those who would silence a producer."""


def stolen(event: NewEvent, sequence: int, **envelope: Any) -> NewEvent:
    """The event with another number and event id, as one who knows the producer's id can make."""
    type, fields = Codec().decode(event.payload)
    head = fields["envelope"]
    head["sequence"] = sequence
    head["event_id"] = uuid_from_cause("stolen", head["event_id"].hex(), str(sequence))
    head.update(envelope)
    return event._replace(payload=encode(type, fields))
