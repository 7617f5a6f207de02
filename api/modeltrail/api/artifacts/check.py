"""Compare recorded artifacts with the stored files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import duckdb

from modeltrail.api.answers import rows
from modeltrail.api.artifacts import places
from modeltrail.api.artifacts.storage import Pieces, Stat, Storage
from modeltrail.api.artifacts.store import key_of, of_model, open_storage
from modeltrail.api.artifacts.uris import Place, RunUri, parse
from modeltrail.api.errors import ApiError, NotFound
from modeltrail.consumers.reading import sql

_AT_A_TIME = 8

_RECORDS = """
WITH files AS (
    SELECT 'run' AS kind, run_id AS id, path, size_bytes, sha256, location, logged_at FROM artifacts
    UNION ALL
    SELECT 'model', model_id, path, size_bytes, sha256, location, logged_at
    FROM logged_model_artifacts
)
SELECT {columns} FROM files WHERE {where} {page}
"""


class Root(NamedTuple):
    """A folder with files of a run or logged model."""

    kind: str
    """``run`` or ``model``."""
    id: str
    path: str = ""
    """The folder or file; empty for all files."""


def roots(
    cursor: duckdb.DuckDBPyConnection, run_id: str | None, model: str | None
) -> tuple[list[Root] | None, list[str]]:
    """Return the folders of a run or of a registered model, or None for everything.

    See ``_of_model`` for what is returned besides.
    """
    if model is not None:
        return _of_model(cursor, model)
    return (None if run_id is None else _of_run(cursor, run_id)), []


def _of_run(cursor: duckdb.DuckDBPyConnection, run_id: str) -> list[Root]:
    """Return where the files of a run and of the models it logged are. Raises ``NotFound``."""
    if cursor.execute("SELECT 1 FROM runs WHERE run_id = ?", [run_id]).fetchone() is None:
        raise NotFound(f"Run with id={run_id} not found")
    models = cursor.execute("SELECT model_id FROM logged_models WHERE source_run_id = ?", [run_id])
    return [Root("run", run_id), *(Root("model", model_id) for (model_id,) in models.fetchall())]


def _of_model(cursor: duckdb.DuckDBPyConnection, name: str) -> tuple[list[Root], list[str]]:
    """Return where the files of all versions of a registered model are.

    Returns:
        The folders recorded here, and a line for each version whose files are elsewhere.

    Raises:
        NotFound: there is no such model.
    """
    if cursor.execute("SELECT 1 FROM models WHERE model = ?", [name]).fetchone() is None:
        raise NotFound(f"Registered Model with name={name} not found")
    versions = cursor.execute(sql("registry.sources"), [name]).fetchall()
    roots: list[Root] = []
    elsewhere: list[str] = []
    for version, source, created_at_ms in versions:
        try:
            root = _root_of(places.download_uri(cursor, source, created_at_ms))
        except ApiError as error:
            elsewhere.append(f"version {version}: {error.message}")
            continue
        if root is not None:
            roots.append(root)
        else:
            elsewhere.append(
                f"version {version}: its files are at {source}, of which nothing is recorded"
            )
    return roots, elsewhere


def _root_of(uri: str) -> Root | None:
    where = parse(uri)
    if isinstance(where, RunUri):
        return Root("run", *where)
    return Root(*where) if isinstance(where, Place) and where.kind != "other" else None


def recorded(
    cursor: duckdb.DuckDBPyConnection,
    roots: Sequence[Root] | None,
    limit: int,
    after: Sequence[Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the latest record of each existing file, by kind, id and path.

    Args:
        cursor: The cursor to read with.
        roots: Only files in these folders.
        limit: Maximum number of records.
        after: Kind, id and path of the last record of the page before.
    """
    where, values = _within(roots)
    if after is not None:
        where += " AND (kind, id, path) > (?, ?, ?)"
    page = f"ORDER BY kind, id, path LIMIT {limit}"
    query = _RECORDS.format(columns="*", where=where, page=page)
    return rows(cursor, query, [*values, *(after or ())])


def count(cursor: duckdb.DuckDBPyConnection, roots: Sequence[Root] | None) -> int:
    """Return how many records ``recorded`` has on all its pages."""
    where, values = _within(roots)
    query = _RECORDS.format(columns="count(*)", where=where, page="")
    ((n,),) = cursor.execute(query, values).fetchall()
    return int(n)


def _within(roots: Sequence[Root] | None) -> tuple[str, list[str]]:
    """Return a condition for files in these folders, and its values."""
    if roots is None:
        return "true", []
    one = "(kind = ? AND id = ? AND (? = '' OR path = ? OR starts_with(path, ? || '/')))"
    values = [value for root in roots for value in (root.kind, root.id, *[root.path] * 3)]
    return f"({' OR '.join([one] * len(roots)) or 'false'})", values


class Finding(NamedTuple):
    """A file that differs from its record."""

    kind: str
    """``changed``, ``missing`` or ``unreadable``."""
    message: str
    record: dict[str, Any]


class Checker:
    """Compares records with the files in a storage, and counts the results."""

    def __init__(self, storage: Storage) -> None:
        """Make a checker that looks in ``storage`` first, and then at the recorded URI."""
        self._storage = storage
        self.files = 0
        self.bytes = 0

    def check(self, records: Iterable[Sequence[dict[str, Any]]]) -> Iterator[Finding | None]:
        """Return what is wrong with each record, in order; None if nothing is."""
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for some in records:
                for record, finding in zip(some, pool.map(self.check_one, some), strict=True):
                    self.files += 1
                    self.bytes += record["size_bytes"]
                    yield finding

    def check_one(self, record: dict[str, Any]) -> Finding | None:
        """Return what is wrong with a file, or None."""
        try:
            found = self._open(record)
            if found is None:
                return Finding("missing", "it is not there", record)
            return self._compare(record, *found)
        except (ApiError, OSError) as error:
            return Finding("unreadable", str(error), record)

    def _open(self, record: dict[str, Any]) -> tuple[Stat, Pieces] | None:
        owner = record["id"] if record["kind"] == "run" else of_model(record["id"])
        key = key_of(owner, record["path"])
        found = self._storage.open(key)
        if found is None and record["location"] != self._storage.url_of(key):
            elsewhere = _at(record["location"])
            found = None if elsewhere is None else elsewhere[0].open(elsewhere[1])
        return found

    def _compare(self, record: dict[str, Any], stat: Stat, pieces: Pieces) -> Finding | None:
        with closing(pieces):
            if stat.size_bytes != record["size_bytes"]:
                told = f"it has {stat.size_bytes:,} bytes, not {record['size_bytes']:,}"
                return Finding("changed", told, record)
            digest = hashlib.sha256()
            for piece in pieces:
                digest.update(piece)
        if digest.hexdigest() != record["sha256"]:
            told = f"its SHA-256 is {digest.hexdigest()}, not {record['sha256']}"
            return Finding("changed", told, record)
        return None


def _at(location: str) -> tuple[Storage, str] | None:
    """Return the storage and key of a URI, or None if this program cannot read it."""
    parts = urlsplit(location)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        return _storage(str(path.parent)), path.name
    bucket = re.match(r"(?:s3|gs|az|abfss)://[^/]+", location)
    if bucket is None:
        return None
    return _storage(bucket[0]), location[bucket.end() + 1 :]


@lru_cache(maxsize=256)
def _storage(url: str) -> Storage:
    return open_storage(url)
