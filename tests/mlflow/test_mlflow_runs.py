"""The tracking endpoints, one call at a time."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol

import pytest
from starlette.testclient import TestClient

from access_users import make_user
from api_server import Job
from modeltrail.api.access.rights import Access
from modeltrail.api.actor import Actor, Asker
from modeltrail.api.app import create_app
from modeltrail.api.node import Node
from modeltrail.api.runs.live import LiveRuns
from modeltrail.eventlog import RUNS, NewEvent


class Ask(Protocol):
    def __call__(self, method: str, path: str, status: int = 200, /, **fields: Any) -> Any: ...


def new_run(ask: Ask, **fields: Any) -> str:
    answer = ask("POST", "runs/create", **{"experiment_id": "0", "start_time": 5, **fields})
    run_id: str = answer["run"]["info"]["run_id"]
    return run_id


def data(ask: Ask, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = ask("GET", "runs/get", run_id=run_id)["run"]["data"]
    return found


def point(key: str, value: float | str, step: int = 0, timestamp: int = 1) -> dict[str, Any]:
    return {"key": key, "value": value, "step": step, "timestamp": timestamp}


def test_both_prefixes_and_unknown_paths(client: TestClient) -> None:
    for prefix in ("/api", "/ajax-api"):
        path = f"{prefix}/2.0/mlflow/experiments/get-by-name"
        answer = client.get(path, params={"experiment_name": "Default"})
        assert answer.json()["experiment"]["experiment_id"] == "0"
    for method, path in [
        ("GET", "/api/2.0/mlflow/nothing/here"),
        ("POST", "/ajax-api/3.0/mlflow/traces/search"),
        ("GET", "/api/2.0/mlflow/runs/create"),
        ("DELETE", "/api/9.9/mlflow/x"),
    ]:
        answer = client.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["error_code"] == "ENDPOINT_NOT_FOUND"
        assert path in answer.json()["message"]


def test_what_the_server_is(client: TestClient) -> None:
    assert client.get("/version").text.count(".") == 2
    assert client.get("/health").status_code == 200
    info = client.get("/api/3.0/mlflow/server-info").json()
    assert info["workspaces_enabled"] is False


def test_a_run_and_all_of_it(ask: Ask) -> None:
    run_id = new_run(ask, user_id="ada", run_name="n", tags=[{"key": "t", "value": "x"}])
    ask("POST", "runs/log-metric", run_id=run_id, **point("m", "NaN", 2))
    ask("POST", "runs/log-metric", run_id=run_id, **point("m", 1, 3))
    ask("POST", "runs/log-metric", run_id=run_id, **point("m", 1, 3))
    ask("POST", "runs/log-parameter", run_id=run_id, key="p", value="")
    run = ask("GET", "runs/get", run_id=run_id)["run"]
    assert run == {
        "info": {
            "run_id": run_id,
            "run_uuid": run_id,
            "run_name": "n",
            "experiment_id": "0",
            "user_id": "ada",
            "status": "RUNNING",
            "start_time": 5,
            "artifact_uri": f"mlflow-artifacts:/0/{run_id}/artifacts",
            "lifecycle_stage": "active",
        },
        "data": {
            "metrics": [{"key": "m", "value": 1.0, "timestamp": 1, "step": 3}],
            "params": [{"key": "p", "value": ""}],
            "tags": [{"key": "mlflow.runName", "value": "n"}, {"key": "t", "value": "x"}],
        },
        "inputs": {},
        "outputs": {},
    }
    history = ask("GET", "metrics/get-history", run_id=run_id, metric_key="m")["metrics"]
    assert [(p["step"], p["value"]) for p in history] == [(2, "NaN"), (3, 1.0)]


def test_the_latest_point_goes_by_step_then_time_then_value(ask: Ask) -> None:
    run_id = new_run(ask)
    points = [(5, 1, 1.0), (5, 3, 2.0), (5, 3, 1.5), (4, 9, 9.0), (-1, 99, 99.0)]
    metrics = [point("m", value, step, time) for step, time, value in points]
    ask("POST", "runs/log-batch", run_id=run_id, metrics=metrics)
    # The same metric of a model counts in the run, too, and one that is equal is one point.
    more = [{**point("m", 2.0, 5, 3), "model_id": "m-1"}, {**point("m", 7, 6), "model_id": "m-1"}]
    ask("POST", "runs/log-batch", run_id=run_id, metrics=more)
    assert data(ask, run_id)["metrics"] == [{"key": "m", "value": 7.0, "timestamp": 1, "step": 6}]
    history = ask("GET", "metrics/get-history", run_id=run_id, metric_key="m")["metrics"]
    assert len(history) == 6
    assert [p["timestamp"] for p in history] == sorted(p["timestamp"] for p in history)
    found = ask("POST", "runs/search", filter="metrics.m = 7", order_by=["metrics.m"])
    assert len(found["runs"]) == 1


def test_name_and_tag_are_one(ask: Ask) -> None:
    run_id = new_run(ask, tags=[{"key": "mlflow.runName", "value": "a"}])

    def names() -> set[str]:
        run = ask("GET", "runs/get", run_id=run_id)["run"]
        tags = {t["key"]: t["value"] for t in run["data"]["tags"]}
        return {run["info"]["run_name"], tags["mlflow.runName"]}

    assert names() == {"a"}
    ask("POST", "runs/set-tag", run_id=run_id, key="mlflow.runName", value="b")
    assert names() == {"b"}
    ask("POST", "runs/update", run_id=run_id, run_name="c")
    assert names() == {"c"}
    ask("POST", "runs/log-batch", run_id=run_id, tags=[{"key": "mlflow.runName", "value": "d"}])
    assert names() == {"d"}
    for text in ("run_name = 'd'", "tags.mlflow.runName = 'd'", "`Run name` LIKE 'd%'"):
        assert len(ask("POST", "runs/search", filter=text)["runs"]) == 1
    tags = [{"key": "mlflow.runName", "value": "x"}]
    ask("POST", "runs/create", 400, experiment_id="0", run_name="y", tags=tags)
    made_up = ask("POST", "runs/create", experiment_id="0")["run"]["info"]["run_name"]
    assert made_up.count("-") == 2


def test_of_a_batch_that_is_refused_nothing_stays(ask: Ask) -> None:
    run_id = new_run(ask)
    ask("POST", "runs/log-batch", run_id=run_id, params=[{"key": "p", "value": "1"}])
    good: dict[str, Any] = {
        "metrics": [point("m", 1)],
        "tags": [{"key": "t", "value": "1"}],
        "params": [{"key": "q", "value": "1"}],
    }
    bad: list[dict[str, Any]] = [
        {"params": [{"key": "q", "value": "1"}, {"key": "p", "value": "2"}]},
        {"params": [{"key": "q", "value": "1"}, {"key": "q", "value": "2"}]},
        {"params": [{"key": f"k{n}", "value": ""} for n in range(101)]},
        {"metrics": [point("m", n) for n in range(1001)]},
        {"metrics": [point("m", 1), point("m", "x")]},
        {"metrics": [point("m", 1), point("a//b", 1)]},
        {"metrics": [{"key": "m", "value": 1}]},
        {"tags": [{"key": "t" * 251, "value": "1"}]},
        {"tags": [{"value": "1"}]},
    ]
    for part in bad:
        ask("POST", "runs/log-batch", 400, run_id=run_id, **{**good, **part})
    found = data(ask, run_id)
    assert "metrics" not in found
    assert found["params"] == [{"key": "p", "value": "1"}]
    assert [t["key"] for t in found["tags"]] == ["mlflow.runName"]


def test_params_stay_as_they_are(ask: Ask) -> None:
    run_id = new_run(ask)
    for _ in range(2):
        ask("POST", "runs/log-parameter", run_id=run_id, key="p", value="1")
    told = ask("POST", "runs/log-parameter", 400, run_id=run_id, key="p", value="2")
    assert told["message"] == (
        "Changing param values is not allowed. Param with key='p' was already logged with "
        f"value='1' for run ID='{run_id}'. Attempted logging new value '2'."
    )
    ask("POST", "runs/log-parameter", run_id=run_id, key="long", value="x" * 7000)
    assert [len(p["value"]) for p in data(ask, run_id)["params"]] == [6000, 1]


def test_of_values_that_race_for_a_param_one_wins(client: TestClient, ask: Ask) -> None:
    run_id = new_run(ask)

    def log(n: int) -> int:
        fields = {"run_id": run_id, "key": "p", "value": str(n)}
        status: int = client.post("/api/2.0/mlflow/runs/log-parameter", json=fields).status_code
        return status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(log, range(24)))
    assert sorted(statuses) == [200] + [400] * 23
    assert data(ask, run_id)["params"] == [{"key": "p", "value": str(statuses.index(200))}]


def test_a_deleted_run_takes_no_writes_until_it_is_restored(ask: Ask) -> None:
    run_id = new_run(ask)
    ask("POST", "runs/delete", run_id=run_id)
    for path, fields in [
        ("runs/log-metric", point("m", 1)),
        ("runs/set-tag", {"key": "a", "value": "b"}),
        ("runs/update", {"status": "FAILED"}),
        ("runs/log-batch", {}),
    ]:
        told = ask("POST", path, 400, run_id=run_id, **fields)
        assert told["message"] == (
            f"The run {run_id} must be in the 'active' state. Current state is deleted."
        )
    assert ask("POST", "runs/search")["runs"] == []
    assert len(ask("POST", "runs/search", run_view_type="DELETED_ONLY")["runs"]) == 1
    ask("POST", "runs/restore", run_id=run_id)
    ask("POST", "runs/log-metric", run_id=run_id, **point("m", 1))
    ask("POST", "runs/restore", 404, run_id="nope")


def test_runs_follow_their_experiment(ask: Ask) -> None:
    experiment = ask("POST", "experiments/create", name="e")["experiment_id"]
    alive, gone = (new_run(ask, experiment_id=experiment) for _ in range(2))
    ask("POST", "runs/delete", run_id=gone)
    ask("POST", "experiments/delete", experiment_id=experiment)
    ask("POST", "runs/log-metric", 400, run_id=alive, **point("m", 1))
    ask("POST", "runs/create", 400, experiment_id=experiment)

    def found(view: str) -> set[str]:
        answer = ask("POST", "runs/search", experiment_ids=[experiment], run_view_type=view)
        return {run["info"]["run_id"] for run in answer["runs"]}

    assert (found("ACTIVE_ONLY"), found("DELETED_ONLY")) == (set(), {alive, gone})
    ask("POST", "experiments/restore", experiment_id=experiment)
    assert (found("ACTIVE_ONLY"), found("DELETED_ONLY")) == ({alive}, {gone})
    assert found("ALL") == {alive, gone}


def test_status_and_end(ask: Ask) -> None:
    run_id = new_run(ask)
    ended = ask("POST", "runs/update", run_id=run_id, status="FINISHED", end_time=9)["run_info"]
    assert (ended["status"], ended["end_time"]) == ("FINISHED", 9)
    again = ask("POST", "runs/update", run_id=run_id, status="RUNNING")["run_info"]
    assert again["status"] == "RUNNING"
    assert "end_time" not in again
    ask("POST", "runs/update", 400, run_id=run_id, status="DONE")


def test_tags_are_deleted_once(ask: Ask) -> None:
    run_id = new_run(ask)
    ask("POST", "runs/set-tag", run_id=run_id, key="k", value="v")
    ask("POST", "runs/delete-tag", run_id=run_id, key="k")
    told = ask("POST", "runs/delete-tag", 404, run_id=run_id, key="k")
    assert told["message"] == f"No tag with name: k in run with id {run_id}"


def test_pages_of_runs_and_of_a_history(ask: Ask) -> None:
    runs = [new_run(ask, start_time=n) for n in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = ask("POST", "runs/search", max_results=2, page_token=token)
        seen += [run["info"]["run_id"] for run in page["runs"]]
        token = page.get("next_page_token")
        if not token:
            break
    assert seen == runs[::-1]
    values: list[float | str] = [1, "NaN", "-Infinity", 2, "Infinity"]
    metrics = [point("m", value, 0, 1) for value in values] + [point("m", 0, -1, 2)]
    ask("POST", "runs/log-batch", run_id=runs[0], metrics=metrics)
    points: list[Any] = []
    token = ""
    while token is not None:
        asked: dict[str, Any] = {"run_id": runs[0], "metric_key": "m", "page_token": token}
        page = ask("GET", "metrics/get-history", **asked, max_results=1)
        points += [p["value"] for p in page["metrics"]]
        token = page.get("next_page_token")
    assert points == ["-Infinity", 1, 2, "Infinity", "NaN", 0]
    ask("GET", "metrics/get-history", 400, run_id="x", metric_key="m", page_token="e30=")
    offset = base64.b64encode(b'{"offset": 4}').decode()  # as MLflow makes them
    page = ask("GET", "metrics/get-history", run_id=runs[0], metric_key="m", page_token=offset)
    assert [p["value"] for p in page["metrics"]] == ["NaN", 0]


@pytest.mark.parametrize(
    "fields",
    [
        {"max_results": 0},
        {"max_results": 50_001},
        {"page_token": "zz"},
        {"filter": "nope"},
        {"order_by": ["nope"]},
        {"experiment_ids": ["x"]},
        {"run_view_type": "X"},
        {"experiment_ids": "0"},
    ],
)
def test_searches_that_are_refused(ask: Ask, fields: dict[str, Any]) -> None:
    assert ask("POST", "runs/search", 400, **fields)["error_code"] == "INVALID_PARAMETER_VALUE"


def test_histories_for_charts(ask: Ask) -> None:
    runs = [new_run(ask) for _ in range(2)]
    for run_id in runs:
        metrics = [point("m", n, n) for n in range(1000)]
        ask("POST", "runs/log-batch", run_id=run_id, metrics=metrics)
    asked: dict[str, Any] = {"run_ids": runs, "metric_key": "m", "max_results": 10}
    sample = ask("GET", "metrics/get-history-bulk-interval", **asked)["metrics"]
    for run_id in runs:
        steps = [p["step"] for p in sample if p["run_id"] == run_id]
        assert len(steps) == 10
        assert (steps[0], steps[-1]) == (0, 999)
        assert max(b - a for a, b in pairwise(steps)) <= 112
    part = ask("GET", "metrics/get-history-bulk-interval", **asked, start_step=5, end_step=7)
    assert [p["step"] for p in part["metrics"]] == [5, 6, 7] * 2
    bulk = ask("GET", "metrics/get-history-bulk", run_id=runs, metric_key="m", max_results=1500)
    assert len(bulk["metrics"]) == 1500
    ask("GET", "metrics/get-history-bulk-interval", 400, **{**asked, "max_results": 2501})
    ask("GET", "metrics/get-history-bulk-interval", 400, **asked, start_step=5)
    ask("GET", "metrics/get-history-bulk-interval", 404, run_ids=["nope"], metric_key="m")
    ask("GET", "metrics/get-history", 404, run_id="nope", metric_key="m")


def test_inputs(ask: Ask) -> None:
    run_id = new_run(ask)
    dataset = {"name": "d", "digest": "1", "source_type": "local", "source": "s"}
    used = {"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": "train"}]}
    ask("POST", "runs/log-inputs", run_id=run_id, datasets=[used, used])
    run = ask("GET", "runs/get", run_id=run_id)["run"]
    assert run["inputs"]["dataset_inputs"] == [used]
    for text in ("dataset.name = 'd'", "datasets.context IN ('train')", "dataset.digest LIKE '1'"):
        assert len(ask("POST", "runs/search", filter=text)["runs"]) == 1
    assert ask("POST", "runs/search", filter="dataset.context != 'train'")["runs"] == []
    for bad in ({}, {"dataset": {"name": "x"}}, {"dataset": {**dataset, "digest": "d" * 37}}):
        ask("POST", "runs/log-inputs", 400, run_id=run_id, datasets=[bad])


def test_a_dataset_that_is_logged_again_stays_as_it_was(ask: Ask) -> None:
    run_id = new_run(ask)
    first = {"name": "d", "digest": "1", "source_type": "local", "source": "s", "schema": "{}"}
    used = {"dataset": first, "tags": [{"key": "mlflow.data.context", "value": "train"}]}
    ask("POST", "runs/log-inputs", run_id=run_id, datasets=[used])
    again = {**first, "source": "other", "profile": "{}"}
    other = {"dataset": {**again, "digest": "2"}, "tags": []}
    for datasets in ([{"dataset": again, "tags": []}], [{"dataset": again}, other]):
        ask("POST", "runs/log-inputs", run_id=run_id, datasets=datasets)
    inputs = ask("GET", "runs/get", run_id=run_id)["run"]["inputs"]["dataset_inputs"]
    assert inputs[0] == used
    assert [entry["dataset"]["digest"] for entry in inputs] == ["1", "2"]


def test_datasets_of_more_than_an_event_in_one_call(ask: Ask) -> None:
    run_id = new_run(ask)

    def dataset(digest: str, size: int) -> dict[str, Any]:
        profile = "é" * (size // 2)
        return {"dataset": {"name": "d", "digest": digest, "source_type": "local", "source": "s",
                            "profile": profile}}  # fmt: skip

    datasets = [dataset(str(n), 5_000_000) for n in range(3)] + [dataset("small", 10)]
    ask("POST", "runs/log-inputs", run_id=run_id, datasets=datasets)
    inputs = ask("GET", "runs/get", run_id=run_id)["run"]["inputs"]["dataset_inputs"]
    assert {entry["dataset"]["digest"]: len(entry["dataset"]["profile"]) for entry in inputs} == {
        "0": 2_500_000, "1": 2_500_000, "2": 2_500_000, "small": 5
    }  # fmt: skip
    refused = [dataset("new", 10), dataset("huge", 8_400_000)]
    answer = ask("POST", "runs/log-inputs", 400, run_id=run_id, datasets=refused)
    assert "8,323,072 is the most" in answer["message"]
    assert len(ask("GET", "runs/get", run_id=run_id)["run"]["inputs"]["dataset_inputs"]) == 4


def test_models_as_version_2_logs_them(ask: Ask) -> None:
    run_id = new_run(ask)
    model = {
        "run_id": run_id,
        "artifact_path": "model",
        "utc_time_created": "2024-01-01",
        "flavors": {"python_function": {"env": "x", "config": {"secret": 1}}},
        "signature": {},
    }
    for _ in range(2):
        ask("POST", "runs/log-model", run_id=run_id, model_json=json.dumps(model))
    tags = {t["key"]: t["value"] for t in data(ask, run_id)["tags"]}
    logged = json.loads(tags["mlflow.log-model.history"])
    assert [entry["artifact_path"] for entry in logged] == ["model", "model"]
    assert logged[0]["flavors"] == {"python_function": {"env": "x"}}
    ask("POST", "runs/log-model", 400, run_id=run_id, model_json="{}")
    ask("POST", "runs/log-model", 400, run_id=run_id, model_json="{")


def test_runs_of_our_own_producers_look_like_any_other(ask: Ask, node: Node) -> None:
    source = {"python_version": "3.12.0", "git_commit": "abc", "entry_point": "train.py"}
    job = Job("native-1", name="mine", parent_run_id="native-0", source=source)
    payloads = [job.started(), job.metrics("loss", [3.0, 2.0])]
    node.append([NewEvent(RUNS, "native-1", payload) for payload in payloads])
    run = ask("GET", "runs/get", run_id="native-1")["run"]
    tags = {t["key"]: t["value"] for t in run["data"]["tags"]}
    assert tags == {
        "mlflow.runName": "mine",
        "mlflow.parentRunId": "native-0",
        "mlflow.user": "ada",
        "mlflow.source.git.commit": "abc",
        "mlflow.source.name": "train.py",
    }
    assert run["info"]["experiment_id"] == "0"
    for text in (
        "tags.mlflow.parentRunId = 'native-0'",
        "tags.mlflow.user = 'ada'",
        "tags.`mlflow.source.git.commit` = 'abc' AND metrics.loss = 2",
    ):
        assert len(ask("POST", "runs/search", filter=text)["runs"]) == 1


def test_experiments_of_one_time_come_in_the_order_of_their_ids(ask: Ask, node: Node) -> None:
    assert "creation_time" not in ask("GET", "experiments/get", experiment_id="0")["experiment"]
    fields: dict[str, Any] = {
        "imported_from": "x",
        "imported_id": "1",
        "artifact_location": None,
        "tags": {},
        "deleted": False,
    }
    times = {"created_at_ms": 7, "updated_at_ms": 9}
    for wanted in ("12", "3", "101"):
        named = {"name": f"e{wanted}", "experiment_id": wanted}
        node.decide(Asker(Actor("ann", False)), "ImportExperiment", {**fields, **named, **times})

    def found(**asked: Any) -> list[str]:
        answer = ask("POST", "experiments/search", max_results=9, **asked)
        return [experiment["experiment_id"] for experiment in answer["experiments"]]

    assert found() == ["0", "3", "12", "101"]
    assert found(order_by=["creation_time"]) == ["101", "12", "3", "0"]
    assert found(order_by=["last_update_time DESC"]) == ["0", "101", "12", "3"]
    # Default is older than the first event.
    default = ask("GET", "experiments/get", experiment_id="0")["experiment"]
    assert default["last_update_time"] == default["creation_time"] > 1_700_000_000_000
    assert found(filter="creation_time > 9") == ["0"]


def test_experiments(ask: Ask) -> None:
    tags = [{"key": "a", "value": "1"}]
    experiment = ask("POST", "experiments/create", name="e", tags=tags)["experiment_id"]
    told = ask("POST", "experiments/create", 400, name="e")
    assert told["error_code"] == "RESOURCE_ALREADY_EXISTS"
    ask("POST", "experiments/update", experiment_id=experiment, new_name="f")
    ask("POST", "experiments/set-experiment-tag", experiment_id=experiment, key="b", value="2")
    ask("POST", "experiments/delete-experiment-tag", experiment_id=experiment, key="a")
    ask("POST", "experiments/delete-experiment-tag", 404, experiment_id=experiment, key="a")
    found = ask("GET", "experiments/get-by-name", experiment_name="f")["experiment"]
    assert found == ask("GET", "experiments/get", experiment_id=experiment)["experiment"]
    assert found["artifact_location"] == f"mlflow-artifacts:/{experiment}"
    assert found["tags"] == [{"key": "b", "value": "2"}]
    assert found["last_update_time"] >= found["creation_time"] > 1_600_000_000_000

    def names(**fields: Any) -> list[str]:
        answer = ask("POST", "experiments/search", **{"max_results": 10, **fields})
        return [e["name"] for e in answer["experiments"]]

    assert names() == ["f", "Default"]
    assert names(order_by=["name DESC"]) == ["f", "Default"]
    assert names(filter="tags.b = '2' AND name ILIKE 'F'") == ["f"]
    assert names(filter="creation_time > 0 OR name = 'Default'") == ["f", "Default"]
    ask("POST", "experiments/delete", experiment_id=experiment)
    assert names() == ["Default"]
    assert names(view_type="DELETED_ONLY") == ["f"]
    ask("POST", "experiments/delete", 404, experiment_id=experiment)
    ask("POST", "experiments/search", 400)
    ask("GET", "experiments/get", 404, experiment_id="77")
    ask("GET", "experiments/get", 400, experiment_id="abc")
    ask("GET", "experiments/get-by-name", 404, experiment_name="nope")


def test_who_did_it_and_why(client: TestClient, node: Node) -> None:
    made = client.post(
        "/api/2.0/mlflow/runs/create",
        json={"experiment_id": "0", "tags": [{"key": "mlflow.user", "value": "ada"}]},
        headers={"X-Modeltrail-Reason": "nightly"},
    )
    assert made.status_code == 200
    with node.read() as cursor:
        assert cursor.execute("SELECT actor FROM runs").fetchall() == [("ada",)]
    renamed = client.post(
        "/api/2.0/mlflow/experiments/set-experiment-tag",
        json={"experiment_id": "0", "key": "k", "value": "v"},
        headers={"X-Modeltrail-Reason": "clearer", "X-Modeltrail-Actor": "grace"},
    )
    assert renamed.status_code == 200
    with node.read() as cursor:
        asked = "SELECT actor, actor_verified, reason FROM audit"
        assert cursor.execute(asked).fetchall() == [("grace", False, "clearer")]


def test_a_token_as_bearer_or_as_password(node: Node) -> None:
    token = make_user(node, "ada")
    app = create_app(node, access=Access(node))
    basic = base64.b64encode(f"ada:{token}".encode()).decode()
    with TestClient(app, base_url="http://localhost") as client:
        path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
        for header in (f"Bearer {token}", f"Basic {basic}"):
            assert client.get(path, headers={"Authorization": header}).status_code == 200
        for header in ("Bearer x", "Basic x", "Basic eDp5", ""):
            answer = client.get(path, headers={"Authorization": header})
            assert answer.status_code == 401
            assert answer.json()["error_code"] == "UNAUTHENTICATED"


def test_what_another_server_did_is_seen(node: Node, ask: Ask) -> None:
    run_id = new_run(ask)
    live = LiveRuns()
    assert live.active(node, run_id).deleted is False
    live._runs[run_id].read_at_s -= 2  # as if a second had passed
    ask("POST", "runs/delete", run_id=run_id)
    assert live.run(node, run_id).deleted is True
