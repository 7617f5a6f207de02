"""MLflow's calls for users, permissions and roles, of 2.x and 3.x.

They exist on a server with ``--auth``. There are no workspaces: every role is in ``default``.
"""

from __future__ import annotations

from typing import Any

import duckdb

from modeltrail.api.access import admin as access_admin
from modeltrail.api.access.acts import Level
from modeltrail.api.access.admin import Holder, PermissionTarget
from modeltrail.api.access.rights import EXPERIMENT, LEVELS, MODEL, UserRights
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.api.registry.grants import check_grant, user_rights
from modeltrail.limits import PERMISSIONS

endpoints = Endpoints()

_WORKSPACE = "default"
_USER = {"username": wire.text}
_PASSWORD = {**_USER, "password": wire.text}
_RESOURCES = {"experiment": EXPERIMENT, "registered_model": MODEL, "prompt": MODEL}
_OF = {**_USER, "resource_type": wire.text, "resource_id": wire.text}
_ROLE = {"role_id": wire.integer}


def _rights(call: Call) -> UserRights:
    return user_rights(call.caller)


def _self_or_admin(call: Call) -> None:
    rights = _rights(call)
    if call["username"] != rights.user:
        rights.admin()


# Users


def _user(call: Call, name: str) -> dict[str, Any]:
    with call.node.read() as cursor:
        found = access_admin.user(cursor, name)
        granted = access_admin.permissions(cursor, Holder(name))
    own = [one for one in granted if one["entity_id"] is not None]
    return {
        "id": found["user_id"],
        "username": found["user"],
        "is_admin": found["admin"],
        "experiment_permissions": [
            _experiment_permission(one["entity_id"], found["user_id"], one["permission"])
            for one in own
            if one["resource"] == EXPERIMENT
        ],
        "registered_model_permissions": [
            _model_permission(one["pattern"], found["user_id"], one["permission"])
            for one in own
            if one["resource"] == MODEL
        ],
    }


@endpoints.add("POST", "users/create", _PASSWORD, required=["username", "password"])
def create_user(call: Call) -> dict[str, Any]:
    """Create a user who is not an administrator."""
    _rights(call).admin()
    if not call["username"] or not call["password"]:
        raise InvalidRequest("Username and password cannot be empty.")
    access_admin.create_user(call.node, call.caller, call["username"], call["password"])
    return {"user": _user(call, call["username"])}


@endpoints.add("GET", "users/get", _USER, required=["username"])
def get_user(call: Call) -> dict[str, Any]:
    """Return a user, for administrators and for that user."""
    _self_or_admin(call)
    return {"user": _user(call, call["username"])}


@endpoints.add("GET", "users/list")
def list_users(call: Call) -> dict[str, Any]:
    """Return all users with their roles."""
    _rights(call).admin()
    with call.node.read() as cursor:
        found = access_admin.users(cursor)
        roles = access_admin.roles(cursor)
        members = access_admin.members(cursor)
    return {
        "users": [
            {
                "id": one["user_id"],
                "username": one["user"],
                "is_admin": one["admin"],
                "roles": [
                    _role(role) for role in roles if (role["role_id"], one["user_id"]) in members
                ],
            }
            for one in found
        ]
    }


@endpoints.add("GET", "users/current")
def current_user(call: Call) -> dict[str, Any]:
    """Return the signed-in user."""
    user = _user(call, str(_rights(call).user))
    shown = {name: user[name] for name in ("id", "username", "is_admin")}
    return {"user": shown, "is_basic_auth": True}


@endpoints.add(
    "PATCH",
    "users/update-password",
    {**_PASSWORD, "current_password": wire.text},
    required=["username", "password"],
)
def update_password(call: Call) -> dict[str, Any]:
    """Set the caller's password, or as an administrator anyone's."""
    _self_or_admin(call)
    rights = _rights(call)
    if call["username"] == rights.user:
        current = call.get("current_password")
        rights.check_password(current)
        if current == call["password"]:
            raise InvalidRequest("New password must differ from the current password.")
    _update_user(call, password=call["password"])
    return {}


@endpoints.add(
    "PATCH",
    "users/update-admin",
    {**_USER, "is_admin": wire.boolean},
    required=["username", "is_admin"],
)
def update_admin(call: Call) -> dict[str, Any]:
    """Make a user an administrator, or no longer one."""
    _rights(call).admin()
    _update_user(call, admin=call["is_admin"])
    return {}


def _update_user(call: Call, *, password: str | None = None, admin: bool | None = None) -> None:
    access_admin.update_user(
        call.node, call.caller, call["username"], password=password, admin=admin
    )


@endpoints.add("DELETE", "users/delete", _USER, required=["username"])
def delete_user(call: Call) -> dict[str, Any]:
    """Delete another user."""
    rights = _rights(call)
    rights.admin()
    if call["username"] == rights.user:
        raise InvalidRequest(
            "Users cannot delete their own account. Ask another admin to delete this user instead.",
            code="BAD_REQUEST",
        )
    call.decide("DeleteUser", {"user": call["username"]})
    return {}


# Permissions for one experiment or model, as clients up to 3.12 ask


def _experiment_permission(experiment_id: str, user_id: int, permission: str) -> dict[str, Any]:
    return {"experiment_id": experiment_id, "user_id": user_id, "permission": permission}


def _model_permission(name: str, user_id: int, permission: str) -> dict[str, Any]:
    return {
        "workspace": _WORKSPACE,
        "name": name,
        "user_id": user_id,
        "permission": permission,
    }


def _check_permission(permission: str) -> str:
    if permission not in PERMISSIONS:
        raise InvalidRequest(
            f"Invalid permission '{permission}'. Valid permissions are: {PERMISSIONS}"
        )
    return permission


def _entity(call: Call, resource: str) -> PermissionTarget:
    """Return the entity that a call names. It needs MANAGE."""
    rights = _rights(call)
    if resource == EXPERIMENT:
        experiment_id = call["experiment_id"]
        rights.exists(experiment_id)
        target, name = PermissionTarget(EXPERIMENT, None, experiment_id), None
    else:
        name = call["name"]
        target = access_admin.target_of(call.node, MODEL, name)
        if target.entity_id is None:
            raise NotFound(f"Registered Model with name={name} not found")
    check_grant(rights, target, name)
    return target


def _granted(call: Call, target: PermissionTarget, what: str) -> dict[str, Any]:
    with call.node.read() as cursor:
        user = access_admin.user(cursor, call["username"])
        found = access_admin.permissions(cursor, Holder(call["username"]), target)
        if not found:
            raise NotFound(f"{what} and username={call['username']} not found")
        return {**found[0], "user_id": user["user_id"]}


def _grant(call: Call, holder: Holder, target: PermissionTarget, *, exists: bool) -> None:
    """Grant the permission in a call. One must exist before, or must not."""
    access_admin.grant(
        call.node,
        call.caller,
        holder,
        target,
        _check_permission(call["permission"]),
        exists=exists,
    )


def _revoke(call: Call, holder: Holder, target: PermissionTarget) -> None:
    access_admin.revoke(call.node, call.caller, holder, target)


def _declare(resource: str, path: str, field: str, answer: str) -> None:
    of = {field: wire.text, **_USER}

    def shown(call: Call, target: PermissionTarget) -> dict[str, Any]:
        what = "Experiment" if resource == EXPERIMENT else "Registered model"
        found = _granted(call, target, f"{what} permission with {field}={call[field]}")
        make = _experiment_permission if resource == EXPERIMENT else _model_permission
        return {answer: make(call[field], found["user_id"], found["permission"])}

    def change(call: Call, exists: bool) -> PermissionTarget:
        target = _entity(call, resource)
        _grant(call, Holder(call["username"]), target, exists=exists)
        return target

    with_permission = {**of, "permission": wire.text}
    needed = [field, "username", "permission"]

    @endpoints.add("POST", f"{path}/permissions/create", with_permission, required=needed)
    def create(call: Call) -> dict[str, Any]:
        return shown(call, change(call, False))

    @endpoints.add("GET", f"{path}/permissions/get", of, required=needed[:2])
    def get(call: Call) -> dict[str, Any]:
        return shown(call, _entity(call, resource))

    @endpoints.add("PATCH", f"{path}/permissions/update", with_permission, required=needed)
    def update(call: Call) -> dict[str, Any]:
        change(call, True)
        return {}

    @endpoints.add("DELETE", f"{path}/permissions/delete", of, required=needed[:2])
    def delete(call: Call) -> dict[str, Any]:
        _revoke(call, Holder(call["username"]), _entity(call, resource))
        return {}


_declare(EXPERIMENT, "experiments", "experiment_id", "experiment_permission")
_declare(MODEL, "registered-models", "name", "registered_model_permission")


# Permissions of a user, as clients of 3.13 and later ask


def _target(call: Call, resource_type: str, pattern: str) -> PermissionTarget:
    """Return the target of a type and an id in a call. A final ``*`` makes a prefix."""
    resource = _RESOURCES.get(resource_type)
    if resource is None:
        raise InvalidRequest(
            f"Invalid resource type '{resource_type}'. "
            f"Valid resource types are: {tuple(_RESOURCES)}"
        )
    if resource == EXPERIMENT and not pattern.endswith("*"):
        return PermissionTarget(EXPERIMENT, None, pattern)
    return access_admin.target_of(call.node, resource, pattern)


@endpoints.add(
    "POST",
    "users/permissions/grant",
    {**_OF, "permission": wire.text},
    required=[*_OF, "permission"],
    version="3.0",
)
def grant(call: Call) -> dict[str, Any]:
    """Grant a permission that does not exist yet."""
    target = _target(call, call["resource_type"], call["resource_id"])
    check_grant(_rights(call), target, call["resource_id"])
    _grant(call, Holder(call["username"]), target, exists=False)
    return {}


@endpoints.add("POST", "users/permissions/revoke", _OF, required=list(_OF), version="3.0")
def revoke(call: Call) -> dict[str, Any]:
    """Revoke an existing permission."""
    target = _target(call, call["resource_type"], call["resource_id"])
    check_grant(_rights(call), target, call["resource_id"])
    _revoke(call, Holder(call["username"]), target)
    return {}


@endpoints.add("GET", "users/permissions/get", _OF, required=list(_OF), version="3.0")
def get_permission(call: Call) -> dict[str, Any]:
    """Return what a user may do with something, whatever the reason."""
    _self_or_admin(call)
    target = _target(call, call["resource_type"], call["resource_id"])
    rights = _rights(call).of(call["username"])
    if target.entity_id is None:
        level = rights.name_level(target.resource, str(target.pattern).removesuffix("*"))
    elif target.resource == EXPERIMENT:
        level = rights.experiment_level(target.entity_id)
    else:
        level = rights.model_level(call["resource_id"])
    names = {level: name for name, level in LEVELS.items() if name != "DENY"}
    return {"allowed": level >= Level.USE, "permission": names[level]}


def _permissions_of(call: Call, name: str) -> dict[str, Any]:
    with call.node.read() as cursor:
        user = access_admin.user(cursor, name)
        own = access_admin.permissions(cursor, Holder(name))
        members = access_admin.members(cursor)
        roles = [
            (role, access_admin.permissions(cursor, Holder(None, role["role_id"])))
            for role in access_admin.roles(cursor)
            if (role["role_id"], user["user_id"]) in members
        ]
    direct = {"role_id": user["user_id"], "role": f"__user_{user['user_id']}__"}
    return {
        "is_admin": user["admin"],
        "permissions": [
            {
                "role_id": role["role_id"],
                "role_name": role["role"],
                "workspace": _WORKSPACE,
                **_resource(one),
            }
            for role, granted in [(direct, own), *roles]
            for one in granted
        ],
    }


def _resource(granted: dict[str, Any]) -> dict[str, Any]:
    """Return a permission in the terms of 3.x: experiments by id, models by name."""
    by_id = granted["resource"] == EXPERIMENT and granted["entity_id"] is not None
    return {
        "resource_type": granted["resource"],
        "resource_pattern": granted["entity_id"] if by_id else granted["pattern"],
        "permission": granted["permission"],
    }


@endpoints.add("GET", "users/permissions/list", _USER, required=["username"], version="3.0")
def list_permissions(call: Call) -> dict[str, Any]:
    """Return all permissions of a user and of the user's roles."""
    _self_or_admin(call)
    return _permissions_of(call, call["username"])


@endpoints.add("GET", "users/current/permissions", version="3.0")
def current_permissions(call: Call) -> dict[str, Any]:
    """Return all permissions of the signed-in user."""
    return _permissions_of(call, str(_rights(call).user))


# Roles


def _role(role: dict[str, Any], granted: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "id": role["role_id"],
        "name": role["role"],
        "workspace": _WORKSPACE,
        "description": role["description"],
        "permissions": [_role_permission(role["role_id"], one) for one in granted or ()],
    }


def _whole_role(cursor: duckdb.DuckDBPyConnection, role: dict[str, Any]) -> dict[str, Any]:
    """Return a role with its permissions."""
    return _role(role, access_admin.permissions(cursor, Holder(None, role["role_id"])))


def _role_permission(role_id: int, granted: dict[str, Any]) -> dict[str, Any]:
    return {"id": granted["permission_id"], "role_id": role_id, **_resource(granted)}


def _one_role(call: Call, role_id: int) -> dict[str, Any]:
    with call.node.read() as cursor:
        for role in access_admin.roles(cursor):
            if role["role_id"] == role_id:
                return _whole_role(cursor, role)
    raise NotFound(f"Role with id={role_id} not found")


def _decide(call: Call, type: str, **fields: Any) -> int:
    _rights(call).admin()
    return call.decide(type, fields).position.offset


@endpoints.add(
    "POST",
    "roles/create",
    {"name": wire.text, "workspace": wire.text, "description": wire.text},
    required=["name", "workspace"],
    version="3.0",
)
def create_role(call: Call) -> dict[str, Any]:
    """Create a role."""
    _rights(call).admin()
    if call["workspace"] != _WORKSPACE:
        raise InvalidRequest(
            f"There are no workspaces here but '{_WORKSPACE}', so no '{call['workspace']}'."
        )
    description = call.get("description")
    made = _decide(call, "CreateRole", role=call["name"], description=description)
    return {"role": _one_role(call, made)}


@endpoints.add("GET", "roles/get", _ROLE, required=["role_id"], version="3.0")
def get_role(call: Call) -> dict[str, Any]:
    """Return a role with its permissions."""
    _rights(call).admin()
    return {"role": _one_role(call, call["role_id"])}


@endpoints.add("GET", "roles/list", {"workspace": wire.text}, version="3.0")
def list_roles(call: Call) -> dict[str, Any]:
    """Return all roles with their permissions."""
    _rights(call).admin()
    if call.get("workspace", _WORKSPACE) != _WORKSPACE:
        return {"roles": []}
    with call.node.read() as cursor:
        return {"roles": [_whole_role(cursor, role) for role in access_admin.roles(cursor)]}


@endpoints.add(
    "PATCH",
    "roles/update",
    {**_ROLE, "name": wire.text, "description": wire.text},
    required=["role_id"],
    version="3.0",
)
def update_role(call: Call) -> dict[str, Any]:
    """Rename or describe a role."""
    name, description = call.get("name"), call.get("description")
    if name is None and description is None:
        raise InvalidRequest(
            "At least one of 'name' or 'description' must be provided to update a role."
        )
    _decide(call, "UpdateRole", role_id=call["role_id"], role=name, description=description)
    return {"role": _one_role(call, call["role_id"])}


@endpoints.add("DELETE", "roles/delete", _ROLE, required=["role_id"], version="3.0")
def delete_role(call: Call) -> dict[str, Any]:
    """Delete a role."""
    _decide(call, "DeleteRole", role_id=call["role_id"])
    return {}


@endpoints.add(
    "POST",
    "roles/permissions/add",
    {
        **_ROLE,
        "resource_type": wire.text,
        "resource_pattern": wire.text,
        "permission": wire.text,
    },
    required=["role_id", "resource_type", "resource_pattern", "permission"],
    version="3.0",
)
def add_role_permission(call: Call) -> dict[str, Any]:
    """Grant a permission to a role."""
    _rights(call).admin()
    holder = Holder(None, call["role_id"])
    target = _target(call, call["resource_type"], call["resource_pattern"])
    _grant(call, holder, target, exists=False)
    return {"role_permission": _of_role(call, holder, target)}


def _of_role(call: Call, holder: Holder, target: PermissionTarget) -> dict[str, Any]:
    with call.node.read() as cursor:
        found = access_admin.permissions(cursor, holder, target)
    return _role_permission(holder.role_id or 0, found[0])


def _by_id(call: Call) -> tuple[Holder, PermissionTarget]:
    with call.node.read() as cursor:
        found = access_admin.role_permission(cursor, call["role_permission_id"])
    if found is None:
        raise NotFound(f"Role permission with id={call['role_permission_id']} not found")
    return found


@endpoints.add(
    "PATCH",
    "roles/permissions/update",
    {"role_permission_id": wire.integer, "permission": wire.text},
    required=["role_permission_id", "permission"],
    version="3.0",
)
def update_role_permission(call: Call) -> dict[str, Any]:
    """Change a permission of a role."""
    _rights(call).admin()
    holder, target = _by_id(call)
    _grant(call, holder, target, exists=True)
    return {"role_permission": _of_role(call, holder, target)}


@endpoints.add(
    "DELETE",
    "roles/permissions/remove",
    {"role_permission_id": wire.integer},
    required=["role_permission_id"],
    version="3.0",
)
def remove_role_permission(call: Call) -> dict[str, Any]:
    """Revoke a permission of a role."""
    _rights(call).admin()
    _revoke(call, *_by_id(call))
    return {}


@endpoints.add("GET", "roles/permissions/list", _ROLE, required=["role_id"], version="3.0")
def list_role_permissions(call: Call) -> dict[str, Any]:
    """Return the permissions of a role."""
    _rights(call).admin()
    return {"role_permissions": _one_role(call, call["role_id"])["permissions"]}


def _assignment(user_id: int, role_id: int) -> dict[str, Any]:
    # An assignment has no id here. A user has a role once.
    return {"id": role_id, "user_id": user_id, "role_id": role_id}


@endpoints.add(
    "POST", "roles/assign", {**_ROLE, **_USER}, required=["role_id", "username"], version="3.0"
)
def assign_role(call: Call) -> dict[str, Any]:
    """Give a user a role."""
    _decide(call, "AssignRole", role_id=call["role_id"], user=call["username"])
    with call.node.read() as cursor:
        user_id = access_admin.user(cursor, call["username"])["user_id"]
    return {"assignment": _assignment(user_id, call["role_id"])}


@endpoints.add(
    "DELETE", "roles/unassign", {**_ROLE, **_USER}, required=["role_id", "username"], version="3.0"
)
def unassign_role(call: Call) -> dict[str, Any]:
    """Take a role from a user."""
    _decide(call, "UnassignRole", role_id=call["role_id"], user=call["username"])
    return {}


@endpoints.add("GET", "users/roles/list", _USER, required=["username"], version="3.0")
def list_user_roles(call: Call) -> dict[str, Any]:
    """Return the roles of a user."""
    _self_or_admin(call)
    with call.node.read() as cursor:
        user_id = access_admin.user(cursor, call["username"])["user_id"]
        members = access_admin.members(cursor)
        return {
            "roles": [
                _whole_role(cursor, role)
                for role in access_admin.roles(cursor)
                if (role["role_id"], user_id) in members
            ]
        }


@endpoints.add("GET", "roles/users/list", _ROLE, required=["role_id"], version="3.0")
def list_role_users(call: Call) -> dict[str, Any]:
    """Return the users who have a role."""
    _rights(call).admin()
    _one_role(call, call["role_id"])
    with call.node.read() as cursor:
        members = access_admin.members(cursor)
    return {
        "assignments": [
            _assignment(user_id, role_id)
            for role_id, user_id in sorted(members)
            if role_id == call["role_id"]
        ]
    }
