"""Four threads with one client each, who work on one model along with others.

Not a flow of ``test_flows.py``: the tests of concurrency start it beside clients of their own.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import mlflow
from mlflow import MlflowClient

MODEL, THREADS, ROUNDS = "crowd", 4, 3


def _work(n: int, experiment_id: str) -> list[int]:
    client, versions = MlflowClient(), []
    alias = f"{mlflow.__version__.split('.')[0]}-{os.getpid()}-{n}"
    for turn in range(ROUNDS):
        run_id = client.create_run(experiment_id).info.run_id
        for step in range(5):
            client.log_metric(run_id, "loss", 1 / (step + 1), step=step)
        client.log_param(run_id, "turn", turn)
        client.set_tag(run_id, "thread", n)
        found = client.get_run(run_id)
        assert found.data.params == {"turn": str(turn)}, found
        assert found.data.metrics == {"loss": 0.2}, found
        assert len(client.get_metric_history(run_id, "loss")) == 5
        made = client.create_model_version(MODEL, f"runs:/{run_id}/model", run_id)
        versions.append(int(made.version))
        client.set_model_version_tag(MODEL, made.version, "by", alias)
        client.set_registered_model_alias(MODEL, alias, made.version)
        client.set_registered_model_alias(MODEL, "champion", made.version)
        assert client.get_model_version_by_alias(MODEL, alias).run_id == run_id
        client.transition_model_version_stage(
            MODEL, made.version, "Production", archive_existing_versions=True
        )
        client.set_terminated(run_id)
        assert client.get_run(run_id).info.status == "FINISHED"
    mine = client.search_model_versions(f"name = '{MODEL}' and tags.by = '{alias}'")
    assert sorted(int(version.version) for version in mine) == versions
    return versions


def work() -> None:
    """What the threads were given is theirs alone."""
    experiment_id = mlflow.set_experiment("/crowd").experiment_id
    with ThreadPoolExecutor(THREADS) as pool:
        given = pool.map(lambda n: _work(n, experiment_id), range(THREADS))
        versions = [version for of_one in given for version in of_one]
    assert len(set(versions)) == THREADS * ROUNDS, versions
