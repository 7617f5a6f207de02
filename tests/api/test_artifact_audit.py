"""`modeltrail audit verify --artifacts`: every byte that is not as it was recorded is found."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from starlette.testclient import TestClient

from api_server import Server
from modeltrail.api.app import create_app
from modeltrail.api.artifacts.store import ArtifactStore, open_storage
from modeltrail.api.cli import main
from modeltrail.api.node import Node
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import open_log
from object_stores import s3

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
API = "/api/2.0/mlflow"


class Trail:
    """A data folder, and the place of its artifacts."""

    def __init__(self, data: Path, artifacts: str) -> None:
        self.data = data
        self.artifacts = artifacts
        self.storage = open_storage(artifacts)

    @contextmanager
    def served(self) -> Iterator[TestClient]:
        log = open_log(str(self.data))
        fold = Fold(log, None, memory_limit="500MB", threads=1)
        fold.start()
        node = Node(log, fold, ArtifactStore(self.storage))
        node.start()
        try:
            with TestClient(create_app(node), base_url="http://localhost") as client:
                yield client
        finally:
            node.stop()
            fold.stop()
            log.close()

    def verify(self, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, Any]:
        capsys.readouterr()
        options = ["--data", str(self.data), "--artifacts", self.artifacts, "--json", *args]
        code = main(["audit", "verify", *options])
        return code, json.loads(capsys.readouterr().out)["artifacts"]

    def change(self, key: str, data: bytes) -> None:
        sink = self.storage.write(key)
        sink.write(data)
        sink.finish()


@pytest.fixture(params=["folder", "s3"])
def trail(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trail]:
    with ExitStack() as stack:
        url = str(tmp_path / "data" / "artifacts")
        if request.param == "s3":
            server = stack.enter_context(s3())
            stack.enter_context(mock.patch.dict(os.environ, server.environment))
            url = f"{server.url}/{request.node.originalname}"
        yield Trail(tmp_path / "data", url)


def post(client: TestClient, path: str, **fields: Any) -> Any:
    answer = client.post(f"{API}/{path}", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def new_run(client: TestClient) -> str:
    return str(post(client, "runs/create", experiment_id="0")["run"]["info"]["run_id"])


def found(files: dict[str, Any]) -> list[tuple[str, str, str]]:
    assert files["ok"] == (not files["findings"])
    return sorted((f["finding"], f["id"], f["path"]) for f in files["findings"])


def test_what_is_not_as_recorded_is_found(trail: Trail, capsys: pytest.CaptureFixture[str]) -> None:
    with trail.served() as client:
        one, two = new_run(client), new_run(client)
        for run in (one, two):
            for name in ("model/a.bin", "model/b.bin", "model x/c", "ü%.txt", "empty", "gone"):
                data = b"" if name == "empty" else f"first {name}".encode()
                client.put(f"{PROXY}/0/{run}/artifacts/{name.replace('%', '%25')}", content=data)
            client.put(f"{PROXY}/0/{run}/artifacts/model/a.bin", content=b"second")
            client.delete(f"{PROXY}/0/{run}/artifacts/gone")
        logged = post(client, "logged-models", experiment_id="0", source_run_id=one)
        model = logged["model"]["info"]["model_id"]
        client.put(f"{PROXY}/0/models/{model}/artifacts/MLmodel", content=b"flavors")
        for name, source in (
            ("m", f"runs:/{one}/model"),
            ("m", f"models:/{model}"),
            ("m", "s3://elsewhere/m"),
            ("other", f"runs:/{two}/model"),
        ):
            client.post(f"{API}/registered-models/create", json={"name": name})
            post(client, "model-versions/create", name=name, source=source)
    code, files = trail.verify(capsys)
    assert (code, found(files), files["files"]) == (0, [], 11)

    trail.change(f"{one}/model/a.bin", b"secOnd")
    trail.change(f"{two}/model/b.bin", b"longer than it was")
    trail.change(f"{two}/empty", b"x")
    trail.storage.delete(f"{two}/ü%.txt")
    trail.change(f"models/{model}/MLmodel", b"flavorS")
    expected = sorted(
        [
            ("changed", one, "model/a.bin"),
            ("changed", two, "model/b.bin"),
            ("changed", two, "empty"),
            ("missing", two, "ü%.txt"),
            ("changed", model, "MLmodel"),
        ]
    )
    code, files = trail.verify(capsys)
    assert (code, found(files), files["files"]) == (1, expected, 11)
    first = next(f for f in files["findings"] if f["path"] == "model/a.bin")
    assert first["size_bytes"] == 6
    assert first["logged_at"]
    assert first["sha256"] in first["message"]
    if trail.storage.folder is None:
        return  # which files are chosen has nothing to do with where they are
    code, files = trail.verify(capsys, "--run", two)
    assert (code, found(files)) == (1, [f for f in expected if f[1] == two])
    code, files = trail.verify(capsys, "--run", one)
    assert found(files) == [f for f in expected if f[1] in (one, model)]
    code, files = trail.verify(capsys, "--model", "m")
    assert (code, files["files"]) == (1, 3)  # two of the run's folder, and one of the model's
    assert found(files) == [f for f in expected if f[1] in (one, model)]
    (elsewhere,) = files["elsewhere"]
    assert elsewhere.startswith("version 3: its files are at s3://elsewhere/m")
    capsys.readouterr()
    for chosen in (["--run", "nobody"], ["--model", "nobody"]):
        options = ["audit", "verify", "--data", str(trail.data), "--artifacts", trail.artifacts]
        assert main([*options, *chosen]) == 1
        assert "not found" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "verify", "--data", str(trail.data), "--run", one])
    assert stopped.value.code == 2, "files are chosen, but not to be read"
    assert "--artifacts" in capsys.readouterr().err


def test_files_are_found_where_their_record_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As training jobs store them that log to Kafka, or before the server moved."""
    trail = Trail(tmp_path / "data", str(tmp_path / "before"))
    with trail.served() as client:
        run = new_run(client)
        client.put(f"{PROXY}/0/{run}/artifacts/a b.txt", content=b"x")
    moved = Trail(trail.data, str(tmp_path / "now"))
    assert moved.verify(capsys)[0] == 0
    (tmp_path / "before" / run / "a b.txt").write_bytes(b"y")
    code, files = moved.verify(capsys)
    assert (code, found(files)) == (1, [("changed", run, "a b.txt")])
    (tmp_path / "before" / run / "a b.txt").unlink()
    assert found(moved.verify(capsys)[1]) == [("missing", run, "a b.txt")]
    (tmp_path / "now").write_bytes(b"not a folder")
    assert moved.verify(capsys)[0] == 1


@pytest.mark.slow
def test_beside_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(tmp_path / "data", "--artifacts", str(tmp_path / "elsewhere"))
    try:
        server.ready()
        run = server.ask(f"{API}/runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
        url = f"{server.url}{PROXY}/0/{run}/artifacts/f"
        with urllib.request.urlopen(urllib.request.Request(url, b"abc", method="PUT")):
            pass
        command = ["audit", "verify", "--data", str(tmp_path / "data"), "--artifacts"]
        assert main(command) == 0
        assert "1 files, 3 bytes: all as recorded" in capsys.readouterr().out
        (tmp_path / "elsewhere" / run / "f").write_bytes(b"abd")
        assert main(command) == 1
        told = capsys.readouterr().out
        assert f"changed: 'f' of run {run}, recorded 20" in told
        assert "1 are not as recorded" in told
    finally:
        server.stop()
