"""A node on a real embedded log, its application, and a server process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api_server import Server, a_node
from modeltrail.api.app import create_app
from modeltrail.api.node import Node
from modeltrail.api.sql.queries import shares


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node whose fold runs."""
    with a_node(tmp_path) as node:
        yield node


@pytest.fixture
def client(node: Node) -> Iterator[TestClient]:
    """A client of the node's application."""
    with TestClient(create_app(node, shares=shares(10**9)), base_url="http://localhost") as client:
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
