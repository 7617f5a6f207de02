"""The buffer that training threads append to, and their counters: no locks, no I/O.

``list.append``, ``extend`` with a list, slicing, ``del`` of a slice and ``next`` of an
``itertools.count`` are each one atomic step in CPython. No other locking is needed.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

if TYPE_CHECKING:
    from array import array

    from modeltrail.producers.channel import Channel
    from modeltrail.producers.environment import Git

POINTS_MAX = 20_000
"""Maximum number of points in the buffer of a process (about 200 bytes each)."""
SLOTS_MAX = 2_048
"""Maximum size of all other buffered entries, in slots of ``SLOT_BYTES`` bytes."""
SLOT_BYTES = 4_096
SERIES_CHUNK = 4_096
_COUNTING_WAIT_S = 1.0


class Series(NamedTuple):
    """What points belong to, if that is more than a metric's key."""

    key: str
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


Point = tuple["Producer", str | Series, int, int, float]


class Event(NamedTuple):
    """An event, without its envelope and the id of what it is about."""

    type: str
    fields: dict[str, Any]


class SeriesPoints(NamedTuple):
    """Many points of one metric, as columns."""

    key: str
    steps: array[int]
    times_ms: array[int]
    values: array[float]


class ArtifactOrder(NamedTuple):
    """An artifact to upload."""

    path: str
    spooled: str
    """Name of its copy in the outbox."""


class Notice(NamedTuple):
    """A warning. The writer gives it, because logging may do I/O."""

    text: str


class Mark:
    """Asks the writer for the outbox's position once everything before the mark was written."""

    appended: tuple[int, int] | None = None


class Entry(NamedTuple):
    """What a training thread hands to the writer, other than a point."""

    producer: Producer
    what: Event | SeriesPoints | ArtifactOrder | Notice | Mark
    at_ms: int


class Pending(NamedTuple):
    """What the writer has yet to put into the outbox."""

    what: Event | ArtifactOrder | Mark
    at_ms: int
    points: int


def take(items: list[Any]) -> list[Any]:
    """Remove and return all items of a list, while other threads append to it."""
    n = len(items)
    taken = items[:n]
    del items[:n]
    return taken


class Tally:
    """A counter without a lock: ``next`` of an ``itertools.count`` is one atomic step."""

    def __init__(self) -> None:
        self._count = count()
        self._reads = 0

    def add(self) -> int:
        """Count one. Returns 0 for the first."""
        return next(self._count) - self._reads

    def read(self) -> int:
        """Return the count. Only one thread at a time may call this."""
        value = next(self._count) - self._reads
        self._reads += 1
        return value


class Buffer:
    """The buffer that training threads append to."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.entries: list[Entry | None] = []

    def put(self, entry: Entry, size_bytes: int = 0) -> bool:
        """Append an entry that is not a point. Returns False if there is no room.

        An entry takes one slot for each 4 KiB, so that the length of the list limits the memory.
        """
        if len(self.entries) >= SLOTS_MAX:
            return False
        self.entries.extend([entry] + [None] * (size_bytes // SLOT_BYTES))
        return True


class Producer:
    """One process that writes one run: its producer id, sequence numbers and pending events.

    Training threads use only ``drops``; everything else belongs to the writer's thread.
    """

    def __init__(
        self,
        run_id: str,
        channel: Channel,
        user: str | None,
        owner: bool,
        subject: str = "run_id",
    ) -> None:
        """Make a producer for the process that owns the run, or for one that adds to it.

        ``subject`` is the field that holds the id: "model_id" if ``run_id`` is the id of a logged
        model.
        """
        self.run_id = run_id
        self.subject = subject
        self.channel = channel
        self.user = user
        self.owner = owner
        self.warned: set[str] = set()
        self.drops = {reason: Tally() for reason in ("value", "key", "step", "full", "text")}
        self.points_logged = 0
        self.points_lost = 0
        self.others_lost = 0
        self.points_dropped = 0
        """Metric points that were dropped, as of the last ``count_drops``."""
        self.others_dropped = 0
        """Params, tags, artifacts and other events that were dropped, likewise."""
        self._counting = threading.Lock()
        self._refused = 0
        self.pending: deque[Pending] = deque()
        self.code_folder = ""
        """Where the code of the run is, for what git says of it."""
        self.git: Git | None = None
        self.ended = False
        self.beat_at = 0.0
        self.id = uuid4().bytes
        self.sequence = 0
        self.artifacts_id = uuid4().bytes
        self.artifacts_sequence = 0

    def count_drops(self) -> int:
        """Update the counts of dropped points and events. Thread-safe.

        Returns:
            The metric points that never got into the buffer.
        """
        # With a time limit, because a signal handler may interrupt the thread that holds the lock
        # and then wait here.
        if self._counting.acquire(timeout=_COUNTING_WAIT_S):
            try:
                self._refused = sum(
                    t.read() for reason, t in self.drops.items() if reason != "text"
                )
                texts = self.drops["text"].read()
            finally:
                self._counting.release()
            events, points = self.channel.refused(self.run_id)
            self.points_dropped = self._refused + self.points_lost + points
            self.others_dropped = texts + self.others_lost + events
        return self._refused
