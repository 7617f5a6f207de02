"""Read everything in stores, field by field; runs under an unmodified MLflow.

``python read_store.py URI...``: prints a list of what each store tells, as JSON.
"""

import json
import sys

import sqlalchemy.pool

if not hasattr(sqlalchemy.pool, "FallbackAsyncAdaptedQueuePool"):
    sqlalchemy.pool.FallbackAsyncAdaptedQueuePool = sqlalchemy.pool.AsyncAdaptedQueuePool

from mlflow.entities import ViewType
from mlflow.tracking._tracking_service import utils

import mlflow
from mlflow import MlflowClient

NEW = int(mlflow.__version__.partition(".")[0]) >= 3


def points(client: MlflowClient, run_id: str, key: str):
    """A metric's history, in an order of its own; a point that was logged twice is one."""
    found = client.get_metric_history(run_id, key)
    return sorted({(m.timestamp, m.step, repr(m.value)) for m in found})


def a_run(client: MlflowClient, run):
    """A run with everything in it."""
    info, data = run.info, run.data
    found = {
        "info": [info.run_id, info.run_name, info.experiment_id, info.user_id, info.status,
                 info.start_time, info.end_time, info.lifecycle_stage],
        "params": data.params,
        "tags": data.tags,
        "latest": {key: repr(value) for key, value in data.metrics.items()},
        "histories": {key: points(client, info.run_id, key) for key in data.metrics},
        "datasets": [
            [i.dataset.to_dictionary(), {t.key: t.value for t in i.tags}]
            for i in run.inputs.dataset_inputs
        ],
        "artifacts": sorted(
            [f.path, f.is_dir, f.file_size or 0]  # MLflow's server tells no 0
            for folder in (None, "notes", "model")
            for f in client.list_artifacts(info.run_id, folder)
        ),
    }  # fmt: skip
    if NEW:
        outputs = run.outputs.model_outputs if run.outputs else []
        found["outputs"] = sorted([o.model_id, o.step] for o in outputs)
    return found


def a_version(version):
    """A version of a registered model."""
    return {
        "version": str(version.version),
        "stage": version.current_stage,
        "run_id": version.run_id,
        "description": version.description or None,
        "created": version.creation_timestamp,
        "updated": version.last_updated_timestamp,
        "tags": version.tags,
        "status": version.status,
        "aliases": sorted(version.aliases),
    }


def read(uri: str):
    """All that a store tells."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    utils._artifact_repos_cache.clear()  # it goes by run, whichever store is asked
    client = MlflowClient()
    experiments = client.search_experiments(view_type=ViewType.ALL)
    found = {
        "experiments": {
            e.name: [e.experiment_id, e.lifecycle_stage, e.tags, e.creation_time,
                     e.last_update_time]
            for e in experiments
        },
        "runs": {
            run.info.run_id: a_run(client, run)
            for e in experiments
            for run in client.search_runs([e.experiment_id], run_view_type=ViewType.ALL)
        },
        "models": {},
        "loaded": [],
    }  # fmt: skip
    for model in client.search_registered_models():
        numbers = [v.version for v in client.search_model_versions(f"name='{model.name}'")]
        found["models"][model.name] = {
            "info": [model.description or None, model.creation_timestamp,
                     model.last_updated_timestamp, model.tags,
                     {alias: str(number) for alias, number in model.aliases.items()}],
            "versions": [a_version(client.get_model_version(model.name, n))
                         for n in sorted(numbers, key=int)],
            "latest": sorted(str(v.version) for v in client.get_latest_versions(model.name)),
        }  # fmt: skip
    for which in ("models:/digits@champion", "models:/digits/Production", "models:/digits/1"):
        found["loaded"].append(mlflow.pyfunc.load_model(which).predict([1, 2]))
    if NEW:
        ids = [e.experiment_id for e in experiments if e.lifecycle_stage == "active"]
        found["logged models"] = {
            m.model_id: {
                "info": [m.name, m.experiment_id, m.status.value, m.source_run_id,
                         m.model_type or None, m.creation_timestamp, m.last_updated_timestamp],
                "params": m.params,
                "tags": m.tags,
                "metrics": sorted(
                    [x.key, repr(x.value), x.timestamp, x.step, x.run_id, x.dataset_name or None,
                     x.dataset_digest or None]
                    for x in m.metrics or ()
                ),
            }
            for m in client.search_logged_models(experiment_ids=ids)
        }  # fmt: skip
        prompt = mlflow.genai.load_prompt("prompts:/greeting@live")
        found["prompt"] = [prompt.template, str(prompt.version), prompt.tags]
    return found


if __name__ == "__main__":
    sys.stdout.write(f"READ {json.dumps([read(uri) for uri in sys.argv[1:]])}\n")
