"""The unmodified clients, against a server: experiments, runs, metrics, search."""

from __future__ import annotations

import re

import pytest

from api_server import Server
from mlflow_client import MlflowClient

pytestmark = pytest.mark.slow


def test_log_and_compare(mlflow_client: MlflowClient, server: Server) -> None:
    mlflow_client.run("""
import pandas as pd
name = f"/team/sweep/{mlflow.__version__}"
mlflow.set_experiment(name)
with mlflow.start_run(run_name="sweep") as parent:
    mlflow.log_params({"max_depth": "5", "lr": 0.01})
    mlflow.log_param("kind", "tree")
    for step in range(10):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"f1": 0.9, "nan": math.nan, "inf": math.inf}, step=-3)
    mlflow.set_tags({"team": "vision", "a.b/c d": "odd"})
    mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"x": [1.0]}), name="d"), "training")
    with mlflow.start_run(nested=True) as child:
        mlflow.log_metric("loss", 7)

run = client.get_run(parent.info.run_id)
assert run.info.status == "FINISHED" and run.info.end_time >= run.info.start_time
assert run.info.run_name == run.data.tags["mlflow.runName"] == "sweep"
assert run.data.params == {"max_depth": "5", "lr": "0.01", "kind": "tree"}
assert run.data.metrics["loss"] == 0.1 and math.isnan(run.data.metrics["nan"])
assert run.data.metrics["inf"] == math.inf
assert run.data.tags["a.b/c d"] == "odd"
(used,) = run.inputs.dataset_inputs
assert used.dataset.name == "d" and used.tags[0].value == "training"
history = client.get_metric_history(parent.info.run_id, "loss")
assert [(m.step, m.value) for m in history] == [(n, 1 / (n + 1)) for n in range(10)]

found = mlflow.search_runs(
    filter_string="metrics.f1 > 0.85 and params.max_depth = '5' and dataset.name = 'd'",
    order_by=["metrics.f1 DESC"],
)
assert list(found.run_id) == [parent.info.run_id], found
experiment = client.get_experiment_by_name(name)
def ids(filter, **options):
    found = client.search_runs([experiment.experiment_id], filter, **options)
    return [r.info.run_id for r in found]
both = {parent.info.run_id, child.info.run_id}
assert ids(f"tags.mlflow.parentRunId = '{parent.info.run_id}'") == [child.info.run_id]
assert set(ids("metrics.loss > 5 OR params.lr < 0.5")) == both
assert ids("NOT (metrics.loss > 5)") == [parent.info.run_id]
assert ids("", order_by=["metrics.loss DESC"])[0] == child.info.run_id
assert set(ids("tags.`a.b/c d` IS NULL OR tags.team LIKE 'vis%'")) == both
first = client.search_runs([experiment.experiment_id], max_results=1)
second = client.search_runs([experiment.experiment_id], max_results=1, page_token=first.token)
assert {first[0].info.run_id, second[0].info.run_id} == both and not second.token
""")
    ours = server.ask("/api/v1/sql", {"statement": "SELECT DISTINCT actor FROM runs"})
    assert ours["rows"], ours


def test_change_and_refuse(mlflow_client: MlflowClient) -> None:
    out = mlflow_client.run("""
def refused(call, *args, **options):
    try:
        call(*args, **options)
    except MlflowException as error:
        print(error.error_code, str(error).splitlines()[0])
    else:
        raise AssertionError("not refused")

experiment = client.create_experiment(f"changes {mlflow.__version__}", tags={"a": "b"})
run = client.create_run(experiment).info.run_id
client.log_param(run, "depth", 3)
client.log_param(run, "depth", 3)
refused(client.log_param, run, "depth", 5)
refused(client.log_batch, run, params=[mlflow.entities.Param(k, "x") for k in ("new", "depth")])
assert client.get_run(run).data.params == {"depth": "3"}
client.set_tag(run, "mlflow.runName", "one")
assert client.get_run(run).info.run_name == "one"
client.update_run(run, name="two")
assert client.get_run(run).data.tags["mlflow.runName"] == "two"
client.set_tag(run, "k", "v")
client.delete_tag(run, "k")
refused(client.delete_tag, run, "k")
client.delete_run(run)
assert client.get_run(run).info.lifecycle_stage == "deleted"
refused(client.log_metric, run, "m", 1)
client.restore_run(run)
client.log_metric(run, "m", 1)
client.set_terminated(run, "FAILED")
with mlflow.start_run(run_id=run):
    assert client.get_run(run).info.status == "RUNNING"
assert client.get_run(run).info.status == "FINISHED"
client.delete_experiment(experiment)
assert client.get_run(run).info.lifecycle_stage == "deleted"
refused(client.create_run, experiment)
client.restore_experiment(experiment)
assert client.get_run(run).info.lifecycle_stage == "active"
client.rename_experiment(experiment, f"changed {mlflow.__version__}")
client.set_experiment_tag(experiment, "c", "d")
(found,) = client.search_experiments(filter_string=f"name = 'changed {mlflow.__version__}'")
assert found.tags == {"a": "b", "c": "d"}
refused(client.create_experiment, f"changed {mlflow.__version__}")
refused(client.search_runs, [experiment], "metrics.x > '5'")
refused(client.get_run, "0" * 32)
assert client.get_experiment_by_name("nope") is None
""")
    lines = [re.sub(r"[0-9a-f]{32}", "RUN", line) for line in out.splitlines() if "_" in line]
    told = [line for line in lines if not line.startswith(("🏃", "🧪"))]
    assert [line.split()[0] for line in told] == [
        "INVALID_PARAMETER_VALUE",
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
        "INVALID_PARAMETER_VALUE",
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_ALREADY_EXISTS",
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
    ]
    assert "Param with key='depth' was already logged with value='3'" in told[0]


def test_autolog(mlflow_client: MlflowClient) -> None:
    mlflow_client.run("""
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
mlflow.set_experiment(f"autolog {mlflow.__version__}")
mlflow.sklearn.autolog(log_models=False)
x, y = load_iris(return_X_y=True)
with mlflow.start_run() as run:
    LogisticRegression(max_iter=200).fit(x, y)
found = client.get_run(run.info.run_id)
assert found.data.params["max_iter"] == "200"
assert found.data.metrics["training_accuracy_score"] > 0.9
assert found.data.tags["estimator_name"] == "LogisticRegression"
assert found.inputs.dataset_inputs
""")
