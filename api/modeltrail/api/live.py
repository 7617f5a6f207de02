"""Live streams: what the fold has just done, for each client that listens.

The fold's thread hands over each batch once. In the event loop, each stream keeps what its client
has yet to see: sets of runs, and a bounded queue of other events. A client that does not read
costs no more than that, and its stream ends when the queue is full; it can then resume where it
was. The database is asked only for the rights to runs that a stream sees for the first time.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from modeltrail.api.access.acts import Level
from modeltrail.api.access.rights import EXPERIMENT, MODEL, Rights
from modeltrail.api.answers import time_of
from modeltrail.api.errors import InvalidRequest, TooBusy, Unauthenticated
from modeltrail.api.gates import READS
from modeltrail.api.node import Node
from modeltrail.consumers.database import News
from modeltrail.consumers.projections.requests import Verdict, verdicts_since
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY, REGISTRY_PARTITION, RUNS, Partition, Position
from modeltrail.limits import RUN_ENDED
from modeltrail.schemas import points

STREAMS_MAX: Final = 500
STREAMS_OF_ONE_MAX: Final = 30
BEAT_S: Final = 15.0
PAUSE_S: Final = 0.2
"""Time between two messages about runs: at most five a second."""
QUEUE_MAX: Final = 1_000
"""How many events of the registry, and how many of the tail, wait for a client."""
RUNS_MAX: Final = 10_000
"""How many runs wait for a client, or are named after a resumption."""
_WAITING_MAX: Final = 100_000
_KEPT_MAX: Final = 100_000
_POSITION_CHARACTERS_MAX: Final = 45
"""Enough for any partition and offset, so that no endless number is read."""


class Interest(NamedTuple):
    """What a client wants to hear of."""

    runs: frozenset[str] | None
    experiments: frozenset[str] | None
    """With neither, all runs."""
    registry: bool
    tail: bool


@dataclass(slots=True)
class _Runs:
    """Runs that changed."""

    touched: dict[str, None] = field(default_factory=dict)
    ended: dict[str, None] = field(default_factory=dict)
    created: dict[str, None] = field(default_factory=dict)

    def add(self, run_id: str, *, ended: bool, created: bool) -> None:
        self.touched[run_id] = None
        if ended:
            self.ended[run_id] = None
        if created:
            self.created[run_id] = None

    def update(self, other: _Runs) -> None:
        self.touched.update(other.touched)
        self.ended.update(other.ended)
        self.created.update(other.created)

    def among(self, allowed: set[str]) -> dict[str, list[str]]:
        return {
            "run_ids": [id for id in self.touched if id in allowed],
            "ended": [id for id in self.ended if id in allowed],
            "created": [id for id in self.created if id in allowed],
        }


class _Line(NamedTuple):
    """An event of the tail, and what it is about."""

    kind: str
    """``run``, ``model`` (a logged one), ``registry``, or ``dead``."""
    of: Any
    """An id, or the verdict."""
    text: str


class _Batch(NamedTuple):
    """A batch of the fold."""

    runs: _Runs
    verdicts: Sequence[Verdict]
    tail: Sequence[_Line]


class Live:
    """The streams of one application."""

    def __init__(self, node: Node) -> None:
        """Make it for a node; nothing happens before the first stream."""
        self.node = node
        self.lag_ms: int | None = None
        """From the log to the streams, of the last batch, in ms."""
        self.positions: dict[Partition, int] = {}
        """How far the fold was after the last batch."""
        self._streams: dict[Stream, None] = {}
        self._of_one: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._waiting: list[tuple[list[News], list[Verdict], dict[Partition, int]]] = []
        self._waiting_events = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, stream: Stream) -> None:
        """Add a stream, in the event loop. Raises ``TooBusy``."""
        if len(self._streams) >= STREAMS_MAX or self._of_one[stream.who] >= STREAMS_OF_ONE_MAX:
            raise TooBusy(
                f"too many live streams are open: {STREAMS_OF_ONE_MAX} for one user, "
                f"{STREAMS_MAX} in all"
            )
        self._loop = asyncio.get_running_loop()
        self._streams[stream] = None
        self._of_one[stream.who] += 1
        self.node.fold.watch(self._took)

    def leave(self, stream: Stream) -> None:
        """Remove a stream."""
        if stream not in self._streams:
            return
        del self._streams[stream]
        self._of_one[stream.who] -= 1
        if not self._of_one[stream.who]:
            del self._of_one[stream.who]
        if not self._streams:
            self.node.fold.watch(None)
            self.lag_ms, self.positions = None, {}

    def _took(
        self, news: list[News], verdicts: list[Verdict], positions: dict[Partition, int]
    ) -> None:
        """Take a batch, in the fold's thread."""
        with self._lock:
            if self._waiting_events > _WAITING_MAX:
                return  # the event loop is stuck; the streams see that something is missing
            first = not self._waiting
            self._waiting.append((news, verdicts, positions))
            self._waiting_events += len(news)
            loop = self._loop
        if first and loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            lost = self._waiting_events > _WAITING_MAX
            self._waiting_events = 0
        tailed = any(stream.interest.tail for stream in self._streams)
        for news, verdicts, positions in waiting:
            self.positions = positions
            if news:
                newest = max(one.record.appended_at_ms for one in news)
                self.lag_ms = max(0, time.time_ns() // 1_000_000 - newest)
            batch = _Batch(_runs_of(news), verdicts, _tail_of(news, verdicts) if tailed else ())
            for stream in self._streams:
                stream.take(batch)
        if lost:
            for stream in self._streams:
                stream.give_up()


def _runs_of(news: Iterable[News]) -> _Runs:
    runs = _Runs()
    for one in news:
        if one.outcome == "applied" and one.record.stream == RUNS and "run_id" in one.event:
            ended = one.type in ("RunEnded", "RunHeartStopped") or (
                one.type == "RunUpdated" and one.event["status"] in RUN_ENDED
            )
            runs.add(one.event["run_id"], ended=ended, created=one.type == "RunStarted")
    return runs


def _tail_of(news: Iterable[News], verdicts: Iterable[Verdict]) -> list[_Line]:
    by_offset = {verdict.offset: verdict for verdict in verdicts}
    return [_line(one, by_offset) for one in news]


def _line(one: News, verdicts: Mapping[int, Verdict]) -> _Line:
    record, event = one.record, one.event
    envelope = event.get("envelope", {})
    shown: dict[str, Any] = {
        "position": str(record.position),
        "stream": record.stream,
        "appended_at": time_of(record.appended_at_ms),
        "type": one.type,
        "actor": envelope.get("actor"),
        "actor_verified": envelope.get("actor_verified"),
        "client": envelope.get("client"),
        "bytes": len(record.payload),
        "outcome": one.outcome,
    }
    if one.outcome == "dead_letter":
        return _Line("dead", None, _json({**shown, "error": one.error}))
    if record.stream == REGISTRY:
        verdict = verdicts.get(record.offset)
        if verdict is None:  # a repeat
            return _Line("dead", None, _json(shown))
        outcome = "accepted" if verdict.accepted else "refused"
        return _Line("registry", verdict, _json({**shown, **_about(verdict), "outcome": outcome}))
    if "run_id" in event:
        shown["run_id"] = event["run_id"]
        if one.type == "MetricsLogged":
            shown["points"] = points.count(dict(event))
            shown["keys"] = [series["key"] for series in event["series"][:5]]
        return _Line("run", event["run_id"], _json(shown))
    model_id = event.get("model_id")
    return _Line("model", model_id, _json({**shown, "model_id": model_id}))


def _about(verdict: Verdict) -> dict[str, Any]:
    """Return a registry event for display."""
    names = (
        "type", "entity", "experiment_id", "model", "version", "alias", "actor", "actor_verified",
        "reason", "accepted", "code", "message",
    )  # fmt: skip
    return {
        "log_offset": verdict.offset,
        "appended_at": time_of(verdict.appended_at_ms),
        **{name: getattr(verdict, name) for name in names},
    }


def _may_see(rights: Rights, verdict: Verdict) -> bool:
    """Return whether a caller may see a registry event."""
    if verdict.entity == "experiment" and verdict.experiment_id is not None:
        resource, of = EXPERIMENT, verdict.experiment_id
    elif verdict.model is not None:
        resource, of = MODEL, verdict.model
    else:
        return rights.is_admin
    return rights.reads_everything() or rights.level(resource, of) >= Level.READ


class Stream:
    """The stream of one client."""

    def __init__(
        self,
        live: Live,
        rights: Rights,
        who: str,
        interest: Interest,
        after: Mapping[Partition, int] | None,
    ) -> None:
        """Make it; ``pieces`` yields what it sends.

        Args:
            live: The streams that it belongs to.
            rights: The caller's rights, which are looked at again and again.
            who: Whom its number is limited by: a user or an address.
            interest: What to hear of.
            after: Where to resume: the last offset that the client has seen of each partition.
        """
        self.live, self.who, self.interest = live, who, interest
        self._rights = rights
        self._after = after
        self._wanted = asyncio.Event()
        self._runs = _Runs()
        self._verdicts: deque[Verdict] = deque()
        self._tail: deque[_Line] = deque()
        self._skipped = 0
        self._full = False
        self._seen = -1  # the last registry offset that was sent
        self._known: dict[tuple[str, str], str | None] = {}  # run or model to its experiment
        live.open(self)

    def give_up(self) -> None:
        """End it: something is missing. The client can resume."""
        self._full = True
        self._wanted.set()

    def take(self, batch: _Batch) -> None:
        """Take a batch, in the event loop."""
        if self.interest.runs is None or self.interest.experiments is not None:
            self._runs.update(batch.runs)
        else:
            for run_id in batch.runs.touched.keys() & self.interest.runs:
                ended, created = run_id in batch.runs.ended, run_id in batch.runs.created
                self._runs.add(run_id, ended=ended, created=created)
        if self.interest.registry:
            self._verdicts.extend(batch.verdicts)
        if self.interest.tail:
            self._tail.extend(batch.tail)
            while len(self._tail) > QUEUE_MAX:
                self._tail.popleft()
                self._skipped += 1
        if len(self._runs.touched) > RUNS_MAX or len(self._verdicts) > QUEUE_MAX:
            self._full = True
        # A change of the registry may have ended the caller's rights.
        if self._runs.touched or self._verdicts or self._tail or batch.verdicts:
            self._wanted.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the stream until the client's rights end, or it is too slow."""
        try:
            positions = await READS.run(self.live.node.fold.settle)
            yield self._message("hello", self._state(), positions)
            if self._after is not None:
                missed, verdicts = await READS.run(self._missed, self._after)
                self._runs.update(missed)
                self._verdicts.extendleft(reversed(verdicts))
                self._wanted.set()
            beat = time.monotonic() + BEAT_S
            while not self._full:
                try:
                    async with asyncio.timeout(max(0.0, beat - time.monotonic())):
                        await self._wanted.wait()
                except TimeoutError:
                    beat = time.monotonic() + BEAT_S
                    self._renew()
                    positions = dict(self.live.positions) or positions
                    yield self._message("beat", self._state(), positions)
                    continue
                self._wanted.clear()
                positions = dict(self.live.positions) or positions
                self._renew()
                async for piece in self._news(positions):
                    yield piece
                await asyncio.sleep(PAUSE_S)
        except Unauthenticated:
            return  # the client learns why when it asks again

    def _renew(self) -> None:
        """Look at the caller's rights again. Raises ``Unauthenticated``."""
        rights = self._rights.renewed()
        if rights is not self._rights:
            self._rights = rights
            self._known.clear()

    async def _news(self, positions: Mapping[Partition, int]) -> AsyncIterator[bytes]:
        runs, self._runs = self._runs, _Runs()
        verdicts, self._verdicts = self._verdicts, deque()
        tail, self._tail = self._tail, deque()
        skipped, self._skipped = self._skipped, 0
        asked = [("run", run_id) for run_id in runs.touched]
        asked += [(line.kind, line.of) for line in tail if line.kind in ("run", "model")]
        await self._learn(asked)
        allowed = {run_id for run_id in runs.touched if self._wants(run_id)}
        if allowed:
            yield self._message("runs", runs.among(allowed), positions)
        for verdict in verdicts:
            if verdict.offset > self._seen and _may_see(self._rights, verdict):
                yield self._message("registry", _about(verdict), positions)
            self._seen = max(self._seen, verdict.offset)
        lines = [line.text for line in tail if self._shows(line)]
        for line in lines:
            yield _event("tail", line, None)
        if skipped and self._rights.reads_everything():
            yield self._message("tail", {"skipped": skipped}, positions)

    def _wants(self, run_id: str) -> bool:
        experiment_id = self._known.get(("run", run_id))
        of = self.interest.experiments
        return experiment_id is not None and (
            of is None or experiment_id in of or run_id in (self.interest.runs or ())
        )

    def _shows(self, line: _Line) -> bool:
        if line.kind in ("run", "model"):
            return self._known.get((line.kind, line.of)) is not None
        if line.kind == "registry":
            return _may_see(self._rights, line.of)
        return self._rights.is_admin

    async def _learn(self, asked: Iterable[tuple[str, str]]) -> None:
        """Find out which runs and logged models the caller may read, and their experiments."""
        new = set(asked) - self._known.keys()
        if not new:
            return
        if len(self._known) > _KEPT_MAX:
            self._known.clear()
        if self.interest.experiments is None and self._rights.reads_everything():
            self._known.update(dict.fromkeys(new, ""))
        else:
            self._known.update(await READS.run(self._experiments, self._rights, new))

    def _experiments(
        self, rights: Rights, asked: set[tuple[str, str]]
    ) -> dict[tuple[str, str], str | None]:
        found: dict[tuple[str, str], str | None] = dict.fromkeys(asked)
        readable = rights.readable_experiments("experiment_id")
        with self.live.node.cursor() as cursor:
            for kind, view, id in (
                ("run", "runs", "run_id"),
                ("model", "logged_models", "model_id"),
            ):
                ids = [of for which, of in asked if which == kind]
                if ids:
                    query = (
                        f"SELECT {id}, coalesce(experiment_id, '') FROM {view} "
                        f"WHERE {id} IN (SELECT unnest(?::VARCHAR[])) AND {readable.sql}"
                    )
                    for of, experiment in cursor.execute(query, [ids, *readable.params]).fetchall():
                        found[kind, of] = experiment
        return found

    def _missed(self, after: Mapping[Partition, int]) -> tuple[_Runs, list[Verdict]]:
        """Return what happened after these offsets."""
        runs, verdicts = _Runs(), list[Verdict]()
        partitions = [(p.partition, offset + 1) for p, offset in after.items() if p.stream == RUNS]
        with self.live.node.cursor() as cursor:
            if partitions:
                rows = ", ".join(f"({partition}, {offset})" for partition, offset in partitions)
                query = sql("live.runs_since", partitions=rows, limit=RUNS_MAX)
                for run_id, created, status in cursor.execute(query).fetchall():
                    if self.interest.runs is None or run_id in self.interest.runs:
                        runs.add(run_id, ended=status in RUN_ENDED, created=created)
            if self.interest.registry and REGISTRY_PARTITION in after:
                verdicts = verdicts_since(cursor, after[REGISTRY_PARTITION] + 1, QUEUE_MAX)
        return runs, verdicts

    def _state(self) -> dict[str, Any]:
        return {"time": time_of(time.time_ns() / 1e6), "lag_ms": self.live.lag_ms}

    def _message(
        self, name: str, body: Mapping[str, Any], positions: Mapping[Partition, int]
    ) -> bytes:
        id = position_text(positions)
        if name in ("hello", "beat"):
            body = {"position": id, **body}
        return _event(name, _json(body), id)


def _event(name: str, data: str, id: str | None) -> bytes:
    head = f"event: {name}\n" if id is None else f"id: {id}\nevent: {name}\n"
    # JSON has no line breaks.
    return f"{head}data: {data}\n\n".encode("utf-8", "replace")


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def position_text(positions: Mapping[Partition, int]) -> str:
    """Return the last offset of each partition as text, such as ``registry:0:31,runs:0:7``."""
    return ",".join(str(Position(*p, n - 1)) for p, n in sorted(positions.items()) if n)


def parse_position(text: str) -> dict[Partition, int]:
    """Parse what ``position_text`` made. Raises ``InvalidRequest``."""
    found: dict[Partition, int] = {}
    for part in filter(None, text.split(",")):
        try:
            if len(part) >= _POSITION_CHARACTERS_MAX:
                raise ValueError(f"{len(part)} characters")
            position = Position.parse(part)
        except ValueError:
            raise InvalidRequest(
                f"after: not a position: {part[:100]!r}; expected the id of an event of this "
                "stream, such as registry:0:31,runs:0:7"
            ) from None
        if position.partition < 2**31 and position.offset < 2**62:
            found[position.within] = position.offset
    return found
