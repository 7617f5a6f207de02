"""Webhooks: MLflow's calls, and stage transitions.

MLflow has no event for stage transitions, and its clients refuse to read a webhook with an unknown
event. So there is a separate field, ``stage_transitions``, which they neither send nor see.
"""

from __future__ import annotations

import json
from typing import Any

import duckdb

from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.api.registry import webhooks as registry_webhooks
from modeltrail.consumers.projections import webhooks as definitions
from modeltrail.consumers.reading import sql
from modeltrail.consumers.webhooks.deliverer import definition

endpoints = Endpoints()

_ENTITIES = (
    "REGISTERED_MODEL",
    "MODEL_VERSION",
    "MODEL_VERSION_TAG",
    "MODEL_VERSION_ALIAS",
    "PROMPT",
    "PROMPT_VERSION",
    "PROMPT_TAG",
    "PROMPT_VERSION_TAG",
    "PROMPT_ALIAS",
    "BUDGET_POLICY",
)
_EVENT = wire.message(
    entity=wire.enum(*_ENTITIES),
    action=wire.enum("CREATED", "UPDATED", "DELETED", "SET", "EXCEEDED"),
)

_EVENTS = wire.many(_EVENT)
_STATUS = wire.enum(*definitions.STATUSES)
_SELECT = sql("registry.webhooks")


def _event_name(event: dict[str, str]) -> str:
    """Return an event such as ``model_version.created``.

    Raises ``InvalidRequest`` for unknown ones.
    """
    entity, action = (event.get(part, "").lower() for part in ("entity", "action"))
    name = f"{entity}.{action}"
    if name not in definitions.EVENTS:
        valid = sorted(
            e.partition(".")[2] for e in definitions.EVENTS if e.startswith(f"{entity}.")
        )
        raise InvalidRequest(
            f"Invalid action '{action}' for entity '{entity}'. Valid actions are: {valid}"
        )
    return name


def _message(row: tuple[Any, ...]) -> dict[str, Any]:
    webhook_id, name, url, description, events, status, created_at_ms, updated_at_ms = row
    chosen = [e for e in json.loads(events) if e != definitions.STAGE_TRANSITIONS]
    parts = [event.upper().partition(".") for event in chosen]
    return wire.set_fields(
        webhook_id=webhook_id,
        name=name,
        description=description or None,
        url=url,
        events=[{"entity": entity, "action": action} for entity, _, action in parts],
        status=status,
        creation_timestamp=created_at_ms,
        last_updated_timestamp=updated_at_ms,
        stage_transitions=True if definitions.STAGE_TRANSITIONS in events else None,
    )


def _one(cursor: duckdb.DuckDBPyConnection, webhook_id: str) -> dict[str, Any]:
    row = cursor.execute(f"{_SELECT} AND webhook_id = ?", [webhook_id]).fetchone()
    if row is None:
        raise NotFound(f"Webhook with ID {webhook_id} not found.")
    return _message(row)


def _given(call: Call) -> dict[str, Any]:
    """Return the fields of an event from a call. Fields that it does not set are None."""
    return {
        "name": call.get("name") or None,
        "url": call.get("url") or None,
        "description": call.get("description"),
        "events": [_event_name(event) for event in call.get("events", [])] or None,
        "stage_transitions": call.get("stage_transitions"),
        "secret": call.get("secret"),
        "status": call.get("status"),
    }


@endpoints.declare(
    "POST webhooks name url events description? secret? status? stage_transitions?",
    events=_EVENTS,
    status=_STATUS,
)
def create_webhook(call: Call) -> dict[str, Any]:
    """Create a webhook. Its secret is never shown."""
    fields = {
        **_given(call),
        "stage_transitions": call.get("stage_transitions", False),
        "status": call.get("status", "ACTIVE"),
        "events": [_event_name(event) for event in call.get("events", [])],
    }
    verdict = registry_webhooks.create(call.node, call.caller, **fields)
    with call.node.read() as cursor:
        return {"webhook": _one(cursor, verdict.id)}


@endpoints.declare("GET webhooks max_results? page_token?")
def list_webhooks(call: Call) -> dict[str, Any]:
    """Return webhooks, newest first."""
    limit = call.get("max_results") or 100
    if not 1 <= limit <= 1000:
        raise InvalidRequest("max_results must be between 1 and 1000.")
    pages = call.pages("webhooks")
    offset = pages.offset(call.get("page_token"))
    with call.node.read() as cursor:
        found = cursor.execute(
            f"{_SELECT} ORDER BY created_at_ms DESC, webhook_id DESC "
            f"LIMIT {limit + 1} OFFSET {offset}"
        ).fetchall()
    return wire.set_fields(
        webhooks=[_message(row) for row in found[:limit]] or None,
        next_page_token=pages.token(offset=offset + limit) if len(found) > limit else None,
    )


@endpoints.declare("GET webhooks/{webhook_id}")
def get_webhook(call: Call) -> dict[str, Any]:
    """Return a webhook, without its secret."""
    with call.node.read() as cursor:
        return {"webhook": _one(cursor, call["webhook_id"])}


@endpoints.declare(
    "PATCH webhooks/{webhook_id} name? url? events? description? secret? status? "
    "stage_transitions?",
    events=_EVENTS,
    status=_STATUS,
)
def update_webhook(call: Call) -> dict[str, Any]:
    """Change the given fields; all others stay, including the status."""
    with call.node.read() as cursor:
        _one(cursor, call["webhook_id"])
    registry_webhooks.update(call.node, call.caller, call["webhook_id"], **_given(call))
    with call.node.read() as cursor:
        return {"webhook": _one(cursor, call["webhook_id"])}


@endpoints.declare("DELETE webhooks/{webhook_id}")
def delete_webhook(call: Call) -> dict[str, Any]:
    """Delete a webhook and its pending deliveries."""
    call.decide("DeleteWebhook", {"webhook_id": call["webhook_id"]})
    return {}


@endpoints.declare("POST webhooks/{webhook_id}/test event?", event=_EVENT)
def test_webhook(call: Call) -> dict[str, Any]:
    """Send an example of an event, by default of the webhook's first."""
    tools = registry_webhooks.tools_of(call.node)
    with call.node.read() as cursor:
        shown = _one(cursor, call["webhook_id"])
        webhook = definition(cursor, call["webhook_id"])
    assert webhook is not None
    event = _event_name(call.get("event") or shown["events"][0])
    result = tools.test(webhook, event)
    return {
        "result": wire.set_fields(
            success=result.success,
            response_status=result.status,
            response_body=result.body,
            error_message=result.error,
        )
    }
