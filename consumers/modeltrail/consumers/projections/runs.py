"""The runs stream: runs with params, tags, datasets, artifacts, metric points, completeness."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any

import duckdb
import pyarrow as pa

from modeltrail.consumers import tables
from modeltrail.consumers.chain import shortened
from modeltrail.consumers.projections import Incoming, check_entries, check_path
from modeltrail.consumers.projections.logged_models import LoggedModelTables
from modeltrail.consumers.projections.points import PointsWriter, SeriesKey
from modeltrail.consumers.sequences import KnownProducer
from modeltrail.eventlog import RUNS, LogRecord
from modeltrail.limits import ID_CHARACTERS_MAX, RUN_ENDED, RUN_STATUSES
from modeltrail.schemas import Malformed, experiment_id, uuid_from_cause

_POINTS_MAX = 2**40
_KEPT_MAX = 50_000
_FEW_RUNS = 500
_MAP = pa.map_(pa.string(), pa.string())


@dataclass(slots=True)
class _Run:
    """A row of ``fold.runs``, in the order of its columns."""

    run: int
    run_id: str
    partition: int
    started: bool = False
    experiment_id: str | None = None
    experiment_name: str | None = None
    experiment_derived_id: str | None = None
    name: str | None = None
    status: str = "RUNNING"
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    user: str | None = None
    parent_run_id: str | None = None
    message: str | None = None
    deleted: bool = False
    entry_point: str | None = None
    git_commit: str | None = None
    git_branch: str | None = None
    git_dirty: bool | None = None
    git_remote: str | None = None
    host: str | None = None
    process_id: int | None = None
    python_version: str | None = None
    platform: str | None = None
    environment: str | None = None
    heartbeat_interval_ms: int | None = None
    heart_stopped: bool = False
    events_after_end: int = 0
    actor: str | None = None
    actor_verified: bool | None = None
    appended_at_ms: int = 0
    offset: int = 0


@dataclass(slots=True)
class _Activity:
    """A row of ``fold.activity``, in the order of its columns."""

    run: int
    events_missing: int = 0
    points_logged: int = 0
    points_dropped: int = 0
    points_stored: int = 0
    last_seen_offset: int = -1
    last_seen_ms: int = 0


@dataclass(slots=True)
class _State:
    """An active run: its rows, and what decisions about it need."""

    row: _Run
    activity: _Activity
    is_new: bool
    series: dict[SeriesKey, int] = field(default_factory=dict)
    params: dict[str, str] | None = None  # None: not loaded


_RUN_COLUMNS = [f.name for f in fields(_Run)]
_CHANGING_COLUMNS = ("name", "status", "ended_at_ms", "message", "deleted")
_changing = attrgetter(*_CHANGING_COLUMNS)
_ACTIVITY_COLUMNS = [f.name for f in fields(_Activity)]
_SOURCE_COLUMNS = [
    "entry_point", "git_commit", "git_branch", "git_dirty", "git_remote", "host", "process_id",
    "python_version", "platform",
]  # fmt: skip


class RunsProjection:
    """Folds the runs stream. All events of a run are in one partition, so runs are independent."""

    stream = RUNS

    def __init__(self) -> None:
        """Make it without state; ``load`` loads it."""
        self._runs: dict[str, _State] = {}
        self._run_count = 0
        self._environments: set[str] = set()
        self._points = PointsWriter()
        self._models = LoggedModelTables()
        self.asks_for_registry = False
        """Set if runs request something from the registry. Its reader resets it."""
        self._clear_batch()
        self._handlers: dict[str, Callable[[_State, Incoming, KnownProducer], None]] = {
            "RunStarted": self._run_started,
            "RunUpdated": self._run_updated,
            "RunEnded": self._run_ended,
            "RunHeartStopped": self._run_heart_stopped,
            "RunDeleted": self._run_deleted,
            "RunRestored": self._run_restored,
            "MetricsLogged": self._metrics_logged,
            "ParamsLogged": self._params_logged,
            "TagsChanged": self._tags_changed,
            "DatasetsLogged": self._datasets_logged,
            "ArtifactLogged": self._artifact_logged,
            "ArtifactDeleted": self._artifact_deleted,
            "Heartbeat": self._heartbeat,
            "RunModelsLogged": self._models_logged,
            "ModelRegistrationRequested": self._registration_requested,
        }

    def _clear_batch(self) -> None:
        self._seen: list[LogRecord] = []
        self._hashes: list[bytes] = []
        self._run_of: dict[tuple[int, int], int] = {}  # by partition and offset
        self._changes: list[tuple[Any, ...]] = []
        self._changed: dict[int, _State] = {}
        self._active: dict[int, _State] = {}
        self._new_params: list[tuple[int, str, str]] = []
        self._conflicts: list[tuple[int, str, str, str, int, int]] = []
        self._tags: dict[tuple[int, str], str | None] = {}
        self._datasets: dict[tuple[int, str, str], dict[str, Any]] = {}
        self._artifacts: dict[tuple[int, str], dict[str, Any] | None] = {}
        self._packages: list[tuple[str, str, str]] = []
        self._registrations: list[dict[str, Any]] = []

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        self._runs.clear()
        self._models.forget()
        self._clear_batch()
        self._run_count = tables.scalar(con, "SELECT coalesce(max(run) + 1, 0) FROM fold.runs")
        self._environments = {
            row[0]
            for row in con.execute("SELECT DISTINCT environment FROM fold.environments").fetchall()
        }
        self._points.load(con)

    def record_hash(self, record: LogRecord, hash: bytes) -> None:
        """Record an event's place in the chain, whatever its content."""
        self._seen.append(record)
        self._hashes.append(hash)

    def prepare(self, con: duckdb.DuckDBPyConnection, batch: Sequence[Incoming]) -> None:
        self._models.prepare(con, batch)
        batch = [i for i in batch if not self._models.handles(i.type)]
        unknown = {i.event["run_id"] for i in batch} - self._runs.keys()
        if unknown and len(self._runs) < self._run_count:
            self._fetch_runs(con, unknown)
        with_params = {
            state.row.run: state
            for i in batch
            if i.type == "ParamsLogged" or (i.type == "RunStarted" and i.event["params"])
            if (state := self._runs.get(i.event["run_id"])) is not None and state.params is None
        }
        if with_params:
            for state in with_params.values():
                state.params = {}
            for run, key, value in _rows_of(con, "fold.params", "t.*", list(with_params)):
                params = with_params[run].params
                assert params is not None
                params[key] = value

    def _fetch_runs(self, con: duckdb.DuckDBPyConnection, run_ids: Iterable[str]) -> None:
        # First their numbers, by which the rows are stored: scanning whole rows for an id would
        # take ten times as long among many runs.
        numbers = tables.lookup(
            con,
            "SELECT r.run FROM fold.runs r SEMI JOIN wanted w ON r.run_id = w.run_id",
            {"run_id": list(run_ids)},
        )
        by_run: dict[int, _State] = {}
        if not numbers:
            return
        wanted = [run for (run,) in numbers]
        activities = {
            row[0]: _Activity(*row) for row in _rows_of(con, "fold.activity", "t.*", wanted)
        }
        for row in _rows_of(con, "fold.runs", "t.*", wanted):
            state = _State(_Run(*row), activities[row[0]], is_new=False)
            by_run[state.row.run] = self._runs[state.row.run_id] = state
        columns = "t.run, key, model_id, dataset_name, dataset_digest, series"
        for run, key, model_id, name, digest, series in _rows_of(
            con, "fold.series", columns, wanted
        ):
            by_run[run].series[(key, model_id, name, digest)] = series

    def apply(self, incoming: Incoming, producer: KnownProducer, missing: int) -> None:
        record, type, event, _ = incoming
        if self._models.handles(type):
            self._models.apply(incoming)
            return
        run_id: str = event["run_id"]
        state = self._runs.get(run_id)
        is_first = state is None
        if state is None:
            if not 0 < len(run_id) <= ID_CHARACTERS_MAX:
                raise Malformed(f"{type}: a run id has 1 to {ID_CHARACTERS_MAX} characters")
            row = _Run(
                self._run_count, run_id, record.partition,
                appended_at_ms=record.appended_at_ms, offset=record.offset,
            )  # fmt: skip
            state = _State(row, _Activity(row.run), is_new=True, params={})
        before = None if is_first else _changing(state.row)
        self._handlers[type](state, incoming, producer)
        # From here on nothing fails: the event takes effect.
        if is_first:
            self._runs[run_id] = state
            self._run_count += 1
            self._changed[state.row.run] = state
        state.activity.events_missing += missing
        self._active[state.row.run] = state
        if type != "RunHeartStopped":
            self._sign_of_life(state, record, type)
        self._run_of[record.partition, record.offset] = state.row.run
        if (after := _changing(state.row)) != before:
            place = record.partition, record.offset, record.appended_at_ms
            self._changes.append((state.row.run, *place, *after))

    def _sign_of_life(self, state: _State, record: LogRecord, type: str) -> None:
        state.activity.last_seen_offset = record.offset
        state.activity.last_seen_ms = record.appended_at_ms
        row = state.row
        if row.status in RUN_ENDED and type not in _AFTER_END:
            self._changed[row.run] = state
            if row.heart_stopped:
                # The end was a server's conclusion, and wrong: the job was only cut off.
                row.heart_stopped = False
                row.status, row.message, row.ended_at_ms = "RUNNING", None, None
            else:
                row.events_after_end += 1

    def pass_over(self, incoming: Incoming) -> None:
        """Record which run it is about; this stream has no trail."""
        state = self._runs.get(incoming.event.get("run_id", ""))
        if state is not None:
            place = incoming.record.partition, incoming.record.offset
            self._run_of[place] = state.row.run

    def may_have(self, con: duckdb.DuckDBPyConnection, event_id: bytes) -> bool:
        """Return True: the ids of this stream's many events are not stored."""
        return True

    # One method for each event type. Each checks first, then changes.

    def _run_started(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        event, row = incoming.event, state.row
        if row.started:
            raise Malformed(f"run {row.run_id} was started before")
        if event["experiment_id"] is None and not event["experiment_name"]:
            raise Malformed("RunStarted: neither experiment_id nor experiment_name is given")
        check_entries("param", event["params"])
        check_entries("tag", event["tags"])
        for name in ("experiment_id", "experiment_name", "name", "parent_run_id", "user"):
            setattr(row, name, event[name])
        if row.experiment_id is None:
            row.experiment_derived_id = experiment_id(event["experiment_name"])
            self.asks_for_registry = True
        row.started = True
        row.started_at_ms = event["started_at_ms"]
        row.heartbeat_interval_ms = event["heartbeat_interval_ms"]
        row.actor = event["envelope"]["actor"]
        row.actor_verified = event["envelope"]["actor_verified"]
        row.appended_at_ms, row.offset = incoming.record.appended_at_ms, incoming.record.offset
        source = event["source"]
        if source is not None:
            for name in _SOURCE_COLUMNS:
                setattr(row, name, source[name])
            row.environment = self._environment(source["packages"])
        self._add_params(state, incoming.record, event["params"])
        self._change_tags(state, event["tags"])
        self._changed[row.run] = state

    def _environment(self, packages: dict[str, str]) -> str | None:
        if not packages:
            return None
        text = json.dumps(sorted(packages.items()))
        environment = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        if environment not in self._environments:
            self._environments.add(environment)
            self._packages += [(environment, name, packages[name]) for name in sorted(packages)]
        return environment

    def _run_updated(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        event, row = incoming.event, state.row
        status = event["status"]
        if status is not None and status not in RUN_STATUSES:
            raise Malformed(f"RunUpdated: no such status: {status!r}")
        if event["name"] is not None:
            row.name = event["name"]
        if event["heartbeat_interval_ms"] is not None:
            row.heartbeat_interval_ms = event["heartbeat_interval_ms"]
        if event["ended_at_ms"] is not None:
            row.ended_at_ms = event["ended_at_ms"]
        if status is not None:
            row.status, row.heart_stopped = status, False
            if status not in RUN_ENDED:
                row.message, row.ended_at_ms = None, None
        self._changed[row.run] = state

    def _run_ended(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        event, row = incoming.event, state.row
        if event["status"] not in RUN_ENDED:
            raise Malformed(f"RunEnded: {event['status']!r} is not FINISHED, FAILED or KILLED")
        self._count_points(state, producer, event)
        row.status, row.message = event["status"], event["message"]
        row.ended_at_ms, row.heart_stopped = event["ended_at_ms"], False
        self._changed[row.run] = state

    def _run_heart_stopped(
        self, state: _State, incoming: Incoming, producer: KnownProducer
    ) -> None:
        event, row = incoming.event, state.row
        still_silent = event["last_seen_offset"] == state.activity.last_seen_offset
        if row.status in RUN_ENDED or not still_silent:
            return  # it ended, or gave a sign of life, before this event arrived
        row.status, row.heart_stopped = "FAILED", True
        row.ended_at_ms = event["last_seen_at_ms"]
        row.message = f"no sign of life for more than {event['timeout_ms'] / 1000:g} s"
        self._changed[row.run] = state

    def _run_deleted(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        state.row.deleted = True
        self._changed[state.row.run] = state

    def _run_restored(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        state.row.deleted = False
        self._changed[state.row.run] = state

    def _metrics_logged(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        self._points.add(state.row.run, state.activity, state.series, incoming.event)

    def _params_logged(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        check_entries("param", incoming.event["params"])
        self._add_params(state, incoming.record, incoming.event["params"])

    def _add_params(self, state: _State, record: LogRecord, params: dict[str, str]) -> None:
        if not params:
            return
        known = state.params
        assert known is not None, "prepare() fetches params"
        for key, value in params.items():
            stands = known.get(key)
            if stands is None:
                known[key] = value
                self._new_params.append((state.row.run, key, value))
            elif stands != value:
                self._conflicts.append(
                    (state.row.run, key, stands, value, record.offset, record.appended_at_ms)
                )

    def _tags_changed(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        check_entries("tag", incoming.event["tags"])
        self._change_tags(state, incoming.event["tags"])

    def _change_tags(self, state: _State, tags: dict[str, str | None]) -> None:
        for key, value in tags.items():
            self._tags[state.row.run, key] = value

    def _datasets_logged(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        # As in MLflow, logging a dataset again does not change it.
        for dataset in incoming.event["datasets"]:
            key = state.row.run, dataset["name"], dataset["digest"]
            self._datasets.setdefault(key, dataset)

    def _artifact_logged(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        event = incoming.event
        path = event["path"]
        check_path("ArtifactLogged", path)
        self._artifacts[state.row.run, path] = {
            **event, "appended_at_ms": incoming.record.appended_at_ms,
        }  # fmt: skip

    def _artifact_deleted(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        self._artifacts[state.row.run, incoming.event["path"]] = None

    def _heartbeat(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        self._count_points(state, producer, incoming.event)

    def _models_logged(self, state: _State, incoming: Incoming, producer: KnownProducer) -> None:
        self._models.link(state.row.run, incoming.event)

    def _count_points(self, state: _State, producer: KnownProducer, event: dict[str, Any]) -> None:
        # A producer's counters are totals. A run may have several producers, whose sum must fit.
        for name in ("points_logged", "points_dropped"):
            if not 0 <= event[name] <= _POINTS_MAX:
                raise Malformed(f"{name} is 0 to {_POINTS_MAX:,}, not {event[name]:,}")
        state.activity.points_logged += event["points_logged"] - producer.points_logged
        state.activity.points_dropped += event["points_dropped"] - producer.points_dropped
        producer.points_logged = event["points_logged"]
        producer.points_dropped = event["points_dropped"]

    def _registration_requested(
        self, state: _State, incoming: Incoming, producer: KnownProducer
    ) -> None:
        record, event = incoming.record, incoming.event
        envelope = event["envelope"]
        self._registrations.append(
            {
                "event_id": envelope["event_id"],
                "taken_over_by": uuid_from_cause("registration", envelope["event_id"].hex()),
                **{k: event[k] for k in ("run_id", "model", "source", "description", "aliases")},
                "tags": list(event["tags"].items()),
                **{k: envelope[k] for k in ("actor", "actor_verified", "reason")},
                **{k: getattr(record, k) for k in ("partition", "offset", "appended_at_ms")},
            }
        )
        self.asks_for_registry = True

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        links: dict[str, Any] = tables.rows(self._seen, ("partition", "offset", "appended_at_ms"))
        links["hash"] = shortened(self._hashes)
        links["run"] = [self._run_of.get((r.partition, r.offset)) for r in self._seen]
        tables.insert(con, "fold.links", links, run=pa.int32())
        self._points.write(con)
        self._models.write(con)
        self._write_runs(con)
        self._write_entries(con)
        self._write_files(con)
        self._clear_batch()
        if len(self._runs) > _KEPT_MAX:
            self._runs.clear()

    def _write_runs(self, con: duckdb.DuckDBPyConnection) -> None:
        changed, active = list(self._changed.values()), list(self._active.values())
        if changed:
            old = [s.row.run for s in changed if not s.is_new]
            if old:
                tables.delete(con, "fold.runs", {"run": old})
            tables.insert(con, "fold.runs", tables.rows([s.row for s in changed], _RUN_COLUMNS))
        if self._changes:
            names = ("run", "partition", "offset", "appended_at_ms", *_CHANGING_COLUMNS)
            tables.insert(con, "fold.run_changes", _transpose(self._changes, *names))
        if active:
            rows = [s.activity for s in active if not s.is_new]
            if rows:
                columns = tables.rows(rows, _ACTIVITY_COLUMNS)
                tables.update(con, "fold.activity", ["run"], columns)
            rows = [s.activity for s in active if s.is_new]
            if rows:
                tables.insert(con, "fold.activity", tables.rows(rows, _ACTIVITY_COLUMNS))
            for state in active:
                state.is_new = False

    def _write_entries(self, con: duckdb.DuckDBPyConnection) -> None:
        if self._new_params:
            tables.insert(con, "fold.params", _transpose(self._new_params, "run", "key", "value"))
        if self._conflicts:
            conflict_names = ("run", "key", "value", "refused_value", "offset", "appended_at_ms")
            tables.insert(con, "fold.param_conflicts", _transpose(self._conflicts, *conflict_names))
        if self._tags:
            tables.delete(con, "fold.tags", _transpose(list(self._tags), "run", "key"))
            kept = [(run, key, v) for (run, key), v in self._tags.items() if v is not None]
            if kept:
                tables.insert(con, "fold.tags", _transpose(kept, "run", "key", "value"))
        if self._packages:
            names = ("environment", "name", "version")
            tables.insert(con, "fold.environments", _transpose(self._packages, *names))

    def _write_files(self, con: duckdb.DuckDBPyConnection) -> None:
        if self._datasets:
            keys = _transpose(list(self._datasets), "run", "name", "digest")
            for known in tables.lookup(
                con,
                "SELECT d.run, d.name, d.digest FROM fold.datasets d "
                "SEMI JOIN wanted USING (run, name, digest)",
                keys,
            ):
                del self._datasets[known]
            found = list(self._datasets.values())
            columns: dict[str, Any] = {
                k: [d[k] for d in found]
                for k in ("name", "digest", "source_type", "source", "schema", "profile")
            }
            columns["run"] = [run for run, _, _ in self._datasets]
            columns["tags"] = [list(d["tags"].items()) for d in found]
            tables.insert(con, "fold.datasets", columns, tags=_MAP)
        if self._artifacts:
            tables.delete(con, "fold.artifacts", _transpose(list(self._artifacts), "run", "path"))
            kept = [(run, a) for (run, _), a in self._artifacts.items() if a is not None]
            columns = {
                k: [a[k] for _, a in kept]
                for k in ("path", "size_bytes", "sha256", "location", "appended_at_ms")
            }
            columns["run"] = [run for run, _ in kept]
            tables.insert(con, "fold.artifacts", columns)
        if self._registrations:
            columns = {k: [r[k] for r in self._registrations] for k in self._registrations[0]}
            tables.insert(
                con, "fold.registrations", columns, tags=_MAP, aliases=pa.list_(pa.string())
            )


# The producer may send these after a run's end. They do not mean that the run continues.
_AFTER_END = {"RunEnded", "RunUpdated", "RunDeleted", "RunRestored", "TagsChanged"}


def _rows_of(
    con: duckdb.DuckDBPyConnection, table: str, columns: str, runs: list[int]
) -> list[tuple[Any, ...]]:
    """Return rows of runs. A few numbers are written out, so that only their part is read."""
    if len(runs) > _FEW_RUNS:
        query = f"SELECT {columns} FROM {table} t SEMI JOIN wanted w ON t.run = w.run"
        return tables.lookup(con, query, {"run": runs})
    among = ", ".join(map(str, runs))
    return con.execute(f"SELECT {columns} FROM {table} t WHERE t.run IN ({among})").fetchall()


def _transpose(rows: Sequence[tuple[Any, ...]], *names: str) -> dict[str, Sequence[Any]]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
