"""Health, metrics, status and dead letters."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from modeltrail.api import checks
from modeltrail.api.answers import page, rows
from modeltrail.api.errors import Unavailable
from modeltrail.api.guard import Counters
from modeltrail.api.native.parameters import (
    CallerHere,
    Limit,
    LogEnd,
    NodeHere,
    PageToken,
    answer,
    json_example,
)
from modeltrail.api.native.webhooks import delivery_status
from modeltrail.api.node import Node
from modeltrail.api.pages import Pages
from modeltrail.api.routing import PooledRoute
from modeltrail.consumers.database import program_version
from modeltrail.consumers.reading import sql
from modeltrail.consumers.store import PROJECTION_VERSION
from modeltrail.eventlog import LogError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_DEAD_LETTERS = Pages("dead_letters")
_DEAD_LETTERS_SHOWN = 20
router = APIRouter(route_class=PooledRoute)


class _Compared(NamedTuple):
    """The log's end beside what this node knows of the log."""

    contradiction: str | None
    """How the log contradicts what was acknowledged, folded or signed; or None."""
    positions: dict[str, int]
    """Next offset to fold, by partition."""
    lag: dict[str, int]
    """Events that are not folded yet, by partition."""


def _compared(node: Node) -> _Compared:
    """Compare what this node knows of the log with the log's end. Raises ``LogError``."""
    positions = node.fold.positions()
    # The greater of both, for each partition. The end is read later, so that it is not below them.
    known = Counter(node.acknowledged()) | Counter(positions)
    end = node.log.end()
    contradiction = node.fold.contradicted
    for partition, offset in sorted(known.items()):
        if offset > end.get(partition, 0):
            contradiction = (
                f"the log of {partition} ends at {end.get(partition, 0)}, but had an event at "
                f"offset {offset - 1}: it was cut. Stop the server, keep the data folder as it is, "
                "and see: modeltrail audit verify"
            )
            break
    return _Compared(
        contradiction,
        {str(p): positions.get(p, 0) for p in sorted(end)},
        {str(p): max(0, n - positions.get(p, 0)) for p, n in sorted(end.items())},
    )


@router.get(
    "/health",
    tags=["operation"],
    summary="Whether the server can answer",
    responses={
        **json_example({"status": "ok", "lag": {"registry:0": 0, "runs:0": 0}, "dead_letters": 0}),
        503: {
            "description": "The fold stands still or has not caught up yet, the log is away, or "
            "it is not the one that was folded or signed.",
            "content": {
                "application/json": {
                    "example": {"status": "unavailable", "reason": "the fold is catching up"}
                }
            },
        },
    },
)
def health(node: NodeHere) -> Response:
    """200 once the fold runs and has passed the end that the log had when the server started."""
    status = node.fold.status()
    body: dict[str, Any] = {
        "status": "ok",
        "dead_letters": status.dead_letters,
        "webhooks": delivery_status(node),
    }
    try:
        contradicted, _, body["lag"] = _compared(node)
    except LogError as error:
        return answer({**body, "status": "unavailable", "reason": f"the log is away: {error}"}, 503)
    behind = sum(max(0, n - status.positions.get(p, 0)) for p, n in node.end_at_start.items())
    if contradicted is not None:
        reason = contradicted
    elif status.error is not None:
        reason = f"the fold stands still: {status.error}"
    elif behind:
        reason = f"the fold is catching up: {behind:,} events of before the start are left"
    else:
        return answer(body)
    return answer({**body, "status": "unavailable", "reason": reason}, 503)


@router.get(
    "/metrics",
    tags=["operation"],
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "Prometheus text format.",
            "content": {"text/plain": {"example": "modeltrail_dead_letters 0\n"}},
        }
    },
)
def metrics(request: Request, node: NodeHere) -> Response:
    """Lag, dead letters, requests and their durations, disk."""
    # Imported on first use, so that it does not delay the start.
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

    registry = CollectorRegistry()
    registry.register(_Metrics(node, request.app.state.counters))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Metrics:
    """A Prometheus collector that reads the node and the counters of requests."""

    def __init__(self, node: Node, counters: Counters) -> None:
        self._node = node
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, InfoMetricFamily

        status = self._node.fold.status()
        yield InfoMetricFamily("modeltrail", "Version.", value={"version": program_version()})
        yield _gauge("fold_ok", "1 if the fold runs, 0 if it stands still.", status.error is None)
        yield CounterMetricFamily(
            "modeltrail_fold_events", "Events folded since start.", value=status.records
        )
        yield _gauge("dead_letters", "Events that could not be applied.", status.dead_letters)
        try:
            contradicted, done, lag = _compared(self._node)
        except LogError:
            yield _gauge("log_ok", "1 if the log can be reached.", 0)
        else:
            yield _gauge("log_ok", "1 if the log can be reached.", 1)
            yield _gauge(
                "trail_ok", "0 if the log is not what was folded or signed.", contradicted is None
            )
            yield _by_partition("fold_next_offset", "Next offset to fold.", done)
            yield _by_partition(
                "fold_lag_events", "Events in the log that are not folded yet.", lag
            )
        webhooks = delivery_status(self._node)
        if webhooks is not None:
            ok = webhooks["error"] is None
            yield _gauge("webhooks_ok", "1 if webhooks are delivered, 0 if that stands still.", ok)
            yield _gauge("webhooks_lag_events", "Registry events not looked at.", webhooks["lag"])
            yield _gauge("webhooks_pending", "Deliveries to be made.", webhooks["pending"])
            yield _gauge("webhooks_dead", "Deliveries that were given up.", webhooks["dead"])
        disk = _disk(self._node)
        if disk is not None:
            yield _gauge("disk_free_bytes", "Free where the artifacts are.", disk["free_bytes"])
        yield from self._counters.families()


def _gauge(name: str, help: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"modeltrail_{name}", help, value=value)


def _by_partition(name: str, help: str, values: dict[str, int]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"modeltrail_{name}", help, labels=("stream", "partition"))
    for partition, value in values.items():
        family.add_metric(partition.split(":"), value)
    return family


def _disk(node: Node) -> dict[str, int] | None:
    folder = node.artifacts.storage.folder
    if folder is None:
        return None
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return {"free_bytes": usage.free, "total_bytes": usage.total}


@router.get(
    "/api/v1/status",
    tags=["operation"],
    summary="How the server is doing",
    responses=json_example(
        {
            "version": "0.1.0",
            "projection_version": 1,
            "log": "./modeltrail-data",
            "positions": {"registry:0": 17, "runs:0": 4711},
            "lag": {"registry:0": 0, "runs:0": 0},
            "dead_letters": 1,
            "fold_error": None,
            "newest_dead_letters": [
                {
                    "stream": "runs",
                    "partition": 0,
                    "log_offset": 12,
                    "appended_at": "2026-03-01T12:00:00.000000Z",
                    "event_type": "MetricsLogged",
                    "error": "the columns have different lengths",
                }
            ],
            "checks": [
                {"name": "disk space", "ok": True, "found": "80 GiB are free", "repair": None}
            ],
        }
    ),
)
def status(node: NodeHere, caller: CallerHere) -> Response:
    """Versions, positions and lag of each partition, dead letters, errors, disk.

    For users who may read everything, also `checks`: what `modeltrail doctor` finds in the server's
    data folder. For administrators, also the newest dead letters.
    """
    found = node.fold.status()
    body: dict[str, Any] = {
        "version": program_version(),
        "projection_version": PROJECTION_VERSION,
        "log": node.log.url,
        "pid": os.getpid(),
        "events_folded": found.records,
        "dead_letters": found.dead_letters,
        "fold_error": found.error,
        "folded_at_ms": found.folded_at_ms,
        "disk": _disk(node),
        "webhooks": delivery_status(node),
    }
    try:
        _, body["positions"], body["lag"] = _compared(node)
    except LogError as error:
        body["positions"] = {str(p): n for p, n in sorted(found.positions.items())}
        body["lag"], body["log_error"] = None, str(error)
    if caller.rights.is_admin:
        with node.cursor() as cursor:
            body["newest_dead_letters"] = rows(
                cursor,
                "SELECT * EXCLUDE (payload_hex, payload_bytes) FROM dead_letters "
                f"ORDER BY appended_at DESC, log_offset DESC LIMIT {_DEAD_LETTERS_SHOWN}",
            )
    if caller.rights.reads_everything():
        with node.cursor() as cursor:
            last = cursor.execute(sql("moments.last_append")).fetchone()
        folder = node.fold.folder
        body["checks"] = [
            check._asdict()
            for look in (
                *(() if folder is None else (checks.folder(folder), checks.disk(folder))),
                checks.clock(None if last is None or last[0] is None else last[0] / 1000),
                *(() if folder is None else (checks.kept_aside(folder),)),
            )
            for check in look
        ]
    return answer(body)


@router.get(
    "/api/v1/dead-letters",
    tags=["operation"],
    summary="Events that could not be applied",
    responses=json_example({"dead_letters": [], "next_page_token": None}),
)
def dead_letters(
    node: NodeHere,
    log_end: LogEnd,
    limit: Limit = 100,
    page_token: PageToken = None,
) -> Response:
    """Events without effect, with the reason and the raw bytes."""
    where, values = "true", []
    if (last := _DEAD_LETTERS.last(page_token, str, int, int)) is not None:
        where, values = "(stream, partition, log_offset) > (?, ?, ?)", last
    with node.read(log_end=log_end) as cursor:
        found = rows(
            cursor,
            "SELECT * REPLACE (left(payload_hex, 2000) AS payload_hex) FROM dead_letters "
            f"WHERE {where} ORDER BY stream, partition, log_offset LIMIT {limit + 1}",
            values,
        )
    return answer(page(found, limit, _DEAD_LETTERS, ["stream", "partition", "log_offset"]))


@router.post(
    "/api/v1/dead-letters/retry",
    tags=["operation"],
    summary="Try the dead letters again",
    responses=json_example({"applied": 3, "left": 0}),
)
def retry_dead_letters(node: NodeHere) -> Response:
    """After a fix (a schema became known, a newer program), apply those that can be applied."""
    try:
        applied = node.fold.retry_dead_letters()
    except LogError as error:
        raise Unavailable(str(error)) from None
    return answer({"applied": applied, "left": node.fold.status().dead_letters})
