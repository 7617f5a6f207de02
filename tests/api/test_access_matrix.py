"""Whom every route and every event type lets: the whole matrix, by role.

The rows come from the routes of the application and from the event types, what is expected from the
rules in ``modeltrail.api.rules``. A request is made up from the names of its fields. A new route
needs a rule; where its fields have names of their own, they go into ``FIELDS``, ``MORE``,
``QUERIES`` or ``BODIES``; where it does not answer with 2xx though it is allowed, into ``ANSWERS``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, NamedTuple

import pytest

from access_users import bearer, make_user
from access_world import V1, World, world_in
from modeltrail.api import rules
from modeltrail.api.access.acts import Kind, Level
from modeltrail.api.access.rights import EXPERIMENT, MODEL
from modeltrail.api.mlflow.calls import EndpointRoute, Rule
from modeltrail.api.registry import commands
from modeltrail.api.routing import ByPath
from modeltrail.eventlog import REGISTRY, RUNS, EventLog, NewEvent, Partition
from modeltrail.schemas import (
    Codec,
    encode,
    envelope,
    event_stream,
    event_types,
    experiment_id,
    new_event_id,
    pack,
)
from modeltrail.schemas.framing import frame

ROLES = {
    "anonymous": None,
    "nobody": Level.NONE,
    "reader": Level.READ,
    "editor": Level.EDIT,
    "manager": Level.MANAGE,
    "administrator": Level.MANAGE,
}
"""What each has for the estates: experiments under ``/estate/`` and models named ``estate-…``."""

NUMBERS = count()


class Estate(NamedTuple):
    """One of everything, for one cell of the matrix to do with as it likes."""

    prefix: str
    n: int
    experiment_id: str
    run_id: str
    model_id: str
    model: str
    user: str
    role_id: int
    role_permission_id: int
    token_id: int
    view_id: int

    @property
    def experiment(self) -> str:
        return f"/{self.prefix}/{self.n}"

    def new(self, what: str) -> str:
        """A name that nothing has, where this is."""
        return f"/{self.prefix}/{what}" if what == "experiment" else f"{self.prefix}-{what}"


def event(stream: str, key: str, type: str, **fields: Any) -> NewEvent:
    head = envelope(
        producer_id=new_event_id(), sequence=0, actor="root", actor_verified=True, client="t"
    )
    return NewEvent(stream, key, encode(type, {"envelope": head, **fields}))


def estates(world: World, prefix: str, n: int) -> list[Estate]:
    """Make estates, all at once."""
    made: list[Estate] = []
    registry: list[NewEvent] = []
    runs: list[NewEvent] = []
    for number in (next(NUMBERS) for _ in range(n)):
        experiment, model = f"/{prefix}/{number}", f"{prefix}-{number}"
        id, run_id = experiment_id(experiment), f"{number:032x}"
        user = f"user-{number}"

        def registers(type: str, **fields: Any) -> None:
            registry.append(event(REGISTRY, "", type, **fields))

        registers("CreateExperiment", name=experiment, tags={"tag": "1"})
        registers("CreateRegisteredModel", model=model, tags={"tag": "1"})
        registers(
            "CreateModelVersion",
            model=model,
            source=f"runs:/{run_id}/model",
            run_id=run_id,
            tags={"tag": "1"},
            aliases=["champion"],
        )
        registers("CreateUser", user=user, password_hash=None, admin=False)
        registers(
            "CreateToken",
            user=user,
            token_hash=new_event_id().hex() * 2,
            description=None,
            expires_at_ms=None,
        )
        registers("CreateRole", role=f"role-{number}", description=None)
        registers("SaveView", name="view", page="runs", query="", experiment_id=id, shared=True)
        runs.append(
            event(
                *(RUNS, run_id, "RunStarted"),
                run_id=run_id,
                experiment_id=id,
                user="root",
                started_at_ms=0,
                tags={"tag": "1"},
            )
        )
        model_id = f"m-{number:032x}"
        runs.append(
            event(
                *(RUNS, model_id, "LoggedModelCreated"),
                model_id=model_id,
                experiment_id=id,
                name="model",
                artifact_location=f"mlflow-artifacts:/{id}/models/{model_id}/artifacts",
                tags={"tag": "1"},
            )
        )
        made.append(Estate(prefix, number, id, run_id, model_id, model, user, 0, 0, 0, 0))
    positions = world.node.append(registry)
    per = len(registry) // n
    for at, one in enumerate(made):
        offsets = [position.offset for position in positions[at * per : (at + 1) * per]]
        made[at] = one._replace(token_id=offsets[4], role_id=offsets[5], view_id=offsets[6])
    granted = [
        event(
            *(REGISTRY, "", "GrantPermission"),
            user=None,
            role_id=one.role_id,
            resource=EXPERIMENT,
            pattern="nothing",
            entity_id=None,
            permission="READ",
            exists=None,
        )
        for one in made
    ]
    world.node.append(runs)
    return [
        one._replace(role_permission_id=position.offset)
        for one, position in zip(made, world.node.append(granted), strict=True)
    ]


class Routes(NamedTuple):
    """A row: a method of a route, and its rule."""

    method: str
    path: str
    rule: Rule | None
    required: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As in the tables here: without MLflow's prefixes."""
        path = self.path.removeprefix("/ajax-api").removeprefix("/api")
        if self.path.startswith(V1):
            path = self.path
        return f"{self.method} {path.removeprefix('/2.0/mlflow/').removeprefix('/3.0/mlflow/')}"


def rows(world: World) -> list[Routes]:
    """Every method of every route."""
    found: list[Routes] = []
    for route in world.client.app.router.routes:  # type: ignore[attr-defined]
        if isinstance(route, ByPath):  # has the very routes that come behind it
            continue
        if isinstance(route, EndpointRoute):
            declared = route.declared
            for method in sorted((route.methods or set()) - {"HEAD"}):
                rule = rules.MLFLOW.get(f"{method} {declared.path}")
                found.append(Routes(method, route.path, rule, tuple(declared.required)))
            continue
        inner = route.effective_candidates() if hasattr(route, "effective_candidates") else [route]
        for one in inner:
            for method in sorted((one.methods or set()) - {"HEAD"}):
                rule = rules.OTHERS.get(f"{method} {one.path}")
                found.append(Routes(method, one.path, rule))
    return found


# Whom a rule lets


def lets(rule: Rule | None, role: str) -> bool:
    """Whether a rule lets a role, where everything that is named is of one estate."""
    if rule is rules.public:
        return True
    level = ROLES[role]
    if level is None or rule is None:
        return False
    if role == "administrator" or rule in (rules.signed_in, rules.looks_itself):
        return True
    if rule in (rules.admin, rules.everything):
        return False
    if isinstance(rule, rules.Asks):
        return allows(rule.kind, rule.level, level)
    if isinstance(rule, rules.Names):
        return allows(rule.mention.kind, rule.mention.level, level)
    if isinstance(rule, rules.AtPlace):
        return level >= rule.level
    if isinstance(rule, rules.All):
        return all(lets(one, role) for one in rule.rules)
    assert isinstance(rule, rules.InBody), f"say here whom this rule lets: {rule}"
    return all(allows(act.kind, act.level, level) for act in map(commands.act_of, rule.types))


def allows(kind: Kind, needed: Level, level: Level) -> bool:
    """Whether a level is enough, for one who is no administrator; the accounts are of others."""
    return kind not in (Kind.SERVER, Kind.ACCOUNT) and level >= needed


# What is asked


FIELDS: Mapping[str, Callable[[Estate], Any]] = {
    "position": lambda _: "runs:0:999999999",
    "experiment_id": lambda e: e.experiment_id,
    "experiment_ids": lambda e: [e.experiment_id],
    "experiment_name": lambda e: e.experiment,
    "run": lambda e: e.run_id,
    "run_id": lambda e: e.run_id,
    "run_ids": lambda e: [e.run_id],
    "model_id": lambda e: e.model_id,
    "model": lambda e: e.model,
    "name": lambda e: e.model,
    "version": lambda _: "1",
    "alias": lambda _: "champion",
    "stage": lambda _: "Staging",
    "source": lambda e: f"runs:/{e.run_id}/model",
    "user": lambda e: e.user,
    "username": lambda e: e.user,
    "password": lambda _: "a password of some length",
    "is_admin": lambda _: False,
    "role_id": lambda e: e.role_id,
    "role_permission_id": lambda e: e.role_permission_id,
    "token_id": lambda e: e.token_id,
    "view_id": lambda e: e.view_id,
    "workspace": lambda _: "default",
    "resource_type": lambda _: "experiment",
    "resource_id": lambda e: e.experiment_id,
    "resource_pattern": lambda e: e.experiment_id,
    "permission": lambda _: "READ",
    "key": lambda _: "tag",
    "tag_key": lambda _: "tag",
    "value": lambda _: 1,
    "timestamp": lambda _: 0,
    "metric_key": lambda _: "loss",
    "status": lambda _: "LOGGED_MODEL_READY",
    "models": lambda e: [{"model_id": e.model_id}],
    "path": lambda e: f"{e.experiment_id}/{e.run_id}/artifacts/file",
    "fingerprint": lambda _: "0" * 16,
    "webhook_id": lambda _: "0",
    "offset": lambda _: str(10**15),
    "upload_id": lambda _: "none",
    "number": lambda _: "1",
    "rest": lambda _: "nothing/here",
    "url": lambda _: "https://example.com/hook",
    "events": lambda _: [{"entity": "MODEL_VERSION", "action": "CREATED"}],
}
"""What stands for a field: in a path, and in a request if it is required."""

MORE: Mapping[str, Callable[[Estate], dict[str, Any]]] = {
    "POST runs/log-metric": lambda e: {"model_id": e.model_id},
    "POST runs/log-batch": lambda e: {
        "metrics": [{"key": "loss", "value": 1, "timestamp": 0, "model_id": e.model_id}]
    },
    "POST runs/log-inputs": lambda e: {"models": [{"model_id": e.model_id}]},
    "POST runs/outputs": lambda e: {"models": [{"model_id": e.model_id}]},
    "POST logged-models": lambda e: {"source_run_id": e.run_id},
    "POST runs/create": lambda e: {"experiment_id": e.experiment_id},
    "POST runs/log-model": lambda _: {
        "model_json": json.dumps(
            {"artifact_path": "a", "flavors": {}, "utc_time_created": "x", "run_id": "r"}
        )
    },
    "POST experiments/create": lambda e: {"name": e.new("experiment") + f"-{next(NUMBERS)}"},
    "POST experiments/update": lambda e: {"new_name": e.new("experiment") + f"-{next(NUMBERS)}"},
    "POST experiments/search": lambda _: {"max_results": 1},
    "GET experiments/search": lambda _: {"max_results": 1},
    "POST registered-models/create": lambda e: {"name": e.new(f"{next(NUMBERS)}")},
    "POST registered-models/rename": lambda e: {"new_name": e.new(f"{next(NUMBERS)}")},
    "GET metrics/get-history-bulk": lambda e: {"run_id": [e.run_id], "metric_key": "loss"},
    "GET model-versions/get-download-uri": lambda e: {"name": e.model, "version": "1"},
    "POST users/create": lambda _: {"username": f"new-{next(NUMBERS)}"},
    "POST roles/create": lambda _: {"name": f"new-{next(NUMBERS)}"},
    "POST webhooks": lambda _: {"name": f"new-{next(NUMBERS)}"},
    "PATCH logged-models/{model_id}/tags": lambda _: {"tags": [{"key": "a", "value": "b"}]},
    "GET /get-artifact": lambda e: {"run_id": e.run_id, "path": "file"},
    "GET /model-versions/get-artifact": lambda e: {"name": e.model, "version": "1", "path": "file"},
    "GET logged-models/{model_id}/artifacts/files": lambda _: {"artifact_file_path": "file"},
    "GET /2.0/mlflow-artifacts/artifacts": lambda e: {
        "path": f"{e.experiment_id}/{e.run_id}/artifacts"
    },
    "POST experiments/search-datasets": lambda e: {"experiment_ids": [e.experiment_id]},
    "GET /graphql": lambda _: {"query": "{ __typename }"},
    "POST /graphql": lambda _: {"query": "{ __typename }"},
    "GET /api/v1/sql": lambda _: {"statement": "SELECT 1"},
    "GET /api/v1/diff": lambda _: {"from": "0"},
    "PATCH roles/update": lambda _: {"description": "x"},
    **{
        f"POST /2.0/mlflow-artifacts/mpu/{act}/{{path:path}}": lambda _: {
            "path": "file",
            "upload_id": "none",
            "parts": [],
        }
        for act in ("create", "complete", "abort")
    },
}
"""What requests say besides. What they name beside the thing they change is named here."""

QUERIES: Mapping[str, Callable[[Estate], dict[str, Any]]] = {
    "POST upload-artifact": lambda e: {"run_uuid": e.run_id, "path": "file"},
    "GET /api/v1/live": lambda _: {"after": "nonsense"},
}
"""What requests say in their query."""

BODIES: Mapping[str, Callable[[Estate], Any]] = {
    "POST /api/v1/experiments": lambda e: {"name": e.new("experiment") + f"-{next(NUMBERS)}"},
    "PATCH /api/v1/experiments/{experiment_id}": lambda _: {"tags": {"a": "b"}},
    "POST /api/v1/models": lambda e: {"model": e.new(f"{next(NUMBERS)}")},
    "PATCH /api/v1/models/{model}": lambda _: {"tags": {"a": "b"}},
    "POST /api/v1/models/{model}/versions": lambda e: {"source": f"runs:/{e.run_id}/model"},
    "POST /api/v1/models/{model}/versions/{version}/comments": lambda _: {"text": "good"},
    "PATCH /api/v1/models/{model}/versions/{version}": lambda _: {"tags": {"a": "b"}},
    "PUT /api/v1/models/{model}/versions/{version}/stage": lambda _: {"stage": "Staging"},
    "PUT /api/v1/models/{model}/aliases/{alias}": lambda _: {"version": 1},
    "POST /api/v1/users": lambda _: {"user": f"new-{next(NUMBERS)}"},
    "PATCH /api/v1/users/{user}": lambda _: {"admin": False},
    "POST /api/v1/tokens": lambda e: {"user": e.user},
    "POST /api/v1/views": lambda e: {
        "name": "x", "page": "runs", "query": "", "experiment_id": e.experiment_id, "shared": True
    },
    "POST /api/v1/session": lambda e: {"user": e.user, "password": "no password of theirs"},
    "PUT /api/v1/roles/{role_id}/users/{user}": lambda _: {},
    "POST /api/v1/roles": lambda _: {"role": f"new-{next(NUMBERS)}"},
    "PATCH /api/v1/roles/{role_id}": lambda _: {"description": "x"},
    "POST /api/v1/webhooks": lambda _: {
        "name": f"new-{next(NUMBERS)}", "url": "https://example.com/hook", "events": []
    },
    "PATCH /api/v1/webhooks/{webhook_id}": lambda _: {"status": "DISABLED"},
    "PUT /api/v1/permissions": lambda e: {
        "user": e.user, "resource": EXPERIMENT, "pattern": e.experiment, "permission": "READ"
    },
    "DELETE /api/v1/permissions": lambda e: {
        "user": e.user, "resource": EXPERIMENT, "pattern": e.experiment
    },
    "POST /api/v1/sql": lambda _: {"statement": "SELECT 1"},
    "POST /api/v1/runs/query": lambda _: {},
    "POST /api/v1/charts": lambda _: {"query": {}},
    "POST /api/v1/webhooks/replay": lambda _: {"from": "2026-01-01"},
    "POST upload-artifact": lambda _: b"x",
    "POST /api/v1/ingest": lambda _: b"",
    "POST /api/v1/import": lambda _: b"",
    "PUT /api/v1/schemas/{fingerprint}": lambda _: b"{}",
}  # fmt: skip
"""The bodies of other routes: JSON, or bytes."""

ANSWERS: Mapping[str, int] = {
    "GET /assets/{name}": 404,  # there is no such file
    "GET /api/v1/live": 400,  # an answer without an end otherwise; test_live.py has those
    **dict.fromkeys(
        (
            "GET /api/v1/schemas/{fingerprint}",
            "GET /api/v1/audit/{offset}",
            "GET /api/v1/events/{position}",  # test_events.py has those that exist
            "DELETE /api/v1/runs/{run_id}/artifacts/{path:path}",
            "POST /api/v1/experiments/{experiment_id}/restore",
            "POST experiments/restore",
            "GET /api/v1/webhooks/deliveries",
            "POST /api/v1/webhooks/retry",
            "POST /api/v1/webhooks/replay",
            "POST webhooks",
            "POST /api/v1/webhooks",
            "PATCH /api/v1/webhooks/{webhook_id}",
            "DELETE /api/v1/webhooks/{webhook_id}",
            "DELETE /api/v1/roles/{role_id}/users/{user}",
            "GET webhooks/{webhook_id}",
            "PATCH webhooks/{webhook_id}",
            "DELETE webhooks/{webhook_id}",
            "POST webhooks/{webhook_id}/test",
            "DELETE /api/v1/permissions",
            "GET experiments/permissions/get",
            "PATCH experiments/permissions/update",
            "DELETE experiments/permissions/delete",
            "GET registered-models/permissions/get",
            "PATCH registered-models/permissions/update",
            "DELETE registered-models/permissions/delete",
            "POST users/permissions/revoke",
            "DELETE roles/unassign",
            "PUT /2.0/mlflow-artifacts/mpu/parts/{upload_id}/{number:int}",
            "POST /2.0/mlflow-artifacts/mpu/complete/{path:path}",
            "POST /2.0/mlflow-artifacts/mpu/abort/{path:path}",
            "GET /{version}/mlflow/{rest:path}",
            "POST /{version}/mlflow/{rest:path}",
            "PUT /{version}/mlflow/{rest:path}",
            "PATCH /{version}/mlflow/{rest:path}",
            "DELETE /{version}/mlflow/{rest:path}",
        ),
        404,
    ),
    "PUT /api/v1/schemas/{fingerprint}": 400,  # no schema
    "POST /api/v1/session": 401,  # the user has no password
    "GET /2.0/mlflow-artifacts/presigned/{path:path}": 501,
    "POST artifacts/presigned-upload-url": 501,
    "POST artifacts/presigned-download-url": 501,
}
"""The status of requests that are allowed and refused for another reason: what they name besides
the estate is not there, or the server under test does not do it."""


def ask(world: World, row: Routes, role: str, base: Estate, named: Estate) -> tuple[int, str]:
    """Status and text of the answer to a request.

    Args:
        world: Where to ask.
        row: What to ask.
        role: Who asks.
        base: What it is about.
        named: What it names besides.
    """
    path = row.path
    for part in path.split("{")[1:]:
        field = part.partition("}")[0]
        name = field.partition(":")[0]
        if name == "version" and "mlflow/{rest" in path:
            value: Any = "2.0"
        elif name == "path" and "mlflow-artifacts" not in path:
            value = "file"
        else:
            value = FIELDS[name](base)
        path = path.replace("{" + field + "}", str(value))
    fields = {name: FIELDS[name](base) for name in row.required if name in FIELDS}
    # Of two that a request names, the first is what it is about.
    if row.name in MORE:
        fields |= MORE[row.name](named)
    given: dict[str, Any] = {"params": fields} if row.method == "GET" else {"json": fields}
    if row.name in BODIES:
        body = BODIES[row.name](base)
        given = {"content": body} if isinstance(body, bytes) else {"json": body}
    elif row.method != "GET" and not row.required and row.name not in MORE:
        given = {"content": b"x"} if row.method == "PUT" else {"json": {}}
    if row.name in QUERIES:
        given["params"] = QUERIES[row.name](base)
    answer = world.client.request(row.method, path, headers=HEADERS[role], **given)
    return answer.status_code, answer.text


HEADERS: dict[str, dict[str, str]] = {"anonymous": {}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("matrix")) as world:
        HEADERS["administrator"] = world.headers["root"]
        for role, level in ROLES.items():
            if level is None or role == "administrator":
                continue
            HEADERS[role] = bearer(make_user(world.node, role))
            world.grant(role, "MANAGE", EXPERIMENT, f"/{role}/*")
            world.grant(role, "MANAGE", MODEL, f"{role}-*")
            if level is not Level.NONE:
                world.grant(role, level.name, EXPERIMENT, "/estate/*")
                world.grant(role, level.name, MODEL, "estate-*")
        yield world


@pytest.fixture(scope="module")
def estate(world: World) -> Estate:
    """What everybody is refused, or only reads."""
    (one,) = estates(world, "estate", 1)
    for path in (
        f"runs/{one.run_id}/artifacts/file",
        f"runs/{one.run_id}/artifacts/model/file",
        f"logged-models/{one.model_id}/artifacts/file",
    ):
        url = f"{V1}/{path}"
        assert world.client.put(url, content=b"x", headers=world.headers["root"]).is_success
    return one


def cells(world: World) -> Iterator[tuple[Routes, str]]:
    """Every row with every role."""
    for row in rows(world):
        for role in ROLES:
            yield row, role


def test_every_route_and_event_type_has_a_rule(world: World) -> None:
    found = rows(world)
    assert len(found) > 200
    assert not [f"{row.method} {row.path}" for row in found if row.rule is None]
    assert set(commands.ACTS) == set(event_types())
    assert set(EVENTS) == {type for type in event_types() if event_stream(type) == RUNS}


def test_a_route_without_a_rule_is_for_administrators() -> None:
    assert rules.route_rule("GET", "/new") is rules.admin
    assert rules.endpoint_rule("GET", "new/endpoint") is rules.admin


def test_routes_refuse_whom_they_do_not_let(world: World, estate: Estate) -> None:
    end, wrong, n = world.node.log.end(), [], 0
    for row, role in cells(world):
        if not lets(row.rule, role):
            status, text = ask(world, row, role, estate, estate)
            n += 1
            if status != (401 if role == "anonymous" else 403):
                wrong.append((row.name, role, status, text[:200]))
    assert not wrong, wrong
    assert n > 500
    assert world.node.log.end() == end, "a request that was refused left something in the log"


def allowed_cells(world: World, *, reading: bool) -> list[tuple[Routes, str]]:
    """Cells that are let, without the second of MLflow's two prefixes, which leads to the same."""
    return [
        (row, role)
        for row, role in cells(world)
        if (row.method == "GET") is reading
        and not row.path.startswith("/ajax-api")
        and lets(row.rule, role)
    ]


def check_allowed(world: World, asked: Iterable[tuple[Routes, str, Estate]]) -> int:
    """Ask what is allowed; returns how many requests that was."""
    wrong, n = [], 0
    for row, role, one in asked:
        n += 1
        status, text = ask(world, row, role, one, one)
        expected = ANSWERS.get(row.name)
        if status != expected if expected else not 200 <= status < 300:
            wrong.append((row.name, role, status, text[:200]))
    assert not wrong, wrong
    return n


def test_routes_let_readers(world: World, estate: Estate) -> None:
    allowed = allowed_cells(world, reading=True)
    assert check_allowed(world, [(*cell, estate) for cell in allowed]) > 200


def test_routes_let_writers(world: World) -> None:
    """Each on an estate of its own, as much is gone afterwards.

    What a request appends is what the table of acts lets the role do, whatever the route's rule.
    """
    allowed = allowed_cells(world, reading=False)
    fresh = estates(world, "estate", len(allowed))
    log = world.node.log
    ends = [log.end()]

    def asked() -> Iterator[tuple[Routes, str, Estate]]:
        for cell, one in zip(allowed, fresh, strict=True):
            yield *cell, one
            ends.append(log.end())

    assert check_allowed(world, asked()) > 200
    appended = types_between(log, ends[0], ends[-1])
    wrong, types = [], set()
    for (row, role), start, end in zip(allowed, ends[:-1], ends[1:], strict=True):
        for partition, offset in end.items():
            for at in range(start.get(partition, 0), offset):
                type = appended[partition, at]
                types.add(type)
                act, level = commands.act_of(type), ROLES[role]
                if role != "administrator" and not (level and allows(act.kind, act.level, level)):
                    wrong.append((row.name, role, type))
    assert not wrong, wrong
    assert len(types) > 30


def types_between(
    log: EventLog, start: Mapping[Partition, int], end: Mapping[Partition, int]
) -> dict[tuple[Partition, int], str]:
    """The types of the events from one end of the log to a later one."""
    codec = Codec(lambda: log.schemas().values())
    types: dict[tuple[Partition, int], str] = {}
    n = sum(offset - start.get(partition, 0) for partition, offset in end.items())
    reader = log.reader(start)
    while len(types) < n:
        for record in reader.poll(1.0):
            types[record.position.within, record.offset] = codec.decode(record.payload)[0]
    reader.close()
    return types


def test_routes_ask_for_each_thing_that_is_named(world: World, estate: Estate) -> None:
    """What is changed is the caller's and something else is not, and the other way round."""
    several = [row for row in rows(world) if isinstance(row.rule, rules.All)]
    assert len(several) >= 14
    wrong = []
    for role, level in ROLES.items():
        if level is None or role == "administrator":
            continue
        own = estates(world, role, len(several) * 2)
        for row in several:
            assert isinstance(row.rule, rules.All)
            first, *others = row.rule.rules
            for base, named, let in (
                (own.pop(), estate, all(lets(one, role) for one in others)),
                (estate, own.pop(), lets(first, role)),
            ):
                if base is estate and let:
                    continue  # it is changed for all of the others then
                status, text = ask(world, row, role, base, named)
                if status != (200 if let else 403):
                    wrong.append((row.name, role, base is estate, status, text[:200]))
    assert not wrong, wrong


# Events


POINT = pack([0], [0], [0], [1.0])
FILE = {"path": "file", "size_bytes": 0, "sha256": "0" * 64, "location": "s3://b/k"}
MODEL_FIELDS = {"name": "m", "artifact_location": "s3://b/k"}
EVENTS: Mapping[str, Callable[[Estate, Estate], dict[str, Any]]] = {
    "RunStarted": lambda e, _: {
        "run_id": f"new-{next(NUMBERS)}",
        "experiment_id": e.experiment_id,
        "user": "x",
        "started_at_ms": 0,
    },
    "RunUpdated": lambda _, __: {"name": "x"},
    "RunEnded": lambda _, __: {"status": "FINISHED", "ended_at_ms": 0},
    "RunHeartStopped": lambda _, __: {
        "last_seen_offset": 0, "last_seen_at_ms": 0, "timeout_ms": 1
    },
    "RunDeleted": lambda _, __: {},
    "RunRestored": lambda _, __: {},
    "Heartbeat": lambda _, __: {},
    "MetricsLogged": lambda _, named: {
        "series": [{"key": "loss", "model_id": named.model_id}], **POINT
    },
    "ParamsLogged": lambda _, __: {"params": {"a": "b"}},
    "TagsChanged": lambda _, __: {"tags": {"a": "b"}},
    "DatasetsLogged": lambda _, __: {"datasets": []},
    "ArtifactLogged": lambda _, __: FILE,
    "ArtifactDeleted": lambda _, __: {"path": "file"},
    "RunModelsLogged": lambda _, named: {"outputs": [{"model_id": named.model_id, "step": 0}]},
    "ModelRegistrationRequested": lambda e, named: {
        "model": named.model, "source": f"runs:/{e.run_id}/model"
    },
    "LoggedModelCreated": lambda e, named: {
        "model_id": f"m-new-{next(NUMBERS)}",
        "experiment_id": e.experiment_id,
        "source_run_id": named.run_id,
        **MODEL_FIELDS,
    },
    "LoggedModelImported": lambda e, _: {
        "model_id": f"m-new-{next(NUMBERS)}",
        "experiment_id": e.experiment_id,
        "imported_from": "http://x",
        "status": "READY",
        **MODEL_FIELDS,
    },
    "LoggedModelUpdated": lambda e, _: {"model_id": e.model_id, "status": "READY"},
    "LoggedModelDeleted": lambda e, _: {"model_id": e.model_id},
    "LoggedModelArtifactLogged": lambda e, _: {"model_id": e.model_id, **FILE},
    "LoggedModelArtifactDeleted": lambda e, _: {"model_id": e.model_id, "path": "file"},
}  # fmt: skip
"""Fields of each type that ingest takes, about the first estate and naming the second."""


def send(world: World, role: str, type: str, base: Estate, named: Estate) -> int:
    """The status of a batch with one event."""
    fields = EVENTS[type](base, named)
    if not type.startswith("LoggedModel"):
        fields = {"run_id": base.run_id, **fields}
    sent = event(RUNS, "", type, **fields)
    answer = world.client.post(f"{V1}/ingest", content=frame([sent.payload]), headers=HEADERS[role])
    return answer.status_code


def needs(type: str) -> list[tuple[Kind, Level]]:
    """What else an event of a type names, as it is made here."""
    if type == "ModelRegistrationRequested":
        act = commands.act_of("CreateModelVersion")
        return [(act.kind, act.level)]
    mentions = commands.act_of(type).mentions
    return [(m.kind, m.level) for name, m in mentions.items() if name != "input"]


def test_events_by_role(world: World, estate: Estate) -> None:
    wrong = []
    for role, level in ROLES.items():
        mine = iter(estates(world, "estate", len(EVENTS)))
        for type in EVENTS:
            act = commands.act_of(type)
            let = role == "administrator" or (
                level is not None
                and all(allows(*need, level) for need in ((act.kind, act.level), *needs(type)))
            )
            one, end = next(mine), world.node.log.end()
            status = send(world, role, type, one, one)
            expected = 200 if let else 401 if level is None else 403
            if status != expected or (world.node.log.end() != end) is not let:
                wrong.append((type, role, status))
    assert not wrong, wrong


def test_events_that_name_something_else(world: World, estate: Estate) -> None:
    several = [type for type in EVENTS if needs(type)]
    assert len(several) == 4
    wrong = []
    for role, level in ROLES.items():
        if level is None or role == "administrator":
            continue
        for type, own in zip(several, estates(world, role, len(several)), strict=True):
            let = all(allows(*need, level) for need in needs(type))
            status = send(world, role, type, own, estate)
            if status != (200 if let else 403):
                wrong.append((type, role, status))
    assert not wrong, wrong


def test_registry_events_are_for_nobody_to_send(world: World, estate: Estate) -> None:
    tag = {"experiment_id": estate.experiment_id, "tags": {"a": "b"}}
    sent = event(REGISTRY, "", "ChangeExperimentTags", **tag)
    for role in ROLES:
        answer = world.client.post(
            f"{V1}/ingest", content=frame([sent.payload]), headers=HEADERS[role]
        )
        assert answer.status_code == (401 if role == "anonymous" else 400)
