"""The file of the projections is disposable, and never stands in the way."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import duckdb
import fastavro
import pytest

from modeltrail.consumers import Fold, FoldBehind, StoreError, rebuild, store
from modeltrail.consumers.projections.runs import RunsProjection
from modeltrail.consumers.store import LogContradicted
from modeltrail.eventlog import NewEvent, Partition
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import MARKER, Codec, fingerprint, writer_schemas
from writers import RunWriter, Writer

RUN = "f" * 32


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    run = RunWriter(RUN)
    log.append([run.started(), run.metric("m", 1, 1.0), run.metric("m", 2, 2.0)])
    return log


def points(log: MemoryLog, database: Path, *, accept: bool = False) -> int:
    fold = Fold(log, database, accept=accept)
    fold.open()
    try:
        fold.catch_up()
        cursor = fold.cursor()
        found = cursor.execute("SELECT count(*) FROM metrics").fetchall()
        cursor.close()
        return int(found[0][0])
    finally:
        fold.stop()


def edit(database: Path, sql: str) -> None:
    con = duckdb.connect(str(database))
    con.execute(sql)
    con.close()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_has_the_comments_of_its_views_and_memory_on_request(
    log: MemoryLog, tmp_path: Path
) -> None:
    def described(fold: Fold) -> int:
        cursor = fold.cursor()
        found = cursor.execute("SELECT count(comment) FROM duckdb_columns()").fetchall()
        cursor.close()
        return int(found[0][0])

    in_file, in_memory = Fold(log, tmp_path / "p.duckdb"), Fold(log, None)
    in_file.open()
    in_memory.open()
    try:
        assert described(in_file) > 300
        assert described(in_memory) == 0
        in_memory.describe()
        assert described(in_memory) == described(in_file)
    finally:
        in_file.stop()
        in_memory.stop()
    as_left = Fold(log, None)
    as_left.open_as_left()
    try:
        assert described(as_left) > 300
    finally:
        as_left.stop()


def test_goes_on_where_it_stopped(log: MemoryLog, tmp_path: Path) -> None:
    database = tmp_path / "p.duckdb"
    assert points(log, database) == 2
    log.append([RunWriter("e" * 32).metric("m", 1, 1.0)])
    fold = Fold(log, database)
    fold.open()
    assert fold.positions()[Partition("runs", 0)] == 3
    assert fold.step() == 1
    fold.stop()


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        ("UPDATE fold.meta SET value = '0' WHERE key = 'version'", None),
        ("UPDATE fold.meta SET value = '999' WHERE key = 'version'", "p.newer-1.duckdb"),
        ("DROP SCHEMA fold CASCADE; CREATE TABLE mine (x INT)", "p.foreign-1.duckdb"),
    ],
)
def test_a_file_of_another_version_is_rebuilt(
    log: MemoryLog, tmp_path: Path, sql: str, kept: str | None
) -> None:
    database = tmp_path / "p.duckdb"
    points(log, database)
    edit(database, sql)
    assert points(log, database) == 2
    assert names(tmp_path) == sorted(n for n in ("p.duckdb", kept) if n)


def test_a_damaged_file_is_kept_and_rebuilt(
    log: MemoryLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "p.duckdb"
    database.write_bytes(b"not a database at all" * 1000)
    with caplog.at_level(logging.WARNING):
        assert points(log, database) == 2
    assert "cannot be read" in caplog.text
    assert names(tmp_path) == ["p.duckdb", "p.unreadable-1.duckdb"]


def cut(log: MemoryLog) -> MemoryLog:
    log._records[Partition("runs", 0)].pop()
    return log


def changed(log: MemoryLog) -> MemoryLog:
    records = log._records[Partition("runs", 0)]
    records[-1] = records[-1]._replace(payload=records[-2].payload)
    return log


def moved(log: MemoryLog) -> MemoryLog:
    records = log._records[Partition("runs", 0)]
    records[-1] = records[-1]._replace(appended_at_ms=records[-1].appended_at_ms - 1)
    return log


def other(log: MemoryLog) -> MemoryLog:
    other = MemoryLog()
    run = RunWriter("d" * 32)
    other.append([run.started()] + [run.metric("m", n, 1.0) for n in range(5)])
    return other


CONTRADICTIONS = [
    (cut, "folded up to offset 2 of runs:0, but the log ends at 2", 1),
    (changed, "another log: runs:0:2 differs", 1),
    (moved, "another log: runs:0:2 differs", 2),
    (other, "another log: runs:0:2 differs", 5),
]


@pytest.mark.parametrize(("attack", "message", "left"), CONTRADICTIONS)
def test_tables_that_the_log_contradicts_are_never_overwritten(
    log: MemoryLog,
    tmp_path: Path,
    attack: Callable[[MemoryLog], MemoryLog],
    message: str,
    left: int,
) -> None:
    database = tmp_path / "p.duckdb"
    points(log, database)
    before = database.read_bytes()
    log = attack(log)
    for act in (points, rebuild):
        with pytest.raises(LogContradicted, match=message) as refused:
            act(log, database)
        assert "--accept-log" in str(refused.value)
    assert database.read_bytes() == before
    assert names(tmp_path) == ["p.duckdb"]
    assert points(log, database, accept=True) == left
    assert (tmp_path / "p.contradicted-1.duckdb").read_bytes() == before
    assert points(log, database) == left  # accepted once is accepted


def test_a_rebuild_notices_what_was_changed_in_the_middle(log: MemoryLog, tmp_path: Path) -> None:
    database = tmp_path / "p.duckdb"
    points(log, database)
    records = log._records[Partition("runs", 0)]
    records[1] = records[1]._replace(payload=RunWriter(RUN).metric("m", 1, 5.0).payload)
    with pytest.raises(LogContradicted, match=r"another log: runs:0 up to 2 differs"):
        rebuild(log, database)
    assert points(log, database) == 2


def test_tables_of_an_older_version_are_evidence_too(log: MemoryLog, tmp_path: Path) -> None:
    database = tmp_path / "p.duckdb"
    log.append(
        [Writer("w").event("CreateRegisteredModel", model=m, description=None) for m in "ab"]
    )
    points(log, database)
    edit(
        database,
        "UPDATE fold.meta SET value = '6' WHERE key = 'version';"
        "ALTER TABLE fold.positions DROP COLUMN head; DROP TABLE fold.links",
    )
    records = log._records[Partition("registry", 0)]
    records[0], first = records[0]._replace(payload=b"nonsense"), records[0]
    with pytest.raises(LogContradicted, match="registry:0 up to 1 differs"):
        points(log, database)
    records[0] = first
    assert points(log, database) == 2


def test_a_half_built_file_beside_is_dropped_and_a_complete_one_taken(
    log: MemoryLog, tmp_path: Path
) -> None:
    database = tmp_path / "p.duckdb"
    points(log, database)
    beside = store.beside(database)
    points(log, beside)
    edit(beside, "DELETE FROM fold.points")
    assert points(log, database) == 2
    assert names(tmp_path) == ["p.duckdb"]
    points(log, beside)
    edit(beside, "INSERT INTO fold.meta VALUES ('complete', 'true')")
    edit(database, "DELETE FROM fold.points")
    assert points(log, database) == 2
    assert names(tmp_path) == ["p.duckdb"]


def test_rebuild_tells_how_far_it_is(log: MemoryLog, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    rebuild(log, tmp_path / "p.duckdb", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    assert points(log, tmp_path / "p.duckdb") == 2


def test_a_file_in_use_says_so(log: MemoryLog, tmp_path: Path) -> None:
    database = tmp_path / "p.duckdb"
    points(log, database)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); "
            "sys.stdin.read()",
            str(database),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(StoreError, match="in use by another process"):
            points(log, database)
    finally:
        holder.communicate()


def test_a_folder_that_cannot_be_written_says_so(log: MemoryLog, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot open"):
        points(log, tmp_path / "missing" / "p.duckdb")


def test_waiting_for_what_does_not_come_ends(log: MemoryLog) -> None:
    fold = Fold(log, None)
    fold.start()
    try:
        fold.wait_for(log.end(), 10)
        with pytest.raises(FoldBehind, match="runs:0:99"):
            fold.wait_for({Partition("runs", 0): 99}, 0.05)
    finally:
        fold.stop()


def test_dead_letters_take_effect_once_their_schema_is_known(tmp_path: Path) -> None:
    # A foreign program's schema of Heartbeat, which leaves out a field that has a default.
    newest = next(t for t in writer_schemas().values() if json.loads(t)["name"].endswith("beat"))
    foreign = json.loads(newest)
    foreign["fields"] = [f for f in foreign["fields"] if f["name"] != "outbox_bytes"]
    parsed = fastavro.parse_schema(foreign)
    run = RunWriter(RUN)
    log = MemoryLog()
    log.append([run.started()])
    heartbeat = Codec().decode(run.of_run("Heartbeat", points_logged=7).payload).event
    out = BytesIO()
    fastavro.schemaless_writer(out, parsed, heartbeat)
    log.append([NewEvent("runs", RUN, MARKER + fingerprint(parsed) + out.getvalue())])
    fold = Fold(log, tmp_path / "p.duckdb")
    fold.start()
    try:
        fold.wait_for(log.end(), 10)
        assert fold.status().dead_letters == 1
        assert fold.retry_dead_letters() == 0
        log.add_schemas({fingerprint(parsed): json.dumps(foreign)})
        assert fold.retry_dead_letters() == 1
        assert fold.status().dead_letters == 0
        cursor = fold.cursor()
        assert cursor.execute("SELECT points_logged FROM runs").fetchall() == [(7,)]
        cursor.close()
        log.append([run.ended()])
        fold.wait_for(log.end(), 10)  # it goes on with the rebuilt database
    finally:
        fold.stop()
    assert names(tmp_path) == ["p.duckdb"]
    again = Fold(log, tmp_path / "p.duckdb")
    again.open()
    try:
        assert again.positions() == {Partition("runs", 0): 3}
    finally:
        again.stop()


def test_a_full_disk_stops_the_fold_and_loses_nothing(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = RunsProjection.write, [True]

    def write(self: RunsProjection, con: duckdb.DuckDBPyConnection) -> None:
        real(self, con)
        if full[0]:
            raise duckdb.IOException("No space left on device")

    monkeypatch.setattr(RunsProjection, "write", write)
    fold = Fold(log, None)
    fold.start()
    try:
        with pytest.raises(FoldBehind, match="No space left"):
            fold.wait_for(log.end(), 1.5)
        assert "No space left" in (fold.status().error or "")
        full[0] = False
        fold.wait_for(log.end(), 10)
        assert fold.status().error is None
        cursor = fold.cursor()
        assert cursor.execute("SELECT points_stored FROM runs").fetchall() == [(2,)]
        cursor.close()
    finally:
        fold.stop()


def test_a_registry_request_is_decided_once_over_restarts(tmp_path: Path) -> None:
    log = MemoryLog()
    server = Writer("server")
    request = server.event("CreateRegisteredModel", model="m", description=None)
    log.append([request])
    points(log, tmp_path / "p.duckdb")
    log.append([request])
    fold = Fold(log, tmp_path / "p.duckdb")
    fold.open()
    try:
        fold.catch_up()
        assert fold.status().repeats == 1
        cursor = fold.cursor()
        assert cursor.execute("SELECT count(*) FROM models").fetchall() == [(1,)]
        cursor.close()
    finally:
        fold.stop()
