"""GET /api/v1/events/{position}: one event of the log, for those who may read what it is about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from access_world import V1, World, world_in
from api_server import Job
from modeltrail.eventlog import RUNS, NewEvent


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("events")) as world:
        yield world


def append(world: World, key: str, payload: bytes) -> str:
    (position,) = world.node.append([NewEvent(RUNS, key, payload)])
    return str(position)


def test_an_event_of_a_run_has_fields_and_schema(world: World) -> None:
    experiment = world.experiment("root", "/open/one")
    job = Job("a" * 32, experiment_id=experiment, experiment_name=None)
    append(world, job.run_id, job.started())
    params = {"lr": "0.1", "long": "x" * 5_000}
    payload = job.event("ParamsLogged", params=params)
    at = append(world, job.run_id, payload)
    shown = world.ask("root", "GET", f"{V1}/events/{at}")
    assert (shown["position"], shown["type"], shown["bytes"]) == (at, "ParamsLogged", len(payload))
    assert shown["event"]["params"]["lr"] == "0.1"
    assert shown["event"]["params"]["long"] == "x" * 2_000 + "…"
    assert shown["cut"] is True
    assert shown["error"] is None
    assert shown["schema"]["fingerprint"] == payload[2:10].hex()
    assert "params" in {field["name"] for field in shown["schema"]["fields"]}
    assert shown["schema"]["doc"]


def test_who_may_not_read_the_run_finds_no_event(world: World) -> None:
    experiment = world.experiment("root", "/closed/two")
    job = Job("b" * 32, experiment_id=experiment, experiment_name=None)
    at = append(world, job.run_id, job.started())
    hidden = world.ask("ada", "GET", f"{V1}/events/{at}", 404)
    beyond = world.ask("ada", "GET", f"{V1}/events/runs:0:999999", 404)
    assert hidden["error_code"] == beyond["error_code"]
    assert hidden["message"].replace(at, "") == beyond["message"].replace("runs:0:999999", "")
    world.grant("ada", "READ", "experiment", "/closed/two")
    assert world.ask("ada", "GET", f"{V1}/events/{at}")["type"] == "RunStarted"


def test_a_dead_letter_says_why_and_is_for_administrators(world: World) -> None:
    at = append(world, "x", b"nonsense")
    shown = world.ask("root", "GET", f"{V1}/events/{at}")
    assert shown["type"] is None
    assert shown["event"] is None
    assert "not an event" in shown["error"]
    world.ask("ada", "GET", f"{V1}/events/{at}", 404)


def test_secrets_of_the_registry_are_left_out(world: World) -> None:
    made = world.ask("root", "POST", f"{V1}/users", user="carol", password="a long password 123")
    shown = world.ask("root", "GET", f"{V1}/events/{made['position']}")
    assert shown["type"] == "CreateUser"
    assert shown["event"]["user"] == "carol"
    assert "scrypt" not in str(shown)
    world.ask("ada", "GET", f"{V1}/events/{made['position']}", 404)


@pytest.mark.parametrize(
    "position", ["x", "runs:0", "runs:0:-1", "other:0:1", "runs:0:" + "9" * 50]
)
def test_a_wrong_position_is_refused(world: World, position: str) -> None:
    answer = world.client.get(f"{V1}/events/{position}", headers=world.headers["root"])
    assert answer.status_code in (400, 404)
    assert position[:20] in answer.json()["message"]
