"""One event of the log, as it is stored."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import duckdb
from fastapi import APIRouter, Path
from starlette.responses import Response

from modeltrail.api.access.rights import Rights
from modeltrail.api.answers import plain, time_of
from modeltrail.api.errors import InvalidRequest, NotFound, Unavailable
from modeltrail.api.native.parameters import CallerHere, LogEnd, NodeHere, answer, json_example
from modeltrail.api.node import Node
from modeltrail.api.registry.trail import trail
from modeltrail.api.routing import PooledRoute
from modeltrail.eventlog import REGISTRY, LogError, Position, record_at
from modeltrail.schemas import SchemaError, writer_schemas

_TEXT_MAX: Final = 2_000
_ITEMS_MAX: Final = 50
router = APIRouter(prefix="/api/v1", tags=["audit"], route_class=PooledRoute)


@router.get(
    "/events/{position}",
    summary="One event of the log, with its schema",
    responses=json_example(
        {
            "position": "runs:0:7",
            "appended_at": "2026-03-01T12:00:00.000000Z",
            "type": "ParamsLogged",
            "bytes": 120,
            "schema": {
                "fingerprint": "5e4afe98a9328554",
                "doc": "Params of a run.",
                "fields": [{"name": "params", "type": "map", "doc": "Key to value."}],
            },
            "event": {"run_id": "0af7651916cd43dd8448eb211c80319c", "params": {"lr": "0.1"}},
            "error": None,
            "cut": False,
        }
    ),
)
def one_event(
    position: Annotated[str, Path(description="As in `runs:0:7` or `registry:0:17`.")],
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
) -> Response:
    """An event as it was written: fields, writer's schema, size. Secrets are left out.

    Long values are cut, and `cut` says so. `error` says why an event had no effect. 404 if there is
    no such event, or the caller may not read it.
    """
    try:
        at = Position.parse(position)
    except ValueError as wrong:
        raise InvalidRequest(str(wrong)) from None
    missing = NotFound(f"there is no event at {at}")
    try:
        with node.read(log_end=log_end) as cursor:
            end = node.fold.positions()
            if at.offset >= end.get(at.within, 0):
                raise missing
            record = record_at(node.log, at.within, at.offset, end)
            kind, event, error = _decoded(node, record.payload)
            if at.stream == REGISTRY:
                # The trail has the request without secrets.
                found = trail(cursor, {"offset": at.offset}, 1, None, caller.rights)
                if not found:
                    raise missing
                event = found[0]["request"] or {}
            elif not _may_read(cursor, caller.rights, event):
                raise missing
            dead = cursor.execute(
                "SELECT error FROM dead_letters "
                'WHERE stream = ? AND "partition" = ? AND log_offset = ?',
                [at.stream, at.partition, at.offset],
            ).fetchone()
    except LogError as failed:
        raise Unavailable(str(failed)) from None
    shown, is_cut = _cut(event)
    return answer(
        {
            "position": str(at),
            "appended_at": time_of(record.appended_at_ms),
            "type": kind,
            "bytes": len(record.payload),
            "schema": _schema(node, record.payload[2:10]),
            "event": shown or None,
            "error": error if dead is None else dead[0],
            "cut": is_cut,
        }
    )


def _decoded(node: Node, payload: bytes) -> tuple[str | None, dict[str, Any], str | None]:
    """Return the type and the fields of an event, or why it cannot be decoded."""
    try:
        type, event = node.codec.decode(payload)
    except SchemaError as error:
        return None, {}, str(error)
    return type, event, None


def _may_read(cursor: duckdb.DuckDBPyConnection, rights: Rights, event: dict[str, Any]) -> bool:
    """Return whether a caller may read an event of a run or of a logged model."""
    for view, id in (("runs", "run_id"), ("logged_models", "model_id")):
        if event.get(id) is not None:
            readable = rights.readable_experiments("experiment_id")
            query = f"SELECT 1 FROM {view} WHERE {id} = ? AND {readable.sql}"
            return bool(cursor.execute(query, [event[id], *readable.params]).fetchone())
    return rights.is_admin


def _schema(node: Node, fingerprint: bytes) -> dict[str, Any] | None:
    """Return the schema with which an event was written, for display."""
    text = writer_schemas().get(fingerprint) or node.log.schemas().get(fingerprint)
    if text is None:
        return None
    schema = json.loads(text)
    return {
        "fingerprint": fingerprint.hex(),
        "doc": schema.get("doc"),
        "fields": [
            {"name": f["name"], "type": _type(f["type"]), "doc": f.get("doc")}
            for f in schema["fields"]
        ],
    }


def _type(type: Any) -> str:
    if isinstance(type, list):
        return " or ".join(_type(one) for one in type)
    if not isinstance(type, dict):
        return str(type).rpartition(".")[2]
    kind = type["type"]
    if kind in ("array", "map"):
        return f"{kind} of {_type(type['items' if kind == 'array' else 'values'])}"
    return str(type.get("name", kind)).rpartition(".")[2]


def _cut(value: Any) -> tuple[Any, bool]:
    """Return a value for JSON, without the rest of long texts and lists, and whether it was cut."""
    if isinstance(value, dict):
        parts = [(key, _cut(one)) for key, one in list(value.items())[:_ITEMS_MAX]]
        longer = len(value) > _ITEMS_MAX
        return {key: one for key, (one, _) in parts}, longer or any(cut for _, (_, cut) in parts)
    if isinstance(value, list):
        found = [_cut(one) for one in value[:_ITEMS_MAX]]
        return [one for one, _ in found], len(value) > _ITEMS_MAX or any(cut for _, cut in found)
    shown = plain(value)
    if isinstance(shown, str) and len(shown) > _TEXT_MAX:
        return f"{shown[:_TEXT_MAX]}…", True
    return shown, False
