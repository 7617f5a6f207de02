"""MLflow's calls about webhooks, and the native ones about deliveries, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from modeltrail.api.node import Node
from modeltrail.consumers.webhooks.deliverer import Deliverer, Webhooks
from modeltrail.consumers.webhooks.http import Sender
from modeltrail.consumers.webhooks.secrets import Secrets
from webhook_receiver import Receiver, Reply, eventually

Ask = Callable[..., Any]
EVENTS = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]


@pytest.fixture
def node(node: Node, tmp_path: Path) -> Iterator[Node]:
    """A node that delivers, to private addresses too."""
    tools = node.webhooks = Webhooks(Secrets(tmp_path), Sender(allow_private=True))
    tools.deliverer = Deliverer(node.log, node.fold, tmp_path, tools, backoff_s=0.01)
    tools.deliverer.start()
    yield node
    tools.deliverer.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def create(ask: Ask, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    given = {"name": "w", "url": receiver.url, "events": EVENTS, **fields}
    webhook: dict[str, Any] = ask("POST", "webhooks", **given)["webhook"]
    return webhook


def test_a_webhook_as_mlflow_tells_it(ask: Ask, receiver: Receiver) -> None:
    events = [*EVENTS, {"entity": "PROMPT_ALIAS", "action": "DELETED"}, *EVENTS]
    webhook = create(ask, receiver, events=events, secret="hush", description="d")
    webhook_id, created = webhook["webhook_id"], webhook["creation_timestamp"]
    assert webhook == {
        "webhook_id": webhook_id,
        "name": "w",
        "description": "d",
        "url": receiver.url,
        "events": events[:2],
        "status": "ACTIVE",
        "creation_timestamp": created,
        "last_updated_timestamp": created,
    }
    assert ask("GET", f"webhooks/{webhook_id}") == {"webhook": webhook}
    assert ask("GET", "webhooks") == {"webhooks": [webhook]}
    assert ask("DELETE", f"webhooks/{webhook_id}") == {}
    assert ask("GET", "webhooks") == {}
    missing = {
        "error_code": "RESOURCE_DOES_NOT_EXIST",
        "message": f"Webhook with ID {webhook_id} not found.",
    }
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test")):
        found = ask(method, f"webhooks/{webhook_id}{path}", 404)
        assert {k: found[k] for k in missing} == missing


def test_a_patch_changes_what_it_names_and_nothing_else(ask: Ask, receiver: Receiver) -> None:
    webhook = create(ask, receiver, status="DISABLED", description="d", secret="hush")
    path = f"webhooks/{webhook['webhook_id']}"

    def patch(**fields: Any) -> dict[str, Any]:
        changed: dict[str, Any] = ask("PATCH", path, **fields)["webhook"]
        assert changed.pop("last_updated_timestamp") >= webhook["creation_timestamp"]
        return changed

    del webhook["last_updated_timestamp"]
    assert patch() == webhook
    assert patch(name="", url="", events=[]) == webhook
    assert patch(name="other") == webhook | {"name": "other"}
    assert patch(status="ACTIVE") == webhook | {"name": "other", "status": "ACTIVE"}
    assert patch(status=2, name="w") == webhook
    assert patch(description="") == {k: v for k, v in webhook.items() if k != "description"}
    tag = [{"entity": "MODEL_VERSION_TAG", "action": "SET"}]
    assert patch(events=tag, description="d") == webhook | {"events": tag}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "Missing value for required parameter 'name'."),
    ({"name": "-x"}, "Webhook name '-x' is invalid. It must start and end with a letter"),
    ({"name": "a" * 64}, "less than 63 characters"),
    ({"url": None}, "Missing value for required parameter 'url'."),
    ({"url": " "}, "Webhook URL cannot be empty or just whitespace: ' '"),
    ({"url": "ftp://x"}, "Invalid webhook URL scheme: 'ftp'."),
    ({"url": "https://169.254.169.254/"}, "must not resolve to a non-public IP address"),
    ({"url": "https://a.invalid/"}, "Cannot resolve Webhook URL hostname 'a.invalid'"),
    ({"events": []}, "Webhook events must be a non-empty list"),
    ({"events": None}, "Missing value for required parameter 'events'."),
    ({"events": "x"}, "for parameter 'events'"),
    ({"events": [{"entity": "SHOP", "action": "SET"}]}, "for parameter 'events[0].entity'"),
    (
        {"events": [{"entity": "MODEL_VERSION", "action": "UPDATED"}]},
        "Invalid action 'updated' for entity 'model_version'. Valid actions are: ['created']",
    ),
    ({"events": [{}]}, "Invalid action"),
    ({"status": "SLEEPING"}, "for parameter 'status'"),
    ({"secret": "x" * 1001}, "'secret' exceeds the maximum length of 1000 characters"),
    ({"description": "x" * 100_001}, "'description' exceeds the maximum length"),
]


def test_what_is_refused(ask: Ask, receiver: Receiver) -> None:
    for fields, message in REFUSED:
        given: dict[str, Any] = {"name": "w", "url": receiver.url, "events": EVENTS, **fields}
        error = ask("POST", "webhooks", 400, **given)
        assert error["error_code"] == "INVALID_PARAMETER_VALUE"
        assert message in error["message"]
    assert ask("GET", "webhooks") == {}


def test_pages_newest_first(ask: Ask, receiver: Receiver) -> None:
    ids = [create(ask, receiver)["webhook_id"] for _ in range(5)]
    found, token = [], None
    while True:
        fields: dict[str, Any] = {"page_token": token} if token else {}
        page = ask("GET", "webhooks", max_results=2, **fields)
        found += [webhook["webhook_id"] for webhook in page["webhooks"]]
        token = page.get("next_page_token")
        if token is None:
            break
    assert found == ids[::-1]
    for wrong in (-1, 1001):
        error = ask("GET", "webhooks", 400, max_results=wrong)
        assert error["message"] == "max_results must be between 1 and 1000."
    assert "page token" in ask("GET", "webhooks", 400, page_token="x")["message"]


def test_a_test_tells_what_came_of_it(ask: Ask, receiver: Receiver) -> None:
    path = f"webhooks/{create(ask, receiver)['webhook_id']}/test"
    receiver.reply = lambda got, n: Reply(200 if n == 0 else 418, {}, b"short and stout")
    passed = {"success": True, "response_status": 200, "response_body": "short and stout"}
    assert ask("POST", path) == {"result": passed}
    event = {"entity": "MODEL_VERSION_TAG", "action": "SET"}
    assert ask("POST", path, event=event) == {
        "result": passed | {"success": False, "response_status": 418}
    }
    assert [g.event for g in receiver.got] == ["registered_model.created", "model_version_tag.set"]
    receiver.close()
    result = ask("POST", path)["result"]
    assert result["success"] is False
    assert result["error_message"].startswith("Failed to test webhook: ")
    assert "response_status" not in result


def test_stage_transitions_beyond_mlflow(ask: Ask, receiver: Receiver) -> None:
    webhook = create(ask, receiver, stage_transitions=True)
    assert webhook["stage_transitions"] is True
    assert webhook["events"] == EVENTS, "clients refuse to read an event that they do not know"
    path = f"webhooks/{webhook['webhook_id']}"
    assert ask("PATCH", path, name="x")["webhook"]["stage_transitions"] is True
    ask("POST", "registered-models/create", name="m")
    ask("POST", "model-versions/create", name="m", source="s3://models/m")
    move = {"name": "m", "version": "1", "stage": "Staging", "archive_existing_versions": False}
    ask("POST", "model-versions/transition-stage", **move)
    assert receiver.wait(2)[1].event == "model_version_stage.transitioned"
    assert "stage_transitions" not in ask("PATCH", path, stage_transitions=False)["webhook"]


def test_no_answer_and_no_table_has_a_secret(
    ask: Ask, client: TestClient, receiver: Receiver
) -> None:
    key = {"Idempotency-Key": "once"}
    given = {"name": "w", "url": receiver.url, "events": EVENTS, "secret": "hush-hush"}
    answers = [client.post("/api/2.0/mlflow/webhooks", json=given, headers=key) for _ in range(2)]
    assert answers[0].json() == answers[1].json(), "a repeat, though it is encrypted differently"
    path = f"webhooks/{answers[0].json()['webhook']['webhook_id']}"
    texts = [answer.text for answer in answers]
    texts.append(client.patch(f"/api/2.0/mlflow/{path}", json={"secret": "hush-hush"}).text)
    texts.append(client.get("/api/2.0/mlflow/webhooks").text)
    assert all("room=models" in text for text in texts)
    told = len(texts)
    texts += [client.get(f"/api/v1/{path}").text for path in ("webhooks", "audit", "history")]
    for table in ("webhooks", "audit", "webhooks_history"):
        answer = client.get("/api/v1/sql", params={"statement": f"FROM {table}"})
        assert answer.status_code == 200
        texts.append(answer.text)
    with client.app.state.node.read() as cursor:  # type: ignore[attr-defined]
        for table in ("fold.requests", "fold.history", "fold.webhooks"):
            texts.append(str(cursor.execute(f"FROM {table}").fetchall()))
    assert "(not shown)" in "".join(texts)
    for text in texts:
        assert "hush" not in text
        assert "gAAAA" not in text, "encrypted by Fernet, and not shown either"
    for text in texts[told:]:
        assert "room=models" not in text, "the path of a URL may be a password"
    hidden = client.get("/api/v1/sql", params={"statement": "FROM fold.webhook_secrets"})
    assert hidden.status_code == 400


def test_a_key_that_is_broken_is_told(ask: Ask, receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "webhook.key").write_text("torn")
    given = {"name": "w", "url": receiver.url, "events": EVENTS, "secret": "hush"}
    assert "webhook.key" in ask("POST", "webhooks", 503, **given)["message"]
    webhook = create(ask, receiver)
    assert ask("POST", f"webhooks/{webhook['webhook_id']}/test")["result"]["success"]


def test_deliveries_retry_and_replay(ask: Ask, client: TestClient, receiver: Receiver) -> None:
    receiver.reply = lambda got, n: Reply(404 if n == 0 else 200)
    webhook_id = create(ask, receiver)["webhook_id"]
    for name in ("a", "b"):
        ask("POST", "registered-models/create", name=name)
    receiver.wait(2)

    def settled() -> Any:
        found = client.get("/api/v1/webhooks").json()
        return found if not found["delivery"]["pending"] + found["delivery"]["lag"] else None

    found = eventually(settled)
    assert found["delivery"]["dead"] == 1
    assert found["delivery"]["position"] == "registry:0:3"
    assert (found["webhooks"][0]["pending"], found["webhooks"][0]["dead"]) == (0, 1)
    first = client.get("/api/v1/webhooks/deliveries", params={"limit": 1}).json()
    token = first["next_page_token"]
    rest = client.get("/api/v1/webhooks/deliveries", params={"page_token": token}).json()
    deliveries = [*first["deliveries"], *rest["deliveries"]]
    assert rest["next_page_token"] is None
    assert [(d["position"], d["state"], d["status"]) for d in deliveries] == [
        ("registry:0:2", "delivered", 200),
        ("registry:0:1", "dead", 404),
    ]
    dead = client.get("/api/v1/webhooks/deliveries", params={"state": "dead"}).json()["deliveries"]
    assert dead == deliveries[1:]
    metrics = client.get("/metrics").text
    assert "modeltrail_webhooks_dead 1.0" in metrics
    assert client.get("/health").json()["webhooks"]["dead"] == 1
    assert client.get("/api/v1/status").json()["webhooks"]["dead"] == 1
    assert client.post("/api/v1/webhooks/retry", json={"webhook": "x"}).json() == {"retried": 0}
    assert client.post("/api/v1/webhooks/retry", json={"delivery": dead[0]["delivery_id"]}).json()[
        "retried"
    ]
    assert receiver.wait(3)[2].data["name"] == "a"
    eventually(settled)
    body = {"from": "registry:0:2", "webhook": webhook_id}
    replayed = client.post("/api/v1/webhooks/replay", json=body).json()
    assert (replayed["from"], replayed["to"]) == ("registry:0:2", "registry:0:3")
    assert receiver.wait(4)[3].data["name"] == "b"
    client.post("/api/v1/webhooks/replay", json={"from": "2026-01-01T00:00:00Z"})
    assert [g.data["name"] for g in receiver.wait(6)[4:]] == ["a", "b"]
    later = client.post("/api/v1/webhooks/replay", json={"from": "2999-01-01"}).json()
    assert later["from"] == later["to"] == "registry:0:3"
    for wrong in ({}, {"from": "noon"}, {"from": "registry:x"}):
        assert client.post("/api/v1/webhooks/replay", json=wrong).status_code == 400
    missing = {"from": "registry:0:0", "webhook": "x"}
    assert client.post("/api/v1/webhooks/replay", json=missing).status_code == 404
    assert client.get("/api/v1/webhooks/deliveries?page_token=W10").status_code == 400


def test_a_server_that_does_not_deliver(
    ask: Ask, client: TestClient, node: Node, receiver: Receiver
) -> None:
    assert node.webhooks is not None
    deliverer, node.webhooks.deliverer = node.webhooks.deliverer, None
    webhook = create(ask, receiver)
    assert ask("POST", f"webhooks/{webhook['webhook_id']}/test")["result"]["success"]
    assert client.get("/api/v1/webhooks").json()["delivery"] is None
    for method, path in (("GET", "deliveries"), ("POST", "retry")):
        answer = client.request(method, f"/api/v1/webhooks/{path}", json={})
        assert answer.status_code == 404
        assert "--no-webhooks" in answer.json()["message"]
    assert "webhooks_dead" not in client.get("/metrics").text
    node.webhooks.deliverer = deliverer
