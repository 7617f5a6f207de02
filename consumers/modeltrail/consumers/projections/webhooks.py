"""Webhooks, as a part of the registry: who is told what, and since when.

Which webhook an event is for is read from the intervals of its status and its events, at the
event's own offset. What only the sender may know is kept in a table of its own, which no query
reaches: the secrets that sign deliveries, encrypted as they came, and the URLs, since with many
services whoever knows the path may post.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pyarrow as pa

from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.registry_rules import Rejected

if TYPE_CHECKING:
    from modeltrail.consumers.projections.registry import Entity, RegistryProjection

Event = Mapping[str, Any]

EVENTS: Final = (
    "registered_model.created",
    "model_version.created",
    "model_version_tag.set",
    "model_version_tag.deleted",
    "model_version_alias.created",
    "model_version_alias.deleted",
    "prompt.created",
    "prompt_version.created",
    "prompt_tag.set",
    "prompt_tag.deleted",
    "prompt_version_tag.set",
    "prompt_version_tag.deleted",
    "prompt_alias.created",
    "prompt_alias.deleted",
    "budget_policy.exceeded",
)
"""The events that MLflow's clients know. The last is of its gateway, and never happens here."""

STAGE_TRANSITIONS: Final = "model_version_stage.transitioned"
"""An event that MLflow's clients do not know, and so must not be shown."""

STATUSES: Final = ("ACTIVE", "DISABLED")
URL_CHARACTERS_MAX = 2_000
SECRET_CHARACTERS_MAX = 10_000
"""Longest encrypted secret."""

_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)

TABLES: Final = {
    "webhook": (
        "fold.webhooks",
        ("webhook_id",),
        {
            "webhook_id": pa.string(),
            "name": pa.string(),
            "endpoint": pa.string(),
            "description": pa.string(),
            "events": pa.string(),
            "status": pa.string(),
            "created_at_ms": pa.int64(),
            "updated_at_ms": pa.int64(),
            "created_by": pa.string(),
            "deleted": pa.bool_(),
        },
        ("name", "endpoint", "description", "events", "status", "updated_at_ms", "deleted"),
    ),
    "webhook_secret": (
        "fold.webhook_secrets",
        ("webhook_id",),
        {"webhook_id": pa.string(), "url": pa.string(), "secret": pa.string()},
        ("url", "secret"),
    ),
}
"""The tables, as ``RegistryProjection`` writes them: keys, columns, and those that change."""

LOAD: Final = (
    "FROM fold.webhooks WHERE NOT deleted",
    "FROM fold.webhook_secrets WHERE url IS NOT NULL",
)
"""Queries for what ``Webhooks.load`` takes, in its order."""


class Webhooks:
    """Decides the events about webhooks."""

    def __init__(self, registry: RegistryProjection) -> None:
        """Work for a projection, which writes the effects."""
        self._registry = registry
        self._webhooks: dict[str, Entity] = {}
        self._secrets: dict[str, dict[str, Any]] = {}

    def load(self, tables: Iterator[Iterable[dict[str, Any]]]) -> None:
        """Take the state from the rows that the queries of ``LOAD`` give."""
        from modeltrail.consumers.projections.registry import Entity

        self._webhooks = {row["webhook_id"]: Entity(row) for row in next(tables)}
        self._secrets = {row["webhook_id"]: row for row in next(tables)}

    def entity(self, entity_id: str) -> Entity:
        """A webhook that is loaded."""
        return self._webhooks[entity_id]

    def create(self, event: Event) -> None:
        """Create a webhook, under the event's own id."""
        check_name(event["name"])
        check_url(event["url"])
        events = _events(event["events"], event["stage_transitions"])
        rules.description(event["description"])
        _check_status(event["status"])
        _check_secret(event["secret"])
        webhook_id = _uuid_text(self._registry.request["event_id"])
        webhook = self._registry.new(
            "webhook",
            {
                "webhook_id": webhook_id,
                "name": event["name"],
                "endpoint": endpoint(event["url"]),
                "description": event["description"] or None,
                "events": events,
                "status": event["status"],
            },
        )
        self._webhooks[webhook_id] = webhook
        row = {"webhook_id": webhook_id, "url": event["url"], "secret": event["secret"] or None}
        self._secrets[webhook_id] = row
        self._registry.add("webhook_secret", row)
        self._note(webhook)

    def update(self, event: Event) -> None:
        """Change what the event names; what it does not name stays."""
        webhook = self._webhook(event)
        given = {
            name: event[name]
            for name in ("name", "description", "status")
            if event[name] is not None
        }
        if "name" in given:
            check_name(given["name"])
        if event["url"] is not None:
            check_url(event["url"])
            given["endpoint"] = endpoint(event["url"])
        if "status" in given:
            _check_status(given["status"])
        rules.description(event["description"])
        _check_secret(event["secret"])
        old = json.loads(webhook.row["events"])
        chosen = [e for e in old if e != STAGE_TRANSITIONS]
        stages = event["stage_transitions"]
        given["events"] = _events(
            chosen if event["events"] is None else event["events"],
            STAGE_TRANSITIONS in old if stages is None else stages,
        )
        self._registry.update("webhook", webhook, **given)
        hidden = self._secrets[webhook.row["webhook_id"]]
        if event["url"] is not None:
            hidden["url"] = event["url"]
        if event["secret"] is not None:
            hidden["secret"] = event["secret"] or None
        self._registry.change("webhook_secret", hidden)
        self._note(webhook)
        self._registry.touch("webhook", webhook)

    def delete(self, event: Event) -> None:
        """Delete a webhook and its secret."""
        webhook = self._webhook(event)
        webhook_id = webhook.row["webhook_id"]
        self._registry.end("webhook", webhook)
        hidden = self._secrets.pop(webhook_id)
        hidden.update(url=None, secret=None)
        self._registry.change("webhook_secret", hidden)
        del self._webhooks[webhook_id]

    def _webhook(self, event: Event) -> Entity:
        webhook = self._webhooks.get(event["webhook_id"])
        if webhook is None:
            raise Rejected(rules.MISSING, f"Webhook with ID {event['webhook_id']} not found.")
        return webhook

    def _note(self, webhook: Entity) -> None:
        """Keep as intervals what decides about deliveries, and where they go."""
        row = webhook.row
        for name in ("name", "endpoint", "events", "status"):
            self._registry.put("webhook", webhook, name, None, row[name])


DECISIONS: Final[dict[str, Callable[[Webhooks, Event], None]]] = {
    "CreateWebhook": Webhooks.create,
    "DeleteWebhook": Webhooks.delete,
    "UpdateWebhook": Webhooks.update,
}


def endpoint(url: str) -> str:
    """A URL as everybody may see it: without its path and query."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
        host = parts.hostname or ""
    except ValueError:
        return "(not shown)"
    if ":" in host:
        host = f"[{host}]"
    rest = "(not shown)" if parts.path not in ("", "/") or parts.query else ""
    return f"{parts.scheme}://{host}{port}/{rest}"


def check_name(name: str) -> None:
    """Check a webhook's name; the rule and the wording are MLflow's."""
    if not _NAME.fullmatch(name):
        raise Rejected(
            rules.INVALID,
            f"Webhook name {name!r} is invalid. It must start and end with a letter or digit, "
            "be less than 63 characters long, and contain only letters, digits, dots (.), "
            "underscores (_), and hyphens (-).",
        )


def check_url(url: str) -> None:
    """Check what holds of every URL; which addresses are allowed is for each server to say."""
    if not url.strip():
        raise Rejected(
            rules.INVALID, f"Webhook URL cannot be empty or just whitespace: {url[:100]!r}"
        )
    if len(url) > URL_CHARACTERS_MAX:
        raise Rejected(
            rules.INVALID, f"'url' exceeds the maximum length of {URL_CHARACTERS_MAX} characters"
        )
    if not url.isprintable() or " " in url or "\\" in url:
        raise Rejected(rules.INVALID, "Invalid webhook URL: it has characters that no URL has")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Rejected(rules.INVALID, f"Invalid webhook URL: {error!r}") from None
    if parts.scheme not in ("http", "https"):
        raise Rejected(
            rules.INVALID,
            f"Invalid webhook URL scheme: {parts.scheme!r}. Allowed schemes are: https.",
        )
    if not host:
        raise Rejected(rules.INVALID, "Webhook URL must include a hostname")
    if "@" in parts.netloc:
        raise Rejected(
            rules.INVALID, "Webhook URL must not hold a user or a password; use the secret"
        )


def _events(events: Sequence[str], stage_transitions: bool) -> str:
    """The events to deliver as JSON, each once; the one that MLflow does not know is the last."""
    unknown = [event for event in events if event not in EVENTS]
    if unknown:
        raise Rejected(rules.INVALID, f"Unknown webhook event: {unknown[0]!r}")
    if not events:
        raise Rejected(
            rules.INVALID, "Webhook events must be a non-empty list of WebhookEvent objects: []."
        )
    return json.dumps([*dict.fromkeys(events), *([STAGE_TRANSITIONS] if stage_transitions else [])])


def _check_status(status: str) -> None:
    if status not in STATUSES:
        raise Rejected(rules.INVALID, f"Unknown webhook status: {status!r}")


def _check_secret(secret: str | None) -> None:
    if secret is not None and len(secret) > SECRET_CHARACTERS_MAX:
        raise Rejected(rules.INVALID, "The webhook's secret is too long.")


def _uuid_text(value: bytes) -> str:
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
