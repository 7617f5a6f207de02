"""Flows: models are logged, registered, promoted, gated, loaded and rolled back."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

import pandas as pd
from common import PINNED, X, client, error_of, factor, named, refused, train, where
from mlflow.models import infer_signature
from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider
from mlflow.tracking.request_header.registry import _request_header_provider_registry
from sklearn.linear_model import LinearRegression

import mlflow

GATE = Path(__file__).with_name("gate.py")


def signature_and_example() -> None:
    """A model with signature and example, registered as it is logged."""
    name = named("signed")
    frame = pd.DataFrame({"x": X.ravel()})
    model = LinearRegression().fit(frame, X.ravel())
    with mlflow.start_run() as run:
        info = mlflow.sklearn.log_model(
            model,
            registered_model_name=name,
            signature=infer_signature(frame, model.predict(frame)),
            input_example=frame.head(2),
            **where("model"),
            **PINNED,
        )
    assert info.signature.inputs.input_names() == ["x"]
    assert int(info.registered_model_version) == 1
    version = client.get_model_version(name, "1")
    assert (version.run_id, version.status) == (run.info.run_id, "READY")
    loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
    assert loaded.metadata.signature == info.signature
    assert [round(y) for y in loaded.predict(loaded.input_example)] == [0, 1]
    error = error_of(loaded.predict, pd.DataFrame({"z": [1.0]}))
    assert "x" in str(error), "the signature that came back was not enforced"


class Words(mlflow.pyfunc.PythonModel):
    """Looks words up in a file."""

    def load_context(self, context):
        """Read the file."""
        lines = Path(context.artifacts["words"]).read_text(encoding="utf-8").splitlines()
        self.words = dict(line.split("=") for line in lines)

    def predict(self, context, model_input, params=None):
        """The words' meanings."""
        return [self.words.get(word, "?") for word in model_input["word"]]


def custom_model() -> None:
    """A Python model of one's own, with files that it needs."""
    Path("words.txt").write_text("chat=cat\nété=summer\n", encoding="utf-8")
    with mlflow.start_run() as run:
        mlflow.pyfunc.log_model(
            python_model=Words(),
            artifacts={"words": "words.txt"},
            pip_requirements=[],
            **where("words"),
        )
    loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/words")
    assert loaded.predict(pd.DataFrame({"word": ["été", "chien"]})) == ["summer", "?"]


def register() -> None:
    """Versions from runs and by hand, described and tagged, renamed, copied and deleted."""
    name = named("registered")
    run_1, run_2 = train(1), train(2)
    first = mlflow.register_model(f"runs:/{run_1}/model", name, tags={"approved_by": "ada"})
    client.create_registered_model(named("empty"), tags={"a": "b"}, description="nothing yet")
    refused("RESOURCE_ALREADY_EXISTS", client.create_registered_model, name)
    source = f"runs:/{run_2}/model"
    second = client.create_model_version(name, source, run_2, description="twice as good")
    assert [int(first.version), int(second.version)] == [1, 2]
    assert (first.run_id, second.run_id) == (run_1, run_2)
    assert (first.tags, second.description) == ({"approved_by": "ada"}, "twice as good")
    versions = client.search_model_versions(f"name = '{name}'", order_by=["version_number ASC"])
    assert [(int(v.version), v.run_id) for v in versions] == [(1, run_1), (2, run_2)]
    assert [int(v.version) for v in client.search_model_versions(f"run_id = '{run_2}'")] == [2]

    client.update_registered_model(name, "what it does")
    client.update_model_version(name, "1", "the first")
    client.set_registered_model_tag(name, "team", "vision")
    for key, value in {"training_data": "md5:1", "training_commit": "abc"}.items():
        client.set_model_version_tag(name, "2", key, value)
    model = client.get_registered_model(name)
    assert (model.description, model.tags) == ("what it does", {"team": "vision"})
    assert name in [m.name for m in client.search_registered_models("tags.team = 'vision'")]
    found = client.search_model_versions(f"name = '{name}' and tags.training_data = 'md5:1'")
    assert [int(v.version) for v in found] == [2]
    client.delete_model_version_tag(name, "2", "training_data")
    client.delete_registered_model_tag(name, "team")
    assert client.get_model_version(name, "2").tags == {"training_commit": "abc"}

    assert factor(f"models:/{name}/2") == 2  # on a server of MLflow 3 its own client fails here
    copy = client.copy_model_version(f"models:/{name}/2", named("copy"))
    assert factor(f"models:/{copy.name}/{copy.version}") == 2
    client.rename_registered_model(name, named("renamed"))
    assert factor(f"models:/{named('renamed')}/1") == 1
    refused("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, name)
    client.delete_model_version(named("renamed"), "2")
    assert int(mlflow.register_model(f"runs:/{run_2}/model", named("renamed")).version) == 3
    client.delete_registered_model(named("renamed"))
    message = refused(
        "INVALID_PARAMETER_VALUE", client.create_model_version, copy.name, "/etc/passwd"
    )
    assert "Invalid model version source" in message


def promote_by_stage() -> None:
    """Staging, Production, and what was there before is archived."""
    name = named("staged")
    for n in (1, 2, 3):
        train(n, name)
    client.transition_model_version_stage(name, "1", "Production")
    client.transition_model_version_stage(name, "2", "staging")
    assert factor(f"models:/{name}/Production") == 1
    latest = client.get_latest_versions(name, stages=["Production", "Staging", "None"])
    assert {v.current_stage: int(v.version) for v in latest} == {
        **{"Production": 1, "Staging": 2, "None": 3},
    }
    client.set_model_version_tag(name, "2", "modeltrail.reason", "half the error")
    moved = client.transition_model_version_stage(
        name, "2", "Production", archive_existing_versions=True
    )
    assert moved.current_stage == "Production"
    assert client.get_model_version(name, "1").current_stage == "Archived"
    assert factor(f"models:/{name}/Production") == 2
    assert factor(f"models:/{name}/latest") == 3
    refused("INVALID_PARAMETER_VALUE", client.transition_model_version_stage, name, "3", "Released")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_model_version, name, "4")


def promote_by_alias() -> None:
    """Champion and challenger; loading by alias, number, run and logged model."""
    name = named("aliased")
    run_1, run_2 = train(1, name), train(2, name)
    message = refused(
        "INVALID_PARAMETER_VALUE", client.get_model_version_by_alias, name, "champion"
    )
    assert "Registered model alias champion not found" in message
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "challenger", "2")
    assert factor(f"models:/{name}@champion") == 1
    client.set_registered_model_alias(name, "previous-champion", "1")
    client.set_registered_model_alias(name, "champion", "2")
    client.delete_registered_model_alias(name, "challenger")
    aliases = client.get_registered_model(name).aliases
    assert {k: int(v) for k, v in aliases.items()} == {"champion": 2, "previous-champion": 1}
    for uri, expected in (
        (f"models:/{name}@champion", 2),
        (f"models:/{name}@previous-champion", 1),
        (f"models:/{name}/1", 1),
        (f"models:/{name}/latest", 2),
        (f"runs:/{run_1}/model", 1),
        (f"runs:/{run_2}/model", 2),
    ):
        assert factor(uri) == expected, uri
    refused("INVALID_PARAMETER_VALUE", factor, f"models:/{name}@challenger")
    refused("RESOURCE_DOES_NOT_EXIST", client.set_registered_model_alias, name, "champion", "9")
    assert int(client.get_model_version_by_alias(name, "champion").version) == 2


def gate() -> None:
    """A script in CI promotes the challenger, or ends with 1."""
    name = named("gated")
    train(1, name, auc=0.90)
    train(2, name, auc=0.905)
    train(3, name, auc=0.95)
    client.set_registered_model_alias(name, "champion", "1")

    def judged(version: int) -> object:
        client.set_registered_model_alias(name, "challenger", str(version))
        arguments, sys.argv = sys.argv, [str(GATE), name]
        try:
            runpy.run_path(str(GATE), run_name="__main__")
        except SystemExit as exit:
            return exit.code
        finally:
            sys.argv = arguments
        return 0

    assert judged(2) == 1
    assert int(client.get_model_version_by_alias(name, "champion").version) == 1
    assert judged(3) == 0
    assert int(client.get_model_version_by_alias(name, "champion").version) == 3
    assert int(client.get_model_version_by_alias(name, "previous-champion").version) == 1
    assert factor(f"models:/{name}@champion") == 3


class Reason(RequestHeaderProvider):
    """Says why, in the header that the server reads; MLflow finds such classes as plugins."""

    text: str | None = None

    def in_context(self):
        """Whether there is a reason."""
        return self.text is not None

    def request_headers(self):
        """The header."""
        return {"X-Modeltrail-Reason": self.text}


def roll_back() -> None:
    """The champion goes back, and the bad version says why and since when."""
    name = named("rolled back")
    train(1, name)
    train(2, name)
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "champion", "2")
    bad = client.get_model_version_by_alias(name, "champion")
    client.set_model_version_tag(name, bad.version, "rolled_back_because", "latency doubled")
    client.set_model_version_tag(name, bad.version, "rolled_back_at", str(int(time.time())))
    client.set_model_version_tag(name, "1", "modeltrail.reason", "2 is slow: back, said by a tag")
    client.set_registered_model_alias(name, "champion", "1")
    assert factor(f"models:/{name}@champion") == 1
    _request_header_provider_registry.register(Reason)
    try:
        Reason.text = "2 was innocent: forth, said by a header"
        client.set_registered_model_alias(name, "champion", "2")
    finally:
        Reason.text = None
    assert factor(f"models:/{name}@champion") == 2


def logged_models() -> None:
    """MLflow 3: models with lives of their own, searched by metrics on a dataset."""
    ids = []
    for n in (1, 2, 3):
        with mlflow.start_run() as run:
            mlflow.log_metric("mse", 0.5 / n)
            model = LinearRegression().fit(X, X.ravel() * n)
            ids.append(mlflow.sklearn.log_model(model, name="model", **PINNED).model_id)

    def found(*args, **options):
        models = mlflow.search_logged_models(*args, output_format="list", **options)
        return [ids.index(model.model_id) for model in models]

    assert found() == [2, 1, 0]
    assert found(filter_string="metrics.mse < 0.2") == [2]
    assert found(order_by=[{"field_name": "metrics.mse", "ascending": False}]) == [0, 1, 2]
    assert len(mlflow.search_logged_models()) == 3
    model = mlflow.get_logged_model(ids[2])
    assert (model.name, str(model.status), model.source_run_id) == (
        "model",
        "READY",
        run.info.run_id,
    )
    outputs = client.get_run(run.info.run_id).outputs.model_outputs
    assert [(output.model_id, output.step) for output in outputs] == [(ids[2], 0)]
    assert factor(f"models:/{ids[1]}") == 2

    data = mlflow.data.from_numpy(X, name="held out")
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_metric("auc", 0.9, dataset=data, model_id=ids[2])
    on_data = [{"dataset_name": "held out"}]
    assert found(filter_string="metrics.auc > 0.8", datasets=on_data) == [2]
    assert found(datasets=[{"dataset_name": "another"}]) == []

    client.set_logged_model_tags(ids[0], {"a": "b"})
    assert mlflow.get_logged_model(ids[0]).tags["a"] == "b"
    client.delete_logged_model_tag(ids[0], "a")
    assert "a" not in mlflow.get_logged_model(ids[0]).tags
    assert "MLmodel" in [f.path for f in client.list_logged_model_artifacts(ids[0])]
    name = named("from a logged model")
    version = mlflow.register_model(f"models:/{ids[2]}", name)
    assert (version.run_id, factor(f"models:/{name}/1")) == (run.info.run_id, 3)

    model = mlflow.initialize_logged_model(name="by-hand", params={"a": "b"})
    assert str(model.status) == "PENDING"
    mlflow.log_model_params({"c": "d"}, model_id=model.model_id)
    model = mlflow.finalize_logged_model(model.model_id, "FAILED")
    assert str(model.status) == "FAILED"
    assert mlflow.get_logged_model(model.model_id).params == {"a": "b", "c": "d"}
    client.delete_logged_model(model.model_id)
    assert found() == [2, 1, 0]
