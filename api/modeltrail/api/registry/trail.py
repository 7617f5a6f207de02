"""The audit trail: every request to the registry, and what was decided."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import duckdb

from modeltrail.api.access.rights import EVERYTHING, Condition, Rights
from modeltrail.api.answers import parse_time, rows
from modeltrail.api.registry import visible
from modeltrail.consumers.reading import sql

_COLUMNS = (
    "log_offset, appended_at, event_id, type, actor, actor_verified, client, reason, entity, "
    "model, version, alias, experiment_id, accepted, code, message, request, hash"
)


_OUTCOME = (
    "CASE WHEN accepted THEN 'accepted' WHEN accepted = false THEN 'refused' "
    "WHEN code = 'DEAD_LETTER' THEN 'dead_letter' ELSE 'repeat' END"
)
FACETS: Final[Mapping[str, str]] = {
    "actor": "actor",
    "type": "type",
    "model": "model",
    "outcome": _OUTCOME,
}
"""What requests can be counted by."""
_FACET_VALUES_MAX = 50
_CONDITIONS = {
    **{name: f"{name} = ?" for name in ("model", "version", "alias", "actor", "type", "accepted")},
    "outcome": f"{_OUTCOME} = ?",
    "offset": "log_offset = ?",
    "after": "log_offset > ?",
    "up_to": "log_offset <= ?",
    "experiment": "experiment_id = ?",
    "since": "appended_at >= ?",
    "until": "appended_at < ?",
    "before": "log_offset < ?",
}


def trail(
    cursor: duckdb.DuckDBPyConnection,
    filters: Mapping[str, Any],
    limit: int,
    before_offset: int | None,
    rights: Rights = EVERYTHING,
) -> list[dict[str, Any]]:
    """Return requests to the registry that the caller may read, newest first.

    Args:
        cursor: The cursor to read with.
        filters: Values that columns must have, by the route's parameter names.
        limit: Maximum number of events.
        before_offset: Only earlier ones.
        rights: Those of the caller.

    Raises:
        InvalidRequest: ``since`` or ``until`` is not a time.
    """
    where = _where({**filters, "before": before_offset})
    seen = visible.events(rights)
    query = (
        f"SELECT {_COLUMNS} FROM audit WHERE {where.sql} AND {seen.sql} "
        f"ORDER BY log_offset DESC LIMIT {limit}"
    )
    values = [*where.params, *seen.params]
    events = rows(cursor, query, values)
    for event in events:
        if event["request"] is not None:
            event["request"] = json.loads(event["request"])
    visible.hide_origins(cursor, rights, [e["request"] for e in events if e["request"]])
    names = _names(cursor, events)
    for event in events:
        event["about"] = _about(event, names)
    return events


def _where(filters: Mapping[str, Any]) -> Condition:
    where: list[str] = ["true"]
    values: list[Any] = []
    for name, value in filters.items():
        if value is not None:
            where.append(_CONDITIONS[name])
            values.append(parse_time(value, name) if name in ("since", "until") else value)
    return Condition(" AND ".join(where), values)


def facets(
    cursor: duckdb.DuckDBPyConnection,
    filters: Mapping[str, Any],
    names: Sequence[str],
    rights: Rights,
) -> dict[str, list[dict[str, Any]]]:
    """Return the most frequent values of columns, with their numbers of requests.

    Each is counted under the filters of all other columns, among what the caller may read.
    """
    shared = _where({name: value for name, value in filters.items() if name not in FACETS})
    seen = visible.events(rights)
    columns = ", ".join(f"{expression} AS {name}" for name, expression in FACETS.items())
    parts, values = [], [*shared.params, *seen.params]
    for name in names:
        chosen = {n: v for n, v in filters.items() if n in FACETS and n != name and v is not None}
        where = " AND ".join(["true", *(f"{one} = ?" for one in chosen)])
        values += chosen.values()
        parts.append(
            f"(SELECT '{name}' AS facet, {name} AS value, count(*) AS events FROM seen "
            f"WHERE {where} AND {name} IS NOT NULL GROUP BY {name} "
            f"ORDER BY events DESC, value LIMIT {_FACET_VALUES_MAX})"
        )
    query = (
        f"WITH seen AS MATERIALIZED (SELECT {columns} FROM audit WHERE {shared.sql} "
        f"AND {seen.sql}) {' UNION ALL '.join(parts)}"
    )
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for facet, value, events in cursor.execute(query, values).fetchall():
        found[facet].append({"value": value, "events": events})
    for counted in found.values():
        counted.sort(key=lambda one: (-one["events"], one["value"]))
    return found


_IDS = ("experiment_id", "webhook_id", "role_id", "token_id", "entity_id", "view_id")


def _names(
    cursor: duckdb.DuckDBPyConnection, events: list[dict[str, Any]]
) -> dict[tuple[str, str], str]:
    """Return the names of what events refer to by id, by kind and id; for a token, its user."""
    given = [event["experiment_id"] for event in events]
    given += [(event["request"] or {}).get(name) for event in events for name in _IDS]
    ids = sorted({str(id) for id in given if id is not None})
    if not ids:
        return {}
    found = cursor.execute(sql("registry.names"), [ids]).fetchall()
    return {(kind, id): name for kind, id, name in found}


def _about(event: dict[str, Any], names: Mapping[tuple[str, str], str]) -> str:
    """Return what a request is about, for display, by its current name if it has one."""
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
        case "view":
            id = request.get("view_id")
            return f"view {request['name'] if id is None else named('view', id)}"
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
