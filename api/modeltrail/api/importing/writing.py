"""Events of an import: their envelopes, and a producer for each run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from modeltrail.api.importing.destinations import Destination
from modeltrail.consumers.database import program_version
from modeltrail.eventlog import REGISTRY, RUNS, NewEvent
from modeltrail.limits import NAME_CHARACTERS_MAX
from modeltrail.schemas import encode, envelope, new_event_id, uuid_from_cause

_FLUSH_BYTES = 4 * 1024 * 1024
_FLUSH_EVENTS = 2_000


class Head:
    """The common part of the envelopes of an import."""

    def __init__(self, identity: str, user: str) -> None:
        """Make it.

        Args:
            identity: What is imported: the source's URL without credentials.
            user: The user who imports: the actor if the source names none.
        """
        self.identity = identity
        self._user = user
        self._client = f"modeltrail-import/{program_version()}"
        self._reason = f"imported from {identity}"

    def of(
        self, producer: bytes, sequence: int, actor: str | None, occurred_at_ms: int | None
    ) -> dict[str, Any]:
        """Return an envelope. Names are claims of the source, so no actor is verified."""
        if occurred_at_ms is None or occurred_at_ms < 0:
            occurred_at_ms = time.time_ns() // 1_000_000
        return envelope(
            producer_id=producer,
            sequence=sequence,
            event_id=uuid_from_cause("import", producer.hex(), str(sequence)),
            actor=(actor or self._user)[:NAME_CHARACTERS_MAX],
            client=self._client,
            reason=self._reason,
            occurred_at_ms=occurred_at_ms,
        )


class Outgoing:
    """Events of runs and logged models, collected into large appends."""

    def __init__(self, destination: Destination, head: Head) -> None:
        self._destination = destination
        self._head = head
        self._waiting: list[NewEvent] = []
        self._bytes = 0
        self.events = 0
        """Number of events that were appended or are waiting."""

    def writer(self, id: str, state: int | None, actor: str | None) -> Writer:
        """Return a producer for events of one run or logged model.

        Args:
            id: Its id.
            state: The fold's state of it: the offset of its last event, or -1 for nothing. Two
                imports that continue from the same state are the same producer, and have one
                effect. None if the fold does not know; then the events must be harmless when
                repeated.
            actor: The user it belongs to.
        """
        producer = new_event_id()
        if state is not None:
            producer = uuid_from_cause("import", self._head.identity, id, str(state))
        return Writer(self, self._head, id, producer, actor)

    def put(self, event: NewEvent) -> None:
        self._waiting.append(event)
        self._bytes += len(event.payload)
        self.events += 1
        if self._bytes >= _FLUSH_BYTES or len(self._waiting) >= _FLUSH_EVENTS:
            self.flush()

    def flush(self) -> None:
        """Append the waiting events."""
        if self._waiting:
            self._destination.append(self._waiting)
        self._waiting = []
        self._bytes = 0


class Writer:
    """Makes the events of one run or logged model."""

    def __init__(
        self, outgoing: Outgoing, head: Head, id: str, producer: bytes, actor: str | None
    ) -> None:
        self._outgoing = outgoing
        self._head = head
        self._id = id
        self._producer = producer
        self._actor = actor
        self._sequence = 0
        self.points = 0
        """Number of metric points sent."""

    def put(self, type: str, occurred_at_ms: int | None, fields: Mapping[str, Any]) -> None:
        owner = "model_id" if type.startswith("LoggedModel") else "run_id"
        head = self._head.of(self._producer, self._sequence, self._actor, occurred_at_ms)
        if type == "LoggedModelImported":
            fields = {"imported_from": self._head.identity, **fields}
        payload = encode(type, {"envelope": head, owner: self._id, **fields})
        self._sequence += 1
        self._outgoing.put(NewEvent(RUNS, self._id, payload))


class Requests:
    """Requests to the registry: one producer for each import."""

    def __init__(self, destination: Destination, head: Head) -> None:
        self._destination = destination
        self._head = head
        self._producer = new_event_id()
        self._sequence = 0

    @property
    def events(self) -> int:
        """Number of requests sent."""
        return self._sequence

    def send(self, requests: list[Request]) -> list[tuple[Request, str]]:
        """Send requests in this order and wait. Returns the refused ones with their reasons."""
        refused = []
        for at in range(0, len(requests), _FLUSH_EVENTS):
            some = requests[at : at + _FLUSH_EVENTS]
            decided = self._destination.request([self._event(request) for request in some])
            refused += [
                (request, outcome.message or "refused")
                for request, outcome in zip(some, decided, strict=True)
                if not outcome.accepted
            ]
        return refused

    def _event(self, request: Request) -> NewEvent:
        head = self._head.of(self._producer, self._sequence, None, request.occurred_at_ms)
        fields = request.fields
        if request.type.startswith("Import"):
            fields = {"imported_from": self._head.identity, **fields}
        payload = encode(request.type, {"envelope": head, **fields})
        self._sequence += 1
        return NewEvent(REGISTRY, "", payload)


class Request:
    """A request to the registry for something that is missing here."""

    def __init__(
        self, type: str, what: str, occurred_at_ms: int | None = None, **fields: Any
    ) -> None:
        """Make a request.

        Args:
            type: Event type.
            what: What it is about, for display.
            occurred_at_ms: When it happened at the source; None for now.
            fields: The event's fields, without the envelope.
        """
        self.type = type
        self.what = what
        self.occurred_at_ms = occurred_at_ms
        self.fields = fields
