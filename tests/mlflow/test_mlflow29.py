"""A client of MLflow 2.9, as old set-ups still have it: runs, search, registry, artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_server import Server
from mlflow_client import MlflowClient, python_with_mlflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_mlflow_2_9(server: Server, tmp_path: Path) -> None:
    MlflowClient(python_with_mlflow("2.9"), server.url, tmp_path).run("""
assert mlflow.__version__ == "2.9.2"
mlflow.set_experiment("/old/set-up")
with mlflow.start_run(run_name="sweep", tags={"team": "vision"}) as parent:
    mlflow.log_params({"max_depth": 5, "lr": 0.01})
    for step in range(3):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"f1": 0.9, "nan": math.nan})
    mlflow.log_text("hello é", "notes/a b.txt")
    mlflow.log_dict({"a": 1}, "d.json")
    with mlflow.start_run(nested=True) as child:
        mlflow.log_metric("loss", 7)
run_id = parent.info.run_id
run = client.get_run(run_id)
assert (run.info.status, run.info.run_name) == ("FINISHED", "sweep")
assert run.data.params == {"max_depth": "5", "lr": "0.01"}
assert run.data.metrics["loss"] == 1 / 3 and math.isnan(run.data.metrics["nan"])
assert [m.step for m in client.get_metric_history(run_id, "loss")] == [0, 1, 2]

def found(filter, **options):
    runs = client.search_runs([run.info.experiment_id], filter, **options)
    return [r.info.run_id for r in runs]

assert found("metrics.f1 > 0.85 and params.max_depth = '5'") == [run_id]
assert found(f"tags.mlflow.parentRunId = '{run_id}'") == [child.info.run_id]
assert found("", order_by=["metrics.loss DESC"], max_results=1) == [child.info.run_id]

assert sorted(f.path for f in client.list_artifacts(run_id)) == ["d.json", "notes"]
assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/a b.txt") == "hello é"
client.download_artifacts(run_id, "notes", ".")
assert open("notes/a b.txt").read() == "hello é"

name = "old set-up"
client.create_registered_model(name, tags={"a": "b"}, description="d")
for _ in range(2):
    version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run_id)
assert (int(version.version), version.run_id) == (2, run_id)
client.set_registered_model_alias(name, "champion", "2")
assert int(client.get_model_version_by_alias(name, "champion").version) == 2
client.transition_model_version_stage(name, "1", "Production")
client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
(live,) = client.get_latest_versions(name, ["Production"])
assert int(live.version) == 2
assert client.get_model_version(name, "1").current_stage == "Archived"
client.set_model_version_tag(name, "1", "approved_by", "ada")
(tagged,) = client.search_model_versions("tags.approved_by = 'ada'")
assert int(tagged.version) == 1
assert [m.name for m in client.search_registered_models("name LIKE 'old%'")] == [name]
client.delete_registered_model_alias(name, "champion")
try:
    client.get_model_version_by_alias(name, "champion")
except MlflowException as error:
    assert error.error_code == "INVALID_PARAMETER_VALUE", error
else:
    raise AssertionError("found an alias that was deleted")
client.delete_model_version(name, "1")
client.delete_registered_model(name)
client.delete_run(child.info.run_id)
client.restore_run(child.info.run_id)
""")
