"""One run with everything that is about it, now or at a moment, and its events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from modeltrail.api.access.rights import Rights
from modeltrail.api.answers import rows, time_of
from modeltrail.api.node import Node
from modeltrail.api.registry.reading import AS_OF_NOW
from modeltrail.api.runs.moments import Moment, number_of, run_then
from modeltrail.api.runs.query import Finder, RunsQuery
from modeltrail.consumers.reading import sql
from modeltrail.consumers.sequences import missing_in
from modeltrail.eventlog import RUNS, LogRecord, Partition, Position
from modeltrail.schemas import Codec, SchemaError, points

_CHILDREN_MAX = 1_000
_SHOWN_MAX = 3
_NAMES_MAX = 100
_SERIES = ("key", "model_id", "dataset_name", "dataset_digest")
_EXTREMES = f"""(
    SELECT run_id, {", ".join(_SERIES)},
        min(value) FILTER (NOT isnan(value)) AS min, max(value) FILTER (NOT isnan(value)) AS max
    FROM metrics GROUP BY ALL)"""
_CHILD_COLUMNS = ["run_id", "run_name", "status", "start_time", "end_time", "children"]


def run_of(
    node: Node,
    cursor: duckdb.DuckDBPyConnection,
    rights: Rights,
    run_id: str,
    as_of: str | None = None,
    *,
    extremes: bool = False,
) -> dict[str, Any]:
    """Return a run with everything that is about it.

    Args:
        node: Whose log has the run's events.
        cursor: A cursor of the fold.
        rights: Of the caller, who may read the run.
        run_id: The run.
        as_of: A time or a position; None for now.
        extremes: Also ``min`` and ``max`` of each metric, NaN aside, from all points.

    Raises:
        NotFound: there is no such run, or was none.
        InvalidRequest: ``as_of`` is neither a time nor a position, or too much had been logged.
    """
    number = number_of(cursor, run_id)
    if as_of is None:
        run = _state(cursor, run_id, extremes)
        moment, before = None, "TRUE"
    else:
        with run_then(node, cursor, run_id, as_of) as (then, moment):
            run = _state(then, run_id, extremes)
        before = moment.before()
        run |= _experiment(cursor, run_id, moment)
        run["as_of"] = {
            "time": time_of(moment.at_ms), "registry_offset": moment.registry_offset
        }  # fmt: skip
    run["children"], run["children_count"] = [], 0
    if cursor.execute(sql("runs.has_children"), [run_id]).fetchone():
        asked = {"parent": run_id, "view": "all", "columns": _CHILD_COLUMNS, "as_of": as_of}
        query = RunsQuery.model_validate({**asked, "limit": _CHILDREN_MAX})
        children = Finder(cursor, rights, query).answer()
        run["children"] = children.dicts()
        run["children_count"] = children.about["count"]
    offset = AS_OF_NOW if moment is None else moment.registry_offset
    readable = rights.readable_models("model", "model")
    run["versions"] = rows(
        cursor,
        "SELECT model, version, stage, source, created_at, created_by FROM model_versions_at(?) "
        f"WHERE run_id = ? AND {readable.sql} ORDER BY model, version",
        [offset, run_id, *readable.params],
    )
    last = cursor.execute(sql("runs.last_event", before=before), [number]).fetchone()
    run["last_event"] = None if last is None else last[0]
    return run


def _experiment(cursor: duckdb.DuckDBPyConnection, run_id: str, moment: Moment) -> dict[str, Any]:
    """Return the experiment of a run, by its name at a moment."""
    (now,) = rows(
        cursor, "SELECT experiment_id, experiment_name FROM runs WHERE run_id = ?", [run_id]
    )
    found = cursor.execute(
        "SELECT name FROM experiments_at(?) WHERE experiment_id = ?",
        [moment.registry_offset, now["experiment_id"]],
    ).fetchone()
    return now if found is None else {**now, "experiment_name": str(found[0])}


def _state(cursor: duckdb.DuckDBPyConnection, run_id: str, extremes: bool) -> dict[str, Any]:
    """Return what the run's own events say."""
    (run,) = rows(cursor, "SELECT * FROM runs WHERE run_id = ?", [run_id])

    def rows_of(view: str, columns: str, order: str) -> list[dict[str, Any]]:
        query = f"SELECT {columns} FROM {view} WHERE run_id = ? ORDER BY {order}"
        return rows(cursor, query, [run_id])

    run["params"] = {r["key"]: r["value"] for r in rows_of("params", "key, value", "key")}
    run["tags"] = {r["key"]: r["value"] for r in rows_of("tags", "key, value", "key")}
    run["metrics"] = rows_of("latest_metrics", "* EXCLUDE (run_id)", "ALL")
    if extremes:
        found = rows_of(_EXTREMES, "* EXCLUDE (run_id)", "ALL")
        by_series = {tuple(r[name] for name in _SERIES): r for r in found}
        for metric in run["metrics"]:
            extreme = by_series.get(tuple(metric[name] for name in _SERIES), {})
            metric |= {name: extreme.get(name) for name in ("min", "max")}
    run["datasets"] = rows_of("datasets", "* EXCLUDE (run_id)", "name, digest")
    run["artifacts"] = rows_of("artifacts", "* EXCLUDE (run_id)", "path")
    run["param_conflicts"] = rows_of("param_conflicts", "* EXCLUDE (run_id)", "position, key")
    run["gaps"] = [
        {"producer": producer.hex(), "actor": actor, "first": first, "last": last}
        for producer, actor, _, packed in cursor.execute(sql("runs.gaps"), [run_id]).fetchall()
        for first, last in missing_in(packed)
    ]
    return run


# Events


def events_of(
    node: Node,
    cursor: duckdb.DuckDBPyConnection,
    run_id: str,
    limit: int,
    last: Sequence[Any] | None,
) -> list[dict[str, Any]]:
    """Return events of a run, newest first, one more than the limit if there are more.

    Args:
        node: Whose log has them.
        cursor: A cursor of the fold.
        run_id: The run.
        limit: Most events.
        last: Append time, partition and offset of the last event of the page before.

    Raises:
        NotFound: there is no such run.
    """
    number = number_of(cursor, run_id)
    at, partition, offset = last or (None, None, None)
    values = {"run": number, "at": at, "partition": partition, "offset": offset}
    found = cursor.execute(sql("runs.events"), {**values, "limit": limit + 1}).fetchall()
    places: dict[Partition, list[int]] = {}
    for partition, offset, *_ in found:
        places.setdefault(Partition(RUNS, partition), []).append(offset)
    records = {record.position: record for record in node.moments.records(places)}
    return [
        {
            "position": str(position := Position(RUNS, partition, offset)),
            "appended_at": time_of(appended_at_ms),
            **_described(node.codec, records[position]),
            "error": error,
            "place": [appended_at_ms, partition, offset],
        }
        for partition, offset, appended_at_ms, error in found
    ]


def _described(codec: Codec, record: LogRecord) -> dict[str, Any]:
    try:
        type, event = codec.decode(record.payload)
    except SchemaError:
        return {"type": None, "bytes": len(record.payload)}
    envelope = event["envelope"]
    return {
        "type": type,
        "event_id": envelope["event_id"].hex(),
        "producer": envelope["producer_id"].hex(),
        "sequence": envelope["sequence"],
        "occurred_at": time_of(envelope["occurred_at_ms"]),
        "actor": envelope["actor"],
        "actor_verified": envelope["actor_verified"],
        "client": envelope["client"],
        "reason": envelope["reason"],
        "bytes": len(record.payload),
        "summary": _summary(type, event),
    }


def _summary(type: str, event: dict[str, Any]) -> str:
    """Return what an event says, in a few words."""
    if type == "MetricsLogged":
        keys = [series["key"] for series in event["series"]]
        return f"{points.count(event):,} points of {_listed(keys)}"
    if type in ("ParamsLogged", "TagsChanged"):
        entries = event["params" if type == "ParamsLogged" else "tags"]
        return _listed([f"{key} = {value}" for key, value in entries.items()])
    if type == "DatasetsLogged":
        return _listed([dataset["name"] for dataset in event["datasets"]])
    fields = ("name", "status", "message", "path", "model", "points_logged", "points_dropped")
    said = [f"{name} = {event[name]}" for name in fields if event.get(name)]
    params = event.get("params") or {}
    return _listed([*said, *(f"{key} = {value}" for key, value in params.items())])


def _listed(texts: Sequence[str]) -> str:
    shown = [text if len(text) <= _NAMES_MAX else text[:_NAMES_MAX] + "…" for text in texts]
    rest = len(shown) - _SHOWN_MAX
    return ", ".join(shown[:_SHOWN_MAX]) + (f" and {rest:,} more" if rest > 0 else "")
