"""Acts that say something of another user's runs and models, as events and over REST."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from access_world import V1, V2, World, world_in
from api_server import Job
from modeltrail.api.access import acts
from modeltrail.api.access.rights import EXPERIMENT
from modeltrail.api.registry import commands
from modeltrail.eventlog import NewEvent, Position
from modeltrail.schemas import (
    encode,
    envelope,
    event_types,
    experiment_id,
    new_event_id,
    pack,
)
from modeltrail.schemas.framing import frame

POINT = pack([0], [0], [0], [6.6])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("ingest")) as world:
        yield world


@pytest.fixture(scope="module")
def adas(world: World) -> str:
    """An experiment of ada's, in which bob may do nothing."""
    return world.experiment("ada", "ada's own")


@pytest.fixture(scope="module")
def bobs(world: World) -> str:
    """An experiment that bob manages."""
    return world.experiment("bob", "bob's own")


def event(type: str, **fields: Any) -> bytes:
    """An event of a producer of its own."""
    head = envelope(producer_id=new_event_id(), sequence=0, actor="x", client="t")
    return encode(type, {"envelope": head, **fields})


def created(model_id: str, experiment: str, **fields: Any) -> bytes:
    """A logged model whose files are elsewhere."""
    model: dict[str, Any] = {
        "name": "m",
        "model_type": None,
        "source_run_id": None,
        "params": {},
        "tags": {},
    }
    where = {"experiment_id": experiment, "artifact_location": "s3://b/k"}
    return event("LoggedModelCreated", model_id=model_id, **{**model, **where, **fields})


def logged_model(world: World, who: str, experiment: str) -> str:
    made = world.ask(who, "POST", f"{V2}/logged-models", experiment_id=experiment)
    return str(made["model"]["info"]["model_id"])


def run(world: World, run_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = world.ask("root", "GET", f"{V1}/runs/{run_id}")
    return shown


def metrics(*models: str | None) -> dict[str, Any]:
    """Fields of a ``MetricsLogged`` with a series for each logged model."""
    series = [{"key": "loss", "model_id": model} for model in models]
    return {"series": series, **POINT}


def test_a_logged_model_of_a_runs_id_opens_no_run(world: World, adas: str, bobs: str) -> None:
    victim = world.run("ada", adas)
    thief = created(victim, bobs)
    for wanted in (
        event("TagsChanged", run_id=victim, tags={"stolen": "yes"}),
        event("MetricsLogged", run_id=victim, **metrics(None)),
        event("RunDeleted", run_id=victim),
        created("m-of-bob-1", bobs, source_run_id=victim),
    ):
        assert world.ingest("bob", thief, wanted) == 403
    # One is there by now, as a logged model of its own: ids of runs and models may be the same.
    assert world.ingest("bob", thief) == 200
    tags = event("TagsChanged", run_id=victim, tags={"stolen": "yes"})
    assert world.ingest("bob", tags) == 403
    shown = run(world, victim)
    assert (shown["tags"], shown["metrics"], shown["deleted"]) == ({}, [], False)


def test_a_run_of_a_logged_models_id_opens_no_model(world: World, adas: str, bobs: str) -> None:
    victim = logged_model(world, "ada", adas)
    start = Job(victim, experiment_id=bobs, experiment_name=None).started()
    for wanted in (
        event("LoggedModelUpdated", model_id=victim, status="FAILED"),
        event("LoggedModelDeleted", model_id=victim),
    ):
        assert world.ingest("bob", start, wanted) == 403
    shown = world.ask("ada", "GET", f"{V2}/logged-models/{victim}")["model"]["info"]
    assert shown["status"] == "LOGGED_MODEL_PENDING"


def test_edit_deletes_nothing(world: World) -> None:
    world.grant("ada", "MANAGE", EXPERIMENT, "/shared/*")
    world.grant("bob", "EDIT", EXPERIMENT, "/shared/*")
    shared = world.experiment("ada", "/shared/a")
    run_id, model_id = world.run("ada", shared), logged_model(world, "ada", shared)
    own = Job("bobs run in shared", experiment_id=shared, experiment_name=None)
    new = Job("bobs run in a new one", experiment_name="/shared/new")
    for payloads in (
        [event("RunDeleted", run_id=run_id)],
        [event("RunRestored", run_id=run_id)],
        [event("LoggedModelDeleted", model_id=model_id)],
        [own.started(), own.event("RunDeleted")],
        [new.started(), new.event("RunDeleted")],
    ):
        assert world.ingest("bob", *payloads) == 403
        assert world.ingest("root", *payloads) == 200
    # For administrators only, whoever else manages the run: a server concludes it.
    stopped = {"last_seen_offset": 0, "last_seen_at_ms": 0, "timeout_ms": 1}
    other = world.run("ada", shared)
    assert world.ingest("ada", event("RunHeartStopped", run_id=other, **stopped)) == 403
    assert world.ingest("ada", event("RunDeleted", run_id=other)) == 200


def test_what_is_mentioned_has_to_be_allowed_as_well(world: World, adas: str, bobs: str) -> None:
    victim = logged_model(world, "ada", adas)
    own = world.run("bob", bobs)
    for fields in (
        metrics(victim),
        metrics(None, victim),
        {"outputs": [{"model_id": victim, "step": 0}]},
        {"inputs": [victim]},
    ):
        type = "MetricsLogged" if "series" in fields else "RunModelsLogged"
        assert world.ingest("bob", event(type, run_id=own, **fields)) == 403
    assert "metrics" not in world.ask("ada", "GET", f"{V2}/logged-models/{victim}")["model"]["data"]
    # To use a model it is enough to read it; to say something of it is to change it.
    world.grant("bob", "READ", EXPERIMENT, "ada's own")
    assert world.ingest("bob", event("RunModelsLogged", run_id=own, inputs=[victim])) == 200
    outputs = [{"model_id": victim, "step": 0}]
    assert world.ingest("bob", event("RunModelsLogged", run_id=own, outputs=outputs)) == 403
    assert world.ingest("bob", event("MetricsLogged", run_id=own, **metrics(victim))) == 403
    # A model that is on its way to another partition may be named before it is here.
    mine = logged_model(world, "bob", bobs)
    for model in (mine, "m-still-to-come"):
        assert world.ingest("bob", event("MetricsLogged", run_id=own, **metrics(model))) == 200


def test_of_two_who_begin_a_run_at_once_one_has_it(
    world: World, adas: str, bobs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = world.node.append
    first: list[bytes] = []

    def slow(events: Sequence[NewEvent]) -> list[Position]:
        """Append what ada sent after bob's batch was checked, and before it is appended."""
        sent, first[:] = list(first), []
        if sent:
            assert world.ingest("ada", *sent) == 200
        return append(events)

    monkeypatch.setattr(world.node, "append", slow)
    run_of = {
        who: Job("at-once", experiment_id=experiment, experiment_name=None)
        for who, experiment in (("ada", adas), ("bob", bobs))
    }
    first.append(run_of["ada"].started())
    job = run_of["bob"]
    batch = [job.started(), job.event("TagsChanged", tags={"stolen": "yes"}), job.metrics("x", [1])]
    answer = world.client.post(f"{V1}/ingest", content=frame(batch), headers=world.headers["bob"])
    assert (answer.status_code, "at the same moment" in answer.text) == (403, True), answer.text
    shown = run(world, "at-once")
    assert (shown["experiment_id"], shown["tags"], shown["metrics"]) == (adas, {}, [])

    first.append(created("m-at-once", adas))
    batch = [
        created("m-at-once", bobs),
        event("LoggedModelUpdated", model_id="m-at-once", status="FAILED"),
    ]
    assert world.ingest("bob", *batch) == 403
    shown = world.ask("ada", "GET", f"{V2}/logged-models/m-at-once")["model"]["info"]
    assert (shown["experiment_id"], shown["status"]) == (adas, "LOGGED_MODEL_PENDING")

    # Who is alone has all that was sent, in its order.
    job = Job("alone", experiment_id=bobs, experiment_name=None)
    batch = [job.started(), job.event("TagsChanged", tags={"a": "1"}), job.metrics("x", [1.0])]
    assert world.ingest("bob", *batch) == 200
    shown = run(world, "alone")
    assert (shown["tags"], shown["complete"], len(shown["metrics"])) == ({"a": "1"}, True, 1)


def test_a_name_that_was_given_up_leads_to_nobody_elses_experiment(world: World) -> None:
    held = world.experiment("ada", "given up")
    assert held == experiment_id("given up")
    renamed = {"experiment_id": held, "new_name": "kept"}
    world.ask("ada", "POST", f"{V2}/experiments/update", **renamed)
    # Nobody holds the name until a server makes the experiment that the run asks for.
    job = Job("named", experiment_name="given up")
    assert world.ingest("bob", job.started()) == 200
    assert world.ingest("bob", job.metrics("loss", [1.0])) == 200
    assert world.ingest("ada", job.metrics("loss", [2.0], 1)) == 403
    assert world.ingest("bob", created("m-in-kept", held)) == 403


def test_rest_asks_the_same_of_what_is_mentioned(world: World) -> None:
    adas, bobs = world.experiment("ada", "ada, rest"), world.experiment("bob", "bob, rest")
    victim, mine = logged_model(world, "ada", adas), logged_model(world, "bob", bobs)
    run_id = world.run("bob", bobs)
    point = {"key": "loss", "value": 6.6, "timestamp": 0}

    def ask(status: int, path: str, **fields: Any) -> None:
        world.ask("bob", "POST", f"{V2}/runs/{path}", status, run_id=run_id, **fields)

    def says(status: int, model_id: str) -> None:
        named = {**point, "model_id": model_id}
        ask(status, "log-metric", **named)
        ask(status, "log-batch", metrics=[point, named])
        ask(status, "outputs", models=[{"model_id": mine}, {"model_id": model_id}])

    says(403, victim)
    ask(403, "log-inputs", models=[{"model_id": victim}])
    world.ask("ada", "PUT", f"{V1}/permissions", user="bob", resource=EXPERIMENT,
              pattern="ada, rest", permission="READ")  # fmt: skip
    says(403, victim)
    ask(200, "log-inputs", models=[{"model_id": victim}])
    for model_id in (mine, "m-not-here", ""):
        says(200, model_id)
    ask(200, "log-batch", metrics=[point] * 3)
    shown = world.ask("ada", "GET", f"{V2}/logged-models/{victim}")["model"]
    assert "metrics" not in shown["data"]
    shown = world.ask("bob", "GET", f"{V2}/logged-models/{mine}")["model"]
    assert len(shown["data"]["metrics"]) == 1

    # To read a model is enough to make a version of it, which leaves the model as it is.
    world.ask("bob", "POST", f"{V2}/registered-models/create", name="bobs, rest")
    version = {"name": "bobs, rest", "source": f"models:/{victim}", "model_id": victim}
    world.ask("bob", "POST", f"{V2}/model-versions/create", **version)
    shown = world.ask("ada", "GET", f"{V2}/logged-models/{victim}")["model"]
    assert "tags" not in shown["info"]


def test_a_model_of_another_experiment_is_not_what_a_run_logged(world: World) -> None:
    adas, bobs = world.experiment("ada", "ada, made"), world.experiment("bob", "bob, made")
    run_id = world.run("ada", adas)
    world.ask("ada", "PUT", f"{V1}/permissions", user="bob", resource=EXPERIMENT,
              pattern="ada, made", permission="READ")  # fmt: skip
    made = {"name": "model", "source_run_id": run_id}
    own = world.ask("ada", "POST", f"{V2}/logged-models", experiment_id=adas, **made)
    world.ask("bob", "POST", f"{V2}/logged-models", experiment_id=bobs, **made)
    world.ask("ada", "POST", f"{V2}/registered-models/create", name="made")
    version = {"name": "made", "source": f"runs:/{run_id}/model"}
    world.ask("ada", "POST", f"{V2}/model-versions/create", **version)
    found = world.ask(
        "ada", "GET", f"{V2}/model-versions/get-download-uri", name="made", version="1"
    )
    assert found["artifact_uri"] == own["model"]["info"]["artifact_uri"]


def test_every_event_type_says_what_it_needs() -> None:
    assert set(commands.ACTS) == set(event_types())


def test_an_act_without_an_entry_is_for_administrators(
    world: World, bobs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = world.run("bob", bobs)
    heartbeat = event("Heartbeat", run_id=own)
    assert world.ingest("bob", heartbeat) == 200
    monkeypatch.setattr(
        commands, "ACTS", {type: act for type, act in commands.ACTS.items() if type != "Heartbeat"}
    )
    assert commands.act_of("Heartbeat") is acts.ADMIN
    assert world.ingest("bob", heartbeat) == 403
    assert world.ingest("root", heartbeat) == 200
