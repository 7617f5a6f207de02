"""Histories of metrics: all points of one, and samples for charts."""

from __future__ import annotations

import math
from typing import Any

import duckdb

from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call, Endpoints

endpoints = Endpoints()

_RUNS_MAX = 100
_BULK_MAX = 25_000
_SAMPLE_MAX = 2_500


def _series(cursor: duckdb.DuckDBPyConnection, run_ids: list[str], key: str) -> dict[str, str]:
    """For each run that has the metric: the numbers of its series, as a list in SQL."""
    found = cursor.execute(
        "SELECT r.run_id, list(s.series) FROM fold.runs r JOIN fold.series s ON s.run = r.run "
        "WHERE r.run_id IN (SELECT unnest(?::VARCHAR[])) AND s.key = ? GROUP BY r.run_id",
        [run_ids, key],
    ).fetchall()
    return {run_id: ", ".join(map(str, sorted(numbers))) for run_id, numbers in found}


def _check_runs(cursor: duckdb.DuckDBPyConnection, run_ids: list[str]) -> None:
    known = {
        row[0]
        for row in cursor.execute(
            "SELECT run_id FROM fold.runs WHERE run_id IN (SELECT unnest(?::VARCHAR[]))", [run_ids]
        ).fetchall()
    }
    for run_id in run_ids:
        if run_id not in known:
            raise NotFound(f"Run with id={run_id} not found")


_Columns = tuple[list[int], list[int], list[float]]
"""Timestamps, steps and values of points. A tuple for each of very many points would cost more."""


def _columns(cursor: duckdb.DuckDBPyConnection, query: str, params: Any = None) -> _Columns:
    found = cursor.execute(query, params).fetchnumpy()
    timestamps, steps, values = (found[name].tolist() for name in ("timestamp_ms", "step", "value"))
    return timestamps, steps, values


def _points(key: str, columns: _Columns, run_id: str | None = None) -> list[dict[str, Any]]:
    timestamps, steps, values = columns
    shown: list[Any] = values
    if not all(map(math.isfinite, values)):
        shown = list(map(wire.double, values))
    points = [
        {"key": key, "value": value, "timestamp": timestamp_ms, "step": step}
        for timestamp_ms, step, value in zip(timestamps, steps, shown, strict=True)
    ]
    if run_id is not None:
        for point in points:
            point["run_id"] = run_id
    return points


def _answer(points: list[dict[str, Any]], token: str | None = None) -> dict[str, Any]:
    return {"metrics": points, **wire.set_fields(next_page_token=token)}


@endpoints.add(
    "GET",
    "metrics/get-history",
    {
        "run_id": wire.text,
        "metric_key": wire.text,
        "max_results": wire.integer,
        "page_token": wire.text,
    },
    required=["run_id", "metric_key"],
)
def get_history(call: Call) -> dict[str, Any]:
    """All points of a metric, by timestamp, step and value."""
    run_id, key = call["run_id"], call["metric_key"]
    limit = call.get("max_results")
    token = call.get("page_token")
    offset, last = wire.page_offset(token), wire.page_last(token)
    if limit is not None and limit < 1:
        wire.check_max_results(limit, _BULK_MAX)
    page = "" if limit is None else f"LIMIT {limit + 1}"
    after, params = "TRUE", []
    if last is not None:
        after, params = "(timestamp_ms, step, value) > (?::BIGINT, ?::BIGINT, ?::DOUBLE)", last
    elif offset:
        page += f" OFFSET {offset}"
    with call.node.read() as cursor:
        _check_runs(cursor, [run_id])
        series = _series(cursor, [run_id], key).get(run_id)
        if series is None:
            return _answer([])
        columns = _columns(
            cursor,
            # A point that came with and without a model is one point here.
            f"SELECT {'DISTINCT' if ',' in series else ''} timestamp_ms, step, value "
            f"FROM fold.points WHERE series IN ({series}) AND {after} "
            f"ORDER BY timestamp_ms, step, value {page}",
            params,
        )
    if limit is None or len(columns[0]) <= limit:
        return _answer(_points(key, columns))
    columns = (columns[0][:limit], columns[1][:limit], columns[2][:limit])
    timestamp_ms, step, value = (column[-1] for column in columns)
    following = wire.page_token(offset + limit, [timestamp_ms, step, wire.double(value)])
    return _answer(_points(key, columns), following)


def _check_run_ids(run_ids: list[str], what: str) -> None:
    if not run_ids:
        raise InvalidRequest(f"{what} request must specify at least one run_id.")
    if len(run_ids) > _RUNS_MAX:
        raise InvalidRequest(
            f"{what} request cannot specify more than {_RUNS_MAX} run_ids. "
            f"Received {len(run_ids)} run_ids."
        )


@endpoints.add(
    "GET",
    "metrics/get-history-bulk",
    {"run_id": wire.many(wire.text), "metric_key": wire.text, "max_results": wire.integer},
)
def get_history_bulk(call: Call) -> dict[str, Any]:
    """Points of a metric of several runs, by run, timestamp, step and value."""
    run_ids, key = sorted(set(call.get("run_id", []))), call.get("metric_key")
    _check_run_ids(run_ids, "GetMetricHistoryBulk")
    if key is None:
        raise InvalidRequest("GetMetricHistoryBulk request must specify a metric_key.")
    left = min(call.get("max_results", _BULK_MAX), _BULK_MAX)
    wire.check_max_results(left, _BULK_MAX)
    points: list[dict[str, Any]] = []
    with call.node.read() as cursor:
        for run_id, series in sorted(_series(cursor, run_ids, key).items()):
            columns = _columns(
                cursor,
                f"SELECT DISTINCT timestamp_ms, step, value FROM fold.points "
                f"WHERE series IN ({series}) ORDER BY timestamp_ms, step, value "
                f"LIMIT {left - len(points)}",
            )
            points += _points(key, columns, run_id)
    return _answer(points)


@endpoints.add(
    "GET",
    "metrics/get-history-bulk-interval",
    {
        "run_ids": wire.many(wire.text),
        "metric_key": wire.text,
        "start_step": wire.integer,
        "end_step": wire.integer,
        "max_results": wire.integer,
    },
    required=["run_ids", "metric_key"],
)
def get_history_bulk_interval(call: Call) -> dict[str, Any]:
    """An even sample of a metric for each of several runs, with its first and last point."""
    _check_run_ids(call["run_ids"], "GetMetricHistoryBulkInterval")
    run_ids, key = list(dict.fromkeys(call["run_ids"])), call["metric_key"]
    limit = call.get("max_results", _SAMPLE_MAX)
    if not 1 <= limit <= _SAMPLE_MAX:
        raise InvalidRequest(f"max_results must be between 1 and {_SAMPLE_MAX}.")
    start, end = call.get("start_step"), call.get("end_step")
    within = "TRUE"
    if start is not None and end is not None:
        if start > end:
            raise InvalidRequest(
                "end_step must be greater than start_step. "
                f"Found start_step={start} and end_step={end}."
            )
        within = f"step BETWEEN {start} AND {end}"
    elif start is not None or end is not None:
        raise InvalidRequest(
            "If either start step or end step are specified, both must be specified."
        )
    gaps = max(limit - 1, 1)
    points: list[dict[str, Any]] = []
    with call.node.read() as cursor:
        _check_runs(cursor, run_ids)
        found = _series(cursor, run_ids, key)
        for run_id in run_ids:
            if run_id not in found:
                continue
            columns = _columns(
                cursor,
                f"""SELECT timestamp_ms, step, value FROM (
                        SELECT *, row_number() OVER points - 1 AS n, count(*) OVER () AS count
                        FROM (
                            SELECT DISTINCT timestamp_ms, step, value FROM fold.points
                            WHERE series IN ({found[run_id]}) AND {within}
                        )
                        WINDOW points AS (ORDER BY step, timestamp_ms, value)
                    )
                    WHERE count <= {limit} OR n = 0
                        OR n * {gaps} // (count - 1) <> (n - 1) * {gaps} // (count - 1)
                    ORDER BY n LIMIT {limit}""",
            )
            points += _points(key, columns, run_id)
    return _answer(points)
