"""The DuckDB file of the projections: made, opened, set aside. It is disposable; the log is not."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import duckdb

logger = logging.getLogger("modeltrail.fold")

PROJECTION_VERSION = 1
"""The shape of the tables. Any change of the .sql files or of what the fold writes raises it."""

# No SQL, whoever sent it, reaches files or the network, loads code, or changes settings.
_LOCKED_DOWN = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
_CHECKPOINT_WAL_BYTES = 128 * 1024 * 1024


class StoreError(Exception):
    """The projections' file cannot be used; the message says how to repair it."""


def connect(
    database: Path | None, *, memory_limit: str | None = None, threads: int | None = None
) -> duckdb.DuckDBPyConnection:
    """Open a database, locked down and in UTC; ``None`` makes one in memory.

    Raises:
        StoreError: in use by another process, in an unreadable folder, or no space.
        duckdb.Error: the file is damaged, or of another version of DuckDB.
    """
    config: dict[str, str | int] = {
        **_LOCKED_DOWN,
        "checkpoint_threshold": f"{_CHECKPOINT_WAL_BYTES}B",
    }
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    if threads is not None:
        config["threads"] = threads
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
            reason in text.lower() for reason in ("permission denied", "read-only", "no space")
        ):
            raise StoreError(f"cannot open {database}: {text}") from None
        raise
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    con.execute("SET lock_configuration = true")
    return con


def version_of(con: duckdb.DuckDBPyConnection) -> int | None:
    """The projection version of an open database; None if it is empty or not one of ours."""
    try:
        row = con.execute("SELECT value FROM fold.meta WHERE key = 'version'").fetchone()
    except duckdb.CatalogException:
        return None
    return int(row[0]) if row else None


def wal_of(database: Path) -> Path:
    """DuckDB's write-ahead log of a database file."""
    return database.with_name(database.name + ".wal")


def set_aside(database: Path, why: str) -> Path:
    """Move a file that cannot be used out of the way; returns its new path."""
    for n in range(1, 1000):
        aside = database.with_name(f"{database.stem}.{why}-{n}{database.suffix}")
        if not aside.exists():
            break
    wal = wal_of(database)
    if wal.exists():
        os.replace(wal, wal_of(aside))
    os.replace(database, aside)
    return aside


def swap(new: Path, database: Path) -> None:
    """Put a rebuilt file, checkpointed and closed, in the place of the old one."""
    wal_of(database).unlink(missing_ok=True)
    os.replace(new, database)


def remove(database: Path) -> None:
    """Delete a file that was left half built."""
    wal_of(database).unlink(missing_ok=True)
    database.unlink(missing_ok=True)
