"""Who may do what: users, tokens, roles and permissions, as a part of the registry.

They are decided in the order of the registry's log like everything else there, so that whoever took
a permission away before a promotion has taken it away on every node. Hashes of passwords and tokens
are kept in a table of their own, which no query reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.registry_rules import Rejected
from modeltrail.consumers.projections.webhooks import endpoint

if TYPE_CHECKING:
    from modeltrail.consumers.projections.registry import Entity, RegistryProjection

Event = Mapping[str, Any]

PERMISSIONS: Final = ("NO_PERMISSIONS", "DENY", "READ", "USE", "EDIT", "MANAGE")
"""What can be granted. The first two say that the holder may do nothing, whatever else says."""
RESOURCES: Final = ("experiment", "registered_model")
"""What permissions are about. Runs, logged models and files go by their experiment."""

SERVER: Final = "modeltrail"
"""The name under which the server itself acts; nobody else may have it."""

USER_NAME_MAX = 250
PATTERN_MAX = 501

_SECRETS = ("password_hash", "token_hash", "secret")

_COMMON = {
    "created_at_ms": pa.int64(),
    "updated_at_ms": pa.int64(),
    "created_by": pa.string(),
    "deleted": pa.bool_(),
}
TABLES: Final = {
    "user": (
        "fold.users",
        ("user_id",),
        {
            "user_id": pa.string(),
            "name": pa.string(),
            "admin": pa.bool_(),
            "has_password": pa.bool_(),
            **_COMMON,
        },
        ("admin", "has_password", "updated_at_ms", "deleted"),
    ),
    "token": (
        "fold.tokens",
        ("token_id",),
        {
            "token_id": pa.string(),
            "user_id": pa.string(),
            "description": pa.string(),
            "expires_at_ms": pa.int64(),
            "made_by_token": pa.string(),
            **_COMMON,
        },
        ("deleted",),
    ),
    "role": (
        "fold.roles",
        ("role_id",),
        {"role_id": pa.string(), "name": pa.string(), "description": pa.string(), **_COMMON},
        ("name", "description", "updated_at_ms", "deleted"),
    ),
    "permission": (
        "fold.permissions",
        ("permission_id",),
        {
            "permission_id": pa.string(),
            "holder": pa.string(),
            "holder_id": pa.string(),
            "resource": pa.string(),
            "pattern": pa.string(),
            "entity_id": pa.string(),
            "permission": pa.string(),
            **_COMMON,
        },
        ("permission", "updated_at_ms", "deleted"),
    ),
    "secret": (
        "fold.secrets",
        ("secret_id",),
        {"secret_id": pa.string(), "hash": pa.string()},
        ("hash",),
    ),
}
"""The tables, as ``RegistryProjection`` writes them: keys, columns, and those that change."""

LOAD: Final = (
    "FROM fold.users WHERE NOT deleted",
    "FROM fold.tokens WHERE NOT deleted",
    "FROM fold.roles WHERE NOT deleted",
    "FROM fold.permissions WHERE NOT deleted",
    "FROM fold.secrets WHERE hash IS NOT NULL",
)
"""Queries for what ``Access.load`` takes, in its order."""

_Target = tuple[str, str, str, str | None, str | None]
"""Holder, its id, resource, pattern, id of the entity."""


def redacted(event: Event) -> Event:
    """An event as everybody may see it: without hashes, secrets and the paths of webhooks' URLs."""
    if not any(event.get(name) for name in (*_SECRETS, "url")):
        return event
    shown = {k: "(not shown)" if k in _SECRETS and v else v for k, v in event.items()}
    if shown.get("url"):
        shown["url"] = endpoint(shown["url"])
    return shown


class Access:
    """Decides the events about users, tokens, roles and permissions."""

    def __init__(self, registry: RegistryProjection) -> None:
        """Work for a projection, which writes the effects."""
        self._registry = registry
        self._users: dict[str, Entity] = {}  # by name
        self._roles: dict[str, Entity] = {}  # by name
        self._entities: dict[tuple[str, str], Entity] = {}  # by kind and id
        self._permissions: dict[_Target, Entity] = {}
        self._secrets: dict[str, dict[str, Any]] = {}

    def load(self, tables: Iterator[Iterable[dict[str, Any]]]) -> None:
        """Take the state from the rows that the queries of ``LOAD`` give."""
        from modeltrail.consumers.projections.registry import Entity

        users, tokens, roles, permissions, secrets = tables
        for kind, rows in (
            ("user", users),
            ("token", tokens),
            ("role", roles),
            ("permission", permissions),
        ):
            for row in rows:
                self._keep(kind, Entity(row))
        self._secrets = {row["secret_id"]: row for row in secrets}

    def entity(self, kind: str, entity_id: str) -> Entity:
        """A user, token, role or permission that is loaded."""
        return self._entities[kind, entity_id]

    def _keep(self, kind: str, entity: Entity) -> None:
        row = entity.row
        self._entities[kind, row[f"{kind}_id"]] = entity
        if kind == "user":
            self._users[row["name"]] = entity
        elif kind == "role":
            self._roles[row["name"]] = entity
        elif kind == "permission":
            self._permissions[_target(row)] = entity

    # -- effects ----------------------------------------------------------------------------

    def _new(self, kind: str, row: dict[str, Any]) -> Entity:
        """Make one, with the event's offset as its id."""
        row[f"{kind}_id"] = str(self._registry.request["offset"])
        entity = self._registry.new(kind, row)
        self._keep(kind, entity)
        return entity

    def _end(self, kind: str, entity: Entity) -> None:
        row = entity.row
        self._registry.end(kind, entity)
        self._entities.pop((kind, row[f"{kind}_id"]), None)
        if kind == "permission":
            del self._permissions[_target(row)]
        self._hide(row[f"{kind}_id"], None)

    def _hide(self, owner: str, hash: str | None) -> None:
        """Keep a hash where no query reaches it, or forget it."""
        row = self._secrets.get(owner)
        if row is not None:
            row["hash"] = hash
            self._registry.change("secret", row)
            if hash is None:
                del self._secrets[owner]
        elif hash is not None:
            row = self._secrets[owner] = {"secret_id": owner, "hash": hash}
            self._registry.add("secret", row)

    def own(self, resource: str, entity_id: str) -> None:
        """Let the user who created an experiment or model manage it."""
        request = self._registry.request
        user = self._users.get(request["actor"]) if request["actor_verified"] else None
        if user is not None:
            target = ("user", user.row["user_id"], resource, None, entity_id)
            self._grant(target, "MANAGE")

    def forget(self, resource: str, entity_id: str) -> None:
        """End the permissions for an entity that is no more."""
        for target, entity in list(self._permissions.items()):
            if target[2] == resource and target[4] == entity_id:
                self._end("permission", entity)

    def _grant(self, target: _Target, permission: str) -> None:
        found = self._permissions.get(target)
        if found is None:
            holder, holder_id, resource, pattern, entity_id = target
            found = self._new(
                "permission",
                {
                    "holder": holder,
                    "holder_id": holder_id,
                    "resource": resource,
                    "pattern": pattern,
                    "entity_id": entity_id,
                    "permission": permission,
                },
            )
        else:
            self._registry.update("permission", found, permission=permission)
            self._registry.touch("permission", found)
        self._registry.put("permission", found, "permission", None, permission)

    def _end_of_holder(self, holder: str, holder_id: str) -> None:
        for target, entity in list(self._permissions.items()):
            if target[:2] == (holder, holder_id):
                self._end("permission", entity)

    # -- users ------------------------------------------------------------------------------

    def _user(self, name: str) -> Entity:
        user = self._users.get(name)
        if user is None:
            raise Rejected(rules.MISSING, f"User with username={name} not found")
        return user

    def create_user(self, event: Event) -> None:
        """Create a user; a name that is taken is refused."""
        name = event["user"]
        _check_user_name(name)
        if name in self._users:
            raise Rejected(rules.EXISTS, f"User (username={name}) already exists.")
        has_password = event["password_hash"] is not None
        user = self._new(
            "user", {"name": name, "admin": event["admin"], "has_password": has_password}
        )
        self._registry.put("user", user, "admin", None, _text(event["admin"]))
        self._hide(user.row["user_id"], event["password_hash"])

    def update_user(self, event: Event) -> None:
        """Change a password, or whether a user is an administrator."""
        user = self._user(event["user"])
        if event["admin"] is not None:
            if not event["admin"]:
                self._check_not_last(user)
            self._registry.update("user", user, admin=event["admin"])
            self._registry.put("user", user, "admin", None, _text(event["admin"]))
        if event["password_hash"] is not None:
            self._hide(user.row["user_id"], event["password_hash"])
            self._registry.update("user", user, has_password=True)
        if event["end_tokens"]:
            self._end_tokens(lambda token: token.row["user_id"] == user.row["user_id"])
        self._registry.touch("user", user)

    def delete_user(self, event: Event) -> None:
        """Delete a user with tokens and permissions; a user of that name later is another one."""
        user = self._user(event["user"])
        self._check_not_last(user)
        user_id = user.row["user_id"]
        self._end_tokens(lambda token: token.row["user_id"] == user_id)
        self._end_of_holder("user", user_id)
        self._end("user", user)
        del self._users[event["user"]]

    def _check_not_last(self, user: Entity) -> None:
        admins = [one for one in self._users.values() if one.row["admin"]]
        if admins == [user]:
            raise Rejected(
                rules.INVALID, f"{user.row['name']} is the last administrator; make another first."
            )

    # -- tokens -----------------------------------------------------------------------------

    def create_token(self, event: Event) -> None:
        """Make a token of a user, which ends no later than the token that asked for it."""
        user = self._user(event["user"])
        rules.description(event["description"])
        maker = event["made_by_token"]
        if maker is not None:
            self._check_maker(str(maker), event["expires_at_ms"])
        token = self._new(
            "token",
            {
                "user_id": user.row["user_id"],
                "description": event["description"],
                "expires_at_ms": event["expires_at_ms"],
                "made_by_token": None if maker is None else str(maker),
            },
        )
        self._hide(token.row["token_id"], event["token_hash"])

    def revoke_token(self, event: Event) -> None:
        """End a token, and those that its user made with it."""
        token = self._entities.get(("token", str(event["token_id"])))
        if token is None:
            raise Rejected(rules.MISSING, f"Token with id={event['token_id']} not found")
        ended = {token.row["token_id"]}
        for one in self._tokens():  # in the order in which they were made
            row = one.row
            if row["made_by_token"] in ended and row["user_id"] == token.row["user_id"]:
                ended.add(row["token_id"])
        self._end_tokens(lambda one: one.row["token_id"] in ended)

    def _check_maker(self, token_id: str, expires_at_ms: int | None) -> None:
        maker = self._entities.get(("token", token_id))
        if maker is None:
            raise Rejected(rules.CONFLICT, "The token that asks for another one was ended.")
        last_ms = maker.row["expires_at_ms"]
        if last_ms is not None and (expires_at_ms is None or expires_at_ms > last_ms):
            raise Rejected(
                rules.INVALID,
                f"A token that is made by a token ends no later than it does, at {last_ms} ms.",
            )

    def _tokens(self) -> list[Entity]:
        found = (one for (kind, _), one in self._entities.items() if kind == "token")
        return sorted(found, key=lambda token: int(token.row["token_id"]))

    def _end_tokens(self, which: Callable[[Entity], bool]) -> None:
        for token in filter(which, self._tokens()):
            self._end("token", token)

    # -- roles ------------------------------------------------------------------------------

    def _role(self, role_id: int) -> Entity:
        role = self._entities.get(("role", str(role_id)))
        if role is None:
            raise Rejected(rules.MISSING, f"Role with id={role_id} not found")
        return role

    def _free_role_name(self, name: str) -> None:
        if not name.strip():
            raise Rejected(rules.INVALID, "Role name cannot be empty.")
        if len(name) > USER_NAME_MAX or not name.isprintable():
            raise Rejected(rules.INVALID, f"Invalid role name: {name[:USER_NAME_MAX]!r}")
        if name in self._roles:
            raise Rejected(rules.EXISTS, f"Role (name={name}) already exists.")

    def create_role(self, event: Event) -> None:
        """Create a role; a name that is taken is refused."""
        self._free_role_name(event["role"])
        rules.description(event["description"])
        role = self._new("role", {"name": event["role"], "description": event["description"]})
        self._registry.put("role", role, "name", None, event["role"])

    def update_role(self, event: Event) -> None:
        """Rename or describe a role."""
        role, name = self._role(event["role_id"]), event["role"]
        if name is not None and name != role.row["name"]:
            self._free_role_name(name)
            del self._roles[role.row["name"]]
            self._roles[name] = role
            self._registry.update("role", role, name=name)
            self._registry.put("role", role, "name", None, name)
        if event["description"] is not None:
            rules.description(event["description"])
            self._registry.update("role", role, description=event["description"])
        self._registry.touch("role", role)

    def delete_role(self, event: Event) -> None:
        """Delete a role with its permissions; nobody has it any more."""
        role = self._role(event["role_id"])
        role_id = role.row["role_id"]
        for user in self._users.values():
            self._registry.remove(user, "role", role_id)
        self._end_of_holder("role", role_id)
        self._end("role", role)
        del self._roles[role.row["name"]]

    def assign_role(self, event: Event) -> None:
        """Give a user a role, once."""
        role, user = self._role(event["role_id"]), self._user(event["user"])
        role_id = role.row["role_id"]
        if ("role", role_id) in user.open:
            raise Rejected(
                rules.EXISTS, f"Role {role_id} is already assigned to user {event['user']}."
            )
        self._registry.put("user", user, "role", role_id, role_id)

    def unassign_role(self, event: Event) -> None:
        """Take a role from a user who has it."""
        role, user = self._role(event["role_id"]), self._user(event["user"])
        role_id = role.row["role_id"]
        if ("role", role_id) not in user.open:
            raise Rejected(
                rules.MISSING, f"Role {role_id} is not assigned to user {event['user']}."
            )
        self._registry.remove(user, "role", role_id)

    # -- permissions ------------------------------------------------------------------------

    def _event_target(self, event: Event) -> _Target:
        if (event["user"] is None) == (event["role_id"] is None):
            raise Rejected(rules.INVALID, "either a user or a role holds a permission")
        if event["user"] is not None:
            holder, held_by = "user", self._user(event["user"]).row["user_id"]
        else:
            holder, held_by = "role", self._role(event["role_id"]).row["role_id"]
        resource, pattern, entity_id = event["resource"], event["pattern"], event["entity_id"]
        if resource not in RESOURCES:
            raise Rejected(
                rules.INVALID,
                f"Invalid resource type '{resource}'. Valid resource types are: {RESOURCES}",
            )
        if (pattern is None) == (entity_id is None):
            raise Rejected(rules.INVALID, "a permission is for a name pattern or for one entity")
        if pattern is not None and (
            not pattern or "*" in pattern[:-1] or len(pattern) > PATTERN_MAX or "\x00" in pattern
        ):
            raise Rejected(
                rules.INVALID,
                f"Invalid pattern {pattern[:PATTERN_MAX]!r}: expected a name, or a prefix "
                "followed by *, as in /search-team/*",
            )
        return holder, held_by, resource, pattern, entity_id

    def grant_permission(self, event: Event) -> None:
        """Grant or change a permission."""
        target = self._event_target(event)
        permission = event["permission"]
        if permission not in PERMISSIONS:
            raise Rejected(
                rules.INVALID,
                f"Invalid permission '{permission}'. Valid permissions are: {PERMISSIONS}",
            )
        if event["exists"] is not None and event["exists"] != (target in self._permissions):
            raise _other_than_expected(event)
        self._grant(target, permission)

    def revoke_permission(self, event: Event) -> None:
        """Take back a permission that is there."""
        found = self._permissions.get(self._event_target(event))
        if found is None:
            raise _other_than_expected({**event, "exists": True})
        self._end("permission", found)


def _check_user_name(name: str) -> None:
    if not name:
        raise Rejected(rules.INVALID, "Username cannot be empty.")
    if (
        len(name) > USER_NAME_MAX
        or not name.isprintable()
        or ":" in name
        or name != name.strip()
        or name.lower() in (SERVER, "anonymous")
    ):
        raise Rejected(
            rules.INVALID,
            f"Invalid username {name[:USER_NAME_MAX]!r}: expected at most {USER_NAME_MAX} "
            f"printable characters without ':' or spaces at its ends, and neither '{SERVER}' nor "
            "'anonymous'.",
        )


def _other_than_expected(event: Event) -> Rejected:
    of = event["entity_id"] if event["entity_id"] is not None else event["pattern"]
    who = f"username={event['user']}" if event["user"] is not None else f"role={event['role_id']}"
    what = f"Permission for {event['resource']} {of} and {who}"
    if event["exists"]:
        return Rejected(rules.MISSING, f"{what} not found")
    return Rejected(rules.EXISTS, f"{what} already exists.")


def _target(row: Mapping[str, Any]) -> _Target:
    return (row["holder"], row["holder_id"], row["resource"], row["pattern"], row["entity_id"])


def _text(value: bool) -> str:
    return "true" if value else "false"


DECISIONS: Final[dict[str, Callable[[Access, Event], None]]] = {
    "AssignRole": Access.assign_role,
    "CreateRole": Access.create_role,
    "CreateToken": Access.create_token,
    "CreateUser": Access.create_user,
    "DeleteRole": Access.delete_role,
    "DeleteUser": Access.delete_user,
    "GrantPermission": Access.grant_permission,
    "RevokePermission": Access.revoke_permission,
    "RevokeToken": Access.revoke_token,
    "UnassignRole": Access.unassign_role,
    "UpdateRole": Access.update_role,
    "UpdateUser": Access.update_user,
}
ENTITIES: Final = {
    type: next(kind for kind in ("user", "token", "role", "permission") if kind in type.lower())
    for type in DECISIONS
}
"""Event type to the entity that it is about."""
