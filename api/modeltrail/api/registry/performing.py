"""Perform a command for a caller, for the native API and the command line.

Most commands consist of their check and their event. The others have a function here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple

from modeltrail.api.access import acts
from modeltrail.api.access import admin as access_admin
from modeltrail.api.access.acts import Level
from modeltrail.api.access.admin import Holder, MadeToken, Updated
from modeltrail.api.access.caller import Caller
from modeltrail.api.access.rights import UserRights
from modeltrail.api.answers import rows
from modeltrail.api.errors import ApiError, InvalidRequest, NotFound, Refused
from modeltrail.api.node import Node
from modeltrail.api.registry import webhooks
from modeltrail.api.registry.commands import Command, act_of
from modeltrail.api.registry.evidence import latest_metrics
from modeltrail.api.registry.grants import check_grant, only_own
from modeltrail.api.registry.sources import Lineage, origin_of
from modeltrail.consumers.projections.registry_rules import CONFLICT
from modeltrail.consumers.projections.requests import Verdict
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY, Position

_NAMED_BY: Final[Mapping[acts.Kind, str]] = {
    acts.Kind.EXPERIMENT: "experiment_id",
    acts.Kind.MODEL: "model",
    acts.Kind.NEW_EXPERIMENT: "name",
    acts.Kind.NEW_MODEL: "model",
}
"""The field of an event that names what it changes."""


def perform(
    node: Node, caller: Caller, command: Command, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Perform a command if its caller may.

    Args:
        node: The node.
        caller: Who asks.
        command: The command.
        given: Its fields, by their names in the event; those without a default are required.

    Returns:
        Position, event id, and the fields in the command's ``returns``.

    Raises:
        Forbidden: the caller may not.
        Refused: with MLflow's error code.
        ApiError: see ``Node.decide``, and the functions below.
    """
    try:
        return _performed(node, caller, command, given)
    except Refused as error:
        with suppress(ApiError):  # the refusal matters more
            _explain(node, error)
        raise


def _explain(node: Node, refused: Refused) -> None:
    """Add to a refusal its offset, and who changed what the request expected otherwise."""
    if "position" not in refused.details:  # refused before it was appended
        return
    offset = Position.parse(refused.details["position"]).offset
    refused.details["log_offset"] = offset
    if refused.code != CONFLICT:
        return
    with node.read(stream=REGISTRY) as cursor:
        found = rows(cursor, sql("history.faster"), [offset])
    if found:
        refused.details |= {"rule": "expected", "faster": found[0]}


def _performed(
    node: Node, caller: Caller, command: Command, given: Mapping[str, Any]
) -> dict[str, Any]:
    special = _SPECIAL.get(command.type)
    if special is not None:
        done = special(node, caller, **given)
    else:
        _check(caller, command, given)
        fields = dict(given)
        if fields.get("evidence", ()) is None:
            fields["evidence"] = latest_metrics(node, given["model"], given["version"])
        done = node.decide(caller, command.type, fields)
    verdict, more = (done, {}) if isinstance(done, Verdict) else (done.verdict, done._asdict())
    answers = {
        **given,
        "experiment_id": verdict.experiment_id,
        "version": verdict.version,
        "role_id": verdict.offset,
        "user_id": verdict.offset,
        "webhook_id": verdict.id,
        **more,
    }
    return {
        "position": str(verdict.position),
        "event_id": verdict.id,
        **{name: answers[name] for name in command.returns},
    }


def _check(caller: Caller, command: Command, given: Mapping[str, Any]) -> None:
    act = command.act
    acts.check(caller.rights, act.kind, given.get(_NAMED_BY.get(act.kind, ""), ""), act.level)
    for mention in act.mentions.values():
        for id in mention.ids(given):
            acts.check_mention(caller.rights, mention, str(id))


def _create_version(
    node: Node,
    caller: Caller,
    model: str,
    *,
    source: str,
    run_id: str | None,
    model_id: str | None,
    create_model: bool,
    **fields: Any,
) -> Verdict:
    need, rights = act_of("CreateModelVersion").level, caller.rights
    is_new = False
    try:
        rights.model(model, need)
    except NotFound:
        if not create_model:
            raise
        rights.new_model(model)
        is_new = True
    given = Lineage(source, run_id or None, model_id or None)
    origin, _ = origin_of(node, rights, given, fields["tags"])
    if is_new:
        _create_own_model(node, caller, model, need)
    fields["create_model"] = create_model and rights.is_admin  # of others it exists by now
    made = {"model": model, **fields, **origin._asdict()}
    return node.decide(caller, "CreateModelVersion", made)


def _create_own_model(node: Node, caller: Caller, model: str, need: Level) -> None:
    """Create a model by a request of its own, which is refused if another user was first.

    Otherwise the version would become one of that user's model.
    """
    asker = replace(caller, idempotency_key=None)  # the key is that of the version
    try:
        node.decide(
            asker, "CreateRegisteredModel", {"model": model, "description": None, "tags": {}}
        )
    except Refused as refused:
        if refused.code != "RESOURCE_ALREADY_EXISTS":
            raise
        caller.rights.model(model, need)


def _create_user(
    node: Node, caller: Caller, user: str, *, password: str | None, admin: bool
) -> Verdict:
    caller.rights.admin()
    return access_admin.create_user(node, caller, user, password, admin=admin)


def _update_user(
    node: Node,
    caller: Caller,
    user: str,
    *,
    password: str | None,
    current_password: str | None,
    admin: bool | None,
    keep_tokens: bool,
) -> Updated:
    rights = caller.rights
    if admin is not None or user != rights.user:
        rights.admin()
    if password is not None and isinstance(rights, UserRights) and user == rights.user:
        rights.check_password(current_password)
    return access_admin.update_user(
        node, caller, user, password=password, admin=admin, keep_tokens=keep_tokens
    )


def _create_token(
    node: Node,
    caller: Caller,
    user: str | None,
    *,
    description: str | None,
    expires_at_ms: int | None,
) -> MadeToken:
    owner = only_own(caller.rights, user) or caller.rights.user
    if owner is None:
        raise InvalidRequest("user: whose token? Give the name of a user")
    return access_admin.create_token(
        node,
        caller,
        owner,
        description=description,
        expires_at_ms=expires_at_ms,
        made_by=caller.rights.token,
    )


def _revoke_token(node: Node, caller: Caller, token_id: int) -> Verdict:
    if not caller.rights.is_admin:
        with node.read() as cursor:
            own = access_admin.tokens(cursor, caller.rights.user)
        if token_id not in [token["token_id"] for token in own]:
            caller.rights.admin()
    return node.decide(caller, "RevokeToken", {"token_id": token_id})


def _grant(
    node: Node,
    caller: Caller,
    *,
    user: str | None,
    role_id: int | None,
    resource: str,
    pattern: str,
    permission: str | None = None,
) -> Verdict:
    """Grant a permission, or revoke the existing one if ``permission`` is None."""
    target = access_admin.target_of(node, resource, pattern)
    check_grant(caller.rights, target, pattern)
    if role_id is not None:
        caller.rights.admin()
    holder = Holder(user, role_id)
    if permission is None:
        return access_admin.revoke(node, caller, holder, target)
    return access_admin.grant(node, caller, holder, target, permission)


def _check_view(caller: Caller, experiment_id: str | None, shared: bool) -> None:
    if experiment_id is not None:
        need = act_of("SaveView").level if shared else acts.READ
        caller.rights.experiment(experiment_id, need)
    elif shared:
        caller.rights.admin()


class SavedView(NamedTuple):
    """A view that was saved."""

    verdict: Verdict
    view_id: int


def _save_view(
    node: Node, caller: Caller, *, experiment_id: str | None, shared: bool, **fields: Any
) -> SavedView:
    _check_view(caller, experiment_id, shared)
    made = {"experiment_id": experiment_id, "shared": shared, **fields}
    verdict = node.decide(caller, "SaveView", made)
    with node.registry() as registry:
        view = registry.views.named(
            fields["name"], experiment_id, None if shared else verdict.actor
        )
    # Another request may have deleted it at once.
    return SavedView(verdict, verdict.offset if view is None else int(view.view_id))


def _delete_view(node: Node, caller: Caller, view_id: int) -> Verdict:
    with node.registry() as registry:
        view = registry.views.view(view_id)
        of = None if view is None else (view.experiment_id, view.shared, view.owner)
    if of is not None:
        experiment_id, shared, owner = of
        if shared:
            _check_view(caller, experiment_id, shared)
        elif owner != caller.actor.name:
            caller.rights.admin()
    return node.decide(caller, "DeleteView", {"view_id": view_id})


Done = Verdict | MadeToken | SavedView | Updated

_SPECIAL: Final[Mapping[str, Callable[..., Done]]] = {
    "CreateModelVersion": _create_version,
    "CreateToken": _create_token,
    "CreateUser": _create_user,
    "CreateWebhook": webhooks.create,
    "DeleteView": _delete_view,
    "GrantPermission": _grant,
    "RevokePermission": _grant,
    "RevokeToken": _revoke_token,
    "SaveView": _save_view,
    "UpdateUser": _update_user,
    "UpdateWebhook": webhooks.update,
}
"""Commands that are more than a check and an event. Each takes the caller's fields."""
