"""Two nodes on one log: whichever way a client reads from one of them, it never goes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

import pytest
from starlette.testclient import TestClient

from access_world import V1, V2, open_node
from modeltrail.api.actor import Actor, Asker
from modeltrail.api.app import create_app
from modeltrail.api.node import Node
from modeltrail.consumers.database import Database
from modeltrail.eventlog import open_log

ANN = Asker(Actor("ann", False))
_COMMIT_S = 0.02
_MOVES = 25


@contextmanager
def node_at(folder: Path, data: Path) -> Iterator[Node]:
    log = open_log(str(data))
    node, fold = open_node(log, folder)
    try:
        yield node
    finally:
        node.stop()
        fold.stop()
        log.close()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    with ExitStack() as stack:
        yield [stack.enter_context(node_at(tmp_path / n, tmp_path / "data")) for n in ("a", "b")]


def by_mlflow(client: TestClient) -> int:
    asked = {"name": "m", "alias": "champion"}
    answer = client.get(f"{V2}/registered-models/alias", params=asked).json()
    return int(answer["model_version"]["version"])


def by_sql(client: TestClient) -> int:
    asked = {"statement": "SELECT version FROM aliases WHERE model = 'm'"}
    rows: Any = client.post(f"{V1}/sql", json=asked).json()["rows"]
    return int(rows[0][0])


def by_native_route(client: TestClient) -> int:
    events = client.get(f"{V1}/audit", params={"type": "SetRegisteredModelAlias", "limit": 1})
    return int(events.json()["events"][0]["version"])


def test_reads_of_a_node_that_did_not_take_the_write_never_go_back(nodes: list[Node]) -> None:
    writer, reader = nodes
    writer.decide(ANN, "CreateRegisteredModel", {"model": "m", "description": None, "tags": {}})
    made: dict[str, Any] = {
        "model": "m", "source": "s3://b/k", "run_id": None, "model_id": None, "run_link": None,
        "description": None, "tags": {}, "aliases": [], "create_model": False,
    }  # fmt: skip

    def move() -> None:
        version = writer.decide(ANN, "CreateModelVersion", made).version
        alias = {"model": "m", "alias": "champion", "version": version, "expected_version": None}
        writer.decide(ANN, "SetRegisteredModelAlias", alias)

    def write() -> None:
        for _ in range(_MOVES):
            move()

    move()
    reader.wait(log_end=True)
    commit = Database._write

    def slow(database: Database) -> None:
        time.sleep(_COMMIT_S)  # between what is decided and what the tables have
        commit(database)

    seen: list[int] = []
    with (
        TestClient(create_app(reader), base_url="http://localhost") as client,
        patch.object(Database, "_write", slow),
    ):
        writing = Thread(target=write)
        writing.start()
        while writing.is_alive():
            seen += [by_mlflow(client), by_sql(client), by_mlflow(client), by_native_route(client)]
        writing.join()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
