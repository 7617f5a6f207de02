"""Sessions: signing in from a browser with a cookie, and what protects it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from access_users import PASSWORD, basic
from access_world import V1, V2, World, open_node, world_in
from api_server import a_node
from modeltrail.api.access import credentials
from modeltrail.api.access.acts import Level
from modeltrail.api.access.caller import COOKIE
from modeltrail.api.access.rights import EXPERIMENT, MODEL, Access
from modeltrail.api.app import create_app
from modeltrail.consumers.projections import access as projection
from modeltrail.eventlog import open_log

HERE = {"Origin": "http://localhost"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("sessions")) as world:
        world.ask("root", "POST", f"{V1}/users", user="gus", password=PASSWORD)
        yield world


def browser(world: World, base: str = "http://localhost") -> TestClient:
    """A client with cookies of its own."""
    return TestClient(world.client.app, base_url=base)


def signed_in(world: World, user: str = "gus", password: str = PASSWORD) -> TestClient:
    client = browser(world)
    answer = client.post(f"{V1}/session", json={"user": user, "password": password}, headers=HERE)
    assert answer.status_code == 200, answer.text
    return client


def sessions(world: World, user: str = "gus") -> list[dict[str, Any]]:
    tokens = world.ask("root", "GET", f"{V1}/tokens", user=user)["tokens"]
    return [token for token in tokens if token["kind"] == "session"]


def test_a_session_is_a_token_in_a_cookie(world: World) -> None:
    client = browser(world)
    body = {"user": "gus", "password": PASSWORD}
    answer = client.post(f"{V1}/session", json=body, headers={**HERE, "User-Agent": "Browser/1"})
    assert answer.status_code == 200
    morsel = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    assert (morsel["httponly"], morsel["secure"], morsel["path"]) == (True, "", "/")
    assert (morsel["samesite"], morsel["max-age"]) == ("strict", "43200")
    assert answer.json()["actor"] == "gus"
    assert answer.json()["may"]["admin"] is False
    (session,) = sessions(world)
    assert session["created_by"] == "gus"
    found = client.get(f"{V1}/session").json()
    assert found == {"user": "gus", "auth": True, "expires_at": session["expires_at"]}
    # Its secret is in no answer; the trail shows the sign-in.
    trail = world.ask("root", "GET", f"{V1}/audit", type="CreateToken", actor="gus")["events"]
    assert trail[0]["request"]["kind"] == "session"
    assert trail[0]["client"] == "Browser/1"
    secret = morsel.value
    for text in (answer.text, str(trail), str(sessions(world))):
        assert secret not in text
    assert client.delete(f"{V1}/session", headers=HERE).json() == {"ended": True}
    assert sessions(world) == []
    assert client.get(f"{V1}/session", headers={"Cookie": f"{COOKIE}={secret}"}).status_code == 401
    assert client.delete(f"{V1}/session", headers=HERE).json() == {"ended": False}


def test_the_cookie_is_secure_over_https(world: World) -> None:
    client = browser(world, "https://localhost")
    body = {"user": "gus", "password": PASSWORD}
    answer = client.post(f"{V1}/session", json=body, headers={"Origin": "https://localhost"})
    assert SimpleCookie(answer.headers["set-cookie"])[COOKIE]["secure"]
    client.delete(f"{V1}/session", headers={"Origin": "https://localhost"})


def test_every_route_takes_the_cookie(world: World) -> None:
    world.grant("gus", "EDIT", EXPERIMENT, "/gus/*")
    client = signed_in(world)
    assert client.get(f"{V1}/whoami").json()["actor"] == "gus"
    made = client.post(f"{V2}/experiments/create", json={"name": "/gus/one"}, headers=HERE)
    assert made.status_code == 200, made.text
    created = client.post(f"{V1}/experiments", json={"name": "/gus/two"}, headers=HERE)
    assert created.status_code == 200, created.text
    assert client.get("/metrics").status_code == 200
    asked = client.post("/graphql", json={"query": "{ __typename }"}, headers=HERE)
    assert asked.status_code == 200
    # A header is preferred, also a wrong one.
    headers = {"Authorization": "Bearer mt_wrong"}
    assert client.get(f"{V1}/whoami", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_another_page_cannot_use_the_cookie(world: World, headers: dict[str, str]) -> None:
    client = signed_in(world)
    end = world.node.log.end()
    for method, path in (
        ("POST", f"{V1}/experiments"),
        ("POST", f"{V2}/experiments/create"),
        ("POST", "/graphql"),
        ("PATCH", f"{V1}/users/gus"),
        ("DELETE", f"{V1}/session"),
        ("PUT", f"{V1}/models/m/aliases/a"),
    ):
        answer = client.request(method, path, json={"name": "/gus/x"}, headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "ORIGIN_NOT_ALLOWED")
    assert world.node.log.end() == end
    assert client.get(f"{V1}/whoami", headers=headers).status_code == 200
    assert client.delete(f"{V1}/session", headers={"Sec-Fetch-Site": "same-origin"}).json()["ended"]


def test_two_users_do_not_share_a_repeated_answer(world: World) -> None:
    """Answers of MLflow's endpoints that create something are kept for clients that ask again."""
    world.ask("root", "POST", f"{V1}/users", user="hal", password=PASSWORD)
    answers = []
    for user in ("gus", "hal"):
        world.grant(user, "EDIT", EXPERIMENT, "/shared/*")
        client = signed_in(world, user)
        body = {"name": "/shared/one"}
        answers.append(client.post(f"{V2}/experiments/create", json=body, headers=HERE))
    assert [answer.status_code for answer in answers] == [200, 400]


def test_wrong_passwords_are_limited(world: World) -> None:
    world.access.passwords = credentials.Passwords()
    client = browser(world)
    codes = []
    for _ in range(credentials.FAILURES_MAX + 1):
        answer = client.post(f"{V1}/session", json={"user": "gus", "password": "wrong"})
        codes.append(answer.status_code)
        # A challenge would make the browser ask for the password itself.
        assert "www-authenticate" not in answer.headers
        assert "set-cookie" not in answer.headers
    assert codes == [401] * credentials.FAILURES_MAX + [429]
    # The same count as for Basic.
    assert client.get(f"{V1}/whoami", headers=basic("gus", PASSWORD)).status_code == 429
    world.access.passwords = credentials.Passwords()


def test_scripts_of_pages_get_no_challenge(world: World) -> None:
    client = browser(world)
    path = f"{V1}/whoami"
    assert "www-authenticate" in client.get(path).headers
    for headers in (
        {"Sec-Fetch-Mode": "cors"},
        {"X-Requested-With": "modeltrail"},
        {"Cookie": f"{COOKIE}=mt_ended"},
    ):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401
        assert "www-authenticate" not in answer.headers
    answer = client.get(path, headers={"Sec-Fetch-Mode": "navigate"})
    assert "www-authenticate" in answer.headers


def test_a_session_by_a_token_ends_no_later(world: World) -> None:
    soon = int((time.time() + 600) * 1000)
    made = world.ask("root", "POST", f"{V1}/tokens", user="bob", expires_at_ms=soon)
    client = signed_in(world, "bob", made["token"])
    (session,) = sessions(world, "bob")
    assert session["made_by_token"] == made["token_id"]
    tokens = world.ask("root", "GET", f"{V1}/tokens", user="bob")["tokens"]
    assert session["expires_at"] in [t["expires_at"] for t in tokens if t["kind"] == "token"]
    world.ask("root", "DELETE", f"{V1}/tokens/{made['token_id']}")
    assert client.get(f"{V1}/whoami").status_code == 401


def test_old_sessions_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "SESSIONS_MAX", 3)
    world.ask("root", "POST", f"{V1}/users", user="ivy", password=PASSWORD)
    first = signed_in(world, "ivy")
    for _ in range(3):
        signed_in(world, "ivy")
    assert first.get(f"{V1}/whoami").status_code == 401
    assert len(sessions(world, "ivy")) == 3
    world.ask("root", "DELETE", f"{V1}/tokens/{sessions(world, 'ivy')[0]['token_id']}")
    assert len(sessions(world, "ivy")) == 2


def test_an_expired_session_signs_in_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modeltrail.api.access.admin.SESSION_S", 0.2)
    world.ask("root", "POST", f"{V1}/users", user="joy", password=PASSWORD)
    client = signed_in(world, "joy")
    time.sleep(0.25)
    assert client.get(f"{V1}/whoami").status_code == 401
    signed_in(world, "joy")
    assert len(sessions(world, "joy")) == 1  # the next sign-in removed it


def test_a_session_survives_a_restart(tmp_path: Path) -> None:
    log = open_log(str(tmp_path / "data"))
    node, fold = open_node(log, tmp_path / "files")
    before = World(node, Level.NONE)
    before.ask("root", "POST", f"{V1}/users", user="gus", password=PASSWORD)
    client = signed_in(before)
    cookie = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    node.stop()
    fold.stop()
    node, fold = open_node(log, tmp_path / "files")
    node.wait()
    app = create_app(node, access=Access(node, Level.NONE))
    found = TestClient(app, base_url="http://localhost").get(f"{V1}/session", headers=cookie)
    node.stop()
    fold.stop()
    log.close()
    assert found.json()["user"] == "gus"


def test_without_auth_there_is_no_session(tmp_path: Path) -> None:
    with a_node(tmp_path) as node:
        client = TestClient(create_app(node), base_url="http://localhost")
        found = client.get(f"{V1}/session").json()
        assert found == {"user": None, "auth": False, "expires_at": None}
        answer = client.post(f"{V1}/session", json={"user": "a", "password": "b"})
        assert answer.status_code == 403
        assert client.delete(f"{V1}/session").json() == {"ended": False}
        who = client.get(f"{V1}/whoami", params={"model": "m"}).json()
        assert who["auth"] is False
        assert all(who["may"].values())
        assert who["level"] == "MANAGE"


def test_whoami_says_what_the_caller_may_do(world: World) -> None:
    root = world.ask("root", "GET", f"{V1}/whoami")
    assert root["auth"] is True
    assert all(root["may"].values())
    model = world.ask("root", "POST", f"{V1}/models", model="kea")["position"]
    assert model
    experiment = world.experiment("root", "/kea/one")
    who = world.ask("ada", "GET", f"{V1}/whoami", model="kea")
    assert who["level"] is None
    assert world.ask("ada", "GET", f"{V1}/whoami", model="missing")["level"] is None
    assert world.ask("root", "GET", f"{V1}/whoami", model="missing")["level"] is None
    world.grant("ada", "READ", MODEL, "kea")
    world.grant("ada", "EDIT", EXPERIMENT, "/kea/*")
    assert world.ask("ada", "GET", f"{V1}/whoami", model="kea")["level"] == "READ"
    assert world.ask("ada", "GET", f"{V1}/whoami", experiment=experiment)["level"] == "EDIT"
    world.ask("ada", "GET", f"{V1}/whoami", 400, model="kea", experiment=experiment)
    world.grant("ada", "READ", MODEL, "*")
    may = world.ask("ada", "GET", f"{V1}/whoami")["may"]
    assert may == {
        "admin": False,
        "read_everything": False,
        "sql": False,
        "create_experiments": True,
        "create_models": False,
    }
    world.ask("ada", "POST", f"{V1}/models", 403, model="any")


def test_the_status_has_findings_for_those_who_read_everything(world: World) -> None:
    seen = world.ask("ada", "GET", f"{V1}/status")
    assert "checks" not in seen
    assert "newest_dead_letters" not in seen
    status = world.ask("root", "GET", f"{V1}/status")
    assert status["newest_dead_letters"] == []
    assert "clock" in {check["name"] for check in status["checks"]}
    assert all(set(check) == {"name", "ok", "found", "repair"} for check in status["checks"])
