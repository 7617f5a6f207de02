"""Starts ``modeltrail serve`` for a benchmark, and asks it questions."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Server:
    """A running server; one connection, kept open."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.headers = {"Content-Type": "application/json"}
        self._asked = 0.0
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        if time.monotonic() > self._asked + 10:
            self._connection.close()  # the server may have closed it, it opens again by itself
        self._asked = time.monotonic()
        self._connection.request(
            method,
            path,
            None if body is None else json.dumps(body),
            self.headers,
        )
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{answer.status} {text.decode()[:500]}")
        return json.loads(text)

    def close(self) -> None:
        self._connection.close()

    def sql(self, statement: str) -> list[list[Any]]:
        return list(self.request("POST", "/api/v1/sql", {"statement": statement})["rows"])


@contextmanager
def serve(
    data: Path, log: str | None = None, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server on a free loopback port, stopped by its process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "modeltrail.api.cli", "serve", "--port", str(port)]
    command += ["--data", str(data), *(["--log", log] if log else []), *options]
    with (data.parent / "server.out").open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
    server = Server(port, process)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                server.request("GET", "/health")
                break
            except (OSError, http.client.HTTPException, RuntimeError):
                server.close()
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((data.parent / "server.out").read_text()) from None
                time.sleep(0.05)
        yield server
    finally:
        server.close()
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def which_log(log: str | None, kafka: bool, folder: Path) -> Iterator[str | None]:
    """The log to measure: the one named; with ``kafka`` a broker of our own; else the embedded."""
    if not kafka:
        yield log
        return
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
    from kafka_broker import KafkaBroker

    with KafkaBroker(folder / "kafka", heap_mb=1024) as broker:
        yield broker.url("bench-")


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
