"""What the events of a logged model do, the bad ones too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from modeltrail.consumers import Fold
from modeltrail.eventlog import NewEvent
from modeltrail.eventlog.memory import MemoryLog
from writers import RunWriter, Writer

MODEL = "m-" + "0" * 32


class Models:
    """A log of several partitions in memory, with its fold."""

    def __init__(self) -> None:
        self.log = MemoryLog(3, clock_ms=lambda: 1_800_000_000_000)
        self.fold = Fold(self.log, None, threads=1)
        self.fold.open()
        self.writer = Writer()

    def event(self, type: str, model_id: str = MODEL, **body: Any) -> NewEvent:
        return self.writer.event(type, key=model_id, model_id=model_id, **body)

    def created(self, **given: Any) -> NewEvent:
        body = {"experiment_id": "0", "name": "tree", "artifact_location": "mlflow-artifacts:/x"}
        return self.event("LoggedModelCreated", **{**body, **given})

    def append(self, *events: NewEvent) -> None:
        self.log.append(events)
        self.fold.catch_up()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        cursor = self.fold.cursor()
        try:
            return cursor.execute(query).fetchall()
        finally:
            cursor.close()


@pytest.fixture
def models() -> Iterator[Models]:
    models = Models()
    yield models
    models.fold.stop()


def test_in_one_batch_and_in_many(models: Models) -> None:
    events = [
        models.created(params={"depth": "5"}, tags={"a": "1", "b": "2"}),
        models.event("LoggedModelUpdated", params={"depth": "6", "lr": "0.1"}, tags={"a": None}),
        models.event("LoggedModelUpdated", params={"lr": "0.1"}, tags={"b": "3", "c": ""}),
        models.event("LoggedModelUpdated", status="READY"),
    ]
    models.append(*events[:2])
    models.append(*events[2:])
    assert models.rows("SELECT model_id, name, status, created_by FROM logged_models") == [
        (MODEL, "tree", "READY", "ann")
    ]
    params = models.rows("SELECT key, value FROM logged_model_params ORDER BY key")
    assert params == [("depth", "5"), ("lr", "0.1")]  # the first value stands
    tags = models.rows("SELECT key, value FROM logged_model_tags ORDER BY key")
    assert tags == [("b", "3"), ("c", "")]
    models.append(models.event("LoggedModelDeleted"))
    assert models.rows("SELECT deleted FROM logged_models") == [(True,)]


def test_what_cannot_be_applied_is_a_dead_letter(models: Models) -> None:
    models.append(
        models.event("LoggedModelUpdated", status="READY"),
        models.created(),
        models.created(),
        models.event("LoggedModelUpdated", status="DONE"),
        models.event("LoggedModelUpdated", tags={"k" * 251: "v"}),
        models.event(
            "LoggedModelArtifactLogged", path="../x", size_bytes=1, sha256="0", location="x"
        ),
    )
    errors = models.rows("SELECT error FROM dead_letters ORDER BY log_offset")
    assert [error.partition(":")[0] for (error,) in errors] == [
        "LoggedModelUpdated",
        f"logged model {MODEL} was created before",
        "LoggedModelUpdated",
        "a tag key has 1 to 250 characters, not 251",
        "LoggedModelArtifactLogged",
    ]
    assert models.rows("SELECT status FROM logged_models") == [("PENDING",)]


def test_a_run_may_name_a_model_that_comes_later(models: Models) -> None:
    run = RunWriter("0" * 32)
    link = {"inputs": [MODEL], "outputs": [{"model_id": MODEL, "step": 3}]}
    models.append(run.started(), *(run.of_run("RunModelsLogged", **link) for _ in range(2)))
    models.append(models.created(source_run_id=run.run_id))
    joined = """SELECT o.step, m.name FROM model_outputs o
                JOIN model_inputs i USING (run_id, model_id)
                JOIN logged_models m USING (model_id)"""
    assert models.rows(joined) == [(3, "tree")]


def test_files_of_a_model(models: Models) -> None:
    stored: dict[str, Any] = {"size_bytes": 1, "sha256": "0" * 64, "location": "file:///x"}
    models.append(
        models.created(),
        *(models.event("LoggedModelArtifactLogged", path=p, **stored) for p in ("a", "b", "a")),
    )
    models.append(models.event("LoggedModelArtifactDeleted", path="b"))
    assert models.rows("SELECT path, size_bytes FROM logged_model_artifacts") == [("a", 1)]


def test_a_short_param_that_comes_again_is_one_row(models: Models) -> None:
    # Strings of one character are the same object in Python wherever they come from.
    run = RunWriter("1" * 32)
    models.append(run.started(params={"k": "5"}), run.of_run("ParamsLogged", params={"k": "5"}))
    assert models.rows("SELECT key, value FROM params") == [("k", "5")]
