"""MLflow's page: its GraphQL queries, uploads and search of datasets, with the rights of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from access_world import V2, World, open_node
from mlflow_client import python_with_mlflow
from modeltrail.api.access.acts import Level
from modeltrail.api.access.rights import EXPERIMENT
from modeltrail.eventlog import open_log

Ask = Callable[..., Any]

GET_RUN = """query GetRun($data: MlflowGetRunInput!) @component(name: "MLflow.ExperimentRunTracking") {
  mlflowGetRun(input: $data) {
    apiError { helpUrl code message }
    run {
      info { runName status runUuid experimentId endTime lifecycleStage startTime userId }
      experiment { experimentId name tags { key value } lifecycleStage }
      modelVersions { status version name source }
      data { metrics { key value step timestamp } params { key value } tags { key value } }
      inputs { datasetInputs { dataset { digest name } tags { key value } } modelInputs { modelId } }
    }
  }
}"""  # noqa: E501


ROOT = "{ %s }"
ONE = 'q%d: mlflowGetExperiment(input: {experimentId: "0"}) { experiment { name } }'


def query(client: TestClient, text: str, headers: Any = None, /, **variables: Any) -> Any:
    body = {"query": text, "variables": variables}
    answer = client.post("/graphql", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_run_as_the_page_asks_for_it(client: TestClient, ask: Ask) -> None:
    run = ask("POST", "runs/create", user_id="ada", run_name="mine", start_time=7)["run"]["info"]
    run_id = run["run_id"]
    for key, value in (("nan", "NaN"), ("a", 0.5)):
        metric = {"key": key, "value": value, "timestamp": 2**40, "step": 3}
        ask("POST", "runs/log-metric", run_id=run_id, **metric)
    ask("POST", "runs/log-parameter", run_id=run_id, key="p", value="1")
    dataset = {"name": "d", "digest": "1", "source_type": "local", "source": "s"}
    ask("POST", "runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset}])
    ask("POST", "registered-models/create", name="m")
    ask("POST", "model-versions/create", name="m", source=f"runs:/{run_id}/x")
    found = query(client, GET_RUN, data={"runId": run_id})
    assert found["errors"] is None
    run = found["data"]["mlflowGetRun"]["run"]
    assert run["info"]["runUuid"] == run_id
    assert (run["info"]["status"], run["info"]["startTime"]) == ("RUNNING", "7")
    assert run["experiment"] == {
        "experimentId": "0", "name": "Default", "tags": [], "lifecycleStage": "active"
    }  # fmt: skip
    assert run["modelVersions"] == [
        {"status": "READY", "version": "1", "name": "m", "source": f"runs:/{run_id}/x"}
    ]
    assert run["data"]["metrics"] == [
        {"key": "a", "value": 0.5, "step": "3", "timestamp": str(2**40)},
        {"key": "nan", "value": None, "step": "3", "timestamp": str(2**40)},
    ]
    assert run["data"]["params"] == [{"key": "p", "value": "1"}]
    assert run["inputs"]["datasetInputs"][0]["dataset"] == {"digest": "1", "name": "d"}
    missing = query(client, GET_RUN, data={"runId": "0" * 32})
    assert missing["data"] == {"mlflowGetRun": None}
    assert missing["errors"][0].startswith("RESOURCE_DOES_NOT_EXIST: Run with id=")


def test_the_other_queries(client: TestClient, ask: Ask) -> None:
    runs = [ask("POST", "runs/create", start_time=n)["run"]["info"]["run_id"] for n in range(2)]
    ask("POST", "runs/log-metric", run_id=runs[0], key="m", value=1, timestamp=5)
    found = query(
        client,
        "query Q($i: MlflowSearchRunsInput!) { a: mlflowSearchRuns(input: $i) "
        "{ nextPageToken runs { info { runId } experiment { name } modelVersions { name } } } }",
        i={"experimentIds": ["0"], "maxResults": 1, "runViewType": "ACTIVE_ONLY"},
    )
    assert found["errors"] is None
    assert found["data"]["a"]["runs"] == [
        {"info": {"runId": runs[1]}, "experiment": {"name": "Default"}, "modelVersions": []}
    ]
    assert found["data"]["a"]["nextPageToken"]
    found = query(
        client,
        "query Q($d: MlflowGetMetricHistoryBulkIntervalInput!) "
        "{ mlflowGetMetricHistoryBulkInterval(input: $d) "
        "{ __typename metrics { timestamp step runId key value } } }",
        d={"runIds": [runs[0]], "metricKey": "m", "maxResults": 10},
    )
    assert found["data"]["mlflowGetMetricHistoryBulkInterval"]["metrics"] == [
        {"timestamp": "5", "step": "0", "runId": runs[0], "key": "m", "value": 1.0}
    ]
    text = ROOT % (ONE % 1)
    answer = client.get("/graphql", params={"query": text})
    assert answer.json()["data"]["q1"]["experiment"]["name"] == "Default"
    text = "{ mlflowSearchModelVersions(input: {maxResults: 3}) { modelVersions { name } } }"
    assert query(client, text)["errors"] is None
    text = "query Q($r: String) { mlflowListArtifacts(input: {runId: $r}) { files { path } } }"
    assert query(client, text, r=runs[0])["data"]["mlflowListArtifacts"]["files"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": 1},
        {"query": " "},
        {"query": "{"},
        {"query": "{ nothing }"},
        {"query": "mutation { mlflowSearchRuns { runs { info { runId } } } }"},
        {"query": ROOT % " ".join(ONE % n for n in range(11))},
        {"query": "{" * 100_000},
        {"query": ROOT % ("a " * 3_000)},
        {"query": "{ ...f } fragment f on Query { ...f }"},
        {"query": ROOT % (ONE % 1), "variables": [1]},
        {"query": ROOT % (ONE % 1), "operationName": 1},
        [],
    ],
)
def test_queries_that_are_refused(client: TestClient, body: Any) -> None:
    answer = client.post("/graphql", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"


def test_the_queries_of_the_installed_page_are_valid() -> None:
    """Each query in the page that MLflow 3.17 ships fits our schema."""
    from graphql import parse, validate

    from modeltrail.api.mlflow.graphql import _schema

    python = Path(python_with_mlflow("3"))
    pages = "lib/*/site-packages/mlflow/server/js/build/static/js/*.js"
    found = set()
    for file in python.parent.parent.glob(pages):
        for text in re.findall(r"`(?:\\n)?\s*(query \w+\([^`]*)`", file.read_text("utf-8")):
            if "$data: Mlflow" not in text and "$input: Mlflow" not in text:
                continue
            found.add(text.split("(")[0].removeprefix("query "))
            assert not validate(_schema(), parse(text)), text
    assert {"GetRun", "MlflowGetExperimentQuery", "SearchRuns"} <= found


# With rights


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    log = open_log(str(tmp_path / "data"))
    node, fold = open_node(log, tmp_path / "artifacts")
    world = World(node, Level.NONE)
    world.grant("ada", "EDIT", EXPERIMENT, "ada/*")
    with world.client:
        yield world
    node.stop()
    fold.stop()
    log.close()


def test_everybody_sees_what_they_may_read(world: World) -> None:
    secret = world.experiment("ada", "ada/secret")
    run_id = world.run("ada", secret)
    world.run("bob", world.experiment("bob", "bobs"))
    bob, ada = world.headers["bob"], world.headers["ada"]
    assert world.client.post("/graphql", json={"query": "{ a }"}).status_code == 401
    found = query(world.client, GET_RUN, bob, data={"runId": run_id})
    assert found["data"] == {"mlflowGetRun": None}
    assert found["errors"][0].startswith("PERMISSION_DENIED: Permission denied")
    assert query(world.client, GET_RUN, ada, data={"runId": run_id})["errors"] is None
    text = "{ mlflowSearchRuns(input: {}) { runs { info { experimentId } } } }"
    shown = query(world.client, text, bob)["data"]["mlflowSearchRuns"]["runs"]
    assert len(shown) == 1
    assert shown[0]["info"]["experimentId"] != secret
    text = (
        "query Q($i: String) "
        "{ mlflowGetExperiment(input: {experimentId: $i}) { experiment { name } } }"
    )
    assert "PERMISSION_DENIED" in query(world.client, text, bob, i=secret)["errors"][0]


def test_datasets_of_experiments(world: World) -> None:
    secret, own = world.experiment("ada", "ada/secret"), world.experiment("bob", "bobs")
    for who, experiment in (("ada", secret), ("bob", own)):
        for _ in range(2):
            run_id = world.run(who, experiment)
            dataset = {"name": who, "digest": "1", "source_type": "local", "source": "s"}
            tags = [{"key": "mlflow.data.context", "value": "train"}]
            used = [
                {"dataset": dataset, "tags": tags},
                {"dataset": {**dataset, "digest": "2"}},
            ]
            world.ask(who, "POST", f"{V2}/runs/log-inputs", run_id=run_id, datasets=used)
    path = "/ajax-api/2.0/mlflow/experiments/search-datasets"
    assert world.ask("bob", "POST", path, experiment_ids=[own])["dataset_summaries"] == [
        {"experiment_id": own, "name": "bob", "digest": "1", "context": "train"},
        {"experiment_id": own, "name": "bob", "digest": "2"},
    ]
    world.ask("bob", "POST", path, 403, experiment_ids=[own, secret])
    everything = world.ask("root", "POST", path, experiment_ids=[own, secret])
    assert len(everything["dataset_summaries"]) == 4
    told = world.ask("root", "POST", path, 400, experiment_ids=[])["message"]
    assert told == "SearchDatasets request must specify at least one experiment_id."
    world.ask("bob", "POST", path, 400, experiment_ids=[own] * 21)
    world.ask("bob", "POST", path, 404, experiment_ids=[own, "77"])


def test_a_file_that_the_page_uploads(world: World) -> None:
    secret = world.experiment("ada", "ada/secret")
    victim = world.run("ada", secret)
    own = world.run("bob", world.experiment("bob", "bobs"))
    path = "/ajax-api/2.0/mlflow/upload-artifact"

    def upload(who: str, data: bytes = b"data", **given: str) -> int:
        answer = world.client.post(path, params=given, content=data, headers=world.headers[who])
        return answer.status_code

    assert upload("bob", run_uuid=own, path="a/b.txt") == 200
    fetched = world.client.get(
        "/get-artifact", params={"run_id": own, "path": "a/b.txt"}, headers=world.headers["bob"]
    )
    assert fetched.content == b"data"
    recorded = world.ask("root", "GET", "/api/v1/audit/artifacts", run=own)["artifacts"]
    assert [one["path"] for one in recorded] == ["a/b.txt"]
    assert upload("bob", run_uuid=victim, path="a") == 403
    assert upload("bob", run_uuid=victim, run_id=own, path="a") == 403
    assert upload("bob", b"", run_uuid=own, path="a") == 400
    assert upload("bob", run_uuid=own) == 400
    assert upload("root", path="a") in (400, 404)
    assert upload("bob", run_uuid=own, path="../x") == 400
    assert upload("bob", b"x" * (10 * 1024 * 1024), run_uuid=own, path="large") == 200
    assert upload("bob", b"x" * (10 * 1024 * 1024 + 1), run_uuid=own, path="large") == 400
    assert upload("ada", run_uuid=victim, path="a") == 200
