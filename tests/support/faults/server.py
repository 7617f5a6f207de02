"""A real ``modeltrail serve``, to be killed and started again."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any, NamedTuple

from kafka_broker import free_port


class Answer(NamedTuple):
    """A status and the decoded body."""

    status: int
    body: Any

    def rows(self) -> list[list[Any]]:
        """The rows of a query."""
        assert self.status == 200, self
        return list(self.body["rows"])


class NoAnswer(Exception):
    """The connection broke, or was not to be had: what became of the request is not known."""


class Server:
    """A server on one data folder and one port, through all of its lives."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "modeltrail.api.cli", "serve"]
        self._command += ["--port", str(self.port), "--data", str(data), *options]
        self._output = data.parent / f"{data.name}-server.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._mine = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + 60
        while True:
            answer = None
            with suppress(NoAnswer):
                answer = self.request("GET", "/health")
                if answer.status == 200:
                    return
                assert "catching up" in answer.body["reason"], answer
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{answer} {self._output.read_text()}")
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; returns its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(60)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        **headers: str,
    ) -> Answer:
        """Ask; a body of bytes is a batch of events. Raises ``NoAnswer``."""
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            self._connections.append(connection)
            self._mine.connection = connection
        if connection.sock is not None and select([connection.sock], [], [], 0)[0]:
            connection.close()  # the server closed it as it rested: clients with pools look, too
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            named["Content-Type"] = "application/vnd.modeltrail.events"
        elif body is not None:
            named["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswer(repr(error)) from None

    def sql(self, statement: str, *params: Any, consistency: str = "node") -> list[list[Any]]:
        """The rows of a query."""
        asked = {"statement": statement, "params": list(params), "limit": 1_000_000}
        return self.request("POST", f"/api/v1/sql?consistency={consistency}", asked).rows()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self.end()
        for connection in self._connections:
            connection.close()
