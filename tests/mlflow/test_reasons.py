"""Who asked and why, of every registry write over MLflow's endpoints, is in the audit view."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

MODEL, VERSION = {"name": "m"}, {"name": "m", "version": "1"}
WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "experiments/create", {"name": "e"}),
    ("POST", "experiments/set-experiment-tag", {"key": "a", "value": "b"}),
    ("POST", "experiments/delete-experiment-tag", {"key": "a"}),
    ("POST", "experiments/update", {"new_name": "f"}),
    ("POST", "experiments/delete", {}),
    ("POST", "experiments/restore", {}),
    ("POST", "registered-models/create", MODEL),
    ("PATCH", "registered-models/update", {**MODEL, "description": "d"}),
    ("POST", "registered-models/set-tag", {**MODEL, "key": "a", "value": "b"}),
    ("DELETE", "registered-models/delete-tag", {**MODEL, "key": "a"}),
    ("POST", "model-versions/create", {**MODEL, "source": "s3://a/b"}),
    ("PATCH", "model-versions/update", {**VERSION, "description": "d"}),
    ("POST", "model-versions/set-tag", {**VERSION, "key": "a", "value": "b"}),
    ("DELETE", "model-versions/delete-tag", {**VERSION, "key": "a"}),
    ("POST", "model-versions/transition-stage", {**VERSION, "stage": "Production"}),
    ("POST", "registered-models/alias", {**VERSION, "alias": "champion"}),
    ("DELETE", "registered-models/alias", {**MODEL, "alias": "champion"}),
    ("DELETE", "model-versions/delete", VERSION),
    ("POST", "registered-models/rename", {**MODEL, "new_name": "n"}),
    ("DELETE", "registered-models/delete", {"name": "n"}),
]


def _audit(client: TestClient) -> list[tuple[Any, ...]]:
    statement = (
        "SELECT type, actor, actor_verified, reason FROM audit WHERE accepted ORDER BY log_offset"
    )
    answer = client.post("/api/v1/sql", json={"statement": statement})
    assert answer.status_code == 200, answer.text
    return [tuple(row) for row in answer.json()["rows"]]


def test_the_header_says_why(client: TestClient) -> None:
    experiment: dict[str, Any] = {}
    reasons = []
    for n, (method, path, fields) in enumerate(WRITES):
        reasons.append(f"reason {n}")
        body = {**fields, **(experiment if path.startswith("experiments/") else {})}
        answer = client.request(
            method,
            f"/api/2.0/mlflow/{path}",
            json=body,
            headers={"X-Modeltrail-Reason": reasons[-1], "X-Modeltrail-Actor": "ada"},
        )
        assert answer.status_code == 200, (path, answer.text)
        if path == "experiments/create":
            experiment = {"experiment_id": answer.json()["experiment_id"]}
    told = [row for row in _audit(client) if row[1] == "ada"]
    assert [row[3] for row in told] == reasons
    assert not any(row[2] for row in told)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("model-versions/transition-stage", {"stage": "Production"}),
        ("registered-models/alias", {"alias": "champion"}),
    ],
)
def test_the_tag_says_why(client: TestClient, path: str, fields: dict[str, Any]) -> None:
    """For clients that cannot send a header: set before the decision, and once for each."""

    def ask(path: str, **fields: Any) -> None:
        answer = client.post(f"/api/2.0/mlflow/{path}", json=fields)
        assert answer.status_code == 200, answer.text

    ask("registered-models/create", **MODEL)
    ask(
        "model-versions/create",
        **MODEL,
        source="s3://a/b",
        tags=[
            {"key": "modeltrail.reason", "value": "made"},
            {"key": "mlflow.user", "value": "bob"},
        ],
    )
    ask("model-versions/set-tag", **VERSION, key="modeltrail.reason", value="better")
    ask(path, **VERSION, **fields)
    ask(path, **VERSION, **fields)
    made, _, decided, again = _audit(client)[-4:]
    assert made[1:] == ("bob", False, "made")
    assert decided[3] == "better"
    assert again[3] is None
