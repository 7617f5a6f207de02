"""Change and list users, tokens, roles and permissions, for routes and commands."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import duckdb

from modeltrail.api.access.credentials import hash_password
from modeltrail.api.access.tokens import new_token, token_hash
from modeltrail.api.actor import Actor, Asker
from modeltrail.api.answers import rows
from modeltrail.api.errors import Conflict, InvalidRequest, NotFound
from modeltrail.api.node import Node
from modeltrail.consumers.projections.access import SERVER, Token
from modeltrail.consumers.projections.requests import Verdict
from modeltrail.consumers.reading import sql

BY_SERVER = Asker(Actor(SERVER, True))
SESSION_S = 12 * 3600
"""How long a session lasts, in seconds."""


class Holder(NamedTuple):
    """Who has a permission: a user by name, or a role by id."""

    user: str | None = None
    role_id: int | None = None


_ANYBODY = Holder()


class PermissionTarget(NamedTuple):
    """What a permission is for: one entity, or names that match a pattern."""

    resource: str
    pattern: str | None = None
    entity_id: str | None = None


class MadeToken(NamedTuple):
    """A new token."""

    verdict: Verdict
    user: str
    token: str
    """The token itself, which is not stored."""
    token_id: int
    expires_at_ms: int | None


class Updated(NamedTuple):
    """A changed user."""

    verdict: Verdict
    tokens_ended: int
    tokens_left: int


def create_user(
    node: Node,
    asker: Asker,
    name: str,
    password: str | None,
    *,
    admin: bool = False,
) -> Verdict:
    """Create a user, whose id is the verdict's offset. ``None`` as password means tokens only.

    Raises:
        Refused: the name is taken, or not a valid user name.
        InvalidRequest: the password is too short.
    """
    hash = None if password is None else hash_password(password)
    fields = {"user": name, "password_hash": hash, "admin": admin}
    return node.decide(asker, "CreateUser", fields)


def update_user(
    node: Node,
    asker: Asker,
    name: str,
    *,
    password: str | None = None,
    admin: bool | None = None,
    keep_tokens: bool = False,
) -> Updated:
    """Change a user. Raises ``Refused`` or ``InvalidRequest``.

    A new password ends all tokens of the user, unless they are to be kept: someone who knew the old
    password may have made one.
    """
    hash = None if password is None else hash_password(password)
    end_tokens = password is not None and not keep_tokens
    fields = {"user": name, "password_hash": hash, "admin": admin, "end_tokens": end_tokens}
    before = _number_of_tokens(node, name)
    verdict = node.decide(asker, "UpdateUser", fields)
    left = _number_of_tokens(node, name)
    return Updated(verdict, max(0, before - left), left)


def _number_of_tokens(node: Node, user: str) -> int:
    with node.read() as cursor:
        return len(tokens(cursor, user))


def create_token(
    node: Node,
    asker: Asker,
    user: str,
    *,
    description: str | None = None,
    expires_at_ms: int | None = None,
    made_by: Token | None = None,
    kind: str = "token",
) -> MadeToken:
    """Create a token of a user.

    A token created with another token expires no later than that one, and by default with it.

    Raises:
        Refused: there is no such user, or the token would outlive the one that creates it.
        InvalidRequest: it would have expired already.
        Conflict: the idempotency key created a token before, which cannot be shown again.
    """
    if expires_at_ms is None and made_by is not None:
        expires_at_ms = made_by.expires_at_ms
    if expires_at_ms is not None and expires_at_ms <= time.time() * 1000:
        raise InvalidRequest("the token would have expired already")
    token = new_token()
    hash = token_hash(token)
    fields = {
        "user": user,
        "description": description,
        "token_hash": hash,
        "expires_at_ms": expires_at_ms,
        "made_by_token": None if made_by is None else int(made_by.token_id),
        "kind": kind,
    }
    verdict = node.decide(asker, "CreateToken", fields)
    token_id = verdict.offset
    if asker.idempotency_key is not None:
        with node.read() as cursor:
            kept = cursor.execute(sql("access.secret"), [str(token_id)]).fetchone()
        if kept != (hash,):
            raise Conflict(
                f"token {token_id} was made by an earlier request with this Idempotency-Key, and "
                "is shown only once; end it and make another if you did not see it",
                token_id=token_id,
            )
    return MadeToken(verdict, user, token, token_id, expires_at_ms)


def create_session(node: Node, asker: Asker, user: str, made_by: Token | None) -> MadeToken:
    """Create the token of a browser's session. Raises ``Refused``.

    Args:
        node: The node.
        asker: Who signs in.
        user: Their name.
        made_by: The token that they signed in with, which the session does not outlive.
    """
    expires_at_ms = int((time.time() + SESSION_S) * 1000)
    if made_by is not None and made_by.expires_at_ms is not None:
        expires_at_ms = min(expires_at_ms, made_by.expires_at_ms)
    return create_token(
        node, asker, user, expires_at_ms=expires_at_ms, made_by=made_by, kind="session"
    )


def grant(
    node: Node,
    asker: Asker,
    holder: Holder,
    target: PermissionTarget,
    permission: str,
    *,
    exists: bool | None = None,
) -> Verdict:
    """Grant or change a permission. Raises ``Refused``.

    Args:
        node: The node.
        asker: Who grants it.
        holder: Who gets it.
        target: What it is for.
        permission: READ, USE, EDIT, MANAGE, NO_PERMISSIONS or DENY.
        exists: Only if one for the same target exists already (true) or does not (false).
    """
    fields = {**holder._asdict(), **target._asdict(), "permission": permission, "exists": exists}
    return node.decide(asker, "GrantPermission", fields)


def revoke(node: Node, asker: Asker, holder: Holder, target: PermissionTarget) -> Verdict:
    """Revoke a permission. Raises ``Refused``."""
    fields = {**holder._asdict(), **target._asdict()}
    return node.decide(asker, "RevokePermission", fields)


_IDS = {
    "experiment": "access.experiment_named",
    "registered_model": "access.model_named",
}


def target_of(node: Node, resource: str, pattern: str) -> PermissionTarget:
    """Return the target of a name or pattern: an existing object itself, or the pattern."""
    query = _IDS.get(resource)
    if query is None:
        raise InvalidRequest(
            f"Invalid resource type '{resource}'. Valid resource types are: {tuple(_IDS)}"
        )
    if not pattern.endswith("*"):
        with node.read() as cursor:
            row = cursor.execute(sql(query), [pattern]).fetchone()
        if row is not None:
            return PermissionTarget(resource, None, str(row[0]))
    return PermissionTarget(resource, pattern)


# Listing


def users(cursor: duckdb.DuckDBPyConnection, name: str | None = None) -> list[dict[str, Any]]:
    """Return all users, or one."""
    return rows(
        cursor,
        'SELECT "user", admin, has_password, created_at, updated_at, created_by, '
        "user_id::BIGINT AS user_id "
        'FROM users WHERE ? IS NULL OR "user" = ? ORDER BY "user"',
        [name, name],
    )


def user(cursor: duckdb.DuckDBPyConnection, name: str) -> dict[str, Any]:
    """Return one user. Raises ``NotFound``."""
    found = users(cursor, name)
    if not found:
        raise NotFound(f"User with username={name} not found")
    return found[0]


def tokens(cursor: duckdb.DuckDBPyConnection, name: str | None = None) -> list[dict[str, Any]]:
    """Return tokens, of all users or of one, without their secrets."""
    return rows(
        cursor,
        'SELECT token_id::BIGINT AS token_id, "user", description, expires_at, created_at, '
        "created_by, made_by_token::BIGINT AS made_by_token, kind "
        'FROM tokens WHERE ? IS NULL OR "user" = ? ORDER BY created_at, token_id',
        [name, name],
    )


def permissions(
    cursor: duckdb.DuckDBPyConnection,
    holder: Holder = _ANYBODY,
    target: PermissionTarget | None = None,
) -> list[dict[str, Any]]:
    """Return permissions: of everyone or one holder, for everything or one target."""
    where: list[str] = []
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
    return rows(
        cursor,
        sql("access.granted", conditions="".join(f" AND {one}" for one in where)),
        params,
    )


def roles(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Return all roles with their users."""
    return rows(
        cursor,
        "SELECT role_id::BIGINT AS role_id, role, description, "
        'array(SELECT m."user" FROM role_members m WHERE m.role_id = r.role_id ORDER BY 1) '
        "AS users FROM roles r ORDER BY role",
        [],
    )


def role_permission(
    cursor: duckdb.DuckDBPyConnection, permission_id: int
) -> tuple[Holder, PermissionTarget] | None:
    """Return which role has a permission, and its target; None if no role has it."""
    row = cursor.execute(sql("access.role_permission"), [str(permission_id)]).fetchone()
    return None if row is None else (Holder(None, row[0]), PermissionTarget(*row[1:]))
