"""Webhooks are delivered from the log: what, to whom, in which order, and at least once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modeltrail.consumers import Fold
from modeltrail.consumers.webhooks.deliverer import Deliverer, Webhooks
from modeltrail.consumers.webhooks.http import Sender
from modeltrail.consumers.webhooks.secrets import Secrets
from modeltrail.eventlog import EventLog, open_log
from registry_requests import REGISTRY, Registry, request
from webhook_receiver import Got, Receiver, Reply, eventually
from writers import Writer

ALIASES = ["model_version_alias.created", "model_version_alias.deleted"]


class Trail:
    """A log, its fold, and those who deliver from it, one after the other."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.options = {"tries": 3, "backoff_s": 0.01, **options}
        self.log: EventLog = open_log(str(folder))
        self.fold = Fold(self.log, None, memory_limit="500MB", threads=1)
        self.fold.start()
        self.secrets = Secrets(folder)
        self.writer = Writer()
        self.deliverer: Deliverer | None = None

    def deliver(self, **options: Any) -> Deliverer:
        if self.deliverer is not None:
            self.deliverer.stop()
        tools = Webhooks(self.secrets, Sender(allow_private=True))
        self.deliverer = Deliverer(
            self.log, self.fold, self.folder, tools, **{**self.options, **options}
        )
        self.deliverer.start()
        return self.deliverer

    def do(self, type: str, **fields: Any) -> int:
        """Have a request decided; returns its offset."""
        (position,) = self.log.append([request(self.writer, type, **fields)])
        self.fold.wait_for({REGISTRY: position.offset + 1}, 10)
        return position.offset

    def webhook(self, url: str, *events: str, secret: str | None = None, **given: Any) -> str:
        """Create one; returns its id."""
        fields = {
            "name": "w",
            "url": url,
            "description": None,
            "events": list(events) or ALIASES,
            "stage_transitions": False,
            "secret": secret and self.secrets.encrypt(secret),
            "status": "ACTIVE",
            **given,
        }
        offset = self.do("CreateWebhook", **fields)
        cursor = self.fold.cursor()
        row = cursor.execute(
            "SELECT event_id, accepted, message FROM audit WHERE log_offset = ?", [offset]
        ).fetchone()
        cursor.close()
        assert row is not None
        assert row[1], row[2]
        return str(row[0])

    def update(self, webhook_id: str, **fields: Any) -> int:
        names = ("name", "url", "description", "events", "stage_transitions", "secret", "status")
        return self.do("UpdateWebhook", webhook_id=webhook_id, **{**dict.fromkeys(names), **fields})

    def alias(self, name: str) -> int:
        return self.do("SetRegisteredModelAlias", model="m", alias=name, version=1)

    def close(self) -> None:
        if self.deliverer is not None:
            self.deliverer.stop()
        self.fold.stop()
        self.log.close()


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Trail]:
    """A log with one version of one model, and somebody who delivers."""
    trail = Trail(tmp_path / "data")
    trail.do("CreateRegisteredModel", model="m")
    trail.do("CreateModelVersion", model="m")
    trail.deliver()
    yield trail
    trail.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def states(trail: Trail) -> list[tuple[str, str, int]]:
    """State, event and tries of each delivery, oldest first."""
    assert trail.deliverer is not None
    found = trail.deliverer.deliveries(None, None, None, 1000)
    return [(d["state"], d["event"], d["tries"]) for d in reversed(found)]


def settled(trail: Trail) -> bool:
    assert trail.deliverer is not None
    status = trail.deliverer.status()
    return status.lag == status.pending == status.replays == 0


def aliases(got: list[Got]) -> list[str]:
    return [g.data["alias"] for g in got]


# What is delivered


ALL = [
    "registered_model.created",
    "model_version.created",
    "model_version_tag.set",
    "model_version_tag.deleted",
    *ALIASES,
    "prompt.created",
    "prompt_version.created",
    "prompt_tag.set",
    "prompt_tag.deleted",
    "prompt_version_tag.set",
    "prompt_version_tag.deleted",
    "prompt_alias.created",
    "prompt_alias.deleted",
]


def test_every_event_of_models_and_prompts_as_mlflow_sends_it(
    trail: Trail, receiver: Receiver
) -> None:
    trail.webhook(receiver.url, *ALL, stage_transitions=True)
    prompt = {"mlflow.prompt.is_prompt": "true"}
    trail.do("CreateRegisteredModel", model="n", description="d", tags={"a": "b"})
    trail.do("CreateModelVersion", model="n", run_id="r", tags={"a": "b"}, description="e")
    trail.do("ChangeModelVersionTags", model="n", version=1, tags={"k": "v", "a": None})
    trail.do("ChangeRegisteredModelTags", model="n", tags={"mlflow": "has no event for this"})
    trail.do("SetRegisteredModelAlias", model="n", version=1, alias="champion")
    trail.do("DeleteRegisteredModelAlias", model="n", alias="champion")
    trail.do("TransitionModelVersionStage", model="n", version=1, stage="Production")
    trail.do("CreateModelVersion", model="n")
    trail.do(
        "TransitionModelVersionStage",
        model="n",
        version=2,
        stage="Production",
        archive_existing_versions=True,
    )
    trail.do("CreateRegisteredModel", model="p", tags={**prompt, "a": "b"})
    text = {**prompt, "mlflow.prompt.text": "Hi {{x}}", "_mlflow_prompt_type": "text", "c": "d"}
    trail.do("CreateModelVersion", model="p", source="dummy", tags=text)
    trail.do("ChangeRegisteredModelTags", model="p", tags={"k": "v"})
    trail.do("ChangeRegisteredModelTags", model="p", tags={"k": None})
    trail.do("ChangeModelVersionTags", model="p", version=1, tags={"k": "v"})
    trail.do("ChangeModelVersionTags", model="p", version=1, tags={"k": None})
    trail.do("SetRegisteredModelAlias", model="p", version=1, alias="live")
    trail.do("DeleteRegisteredModelAlias", model="p", alias="live")
    trail.do("CreateModelVersion", model="q", create_model=True, aliases=["first"])
    n = {"name": "n", "version": "1"}
    p = {"name": "p", "version": "1"}
    expected: list[tuple[str, dict[str, Any]]] = [
        ("registered_model.created", {"name": "n", "tags": {"a": "b"}, "description": "d"}),
        (
            "model_version.created",
            {
                **n,
                "source": "s3://models/m",
                "run_id": "r",
                "tags": {"a": "b"},
                "description": "e",
            },
        ),
        ("model_version_tag.set", {**n, "key": "k", "value": "v"}),
        ("model_version_tag.deleted", {**n, "key": "a"}),
        ("model_version_alias.created", {**n, "alias": "champion"}),
        ("model_version_alias.deleted", {"name": "n", "alias": "champion"}),
        (
            "model_version_stage.transitioned",
            {**n, "from_stage": "None", "to_stage": "Production"},
        ),
        (
            "model_version.created",
            {
                "name": "n",
                "version": "2",
                "source": "s3://models/m",
                "run_id": None,
                "tags": {},
                "description": None,
            },
        ),
        (
            "model_version_stage.transitioned",
            {**n, "from_stage": "Production", "to_stage": "Archived"},
        ),
        (
            "model_version_stage.transitioned",
            {"name": "n", "version": "2", "from_stage": "None", "to_stage": "Production"},
        ),
        ("prompt.created", {"name": "p", "tags": {"a": "b"}, "description": ""}),
        (
            "prompt_version.created",
            {**p, "template": "Hi {{x}}", "tags": {"c": "d"}, "description": None},
        ),
        ("prompt_tag.set", {"name": "p", "key": "k", "value": "v"}),
        ("prompt_tag.deleted", {"name": "p", "key": "k"}),
        ("prompt_version_tag.set", {**p, "key": "k", "value": "v"}),
        ("prompt_version_tag.deleted", {**p, "key": "k"}),
        ("prompt_alias.created", {**p, "alias": "live"}),
        ("prompt_alias.deleted", {"name": "p", "alias": "live"}),
        ("registered_model.created", {"name": "q", "tags": {}, "description": ""}),
        (
            "model_version.created",
            {
                "name": "q",
                "version": "1",
                "source": "s3://models/m",
                "run_id": None,
                "tags": {},
                "description": None,
            },
        ),
        ("model_version_alias.created", {"name": "q", "version": "1", "alias": "first"}),
    ]
    got = receiver.wait(len(expected))
    eventually(lambda: settled(trail))
    assert [(g.event, g.data) for g in receiver.got] == expected
    assert len({g.delivery_id for g in got}) == len(expected)


def documented_check() -> Callable[..., bool]:
    """The function that the guide tells receivers to use."""
    page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", page, re.S) if "is_genuine" in c)
    names: dict[str, Any] = {}
    exec(code, names)
    check: Callable[..., bool] = names["is_genuine"]
    return check


def test_a_delivery_is_signed_as_mlflow_signs(trail: Trail, receiver: Receiver) -> None:
    trail.webhook(receiver.url, secret="päss")
    unsigned = trail.webhook(receiver.url)
    trail.alias("champion")
    first, second = sorted(receiver.wait(2), key=lambda g: "x-mlflow-signature" not in g.headers)
    timestamp = first.headers["x-mlflow-timestamp"]
    assert abs(int(timestamp) - time.time()) < 10
    signed = f"{first.delivery_id}.{timestamp}.{first.body.decode()}"
    digest = hmac.new("päss".encode(), signed.encode(), hashlib.sha256).digest()
    assert first.headers["x-mlflow-signature"] == "v1," + base64.b64encode(digest).decode()
    documented = {k.title().replace("Mlflow", "MLflow"): v for k, v in first.headers.items()}
    is_genuine = documented_check()
    assert is_genuine(documented, first.body, "päss")
    assert not is_genuine(documented, first.body, "pass")
    assert not is_genuine(documented, first.body + b" ", "päss")
    assert not is_genuine(documented, first.body, "päss", age_s_max=-1)
    assert first.headers["content-type"] == "application/json"
    assert first.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "x-mlflow-signature" not in second.headers
    trail.update(unsigned, secret=trail.secrets.encrypt("new"))
    trail.alias("other")
    got = receiver.wait(4)[2:]
    assert all("x-mlflow-signature" in g.headers for g in got)
    trail.update(unsigned, secret="")
    trail.alias("third")
    assert sum("x-mlflow-signature" in g.headers for g in receiver.wait(6)[4:]) == 1


def test_only_what_was_accepted_while_the_webhook_was_there_active_and_asked_for_it(
    trail: Trail, receiver: Receiver
) -> None:
    trail.alias("before")
    webhook = trail.webhook(receiver.url)
    trail.alias("a")
    trail.do("SetRegisteredModelAlias", model="m", alias="refused", version=99)
    trail.update(webhook, status="DISABLED")
    trail.alias("disabled")
    trail.update(webhook, name="other")  # which does not make it active again
    trail.alias("still disabled")
    trail.update(webhook, status="ACTIVE")
    trail.alias("b")
    trail.update(webhook, events=["registered_model.created"])
    trail.alias("not asked for")
    trail.update(webhook, events=ALIASES)
    receiver.wait(2)
    trail.alias("c")
    trail.do("DeleteWebhook", webhook_id=webhook)
    trail.alias("deleted")
    eventually(lambda: settled(trail))
    # Where it was deleted before the last one was sent, that one is not sent.
    assert aliases(receiver.got) in (["a", "b", "c"], ["a", "b"])


# At least once


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again_and_order_is_kept(
    trail: Trail, receiver: Receiver, status: int
) -> None:
    receiver.reply = lambda got, n: Reply(status if n < 2 else 200, {"Retry-After": "0"})
    trail.webhook(receiver.url)
    trail.alias("a")
    trail.alias("b")
    got = receiver.wait(4)
    assert aliases(got) == ["a", "a", "a", "b"]
    assert len({g.delivery_id for g in got[:3]}) == 1
    assert len({g.body for g in got[:3]}) == 1
    eventually(lambda: settled(trail))
    assert states(trail) == [
        ("delivered", ALIASES[0], 3),
        ("delivered", ALIASES[0], 1),
    ]


@pytest.mark.parametrize("status", [302, 400, 404, 410])
def test_what_will_not_pass_is_a_dead_letter_at_once(
    trail: Trail, receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"}
    receiver.reply = lambda got, n: Reply(status if n == 0 else 200, elsewhere, b"not like this")
    with caplog.at_level(logging.WARNING, "modeltrail.webhooks"):
        webhook = trail.webhook(receiver.url, secret="hush")
        trail.alias("a")
        trail.alias("b")
        receiver.wait(2)
        eventually(lambda: settled(trail))
    assert states(trail) == [("dead", ALIASES[0], 1), ("delivered", ALIASES[0], 1)]
    assert trail.deliverer is not None
    (dead,) = trail.deliverer.deliveries(webhook, "dead", None, 10)
    assert dead["status"] == status
    assert "not like this" in dead["error"]
    assert "dead letter" in caplog.text
    assert "hush" not in caplog.text
    assert "room=models" not in caplog.text, "the path of a URL may be a password"
    assert trail.deliverer.retry() == 1
    assert aliases(receiver.wait(3)) == ["a", "b", "a"]
    assert receiver.got[2].delivery_id == receiver.got[0].delivery_id
    eventually(lambda: settled(trail))
    assert [state for state, _, _ in states(trail)] == ["delivered", "delivered"]


def test_a_dead_letter_after_the_last_try(trail: Trail, receiver: Receiver) -> None:
    receiver.reply = lambda got, n: Reply(500)
    trail.webhook(receiver.url)
    trail.alias("a")
    assert trail.deliverer is not None
    eventually(lambda: trail.deliverer and trail.deliverer.status().dead)
    assert len(receiver.got) == 3
    assert states(trail) == [("dead", ALIASES[0], 3)]


def test_dead_and_slow_endpoints_hold_up_nobody(trail: Trail, receiver: Receiver) -> None:
    release = threading.Event()
    slow = Receiver(lambda got, n: Reply(200 if release.wait(20) else 500))
    gone = Receiver()
    gone.close()
    try:
        trail.webhook(gone.url)
        trail.webhook(slow.url)
        trail.webhook(receiver.url)
        for alias in "abc":
            trail.alias(alias)
        assert aliases(receiver.wait(3)) == ["a", "b", "c"]
        assert aliases(slow.wait(1)) == ["a"]
        release.set()
        assert aliases(slow.wait(3)) == ["a", "b", "c"]
        eventually(lambda: settled(trail))
        assert states(trail).count(("dead", ALIASES[0], 3)) == 3
    finally:
        release.set()
        slow.close()


def test_what_happens_while_nobody_delivers_is_delivered_later(
    trail: Trail, receiver: Receiver
) -> None:
    trail.webhook(receiver.url)
    eventually(lambda: settled(trail))
    assert trail.deliverer is not None
    trail.deliverer.stop()
    trail.alias("a")
    trail.alias("b")
    trail.deliver()
    assert aliases(receiver.wait(2)) == ["a", "b"]
    eventually(lambda: settled(trail))
    trail.deliver()
    trail.alias("c")
    assert aliases(receiver.wait(3)) == ["a", "b", "c"]


@pytest.mark.alone
def test_a_stop_breaks_off_what_is_under_way_and_it_is_sent_again(
    trail: Trail, receiver: Receiver
) -> None:
    stuck = threading.Event()
    receiver.reply = lambda got, n: Reply(200 if n or stuck.wait(20) else 500)
    trail.webhook(receiver.url)
    trail.alias("a")
    receiver.wait(1)
    assert trail.deliverer is not None
    began = time.monotonic()
    trail.deliverer.stop()
    assert time.monotonic() - began < 10
    trail.deliver()
    first, second = receiver.wait(2)
    stuck.set()
    assert first.delivery_id == second.delivery_id
    eventually(lambda: settled(trail))
    assert states(trail) == [("delivered", ALIASES[0], 1)]


def test_a_new_server_on_an_old_log_begins_at_its_end(tmp_path: Path, receiver: Receiver) -> None:
    trail = Trail(tmp_path / "data")
    try:
        trail.webhook(receiver.url)
        trail.do("CreateRegisteredModel", model="m")
        trail.do("CreateModelVersion", model="m")
        trail.alias("old")
        deliverer = trail.deliver()
        trail.alias("new")
        assert aliases(receiver.wait(1)) == ["new"]
        eventually(lambda: settled(trail))
        deliverer.replay(0)
        assert aliases(receiver.wait(3)) == ["new", "old", "new"]
    finally:
        trail.close()


def test_a_replay_sends_the_same_again_and_to_one_webhook_if_asked(
    trail: Trail, receiver: Receiver
) -> None:
    with Receiver() as other:
        webhook = trail.webhook(receiver.url)
        trail.webhook(other.url)
        first = trail.alias("a")
        second = trail.alias("b")
        trail.alias("c")
        before = receiver.wait(3)
        other.wait(3)
        eventually(lambda: settled(trail))
        assert trail.deliverer is not None
        trail.deliverer.replay(second, webhook)
        again = receiver.wait(5)[3:]
        assert [(g.delivery_id, g.body) for g in again] == [
            (g.delivery_id, g.body) for g in before[1:]
        ]
        eventually(lambda: settled(trail))
        assert len(other.got) == 3
        trail.deliverer.replay(first)
        assert aliases(receiver.wait(8)[5:]) == ["a", "b", "c"]
        assert aliases(other.wait(6)[3:]) == ["a", "b", "c"]


def test_what_waits_for_a_disabled_webhook_waits_and_a_new_url_counts_at_once(
    trail: Trail, receiver: Receiver
) -> None:
    gone = Receiver()
    gone.close()
    trail.deliver(tries=1000)
    webhook = trail.webhook(gone.url)
    trail.alias("a")
    assert trail.deliverer is not None
    eventually(lambda: states(trail) and states(trail)[0][2] > 0)
    trail.update(webhook, status="DISABLED", url=receiver.url)
    time.sleep(0.1)
    assert not receiver.got
    assert trail.deliverer.status().pending == 1
    trail.update(webhook, status="ACTIVE")
    assert aliases(receiver.wait(1)) == ["a"]


def test_a_secret_of_another_key_is_a_dead_letter_and_the_others_go_on(
    trail: Trail, receiver: Receiver, tmp_path: Path
) -> None:
    mine, trail.secrets = trail.secrets, Secrets(tmp_path)
    trail.webhook(receiver.url, secret="of another server")
    trail.secrets = mine
    trail.webhook(receiver.url, secret="of this one")
    trail.alias("a")
    receiver.wait(1)
    eventually(lambda: settled(trail))
    assert trail.deliverer is not None
    (dead,) = trail.deliverer.deliveries(None, "dead", None, 10)
    assert "MODELTRAIL_WEBHOOK_KEY" in dead["error"]
    assert len(receiver.got) == 1


def test_the_fold_goes_on_from_its_tables_and_comes_to_the_same() -> None:
    def told(registry: Registry, restarted: bool) -> list[Any]:
        create: dict[str, Any] = {"name": "w", "description": None, "events": ALIASES}
        create |= {"stage_transitions": True, "secret": "encrypted", "status": "ACTIVE"}
        keep = dict.fromkeys(
            ("name", "url", "description", "events", "stage_transitions", "secret", "status")
        )

        def do(type: str, **fields: Any) -> None:
            registry.do(type, **fields)
            if restarted:
                registry.database._load()

        do("CreateWebhook", url="https://a.example/secret", **create)
        do("CreateWebhook", url="https://b.example", **create)
        first, second = registry.values("SELECT webhook_id FROM webhooks ORDER BY created_at")
        do("UpdateWebhook", webhook_id=first, **keep | {"url": "https://c.example/x?y"})
        do("UpdateWebhook", webhook_id=first, **keep | {"secret": "", "status": "DISABLED"})
        do("DeleteWebhook", webhook_id=second)
        assert registry.refused("DeleteWebhook", webhook_id=second) == (
            "RESOURCE_DOES_NOT_EXIST",
            f"Webhook with ID {second} not found.",
        )
        assert registry.rows("SELECT * EXCLUDE webhook_id FROM fold.webhook_secrets") == [
            ("https://c.example/x?y", None),
            (None, None),
        ]
        return [
            registry.rows("SELECT name, endpoint, events, status FROM webhooks"),
            registry.rows(
                "SELECT attribute, value, from_offset, to_offset FROM webhooks_history ORDER BY ALL"
            ),
        ]

    webhooks, history = told(Registry(), restarted=False)
    stages = "model_version_stage.transitioned"
    shown = ("w", "https://c.example/(not shown)", [*ALIASES, stages], "DISABLED")
    assert webhooks == [shown]
    assert ("endpoint", "https://a.example/(not shown)", 0, 2) in history
    assert told(Registry(), restarted=True) == [webhooks, history]


def test_another_log_is_noticed(
    trail: Trail, receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trail.webhook(receiver.url)
    trail.alias("a")
    receiver.wait(1)
    eventually(lambda: settled(trail))
    assert trail.deliverer is not None
    trail.deliverer.stop()
    (tmp_path / "other").mkdir()
    (trail.folder / "webhooks.sqlite").rename(tmp_path / "other" / "webhooks.sqlite")
    other = Trail(tmp_path / "other")
    try:
        other.do("CreateRegisteredModel", model="m")
        with caplog.at_level(logging.ERROR, "modeltrail.webhooks"):
            other.deliver()
        assert "another log" in caplog.text
        other.do("CreateModelVersion", model="m")
        other.webhook(receiver.url)
        other.alias("b")
        assert aliases(receiver.wait(2)) == ["a", "b"]
    finally:
        other.close()
