"""A node on a real embedded log, its application, and a server process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api_server import Server
from modeltrail.api.app import create_app
from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.node import Node
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import open_log


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
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is ready."""
    server = Server(tmp_path / "data")
    try:
        server.ready()
        yield server
    finally:
        server.stop()
