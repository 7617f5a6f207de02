"""Users, tokens and permissions, of a server with `--auth`."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from modeltrail.api.access import admin as access_admin
from modeltrail.api.access.admin import Holder
from modeltrail.api.native.parameters import CallerHere, NodeHere, answer, json_example, reading
from modeltrail.api.registry.grants import check_grant, only_own, user_rights
from modeltrail.api.routing import PooledRoute
from modeltrail.consumers.projections.requests import Verdict

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=PooledRoute)

_DONE = json_example({"position": "registry:0:17"})
_USER = {
    "user": "ada",
    "admin": False,
    "has_password": True,
    "created_at": "2026-03-01T12:00:00.000000Z",
    "updated_at": "2026-03-01T12:00:00.000000Z",
    "created_by": "admin",
    "user_id": 17,
}
_TOKEN = {
    "token_id": 18,
    "user": "ada",
    "description": "nightly training",
    "expires_at": None,
    "created_at": "2026-03-01T12:00:00.000000Z",
    "created_by": "ada",
    "made_by_token": None,
}
_PERMISSION = {
    "permission_id": 19,
    "user": "ada",
    "role": None,
    "resource": "experiment",
    "pattern": "/search-team/*",
    "entity_id": None,
    "permission": "EDIT",
    "granted_at": "2026-03-01T12:00:00.000000Z",
    "granted_by": "admin",
    "reason": None,
}

Reason = Annotated[str | None, Query(description="Why; it stays in the trail.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(None, max_length=10_000, description="Why; it stays in the trail.")


class NewUser(_Body):
    """A user to create."""

    model_config = ConfigDict(json_schema_extra={"example": {"user": "ada", "admin": False}})

    user: str
    password: str | None = Field(None, description="Without one, the user has tokens only.")
    admin: bool = Field(False, description="Whether the user may do everything.")


class UserChange(_Body):
    """What to change about a user."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"admin": True, "reason": "is on call"}}
    )

    password: str | None = None
    current_password: str | None = Field(
        None, description="Of the caller, who changes their own and signed in with a token."
    )
    admin: bool | None = None
    keep_tokens: bool = Field(False, description="Whether the user's tokens outlive the password.")


class NewToken(_Body):
    """A token to make."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"user": "ada", "description": "sweeps"}}
    )

    user: str | None = Field(None, description="Whose; by default the caller's.")
    description: str | None = Field(None, description="What it is for.")
    expires_at_ms: int | None = Field(
        None, ge=0, le=2**53, description="When it ends, in milliseconds since 1970 UTC."
    )


class Of(_Body):
    """Who holds a permission, and for what."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"user": "ada", "resource": "experiment", "pattern": "/vision/*"}
        }
    )

    user: str
    resource: Literal["experiment", "registered_model"]
    pattern: str = Field(description="A name, or a prefix followed by `*`.")


class Granted(Of):
    """A permission to grant."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "user": "ada",
                "resource": "experiment",
                "pattern": "/vision/*",
                "permission": "EDIT",
            }
        }
    )

    permission: Literal["READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS", "DENY"]


def _done(verdict: Verdict) -> Response:
    return answer({"position": str(verdict.position)})


@router.get("/users", summary="Users", responses=json_example({"users": [_USER]}))
def list_users(node: NodeHere, caller: CallerHere) -> Response:
    """All users for administrators, for others themselves."""
    name = only_own(user_rights(caller), None)
    with reading(node, False) as cursor:
        return answer({"users": access_admin.users(cursor, name)})


@router.post("/users", summary="Create a user", responses=_DONE)
def create_user(new: NewUser, node: NodeHere, caller: CallerHere) -> Response:
    """Refused with RESOURCE_ALREADY_EXISTS where the name is taken. For administrators."""
    user_rights(caller).admin()
    verdict = access_admin.create_user(
        node,
        caller.actor,
        new.user,
        new.password,
        admin=new.admin,
        **caller.said(new.reason),
    )
    return answer({"user_id": verdict.position.offset, "position": str(verdict.position)})


@router.patch(
    "/users/{user}",
    summary="Change a password, or administrators",
    responses=json_example({"position": "registry:0:17", "tokens_ended": 2, "tokens_left": 0}),
)
def change_user(user: str, change: UserChange, node: NodeHere, caller: CallerHere) -> Response:
    """Users may change their own password, administrators everything.

    A new password ends the user's tokens unless `keep_tokens` says otherwise; the answer counts
    those that ended and those that are left.
    """
    rights = user_rights(caller)
    if change.admin is not None or user != rights.user:
        rights.admin()
    if change.password is not None and user == rights.user:
        rights.check_password(change.current_password)
    updated = access_admin.update_user(
        node,
        caller.actor,
        user,
        password=change.password,
        admin=change.admin,
        keep_tokens=change.keep_tokens,
        **caller.said(change.reason),
    )
    return answer(
        {
            "position": str(updated.verdict.position),
            "tokens_ended": updated.tokens_ended,
            "tokens_left": updated.tokens_left,
        }
    )


@router.delete("/users/{user}", summary="Delete a user", responses=_DONE)
def delete_user(user: str, node: NodeHere, caller: CallerHere, reason: Reason = None) -> Response:
    """With tokens and permissions. For administrators; the last of them stays."""
    user_rights(caller).admin()
    return _done(access_admin.delete_user(node, caller.actor, user, **caller.said(reason)))


@router.get("/tokens", summary="Tokens", responses=json_example({"tokens": [_TOKEN]}))
def list_tokens(node: NodeHere, caller: CallerHere, user: str | None = None) -> Response:
    """Never the tokens themselves. For others than administrators their own."""
    name = only_own(user_rights(caller), user)
    with reading(node, False) as cursor:
        return answer({"tokens": access_admin.tokens(cursor, name)})


@router.post(
    "/tokens",
    summary="Make a token",
    responses=json_example(
        {"token": "mt_...", "token_id": 18, "expires_at_ms": None, "user": "ada"}
    ),
)
def create_token(new: NewToken, node: NodeHere, caller: CallerHere) -> Response:
    """The answer has the token, this once. One that is made by a token ends with it at latest."""
    rights = user_rights(caller)
    user = only_own(rights, new.user) or rights.user
    made = access_admin.create_token(
        node,
        caller.actor,
        str(user),
        description=new.description,
        expires_at_ms=new.expires_at_ms,
        made_by=rights.token,
        **caller.said(new.reason),
    )
    return answer({**made._asdict(), "user": user})


@router.delete("/tokens/{token_id}", summary="End a token", responses=_DONE)
def revoke_token(
    token_id: Annotated[int, Path(ge=0, le=2**62)],
    node: NodeHere,
    caller: CallerHere,
    reason: Reason = None,
) -> Response:
    """From the next request on nobody signs in with it."""
    rights = user_rights(caller)
    if not rights.is_admin:
        with reading(node, False) as cursor:
            own = access_admin.tokens(cursor, rights.user)
        if token_id not in [token["token_id"] for token in own]:
            rights.admin()
    return _done(access_admin.revoke_token(node, caller.actor, token_id, **caller.said(reason)))


@router.get(
    "/permissions",
    summary="What is granted",
    responses=json_example({"permissions": [_PERMISSION]}),
)
def list_permissions(node: NodeHere, caller: CallerHere, user: str | None = None) -> Response:
    """For others than administrators their own."""
    name = only_own(user_rights(caller), user)
    with reading(node, False) as cursor:
        found = access_admin.permissions(cursor, Holder(name))
    return answer({"permissions": found})


@router.put("/permissions", summary="Grant a permission, or change it", responses=_DONE)
def put_permission(new: Granted, node: NodeHere, caller: CallerHere) -> Response:
    """It takes MANAGE on what it is for; for a prefix, an administrator.

    The name of something that is there means that itself, and follows it through renames.
    """
    target = access_admin.target_of(node, new.resource, new.pattern)
    check_grant(user_rights(caller), target, new.pattern)
    verdict = access_admin.grant(
        node, caller.actor, Holder(new.user), target, new.permission, **caller.said(new.reason)
    )
    return _done(verdict)


@router.delete("/permissions", summary="Take a permission back", responses=_DONE)
def delete_permission(of: Of, node: NodeHere, caller: CallerHere) -> Response:
    """By whoever might grant it."""
    target = access_admin.target_of(node, of.resource, of.pattern)
    check_grant(user_rights(caller), target, of.pattern)
    holder, said = Holder(of.user), caller.said(of.reason)
    return _done(access_admin.revoke(node, caller.actor, holder, target, **said))
