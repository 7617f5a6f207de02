"""MLflow's endpoints in the server's OpenAPI document."""

from __future__ import annotations

import inspect
import re
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Endpoint, EndpointRoute

_TAG = "mlflow"
_INT64 = {"type": "integer", "format": "int64"}
_SCHEMAS: dict[wire.Reader, dict[str, Any]] = {
    wire.text: {"type": "string"},
    wire.integer: _INT64,
    wire.number: {
        "anyOf": [
            {"type": "number", "format": "double"},
            {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]},
        ]
    },
    wire.boolean: {"type": "boolean"},
}
_ERROR = {
    "type": "object",
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
    "required": ["error_code", "message"],
}
_ANSWERS = {
    "200": {
        "description": "Done.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    "4XX": {
        "description": "Refused; the code is MLflow's.",
        "content": {"application/json": {"schema": _ERROR}},
    },
}


def describe_mlflow(app: FastAPI) -> None:
    """Add MLflow's endpoints to the document that an application generates."""
    own = app.openapi

    def openapi() -> dict[str, Any]:
        document = own()
        for route in app.router.routes:
            if isinstance(route, EndpointRoute) and route.path.startswith("/api/"):
                path = document["paths"].setdefault(route.path_format, {})
                for method in route.declared.methods:
                    path[method.lower()] = _operation(method, route, route.declared)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _operation(method: str, route: Route, endpoint: Endpoint) -> dict[str, Any]:
    lines = (inspect.getdoc(endpoint.handler) or "").split("\n\n", 1)
    inside = route.param_convertors
    fields = {
        name: schema_of(reader) for name, reader in endpoint.fields.items() if name not in inside
    }
    required = [name for name in endpoint.required if name in fields]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in inside
    ]
    operation: dict[str, Any] = {
        "tags": [_TAG],
        "summary": lines[0],
        "operationId": re.sub(r"\W+", "_", f"mlflow_{method.lower()}_{endpoint.path}"),
        "responses": _ANSWERS,
    }
    if method == "GET":
        parameters += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in fields.items()
        ]
    elif fields:
        body: dict[str, Any] = {"type": "object", "properties": fields}
        if required:
            body["required"] = required
        operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
    if parameters:
        operation["parameters"] = parameters
    return operation


def schema_of(reader: wire.Reader) -> dict[str, Any]:
    """Return the JSON schema of what the reader of a field accepts."""
    if reader in _SCHEMAS:
        return _SCHEMAS[reader]
    parts = vars(reader)
    if "names" in parts:
        return {"type": "string", "enum": list(parts["names"])}
    if "item" in parts:
        return {"type": "array", "items": schema_of(parts["item"])}
    if "fields" in parts:
        properties = {name: schema_of(field) for name, field in parts["fields"].items()}
        return {"type": "object", "properties": properties}
    return {}  # a reader of a single endpoint
