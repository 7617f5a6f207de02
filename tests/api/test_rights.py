"""Rights from the fold's memory are those that follow from its tables, whatever was decided."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from access_world import V1, World, open_node
from modeltrail.api.access.acts import Level
from modeltrail.api.access.admin import BY_SERVER, Holder, PermissionTarget, grant
from modeltrail.api.access.rights import Access, UserRights
from modeltrail.api.app import create_app
from modeltrail.api.errors import Forbidden, NotFound, Unauthenticated
from modeltrail.api.node import Node
from modeltrail.consumers.database import Database
from modeltrail.consumers.projections.ledger import Ledger
from modeltrail.consumers.projections.registry import RegistryProjection
from modeltrail.consumers.store import Limits
from modeltrail.eventlog import LogRecord, open_log
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import Codec, experiment_id
from registry_requests import emptied, request
from writers import Writer

Request = tuple[str, str, dict[str, Any]]
"""Who asks, for what."""
Grant = tuple[str, str | None, str | None, str]
"""Resource, pattern, entity id, permission."""

EXPERIMENT, MODEL = "experiment", "registered_model"
USERS = ("root", "u", "v", "w")
NAMES = ("a", "ab", "a/b", "b", "Default", "")
IDS = {EXPERIMENT: ("0", experiment_id("a"), experiment_id("b"), "77"), MODEL: ("6", "7", "8", "9")}
PERMISSIONS = ("NO_PERMISSIONS", "DENY", "READ", "USE", "EDIT", "MANAGE")


# What is asked


def a(type: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Request]:
    return st.tuples(st.just(type), st.sampled_from(USERS), st.fixed_dictionaries(fields)).map(
        lambda drawn: (drawn[1], drawn[0], drawn[2])
    )


def target(**more: st.SearchStrategy[Any]) -> Mapping[str, st.SearchStrategy[Any]]:
    return {
        "user": st.none() | users,
        "role_id": st.none() | roles,
        "resource": st.sampled_from([EXPERIMENT, MODEL]),
        "pattern": st.none() | st.sampled_from([*NAMES, "*", "a*", "a/*", "b*"]),
        "entity_id": st.none() | st.sampled_from([*IDS[EXPERIMENT], *IDS[MODEL]]),
        **more,
    }


def made_valid(drawn: Request) -> Request:
    """A grant for one holder and one target: most of the drawn ones would be refused."""
    who, type, fields = drawn
    fields = dict(fields)
    if fields["user"] is not None:
        fields["role_id"] = None
    if fields["pattern"] is not None:
        fields["entity_id"] = None
    return who, type, fields


users, names = st.sampled_from(USERS), st.sampled_from(NAMES)
roles, flags = st.integers(3, 5), st.booleans()
hashes = st.none() | st.sampled_from(["h1", "h2"])
experiments = st.sampled_from(IDS[EXPERIMENT])
grants = st.one_of(
    a("GrantPermission", **target(permission=st.sampled_from(PERMISSIONS), exists=st.none())),
    a("RevokePermission", **target()),
).map(made_valid)
requests = st.one_of(
    grants,
    grants,
    grants,
    a("CreateUser", user=users, password_hash=hashes, admin=flags),
    a(
        "UpdateUser",
        user=users,
        password_hash=hashes,
        admin=st.none() | flags,
        end_tokens=flags,
    ),
    a("DeleteUser", user=users),
    a(
        "CreateToken",
        user=users,
        description=st.none(),
        token_hash=st.uuids().map(str),
        expires_at_ms=st.none() | st.just(5),
        made_by_token=st.none() | st.integers(5, 12),
    ),
    a("RevokeToken", token_id=st.integers(5, 12)),
    a("CreateRole", role=names, description=st.none()),
    a("UpdateRole", role_id=roles, role=names, description=st.none()),
    a("DeleteRole", role_id=roles),
    a("AssignRole", role_id=roles, user=users),
    a("UnassignRole", role_id=roles, user=users),
    a("CreateExperiment", name=names),
    a("RenameExperiment", experiment_id=experiments, name=names),
    a("DeleteExperiment", experiment_id=experiments),
    a("CreateRegisteredModel", model=names),
    a("RenameRegisteredModel", model=names, name=names),
    a("DeleteRegisteredModel", model=names),
    a("CreateModelVersion", model=names, create_model=flags),
)
BEGINNING: list[Request] = [
    ("setup", "CreateUser", {"user": "root", "password_hash": None, "admin": True}),
    ("setup", "CreateUser", {"user": "u", "password_hash": "h1", "admin": False}),
    ("setup", "CreateUser", {"user": "v", "password_hash": None, "admin": False}),
    ("root", "CreateRole", {"role": "r", "description": None}),
    ("root", "CreateRole", {"role": "s", "description": None}),
    ("root", "CreateToken", {"user": "u", "description": None, "token_hash": "first",
                             "expires_at_ms": None, "made_by_token": None}),
    ("u", "CreateRegisteredModel", {"model": "ab"}),
]  # fmt: skip


def recorded(sequence: list[Request]) -> list[LogRecord]:
    log, writers = MemoryLog(), {name: Writer(name, actor=name) for name in (*USERS, "setup")}
    for who, type, body in sequence:
        event = request(writers[who], type, **body)
        log.append([event])
    return log.reader({}).poll(0) if sequence else []


# The answers


def answers_of_tables(con: duckdb.DuckDBPyConnection, default: Level) -> dict[Any, Any]:
    """The answers as they follow from the tables, by plain rules, without a look at memory."""
    found: dict[Any, Any] = {}
    named: dict[str, dict[str, str]] = {
        EXPERIMENT: dict(
            con.execute("SELECT experiment_id, name FROM fold.experiments").fetchall()
        ),
        MODEL: dict(
            con.execute("SELECT model_key, model FROM fold.models WHERE NOT deleted").fetchall()
        ),
    }
    granted = con.execute(
        "SELECT holder, holder_id, resource, pattern, entity_id, permission"
        " FROM fold.permissions WHERE NOT deleted"
    ).fetchall()
    for user_id, name, admin, hash in con.execute(
        "SELECT user_id, name, admin, hash FROM fold.users"
        " LEFT JOIN fold.secrets ON secret_id = user_id WHERE NOT deleted"
    ).fetchall():
        member_of = con.execute(
            "SELECT key FROM fold.history WHERE entity = 'user' AND attribute = 'role'"
            " AND to_offset IS NULL AND entity_id = ?",
            [user_id],
        ).fetchall()
        holders = {("user", user_id), *(("role", role_id) for (role_id,) in member_of)}
        own: list[Grant] = [row[2:] for row in granted if row[:2] in holders]
        found[name] = (admin, hash)
        reads = {}
        for resource, names_of in named.items():
            mine = [one for one in own if one[0] == resource and not admin]
            rest = Level.MANAGE if admin else default
            reads[resource] = max(rest, best(mine, None, "", Level.NONE)) >= Level.READ and (
                Level.NONE not in [level(permission) for *_, permission in mine]
            )
            territories = {
                pattern[:-1]
                for _, _, what, pattern, _, permission in granted
                if what == resource
                and pattern not in (None, "*")
                and pattern.endswith("*")
                and level(permission) >= Level.EDIT
            }
            of = partial(best, mine, default=rest)
            for entity_id in IDS[resource]:
                if entity_id in names_of or resource == EXPERIMENT:
                    found[name, resource, entity_id] = of(entity_id, names_of.get(entity_id))
            for called in NAMES:
                taken = [key for key, value in names_of.items() if value == called]
                found[name, resource, "free", called] = of(None, called)
                found[name, resource, "named", called] = (
                    of(taken[0] if taken else None, called) if taken or admin else None
                )
                found[name, resource, "new", called] = bool(
                    admin
                    or taken
                    or (
                        of(None, called) >= Level.EDIT
                        if any(matches(one, None, called) for one in mine)
                        else not any(called.startswith(prefix) for prefix in territories)
                    )
                )
            found[name, resource, "readable"] = sorted(
                key for key, value in names_of.items() if of(key, value) >= Level.READ
            )
        found[name, "everything"] = all(reads.values())
    found["tokens"] = {
        hash: (token_id, expires_at_ms, name)
        for hash, token_id, expires_at_ms, name in con.execute(
            "SELECT s.hash, t.token_id, t.expires_at_ms, u.name FROM fold.tokens t"
            " JOIN fold.secrets s ON s.secret_id = t.token_id"
            " JOIN fold.users u ON u.user_id = t.user_id AND NOT u.deleted WHERE NOT t.deleted"
        ).fetchall()
    }
    return found


def level(permission: str) -> Level:
    return Level.NONE if permission in ("NO_PERMISSIONS", "DENY") else Level[permission]


def matches(one: Grant, entity_id: str | None, name: str | None) -> int:
    """How specific a matching permission is; 0 if it does not match."""
    _, pattern, of, _ = one
    if of is not None:
        return 1_001 if of == entity_id else 0
    if name is None or pattern is None:
        return 0
    if pattern.endswith("*"):
        return len(pattern) if name.startswith(pattern[:-1]) else 0
    return 1_000 if pattern == name else 0


def best(own: list[Grant], entity_id: str | None, name: str | None, default: Level) -> Level:
    """The level of the most specific permissions: a denial, else the highest."""
    ranked = [(matches(one, entity_id, name), level(one[3])) for one in own]
    top = max((rank for rank, _ in ranked), default=0)
    if not top:
        return default
    levels = {found for rank, found in ranked if rank == top}
    return Level.NONE if Level.NONE in levels else max(levels)


def access_to(database: Database, default: Level) -> Access:
    """Access on a database without a log, whose decisions are all written."""

    @contextmanager
    def registry(*, log_end: bool = False) -> Iterator[RegistryProjection]:
        yield database.registry

    still = SimpleNamespace(snapshot=lambda: database.registry.snapshot, registry=registry)
    return Access(cast(Node, still), default)


def allows(check: Callable[[], object]) -> bool:
    try:
        check()
    except Forbidden:
        return False
    return True


def named_level(rights: UserRights, resource: str, name: str) -> Level | None:
    """The highest level that a check by name lets pass."""
    check = rights.experiment_named if resource == EXPERIMENT else rights.model
    for need in sorted(Level, reverse=True):
        try:
            check(name, need)
        except Forbidden:
            continue
        except NotFound:
            return None
        return need
    raise AssertionError


def answers_of_memory(database: Database, default: Level) -> dict[Any, Any]:
    """The same answers by ``UserRights``."""
    access = access_to(database, default)
    state, found = access.state(), dict[Any, Any]()
    for name, account in state.accounts.users.items():
        rights = UserRights(access, state, account)
        found[name] = (account.admin, account.password_hash)
        for experiment in IDS[EXPERIMENT]:
            found[name, EXPERIMENT, experiment] = rights.experiment_level(experiment)
        for key in IDS[MODEL]:
            model = state.models.by_key(key)
            if model is not None:
                found[name, MODEL, key] = rights.model_level(model.model)
        for resource in (EXPERIMENT, MODEL):
            new = rights.new_experiment if resource == EXPERIMENT else rights.new_model
            for called in NAMES:
                found[name, resource, "free", called] = rights.name_level(resource, called)
                found[name, resource, "named", called] = named_level(rights, resource, called)
                found[name, resource, "new", called] = allows(partial(new, called))
        for resource, condition, query in (
            (EXPERIMENT, rights.readable_experiments("id"), "experiment_id FROM fold.experiments"),
            (MODEL, rights.readable_models("id"), "model_key FROM fold.models WHERE NOT deleted"),
        ):
            rows = database.connection.execute(
                f"SELECT id FROM (SELECT {query}) e(id) WHERE {condition.sql}", condition.params
            ).fetchall()
            found[name, resource, "readable"] = sorted(id for (id,) in rows)
        found[name, "everything"] = rights.reads_everything()
    found["tokens"] = {
        hash: (token.token_id, token.expires_at_ms, user.name)
        for hash, (token, user) in state.accounts.tokens.items()
    }
    return found


INCREMENTAL = Database(None, Codec(), Limits())
AT_ONCE = Database(None, Codec(), Limits())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(requests, st.sampled_from(["", "", "batch", "restart", "fail"]))),
    st.sampled_from([Level.NONE, Level.READ, Level.MANAGE]),
)
def test_memory_gives_the_answers_of_the_tables(
    steps: list[tuple[Request, str]], default: Level
) -> None:
    sequence = BEGINNING + [step for step, _ in steps]
    records = recorded(sequence)
    database = emptied(INCREMENTAL)
    database.fold(records[: len(BEGINNING)])
    batch: list[LogRecord] = []
    for record, (_, then) in zip(records[len(BEGINNING) :], [*steps], strict=True):
        batch.append(record)
        if then == "fail":
            before = answers_of_memory(database, default)
            failing = patch.object(database, "_write", side_effect=OSError("no space"))
            with failing, pytest.raises(OSError, match="no space"):
                database.fold(batch)
            assert answers_of_memory(database, default) == before
        if then:
            database.fold(batch)
            batch = []
            if then == "restart":
                database._load()
            expected = answers_of_tables(database.connection, default)
            assert answers_of_memory(database, default) == expected
    if batch:
        database.fold(batch)
    rebuilt = emptied(AT_ONCE)
    rebuilt.fold(records)
    expected = answers_of_tables(database.connection, default)
    assert answers_of_memory(database, default) == expected
    assert answers_of_memory(rebuilt, default) == expected


# Other threads, at the same time


def permission(
    permission: str, entity_id: str, user: str | None = None, role_id: int | None = None
) -> Request:
    of = {"user": user, "role_id": role_id, "resource": MODEL, "pattern": None}
    granted = {**of, "entity_id": entity_id, "permission": permission, "exists": None}
    return ("root", "GrantPermission", granted)


@pytest.mark.parametrize(
    "last",
    [
        ("DeleteUser", {"user": "v"}),
        ("DeleteRole", {"role_id": 3}),
        ("UnassignRole", {"role_id": 3, "user": "v"}),
        ("DeleteRegisteredModel", {"model": "ab"}),
        ("RenameRegisteredModel", {"model": "ab", "name": "b"}),
        (
            "UpdateUser",
            {"user": "v", "admin": True, "password_hash": "h2", "end_tokens": True},
        ),
    ],
)
def test_no_one_sees_half_a_decision(last: tuple[str, dict[str, Any]]) -> None:
    """Whenever another thread looks, the answers are those before: nothing is lost in between."""
    sequence = [
        *BEGINNING,
        ("root", "AssignRole", {"role_id": 3, "user": "v"}),
        permission("MANAGE", "6", user="v"),
        permission("DENY", "6", role_id=3),
        permission("DENY", "7", user="v"),
        ("root", "CreateToken", {"user": "v", "description": None, "token_hash": "second",
                                 "expires_at_ms": None, "made_by_token": None}),
        ("root", *last),
    ]  # fmt: skip
    *before, record = recorded(sequence)
    database = emptied(INCREMENTAL)
    database.fold(before)
    seen: list[tuple[Any, ...]] = []

    def look() -> tuple[Any, ...]:
        state = database.registry.snapshot
        access = access_to(database, Level.READ)
        user = state.accounts.users.get("v")
        rights = None if user is None else UserRights(access, state, user)
        return (
            user,
            rights and named_level(rights, MODEL, "ab"),
            rights and rights.reads_everything(),
            [(token.token_id, user) for token, user in state.accounts.tokens.values()],
        )

    def looking(step: Any) -> Any:
        def looked(self: Ledger, *args: Any) -> Any:
            seen.append(look())
            result = step(self, *args)
            seen.append(look())
            return result

        return looked

    names = ("add", "change", "begin", "put", "remove", "touch", "end")
    first = look()
    assert first[1] == Level.NONE
    with patch.multiple(Ledger, **{name: looking(getattr(Ledger, name)) for name in names}):
        database.fold([record])
    assert seen
    gone = (first[0], None, *first[2:])  # the model may be gone first, or have its other name
    assert [one for one in seen if one not in (first, gone)] == []
    assert look() != first


def test_the_rights_of_a_deleted_user_do_not_turn_into_the_default() -> None:
    sequence = [
        *BEGINNING,
        permission("DENY", "6", user="v"),
        ("root", "DeleteUser", {"user": "v"}),
    ]
    *before, deleted = recorded(sequence)
    database = emptied(INCREMENTAL)
    database.fold(before)
    access = access_to(database, Level.READ)
    state = access.state()
    rights = UserRights(access, state, state.accounts.users["v"])
    with pytest.raises(Forbidden):
        rights.model("ab", Level.READ)
    database.fold([deleted])
    with pytest.raises(Unauthenticated):
        rights.model("ab", Level.READ)


def test_a_denied_model_never_shows_while_it_is_renamed_and_deleted(tmp_path: Path) -> None:
    """Its denial ends with it: in memory at once, in the tables only when they are written."""
    write = Database._write

    def slowly(self: Database) -> None:
        time.sleep(0.03)
        write(self)

    with ExitStack() as stack:
        log = open_log(str(tmp_path / "data"))
        stack.callback(log.close)
        nodes = []
        for name in ("a", "b"):
            node, fold = open_node(log, tmp_path / name)
            stack.callback(fold.stop)
            stack.callback(node.stop)
            nodes.append(node)
        writer = nodes[0]
        world = World(writer, Level.READ)
        nodes[1].wait(log_end=True)
        access = Access(nodes[1], Level.READ)
        client = TestClient(create_app(nodes[1], access=access), base_url="http://localhost")
        done = threading.Event()
        asked: list[float] = []

        def change() -> None:
            try:
                for n in range(6):
                    fields: dict[str, Any] = {"model": f"open-{n}", "description": None, "tags": {}}
                    key = str(writer.decide(BY_SERVER, "CreateRegisteredModel", fields).offset)
                    target = PermissionTarget(MODEL, None, key)
                    grant(writer, BY_SERVER, Holder("bob"), target, "DENY")
                    nodes[1].wait(log_end=True)
                    # A request that began before the denial may have the rights of then.
                    before = len(asked)
                    while len(asked) < before + 2:
                        time.sleep(0.001)
                    renamed = {"model": f"open-{n}", "name": f"secret-{n}"}
                    writer.decide(BY_SERVER, "RenameRegisteredModel", renamed)
                    nodes[1].wait(log_end=True)  # so that its tables have the name for a while
                    writer.decide(BY_SERVER, "DeleteRegisteredModel", {"model": f"secret-{n}"})
            finally:
                done.set()

        stack.enter_context(patch.object(Database, "_write", slowly))
        thread = threading.Thread(target=change)
        thread.start()
        shown: list[str] = []
        while not done.is_set():
            asked.append(time.monotonic())
            answer = client.get(f"{V1}/models", headers=world.headers["bob"])
            assert answer.status_code == 200, answer.text
            shown += [one["model"] for one in answer.json()["models"]]
        thread.join()
    assert [name for name in shown if name.startswith("secret")] == []
