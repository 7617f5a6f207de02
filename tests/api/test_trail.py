"""The trail as an operator meets it: verify, a log that was cut, health, doctor."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_server import Job, Server, modeltrail
from modeltrail.api.node import Node
from modeltrail.eventlog import NewEvent
from modeltrail.schemas.framing import MEDIA_TYPE, frame


def write(server: Server, run_id: str, points: int = 3) -> None:
    """A run with a batch of points for each, and two requests to the registry."""
    job = Job(run_id)
    payloads = [job.started(), *(job.metrics("loss", [n / 7]) for n in range(points))]
    request = urllib.request.Request(f"{server.url}/api/v1/ingest", frame(payloads))
    request.add_header("Content-Type", MEDIA_TYPE)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
    body = {"source": f"s3://a/{run_id}", "create_model": True}
    server.ask("/api/v1/models/digits/versions", body)
    server.ask("/api/v1/models/digits/aliases/champion", {"version": 1, "reason": "first"}, "PUT")


def tamper(data: Path, *statements: str) -> None:
    con = sqlite3.connect(data / "log.sqlite")
    for (trigger,) in con.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
    ).fetchall():
        con.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        con.execute(statement)
    con.commit()
    con.close()


def verify(data: Path, *options: str) -> dict[str, Any]:
    done = modeltrail("audit", "verify", "--data", str(data), "--json", *options)
    assert done.returncode in (0, 1), done
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if verdict["ok"] else 1)
    return verdict


def found(verdict: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(f["kind"], f["partition"], f["offset"]) for f in verdict["findings"]]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    """A server with a run and a registry of two events."""
    with ExitStack() as stack:
        server = Server(tmp_path / "data")
        stack.callback(server.stop)
        server.ready()
        write(server, "run-1")
        server.ask("/api/v1/audit")  # answers from the tables: by then all of it is in them
        yield server


def health(server: Server) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{server.url}/health", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


CHANGED = "UPDATE {0} SET payload = CAST(payload || x'00' AS BLOB) WHERE offset = 1"
CUT = "DELETE FROM {0} WHERE offset = (SELECT max(offset) FROM {0})"


@pytest.mark.parametrize("stream", ["registry", "runs"])
def test_verify_beside_a_running_server_compares_with_its_tables(
    served: Server, stream: str
) -> None:
    verdict = verify(served.data)
    assert verdict["ok"]
    assert (verdict["events"], verdict["compared"]) == (6, 6)
    assert served.url in verdict["compared_with"]
    tamper(served.data, CHANGED.format(stream))
    first = found(verify(served.data))[0]
    assert first == ("payload_changed", f"{stream}:0", 1)


@pytest.mark.parametrize("stream", ["registry", "runs"])
def test_a_log_that_is_cut_while_a_server_runs(served: Server, stream: str) -> None:
    assert health(served)[0] == 200
    tamper(served.data, CUT.format(stream))
    status, body = health(served)
    assert status == 503
    assert f"{stream}:0" in body["reason"]
    assert "was cut" in body["reason"]
    last = {"registry": 1, "runs": 3}[stream]
    assert found(verify(served.data))[0] == ("log_cut", f"{stream}:0", last)
    doctor = modeltrail("doctor", "--data", str(served.data))
    assert doctor.returncode == 1
    assert "was cut" in doctor.stdout


def test_health_misses_an_acknowledged_event_that_was_cut_before_it_was_folded(
    client: TestClient, node: Node, tmp_path: Path
) -> None:
    with node.fold._folding:  # the fold waits
        node.append([NewEvent("runs", "run-1", Job().started())])
        tamper(tmp_path / "data", CUT.format("runs"))
        answer = client.get("/health")
    assert answer.status_code == 503
    assert "runs:0 ends at 0" in answer.json()["reason"]
    assert "was cut" in answer.json()["reason"]


def test_a_log_that_is_cut_while_no_server_runs(served: Server) -> None:
    # Killed before anything was signed: only the tables know what was there.
    served.stop(signal.SIGKILL)
    data = served.data
    (data / "checkpoints.jsonl").unlink(missing_ok=True)
    tamper(data, CUT.format("registry"))
    assert found(verify(data)) == [("log_cut", "registry:0", 1)]
    for command in (["serve", "--port", "0"], ["rebuild"], ["sql", "FROM runs"]):
        refused = modeltrail(*command, "--data", str(data))
        assert refused.returncode == 1, refused
        assert "the log ends at 1" in refused.stderr
        assert "--accept-log" in refused.stderr
        assert "Traceback" not in refused.stderr
    doctor = modeltrail("doctor", "--data", str(data))
    assert doctor.returncode == 1
    assert "the log ends at 1" in doctor.stdout
    assert found(verify(data)) == [("log_cut", "registry:0", 1)]  # the tables are still there
    server = Server(data, "--accept-log")
    try:
        server.ready()
        write(server, "run-2")
        assert (data / "projections.contradicted-1.duckdb").exists()
        assert verify(data)["ok"]
    finally:
        _, _, said = server.stop()
    assert "the log ends at 1" in said
    assert "contradicted-1" in modeltrail("doctor", "--data", str(data)).stdout
    assert "contradicted-1" in modeltrail("audit", "verify", "--data", str(data)).stdout


def test_a_log_that_contradicts_what_was_signed_is_said_without_tables(served: Server) -> None:
    served.stop()
    data = served.data
    tamper(data, CHANGED.format("runs"))
    (data / "projections.duckdb").unlink()
    assert found(verify(data)) == [("checkpoint_differs", "runs:0", 0)]
    server = Server(data)
    try:
        deadline = time.monotonic() + 60
        while health_of_a_start(server) != 503 and time.monotonic() < deadline:
            time.sleep(0.2)
        status, body = health(server)
        assert status == 503
        assert "which" in body["reason"]
        assert "has signed" in body["reason"]
    finally:
        server.stop()
    server = Server(data, "--accept-log")
    try:
        server.ready()
    finally:
        server.stop()
    assert (data / "checkpoints.contradicted-1.jsonl").exists()
    assert verify(data)["ok"]
    assert not verify(data, "--checkpoints", str(data / "checkpoints.contradicted-1.jsonl"))["ok"]


def health_of_a_start(server: Server) -> int:
    try:
        status, body = health(server)
    except OSError:
        return 0
    return 0 if "catching up" in body.get("reason", "") else status


def test_an_orderly_stop_signs_everything(served: Server) -> None:
    write(served, "run-2")
    served.stop()
    verdict = verify(served.data)
    assert verdict["ok"]
    assert {p: c["signed_offset"] for p, c in verdict["partitions"].items()} == {
        "registry:0": 3,
        "runs:0": 7,
    }
    (served.data / "projections.duckdb").unlink()
    alone = verify(served.data)
    assert alone["ok"]
    assert not alone["compared_with_fold"]
    assert "there is no projections.duckdb yet" in alone["compared_with"]


def test_the_first_event_is_signed_soon(served: Server) -> None:
    deadline = time.monotonic() + 60
    while not (served.data / "checkpoints.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    served.stop(signal.SIGKILL)
    assert verify(served.data)["checkpoints"] >= 1


_AS_A_READER = """
import os, sys
import cryptography.hazmat.primitives.serialization, duckdb, modeltrail.api.commands.trail
import modeltrail.consumers.audit, modeltrail.consumers.fold, modeltrail.eventlog.embedded
import pyarrow, numpy  # now: another user may not read Python's folder
from modeltrail.api.cli import main
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)  # root may write anywhere
sys.exit(main(sys.argv[1:]))
"""


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_verify_writes_nothing(served: Server, open_folder: Path) -> None:
    served.stop()
    data = served.data
    (data / "server.lock").unlink()
    copy = open_folder / "copy"
    shutil.copytree(data, copy)
    before = contents(copy)
    for path in copy.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    copy.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _AS_A_READER, "audit", "verify", "--data", str(copy)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        copy.chmod(0o755)
    assert done.returncode == 0, done
    assert "the trail is whole: 6 events" in done.stdout
    assert "the tables in projections.duckdb" in done.stdout
    assert contents(copy) == before
