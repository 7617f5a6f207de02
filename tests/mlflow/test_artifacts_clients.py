"""Artifacts by unmodified clients, in a folder and in S3; and that large ones pass through."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from api_server import Server, modeltrail
from mlflow_client import MlflowClient, finished, python_with_mlflow
from object_stores import s3

pytestmark = pytest.mark.slow

MEGABYTE = 1024 * 1024


class Place(NamedTuple):
    server: Server
    url: str
    """Of the artifacts."""


@pytest.fixture(scope="module")
def in_folder(server: Server) -> Place:
    return Place(server, str(server.data / "artifacts"))


@pytest.fixture(scope="module")
def in_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server that keeps artifacts in S3, and lets clients go there."""
    with s3() as store, mock.patch.dict(os.environ, store.environment):
        options = ("--artifacts", store.url, "--presigned")
        server = Server(tmp_path_factory.mktemp("served") / "data", *options)
        try:
            server.ready()
            yield Place(server, store.url)
        finally:
            _, out, err = server.stop()
            assert "not-to-be-told" not in out + err


SCRIPT = """
import json, os, pathlib
import mlflow
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

client = MlflowClient()

def write(path, data):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)

def files(run, path=None):
    return {f.path: None if f.is_dir else f.file_size for f in client.list_artifacts(run, path)}

names = ["plain.txt", "a b.txt", "größe 日本.txt", "x" * 150 + ".bin", "50%.txt"]
names += ["a&b=c+d;e,f~[1]{2}.txt"]
for name in names:
    write(f"tree/deep/er/{name}", name.encode())
write("tree/empty", b"")
large = os.urandom(12 * 2**20 + 5)
with mlflow.start_run() as active:
    run = active.info.run_id
    mlflow.log_artifact(write("one.txt", b"first"))
    mlflow.log_artifact(write("one.txt", b"second, longer"))
    mlflow.log_artifacts("tree", "below")
    mlflow.log_text("text", "notes/text.txt")
    mlflow.log_dict({"a": [1]}, "notes/a.json")
    mlflow.log_artifact(write("large.bin", large), "big")
assert files(run) == {"below": None, "big": None, "notes": None, "one.txt": 14}, files(run)
assert files(run, "below") == {"below/deep": None, "below/empty": 0}
assert files(run, "below/deep/er") == {f"below/deep/er/{n}": len(n.encode()) for n in names}
assert files(run, "nothing") == files(run, "below/nothing/at/all") == files(run, "one.txt") == {}
home = pathlib.Path(client.download_artifacts(run, "", "got" if os.makedirs("got") is None else ""))
found = {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}
expected = {f"below/deep/er/{n}": n.encode() for n in names}
expected |= {"below/empty": b"", "one.txt": b"second, longer", "notes/text.txt": b"text"}
assert found.pop("big/large.bin") == large
assert json.loads(found.pop("notes/a.json")) == {"a": [1]}
assert found == expected, set(found) ^ set(expected)
assert mlflow.artifacts.load_text(f"runs:/{run}/notes/text.txt") == "text"
try:
    client.download_artifacts(run, "nothing")
except Exception as error:
    assert "nothing" in str(error)
else:
    raise AssertionError("nothing was there")
repository = get_artifact_repository(client.get_run(run).info.artifact_uri)
repository.delete_artifacts("notes")
assert files(run, "notes") == {}
print("RUN", run)
"""


def check(place: Place, out: str) -> None:
    """Everything is in the trail, and the trail is right."""
    found = re.search("RUN ([0-9a-f]{32})", out)
    assert found is not None, out
    asked = {"statement": "SELECT path, size_bytes FROM artifacts WHERE run_id = ?"}
    rows = place.server.ask("/api/v1/sql", {**asked, "params": [found[1]]})["rows"]
    recorded = dict(rows)
    assert len(recorded) == len(rows) == 9
    assert recorded["one.txt"] == 14
    assert recorded["big/large.bin"] == 12 * MEGABYTE + 5
    command = ("audit", "verify", "--data", str(place.server.data), "--artifacts", "--run")
    done = modeltrail(*command, found[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 files, 12,58" in done.stdout


def answered(place: Place, method: str, route: str) -> int:
    """How often a route of MLflow's proxy has answered 200."""
    with urllib.request.urlopen(f"{place.server.url}/metrics") as answer:
        told = answer.read().decode()
    labels = f'{{method="{method}",route="/api/2.0/mlflow-artifacts/{route}",status="200"}}'
    found = re.search(re.escape(f"modeltrail_http_requests_total{labels}") + r" (\d+)", told)
    return 0 if found is None else int(found[1])


def test_in_a_folder(in_folder: Place, tmp_path: Path) -> None:
    """Both versions, which are told to send large files in parts."""
    parts = {
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
        "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(6 * MEGABYTE),
        "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * MEGABYTE),
    }
    processes = []
    for version in ("3", "2"):
        folder = tmp_path / version
        folder.mkdir()
        client = MlflowClient(python_with_mlflow(version), in_folder.server.url, folder)
        processes.append(client.start("-c", SCRIPT, **parts))
    for process in processes:
        check(in_folder, finished(process))
    assert answered(in_folder, "PUT", "mpu/parts/{upload_id}/{number:int}") == 6
    assert answered(in_folder, "POST", "mpu/complete/{path:path}") == 2


def test_in_s3(in_s3: Place, tmp_path: Path) -> None:
    """The client learns from the server that large files go straight to the store."""
    sizes = {
        f"MLFLOW_MULTIPART_{way}_{what}_SIZE": str(size * MEGABYTE)
        for way in ("UPLOAD", "DOWNLOAD")
        for what, size in (("MINIMUM_FILE", 6), ("CHUNK", 5))
    }
    client = MlflowClient(python_with_mlflow("3"), in_s3.server.url, tmp_path)
    check(in_s3, finished(client.start("-c", SCRIPT, **sizes)))
    assert answered(in_s3, "POST", "mpu/create/{path:path}") == 1
    assert answered(in_s3, "PUT", "mpu/parts/{upload_id}/{number:int}") == 0
    assert answered(in_s3, "GET", "presigned/{path:path}") > 0


def memory_peak(server: Server) -> int:
    """Most bytes that the process ever had in memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("where", ["in_folder", "in_s3"])
def test_large_files_pass_through(where: str, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue(where)
    server, size = place.server, 300 * MEGABYTE
    pieces = [os.urandom(MEGABYTE) for _ in range(3)]
    digest = hashlib.sha256()

    def body() -> Iterator[bytes]:
        for n in range(size // MEGABYTE):
            digest.update(pieces[n % 3])
            yield pieces[n % 3]

    @contextmanager
    def sent(method: str, body: Any = None) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        with closing(connection):
            headers = {"Content-Length": str(size)} if body is not None else {}
            connection.request(method, "/api/v1/runs/large/artifacts/f", body, headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield answer

    before = memory_peak(server)
    with sent("PUT", body()) as answer:
        assert digest.hexdigest() in answer.read().decode()
    got = hashlib.sha256()
    with sent("GET") as answer:
        while piece := answer.read(MEGABYTE):
            got.update(piece)
    assert got.hexdigest() == digest.hexdigest()
    more = memory_peak(server) - before
    assert more < 150 * MEGABYTE, f"{more / MEGABYTE:.0f} MB more"
