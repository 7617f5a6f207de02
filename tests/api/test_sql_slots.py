"""Places for queries: given back however a reader behaves, with real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api_server import Server

pytestmark = pytest.mark.alone

HUGE = {
    "fast": "SELECT a.x, b.x FROM (VALUES {0}) a(x), (VALUES {0}) b(x), (VALUES {0}) c(x), "
    "(VALUES {0}) d(x)".format(", ".join(f"({n})" for n in range(60))),
    "worker": "SELECT range AS i, repeat('x', 1000) AS s FROM range(100000000)",
}
AT_ONCE = {"fast": 3, "worker": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("slots")
    server = Server(folder / "data", "--memory-limit", "1GB")
    try:
        server.ready()
        yield server
    finally:
        server.stop()


def ask(server: Server, statement: str, **more: Any) -> socket.socket:
    """Send a query, and leave the answer where it is."""
    body = json.dumps({"statement": statement, "format": "csv", **more}).encode()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(("127.0.0.1", server.port))
    client.sendall(
        b"POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return client


def answered(server: Server, statement: str, within_s: float) -> float:
    """Seconds until a small query is answered, retried while there is no place."""
    began = time.monotonic()
    while True:
        try:
            server.ask("/api/v1/sql", {"statement": statement})
        except urllib.error.HTTPError as error:
            if error.code != 429 or time.monotonic() - began > within_s:
                raise
        else:
            return time.monotonic() - began


SMALL = {"fast": "SELECT 1", "worker": "SELECT [1]"}


@pytest.mark.parametrize("kind", HUGE)
def test_readers_that_hang_up_in_mid_answer(server: Server, kind: str) -> None:
    for _ in range(3):
        clients = [ask(server, HUGE[kind], timeout_s=600) for _ in range(AT_ONCE[kind])]
        for client in clients:
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        for client in clients:
            client.close()
    assert answered(server, SMALL[kind], 15) < 15


@pytest.mark.parametrize("kind", HUGE)
def test_readers_that_hang_up_before_the_answer(server: Server, kind: str) -> None:
    endless = {
        "fast": HUGE["fast"]
        .replace("SELECT a.x, b.x", "SELECT count(*)")
        .replace("FROM", f"FROM (VALUES {', '.join(f'({n})' for n in range(60))}) e(x), ", 1),
        "worker": "SELECT count(*), [1] FROM range(100000000000)",
    }
    for client in [ask(server, endless[kind], timeout_s=600) for _ in range(20)]:
        client.close()
    assert answered(server, SMALL[kind], 20) < 20


@pytest.mark.parametrize("kind", HUGE)
def test_readers_that_stall_lose_their_place_at_the_time_limit(server: Server, kind: str) -> None:
    began = time.monotonic()
    clients = [ask(server, HUGE[kind], timeout_s=6) for _ in range(AT_ONCE[kind])]
    try:
        assert clients[0].recv(1000).startswith(b"HTTP/1.1 200")
        answered(server, SMALL[kind], 40)
        assert time.monotonic() - began < 40
    finally:
        for client in clients:
            client.close()


def test_a_long_queue_is_told_to_come_back(server: Server) -> None:
    endless = "SELECT count(*), [1] FROM range(100000000000)"
    clients = [ask(server, endless, timeout_s=600) for _ in range(300)]
    try:
        statuses = []
        for client in clients[-5:]:
            head = client.recv(2000)
            statuses.append(head.split(b" ", 2)[1])
            assert b"retry-after: " in head.lower()
        assert set(statuses) == {b"429"}
    finally:
        for client in clients:
            client.close()
    assert answered(server, SMALL["worker"], 20) < 20


def test_those_who_wait_hold_no_thread(server: Server) -> None:
    endless = "SELECT count(*), [1] FROM range(100000000000)"
    clients = [ask(server, endless, timeout_s=600) for _ in range(64)]
    slowest: list[float] = []

    def other() -> None:
        for _ in range(20):
            began = time.monotonic()
            server.ask("/api/v1/sql", {"statement": "SELECT count(*) FROM runs"})
            server.ask("/api/v1/status")
            slowest.append(time.monotonic() - began)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(60)
    for client in clients:
        client.close()
    assert len(slowest) == 20
    assert sorted(slowest)[10] < 2


@pytest.mark.parametrize("kind", HUGE)
def test_a_server_stops_beside_readers_that_stall(tmp_path: Path, kind: str) -> None:
    server = Server(tmp_path / "data", "--memory-limit", "1GB")
    server.ready()
    clients = [ask(server, HUGE[kind], timeout_s=600) for _ in range(AT_ONCE[kind] + 2)]
    try:
        assert any(client.recv(1000) for client in clients[:1])
        began = time.monotonic()
        code, _, err = server.stop()
        assert code == 0, err
        assert time.monotonic() - began < 20
    finally:
        for client in clients:
            client.close()
    assert not list((tmp_path / "data").glob("modeltrail-sql-*"))
