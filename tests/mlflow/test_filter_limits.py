"""Filters, orders and bodies that are made to be expensive: refused at once, in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from access_world import V2, open_node
from modeltrail.api.app import create_app
from modeltrail.api.search import (
    CONDITIONS_MAX,
    KEYED_CONDITIONS_MAX,
    LISTED_MAX,
    ORDERS_MAX,
)
from modeltrail.eventlog import open_log

_ANSWER_S_MAX = 5.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    log = open_log("memory:")
    node, fold = open_node(log, tmp_path_factory.mktemp("artifacts"))
    yield TestClient(create_app(node), base_url="http://localhost", raise_server_exceptions=False)
    node.stop()
    fold.stop()
    log.close()


def _search(client: TestClient, what: str, filter: str, order_by: list[str]) -> Any:
    path = f"{V2}/{what}/search"
    if what in ("registered-models", "model-versions"):
        return client.get(path, params={"filter": filter, "order_by": order_by})
    where = {"experiments": {"max_results": 10}}.get(what, {"experiment_ids": ["0"]})
    return client.post(path, json={"filter": filter, "order_by": order_by, **where})


_SEARCHES = ("runs", "experiments", "registered-models", "model-versions", "logged-models")


@pytest.mark.parametrize("what", _SEARCHES)
@pytest.mark.parametrize("word", [" AND ", " OR "])
@pytest.mark.parametrize("conditions", [KEYED_CONDITIONS_MAX, KEYED_CONDITIONS_MAX + 1, 900, 1500])
def test_many_conditions_are_answered_or_refused_in_time(
    client: TestClient, what: str, word: str, conditions: int
) -> None:
    filter = word.join(f"tags.a{n} = 'x'" for n in range(conditions))
    began = time.monotonic()
    answer = _search(client, what, filter, [])
    assert time.monotonic() - began < _ANSWER_S_MAX
    if conditions <= KEYED_CONDITIONS_MAX:
        assert answer.status_code == 200, answer.text
    else:
        assert answer.status_code == 400
        assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
        assert f"{KEYED_CONDITIONS_MAX} conditions" in answer.json()["message"]
        assert len(answer.text) < 5_000


@pytest.mark.parametrize(
    ("filter", "status"),
    [
        (" OR ".join(f"run_id = 'r{n}'" for n in range(CONDITIONS_MAX)), 200),
        (" OR ".join(f"run_id = 'r{n}'" for n in range(CONDITIONS_MAX + 1)), 400),
        (f"run_id IN ({','.join(repr(str(n)) for n in range(LISTED_MAX))})", 200),
        (f"run_id IN ({','.join(repr(str(n)) for n in range(LISTED_MAX + 1))})", 400),
        ("(" * 90 + "metrics.a > 0" + ")" * 90, 200),
        ("(" * 5_000 + "metrics.a > 0" + ")" * 5_000, 400),
        ("NOT (" * 90 + "metrics.a > 0" + ")" * 90, 200),
        ("NOT " * 20_000 + "metrics.a > 0", 200),
    ],
)
def test_filters_of_one_kind_have_limits(client: TestClient, filter: str, status: int) -> None:
    began = time.monotonic()
    answer = _search(client, "runs", filter, [])
    assert answer.status_code == status, answer.text
    assert time.monotonic() - began < _ANSWER_S_MAX


@pytest.mark.parametrize("what", ["runs"])
def test_orders_have_a_limit(client: TestClient, what: str) -> None:
    clauses = [f"metrics.m{n}" for n in range(ORDERS_MAX + 1)]
    assert _search(client, what, "", clauses[:-1]).status_code == 200
    refused = _search(client, what, "", clauses)
    assert refused.status_code == 400
    assert f"{ORDERS_MAX} clauses" in refused.json()["message"]


@pytest.mark.parametrize(
    "body", ["[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000]
)
@pytest.mark.parametrize(
    "path", [f"{V2}/runs/create", f"{V2}/runs/log-inputs", "/api/v1/sql", "/api/v1/models"]
)
def test_deep_bodies_are_refused(client: TestClient, path: str, body: str) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text


def test_deep_params_of_a_query_are_refused(client: TestClient) -> None:
    params = {"statement": "SELECT 1", "params": "[" * 3_000 + "]" * 3_000}
    assert client.get("/api/v1/sql", params=params).status_code == 400
