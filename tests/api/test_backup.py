"""Backups, made beside a running server and without one, and what they are worth afterwards."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import stat
import threading
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from api_server import Job, Server, modeltrail
from modeltrail.api.backup import MANIFEST, back_up, restore
from modeltrail.api.errors import ClientError
from modeltrail.consumers import checkpoints
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import Partition, open_log
from modeltrail.schemas import writer_schemas
from modeltrail.schemas.framing import MEDIA_TYPE, frame
from registry_requests import request
from writers import RunWriter, Writer

EVENTS = 50


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder as an orderly stop leaves it, with keys, checkpoints and artifacts."""
    folder = tmp_path / "data"
    with closing(open_log(str(folder))) as log:
        log.add_schemas(writer_schemas())
        run, writer = RunWriter("r"), Writer()
        log.append([run.started(), *(run.metric("loss", n, n / 7) for n in range(EVENTS - 1))])
        log.append([request(writer, "CreateRegisteredModel", model="m")])
        fold = Fold(log, folder / "projections.duckdb")
        fold.open()
        fold.catch_up()
        checkpoints.Checkpoints(folder).write(fold.cursor())
        fold.stop()
    (folder / "webhook.key").write_bytes(b"secret")
    (folder / "artifacts" / "r").mkdir(parents=True)
    (folder / "artifacts" / "r" / "model.pkl").write_bytes(b"weights")
    return folder


def made(data: Path, target: Path, **options: Any) -> Any:
    with closing(open_log(str(data), create=False)) as log:
        return back_up(data, log, target, **options)


def events(folder: Path) -> dict[str, list[tuple[int, int, bytes]]]:
    with closing(sqlite3.connect(folder / "log.sqlite")) as con:
        return {
            stream: con.execute(f"SELECT * FROM {stream} ORDER BY offset").fetchall()
            for stream in ("runs", "registry", "schemas")
            if stream != "schemas"
        } | {"schemas": sorted(con.execute("SELECT * FROM schemas").fetchall())}


@pytest.mark.parametrize("name", ["copy", "copy.tar", "copy.tar.gz", "copy.tgz"])
def test_there_and_back_again(data: Path, tmp_path: Path, name: str) -> None:
    target, again = tmp_path / name, tmp_path / "again"
    backup = made(data, target, keys=True, artifacts=data / "artifacts")
    assert (backup.events, backup.artifacts, backup.findings) == (EVENTS + 1, 1, ())
    assert set(backup.keys) == {"audit-key.pem", "webhook.key"}
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []
    assert target.is_dir() == (name == "copy")
    assert stat.S_IMODE(target.stat().st_mode) == (0o700 if name == "copy" else 0o600)
    restored = restore(target, again)
    assert restored.heads == backup.heads
    assert events(again) == events(data)
    assert (again / "artifacts" / "r" / "model.pkl").read_bytes() == b"weights"
    assert (again / "webhook.key").read_bytes() == b"secret"
    kept = checkpoints.CHECKPOINTS_FILE
    assert (again / kept).read_text() == (data / kept).read_text()
    assert {p.name for p in again.iterdir()} >= {"projections.duckdb", "audit-key.pem"}
    assert MANIFEST not in {p.name for p in again.iterdir()}
    for path in again.rglob("*"):
        if path.name != "projections.duckdb":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert modeltrail("audit", "verify", "--data", str(again)).returncode == 0
    asked = modeltrail("sql", "SELECT count(*) AS n FROM metrics", "--json", "--data", str(again))
    assert json.loads(asked.stdout)["rows"] == [[EVENTS - 1]]


def test_what_was_not_asked_for_is_left_out(data: Path, tmp_path: Path) -> None:
    done = modeltrail("backup", str(tmp_path / "copy"), "--data", str(data))
    assert done.returncode == 0, done
    assert f"holds {EVENTS + 1} events" in done.stdout
    assert "keep them yourself" in done.stdout
    names = {p.name for p in (tmp_path / "copy").iterdir()}
    assert names == {MANIFEST, "log.sqlite", "checkpoints.jsonl"}


def test_nothing_is_overwritten(data: Path, tmp_path: Path) -> None:
    copy, archive = tmp_path / "copy", tmp_path / "copy.tar"
    for target in (copy, archive):
        made(data, target)
        with pytest.raises(ClientError, match="--replace"):
            made(data, target)
        made(data, target, replace=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(ClientError, match="is not a backup, and is not replaced"):
        made(data, tmp_path / "mine", replace=True)
    with pytest.raises(ClientError, match="in the data folder"):
        made(data, data / "copy")
    with pytest.raises(ClientError, match="is not empty"):
        restore(copy, data)
    with pytest.raises(ClientError, match="is not empty"):
        restore(copy, archive)
    with pytest.raises(ClientError, match="is not a backup"):
        restore(tmp_path / "mine", tmp_path / "new")
    with pytest.raises(ClientError, match="there is no backup"):
        restore(tmp_path / "none", tmp_path / "new")
    (tmp_path / "new").mkdir()
    restore(copy, tmp_path / "new")  # empty is as good as missing
    assert events(tmp_path / "new") == events(data)
    assert {p.name for p in tmp_path.iterdir()} == {"data", "copy", "copy.tar", "mine", "new"}


@pytest.mark.parametrize("name", ["copy", "copy.tar.gz"])
def test_half_a_backup_has_no_name(data: Path, tmp_path: Path, name: str) -> None:
    def fail(done: int, total: int) -> None:
        raise OSError("the disk is full")

    for moment in ("copying the log", "verifying the copy"):

        def progress(what: str, moment: str = moment) -> Any:
            return fail if what == moment else None

        with pytest.raises(OSError, match="full"):
            made(data, tmp_path / name, progress=progress)
        assert {p.name for p in tmp_path.iterdir()} == {"data"}
    made(data, tmp_path / name)
    for moment in ("verifying", "folding"):

        def progress(what: str, moment: str = moment) -> Any:
            return fail if what == moment else None

        with pytest.raises(OSError, match="full"):
            restore(tmp_path / name, tmp_path / "new", progress=progress)
        assert {p.name for p in tmp_path.iterdir()} == {"data", name}


CHANGE = "UPDATE runs SET payload = CAST(payload || x'00' AS BLOB) WHERE offset = 7"


def damage(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "log.sqlite")) as con:
        for trigger in ("runs_no_update", "runs_no_delete"):
            con.execute(f"DROP TRIGGER {trigger}")
        con.execute(statement)
        con.commit()


@pytest.mark.parametrize("statement", [CHANGE, "DELETE FROM runs WHERE offset > 40"])
def test_a_damaged_backup_is_not_restored(data: Path, tmp_path: Path, statement: str) -> None:
    made(data, tmp_path / "copy")
    damage(tmp_path / "copy", statement)
    refused = modeltrail("restore", str(tmp_path / "copy"), "--data", str(tmp_path / "new"))
    assert refused.returncode == 1
    assert "is damaged: its events of runs:0" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_torn_archive_is_not_restored(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "copy.tar.gz")
    whole = (tmp_path / "copy.tar.gz").read_bytes()
    (tmp_path / "torn.tar.gz").write_bytes(whole[: len(whole) // 2])
    refused = modeltrail("restore", str(tmp_path / "torn.tar.gz"), "--data", str(tmp_path / "new"))
    assert refused.returncode == 1
    assert "cannot be unpacked" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_log_that_is_not_what_was_signed_is_copied_and_said(data: Path, tmp_path: Path) -> None:
    damage(data, CHANGE)
    done = modeltrail("backup", str(tmp_path / "copy"), "--data", str(data))
    assert done.returncode == 1
    assert "checkpoint_differs: runs:0" in done.stdout
    assert events(tmp_path / "copy") == events(data)


def test_a_log_in_kafka_is_refused_plainly(tmp_path: Path) -> None:
    done = modeltrail(
        "backup", str(tmp_path / "copy"), "--data", str(tmp_path), "--log", "kafka://nowhere:9/x-"
    )
    assert done.returncode == 1
    assert "MirrorMaker" in done.stderr


def test_a_copy_of_the_file_after_an_orderly_stop_is_whole(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    try:
        server.ready()
        write(server, Job("run-1"), 3)
    finally:
        server.stop()
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "data" / "log.sqlite", tmp_path / "copy")
    done = modeltrail("audit", "verify", "--json", "--data", str(tmp_path / "copy"))
    assert json.loads(done.stdout)["partitions"]["runs:0"]["events"] == 4


def write(server: Server, job: Job, batches: int) -> None:
    payloads = [job.started(), *(job.metrics("loss", [n / 7] * 100) for n in range(batches))]
    asked = urllib.request.Request(f"{server.url}/api/v1/ingest", frame(payloads))
    asked.add_header("Content-Type", MEDIA_TYPE)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.status == 200


def test_a_backup_under_load_survives_the_loss_of_everything(tmp_path: Path) -> None:
    data, copy, again = tmp_path / "data", tmp_path / "copy.tar.gz", tmp_path / "again"
    question = (
        "SELECT run_id, status, points_stored FROM runs WHERE run_id LIKE 'before%' ORDER BY 1"
    )
    with ExitStack() as stack:
        server = Server(data)
        stack.callback(server.stop)
        server.ready()
        for n in range(5):
            write(server, Job(f"before-{n}"), 4)
            server.ask("/api/v1/models/digits/versions", {"source": "s3://a", "create_model": True})
        answers = server.ask("/api/v1/sql", {"statement": question})["rows"]
        trail = server.ask("/api/v1/audit")["events"]
        stopping = threading.Event()
        logged: list[int] = []

        def load() -> None:
            while not stopping.is_set():
                write(server, Job(f"during-{len(logged)}"), 20)
                logged.append(1)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            done = modeltrail("backup", str(copy), "--keys", "--json", "--data", str(data))
        finally:
            stopping.set()
            thread.join()
        assert done.returncode == 0, done
        assert logged, "nothing was written meanwhile"
        server.stop(signal.SIGKILL)
    shutil.rmtree(data)
    back = modeltrail("restore", str(copy), "--data", str(again))
    assert back.returncode == 0, back
    assert modeltrail("audit", "verify", "--data", str(again)).returncode == 0
    with ExitStack() as stack:
        server = Server(again)
        stack.callback(server.stop)
        server.ready()
        assert server.ask("/api/v1/sql", {"statement": question})["rows"] == answers
        assert server.ask("/api/v1/audit")["events"] == trail
        write(server, Job("after"), 1)
        asked = {"statement": "SELECT points_stored FROM runs WHERE run_id = 'after'"}
        assert server.ask("/api/v1/sql", asked)["rows"] == [[100]]
        ends = json.loads(done.stdout)["log"]
        positions = server.ask("/api/v1/status")["positions"]
        assert positions["runs:0"] == ends[str(Partition("runs", 0))]["offset"] + 1 + 2
