"""MLflow's calls for users, permissions and roles, of 2.x and 3.x.

They exist on a server with ``--auth``. There are no workspaces: every role is in ``default``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from modeltrail.api.access import admin as access_admin
from modeltrail.api.access.acts import Level
from modeltrail.api.access.admin import Holder, PermissionTarget
from modeltrail.api.access.rights import EXPERIMENT, LEVELS, MODEL
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow.calls import Call, Endpoints, Handler
from modeltrail.api.registry.commands import BY_TYPE
from modeltrail.api.registry.grants import check_grant, user_rights
from modeltrail.api.registry.performing import perform
from modeltrail.limits import PERMISSIONS

endpoints = Endpoints()

_WORKSPACE = "default"
_RESOURCES = {"experiment": EXPERIMENT, "registered_model": MODEL, "prompt": MODEL}


def _endpoint(endpoint: str, version: str = "2.0") -> Callable[[Handler], Handler]:
    """Declare an endpoint that needs authentication. Who may call it is in ``rules``."""

    def declare(handler: Handler) -> Handler:
        @wraps(handler)
        def answer(call: Call) -> dict[str, Any] | bytes:
            user_rights(call.caller)
            return handler(call)

        return endpoints.declare(endpoint, version=version)(answer)

    return declare


def _perform(call: Call, type: str, **given: Any) -> dict[str, Any]:
    command = BY_TYPE[type]
    defaults = {field.event: field.default for field in command.fields}
    return perform(call.node, call.caller, command, defaults | given)


# Users


def _user(call: Call, name: str) -> dict[str, Any]:
    with call.node.read() as cursor:
        found = access_admin.user(cursor, name)
        granted = access_admin.permissions(cursor, Holder(name))
    shown = {
        resource: [
            _permission(resource, one, found["user_id"])
            for one in granted
            if one["resource"] == resource and one["entity_id"] is not None
        ]
        for resource in (EXPERIMENT, MODEL)
    }
    return {
        "id": found["user_id"],
        "username": found["user"],
        "is_admin": found["admin"],
        "experiment_permissions": shown[EXPERIMENT],
        "registered_model_permissions": shown[MODEL],
    }


@_endpoint("POST users/create username password")
def create_user(call: Call) -> dict[str, Any]:
    """Create a user who is not an administrator."""
    if not call["username"] or not call["password"]:
        raise InvalidRequest("Username and password cannot be empty.")
    _perform(call, "CreateUser", user=call["username"], password=call["password"])
    return {"user": _user(call, call["username"])}


@_endpoint("GET users/get username")
def get_user(call: Call) -> dict[str, Any]:
    """Return a user, for administrators and for that user."""
    return {"user": _user(call, call["username"])}


@_endpoint("GET users/list")
def list_users(call: Call) -> dict[str, Any]:
    """Return all users with their roles."""
    with call.node.read() as cursor:
        found = access_admin.users(cursor)
        roles = access_admin.roles(cursor)
    return {
        "users": [
            {
                "id": one["user_id"],
                "username": one["user"],
                "is_admin": one["admin"],
                "roles": [_role(role, []) for role in roles if one["user"] in role["users"]],
            }
            for one in found
        ]
    }


@_endpoint("GET users/current")
def current_user(call: Call) -> dict[str, Any]:
    """Return the signed-in user."""
    user = _user(call, call.caller.actor.name)
    shown = {name: user[name] for name in ("id", "username", "is_admin")}
    return {"user": shown, "is_basic_auth": True}


@_endpoint("PATCH users/update-password username password current_password?")
def update_password(call: Call) -> dict[str, Any]:
    """Set the caller's password, or as an administrator anyone's."""
    name, password, current = call["username"], call["password"], call.get("current_password")
    if name == call.caller.rights.user and current == password:
        user_rights(call.caller).check_password(current)
        raise InvalidRequest("New password must differ from the current password.")
    _perform(call, "UpdateUser", user=name, password=password, current_password=current)
    return {}


@_endpoint("PATCH users/update-admin username is_admin")
def update_admin(call: Call) -> dict[str, Any]:
    """Make a user an administrator, or no longer one."""
    _perform(call, "UpdateUser", user=call["username"], admin=call["is_admin"])
    return {}


@_endpoint("DELETE users/delete username")
def delete_user(call: Call) -> dict[str, Any]:
    """Delete another user."""
    if call["username"] == call.caller.rights.user:
        raise InvalidRequest(
            "Users cannot delete their own account. Ask another admin to delete this user instead.",
            code="BAD_REQUEST",
        )
    _perform(call, "DeleteUser", user=call["username"])
    return {}


# Permissions for one experiment or model, as clients up to 3.12 ask


def _permission(resource: str, granted: dict[str, Any], user_id: int) -> dict[str, Any]:
    if resource == EXPERIMENT:
        of = {"experiment_id": granted["entity_id"]}
    else:
        of = {"workspace": _WORKSPACE, "name": granted["pattern"]}
    return {**of, "user_id": user_id, "permission": granted["permission"]}


def _check_permission(permission: str) -> str:
    if permission not in PERMISSIONS:
        raise InvalidRequest(
            f"Invalid permission '{permission}'. Valid permissions are: {PERMISSIONS}"
        )
    return permission


def _entity(call: Call, resource: str, of: str) -> PermissionTarget:
    """Return the target for an existing entity."""
    if resource == EXPERIMENT:
        user_rights(call.caller).exists(of)
        return PermissionTarget(EXPERIMENT, None, of)
    target = access_admin.target_of(call.node, MODEL, of)
    if target.entity_id is None:
        raise NotFound(f"Registered Model with name={of} not found")
    return target


def _grant(call: Call, holder: Holder, target: PermissionTarget, *, exists: bool) -> None:
    """Grant the permission in a call. One must exist before, or must not."""
    permission = _check_permission(call["permission"])
    access_admin.grant(call.node, call.caller, holder, target, permission, exists=exists)


def _revoke(call: Call, holder: Holder, target: PermissionTarget) -> None:
    access_admin.revoke(call.node, call.caller, holder, target)


def _declare(resource: str, path: str, field: str, answer: str) -> None:
    def shown(call: Call, target: PermissionTarget) -> dict[str, Any]:
        name = call["username"]
        with call.node.read() as cursor:
            user = access_admin.user(cursor, name)
            found = access_admin.permissions(cursor, Holder(name), target)
        if not found:
            what = resource.replace("_", " ").capitalize()
            raise NotFound(
                f"{what} permission with {field}={call[field]} and username={name} not found"
            )
        return {answer: _permission(resource, found[0], user["user_id"])}

    def change(call: Call, exists: bool) -> PermissionTarget:
        target = _entity(call, resource, call[field])
        _grant(call, Holder(call["username"]), target, exists=exists)
        return target

    @_endpoint(f"POST {path}/permissions/create {field} username permission")
    def create(call: Call) -> dict[str, Any]:
        return shown(call, change(call, False))

    @_endpoint(f"GET {path}/permissions/get {field} username")
    def get(call: Call) -> dict[str, Any]:
        return shown(call, _entity(call, resource, call[field]))

    @_endpoint(f"PATCH {path}/permissions/update {field} username permission")
    def update(call: Call) -> dict[str, Any]:
        change(call, True)
        return {}

    @_endpoint(f"DELETE {path}/permissions/delete {field} username")
    def delete(call: Call) -> dict[str, Any]:
        _revoke(call, Holder(call["username"]), _entity(call, resource, call[field]))
        return {}


_declare(EXPERIMENT, "experiments", "experiment_id", "experiment_permission")
_declare(MODEL, "registered-models", "name", "registered_model_permission")


# Permissions of a user, as clients of 3.13 and later ask


def _target(call: Call, pattern: str) -> PermissionTarget:
    """Return the target of the type in a call and an id. A final ``*`` makes a prefix."""
    resource = _RESOURCES.get(call["resource_type"])
    if resource is None:
        raise InvalidRequest(
            f"Invalid resource type '{call['resource_type']}'. "
            f"Valid resource types are: {tuple(_RESOURCES)}"
        )
    if resource == EXPERIMENT and not pattern.endswith("*"):
        return PermissionTarget(EXPERIMENT, None, pattern)
    return access_admin.target_of(call.node, resource, pattern)


def _grantable(call: Call) -> PermissionTarget:
    """Return the target in a call, after checking that the caller may grant it."""
    target = _target(call, call["resource_id"])
    check_grant(call.caller.rights, target, call["resource_id"])
    return target


@_endpoint("POST users/permissions/grant username resource_type resource_id permission", "3.0")
def grant(call: Call) -> dict[str, Any]:
    """Grant a permission that does not exist yet."""
    _grant(call, Holder(call["username"]), _grantable(call), exists=False)
    return {}


@_endpoint("POST users/permissions/revoke username resource_type resource_id", "3.0")
def revoke(call: Call) -> dict[str, Any]:
    """Revoke an existing permission."""
    _revoke(call, Holder(call["username"]), _grantable(call))
    return {}


@_endpoint("GET users/permissions/get username resource_type resource_id", "3.0")
def get_permission(call: Call) -> dict[str, Any]:
    """Return what a user may do with something, whatever the reason."""
    target = _target(call, call["resource_id"])
    rights = user_rights(call.caller).of(call["username"])
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
        roles = [
            (role, access_admin.permissions(cursor, Holder(None, role["role_id"])))
            for role in access_admin.roles(cursor)
            if name in role["users"]
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


@_endpoint("GET users/permissions/list username", "3.0")
def list_permissions(call: Call) -> dict[str, Any]:
    """Return all permissions of a user and of the user's roles."""
    return _permissions_of(call, call["username"])


@_endpoint("GET users/current/permissions", "3.0")
def current_permissions(call: Call) -> dict[str, Any]:
    """Return all permissions of the signed-in user."""
    return _permissions_of(call, call.caller.actor.name)


# Roles


def _role(role: dict[str, Any], granted: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": role["role_id"],
        "name": role["role"],
        "workspace": _WORKSPACE,
        "description": role["description"],
        "permissions": [_role_permission(role["role_id"], one) for one in granted],
    }


def _role_permission(role_id: int, granted: dict[str, Any]) -> dict[str, Any]:
    return {"id": granted["permission_id"], "role_id": role_id, **_resource(granted)}


def _roles(call: Call, user: str | None = None) -> list[dict[str, Any]]:
    """Return all roles, or those of a user, with their permissions."""
    with call.node.read() as cursor:
        if user is not None:
            access_admin.user(cursor, user)
        return [
            _role(role, access_admin.permissions(cursor, Holder(None, role["role_id"])))
            for role in access_admin.roles(cursor)
            if user is None or user in role["users"]
        ]


def _one_role(call: Call, role_id: int) -> dict[str, Any]:
    for role in _roles(call):
        if role["id"] == role_id:
            return role
    raise NotFound(f"Role with id={role_id} not found")


@_endpoint("POST roles/create name workspace description?", "3.0")
def create_role(call: Call) -> dict[str, Any]:
    """Create a role."""
    if call["workspace"] != _WORKSPACE:
        raise InvalidRequest(
            f"There are no workspaces here but '{_WORKSPACE}', so no '{call['workspace']}'."
        )
    made = _perform(call, "CreateRole", role=call["name"], description=call.get("description"))
    return {"role": _one_role(call, made["role_id"])}


@_endpoint("GET roles/get role_id", "3.0")
def get_role(call: Call) -> dict[str, Any]:
    """Return a role with its permissions."""
    return {"role": _one_role(call, call["role_id"])}


@_endpoint("GET roles/list workspace?", "3.0")
def list_roles(call: Call) -> dict[str, Any]:
    """Return all roles with their permissions."""
    if call.get("workspace", _WORKSPACE) != _WORKSPACE:
        return {"roles": []}
    return {"roles": _roles(call)}


@_endpoint("PATCH roles/update role_id name? description?", "3.0")
def update_role(call: Call) -> dict[str, Any]:
    """Rename or describe a role."""
    name, description = call.get("name"), call.get("description")
    if name is None and description is None:
        raise InvalidRequest(
            "At least one of 'name' or 'description' must be provided to update a role."
        )
    _perform(call, "UpdateRole", role_id=call["role_id"], role=name, description=description)
    return {"role": _one_role(call, call["role_id"])}


@_endpoint("DELETE roles/delete role_id", "3.0")
def delete_role(call: Call) -> dict[str, Any]:
    """Delete a role."""
    _perform(call, "DeleteRole", role_id=call["role_id"])
    return {}


@_endpoint("POST roles/permissions/add role_id resource_type resource_pattern permission", "3.0")
def add_role_permission(call: Call) -> dict[str, Any]:
    """Grant a permission to a role."""
    return _set_of_role(
        call, Holder(None, call["role_id"]), _target(call, call["resource_pattern"]), exists=False
    )


@_endpoint("PATCH roles/permissions/update role_permission_id permission", "3.0")
def update_role_permission(call: Call) -> dict[str, Any]:
    """Change a permission of a role."""
    return _set_of_role(call, *_by_id(call), exists=True)


def _set_of_role(
    call: Call, holder: Holder, target: PermissionTarget, *, exists: bool
) -> dict[str, Any]:
    _grant(call, holder, target, exists=exists)
    with call.node.read() as cursor:
        found = access_admin.permissions(cursor, holder, target)
    return {"role_permission": _role_permission(holder.role_id or 0, found[0])}


def _by_id(call: Call) -> tuple[Holder, PermissionTarget]:
    with call.node.read() as cursor:
        found = access_admin.role_permission(cursor, call["role_permission_id"])
    if found is None:
        raise NotFound(f"Role permission with id={call['role_permission_id']} not found")
    return found


@_endpoint("DELETE roles/permissions/remove role_permission_id", "3.0")
def remove_role_permission(call: Call) -> dict[str, Any]:
    """Revoke a permission of a role."""
    _revoke(call, *_by_id(call))
    return {}


@_endpoint("GET roles/permissions/list role_id", "3.0")
def list_role_permissions(call: Call) -> dict[str, Any]:
    """Return the permissions of a role."""
    return {"role_permissions": _one_role(call, call["role_id"])["permissions"]}


def _assignment(user_id: int, role_id: int) -> dict[str, Any]:
    # An assignment has no id here. A user has a role once.
    return {"id": role_id, "user_id": user_id, "role_id": role_id}


@_endpoint("POST roles/assign role_id username", "3.0")
def assign_role(call: Call) -> dict[str, Any]:
    """Give a user a role."""
    _perform(call, "AssignRole", role_id=call["role_id"], user=call["username"])
    with call.node.read() as cursor:
        user_id = access_admin.user(cursor, call["username"])["user_id"]
    return {"assignment": _assignment(user_id, call["role_id"])}


@_endpoint("DELETE roles/unassign role_id username", "3.0")
def unassign_role(call: Call) -> dict[str, Any]:
    """Take a role from a user."""
    _perform(call, "UnassignRole", role_id=call["role_id"], user=call["username"])
    return {}


@_endpoint("GET users/roles/list username", "3.0")
def list_user_roles(call: Call) -> dict[str, Any]:
    """Return the roles of a user."""
    return {"roles": _roles(call, call["username"])}


@_endpoint("GET roles/users/list role_id", "3.0")
def list_role_users(call: Call) -> dict[str, Any]:
    """Return the users who have a role."""
    role_id = call["role_id"]
    with call.node.read() as cursor:
        users = {user["user"]: user["user_id"] for user in access_admin.users(cursor)}
        roles = {role["role_id"]: role for role in access_admin.roles(cursor)}
    if role_id not in roles:
        raise NotFound(f"Role with id={role_id} not found")
    ids = sorted(users[name] for name in roles[role_id]["users"])
    return {"assignments": [_assignment(user_id, role_id) for user_id in ids]}
