"""Live streams: what they report, to whom, from where, and when they end."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn

from access_users import PASSWORD, basic
from access_world import World, world_in
from api_server import Job, Server
from modeltrail.api import live as streams
from modeltrail.api.access import admin as access_admin
from modeltrail.api.access.admin import BY_SERVER
from modeltrail.api.connections import Connection
from modeltrail.api.live import parse_position, position_text
from modeltrail.eventlog import RUNS, NewEvent, Partition

LIVE = "/api/v1/live"
WAIT_S = 20.0


class Event(NamedTuple):
    name: str
    id: str | None
    data: Any


class Listener:
    """A client of a stream, which collects its events."""

    def __init__(
        self, port: int, query: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.request("GET", f"{LIVE}{query}", headers=dict(headers or {}))
        self.answer = self.connection.getresponse()
        self.events: list[Event] = []
        self.ended = threading.Event()
        self._more = threading.Condition()
        if self.answer.status == 200:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        with suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            while line := self.answer.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                    continue
                event = Event(fields["event"], fields.get("id"), json.loads(fields["data"]))
                fields = {}
                with self._more:
                    self.events.append(event)
                    self._more.notify_all()
        self.ended.set()

    def wait(self, name: str, **having: Any) -> Event:
        """The first event of a name with these values."""

        def found() -> Event | None:
            return next(
                (e for e in self.events if e.name == name and having.items() <= e.data.items()),
                None,
            )

        with self._more:
            assert self._more.wait_for(lambda: found() is not None, WAIT_S), self.events
        event = found()
        assert event is not None
        return event

    def of(self, name: str) -> list[Any]:
        return [event.data for event in self.events if event.name == name]

    def run_ids(self) -> set[str]:
        return {run_id for data in self.of("runs") for run_id in data["run_ids"]}

    def close(self) -> None:
        with suppress(OSError):
            if self.connection.sock is not None:
                self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class Place(NamedTuple):
    world: World
    port: int

    @contextmanager
    def listening(self, who: str, query: str = "", **headers: str) -> Iterator[Listener]:
        listener = Listener(self.port, query, {**self.world.headers[who], **headers})
        assert listener.answer.status == 200, listener.answer.read()
        try:
            listener.wait("hello")
            yield listener
        finally:
            listener.close()

    def run(self, run_id: str, experiment_id: str, **start: Any) -> Job:
        job = Job(run_id, experiment_id=experiment_id, experiment_name=None, **start)
        self.say(job, job.started())
        return job

    def say(self, job: Job, *payloads: bytes) -> None:
        self.world.node.append([NewEvent(RUNS, job.run_id, payload) for payload in payloads])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with world_in(tmp_path_factory.mktemp("live")) as world, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(
            world.client.app, lifespan="off", log_level="warning", http=Connection, ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Place(world, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def test_runs_registry_and_tail(place: Place) -> None:
    experiment = place.world.experiment("root", "all")
    with place.listening("root", "?registry=true&tail=true") as heard:
        hello = heard.of("hello")[0]
        assert hello["lag_ms"] is None or hello["lag_ms"] >= 0
        assert hello["time"].endswith("Z")
        job = place.run("r1", experiment)
        place.say(job, job.metrics("loss", [1.0, 2.0]))
        place.say(job, job.event("RunEnded", status="FINISHED", ended_at_ms=1))
        metrics = heard.wait("tail", type="MetricsLogged", run_id="r1")
        assert (metrics.data["points"], metrics.data["keys"]) == (2, ["loss"])
        assert metrics.data["outcome"] == "applied"
        place.world.ask("root", "POST", "/api/2.0/mlflow/registered-models/create", name="m")
        place.world.ask("root", "POST", "/api/2.0/mlflow/registered-models/create", 400, name="m")
        accepted = heard.wait("registry", type="CreateRegisteredModel", accepted=True)
        refused = heard.wait("registry", type="CreateRegisteredModel", accepted=False)
        assert (accepted.data["model"], accepted.data["actor"]) == ("m", "root")
        assert refused.data["code"] == "RESOURCE_ALREADY_EXISTS"
        heard.wait("tail", type="CreateRegisteredModel", outcome="refused")
        runs = heard.of("runs")
        assert {"r1"} == heard.run_ids()
        assert [id for data in runs for id in data["created"]] == ["r1"]
        assert [id for data in runs for id in data["ended"]] == ["r1"]


def test_only_what_one_may_read_and_asked_for(place: Place) -> None:
    hers, his = (place.world.experiment(who, f"of {who}") for who in ("ada", "bob"))
    everything = "?registry=true&tail=true"
    with (
        place.listening("ada", everything) as ada,
        place.listening("root", f"?experiments={his}") as of_his,
        place.listening("root", "?runs=her-run,none") as of_run,
    ):
        for run_id, experiment in (("his-run", his), ("her-run", hers)):
            job = place.run(run_id, experiment, name="a secret name")
            place.say(job, job.metrics("covert", [1.0]))
        place.world.ask("bob", "POST", "/api/2.0/mlflow/registered-models/create", name="his-model")
        place.world.ask("ada", "POST", "/api/2.0/mlflow/registered-models/create", name="her-model")
        place.world.experiment("bob", "another of bob")
        ada.wait("registry", model="her-model")
        ada.wait("tail", run_id="her-run", type="MetricsLogged")
        of_his.wait("runs")
        of_run.wait("runs")
        assert ada.run_ids() == of_run.run_ids() == {"her-run"}
        assert of_his.run_ids() == {"his-run"}
        text = json.dumps(ada.events)
        assert not any(word in text for word in ("his-", "bob", his, "another"))
        assert not of_run.of("registry") + of_run.of("tail")
        # A permission that is granted, or taken away, counts at once.
        place.world.grant("ada", "READ", "experiment", "of bob")
        job = place.run("his-second", his)
        ada.wait("tail", run_id="his-second")
        access_admin.revoke(
            place.world.node,
            BY_SERVER,
            access_admin.Holder("ada"),
            access_admin.target_of(place.world.node, "experiment", "of bob"),
        )
        place.run("his-third", his)
        place.run("her-second", hers)
        ada.wait("tail", run_id="her-second")
        assert "his-third" not in json.dumps(ada.events)


def test_a_stream_resumes_where_it_was(place: Place) -> None:
    experiment = place.world.experiment("root", "resumed")
    with place.listening("root", "?registry=true") as heard:
        place.run("before", experiment)
        last = heard.wait("runs").id
    assert last is not None
    job = place.run("missed", experiment)
    place.say(job, job.event("RunEnded", status="FAILED", ended_at_ms=1))
    place.world.ask("root", "POST", "/api/2.0/mlflow/registered-models/create", name="missed")
    for query, headers in ((f"&after={last}", {}), ("", {"Last-Event-ID": last})):
        with place.listening("root", f"?registry=true{query}", **headers) as again:
            runs = again.wait("runs").data
            assert runs == {"run_ids": ["missed"], "ended": ["missed"], "created": ["missed"]}
            again.wait("registry", model="missed")
            place.world.ask(
                "root", "POST", "/api/2.0/mlflow/registered-models/set-tag",
                name="missed", key="k", value="v",
            )  # fmt: skip
            again.wait("registry", type="ChangeRegisteredModelTags")
            offsets = [data["log_offset"] for data in again.of("registry")]
            assert offsets == sorted(set(offsets))


def test_the_stream_ends_with_the_rights(place: Place) -> None:
    node = place.world.node
    access_admin.create_user(node, BY_SERVER, "eve", PASSWORD, admin=False)
    token = access_admin.create_token(node, BY_SERVER, "eve")
    place.world.headers |= {
        "eve": {"Authorization": f"Bearer {token.token}"}, "eve by password": basic("eve", PASSWORD)
    }  # fmt: skip
    with place.listening("eve") as by_token, place.listening("eve by password") as by_password:
        place.world.ask("root", "DELETE", f"/api/v1/tokens/{token.token_id}")
        assert by_token.ended.wait(WAIT_S)
        assert not by_password.ended.is_set()
        place.world.ask("root", "DELETE", "/api/v1/users/eve")
        assert by_password.ended.wait(WAIT_S)


def test_limits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS_OF_ONE_MAX", 2)
    with place.listening("ada"), place.listening("ada"), place.listening("bob"):
        third = Listener(place.port, "", place.world.headers["ada"])
        assert third.answer.status == 429
        third.close()
    deadline = time.monotonic() + WAIT_S
    while (answer := Listener(place.port, "", place.world.headers["ada"])).answer.status == 429:
        answer.close()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    answer.close()
    for query in (
        "?after=nonsense",
        "?after=runs:0:-1",
        f"?after=runs:0:{'1' * 40}",
        f"?runs={','.join(map(str, range(1001)))}",
    ):
        refused = Listener(place.port, query, place.world.headers["ada"])
        assert refused.answer.status == 400
        refused.close()


def test_a_client_that_does_not_read_is_dropped(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "QUEUE_MAX", 20)
    monkeypatch.setattr(streams, "RUNS_MAX", 20)
    experiment = place.world.experiment("root", "many")
    with place.listening("root", "?tail=true") as heard:
        jobs = [Job(f"many-{n}", experiment_id=experiment) for n in range(21)]
        place.world.node.append([NewEvent(RUNS, job.run_id, job.started()) for job in jobs])
        assert heard.ended.wait(WAIT_S)
    # Events of the tail are left out instead, and counted.
    with place.listening("root", "?tail=true") as heard:
        job = Job("busy", experiment_id=experiment)
        said = [job.started(), *(job.metrics("loss", [1.0], n) for n in range(99))]
        place.say(job, *said)
        skipped = heard.wait("tail", skipped=80)
        assert skipped.data == {"skipped": 80}
        assert len(heard.of("tail")) == 21


def test_beats_and_head(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BEAT_S", 0.1)
    with place.listening("ada") as heard:
        beat = heard.wait("beat")
        assert beat.data.keys() == {"position", "time", "lag_ms"}
        assert beat.id == beat.data["position"]
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=30)
    connection.request("HEAD", LIVE, headers=place.world.headers["ada"])
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    answer.read()
    connection.request("GET", "/health")  # the connection is free again
    assert connection.getresponse().status == 200
    connection.close()


def test_positions_as_text() -> None:
    positions = {Partition("runs", 3): 8, Partition("registry", 0): 32, Partition("runs", 0): 0}
    assert position_text(positions) == "registry:0:31,runs:3:7"
    assert parse_position("registry:0:31,runs:3:7") == {
        Partition("registry", 0): 31, Partition("runs", 3): 7
    }  # fmt: skip
    assert parse_position("") == {}


def test_a_server_that_stops_ends_its_streams_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        server.ready()
        heard = Listener(server.port, "?tail=true")
        heard.wait("hello")
        job = Job()
        server.ingest(job.started())
        heard.wait("runs")
        began = time.monotonic()
        code, _, err = server.stop()
        assert heard.ended.wait(WAIT_S)
        assert code == 0
        assert "Traceback" not in err
        # Uvicorn waits 5 s for answers.
        assert time.monotonic() - began < 4.5
        heard.close()
    finally:
        server.stop()
