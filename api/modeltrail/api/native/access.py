"""Read users, tokens, roles and permissions, on a server with `--auth`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from modeltrail.api.access import admin as access_admin
from modeltrail.api.access.admin import Holder
from modeltrail.api.native.parameters import CallerHere, NodeHere, answer, json_example
from modeltrail.api.registry.grants import only_own, user_rights
from modeltrail.api.routing import PooledRoute

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=PooledRoute)

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
    "kind": "token",
}
_ROLE = {"role_id": 18, "role": "reviewers", "description": None, "users": ["ada"]}
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


@router.get("/users", summary="Users", responses=json_example({"users": [_USER]}))
def list_users(node: NodeHere, caller: CallerHere) -> Response:
    """All users for administrators, otherwise the caller."""
    name = only_own(user_rights(caller), None)
    with node.read() as cursor:
        return answer({"users": access_admin.users(cursor, name)})


@router.get("/tokens", summary="Tokens", responses=json_example({"tokens": [_TOKEN]}))
def list_tokens(node: NodeHere, caller: CallerHere, user: str | None = None) -> Response:
    """Tokens without their secrets; all for administrators, otherwise the caller's."""
    name = only_own(user_rights(caller), user)
    with node.read() as cursor:
        return answer({"tokens": access_admin.tokens(cursor, name)})


@router.get(
    "/permissions",
    summary="What is granted",
    responses=json_example({"permissions": [_PERMISSION]}),
)
def list_permissions(node: NodeHere, caller: CallerHere, user: str | None = None) -> Response:
    """All permissions for administrators, otherwise the caller's."""
    name = only_own(user_rights(caller), user)
    with node.read() as cursor:
        found = access_admin.permissions(cursor, Holder(name))
    return answer({"permissions": found})


@router.get("/roles", summary="Roles", responses=json_example({"roles": [_ROLE]}))
def list_roles(node: NodeHere, caller: CallerHere) -> Response:
    """All roles with their users. For administrators."""
    user_rights(caller).admin()
    with node.read() as cursor:
        return answer({"roles": access_admin.roles(cursor)})
