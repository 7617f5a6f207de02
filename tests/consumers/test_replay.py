"""Replay: what was known at a moment."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from modeltrail.consumers.replay import parse_moment, replay
from modeltrail.eventlog import LogMisconfigured, Position
from modeltrail.eventlog.memory import MemoryLog
from writers import RunWriter, Writer

NOON_MS = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def log() -> MemoryLog:
    """One event a minute from noon on: five points of a run, with a model between them."""
    ticks = iter(range(NOON_MS, NOON_MS + 10**9, 60_000))
    log = MemoryLog(2, clock_ms=lambda: next(ticks))
    run, server = RunWriter("a" * 32), Writer("server")
    for step in range(5):
        log.append([run.metric("m", step, 1.0)])  # 12:00, 12:02, ...
        log.append([server.event("CreateRegisteredModel", model=f"m{step}", description=None)])
    return log


def known(database: Path) -> tuple[int, int]:
    con = duckdb.connect(str(database), read_only=True)
    try:
        return con.execute(
            "SELECT (SELECT count(*) FROM metrics), (SELECT count(*) FROM models)"
        ).fetchall()[0]
    finally:
        con.close()


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("2026-03-01T11:59:59Z", (0, 0)),
        ("2026-03-01T12:00:00Z", (1, 0)),
        ("2026-03-01T13:01:00+01:00", (1, 1)),
        ("2026-03-01T12:04:30", (3, 2)),
        ("2026-03-02", (5, 5)),
        ("registry:0:0", (1, 1)),
        ("registry:0:4", (5, 5)),
    ],
)
def test_until(log: MemoryLog, tmp_path: Path, until: str, expected: tuple[int, int]) -> None:
    replay(log, parse_moment(until), tmp_path / "then.duckdb")
    assert known(tmp_path / "then.duckdb") == expected


def test_until_now(log: MemoryLog, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    status = replay(log, None, tmp_path / "now.duckdb", lambda *n: done.append(n))
    assert known(tmp_path / "now.duckdb") == (5, 5)
    assert done[-1] == (10, 10)
    assert status.records == 10


def test_never_overwrites(log: MemoryLog, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(FileExistsError):
        replay(log, None, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious"


def test_no_such_position(log: MemoryLog, tmp_path: Path) -> None:
    with pytest.raises(LogMisconfigured, match="no event at registry:0:5"):
        replay(log, Position("registry", 0, 5), tmp_path / "x.duckdb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["yesterday", "registry:0", "registry:0:x", "other:0:1", ""])
def test_neither_time_nor_position(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        parse_moment(text)
