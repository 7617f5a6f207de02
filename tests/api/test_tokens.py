"""What a token can do for who holds it, how long, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from access_users import PASSWORD, basic, bearer
from access_world import V1, V2, World, open_node
from api_server import Server, modeltrail
from modeltrail.api.access import credentials
from modeltrail.api.access.acts import Level
from modeltrail.api.access.admin import BY_SERVER
from modeltrail.api.errors import Refused
from modeltrail.eventlog import open_log


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    log = open_log("memory:")
    node, fold = open_node(log, tmp_path)
    try:
        yield World(node, Level.NONE)
    finally:
        node.stop()
        fold.stop()
        log.close()


def _make(world: World, who: str, status: int = 200, /, **fields: Any) -> dict[str, Any]:
    made = world.ask(who, "POST", f"{V1}/tokens", status, **fields)
    if status == 200:
        world.headers[f"token {made['token_id']}"] = bearer(made["token"])
    return dict(made)


def _soon_ms(hours: float = 1) -> int:
    return int((time.time() + hours * 3600) * 1000)


def test_a_token_made_by_a_token_does_not_outlive_it(world: World) -> None:
    soon = _soon_ms()
    first = _make(world, "ada", expires_at_ms=soon)
    who = f"token {first['token_id']}"
    assert _make(world, who)["expires_at_ms"] == soon
    assert _make(world, who, expires_at_ms=soon - 1000)["expires_at_ms"] == soon - 1000
    for later in (soon + 1, _soon_ms(10_000)):
        refused = _make(world, who, 400, expires_at_ms=later)
        assert "ends no later" in refused["message"]
    # An administrator's token makes tokens of others under the same rule.
    root = _make(world, "root", expires_at_ms=soon)
    assert _make(world, f"token {root['token_id']}", user="bob")["expires_at_ms"] == soon
    assert _make(world, "ada")["expires_at_ms"] is None


def test_what_a_token_made_for_its_user_ends_with_it(world: World) -> None:
    stolen = _make(world, "ada")
    child = _make(world, f"token {stolen['token_id']}")
    grandchild = _make(world, f"token {child['token_id']}")
    other = _make(world, "ada")
    world.ask("root", "DELETE", f"{V1}/tokens/{stolen['token_id']}")
    for token in (stolen, child, grandchild):
        world.ask(f"token {token['token_id']}", "GET", f"{V1}/whoami", 401)
    world.ask(f"token {other['token_id']}", "GET", f"{V1}/whoami")


def test_an_ended_token_makes_none(world: World) -> None:
    maker = _make(world, "ada")
    world.ask("ada", "DELETE", f"{V1}/tokens/{maker['token_id']}")
    fields = {
        "user": "ada",
        "description": None,
        "token_hash": "0" * 64,
        "expires_at_ms": None,
        "made_by_token": maker["token_id"],
    }
    with pytest.raises(Refused, match="was ended"):
        world.node.decide(BY_SERVER, "CreateToken", fields)


@pytest.mark.parametrize("door", ["own", "administrator", "mlflow"])
def test_a_new_password_ends_the_tokens(world: World, door: str) -> None:
    world.ask("root", "POST", f"{V1}/users", user="gus", password=PASSWORD)
    made = _make(world, "root", user="gus")
    new = "another " + PASSWORD
    if door == "own":
        world.headers["gus"] = basic("gus", PASSWORD)
        done = world.ask("gus", "PATCH", f"{V1}/users/gus", password=new)
        assert (done["tokens_ended"], done["tokens_left"]) == (1, 0)
    elif door == "administrator":
        done = world.ask("root", "PATCH", f"{V1}/users/gus", password=new)
        assert (done["tokens_ended"], done["tokens_left"]) == (1, 0)
    else:
        world.ask("root", "PATCH", f"{V2}/users/update-password", username="gus", password=new)
    world.ask(f"token {made['token_id']}", "GET", f"{V1}/whoami", 401)
    assert world.ask("root", "GET", f"{V1}/tokens", user="gus")["tokens"] == []


def test_tokens_that_are_to_be_kept_are_counted(world: World) -> None:
    world.ask("root", "POST", f"{V1}/users", user="gus", password=PASSWORD)
    made = _make(world, "root", user="gus")
    done = world.ask("root", "PATCH", f"{V1}/users/gus", admin=False)
    assert (done["tokens_ended"], done["tokens_left"]) == (0, 1)
    done = world.ask(
        "root", "PATCH", f"{V1}/users/gus", password="another " + PASSWORD, keep_tokens=True
    )
    assert (done["tokens_ended"], done["tokens_left"]) == (0, 1)
    world.ask(f"token {made['token_id']}", "GET", f"{V1}/whoami")


def test_who_is_deleted_or_demoted_keeps_no_rights_by_tokens(world: World) -> None:
    world.ask("root", "POST", f"{V1}/users", user="gus", admin=True)
    made = _make(world, "root", user="gus")
    who = f"token {made['token_id']}"
    world.ask(who, "GET", f"{V1}/dead-letters")
    world.ask("root", "PATCH", f"{V1}/users/gus", admin=False)
    world.ask(who, "GET", f"{V1}/dead-letters", 403)
    world.ask("root", "DELETE", f"{V1}/users/gus")
    world.ask(who, "GET", f"{V1}/whoami", 401)
    world.ask("root", "POST", f"{V1}/users", user="gus")
    world.ask(who, "GET", f"{V1}/whoami", 401)


def _post(world: World, path: str, headers: dict[str, str], **body: Any) -> Any:
    return world.client.post(path, json=body, headers={**world.headers["root"], **headers})


def test_reason_and_key_of_access_requests_are_kept(world: World) -> None:
    _post(world, f"{V1}/tokens", {}, user="ada", reason="in the body")
    headers = {"X-Modeltrail-Reason": "in a header", "User-Agent": "tester/1"}
    _post(world, f"{V1}/tokens", headers, user="ada")
    trail = world.ask("root", "GET", f"{V1}/audit", limit=100)["events"]
    found = {e["reason"]: e["client"] for e in trail if e["type"] == "CreateToken"}
    assert "in the body" in found
    assert found["in a header"] == "tester/1"


def test_a_repeated_token_request_makes_no_second_token(world: World) -> None:
    key = {"Idempotency-Key": "once"}
    first = _post(world, f"{V1}/tokens", key, user="ada", description="x")
    assert first.status_code == 200
    again = _post(world, f"{V1}/tokens", key, user="ada", description="x")
    assert again.status_code == 409
    assert again.json()["token_id"] == first.json()["token_id"]
    made = world.ask("root", "GET", f"{V1}/tokens", user="ada")["tokens"]
    assert [one["token_id"] for one in made if one["description"] == "x"] == [
        first.json()["token_id"]
    ]
    for _ in range(2):  # whatever can be answered again is
        answer = _post(world, f"{V1}/users", {"Idempotency-Key": "user"}, user="gus")
        assert answer.status_code == 200


def test_a_lock_out_is_of_an_address_that_a_trusted_proxy_names(world: World) -> None:
    wrong = basic("ada", "wrong")

    def ask(client: TestClient, address: str) -> Any:
        headers = {**wrong, "X-Forwarded-For": address}
        return client.get(f"{V1}/whoami", headers=headers)

    app = world.client.app
    here = ("10.1.2.3", 1)
    for networks, others in ((["10.0.0.0/8"], 401), (["10.9.9.9"], 429)):
        world.access.passwords = credentials.Passwords()
        wrapped = ProxyHeadersMiddleware(app, networks)  # type: ignore[arg-type]
        client = TestClient(wrapped, base_url="http://localhost", client=here)  # type: ignore[arg-type]
        for _ in range(credentials.FAILURES_MAX):
            assert ask(client, "198.51.100.7").status_code == 401
        locked = ask(client, "198.51.100.7")
        assert locked.status_code == 429
        assert 1 <= int(locked.headers["retry-after"]) <= credentials.FAILURES_S
        assert ask(client, "203.0.113.9").status_code == others


def test_serve_believes_the_proxies_that_it_is_given(tmp_path: Path) -> None:
    env = {"MODELTRAIL_ADMIN_PASSWORD": PASSWORD}
    server = Server(tmp_path, "--auth", "--trusted-proxy", "127.0.0.0/8", env=env)
    try:
        server.ready()
        codes = []
        with TestClientOver(server) as client:
            for _ in range(credentials.FAILURES_MAX + 1):
                codes.append(client.status("198.51.100.7"))
            codes.append(client.status("203.0.113.9"))
        assert codes[-2:] == [429, 401], codes
    finally:
        server.stop()
    for bad in ("proxy.example.org", "*", "10.0.0.1/8"):
        refused = modeltrail("serve", "--data", str(tmp_path), "--trusted-proxy", bad)
        assert refused.returncode == 2
        assert "not an address or a network" in refused.stderr


class TestClientOver:
    """Asks a server with a wrong password, on behalf of others."""

    __test__ = False

    def __init__(self, server: Server) -> None:
        from http.client import HTTPConnection

        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=30)

    def __enter__(self) -> TestClientOver:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def status(self, forwarded_for: str) -> int:
        headers = {**basic("admin", "wrong"), "X-Forwarded-For": forwarded_for}
        self._connection.request("GET", f"{V1}/whoami", headers=headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


def test_the_command_says_what_became_of_the_tokens(tmp_path: Path) -> None:
    data, env = ("--data", str(tmp_path)), {"MODELTRAIL_NEW_PASSWORD": PASSWORD}
    assert modeltrail("user", "create", "ada", *data, env=env).returncode == 0
    made = modeltrail("token", "create", "ada", "--reason", "nightly", *data)
    assert made.returncode == 0, made.stderr
    kept = modeltrail("user", "password", "ada", "--keep-tokens", *data, env=env)
    assert "still good: 1" in kept.stdout, kept.stderr
    ended = modeltrail("user", "password", "ada", *data, env=env)
    assert "that ended: 1" in ended.stdout, ended.stderr
