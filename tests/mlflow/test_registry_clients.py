"""The unmodified clients, against a server: models logged, registered, promoted and loaded."""

from __future__ import annotations

import pytest

from api_server import Server
from mlflow_client import MlflowClient

pytestmark = pytest.mark.slow

_TRAIN = """
import os, mlflow.sklearn, numpy as np
from sklearn.linear_model import LinearRegression
THREE = mlflow.__version__.startswith("3")
name = "model of MLflow " + mlflow.__version__.replace(".", "-") + sys.argv[1]
mlflow.set_experiment("/" + name)
X = np.arange(10.0).reshape(-1, 1)

def train(factor, registered=name):
    with mlflow.start_run() as run:
        mlflow.log_metric("mse", 0.5 / factor)
        model = LinearRegression().fit(X, X.ravel() * factor)
        where = {"name": "model"} if THREE else {"artifact_path": "model"}
        info = mlflow.sklearn.log_model(model, registered_model_name=registered, **where)
        return run.info.run_id, info

def factor(uri):
    return round(mlflow.pyfunc.load_model(uri).predict(np.array([[1.0]]))[0])
"""


def test_promote_load_and_roll_back(mlflow_client: MlflowClient, server: Server) -> None:
    mlflow_client.run(
        _TRAIN
        + """
run_1, info_1 = train(1)
run_2, info_2 = train(2)
versions = client.search_model_versions(f"name = '{name}'", order_by=["version_number ASC"])
assert [(int(v.version), v.run_id) for v in versions] == [(1, run_1), (2, run_2)]
for uri, expected in (
    (f"models:/{name}/1", 1), (f"models:/{name}/latest", 2), (f"runs:/{run_1}/model", 1),
    (info_2.model_uri, 2),
):
    assert factor(uri) == expected, uri

client.transition_model_version_stage(name, "1", "Production")
assert factor(f"models:/{name}/Production") == 1
client.set_model_version_tag(name, "2", "modeltrail.reason", "half the error")
client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
assert factor(f"models:/{name}/Production") == 2
assert client.get_model_version(name, "1").current_stage == "Archived"
(latest,) = client.get_latest_versions(name, ["Production"])
assert int(latest.version) == 2

client.set_registered_model_alias(name, "champion", "1")
client.set_registered_model_alias(name, "champion", "2")
assert factor(f"models:/{name}@champion") == 2
client.set_registered_model_alias(name, "champion", "1")
assert factor(f"models:/{name}@champion") == 1
assert int(client.get_model_version_by_alias(name, "champion").version) == 1
client.delete_registered_model_alias(name, "champion")
try:
    client.get_model_version_by_alias(name, "champion")
except MlflowException as error:
    assert error.error_code == "INVALID_PARAMETER_VALUE", error
else:
    raise AssertionError("found an alias that was deleted")

client.update_registered_model(name, "what it does")
client.set_registered_model_tag(name, "team", "vision")
client.set_model_version_tag(name, "1", "approved_by", "ada")
assert [m.name for m in client.search_registered_models("tags.team = 'vision'")] == [name]
found = client.search_model_versions("tags.approved_by = 'ada'")
assert [v.name for v in found] == [name]
client.delete_model_version_tag(name, "1", "approved_by")
client.delete_registered_model_tag(name, "team")

copy = client.copy_model_version(f"models:/{name}/2", name + " copy")
assert factor(f"models:/{copy.name}/{copy.version}") == 2
again = mlflow.register_model(f"runs:/{run_1}/model", name + " again", tags={"a": "b"})
assert again.tags == {"a": "b"} and int(again.version) == 1
client.rename_registered_model(name + " again", name + " renamed")
client.delete_model_version(name + " renamed", "1")
client.delete_registered_model(name + " renamed")
try:
    client.create_model_version(name, source="/etc/passwd")
except MlflowException as error:
    assert "Invalid model version source" in str(error)
else:
    raise AssertionError("a local path was registered")
""",
        "",
    )
    statement = (
        "SELECT reason, request ->> '$.evidence[0].value' FROM audit "
        "WHERE type = 'TransitionModelVersionStage' AND reason IS NOT NULL"
    )
    rows = server.ask("/api/v1/sql", {"statement": statement})["rows"]
    assert ["half the error", "0.25"] in rows
    assert server.ask("/api/v1/sql", {"statement": "SELECT * FROM dead_letters"})["rows"] == []


def test_artifacts(mlflow_client: MlflowClient) -> None:
    mlflow_client.run(
        _TRAIN
        + """
with mlflow.start_run() as run:
    mlflow.log_text("hello é", "notes/a b é.txt")
    mlflow.log_dict({"a": 1}, "d.json")
    os.makedirs("many/deep"), open("many/deep/x", "wb").close(), open("many/y", "w").write("y")
    mlflow.log_artifacts("many", "many")
run_id = run.info.run_id
assert sorted(f.path for f in client.list_artifacts(run_id)) == ["d.json", "many", "notes"]
assert [(f.path, f.is_dir) for f in client.list_artifacts(run_id, "many")] == [
    ("many/deep", True), ("many/y", False)
]
assert mlflow.artifacts.load_dict(f"runs:/{run_id}/d.json") == {"a": 1}
assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/a b é.txt") == "hello é"
folder = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="many", dst_path="got")
assert sorted(os.listdir(folder)) == ["deep", "y"] and os.listdir(folder + "/deep") == ["x"]
assert client.list_artifacts(run_id, "nothing") == []
try:
    mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="nothing", dst_path="got")
except Exception as error:
    assert "nothing" in str(error), error
else:
    raise AssertionError("downloaded what is not there")
""",
        " artifacts",
    )


def test_prompts(mlflow_client: MlflowClient) -> None:
    mlflow_client.run(
        _TRAIN
        + """
prompts = mlflow.genai if THREE else mlflow
name = name.replace(" ", "-")
prompts.register_prompt(name=name, template="Hello {{who}}", commit_message="first")
prompts.register_prompt(name=name, template="Hi {{who}}", commit_message="second")
prompts.set_prompt_alias(name, alias="live", version=1)
for uri, expected in ((f"prompts:/{name}/2", "Hi you"), (f"prompts:/{name}@live", "Hello you")):
    assert prompts.load_prompt(uri).format(who="you") == expected, uri
assert name not in [m.name for m in client.search_registered_models()]
assert name in [
    m.name
    for m in client.search_registered_models("tags.`mlflow.prompt.is_prompt` = 'true'")
]
if THREE:
    assert name in [prompt.name for prompt in prompts.search_prompts()]
try:
    client.create_registered_model(name)
except MlflowException as error:
    assert "already taken by a prompt" in str(error)
else:
    raise AssertionError("a model took the name of a prompt")
""",
        "prompt",
    )


@pytest.mark.parametrize("mlflow_client", ["3"], ids=["mlflow-3"], indirect=True)
def test_logged_models(mlflow_client: MlflowClient) -> None:
    mlflow_client.run(
        _TRAIN
        + """
runs = [train(n, None) for n in (1, 2, 3)]
ids = [info.model_id for _, info in runs]
def found(*args, **options):
    models = mlflow.search_logged_models(*args, output_format="list", **options)
    return [ids.index(model.model_id) for model in models]

assert found() == [2, 1, 0]
assert found(filter_string="metrics.mse < 0.2") == [2]
assert found(order_by=[{"field_name": "metrics.mse", "ascending": False}]) == [0, 1, 2]
assert len(mlflow.search_logged_models()) == 3
model = mlflow.get_logged_model(ids[0])
assert (model.name, model.status, model.source_run_id) == ("model", "READY", runs[0][0])
outputs = client.get_run(runs[0][0]).outputs.model_outputs
assert [(output.model_id, output.step) for output in outputs] == [(ids[0], 0)]

data = mlflow.data.from_numpy(X, name="held out")
with mlflow.start_run(run_id=runs[0][0]):
    mlflow.log_metric("auc", 0.9, dataset=data, model_id=ids[0])
on_data = [{"dataset_name": "held out"}]
assert found(filter_string="metrics.auc > 0.8", datasets=on_data) == [0]
assert found(datasets=[{"dataset_name": "another"}]) == []

client.set_logged_model_tags(ids[0], {"a": "b"})
assert mlflow.get_logged_model(ids[0]).tags["a"] == "b"
client.delete_logged_model_tag(ids[0], "a")
assert "MLmodel" in [f.path for f in client.list_logged_model_artifacts(ids[0])]
version = mlflow.register_model(f"models:/{ids[0]}", name)
assert (version.run_id, factor(f"models:/{name}/1")) == (runs[0][0], 1)

model = mlflow.initialize_logged_model(name="by-hand", params={"a": "b"})
assert model.status == "PENDING"
mlflow.log_model_params({"c": "d"}, model_id=model.model_id)
model = mlflow.finalize_logged_model(model.model_id, "FAILED")
assert (model.status, mlflow.get_logged_model(model.model_id).params) == (
    "FAILED", {"a": "b", "c": "d"}
)
client.delete_logged_model(model.model_id)
assert found() == [2, 1, 0]
""",
        " logged",
    )
