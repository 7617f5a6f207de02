"""Authentication and permissions: users, tokens and permissions as the fold has them."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from modeltrail.api.access.acts import Level
from modeltrail.api.access.credentials import Passwords, Presented, presented
from modeltrail.api.access.tokens import TOKEN_PREFIX, token_hash
from modeltrail.api.actor import Actor
from modeltrail.api.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    Unauthenticated,
)
from modeltrail.api.gates import SIGN_IN
from modeltrail.api.node import Node
from modeltrail.consumers.projections.access import Account, Grants, Token
from modeltrail.consumers.projections.registry import Snapshot
from modeltrail.consumers.reading import sql
from modeltrail.limits import RESOURCES

_KEPT_MAX = 100_000

EXPERIMENT, MODEL = RESOURCES

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


class Rules:
    """The permissions of one user for one kind of resource.

    The most specific one applies: for the entity itself, then for its exact name, then for the
    longest prefix of its name. Among equally specific ones (of the user and of roles) a denial
    wins, then the highest.
    """

    def __init__(self, grants: Sequence[Grants]) -> None:
        """Combine what the user and the user's roles were granted."""
        self._grants = grants

    def level(self, entity_id: str | None, name: str | None) -> Level | None:
        """Return what is allowed with an entity, or None if no permission matches."""
        found = [g.by_id[entity_id] for g in self._grants if entity_id and entity_id in g.by_id]
        if not found and name is not None:
            found = [g.by_name[name] for g in self._grants if name in g.by_name]
            if not found:
                fitting = {p for g in self._grants for p in g.prefixes if name.startswith(p)}
                longest = max(fitting, key=len, default="")
                found = [g.prefixes[longest] for g in self._grants if longest in g.prefixes]
        return _combined(found) if found else None

    def denies(self) -> bool:
        """Return whether something is denied."""
        return any(
            LEVELS[permission] is Level.NONE
            for grants in self._grants
            for kept in grants
            for permission in kept.values()
        )

    def leaves_names(self) -> bool:
        """Return whether there are names under which something may be created."""
        by_name = _merged([grants.by_name for grants in self._grants])
        prefixes = _merged([grants.prefixes for grants in self._grants])
        return "" not in prefixes or max((*by_name.values(), *prefixes.values())) >= Level.EDIT

    def readable(self, id_sql: str, name_sql: str, default: Level) -> Condition:
        """Return the condition on columns that ``level`` is at least READ."""
        cases: list[str] = []
        params: list[Any] = []
        by_id = _merged([grants.by_id for grants in self._grants])
        by_name = _merged([grants.by_name for grants in self._grants])
        prefixes = _merged([grants.prefixes for grants in self._grants])
        for column, kept in ((id_sql, by_id), (name_sql, by_name)):
            for result in (True, False):
                values = [key for key, level in kept.items() if (level >= Level.READ) is result]
                if values:
                    cases.append(f"WHEN {column} IN (SELECT unnest(?::VARCHAR[])) THEN {result}")
                    params.append(values)
        for prefix in sorted(prefixes, key=len, reverse=True):
            cases.append(f"WHEN starts_with({name_sql}, ?) THEN {prefixes[prefix] >= Level.READ}")
            params.append(prefix)
        rest = default >= Level.READ
        return Condition(f"CASE {' '.join(cases)} ELSE {rest} END" if cases else f"{rest}", params)


def _combined(permissions: Iterable[str]) -> Level:
    """Return the level of equally specific permissions."""
    levels = {LEVELS[permission] for permission in permissions}
    return Level.NONE if Level.NONE in levels else max(levels)


def _merged(granted: Sequence[dict[str, str]]) -> dict[str, Level]:
    """Return the level of each key in any of some dicts of permissions."""
    keys = dict.fromkeys(key for kept in granted for key in kept)
    return {key: _combined(kept[key] for kept in granted if key in kept) for key in keys}


class Rights:
    """Grants everything: the rights of a caller when the server runs without ``--auth``.

    Every check raises ``Forbidden``, or ``NotFound`` if the object does not exist.
    """

    user: str | None = None
    """Name of the user, or None without authentication."""
    is_admin: bool = True
    token: Token | None = None
    """The token that the user signed in with; None for a password."""

    def renewed(self) -> Rights:
        """Return the rights as they are now; the same object if nothing has changed.

        Raises:
            Unauthenticated: they have ended: the user, the token or the password is another.
        """
        return self

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
        # Runs and logged models never change their experiment, so it is looked up once.
        self._experiments_of: OrderedDict[tuple[str, str], str] = OrderedDict()

    def state(self, *, log_end: bool = False) -> Snapshot:
        """Return the users and permissions, with all that this node acknowledged.

        Args:
            log_end: With all that is in the log now, whoever appended it.

        Raises:
            Unavailable: not in time; see also ``Node.snapshot``.
        """
        found = self.node.snapshot()
        if found is None or log_end:
            with self.node.registry(log_end=log_end) as registry:
                found = registry.snapshot
        return found

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
        return bool(self.state().accounts.users)

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
        state = self.node.snapshot()
        if state is None:
            state = await SIGN_IN.run(self.state)
        token: Token | None = None
        user: Account | None = None
        if shown.user is None or shown.secret.startswith(TOKEN_PREFIX):
            found = state.accounts.tokens.get(token_hash(shown.secret))
            if found is not None:
                token, user = found
                if token.expires_at_ms is not None and token.expires_at_ms <= time.time() * 1000:
                    raise Unauthenticated("You are not authenticated: the token has expired.")
                # A token may be sent as a password, with its user's name or with none.
                if shown.user not in (None, "", "token", user.name):
                    user = None
        else:
            user = await self._by_password(state, shown, address)
        if user is None:
            what = "token is not valid" if shown.user is None else "user or password is wrong"
            raise Unauthenticated(f"You are not authenticated: the {what}.")
        return UserRights(self, state, user, address, token)

    async def _by_password(self, state: Snapshot, shown: Presented, address: str) -> Account | None:
        name = shown.user or ""
        user = state.accounts.users.get(name)
        hash = None if user is None else user.password_hash
        return user if await self.passwords.verify(name, shown.secret, hash, address) else None


class UserRights(Rights):
    """The rights of a user."""

    def __init__(
        self,
        access: Access,
        state: Snapshot,
        account: Account,
        address: str = "",
        token: Token | None = None,
    ) -> None:
        """Use the current state, and the token that the user signed in with, if any."""
        self._access = access
        self._address = address
        self.token = token
        self.user: str = account.name
        self._use(state, account)

    def _use(self, state: Snapshot, account: Account) -> None:
        self._state = state
        self._account = account
        self.is_admin = account.admin

    def _catch_up(self, *, log_end: bool = False) -> None:
        """Use the current state: what is missing may be new, here or on another server.

        Raises:
            Unauthenticated: the user was deleted meanwhile.
        """
        state = self._access.state(log_end=log_end)
        account = state.accounts.users.get(self.user)
        if account is None or account.user_id != self._account.user_id:
            raise Unauthenticated("You are not authenticated: your account was deleted.")
        self._use(state, account)

    def renewed(self) -> UserRights:
        state = self._access.node.snapshot() or self._state
        token = self.token
        if token is not None and (token.expires_at_ms or math.inf) <= time.time() * 1000:
            raise Unauthenticated("You are not authenticated: the token has expired.")
        if state is self._state:
            return self
        account = self._account
        if state.accounts is not self._state.accounts:
            found = state.accounts.users.get(self.user)
            if found is None or found.user_id != account.user_id:
                raise Unauthenticated("You are not authenticated: your account was deleted.")
            if token is None and found.password_hash != account.password_hash:
                raise Unauthenticated("You are not authenticated: the password has changed.")
            if token is not None and all(
                other.token_id != token.token_id for other, _ in state.accounts.tokens.values()
            ):
                raise Unauthenticated("You are not authenticated: the token has ended.")
            account = found
        return UserRights(self._access, state, account, self._address, token)

    @property
    def actor(self) -> Actor:
        """The actor of events that the user appends."""
        return Actor(self.user, True)

    def of(self, name: str) -> UserRights:
        """Return the rights of another user. Raises ``NotFound``."""
        account = self._state.accounts.users.get(name)
        if account is None:
            raise NotFound(f"User with username={name} not found")
        return UserRights(self._access, self._state, account)

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
        hash, passwords = self._account.password_hash, self._access.passwords
        if not passwords.confirm(self.user, current, hash, self._address):
            raise InvalidRequest("Current password does not match.")

    def exists(self, experiment_id: str) -> None:
        """Check that an experiment exists. Raises ``NotFound``."""
        if self._state.experiments.experiment(experiment_id) is None:
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
        return self.is_admin or self._rules(resource).leaves_names()

    def level(self, resource: str, of: str) -> Level:
        state = self._state
        if resource == EXPERIMENT:
            known = state.experiments.experiment(of) is not None
            return self.experiment_level(of) if known else Level.NONE
        return Level.NONE if state.models.model(of) is None else self.model_level(of)

    def _rules(self, resource: str) -> Rules:
        holders = [("user", self._account.user_id), *(("role", r) for r in self._account.role_ids)]
        grants = self._state.accounts.grants
        return Rules([grants[*who, resource] for who in holders if (*who, resource) in grants])

    def _reads_all(self, resource: str) -> bool:
        rules = self._rules(resource)
        level = rules.level(None, "")
        return self.is_admin or (
            max(self._access.default, level or Level.NONE) >= Level.READ and not rules.denies()
        )

    def _level(self, resource: str, entity_id: str | None, name: str | None) -> Level:
        if self.is_admin:
            return Level.MANAGE
        found = self._rules(resource).level(entity_id, name)
        return self._access.default if found is None else found

    def experiment_level(self, experiment_id: str) -> Level:
        """Return what is allowed with an experiment, whether it exists or not."""
        experiment = self._state.experiments.experiment(experiment_id)
        name = None if experiment is None else experiment.name
        return self._level(EXPERIMENT, experiment_id, name)

    def model_level(self, name: str) -> Level:
        """Return what is allowed with a registered model, whether it exists or not."""
        model = self._state.models.model(name)
        return self._level(MODEL, None if model is None else model.model_key, name)

    def name_level(self, resource: str, name: str) -> Level:
        """Return what is allowed under a free name, or with a pattern of names."""
        return self._level(resource, None, name)

    def _need(self, level: Callable[[], Level], need: Level, what: str) -> None:
        """Check a level. Only the current state can deny it."""
        if level() < need:
            self._catch_up()
            if level() < need:
                raise _denied(
                    f"{need.name} is needed for {what}, and {self.user} has {level().name}"
                )

    def experiment(self, experiment_id: str, need: Level) -> None:
        if self.is_admin:
            return
        if self._state.experiments.experiment(experiment_id) is None:
            self._catch_up(log_end=True)
        self.exists(experiment_id)
        self._need(
            lambda: self.experiment_level(experiment_id), need, f"experiment {experiment_id}"
        )

    def experiment_named(self, name: str, need: Level) -> None:
        if self.is_admin:
            return
        if self._state.experiments.named(name) is None:
            self._catch_up(log_end=True)
        found = self._state.experiments.named(name)
        if found is None:
            raise NotFound(f"Could not find experiment with name '{name}'")
        experiment_id = found.experiment_id
        self._need(
            lambda: self._level(EXPERIMENT, experiment_id, name), need, f"experiment '{name}'"
        )

    def new_experiment(self, name: str) -> None:
        if self._state.experiments.named(name) is None:
            self._new(EXPERIMENT, name, "an experiment")

    def new_model(self, name: str) -> None:
        if self._state.models.model(name) is None:
            self._new(MODEL, name, "a registered model")

    def _new(self, resource: str, name: str, what: str) -> None:
        if self.is_admin:
            return
        if self._rules(resource).level(None, name) is not None:
            self._need(
                lambda: self.name_level(resource, name), Level.EDIT, f"{what} of the name '{name}'"
            )
        elif self._is_given_to_others(resource, name):
            raise _denied(
                f"the name '{name}' begins with a prefix that was given to others; "
                f"EDIT is needed to create {what} there"
            )

    def _is_given_to_others(self, resource: str, name: str) -> bool:
        return any(
            prefix and name.startswith(prefix) and LEVELS[permission] >= Level.EDIT
            for (_, _, of), grants in self._state.accounts.grants.items()
            if of == resource
            for prefix, permission in grants.prefixes.items()
        )

    def run(self, run_id: str, need: Level) -> None:
        if self.is_admin:
            return
        experiment_id = self._access.experiment_of(_RUN, run_id)
        name = actor = None
        if experiment_id is None:
            found = self._lookup(_RUN, run_id)
            if found is None:
                raise NotFound(f"Run with id={run_id} not found")
            experiment_id, name, actor = found
            if experiment_id and self._state.experiments.experiment(experiment_id) is not None:
                self._access.keep_experiment_of(_RUN, run_id, experiment_id)

        def level() -> Level:
            if experiment_id and self._state.experiments.experiment(experiment_id) is not None:
                return self.experiment_level(experiment_id)
            # The experiment that the run named is about to be created, for the user who started
            # the run.
            return max(
                self.name_level(EXPERIMENT, name or ""),
                Level.EDIT if actor == self.user else Level.NONE,
            )

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
        kept = experiment_id
        self._need(lambda: self.experiment_level(kept), need, f"logged model {model_id}")

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
        if self._state.models.model(name) is None:
            self._catch_up(log_end=True)
        if self._state.models.model(name) is None:
            raise NotFound(f"Registered Model with name={name} not found")
        self._need(lambda: self.model_level(name), need, f"registered model '{name}'")

    def readable_experiments(self, id_sql: str) -> Condition:
        if self._reads_all(EXPERIMENT):
            return Condition("TRUE", [])
        found = self._rules(EXPERIMENT).readable("experiment_id", "name", self._access.default)
        query = sql("access.readable_experiments", readable=found.sql)
        return Condition(f"{id_sql} IN ({query})", found.params)

    def readable_models(self, key_sql: str, column: str = "model_key") -> Condition:
        if self._reads_all(MODEL):
            return Condition("TRUE", [])
        found = self._rules(MODEL).readable("model_key", "model", self._access.default)
        query = sql("access.readable_models", column=column, readable=found.sql)
        return Condition(f"{key_sql} IN ({query})", found.params)


_RUN, _LOGGED_MODEL = "runs.access", "logged_models.experiment"


def _denied(why: str) -> Forbidden:
    return Forbidden(f"Permission denied: {why}.")
