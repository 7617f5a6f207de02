"""Fill stores with everything that an import brings; runs under an unmodified MLflow.

``python fill_store.py URI...``: prints, as JSON, what tests ask for by id.
"""

import json
import math
import sys

import sqlalchemy.pool

# MLflow 2.22 wants a name that newer SQLAlchemy has no more; nothing uses it.
if not hasattr(sqlalchemy.pool, "FallbackAsyncAdaptedQueuePool"):
    sqlalchemy.pool.FallbackAsyncAdaptedQueuePool = sqlalchemy.pool.AsyncAdaptedQueuePool

from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param, RunTag

import mlflow
from mlflow import MlflowClient

NEW = int(mlflow.__version__.partition(".")[0]) >= 3


class Doubler(mlflow.pyfunc.PythonModel):
    """A model small enough to load quickly."""

    def predict(self, context, model_input, params=None):
        """Twice the input."""
        return [2 * value for value in model_input]


def fill(uri: str) -> dict[str, str]:
    """Fill one store."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = MlflowClient()
    found = {}
    vision = client.create_experiment("/team/vision", tags={"owner": "ada", "ünï": "cöde 🚀"})
    gone = client.create_experiment("gone")
    renamed = client.create_experiment("old name")
    client.rename_experiment(renamed, "nächster Name")
    client.set_experiment_tag("0", "of default", "yes")

    mlflow.set_experiment("/team/vision")
    with mlflow.start_run(run_name="räuber 🦊") as parent:
        found["parent"] = parent.info.run_id
        mlflow.log_params({"lr": "0.1", "empty": "", "lines": "a\nb\r\nc ", "big": "p" * 5000})
        mlflow.set_tags(
            {"kind": "ünïcode ✓", "mlflow.note.content": "# Notes\n", "big": "t" * 5000}
        )
        mlflow.log_metric("nan", math.nan)
        mlflow.log_metric("inf", math.inf)
        mlflow.log_metric("-inf", -math.inf, step=-3)
        mlflow.log_metric("a/b c", 1e-300, step=2**40)
        points = [Metric("loss", 1 / (1 + i), 1_700_000_000_000 + i, i) for i in range(900)]
        client.log_batch(parent.info.run_id, metrics=points)
        mlflow.log_text("hello ✓", "notes/ünï code.txt")
        mlflow.log_text("", "empty.txt")
        dataset = MetaDataset(CodeDatasetSource(tags={"k": "v"}), name="digits", digest="d1")
        mlflow.log_input(dataset, context="training", tags={"more": "tags"})
        kind = {"name": "model"} if NEW else {"artifact_path": "model"}
        mlflow.pyfunc.log_model(
            python_model=Doubler(), registered_model_name="digits", pip_requirements=[], **kind
        )
        with mlflow.start_run(nested=True) as child:
            found["child"] = child.info.run_id
            mlflow.log_metric("accuracy", 0.5)
            if NEW:
                model = mlflow.initialize_logged_model("other", params={"a": "b"}, tags={"t": "v"})
                found["model"] = model.model_id
                mlflow.log_metric("accuracy", 0.75, 1, model_id=model.model_id, dataset=dataset)
                client.log_batch(
                    child.info.run_id,
                    metrics=[Metric("f1", i / 9, 1_700_000_000_000, i, model_id=model.model_id)
                             for i in range(9)],
                )  # fmt: skip
                mlflow.finalize_logged_model(model.model_id, "READY")

    failed = client.create_run(vision, start_time=5, run_name="failed", tags={"mlflow.user": "bob"})
    client.log_batch(failed.info.run_id, params=[Param("x", "1")], tags=[RunTag("y", "2")])
    for value in (1.0, 7.0):  # two values of one step
        client.log_metric(failed.info.run_id, "loss", value, 1_700_000_000_000, 0)
    client.set_terminated(failed.info.run_id, "FAILED", end_time=77)
    running = client.create_run(vision, run_name="running")
    client.log_metric(running.info.run_id, "loss", 3.0)
    found["running"] = running.info.run_id
    deleted = client.create_run(renamed, run_name="deleted")
    client.log_metric(deleted.info.run_id, "loss", 4.0)
    client.delete_run(deleted.info.run_id)
    client.create_run(gone, run_name="in a deleted experiment")
    client.delete_experiment(gone)

    source = client.get_model_version("digits", "1").source
    which = {"model_id": source.rpartition("/")[2]} if NEW else {}
    for _ in range(4):
        client.create_model_version("digits", source, run_id=parent.info.run_id, **which)
    client.delete_model_version("digits", "3")
    client.delete_model_version("digits", "5")
    client.set_registered_model_alias("digits", "champion", "2")
    client.set_registered_model_alias("digits", "challenger", "4")
    client.transition_model_version_stage("digits", "1", "Archived")
    client.transition_model_version_stage("digits", "2", "Production")
    client.update_model_version("digits", "2", "the bést")
    client.set_model_version_tag("digits", "2", "approved by", "Ada ✓")
    client.update_registered_model("digits", "Digits, read.")
    client.set_registered_model_tag("digits", "domain", "vision")
    client.create_registered_model("empty ünï", tags={"a": "b"})
    if NEW:
        mlflow.genai.register_prompt("greeting", "Hello {{name}}")
        mlflow.genai.set_prompt_alias("greeting", "live", 1)
    return found


if __name__ == "__main__":
    sys.stdout.write(f"FILLED {json.dumps([fill(uri) for uri in sys.argv[1:]])}\n")
