"""Requests without an answer are known to the next process, and nothing else is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from starlette.testclient import TestClient

from modeltrail.api.app import create_app
from modeltrail.api.errors import Unavailable
from modeltrail.api.mlflow.unanswered import KEPT_S, Unanswered
from modeltrail.api.node import Node

SAID = ("/path", b"", b"{}", ("ann", True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "unanswered"


def test_the_next_process_goes_on_with_what_was_not_answered(folder: Path) -> None:
    before = Unanswered(folder)
    first, answered = before.begin(*SAID), before.begin(*SAID)
    before.end(answered)
    after = Unanswered(folder)
    assert after.begin("/other", *SAID[1:]).again is False
    assert after.begin(*SAID[:3], ("bob", True)).again is False
    assert after.begin(*SAID) == first._replace(again=True)
    assert after.begin(*SAID).again is False, "only once"


def test_what_was_left_is_taken_by_who_asks_the_same(folder: Path) -> None:
    unanswered = Unanswered(None)
    first = unanswered.begin(*SAID)
    assert unanswered.begin(*SAID).cause != first.cause, "both clients wait: two requests"
    unanswered.leave(first)
    assert unanswered.begin(*SAID) == first._replace(again=True)


def test_old_ones_are_forgotten_and_other_files_left_alone(folder: Path) -> None:
    Unanswered(folder).begin(*SAID)
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "notes.txt").touch()
    old = time.time() - KEPT_S - 1
    os.utime(file, (old, old))
    assert Unanswered(folder).begin(*SAID).again is False
    assert not file.exists()
    assert (folder / "notes.txt").exists()


def test_a_full_disk_costs_only_the_protection(folder: Path) -> None:
    unanswered = Unanswered(folder)
    with patch.object(Path, "touch", side_effect=OSError("no space")):
        unanswered.end(unanswered.begin(*SAID))


@pytest.mark.parametrize(
    ("path", "fields", "counted"),
    [
        ("experiments/create", {"name": "e"}, "experiments WHERE name = 'e'"),
        ("registered-models/create", {"name": "m"}, "models WHERE model = 'm'"),
        ("model-versions/create", {"name": "given", "source": "s3://b/k"}, "model_versions"),
        ("runs/create", {"experiment_id": "0"}, "runs"),
        ("logged-models", {"experiment_id": "0"}, "logged_models"),
    ],
)
def test_a_retry_after_an_answer_that_was_late_makes_nothing_twice(
    node: Node, path: str, fields: dict[str, Any], counted: str
) -> None:
    """The log has it, and the server answers 503, which clients retry."""
    with TestClient(create_app(node), base_url="http://localhost") as client:
        url = f"/api/2.0/mlflow/{path}"
        client.post("/api/2.0/mlflow/registered-models/create", json={"name": "given"})
        appended = Node._appended

        def lost(node: Node, asked: Any) -> Any:
            appended(node, asked)
            raise Unavailable("the log is not available")

        with patch.object(Node, "_appended", lost):
            assert client.post(url, json=fields).status_code == 503
        first = client.post(url, json=fields)
        assert first.status_code == 200, first.text

        def count() -> int:
            statement = f"SELECT count(*) FROM {counted}"
            asked = client.post("/api/v1/sql", json={"statement": statement}).json()
            return int(asked["rows"][0][0])

        assert count() == 1
        second = client.post(url, json=fields)
        if "name" in fields and path != "model-versions/create":
            assert second.json()["error_code"] == "RESOURCE_ALREADY_EXISTS"
        else:
            assert second.json() != first.json()
            assert count() == 2, "who got an answer and asks the same again means a second one"
        assert node.fold.status().dead_letters == 0


def test_an_answer_that_was_sent_is_not_kept(node: Node, folder: Path) -> None:
    with TestClient(create_app(node, unanswered=folder), base_url="http://localhost") as client:
        ask: Callable[..., Any] = client.post
        assert ask("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).status_code == 200
        assert ask("/api/2.0/mlflow/runs/create", json={"experiment_id": "9"}).status_code == 404
        assert list(folder.iterdir()) == []
