"""Where a model version's files may be, and where they are in the end.

A version's source is given by the client and fetched by whoever loads the version later. So a path
on some machine's disk is refused unless it lies in the artifacts of the run or logged model that
the version is said to come from, and no source may climb out of the folder that it names. MLflow
wants the run or logged model named as well where the source tells it already; here it is taken
from the source then, and only a contradiction is refused.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

import duckdb

from modeltrail.api.errors import ApiError, InvalidRequest, NotFound
from modeltrail.api.mlflow.artifacts import Place, place_of_uri, root_of_run

_PROMPT_SOURCES = ("dummy-source", "prompt-template")
_HOPS_MAX = 20
_LOCAL_HOSTS = ("localhost", "127.0.0.1")


class Lineage(NamedTuple):
    """Where a version comes from."""

    source: str
    run_id: str | None
    model_id: str | None


class ModelUri(NamedTuple):
    """What a ``models:/`` URI names: a logged model, or a version of a registered one."""

    model_id: str | None = None
    name: str | None = None
    version: int | None = None
    stage: str | None = None
    alias: str | None = None


def check_prompt_source(source: str) -> None:
    """Check the source of a prompt's version, which has no files."""
    if source not in _PROMPT_SOURCES:
        raise InvalidRequest(
            f"Invalid prompt source: '{source}'. Prompt sources must use an MLflow placeholder."
        )


def lineage(
    cursor: duckdb.DuckDBPyConnection, source: str, run_id: str | None, model_id: str | None
) -> Lineage:
    """Check the source of a version, and complete what it comes from.

    Raises:
        InvalidRequest: the source is refused, with MLflow's message.
        NotFound: it names a registered model or version that is not there.
    """
    which = "model_id" if model_id else "run_id"
    if _is_local(source):
        _check_local(cursor, source, run_id, model_id)
        return Lineage(source, run_id, model_id)
    _check_absolute(source)
    scheme = urlsplit(source).scheme.lower()
    if scheme in ("runs", "models") and urlsplit(source).netloc:
        raise _contradiction(source, "run_id" if scheme == "runs" else "model_id")
    if scheme == "runs":
        run_id = _run(cursor, source, run_id)
    elif scheme == "models":
        uri = parse_models_uri(source)
        if uri.model_id is None:
            return _version_source(cursor, source, uri, run_id, model_id)
        if model_id not in (None, uri.model_id):
            raise _contradiction(source, "model_id")
        model_id = uri.model_id
    else:
        place = place_of_uri(source)
        if place is not None:
            run_id, model_id = _place(cursor, source, place, which, run_id, model_id)
    if model_id is not None:
        row = cursor.execute(
            "SELECT source_run_id FROM fold.logged_models WHERE model_id = ? AND NOT deleted",
            [model_id],
        ).fetchone()
        if row is None:
            raise _contradiction(source, "model_id")
        run_id = run_id or row[0]
    return Lineage(source, run_id, model_id)


def _run(cursor: duckdb.DuckDBPyConnection, source: str, run_id: str | None) -> str:
    named = urlsplit(source).path.lstrip("/").partition("/")[0]
    if run_id is not None:
        if named != run_id:
            raise _contradiction(source, "run_id")
    elif not _is_run(cursor, named):
        raise _contradiction(source, "run_id")
    return named


def _is_run(cursor: duckdb.DuckDBPyConnection, run_id: str) -> bool:
    return (
        cursor.execute("SELECT 1 FROM fold.runs WHERE run_id = ?", [run_id]).fetchone() is not None
    )


def _place(
    cursor: duckdb.DuckDBPyConnection,
    source: str,
    place: Place,
    which: str,
    run_id: str | None,
    model_id: str | None,
) -> tuple[str | None, str | None]:
    """The run and logged model of a source that this server keeps."""
    if place.kind == "model" and model_id in (None, place.id):
        return run_id, place.id
    if place.kind == "run" and run_id in (None, place.id) and _is_run(cursor, place.id):
        return place.id, model_id
    raise _contradiction(source, which)


def _version_source(
    cursor: duckdb.DuckDBPyConnection,
    source: str,
    uri: ModelUri,
    run_id: str | None,
    model_id: str | None,
) -> Lineage:
    """The lineage of a version that is made from another one, which may be named by alias."""
    model = cursor.execute(
        """SELECT m.model_key, EXISTS (
               SELECT 1 FROM fold.history h WHERE h.entity = 'model' AND h.attribute = 'tag'
               AND h.entity_id = m.model_key AND h.to_offset IS NULL
               AND h.key = 'mlflow.prompt.is_prompt' AND lower(h.value) = 'true')
           FROM fold.models m WHERE m.model = ? AND NOT m.deleted""",
        [uri.name],
    ).fetchone()
    if model is None:
        raise NotFound(f"Registered Model with name={uri.name} not found")
    key, is_prompt = model
    if is_prompt:
        raise InvalidRequest(
            f"Invalid model version source: '{source}'. Prompt versions cannot be used as model "
            "version sources."
        )
    number = uri.version
    if uri.alias is not None:
        row = cursor.execute(
            "SELECT version FROM fold.history WHERE entity = 'alias' AND entity_id = ? "
            "AND key = ? AND to_offset IS NULL",
            [key, uri.alias],
        ).fetchone()
        if row is None:
            raise InvalidRequest(f"Registered model alias {uri.alias} not found.")
        number = row[0]
    elif number is None:
        row = cursor.execute(
            "SELECT max(version) FROM fold.model_versions WHERE model_key = $key AND NOT deleted "
            "AND ($stage IS NULL OR lower(stage) = lower($stage))",
            {"key": key, "stage": uri.stage},
        ).fetchone()
        number = row[0] if row else None
        if number is None:
            stage = "" if uri.stage is None else f" and stage '{uri.stage}'"
            raise NotFound(f"No versions of model with name '{uri.name}'{stage} found")
    found = cursor.execute(
        "SELECT run_id, model_id FROM fold.model_versions "
        "WHERE model_key = ? AND version = ? AND NOT deleted",
        [key, number],
    ).fetchone()
    if found is None:
        raise NotFound(f"Model Version (name={uri.name}, version={number}) not found")
    if run_id not in (None, found[0]) or model_id not in (None, found[1]):
        raise InvalidRequest(
            f"Invalid model version source: '{source}'. The run_id and model_id request parameters "
            "must match the referenced model version."
        )
    return Lineage(f"models:/{uri.name}/{number}", *found)


def parse_models_uri(uri: str) -> ModelUri:
    """Take a ``models:/`` URI apart; raises ``InvalidRequest``."""
    parts = urlsplit(uri, allow_fragments=False).path.lstrip("/").split("/")
    if len(parts) > 2 or not all(part.strip() for part in parts):
        raise _contradiction(uri, "model_id")
    if len(parts) == 2:
        name, suffix = parts
        if suffix.isdecimal():
            number = int(suffix)
            return ModelUri(name=name, version=number if number < 2**63 else 0)
        return ModelUri(name=name, stage=None if suffix.lower() == "latest" else suffix)
    name, at, alias = parts[0].rpartition("@")
    if at and alias.strip():
        return ModelUri(name=name, alias=alias)
    return ModelUri(model_id=parts[0])


def _is_local(source: str) -> bool:
    parts = urlsplit(source)
    if parts.scheme.lower() == "file":
        host = parts.hostname or ""
        if host and host != "." and not host.startswith(_LOCAL_HOSTS):
            raise InvalidRequest(f"{source} is not a valid remote uri.")
        return True
    return parts.scheme == ""


def _check_local(
    cursor: duckdb.DuckDBPyConnection, source: str, run_id: str | None, model_id: str | None
) -> None:
    which = "model_id" if model_id else "run_id"
    root = None
    try:
        if model_id is not None:
            root = location_of(cursor, model_id)
        elif run_id is not None:
            root = root_of_run(cursor, run_id)
    except NotFound:
        raise _contradiction(source, which) from None
    if root is not None and _is_local(root):
        inside, outside = _local_path(source), _local_path(root)
        if posixpath.commonpath([inside, outside]) == outside:
            return
    raise InvalidRequest(
        f"Invalid model version source: '{source}'. To use a local path as a model version source, "
        f"the {which} request parameter has to be specified and the local path has to be contained "
        f"within the artifact directory of the run specified by the {which}."
    )


def _local_path(uri: str) -> str:
    path = uri
    if uri.lower().startswith("file:"):
        path = unquote(urlsplit(uri).path)
    return posixpath.normpath("/" + path if not path.startswith("/") else path)


def _check_absolute(source: str) -> None:
    """Refuse a source that climbs out of the folder that it names."""
    decoded = source
    while (again := unquote_plus(decoded)) != decoded:
        decoded = again
    path = re.sub(r"/+", "/", urlsplit(decoded).path.rstrip("/"))
    if (
        "\x00" in decoded
        or ".." in decoded.replace("\\", "/").split("/")
        or "." in path.split("/")
        or (path and not path.startswith("/"))
    ):
        raise InvalidRequest(
            f"Invalid model version source: '{source}'. If supplying a source as an http, https, "
            "local file path, ftp, objectstore, or mlflow-artifacts uri, an absolute path must be "
            "provided without relative path references present. Please provide an absolute path."
        )


def _contradiction(source: str, which: str) -> ApiError:
    return InvalidRequest(
        f"Invalid model version source: '{source}'. The {which} request parameter must identify "
        "the resource that contains the source."
    )


# Where files are


def location_of(cursor: duckdb.DuckDBPyConnection, model_id: str) -> str:
    """URI of the files of a logged model, deleted or not; raises ``NotFound``."""
    row = cursor.execute(
        "SELECT artifact_location FROM fold.logged_models WHERE model_id = ?", [model_id]
    ).fetchone()
    if row is None:
        raise NotFound(f"Logged model with ID '{model_id}' not found.")
    return str(row[0])


def download_uri(cursor: duckdb.DuckDBPyConnection, source: str, created_at_ms: int) -> str:
    """Where the files of a version are; raises ``NotFound``.

    Args:
        cursor: Where to look.
        source: Its source.
        created_at_ms: When it was created: a source that names another version means the one that
            had the name and number then, also if it was renamed or deleted since.
    """
    for _ in range(_HOPS_MAX):
        if source.startswith("runs:"):
            return _logged_by_run(cursor, source) or source
        if not source.startswith("models:"):
            return source
        uri: Any = parse_models_uri(source)
        if uri.model_id is not None:
            return location_of(cursor, uri.model_id)
        row = cursor.execute(
            """SELECT v.source, v.created_at_ms
               FROM fold.history h
               JOIN fold.model_versions v ON v.model_key = h.entity_id
               WHERE h.entity = 'model' AND h.attribute = 'name' AND h.value = $name
                   AND v.version = $version
                   AND (h.to_time_ms IS NULL OR h.to_time_ms >= $at)
               -- A version that was imported is older than its name in this registry.
               ORDER BY h.from_time_ms <= $at DESC, abs(h.from_time_ms - $at) LIMIT 1""",
            {"name": uri.name, "version": uri.version, "at": created_at_ms},
        ).fetchone()
        if row is None:
            raise NotFound(f"Model Version (name={uri.name}, version={uri.version}) not found")
        source, created_at_ms = row
    raise InvalidRequest(
        f"Unable to fetch model from model URI source artifact location '{source}'"
    )


def _logged_by_run(cursor: duckdb.DuckDBPyConnection, source: str) -> str | None:
    """Where the files of a model are that a ``runs:/`` URI names.

    MLflow 3 keeps them with the logged model; its clients find them by the run's URI themselves,
    but not those of a version with such a source, and clients of MLflow 2 never do.
    """
    run_id, _, path = urlsplit(source).path.lstrip("/").partition("/")
    name, slash, rest = path.partition("/")
    row = cursor.execute(
        "SELECT artifact_location FROM fold.logged_models WHERE source_run_id = ? AND name = ? "
        "AND NOT deleted ORDER BY created_at_ms DESC LIMIT 1",
        [run_id, name],
    ).fetchone()
    return None if row is None else f"{row[0]}{slash}{rest}"
