"""Histories of metrics: all points of one, and samples for charts."""

from __future__ import annotations

import json
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


def _points(key: str, rows: list[tuple[Any, ...]], run_id: str | None = None) -> list[str]:
    """The JSON of points. It is put together here, for there may be very many."""
    name = json.dumps(key, ensure_ascii=False)
    run = "" if run_id is None else f',"run_id":{json.dumps(run_id)}'
    points = []
    for timestamp_ms, step, value in rows:
        shown = repr(value)
        if shown in ("nan", "inf", "-inf"):
            shown = f'"{wire.double(value)}"'
        points.append(
            f'{{"key":{name},"value":{shown},"timestamp":{timestamp_ms},"step":{step}{run}}}'
        )
    return points


def _answer(points: list[str], token: str | None = None) -> bytes:
    more = "" if token is None else f',"next_page_token":{json.dumps(token)}'
    return f'{{"metrics":[{",".join(points)}]{more}}}'.encode("utf-8", "replace")


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
def get_history(call: Call) -> bytes:
    """All points of a metric, by timestamp, step and value."""
    run_id, key = call["run_id"], call["metric_key"]
    limit = call.get("max_results", 0)
    token = call.get("page_token")
    offset, last = wire.page_offset(token), wire.page_last(token)
    if limit < 0:
        wire.check_max_results(limit, _BULK_MAX)
    page = f"LIMIT {limit + 1}" if limit else ""
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
        rows = cursor.execute(
            # A point that came with and without a model is one point here.
            f"SELECT {'DISTINCT' if ',' in series else ''} timestamp_ms, step, value "
            f"FROM fold.points WHERE series IN ({series}) AND {after} "
            f"ORDER BY timestamp_ms, step, value {page}",
            params,
        ).fetchall()
    if not limit or len(rows) <= limit:
        return _answer(_points(key, rows))
    rows = rows[:limit]
    timestamp_ms, step, value = rows[-1]
    following = wire.page_token(offset + limit, [timestamp_ms, step, wire.double(value)])
    return _answer(_points(key, rows), following)


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
def get_history_bulk(call: Call) -> bytes:
    """Points of a metric of several runs, by run, timestamp, step and value."""
    run_ids, key = sorted(set(call.get("run_id", []))), call.get("metric_key")
    _check_run_ids(run_ids, "GetMetricHistoryBulk")
    if key is None:
        raise InvalidRequest("GetMetricHistoryBulk request must specify a metric_key.")
    left = min(call.get("max_results", _BULK_MAX), _BULK_MAX)
    wire.check_max_results(left, _BULK_MAX)
    points: list[str] = []
    with call.node.read() as cursor:
        for run_id, series in sorted(_series(cursor, run_ids, key).items()):
            rows = cursor.execute(
                f"SELECT DISTINCT timestamp_ms, step, value FROM fold.points "
                f"WHERE series IN ({series}) ORDER BY timestamp_ms, step, value "
                f"LIMIT {left - len(points)}"
            ).fetchall()
            points += _points(key, rows, run_id)
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
def get_history_bulk_interval(call: Call) -> bytes:
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
    points: list[str] = []
    with call.node.read() as cursor:
        _check_runs(cursor, run_ids)
        found = _series(cursor, run_ids, key)
        for run_id in run_ids:
            if run_id not in found:
                continue
            rows = cursor.execute(
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
                    ORDER BY n LIMIT {limit}"""
            ).fetchall()
            points += _points(key, rows, run_id)
    return _answer(points)
