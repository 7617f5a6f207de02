"""The events that accepted requests cause, and the webhooks that receive them.

Everything is read from the fold by offset, so it is the same at a retry, at a replay months later,
and on another server.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import duckdb

from modeltrail.consumers.projections.webhooks import STAGE_TRANSITIONS
from modeltrail.schemas import uuid_from_cause

_PROMPT = "mlflow.prompt.is_prompt"
_PROMPT_TEXT = "mlflow.prompt.text"
_PROMPT_TYPE = "_mlflow_prompt_type"

EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "registered_model.created": {
        "name": "example_model",
        "tags": {"example_key": "example_value"},
        "description": "An example registered model",
    },
    "model_version.created": {
        "name": "example_model",
        "version": "1",
        "source": "models:/123",
        "run_id": "abcd1234abcd5678",
        "tags": {"example_key": "example_value"},
        "description": "An example model version",
    },
    "model_version_tag.set": {
        "name": "example_model",
        "version": "1",
        "key": "example_key",
        "value": "example_value",
    },
    "model_version_tag.deleted": {"name": "example_model", "version": "1", "key": "example_key"},
    "model_version_alias.created": {
        "name": "example_model",
        "alias": "example_alias",
        "version": "1",
    },
    "model_version_alias.deleted": {"name": "example_model", "alias": "example_alias"},
    "prompt.created": {
        "name": "example_prompt",
        "tags": {"example_key": "example_value"},
        "description": "An example prompt",
    },
    "prompt_version.created": {
        "name": "example_prompt",
        "version": "1",
        "template": "Hello {{name}}!",
        "tags": {"example_key": "example_value"},
        "description": "An example prompt version",
    },
    "prompt_tag.set": {"name": "example_prompt", "key": "example_key", "value": "example_value"},
    "prompt_tag.deleted": {"name": "example_prompt", "key": "example_key"},
    "prompt_version_tag.set": {
        "name": "example_prompt",
        "version": "1",
        "key": "example_key",
        "value": "example_value",
    },
    "prompt_version_tag.deleted": {"name": "example_prompt", "version": "1", "key": "example_key"},
    "prompt_alias.created": {"name": "example_prompt", "alias": "example_alias", "version": "1"},
    "prompt_alias.deleted": {"name": "example_prompt", "alias": "example_alias"},
    "budget_policy.exceeded": {
        "budget_policy_id": "bp-abc123",
        "budget_unit": "USD",
        "budget_amount": 100.0,
        "current_spend": 105.50,
        "duration_unit": "MONTHS",
        "duration_value": 1,
        "target_scope": "ENDPOINT",
        "workspace": "default",
        "target_value": "ep-abc123",
        "window_start": 1704067200000,
    },
    STAGE_TRANSITIONS: {
        "name": "example_model",
        "version": "1",
        "from_stage": "Staging",
        "to_stage": "Production",
    },
}
"""Bodies for testing a webhook; MLflow's own examples."""

_REQUESTS = f"""
    SELECT
        q."offset", q.appended_at_ms, q.event_id, q.type, q.model, q.model_key, q.version,
        q.request,
        EXISTS (
            FROM fold.history h
            WHERE h.entity = 'model' AND h.entity_id = q.model_key AND h.attribute = 'tag'
                AND h.key = '{_PROMPT}' AND lower(h.value) = 'true'
                AND fold.holds(h.from_offset, h.to_offset, q."offset")
        ) AS is_prompt
    FROM fold.requests q
    WHERE q."offset" >= $first AND q."offset" < $until AND q.accepted
        AND list_contains($types, q.type)
    ORDER BY q."offset" LIMIT $limit
"""
_MOVES = """
    SELECT n.version, o.value AS from_stage, n.value AS to_stage
    FROM fold.history n JOIN fold.history o
        ON o.entity = n.entity AND o.entity_id = n.entity_id AND o.version = n.version
        AND o.attribute = n.attribute AND o.to_offset = n.from_offset
    WHERE n.entity = 'model_version' AND n.attribute = 'stage' AND n.entity_id = $model_key
        AND n.from_offset = $offset
    ORDER BY n.version
"""
_SUBSCRIPTIONS = """
    SELECT entity_id, attribute, value, from_offset, to_offset
    FROM fold.history
    WHERE entity = 'webhook' AND attribute IN ('status', 'events')
        AND from_offset < $until AND (to_offset IS NULL OR to_offset > $first)
    ORDER BY from_offset
"""


class Fired(NamedTuple):
    """An event for webhooks."""

    offset: int
    """Registry offset of the request that caused it."""
    n: int
    """Its number among the events of that request, from 0."""
    event: str
    """For example ``model_version.created``."""
    event_id: str
    appended_at_ms: int
    data: Mapping[str, Any]

    def delivery_id(self, webhook_id: str) -> str:
        """Return the id of its delivery to a webhook, the same for all attempts and servers."""
        cause = uuid_from_cause("webhook delivery", webhook_id, self.event_id, str(self.n))
        return str(UUID(bytes=cause))

    def body(self) -> bytes:
        """Return the body to post. Its time is when the log took the request."""
        moment = datetime.fromtimestamp(self.appended_at_ms / 1000, UTC)
        return body_of(self.event, moment, self.data)


class Page(NamedTuple):
    """Events of a range of the registry, in order, and where the next range begins."""

    fired: list[Fired]
    next_offset: int


def body_of(event: str, moment: datetime, data: Mapping[str, Any]) -> bytes:
    """Return MLflow's JSON of an event."""
    entity, _, action = event.partition(".")
    timestamp = moment.isoformat(timespec="milliseconds")
    content = {"entity": entity, "action": action, "timestamp": timestamp, "data": data}
    return json.dumps(content).encode()


def fired(cursor: duckdb.DuckDBPyConnection, first: int, until: int, limit: int) -> Page:
    """Return the events that the registry caused in a range of offsets.

    Args:
        cursor: A cursor of the fold, which has passed ``until``.
        first: The first offset.
        until: The offset after the last one.
        limit: Maximum number of requests to process.
    """
    if cursor.execute("SELECT 1 FROM fold.webhooks LIMIT 1").fetchone() is None:
        return Page([], until)  # no webhook exists
    found = cursor.execute(
        _REQUESTS, {"first": first, "until": until, "types": list(_MAKERS), "limit": limit}
    ).fetchall()
    events: list[Fired] = []
    for offset, appended_at_ms, event_id, type, model, model_key, version, request, prompt in found:
        made = _MAKERS[type](
            _Request(cursor, offset, model, model_key, version, json.loads(request), prompt)
        )
        id_text = str(UUID(bytes=event_id))
        events += [
            Fired(offset, n, name, id_text, appended_at_ms, data)
            for n, (name, data) in enumerate(made)
        ]
    return Page(events, found[-1][0] + 1 if len(found) == limit else until)


def subscribers(
    cursor: duckdb.DuckDBPyConnection, events: Sequence[Fired]
) -> Iterator[tuple[Fired, list[str]]]:
    """Return each event with its webhooks: those active and subscribed at its offset."""
    if not events:
        return
    held: dict[str, dict[str, list[tuple[str, int, int | None]]]] = defaultdict(
        lambda: {"status": [], "events": []}
    )
    for webhook_id, attribute, value, from_offset, to_offset in cursor.execute(
        _SUBSCRIPTIONS, {"first": events[0].offset, "until": events[-1].offset + 1}
    ).fetchall():
        held[webhook_id][attribute].append((value, from_offset, to_offset))

    def at(intervals: list[tuple[str, int, int | None]], offset: int) -> str | None:
        return next((v for v, a, b in intervals if a <= offset and (b is None or b > offset)), None)

    for event in events:
        wanting = [
            webhook_id
            for webhook_id, attributes in held.items()
            if at(attributes["status"], event.offset) == "ACTIVE"
            and event.event in json.loads(at(attributes["events"], event.offset) or "[]")
        ]
        if wanting:
            yield event, wanting


# The events that each type of request causes


class _Request(NamedTuple):
    cursor: duckdb.DuckDBPyConnection
    offset: int
    model: str
    model_key: str
    version: int | None
    fields: Mapping[str, Any]
    is_prompt: bool
    """Whether the model is a prompt after the request."""


_Made = Iterator[tuple[str, dict[str, Any]]]


def _says_prompt(tags: Mapping[str, str]) -> bool:
    return tags.get(_PROMPT, "false").lower() == "true"


def _model_made(model: str, tags: Mapping[str, str], description: str | None) -> _Made:
    if _says_prompt(tags):
        shown = {k: v for k, v in tags.items() if k not in (_PROMPT, _PROMPT_TYPE)}
        yield "prompt.created", {"name": model, "tags": shown, "description": description or ""}
    else:
        yield (
            "registered_model.created",
            {"name": model, "tags": dict(tags), "description": description or ""},
        )


def _model_created(request: _Request) -> _Made:
    fields = request.fields
    yield from _model_made(request.model, fields["tags"], fields["description"])


def _version_created(request: _Request) -> _Made:
    fields, tags = request.fields, request.fields["tags"]
    if request.model_key == str(request.offset):  # it created the model as well
        yield from _model_made(request.model, {}, None)
    about = {"name": request.model, "version": str(request.version)}
    description = fields["description"] or None
    if _says_prompt(tags):
        hidden = (_PROMPT, _PROMPT_TYPE, _PROMPT_TEXT)
        shown = {k: v for k, v in tags.items() if k not in hidden}
        template = tags.get(_PROMPT_TEXT)
        yield (
            "prompt_version.created",
            {**about, "template": template, "tags": shown, "description": description},
        )
    else:
        yield (
            "model_version.created",
            {
                **about,
                "source": fields["source"],
                "run_id": fields["run_id"] or None,
                "tags": dict(tags),
                "description": description,
            },
        )
    for alias in fields["aliases"]:
        yield _alias_created(request, alias)


def _alias_created(request: _Request, alias: str) -> tuple[str, dict[str, Any]]:
    event = "prompt_alias.created" if request.is_prompt else "model_version_alias.created"
    return event, {"name": request.model, "alias": alias, "version": str(request.version)}


def _alias_set(request: _Request) -> _Made:
    yield _alias_created(request, request.fields["alias"])


def _alias_deleted(request: _Request) -> _Made:
    event = "prompt_alias.deleted" if request.is_prompt else "model_version_alias.deleted"
    yield event, {"name": request.model, "alias": request.fields["alias"]}


def _tags_changed(event: str, about: dict[str, Any], tags: Mapping[str, str | None]) -> _Made:
    for key, value in tags.items():
        if value is None:
            yield f"{event}.deleted", {**about, "key": key}
        else:
            yield f"{event}.set", {**about, "key": key, "value": value}


def _model_tags_changed(request: _Request) -> _Made:
    if request.is_prompt:  # MLflow has no such event for models
        yield from _tags_changed("prompt_tag", {"name": request.model}, request.fields["tags"])


def _version_tags_changed(request: _Request) -> _Made:
    event = "prompt_version_tag" if request.is_prompt else "model_version_tag"
    about = {"name": request.model, "version": str(request.version)}
    yield from _tags_changed(event, about, request.fields["tags"])


def _stage_transitioned(request: _Request) -> _Made:
    moves = request.cursor.execute(
        _MOVES, {"model_key": request.model_key, "offset": request.offset}
    ).fetchall()
    for version, from_stage, to_stage in moves:
        yield (
            STAGE_TRANSITIONS,
            {
                "name": request.model,
                "version": str(version),
                "from_stage": from_stage,
                "to_stage": to_stage,
            },
        )


_MAKERS = {
    "ChangeModelVersionTags": _version_tags_changed,
    "ChangeRegisteredModelTags": _model_tags_changed,
    "CreateModelVersion": _version_created,
    "CreateRegisteredModel": _model_created,
    "DeleteRegisteredModelAlias": _alias_deleted,
    "SetRegisteredModelAlias": _alias_set,
    "TransitionModelVersionStage": _stage_transitioned,
}
