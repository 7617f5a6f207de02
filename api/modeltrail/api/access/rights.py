"""Authentication and permissions: users, tokens and permissions as the fold has them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import duckdb

from modeltrail.api.access.acts import Level
from modeltrail.api.access.credentials import Passwords, Presented, presented
from modeltrail.api.access.tokens import TOKEN_PREFIX, token_hash
from modeltrail.api.actor import Actor
from modeltrail.api.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from modeltrail.api.gates import SIGN_IN
from modeltrail.api.node import Node
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY, REGISTRY_PARTITION

# Changes in the log are applied at once. Everything is read again from time to time, for the one
# case in which the past changes: a dead letter that can be decoded later.
_REREAD_S = 30.0
_KEPT_MAX = 100_000

EXPERIMENT: Final = "experiment"
MODEL: Final = "registered_model"


LEVELS: Final = {
    "NO_PERMISSIONS": Level.NONE,
    "DENY": Level.NONE,
    "READ": Level.READ,
    "USE": Level.USE,
    "EDIT": Level.EDIT,
    "MANAGE": Level.MANAGE,
}
"""The level of a permission, by MLflow's names."""


class Condition(NamedTuple):
    """An SQL condition, with the values of its marks ``?``."""

    sql: str
    params: list[Any]

    def named(self) -> tuple[str, dict[str, Any]]:
        """Return the condition with names instead of marks, for queries that use names."""
        pieces = self.sql.split("?")
        text = pieces[0] + "".join(f"$access_{n}{piece}" for n, piece in enumerate(pieces[1:]))
        return text, {f"access_{n}": value for n, value in enumerate(self.params)}


@dataclass(slots=True)
class Rules:
    """The permissions of one user for one kind of resource.

    The most specific one applies: for the entity itself, then for its exact name, then for the
    longest prefix of its name. Among equally specific ones (of the user and of roles) a denial
    wins, then the highest.
    """

    by_id: dict[str, Level] = field(default_factory=dict)
    by_name: dict[str, Level] = field(default_factory=dict)
    prefixes: dict[str, Level] = field(default_factory=dict)

    def add(self, pattern: str | None, entity_id: str | None, level: Level) -> None:
        """Add a permission for one entity, a name, or a prefix followed by ``*``."""
        if entity_id is not None:
            _combine(self.by_id, entity_id, level)
        elif pattern is not None and pattern.endswith("*"):
            _combine(self.prefixes, pattern[:-1], level)
        elif pattern is not None:
            _combine(self.by_name, pattern, level)

    def level(self, entity_id: str | None, name: str | None) -> Level | None:
        """Return what is allowed with an entity, or None if no permission matches."""
        if entity_id is not None and entity_id in self.by_id:
            return self.by_id[entity_id]
        if name is None:
            return None
        if name in self.by_name:
            return self.by_name[name]
        fitting = [prefix for prefix in self.prefixes if name.startswith(prefix)]
        return self.prefixes[max(fitting, key=len)] if fitting else None

    def denies(self) -> bool:
        """Return whether something is denied."""
        return any(
            level is Level.NONE
            for kept in (self.by_id, self.by_name, self.prefixes)
            for level in kept.values()
        )

    def readable(self, id_sql: str, name_sql: str, default: Level) -> Condition:
        """Return the condition on columns that ``level`` is at least READ."""
        cases: list[str] = []
        params: list[Any] = []
        for column, kept in ((id_sql, self.by_id), (name_sql, self.by_name)):
            for result in (True, False):
                values = [key for key, level in kept.items() if (level >= Level.READ) is result]
                if values:
                    cases.append(f"WHEN {column} IN (SELECT unnest(?::VARCHAR[])) THEN {result}")
                    params.append(values)
        for prefix in sorted(self.prefixes, key=len, reverse=True):
            cases.append(
                f"WHEN starts_with({name_sql}, ?) THEN {self.prefixes[prefix] >= Level.READ}"
            )
            params.append(prefix)
        rest = default >= Level.READ
        return Condition(f"CASE {' '.join(cases)} ELSE {rest} END" if cases else f"{rest}", params)


def _combine(kept: dict[str, Level], key: str, level: Level) -> None:
    other = kept.get(key)
    if other is not None:
        level = Level.NONE if Level.NONE in (level, other) else max(level, other)
    kept[key] = level


@dataclass(slots=True)
class User:
    """A user who can sign in."""

    user_id: str
    name: str
    admin: bool
    password_hash: str | None
    rules: dict[str, Rules] = field(default_factory=lambda: {EXPERIMENT: Rules(), MODEL: Rules()})


class Token(NamedTuple):
    """A token that signs in as a user."""

    token_id: int
    user_id: str
    expires_at_ms: int | None


@dataclass(slots=True)
class _State:
    """All users, tokens and permissions, as of a registry offset."""

    next_offset: int
    read_at_s: float
    users: dict[str, User] = field(default_factory=dict)  # by name
    users_by_id: dict[str, User] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)  # by hash
    territories: dict[str, frozenset[str]] = field(default_factory=dict)
    """By resource: the prefixes within which some user has EDIT."""
    experiments: dict[str, str] = field(default_factory=dict)  # id to name
    experiment_ids: dict[str, str] = field(default_factory=dict)  # name to id
    models: dict[str, str] = field(default_factory=dict)  # name to key


class Rights:
    """Grants everything: the rights of a caller when the server runs without ``--auth``.

    Every check raises ``Forbidden``, or ``NotFound`` if the object does not exist.
    """

    user: str | None = None
    """Name of the user, or None without authentication."""
    is_admin: bool = True
    token: Token | None = None
    """The token that the user signed in with; None for a password."""

    def reads_everything(self) -> bool:
        """Return whether the caller may read everything."""
        return True

    def may_create(self, resource: str) -> bool:
        """Return whether there are names under which the caller may create something."""
        return True

    def level(self, resource: str, of: str) -> Level:
        """Return what is allowed with an experiment, by id, or a model, by name; NONE without."""
        return Level.MANAGE

    def admin(self) -> None:
        """Check that the caller may administer the server."""

    def everything(self) -> None:
        """Check that the caller may read everything."""

    def experiment(self, experiment_id: str, need: Level) -> None:
        """Check a level on an experiment and what is in it."""

    def experiment_named(self, name: str, need: Level) -> None:
        """Check a level on an experiment by its name."""

    def new_experiment(self, name: str) -> None:
        """Check that the caller may create an experiment under a name, or rename one to it."""

    def run(self, run_id: str, need: Level) -> None:
        """Check a level on a run."""

    def logged_model(self, model_id: str, need: Level) -> None:
        """Check a level on a logged model."""

    def model(self, name: str, need: Level) -> None:
        """Check a level on a registered model and its versions."""

    def new_model(self, name: str) -> None:
        """Check that the caller may create a registered model under a name, or rename one to it."""

    def model_or_new(self, name: str, need: Level) -> None:
        """Check a level on a registered model, or that the caller may create it."""
        try:
            self.model(name, need)
        except NotFound:
            self.new_model(name)

    def readable_experiments(self, id_sql: str) -> Condition:
        """Return the condition that an expression is the id of a readable experiment."""
        return Condition("TRUE", [])

    def readable_models(self, key_sql: str, column: str = "model_key") -> Condition:
        """Return the condition that an expression is the key, or the name, of a readable model."""
        return Condition("TRUE", [])


EVERYTHING: Final = Rights()


class Access:
    """Authenticates callers and returns their rights."""

    def __init__(self, node: Node, default: Level = Level.READ) -> None:
        """Make it.

        Args:
            node: The node whose fold has the users and permissions.
            default: What users may do if no permission matches.
        """
        self.node = node
        self.default = default
        self.passwords = Passwords()
        self._lock = threading.Lock()
        self._state: _State | None = None
        # Runs and logged models never change their experiment, so it is looked up once.
        self._experiments_of: OrderedDict[tuple[str, str], str] = OrderedDict()

    # -- what the fold has ------------------------------------------------------------------

    def state(self) -> _State:
        """Return the current state, as this node has folded it.

        Raises:
            Unavailable: the fold has not yet passed the end that the registry had when this node
                started; users removed since may still seem to exist.
        """
        state = self._current()
        if state is not None:
            return state
        position = self._folded()
        if position < self.node.end_at_start.get(REGISTRY_PARTITION, 0):
            raise Unavailable("the server is starting and reading its log; try again in a moment")
        if position < self._acknowledged():
            self.node.wait(stream=REGISTRY)
            position = self._folded()
        with self._lock:
            state = self._state
            if state is None or not self._fresh(state, position):
                state = self._state = self._read(state)
        return state

    def _current(self) -> _State | None:
        """Return the current state without waiting, or None if that needs the tables."""
        position, state = self._folded(), self._state
        if state is None or position < self._acknowledged() or not self._fresh(state, position):
            return None
        return state

    def _folded(self) -> int:
        return self.node.fold.positions().get(REGISTRY_PARTITION, 0)

    def _acknowledged(self) -> int:
        return self.node.acknowledged().get(REGISTRY_PARTITION, 0)

    def _fresh(self, state: _State, position: int) -> bool:
        return state.next_offset >= position and time.monotonic() - state.read_at_s < _REREAD_S

    def _read(self, old: _State | None) -> _State:
        now = time.monotonic()
        with self.node.cursor() as cursor:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            try:
                row = cursor.execute(sql("access.position"), [REGISTRY]).fetchone()
                new = _State(row[0] if row else 0, now)
                if old is None or now - old.read_at_s >= _REREAD_S or new.next_offset == 0:
                    _read_names(cursor, new, None)
                    _read_users(cursor, new)
                else:
                    new.read_at_s = old.read_at_s
                    _take_over(cursor, new, old)
            finally:
                cursor.execute("ROLLBACK")
        return new

    def experiment_of(self, query: str, value: str) -> str | None:
        """Return the experiment of a run or logged model, if it was kept before."""
        with self._lock:
            return self._experiments_of.get((query, value))

    def keep_experiment_of(self, query: str, value: str, experiment_id: str) -> None:
        """Remember the experiment of an existing run or logged model."""
        with self._lock:
            self._experiments_of[query, value] = experiment_id
            if len(self._experiments_of) > _KEPT_MAX:
                self._experiments_of.popitem(last=False)

    def has_users(self) -> bool:
        """Return whether there is any user."""
        return bool(self.state().users)

    # -- who asks ---------------------------------------------------------------------------

    async def authenticate(self, authorization: str | None, address: str) -> UserRights:
        """Return the rights of the sender of a header ``Authorization``.

        Raises:
            Unauthenticated: there are no credentials, or they are wrong.
            TooBusy: after too many wrong passwords.
            Unavailable: see ``state``.
        """
        shown = presented(authorization)
        if shown is None:
            raise Unauthenticated(
                "You are not authenticated. Sign in with MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or with a token in MLFLOW_TRACKING_TOKEN or "
                "MODELTRAIL_TOKEN."
            )
        return await self.sign_in(shown, address)

    async def sign_in(self, shown: Presented, address: str) -> UserRights:
        """Return the rights of who presents a password or token. Raises like ``authenticate``."""
        state = self._current()
        if state is None:
            state = await SIGN_IN.run(self.state)
        token: Token | None = None
        if shown.user is None or shown.secret.startswith(TOKEN_PREFIX):
            token = state.tokens.get(token_hash(shown.secret))
            user = None if token is None else self._by_token(state, shown, token)
        else:
            user = await self._by_password(state, shown, address)
        if user is None:
            what = "token is not valid" if shown.user is None else "user or password is wrong"
            raise Unauthenticated(f"You are not authenticated: the {what}.")
        return UserRights(self, state, user, address, token)

    def _by_token(self, state: _State, shown: Presented, token: Token) -> User | None:
        if token.expires_at_ms is not None and token.expires_at_ms <= time.time() * 1000:
            raise Unauthenticated("You are not authenticated: the token has expired.")
        user = state.users_by_id.get(token.user_id)
        # A token may be sent as a password, with its user's name or with none.
        if user is None or shown.user not in (None, "", "token", user.name):
            return None
        return user

    async def _by_password(self, state: _State, shown: Presented, address: str) -> User | None:
        name = shown.user or ""
        user = state.users.get(name)
        hash = None if user is None else user.password_hash
        return user if await self.passwords.verify(name, shown.secret, hash, address) else None


class UserRights(Rights):
    """The rights of a user."""

    def __init__(
        self,
        access: Access,
        state: _State,
        user: User,
        address: str = "",
        token: Token | None = None,
    ) -> None:
        """Use the current state, and the token that the user signed in with, if any."""
        self._access = access
        self._address = address
        self.token = token
        self._state = state
        self._user = user
        self.user = user.name
        self.is_admin = user.admin

    @property
    def actor(self) -> Actor:
        """The actor of events that the user appends."""
        return Actor(self._user.name, True)

    def of(self, name: str) -> UserRights:
        """Return the rights of another user. Raises ``NotFound``."""
        user = self._state.users.get(name)
        if user is None:
            raise NotFound(f"User with username={name} not found")
        return UserRights(self._access, self._state, user)

    def check_password(self, current: str | None) -> None:
        """Check that the caller knows the password, which is needed to change it.

        A request that is authenticated by the password proves that already; one with a token does
        not.

        Raises:
            InvalidRequest: the password is missing or wrong.
            TooBusy: after too many wrong ones.
        """
        if current is None:
            if self.token is not None:
                raise InvalidRequest(
                    "Current password is required when changing your own password."
                )
            return
        user, passwords = self._user, self._access.passwords
        if not passwords.confirm(user.name, current, user.password_hash, self._address):
            raise InvalidRequest("Current password does not match.")

    def _catch_up(self) -> None:
        """Read the registry to its current end: what is missing may be new on another server."""
        self._access.node.wait(log_end=True, stream=REGISTRY)
        self._state = self._access.state()

    def exists(self, experiment_id: str) -> None:
        """Check that an experiment exists. Raises ``NotFound``."""
        if experiment_id not in self._state.experiments:
            raise NotFound(f"No Experiment with id={experiment_id} exists")

    def admin(self) -> None:
        if not self.is_admin:
            raise _denied("only administrators may do this")

    def everything(self) -> None:
        if not self.reads_everything():
            raise _denied(
                "this shows all experiments and models at once, so it is for users who may read "
                "all of them: administrators, and users with READ on everything"
            )

    def reads_everything(self) -> bool:
        return self._reads_all(EXPERIMENT) and self._reads_all(MODEL)

    def may_create(self, resource: str) -> bool:
        rules = self._user.rules[resource]
        granted = (*rules.by_name.values(), *rules.prefixes.values())
        return self.is_admin or "" not in rules.prefixes or max(granted) >= Level.EDIT

    def level(self, resource: str, of: str) -> Level:
        if resource == EXPERIMENT:
            return self.experiment_level(of) if of in self._state.experiments else Level.NONE
        return self.model_level(of) if of in self._state.models else Level.NONE

    def _reads_all(self, resource: str) -> bool:
        rules = self._user.rules[resource]
        level = max(self._access.default, rules.prefixes.get("", Level.NONE))
        return self.is_admin or (level >= Level.READ and not rules.denies())

    def _level(self, resource: str, entity_id: str | None, name: str | None) -> Level:
        if self.is_admin:
            return Level.MANAGE
        found = self._user.rules[resource].level(entity_id, name)
        return self._access.default if found is None else found

    def experiment_level(self, experiment_id: str) -> Level:
        """Return what is allowed with an experiment, whether it exists or not."""
        return self._level(EXPERIMENT, experiment_id, self._state.experiments.get(experiment_id))

    def model_level(self, name: str) -> Level:
        """Return what is allowed with a registered model, whether it exists or not."""
        return self._level(MODEL, self._state.models.get(name), name)

    def name_level(self, resource: str, name: str) -> Level:
        """Return what is allowed under a free name, or with a pattern of names."""
        return self._level(resource, None, name)

    def _need(self, level: Level, need: Level, what: str) -> None:
        if level < need:
            raise _denied(f"{need.name} is needed for {what}, and {self.user} has {level.name}")

    def experiment(self, experiment_id: str, need: Level) -> None:
        if self.is_admin:
            return
        if experiment_id not in self._state.experiments:
            self._catch_up()
        self.exists(experiment_id)
        self._need(self.experiment_level(experiment_id), need, f"experiment {experiment_id}")

    def experiment_named(self, name: str, need: Level) -> None:
        if self.is_admin:
            return
        if name not in self._state.experiment_ids:
            self._catch_up()
        experiment_id = self._state.experiment_ids.get(name)
        if experiment_id is None:
            raise NotFound(f"Could not find experiment with name '{name}'")
        self._need(self._level(EXPERIMENT, experiment_id, name), need, f"experiment '{name}'")

    def new_experiment(self, name: str) -> None:
        if name not in self._state.experiment_ids:
            self._new(EXPERIMENT, name, "an experiment")

    def new_model(self, name: str) -> None:
        if name not in self._state.models:
            self._new(MODEL, name, "a registered model")

    def _new(self, resource: str, name: str, what: str) -> None:
        if self.is_admin:
            return
        granted = self._user.rules[resource].level(None, name)
        if granted is not None:
            self._need(granted, Level.EDIT, f"{what} of the name '{name}'")
        elif any(name.startswith(p) for p in self._state.territories.get(resource, ())):
            raise _denied(
                f"the name '{name}' begins with a prefix that was given to others; "
                f"EDIT is needed to create {what} there"
            )

    def run(self, run_id: str, need: Level) -> None:
        if self.is_admin:
            return
        kept = self._access.experiment_of(_RUN, run_id)
        if kept is not None:
            self._need(self.experiment_level(kept), need, f"run {run_id}")
            return
        found = self._lookup(_RUN, run_id)
        if found is None:
            raise NotFound(f"Run with id={run_id} not found")
        experiment_id, name, actor = found
        if experiment_id is not None and experiment_id not in self._state.experiments:
            self._state = self._access.state()
        if experiment_id is not None and experiment_id in self._state.experiments:
            level = self.experiment_level(experiment_id)
            self._access.keep_experiment_of(_RUN, run_id, experiment_id)
        else:
            # The experiment that the run named is about to be created, for the user who started the
            # run.
            level = self.name_level(EXPERIMENT, name or "")
            if actor == self.user:
                level = max(level, Level.EDIT)
        self._need(level, need, f"run {run_id}")

    def logged_model(self, model_id: str, need: Level) -> None:
        if self.is_admin:
            return
        experiment_id = self._access.experiment_of(_LOGGED_MODEL, model_id)
        if experiment_id is None:
            found = self._lookup(_LOGGED_MODEL, model_id)
            if found is None:
                raise NotFound(f"Logged model with ID '{model_id}' not found.")
            experiment_id = str(found[0])
            self._access.keep_experiment_of(_LOGGED_MODEL, model_id, experiment_id)
        self._need(self.experiment_level(experiment_id), need, f"logged model {model_id}")

    def _lookup(self, query: str, value: str) -> tuple[Any, ...] | None:
        """Return the row of a run or logged model, which another server may have just created."""
        for log_end in (False, True):
            with self._access.node.read(log_end=log_end) as cursor:
                row = cursor.execute(sql(query), [value]).fetchone()
            if row is not None:
                return row
        return None

    def model(self, name: str, need: Level) -> None:
        if self.is_admin:
            return
        if name not in self._state.models:
            self._catch_up()
        if name not in self._state.models:
            raise NotFound(f"Registered Model with name={name} not found")
        self._need(self.model_level(name), need, f"registered model '{name}'")

    def readable_experiments(self, id_sql: str) -> Condition:
        if self._reads_all(EXPERIMENT):
            return Condition("TRUE", [])
        found = self._user.rules[EXPERIMENT].readable("experiment_id", "name", self._access.default)
        query = sql("access.readable_experiments", readable=found.sql)
        return Condition(f"{id_sql} IN ({query})", found.params)

    def readable_models(self, key_sql: str, column: str = "model_key") -> Condition:
        if self._reads_all(MODEL):
            return Condition("TRUE", [])
        found = self._user.rules[MODEL].readable("model_key", "model", self._access.default)
        query = sql("access.readable_models", column=column, readable=found.sql)
        return Condition(f"{key_sql} IN ({query})", found.params)


_RUN, _LOGGED_MODEL = "runs.access", "logged_models.experiment"


def _denied(why: str) -> Forbidden:
    return Forbidden(f"Permission denied: {why}.")


# Reading


def _read_names(cursor: duckdb.DuckDBPyConnection, state: _State, ids: list[str] | None) -> None:
    """Return the names of experiments, all or some, and of all registered models."""
    names = "access.experiments" if ids is None else "access.experiments_of"
    params = [] if ids is None else [ids]
    for experiment_id, name in cursor.execute(sql(names), params).fetchall():
        former = state.experiments.get(experiment_id)
        if former is not None and state.experiment_ids.get(former) == experiment_id:
            del state.experiment_ids[former]
        state.experiments[experiment_id] = name
        state.experiment_ids[name] = experiment_id
    state.models = dict(cursor.execute(sql("access.models")).fetchall())


def _read_users(cursor: duckdb.DuckDBPyConnection, state: _State) -> None:
    """Return users, tokens and permissions."""
    for user_id, name, admin, hash in cursor.execute(sql("access.users")).fetchall():
        user = User(user_id, name, admin, hash)
        state.users[name] = state.users_by_id[user_id] = user
    for hash, token_id, user_id, expires_at_ms in cursor.execute(sql("access.tokens")).fetchall():
        state.tokens[hash] = Token(token_id, user_id, expires_at_ms)
    members: dict[str, list[str]] = defaultdict(list)
    for role_id, user_id in cursor.execute(sql("access.members")).fetchall():
        members[role_id].append(user_id)
    _add_permissions(cursor, state, members, 0)


def _add_permissions(
    cursor: duckdb.DuckDBPyConnection,
    state: _State,
    members: Mapping[str, Iterable[str]],
    since: int,
) -> None:
    """Add permissions that were first granted at or after an offset."""
    territories: dict[str, set[str]] = defaultdict(set)
    for holder, holder_id, resource, pattern, entity_id, permission in cursor.execute(
        sql("access.permissions"), [since]
    ).fetchall():
        level = LEVELS[permission]
        for user_id in [holder_id] if holder == "user" else members.get(holder_id, ()):
            user = state.users_by_id.get(user_id)
            if user is not None:
                user.rules[resource].add(pattern, entity_id, level)
        if pattern is not None and pattern.endswith("*") and level >= Level.EDIT:
            territories[resource].add(pattern[:-1])
    if since == 0:
        state.territories = {r: frozenset(p - {""}) for r, p in territories.items()}


_ACCESS = frozenset({"user", "token", "role", "permission"})


def _take_over(cursor: duckdb.DuckDBPyConnection, new: _State, old: _State) -> None:
    """Return the old state with what the registry has accepted since."""
    since = cursor.execute(sql("access.accepted"), [old.next_offset]).fetchall()
    new.experiments, new.experiment_ids, new.models = (
        old.experiments,
        old.experiment_ids,
        old.models,
    )
    created = [row for row in since if row[0] == "experiment"]
    models = any(
        row[0] == "model" or (row[2] is not None and row[2] not in old.models) for row in since
    )
    if created or models:
        _read_names(cursor, new, [row[1] for row in created if row[1] is not None])
    if any(row[0] in _ACCESS for row in since):
        _read_users(cursor, new)
        return
    new.users, new.users_by_id, new.tokens = old.users, old.users_by_id, old.tokens
    new.territories = old.territories
    if created or models:
        # The creator of something manages it. No other permission can have changed.
        _add_permissions(cursor, new, {}, old.next_offset)
