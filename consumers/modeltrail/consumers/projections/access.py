"""The access rules of the registry: users, tokens, roles and permissions.

They are decided in the order of the registry's log like everything else there, so that a permission
that was revoked before a promotion is revoked on every node. Hashes of passwords and tokens are
stored in a separate table, which no query can read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import duckdb

from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.ledger import Decisions, Entity, Ledger, Row
from modeltrail.consumers.projections.registry_rules import Rejected
from modeltrail.consumers.projections.requests import Event
from modeltrail.limits import NAME_CHARACTERS_MAX, PERMISSIONS, RESOURCES

SERVER: Final = "modeltrail"
"""The name of the server itself as an actor. No user can have it."""

TOKEN_KINDS: Final = ("token", "session")
"""What a token is: one that its user made, or a browser's cookie after a sign-in."""
SESSIONS_MAX = 100
"""Most sessions of a user at a time. Another sign-in ends the oldest."""

PATTERN_MAX = 501


@dataclass(slots=True, kw_only=True, eq=False)
class User(Entity):
    """A row of ``fold.users``."""

    table = "fold.users"
    keys = ("user_id",)
    kind = "user"
    user_id: Final[str]
    name: Final[str]
    admin: bool
    has_password: bool
    created_at_ms: Final[int]
    created_by: Final[str]


@dataclass(slots=True, kw_only=True, eq=False)
class Token(Entity):
    """A row of ``fold.tokens``."""

    table = "fold.tokens"
    keys = ("token_id",)
    kind = "token"
    token_id: Final[str]
    user_id: Final[str]
    description: Final[str | None]
    expires_at_ms: Final[int | None]
    made_by_token: Final[str | None]
    token_kind: Final[str]
    created_at_ms: Final[int]
    created_by: Final[str]


@dataclass(slots=True, kw_only=True, eq=False)
class Role(Entity):
    """A row of ``fold.roles``."""

    table = "fold.roles"
    keys = ("role_id",)
    kind = "role"
    role_id: Final[str]
    name: str
    description: str | None
    created_at_ms: Final[int]
    created_by: Final[str]


@dataclass(slots=True, kw_only=True, eq=False)
class Permission(Entity):
    """A row of ``fold.permissions``."""

    table = "fold.permissions"
    keys = ("permission_id",)
    kind = "permission"
    permission_id: Final[str]
    holder: Final[str]
    holder_id: Final[str]
    resource: Final[str]
    pattern: Final[str | None]
    entity_id: Final[str | None]
    permission: str
    created_at_ms: Final[int]
    created_by: Final[str]

    @property
    def target(self) -> _Target:
        """Return who has it, and what it is for."""
        return _Target(self.holder, self.holder_id, self.resource, self.pattern, self.entity_id)


@dataclass(slots=True, kw_only=True, eq=False)
class Secret(Row):
    """A row of ``fold.secrets``."""

    table = "fold.secrets"
    keys = ("secret_id",)
    in_use = "hash IS NOT NULL"
    secret_id: Final[str]
    hash: str | None


class _Target(NamedTuple):
    holder: str
    holder_id: str
    resource: str
    pattern: str | None
    entity_id: str | None


class Account(NamedTuple):
    """A user who can sign in."""

    user_id: str
    name: str
    admin: bool
    password_hash: str | None
    role_ids: tuple[str, ...]


class Grants(NamedTuple):
    """The permissions of one user or role on one kind of resource."""

    by_id: dict[str, str]
    by_name: dict[str, str]
    prefixes: dict[str, str]
    """By the beginning of names."""


class Accounts(NamedTuple):
    """Who can sign in, and what is granted. It never changes, so any thread may read it."""

    users: Mapping[str, Account]
    """By name."""
    tokens: Mapping[str, tuple[Token, Account]]
    """By hash, with their users."""
    grants: Mapping[tuple[str, str, str], Grants]
    """By ``user`` or ``role``, its id, and the resource."""


class Access:
    """Decides the events about users, tokens, roles and permissions."""

    def __init__(self, ledger: Ledger) -> None:
        """Write effects to a ledger."""
        self._ledger = ledger
        self.accounts = Accounts({}, {}, {})
        """As of the last ``publish``."""
        self.users_changed = True
        """Whether users, tokens or roles changed since then."""
        self._grants: dict[tuple[str, str, str], Grants] = {}
        self._copied: set[tuple[str, str, str]] = set()  # those that were changed since then
        self._users: dict[str, User] = {}  # by name
        self._tokens: dict[str, Token] = {}  # by id, in the order of creation
        self._roles: dict[str, Role] = {}  # by id
        self._permissions: dict[_Target, Permission] = {}
        self._secrets: dict[str, Secret] = {}

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the state from the tables."""
        ledger = self._ledger
        self._users = {user.name: user for user in ledger.load(con, User)}
        tokens = sorted(ledger.load(con, Token), key=lambda token: int(token.token_id))
        self._tokens = {token.token_id: token for token in tokens}
        self._roles = {role.role_id: role for role in ledger.load(con, Role)}
        self._permissions = {one.target: one for one in ledger.load(con, Permission)}
        for target, one in self._permissions.items():
            self._show(target, one.permission)
        self._secrets = {secret.secret_id: secret for secret in ledger.load(con, Secret)}

    def decisions(self) -> Decisions:
        """Return the function that decides each type of event, by entity."""
        return {
            "user": {
                "CreateUser": self._create_user,
                "DeleteUser": self._delete_user,
                "UpdateUser": self._update_user,
            },
            "token": {"CreateToken": self._create_token, "RevokeToken": self._revoke_token},
            "role": {
                "AssignRole": self._assign_role,
                "CreateRole": self._create_role,
                "DeleteRole": self._delete_role,
                "UnassignRole": self._unassign_role,
                "UpdateRole": self._update_role,
            },
            "permission": {
                "GrantPermission": self._grant_permission,
                "RevokePermission": self._revoke_permission,
            },
        }

    # -- for readers ------------------------------------------------------------------------

    def publish(self) -> None:
        """Replace ``accounts`` by the present state, with a single assignment.

        Call it after whole decisions only. One of them may take several steps: a user who is being
        deleted must not seem to exist without a permission that denies something.
        """
        users, tokens, grants = self.accounts
        if self.users_changed:
            hashes = {owner: secret.hash for owner, secret in self._secrets.items()}
            by_id = {
                user.user_id: Account(
                    user.user_id,
                    user.name,
                    user.admin,
                    hashes.get(user.user_id),
                    tuple(key for name, key in user.open if name == "role" and key is not None),
                )
                for user in self._users.values()
            }
            users = {account.name: account for account in by_id.values()}
            tokens = {
                hashes[token.token_id] or "": (token, by_id[token.user_id])
                for token in self._tokens.values()
            }
            self.users_changed = False
        if self._copied:
            grants = {key: granted for key, granted in self._grants.items() if any(granted)}
            self._copied.clear()
        self.accounts = Accounts(users, tokens, grants)

    def _show(self, target: _Target, permission: str | None) -> None:
        """Let the next ``accounts`` show a permission, or None if it ended."""
        key = target[:3]
        if key not in self._copied:  # the present accounts use these dicts
            self._grants[key] = Grants(*map(dict, self._grants.get(key, ({}, {}, {}))))
            self._copied.add(key)
        by_id, by_name, prefixes = self._grants[key]
        pattern = target.pattern or ""
        if target.entity_id is not None:
            kept, of = by_id, target.entity_id
        elif pattern.endswith("*"):
            kept, of = prefixes, pattern[:-1]
        else:
            kept, of = by_name, pattern
        if permission is None:
            del kept[of]
        else:
            kept[of] = permission

    # -- effects ----------------------------------------------------------------------------

    def _new_id(self) -> str:
        return str(self._ledger.request.offset)

    def _hide(self, owner: str, hash: str | None) -> None:
        """Store a hash where no query can read it, or remove it."""
        secret = self._secrets.get(owner)
        if secret is not None:
            secret.hash = hash
            self._ledger.change(secret)
            if hash is None:
                del self._secrets[owner]
        elif hash is not None:
            secret = self._secrets[owner] = Secret(secret_id=owner, hash=hash)
            self._ledger.add(secret)

    def grant_creator(self, resource: str, entity_id: str) -> None:
        """Give the user who created an experiment or model MANAGE on it."""
        request = self._ledger.request
        user = self._users.get(request.actor) if request.actor_verified else None
        if user is not None:
            self._grant(_Target("user", user.user_id, resource, None, entity_id), "MANAGE")

    def forget(self, resource: str, entity_id: str) -> None:
        """End the permissions on a deleted entity."""
        for target in list(self._permissions):
            if target.resource == resource and target.entity_id == entity_id:
                self._end_permission(target)

    def _grant(self, target: _Target, permission: str) -> None:
        found = self._permissions.get(target)
        if found is None:
            found = self._permissions[target] = self._ledger.begin(
                Permission(
                    permission_id=self._new_id(),
                    permission=permission,
                    **target._asdict(),
                    **self._ledger.created(),
                )
            )
        else:
            found.permission = permission
            self._ledger.touch(found)
        self._ledger.put(found, "permission", None, permission)
        self._show(target, permission)

    def _end_permission(self, target: _Target) -> None:
        self._ledger.end(self._permissions.pop(target))
        self._show(target, None)

    def _end_of_holder(self, holder: str, holder_id: str) -> None:
        for target in list(self._permissions):
            if (target.holder, target.holder_id) == (holder, holder_id):
                self._end_permission(target)

    # -- users ------------------------------------------------------------------------------

    def _user(self, name: str) -> User:
        user = self._users.get(name)
        if user is None:
            raise Rejected(rules.MISSING, f"User with username={name} not found")
        return user

    def _create_user(self, event: Event) -> None:
        name = event["user"]
        _check_user_name(name)
        if name in self._users:
            raise Rejected(rules.EXISTS, f"User (username={name}) already exists.")
        user = self._users[name] = self._ledger.begin(
            User(
                user_id=self._new_id(),
                name=name,
                admin=event["admin"],
                has_password=event["password_hash"] is not None,
                **self._ledger.created(),
            )
        )
        self._ledger.put(user, "admin", None, _text(user.admin))
        self._hide(user.user_id, event["password_hash"])

    def _update_user(self, event: Event) -> None:
        user = self._user(event["user"])
        if event["admin"] is not None:
            if not event["admin"]:
                self._check_not_last(user)
            user.admin = event["admin"]
            self._ledger.put(user, "admin", None, _text(user.admin))
        if event["password_hash"] is not None:
            self._hide(user.user_id, event["password_hash"])
            user.has_password = True
        if event["end_tokens"]:
            self._end_tokens(self._tokens_of(user))
        self._ledger.touch(user)

    def _delete_user(self, event: Event) -> None:
        user = self._user(event["user"])
        self._check_not_last(user)
        self._end_tokens(self._tokens_of(user))
        self._end_of_holder("user", user.user_id)
        self._ledger.end(user)
        self._hide(user.user_id, None)
        del self._users[event["user"]]

    def _check_not_last(self, user: User) -> None:
        admins = [one for one in self._users.values() if one.admin]
        if admins == [user]:
            raise Rejected(
                rules.INVALID, f"{user.name} is the last administrator; make another first."
            )

    # -- tokens -----------------------------------------------------------------------------

    def _create_token(self, event: Event) -> None:
        user = self._user(event["user"])
        rules.description(event["description"])
        if event["kind"] not in TOKEN_KINDS:
            raise Rejected(rules.INVALID, f"Invalid kind. Valid kinds are: {TOKEN_KINDS}")
        maker = event["made_by_token"]
        if maker is not None:
            self._check_maker(str(maker), event["expires_at_ms"])
        if event["kind"] == "session":
            self._end_old_sessions(user)
        token = self._ledger.begin(
            Token(
                token_id=self._new_id(),
                user_id=user.user_id,
                description=event["description"],
                expires_at_ms=event["expires_at_ms"],
                made_by_token=None if maker is None else str(maker),
                token_kind=event["kind"],
                **self._ledger.created(),
            )
        )
        self._tokens[token.token_id] = token
        self._hide(token.token_id, event["token_hash"])

    def _revoke_token(self, event: Event) -> None:
        token = self._tokens.get(str(event["token_id"]))
        if token is None:
            raise Rejected(rules.MISSING, f"Token with id={event['token_id']} not found")
        ended = {token.token_id: token}
        for one in self._tokens.values():
            if one.made_by_token in ended and one.user_id == token.user_id:
                ended[one.token_id] = one
        self._end_tokens(ended.values())

    def _end_old_sessions(self, user: User) -> None:
        """End the sessions of a user that have expired, and the oldest if there are too many."""
        now = self._ledger.request.appended_at_ms
        sessions = [one for one in self._tokens_of(user) if one.token_kind == "session"]
        kept = [one for one in sessions if one.expires_at_ms is None or one.expires_at_ms > now]
        kept = kept[-(SESSIONS_MAX - 1) :]
        self._end_tokens([one for one in sessions if one not in kept])

    def _check_maker(self, token_id: str, expires_at_ms: int | None) -> None:
        maker = self._tokens.get(token_id)
        if maker is None:
            raise Rejected(rules.CONFLICT, "The token that asks for another one was ended.")
        last_ms = maker.expires_at_ms
        if last_ms is not None and (expires_at_ms is None or expires_at_ms > last_ms):
            raise Rejected(
                rules.INVALID,
                f"A token that is made by a token ends no later than it does, at {last_ms} ms.",
            )

    def _tokens_of(self, user: User) -> list[Token]:
        return [token for token in self._tokens.values() if token.user_id == user.user_id]

    def _end_tokens(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            self._ledger.end(token)
            self._hide(token.token_id, None)
            del self._tokens[token.token_id]

    # -- roles ------------------------------------------------------------------------------

    def _role(self, role_id: int) -> Role:
        role = self._roles.get(str(role_id))
        if role is None:
            raise Rejected(rules.MISSING, f"Role with id={role_id} not found")
        return role

    def _free_role_name(self, name: str) -> None:
        if not name.strip():
            raise Rejected(rules.INVALID, "Role name cannot be empty.")
        if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise Rejected(rules.INVALID, f"Invalid role name: {name[:NAME_CHARACTERS_MAX]!r}")
        if any(role.name == name for role in self._roles.values()):
            raise Rejected(rules.EXISTS, f"Role (name={name}) already exists.")

    def _create_role(self, event: Event) -> None:
        self._free_role_name(event["role"])
        rules.description(event["description"])
        role = self._ledger.begin(
            Role(
                role_id=self._new_id(),
                name=event["role"],
                description=event["description"],
                **self._ledger.created(),
            )
        )
        self._roles[role.role_id] = role
        self._ledger.put(role, "name", None, role.name)

    def _update_role(self, event: Event) -> None:
        role = self._role(event["role_id"])
        name = role.name if event["role"] is None else event["role"]
        if name != role.name:
            self._free_role_name(name)
        rules.description(event["description"])
        role.name = name
        self._ledger.put(role, "name", None, name)
        if event["description"] is not None:
            role.description = event["description"]
        self._ledger.touch(role)

    def _delete_role(self, event: Event) -> None:
        role = self._role(event["role_id"])
        for user in self._users.values():
            self._ledger.remove(user, "role", role.role_id)
        self._end_of_holder("role", role.role_id)
        self._ledger.end(role)
        del self._roles[role.role_id]

    def _assign_role(self, event: Event) -> None:
        role, user = self._role(event["role_id"]), self._user(event["user"])
        role_id = role.role_id
        if ("role", role_id) in user.open:
            raise Rejected(
                rules.EXISTS, f"Role {role_id} is already assigned to user {event['user']}."
            )
        self._ledger.put(user, "role", role_id, role_id)

    def _unassign_role(self, event: Event) -> None:
        role, user = self._role(event["role_id"]), self._user(event["user"])
        role_id = role.role_id
        if ("role", role_id) not in user.open:
            raise Rejected(
                rules.MISSING, f"Role {role_id} is not assigned to user {event['user']}."
            )
        self._ledger.remove(user, "role", role_id)

    # -- permissions ------------------------------------------------------------------------

    def _event_target(self, event: Event) -> _Target:
        if (event["user"] is None) == (event["role_id"] is None):
            raise Rejected(rules.INVALID, "either a user or a role holds a permission")
        if event["user"] is not None:
            holder, held_by = "user", self._user(event["user"]).user_id
        else:
            holder, held_by = "role", self._role(event["role_id"]).role_id
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
        return _Target(holder, held_by, resource, pattern, entity_id)

    def _grant_permission(self, event: Event) -> None:
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

    def _revoke_permission(self, event: Event) -> None:
        target = self._event_target(event)
        if target not in self._permissions:
            raise _other_than_expected({**event, "exists": True})
        self._end_permission(target)


def _check_user_name(name: str) -> None:
    if not name:
        raise Rejected(rules.INVALID, "Username cannot be empty.")
    if (
        len(name) > NAME_CHARACTERS_MAX
        or not name.isprintable()
        or ":" in name
        or name != name.strip()
        or name.lower() in (SERVER, "anonymous")
    ):
        raise Rejected(
            rules.INVALID,
            f"Invalid username {name[:NAME_CHARACTERS_MAX]!r}: expected at most "
            f"{NAME_CHARACTERS_MAX} printable characters without ':' or spaces at its ends, and "
            f"neither '{SERVER}' nor 'anonymous'.",
        )


def _other_than_expected(event: Event) -> Rejected:
    of = event["entity_id"] if event["entity_id"] is not None else event["pattern"]
    who = f"username={event['user']}" if event["user"] is not None else f"role={event['role_id']}"
    what = f"Permission for {event['resource']} {of} and {who}"
    if event["exists"]:
        return Rejected(rules.MISSING, f"{what} not found")
    return Rejected(rules.EXISTS, f"{what} already exists.")


def _text(value: bool) -> str:
    return "true" if value else "false"
