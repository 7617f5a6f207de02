"""What another tracker had is brought in under its ids, numbers and times, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from modeltrail.schemas import experiment_id
from registry_requests import START_MS, Registry

EXISTS, CONFLICT, INVALID = (
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "INVALID_PARAMETER_VALUE",
)
TOLD = {"imported_from": "sqlite:///mlflow.db", "tags": {"k": "v"}}


@pytest.fixture
def registry() -> Registry:
    return Registry()


def experiment(name: str, id: str | None, **more: Any) -> dict[str, Any]:
    return {**TOLD, "imported_id": "7", "name": name, "experiment_id": id, **more}


def test_an_experiment_keeps_a_free_id(registry: Registry) -> None:
    told = {"created_at_ms": 5, "updated_at_ms": 6, "deleted": True}
    outcome = registry.do("ImportExperiment", **experiment("a", "7", **told))
    assert outcome.experiment_id == "7"
    assert registry.rows(
        "SELECT name, deleted, created_at_ms, updated_at_ms FROM fold.experiments "
        "WHERE experiment_id = '7'"
    ) == [("a", True, 5, 6)]
    assert registry.rows("FROM experiment_tags") == [("7", "k", "v")]
    assert registry.refused("ImportExperiment", **experiment("b", "7")) == (
        EXISTS,
        "Experiment(id=7) already exists.",
    )
    assert registry.refused("ImportExperiment", **experiment("a", "8"))[0] == EXISTS
    for bad in ("", "07", "-1", "x", "1" * 19):
        assert registry.refused("ImportExperiment", **experiment("c", bad))[0] == INVALID


def test_without_an_id_it_is_derived_and_without_times_they_are_the_logs(
    registry: Registry,
) -> None:
    assert registry.do("ImportExperiment", **experiment("a", None)).experiment_id == (
        experiment_id("a")
    )
    assert registry.rows("SELECT created_at_ms FROM fold.experiments WHERE name = 'a'") == [
        (START_MS,)
    ]


def test_the_default_experiment_is_taken_once(registry: Registry) -> None:
    registry.do("ImportExperiment", **experiment("renamed", "0", artifact_location="s3://b/0"))
    assert registry.rows(
        "SELECT experiment_id, name, artifact_location, created_by FROM experiments"
    ) == [("0", "renamed", "s3://b/0", "ann")]
    assert registry.refused("ImportExperiment", **experiment("again", "0"))[0] == EXISTS
    other = registry.do("CreateExperiment", name="Default").experiment_id
    assert other == experiment_id("Default", 2)


def test_versions_keep_their_numbers_and_gaps(registry: Registry) -> None:
    registry.do("ImportRegisteredModel", model="m", **TOLD, created_at_ms=1, updated_at_ms=2)
    version = {"model": "m", "source": "s3://b/m", **TOLD}
    registry.do("ImportModelVersion", version=2, stage="staging", created_at_ms=3, **version)
    registry.do("ImportModelVersion", version=5, deleted=True, **version)
    assert registry.rows("SELECT version, stage, created_at_ms FROM fold.model_versions") == [
        (2, "Staging", 3)
    ]
    assert registry.rows("SELECT created_at_ms, updated_at_ms FROM fold.models") == [(1, 2)]
    for number in (1, 2, 5):
        assert registry.refused("ImportModelVersion", version=number, **version) == (
            CONFLICT,
            f"Model Version (name=m, version={number}) cannot be imported: numbers below 6 are "
            "used up.",
        )
    assert registry.do("CreateModelVersion", model="m").version == 6
    assert registry.refused("ImportRegisteredModel", model="m", **TOLD)[0] == EXISTS
    assert registry.refused("ImportModelVersion", version=9, **{**version, "model": "n"})[0] == (
        "RESOURCE_DOES_NOT_EXIST"
    )
