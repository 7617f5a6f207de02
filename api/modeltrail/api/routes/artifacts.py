"""Artifacts of runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from modeltrail.api.artifacts import Stored
from modeltrail.api.context import CallerHere, NodeHere, answer, json_example
from modeltrail.api.node import Node

router = APIRouter(prefix="/api/v1/runs/{run_id}/artifacts", tags=["artifacts"])

_PIECE_BYTES = 1024 * 1024
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
def list_artifacts(run_id: str, node: NodeHere, caller: CallerHere) -> Response:
    """The files that are stored for a run, by path."""
    return answer({"artifacts": [file._asdict() for file in node.artifacts.list(run_id)]})


@router.put(
    "/{path:path}",
    summary="Store an artifact",
    responses=json_example(_STORED, "It is durable."),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
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
    """Store the body as it comes, of any size, and answer when it is durable.

    It appears whole or not at all, and takes the place of one that was there.
    """
    stored = await receive(node, run_id, path, request)
    body = {"path": path, **stored._asdict()}
    if record:
        position = await run_in_threadpool(
            node.append_run_event, "ArtifactLogged", run_id, body, caller.actor, caller.reason
        )
        body["position"] = str(position)
    return answer(body)


@router.get(
    "/{path:path}",
    summary="Fetch an artifact",
    response_class=Response,
    responses={200: {"description": "Its bytes.", "content": {"application/octet-stream": {}}}},
)
def get_artifact(run_id: str, path: str, node: NodeHere, caller: CallerHere) -> Response:
    """The bytes, always as a download: an artifact must never run as a page of this server."""
    file = node.artifacts.file(run_id, path)
    return sent(file, "application/octet-stream")


async def receive(node: Node, owner: str, path: str, request: Request) -> Stored:
    """Store a request's body as it comes; see ``put_artifact``."""
    with await run_in_threadpool(node.artifacts.write, owner, path) as upload:
        pieces = bytearray()
        async for data in request.stream():
            pieces += data
            if len(pieces) >= _PIECE_BYTES:
                await run_in_threadpool(upload.write, bytes(pieces))
                pieces.clear()
        await run_in_threadpool(upload.write, bytes(pieces))
        return await run_in_threadpool(upload.finish)


def sent(file: Path, media_type: str) -> Response:
    """An answer with the bytes of a file, piece by piece, to be saved and not shown."""
    name = quote(file.name, safe="")
    return StreamingResponse(
        _pieces(file),
        media_type=media_type,
        headers={
            "Content-Length": str(file.stat().st_size),
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        },
    )


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while piece := source.read(_PIECE_BYTES):
            yield piece


@router.delete(
    "/{path:path}",
    summary="Remove an artifact",
    responses=json_example({"path": "model/model.pkl", "position": "runs:0:124"}),
)
def delete_artifact(run_id: str, path: str, node: NodeHere, caller: CallerHere) -> Response:
    """Remove the bytes and append `ArtifactDeleted`; what was there stays in the trail."""
    node.artifacts.file(run_id, path)
    # The event goes first: bytes that are gone without a word would be the worse half.
    position = node.append_run_event(
        "ArtifactDeleted", run_id, {"path": path}, caller.actor, caller.reason
    )
    node.artifacts.delete(run_id, path)
    return answer({"path": path, "position": str(position)})
