"""Runs: lists, one run, and the history of a metric."""

from __future__ import annotations

from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from modeltrail.api.answers import page, parse_time, rows
from modeltrail.api.artifacts.sending import InPieces, attachment
from modeltrail.api.artifacts.storage import PIECE_BYTES, Pieces
from modeltrail.api.errors import InvalidRequest
from modeltrail.api.native.parameters import (
    CallerHere,
    Limit,
    LogEnd,
    NodeHere,
    PageToken,
    answer,
    json_example,
)
from modeltrail.api.pages import Pages
from modeltrail.api.routing import PooledRoute
from modeltrail.api.runs.moments import number_of, run_then
from modeltrail.api.runs.one import events_of, run_of
from modeltrail.api.runs.query import Finder, RunsQuery, all_rows, as_arrow, as_json
from modeltrail.api.sql.formats import FORMATS
from modeltrail.limits import RunStatus

_RUNS = Pages("runs")
_POINTS = Pages("points")
_EVENTS = Pages("events")
router = APIRouter(prefix="/api/v1/runs", tags=["runs"], route_class=PooledRoute)

_RUN = {
    "run_id": "0af7651916cd43dd8448eb211c80319c",
    "experiment_id": "0",
    "experiment_name": "Default",
    "name": "trial-7",
    "status": "FINISHED",
    "complete": True,
}


@router.get(
    "",
    summary="Runs",
    responses=json_example({"runs": [_RUN], "next_page_token": None}),
)
def list_runs(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    experiment_id: str | None = None,
    experiment_name: str | None = None,
    status: RunStatus | None = None,
    name: str | None = None,
    user: str | None = None,
    parent_run_id: str | None = None,
    complete: Annotated[bool | None, Query(description="All that was logged is here.")] = None,
    deleted: Annotated[bool, Query(description="The deleted ones instead.")] = False,
    tag: Annotated[list[str], Query(description="`key=value`; all of them must hold.")] = [],  # noqa: B006
    param: Annotated[list[str], Query(description="`key=value`; all of them must hold.")] = [],  # noqa: B006
    since: Annotated[str | None, Query(description="Appended at or after this time.")] = None,
    until: Annotated[str | None, Query(description="Appended before this time.")] = None,
    limit: Limit = 100,
    page_token: PageToken = None,
) -> Response:
    """Runs, newest first. Use SQL for more than that."""
    where: list[str] = ["deleted = ?"]
    values: list[Any] = [deleted]
    conditions: list[tuple[str, Any]] = [
        ("experiment_id = ?", experiment_id),
        ("experiment_name = ?", experiment_name),
        ("status = ?", status),
        ("name = ?", name),
        ('"user" = ?', user),
        ("parent_run_id = ?", parent_run_id),
        ("complete = ?", complete),
        ("appended_at >= ?", None if since is None else parse_time(since, "since")),
        ("appended_at < ?", None if until is None else parse_time(until, "until")),
    ]
    for condition, value in conditions:
        if value is not None:
            where.append(condition)
            values.append(value)
    for view, pairs in (("tags", tag), ("params", param)):
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals:
                raise InvalidRequest(f"{view[:-1]}: expected key=value, got {pair[:100]!r}")
            where.append(f"run_id IN (SELECT run_id FROM {view} WHERE key = ? AND value = ?)")
            values += [key, value]
    readable = caller.rights.readable_experiments("experiment_id")
    where.append(readable.sql)
    values += readable.params
    if (last := _RUNS.last(page_token, str, str)) is not None:
        where.append("(appended_at, run_id) < (?::TIMESTAMP, ?)")
        values += [parse_time(last[0], "page_token"), last[1]]
    query = (
        f"SELECT * FROM runs WHERE {' AND '.join(where)} "
        f"ORDER BY appended_at DESC, run_id DESC LIMIT {limit + 1}"
    )
    with node.read(log_end=log_end) as cursor:
        found = rows(cursor, query, values)
    return answer(page(found, limit, _RUNS, ["appended_at", "run_id"]))


Format = Literal["json", "arrow", "csv", "parquet"]
_ARROW = FORMATS["arrow"][0]
_FOUND: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A window of rows. In JSON, NaN and infinities are text. In an Arrow stream "
        "everything but the rows is JSON in the metadata `modeltrail` of its schema. CSV and "
        "Parquet have all rows, whatever the window, and nothing else.",
        "content": {
            "application/json": {
                "example": {
                    "rows": [
                        {"run_name": "trial-7", "params.lr": "0.01", "metrics.loss.min": 0.12}
                    ],
                    "columns": [
                        {"name": "run_name", "type": "text"},
                        {"name": "params.lr", "type": "text"},
                        {"name": "metrics.loss.min", "type": "number"},
                    ],
                    "count": 1,
                    "runs": 1,
                    "position": {"registry": "registry:0:31", "runs": ["runs:0:41"]},
                    "sql": "SELECT r.name AS run_name, ...",
                    "facets": {"status": [{"value": "FINISHED", "runs": 1}]},
                    "keys": {
                        "params": [{"key": "lr", "runs": 1}],
                        "params_count": 1,
                        "metrics": [{"key": "loss", "runs": 1}],
                        "metrics_count": 1,
                        "tags": [],
                        "tags_count": 0,
                    },
                }
            },
            **{FORMATS[format][0]: {} for format in ("arrow", "csv", "parquet")},
        },
    }
}


@router.post("/query", summary="Query runs", responses=_FOUND, response_class=Response)
def query_runs(
    asked: RunsQuery,
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    format: Annotated[
        Format | None,
        Query(
            description="`json`, or by the header `Accept` `arrow`: a window. `csv`, `parquet`: "
            "all rows, for download."
        ),
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Runs of all experiments that you may read: filtered, ordered, grouped, counted.

    `count` is the number of rows without the window, `runs` that of all runs found, `position` how
    far the log was read, and `sql` the same query for `/api/v1/sql`, for those who may use it.

    With `as_of`, runs exist that had an event by then, and name, status, end, message and whether
    they were deleted are searched, ordered, counted and shown as they were. Other columns of the
    rows are folded from the events of the runs shown, at most 200 at a time. What else was
    searched, ordered, grouped or counted by (metrics, params, tags) is as it is now, and listed
    in `as_of.searched_as_now`.
    """
    with node.read(log_end=log_end) as cursor:
        finder = Finder(cursor, caller.rights, asked, node)
        if format in ("csv", "parquet"):
            # To a file first: a slow client must not keep the transaction open.
            with ExitStack() as stack:
                file = stack.enter_context(TemporaryFile())
                for piece in all_rows(finder, format):
                    file.write(piece)
                stack.pop_all()
            headers = {"Content-Disposition": attachment(f"runs.{format}")}
            return InPieces(_from(file), 200, headers, FORMATS[format][0])
        found = finder.answer()
    if format == "arrow" or (format is None and _ARROW in accept):
        return Response(as_arrow(found), media_type=_ARROW)
    return answer(as_json(found))


def _from(file: BinaryIO) -> Pieces:
    with file:
        file.seek(0)
        while piece := file.read(PIECE_BYTES):
            yield piece


_AS_OF = Query(
    description="The state at a time (ISO 8601, UTC unless it says otherwise), or right after a "
    "position: `registry:0:17`, or `runs:0:41`.",
    openapi_examples={
        "now": {"value": None},
        "time": {"value": "2026-03-01T12:00:00Z"},
        "position": {"value": "runs:0:41"},
    },
)


@router.get(
    "/{run_id}",
    summary="One run",
    responses=json_example(
        {
            **_RUN,
            "params": {"lr": "0.01"},
            "tags": {"team": "vision"},
            "metrics": [
                {
                    "key": "loss",
                    "step": 9,
                    "value": 0.12,
                    "points": 10,
                    "min_value": 0.1,
                    "max_value": 0.9,
                }
            ],
            "datasets": [],
            "artifacts": [],
            "param_conflicts": [],
            "gaps": [
                {
                    "producer": "0195a1b2c3d47e5f8a9b0c1d2e3f4a5b",
                    "actor": "ada",
                    "first": 4,
                    "last": 6,
                }
            ],
            "children": [],
            "children_count": 0,
            "versions": [{"model": "digits", "version": 3, "stage": "None"}],
            "last_event": "runs:0:41",
        }
    ),
)
def get_run(
    run_id: str,
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    extremes: Annotated[
        bool,
        Query(description="Also `min` and `max` of each metric, NaN aside; it reads all points."),
    ] = False,
    as_of: Annotated[str | None, _AS_OF] = None,
) -> Response:
    """A run with params, tags, latest metrics, datasets, artifacts, and whether it is complete.

    Also values of params that were refused (`param_conflicts`), the numbers of events that are
    missing (`gaps`), its children, and the model versions made from it, as far as you may read
    them. As of a moment it is folded from its own events up to then.
    """
    with node.read(log_end=log_end) as cursor:
        return answer(run_of(node, cursor, caller.rights, run_id, as_of, extremes=extremes))


@router.get(
    "/{run_id}/events",
    summary="The events of a run",
    responses=json_example(
        {
            "events": [
                {
                    "position": "runs:0:41",
                    "appended_at": "2026-03-01T12:00:01.000000Z",
                    "type": "MetricsLogged",
                    "event_id": "0195a1b2c3d47e5f8a9b0c1d2e3f4a5b",
                    "producer": "0195a1b2c3d47e5f8a9b0c1d2e3f4a00",
                    "sequence": 7,
                    "occurred_at": "2026-03-01T12:00:00.000000Z",
                    "actor": "ada",
                    "actor_verified": True,
                    "client": "modeltrail-producers/0.1.0",
                    "reason": None,
                    "bytes": 26_112,
                    "summary": "1,000 points of loss, accuracy",
                    "error": None,
                }
            ],
            "next_page_token": None,
        }
    ),
)
def run_events(
    run_id: str,
    node: NodeHere,
    log_end: LogEnd,
    limit: Annotated[int, Query(ge=1, le=1_000, description="Most items in one answer.")] = 100,
    page_token: PageToken = None,
) -> Response:
    """The events of a run in the log, newest first, also repeats and dead letters (`error`)."""
    last = _EVENTS.last(page_token, int, int, int)
    with node.read(log_end=log_end) as cursor:
        events = events_of(node, cursor, run_id, limit, last)
    token = _EVENTS.token(last=events[limit - 1]["place"]) if len(events) > limit else None
    for event in events:
        del event["place"]
    return answer({"events": events[:limit], "next_page_token": token})


@router.get(
    "/{run_id}/metrics/{key:path}",
    summary="All points of a metric",
    responses=json_example(
        {
            "points": [
                {"step": 0, "timestamp": "2026-03-01T12:00:00.000000Z", "value": 0.9},
                {"step": 1, "timestamp": "2026-03-01T12:00:01.000000Z", "value": "NaN"},
            ],
            "next_page_token": None,
        }
    ),
)
def metric_history(
    run_id: str,
    key: str,
    node: NodeHere,
    log_end: LogEnd,
    limit: Annotated[int, Query(ge=1, le=1_000_000)] = 10_000,
    page_token: PageToken = None,
    as_of: Annotated[str | None, _AS_OF] = None,
) -> Response:
    """Points by step, then timestamp, then value. NaN and infinities are text."""
    skip = max((_POINTS.last(page_token, int) or [0])[0], 0)
    with node.read(log_end=log_end) as cursor, ExitStack() as stack:
        number_of(cursor, run_id)
        then = cursor
        if as_of is not None:
            then, _ = stack.enter_context(run_then(node, cursor, run_id, as_of))
        points = rows(
            then,
            'SELECT step, "timestamp", value, model_id, dataset_name, dataset_digest, '
            f"row_number() OVER () + {skip} AS n FROM ("
            "SELECT * FROM metrics WHERE run_id = ? AND key = ? "
            'ORDER BY step, "timestamp", value, model_id, dataset_name, dataset_digest '
            f"LIMIT {limit + 1} OFFSET {skip})",
            [run_id, key],
        )
    body = page(points, limit, _POINTS, ["n"])
    for point in body["points"]:
        del point["n"]
    return answer(body)
