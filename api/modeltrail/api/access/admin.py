"""Users, tokens, roles and permissions: changing and listing them, for routes and commands."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import duckdb

from modeltrail.api.access.credentials import hash_password
from modeltrail.api.access.tokens import Actor, new_token, token_hash
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.node import Node, Verdict
from modeltrail.consumers.projections.access import SERVER

SERVER_ACTOR = Actor(SERVER, True)


class Holder(NamedTuple):
    """Who holds a permission: a user by name, or a role by its id."""

    user: str | None = None
    role_id: int | None = None


_ANYBODY = Holder()


class Target(NamedTuple):
    """What a permission is for: one entity, or what fits a pattern of names."""

    resource: str
    pattern: str | None = None
    entity_id: str | None = None


class MadeToken(NamedTuple):
    """A new token."""

    token: str
    """To be told to its user, for the last time."""
    token_id: int


def create_user(
    node: Node,
    actor: Actor,
    name: str,
    password: str | None,
    *,
    admin: bool = False,
    reason: str | None = None,
) -> int:
    """Create a user; returns the id. ``None`` as password makes one with tokens only.

    Raises:
        Refused: the name is taken, or not one for a user.
        InvalidRequest: the password is too short.
    """
    hash = None if password is None else hash_password(password)
    fields = {"user": name, "password_hash": hash, "admin": admin}
    return node.decide("CreateUser", fields, actor, reason=reason).position.offset


def update_user(
    node: Node,
    actor: Actor,
    name: str,
    *,
    password: str | None = None,
    admin: bool | None = None,
    reason: str | None = None,
) -> Verdict:
    """Change a user; raises ``Refused`` or ``InvalidRequest``."""
    hash = None if password is None else hash_password(password)
    fields = {"user": name, "password_hash": hash, "admin": admin}
    return node.decide("UpdateUser", fields, actor, reason=reason)


def delete_user(node: Node, actor: Actor, name: str, reason: str | None = None) -> Verdict:
    """Delete a user; raises ``Refused``."""
    return node.decide("DeleteUser", {"user": name}, actor, reason=reason)


def create_token(
    node: Node,
    actor: Actor,
    user: str,
    *,
    description: str | None = None,
    expires_at_ms: int | None = None,
) -> MadeToken:
    """Make a token of a user; raises ``Refused``."""
    if expires_at_ms is not None and expires_at_ms <= time.time() * 1000:
        raise InvalidRequest("the token would have expired already")
    token = new_token()
    fields = {
        "user": user,
        "description": description,
        "token_hash": token_hash(token),
        "expires_at_ms": expires_at_ms,
    }
    return MadeToken(token, node.decide("CreateToken", fields, actor).position.offset)


def revoke_token(node: Node, actor: Actor, token_id: int, reason: str | None = None) -> Verdict:
    """End a token; raises ``Refused``."""
    return node.decide("RevokeToken", {"token_id": token_id}, actor, reason=reason)


def grant(
    node: Node,
    actor: Actor,
    holder: Holder,
    target: Target,
    permission: str,
    *,
    exists: bool | None = None,
    reason: str | None = None,
) -> Verdict:
    """Grant a permission, or change it; raises ``Refused``.

    Args:
        node: The node.
        actor: Who grants it.
        holder: To whom.
        target: For what.
        permission: READ, USE, EDIT, MANAGE, NO_PERMISSIONS or DENY.
        exists: Only where one for the same exists already (true) or does not (false).
        reason: Why.
    """
    fields = {**holder._asdict(), **target._asdict(), "permission": permission, "exists": exists}
    return node.decide("GrantPermission", fields, actor, reason=reason)


def revoke(
    node: Node, actor: Actor, holder: Holder, target: Target, reason: str | None = None
) -> Verdict:
    """Take a permission back; raises ``Refused``."""
    fields = {**holder._asdict(), **target._asdict()}
    return node.decide("RevokePermission", fields, actor, reason=reason)


_IDS = {
    "experiment": "SELECT experiment_id FROM fold.experiments WHERE name = ?",
    "registered_model": "SELECT model_key FROM fold.models WHERE model = ? AND NOT deleted",
}


def target_of(node: Node, resource: str, pattern: str) -> Target:
    """What a name or pattern means: something that is there is meant itself, whatever its name."""
    query = _IDS.get(resource)
    if query is None:
        raise InvalidRequest(
            f"Invalid resource type '{resource}'. Valid resource types are: {tuple(_IDS)}"
        )
    if not pattern.endswith("*"):
        with node.read() as cursor:
            row = cursor.execute(query, [pattern]).fetchone()
        if row is not None:
            return Target(resource, None, str(row[0]))
    return Target(resource, pattern)


# Listing


def users(cursor: duckdb.DuckDBPyConnection, name: str | None = None) -> list[dict[str, Any]]:
    """Users, all or one."""
    return _listed(
        cursor,
        'SELECT "user", admin, has_password, created_at, updated_at, created_by, '
        "user_id::BIGINT AS user_id "
        'FROM users WHERE ? IS NULL OR "user" = ? ORDER BY "user"',
        [name, name],
    )


def user(cursor: duckdb.DuckDBPyConnection, name: str) -> dict[str, Any]:
    """One user; raises ``NotFound``."""
    found = users(cursor, name)
    if not found:
        raise NotFound(f"User with username={name} not found")
    return found[0]


def tokens(cursor: duckdb.DuckDBPyConnection, name: str | None = None) -> list[dict[str, Any]]:
    """Tokens, of all users or of one; never the secrets."""
    return _listed(
        cursor,
        'SELECT token_id::BIGINT AS token_id, "user", description, expires_at, created_at, '
        'created_by FROM tokens WHERE ? IS NULL OR "user" = ? ORDER BY created_at, token_id',
        [name, name],
    )


def permissions(
    cursor: duckdb.DuckDBPyConnection,
    holder: Holder = _ANYBODY,
    target: Target | None = None,
) -> list[dict[str, Any]]:
    """What is granted: to everybody or to one holder, for everything or for one target."""
    where: list[str] = ["NOT p.deleted"]
    params: list[Any] = []
    if holder.user is not None:
        where.append('v."user" = ?')
        params.append(holder.user)
    if holder.role_id is not None:
        where.append("p.holder = 'role' AND p.holder_id = ?")
        params.append(str(holder.role_id))
    if target is not None:
        where.append(
            "p.resource = ? AND p.pattern IS NOT DISTINCT FROM ? "
            "AND p.entity_id IS NOT DISTINCT FROM ?"
        )
        params += target
    return _listed(
        cursor,
        'SELECT p.permission_id::BIGINT AS permission_id, v."user", v.role, v.resource, '
        "v.pattern, v.entity_id, v.permission, v.granted_at, v.granted_by, v.reason "
        "FROM fold.permissions p JOIN permissions v ON v.permission_id = p.permission_id "
        f"WHERE {' AND '.join(where)} "
        'ORDER BY v."user" NULLS LAST, v.role, v.resource, v.pattern, p.permission_id::BIGINT',
        params,
    )


def _listed(
    cursor: duckdb.DuckDBPyConnection, query: str, params: list[Any]
) -> list[dict[str, Any]]:
    from modeltrail.api.context import rows

    return rows(cursor, query, params)


def roles(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """All roles."""
    return _listed(
        cursor,
        "SELECT role_id::BIGINT AS role_id, role, description FROM roles ORDER BY role",
        [],
    )


def members(cursor: duckdb.DuckDBPyConnection) -> set[tuple[int, int]]:
    """Pairs of a role's id and the id of a user who has it."""
    return set(
        cursor.execute(
            "SELECT key::BIGINT, entity_id::BIGINT FROM fold.history "
            "WHERE entity = 'user' AND attribute = 'role' AND to_offset IS NULL"
        ).fetchall()
    )


def role_permission(
    cursor: duckdb.DuckDBPyConnection, permission_id: int
) -> tuple[Holder, Target] | None:
    """Which role holds a permission, and for what; None if no role holds one of that id."""
    row = cursor.execute(
        "SELECT holder_id::BIGINT, resource, pattern, entity_id FROM fold.permissions "
        "WHERE permission_id = ? AND holder = 'role' AND NOT deleted",
        [str(permission_id)],
    ).fetchone()
    return None if row is None else (Holder(None, row[0]), Target(*row[1:]))
