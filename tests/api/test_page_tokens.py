"""Page tokens of another list, query or shape: refused with a clear 400 by every list."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_server import Job
from modeltrail.api.pages import Pages
from modeltrail.schemas.framing import frame

LISTS = {
    "runs": ("/api/v1/runs", (str, str)),
    "points": ("/api/v1/runs/run-1/metrics/loss", (int,)),
    "experiments": ("/api/v1/experiments", (str,)),
    "models": ("/api/v1/models", (str,)),
    "versions": ("/api/v1/models/m/versions", (int,)),
    "stages": ("/api/v1/stages", (str, int)),
    "holders": ("/api/v1/holders", (str, str, str, int)),
    "events": ("/api/v1/audit", (int,)),
    "artifacts": ("/api/v1/audit/artifacts", (str, str, str)),
    "dead_letters": ("/api/v1/dead-letters", (str, int, int)),
}
"""Name of each native list, where it is, and the kinds of the values in its tokens."""


@pytest.fixture
def filled(client: TestClient) -> TestClient:
    """A client of a server where every list has an item."""
    job = Job()
    events = frame([job.started(), job.metrics("loss", [1.0, 2.0])])
    assert client.post("/api/v1/ingest", content=events).status_code == 200
    body = {"source": "s3://bucket/model", "create_model": True}
    assert client.post("/api/v1/models/m/versions", json=body).status_code == 200
    return client


def raw(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def refused(client: TestClient, url: str, token: str) -> None:
    answer = client.get(url, params={"page_token": token})
    assert answer.status_code == 400, (url, token, answer.text)
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert "page" in answer.json()["message"], answer.text


@pytest.mark.parametrize("name", LISTS)
def test_tokens_of_other_lists_and_shapes(filled: TestClient, name: str) -> None:
    url, kinds = LISTS[name]
    assert filled.get(url).status_code == 200
    values = {str: "a", int: 1}
    for other, (_, others) in LISTS.items():
        if other != name:
            refused(filled, url, Pages(other).token(last=[values[kind] for kind in others]))
    pages = Pages(name)
    wrong: Any
    last: Any
    for wrong in (None, True, 1.5, [], {}, "a" if int in kinds else 1, 2**63, -(2**80), "\ud800"):
        refused(filled, url, pages.token(last=[wrong] * len(kinds)))
    for last in ([], [1] * 9, "a", {}, None):
        refused(filled, url, raw({"of": pages._of, "last": last}))
    for content in (None, 1, [], ["a"], [1, 2], ["a", 1, 1], {}, {"of": 1}, {"last": ["a"]}):
        refused(filled, url, raw(content))
    for text in ("%%%", "é", "x", "W10", "[" * 1000, raw([[]] * 3), "A" * 5000):
        refused(filled, url, text)


def test_a_time_in_a_token_is_one(filled: TestClient) -> None:
    refused(filled, "/api/v1/runs", Pages("runs").token(last=["noon", "run-1"]))


SEARCHES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "runs/search": ("POST", {}, {"filter": "metrics.a > 1"}),
    "experiments/search": ("POST", {}, {"order_by": ["name"]}),
    "registered-models/search": ("GET", {}, {"filter": "name = 'x'"}),
    "model-versions/search": ("GET", {}, {"order_by": "version_number ASC"}),
    "logged-models/search": (
        "POST",
        {"experiment_ids": ["0"]},
        {"experiment_ids": ["0", "1"]},
    ),
    "metrics/get-history": (
        "GET",
        {"run_id": "run-1", "metric_key": "loss"},
        {"metric_key": "other"},
    ),
}


@pytest.mark.parametrize("path", SEARCHES)
def test_a_token_of_another_query(filled: TestClient, path: str) -> None:
    method, query, change = SEARCHES[path]

    def ask(**more: Any) -> Any:
        fields = {**query, **more}
        given: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        return filled.request(method, f"/api/2.0/mlflow/{path}", **given)

    for n in range(2):
        name = {"name": f"n{n}"}
        for made in ("experiments/create", "registered-models/create"):
            assert filled.post(f"/api/2.0/mlflow/{made}", json=name).status_code == 200
        for made, body in (
            ("runs/create", {}),
            ("logged-models", {"experiment_id": "0"}),
            ("model-versions/create", {"name": "n0", "source": "s3://x/y"}),
        ):
            assert filled.post(f"/api/2.0/mlflow/{made}", json=body).status_code == 200
    token = ask(max_results=1).json()["next_page_token"]
    assert ask(max_results=2, page_token=token).status_code == 200
    answer = ask(max_results=1, page_token=token, **change)
    assert answer.status_code == 400, answer.text
    assert "in the page token do" in answer.json()["message"]
    for other, (_, fields, _) in SEARCHES.items():
        if other != path:
            foreign = Pages("other", **fields).token(offset=1)
            assert "another list" in ask(max_results=1, page_token=foreign).json()["message"]
    # MLflow's servers make tokens that have nothing but the offset.
    plain = base64.b64encode(b'{"offset": 1}').decode()
    assert ask(max_results=1, page_token=plain).status_code == 200
