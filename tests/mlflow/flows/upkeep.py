"""Flows: cleaning up, MLflow's own commands, and what operators ask."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
import requests
from click.testing import CliRunner
from common import PINNED, X, client, named, refused, where
from mlflow.cli import cli
from mlflow.entities import ViewType
from sklearn.linear_model import LinearRegression

import mlflow

DAY_MS = 24 * 3600 * 1000


def _here() -> str:
    experiment = mlflow.set_experiment(experiment_id=mlflow.tracking.fluent._get_experiment_id())
    return experiment.experiment_id


def end_stuck_runs() -> None:
    """Runs that say RUNNING since days are found and ended."""
    experiment_id, now = _here(), int(time.time() * 1000)
    stuck = [client.create_run(experiment_id, now - n * DAY_MS).info.run_id for n in (2, 3)]
    alive = client.create_run(experiment_id).info.run_id
    query = f"attributes.status = 'RUNNING' and attributes.start_time < {now - DAY_MS}"
    found = client.search_runs([experiment_id], query)
    assert [run.info.run_id for run in found] == stuck
    for run in found:
        client.set_tag(run.info.run_id, "ended_by", "clean-up")
        client.set_terminated(run.info.run_id, "KILLED")
    assert client.search_runs([experiment_id], query) == []
    ended = client.get_run(stuck[0])
    assert ended.info.status == "KILLED"
    assert ended.info.end_time >= now
    assert client.get_run(alive).info.status == "RUNNING"
    client.set_terminated(alive)


def delete_old_failures() -> None:
    """Failed runs older than a week go, but for those tagged keep and those registered."""
    experiment_id, now, name = _here(), int(time.time() * 1000), named("of a failure")

    def failed(days: int, **tags: str) -> str:
        run = client.create_run(experiment_id, now - days * DAY_MS, tags=tags).info.run_id
        client.set_terminated(run, "FAILED", now - days * DAY_MS + 1)
        return run

    old, older, young = failed(8), failed(30), failed(1)
    kept, registered = failed(9, keep="true"), failed(9)
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{registered}/model", registered)
    query = f"attributes.status = 'FAILED' and attributes.end_time < {now - 7 * DAY_MS}"
    gone = []
    for run in client.search_runs([experiment_id], query):
        run_id = run.info.run_id
        if "keep" not in run.data.tags and not client.search_model_versions(f"run_id='{run_id}'"):
            client.delete_run(run_id)
            gone.append(run_id)
    assert gone == [old, older]
    left = {run.info.run_id for run in client.search_runs([experiment_id])}
    assert left == {young, kept, registered}
    client.restore_run(old)
    deleted = client.search_runs([experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert [run.info.run_id for run in deleted] == [older]


def _cli(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == code, (words, done.output, done.exception)
    return done.output


def commands() -> None:
    """MLflow's own commands, from a shell."""
    name, renamed = named("by command"), named("by command, renamed")
    _cli("experiments", "create", "-n", name)
    experiment_id = client.get_experiment_by_name(name).experiment_id
    assert name in _cli("experiments", "search")
    _cli("experiments", "rename", "--experiment-id", experiment_id, "--new-name", renamed)
    run = client.create_run(experiment_id, run_name="the run").info.run_id
    client.log_metric(run, "loss", 0.5)
    listed = _cli("runs", "list", "--experiment-id", experiment_id)
    assert run in listed
    assert "the run" in listed
    assert '"loss": 0.5' in _cli("runs", "describe", "--run-id", run)
    Path("up").mkdir()
    Path("up/a.txt").write_text("a")
    Path("b.txt").write_text("b")
    _cli("artifacts", "log-artifacts", "-l", "up", "-r", run, "-a", "folder")
    _cli("artifacts", "log-artifact", "-l", "b.txt", "-r", run)
    assert '"path": "b.txt"' in _cli("artifacts", "list", "-r", run)
    _cli("artifacts", "download", "-r", run, "-a", "folder", "-d", "down")
    assert Path("down/folder/a.txt").read_text() == "a"
    _cli("artifacts", "download", "-u", f"runs:/{run}/b.txt", "-d", "down")
    assert Path("down/b.txt").read_text() == "b"
    _cli("experiments", "csv", "--experiment-id", experiment_id, "--filename", "runs.csv")
    assert list(pd.read_csv("runs.csv").run_id) == [run]
    _cli("runs", "delete", "--run-id", run)
    assert run not in _cli("runs", "list", "--experiment-id", experiment_id)
    assert run in _cli("runs", "list", "--experiment-id", experiment_id, "--view", "deleted_only")
    _cli("runs", "restore", "--run-id", run)
    _cli("experiments", "delete", "--experiment-id", experiment_id)
    assert renamed in _cli("experiments", "search", "--view", "deleted_only")
    _cli("experiments", "restore", "--experiment-id", experiment_id)


def predict_by_command() -> None:
    """A batch is scored with the champion."""
    name = named("scored")
    with mlflow.start_run():
        model = LinearRegression().fit(X, X.ravel() * 3)
        mlflow.sklearn.log_model(model, registered_model_name=name, **where("model"), **PINNED)
    client.set_registered_model_alias(name, "champion", "1")
    Path("in.csv").write_text("x\n2.0\n")
    words = ["-m", f"models:/{name}@champion", "-i", "in.csv", "-t", "csv", "-o", "out.json"]
    _cli("models", "predict", *words, "--env-manager", "local")
    assert [round(y) for y in json.loads(Path("out.json").read_text())["predictions"]] == [6]


def garbage_collection() -> None:
    """``mlflow gc`` deletes rows of a database of MLflow's: of a server it asks nothing."""
    run = client.create_run(_here()).info.run_id
    client.delete_run(run)
    done = CliRunner().invoke(
        cli, ["gc", "--backend-store-uri", mlflow.get_tracking_uri(), "--run-ids", run]
    )
    assert done.exit_code == 1
    assert "backend that allows hard-deleting runs" in str(done.exception)
    assert client.get_run(run).info.lifecycle_stage == "deleted"


def operate() -> None:
    """Health, version, and clear answers for what is not there."""
    url = mlflow.get_tracking_uri()
    assert requests.get(f"{url}/health", timeout=10).status_code == 200
    assert requests.get(f"{url}/version", timeout=10).text
    answer = requests.get(f"{url}/api/2.0/mlflow/nothing", timeout=10)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, named("nobody"))
