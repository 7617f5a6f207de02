"""Find the files of runs, logged models and versions."""

from __future__ import annotations

import duckdb

from modeltrail.api.artifacts.uris import ModelUri, Place, RunUri, parse
from modeltrail.api.errors import ApiError, InvalidRequest, NotFound
from modeltrail.consumers.reading import sql

_HOPS_MAX = 20


def artifact_location(experiment_id: str, location: str | None) -> str:
    """Return where an experiment's runs store their artifacts; by default, behind this server."""
    return location or f"mlflow-artifacts:/{experiment_id}"


def artifact_uri(experiment_id: str, location: str | None, run_id: str) -> str:
    """Return where a run stores its artifacts."""
    return f"{artifact_location(experiment_id, location).rstrip('/')}/{run_id}/artifacts"


def model_root(experiment_id: str, location: str | None, model_id: str) -> str:
    """Return the URI of the files of a logged model; see ``artifact_location``."""
    root = artifact_location(experiment_id, location).rstrip("/")
    return f"{root}/models/{model_id}/artifacts"


class NotServed(ApiError, status=501, code="NOT_IMPLEMENTED"):
    """The client has to fetch these artifacts itself."""

    def __init__(self, root: str) -> None:
        super().__init__(
            f"the artifacts are at {root}, which this server does not read; a client with access "
            "to that store can list and fetch them there"
        )


def root_of_run(cursor: duckdb.DuckDBPyConnection, run_id: str) -> str:
    """Return the URI of the artifacts of a run. Raises ``NotFound``."""
    row = cursor.execute(
        """SELECT r.experiment_id, e.artifact_location
           FROM runs r LEFT JOIN experiments e ON e.experiment_id = r.experiment_id
           WHERE r.run_id = ?""",
        [run_id],
    ).fetchone()
    if row is None:
        raise NotFound(f"Run with id={run_id} not found")
    experiment_id, location = row
    return artifact_uri(experiment_id, location, run_id)


def location_of(cursor: duckdb.DuckDBPyConnection, model_id: str) -> str:
    """Return the URI of the files of a logged model, deleted or not. Raises ``NotFound``."""
    row = cursor.execute(sql("logged_models.location"), [model_id]).fetchone()
    if row is None:
        raise NotFound(f"Logged model with ID '{model_id}' not found.")
    return str(row[0])


def download_uri(cursor: duckdb.DuckDBPyConnection, source: str, created_at_ms: int) -> str:
    """Return where the files of a version are. Raises ``NotFound``.

    Args:
        cursor: The cursor to read with.
        source: The source of the version.
        created_at_ms: When the version was created. If its source is another version, this is the
            one that had the name and number then, even if it was renamed or deleted since.
    """
    for _ in range(_HOPS_MAX):
        uri = parse(source)
        if isinstance(uri, RunUri):
            return _logged_by_run(cursor, uri) or source
        if not isinstance(uri, ModelUri):
            return source
        if uri.model_id is not None:
            return location_of(cursor, uri.model_id)
        row = cursor.execute(
            sql("registry.source_at"),
            {"name": uri.name, "version": uri.version, "at": created_at_ms},
        ).fetchone()
        if row is None:
            raise NotFound(f"Model Version (name={uri.name}, version={uri.version}) not found")
        source, created_at_ms = row
    raise InvalidRequest(
        f"Unable to fetch model from model URI source artifact location '{source}'"
    )


def _logged_by_run(cursor: duckdb.DuckDBPyConnection, uri: RunUri) -> str | None:
    """Return where the files of a model in a ``runs:/`` URI are.

    MLflow 3 stores them with the logged model. Its clients find them by the run's URI, but not
    those of a version with such a source, and clients of MLflow 2 never do. As in MLflow, only the
    run's own experiment is searched: elsewhere, anyone who can read the run could log a model that
    claims to be made by it.
    """
    name, slash, rest = uri.path.partition("/")
    row = cursor.execute(
        sql("logged_models.location_by_run"), {"run": uri.run_id, "name": name}
    ).fetchone()
    return None if row is None else f"{row[0]}{slash}{rest}"


def place_under(cursor: duckdb.DuckDBPyConnection, root: str, path: str = "") -> Place:
    """Return the files at a path under a root: that of a version, a run or a model.

    The caller must check that the user may read the owner of the files, because the root may have
    reached the log without a check.

    Raises:
        NotServed: this server does not store them.
        NotFound: the run in the root does not exist.
        InvalidRequest: the root is not a URI that files may be fetched from.
    """
    where = parse(root)
    if isinstance(where, RunUri):
        root = "/".join([root_of_run(cursor, where.run_id), *([where.path] if where.path else [])])
        where = parse(root)
    if not isinstance(where, Place):
        raise NotServed(root)
    return where._replace(path="/".join(part for part in (where.path, path) if part))
