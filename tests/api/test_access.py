"""Users, passwords, tokens and permissions on a node of its own."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from access_users import PASSWORD, basic, bearer
from access_world import V1, V2, World, open_node
from api_server import Job
from modeltrail.api.access import admin as access_admin
from modeltrail.api.access import credentials
from modeltrail.api.access.acts import Level
from modeltrail.api.access.admin import BY_SERVER, Holder, PermissionTarget
from modeltrail.api.access.credentials import Passwords, presented
from modeltrail.api.access.rights import EXPERIMENT, LEVELS, MODEL, Access, Rules
from modeltrail.api.app import create_app
from modeltrail.api.errors import TooBusy
from modeltrail.api.node import Node
from modeltrail.api.registry import performing, sources
from modeltrail.consumers import store
from modeltrail.consumers.projections.access import Grants
from modeltrail.consumers.projections.registry import RegistryProjection, Snapshot
from modeltrail.eventlog import EventLog, open_log
from modeltrail.schemas import encode, envelope, experiment_id, new_event_id


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventLog]:
    log = open_log(str(tmp_path_factory.mktemp("access") / "data"))
    yield log
    log.close()


@pytest.fixture(scope="module")
def node(log: EventLog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node, fold = open_node(log, tmp_path_factory.mktemp("artifacts"))
    yield node
    node.stop()
    fold.stop()


@pytest.fixture(scope="module")
def world(node: Node) -> Iterator[World]:
    """Nothing is allowed by default."""
    world = World(node, Level.NONE)
    with world.client:
        yield world


# Rules


NAMES = st.text("ab/", max_size=5)
PATTERNS = st.one_of(NAMES, NAMES.map(lambda name: name + "*"))
ENTITIES = [(str(n), name) for n, name in enumerate(["", "a", "ab", "a/", "a/b", "b/a", "bb"])]


@pytest.fixture(scope="module")
def named() -> Iterator[duckdb.DuckDBPyConnection]:
    """A table ``e`` of entities."""
    con = store.connect(None, store.Limits(threads=1))
    con.execute("CREATE TABLE e (id VARCHAR, name VARCHAR)")
    con.executemany("INSERT INTO e VALUES (?, ?)", ENTITIES)
    yield con
    con.close()


def rules_of(by_pattern: list[tuple[str, str]], by_id: list[tuple[str, str]]) -> Rules:
    """Rules of permissions for patterns and for ids."""
    granted: list[Grants] = []  # of several roles, each with one permission
    for pattern, permission in by_pattern:
        if pattern.endswith("*"):
            granted.append(Grants({}, {}, {pattern[:-1]: permission}))
        elif pattern:
            granted.append(Grants({}, {pattern: permission}, {}))
    granted += [Grants({one: permission}, {}, {}) for one, permission in by_id]
    return Rules(granted)


@settings(deadline=None)
@given(
    st.lists(st.tuples(PATTERNS, st.sampled_from(sorted(LEVELS))), max_size=8),
    st.lists(st.tuples(st.sampled_from("12"), st.sampled_from(sorted(LEVELS))), max_size=2),
    NAMES,
    st.sampled_from("123"),
)
def test_the_most_specific_rule_wins(
    by_pattern: list[tuple[str, str]], by_id: list[tuple[str, str]], name: str, entity_id: str
) -> None:
    rules = rules_of(by_pattern, by_id)
    ranked: list[tuple[int, Level]] = []  # how specific each fitting rule is
    for one, permission in by_id:
        if one == entity_id:
            ranked.append((1_001, LEVELS[permission]))
    for pattern, permission in by_pattern:
        if pattern.endswith("*"):
            if name.startswith(pattern[:-1]):
                ranked.append((len(pattern) - 1, LEVELS[permission]))
        elif pattern and pattern == name:
            ranked.append((1_000, LEVELS[permission]))
    expected = None
    if ranked:
        best = max(rank for rank, _ in ranked)
        levels = [level for rank, level in ranked if rank == best]
        expected = Level.NONE if Level.NONE in levels else max(levels)
    assert rules.level(entity_id, name) == expected


@settings(deadline=None)
@given(
    st.lists(st.tuples(PATTERNS, st.sampled_from(sorted(LEVELS))), max_size=6),
    st.lists(st.tuples(st.sampled_from("123"), st.sampled_from(sorted(LEVELS))), max_size=2),
    st.sampled_from(list(Level)),
)
def test_searches_show_exactly_what_the_rules_say(
    named: duckdb.DuckDBPyConnection,
    by_pattern: list[tuple[str, str]],
    by_id: list[tuple[str, str]],
    default: Level,
) -> None:
    rules = rules_of(by_pattern, by_id)
    condition = rules.readable("id", "name", default)
    found = named.execute(
        f"SELECT id FROM e WHERE {condition.sql} ORDER BY id", condition.params
    ).fetchall()
    expected = [
        (entity_id,)
        for entity_id, name in ENTITIES
        if (default if (level := rules.level(entity_id, name)) is None else level) >= Level.READ
    ]
    assert found == expected


# Passwords


def _checker(passwords: Passwords) -> Callable[[str, str, str | None, str], bool]:
    """``Passwords.verify``, each time in an event loop of its own."""
    return lambda *asked: asyncio.run(passwords.verify(*asked))


@pytest.mark.alone
def test_a_password_is_remembered_only_as_long_as_it_is_the_users() -> None:
    now = [0.0]
    check = _checker(Passwords(lambda: now[0]))
    old, new = credentials.hash_password(PASSWORD), credentials.hash_password("another " + PASSWORD)
    assert PASSWORD not in old
    assert check("ada", PASSWORD, old, "here")
    began = time.perf_counter()
    assert all(check("ada", PASSWORD, old, "here") for _ in range(100))
    assert (time.perf_counter() - began) / 100 < 0.02  # to hash it takes 0.05
    assert not check("ada", PASSWORD, new, "here")
    assert not check("ada", PASSWORD, None, "here")
    assert not check("eve", PASSWORD, None, "here")


def test_passwords_are_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def wrong(hash: str | None, password: str) -> bool:
        looks.append(password)
        return False

    monkeypatch.setattr(credentials, "_verify", wrong)
    now = [0.0]
    check = _checker(Passwords(lambda: now[0]))
    for _ in range(credentials.FAILURES_MAX):
        assert not check("ada", "x", "hash", "here")
    with pytest.raises(TooBusy, match="too many wrong passwords"):
        check("ada", "y", "hash", "here")
    assert len(looks) == credentials.FAILURES_MAX
    assert not check("bob", "x", "hash", "here")
    assert not check("ada", "x", "hash", "there")
    now[0] = credentials.FAILURES_S + 1
    assert not check("ada", "y", "hash", "here")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer  x ", (None, "x")),
        ("bearer x", (None, "x")),
        ("Basic !!", None),
        ("Basic " + base64.b64encode(b"nocolon").decode(), None),
        ("Basic " + base64.b64encode(b"a:b:c").decode(), ("a", "b:c")),
        ("Basic " + base64.b64encode("ä:ö".encode()).decode(), ("ä", "ö")),
        ("Digest x", None),
    ],
)
def test_what_a_header_presents(header: str | None, expected: Any) -> None:
    assert presented(header) == expected


# Signing in


def test_who_is_not_signed_in_gets_a_challenge(world: World) -> None:
    for headers in ({}, bearer("mt_x"), basic("ada", "x"), basic("eve", "x"), basic("", "")):
        answer = world.client.get(f"{V1}/whoami", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert answer.json()["error_code"] == "UNAUTHENTICATED"
    assert world.client.get("/health").status_code == 200
    assert world.client.get("/openapi.json").status_code == 401
    forwarded = {"X-Forwarded-User": "root", "X-Modeltrail-Actor": "root"}
    assert world.client.get(f"{V1}/whoami", headers=forwarded).status_code == 401
    who = world.ask("ada", "GET", f"{V1}/whoami")
    assert (who["actor"], who["verified"]) == ("ada", True)


def test_passwords_and_tokens_end_at_once(world: World) -> None:
    client, root = world.client, world.headers["root"]

    def status(headers: dict[str, str]) -> int:
        return client.get(f"{V1}/whoami", headers=headers).status_code

    world.ask("root", "POST", f"{V1}/users", user="eve", password=PASSWORD)
    eve = basic("eve", PASSWORD)
    assert (status(eve), status(eve)) == (200, 200)
    made = client.post(f"{V1}/tokens", json={}, headers=eve).json()
    assert made["user"] == "eve"
    token = bearer(made["token"])
    assert (status(token), status(basic("eve", made["token"]))) == (200, 200)
    assert status(basic("ada", made["token"])) == 401
    assert client.delete(f"{V1}/tokens/{made['token_id']}", headers=eve).status_code == 200
    assert status(token) == 401
    late = client.post(f"{V1}/tokens", json={"expires_at_ms": 1}, headers=eve)
    assert late.status_code == 400
    soon = {"expires_at_ms": int(time.time() * 1000) + 300}
    short = bearer(client.post(f"{V1}/tokens", json=soon, headers=eve).json()["token"])
    other = {"password": "another " + PASSWORD}
    assert client.patch(f"{V1}/users/eve", json=other, headers=eve).status_code == 200
    assert status(eve) == 401
    assert (
        client.patch(f"{V1}/users/eve", json={"password": "short"}, headers=root).status_code == 400
    )
    eve = basic("eve", "another " + PASSWORD)
    assert status(eve) == 200
    time.sleep(0.35)
    assert status(short) == 401
    assert client.delete(f"{V1}/users/eve", headers=root).status_code == 200
    assert status(eve) == 401


def test_with_a_token_the_password_before_has_to_be_told(world: World) -> None:
    world.ask("root", "POST", f"{V1}/users", user="fay", password=PASSWORD)
    token = world.ask("root", "POST", f"{V1}/tokens", user="fay")["token"]
    new = "another " + PASSWORD
    for current, status in ((None, 400), ("wrong", 400), (PASSWORD, 200)):
        body = {"password": new, **({"current_password": current} if current else {})}
        answer = world.client.patch(f"{V1}/users/fay", json=body, headers=bearer(token))
        assert answer.status_code == status, answer.text


def test_the_last_administrator_stays(world: World) -> None:
    assert "last administrator" in world.ask("root", "DELETE", f"{V1}/users/root", 400)["message"]
    world.ask("root", "PATCH", f"{V1}/users/root", 400, admin=False)


@pytest.mark.parametrize("name", ["", "a:b", " a", "modeltrail", "anonymous", "a\nb", "x" * 251])
def test_names_that_users_cannot_have(world: World, name: str) -> None:
    world.ask("root", "POST", f"{V1}/users", 400, user=name)


def test_users_manage_only_what_is_theirs(world: World) -> None:
    world.ask("ada", "POST", f"{V1}/users", 403, user="x")
    world.ask("ada", "PATCH", f"{V1}/users/ada", 403, admin=True)
    world.ask("ada", "PATCH", f"{V1}/users/bob", 403, password=PASSWORD)
    world.ask("ada", "DELETE", f"{V1}/users/ada", 403)
    world.ask("ada", "POST", f"{V1}/tokens", 403, user="root")
    world.ask("ada", "GET", f"{V1}/tokens", 403, user="bob")
    bobs = world.ask("bob", "GET", f"{V1}/tokens")["tokens"][0]["token_id"]
    world.ask("ada", "DELETE", f"{V1}/tokens/{bobs}", 403)
    assert [u["user"] for u in world.ask("ada", "GET", f"{V1}/users")["users"]] == ["ada"]
    of = {"user": "ada", "resource": "experiment", "permission": "MANAGE"}
    world.ask("ada", "PUT", f"{V1}/permissions", 403, **of, pattern="*")
    world.ask("ada", "PUT", f"{V1}/permissions", 403, **of, pattern="Default")
    world.ask("ada", "PUT", f"{V1}/permissions", 403, **of, pattern="not there")


def test_a_server_that_asks_nobody_makes_no_users(world: World) -> None:
    with TestClient(create_app(world.node), base_url="http://localhost") as client:
        for answer in (
            client.post(f"{V1}/users", json={"user": "x", "admin": True}),
            client.post(f"{V2}/users/create", json={"username": "x", "password": PASSWORD}),
            client.post(f"{V1}/tokens", json={"user": "root"}),
            client.put(
                f"{V1}/permissions",
                json={"user": "bob", "resource": MODEL, "pattern": "*", "permission": "EDIT"},
            ),
        ):
            assert (answer.status_code, "without --auth" in answer.text) == (403, True)


# What is allowed


def test_teams_do_not_see_each_other(world: World) -> None:
    world.grant("ada", "EDIT", EXPERIMENT, "/search-team/*")
    world.grant("bob", "READ", EXPERIMENT, "/search-team/open/*")
    world.grant("bob", "NO_PERMISSIONS", EXPERIMENT, "/search-team/open/not")
    ids = {
        name: world.experiment("ada", name)
        for name in ("/search-team/a", "/search-team/open/b", "/search-team/open/not")
    }
    mine = world.experiment("bob", "bobs")
    # What ada created she manages; it does not follow that bob may see it.
    runs = {name: world.run("ada", experiment_id) for name, experiment_id in ids.items()}
    bobs_run = world.run("bob", mine)
    shown = world.ask("bob", "POST", f"{V2}/experiments/search", max_results=100)["experiments"]
    assert {e["name"] for e in shown} == {"bobs", "/search-team/open/b"}
    found = world.ask("bob", "POST", f"{V2}/runs/search", experiment_ids=[])["runs"]
    readable = {runs["/search-team/open/b"], bobs_run}
    assert {r["info"]["run_id"] for r in found} == readable
    listed = world.ask("bob", "GET", f"{V1}/runs")["runs"]
    assert {r["run_id"] for r in listed} == readable
    listed = world.ask("bob", "GET", f"{V1}/experiments")["experiments"]
    assert {e["name"] for e in listed} == {"bobs", "/search-team/open/b"}
    for name, status in (
        ("/search-team/a", 403),
        ("/search-team/open/b", 200),
        ("/search-team/open/not", 403),
    ):
        run_id, experiment_id = runs[name], ids[name]
        world.ask("bob", "GET", f"{V2}/experiments/get", status, experiment_id=experiment_id)
        world.ask("bob", "GET", f"{V2}/experiments/get-by-name", status, experiment_name=name)
        world.ask("bob", "GET", f"{V2}/runs/get", status, run_id=run_id)
        world.ask("bob", "GET", f"{V1}/runs/{run_id}", status)
        world.ask("bob", "GET", f"{V2}/artifacts/list", status, run_id=run_id)
        history = {"run_id": run_id, "metric_key": "m"}
        world.ask("bob", "GET", f"{V2}/metrics/get-history", status, **history)
        bulk = f"{V2}/metrics/get-history-bulk?run_id={bobs_run}&run_id={run_id}&metric_key=m"
        answer = world.client.get(bulk, headers=world.headers["bob"])
        assert answer.status_code == status
        metric = {"run_id": run_id, "key": "m", "value": 1, "timestamp": 0}
        world.ask("bob", "POST", f"{V2}/runs/log-metric", 403, **metric)
        world.ask("bob", "POST", f"{V2}/runs/create", 403, experiment_id=experiment_id)
        world.ask("bob", "POST", f"{V2}/runs/delete", 403, run_id=run_id)
        file = f"/api/2.0/mlflow-artifacts/artifacts/{experiment_id}/{run_id}/artifacts/x"
        put = world.client.put(file, content=b"x", headers=world.headers["bob"])
        assert put.status_code == 403
        assert world.client.put(file, content=b"x", headers=world.headers["ada"]).status_code == 200
        assert world.client.get(file, headers=world.headers["bob"]).status_code == status
        # Whatever experiment the path claims, the run's own counts.
        claimed = f"/api/2.0/mlflow-artifacts/artifacts/{mine}/{run_id}/artifacts/x"
        assert world.client.get(claimed, headers=world.headers["bob"]).status_code == status
    world.ask("bob", "POST", f"{V2}/experiments/create", 403, name="/search-team/bobs")
    renamed = {"experiment_id": mine, "new_name": "/search-team/bobs"}
    world.ask("bob", "POST", f"{V2}/experiments/update", 403, **renamed)
    world.ask("bob", "PATCH", f"{V1}/experiments/{mine}", 403, name="/search-team/bobs")
    world.ask("bob", "POST", f"{V1}/experiments", 403, name="/search-team/bobs")
    world.ask("bob", "POST", f"{V2}/experiments/delete", experiment_id=mine)
    for path in ("sql?statement=SELECT+1", "audit/chain"):
        answer = world.client.get(f"{V1}/{path}", headers=world.headers["bob"])
        assert (answer.status_code, "may read all" in answer.text) == (403, True)


def test_pages_of_a_search_are_full_of_what_may_be_read(world: World) -> None:
    world.grant("ada", "MANAGE", EXPERIMENT, "/pages/*")
    world.grant("bob", "READ", EXPERIMENT, "/pages/even/*")
    for n in range(10):
        world.experiment("ada", f"/pages/{'odd' if n % 2 else 'even'}/{n}")
    names: list[str] = []
    token = None
    pages = 0
    while True:
        asked: dict[str, Any] = {
            "max_results": 2,
            "filter": "name LIKE '/pages/%'",
            "order_by": ["name"],
        }
        if token:
            asked["page_token"] = token
        found = world.ask("bob", "POST", f"{V2}/experiments/search", **asked)
        names += [e["name"] for e in found["experiments"]]
        pages += 1
        token = found.get("next_page_token")
        if token is None:
            break
        assert len(found["experiments"]) == 2
    assert names == [f"/pages/even/{n}" for n in range(0, 10, 2)]
    assert pages == 3


def test_registered_models(world: World) -> None:
    world.grant("ada", "EDIT", MODEL, "search-*")
    world.ask("ada", "POST", f"{V2}/registered-models/create", name="search-a")
    world.ask("bob", "POST", f"{V2}/registered-models/create", 403, name="search-b")
    world.ask("bob", "POST", f"{V1}/models", 403, model="search-b")
    world.ask("bob", "POST", f"{V2}/registered-models/create", name="bobs")
    secret = world.experiment("ada", "secret")
    run_id = world.run("ada", secret)
    version = {"name": "search-a", "source": f"runs:/{run_id}/model", "run_id": run_id}
    world.ask("ada", "POST", f"{V2}/model-versions/create", **version)
    # Who made a version of it could fetch its files, and so could everybody who reads the version.
    place = f"mlflow-artifacts:/{secret}/{run_id}/artifacts/model"
    for source in (f"runs:/{run_id}/model", place, "models:/search-a/1"):
        copied = {"name": "bobs", "source": source}
        world.ask("bob", "POST", f"{V2}/model-versions/create", 403, **copied)
        world.ask("bob", "POST", f"{V1}/models/bobs/versions", 403, source=source)
    one = {"name": "search-a", "version": "1"}
    world.ask("bob", "GET", f"{V2}/model-versions/get", 403, **one)
    world.ask("bob", "GET", f"{V2}/model-versions/get-download-uri", 403, **one)
    world.ask("bob", "POST", f"{V2}/registered-models/alias", 403, **one, alias="champion")
    world.ask("bob", "GET", f"{V1}/models/search-a", 403)
    world.ask("bob", "PUT", f"{V1}/models/search-a/aliases/champion", 403, version=1)
    searched = world.ask("bob", "GET", f"{V2}/registered-models/search")
    assert [m["name"] for m in searched["registered_models"]] == ["bobs"]
    assert world.ask("bob", "GET", f"{V2}/model-versions/search") == {}
    assert [m["model"] for m in world.ask("bob", "GET", f"{V1}/models")["models"]] == ["bobs"]
    assert world.ask("bob", "GET", f"{V1}/stages")["stages"] == []
    world.ask("ada", "PUT", f"{V1}/permissions", user="bob", resource=MODEL, pattern="search-a",
              permission="READ")  # fmt: skip
    world.ask("bob", "GET", f"{V2}/model-versions/get", **one)
    # A permission for one model follows it, and does not wait for the next of that name.
    renamed = {"name": "search-a", "new_name": "search-c"}
    world.ask("ada", "POST", f"{V2}/registered-models/rename", **renamed)
    world.ask("bob", "GET", f"{V2}/registered-models/get", name="search-c")
    world.ask("ada", "DELETE", f"{V2}/registered-models/delete", name="search-c")
    world.ask("ada", "POST", f"{V2}/registered-models/create", name="search-c")
    world.ask("bob", "GET", f"{V2}/registered-models/get", 403, name="search-c")
    world.ask("bob", "GET", f"{V2}/registered-models/get", 404, name="search-nothing")


def test_who_is_second_to_create_a_model_adds_no_version_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = sources.origin_of

    def slowly(*asked: Any) -> Any:  # meanwhile, ada is quicker
        world.ask("ada", "POST", f"{V1}/models", model="raced")
        return checked(*asked)

    path, body = f"{V1}/models/raced/versions", {"source": "s3://a/b", "create_model": True}
    with monkeypatch.context() as patched:
        patched.setattr(performing, "origin_of", slowly)
        world.ask("bob", "POST", path, 403, **body)
    assert world.ask("ada", "GET", path)["versions"] == []
    assert world.ask("bob", "POST", path.replace("raced", "free"), **body)["version"] == 1
    assert world.ask("bob", "POST", path.replace("raced", "free"), **body)["version"] == 2
    world.ask("ada", "POST", path.replace("raced", "free"), 403, **body)


def test_what_is_wrong_with_a_body_is_not_told_to_those_who_may_not(world: World) -> None:
    world.ask("ada", "POST", f"{V1}/models", model="closed")
    experiment = world.experiment("ada", "closed")
    for method, path in (
        ("PATCH", f"{V1}/models/closed"),
        ("PUT", f"{V1}/models/closed/aliases/a"),
        ("PATCH", f"{V1}/experiments/{experiment}"),
        ("POST", f"{V1}/users"),
        ("PATCH", f"{V1}/users/ada"),
        ("POST", f"{V1}/roles"),
    ):
        world.ask("bob", method, path, 403, nonsense=1)
        world.ask("root", method, path, 400, nonsense=1)


def test_events_of_jobs(world: World) -> None:
    world.grant("ada", "EDIT", EXPERIMENT, "/jobs/*")
    job = Job("job-of-ada", experiment_name="/jobs/new")
    assert world.ingest("bob", job.started()) == 403
    assert world.ingest("ada", job.started(), job.metrics("loss", [1.0])) == 200
    assert world.ingest("ada", job.metrics("loss", [2.0], 1)) == 200
    assert world.ingest("bob", job.metrics("loss", [3.0], 2)) == 403
    # A second start in an experiment of one's own does not open the run.
    again = Job("job-of-ada", experiment_name="bobs own")
    assert world.ingest("bob", again.started(), again.metrics("loss", [3.0], 2)) == 403
    assert world.ingest("bob", Job("never started").metrics("loss", [1.0])) == 404
    own = Job("job-of-bob", experiment_name="bobs jobs")
    assert world.ingest("bob", own.started(), own.metrics("loss", [1.0])) == 200
    asked: dict[str, Any] = {
        "model": "search-jobs",
        "source": "model",
        "description": None,
        "tags": {},
        "aliases": [],
    }
    assert world.ingest("bob", own.event("ModelRegistrationRequested", **asked)) == 403
    head = envelope(producer_id=new_event_id(), sequence=0, actor="bob", client="t")
    thief = encode(
        "LoggedModelCreated",
        {
            "envelope": head,
            "model_id": "m-" + "0" * 32,
            "experiment_id": world.experiment("bob", "bobs models"),
            "name": "thief",
            "model_type": None,
            "source_run_id": None,
            "artifact_location": "mlflow-artifacts:/1/" + world.run(
                "ada", world.experiment("ada", "/jobs/secret")
            ) + "/artifacts",
            "params": {},
            "tags": {},
        },
    )  # fmt: skip
    assert world.ingest("bob", thief) == 403
    found = world.ask(
        "root", "GET", f"{V1}/sql", statement="SELECT actor FROM runs WHERE run_id = 'job-of-ada'"
    )
    assert found["rows"] == [["ada"]]


def test_a_job_logs_a_model_in_one_batch_with_its_run(world: World) -> None:
    # Neither the experiment nor the run is there yet when the model is checked.
    job = Job("job-with-model", experiment_name="bobs models of jobs")
    model_id, experiment = "m-" + "1" * 32, experiment_id("bobs models of jobs")

    def logged(experiment: str, run_id: str) -> bytes:
        model: dict[str, Any] = {
            "model_id": model_id,
            "experiment_id": experiment,
            "name": "model",
            "model_type": None,
            "source_run_id": run_id,
            "artifact_location": f"mlflow-artifacts:/{experiment}/models/{model_id}/artifacts",
            "params": {},
            "tags": {},
        }
        head = envelope(producer_id=new_event_id(), sequence=0, actor="bob", client="t")
        return encode("LoggedModelCreated", {"envelope": head, **model})

    assert world.ingest("bob", job.started(), logged("77", job.run_id)) == 404
    assert world.ingest("bob", job.started(), logged(experiment, "never started")) == 404
    assert world.ingest("bob", job.started(), logged(experiment, job.run_id)) == 200


def test_hashes_are_shown_to_nobody(world: World) -> None:
    world.ask("root", "POST", f"{V1}/users", user="gus", password=PASSWORD)
    world.ask("root", "PATCH", f"{V1}/users/gus", password="another " + PASSWORD)
    trail = world.ask("root", "GET", f"{V1}/audit", limit=1000)["events"]
    made = [e for e in trail if e["type"] in ("CreateUser", "CreateToken", "UpdateUser")]
    assert {e["type"] for e in made} == {"CreateUser", "CreateToken", "UpdateUser"}
    assert "argon2" not in str(trail)
    hashes = {
        e["request"][name] for e in made for name in ("password_hash", "token_hash")
        if e["request"].get(name)
    }  # fmt: skip
    assert hashes == {"(not shown)"}
    for statement in (
        "FROM fold.secrets",
        'SELECT * FROM "fold"."SECRETS"',
        "SUMMARIZE fold.secrets",
        "SELECT * FROM (SUMMARIZE fold.secrets)",
        "DESCRIBE fold.secrets",
        "WITH s AS (FROM fold.secrets) SELECT count(*) FROM s",
        "SELECT (SELECT max(hash) FROM fold.secrets)",
        "FROM query_table(['fold.secrets'])",
    ):
        answer = world.client.get(
            f"{V1}/sql", params={"statement": statement}, headers=world.headers["root"]
        )
        assert answer.status_code == 400, (statement, answer.text)


def test_permissions_are_intervals(world: World) -> None:
    world.grant("bob", "READ", EXPERIMENT, "/history/*")
    world.grant("bob", "EDIT", EXPERIMENT, "/history/*")
    access_admin.revoke(
        world.node,
        BY_SERVER.saying("he left"),
        Holder("bob"),
        PermissionTarget(EXPERIMENT, "/history/*"),
    )
    statement = (
        "SELECT permission, to_offset IS NULL FROM permissions_history "
        "WHERE pattern = '/history/*' ORDER BY from_offset"
    )
    found = world.ask("root", "GET", f"{V1}/sql", statement=statement)["rows"]
    assert found == [["READ", False], ["EDIT", False]]


# Several nodes, and rebuilds


def shown(state: Snapshot) -> Any:
    """What rights depend on, comparable."""
    users, tokens, grants = state.accounts
    return (
        users,
        {
            hash: (token.token_id, token.expires_at_ms, user)
            for hash, (token, user) in tokens.items()
        },
        grants,
        {name: one.experiment_id for name, one in state.experiments._by_name.items()},
        {name: one.model_key for name, one in state.models._by_name.items()},
    )


def test_another_node_has_the_same_users(world: World, log: EventLog, tmp_path: Path) -> None:
    node, fold = open_node(log, tmp_path)
    try:
        other = Access(node, Level.NONE)
        node.wait(log_end=True)
        mine, theirs = world.access.state(), other.state()
        assert shown(mine) == shown(theirs)
        header = world.headers["ada"]["Authorization"]
        assert asyncio.run(other.authenticate(header, "")).user == "ada"
        made = access_admin.create_token(world.node, BY_SERVER, "bob")
        node.wait(log_end=True)
        assert asyncio.run(other.authenticate(f"Bearer {made.token}", "")).user == "bob"
    finally:
        node.stop()
        fold.stop()


def test_state_kept_along_is_the_state_read_anew(world: World) -> None:
    world.node.wait()
    database = world.node.fold._database
    assert database is not None
    read = RegistryProjection()
    with world.node.cursor() as cursor:
        read.load(cursor)
    read.publish(database.decided)
    assert shown(world.access.state()) == shown(read.snapshot)
