"""Owners of producers: each producer id belongs to its first user, for one run or model.

The fold enforces this (decision 14). It is also checked here before an event is appended, so that a
client gets an error instead of a dead letter.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import duckdb

from modeltrail.api.actor import Actor
from modeltrail.api.errors import Forbidden
from modeltrail.consumers import tables
from modeltrail.consumers.reading import sql
from modeltrail.consumers.sequences import subject_of

_KEPT_MAX = 50_000

Bound = Mapping[str, str]
"""Subjects of a producer, as returned by ``subject_of``, each with the actor that owns it."""


class Bindings:
    """The producers known to this node, from its fold and from its own appends."""

    def __init__(self, cursor: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]):
        """Make it. Unknown producers are looked up in the fold, through a cursor."""
        self._cursor = cursor
        self._known: OrderedDict[bytes, Bound] = OrderedDict()
        self._gate = threading.Lock()

    def claim(
        self,
        stream: str,
        events: Sequence[Mapping[str, Any]],
        verified: Actor | None,
        manages: Callable[[Mapping[str, Any]], bool],
    ) -> tuple[dict[bytes, Bound], dict[int, str]]:
        """Check the producers of a batch.

        Args:
            stream: The stream that the batch is for.
            events: Its events, in order.
            verified: The sender; None if only each event's own claim is known.
            manages: Returns whether the sender manages the subject of an event, and may therefore
                continue another's producer: to deliver the rest of an outbox after its job has
                ended.

        Returns:
            What to ``keep`` once the batch is appended, and the owners of producers that the sender
                continues, by the index of the event.

        Raises:
            Forbidden: a producer belongs to another user; the batch must not be appended.
        """
        ids = {event["envelope"]["producer_id"] for event in events}
        claimed: dict[bytes, Bound] = self._find(ids)
        continued: dict[int, str] = {}
        for index, event in enumerate(events):
            head, subject = event["envelope"], subject_of(stream, event)
            actor = head["actor"] if verified is None else verified.name
            bound = claimed.setdefault(head["producer_id"], {subject: actor})
            owner = bound.get(subject)
            if owner is None:
                raise _taken(index, "another run or model")
            if owner != actor:
                if verified is None or not manages(event):
                    raise _taken(index, f"{owner!r}, who used it first")
                continued[index] = owner
        return claimed, continued

    def _find(self, producer_ids: Collection[bytes]) -> dict[bytes, Bound]:
        """Return the subjects and owners of the known ones among these producers."""
        with self._gate:
            found = {id: self._known[id] for id in producer_ids if id in self._known}
        unknown = [id for id in producer_ids if id not in found]
        if unknown:
            with self._cursor() as cursor:
                rows = tables.lookup(cursor, sql("runs.producers"), {"id": unknown})
            read: dict[bytes, dict[str, str]] = {}
            for producer_id, subject, actor in rows:
                read.setdefault(producer_id, {})[subject] = actor
            self.keep(read)
            found |= read
        return found

    def keep(self, bound: Mapping[bytes, Bound]) -> None:
        """Remember producers whose events were appended."""
        with self._gate:
            for producer_id, subjects in bound.items():
                self._known[producer_id] = {**subjects, **self._known.get(producer_id, {})}
                self._known.move_to_end(producer_id)
            while len(self._known) > _KEPT_MAX:
                self._known.popitem(last=False)


def _taken(index: int, whose: str) -> Forbidden:
    return Forbidden(
        f"event {index} of the batch: its producer id belongs to {whose}; nothing of the batch was "
        "appended. Each process needs a producer id of its own for each run and logged model. To "
        "deliver what another user left behind, use that user's token, or one of a user with "
        "MANAGE on the run's experiment.",
        code="PRODUCER_TAKEN",
        index=index,
    )
