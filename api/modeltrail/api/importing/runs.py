"""Runs: compare them with the fold, and make the missing events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modeltrail.api.importing.destinations import Destination, rows
from modeltrail.api.importing.entities import Run, SourcePoints
from modeltrail.api.importing.tally import point_hashes
from modeltrail.api.runs.fields import source_of
from modeltrail.consumers.reading import sql
from modeltrail.limits import KEY_CHARACTERS_MAX, RUN_ENDED, is_too_long

Event = tuple[str, int | None, dict[str, Any]]
"""Type, time and fields."""


@dataclass(slots=True)
class Here:
    """A run in the fold."""

    offset: int = -1
    """Offset of its last event."""
    started: bool = False
    experiment_id: str | None = None
    name: str = ""
    status: str = "RUNNING"
    ended_at_ms: int | None = None
    deleted: bool = False
    points: int = 0
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    model_inputs: set[str] = field(default_factory=set)
    model_outputs: set[tuple[str, int]] = field(default_factory=set)
    artifacts: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Path to size in bytes and SHA-256."""


def runs_here(destination: Destination, run_ids: Sequence[str]) -> dict[str, Here]:
    """Return what the fold has of these runs, without unknown ones."""
    ids = [list(run_ids)]
    found = {
        run_id: Here(offset, started, experiment_id, name or "", status, ended, deleted, points)
        for run_id, offset, started, experiment_id, name, status, ended, deleted, points in rows(
            destination,
            sql("imports.runs"),
            ids,
        )
    }
    if not found:
        return found

    def of(columns: str, table: str) -> Iterator[tuple[Any, ...]]:
        return rows(destination, sql("imports.of_runs", columns=columns, table=table), ids)

    for run_id, key, value in of("t.key, t.value", "params"):
        found[run_id].params[key] = value
    for run_id, key, value in of("t.key, t.value", "tags"):
        found[run_id].tags[key] = value
    for run_id, name, digest, tags in of("t.name, t.digest, t.tags", "datasets"):
        found[run_id].datasets[name, digest] = dict(tags or ())
    for run_id, model_id in of("t.model_id", "model_inputs"):
        found[run_id].model_inputs.add(model_id)
    for run_id, model_id, step in of("t.model_id, t.step", "model_outputs"):
        found[run_id].model_outputs.add((model_id, step))
    for run_id, path, size, sha256 in of("t.path, t.size_bytes, t.sha256", "artifacts"):
        found[run_id].artifacts[path] = (size, sha256)
    return found


def fitting(entries: Mapping[str, str]) -> dict[str, str]:
    """Return the entries that fit the limits here; others would be refused with the whole event."""
    return {
        key: value
        for key, value in entries.items()
        if 0 < len(key) <= KEY_CHARACTERS_MAX and not is_too_long(value)
    }


def beginning(run: Run, here: Here, experiment_id: str) -> list[Event]:
    """Return the missing events of a run, except for points, artifacts and its end."""
    events: list[Event] = []
    at = run.started_at_ms
    params, tags = fitting(run.params), fitting(run.tags)
    if not here.started:
        start = {
            "experiment_id": experiment_id,
            "name": run.name,
            "parent_run_id": tags.get("mlflow.parentRunId") or None,
            "user": run.user,
            "started_at_ms": at,
            "params": params,
            "tags": tags,
            "source": source_of(tags),
        }
        events.append(("RunStarted", at, start))
    else:
        new_params = {k: v for k, v in params.items() if k not in here.params}
        new_tags = {k: v for k, v in tags.items() if here.tags.get(k) != v}
        if new_params:
            events.append(("ParamsLogged", at, {"params": new_params}))
        if new_tags:
            events.append(("TagsChanged", None, {"tags": new_tags}))
        if run.name and run.name != here.name:
            events.append(("RunUpdated", None, {"name": run.name}))
    datasets = [d for d in run.datasets if here.datasets.get((d["name"], d["digest"])) != d["tags"]]
    if datasets:
        events.append(("DatasetsLogged", at, {"datasets": datasets}))
    inputs = sorted(run.model_inputs - here.model_inputs)
    outputs = [
        {"model_id": model_id, "step": step}
        for model_id, step in sorted(run.model_outputs - here.model_outputs)
    ]
    if inputs or outputs:
        events.append(("RunModelsLogged", at, {"inputs": inputs, "outputs": outputs}))
    return events


def ending(run: Run, here: Here, points: int) -> list[Event]:
    """Return the missing events at the end of a run.

    Args:
        run: The run at the source.
        here: The run as the fold had it.
        points: Number of metric points that were just sent.
    """
    events: list[Event] = []
    ended = run.ended_at_ms
    if (run.status, ended) != (here.status, here.ended_at_ms):
        if run.status in RUN_ENDED and ended is not None:
            end = {"status": run.status, "ended_at_ms": ended, "points_logged": points}
            events.append(("RunEnded", ended, end))
        else:
            if run.status != here.status:
                events.append(("RunUpdated", None, {"status": run.status}))
            if ended is not None:
                events.append(("RunUpdated", ended, {"ended_at_ms": ended}))
    if run.deleted != here.deleted:
        events.append(("RunDeleted" if run.deleted else "RunRestored", None, {}))
    return events


def lacking(run: Run, here: Here) -> list[str]:
    """Return how the fold differs from a run, except for points and artifacts."""
    found = []
    if not here.started:
        return ["it is not here"]
    for kind, theirs, ours in (
        ("param", run.params, here.params),
        ("tag", run.tags, here.tags),
    ):
        for key, value in theirs.items():
            if key not in ours:
                found.append(f"{kind} {key!r} is not here")
            elif ours[key] != value:
                found.append(f"{kind} {key!r} has another value here")
    for what, same in (
        ("name", not run.name or run.name == here.name),
        ("status", run.status == here.status),
        ("end", run.ended_at_ms == here.ended_at_ms),
        ("lifecycle", run.deleted == here.deleted),
        ("logged models used", run.model_inputs <= here.model_inputs),
        ("logged models made", run.model_outputs <= here.model_outputs),
        ("datasets", all(here.datasets.get((d["name"], d["digest"])) == d["tags"]
                         for d in run.datasets)),
    ):  # fmt: skip
        if not same:
            found.append(f"its {what} differ")
    return found


# Points


def hashes_of(points: SourcePoints) -> npt.NDArray[np.uint64]:
    """Return the hashes of points of the source."""
    return point_hashes(
        points.series,
        np.frombuffer(points.index, np.uint16),
        np.frombuffer(points.steps, np.int64),
        np.frombuffer(points.timestamps_ms, np.int64),
        np.frombuffer(points.values, np.float64),
    )


def hashes_here(
    destination: Destination, run_ids: Sequence[str]
) -> Iterator[tuple[list[str], npt.NDArray[np.intp], npt.NDArray[np.uint64]]]:
    """Return the hashes of all points that the fold has of runs, in pieces.

    Each piece has the run ids, for each point an index into them, and the hashes.
    """
    found = list(rows(destination, sql("imports.series"), [list(run_ids)]))
    if not found:
        return
    ids = np.array([row[0] for row in found])
    runs = list(dict.fromkeys(row[1] for row in found))
    places = {run_id: place for place, run_id in enumerate(runs)}
    run_of = np.array([places[row[1]] for row in found])
    keys = [row[2:] for row in found]
    for batch in destination.batches(
        sql("imports.points"), [int(ids[0]), int(ids[-1]), ids.tolist()]
    ):
        series, steps, times, values = (
            column.to_numpy(zero_copy_only=False) for column in batch.columns
        )
        which = np.searchsorted(ids, series)
        yield runs, run_of[which], point_hashes(keys, which, steps, times, values)


def sums_here(destination: Destination, run_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return for each run with points here their number and the sum of their hashes."""
    counts: dict[str, int] = {}
    sums: dict[str, int] = {}
    for runs, which, hashes in hashes_here(destination, run_ids):
        count = np.bincount(which, minlength=len(runs))
        total = np.zeros(len(runs), np.uint64)
        np.add.at(total, which, hashes)
        for run_id, n, t in zip(runs, count.tolist(), total.tolist(), strict=True):
            counts[run_id] = counts.get(run_id, 0) + n
            sums[run_id] = (sums.get(run_id, 0) + t) & 0xFFFF_FFFF_FFFF_FFFF
    return {run_id: (n, sums[run_id]) for run_id, n in counts.items() if n}
