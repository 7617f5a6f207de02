"""Many clients at once, on one server, and on two that share Kafka's topics."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.account import views
from faults.server import Server
from mlflow_client import FlowsOfClient
from mlflow_crowd import Crowd, answers
from mlflow_persistent import Persistent

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

_CLIENTS = 16
_OF_REAL_CLIENTS = 2 * 4 * 3  # versions: clients, threads and rounds of flows/crowd.py


def test_one_server(tmp_path: Path) -> None:
    """Sixteen clients of ours, and eight of MLflow's in two processes."""
    with ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path / "data"))
        crowd = Crowd([server], _CLIENTS, rounds=4)
        real = [
            FlowsOfClient(version, server.url, tmp_path / version, ["crowd.work"])
            for version in ("3", "2")
        ]
        for client in real:
            stack.callback(client.end)
        told = crowd.work()
        for client in real:
            outcome = client.outcomes()["crowd.work"]
            assert outcome["error"] is None, outcome["error"]
        crowd.check(told, _OF_REAL_CLIENTS)
        assert server.sql("SELECT * FROM dead_letters") == []


@pytest.mark.kafka
def test_two_servers(kafka: str, tmp_path: Path) -> None:
    """Both answer alike in the end, whoever was asked."""
    log = f"kafka://{kafka}/crowd-{os.urandom(4).hex()}-?partitions=3"
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(tmp_path / name, "--log", log)) for name in ("one", "two")
        ]
        crowd = Crowd(servers, _CLIENTS, rounds=3)
        told = crowd.work()
        crowd.check(told)
        one, two = servers
        for view in views():
            query = f"FROM {view} ORDER BY ALL"
            assert one.sql(query, consistency="log") == two.sql(query, consistency="log"), view
        assert answers(one, crowd) == answers(two, crowd)


def _kill_one(servers: list[Server]) -> None:
    """Clients are at work, one server dies and comes back, and they ask again."""
    crowd = Persistent(servers, clients=8, rounds=6)
    with ThreadPoolExecutor(8) as pool:
        working = crowd.work_all(pool)
        assert crowd.some.wait(240)
        servers[0].end(signal.SIGKILL)
        servers[0].start()
        made = [one.result(240) for one in working]
    assert crowd.unanswered, "the server was killed when there was nothing to do"
    crowd.check(made)


def test_a_server_is_killed(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        _kill_one([server])


@pytest.mark.kafka
def test_one_of_two_servers_is_killed(kafka: str, tmp_path: Path) -> None:
    log = f"kafka://{kafka}/killed-{os.urandom(4).hex()}-?partitions=3"
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(tmp_path / name, "--log", log)) for name in ("one", "two")
        ]
        _kill_one(servers)
        one, two = servers
        for view in views():
            query = f"FROM {view} ORDER BY ALL"
            assert one.sql(query, consistency="log") == two.sql(query, consistency="log"), view
