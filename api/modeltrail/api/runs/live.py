"""What writes need to know about a run, without waiting for the fold each time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import duckdb

from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.node import Node
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY

_RUNS_MAX = 10_000
_FRESH_S = 1.0
_LOCKS = 256
_CLOSE = 4_096

EXPERIMENT_ID = "coalesce(r.experiment_id, n.experiment_id, r.experiment_derived_id)"
DELETED = "(r.deleted OR coalesce(e.deleted, FALSE))"
"""A run is deleted by itself, or with its experiment."""


def from_runs(cursor: duckdb.DuckDBPyConnection, then: str | None = None) -> str:
    """Return the tables of a query about runs: ``r``, and ``e`` for the experiment.

    The history of names is left out if every run has its experiment's id. MLflow's clients always
    send the id, and planning the join with the names takes longer than this check.

    ``then``: What replaces the runs as they are now.
    """
    named = cursor.execute(sql("runs.any_by_name")).fetchone()
    tables = sql("runs.from_runs" if named else "runs.from_runs_by_id")
    return tables if then is None else tables.replace(sql("runs.now"), then)


def among(numbers: list[int]) -> tuple[str, list[Any]]:
    """Return a condition that the expression before it is one of these numbers, and its params.

    Numbers that are close together are written out, so that the database reads only that part. For
    others, planning would take longer than it saves.
    """
    if not numbers or max(numbers) - min(numbers) < _CLOSE:
        return f"IN ({', '.join(map(str, numbers)) or 'NULL'})", []
    return "IN (SELECT unnest(?::BIGINT[]))", [numbers]


@dataclass(slots=True)
class LiveRun:
    """A run that is written to.

    Attributes:
        run_id: Its id.
        experiment_id: Its experiment.
        user: The user that it belongs to.
        deleted: Whether it accepts no writes.
        params: All of its params, or None if they were not read yet.
        read_at_s: When this was true, by the monotonic clock.
    """

    run_id: str
    experiment_id: str
    user: str
    deleted: bool
    params: dict[str, str] | None = None
    read_at_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class LiveExperiment:
    """An experiment in which runs are started."""

    deleted: bool
    artifact_location: str | None
    read_at_s: float


class LiveRuns:
    """Runs that were recently written to.

    Knowledge about a run is at most a second old, so that changes by another server are seen after
    that time. A run that is not known at all may be new, and is looked for up to the log's end.
    Changes by this server are seen at once.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[str, LiveRun] = OrderedDict()
        self._experiments: dict[str, LiveExperiment] = {}
        self._lock = threading.Lock()
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def lock(self, run_id: str) -> threading.Lock:
        """Return a lock for writes that depend on what was read of this run."""
        return self._locks[hash(run_id) % _LOCKS]

    def put(self, run: LiveRun) -> None:
        with self._lock:
            self._runs[run.run_id] = run
            self._runs.move_to_end(run.run_id)
            if len(self._runs) > _RUNS_MAX:
                self._runs.popitem(last=False)

    def forget(self, run_id: str | None = None) -> None:
        """Forget a run, or all of them, after a change."""
        with self._lock:
            if run_id is None:
                self._runs.clear()
                self._experiments.clear()
            else:
                self._runs.pop(run_id, None)

    def run(self, node: Node, run_id: str) -> LiveRun:
        """Return a run. Raises ``NotFound``."""
        with self._lock:
            known = self._runs.get(run_id)
        if known is not None and time.monotonic() - known.read_at_s < _FRESH_S:
            return known
        now = time.monotonic()
        tables = sql("runs.from_runs")
        query = f'SELECT {EXPERIMENT_ID}, r."user", {DELETED} FROM {tables} WHERE r.run_id = ?'
        row = _first_row(node, query, run_id, None)
        if row is None or row[0] is None:
            raise NotFound(f"Run with id={run_id} not found")
        found = LiveRun(run_id, row[0], row[1] or "", row[2], read_at_s=now)
        self.put(found)
        return found

    def experiment(self, node: Node, experiment_id: str) -> LiveExperiment:
        """Return an experiment. Raises ``NotFound``."""
        now = time.monotonic()
        known = self._experiments.get(experiment_id)
        if known is not None and now - known.read_at_s < _FRESH_S:
            return known
        row = _first_row(node, sql("registry.experiment"), experiment_id, REGISTRY)
        if row is None:
            raise NotFound(f"No Experiment with id={experiment_id} exists")
        found = LiveExperiment(row[0], row[1], now)
        with self._lock:
            if len(self._experiments) >= _RUNS_MAX:
                self._experiments.clear()
            self._experiments[experiment_id] = found
        return found

    def active_experiment(self, node: Node, experiment_id: str) -> LiveExperiment:
        """Return an experiment that accepts runs.

        Raises ``NotFound``, or ``InvalidRequest`` if it is deleted.
        """
        found = self.experiment(node, experiment_id)
        if found.deleted:
            raise InvalidRequest(
                f"The experiment {experiment_id} must be in the 'active' state. "
                "Current state is deleted."
            )
        return found

    def active(self, node: Node, run_id: str) -> LiveRun:
        """Return a run that accepts writes.

        Raises ``NotFound``, or ``InvalidRequest`` if it is deleted.
        """
        found = self.run(node, run_id)
        if found.deleted:
            raise InvalidRequest(
                f"The run {run_id} must be in the 'active' state. Current state is deleted."
            )
        return found

    def params(self, node: Node, run: LiveRun) -> dict[str, str]:
        """Return all params of a run, to be changed together with the log. Hold the run's lock."""
        if run.params is None:
            with node.read() as cursor:
                found = cursor.execute(sql("runs.params"), [run.run_id]).fetchall()
                run.params = dict(found)
        return run.params


def _first_row(node: Node, query: str, id: str, stream: str | None) -> tuple[Any, ...] | None:
    """Return the row with this id.

    If needed, wait for the log's end: another server may have made it.
    """
    row = None
    for log_end in (False, True) if node.log.shared else (False,):
        with node.read(log_end=log_end, stream=stream) as cursor:
            row = cursor.execute(query, [id]).fetchone()
        if row is not None:
            break
    return row
