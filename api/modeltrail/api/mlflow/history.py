"""Metric histories: all points of a metric, and samples for charts."""

from __future__ import annotations

import math
from typing import Any

import duckdb

from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.consumers.reading import sql

endpoints = Endpoints()

_RUNS_MAX = 100
_BULK_MAX = 25_000
_SAMPLE_MAX = 2_500


def _series(cursor: duckdb.DuckDBPyConnection, run_ids: list[str], key: str) -> dict[str, str]:
    """Return for each existing run the numbers of the metric's series, as an SQL list."""
    found = cursor.execute(
        sql("runs.series", run_ids=", ".join("?" * len(run_ids))),
        [key, *run_ids],
    ).fetchall()
    return {run_id: ", ".join(map(str, numbers or ())) for run_id, numbers in found}


def _check_runs(found: dict[str, str], run_ids: list[str]) -> None:
    for run_id in run_ids:
        if run_id not in found:
            raise NotFound(f"Run with id={run_id} not found")


def _points_of(found: dict[str, str], run_ids: list[str]) -> str | None:
    """Return an SQL table of the distinct points of runs: place of the run, time, step, value."""
    placed = [
        (number, place)
        for place, run_id in enumerate(run_ids)
        if found.get(run_id)
        for number in found[run_id].split(", ")
    ]
    if not placed:
        return None
    numbers = ", ".join(number for number, _ in placed)
    rows = ", ".join(f"({number}, {place})" for number, place in placed)
    return sql("runs.placed_points", rows=rows, series=numbers)


_Columns = tuple[list[int], list[int], list[float]]
"""Timestamps, steps and values of points. Tuples for very many points would cost more."""


def _columns(cursor: duckdb.DuckDBPyConnection, query: str, params: Any = None) -> _Columns:
    return _lists(cursor.execute(query, params).fetchnumpy())


def _lists(found: dict[str, Any]) -> _Columns:
    timestamps, steps, values = (found[name].tolist() for name in ("timestamp_ms", "step", "value"))
    return timestamps, steps, values


def _points(key: str, columns: _Columns) -> list[dict[str, Any]]:
    timestamps, steps, values = columns
    shown: list[Any] = values
    if not all(map(math.isfinite, values)):
        shown = list(map(wire.double, values))
    return [
        {"key": key, "value": value, "timestamp": timestamp_ms, "step": step}
        for timestamp_ms, step, value in zip(timestamps, steps, shown, strict=True)
    ]


def _answer(points: list[dict[str, Any]], token: str | None = None) -> dict[str, Any]:
    return {"metrics": points, **wire.set_fields(next_page_token=token)}


@endpoints.declare("GET metrics/get-history run_id metric_key max_results? page_token?")
def get_history(call: Call) -> dict[str, Any]:
    """Return all points of a metric, ordered by timestamp, step and value."""
    run_id, key = call["run_id"], call["metric_key"]
    limit = call.get("max_results")
    token = call.get("page_token")
    pages = call.pages("metrics")
    offset, last = pages.offset(token), pages.last(token, int, int, float)
    if limit is not None and limit < 1:
        wire.check_max_results(limit, _BULK_MAX)
    page = "" if limit is None else f"LIMIT {limit + 1}"
    after, params = "TRUE", []
    if last is not None:
        after, params = "(timestamp_ms, step, value) > (?::BIGINT, ?::BIGINT, ?::DOUBLE)", last
    elif offset:
        page += f" OFFSET {offset}"
    with call.node.read() as cursor:
        found = _series(cursor, [run_id], key)
        _check_runs(found, [run_id])
        series = found[run_id]
        if not series:
            return _answer([])
        columns = _columns(
            cursor,
            sql(
                "runs.points",
                # A point that was logged with and without a model is one point here.
                distinct="DISTINCT" if "," in series else "",
                series=series,
                after=after,
                page=page,
            ),
            params,
        )
    if limit is None or len(columns[0]) <= limit:
        return _answer(_points(key, columns))
    columns = (columns[0][:limit], columns[1][:limit], columns[2][:limit])
    timestamp_ms, step, value = (column[-1] for column in columns)
    following = pages.token(offset=offset + limit, last=[timestamp_ms, step, wire.double(value)])
    return _answer(_points(key, columns), following)


def _check_run_ids(run_ids: list[str], what: str) -> None:
    if not run_ids:
        raise InvalidRequest(f"{what} request must specify at least one run_id.")
    if len(run_ids) > _RUNS_MAX:
        raise InvalidRequest(
            f"{what} request cannot specify more than {_RUNS_MAX} run_ids. "
            f"Received {len(run_ids)} run_ids."
        )


@endpoints.declare(
    "GET metrics/get-history-bulk run_id? metric_key? max_results?", run_id=wire.many(wire.text)
)
def get_history_bulk(call: Call) -> dict[str, Any]:
    """Return points of a metric of several runs, ordered by run, timestamp, step and value."""
    run_ids, key = sorted(set(call.get("run_id", []))), call.get("metric_key")
    _check_run_ids(run_ids, "GetMetricHistoryBulk")
    if key is None:
        raise InvalidRequest("GetMetricHistoryBulk request must specify a metric_key.")
    left = min(call.get("max_results", _BULK_MAX), _BULK_MAX)
    wire.check_max_results(left, _BULK_MAX)
    with call.node.read() as cursor:
        table = _points_of(_series(cursor, run_ids, key), run_ids)
        if table is None:
            return _answer([])
        order = "ORDER BY place, timestamp_ms, step, value"
        return _of_runs(cursor, f"FROM {table} {order} LIMIT {left}", key, run_ids)


@endpoints.declare(
    "GET metrics/get-history-bulk-interval run_ids metric_key start_step? end_step? max_results?"
)
def get_history_bulk_interval(call: Call) -> dict[str, Any]:
    """Return an even sample of a metric for each of several runs, with its first and last point."""
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
    gaps = limit - 1
    sample = f"""count <= {limit} OR n = 0
        OR n * {gaps} // (count - 1) <> (n - 1) * {gaps} // (count - 1)"""
    with call.node.read() as cursor:
        found = _series(cursor, run_ids, key)
        _check_runs(found, run_ids)
        table = _points_of(found, run_ids)
        if table is None:
            return _answer([])
        query = f"""
            SELECT place, timestamp_ms, step, value FROM (
                SELECT *, row_number() OVER points - 1 AS n, count(*) OVER run AS count
                FROM {table}
                WHERE {within}
                WINDOW points AS (PARTITION BY place ORDER BY step, timestamp_ms, value),
                    run AS (PARTITION BY place)
            )
            WHERE {sample}
            ORDER BY place, n"""
        return _of_runs(cursor, query, key, run_ids)


def _of_runs(
    cursor: duckdb.DuckDBPyConnection, query: str, key: str, run_ids: list[str]
) -> dict[str, Any]:
    """Return the points that a query finds, each with the run at its place."""
    found = cursor.execute(query).fetchnumpy()
    points = _points(key, _lists(found))
    for point, place in zip(points, found["place"].tolist(), strict=True):
        point["run_id"] = run_ids[place]
    return _answer(points)
