"""Commands to the registry: the table, and its doors that are made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from access_world import V1, World, world_in
from modeltrail.api.access.acts import Kind
from modeltrail.api.cli import main
from modeltrail.api.client import ServerClient
from modeltrail.api.commands import acting
from modeltrail.api.node import Node
from modeltrail.api.registry.commands import BY_TYPE, COMMANDS
from modeltrail.consumers.webhooks.deliverer import Webhooks
from modeltrail.consumers.webhooks.http import Sender
from modeltrail.consumers.webhooks.secrets import Secrets
from modeltrail.schemas import event_stream, event_types


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as world:
        yield world


def requests(node: Node, type: str) -> list[tuple[Any, ...]]:
    """Actor, client and reason of the accepted requests of a type."""
    with node.read() as cursor:
        return cursor.execute(
            "SELECT actor, client, reason FROM audit WHERE type = ? AND accepted "
            "ORDER BY log_offset",
            [type],
        ).fetchall()


# The table


def test_each_event_type_of_the_registry_has_one_row() -> None:
    types = {name for name in event_types() if event_stream(name) == "registry"}
    assert set(BY_TYPE) == types
    assert len(COMMANDS) == len(types)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.type)
def test_a_row_fits_its_schema(command: Any) -> None:
    names = {field.name for field in command.fields}
    assert set(re.findall(r"{(\w+)}", command.path)) <= names
    assert bool(command.native) or command.act.kind is Kind.SERVER
    assert all(field.doc for field in command.fields)
    assert not {"token_hash", "password_hash", "made_by_token", "entity_id"} & names or (
        not command.native
    )


# What callers say beside a request


def test_a_token_keeps_its_reason_client_and_key(world: World) -> None:
    def make(key: str, **body: Any) -> Any:
        headers = {**world.headers["ada"], "User-Agent": "sweeper/1", "Idempotency-Key": key}
        return world.client.post(
            f"{V1}/tokens", json=body, headers={**headers, "X-Modeltrail-Reason": "by header"}
        )

    before = len(requests(world.node, "CreateToken"))
    first = make("once", description="nightly", reason="in the body")
    assert first.status_code == 200
    again = make("once", description="nightly", reason="in the body")
    assert again.status_code == 409
    assert again.json()["token_id"] == first.json()["token_id"]
    assert make("twice").status_code == 200
    with world.node.read() as cursor:
        made = "SELECT count(*) FROM tokens WHERE created_by = 'ada'"
        assert cursor.execute(made).fetchall() == [(2,)]
    assert requests(world.node, "CreateToken")[before:] == [
        ("ada", "sweeper/1", "in the body"),
        ("ada", "sweeper/1", "by header"),
    ]


def test_every_access_request_keeps_its_reason_and_repeats_have_no_effect(world: World) -> None:
    asked = [
        ("POST", "/users", {"user": "eve"}, "CreateUser"),
        ("PATCH", "/users/eve", {"admin": True}, "UpdateUser"),
        ("PUT", "/permissions", {"user": "eve", "resource": "experiment", "pattern": "e*",
                                 "permission": "READ"}, "GrantPermission"),
        ("DELETE", "/permissions", {"user": "eve", "resource": "experiment", "pattern": "e*"},
         "RevokePermission"),
        ("POST", "/roles", {"role": "reviewers"}, "CreateRole"),
        ("DELETE", "/users/eve", None, "DeleteUser"),
    ]  # fmt: skip
    for method, path, body, type in asked:
        before = len(requests(world.node, type))
        headers = {**world.headers["root"], "Idempotency-Key": type, "User-Agent": "tool/2"}
        headers["X-Modeltrail-Reason"] = f"why {type}"
        answers = [
            world.client.request(method, f"{V1}{path}", json=body, headers=headers)
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [200, 200], answers[-1].text
        assert answers[0].json()["position"] == answers[1].json()["position"]
        assert requests(world.node, type)[before:] == [("root", "tool/2", f"why {type}")]


def test_a_users_position_is_that_of_its_request(world: World) -> None:
    made = world.ask("root", "POST", f"{V1}/users", user="eve")
    with world.node.read() as cursor:
        found = "SELECT log_offset FROM audit WHERE type = 'CreateUser' ORDER BY 1 DESC LIMIT 1"
        (offset,) = cursor.execute(found).fetchall()[0]
    assert made["position"] == f"registry:0:{offset}"
    deleted = world.ask("root", "DELETE", f"{V1}/users/eve")
    assert deleted["position"] == f"registry:0:{offset + 1}"


# Roles and webhooks in the native API


def test_roles(world: World) -> None:
    made = world.ask("root", "POST", f"{V1}/roles", role="reviewers", description="read all")
    role = f"{V1}/roles/{made['role_id']}"
    world.ask("root", "PUT", f"{role}/users/ada")
    world.ask("root", "PUT", f"{role}/users/ada", 400)
    experiment = world.experiment("root", "/shared/one")
    world.ask("ada", "GET", f"{V1}/experiments/{experiment}", 403)
    granted = {"role_id": made["role_id"], "resource": "experiment", "pattern": "/shared/*"}
    world.ask("root", "PUT", f"{V1}/permissions", permission="READ", **granted)
    world.ask("ada", "GET", f"{V1}/experiments/{experiment}")
    world.ask("root", "PATCH", role, role="readers")
    assert world.ask("root", "GET", f"{V1}/roles")["roles"] == [
        {
            "role_id": made["role_id"],
            "role": "readers",
            "description": "read all",
            "users": ["ada"],
        }
    ]
    assert "give one of role, description" in world.ask("root", "PATCH", role, 400)["message"]
    world.ask("root", "DELETE", f"{role}/users/ada")
    world.ask("ada", "GET", f"{V1}/experiments/{experiment}", 403)
    world.ask("root", "DELETE", role)
    assert world.ask("root", "GET", f"{V1}/roles")["roles"] == []
    for method, path in (("GET", f"{V1}/roles"), ("POST", f"{V1}/roles"), ("DELETE", role)):
        world.ask("ada", method, path, 403, role="mine") if method == "POST" else world.ask(
            "ada", method, path, 403
        )


def test_only_administrators_grant_to_roles(world: World) -> None:
    role_id = world.ask("root", "POST", f"{V1}/roles", role="reviewers")["role_id"]
    world.grant("ada", "MANAGE", "experiment", "/ada/*")
    world.experiment("ada", "/ada/one")
    granted = {"resource": "experiment", "pattern": "/ada/one", "permission": "READ"}
    world.ask("ada", "PUT", f"{V1}/permissions", user="bob", **granted)
    world.ask("ada", "PUT", f"{V1}/permissions", 403, role_id=role_id, **granted)
    both = world.ask(
        "root", "PUT", f"{V1}/permissions", 400, user="bob", role_id=role_id, **granted
    )
    assert "either a user or a role" in both["message"]


def test_webhooks(client: TestClient, node: Node, tmp_path: Path) -> None:
    node.webhooks = Webhooks(Secrets(tmp_path), Sender(allow_private=False))
    new: dict[str, Any] = {"name": "chat", "url": "https://93.184.216.34/hook", "secret": "hush"}
    new |= {"events": ["model_version_alias.created"]}
    made = client.post(f"{V1}/webhooks", json={**new, "reason": "to be told"}).json()
    webhook = f"{V1}/webhooks/{made['webhook_id']}"
    assert client.patch(webhook, json={"status": "DISABLED"}).status_code == 200
    (shown,) = client.get(f"{V1}/webhooks").json()["webhooks"]
    assert (shown["name"], shown["status"]) == ("chat", "DISABLED")
    assert "hush" not in client.get(f"{V1}/audit").text
    assert requests(node, "CreateWebhook")[0][2] == "to be told"
    for wrong in ({"url": "http://127.0.0.1/x"}, {"events": ["no.such"]}, {"status": "LOUD"}, {}):
        assert client.patch(webhook, json=wrong).status_code == 400, wrong
    assert client.delete(webhook, params={"reason": "done"}).status_code == 200
    assert client.delete(webhook).status_code == 404
    assert client.get(f"{V1}/webhooks").json()["webhooks"] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/models", {"model": "\ud800"}),
        ("POST", "/models", {"model": "m", "reason": "\ud800"}),
        ("POST", "/models", {"model": "m", "tags": {"\ud800": "x"}}),
        ("POST", "/models/m/versions", {"source": "m", "run_id": "\ud800"}),
        ("PATCH", "/experiments/0", {"tags": {"a": "\ud800"}}),
        ("PUT", "/permissions", {"user": "ada", "resource": "experiment", "pattern": "\ud800",
                                 "permission": "READ"}),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused(
    world: World, method: str, path: str, body: dict[str, Any]
) -> None:
    headers = {**world.headers["root"], "Content-Type": "application/json"}
    end = world.node.log.end()
    refused = world.client.request(method, f"{V1}{path}", content=json.dumps(body), headers=headers)
    assert refused.status_code == 400, refused.text
    assert "surrogate" in refused.json()["message"]
    assert world.node.log.end() == end


# Comments


def test_comments(client: TestClient, node: Node) -> None:
    version = {"source": "s3://models/digits/1", "create_model": True}
    client.post(f"{V1}/models/digits/versions", json=version)
    comments = f"{V1}/models/digits/versions/1/comments"
    asked = {"X-Modeltrail-Actor": "ada", "X-Modeltrail-Reason": "part of the review"}
    first = client.post(comments, json={"text": "No overlap."}, headers=asked)
    assert first.status_code == 200, first.text
    client.post(comments, json={"text": "Approved."}, headers={"X-Modeltrail-Actor": "grace"})
    client.patch(f"{V1}/models/digits", json={"name": "numbers"})
    comments = comments.replace("digits", "numbers")
    shown = client.get(comments).json()["comments"]
    assert [(one["comment"], one["added_by"], one["verified"]) for one in shown] == [
        ("No overlap.", "ada", False),
        ("Approved.", "grace", False),
    ]
    assert client.get(comments, params={"limit": 1}).json()["comments"] == shown[:1]
    was = {"as_of": first.json()["position"]}
    old = comments.replace("numbers", "digits")
    assert client.get(old, params=was).json()["comments"] == shown[:1]
    with node.read() as cursor:
        found = cursor.execute(
            "SELECT model, version, comment FROM comments ORDER BY log_offset"
        ).fetchall()
    assert found == [("numbers", 1, "No overlap."), ("numbers", 1, "Approved.")]
    assert requests(node, "CommentAdded")[0][2] == "part of the review"
    # Another model that takes the name over has no comments.
    client.delete(f"{V1}/models/numbers")
    client.post(f"{V1}/models/numbers/versions", json=version)
    assert client.get(comments).json()["comments"] == []


@pytest.mark.parametrize(
    ("path", "text", "status"),
    [("1", "  ", 400), ("1", "x" * 100_001, 400), ("2", "x", 404), ("0", "x", 400)],
)
def test_comments_that_are_refused(
    client: TestClient, node: Node, path: str, text: str, status: int
) -> None:
    version = {"source": "s3://models/digits/1", "create_model": True}
    client.post(f"{V1}/models/digits/versions", json=version)
    asked = client.post(f"{V1}/models/digits/versions/{path}/comments", json={"text": text})
    assert asked.status_code == status
    assert requests(node, "CommentAdded") == []


# The native API


def test_a_body_for_several_commands_names_exactly_one(client: TestClient) -> None:
    client.post(f"{V1}/models", json={"model": "digits"})
    for body in ({}, {"name": "faces", "description": "x"}):
        refused = client.patch(f"{V1}/models/digits", json=body)
        assert refused.status_code == 400
        assert "exactly one of: name, description, tags" in refused.json()["message"]


def test_a_reason_of_a_deletion_may_be_in_the_query_or_the_body(
    client: TestClient, node: Node
) -> None:
    for name in ("a", "b"):
        client.post(f"{V1}/models", json={"model": name})
    client.delete(f"{V1}/models/a", params={"reason": "by query"})
    client.request("DELETE", f"{V1}/models/b", json={"reason": "by body"})
    assert [row[2] for row in requests(node, "DeleteRegisteredModel")] == ["by query", "by body"]


# The command line


CALLS = """\
experiment create /vision/digits --tag team=vision
model create digits --description Reads --tag a=1 --tag b=2
model tag digits a- c=3
version create digits s3://models/digits/1 --alias champion
version create digits s3://models/digits/2 --tag ok=yes
version describe digits 2 better
alias set digits champion 2 --expected 1 --reason better
stage set digits 2 Production --archive-existing-versions
model rename digits numbers
alias delete numbers champion --expected 2
version delete numbers 1
experiment rename EXPERIMENT /vision/numbers
role create reviewers
"""


def run_all(capsys: pytest.CaptureFixture[str], *where: str) -> dict[str, Any]:
    """Run the calls; returns what the lists show then."""
    experiment = ""
    for line in CALLS.splitlines():
        words = [experiment if word == "EXPERIMENT" else word for word in line.split()]
        assert main([*words, "--json", *where]) == 0, line
        answer = json.loads(capsys.readouterr().out)
        assert answer["position"].startswith("registry:0:")
        experiment = answer.get("experiment_id", experiment)
    shown = {}
    for what in ("experiment list", "model list", "version list numbers", "stage list"):
        assert main([*what.split(), "--json", *where]) == 0
        shown[what] = json.loads(capsys.readouterr().out)
    assert [model["tags"] for model in shown["model list"]] == [{"b": "2", "c": "3"}]
    (version,) = shown["version list numbers"]
    assert (version["version"], version["stage"], version["tags"]) == (
        2,
        "Production",
        {"ok": "yes"},
    )
    assert version["description"] == "better"
    assert "/vision/numbers" in [one["name"] for one in shown["experiment list"]]
    return shown


def test_on_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELTRAIL_URL", str(tmp_path / "data"))
    run_all(capsys)
    assert main(["alias", "set", "numbers", "champion", "7"]) == 1
    assert "version=7) not found" in capsys.readouterr().err
    assert main(["role", "list", "--json"]) == 0
    (role,) = json.loads(capsys.readouterr().out)
    assert role["role"] == "reviewers"
    of = ["--model", "num*"]
    role_id = str(role["role_id"])
    assert main(["permission", "grant", "READ", "--role", role_id, *of]) == 0
    assert main(["permission", "list", "--json"]) == 0
    (granted,) = (p for p in json.loads(capsys.readouterr().out.partition("\n")[2]) if p["role"])
    assert (granted["role"], granted["permission"]) == ("reviewers", "READ")
    assert main(["permission", "revoke", "--role", role_id, *of]) == 0
    assert main(["permission", "revoke", *of]) == 1
    assert "NAME or --role ID" in capsys.readouterr().err


def test_on_a_server(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client(ServerClient):
        def ask(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
            answer = world.client.request(
                method, path, json=body, headers=world.headers["root"], params=parameters
            )
            assert answer.status_code == 200, answer.text
            return answer.json()

        def get(self, path: str, **parameters: Any) -> Any:
            given = {name: value for name, value in parameters.items() if value is not None}
            return self.ask("GET", path, **given)

    monkeypatch.setattr(acting, "ServerClient", Client)
    monkeypatch.setattr(acting, "client_of", lambda args: Client(args.server))
    run_all(capsys, "--server", "http://localhost")
    assert requests(world.node, "SetRegisteredModelAlias")[0][2] == "better"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model tag digits team", "expected KEY=VALUE"),
        ("alias set digits champion zero", "expected a whole number from 1"),
        ("alias set digits champion", "the following arguments are required: VERSION"),
        ("webhooks update 1 --status LOUD", "none of ACTIVE, DISABLED"),
        ("webhooks create a https://e.org x.y --secret-file /none", "cannot read"),
    ],
)
def test_mistakes(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
