"""The DuckDB file of the projections: made, opened, set aside. It is disposable; the log is not."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import duckdb

logger = logging.getLogger("modeltrail.fold")

PROJECTION_VERSION = 7
"""The shape of the tables. Any change of the .sql files or of what the fold writes raises it."""

# No SQL, whoever sent it, reaches files or the network, loads code, or changes settings.
_LOCKED_DOWN = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
_NICENESS = 5
_SPILL_BYTES_MAX = 16 * 1024**3
_CHECKPOINT_WAL_BYTES = 128 * 1024 * 1024


class Limits(NamedTuple):
    """What DuckDB may use; None for its own defaults."""

    memory_limit: str | None = None
    """As in "4GB"."""
    threads: int | None = None


class StoreError(Exception):
    """The projections' file cannot be used; the message says how to repair it.

    StoreError
    └── LogContradicted   the log is not the one that the tables were folded from
    """


class LogContradicted(StoreError):
    """The log ends before what was folded, or differs from it. Nothing was changed."""

    def __init__(self, database: Path, how: str) -> None:
        """Name the tables, and how the log contradicts them."""
        super().__init__(
            f"{database.name} {how}. Nothing was changed. See what differs: modeltrail audit "
            "verify. If events were lost or changed, restore the log from a backup. If this log "
            "is the right one (an older backup that was restored), go on with: modeltrail serve "
            f"--accept-log; it keeps {database.name} aside and folds the log again."
        )


def connect(database: Path | None, limits: Limits) -> duckdb.DuckDBPyConnection:
    """Open a database, locked down and in UTC; ``None`` makes one in memory.

    Raises:
        StoreError: in use by another process, in a folder that is read-only, or no space.
        duckdb.Error: the file is damaged, or of another version of DuckDB.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        **_LOCKED_DOWN,
        "max_temp_directory_size": f"{_SPILL_BYTES_MAX}B",
        "checkpoint_threshold": f"{_CHECKPOINT_WAL_BYTES}B",
        **{name: value for name, value in limits._asdict().items() if value is not None},
    }
    before = _threads()
    try:
        con = duckdb.connect(str(database or ":memory:"), config=config)
    except duckdb.IOException as error:
        text = str(error)
        if "lock" in text.lower():
            raise StoreError(
                f"{database} is in use by another process. Ask that server "
                "(modeltrail sql --server URL), or stop it first."
            ) from None
        if any(
            reason in text.lower()
            for reason in ("permission denied", "read-only", "no space", "no such file")
        ):
            raise StoreError(f"cannot open {database}: {text}") from None
        raise
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    con.execute("SET lock_configuration = true")
    # DuckDB's own threads help with large queries; who folds or answers must not wait for them.
    for thread in _threads() - before:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, _NICENESS)
    return con


def _threads() -> set[int]:
    """Numbers of this process's threads; none where the system does not say."""
    with suppress(OSError):
        return {int(name) for name in os.listdir("/proc/self/task")}
    return set()


def version_of(con: duckdb.DuckDBPyConnection) -> int | None:
    """The projection version of an open database; None if it is empty or not one of ours."""
    version = _meta(con, "version")
    return int(version) if version is not None else None


def _meta(con: duckdb.DuckDBPyConnection, key: str) -> str | None:
    try:
        found = con.execute("SELECT value FROM fold.meta WHERE key = ?", [key]).fetchall()
    except duckdb.CatalogException:
        return None
    return found[0][0] if found else None


def _wal_of(database: Path) -> Path:
    return database.with_name(database.name + ".wal")


def set_aside(database: Path, why: str) -> Path:
    """Move a file that cannot be used out of the way; returns its new path."""
    n = 1
    while (aside := database.with_name(f"{database.stem}.{why}-{n}{database.suffix}")).exists():
        n += 1
    if _wal_of(database).exists():
        os.replace(_wal_of(database), _wal_of(aside))
    os.replace(database, aside)
    return aside


def remove(database: Path) -> None:
    """Delete a file and its write-ahead log, if they are there."""
    _wal_of(database).unlink(missing_ok=True)
    database.unlink(missing_ok=True)


def beside(database: Path) -> Path:
    """Where a database is rebuilt."""
    return database.with_name(database.name + ".rebuild")


def mark_complete(con: duckdb.DuckDBPyConnection) -> None:
    """Note in a rebuilt database that it may take the place of the old one."""
    con.execute("INSERT INTO fold.meta VALUES ('complete', 'true')")


def finish_swap(database: Path, limits: Limits) -> None:
    """Put a rebuilt file that is complete in the place of the old one; delete one that is not.

    Both files must be closed. A crash at any point leaves it to the next call.
    """
    new = beside(database)
    if not new.exists():
        return
    try:
        con = connect(new, limits)
        try:
            complete = _meta(con, "complete") is not None
            con.execute("CHECKPOINT")  # from here on the file stands without its WAL
        finally:
            con.close()
    except duckdb.Error:
        complete = False
    if complete:
        _wal_of(database).unlink(missing_ok=True)
        os.replace(new, database)
    remove(new)
