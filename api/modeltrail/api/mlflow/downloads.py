"""Files by run, model version or logged model, for MLflow's web pages."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from modeltrail.api.access.acts import Level
from modeltrail.api.access.caller import rights_of
from modeltrail.api.access.files import check_place
from modeltrail.api.artifacts import places
from modeltrail.api.artifacts.uris import safe
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import artifacts
from modeltrail.api.mlflow.calls import CountedRoute, caller
from modeltrail.api.node import Node
from modeltrail.consumers.reading import sql


def routes() -> list[BaseRoute]:
    """Return the routes."""
    files = "mlflow/logged-models/{model_id}/artifacts/files"
    return [
        CountedRoute("/get-artifact", _answerer(_root_of_run, "path")),
        CountedRoute("/model-versions/get-artifact", _answerer(_root_of_version, "path")),
        *(
            CountedRoute(f"{prefix}/2.0/{files}", _answerer(_root_of_model, "artifact_file_path"))
            for prefix in ("/api", "/ajax-api")
        ),
    ]


def _answerer(
    root_of: Callable[[Request, duckdb.DuckDBPyConnection], str], name: str
) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        caller(request)
        node: Node = request.app.state.node
        path = safe(_first_parameter(request, name))
        with node.read() as cursor:
            place = places.place_under(cursor, root_of(request, cursor), path)
        check_place(rights_of(request), place, Level.READ)
        return artifacts.download(request, place)

    return answer


def _first_parameter(request: Request, *names: str) -> str:
    """Return the first of these parameters that the query has."""
    for name in names:
        value = request.query_params.get(name)
        if value:
            return value
    raise InvalidRequest(f"Missing value for required parameter '{names[0]}'.")


def _root_of_run(request: Request, cursor: duckdb.DuckDBPyConnection) -> str:
    return places.root_of_run(cursor, _first_parameter(request, "run_id", "run_uuid"))


def _root_of_model(request: Request, cursor: duckdb.DuckDBPyConnection) -> str:
    return places.location_of(cursor, request.path_params["model_id"])


def _root_of_version(request: Request, cursor: duckdb.DuckDBPyConnection) -> str:
    name, number = _first_parameter(request, "name"), _first_parameter(request, "version")
    row = cursor.execute(sql("registry.source"), [name, number]).fetchone()
    if row is None:
        raise NotFound(f"Model Version (name={name}, version={number}) not found")
    return places.download_uri(cursor, *row)
