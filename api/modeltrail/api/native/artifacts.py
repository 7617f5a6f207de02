"""Artifacts of runs and logged models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from modeltrail.api.artifacts.sending import receive, sent
from modeltrail.api.artifacts.store import Stored, of_model
from modeltrail.api.native.parameters import CallerHere, NodeHere, answer, json_example
from modeltrail.api.routing import PooledRoute
from modeltrail.eventlog import Position

router = APIRouter(
    prefix="/api/v1/runs/{run_id}/artifacts", tags=["artifacts"], route_class=PooledRoute
)
models = APIRouter(
    prefix="/api/v1/logged-models/{model_id}/artifacts", tags=["artifacts"], route_class=PooledRoute
)

_BYTES = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_STORED = {
    "path": "model/model.pkl",
    "size_bytes": 1024,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "location": "file:///data/artifacts/RUN/model/model.pkl",
}


@router.get(
    "",
    summary="Files of a run",
    responses=json_example({"artifacts": [{"path": "model/model.pkl", "size_bytes": 1024}]}),
)
def list_artifacts(run_id: str, node: NodeHere) -> Response:
    """The files stored for a run, by path."""
    return answer({"artifacts": [file._asdict() for file in node.artifacts.list(run_id)]})


@router.put(
    "/{path:path}",
    summary="Store an artifact",
    responses=json_example(_STORED, "It is durable."),
    openapi_extra=_BYTES,
)
async def put_artifact(
    run_id: str,
    path: str,
    request: Request,
    node: NodeHere,
    caller: CallerHere,
    record: Annotated[
        bool,
        Query(description="Also append `ArtifactLogged`; Modeltrail's own client does it itself."),
    ] = False,
) -> Response:
    """Store the body while it arrives, of any size, and answer when it is durable.

    The file appears whole or not at all, and replaces an existing one.
    """
    positions: list[Position] = []

    def append(stored: Stored) -> None:
        fields = {"path": path, **stored._asdict()}
        event = ("ArtifactLogged", run_id, fields, caller.actor, caller.reason)
        positions.append(node.append_event(*event))

    stored = await receive(node.artifacts, run_id, path, request, append if record else None)
    told = {"position": str(positions[0])} if positions else {}
    return answer({"path": path, **stored._asdict(), **told})


@router.get(
    "/{path:path}",
    summary="Fetch an artifact",
    response_class=Response,
    responses={200: {"description": "Its bytes.", "content": {"application/octet-stream": {}}}},
)
def get_artifact(run_id: str, path: str, request: Request, node: NodeHere) -> Response:
    """The bytes, always as a download, because an artifact must never run as a page of this server.

    A `Range` of bytes is supported.
    """
    return sent(node.artifacts, run_id, path, request, "application/octet-stream")


@models.put(
    "/{path:path}",
    summary="Store a file of a logged model",
    responses=json_example(_STORED, "It is durable."),
    openapi_extra=_BYTES,
)
async def put_model_artifact(
    model_id: str, path: str, request: Request, node: NodeHere
) -> Response:
    """Store the body like a run's artifact. The client appends the event itself."""
    stored = await receive(node.artifacts, of_model(model_id), path, request)
    return answer({"path": path, **stored._asdict()})


@router.delete(
    "/{path:path}",
    summary="Remove an artifact",
    responses=json_example({"path": "model/model.pkl", "position": "runs:0:124"}),
)
def delete_artifact(run_id: str, path: str, node: NodeHere, caller: CallerHere) -> Response:
    """Remove the bytes and append `ArtifactDeleted`. The record of the file stays in the trail."""
    node.artifacts.stat(run_id, path)
    with node.artifacts.changing(run_id, path):
        # The event goes first: removing the bytes without a record would be worse than the reverse.
        position = node.append_event(
            "ArtifactDeleted", run_id, {"path": path}, caller.actor, caller.reason
        )
        node.artifacts.delete(run_id, path)
    return answer({"path": path, "position": str(position)})
