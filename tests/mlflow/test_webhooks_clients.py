"""Webhooks by unmodified MLflow clients, and a server that is killed while it delivers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import threading
from pathlib import Path

from api_server import Server, modeltrail
from mlflow_client import MlflowClient, python_with_mlflow
from webhook_receiver import Got, Receiver, Reply, eventually

_SCRIPT = """\
from mlflow import register_prompt
from mlflow.entities.webhook import WebhookEvent, WebhookStatus

url = sys.argv[1]
out: dict[str, object] = {}

webhook = client.create_webhook(
    name="chat",
    url=url,
    events=[
        "registered_model.created",
        WebhookEvent("model_version", "created"),
        "model_version_tag.set",
        "model_version_tag.deleted",
        "model_version_alias.created",
        "model_version_alias.deleted",
        "prompt.created",
        "prompt_version.created",
        "prompt_alias.created",
        "budget_policy.exceeded",
    ],
    description="to the models' room",
    secret="hush-hush",
)
out["webhook_id"] = webhook.webhook_id
out["created"] = [webhook.name, webhook.url, str(webhook.status), webhook.secret]
out["events"] = [str(event) for event in webhook.events]
out["tested"] = vars(client.test_webhook(webhook.webhook_id, "model_version_tag.set"))
out["listed"] = [w.webhook_id for w in client.list_webhooks(max_results=10)]
off = client.update_webhook(webhook.webhook_id, status="DISABLED")
out["off"] = [str(off.status), off.description]
renamed = client.update_webhook(webhook.webhook_id, name="models")
out["renamed"] = [renamed.name, str(client.get_webhook(webhook.webhook_id).status)]
client.create_registered_model("unheard")
client.update_webhook(webhook.webhook_id, status=WebhookStatus.ACTIVE)

client.create_registered_model("digits", tags={"team": "vision"}, description="digits")
client.create_model_version("digits", "s3://models/digits", tags={"k": "v"})
client.set_model_version_tag("digits", "1", "approved_by", "ada")
client.delete_model_version_tag("digits", "1", "approved_by")
client.set_registered_model_alias("digits", "champion", "1")
client.delete_registered_model_alias("digits", "champion")
register_prompt("greeting", "Hello {{name}}!", commit_message="first")
client.set_prompt_alias("greeting", "live", 1)

errors = []
for given in (
    {"name": "-", "url": "https://example.org"},
    {"name": "x", "url": "ftp://example.org"},
    {"name": "x", "url": "https://169.254.169.254/latest/meta-data"},
):
    try:
        client.create_webhook(events=["model_version.created"], **given)
    except MlflowException as error:
        errors.append([error.error_code, str(error)])
out["errors"] = errors
extra = client.create_webhook("extra", url, ["prompt.created"])
client.delete_webhook(extra.webhook_id)
try:
    client.get_webhook(extra.webhook_id)
except MlflowException as error:
    out["deleted"] = error.error_code
print(json.dumps(out))
"""


def signed_with(secret: str, got: Got) -> bool:
    """Whether the signature is what MLflow's documentation says, computed without our code."""
    timestamp = got.headers["x-mlflow-timestamp"].encode()
    content = b".".join([got.delivery_id.encode(), timestamp, got.body])
    digest = hmac.digest(secret.encode(), content, hashlib.sha256)
    return got.headers["x-mlflow-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def serving(data: Path) -> Server:
    server = Server(data, "--allow-private-webhooks")
    server.ready()
    return server


def test_mlflow_makes_tests_and_gets_webhooks(tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = serving(data)
    output = ""
    try:
        with Receiver() as receiver:
            client = MlflowClient(python_with_mlflow("3"), server.url, tmp_path)
            out = json.loads(client.run(_SCRIPT, receiver.url))
            assert out["created"] == ["chat", receiver.url, "ACTIVE", None]
            assert len(out["events"]) == 10
            assert out["tested"] == {
                "_success": True,
                "_response_status": 200,
                "_response_body": None,
                "_error_message": None,
            }
            assert out["listed"] == [out["webhook_id"]]
            assert out["off"] == ["DISABLED", "to the models' room"]
            assert out["renamed"] == ["models", "DISABLED"], "a name is no reason to go on"
            codes, messages = zip(*out["errors"], strict=True)
            assert set(codes) == {"INVALID_PARAMETER_VALUE"}
            assert "Webhook name '-' is invalid." in messages[0]
            assert "Invalid webhook URL scheme: 'ftp'." in messages[1]
            assert "must not resolve to a non-public IP address" in messages[2]
            assert out["deleted"] == "RESOURCE_DOES_NOT_EXIST"
            got = receiver.wait(10)
            assert all(signed_with("hush-hush", g) for g in got)
            assert [g.event for g in got] == [
                "model_version_tag.set",  # the test
                "registered_model.created",
                "model_version.created",
                "model_version_tag.set",
                "model_version_tag.deleted",
                "model_version_alias.created",
                "model_version_alias.deleted",
                "prompt.created",
                "prompt_version.created",
                "prompt_alias.created",
            ]
            assert got[1].data["name"] == "digits"
            assert got[8].data["template"] == "Hello {{name}}!"
            shown = modeltrail("webhooks", "list", "--server", server.url)
            assert shown.returncode == 0
            assert "0 pending, 0 dead" in shown.stdout
            shown = modeltrail("webhooks", "deliveries", "--server", server.url, "--json")
            assert len(json.loads(shown.stdout)) == 9
    finally:
        output = "".join(map(str, server.stop()))
    assert "hush" not in output
    for file in data.rglob("*"):
        assert file.is_dir() or b"hush-hush" not in file.read_bytes(), file


def test_a_server_that_is_killed_while_it_delivers_goes_on_where_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = serving(data)
    release = threading.Event()
    with Receiver(lambda got, n: Reply(200 if n > 1 or release.wait(30) else 500)) as receiver:
        try:
            fields = {
                "name": "w",
                "url": receiver.url,
                "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}],
                "secret": "hush",
            }
            server.ask("/api/2.0/mlflow/webhooks", fields)
            for name in "abc":
                server.ask("/api/2.0/mlflow/registered-models/create", {"name": name})
            receiver.wait(1)
            server.stop(signal.SIGKILL)
            server = serving(data)
            receiver.wait(2)
            server.stop(signal.SIGKILL)
            release.set()
            server = serving(data)
            eventually(lambda: {g.data["name"] for g in receiver.got} == set("abc"), 30)
            eventually(
                lambda: not server.ask("/api/v1/webhooks")["delivery"]["pending"], timeout_s=30
            )
            assert [g.data["name"] for g in receiver.got] == ["a", "a", "a", "b", "c"]
            assert len({g.delivery_id for g in receiver.got}) == 3
            assert all(signed_with("hush", g) for g in receiver.got)
        finally:
            release.set()
            server.stop()
