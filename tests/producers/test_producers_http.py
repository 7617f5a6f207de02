"""Delivery over HTTP, to a server that keeps the ingest contract and can be told to misbehave."""

from __future__ import annotations

import hashlib
import json
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from modeltrail.producers import start_run, sync
from modeltrail.schemas import MARKER, Codec, writer_schemas


class Ingest(ThreadingHTTPServer):
    """The ingest endpoint, with faults to order."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.payloads: list[bytes] = []
        self.known: set[bytes] = set()
        self.artifacts: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.refuse: bytes | None = None
        self.token: str | None = None
        self.requests = 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, address: Any) -> None:
        pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What a fold would make of it."""
        codec, kept = Codec(), []
        last: dict[bytes, int] = {}
        for payload in self.payloads:
            type, event = codec.decode(payload)
            head = event["envelope"]
            if head["sequence"] > last.get(head["producer_id"], -1):
                last[head["producer_id"]] = head["sequence"]
                kept.append((type, event))
        return kept


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Ingest

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/api/v1/schemas/"):
            self.server.known.add(bytes.fromhex(self.path.rpartition("/")[2]))
            self.answer(200, {})
        else:
            self.server.artifacts[self.path] = body
            sha = hashlib.sha256(body).hexdigest()
            self.answer(200, {"size_bytes": len(body), "sha256": sha, "location": "store:/x"})

    def do_POST(self) -> None:
        server = self.server
        server.requests += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
            self.answer(401, {"error_code": "UNAUTHENTICATED", "message": "no such token"})
            return
        fault = server.faults.pop(0) if server.faults else ""
        if fault.isdigit():
            self.answer(int(fault), {"error_code": "X", "message": "on purpose"})
            return
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        payloads, at = [], 0
        while at < len(body):
            n = int.from_bytes(body[at : at + 4], "little")
            payloads.append(body[at + 4 : at + 4 + n])
            at += 4 + n
        for i, payload in enumerate(payloads):
            assert payload[:2] == MARKER
            if payload[2:10] not in server.known:
                fingerprint = payload[2:10].hex()
                self.answer(409, {"error_code": "UNKNOWN_SCHEMA", "fingerprint": fingerprint})
                return
            if server.refuse is not None and server.refuse in payload:
                self.answer(400, {"error_code": "INVALID", "message": f"event {i} is bad"})
                return
        server.payloads += payloads
        if fault == "lost":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.close_connection |= fault == "closed"  # after an answer that does not say so
        self.answer(200, {"appended": len(payloads), "positions": {"runs:0": 0}})


@pytest.fixture
def server() -> Iterator[Ingest]:
    with Ingest() as ingest:
        yield ingest
        ingest.shutdown()


def test_events_artifacts_and_schemas(home: Any, server: Ingest) -> None:
    server.token = "open sesame"
    (home.folder / "a b.txt").write_text("hello")
    with start_run(url=server.url, token="open sesame") as run:
        run.log({"m": 1.0}, 0)
        run.log_artifact("a b.txt", "sub")
        assert run.finish()
    types = [t for t, _ in server.events() if t != "ArtifactLogged"]
    assert types == [
        "RunStarted",
        "MetricsLogged",
        "RunEnded",
    ]
    stored = next(e for t, e in server.events() if t == "ArtifactLogged")
    assert (stored["path"], stored["location"]) == ("sub/a b.txt", "store:/x")
    assert server.artifacts == {f"/api/v1/runs/{run.run_id}/artifacts/sub/a%20b.txt": b"hello"}


def test_faults_lose_nothing_and_keep_the_order(home: Any, server: Ingest) -> None:
    server.known = set(writer_schemas())
    server.faults = ["500", "reset", "lost", "503", "lost", "reset", "429", "lost", "404"]
    with start_run(url=server.url) as run:
        for i in range(40):
            run.log({"m": float(i)}, i)
            time.sleep(0.02)
        assert run.finish(timeout_s=30)
    events = server.events()
    assert len(server.payloads) > len(events), "no repeat came up"
    assert [e["envelope"]["sequence"] for _, e in events] == list(range(len(events)))
    assert sum(len(e["values"]) // 8 for t, e in events if t == "MetricsLogged") == 40
    assert not server.faults


def test_a_connection_that_was_closed_while_idle_is_no_outage(
    home: Any, server: Ingest, caplog: Any
) -> None:
    server.known = set(writer_schemas())
    server.faults = ["closed"] * 3
    with start_run(url=server.url) as run:
        for step in range(3):
            run.log({"m": 1.0}, step)
            assert run.flush(30)
            time.sleep(1)
    assert caplog.text == ""


def test_a_refused_event_is_set_aside_and_shown(home: Any, server: Ingest, caplog: Any) -> None:
    server.refuse = b"poison"
    with start_run(url=server.url) as run:
        run.log({"good": 1.0}, 0)
        time.sleep(0.3)
        run.log_params({"poison": 1})
        run.log({"poison": 1.0}, 0)
        time.sleep(0.3)
        run.log({"good": 2.0}, 1)
        assert not run.finish()
    events = server.events()
    types = [t for t, _ in events]
    assert types == ["RunStarted", "MetricsLogged", "MetricsLogged", "RunEnded"]
    assert events[-1][1]["points_dropped"] == run.points_dropped == 1
    sequences = [e["envelope"]["sequence"] for _, e in events]
    assert len(sequences) < sequences[-1] + 1, "no hole shows what is missing"
    assert caplog.text.count("was refused") == 1
    assert list((home.outbox / "refused").iterdir())


def test_a_wrong_token_keeps_everything(home: Any, server: Ingest, caplog: Any) -> None:
    server.token = "right"
    with start_run(url=server.url, token="wrong") as run:
        run.log({"m": 1.0})
        assert not run.finish(timeout_s=0.5)
    assert "MODELTRAIL_TOKEN" in caplog.text
    server.token = "wrong"
    assert run.finish()
    assert [t for t, _ in server.events()] == ["RunStarted", "MetricsLogged", "RunEnded"]


@pytest.mark.alone
def test_an_outage_from_the_start_costs_the_loop_nothing(home: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begin = time.monotonic()
    run = start_run(url=f"http://127.0.0.1:{port}")
    for i in range(1000):
        run.log({"m": float(i)}, i)
    assert time.monotonic() - begin < 5
    assert not run.finish(timeout_s=0.2)
    with Ingest(port) as late:
        assert run.finish(timeout_s=20)
        late.shutdown()
        events = late.events()
    assert [e["envelope"]["sequence"] for _, e in events] == list(range(len(events)))
    assert events[-1][0] == "RunEnded"


@pytest.mark.alone
def test_a_target_that_hangs_blocks_neither_log_nor_finish_nor_exit(home: Any) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as hole:
        url = f"http://127.0.0.1:{hole.server_address[1]}"  # takes connections, never answers
        begin = time.monotonic()
        done = home.script(
            """
            import time
            from modeltrail.producers import start_run
            run = start_run()
            slowest = 0
            for i in range(20000):
                t = time.perf_counter(); run.log({"m": 1.0}, i)
                slowest = max(slowest, time.perf_counter() - t)
            assert slowest < 1, slowest
            """,
            MODELTRAIL_URL=url,
            MODELTRAIL_FINISH_TIMEOUT_S="1",
        )
        assert time.monotonic() - begin < 10
    assert "modeltrail sync" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(home.outboxes()) == 1


def test_sync_delivers_what_was_left(home: Any, server: Ingest, monkeypatch: Any) -> None:
    home.script(
        """
        from modeltrail.producers import start_run
        with start_run() as run:
            run.log({"m": 1.0})
            open("f", "w").write("x")
            run.log_artifact("f")
        """,
        MODELTRAIL_URL="http://127.0.0.1:9",
        MODELTRAIL_FINISH_TIMEOUT_S="0.2",
    )
    left = sync(timeout_s=0.5)
    assert [r.left_bytes > 0 for r in left] == [True]
    assert left[0].error
    seen: list[tuple[str, int, int]] = []
    done = sync(url=server.url, progress=lambda *at: seen.append(at))
    assert [(r.events, r.artifacts, r.left_bytes, r.error) for r in done] == [(3, 1, 0, None)]
    assert seen[-1][1] == seen[-1][2] > 0
    assert home.outboxes() == []
    assert sync() == []
    assert sorted(t for t, _ in server.events()) == sorted(
        ["RunStarted", "MetricsLogged", "RunEnded", "ArtifactLogged"]
    )


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["a hole", "kafka", "http"])
def test_sync_keeps_its_time_limit(home: Any, kind: str) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as hole:
        url = {
            "a hole": f"http://127.0.0.1:{hole.server_address[1]}",
            "kafka": "kafka://127.0.0.1:9/x",
            "http": "http://127.0.0.1:9",
        }[kind]
        home.script(
            """
            from modeltrail.producers import start_run
            with start_run() as run: run.log({"m": 1.0})
            """,
            MODELTRAIL_URL=url,
            MODELTRAIL_FINISH_TIMEOUT_S="0",
        )
        home.script(
            """
            import time
            from modeltrail.producers import sync
            began = time.monotonic()
            (left,) = sync(timeout_s=1)
            assert time.monotonic() - began < 4
            assert left.left_bytes > 0 and left.error, left
            open("ending", "w").write(str(time.time()))
            """
        )
        ending = time.time() - float((home.folder / "ending").read_text())
        assert ending < 3, f"the process took {ending:.1f} s to end"
    assert [r.error for r in sync(url=str(home.data))] == [None]
    assert home.outboxes() == []
