"""Whatever is asked, the answer is never a mistake of the server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from modeltrail.api.mlflow import acts, experiments, history, runs, service
from modeltrail.api.node import Node

ENDPOINTS = [
    (method, f"/api/{endpoint.version}/mlflow/{endpoint.path}", sorted(endpoint.fields))
    for part in (acts, experiments, history, runs, service)
    for endpoint in part.endpoints.all
    for method in endpoint.methods
]
STRANGE = ["", "0", "a//b", "\ud800", "\x00", "é" * 300, "metrics.a > 1e999", "name DESC", "NaN",
           "2", "-1", "99999999999999999999", "ALL", "{}", "[]", "e30=", "x = 'y'"]  # fmt: skip
leaves = st.one_of(
    st.sampled_from(STRANGE),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
)
names = st.sampled_from(["key", "value", "timestamp", "step", "dataset", "tags", "name", "digest"])
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
def run_id(client: TestClient) -> str:
    made = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"})
    found: str = made.json()["run"]["info"]["run_id"]
    return found


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_request_is_answered_500(
    data: st.DataObject, client: TestClient, node: Node, run_id: str
) -> None:
    method, path, fields = data.draw(st.sampled_from(ENDPOINTS))
    sent: dict[str, Any] = {name: data.draw(values) for name in fields if data.draw(st.booleans())}
    if "run_id" in fields and data.draw(st.booleans()):
        sent["run_id"] = run_id
    if method == "GET":
        query = {k: v for k, v in sent.items() if isinstance(v, str | int) and v != "\ud800"}
        answer = client.get(path, params=query)
    else:
        answer = client.request(method, path, content=json.dumps(sent))
    assert answer.status_code < 500, (method, path, sent, answer.text)
    if answer.status_code != 200:
        assert set(answer.json()) >= {"error_code", "message"}
    else:
        # What was accepted is not put aside by the fold.
        node.wait()
        assert node.fold.status().dead_letters == 0, (method, path, sent)
