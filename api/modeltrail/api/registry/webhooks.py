"""Create and change webhooks: checks, and encryption before the secret is in the log."""

from __future__ import annotations

from typing import Any

from modeltrail.api.access.caller import Caller
from modeltrail.api.errors import InvalidRequest, NotFound, Refused, Unavailable
from modeltrail.api.node import Node
from modeltrail.consumers.projections import webhooks as definitions
from modeltrail.consumers.projections.registry_rules import Rejected
from modeltrail.consumers.projections.requests import Verdict
from modeltrail.consumers.webhooks.deliverer import Webhooks
from modeltrail.consumers.webhooks.http import UrlRefused
from modeltrail.consumers.webhooks.secrets import WebhookKeyError

_SECRET_CHARACTERS_MAX = 1_000


def tools_of(node: Node) -> Webhooks:
    """Return the checks and the sender. Raises ``NotFound`` on a server without webhooks."""
    if node.webhooks is None:
        raise NotFound("this server has no webhooks", code="FEATURE_DISABLED")
    return node.webhooks


def create(node: Node, caller: Caller, **fields: Any) -> Verdict:
    """Create a webhook, whose secret is not shown again. Raises an ``ApiError``."""
    caller.rights.admin()
    for name in ("description", "secret"):
        fields[name] = fields[name] or None
    return node.decide(caller, "CreateWebhook", _checked(node, fields))


def update(node: Node, caller: Caller, webhook_id: str, **fields: Any) -> Verdict:
    """Change a webhook; None leaves a field as it is. Raises an ``ApiError``."""
    caller.rights.admin()
    return node.decide(
        caller, "UpdateWebhook", {"webhook_id": webhook_id, **_checked(node, fields)}
    )


def _checked(node: Node, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with the secret encrypted."""
    tools = tools_of(node)
    if fields["name"]:
        try:
            definitions.check_name(fields["name"])
        except Rejected as refusal:
            raise Refused(refusal.code, refusal.message) from None
    if fields["url"] is not None:
        try:
            tools.sender.check(fields["url"])
        except UrlRefused as error:
            raise InvalidRequest(str(error)) from None
    secret = fields["secret"]
    if secret:
        if len(secret) > _SECRET_CHARACTERS_MAX:
            raise InvalidRequest(
                f"'secret' exceeds the maximum length of {_SECRET_CHARACTERS_MAX} characters"
            )
        try:
            secret = tools.secrets.encrypt(secret)
        except WebhookKeyError as error:
            raise Unavailable(f"the secret cannot be encrypted: {error}") from None
    return {**fields, "secret": secret}
