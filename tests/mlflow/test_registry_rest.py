"""Registered models, versions, stages and aliases over MLflow's REST API."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

Ask = Callable[..., Any]
FOREIGN = "must identify the resource that contains the source"


@pytest.fixture
def model(ask: Ask) -> str:
    ask("POST", "registered-models/create", name="m")
    return "m"


def version(ask: Ask, name: str = "m", **fields: Any) -> str:
    fields.setdefault("source", "s3://bucket/model")
    created = ask("POST", "model-versions/create", name=name, **fields)["model_version"]
    return str(created["version"])


def a_run(ask: Ask, **fields: Any) -> Any:
    return ask("POST", "runs/create", experiment_id="0", **fields)["run"]["info"]


def audit(client: TestClient, what: str, where: str) -> list[Any]:
    statement = f"SELECT {what} FROM audit WHERE {where} ORDER BY log_offset"
    rows = client.post("/api/v1/sql", json={"statement": statement}).json()["rows"]
    return [row[0] if len(row) == 1 else row for row in rows]


def test_a_model_from_its_creation_to_its_end(ask: Ask) -> None:
    created = ask("POST", "registered-models/create", name="m", tags=[{"key": "a", "value": "b"}])
    assert created["registered_model"]["tags"] == [{"key": "a", "value": "b"}]
    assert "description" not in created["registered_model"]
    again = ask("POST", "registered-models/create", 400, name="m")
    assert again["error_code"] == "RESOURCE_ALREADY_EXISTS"
    assert again["message"] == "Registered Model (name=m) already exists."
    ask("PATCH", "registered-models/update", name="m", description="what it does")
    assert version(ask) == "1"
    ask("POST", "registered-models/alias", name="m", alias="champion", version="1")
    renamed = ask("POST", "registered-models/rename", name="m", new_name="n")["registered_model"]
    assert renamed["name"] == "n"
    assert renamed["description"] == "what it does"
    assert renamed["latest_versions"][0]["name"] == "n"
    assert renamed["aliases"] == [{"alias": "champion", "version": "1"}]
    missing = ask("GET", "registered-models/get", 404, name="m")
    assert missing["message"] == "Registered Model with name=m not found"
    assert missing["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    ask("DELETE", "registered-models/delete", name="n")
    ask("GET", "registered-models/get", 404, name="n")
    ask("DELETE", "registered-models/delete", 404, name="n")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Missing value for required parameter 'name'."),
        ({"name": ""}, "Missing value for required parameter 'name'."),
        ({"name": "a/b"}, "Invalid model name 'a/b'. Names cannot contain '/' or ':'."),
        ({"name": 5}, "Invalid value 5 for parameter 'name' supplied:  Hint: Value was of type"),
    ],
)
def test_what_is_no_name_is_refused(ask: Ask, fields: dict[str, Any], message: str) -> None:
    refusal = ask("POST", "registered-models/create", 400, **fields)
    assert refusal["error_code"] == "INVALID_PARAMETER_VALUE"
    assert refusal["message"].startswith(message)


def test_a_version_as_mlflow_shows_it(ask: Ask, model: str) -> None:
    fields = {"source": "s3://b/x", "description": "d", "tags": [{"key": "k", "value": "v"}]}
    created = ask("POST", "model-versions/create", name=model, **fields)["model_version"]
    times = {created.pop("creation_timestamp"), created.pop("last_updated_timestamp")}
    assert len(times) == 1
    assert created == {
        "name": "m",
        "version": "1",
        "current_stage": "None",
        "description": "d",
        "source": "s3://b/x",
        "run_id": "",
        "run_link": "",
        "status": "READY",
        "tags": [{"key": "k", "value": "v"}],
    }


def test_numbers_are_never_given_twice_while_the_model_is_there(ask: Ask, model: str) -> None:
    assert [version(ask) for _ in range(3)] == ["1", "2", "3"]
    ask("DELETE", "model-versions/delete", name=model, version="3")
    missing = ask("GET", "model-versions/get", 404, name=model, version="3")
    assert missing["message"] == "Model Version (name=m, version=3) not found"
    assert version(ask) == "4"
    ask("DELETE", "registered-models/delete", name=model)
    ask("POST", "registered-models/create", name=model)
    assert version(ask) == "1"
    wrong = ask("GET", "model-versions/get", 400, name=model, version="x")
    assert wrong["message"] == "Parameter 'version' must be an integer, got 'x'."
    ask("GET", "model-versions/get", 404, name=model, version="9" * 30)


def test_many_that_register_at_once_get_numbers_of_their_own(ask: Ask, model: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda _: version(ask), range(32)))
    assert sorted(map(int, numbers)) == list(range(1, 33))


def test_stages(ask: Ask, model: str) -> None:
    for _ in range(3):
        version(ask)

    def move(number: str, stage: str, archive: bool = False, status: int = 200) -> Any:
        return ask(
            "POST",
            "model-versions/transition-stage",
            status,
            name=model,
            version=number,
            stage=stage,
            archive_existing_versions=archive,
        )

    assert move("1", "production")["model_version"]["current_stage"] == "Production"
    move("2", "Production")
    assert move("3", "Production", archive=True)["model_version"]["current_stage"] == "Production"
    latest = ask("POST", "registered-models/get-latest-versions", name=model)["model_versions"]
    assert [(v["version"], v["current_stage"]) for v in latest] == [
        ("2", "Archived"),
        ("3", "Production"),
    ]
    one = ask("GET", "registered-models/get-latest-versions", name=model, stages="archived")
    assert [v["version"] for v in one["model_versions"]] == ["2"]
    wrong = move("1", "Nowhere", status=400)["message"]
    assert wrong.startswith("Invalid Model Version stage: Nowhere. Value must be one of None, ")
    assert "is not an Active stage" in move("1", "None", archive=True, status=400)["message"]
    wrong = ask("POST", "registered-models/get-latest-versions", 400, name=model, stages=["bad"])
    assert "Invalid Model Version stage: bad" in wrong["message"]


def test_aliases(ask: Ask, model: str) -> None:
    version(ask), version(ask)

    def point(alias: str, number: str, status: int = 200) -> Any:
        path = "registered-models/alias"
        return ask("POST", path, status, name=model, alias=alias, version=number)

    def by(alias: str, status: int = 200, name: str = model) -> Any:
        return ask("GET", "registered-models/alias", status, name=name, alias=alias)

    point("champion", "1"), point("other", "1"), point("champion", "2")
    assert by("champion")["model_version"]["aliases"] == ["champion"]
    assert by("latest")["model_version"]["version"] == "2"
    refusal = by("nobody", 400)
    assert refusal["error_code"] == "INVALID_PARAMETER_VALUE"
    assert refusal["message"] == "Registered model alias nobody not found."
    by("champion", 404, name="no model")
    assert point("Latest", "1", 400)["message"].startswith("'latest' alias name")
    assert point("v7", "1", 400)["message"] == "Version alias name 'v7' is reserved."
    point("a b", "1", 400), point("missing", "77", 404)
    ask("DELETE", "model-versions/delete", name=model, version="2")
    by("champion", 400)  # it went with the version
    ask("DELETE", "registered-models/alias", name=model, alias="never_set")
    ask("DELETE", "registered-models/alias", name=model, alias="other")
    assert "aliases" not in ask("GET", "registered-models/get", name=model)["registered_model"]


def test_tags(ask: Ask, model: str) -> None:
    number = version(ask)
    ask("POST", "registered-models/set-tag", name=model, key="a", value="1")
    ask("POST", "registered-models/set-tag", name=model, key="empty")
    ask("POST", "model-versions/set-tag", name=model, version=number, key="b", value="2")
    found = ask("GET", "registered-models/get", name=model)["registered_model"]
    assert found["tags"] == [{"key": "a", "value": "1"}, {"key": "empty", "value": ""}]
    assert found["latest_versions"][0]["tags"] == [{"key": "b", "value": "2"}]
    ask("DELETE", "registered-models/delete-tag", name=model, key="absent")
    ask("DELETE", "registered-models/delete-tag", 404, name="no model", key="a")
    ask("DELETE", "model-versions/delete-tag", name=model, version=number, key="b")
    ask("DELETE", "model-versions/delete-tag", 404, name=model, version="9", key="b")
    found = ask("GET", "model-versions/get", name=model, version=number)["model_version"]
    assert "tags" not in found
    ask("POST", "registered-models/set-tag", 400, name=model, key="a/../b", value="")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/etc/passwd", "To use a local path as a model version source"),
        ("file:///etc/passwd", "To use a local path as a model version source"),
        ("etc/passwd", "To use a local path as a model version source"),
        ("file://elsewhere/etc", "is not a valid remote uri"),
        ("s3://b/../x", "without relative path references"),
        ("s3://b/%2e%2e/x", "without relative path references"),
        ("s3://b/%252e%252e/x", "without relative path references"),
        ("http://h/a\\..\\b", "without relative path references"),
        ("mlflow-artifacts:/..%2f..%2fetc", "without relative path references"),
        ("mlflow-artifacts:/0/x", FOREIGN),
        ("mlflow-artifacts:/0/" + "0" * 32 + "/artifacts/model", FOREIGN),
        ("runs:/nobody/model", FOREIGN),
        ("runs://host/nobody/model", FOREIGN),
        ("models:/m-" + "0" * 32, FOREIGN),
        ("models:/", FOREIGN),
    ],
)
def test_a_source_that_leads_elsewhere_is_refused(
    ask: Ask, model: str, source: str, message: str
) -> None:
    refusal = ask("POST", "model-versions/create", 400, name=model, source=source)
    assert refusal["error_code"] == "INVALID_PARAMETER_VALUE"
    assert message in refusal["message"]


def test_a_source_within_a_run(ask: Ask, model: str) -> None:
    run, other = a_run(ask), a_run(ask)["run_id"]
    run_id = run["run_id"]
    for source in (f"runs:/{run_id}/model", f"{run['artifact_uri']}/model"):
        for given in ({"run_id": run_id}, {}):
            number = version(ask, source=source, **given)
            found = ask("GET", "model-versions/get", name=model, version=number)["model_version"]
            assert found["run_id"] == run_id
            assert found["source"] == source
        refusal = {"name": model, "source": source, "run_id": other}
        assert FOREIGN in ask("POST", "model-versions/create", 400, **refusal)["message"]


def test_a_run_of_another_server_contradicts_nothing(ask: Ask, model: str) -> None:
    """Clients with a registry apart from their tracking server name runs that are not here."""
    elsewhere, other = "e" * 32, "d" * 32
    for source, run_id in (
        (f"runs:/{elsewhere}/model", elsewhere),
        (f"runs:/{elsewhere}/model", other),
        (f"runs:/{a_run(ask)['run_id']}/model", other),
    ):
        number = version(ask, source=source, run_id=run_id)
        found = ask("GET", "model-versions/get", name=model, version=number)["model_version"]
        assert (found["source"], found["run_id"]) == (source, run_id)


def test_a_local_source_has_to_be_within_the_run(ask: Ask, model: str) -> None:
    experiment = ask("POST", "experiments/create", name="e", artifact_location="file:///a/b")
    run = ask("POST", "runs/create", **experiment)["run"]["info"]
    run_id = run["run_id"]
    for source in (f"file:///a/b/{run_id}/artifacts/model", f"/a/b/{run_id}/artifacts"):
        version(ask, source=source, run_id=run_id)
    for source in (f"/a/b/{run_id}/artifacts/../../x", f"/a/b/{run_id}/artifactsx", "/a/b"):
        ask("POST", "model-versions/create", 400, name=model, source=source, run_id=run_id)


def test_a_version_made_from_another_keeps_its_files(ask: Ask, model: str) -> None:
    run_id = a_run(ask)["run_id"]
    version(ask, source=f"runs:/{run_id}/model", run_id=run_id)
    ask("POST", "registered-models/alias", name=model, alias="champion", version="1")
    ask("POST", "registered-models/create", name="prod")
    for source in ("models:/m/1", "models:/m@champion", "models:/m/latest", "models:/m/None"):
        number = version(ask, "prod", source=source)
    found = ask("GET", "model-versions/get", name="prod", version=number)["model_version"]
    assert (found["source"], found["run_id"]) == ("models:/m/1", run_id)
    ask("POST", "model-versions/create", 404, name="prod", source="models:/m/2")
    ask("POST", "registered-models/rename", name=model, new_name="old")
    ask("DELETE", "registered-models/delete", name="old")
    ask("POST", "registered-models/create", name=model)
    version(ask, source="s3://another/model")
    uri = ask("GET", "model-versions/get-download-uri", name="prod", version=number)
    assert uri == {"artifact_uri": f"runs:/{run_id}/model"}


def test_search_models(ask: Ask) -> None:
    for n in range(5):
        tags = [{"key": "team", "value": "vision" if n % 2 else "text"}]
        ask("POST", "registered-models/create", name=f"model-{n}", tags=tags)
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    ask("POST", "registered-models/create", name="a prompt", tags=prompt)

    def names(**fields: Any) -> list[str]:
        found = ask("GET", "registered-models/search", **fields)
        return [m["name"] for m in found.get("registered_models", [])]

    assert names() == [f"model-{n}" for n in range(5)]
    assert names(filter="name LIKE 'model-%' AND tags.team = 'vision'") == ["model-1", "model-3"]
    assert names(filter="name = 'model-0' OR tags.team = 'vision'", order_by="name DESC") == [
        "model-3",
        "model-1",
        "model-0",
    ]
    assert names(order_by="timestamp DESC", max_results=1) == ["model-4"]
    assert names(filter="tags.`mlflow.prompt.is_prompt` = 'true'") == ["a prompt"]
    assert len(names(filter="tags.`mlflow.prompt.is_prompt` != 'true'")) == 5
    assert names(filter="name = 'nobody'") == []
    first = ask("GET", "registered-models/search", max_results=3)
    token = first["next_page_token"]
    rest = ask("GET", "registered-models/search", max_results=3, page_token=token)
    assert [m["name"] for m in rest["registered_models"]] == ["model-3", "model-4"]
    assert "next_page_token" not in rest
    for wrong in (
        {"max_results": 1001},
        {"max_results": 0},
        {"page_token": "bad"},
        {"filter": "nam = 'a'"},
        {"filter": "name = a"},
        {"order_by": "nam"},
        {"order_by": "tags.team"},
    ):
        refusal = ask("GET", "registered-models/search", 400, **wrong)
        assert refusal["error_code"] == "INVALID_PARAMETER_VALUE"


def test_search_versions(ask: Ask, model: str) -> None:
    run_id = a_run(ask)["run_id"]
    version(ask, source=f"runs:/{run_id}/model", run_id=run_id)
    version(ask, tags=[{"key": "a", "value": "b"}])
    ask("POST", "registered-models/create", name="n")
    version(ask, "n")
    ask("PATCH", "model-versions/update", name=model, version="1", description="changed last")

    def found(**fields: Any) -> list[tuple[str, str]]:
        answer = ask("GET", "model-versions/search", **fields)
        return [(v["name"], v["version"]) for v in answer.get("model_versions", [])]

    assert found()[0] == ("m", "1")
    assert found(filter="name = 'm'", order_by="version_number ASC") == [("m", "1"), ("m", "2")]
    assert found(filter=f"run_id = '{run_id}'") == [("m", "1")]
    assert found(filter=f"run_id IN ('{run_id}', 'x')") == [("m", "1")]
    assert found(filter="source_path LIKE 's3://%' AND version_number > 1") == [("m", "2")]
    assert found(filter="tags.a = 'b'") == [("m", "2")]
    page = ask("GET", "model-versions/search", max_results=2)
    assert len(page["model_versions"]) == 2
    assert found(max_results=2, page_token=page["next_page_token"]) != []
    ask("GET", "model-versions/search", 400, max_results=200_001)
    ask("GET", "model-versions/search", 400, filter="version_number = 'a'")


def test_why_and_on_what_evidence(ask: Ask, client: TestClient, model: str) -> None:
    run_id = a_run(ask)["run_id"]
    ask("POST", "runs/log-metric", run_id=run_id, key="auc", value=0.9, timestamp=1)
    version(ask, source=f"runs:/{run_id}/model", run_id=run_id), version(ask)
    path = "/api/2.0/mlflow/registered-models/alias"
    body = {"name": model, "alias": "champion", "version": "1"}
    client.post(path, json=body, headers={"X-Modeltrail-Reason": "a good day"})
    tag = {"name": model, "version": "1", "key": "modeltrail.reason", "value": "beats the rest"}
    ask("POST", "model-versions/set-tag", **tag)
    for number in ("1", "2", "1"):
        ask("POST", "registered-models/alias", name=model, alias="champion", version=number)
    move = {"name": model, "version": "1", "stage": "Production"}
    ask("POST", "model-versions/transition-stage", **move)
    # A tag is the reason of the next such decision, not of all that follow.
    assert audit(client, "reason", "type = 'SetRegisteredModelAlias'") == [
        "a good day",
        "beats the rest",
        None,
        None,
    ]
    assert audit(client, "reason", "type = 'TransitionModelVersionStage'") == ["beats the rest"]
    (evidence,) = audit(
        client,
        "request ->> '$.evidence[0].key', request ->> '$.evidence[0].value'",
        "type = 'TransitionModelVersionStage'",
    )
    assert evidence == ["auc", "0.9"]


def test_prompts_have_a_placeholder_for_a_source(ask: Ask) -> None:
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    ask("POST", "registered-models/create", name="p", tags=prompt)
    text = [*prompt, {"key": "mlflow.prompt.text", "value": "Hello {{name}}"}]
    assert version(ask, "p", source="dummy-source", tags=text) == "1"
    refusal = ask("POST", "model-versions/create", 400, name="p", source="/etc", tags=text)
    assert refusal["message"].startswith("Invalid prompt source: '/etc'.")
    taken = ask("POST", "registered-models/create", 400, name="p")
    assert "the name is already taken by a prompt" in taken["message"]
    assert "model_versions" not in ask("GET", "model-versions/search")
