"""Commands that ask a server, or deliver, need no extras of the package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_server import Job, Server
from modeltrail.eventlog import RUNS, NewEvent, open_log
from modeltrail.producers.outbox import Outbox, pack_frame
from modeltrail.schemas import writer_schemas

EXTRAS = (
    *("argon2", "cryptography", "duckdb", "fastapi", "httptools", "kafka", "numpy", "obstore"),
    *("orjson", "pandas", "polars", "prometheus_client", "pyarrow", "rich", "sqlalchemy"),
    *("starlette", "uvicorn", "uvloop", "yaml"),
)
PASSWORD = "correct horse battery"
WITHOUT = f"""
import sys
for name in {EXTRAS!r}: sys.modules[name] = None
from modeltrail.api.cli import main
sys.exit(main(sys.argv[1:]))
"""


def thin(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as if no extra were installed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MODELTRAIL_")}
    env |= {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=env,
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with users and a run."""
    data = tmp_path_factory.mktemp("shared") / "data"
    log = open_log(str(data))
    log.add_schemas(writer_schemas())
    job = Job()
    payloads = (job.started(), job.metrics("loss", [0.5]))
    log.append([NewEvent(RUNS, "run-1", payload) for payload in payloads])
    log.close()
    server = Server(data, "--auth", env={"MODELTRAIL_ADMIN_PASSWORD": PASSWORD})
    try:
        server.ready()
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    "line",
    [
        "sql 'FROM runs'",
        "sql 'FROM runs' --csv",
        "sql 'FROM runs' --json",
        "status",
        "doctor",
        "audit log",
        "user create ada --no-password",
        "user list",
        "token create ada",
        "token list",
        "permission grant ada READ --model m",
        "permission list",
        "runs",
        "run run-1",
        "compare run-1 run-1",
        "webhooks list",
    ],
)
def test_a_server_is_asked_without_extras(shared: Server, line: str) -> None:
    words = [word.strip("'") for word in line.replace("'FROM runs'", "'FROM+runs'").split()]
    found = thin(*(word.replace("+", " ") for word in words), "--server", shared.url)
    assert (found.returncode, "Traceback" in found.stderr) == (0, False), found


def test_what_jobs_left_is_delivered_without_extras(tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir()
    outbox = Outbox.create(str(tmp_path / "outbox"), "/nowhere")
    job = Job()
    for payload in (job.started(), job.metrics("loss", [0.5])):
        outbox.events.append(pack_frame("run-1", payload, 0))
    outbox.close()
    found = thin("sync", "--outbox", str(tmp_path / "outbox"), "--to", str(tmp_path / "data"))
    assert found.returncode == 0, found
    assert "2" in found.stdout
    assert thin("doctor", "--data", str(tmp_path / "data")).returncode == 0


@pytest.mark.parametrize("line", ["sql SELECT+1", "status", "rebuild", "serve --port 0"])
def test_what_needs_an_extra_says_which(tmp_path: Path, line: str) -> None:
    found = thin(*(word.replace("+", " ") for word in line.split()), "--data", str(tmp_path))
    assert found.returncode == 1
    assert "pip install 'modeltrail[server]'" in found.stderr
