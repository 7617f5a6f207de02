"""Clients that stall, hang up or come in crowds, by raw sockets."""

from __future__ import annotations

import logging
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from access_world import World, open_node
from api_server import Server
from modeltrail.api import guard
from modeltrail.api.access.acts import Level
from modeltrail.api.app import create_app
from modeltrail.api.connections import Connection, allow_connections
from modeltrail.eventlog import open_log

_HEAD = "{} HTTP/1.1\r\nHost: localhost\r\n"
_HEALTH = (_HEAD.format("GET /health") + "\r\n").encode()


class Hasty(Connection):
    """The same in a hurry."""

    grace_s = 0.6
    unread_s = 0.6
    look_every_s = 0.1


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    log = open_log("memory:")
    node, fold = open_node(log, tmp_path)
    try:
        yield World(node, Level.READ)
    finally:
        node.stop()
        fold.stop()
        log.close()


@pytest.fixture
def port(world: World) -> Iterator[int]:
    with _serving(world, Hasty) as port:
        yield port


@contextmanager
def _serving(world: World, connection: type[Connection]) -> Iterator[int]:
    app = create_app(world.node, access=None)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        config = uvicorn.Config(
            app, http=connection, loop="uvloop", ws="none", log_level="warning", lifespan="off",
            timeout_keep_alive=30, timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)


def _send(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(data)
    return connection


def _rest(connection: socket.socket) -> bytes:
    """What the server still says until it closes the connection; raises ``TimeoutError``."""
    said = b""
    with connection:
        while True:
            try:
                data = connection.recv(65_536)
            except ConnectionResetError:
                return said
            if not data:
                return said
            said += data


def _ask(port: int) -> bytes:
    with _send(port, _HEALTH) as connection:
        return connection.recv(65_536)


_BODY = _HEAD + "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
_UPLOAD = "PUT /api/2.0/mlflow-artifacts/artifacts/0/" + "a" * 32 + "/artifacts/file.bin"


@pytest.mark.alone
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /hea",
        _HEAD.format("GET /health").encode(),
        _HEAD.format("POST /api/v1/sql").encode() + b"X-Long: " + b"a" * 10_000,
        _BODY.format("POST /api/v1/experiments").encode(),
        _BODY.format("POST /api/2.0/mlflow/runs/create").encode(),
        _BODY.format("POST /api/v1/ingest").encode(),
        _BODY.format(_UPLOAD).encode(),
    ],
)
def test_requests_that_do_not_arrive_are_ended_and_keep_no_other_waiting(
    port: int, begun: bytes
) -> None:
    stalled = [_send(port, begun) for _ in range(80)]
    began = time.monotonic()
    assert b"200 OK" in _ask(port)
    assert time.monotonic() - began < 5
    for connection in stalled:
        said = _rest(connection)
        assert said == b"" or b" 408 " in said.partition(b"\r\n")[0], said
    assert time.monotonic() - began < 20


def test_a_drip_is_too_slow(port: int) -> None:
    connection = _send(port, _BODY.format("POST /api/v1/ingest").encode())
    _drip(connection, b" ")
    # After an answer, as well: what drips in there is no request.
    connection = _send(port, _HEALTH)
    connection.recv(65_536)
    _drip(connection, b"\r\n")


def _drip(connection: socket.socket, drop: bytes) -> None:
    began = time.monotonic()
    with connection:
        connection.settimeout(0.05)
        while time.monotonic() - began < 10:
            try:
                connection.sendall(drop)
                if not connection.recv(65_536):
                    return
            except TimeoutError:
                pass
            except OSError:
                return
    raise AssertionError("the connection lives on")


def test_a_slow_but_steady_upload_arrives(port: int) -> None:
    body = b"x" * 20_000
    head = _HEAD.format("POST /api/v1/ingest") + f"Content-Length: {len(body)}\r\n\r\n"
    connection = _send(port, head.encode())
    for at in range(0, len(body), 1000):  # 1.5 seconds, longer than the time of grace alone
        connection.sendall(body[at : at + 1000])
        time.sleep(0.075)
    assert b" 400 " in connection.recv(65_536)  # all of it was read, and it is no batch
    connection.close()


def test_an_answer_that_is_not_read_is_ended(world: World, tmp_path: Path) -> None:
    run_id = world.run("root", "0")
    size = 64 * 1024 * 1024
    path = f"/api/v1/runs/{run_id}/artifacts/big.bin"
    with _serving(world, Hasty) as port:
        with _send(
            port, (_HEAD.format(f"PUT {path}") + f"Content-Length: {size}\r\n\r\n").encode()
        ) as upload:
            upload.sendall(b"\0" * size)
            assert b" 200 " in upload.recv(65_536)
        reader = _send(port, (_HEAD.format(f"GET {path}") + "\r\n").encode())
        time.sleep(3)
        assert len(_rest(reader)) < size


class Few(Connection):
    """Few of them."""

    connections_max = 50


def test_more_connections_than_allowed_are_refused(world: World) -> None:
    with _serving(world, Few) as port:
        held = [_send(port, b"") for _ in range(Few.connections_max)]
        assert b" 503 " in _rest(_send(port, b""))
        for connection in held:
            connection.close()
        _until(lambda: b"200 OK" in _ask(port))


def test_connections_fit_into_the_limit_of_open_files() -> None:
    import resource

    limit = allow_connections()
    assert 16 <= limit <= resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_bodies_of_many_requests_have_a_limit_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODIES_BYTES_MAX", 10_000)
    head = _HEAD.format("POST /api/v1/ingest") + "Content-Length: 9000\r\n\r\n"
    with _serving(world, Connection) as port:
        first = _send(port, head.encode() + b" " * 8_000)
        time.sleep(0.2)
        second = _send(port, head.encode() + b" " * 8_000)
        assert b" 429 " in second.recv(65_536)
        second.close()
        first.sendall(b" " * 1_000)
        assert b" 400 " in first.recv(65_536)
        first.close()
        third = _send(port, head.encode() + b" " * 9_000)
        assert b" 400 " in third.recv(65_536)
        third.close()


@pytest.mark.parametrize(
    "request_line",
    [
        _UPLOAD,
        "POST /api/v1/ingest",
        "POST /api/v1/experiments",
        "POST /api/2.0/mlflow/runs/create",
    ],
)
def test_a_broken_upload_is_one_line_in_the_log(
    port: int, request_line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        _send(port, _BODY.format(request_line).encode()).close()
        _until(lambda: b"200 OK" in _ask(port))
        time.sleep(0.3)
    said = [r for r in caplog.records if r.name.startswith(("modeltrail.api", "uvicorn"))]
    assert all(r.levelno <= logging.INFO and r.exc_info is None for r in said), said
    assert len(said) <= 1


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _metrics(server: Server) -> bytes:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        return bytes(answer.read())


def test_serve_says_so_in_one_line(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        server.ready()
        for _ in range(5):
            _send(server.port, _BODY.format(_UPLOAD).encode()).close()
        _until(lambda: b'status="499"} 5.0' in _metrics(server))
    finally:
        _, _, errors = server.stop()
    assert "Traceback" not in errors
    assert errors.count("the client went away") == 5, errors
