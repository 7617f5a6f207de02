"""Logged models over MLflow's REST API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., Any]


@pytest.fixture
def run_id(ask: Ask) -> str:
    return str(ask("POST", "runs/create", experiment_id="0")["run"]["info"]["run_id"])


def create(ask: Ask, **fields: Any) -> str:
    created = ask("POST", "logged-models", experiment_id="0", **fields)
    return str(created["model"]["info"]["model_id"])


def metric(ask: Ask, run_id: str, model_id: str, value: Any, step: int = 0, **more: Any) -> None:
    fields = {"key": "acc", "value": value, "timestamp": 100 + step, "step": step, **more}
    ask("POST", "runs/log-metric", run_id=run_id, model_id=model_id, **fields)


def test_from_creation_to_deletion(ask: Ask, run_id: str) -> None:
    fields = {
        "name": "tree",
        "model_type": "classifier",
        "source_run_id": run_id,
        "params": [{"key": "depth", "value": "5"}],
        "tags": [{"key": "team", "value": "vision"}],
    }
    created = ask("POST", "logged-models", experiment_id="0", **fields)["model"]
    info = created["info"]
    model_id = info["model_id"]
    assert created["data"] == {"params": fields["params"]}
    assert info["status"] == "LOGGED_MODEL_PENDING"
    assert info["artifact_uri"] == f"mlflow-artifacts:/0/models/{model_id}/artifacts"
    assert (info["name"], info["source_run_id"], info["tags"]) == ("tree", run_id, fields["tags"])
    path = f"logged-models/{model_id}"
    assert ask("GET", path)["model"] == created

    ready = ask("PATCH", path, model_id=model_id, status="LOGGED_MODEL_READY")["model"]["info"]
    assert ready["status"] == "LOGGED_MODEL_READY"
    assert ready["last_updated_timestamp_ms"] >= info["last_updated_timestamp_ms"]
    failed = ask("PATCH", path, model_id=model_id, status=3)["model"]["info"]
    assert failed["status"] == "LOGGED_MODEL_UPLOAD_FAILED"
    ask("PATCH", path, 400, model_id=model_id)
    ask("PATCH", path, 400, model_id=model_id, status="DONE")

    ask("PATCH", f"{path}/tags", tags=[{"key": "a/b", "value": "1"}, {"key": "c", "value": "2"}])
    ask("DELETE", f"{path}/tags/a/b")
    missing = ask("DELETE", f"{path}/tags/a/b", 404)
    assert missing["message"] == f"No tag with key 'a/b' found for model with ID '{model_id}'."
    ask("POST", f"{path}/params", model_id=model_id, params=[{"key": "lr", "value": "0.1"}])
    ask("POST", f"{path}/params", model_id=model_id, params=[{"key": "lr", "value": "0.1"}])
    ask("POST", f"{path}/params", 400, model_id=model_id, params=[{"key": "lr", "value": "0.2"}])
    model = ask("GET", path)["model"]
    assert {t["key"]: t["value"] for t in model["info"]["tags"]} == {"team": "vision", "c": "2"}
    assert {p["key"]: p["value"] for p in model["data"]["params"]} == {"depth": "5", "lr": "0.1"}

    ask("DELETE", path)
    ask("DELETE", path)
    gone = ask("GET", path, 404)
    assert gone["message"] == f"Logged model with ID '{model_id}' not found."
    assert ask("GET", path, allow_deleted="true")["model"]["info"]["model_id"] == model_id
    assert ask("POST", "logged-models/search", experiment_ids=["0"]) == {}


def test_what_is_refused(ask: Ask) -> None:
    ask("POST", "logged-models", 400)
    ask("POST", "logged-models", 404, experiment_id="999")
    for name in ("a/b", "a:b", "a.b", "100%", "it's"):
        refusal = ask("POST", "logged-models", 400, experiment_id="0", name=name)
        assert "cannot contain the following characters" in refusal["message"]
    experiment = ask("POST", "experiments/create", name="gone")
    ask("POST", "experiments/delete", **experiment)
    assert "'active' state" in ask("POST", "logged-models", 400, **experiment)["message"]
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("PATCH", "/tags"),
        ("POST", "/params"),
        ("GET", "/artifacts/directories"),
    ):
        ask(method, f"logged-models/m-nobody{path}", 404)


def test_what_runs_used_and_made(ask: Ask, run_id: str) -> None:
    model_id = create(ask)
    outputs = [{"model_id": model_id, "step": 3}]
    for _ in range(2):  # a client may repeat a request whose answer was lost
        ask("POST", "runs/outputs", run_id=run_id, models=outputs)
        ask("POST", "runs/log-inputs", run_id=run_id, models=[{"model_id": model_id}])
    run = ask("GET", "runs/get", run_id=run_id)["run"]
    assert run["inputs"] == {"model_inputs": [{"model_id": model_id}]}
    assert run["outputs"] == {"model_outputs": outputs}
    (found,) = ask("POST", "runs/search", experiment_ids=["0"])["runs"]
    assert found["outputs"] == run["outputs"]
    ask("POST", "runs/outputs", 404, run_id="nobody", models=outputs)
    ask("POST", "runs/outputs", 400, run_id=run_id)


def test_metrics_of_a_model(ask: Ask, run_id: str) -> None:
    model_id = create(ask)
    metric(ask, run_id, model_id, 0.5, 1, dataset_name="d", dataset_digest="g")
    metric(ask, run_id, model_id, "NaN", 2)
    metric(ask, run_id, model_id, "NaN", 2)
    shown = ask("GET", f"logged-models/{model_id}")["model"]["data"]["metrics"]
    base = {"key": "acc", "model_id": model_id, "run_id": run_id}
    first = {"value": 0.5, "timestamp": 101, "step": 1}
    assert shown == [
        {**base, **first, "dataset_name": "d", "dataset_digest": "g"},
        {**base, "value": "NaN", "timestamp": 102, "step": 2},
    ]


def test_search(ask: Ask, run_id: str) -> None:
    models = [create(ask, name=f"model {n}", source_run_id=run_id) for n in range(4)]
    for n, model_id in enumerate(models[:3]):
        metric(ask, run_id, model_id, 0.1 * n, dataset_name=f"set {n}", dataset_digest="x")
    metric(ask, run_id, models[0], 0.9, 1, dataset_name="set 1", dataset_digest="y")
    metric(ask, run_id, models[3], "NaN")
    ask("PATCH", f"logged-models/{models[2]}", status="LOGGED_MODEL_READY")
    params = [{"key": "depth", "value": "10"}]
    ask("POST", f"logged-models/{models[1]}/params", params=params)

    def search(filter: str = "", status: int = 200, **fields: Any) -> Any:
        fields.setdefault("experiment_ids", ["0"])
        return ask("POST", "logged-models/search", status, filter=filter, **fields)

    def found(filter: str = "", **fields: Any) -> list[int]:
        ids = [m["info"]["model_id"] for m in search(filter, **fields).get("models", [])]
        return [models.index(model_id) for model_id in ids]

    assert found() == [3, 2, 1, 0]
    assert found("name = 'model 1'") == [1]
    assert found("name LIKE 'model%' AND status = 'READY'") == [2]
    assert found(f"source_run_id = '{run_id}' AND creation_timestamp > 5") == [3, 2, 1, 0]
    assert found("metrics.acc > 0.15") == [2, 0]
    assert found("params.depth = '10' OR metrics.acc > 0.8") == [1, 0]
    assert found("params.depth > 9") == [1]
    assert found("metrics.acc >= 0", datasets=[{"dataset_name": "set 1"}]) == [1, 0]
    on_y = [{"dataset_name": "set 1", "dataset_digest": "y"}]
    assert found("metrics.acc < 0.8", datasets=on_y) == []
    assert found(datasets=on_y) == [0]
    assert found(experiment_ids=["1"]) == []
    assert found(order_by=[{"field_name": "name"}]) == [0, 1, 2, 3]
    by_metric = {"field_name": "metrics.acc", "ascending": False}
    assert found(order_by=[by_metric]) == [0, 2, 1, 3]
    assert found(order_by=[{**by_metric, "dataset_name": "set 1"}]) == [0, 1, 3, 2]
    on_x = {"dataset_digest": "x"}
    assert found(order_by=[{**by_metric, **on_x}]) == [2, 1, 0, 3]
    assert found(order_by=[{**by_metric, **on_x, "dataset_name": "set 1"}]) == [1, 3, 2, 0]

    page = search(max_results=3)
    assert len(page["models"]) == 3
    token = page["next_page_token"]
    rest = search(max_results=3, page_token=token)
    assert [m["info"]["model_id"] for m in rest["models"]] == [models[0]]
    assert "next_page_token" not in rest
    search("name = 'x'", 400, page_token=token)
    refused: tuple[dict[str, Any], ...] = (
        {"filter": "foo = 'x'"},
        {"filter": "metrics.acc > 'x'"},
        {"page_token": "xx"},
        {"order_by": [{"field_name": "bad"}]},
        {"order_by": [{"field_name": "params.depth"}]},
        {"datasets": [{"dataset_name": ""}]},
        {"experiment_ids": []},
        {"max_results": 1001},
    )
    for wrong in refused:
        assert search(status=400, **wrong)["error_code"] == "INVALID_PARAMETER_VALUE"


def test_a_version_of_a_logged_model(ask: Ask, run_id: str) -> None:
    model_id = create(ask, source_run_id=run_id)
    other = create(ask)
    ask("POST", "registered-models/create", name="m")
    uri = f"mlflow-artifacts:/0/models/{model_id}/artifacts"
    for source in (f"models:/{model_id}", uri):
        for given in ({"model_id": model_id}, {}):
            made = ask("POST", "model-versions/create", name="m", source=source, **given)
            assert made["model_version"]["run_id"] == run_id
            number = made["model_version"]["version"]
            found = ask("GET", "model-versions/get-download-uri", name="m", version=number)
            assert found == {"artifact_uri": uri}
        refused = {"name": "m", "source": source, "model_id": other}
        ask("POST", "model-versions/create", 400, **refused)
    tags = ask("GET", f"logged-models/{model_id}")["model"]["info"]["tags"]
    (versions,) = [tag["value"] for tag in tags if tag["key"] == "mlflow.modelVersions"]
    assert versions.startswith('[{"name": "m", "version": 1}, {"name": "m", "version": 2}')
