"""Unmodified MLflow clients, each in an environment of its own, and a server to talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_server import Server
from mlflow_client import MlflowClient, python_with_mlflow
from modeltrail.api.app import create_app
from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.node import Node
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import open_log

Ask = Callable[..., Any]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node whose fold runs."""
    log = open_log(str(tmp_path / "data"))
    fold = Fold(log, None, memory_limit="1GB", threads=2)
    fold.start()
    node = Node(log, fold, ArtifactStore(tmp_path / "artifacts", bytes_max=1_000_000))
    node.start()
    yield node
    node.stop()
    fold.stop()
    log.close()


@pytest.fixture
def client(node: Node) -> Iterator[TestClient]:
    """A client of the node's application."""
    with TestClient(create_app(node), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def ask(client: TestClient) -> Ask:
    """Call an endpoint under ``/api/2.0/mlflow/``; answers are checked to be 200."""

    def call(method: str, path: str, status: int = 200, /, **fields: Any) -> Any:
        url = f"/api/2.0/mlflow/{path}"
        if method == "GET":
            answer = client.get(url, params=fields)
        else:
            answer = client.request(method, url, json=fields)
        assert answer.status_code == status, answer.text
        return answer.json()

    return call


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is ready, shared by the tests of a module."""
    server = Server(tmp_path_factory.mktemp("served") / "data")
    try:
        server.ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["3", "2"], ids=["mlflow-3", "mlflow-2"])
def mlflow_client(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> MlflowClient:
    """Each version of the unmodified client, talking to the server."""
    return MlflowClient(python_with_mlflow(request.param), server.url, tmp_path)
