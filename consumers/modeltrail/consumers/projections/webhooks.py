"""The webhooks of the registry: which events each one gets, and since when.

The webhooks for an event follow from the intervals of their status and events, at the event's own
offset. Secrets of the sender are stored in a separate table, which no query can read: the keys that
sign deliveries, as encrypted by the server, and the URLs, because with many services the path is a
password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import duckdb

from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.ledger import Decisions, Entity, Ledger, Row
from modeltrail.consumers.projections.registry_rules import Rejected
from modeltrail.consumers.projections.requests import Event, endpoint, uuid_text

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
"""The events that MLflow's clients know.

The last one belongs to its gateway, and never happens here.
"""

STAGE_TRANSITIONS: Final = "model_version_stage.transitioned"
"""An event that MLflow's clients do not know, and that is therefore not shown to them."""

STATUSES: Final = ("ACTIVE", "DISABLED")
URL_CHARACTERS_MAX = 2_000
SECRET_CHARACTERS_MAX = 10_000
"""Maximum length of an encrypted secret."""

_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)


@dataclass(slots=True, kw_only=True, eq=False)
class Webhook(Entity):
    """A row of ``fold.webhooks``."""

    table = "fold.webhooks"
    keys = ("webhook_id",)
    kind = "webhook"
    webhook_id: Final[str]
    name: str
    endpoint: str
    description: str | None
    events: str
    status: str
    created_at_ms: Final[int]
    created_by: Final[str]


@dataclass(slots=True, kw_only=True, eq=False)
class WebhookSecret(Row):
    """A row of ``fold.webhook_secrets``."""

    table = "fold.webhook_secrets"
    keys = ("webhook_id",)
    in_use = "url IS NOT NULL"
    webhook_id: Final[str]
    url: str | None
    secret: str | None


class Webhooks:
    """Decides the events about webhooks."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._webhooks: dict[str, Webhook] = {}
        self._secrets: dict[str, WebhookSecret] = {}

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the state from the tables."""
        self._webhooks = {one.webhook_id: one for one in self._ledger.load(con, Webhook)}
        self._secrets = {one.webhook_id: one for one in self._ledger.load(con, WebhookSecret)}

    def decisions(self) -> Decisions:
        """Return the function that decides each type of event, by entity."""
        return {
            "webhook": {
                "CreateWebhook": self._create,
                "DeleteWebhook": self._delete,
                "UpdateWebhook": self._update,
            }
        }

    def _create(self, event: Event) -> None:
        check_name(event["name"])
        check_url(event["url"])
        events = _events(event["events"], event["stage_transitions"])
        rules.description(event["description"])
        _check_status(event["status"])
        _check_secret(event["secret"])
        webhook_id = uuid_text(self._ledger.request.event_id)
        webhook = self._webhooks[webhook_id] = self._ledger.begin(
            Webhook(
                webhook_id=webhook_id,
                name=event["name"],
                endpoint=endpoint(event["url"]),
                description=event["description"] or None,
                events=events,
                status=event["status"],
                **self._ledger.created(),
            )
        )
        hidden = self._secrets[webhook_id] = WebhookSecret(
            webhook_id=webhook_id, url=event["url"], secret=event["secret"] or None
        )
        self._ledger.add(hidden)
        self._note(webhook)

    def _update(self, event: Event) -> None:
        """Change the fields in the event; other fields stay."""
        webhook = self._webhook(event)
        if event["name"] is not None:
            check_name(event["name"])
        if event["url"] is not None:
            check_url(event["url"])
        if event["status"] is not None:
            _check_status(event["status"])
        rules.description(event["description"])
        _check_secret(event["secret"])
        old = json.loads(webhook.events)
        chosen = [e for e in old if e != STAGE_TRANSITIONS]
        stages = event["stage_transitions"]
        webhook.events = _events(
            chosen if event["events"] is None else event["events"],
            STAGE_TRANSITIONS in old if stages is None else stages,
        )
        if event["name"] is not None:
            webhook.name = event["name"]
        if event["description"] is not None:
            webhook.description = event["description"]
        if event["status"] is not None:
            webhook.status = event["status"]
        hidden = self._secrets[webhook.webhook_id]
        if event["url"] is not None:
            webhook.endpoint = endpoint(event["url"])
            hidden.url = event["url"]
        if event["secret"] is not None:
            hidden.secret = event["secret"] or None
        self._ledger.change(hidden)
        self._note(webhook)
        self._ledger.touch(webhook)

    def _delete(self, event: Event) -> None:
        webhook = self._webhook(event)
        self._ledger.end(webhook)
        hidden = self._secrets.pop(webhook.webhook_id)
        hidden.url = hidden.secret = None
        self._ledger.change(hidden)
        del self._webhooks[webhook.webhook_id]

    def _webhook(self, event: Event) -> Webhook:
        webhook = self._webhooks.get(event["webhook_id"])
        if webhook is None:
            raise Rejected(rules.MISSING, f"Webhook with ID {event['webhook_id']} not found.")
        return webhook

    def _note(self, webhook: Webhook) -> None:
        """Keep intervals of what decides about deliveries, and of the endpoint."""
        self._ledger.put(webhook, "name", None, webhook.name)
        self._ledger.put(webhook, "endpoint", None, webhook.endpoint)
        self._ledger.put(webhook, "events", None, webhook.events)
        self._ledger.put(webhook, "status", None, webhook.status)


def check_name(name: str) -> None:
    """Check a webhook's name. Rule and wording are MLflow's."""
    if not _NAME.fullmatch(name):
        raise Rejected(
            rules.INVALID,
            f"Webhook name {name!r} is invalid. It must start and end with a letter or digit, "
            "be less than 63 characters long, and contain only letters, digits, dots (.), "
            "underscores (_), and hyphens (-).",
        )


def check_url(url: str) -> None:
    """Check what is true for every URL. Each server decides which addresses are allowed."""
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
    """Return the events to deliver as JSON, each once. The one unknown to MLflow is the last."""
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
