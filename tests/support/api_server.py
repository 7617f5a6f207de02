"""What tests of the API and the command line run: jobs, servers, commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.node import Node
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import open_log
from modeltrail.schemas import encode, envelope, new_event_id, pack
from modeltrail.schemas.framing import MEDIA_TYPE, frame


class Job:
    """Makes the events of one run, as a training job does."""

    def __init__(self, run_id: str = "run-1", **start: Any) -> None:
        self.run_id = run_id
        self._producer = new_event_id()
        self._sequence = 0
        self._start = start

    def event(self, type: str, **fields: Any) -> bytes:
        sequence, self._sequence = self._sequence, self._sequence + 1
        head = envelope(
            producer_id=self._producer, sequence=sequence, actor="claimed", client="test/1"
        )
        return encode(type, {"envelope": head, "run_id": self.run_id, **fields})

    def started(self) -> bytes:
        start = {
            "user": "ada",
            "experiment_name": "Default",
            "started_at_ms": 1_700_000_000_000,
            **self._start,
        }
        return self.event("RunStarted", **start)

    def metrics(self, key: str, values: list[float], first_step: int = 0) -> bytes:
        n = len(values)
        columns = pack([0] * n, range(first_step, first_step + n), [1_700_000_000_000] * n, values)
        return self.event("MetricsLogged", series=[{"key": key}], **columns)


@contextmanager
def a_node(folder: Path) -> Iterator[Node]:
    """A node on a real embedded log, whose fold runs."""
    log = open_log(str(folder / "data"))
    fold = Fold(log, None, memory_limit="1GB", threads=2)
    fold.start()
    node = Node(log, fold, ArtifactStore(folder / "artifacts", bytes_max=1_000_000))
    node.start()
    yield node
    node.stop()
    fold.stop()
    log.close()


class Server:
    """A `modeltrail serve` process on a free port."""

    def __init__(self, data: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.data = data
        self.url = f"http://127.0.0.1:{self.port}"
        self._stopped: tuple[int, str, str] | None = None
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "modeltrail.api.cli", "serve", "--data", str(data)),
                *("--port", str(self.port), *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_environment(), **(env or {})},
        )

    def ready(self, timeout_s: float = 30.0) -> float:
        """Wait for /health; returns the seconds since the start."""
        while time.monotonic() - self.began < timeout_s:
            assert self.process.poll() is None, self.process.communicate()
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                    assert answer.status == 200
                    return time.monotonic() - self.began
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise AssertionError(f"not ready within {timeout_s} s")

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def ingest(self, *payloads: bytes) -> None:
        """Append events as a training job does."""
        request = urllib.request.Request(f"{self.url}/api/v1/ingest", frame(list(payloads)))
        request.add_header("Content-Type", MEDIA_TYPE)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, standard output and standard error; once it is stopped, the same again."""
        if self._stopped is None:
            if self.process.poll() is None:
                self.process.send_signal(number)
            out, err = self.process.communicate(timeout=30)
            self._stopped = self.process.returncode, out.decode(), err.decode()
        return self._stopped


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("MODELTRAIL_")}


def modeltrail(
    *args: str, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "modeltrail.api.cli", *args],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=120,
        env={**_environment(), **(env or {})},
        check=False,
    )
