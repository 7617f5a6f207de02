"""Runs as of a moment: the same as a replay of the whole log up to it; and the events of a run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from starlette.testclient import TestClient

from access_world import V1, world_in
from api_server import Job
from modeltrail.api.access.rights import EVERYTHING
from modeltrail.api.app import create_app
from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.node import Node
from modeltrail.api.runs import one as one_run
from modeltrail.api.runs import query as runs_query
from modeltrail.api.runs.query import Finder, RunsQuery
from modeltrail.consumers import Fold
from modeltrail.consumers import moments as moments_of_log
from modeltrail.consumers.replay import bounds, parse_moment
from modeltrail.eventlog import RUNS, EventLog, NewEvent, Position
from modeltrail.eventlog.memory import MemoryLog
from writers import RunWriter, Writer

START_MS = 1_772_366_400_000
COLUMNS = ["run_id", "run_name", "status", "end_time", "message", "deleted", "complete",
           "events_missing", "events_after_end", "points_stored", "last_heartbeat", "params.lr",
           "tags.t", "metrics.loss", "metrics.loss.min", "metrics.loss.points", "children",
           "position"]  # fmt: skip


@contextmanager
def a_node(log: EventLog, folder: Path) -> Iterator[Node]:
    fold = Fold(log, None, memory_limit="1GB", threads=2)
    fold.start()
    node = Node(log, fold, ArtifactStore(folder))
    node.start()
    try:
        yield node
    finally:
        node.stop()
        fold.stop()


def _an_event(dice: random.Random, run: RunWriter) -> NewEvent:
    choice = dice.randrange(12)
    if choice == 0:
        return run.started(params={"lr": dice.choice("123")}, parent_run_id="r0")
    if choice < 4:
        return run.metric(dice.choice(["loss", "acc"]), dice.randrange(6), dice.random())
    if choice == 4:
        return run.of_run("ParamsLogged", params={dice.choice(["lr", "p"]): dice.choice("123")})
    if choice == 5:
        return run.of_run("TagsChanged", tags={"t": dice.choice(["a", "b", None])})
    if choice == 6:
        return run.ended(dice.choice(["FINISHED", "FAILED", "nonsense"]), message="done")
    if choice == 7:
        status = dice.choice(["RUNNING", None])
        return run.of_run("RunUpdated", name=dice.choice("xyz"), status=status, ended_at_ms=None)
    if choice == 8:
        return run.of_run(dice.choice(["RunDeleted", "RunRestored"]))
    if choice == 9:
        run.sequence += dice.randrange(1, 3)  # lost events
        return run.of_run("Heartbeat", points_logged=3, points_dropped=dice.randrange(2))
    if choice == 10:
        path = dice.choice(["a", "../up"])
        return run.of_run("ArtifactLogged", path=path, size_bytes=1, sha256="0", location="x")
    return run.of_run("RunHeartStopped", last_seen_offset=dice.randrange(9), last_seen_at_ms=5,
                      timeout_ms=1000)  # fmt: skip


def filled(seed: int) -> tuple[MemoryLog, random.Random]:
    """A log of a few runs and experiments, with repeats, gaps and dead letters."""
    dice = random.Random(seed)
    clock = iter(range(START_MS, START_MS + 10**9, 1_000))
    log = MemoryLog(2, clock_ms=lambda: next(clock))
    runs = [RunWriter(f"r{n}") for n in range(4)]
    server = Writer("server")
    said: list[NewEvent] = []
    for n in range(60):
        if n == 20:
            log.append([server.event("CreateExperiment", name="digits")])
        run = dice.choice(runs)
        event = run.started(params={"lr": "1"}) if not run.sequence else _an_event(dice, run)
        said.append(event)
        log.append([*dice.choices(said[-4:], k=dice.randrange(2)), event])
    log.append([NewEvent(RUNS, "r0", b"no event")])
    return log, dice


def moments(log: EventLog, dice: random.Random) -> list[str]:
    found = [
        f"{p}:{dice.randrange(n)}" for p, n in log.end().items() if n
    ]  # fmt: skip
    times = [START_MS + dice.randrange(70_000) for _ in range(2)]
    return [*found, *(datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in times)]


@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_a_replay(seed: int, tmp_path: Path) -> None:
    log, dice = filled(seed)
    with a_node(log, tmp_path) as node, node.read() as cursor:
        for as_of in moments(log, dice):
            fold = Fold(log, None, memory_limit="1GB", threads=1)
            fold.open()
            fold.catch_up(bounds(log, parse_moment(as_of)))
            then = fold.cursor()
            try:
                _compare(node, cursor, then, as_of)
            finally:
                then.close()
                fold.stop()


def _compare(
    node: Node, cursor: duckdb.DuckDBPyConnection, then: duckdb.DuckDBPyConnection, as_of: str
) -> None:
    for run_id in ("r0", "r1", "r2", "r3"):
        try:
            found = one_run.run_of(node, cursor, EVERYTHING, run_id, as_of)
        except NotFound:
            assert not then.execute("FROM runs WHERE run_id = ?", [run_id]).fetchall(), as_of
            continue
        expected = one_run.run_of(node, then, EVERYTHING, run_id)
        assert found.pop("as_of")["time"]
        assert found == expected, (run_id, as_of)
    asked = {"columns": COLUMNS, "view": "all"}
    for more in (
        {},
        {"view": "active", "filter": "status != 'RUNNING'"},
        {"order": [{"column": "run_name"}, {"column": "status"}], "tree": True},
        {"group": ["status"], "columns": []},
    ):
        query = {**asked, **more}
        now = Finder(cursor, EVERYTHING, _query(**query, as_of=as_of), node).answer()
        replayed = Finder(then, EVERYTHING, _query(**query)).answer()
        assert now.dicts() == replayed.dicts(), (as_of, more)
        assert now.about["count"] == replayed.about["count"]
        assert now.about["as_of"]["searched_as_now"] == []
        assert now.about["sql"] is None


def _query(**fields: Any) -> RunsQuery:
    return RunsQuery.model_validate(fields)


def test_points_as_of_a_moment_and_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog(1)
    run = RunWriter("r0")
    log.append([run.started(), *(run.metric("loss", step, 1.0 / (step + 1)) for step in range(9))])
    with (
        a_node(log, tmp_path) as node,
        TestClient(create_app(node), base_url="http://localhost") as client,
    ):

        def ask(path: str, as_of: str, **given: str) -> Any:
            return client.get(f"{V1}/runs/{path}", params={"as_of": as_of, **given})

        points = ask("r0/metrics/loss", "runs:0:4", limit="2").json()
        assert [p["step"] for p in points["points"]] == [0, 1]
        token = points["next_page_token"]
        points = ask("r0/metrics/loss", "runs:0:4", page_token=token).json()
        assert [p["step"] for p in points["points"]] == [2, 3]
        assert ask("r0", "runs:0:4", extremes="true").json()["metrics"][0]["min"] == 0.25
        assert ask("r0/metrics/loss", "2020-01-01").status_code == 404
        assert ask("none", "runs:0:4").status_code == 404

        def query(status: int, format: str = "json", **body: Any) -> Any:
            path = f"{V1}/runs/query?format={format}"
            answer = client.post(path, json={"as_of": "runs:0:4", **body})
            assert answer.status_code == status, answer.text
            return answer.json()

        assert query(200, columns=["metrics.loss"])["rows"] == [{"metrics.loss": 0.25}]
        assert "all rows" in query(400, format="csv")["message"]
        monkeypatch.setattr(moments_of_log, "EVENTS_MAX", 4)
        for answer in (ask("r0", "runs:0:4"), ask("r0/metrics/loss", "runs:0:4")):
            assert answer.status_code == 400
            assert "modeltrail replay" in answer.json()["message"]
        assert "too many" in query(400, columns=["metrics.loss"])["message"]
        assert query(200, columns=["run_id"])["rows"] == [{"run_id": "r0"}]
        monkeypatch.setattr(moments_of_log, "BYTES_MAX", 200)
        assert "bytes" in query(400, as_of="runs:0:3", columns=["metrics.loss"])["message"]
        monkeypatch.setattr(runs_query, "FOLDED_MAX", 0)
        assert "at most 0 rows" in query(400, columns=["metrics.loss"])["message"]


def test_moments_that_are_none(tmp_path: Path) -> None:
    log, _ = filled(1)
    with a_node(log, tmp_path) as node, node.read() as cursor:
        for as_of in ("yesterday", "runs:0:100000", "runs:7:0", "runs:x", "registry:0:9", "99"):
            with pytest.raises(InvalidRequest, match="as_of"):
                one_run.run_of(node, cursor, EVERYTHING, "r0", as_of)
        for as_of in ("2020-01-01", "0001-01-01T00:00:00"):
            with pytest.raises(NotFound, match="there was no run 'r0' as of"):
                one_run.run_of(node, cursor, EVERYTHING, "r0", as_of)
        found = Finder(cursor, EVERYTHING, _query(as_of="2020-01-01"), node).answer()
        assert (found.rows, found.about["count"]) == ([], 0)
        filter = "metrics.loss > 0 AND tags.t = 'a' AND status = 'RUNNING'"
        query = _query(as_of="registry:0:0", filter=filter, order=[{"column": "last_heartbeat"}])
        about = Finder(cursor, EVERYTHING, query, node).answer().about
        assert about["as_of"]["searched_as_now"] == ["last_heartbeat", "metrics.loss", "tags.t"]


def test_the_events_of_a_run(tmp_path: Path) -> None:
    log, _ = filled(2)
    with a_node(log, tmp_path) as node:
        with node.read() as cursor:
            (run,) = cursor.execute("SELECT run FROM fold.runs WHERE run_id = 'r1'").fetchone() or (
                -1,
            )
            there = cursor.execute(
                "SELECT 'runs:' || partition || ':' || \"offset\" FROM fold.links WHERE run = ? "
                'ORDER BY appended_at_ms DESC, partition DESC, "offset" DESC',
                [run],
            ).fetchall()
            dead = {
                f"runs:{partition}:{offset}"
                for partition, offset in cursor.execute(
                    "SELECT partition, log_offset FROM dead_letters"
                ).fetchall()
            }
        with TestClient(create_app(node), base_url="http://localhost") as client:
            events: list[dict[str, Any]] = []
            token: str | None = None
            while not events or token:
                params = {"limit": "7", **({"page_token": token} if token else {})}
                body = client.get(f"{V1}/runs/r1/events", params=params).json()
                events += body["events"]
                token = body["next_page_token"]
            assert client.get(f"{V1}/runs/none/events").status_code == 404
            bad = client.get(f"{V1}/runs/r1/events", params={"page_token": "x"})
            assert bad.status_code == 400
    assert [event["position"] for event in events] == [position for (position,) in there]
    assert events[-1]["type"] == "RunStarted"
    assert events[-1]["summary"].endswith("lr = 1")
    for event in events:
        payload = _payload(log, Position.parse(event["position"]))
        assert event["bytes"] == len(payload)
    refused = {e["position"] for e in events if e["error"] is not None}
    assert refused == dead & {e["position"] for e in events}
    assert refused


def _payload(log: MemoryLog, position: Position) -> bytes:
    reader = log.reader({position.within: position.offset})
    try:
        return next(r.payload for r in reader.poll(1) if r.position == position)
    finally:
        reader.close()


def test_what_hangs_on_a_run_is_shown_to_those_who_may_read_it(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        shared, hers = (world.experiment("ada", name) for name in ("shared", "hers"))
        world.grant("bob", "READ", "experiment", "shared")
        parent = Job("parent", experiment_id=shared, experiment_name=None, params={"lr": "1"})
        start = parent.started()
        other = parent.event("ParamsLogged", params={"lr": "2"})
        parent._sequence += 2
        late = parent.event("Heartbeat", points_logged=0, points_dropped=0)
        child = Job("child", experiment_id=hers, experiment_name=None, parent_run_id="parent")
        assert world.ingest("ada", start, other, late, child.started()) == 200
        version = {"source": "s3://bucket/x", "run_id": "parent", "create_model": True}
        world.ask("ada", "POST", f"{V1}/models/secret/versions", 200, **version)
        run = world.ask("ada", "GET", f"{V1}/runs/parent")
        assert [c["run_id"] for c in run["children"]] == ["child"]
        assert [v["model"] for v in run["versions"]] == ["secret"]
        assert [c["refused_value"] for c in run["param_conflicts"]] == ["2"]
        (gap,) = run["gaps"]
        assert (gap["first"], gap["last"], run["events_missing"]) == (2, 3, 2)
        assert run["last_event"].startswith("runs:0:")
        run = world.ask("bob", "GET", f"{V1}/runs/parent")
        assert (run["children"], run["children_count"], run["versions"]) == ([], 0, [])
        for path in ("child", "child/events", "child?as_of=2030-01-01"):
            world.ask("bob", "GET", f"{V1}/runs/{path}", 403)
        before = world.ask("ada", "GET", f"{V1}/runs/parent", as_of="runs:0:0")
        assert (before["param_conflicts"], before["versions"]) == ([], [])
        assert before["children_count"] == 0
