"""A producer id belongs to who used it first, for one run or model, at every door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from access_world import V2, World, world_in
from api_server import Job
from modeltrail.api.actor import Actor
from modeltrail.eventlog import REGISTRY, NewEvent
from modeltrail.schemas import encode, new_event_id
from modeltrail.schemas.framing import frame
from writers import Writer, stolen


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as found:
        yield found


def send(world: World, who: str, *payloads: bytes) -> Any:
    body = frame(list(payloads))
    return world.client.post("/api/v1/ingest", content=body, headers=world.headers[who])


def rows(world: World, query: str) -> list[tuple[Any, ...]]:
    with world.node.read() as cursor:
        return cursor.execute(query).fetchall()


@pytest.fixture
def job(world: World) -> Job:
    """A job of ada's in an experiment that bob may edit."""
    id = world.experiment("ada", "shared")
    world.grant("bob", "EDIT", "experiment", "shared")
    job = Job("shared-run", experiment_id=id, experiment_name=None)
    assert send(world, "ada", job.started(), job.metrics("loss", [0.0])).status_code == 200
    return job


def test_another_user_and_another_run_are_refused(world: World, job: Job) -> None:
    end = world.node.log.end()
    for other in ("shared-run", "bobs-run"):
        job.run_id = other
        answer = send(world, "bob", job.started(), job.metrics("loss", [9.0]))
        assert answer.status_code == 403, answer.text
        assert answer.json()["error_code"] == "PRODUCER_TAKEN", answer.text
        assert "nothing of the batch was appended" in answer.json()["message"]
    assert send(world, "ada", job.started()).status_code == 403, "not for another run of ada's"
    assert world.node.log.end() == end
    job.run_id = "shared-run"
    assert send(world, "ada", job.metrics("loss", [1.0])).status_code == 200


def test_the_refusal_does_not_depend_on_what_this_process_remembers(world: World, job: Job) -> None:
    rows(world, "FROM runs")
    world.node.bindings._known.clear()
    assert send(world, "bob", job.metrics("loss", [9.0])).status_code == 403


def test_who_manages_the_run_delivers_the_rest_of_an_outbox(world: World, job: Job) -> None:
    doubtful, rest = job.metrics("loss", [1.0], 1), job.metrics("loss", [2.0], 2)
    assert send(world, "ada", doubtful).status_code == 200
    assert send(world, "bob", doubtful, rest).status_code == 403
    world.grant("bob", "MANAGE", "experiment", "shared")
    assert send(world, "bob", doubtful, rest).status_code == 200
    assert send(world, "root", doubtful, rest).status_code == 200
    assert rows(world, "SELECT value FROM metrics ORDER BY 1") == [(0.0,), (1.0,), (2.0,)]
    assert rows(world, "SELECT complete, actor FROM runs") == [(True, "ada")]
    assert rows(world, "FROM dead_letters") == []
    reader = world.node.log.reader({})
    heads = [
        world.node.codec.decode(record.payload).event["envelope"]
        for record in reader.poll(1.0)
        if record.stream == "runs"
    ]
    reader.close()
    assert [(h["actor"], h["actor_verified"], h["reason"]) for h in heads[-4:]] == [
        *[("ada", False, "delivered by bob")] * 2,
        *[("ada", False, "delivered by root")] * 2,
    ]


@pytest.mark.parametrize("sequence", [-1, 2**62])
def test_absurd_numbers_are_refused(world: World, job: Job, sequence: int) -> None:
    job._sequence = sequence
    answer = send(world, "ada", job.metrics("loss", [9.0]))
    assert answer.status_code == 400
    assert "sequence number" in answer.json()["message"]


def test_an_import_cannot_use_the_servers_producer(world: World) -> None:
    world.experiment("ada", "first")
    payload = registry_event(world)
    event = world.node.codec.decode(payload).event
    writer = Writer(actor="root")
    writer.producer_id = event["envelope"]["producer_id"]
    asked = writer.event("RestoreExperiment", experiment_id="0")
    answer = world.client.post(
        "/api/v1/import", content=frame([asked.payload]), headers=world.headers["root"]
    )
    assert answer.status_code == 403
    assert answer.json()["error_code"] == "PRODUCER_TAKEN"


def registry_event(world: World) -> bytes:
    """The last event of the registry."""
    reader = world.node.log.reader({})
    found = [record.payload for record in reader.poll(1.0) if record.stream == REGISTRY]
    reader.close()
    return found[-1]


def test_a_server_whose_numbers_were_used_goes_on_at_once(world: World) -> None:
    """As one can do who writes to the registry's topic, under the same name."""
    id = world.experiment("ada", "one")

    def rename(name: str) -> None:
        world.ask("ada", "POST", f"{V2}/experiments/update", experiment_id=id, new_name=name)

    rename("first")
    payload = registry_event(world)
    type, event = world.node.codec.decode(payload)
    event["envelope"]["event_id"] = new_event_id()
    event["name"] = "stolen"
    forged = NewEvent(REGISTRY, "", encode(type, event))
    last = event["envelope"]["sequence"]
    world.node.append([stolen(forged, last + n) for n in range(3)])
    for name in ("second", "third"):
        rename(name)
    found = rows(
        world,
        "SELECT request->>'$.name', actor, accepted, code FROM audit "
        "WHERE type = 'RenameExperiment' ORDER BY log_offset",
    )
    assert found[0] == ("first", "ada", True, None)
    assert found[1] == ("stolen", "ada", None, "DEAD_LETTER")
    assert [row for row in found if row[0] == "second"] == [
        ("second", "ada", None, "DEAD_LETTER"),
        ("second", "ada", True, None),
    ]
    assert [row for row in found if row[0] == "third"] == [("third", "ada", True, None)]


def test_events_of_two_callers_have_two_producers(world: World) -> None:
    for name in ("ada", "bob", "ada"):
        world.node.append_event("TagsChanged", "r", {"tags": {name: "1"}}, Actor(name, True))
    assert rows(world, "SELECT actor, last_sequence FROM fold.producers WHERE subject = 'run/r' "
                       "ORDER BY 1") == [("ada", 1), ("bob", 0)]  # fmt: skip
