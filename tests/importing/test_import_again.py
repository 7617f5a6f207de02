"""Imports that are killed, come again, meet other imports, or find what they cannot bring."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from api_server import Server, modeltrail
from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.cli import main
from modeltrail.api.importing.databases import DatabaseSource
from modeltrail.api.importing.destinations import NodeDestination, rows
from modeltrail.api.importing.importer import Importer, Report
from modeltrail.api.node import Node
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import open_log
from tracking_database import START_MS, TrackingDatabase

EVENTS = 2 + 2 * 3 + 5
"""Of a first import: experiments; start, points and end of runs; a model, versions, an alias."""

VERSION = "INSERT INTO model_versions VALUES ('m', ?, ?, ?, ?, NULL, ?, ?, NULL, NULL)"


@pytest.fixture
def store(tmp_path: Path) -> TrackingDatabase:
    """A database with one experiment of two runs, and a model with a gap among its versions."""
    store = TrackingDatabase(tmp_path / "mlflow.db")
    store.experiment(7, "vision")
    store.runs(7, 2, 100)
    store.execute("INSERT INTO registered_models VALUES ('m', 5, 6, 'what it is')")
    for number, stage in ((1, "None"), (2, "Deleted_Internal"), (4, "Staging")):
        store.execute(VERSION, number, 10 + number, 20 + number, f"v{number}", stage, "s3://b/m")
    store.execute("INSERT INTO registered_model_aliases VALUES ('best', 4, 'm')")
    return store


@contextmanager
def node_on(folder: Path) -> Iterator[Node]:
    """A node of this process."""
    log = open_log(str(folder / "data"))
    fold = Fold(log, None, memory_limit="1GB", threads=2)
    fold.start()
    node = Node(log, fold, ArtifactStore(folder / "artifacts"))
    node.start()
    try:
        yield node
    finally:
        node.stop()
        fold.stop()
        log.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node of this process."""
    with node_on(tmp_path) as node:
        yield node


def bring(store: TrackingDatabase, node: Node, **options: Any) -> Report:
    """Import into a node."""
    source = DatabaseSource(str(store.path))
    try:
        return Importer(source, NodeDestination(node), user="eve", **options).run()
    finally:
        source.close()


def ask(node: Node, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return list(rows(NodeDestination(node), statement))


def test_ids_numbers_and_times_are_kept(store: TrackingDatabase, node: Node) -> None:
    assert bring(store, node).differences == []
    assert ask(node, "SELECT experiment_id, created_at_ms FROM fold.experiments ORDER BY 1") == [
        ("0", START_MS),
        ("7", START_MS),
    ]
    assert ask(
        node,
        "SELECT version, stage, description, created_at_ms, updated_at_ms, created_by "
        "FROM fold.model_versions ORDER BY 1",
    ) == [(1, "None", "v1", 11, 21, "eve"), (4, "Staging", "v4", 14, 24, "eve")]
    assert ask(node, "SELECT next_version, created_at_ms, updated_at_ms FROM fold.models") == [
        (5, 5, 6)
    ]
    assert ask(node, "SELECT alias, version FROM aliases") == [("best", 4)]


def test_a_second_import_brings_nothing_and_a_third_what_is_new(
    store: TrackingDatabase, node: Node
) -> None:
    first = bring(store, node)
    assert first.events == EVENTS
    assert bring(store, node).events == 0
    ((run_id,), (other,)) = ask(node, "SELECT run_id FROM runs ORDER BY name")
    for step in range(3):
        store.execute("INSERT INTO metrics VALUES ('new', 1.5, 9, ?, ?, 0)", run_id, step)
    store.execute("INSERT INTO metrics VALUES ('metric 0', 0, 9, ?, 3, 1)", other)  # NaN
    store.execute("INSERT INTO params VALUES ('late', 'x', ?)", run_id)
    store.execute("UPDATE tags SET value = 'changed' WHERE key = 'tags 1' AND run_uuid = ?", run_id)
    store.execute(
        "UPDATE runs SET name = 'other name', status = 'FAILED' WHERE run_uuid = ?", run_id
    )
    store.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", other)
    store.execute("UPDATE experiments SET name = 'renamed' WHERE experiment_id = 7")
    store.execute("UPDATE model_versions SET current_stage = 'Production' WHERE version = 4")
    store.execute("UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 1")
    store.execute(VERSION, 6, 1, 1, "v6", "None", "s3://b/m")
    store.execute("UPDATE registered_model_aliases SET version = 6")
    store.execute("INSERT INTO registered_model_tags VALUES ('k', 'v', 'm')")
    third = bring(store, node)
    assert third.differences == []
    # Points, params, tags, name, end; points, deletion; 6 of the registry.
    assert third.events == 5 + 2 + 6
    assert ask(node, "SELECT points_stored FROM fold.activity ORDER BY 1") == [(101,), (103,)]
    assert ask(node, "SELECT name, status FROM runs WHERE NOT deleted") == [
        ("other name", "FAILED")
    ]
    assert ask(node, "SELECT name FROM experiments WHERE experiment_id = '7'") == [("renamed",)]
    assert ask(node, "SELECT version, stage FROM model_versions ORDER BY 1") == [
        (4, "Production"),
        (6, "None"),
    ]
    assert bring(store, node).events == 0
    # A value that was there before is new again, though its event was sent once already.
    for value in ("once", "twice", "once"):
        store.execute("UPDATE tags SET value = ? WHERE key = 'tags 1'", value)
        assert bring(store, node).differences == []
        assert ask(node, "SELECT DISTINCT value FROM tags WHERE key = 'tags 1'") == [(value,)]
    assert node.fold.status().dead_letters == 0


def test_two_stores_with_one_id_share_a_trail(
    store: TrackingDatabase, node: Node, tmp_path: Path
) -> None:
    other = TrackingDatabase(tmp_path / "other.db")
    other.experiment(7, "language")
    other.experiment(8, "vision")
    for experiment in (7, 8):
        other.runs(experiment, 1 + experiment, 10)
    bring(store, node)
    report = bring(other, node)
    assert report.differences == []
    ids = {e.name: e.id for e in report.experiments}
    assert ids["Default"] == "0"
    assert ids["vision"] == "7", "joined by name"
    assert ids["language"] not in ("7", "8", None)
    assert dict(ask(node, "SELECT experiment_name, count(*) FROM runs GROUP BY 1")) == {
        "vision": 2 + 9,
        "language": 8,
    }
    assert bring(other, node).events == 0
    other.execute("UPDATE experiments SET name = 'languages' WHERE experiment_id = 7")
    report = bring(other, node)
    assert report.differences == []
    assert {e.name: e.id for e in report.experiments}["languages"] == ids["language"]


def test_versions_that_cannot_keep_their_number_are_told(
    store: TrackingDatabase, node: Node
) -> None:
    bring(store, node)
    store.execute("UPDATE model_versions SET source = 's3://elsewhere' WHERE version = 4")
    store.execute(VERSION, 3, 1, 1, "too late", "None", "s3://b/m")
    assert bring(store, node).differences == [
        f"version {n} of registered model 'm': ImportModelVersion was refused: Model Version "
        f"(name=m, version={n}) cannot be imported: numbers below 5 are used up."
        for n in (3, 4)
    ]


def test_what_is_only_here_is_no_difference_and_what_is_lost_is(
    store: TrackingDatabase, node: Node
) -> None:
    bring(store, node)
    ((run_id,), _) = ask(node, "SELECT run_id FROM runs ORDER BY name")
    store.execute("DELETE FROM metrics WHERE run_uuid = ? AND step = 3", run_id)
    report = bring(store, node)
    assert (report.differences, report.events) == ([], 0)
    assert report.experiments[1].source != report.experiments[1].here
    store.execute("UPDATE params SET value = 'other' WHERE key = 'params 1'")
    store.execute("INSERT INTO tags VALUES ('long', ?, ?)", "x" * 70_000, run_id)
    found = sorted(text.partition(": ")[2] for text in bring(store, node).differences)
    assert found == ["param 'params 1' has another value here"] * 2 + ["tag 'long' is not here"]


def test_artifacts_are_copied_and_compared_byte_by_byte(
    store: TrackingDatabase, node: Node
) -> None:
    bring(store, node)
    ((run_id,), _) = ask(node, "SELECT run_id FROM runs ORDER BY name")
    folder = store.path.parent / "files" / "7" / run_id / "artifacts"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "ü.bin").write_bytes(b"x" * 3_000_000)
    (folder / "link").symlink_to("/etc/passwd")
    report = bring(store, node)
    assert (report.differences, report.artifacts_copied) == ([], 1)
    assert ask(node, "SELECT path, size_bytes FROM artifacts") == [("a b/ü.bin", 3_000_000)]
    assert node.artifacts.stat(run_id, "a b/ü.bin").size_bytes == 3_000_000
    assert bring(store, node).artifacts_copied == 0
    (folder / "a b" / "ü.bin").write_bytes(b"y" * 3_000_000)
    assert bring(store, node).artifacts_copied == 1
    (folder / "a b" / "ü.bin").chmod(0)
    (folder / "bad\x01name").write_bytes(b"")
    (text,) = [t for t in bring(store, node).differences if "bad" in t]
    assert "not an artifact path" in text


def test_files_that_live_elsewhere_stay_there(store: TrackingDatabase, node: Node) -> None:
    store.execute(
        "UPDATE experiments SET artifact_location = 's3://bucket/7' WHERE experiment_id = 7"
    )
    store.execute("UPDATE runs SET artifact_uri = 's3://bucket/7/' || run_uuid || '/artifacts'")
    assert bring(store, node).differences == []
    assert ask(node, "SELECT artifact_location FROM experiments ORDER BY experiment_id") == [
        (None,),
        ("s3://bucket/7",),
    ]
    store.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")
    store.execute(
        "UPDATE runs SET artifact_uri = 'mlflow-artifacts:/7/' || run_uuid || '/artifacts'"
    )
    found = bring(store, node).differences
    assert len(found) == 2
    assert "--artifacts-from" in found[0]


def test_through_sqlalchemy_it_is_the_same(
    store: TrackingDatabase, node: Node, tmp_path: Path
) -> None:
    first = bring(store, node)
    source = DatabaseSource(f"sqlite+pysqlite:///{store.path}")
    (tmp_path / "other").mkdir()
    with node_on(tmp_path / "other") as other:
        second = Importer(source, NodeDestination(other), user="eve").run()
        source.close()
        assert [e.here for e in second.experiments] == [e.here for e in first.experiments]
        tables = "SELECT model, version, stage, source FROM model_versions ORDER BY 2"
        assert ask(node, tables) == ask(other, tables)


def test_only_some_experiments(
    store: TrackingDatabase, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    store.experiment(8, "other")
    store.runs(8, 3, 10)
    report = bring(store, node, names=["other"])
    assert report.differences == []
    assert ask(node, "SELECT experiment_name, count(*) FROM runs GROUP BY 1") == [("other", 3)]
    assert ask(node, "FROM models") == []
    assert main(["import", "mlflow", str(store.path), "--experiment", "nope", "--dry-run"]) == 1
    assert capsys.readouterr().err == "modeltrail: the source has no experiment nope\n"


def test_a_dry_run_leaves_no_trace(
    store: TrackingDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    command = ["import", "mlflow", f"sqlite:///{store.path}", "--into", str(data)]
    assert main([*command, "--dry-run", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["events"] == EVENTS
    assert report["experiments"][1]["source"]["points"] == 200
    assert not data.exists()


def test_a_dry_run_counts_what_the_import_then_does(store: TrackingDatabase, node: Node) -> None:
    def artifacts(run_id: str) -> Path:
        folder = store.path.parent / "files" / "7" / run_id / "artifacts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def compare() -> Report:
        before = sum(e.here.runs for e in bring(store, node, dry_run=True).experiments)
        assert before == ask(node, "SELECT count(*) FROM runs")[0][0]
        dry, real = bring(store, node, dry_run=True), bring(store, node)
        for name in (
            *("events", "artifacts_copied", "artifact_bytes_copied", "registered_models"),
            *("model_versions", "aliases"),
        ):
            assert getattr(dry, name) == getattr(real, name), name
        for planned, done in zip(dry.experiments, real.experiments, strict=True):
            for name in ("source", "artifacts", "artifact_bytes", "logged_models"):
                assert getattr(planned, name) == getattr(done, name), name
        return real

    with closing(DatabaseSource(str(store.path))) as source:
        run_ids = [
            run.run_id for e in source.experiments() for some in source.runs(e) for run in some
        ]
    for n, run_id in enumerate(run_ids):
        (artifacts(run_id) / "weights.bin").write_bytes(b"x" * (10 + n))
    first = compare()
    assert (first.events, first.artifacts_copied) == (EVENTS + 2, 2)
    assert (compare().events, compare().artifacts_copied) == (0, 0)
    (artifacts(run_ids[0]) / "weights.bin").write_bytes(b"y" * 10)
    (artifacts(run_ids[1]) / "more.txt").write_bytes(b"")
    store.execute("INSERT INTO params VALUES ('late', 'x', ?)", run_ids[0])
    third = compare()
    assert (third.events, third.artifacts_copied, third.artifact_bytes_copied) == (3, 2, 10)
    # A file that cannot be kept is not counted as copied.
    (artifacts(run_ids[1]) / "bad\x01name").write_bytes(b"12345")
    report = bring(store, node)
    assert (report.artifacts_copied, report.artifact_bytes_copied, report.events) == (0, 0, 0)
    assert len(report.differences) == 1


def test_what_is_no_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("nothing of the kind")
    (tmp_path / "folder").mkdir()
    for source, message in (
        ("missing.db", "there is no folder missing.db"),
        ("sqlite:///missing.db", "there is no file"),
        ("text", "cannot be read as an SQLite file"),
        ("folder", "is not MLflow's"),
        ("http://127.0.0.1:9", "no answer from http://127.0.0.1:9"),
    ):
        place = source if ":" in source or "missing" in source else str(tmp_path / source)
        assert main(["import", "mlflow", place, "--into", str(tmp_path / "data")]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "data").exists()


def _state(data: Path) -> list[Any]:
    """What the fold has, but for positions."""
    statement = (
        "SELECT run_id, status, events_missing, points_stored, "
        "(SELECT sum(hash(key, step, value)) FROM metrics m WHERE m.run_id = r.run_id), "
        "(SELECT count(*) FROM params p WHERE p.run_id = r.run_id), "
        "(SELECT count(*) FROM tags t WHERE t.run_id = r.run_id) FROM runs r ORDER BY 1"
    )
    done = modeltrail("sql", "--data", str(data), "--json", statement)
    assert done.returncode == 0, done.stderr
    rows: list[Any] = json.loads(done.stdout)["rows"]
    return rows


def _bytes_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # SQLite comes and goes with it
        return 0


def test_killed_again_and_again_it_brings_each_thing_once(tmp_path: Path) -> None:
    store = TrackingDatabase(tmp_path / "mlflow.db")
    store.experiment(1, "vision")
    store.runs(1, 300, 200)
    store.runs(1, 1, 60_000)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "modeltrail.api.cli", "import", "mlflow", str(store.path)]
    for _ in range(3):
        before = _bytes_of(killed / "log.sqlite-wal")
        with subprocess.Popen([*command, "--into", str(killed)], stdout=subprocess.DEVNULL) as one:
            until = time.monotonic() + 60
            while one.poll() is None and time.monotonic() < until:
                if _bytes_of(killed / "log.sqlite-wal") > before + 200_000:
                    break
                time.sleep(0.002)
            one.kill()
    for data in (killed, whole):
        done = modeltrail("import", "mlflow", str(store.path), "--into", str(data), "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert report["differences"] == []
        assert report["experiments"][1]["here"]["points"] == 120_000
    assert _state(killed) == _state(whole)
    done = modeltrail("status", "--data", str(killed), "--json")
    assert json.loads(done.stdout)["dead_letters"] == 0


def test_into_a_folder_that_a_server_has(store: TrackingDatabase, tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = Server(data)
    try:
        server.ready()
        folder = tmp_path / "files" / "7"
        for events in (EVENTS, 0):
            done = modeltrail("import", "mlflow", str(store.path), "--into", str(data), "--json")
            assert done.returncode == 0, done.stdout + done.stderr
            report = json.loads(done.stdout)
            assert (report["target"], report["events"]) == (server.url, events)
            assert report["experiments"][1]["source"] == report["experiments"][1]["here"]
        runs = server.ask("/api/v1/sql?statement=SELECT%20run_id%20FROM%20runs")["rows"]
        for (run_id,) in runs:
            (folder / run_id / "artifacts" / "a").mkdir(parents=True)
            (folder / run_id / "artifacts" / "a" / "b.txt").write_text("hello")
        done = modeltrail("import", "mlflow", str(store.path), "--server", server.url, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["artifacts_copied"] == 2
        answer = server.ask("/api/v1/sql?statement=SELECT%20DISTINCT%20sha256%20FROM%20artifacts")
        assert answer["rows"] == [
            ["2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"]
        ]
    finally:
        server.stop()
