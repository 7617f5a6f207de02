"""Use the installed wheel as its users do. ``thin``: only log. ``full``: also serve and ask."""

import importlib.metadata
import importlib.util
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

HEAVY = ("duckdb", "fastapi", "uvicorn", "pyarrow", "numpy", "rich")
DATA = Path(f"data-{sys.argv[1]}").resolve()


def log_a_run() -> None:
    """Record one run into the embedded folder, and see that nothing heavy was imported."""
    from modeltrail.producers import start_run

    with start_run(experiment="wheel", name="first", params={"lr": 0.1}) as run:
        for step in range(100):
            run.log({"loss": 1 / (step + 1)}, step=step)
    loaded = [name for name in HEAVY if name in sys.modules]
    assert not loaded, f"logging a run imported {loaded}"
    with sqlite3.connect(DATA / "log.sqlite") as log:
        (events,) = log.execute("SELECT count(*) FROM runs").fetchone()
    assert events >= 3, f"{events} events are in the log"
    print(f"logged {events} events")  # noqa: T201


def check_entry_points() -> None:
    """See that MLflow would find the plugin, and that finding it costs no import of MLflow."""
    for group, names in {
        "mlflow.tracking_store": ("file", "http", "https", "kafka"),
        "mlflow.model_registry_store": ("file", "http", "https", "kafka"),
    }.items():
        found = importlib.metadata.entry_points(group=group)
        for name in names:
            assert callable(found[f"modeltrail+{name}"].load())
    for group in ("mlflow.artifact_repository", "mlflow.request_header_provider"):
        (entry_point,) = importlib.metadata.entry_points(group=group)
        assert callable(entry_point.load())
    assert "mlflow" not in sys.modules


class Fake(BaseHTTPRequestHandler):
    """Answers as a server does, for a client that has no server installed."""

    ANSWERS: ClassVar = {
        "/api/v1/sql": {
            "columns": ["n", "at"],
            "types": ["BIGINT", "TIMESTAMP"],
            "rows": [[7, "2026-01-01T00:00:00.000000Z"]],
            "truncated": False,
        },
        "/api/v1/status": {"version": "1", "fold_error": None},
        "/health": {"status": "ok", "lag": {}, "dead_letters": 0},
    }

    def do_GET(self) -> None:
        """Answer a request."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        assert self.headers["Authorization"] == "Bearer secret"
        body = json.dumps(self.ANSWERS[self.path.partition("?")[0]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def ask_a_server() -> None:
    """Read from Python and by commands, from a server elsewhere."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Fake) as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{fake.server_port}"
        from modeltrail.api import query

        found = query("FROM runs", url=url, token="secret")
        assert found.rows() == [(7, datetime(2026, 1, 1))]
        assert "7" in repr(found)
        os.environ["MODELTRAIL_TOKEN"] = "secret"
        assert "7" in command("sql", "FROM runs", "--server", url)
        for words in (["sql", "FROM runs", "--csv"], ["status"], ["doctor", "--data", DATA]):
            command(*words, "--server", url)
        fake.shutdown()


def deliver_what_was_left() -> None:
    """Leave events in the outbox, and deliver them by the command."""
    from modeltrail.producers import start_run

    os.environ["MODELTRAIL_OUTBOX"] = str(DATA.parent / "outbox")
    left = (
        "from modeltrail.producers import start_run\n"
        "with start_run() as run: run.log_metric('loss', 0.5)\n"
    )
    away = {"MODELTRAIL_URL": "http://127.0.0.1:9", "MODELTRAIL_FINISH_TIMEOUT_S": "0"}
    subprocess.run([sys.executable, "-c", left], check=True, env={**os.environ, **away})
    assert "3" in command("sync", "--to", str(DATA))
    assert "no outbox" in command("sync")
    with start_run(url=DATA) as run:
        assert run.finish()


def command(*words: object) -> str:
    """Run the command that the wheel installs; it must end well. Returns what it prints."""
    path = Path(sys.executable).parent / "modeltrail"
    done = subprocess.run([path, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def serve_and_ask() -> None:
    """Start the command that the wheel installs, wait until it is healthy, and ask it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = Path(sys.executable).parent / "modeltrail"
    server = subprocess.Popen([command, "serve", "--port", str(port), "--data", DATA])
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                    print(answer.read().decode())  # noqa: T201
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.1)
        sql = "SELECT r.name, l.points FROM runs r JOIN latest_metrics l USING (run_id)"
        answer = subprocess.run(
            [command, "sql", "--data", DATA, "--json", sql],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        print(answer.stdout)  # noqa: T201
        assert "first" in answer.stdout
        assert "100" in json.dumps(json.loads(answer.stdout))
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0


os.environ["MODELTRAIL_URL"] = str(DATA)
log_a_run()
check_entry_points()
if sys.argv[1] == "thin":
    present = [name for name in HEAVY if importlib.util.find_spec(name)]
    assert not present, f"a thin install brought {present}"
    deliver_what_was_left()
    ask_a_server()
else:
    serve_and_ask()
