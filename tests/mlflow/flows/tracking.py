"""Flows: runs are logged, changed and compared."""

from __future__ import annotations

import math
import os
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from common import THREE, client, error_of, named, refused
from mlflow.entities import Metric, Param, RunTag, ViewType

import mlflow


def set_up_and_log() -> None:
    """A run with all that can be logged in it, in an experiment with a hierarchical name."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    name = f"/search-team/{mlflow.__version__}/ranking/sweep"
    experiment = mlflow.set_experiment(name)
    assert mlflow.set_experiment(name).experiment_id == experiment.experiment_id
    Path("notes.md").write_text("# Notes")
    with mlflow.start_run(run_name="all", description="everything", tags={"team": "vision"}) as run:
        mlflow.log_params({"max_depth": "5", "lr": 0.01})
        mlflow.log_param("kind", "tree")
        for step in range(10):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"f1": 0.9, "nan": math.nan, "inf": math.inf}, step=-3)
        mlflow.set_tag("a.b/c d", "odd")
        mlflow.set_tags({"dvc.hash": "md5:1", "empty": ""})
        data = mlflow.data.from_pandas(pd.DataFrame({"x": [1.0]}), name="d", targets="x")
        mlflow.log_input(data, "training", tags={"split": "a"})
        figure, axes = pyplot.subplots()
        axes.plot([1, 2])
        mlflow.log_figure(figure, "plots/loss.png")
        mlflow.log_dict({"a": [1]}, "config.json")
        mlflow.log_dict({"a": [1]}, "config.yaml")
        mlflow.log_text("é", "notes/a b é.txt")
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "zero.png")
        mlflow.log_table({"q": ["a"], "n": [1]}, "table.json")
        mlflow.log_artifact("notes.md", "notes")
    found = client.get_run(run.info.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.end_time >= found.info.start_time
    assert found.info.run_name == found.data.tags["mlflow.runName"] == "all"
    assert found.data.tags["mlflow.note.content"] == "everything"
    assert found.data.params == {"max_depth": "5", "lr": "0.01", "kind": "tree"}
    assert found.data.metrics["loss"] == 0.1
    assert math.isnan(found.data.metrics["nan"])
    assert found.data.metrics["inf"] == math.inf
    assert found.data.tags["a.b/c d"] == "odd"
    assert found.data.tags["empty"] == ""
    (used,) = found.inputs.dataset_inputs
    assert used.dataset.name == "d"
    assert {tag.key: tag.value for tag in used.tags} == {
        "mlflow.data.context": "training",
        "split": "a",
    }
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(n, 1 / (n + 1)) for n in range(10)]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {
        *("config.json", "config.yaml", "notes", "plots", "table.json", "zero.png"),
    }, files
    assert mlflow.data.get_source(used.dataset).to_dict()


def artifacts() -> None:
    """Files and folders go up, are listed, and come down."""
    with mlflow.start_run() as run:
        mlflow.log_text("hello é", "notes/a b é.txt")
        mlflow.log_dict({"a": 1}, "d.json")
        os.makedirs("many/deep")
        Path("many/deep/x").touch()
        Path("many/y").write_text("y")
        mlflow.log_artifacts("many", "many")
    run_id = run.info.run_id
    assert sorted(f.path for f in client.list_artifacts(run_id)) == ["d.json", "many", "notes"]
    assert [(f.path, f.is_dir, f.file_size) for f in client.list_artifacts(run_id, "many")] == [
        ("many/deep", True, None),
        ("many/y", False, 1),
    ]
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/d.json") == {"a": 1}
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/a b é.txt") == "hello é"
    folder = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="many", dst_path="got"
    )
    assert sorted(os.listdir(folder)) == ["deep", "y"]
    assert os.listdir(folder + "/deep") == ["x"]
    assert client.list_artifacts(run_id, "nothing") == []
    gone = {"run_id": run_id, "artifact_path": "nothing", "dst_path": "got"}
    assert "nothing" in str(error_of(mlflow.artifacts.download_artifacts, **gone))


def nested_runs() -> None:
    """A parent sweep and its trials, one of which dies."""
    with mlflow.start_run(run_name="sweep") as parent:
        for depth in range(3):
            with mlflow.start_run(nested=True, run_name=f"trial {depth}"):
                mlflow.log_param("depth", depth)
                mlflow.log_metric("loss", 1 / (1 + depth))
        try:
            with mlflow.start_run(nested=True, run_name="dies"):
                raise RuntimeError("out of memory")
        except RuntimeError:
            pass
    children = mlflow.search_runs(
        filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'",
        order_by=["metrics.loss ASC"],
    )
    assert list(children["tags.mlflow.runName"]) == ["trial 2", "trial 1", "trial 0", "dies"]
    assert list(children.status) == ["FINISHED"] * 3 + ["FAILED"]
    assert mlflow.get_parent_run(children.run_id[0]).info.run_id == parent.info.run_id
    with mlflow.start_run(run_id=parent.info.run_id):
        assert client.get_run(parent.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("best", 1 / 3)
    assert client.get_run(parent.info.run_id).info.status == "FINISHED"


def log_without_waiting() -> None:
    """Asynchronous logging, in batches larger than a request may have."""
    with mlflow.start_run() as run:
        for step in range(300):
            mlflow.log_metric("loss", step, step=step, synchronous=False)
        mlflow.log_params({f"p{n}": n for n in range(250)}, synchronous=False)
        mlflow.flush_async_logging()
    run_id = run.info.run_id
    assert [m.step for m in client.get_metric_history(run_id, "loss")] == list(range(300))
    assert len(client.get_run(run_id).data.params) == 250
    metrics = [Metric("m", step, 1, step) for step in range(900)]
    client.log_batch(run_id, metrics, [Param("a", "b")], [RunTag("c", "d")])
    client.log_batch(run_id, metrics)  # a batch that is sent again changes nothing
    assert len(client.get_metric_history(run_id, "m")) == 900


def compare() -> None:
    """Runs are found by what is in them, in order, page by page, as a data frame."""
    runs = []
    for n, (auc, f1) in enumerate([(0.80, 0.5), (0.86, 0.7), (0.90, 0.6), (0.95, 0.9)]):
        with mlflow.start_run(run_name=f"run {n}") as run:
            mlflow.log_metrics({"val_auc": auc, "f1": f1})
            mlflow.log_params({"max_depth": 5 if n != 2 else 7, "lr": 10.0**-n})
            mlflow.set_tag("a.b/c d", "odd")
            data = mlflow.data.from_numpy(np.array([n]), name=f"d{n}")
            mlflow.log_input(data, "validation")
        runs.append(run.info.run_id)
    experiment_id = run.info.experiment_id

    def ids(text: str, **options: object) -> list[int]:
        found = client.search_runs([experiment_id], text, **options)
        return [runs.index(r.info.run_id) for r in found]

    best = ["metrics.f1 DESC"]
    query = "metrics.val_auc > 0.85 and params.max_depth = '5'"
    assert ids(query, order_by=best) == [3, 1]
    assert ids(query, order_by=best, max_results=1) == [3]
    assert ids("", order_by=["params.lr ASC", "start_time DESC"]) == [3, 2, 1, 0]
    assert ids("attributes.run_name LIKE 'run %' and dataset.name = 'd2'") == [2]
    assert ids(f"run_id IN ('{runs[0]}', '{runs[2]}')", order_by=best) == [2, 0]
    assert ids("tags.`a.b/c d` = 'odd' and metrics.f1 >= 0.9") == [3]
    assert ids("metrics.f1 < 0.55 OR params.lr < 0.05 AND NOT (metrics.f1 > 0.8)") == [2, 0]
    assert ids("status = 'RUNNING'") == []
    first = client.search_runs([experiment_id], max_results=3)
    second = client.search_runs([experiment_id], max_results=3, page_token=first.token)
    assert [len(first), len(second), second.token] == [3, 1, None]

    frame = mlflow.search_runs(filter_string=query, order_by=best, max_results=10)
    assert [runs.index(r) for r in frame.run_id] == [3, 1]
    assert frame["metrics.f1"].tolist() == [0.9, 0.7]
    assert frame["params.max_depth"].tolist() == ["5", "5"]
    assert str(frame.start_time.dtype).startswith("datetime64")
    name = client.get_experiment(experiment_id).name
    by_name = mlflow.search_runs(experiment_names=[name], output_format="list")
    assert len(by_name) == 4
    everywhere = mlflow.search_runs(search_all_experiments=True, filter_string="metrics.f1 > 0.85")
    assert runs[3] in set(everywhere.run_id)
    message = refused("INVALID_PARAMETER_VALUE", ids, "metrics.f1 > '5'")
    assert "f1" in message or "5" in message


def change_and_refuse() -> None:
    """What may be changed is, and what may not is refused with MLflow's codes."""
    invalid, absent = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
    first, second = named("changes"), named("changed")
    experiment = client.create_experiment(first, tags={"a": "b"})
    run = client.create_run(experiment).info.run_id
    client.log_param(run, "depth", 3)
    client.log_param(run, "depth", 3)
    message = refused(invalid, client.log_param, run, "depth", 5)
    assert "Param with key='depth' was already logged with value='3'" in message
    refused(invalid, client.log_batch, run, params=[Param(k, "x") for k in ("new", "depth")])
    assert client.get_run(run).data.params == {"depth": "3"}
    client.set_tag(run, "mlflow.runName", "one")
    assert client.get_run(run).info.run_name == "one"
    client.update_run(run, name="two")
    assert client.get_run(run).data.tags["mlflow.runName"] == "two"
    client.set_tag(run, "k", "v")
    client.delete_tag(run, "k")
    refused(absent, client.delete_tag, run, "k")
    client.delete_run(run)
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    assert client.search_runs([experiment]) == []
    (deleted,) = client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert deleted.info.run_id == run
    refused(invalid, client.log_metric, run, "m", 1)
    client.restore_run(run)
    client.log_metric(run, "m", 1)
    client.set_terminated(run, "FAILED")
    client.delete_experiment(experiment)
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    refused(invalid, client.create_run, experiment)
    client.restore_experiment(experiment)
    assert client.get_run(run).info.lifecycle_stage == "active"
    client.rename_experiment(experiment, second)
    client.set_experiment_tag(experiment, "c", "d")
    (found,) = client.search_experiments(filter_string=f"name = '{second}'")
    assert found.tags == {"a": "b", "c": "d"}
    refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, second)
    refused(invalid, client.search_runs, [experiment], "metrics.x > '5'")
    refused(absent, client.get_run, "0" * 32)
    assert client.get_experiment_by_name("nope") is None


def prompts() -> None:
    """Prompts are registered models with a text, and stay out of the list of models."""
    prompts = mlflow.genai if THREE else mlflow
    name = named("prompt").replace(" ", "-")
    prompts.register_prompt(name=name, template="Hello {{who}}", commit_message="first")
    prompts.register_prompt(name=name, template="Hi {{who}}", commit_message="second")
    prompts.set_prompt_alias(name, alias="live", version=1)
    for uri, expected in ((f"prompts:/{name}/2", "Hi you"), (f"prompts:/{name}@live", "Hello you")):
        assert prompts.load_prompt(uri).format(who="you") == expected, uri
    assert name not in [m.name for m in client.search_registered_models()]
    tagged = client.search_registered_models("tags.`mlflow.prompt.is_prompt` = 'true'")
    assert name in [m.name for m in tagged]
    if THREE:
        assert name in [prompt.name for prompt in prompts.search_prompts()]
    message = refused("RESOURCE_ALREADY_EXISTS", client.create_registered_model, name)
    assert "already taken by a prompt" in message
