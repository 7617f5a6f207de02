"""The writer: one thread in each process, from the buffer to the outbox.

A busy training thread releases the interpreter only every 5 ms, so every call here that releases it
(a read, a write, a wait) costs that long. The writer therefore makes few such calls, each for many
points.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from modeltrail.producers.buffer import (
    ArtifactOrder,
    Buffer,
    Entry,
    Event,
    Mark,
    Notice,
    Pending,
    Point,
    Producer,
    SeriesPoints,
    take,
)
from modeltrail.producers.environment import Git, describe, packages, user_name
from modeltrail.producers.notices import warn
from modeltrail.producers.outbox import pack_frame
from modeltrail.schemas import SchemaError, encode, envelope, pack

if TYPE_CHECKING:
    from modeltrail.producers.channel import Channel

EVENT_POINTS_MAX = 4_096
PENDING_POINTS_MAX = 200_000
"""How many packed points a process keeps while the outbox accepts none, before it drops points."""
PENDING_EVENTS_MAX = 10_000

_FIRST = ("RunStarted", "RunUpdated")
_INTERVAL_S = 0.025
_LINGER_S = 0.1
_LINGER_POINTS = 1_000
_RETRY_S = 0.5
_WRITE_EVENTS_MAX = 64
_WRITE_BYTES_MAX = 1024 * 1024
_MAP_BYTES_MAX = 1024 * 1024
_GIT_POINTS_MAX = PENDING_POINTS_MAX // 2


class Writer(threading.Thread):
    """Empties the buffer every 25 ms and writes events to the outboxes.

    Points are written once there are a thousand, or 100 ms after the first.
    """

    def __init__(self, buffer: Buffer, lossy: dict[int, Producer]) -> None:
        """Start the thread. Producers that lose something are added to ``lossy``."""
        super().__init__(name="modeltrail-writer", daemon=True)
        self._buffer = buffer
        self._lossy = lossy
        self._wake: queue.SimpleQueue[None] = (
            queue.SimpleQueue()
        )  # put() is safe in signal handlers
        self._producers: dict[int, Producer] = {}
        self._pending_points = 0
        self._pending_events = 0
        self._written_at = 0.0
        self._retry_at = 0.0
        self._hurry = False
        self._warned: set[str] = set()
        self._user: str | None = None
        self._client = ""
        self._random = b""
        self._gits: dict[str, Git] = {}
        self.passes = 0
        """How often the writer has emptied the buffer: it is alive while this grows."""
        self.start()

    def wake(self, *, hurry: bool = False) -> None:
        """Empty the buffer at once. If in a hurry, also try a full disk again."""
        self._hurry |= hurry
        self._wake.put(None)

    def unwritten(self) -> dict[Producer, tuple[int, int]]:
        """Return the points and other events that are only in memory, for a timed-out exit."""
        found: dict[Producer, tuple[int, int]] = {}

        def count(producer: Producer, points: int, others: int) -> None:
            before = found.get(producer, (0, 0))
            found[producer] = before[0] + points, before[1] + others

        for point in list(self._buffer.points):
            count(point[0], 1, 0)
        for entry in list(self._buffer.entries):
            if entry is not None and isinstance(entry.what, SeriesPoints):
                count(entry.producer, len(entry.what.values), 0)
            elif entry is not None and _is_kept(entry.what):
                count(entry.producer, 0, 1)
        for producer in list(self._producers.values()):
            for what, _, points in list(producer.pending):
                if _is_kept(what):
                    count(producer, points, not points)
        return found

    def run(self) -> None:
        while True:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=_INTERVAL_S)
                while True:
                    self._wake.get_nowait()
            try:
                self._step(time.monotonic())
            except Exception as error:  # the thread must live; what failed is counted or retried
                self._warn_once("writer", f"the writer failed: {type(error).__name__}: {error}")
            self.passes += 1

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warn(message)

    def _step(self, now: float) -> None:
        # Take entries first: a point logged before an entry is already in the buffer, and is
        # written before it. So no point of a run comes after its end.
        entries = take(self._buffer.entries)
        for entry in entries:
            if entry is not None and _is_first(entry.what):
                self._stage_entry(entry)
        due = self._hurry or now - self._written_at >= _LINGER_S
        if entries or due or len(self._buffer.points) >= _LINGER_POINTS:
            points = take(self._buffer.points)
            if points:
                self._written_at = now
                self._stage_points(points)
        for entry in entries:
            if entry is not None and not _is_first(entry.what):
                self._stage_entry(entry)
        for producer in list(self._producers.values()):
            self._beat(producer, now)
        if self._pending_events and (now >= self._retry_at or self._hurry):
            self._hurry = False
            self._write(now)

    def _stage_points(self, points: list[Point]) -> None:
        groups: dict[int, list[Point]] = {}
        for point in points:
            groups.setdefault(id(point[0]), []).append(point)
        for group in groups.values():
            for at in range(0, len(group), EVENT_POINTS_MAX):
                self._stage_group(group[at : at + EVENT_POINTS_MAX])

    def _stage_group(self, group: list[Point]) -> None:
        producers, keys, steps, times, values = zip(*group, strict=True)
        series = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        columns = pack(map(series.__getitem__, keys), steps, times, values)
        listed = [{"key": key} if isinstance(key, str) else key._asdict() for key in series]
        fields = {"series": listed, **columns}
        producers[0].points_logged += len(group)
        self._stage(producers[0], Event("MetricsLogged", fields), times[-1], len(group))

    def _stage(
        self, producer: Producer, what: Event | ArtifactOrder | Mark, at_ms: int, points: int = 0
    ) -> None:
        if self._producers.setdefault(id(producer), producer).beat_at == 0.0:
            producer.beat_at = time.monotonic()
        if self._pending_points + points > PENDING_POINTS_MAX // 2:
            now = time.monotonic()
            if now >= self._retry_at:
                self._write(now)  # a long series does not fit into memory at once
        if (points and self._pending_points + points > PENDING_POINTS_MAX) or (
            self._pending_events >= PENDING_EVENTS_MAX
            and not (isinstance(what, Mark) or _type_of(what) == "RunEnded")
        ):
            self._lose(producer, points)
            return
        producer.pending.append(Pending(what, at_ms, points))
        self._pending_points += points
        self._pending_events += 1

    def _lose(self, producer: Producer, points: int) -> None:
        # Use up the number, so that the fold sees a gap where the event should have been.
        producer.sequence += 1
        producer.points_lost += points
        producer.others_lost += not points
        self._lossy[id(producer)] = producer

    def _stage_entry(self, entry: Entry) -> None:
        producer, what, at_ms = entry
        match what:
            case Notice(text):
                warn(f"run {producer.run_id}: {text}")
            case SeriesPoints():
                self._stage_series(producer, what)
            case Event("ParamsLogged" | "TagsChanged" as type, fields):
                (name, texts), *rest = fields.items()
                for part in _parts(texts):
                    self._stage(producer, Event(type, {name: part, **dict(rest)}), at_ms)
            case _:
                if _type_of(what) == "RunStarted":
                    producer.git = self._git(producer.code_folder)
                self._stage(producer, what, at_ms)

    def _stage_series(self, producer: Producer, points: SeriesPoints) -> None:
        key, steps, times, values = points
        columns = pack([0] * len(values), steps, times, values)
        producer.points_logged += len(values)
        fields = {"series": [{"key": key}], **columns}
        self._stage(producer, Event("MetricsLogged", fields), times[-1], len(values))

    def _git(self, folder: str) -> Git:
        if folder not in self._gits:
            self._gits[folder] = Git(folder)
        return self._gits[folder]

    def _beat(self, producer: Producer, now: float) -> None:
        if not producer.owner or producer.ended:
            return
        if now < producer.beat_at + producer.channel.settings.heartbeat_s:
            return
        producer.beat_at = now
        self._stage(producer, Event("Heartbeat", {}), time.time_ns() // 1_000_000)

    def _write(self, now: float) -> None:
        written: set[Channel] = set()
        stuck: set[Channel] = set()
        for producer in list(self._producers.values()):
            if producer.channel in stuck or self._waits_for_git(producer):
                continue
            try:
                while producer.pending:
                    self._write_some(producer)
                    written.add(producer.channel)
            except OSError as error:
                stuck.add(producer.channel)
                self._retry_at = now + _RETRY_S
                self._warn_once(
                    "disk",
                    f"the outbox takes nothing more: {error.strerror or error}; what does not fit "
                    "into memory meanwhile is dropped and counted",
                )
            if not producer.pending and (producer.ended or not producer.owner):
                del self._producers[id(producer)]
        for channel in written:
            channel.wake()

    def _waits_for_git(self, producer: Producer) -> bool:
        git = producer.git
        return git is not None and not git.ready and self._pending_points < _GIT_POINTS_MAX

    def _write_some(self, producer: Producer) -> None:
        """Write a few pending events with one system call; each call releases the interpreter."""
        frames: list[bytes] = []
        size = points = taken = 0
        for what, at_ms, n in islice(producer.pending, _WRITE_EVENTS_MAX):
            if not isinstance(what, Event) or size >= _WRITE_BYTES_MAX:
                break
            try:
                payload = self._encode(producer, what, at_ms, len(frames))
            except SchemaError as error:
                warn(f"run {producer.run_id}: {error}")
                break
            frames.append(pack_frame(producer.run_id, payload, n))
            size += len(payload)
            points += n
            taken += 1
        if taken:
            try:
                producer.channel.put_events(frames, points)
            except OSError:
                self._give_way(producer, taken)
                raise
            producer.sequence += taken
        else:
            self._write_special(producer)
            taken = 1
        for _ in range(taken):
            self._pop(producer)

    def _give_way(self, producer: Producer, n: int) -> None:
        """Write what fits, and drop the points that other events wait behind."""
        for _ in range(n):
            what, at_ms, points = producer.pending[0]
            assert isinstance(what, Event)  # the others are written one by one
            # Encode it again: numbers and counts depend on what was dropped since.
            payload = self._encode(producer, what, at_ms, 0)
            try:
                producer.channel.put_events([pack_frame(producer.run_id, payload, points)], points)
                producer.sequence += 1
            except OSError:
                if not points or all(waiting.points for waiting in producer.pending):
                    raise
                self._lose(producer, points)
            self._pop(producer)

    def _write_special(self, producer: Producer) -> None:
        what, at_ms, points = producer.pending[0]
        match what:
            case Mark():
                what.appended = producer.channel.appended()
            case ArtifactOrder():
                self._write_artifact(producer, what, at_ms)
            case Event():  # it does not fit its schema
                self._lose(producer, points)

    def _pop(self, producer: Producer) -> None:
        what, _, points = producer.pending.popleft()
        type = _type_of(what)
        self._pending_events -= 1
        self._pending_points -= points
        if type == "RunStarted":
            producer.git = None
        elif type == "RunEnded":
            producer.ended = True
        elif type == "RunUpdated":
            producer.ended = False

    def _encode(self, producer: Producer, event: Event, at_ms: int, ahead: int) -> bytes:
        type, fields = event
        if type == "RunStarted":
            git = producer.git.facts if producer.git else {}
            fields = {**fields, "source": {**describe(), **git}, "user": self._actor(producer)}
        elif type in ("Heartbeat", "RunEnded"):
            dropped = producer.count_drops()
            fields = {
                **fields,
                "points_logged": producer.points_logged + dropped,
                "points_dropped": producer.points_dropped,
            }
            if type == "Heartbeat":
                fields["outbox_bytes"] = producer.channel.waiting_bytes
        head = self._envelope(producer, producer.id, producer.sequence + ahead, at_ms)
        return encode(type, {"envelope": head, producer.subject: producer.run_id, **fields})

    def _write_artifact(self, producer: Producer, order: ArtifactOrder, at_ms: int) -> None:
        head = self._envelope(producer, producer.artifacts_id, producer.artifacts_sequence, at_ms)
        for name in ("event_id", "producer_id"):
            head[name] = head[name].hex()
        text = json.dumps(
            {**order._asdict(), "subject": producer.subject, "envelope": json.dumps(head)}
        )
        producer.channel.put_artifact(producer.run_id, text.encode())
        producer.artifacts_sequence += 1

    def _envelope(
        self, producer: Producer, producer_id: bytes, sequence: int, at_ms: int
    ) -> dict[str, Any]:
        return envelope(
            producer_id=producer_id,
            sequence=sequence,
            actor=self._actor(producer),
            client=self._client,
            event_id=self._event_id(at_ms),
            occurred_at_ms=at_ms,
        )

    def _event_id(self, at_ms: int) -> bytes:
        """Return a UUIDv7.

        Reads random bytes in bulk, because each call releases the interpreter.
        """
        if len(self._random) < 10:
            self._random = os.urandom(4000)
        data, self._random = bytearray(self._random[:10]), self._random[10:]
        data[0] = 0x70 | (data[0] & 0x0F)
        data[2] = 0x80 | (data[2] & 0x3F)
        return (at_ms & 0xFFFF_FFFF_FFFF).to_bytes(6, "big") + bytes(data)

    def _actor(self, producer: Producer) -> str:
        if not self._client:
            self._user = user_name()
            self._client = f"modeltrail-producers/{packages().get('modeltrail', '0')}"
        return producer.user or self._user or ""


def _type_of(what: object) -> str | None:
    """Return the type of an event; None for everything else."""
    return what.type if isinstance(what, Event) else None


def _is_first(what: object) -> bool:
    """Return whether something comes before the points that were logged before it."""
    return _type_of(what) in _FIRST


def _is_kept(what: object) -> bool:
    """Return whether something is missed when it is lost: an artifact, or an event but a beat."""
    return isinstance(what, ArtifactOrder) or _type_of(what) not in (None, "Heartbeat")


def _parts(texts: dict[str, str | None]) -> list[dict[str, str | None]]:
    """Split a map into maps of at most a megabyte, so that no event gets too large."""
    parts: list[dict[str, str | None]] = [{}]
    size = 0
    for key, text in texts.items():
        length = 4 * (len(key) + len(text or ""))
        if parts[-1] and size + length > _MAP_BYTES_MAX:
            parts.append({})
            size = 0
        parts[-1][key] = text
        size += length
    return parts
