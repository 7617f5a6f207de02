"""The DuckDB file of the projections: create, open, set aside.

The log can rebuild it at any time.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import duckdb

logger = logging.getLogger("modeltrail.fold")

PROJECTION_VERSION = 8
"""Version of the tables. Every change of the .sql files or of what the fold writes raises it."""

# No SQL statement can access files or the network, load code, or change settings.
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
    """Resources that DuckDB may use; None for its own defaults."""

    memory_limit: str | None = None
    """For example "4GB"."""
    threads: int | None = None


class StoreError(Exception):
    """The projections' file cannot be used; the message says how to repair it.

    StoreError
    └── LogContradicted   the log is not the one that the tables were folded from
    """


class LogContradicted(StoreError):
    """The log ends before what was folded, or differs from it. Nothing was changed."""

    def __init__(self, database: Path, how: str) -> None:
        super().__init__(
            f"{database.name} {how}. Nothing was changed. See what differs: modeltrail audit "
            "verify. If events were lost or changed, restore the log from a backup. If this log "
            "is the right one (an older backup that was restored), go on with: modeltrail serve "
            f"--accept-log; it keeps {database.name} aside and folds the log again."
        )


def connect(database: Path | None, limits: Limits) -> duckdb.DuckDBPyConnection:
    """Open a database, locked down and in UTC. ``None`` creates one in memory.

    Raises:
        StoreError: it is in use by another process, its folder is read-only, or the disk is full.
        duckdb.Error: the file is damaged, or from another version of DuckDB.
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
    # DuckDB's threads help with large queries. They must not delay the threads that fold and
    # answer.
    for thread in _threads() - before:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, _NICENESS)
    return con


def _threads() -> set[int]:
    """Return the ids of this process's threads; empty if the system does not list them."""
    with suppress(OSError):
        return {int(name) for name in os.listdir("/proc/self/task")}
    return set()


def version_of(con: duckdb.DuckDBPyConnection) -> int | None:
    """Return the projection version of an open database, or None if it is empty or foreign."""
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
    """Rename a file that cannot be used. Returns its new path."""
    n = 1
    while (aside := database.with_name(f"{database.stem}.{why}-{n}{database.suffix}")).exists():
        n += 1
    if _wal_of(database).exists():
        os.replace(_wal_of(database), _wal_of(aside))
    os.replace(database, aside)
    return aside


def remove(database: Path) -> None:
    """Delete a file and its write-ahead log, if they exist."""
    _wal_of(database).unlink(missing_ok=True)
    database.unlink(missing_ok=True)


def beside(database: Path) -> Path:
    """Return the path where a database is rebuilt."""
    return database.with_name(database.name + ".rebuild")


def mark_complete(con: duckdb.DuckDBPyConnection) -> None:
    """Mark a rebuilt database as ready to replace the old one."""
    con.execute("INSERT INTO fold.meta VALUES ('complete', 'true')")


def finish_swap(database: Path, limits: Limits) -> None:
    """Replace the old database with a complete rebuilt one, or delete an incomplete one.

    Both files must be closed. After a crash at any point, the next call completes the work.
    """
    new = beside(database)
    if not new.exists():
        return
    try:
        with closing(connect(new, limits)) as con:
            complete = _meta(con, "complete") is not None
            con.execute("CHECKPOINT")  # from here on the file is complete without its WAL
    except duckdb.Error:
        complete = False
    if complete:
        _wal_of(database).unlink(missing_ok=True)
        os.replace(new, database)
    remove(new)
