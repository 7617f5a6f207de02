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
import time
import urllib.request
from pathlib import Path

HEAVY = ("duckdb", "fastapi", "uvicorn", "pyarrow", "numpy")
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
else:
    serve_and_ask()
