"""A node: one log, one fold of it, and the appender of this process."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from modeltrail.api.actor import Actor, Asker
from modeltrail.api.artifacts.multipart import Multipart
from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.bindings import Bindings
from modeltrail.api.errors import ApiError, Conflict, InvalidRequest, Refused, Unavailable
from modeltrail.consumers.database import program_version
from modeltrail.consumers.fold import Fold, FoldBehind
from modeltrail.consumers.moments import Moments
from modeltrail.consumers.projections.registry import RegistryProjection, Snapshot
from modeltrail.consumers.projections.requests import Verdict, find_verdict, redacted
from modeltrail.consumers.store import StoreError
from modeltrail.consumers.webhooks.deliverer import Webhooks
from modeltrail.eventlog import (
    REGISTRY,
    REGISTRY_PARTITION,
    RUNS,
    EventLog,
    LogError,
    LogRefused,
    NewEvent,
    Partition,
    Position,
)
from modeltrail.schemas import (
    Codec,
    Malformed,
    encode,
    envelope,
    new_event_id,
    uuid_from_cause,
    writer_schemas,
)

_BATCH_EVENTS_MAX = 1_000
_PRODUCERS_MAX = 10_000
_ATTEMPTS = 2


_Line = tuple[str, str, Actor]


@dataclass(slots=True)
class _Asked:
    """An event waiting to be appended."""

    stream: str
    key: str
    type: str
    fields: Mapping[str, Any]
    actor: Actor
    reason: str | None
    client: str
    cause: bytes | None
    """Event id derived from the idempotency key.

    It is also the producer id, so that the fold drops a repeat.
    """
    done: bool = False
    position: Position | None = None
    event_id: bytes = b""
    error: Exception | None = None

    @property
    def line(self) -> _Line:
        """Return what events of one producer have in common."""
        return self.stream, self.key, self.actor

    def result(self) -> tuple[Position, bytes]:
        """Return its position in the log and its id, or raise what went wrong."""
        if self.position is None:
            assert self.error is not None, "it was not appended yet"
            raise self.error
        return self.position, self.event_id


@dataclass(slots=True)
class _OwnProducer:
    id: bytes
    next_sequence: int = 0


class Appender:
    """Appends this process's own events, in one thread at a time, so that they are in log order.

    The thread whose turn it is appends everything that is waiting. Many threads thus share one
    fsync, and a thread that is alone does not wait.
    """

    def __init__(self, log: EventLog, timeout_s: float) -> None:
        """Make an appender; call ``start`` to accept events."""
        self._log = log
        self._timeout_s = timeout_s
        self._queue: deque[_Asked] = deque()
        # Producers by what their events have in common, as the fold counts their numbers. A
        # forgotten producer is replaced by a new one.
        self._producers: OrderedDict[_Line, _OwnProducer] = OrderedDict()
        self._gate = threading.Lock()
        self._turn = threading.Lock()
        self._open = False

    def start(self) -> None:
        """Accept events from now on."""
        self._open = True

    def stop(self) -> None:
        """Accept no more events, and wait until the accepted ones are appended."""
        with self._gate:
            self._open = False
        with self._turn:
            self._append_queued()

    def append(self, asked: Sequence[_Asked]) -> None:
        """Append events, in their order. Afterwards each has its result."""
        with self._gate:
            if not self._open:
                raise Unavailable("the server is shutting down; retry in a moment")
            self._queue.extend(asked)
        with self._turn:
            # Another thread may have appended them already. They are the last in the queue.
            if not asked[-1].done:
                self._append_queued()

    def _append_queued(self) -> None:
        with self._gate:
            queued, self._queue = list(self._queue), deque()
        for at in range(0, len(queued), _BATCH_EVENTS_MAX):
            self._append(queued[at : at + _BATCH_EVENTS_MAX])

    def _append(self, batch: list[_Asked]) -> None:
        encoded: list[tuple[_Asked, NewEvent]] = []
        for asked in batch:
            try:
                encoded.append((asked, self._encode(asked)))
            except Exception as error:
                asked.error, asked.done = error, True
        if not encoded:
            return
        try:
            positions = self._log.append([event for _, event in encoded], self._timeout_s)
        except LogRefused as error:
            if len(encoded) > 1:  # only one is at fault: append each alone
                for asked, event in encoded:
                    self._append_one(asked, event)
                return
            self._fail(encoded[0][0], error)
        except Exception as error:
            for asked, _ in encoded:
                self._fail(asked, error)
        else:
            for (asked, _), position in zip(encoded, positions, strict=True):
                asked.position, asked.done = position, True

    def _append_one(self, asked: _Asked, event: NewEvent) -> None:
        try:
            (asked.position,) = self._log.append([event], self._timeout_s)
            asked.done = True
        except Exception as error:
            self._fail(asked, error)

    def _fail(self, asked: _Asked, error: Exception) -> None:
        # It is not known whether it is in the log, and it is not sent again. A new producer begins,
        # so that no gap counts as a loss.
        self._producers.pop(asked.line, None)
        asked.error, asked.done = error, True

    def renew(self, asked: _Asked) -> None:
        """Replace the producer of this event by a new one."""
        with self._turn:
            self._producers.pop(asked.line, None)

    def _encode(self, asked: _Asked) -> NewEvent:
        if asked.cause is not None:
            event_id = asked.cause
            producer = _OwnProducer(asked.cause)
        else:
            event_id = new_event_id()
            producer = self._producers.setdefault(asked.line, _OwnProducer(new_event_id()))
            self._producers.move_to_end(asked.line)
            if len(self._producers) > _PRODUCERS_MAX:
                self._producers.popitem(last=False)
        payload = encode(
            asked.type,
            {
                "envelope": envelope(
                    producer_id=producer.id,
                    sequence=producer.next_sequence,
                    actor=asked.actor.name,
                    actor_verified=asked.actor.verified,
                    client=asked.client,
                    reason=asked.reason,
                    event_id=event_id,
                ),
                **asked.fields,
            },
        )
        producer.next_sequence += 1
        asked.event_id = event_id
        return NewEvent(asked.stream, asked.key, payload)


class Node:
    """One log, one fold of it, and the artifact store.

    Everything that is appended through a node counts as acknowledged, and so does what was in the
    log before it started. Reads wait until the fold has passed it.
    """

    def __init__(
        self,
        log: EventLog,
        fold: Fold,
        artifacts: ArtifactStore,
        *,
        append_timeout_s: float = 15.0,
        read_timeout_s: float = 15.0,
    ) -> None:
        """Make a node; call ``start`` to use it.

        Args:
            log: The log to append to.
            fold: The fold of that log; the node's owner starts and stops it.
            artifacts: The artifact store.
            append_timeout_s: How long an append may take.
            read_timeout_s: How long a read waits for the fold.
        """
        self.log = log
        self.fold = fold
        self.artifacts = artifacts
        self.multipart = Multipart(artifacts)
        self.webhooks: Webhooks | None = None
        self.append_timeout_s = append_timeout_s
        self.read_timeout_s = read_timeout_s
        self.client = f"modeltrail-api/{program_version()}"
        self.codec = Codec(lambda: log.schemas().values())
        self.moments = Moments(log, self.codec)
        self._acknowledged: dict[Partition, int] = {}
        self._lock = threading.Lock()
        self._appender = Appender(log, append_timeout_s)
        self.bindings = Bindings(self.cursor)
        self.end_at_start: dict[Partition, int] = {}

    def start(self) -> None:
        """Register the writer schemas, note the log's end, and start the appender."""
        self.log.add_schemas(writer_schemas())
        self.end_at_start = self.log.end()
        # An earlier process may have acknowledged all of it to clients that now ask this one.
        with self._lock:
            self._acknowledged = dict(self.end_at_start)
        self._appender.start()

    def start_behind(self, end_at_start: Mapping[Partition, int]) -> None:
        """Start on a log that is away: reads answer from what is folded, and writes fail.

        Args:
            end_at_start: What to use as the log's end at the start.
        """
        self.end_at_start = dict(end_at_start)
        self._appender.start()

    def stop(self) -> None:
        """Append what was accepted, then stop."""
        self._appender.stop()
        self.moments.close()

    # Writing

    def append(self, events: Sequence[NewEvent]) -> list[Position]:
        """Append events that a client encoded. They are durable on return.

        Raises:
            Unavailable: the log is out of reach; a retry is safe.
            InvalidRequest: the log refuses them.
        """
        try:
            positions = self.log.append(events, self.append_timeout_s)
        except LogError as error:
            raise _api_error(error) from None
        self._acknowledge(positions)
        return positions

    def keep_schema(self, fingerprint: bytes, text: str) -> None:
        """Store a writer schema with the log.

        Raises:
            Malformed: it is not the schema of an event type.
            Unavailable: the log is out of reach.
        """
        self.codec.learn(text)
        try:
            self.log.add_schemas({fingerprint: text})
        except LogError as error:
            raise _api_error(error) from None

    def _acknowledge(self, positions: Sequence[Position]) -> None:
        for position in positions:
            self._wait_for(position.within, position.offset + 1)

    def _wait_for(self, partition: Partition, next_offset: int) -> None:
        """Make later reads wait until the fold has passed this offset."""
        with self._lock:
            known = self._acknowledged.get(partition, 0)
            self._acknowledged[partition] = max(known, next_offset)

    def acknowledged(self) -> dict[Partition, int]:
        """For each partition, the offset after the last event that reads wait for."""
        with self._lock:
            return dict(self._acknowledged)

    def append_event(
        self,
        type: str,
        id: str,
        fields: Mapping[str, Any],
        actor: Actor,
        reason: str | None = None,
        cause: bytes | None = None,
    ) -> Position:
        """Append an event of a run or logged model for a caller. It is durable on return.

        With a cause, which becomes its id, it takes effect once.
        """
        owner = "model_id" if type.startswith("LoggedModel") else "run_id"
        of_owner = {owner: id, **fields}
        asked = _Asked(RUNS, id, type, of_owner, actor, reason, self.client, cause)
        return self._appended(asked)[0]

    def append_run_events(
        self,
        run_id: str,
        events: Sequence[tuple[str, Mapping[str, Any]]],
        actor: Actor,
        reason: str | None = None,
    ) -> None:
        """Append events of a run for a caller, in this order, each given as a type and its fields.

        All are durable on return. If it raises, the first ones may be.
        """
        asked = [
            _Asked(
                RUNS, run_id, type, {"run_id": run_id, **fields}, actor, reason, self.client, None
            )
            for type, fields in events
        ]
        self._appender.append(asked)
        for one in asked:
            self._acknowledge([self._result(one)[0]])

    def _appended(self, asked: _Asked) -> tuple[Position, bytes]:
        self._appender.append([asked])
        position, event_id = self._result(asked)
        self._acknowledge([position])
        return position, event_id

    def _result(self, asked: _Asked) -> tuple[Position, bytes]:
        try:
            return asked.result()
        except Malformed as error:
            raise InvalidRequest(str(error)) from None
        except LogError as error:
            raise _api_error(error) from None

    def decide(
        self,
        asker: Asker,
        type: str,
        fields: Mapping[str, Any],
        *,
        cause: bytes | None = None,
    ) -> Verdict:
        """Append a registry request, and wait for the fold's verdict.

        Args:
            asker: Who asks, and why. Requests of one actor with the same idempotency key take
                effect once; a repeat gets the verdict of the first.
            type: Event type, such as ``SetRegisteredModelAlias``.
            fields: The event's fields, without the envelope.
            cause: Without a key: the event's id, 16 bytes. A repeat with the same id gets the
                verdict of the first.

        Raises:
            Refused: with MLflow's error code.
            Conflict: the key was used for another request before.
            Unavailable: the log is out of reach, or the fold did not decide in time. The request
                may still take effect, and a retry with the same key is safe.
        """
        actor, idempotency_key = asker.actor, asker.idempotency_key
        client = asker.client or self.client
        if idempotency_key is not None:
            cause = uuid_from_cause("request", actor.name, str(actor.verified), idempotency_key)
        verdict = None
        for _ in range(_ATTEMPTS):
            asked = _Asked(REGISTRY, "", type, fields, actor, asker.reason, client, cause)
            position, event_id = self._appended(asked)
            verdict = self._verdict(position, event_id)
            if verdict is not None or cause is not None:
                break
            # It is a dead letter, so it had no effect. If another event used its number, others of
            # its producer may do the same; a new producer avoids that.
            self._appender.renew(asked)
        if verdict is None:
            raise Unavailable(
                f"the request at {position} is in the log but could not be applied; "
                "see /api/v1/dead-letters",
                position=str(position),
            )
        at = str(verdict.position)
        if idempotency_key is not None and (
            verdict.type != type or not _same(fields, verdict.request)
        ):
            raise Conflict(
                f"Idempotency-Key {idempotency_key!r} was used for another request, at {at}",
                code="IDEMPOTENCY_KEY_REUSED",
                position=at,
            )
        if not verdict.accepted:
            raise Refused(
                verdict.code or "", verdict.message or "", position=at, event_id=verdict.id
            )
        return verdict

    def _verdict(self, position: Position, event_id: bytes) -> Verdict | None:
        """Return the verdict as soon as there is one; for a repeat, that of the first request."""
        try:
            verdict = self.fold.verdict(position, self.read_timeout_s)
        except FoldBehind as error:
            raise Unavailable(f"the fold is behind: {error}") from None
        if verdict is not None:
            return verdict
        with self.cursor() as cursor:
            return find_verdict(cursor, position.offset, event_id)

    # Reading

    def _wait(self, positions: Mapping[Partition, int]) -> None:
        try:
            self.fold.wait_for(positions, self.read_timeout_s)
        except FoldBehind as error:
            raise Unavailable(f"the fold is behind: {error}") from None

    def wait(self, *, log_end: bool = False, stream: str | None = None) -> None:
        """Wait until the fold has passed everything that this node acknowledged.

        Args:
            log_end: Wait for the current end of the log instead, whoever appended.
            stream: Wait for this stream only.

        Raises:
            Unavailable: not in time.
        """
        try:
            positions = self.log.end() if log_end else self.acknowledged()
            if stream is not None:
                positions = {p: n for p, n in positions.items() if p.stream == stream}
            self._wait(positions)
        except LogError as error:
            raise _api_error(error) from None

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a cursor for queries, and close it at the end of the block."""
        try:
            cursor = self.fold.cursor()
        except StoreError as error:
            raise Unavailable(str(error)) from None
        with closing(cursor):
            yield cursor

    def snapshot(self) -> Snapshot | None:
        """Return what permissions depend on, with all that this node acknowledged.

        As with ``registry``, later reads wait until the tables have what was shown from here:
        otherwise they might contain a model whose permissions ended with it.

        Returns:
            None if what was acknowledged is not decided yet.

        Raises:
            Unavailable: the fold has not yet passed the end that the registry had when this node
                started; users removed since may still seem to exist.
        """
        try:
            found = self.fold.snapshot()
        except StoreError as error:
            raise Unavailable(str(error)) from None
        if found.next_offset < self.end_at_start.get(REGISTRY_PARTITION, 0):
            raise Unavailable("the server is starting and reading its log; try again in a moment")
        if found.next_offset < self.acknowledged().get(REGISTRY_PARTITION, 0):
            return None
        self._wait_for(REGISTRY_PARTITION, found.next_offset)
        return found

    @contextmanager
    def registry(self, *, log_end: bool = False) -> Iterator[RegistryProjection]:
        """Yield the registry in memory, with all that this node acknowledged.

        Keep the block short.

        It may be ahead of the tables, because other nodes append too. Later reads wait for what was
        shown from here, so that they never show less.

        Args:
            log_end: With all that is in the log now instead, whoever appended.

        Raises:
            Unavailable: not in time.
        """
        try:
            wanted = self.log.end() if log_end else self.acknowledged()
            with self.fold.registry(wanted.get(REGISTRY_PARTITION, 0), self.read_timeout_s) as (
                registry,
                decided,
            ):
                self._wait_for(REGISTRY_PARTITION, decided)
                yield registry
        except (FoldBehind, StoreError) as error:
            raise Unavailable(f"the fold is behind: {error}") from None
        except LogError as error:
            raise _api_error(error) from None

    @contextmanager
    def read(
        self, *, log_end: bool = False, stream: str | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a cursor in one read-only transaction that sees what ``wait`` waits for."""
        self.wait(log_end=log_end, stream=stream)
        with self.cursor() as cursor:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            try:
                yield cursor
            finally:
                cursor.execute("ROLLBACK")


def _same(fields: Mapping[str, Any], request: str) -> bool:
    """Return whether a stored request is the same.

    Evidence, which the server may add, is ignored.
    """
    stored = json.loads(request)
    shown = redacted(fields)  # hashes and encrypted values differ each time
    return all(stored.get(name) == value for name, value in shown.items() if name != "evidence")


def _api_error(error: LogError) -> ApiError:
    if isinstance(error, LogRefused):
        return InvalidRequest(f"the log refuses it: {error}", code="LOG_REFUSED")
    return Unavailable(f"the log is not available: {error}")
