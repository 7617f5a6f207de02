"""Act on what was folded: end runs without heartbeats, and pass requests of runs to the registry.

Every node may do this at the same time. An event caused by something in the log has an id derived
from its cause, so that the fold keeps only one of them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import duckdb

from modeltrail.consumers.database import program_version
from modeltrail.consumers.fold import Fold, FoldBehind
from modeltrail.consumers.store import StoreError
from modeltrail.eventlog import REGISTRY, RUNS, EventLog, LogError, NewEvent, Partition
from modeltrail.schemas import encode, envelope, uuid_from_cause, writer_schemas

logger = logging.getLogger("modeltrail.caretaker")

HEART_TIMEOUT_S = 180.0
"""A run is ended after this time without a heartbeat.

If 5 of its heartbeat intervals are longer, it is ended after those.
"""

_MISSED_BEATS = 5
_INTERVAL_MAX_MS = 24 * 3600 * 1000  # a run's own interval must not keep it forever, or overflow
_CHECK_EVERY_S = 5.0
_CATCH_UP_S = 2.0
_APPEND_EVENTS_MAX = 1000

_LIVE_RUNS = """
    SELECT r.run_id, a.last_seen_offset, a.last_seen_ms,
        greatest($timeout_ms, $beats * least(r.heartbeat_interval_ms, $interval_max_ms))
            AS timeout_ms
    FROM fold.runs r JOIN fold.activity a ON a.run = r.run
    WHERE r.status IN ('RUNNING', 'SCHEDULED') AND r.heartbeat_interval_ms IS NOT NULL
        AND NOT r.deleted
"""

_REGISTRATIONS = """
    SELECT r.taken_over_by, r.run_id, r.model, r.source, r.description,
        map_entries(r.tags) AS tags, r.aliases, r.actor, r.actor_verified, r.reason
    FROM fold.registrations r ANTI JOIN fold.requests q ON q.event_id = r.taken_over_by
    ORDER BY r.appended_at_ms, r.partition, r."offset" LIMIT $limit
"""

# Names that runs use and no experiment has, with how often each was used before. A renamed
# experiment leaves its name free; a job that continues to use it gets a new one.
_EXPERIMENTS = """
    SELECT r.experiment_name,
        (SELECT count(*) FROM fold.experiment_names n WHERE n.name = r.experiment_name) AS held,
        arg_min(r.actor, r.appended_at_ms) AS actor,
        arg_min(r.actor_verified, r.appended_at_ms) AS actor_verified
    FROM fold.runs r
    WHERE r.started AND r.experiment_id IS NULL AND NOT EXISTS (
        FROM fold.experiment_names n
        WHERE n.name = r.experiment_name AND n.to_ms > r.appended_at_ms
    )
    GROUP BY r.experiment_name ORDER BY r.experiment_name LIMIT $limit
"""


class Origin(NamedTuple):
    """The source of a version that a run requested."""

    source: str
    run_id: str | None
    model_id: str | None
    refusal: str | None = None
    """Why this source is refused, as far as this node has folded; or None."""


OriginOf = Callable[[duckdb.DuckDBPyConnection, str, str], Origin]
"""Checks a source that a run gave. Takes a cursor, the source and the run's id."""


class _Mark(NamedTuple):
    """The end of the log at some moment, kept until the fold has passed it.

    While the fold lags, a run may seem silent and a source may seem missing. Once the fold is past
    the mark, what was not there before it is truly missing. The fold may never reach the end of a
    log that grows as fast as it is folded.
    """

    end: dict[Partition, int]
    at_s: float
    doubtful: set[bytes]
    """Registrations that were to be refused by what was folded then."""


class Caretaker:
    """A thread beside the fold."""

    def __init__(
        self,
        log: EventLog,
        fold: Fold,
        origin_of: OriginOf,
        *,
        heart_timeout_s: float = HEART_TIMEOUT_S,
    ) -> None:
        """Make a caretaker.

        Args:
            log: The log.
            fold: Its fold.
            origin_of: Checks the sources of versions that runs request.
            heart_timeout_s: Minimum time without a heartbeat, in seconds, that ends a run.
        """
        self._log = log
        self._fold = fold
        self._origin_of = origin_of
        self._heart_timeout_ms = int(heart_timeout_s * 1000)
        self._client = f"modeltrail-server/{program_version()}"
        self._due = threading.Event()
        self._stopping = False
        self._refused: set[bytes] = set()
        self._watched: dict[str, tuple[int, float]] = {}
        """Run id to the offset of its last sign of life, and the monotonic time of that."""
        self._looked_s = -math.inf
        self._mark: _Mark | None = None
        self._thread = threading.Thread(target=self._run, name="modeltrail-caretaker", daemon=True)

    def start(self) -> None:
        """Start the thread. The fold must be running."""
        self._log.add_schemas(writer_schemas())
        self._due.set()
        self._thread.start()

    def wake(self) -> None:
        """Check for work now, instead of at the next interval."""
        self._due.set()

    def stop(self) -> None:
        """Stop after the work in progress."""
        self._stopping = True
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._due.clear()
            try:
                self.look(time.time_ns() // 1_000_000, time.monotonic())
            except (LogError, StoreError, duckdb.Error) as error:
                logger.warning("will try again: %s", error)
            self._due.wait(min(_CHECK_EVERY_S, self._heart_timeout_ms / 4000))

    def look(self, now_ms: int, now_s: float) -> int:
        """Do all pending work. Returns the number of events appended.

        Args:
            now_ms: Time of day, in ms since 1970 UTC.
            now_s: The monotonic clock, in seconds.
        """
        with closing(self._fold.cursor()) as cursor:
            events = self._named_experiments(cursor)
            doubtful = []
            for row in cursor.execute(_REGISTRATIONS, {"limit": _APPEND_EVENTS_MAX}).fetchall():
                event = self._registration(cursor, row)
                if event["refusal"] is None:
                    events.append(_version_event(event))
                else:
                    doubtful.append(row)
            mark = self._mark
            if mark is None:
                mark = self._mark = _Mark(self._log.end(), now_s, {row[0] for row in doubtful})
            if self._passed(mark):
                self._mark = None
                events += [
                    _version_event(self._registration(cursor, row))
                    for row in doubtful
                    if row[0] in mark.doubtful
                ]
                events += self._silent_runs(cursor, now_ms, now_s, mark.at_s)
        if events:
            self._log.append(events)
        return len(events)

    def _passed(self, mark: _Mark) -> bool:
        """Return whether the fold soon passes a mark."""
        try:
            self._fold.wait_for(mark.end, _CATCH_UP_S)
        except FoldBehind:
            return False
        return True

    def _silent_runs(
        self, cursor: duckdb.DuckDBPyConnection, now_ms: int, now_s: float, until_s: float
    ) -> list[NewEvent]:
        """Return the ends of runs that gave no sign of life for too long.

        Silence is measured with the monotonic clock, from when this process saw the last sign.
        Append times only tell what this process cannot have seen: how long a run had been silent
        before. A changed clock, or a broker's wrong clock, therefore neither ends a run nor keeps
        it.
        """
        events: list[NewEvent] = []
        watched: dict[str, tuple[int, float]] = {}
        for run_id, offset, seen_ms, timeout_ms in cursor.execute(
            _LIVE_RUNS,
            {
                "timeout_ms": self._heart_timeout_ms,
                "beats": _MISSED_BEATS,
                "interval_max_ms": _INTERVAL_MAX_MS,
            },
        ).fetchall():
            seen_offset, seen_s = self._watched.get(run_id, (-1, 0.0))
            if seen_offset != offset:
                # The sign came after the last check, whatever its append time says.
                seen_s = max(now_s - max(0, now_ms - seen_ms) / 1000, self._looked_s)
            watched[run_id] = offset, seen_s
            silent_s = until_s - seen_s
            if silent_s * 1000 <= timeout_ms or len(events) >= _APPEND_EVENTS_MAX:
                continue
            cause = uuid_from_cause("heart stopped", run_id, str(offset))
            event = {
                "envelope": self._envelope(cause, reason=f"no sign of life for {silent_s:.0f} s"),
                "run_id": run_id,
                "last_seen_offset": offset,
                "last_seen_at_ms": seen_ms,
                "timeout_ms": timeout_ms,
            }
            events.append(NewEvent(RUNS, run_id, encode("RunHeartStopped", event)))
        self._watched, self._looked_s = watched, now_s
        return events

    def _named_experiments(self, cursor: duckdb.DuckDBPyConnection) -> list[NewEvent]:
        events = []
        limit = {"limit": _APPEND_EVENTS_MAX}
        for name, held, actor, verified in cursor.execute(_EXPERIMENTS, limit).fetchall():
            cause = uuid_from_cause("experiment named by a run", name, str(held))
            if self._decided(cursor, cause):
                continue
            event = {
                "envelope": self._envelope(
                    cause, actor=actor, actor_verified=verified, reason="a run named it"
                ),
                "name": name,
                "artifact_location": None,
                "tags": {},
            }
            events.append(NewEvent(REGISTRY, name, encode("CreateExperiment", event)))
        return events

    def _registration(
        self, cursor: duckdb.DuckDBPyConnection, row: tuple[Any, ...]
    ) -> dict[str, Any]:
        """Return the request for a version that a run wants. Refuse it if its source is bad."""
        cause, run_id, model, source, description, tags, aliases, actor, verified, reason = row
        source = absolute_source(source, run_id)
        return {
            "envelope": self._envelope(
                cause,
                actor=actor,
                actor_verified=verified,
                reason=reason or f"run {run_id} asked for it",
            ),
            "model": model,
            **self._origin_of(cursor, source, run_id)._asdict(),
            "run_link": None,
            "description": description,
            "tags": {entry["key"]: entry["value"] for entry in tags or []},
            "aliases": aliases or [],
            "create_model": True,
        }

    def _decided(self, cursor: duckdb.DuckDBPyConnection, cause: bytes) -> bool:
        """Return whether the registry already answered this request; it must have refused it."""
        if cause in self._refused:
            return True
        found = cursor.execute(
            "SELECT 1 FROM fold.requests WHERE event_id = ? LIMIT 1", [cause]
        ).fetchall()
        if found:
            self._refused.add(cause)
        return bool(found)

    def _envelope(self, cause: bytes, **given: Any) -> dict[str, Any]:
        return envelope(
            **{"actor": "modeltrail", "actor_verified": True, **given},
            event_id=cause,
            producer_id=cause,
            sequence=0,
            client=self._client,
        )


def _version_event(event: dict[str, Any]) -> NewEvent:
    return NewEvent(REGISTRY, event["model"], encode("CreateModelVersion", event))


def absolute_source(source: str, run_id: str) -> str:
    """Return a source, with a path in the run's artifacts turned into a ``runs:/`` URI."""
    if ":" in source or source.startswith("/"):
        return source
    return f"runs:/{run_id}/{source}"
