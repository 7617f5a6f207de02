"""Whatever is done to the log behind its back is found, and named."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modeltrail.consumers import audit
from modeltrail.consumers.audit import Checkpoints, KeyUnusable, TrailBroken, verify
from modeltrail.consumers.database import Database
from modeltrail.consumers.store import Limits
from modeltrail.eventlog import EventLog, NewEvent, open_log
from modeltrail.schemas import Codec, writer_schemas
from registry_requests import REGISTRY, Registry, request
from writers import RunWriter, Writer

EVENTS = 12


class Trail:
    """A data folder with an embedded log, its projections, and checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / audit.CHECKPOINTS_FILE
        log = open_log(str(folder))
        log.add_schemas(writer_schemas())
        writer = Writer()
        log.append([request(writer, "CreateRegisteredModel", model="m")])
        log.append([RunWriter("r").started()])
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
            con = None if database is None else database.connection
            return verify(log, con, checkpoints=self.checkpoints)
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
    assert (verdict.events, verdict.compared, verdict.checkpoints) == (EVENTS, EVENTS, 1)
    assert verdict.signed_offset == EVENTS - 1
    assert verdict.hash == audit.head(trail.database.connection).hash  # type: ignore[union-attr]


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
    assert verdict.compared == offset


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
    verdict = verify(registry.log, checkpoints=tmp_path / audit.CHECKPOINTS_FILE)
    assert [(f.kind, f.offset) for f in verdict.findings] == [("checkpoint_differs", 4)]
    assert "offsets 4 to 7" in verdict.findings[0].message
    assert (verdict.checkpoints, verdict.signed_offset) == (1, 3)


def test_a_fold_that_is_behind_is_no_finding(trail: Trail) -> None:
    log = open_log(str(trail.folder))
    log.append([request(Writer("late"), "CreateRegisteredModel", model="late")])
    verdict = verify(log, trail.database.connection, checkpoints=trail.checkpoints)
    log.close()
    assert verdict.ok
    assert (verdict.events, verdict.compared, verdict.signed_offset) == (
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
    found, unreadable = audit.read_checkpoints(tmp_path / audit.CHECKPOINTS_FILE)
    assert [c.offset for c in found] == [0, 3, 6, 7]
    assert unreadable == []


def test_a_line_torn_by_a_crash(trail: Trail) -> None:
    with trail.checkpoints.open("a") as file:
        file.write('{"offset": 99, "ha')
    assert trail.verify(trail.database).ok
    Checkpoints(trail.folder)
    assert trail.checkpoints.read_text().endswith("}\n")


def test_the_key_is_for_its_owner(tmp_path: Path) -> None:
    Checkpoints(tmp_path)
    key = tmp_path / audit.KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.write_text("nonsense")
    with pytest.raises(KeyUnusable, match=r"audit-key\.pem is not a private key"):
        Checkpoints(tmp_path)


def test_progress_is_told(trail: Trail) -> None:
    told: list[tuple[int, int]] = []
    log = open_log(str(trail.folder))
    verify(log, progress=lambda done, total: told.append((done, total)))
    log.close()
    assert told[-1] == (EVENTS, EVENTS)


def test_an_empty_log(tmp_path: Path) -> None:
    registry = Registry()
    verdict = verify(registry.log, registry.con, checkpoints=tmp_path / "none.jsonl")
    assert verdict.ok
    assert (verdict.events, verdict.signed_offset) == (0, None)


def test_undecodable_events_and_repeats_are_in_the_chain(tmp_path: Path) -> None:
    registry = Registry()
    event = request(Writer(), "CreateRegisteredModel", model="m")
    registry.append(event, event, NewEvent("registry", "", b"nonsense"))
    registry.fold()
    assert verify(registry.log, registry.con).compared == 3
