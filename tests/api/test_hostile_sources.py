"""Hostile sources of versions and locations of logged models: at every door, and when fetched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from access_world import V1, V2, World, open_node
from api_server import Job
from modeltrail.api.access.acts import Level
from modeltrail.api.access.files import check_source
from modeltrail.api.access.rights import EXPERIMENT, Rights
from modeltrail.api.artifacts.places import NotServed, download_uri, place_under
from modeltrail.api.errors import ApiError
from modeltrail.api.node import Node
from modeltrail.api.registry.sources import lineage, take_over
from modeltrail.consumers.caretaker import Caretaker
from modeltrail.eventlog import NewEvent, open_log
from modeltrail.schemas import encode, envelope, new_event_id

NAMES = ("a@b", "a#b", "a?b", "a%40b", "a%2Fb", "a@b@c", "a#b?c")
"""Names of models of ada's; bob has those that a careless reader takes them for."""


class Models:
    """Ada's secret run and models made from it, and bob's run and models; caretaking on demand."""

    def __init__(self, node: Node, caretaker: Caretaker) -> None:
        self.node = node
        self.caretaker = caretaker
        self.world = world = World(node, Level.NONE)
        world.grant("ada", "EDIT", EXPERIMENT, "ada/*")
        self.secret = world.experiment("ada", "ada/secret")
        self.victim = world.run("ada", self.secret)
        self.own_experiment = world.experiment("bob", "bobs")
        self.own = world.run("bob", self.own_experiment)
        for who, experiment, run in (
            ("ada", self.secret, self.victim),
            ("bob", self.own_experiment, self.own),
        ):
            put = world.client.put(
                f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/m/f",
                content=f"of {who}".encode(),
                headers=world.headers[who],
            )
            assert put.status_code == 200, put.text
        logged = world.ask("ada", "POST", f"{V2}/logged-models", experiment_id=self.secret)
        self.victim_model = logged["model"]["info"]["model_id"]
        put = world.client.put(
            f"/api/2.0/mlflow-artifacts/artifacts/{self.secret}/models/{self.victim_model}"
            "/artifacts/f",
            content=b"of ada",
            headers=world.headers["ada"],
        )
        assert put.status_code == 200, put.text
        for name in NAMES:
            self.version("ada", name, f"runs:/{self.victim}/m")
        for name in ("a", "bobs", "b", "a@b@"):
            self.version("bob", name, f"runs:/{self.own}/m")

    def version(self, who: str, model: str, source: str) -> None:
        self.world.ask(who, "POST", f"{V2}/registered-models/create", name=model)
        self.world.ask(who, "POST", f"{V2}/model-versions/create", name=model, source=source)

    def append(self, type: str, key: str, /, **fields: Any) -> None:
        """Append to the log itself, past every check."""
        head = envelope(producer_id=new_event_id(), sequence=0, actor="bob", client="t")
        stream = "runs" if "run_id" in fields and type != "CreateModelVersion" else "registry"
        stream = "runs" if type.startswith("LoggedModel") else stream
        self.node.log.append([NewEvent(stream, key, encode(type, {"envelope": head, **fields}))])
        self.node.wait(log_end=True)

    def register(self, source: str) -> Job:
        """Let a job of bob's ask for a version, past the server."""
        job = Job(new_event_id().hex(), experiment_name="bobs")
        fields: dict[str, Any] = {
            "model": "bobs",
            "source": source,
            "description": None,
            "tags": {},
            "aliases": [],
        }
        payloads = [job.started(), job.event("ModelRegistrationRequested", **fields)]
        self.node.log.append([NewEvent("runs", job.run_id, payload) for payload in payloads])
        self.node.wait(log_end=True)
        self.caretaker.look(time.time_ns() // 1_000_000, time.monotonic())
        self.node.wait(log_end=True)
        return job

    def registered(self, job: Job) -> tuple[Any, ...] | None:
        with self.node.read(log_end=True) as cursor:
            return cursor.execute(
                "SELECT accepted, message FROM registrations WHERE run_id = ?", [job.run_id]
            ).fetchone()

    def fetched(self, who: str, model: str, version: int, path: str = "f") -> tuple[int, bytes]:
        answer = self.world.client.get(
            "/model-versions/get-artifact",
            params={"name": model, "version": version, "path": path},
            headers=self.world.headers[who],
        )
        return answer.status_code, answer.content


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    log = open_log(str(tmp_path_factory.mktemp("hostile") / "data"))
    node, fold = open_node(log, tmp_path_factory.mktemp("artifacts"))
    found = Models(node, Caretaker(log, fold, take_over))
    with found.world.client:
        yield found
    node.stop()
    fold.stop()
    log.close()


CLIMBING = (
    "s3://x/../y",
    "s3://x/%2e%2e/y",
    "s3://x/%252e%252e/y",
    "s3:x",
    "http://x/a/..",
    "https://x/a%00",
    "runs:/{own}/../../{victim}/artifacts/m",
    "runs:/{own}/%2e%2e/{victim}/m",
    "runs:/{own}/..\\{victim}",
    "runs:{own}/m",
    "runs:/{own}\n/m",
    "\truns:/{victim}/m",
    "models:/a/../a@b/1",
    "models:/a/1/..",
    "mlflow-artifacts:/{own_experiment}/{own}/artifacts/../../../{secret}/{victim}/artifacts/m",
    "mlflow-artifacts://h/{own_experiment}/{own}/artifacts/%2e%2e/x",
    "s3://x/%" + "25" * 20 + "2e",
)
LOCAL = ("file:///etc", "FILE:///etc", "/etc", "etc/passwd/../..", "C:\\Windows", "file://[x/etc")
FOREIGN = (
    "runs:/{victim}/m",
    "RUNS:/{victim}/m",
    "runs:///{victim}/m",
    "mlflow-artifacts:/{secret}/{victim}/artifacts/m",
    "MLFLOW-ARTIFACTS:/{own_experiment}/{victim}/artifacts/m",
    "mlflow-artifacts://host/{secret}/{victim}/artifacts/m",
    "http://h/api/2.0/mlflow-artifacts/artifacts/{own_experiment}/{victim}/artifacts/m",
    "models:/{victim_model}",
    "mlflow-artifacts:/{secret}/models/{victim_model}/artifacts",
    *(f"models:/{name}/1" for name in NAMES),
    *(f"models:/{name}/latest" for name in NAMES),
)


def filled(models: Models, source: str) -> str:
    for name in ("own", "victim", "own_experiment", "secret", "victim_model"):
        source = source.replace("{" + name + "}", getattr(models, name))
    return source


@pytest.mark.parametrize("source", [*CLIMBING, *LOCAL, *FOREIGN])
def test_no_door_takes_a_hostile_source(models: Models, source: str) -> None:
    expected = (403, 404) if source in FOREIGN else (400,)
    source = filled(models, source)
    ask = {"name": "bobs", "source": source}
    for run in ({}, {"run_id": models.own}):
        for path, body in (
            (f"{V2}/model-versions/create", ask | run),
            (f"{V1}/models/bobs/versions", {"source": source} | run),
        ):
            answer = models.world.client.post(path, json=body, headers=models.world.headers["bob"])
            assert answer.status_code in expected, (path, body, answer.text)
    if expected == (400,) and not source.startswith("etc"):
        # Who may do everything gets no further.
        answer = models.world.client.post(
            f"{V1}/models/bobs/versions",
            json={"source": source},
            headers=models.world.headers["root"],
        )
        assert answer.status_code == 400


@pytest.mark.parametrize("source", [*CLIMBING, *FOREIGN])
def test_ingest_takes_none_either(models: Models, source: str) -> None:
    hostile = filled(models, source)
    expected = (403, 404) if source in FOREIGN else (400,)
    job = Job(models.own)
    asked = job.event(
        "ModelRegistrationRequested",
        model="bobs", source=hostile, description=None, tags={}, aliases=[],
    )  # fmt: skip
    assert models.world.ingest("bob", asked) in expected
    head = envelope(producer_id=new_event_id(), sequence=0, actor="bob", client="t")
    fields: dict[str, Any] = {
        "model_id": "m-" + new_event_id().hex(),
        "experiment_id": models.own_experiment,
        "name": "thief",
        "model_type": None,
        "source_run_id": None,
        "artifact_location": hostile,
        "params": {},
        "tags": {},
    }
    logged = encode("LoggedModelCreated", {"envelope": head, **fields})
    assert models.world.ingest("bob", logged) in expected


@pytest.mark.parametrize("source", [*CLIMBING, *LOCAL, "../{victim}/m", "models:/not there/1"])
def test_what_a_run_asks_for_is_refused_in_the_trail(models: Models, source: str) -> None:
    job = models.register(filled(models, source))
    found = models.registered(job)
    if source in ("etc/passwd/../..", "C:\\Windows"):
        # A path within the run's artifacts, or the name of one.
        assert found is not None
        return
    assert found is not None
    assert found[0] is False, (source, found)
    assert "Invalid" in found[1] or "not found" in found[1] or "valid remote uri" in found[1]
    assert models.caretaker.look(time.time_ns() // 1_000_000, time.monotonic()) == 0


def test_what_a_run_asks_for_comes_from_where_its_source_is(models: Models) -> None:
    for source, run_id in (
        ("m", None),
        (f"runs:/{models.own}/m", models.own),
        ("models:/bobs/latest", models.own),
        ("s3://bucket/m", None),
    ):
        job = models.register(source)
        assert models.registered(job) == (True, None)
        with models.node.read() as cursor:
            found = cursor.execute(
                "SELECT run_id FROM model_versions WHERE model = 'bobs' ORDER BY version DESC"
            ).fetchone()
        assert found == (run_id or job.run_id,)


@pytest.mark.parametrize("source", [*CLIMBING, *LOCAL, *FOREIGN])
def test_a_version_that_nobody_checked_gives_nothing_away(models: Models, source: str) -> None:
    source = filled(models, source)
    models.append(
        "CreateModelVersion", "bobs", model="bobs", source=source, run_id=models.own, tags={},
        aliases=[],
    )  # fmt: skip
    with models.node.read() as cursor:
        row = cursor.execute(
            "SELECT max(version) FROM model_versions WHERE model = 'bobs'"
        ).fetchone()
    assert row is not None
    for path in ("f", "m/f", "passwd"):
        status, content = models.fetched("bob", "bobs", row[0], path)
        assert status in (400, 403, 404, 501), (source, content)
        assert content != b"of ada"


@pytest.mark.parametrize("source", [*FOREIGN[:4], "models:/{victim_model}", "models:/a@b/1"])
def test_who_may_read_the_run_may_fetch(models: Models, source: str) -> None:
    source = filled(models, source)
    models.append("CreateModelVersion", "a", model="a", source=source, tags={}, aliases=[])
    with models.node.read() as cursor:
        row = cursor.execute("SELECT max(version) FROM model_versions WHERE model = 'a'").fetchone()
    assert row is not None
    assert models.fetched("root", "a", row[0]) == (200, b"of ada")
    assert models.fetched("bob", "a", row[0])[0] == 403


@pytest.mark.parametrize("source", [s for s in FOREIGN if not s.startswith("models:")])
def test_a_logged_model_that_nobody_checked_gives_nothing_away(models: Models, source: str) -> None:
    model_id = "m-" + new_event_id().hex()
    models.append(
        "LoggedModelCreated",
        model_id,
        model_id=model_id,
        experiment_id=models.own_experiment,
        name="thief",
        model_type=None,
        source_run_id=models.own,
        artifact_location=filled(models, source),
        params={},
        tags={},
    )
    for path in (
        f"/ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files?artifact_file_path=f",
        f"{V2}/logged-models/{model_id}/artifacts/directories",
    ):
        answer = models.world.client.get(path, headers=models.world.headers["bob"])
        assert answer.status_code in (403, 501), (path, answer.text)
    # A version that is made from it, and one that names it by the run.
    for source in (f"models:/{model_id}", f"runs:/{models.own}/thief"):
        models.append(
            "CreateModelVersion", "bobs", model="bobs", source=source, tags={}, aliases=[]
        )
        with models.node.read() as cursor:
            row = cursor.execute(
                "SELECT max(version) FROM model_versions WHERE model = 'bobs'"
            ).fetchone()
        assert row is not None
        assert models.fetched("bob", "bobs", row[0])[0] in (403, 501)


def test_an_upload_in_parts_is_checked_with_its_name(models: Models) -> None:
    path = f"/api/2.0/mlflow-artifacts/mpu/create/{models.own_experiment}/{models.victim}"
    for name in ("artifacts", "x/artifacts"):
        answer = models.world.client.post(
            path, json={"path": name, "num_parts": 1}, headers=models.world.headers["bob"]
        )
        assert answer.status_code == 403, answer.text


# One parser


class Spy(Rights):
    """Allows everything, and notes what was asked about."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def run(self, run_id: str, need: Level) -> None:
        self.asked.add(run_id)

    def logged_model(self, model_id: str, need: Level) -> None:
        self.asked.add(model_id)

    def model(self, name: str, need: Level) -> None:
        self.asked.add(name)


SCHEMES = st.sampled_from(
    ["runs:", "models:", "mlflow-artifacts:", "Runs:", "MODELS:", "s3:", "file:", "", " runs:",
     "http://h/api/2.0/mlflow-artifacts/artifacts/", "ru\tns:"]
)  # fmt: skip
PIECES = st.sampled_from(
    ["{own}", "{victim}", "{victim_model}", "{secret}", "{own_experiment}", "artifacts", "models",
     "a", "b", "1", "@", "#", "?", "%", "%40", "%23", "%2F", "%2e", "..", ".", "/", "//", "m",
     "latest", *NAMES]
)  # fmt: skip


@settings(deadline=None)
@given(SCHEMES, st.sampled_from(["", "/", "//", "///", "//h/"]), st.lists(PIECES, max_size=8))
def test_what_is_fetched_is_what_was_checked(
    models: Models, scheme: str, slashes: str, pieces: list[str]
) -> None:
    source = filled(models, scheme + slashes + "".join(pieces))
    _compare(models, source)


@pytest.mark.parametrize("source", [*CLIMBING, *LOCAL, *FOREIGN])
def test_what_is_fetched_of_these_is_what_was_checked(models: Models, source: str) -> None:
    _compare(models, filled(models, source))
    _compare(models, quote(filled(models, source), safe=":/"))


def _compare(models: Models, source: str) -> None:
    spy = Spy()
    with models.node.read() as cursor:
        try:
            check_source(spy, source)
            origin = lineage(cursor, source, None, None)
            check_source(spy, *origin)
        except ApiError:
            origin = None
        try:
            uri = download_uri(cursor, source if origin is None else origin.source, 2**53)
            place = place_under(cursor, uri)
        except NotServed:
            return
        except ApiError:
            assert origin is None, source
            return
    if origin is not None and place.kind != "other":
        assert place.id in spy.asked, (source, place, spy.asked)
