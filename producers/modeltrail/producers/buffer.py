"""What training threads append to, and what they count in: no lock, no input or output.

``list.append``, ``extend`` by a list, slicing and ``del`` of a slice are each one atomic step in
CPython, and so is ``next`` of an ``itertools.count``. That is all the locking that there is.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from modeltrail.producers.channel import Channel
    from modeltrail.producers.environment import Git

POINTS_MAX = 20_000
"""Points that a process buffers until the writer takes them (some 200 bytes each)."""
SLOTS_MAX = 2_048
"""The same for everything else, in slots of ``SLOT_BYTES`` bytes."""
SLOT_BYTES = 4_096
SERIES_CHUNK = 4_096
_COUNTING_WAIT_S = 1.0


class Series(NamedTuple):
    """What points belong to, where it is more than a metric's key."""

    key: str
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


Point = tuple["Producer", str | Series, int, int, float]
Entry = tuple["Producer", str, Any, int]


def take(items: list[Any]) -> list[Any]:
    """Take all items out of a list that others append to meanwhile."""
    n = len(items)
    taken = items[:n]
    del items[:n]
    return taken


class Tally:
    """Counts without a lock: ``next`` of an ``itertools.count`` is one atomic step."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._count = count()
        self._reads = 0

    def add(self) -> int:
        """Count one; returns 0 for the first."""
        return next(self._count) - self._reads

    def read(self) -> int:
        """How many were counted. For one thread at a time."""
        value = next(self._count) - self._reads
        self._reads += 1
        return value


class Mark:
    """Asks the writer how far the outbox is once everything before it was written."""

    appended: tuple[int, int] | None = None


class Buffer:
    """What training threads append to."""

    def __init__(self) -> None:
        """An empty buffer."""
        self.points: list[Point] = []
        self.entries: list[Entry | None] = []

    def put(self, entry: Entry, size_bytes: int = 0) -> bool:
        """Append an entry other than a point; False where there is no room.

        One entry takes a slot for each 4 KiB, so that the length of the list bounds the memory.
        """
        if len(self.entries) >= SLOTS_MAX:
            return False
        self.entries.extend([entry] + [None] * (size_bytes // SLOT_BYTES))
        return True


class Producer:
    """One process writing one run: an id, a sequence, and what waits to be written.

    Training threads only count in ``drops``; all else belongs to the writer's thread.
    """

    def __init__(
        self,
        run_id: str,
        channel: Channel,
        user: str | None,
        owner: bool,
        subject: str = "run_id",
    ) -> None:
        """Of the run's owner, or of a process that adds to a run of another one.

        ``subject`` is the field for the id: "model_id" where ``run_id`` is a logged model's.
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
        """Metric points that could not be kept, as of the last ``count_drops``."""
        self.others_dropped = 0
        """Params, tags, artifacts and other events that could not be, as of then."""
        self._counting = threading.Lock()
        self._refused = 0
        self.pending: deque[tuple[str, Any, int, int]] = deque()
        self.git: Git | None = None
        self.ended = False
        self.beat_at = 0.0
        self.id = _uuid4()
        self.sequence = 0
        self.artifacts_id = _uuid4()
        self.artifacts_sequence = 0

    def count_drops(self) -> int:
        """Bring the counts of what was dropped up to date. Safe in every thread.

        Returns:
            The metric points that never got into the buffer.
        """
        # With a limit, since a signal handler may interrupt a thread that holds it, and wait here.
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


def _uuid4() -> bytes:
    data = bytearray(os.urandom(16))
    data[6] = 0x40 | (data[6] & 0x0F)
    data[8] = 0x80 | (data[8] & 0x3F)
    return bytes(data)
