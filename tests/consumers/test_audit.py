"""Whatever is done to the log behind its back is found, and named."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modeltrail.consumers import audit
from modeltrail.consumers.audit import verify
from modeltrail.consumers.chain import heads, of_tables
from modeltrail.consumers.checkpoints import (
    CHECKPOINTS_FILE,
    KEY_FILE,
    Checkpoints,
    KeyUnusable,
    TrailBroken,
    read_checkpoints,
)
from modeltrail.consumers.database import Database
from modeltrail.consumers.store import Limits
from modeltrail.eventlog import EventLog, NewEvent, Partition, open_log
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import Codec, writer_schemas
from registry_requests import REGISTRY, Registry, request
from writers import RunWriter, Writer

EVENTS = 12
RUNS = Partition("runs", 0)


class Trail:
    """A data folder with an embedded log, its projections, and checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / CHECKPOINTS_FILE
        log = open_log(str(folder))
        log.add_schemas(writer_schemas())
        writer = Writer()
        log.append([request(writer, "CreateRegisteredModel", model="m")])
        run = RunWriter("r")
        log.append([run.started(), *(run.metric("loss", n, n / 7) for n in range(EVENTS - 1))])
        log.append([request(writer, "CreateModelVersion", model="m") for _ in range(EVENTS - 1)])
        log.close()
        self.database = self.rebuilt()

    def rebuilt(self) -> Database:
        """Projections made from the log as it is now."""
        log = open_log(str(self.folder))
        database = Database(None, Codec(), Limits())
        fold(log, database)
        log.close()
        return database

    def tamper(self, *statements: str) -> None:
        con = sqlite3.connect(self.folder / "log.sqlite")
        for (trigger,) in con.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            con.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            con.execute(statement)
        con.commit()
        con.close()

    def verify(self, database: Database | None = None) -> audit.Verdict:
        log = open_log(str(self.folder))
        try:
            folded = None if database is None else of_tables(database.connection)
            return verify(log, folded, checkpoints=self.checkpoints)
        finally:
            log.close()


def fold(log: EventLog, database: Database) -> None:
    reader = log.reader(database.positions())
    end = log.end()
    while any(database.positions().get(p, 0) < n for p, n in end.items()):
        database.fold(reader.poll(1))
    reader.close()


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Trail]:
    trail = Trail(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.write(trail.database.connection) is not None
    yield trail
    trail.database.connection.close()


def test_a_trail_that_nobody_touched(trail: Trail) -> None:
    verdict = trail.verify(trail.database)
    assert verdict.ok
    registry = verdict.registry
    assert (registry.events, registry.compared, verdict.checkpoints) == (EVENTS, EVENTS, 1)
    assert registry.signed_offset == EVENTS - 1
    runs = verdict.partitions[RUNS]
    assert (runs.events, runs.compared, runs.signed_offset) == (EVENTS, EVENTS, EVENTS - 1)
    assert registry.hash == heads(trail.database.connection)[REGISTRY].hash


SHIFT = "UPDATE registry SET offset = -offset WHERE offset {0}"
BACK = "UPDATE registry SET offset = -offset {0} WHERE offset < 0"
LAST = EVENTS - 1
DAMAGE = {
    "a byte": (
        ["UPDATE registry SET payload = CAST(substr(payload, 1, 40) || x'ff' ||"
         " substr(payload, 42) AS BLOB) WHERE offset = 5"],
        "payload_changed", 5,
    ),
    "the first event": (
        ["UPDATE registry SET payload = x'00' WHERE offset = 0"], "payload_changed", 0,
    ),
    "a time": (
        ["UPDATE registry SET appended_at_ms = appended_at_ms - 1 WHERE offset = 7"],
        "time_changed", 7,
    ),
    "the last event": ([f"DELETE FROM registry WHERE offset = {LAST}"], "log_cut", LAST),
    "half of it": (["DELETE FROM registry WHERE offset >= 6"], "log_cut", 6),
    "all of it": (["DELETE FROM registry"], "log_cut", 0),
    "one event, leaving a hole": (["DELETE FROM registry WHERE offset = 4"], "event_missing", 4),
    "one event, closing up": (
        ["DELETE FROM registry WHERE offset = 4", SHIFT.format("> 4"), BACK.format("- 1")],
        "event_missing", 4,
    ),
    "an event more": (
        [SHIFT.format("> 3"), BACK.format("+ 1"),
         "INSERT INTO registry SELECT 4, appended_at_ms, x'c301' FROM registry WHERE offset = 3"],
        "event_inserted", 4,
    ),
    "two events": (
        [SHIFT.format("IN (8, 9)"), "UPDATE registry SET offset = 9 WHERE offset = -8",
         "UPDATE registry SET offset = 8 WHERE offset = -9"],
        "events_swapped", 8,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "kind", "offset"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found_and_named(
    trail: Trail, statements: list[str], kind: str, offset: int
) -> None:
    trail.tamper(*statements)
    verdict = trail.verify(trail.database)
    assert (verdict.findings[0].kind, verdict.findings[0].offset) == (kind, offset)
    assert f"offset {offset}" in verdict.findings[0].message
    assert verdict.registry.compared == offset


@pytest.mark.parametrize(("statements", "kind", "offset"), DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("signed", [False, True])
def test_damage_of_runs_is_found_and_named(
    trail: Trail, statements: list[str], kind: str, offset: int, signed: bool
) -> None:
    if not signed:
        trail.checkpoints.unlink()
    trail.tamper(*(s.replace("registry", "runs") for s in statements))
    if statements == DAMAGE["one event, closing up"][0]:
        kind = "payload_changed"  # short hashes do not tell one that is gone from one that differs
    verdict = trail.verify(trail.database)
    first = verdict.findings[0]
    assert (first.kind, first.partition, first.offset) == (kind, RUNS, offset)
    assert f"runs:0, offset {offset}" in first.message
    assert verdict.partitions[RUNS].compared == offset
    assert verdict.registry.compared == EVENTS
    assert signed == any("signed" in f.message for f in verdict.findings)
    # Without the tables the signatures are left, which give the range.
    alone = trail.verify()
    hole = statements == DAMAGE["one event, leaving a hole"][0]  # which shows by itself
    assert alone.ok == (not signed and not hole)
    assert {f.partition for f in alone.findings} <= {RUNS}
    rebuilt = trail.rebuilt()
    assert trail.verify(rebuilt).ok == alone.ok
    if signed:
        with pytest.raises(TrailBroken, match="runs:0"):
            Checkpoints(trail.folder).tick(rebuilt.connection)
        accepted = Checkpoints(trail.folder, accept=True)
        assert (accepted.write(rebuilt.connection) is not None) == bool(heads(rebuilt.connection))
        assert trail.verify(rebuilt).ok == (not hole)
        assert len(list(trail.folder.glob("checkpoints.contradicted-1.jsonl"))) == 1
    rebuilt.connection.close()


@pytest.mark.parametrize(("statements", "kind", "offset"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found_while_nothing_is_signed(
    trail: Trail, statements: list[str], kind: str, offset: int
) -> None:
    trail.checkpoints.unlink()
    trail.tamper(*statements)
    verdict = trail.verify(trail.database)
    assert [(f.kind, f.offset) for f in verdict.findings] == [(kind, offset)]


def test_changed_values_are_all_found(tmp_path: Path) -> None:
    log = MemoryLog(run_partitions=4)
    runs = [RunWriter(f"r{n}") for n in range(8)]
    for n in range(40):
        log.append([run.metric("loss", n, n / 7) for run in runs])
    database = Database(None, Codec(), Limits())
    fold(log, database)
    positions = [(p, n) for p, records in log._records.items() for n in range(len(records))]
    assert len(positions) == 320
    for partition, n in positions:
        records = log._records[partition]
        whole = records[n]
        value = bytearray(whole.payload)
        value[-3] ^= 1
        records[n] = whole._replace(payload=bytes(value))
        verdict = verify(log, of_tables(database.connection))
        assert [(f.partition, f.offset) for f in verdict.findings] == [(partition, n)]
        records[n] = whole
    assert verify(log, of_tables(database.connection)).ok
    database.close()


def test_batches_do_not_change_the_chain() -> None:
    log = MemoryLog(run_partitions=2)
    for n in range(50):
        log.append(
            [
                RunWriter(f"r{n}").started(),
                request(Writer(f"w{n}"), "CreateExperiment", name=f"e{n}"),
            ]
        )
    whole, parts = Database(None, Codec(), Limits()), Database(None, Codec(), Limits())
    fold(log, whole)
    reader = log.reader({})
    while records := reader.poll(0, 400):
        parts.fold(records)
    assert heads(whole.connection) == heads(parts.connection)
    query = 'FROM fold.links ORDER BY partition, "offset"'
    links = whole.connection.execute(query).fetchall()
    assert links == parts.connection.execute(query).fetchall()
    assert len(links) == 50
    whole.close()
    parts.close()


def test_checkpoints_of_the_first_version_hold(trail: Trail) -> None:
    # As the first programs wrote them: the registry alone, signed in other words.
    key = Ed25519PrivateKey.generate()
    head = heads(trail.database.connection)[REGISTRY]
    statement = f"modeltrail registry checkpoint v1\n{head.offset}\n{head.hash.hex()}\n17\n"
    line = {
        "offset": head.offset,
        "hash": head.hash.hex(),
        "time_ms": 17,
        "public_key": key.public_key().public_bytes_raw().hex(),
        "signature": key.sign(statement.encode()).hex(),
    }
    with trail.checkpoints.open("a") as file:
        file.write(json.dumps(line) + "\n")
    verdict = trail.verify()
    assert (verdict.ok, verdict.checkpoints) == (True, 2)
    trail.tamper("UPDATE registry SET payload = x'00' WHERE offset = 3")
    assert trail.verify().checkpoints == 0
    with trail.checkpoints.open("a") as file:
        file.write(json.dumps({**line, "version": 3}) + "\n")
    assert "checkpoint_unreadable" in {f.kind for f in trail.verify().findings}


@pytest.mark.parametrize(("statements", "kind", "offset"), DAMAGE.values(), ids=DAMAGE.keys())
def test_checkpoints_find_it_after_a_rebuild_too(
    trail: Trail, statements: list[str], kind: str, offset: int
) -> None:
    trail.tamper(*statements)
    rebuilt = trail.rebuilt()
    verdict = trail.verify(rebuilt)
    found = {f.kind for f in verdict.findings}
    # Events taken out or put in shift those behind them, so that the ends differ as well.
    assert found & {"checkpoint_differs", "log_cut"}
    assert found <= {"checkpoint_differs", "log_cut", "event_missing"}
    assert (kind == "log_cut") <= ("log_cut" in found)
    assert all(f.offset is not None and f.offset <= max(offset, LAST) for f in verdict.findings)
    with pytest.raises(TrailBroken, match=r"audit verify"):
        Checkpoints(trail.folder).tick(rebuilt.connection)
    rebuilt.connection.close()


def test_checkpoints_bound_where_the_change_is(tmp_path: Path) -> None:
    registry = Registry()
    checkpoints = Checkpoints(tmp_path)
    for n in range(10):
        registry.do("CreateModelVersion", model="m", create_model=True)
        if n in (3, 7):
            checkpoints.write(registry.con)
    changed = list(registry.log._records[REGISTRY])
    changed[5] = changed[5]._replace(payload=changed[6].payload)
    registry.log._records[REGISTRY] = changed
    verdict = verify(registry.log, checkpoints=tmp_path / CHECKPOINTS_FILE)
    assert [(f.kind, f.offset) for f in verdict.findings] == [("checkpoint_differs", 4)]
    assert "offsets 4 to 7" in verdict.findings[0].message
    assert (verdict.checkpoints, verdict.registry.signed_offset) == (1, 3)


def test_a_fold_that_is_behind_is_no_finding(trail: Trail) -> None:
    log = open_log(str(trail.folder))
    log.append([request(Writer("late"), "CreateRegisteredModel", model="late")])
    verdict = verify(log, of_tables(trail.database.connection), checkpoints=trail.checkpoints)
    log.close()
    assert verdict.ok
    registry = verdict.registry
    assert (registry.events, registry.compared, registry.signed_offset) == (
        EVENTS + 1, EVENTS, EVENTS - 1,
    )  # fmt: skip


def change(field: str, value: str) -> Callable[[str], str]:
    return lambda line: line.replace(f'"{field}": ', f'"{field}": {value}', 1)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (change("offset", "1"), "checkpoint_forged"),
        (change("time_ms", "1"), "checkpoint_forged"),
        (lambda line: line[:-20], "checkpoint_unreadable"),
        (lambda line: "[]", "checkpoint_unreadable"),
    ],
)
def test_checkpoints_that_were_tampered_with(
    trail: Trail, change: Callable[[str], str], kind: str
) -> None:
    line = trail.checkpoints.read_text().rstrip("\n")
    trail.checkpoints.write_text(change(line) + "\n")
    assert [f.kind for f in trail.verify(trail.database).findings] == [kind]


def test_only_trusted_keys_count(trail: Trail, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Checkpoints(tmp_path / "other")
    log = open_log(str(trail.folder))
    path = trail.checkpoints
    own = Checkpoints(trail.folder).public_key
    assert verify(log, checkpoints=path, trusted_keys=[own]).checkpoints == 1
    verdict = verify(log, checkpoints=path, trusted_keys=[other.public_key])
    log.close()
    assert [f.kind for f in verdict.findings] == ["checkpoint_forged"]
    assert own.hex() in verdict.findings[0].message


def test_when_checkpoints_are_made(tmp_path: Path) -> None:
    now = [0]
    registry = Registry()
    checkpoints = Checkpoints(tmp_path, every_events=3, every_s=60, clock_ms=lambda: now[0])
    assert checkpoints.tick(registry.con) is None  # nothing there yet
    made = []
    for n in range(8):
        registry.do("CreateModelVersion", model="m", create_model=True)
        if n == 6:
            now[0] += 60_000
        made.append(checkpoints.tick(registry.con) is not None)
    assert made == [True, False, False, True, False, False, True, False]
    assert checkpoints.write(registry.con) is not None
    assert checkpoints.write(registry.con) is None
    again = Checkpoints(tmp_path, every_events=3, every_s=60, clock_ms=lambda: now[0])
    assert again.public_key == checkpoints.public_key
    assert again.tick(registry.con) is None
    found, unreadable = read_checkpoints(tmp_path / CHECKPOINTS_FILE)
    assert [c.heads[REGISTRY].offset for c in found] == [0, 3, 6, 7]
    assert unreadable == []


def test_a_line_torn_by_a_crash(trail: Trail) -> None:
    with trail.checkpoints.open("a") as file:
        file.write('{"offset": 99, "ha')
    assert trail.verify(trail.database).ok
    Checkpoints(trail.folder)
    assert trail.checkpoints.read_text().endswith("}\n")


def test_the_key_is_for_its_owner(tmp_path: Path) -> None:
    Checkpoints(tmp_path)
    key = tmp_path / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.write_text("nonsense")
    with pytest.raises(KeyUnusable, match=r"audit-key\.pem is not a private key"):
        Checkpoints(tmp_path)


def test_progress_is_told(trail: Trail) -> None:
    told: list[tuple[int, int]] = []
    log = open_log(str(trail.folder))
    verify(log, progress=lambda done, total: told.append((done, total)))
    log.close()
    assert told[-1] == (2 * EVENTS, 2 * EVENTS)  # of the registry and of a run


def test_an_empty_log(tmp_path: Path) -> None:
    registry = Registry()
    verdict = verify(registry.log, of_tables(registry.con), checkpoints=tmp_path / "none.jsonl")
    assert verdict.ok
    assert (verdict.events, verdict.registry.signed_offset) == (0, None)


def test_undecodable_events_and_repeats_are_in_the_chain(tmp_path: Path) -> None:
    registry = Registry()
    event = request(Writer(), "CreateRegisteredModel", model="m")
    registry.append(event, event, NewEvent("registry", "", b"nonsense"))
    registry.fold()
    assert verify(registry.log, of_tables(registry.con)).registry.compared == 3
