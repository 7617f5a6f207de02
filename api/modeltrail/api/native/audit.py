"""The audit trail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import duckdb
from fastapi import APIRouter, Query
from starlette.responses import Response

from modeltrail.api.answers import page, parse_time, rows
from modeltrail.api.artifacts import check
from modeltrail.api.errors import InvalidRequest
from modeltrail.api.native.parameters import (
    CallerHere,
    Limit,
    LogEnd,
    NodeHere,
    PageToken,
    answer,
    json_example,
    reading,
)
from modeltrail.api.pages import Pages
from modeltrail.api.routing import PooledRoute
from modeltrail.consumers.chain import heads, links
from modeltrail.eventlog import Partition

_EVENTS = Pages("events")
_ARTIFACTS = Pages("artifacts")
router = APIRouter(prefix="/api/v1", tags=["audit"], route_class=PooledRoute)

_COLUMNS = (
    "log_offset, appended_at, event_id, type, actor, actor_verified, client, reason, entity, "
    "model, version, alias, experiment_id, accepted, code, message, request, hash"
)

_CONDITIONS = {
    **{name: f"{name} = ?" for name in ("model", "version", "alias", "actor", "type", "accepted")},
    "experiment": "experiment_id = ?",
    "since": "appended_at >= ?",
    "until": "appended_at < ?",
    "before": "log_offset < ?",
}


@router.get(
    "/audit",
    summary="Who did what, when, why, and what became of it",
    responses=json_example(
        {
            "events": [
                {
                    "log_offset": 17,
                    "appended_at": "2026-03-01T12:00:00.000000Z",
                    "event_id": "0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
                    "type": "SetRegisteredModelAlias",
                    "actor": "ada",
                    "actor_verified": True,
                    "client": "curl/8",
                    "reason": "beats the champion by 2 points",
                    "entity": "alias",
                    "model": "digits",
                    "version": 3,
                    "alias": "champion",
                    "experiment_id": None,
                    "about": "model digits@champion version 3",
                    "accepted": True,
                    "code": None,
                    "message": None,
                    "request": {"model": "digits", "alias": "champion", "version": 3},
                    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                }
            ],
            "next_page_token": None,
        }
    ),
)
def audit(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    model: Annotated[str | None, Query(description="Registered model.")] = None,
    version: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    alias: str | None = None,
    experiment: Annotated[str | None, Query(description="Experiment id.")] = None,
    actor: str | None = None,
    type: Annotated[str | None, Query(description="Event type.")] = None,
    accepted: Annotated[bool | None, Query(description="Only accepted, or only refused.")] = None,
    since: Annotated[str | None, Query(description="Appended at or after this time.")] = None,
    until: Annotated[str | None, Query(description="Appended before this time.")] = None,
    limit: Limit = 100,
    page_token: PageToken = None,
) -> Response:
    """Every request to the registry, newest first: refused ones, repeats and dead letters too."""
    filters = {
        "model": model,
        "version": version,
        "alias": alias,
        "experiment": experiment,
        "actor": actor,
        "type": type,
        "accepted": accepted,
        "since": since,
        "until": until,
    }
    last = _EVENTS.last(page_token, int)
    with reading(node, log_end) as cursor:
        events = trail(cursor, filters, limit + 1, None if last is None else last[0])
    return answer(page(events, limit, _EVENTS, ["log_offset"]))


@router.get(
    "/audit/artifacts",
    summary="What is recorded of each file",
    responses=json_example(
        {
            "artifacts": [
                {
                    "kind": "run",
                    "id": "0af7651916cd43dd8448eb211c80319c",
                    "path": "model/model.pkl",
                    "size_bytes": 1024,
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "location": "file:///data/artifacts/RUN/model/model.pkl",
                    "logged_at": "2026-03-01T12:00:00.000000Z",
                }
            ],
            "total": 1,
            "elsewhere": [],
            "next_page_token": None,
        }
    ),
)
def audit_artifacts(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    run: Annotated[str | None, Query(description="Of this run, and models it logged.")] = None,
    model: Annotated[str | None, Query(description="Of this registered model's versions.")] = None,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """The latest record of each file that was not removed, for `modeltrail audit verify`.

    `total` counts them on all pages; `elsewhere` names versions whose files are not kept here.
    """
    last = _ARTIFACTS.last(page_token, str, str, str)
    with reading(node, log_end) as cursor:
        roots, elsewhere = check.roots(cursor, run, model)
        records = check.recorded(cursor, roots, limit + 1, last)
        total = check.count(cursor, roots)
    body = page(records, limit, _ARTIFACTS, ["kind", "id", "path"])
    return answer({**body, "total": total, "elsewhere": elsewhere})


@router.get(
    "/audit/chain",
    summary="The hash chains as this server folded them",
    responses=json_example(
        {
            "heads": {"registry:0": {"offset": 17, "hash": "9f86d081884c7d65…"}},
            "links": [[0, 1772366400000, "9f86d081884c7d65…"]],
        }
    ),
)
def audit_chain(
    node: NodeHere,
    caller: CallerHere,
    partition: Annotated[
        str | None, Query(description="As in `runs:0`; without it no links are given.")
    ] = None,
    first: Annotated[int, Query(ge=0, le=2**62, description="First offset.")] = 0,
    last: Annotated[int, Query(ge=0, le=2**62, description="Last offset.")] = 2**62,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000,
) -> Response:
    """For `modeltrail audit verify`, which compares them with the raw log.

    `heads` has the end of each partition's chain. A link is an event's offset, the time it was
    appended at (milliseconds since 1970), and the hash of the chain there: in full for the
    registry, the first 8 bytes for other streams.
    """
    try:
        wanted = None if partition is None else Partition.parse(partition)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    with node.cursor() as cursor:
        found = [] if wanted is None else links(cursor, wanted, first, last, limit)
        ends = heads(cursor)
    return answer(
        {
            "heads": {str(p): {"offset": h.offset, "hash": h.hash.hex()} for p, h in ends.items()},
            "links": [[link.offset, link.appended_at_ms, link.hash.hex()] for link in found],
        }
    )


def trail(
    cursor: duckdb.DuckDBPyConnection,
    filters: Mapping[str, Any],
    limit: int,
    before_offset: int | None,
) -> list[dict[str, Any]]:
    """Requests to the registry, newest first.

    Args:
        cursor: Where to read.
        filters: Values of the columns to hold, by the names of the route's parameters.
        limit: Most events.
        before_offset: Only earlier ones.

    Raises:
        InvalidRequest: ``since`` or ``until`` is not a time.
    """
    where: list[str] = []
    values: list[Any] = []
    for name, value in {**filters, "before": before_offset}.items():
        if value is not None:
            where.append(_CONDITIONS[name])
            values.append(parse_time(value, name) if name in ("since", "until") else value)
    query = (
        f"SELECT {_COLUMNS} FROM audit WHERE {' AND '.join(where) or 'true'} "
        f"ORDER BY log_offset DESC LIMIT {limit}"
    )
    events = rows(cursor, query, values)
    for event in events:
        if event["request"] is not None:
            event["request"] = json.loads(event["request"])
    names = _names(cursor, events)
    for event in events:
        event["about"] = _about(event, names)
    return events


_IDS = ("experiment_id", "webhook_id", "role_id", "token_id", "entity_id")
_NAMES = """
SELECT 'experiment', experiment_id, name FROM fold.experiments
UNION ALL SELECT 'registered_model', model_key, model FROM fold.models
UNION ALL SELECT 'webhook', webhook_id, name FROM fold.webhooks
UNION ALL SELECT 'role', role_id, name FROM fold.roles
UNION ALL SELECT 'token', token_id, u.name FROM fold.tokens JOIN fold.users u USING (user_id)
"""


def _names(
    cursor: duckdb.DuckDBPyConnection, events: list[dict[str, Any]]
) -> dict[tuple[str, str], str]:
    """The names, by kind and id, of what events name by its id; of a token, whose it is."""
    given = [event["experiment_id"] for event in events]
    given += [(event["request"] or {}).get(name) for event in events for name in _IDS]
    ids = sorted({str(id) for id in given if id is not None})
    if not ids:
        return {}
    query = f"SELECT * FROM ({_NAMES}) AS names(kind, id, name) WHERE id IN (SELECT unnest(?))"
    return {(kind, id): name for kind, id, name in cursor.execute(query, [ids]).fetchall()}


def _about(event: dict[str, Any], names: Mapping[tuple[str, str], str]) -> str:
    """What a request is about, for people: by name where it has one, as it is called now."""
    request = event["request"] or {}

    def named(kind: str, id: Any) -> str:
        return names.get((kind, str(id)), str(id))

    match event["entity"]:
        case None:
            return ""
        case "experiment":
            id = event["experiment_id"]
            return f"experiment {request['name'] if id is None else named('experiment', id)}"
        case "webhook":
            id = request.get("webhook_id")
            return f"webhook {request['name'] if id is None else named('webhook', id)}"
        case "user":
            return f"user {request['user']}"
        case "token":
            id = request.get("token_id")
            owner = request.get("user") or names.get(("token", str(id)))
            text = "token" if id is None else f"token {id}"
            return text if owner is None else f"{text} of user {owner}"
        case "role":
            id = request.get("role_id")
            role = f"role {request['role'] if id is None else named('role', id)}"
            return f"{role}, user {request['user']}" if "user" in request else role
        case "permission":
            of = request["pattern"]
            if of is None:
                of = named(request["resource"], request["entity_id"])
            what = f"{request['resource'].replace('_', ' ')} {of}"
            if request["user"] is not None:
                return f"user {request['user']} on {what}"
            return f"role {named('role', request['role_id'])} on {what}"
    text = f"model {event['model']}"
    if event["alias"]:
        text += f"@{event['alias']}"
    if event["version"]:
        text += f" version {event['version']}"
    return f"{text} to {request['stage']}" if request.get("stage") else text
