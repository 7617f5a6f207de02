"""Where the files of a model version may come from.

The client gives a version's source, and whoever loads the version later downloads from it. A path
on some machine's disk is therefore refused unless it is in the artifacts of the run or logged model
that the version is said to come from, and no source may lead out of its folder. If the source
contains the run or logged model, MLflow wants it given as well; here it is taken from the source,
and only a contradiction is refused.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import duckdb

from modeltrail.api.access.files import check_source
from modeltrail.api.access.rights import Rights
from modeltrail.api.artifacts.places import location_of, root_of_run
from modeltrail.api.artifacts.uris import (
    Elsewhere,
    ModelUri,
    Place,
    RunUri,
    check_plain,
    foreign,
    parse,
)
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.node import Node
from modeltrail.consumers.caretaker import Origin
from modeltrail.consumers.reading import sql

_PROMPT_SOURCES = ("dummy-source", "prompt-template")
_LOCAL_HOSTS = ("localhost", "127.0.0.1")


class Lineage(NamedTuple):
    """The origin of a version."""

    source: str
    run_id: str | None
    model_id: str | None


def origin_of(
    node: Node, rights: Rights, given: Lineage, tags: dict[str, str]
) -> tuple[Lineage, bool]:
    """Check the source of a new version as MLflow does, and that the caller may read it.

    Returns:
        The completed origin of the version, and whether it is a version of a prompt.

    Raises:
        InvalidRequest: the source is refused, with MLflow's message.
        NotFound: it refers to a registered model or version that does not exist.
        Forbidden: the caller may not read the run, logged model or version that it comes from.
    """
    if tags.get("mlflow.prompt.is_prompt", "false").lower() == "true":
        if given.source not in _PROMPT_SOURCES:
            raise InvalidRequest(
                f"Invalid prompt source: '{given.source}'. Prompt sources must use an MLflow "
                "placeholder."
            )
        return given, True
    check_source(rights, *given)
    with node.read() as cursor:
        origin = lineage(cursor, *given)
    check_source(rights, *origin)
    return origin, False


def take_over(cursor: duckdb.DuckDBPyConnection, source: str, run_id: str) -> Origin:
    """Check the source of a version that a run requested; see ``OriginOf``.

    Unless its source says otherwise, the version comes from the requesting run. A run may also
    request a version of another run's model, named in the source.
    """
    try:
        where = parse(source)
        by_itself = not isinstance(where, Elsewhere)
        origin = lineage(cursor, source, None if by_itself else run_id, None)
    except (InvalidRequest, NotFound) as error:
        return Origin(source, run_id, None, error.message)
    return Origin(source=origin.source, run_id=origin.run_id or run_id, model_id=origin.model_id)


def lineage(
    cursor: duckdb.DuckDBPyConnection, source: str, run_id: str | None, model_id: str | None
) -> Lineage:
    """Check the source of a version, and complete its origin.

    Raises:
        InvalidRequest: the source is refused, with MLflow's message.
        NotFound: it refers to a registered model or version that does not exist.
    """
    which = "model_id" if model_id else "run_id"
    where = parse(source)
    if isinstance(where, Elsewhere) and where.local:
        _check_local(cursor, source, run_id, model_id)
        return Lineage(source, run_id, model_id)
    check_plain(source)
    if isinstance(where, Elsewhere):
        pass
    elif isinstance(where, RunUri):
        run_id = _run(cursor, source, where.run_id, run_id)
    elif isinstance(where, Place):
        run_id, model_id = _place(cursor, source, where, which, run_id, model_id)
    elif where.model_id is None:
        return _version_source(cursor, source, where, run_id, model_id)
    elif model_id in (None, where.model_id):
        model_id = where.model_id
    else:
        raise foreign(source, "model_id")
    if model_id is not None:
        row = cursor.execute(sql("logged_models.run"), [model_id]).fetchone()
        if row is None:
            raise foreign(source, "model_id")
        run_id = run_id or row[0]
    return Lineage(source, run_id, model_id)


def _run(cursor: duckdb.DuckDBPyConnection, source: str, named: str, run_id: str | None) -> str:
    """Return the run of a version with a ``runs:/`` URI as its source.

    A run of another server, as when the registry is separate from the tracking server, is accepted.
    """
    if run_id in (None, named):
        if run_id is None and not _is_run(cursor, named):
            raise foreign(source, "run_id")
        return named
    if _is_run(cursor, str(run_id)):
        raise foreign(source, "run_id")
    return str(run_id)


def _is_run(cursor: duckdb.DuckDBPyConnection, run_id: str) -> bool:
    return cursor.execute(sql("runs.exists"), [run_id]).fetchone() is not None


def _place(
    cursor: duckdb.DuckDBPyConnection,
    source: str,
    place: Place,
    which: str,
    run_id: str | None,
    model_id: str | None,
) -> tuple[str | None, str | None]:
    """Return the run and logged model of a source that this server stores."""
    if place.kind == "model" and model_id in (None, place.id):
        return run_id, place.id
    if place.kind == "run" and run_id in (None, place.id) and _is_run(cursor, place.id):
        return place.id, model_id
    raise foreign(source, which)


def _version_source(
    cursor: duckdb.DuckDBPyConnection,
    source: str,
    uri: ModelUri,
    run_id: str | None,
    model_id: str | None,
) -> Lineage:
    """Return the origin of a version that is made from another one, given by number or alias."""
    model = cursor.execute(sql("registry.model"), [uri.name]).fetchone()
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
        row = cursor.execute(sql("registry.alias"), [key, uri.alias]).fetchone()
        if row is None:
            raise InvalidRequest(f"Registered model alias {uri.alias} not found.")
        number = row[0]
    elif number is None:
        row = cursor.execute(
            sql("registry.latest_version"), {"key": key, "stage": uri.stage}
        ).fetchone()
        number = row[0] if row else None
        if number is None:
            stage = "" if uri.stage is None else f" and stage '{uri.stage}'"
            raise NotFound(f"No versions of model with name '{uri.name}'{stage} found")
    found = cursor.execute(sql("registry.version"), [key, number]).fetchone()
    if found is None:
        raise NotFound(f"Model Version (name={uri.name}, version={number}) not found")
    if run_id not in (None, found[0]) or model_id not in (None, found[1]):
        raise InvalidRequest(
            f"Invalid model version source: '{source}'. The run_id and model_id request parameters "
            "must match the referenced model version."
        )
    return Lineage(f"models:/{uri.name}/{number}", *found)


def _check_local(
    cursor: duckdb.DuckDBPyConnection, source: str, run_id: str | None, model_id: str | None
) -> None:
    which = "model_id" if model_id else "run_id"
    inside, root = _local_path(source), None
    try:
        if model_id is not None:
            root = location_of(cursor, model_id)
        elif run_id is not None:
            root = root_of_run(cursor, run_id)
    except NotFound:
        raise foreign(source, which) from None
    if root is not None and parse(root) == Elsewhere(root, local=True):
        outside = _local_path(root)
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
        try:
            parts = urlsplit(uri)
            host = parts.hostname or ""
        except ValueError:
            raise InvalidRequest(f"{uri} is not a valid remote uri.") from None
        if host not in ("", ".") and not host.startswith(_LOCAL_HOSTS):
            raise InvalidRequest(f"{uri} is not a valid remote uri.")
        path = unquote(parts.path)
    return posixpath.normpath("/" + path if not path.startswith("/") else path)
