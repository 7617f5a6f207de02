"""Deliveries of webhooks: list, retry, replay.

Webhooks themselves are created, changed and deleted by MLflow's calls, under
`/api/2.0/mlflow/webhooks`.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from modeltrail.api.answers import page, parse_time, rows
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.native.parameters import (
    Limit,
    LogEnd,
    NodeHere,
    PageToken,
    answer,
    json_example,
)
from modeltrail.api.node import Node
from modeltrail.api.pages import Pages
from modeltrail.api.routing import PooledRoute
from modeltrail.consumers.webhooks.deliverer import Deliverer
from modeltrail.eventlog import REGISTRY, Position

_DELIVERIES = Pages("deliveries")
router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"], route_class=PooledRoute)

_WebhookId = Annotated[str | None, Query(max_length=100, description="Only of this webhook.")]
_DELIVERY = {
    "delivery_id": "6f1c9a52-5f0e-5d7c-9a9b-0c1d2e3f4a5b",
    "webhook_id": "0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
    "position": "registry:0:17",
    "event": "model_version_alias.created",
    "state": "dead",
    "tries": 1,
    "status": 404,
    "error": "the endpoint answered 404, an error",
    "next_try_ms": None,
    "updated_ms": 1772366400000,
}


_Id = Annotated[str | None, Field(max_length=100)]


class Retry(BaseModel):
    """Which dead letters to retry."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {}})

    webhook: _Id = Field(None, description="Only of this one.")
    delivery: _Id = Field(None, description="Only this one.")


class Replay(BaseModel):
    """What to deliver again."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"from": "registry:0:17"}}
    )

    start: str = Field(
        alias="from",
        max_length=100,
        description="A position as in `registry:0:17`, or a time as in `2026-03-01T12:00:00Z`: "
        "the first event that the log took then or later.",
    )
    webhook: _Id = Field(None, description="Only to this one.")


def _deliverer(node: Node) -> Deliverer:
    if node.webhooks is None or node.webhooks.deliverer is None:
        raise NotFound(
            "this server does not deliver webhooks; ask the one that was started without "
            "--no-webhooks",
            code="FEATURE_DISABLED",
        )
    return node.webhooks.deliverer


@router.get(
    "",
    summary="Webhooks, and how many deliveries each has pending and dead",
    responses=json_example(
        {
            "webhooks": [
                {
                    "webhook_id": _DELIVERY["webhook_id"],
                    "name": "chat",
                    "endpoint": "https://hooks.example.org/(not shown)",
                    "description": None,
                    "events": ["model_version_alias.created"],
                    "status": "ACTIVE",
                    "created_at": "2026-03-01T12:00:00.000000Z",
                    "updated_at": "2026-03-01T12:00:00.000000Z",
                    "created_by": "ada",
                    "pending": 0,
                    "dead": 1,
                }
            ],
            "delivery": {
                "position": "registry:0:18",
                "lag": 0,
                "pending": 0,
                "dead": 1,
                "replays": 0,
                "error": None,
            },
        }
    ),
)
def webhooks(node: NodeHere, log_end: LogEnd) -> Response:
    """Without their secrets and the paths of their URLs.

    `delivery` is null on a server that does not deliver.
    """
    with node.read(log_end=log_end) as cursor:
        found = rows(cursor, "FROM webhooks ORDER BY created_at, webhook_id")
    delivery = delivery_status(node)
    if delivery is not None:
        counts = _deliverer(node).counts()
        for webhook in found:
            of_this = counts.get(webhook["webhook_id"], {})
            webhook |= {state: of_this.get(state, 0) for state in ("pending", "dead")}
    return answer({"webhooks": found, "delivery": delivery})


def delivery_status(node: Node) -> dict[str, Any] | None:
    """The state of the delivery, or None if this server does not deliver."""
    if node.webhooks is None or node.webhooks.deliverer is None:
        return None
    status = node.webhooks.deliverer.status()
    return {**status._asdict(), "position": str(Position(REGISTRY, 0, status.position))}


@router.get(
    "/deliveries",
    summary="Deliveries, newest first",
    responses=json_example({"deliveries": [_DELIVERY], "next_page_token": None}),
)
def deliveries(
    node: NodeHere,
    webhook: _WebhookId = None,
    state: Annotated[
        str | None, Query(pattern="^(pending|delivered|dead)$", description="Only in this state.")
    ] = None,
    limit: Limit = 100,
    page_token: PageToken = None,
) -> Response:
    """All pending and dead deliveries, and the last 10,000 completed ones."""
    before = None
    if (last := _DELIVERIES.last(page_token, int)) is not None:
        before = last[0]
    found = _deliverer(node).deliveries(webhook, state, before, limit + 1)
    shown = page(found, limit, _DELIVERIES, ["seq"])
    shown["deliveries"] = [_shown(delivery) for delivery in shown["deliveries"]]
    return answer(shown)


def _shown(delivery: dict[str, Any]) -> dict[str, Any]:
    pending = delivery["state"] == "pending"
    delivery |= {
        "position": str(Position(REGISTRY, 0, delivery["log_offset"])),
        "next_try_ms": delivery["next_try_ms"] if pending else None,
    }
    return {name: delivery[name] for name in _DELIVERY}


@router.post(
    "/retry",
    summary="Try dead letters again",
    responses=json_example({"retried": 3}),
)
def retry(node: NodeHere, body: Retry) -> Response:
    """In the original order."""
    return answer({"retried": _deliverer(node).retry(body.webhook, body.delivery)})


@router.post(
    "/replay",
    summary="Deliver again from a position or time on",
    responses=json_example({"replay": 1, "from": "registry:0:17", "to": "registry:0:42"}),
)
def replay(node: NodeHere, body: Replay) -> Response:
    """Each webhook gets the events that it was subscribed to while active.

    The delivery ids stay the same.
    """
    deliverer, start, webhook = _deliverer(node), body.start, body.webhook
    with node.read() as cursor:
        if (
            webhook is not None
            and not cursor.execute(
                "SELECT 1 FROM webhooks WHERE webhook_id = ?", [webhook]
            ).fetchone()
        ):
            raise NotFound(f"Webhook with ID {webhook} not found.")
        if start.startswith(f"{REGISTRY}:"):
            try:
                first = Position.parse(start).offset
            except ValueError as error:
                raise InvalidRequest(f"from: {error}") from None
        else:
            row = cursor.execute(
                "SELECT min(log_offset) FROM audit WHERE appended_at >= ?",
                [parse_time(start, "from")],
            ).fetchone()
            first = row[0] if row is not None and row[0] is not None else 2**62
    id, until = deliverer.replay(min(first, deliverer.status().position), webhook)
    return answer(
        {
            "replay": id,
            "from": str(Position(REGISTRY, 0, min(first, until))),
            "to": str(Position(REGISTRY, 0, until)),
        }
    )
