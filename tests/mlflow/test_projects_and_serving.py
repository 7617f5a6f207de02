"""MLflow's projects are tracked here, and its scoring servers ask here which version is live."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from api_server import Server
from kafka_broker import free_port
from mlflow_client import MlflowClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_PROJECT = """\
name: fit
entry_points:
  main:
    parameters:
      lr: {type: float, default: 0.1}
    command: "python train.py {lr}"
"""
_TRAIN = """\
import sys
import mlflow, mlflow.sklearn
import numpy as np
from sklearn.linear_model import SGDRegressor

x = np.linspace(0, 1, 50).reshape(-1, 1)
model = SGDRegressor(eta0=float(sys.argv[1]), random_state=0).fit(x, 2 * x.ravel())
with mlflow.start_run():
    mlflow.log_metric("r2", model.score(x, 2 * x.ravel()))
    where = {"name" if mlflow.__version__ > "3" else "artifact_path": "model"}
    mlflow.sklearn.log_model(
        model, registered_model_name="fit", pip_requirements=["scikit-learn"], **where
    )
"""


def _git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com"]
    command = ["git", *who, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _rest(server: Server, path: str) -> Any:
    return server.ask(f"/api/2.0/mlflow/{path}")


def _run_of(server: Server, version: int) -> dict[str, Any]:
    """The run that a version of the model comes from."""
    found = _rest(server, f"model-versions/get?name=fit&version={version}")["model_version"]
    run: dict[str, Any] = _rest(server, f"runs/get?run_id={found['run_id']}")["run"]
    data = run["data"]
    return {
        "status": run["info"]["status"],
        **{kind: {e["key"]: e["value"] for e in data[kind]} for kind in ("params", "tags")},
        "r2": data["metrics"][0]["value"],
    }


@contextmanager
def _serving(client: MlflowClient, uri: str) -> Iterator[Callable[[Any], Any]]:
    """MLflow's scoring server for a model: ask for predictions, and wait until it is ready."""
    port = free_port()
    with (client.folder / "serving.txt").open("wb") as output:
        process = subprocess.Popen(
            [
                *(client.python, "-m", "mlflow", "models", "serve", "-m", uri),
                *("-p", str(port), "--env-manager", "local"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=client.folder,
            env=client.environment,
            start_new_session=True,
        )

    def predict(inputs: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": inputs}).encode(),
            {"Content-Type": "application/json"},
        )
        until = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)["predictions"]
            except urllib.error.HTTPError as error:
                raise AssertionError(error.read()) from None
            except OSError:
                said = (client.folder / "serving.txt").read_text(errors="replace")
                assert process.poll() is None, said
                assert time.monotonic() < until, said
                time.sleep(0.1)

    try:
        yield predict
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it starts processes of its own
        process.wait()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in git, which was changed after its first commit."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "MLproject").write_text(_PROJECT)
    (folder / "train.py").write_text(_TRAIN)
    _git(folder, "init", "-q", "-b", "main")
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "first")
    return folder


def test_run_reproduce_and_serve(
    mlflow_client: MlflowClient, server: Server, project: Path
) -> None:
    before = _rest(server, "model-versions/search?max_results=100").get("model_versions", [])
    first, again = len(before) + 1, len(before) + 2
    words = ["--env-manager", "local", "--experiment-name", "/projects/fit"]
    mlflow_client.command("run", str(project), "-P", "lr=0.01", *words)
    made = _run_of(server, first)
    commit = _git(project, "rev-parse", "HEAD")
    assert (made["status"], made["params"]) == ("FINISHED", {"lr": "0.01"})
    assert made["tags"]["mlflow.source.type"] == "PROJECT"
    assert made["tags"]["mlflow.source.git.commit"] == commit

    server.ask(
        "/api/2.0/mlflow/registered-models/alias",
        {"name": "fit", "alias": "champion", "version": str(first)},
        "POST",
    )
    with _serving(mlflow_client, "models:/fit@champion") as predict:
        # From the version alone: its run, the commit, the params; while the model is loaded.
        (project / "train.py").write_text("raise SystemExit('changed since')")
        _git(project, "commit", "-qam", "second")
        params = [f"{key}={value}" for key, value in made["params"].items()]
        mlflow_client.command(
            *("run", f"file://{project}", "-v", made["tags"]["mlflow.source.git.commit"]),
            *("-P", *params, *words),
        )
        remade = _run_of(server, again)
        assert (remade["params"], remade["r2"]) == (made["params"], made["r2"])
        assert remade["tags"]["mlflow.source.git.commit"] == commit
        low, high = predict([[0.0], [1.0]])
        assert low < 1 < high
    assert server.ask("/api/v1/sql", {"statement": "FROM dead_letters"})["rows"] == []
