"""Artifacts of runs and logged models."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from email.utils import format_datetime
from typing import Annotated
from urllib.parse import quote

from anyio import CancelScope
from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from modeltrail.api.artifacts.storage import PIECE_BYTES, Pieces
from modeltrail.api.artifacts.store import Stored, Upload, of_model
from modeltrail.api.native.parameters import CallerHere, NodeHere, answer, json_example
from modeltrail.api.node import Node
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
def list_artifacts(run_id: str, node: NodeHere, caller: CallerHere) -> Response:
    """The files that are stored for a run, by path."""
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
    """Store the body as it comes, of any size, and answer when it is durable.

    It appears whole or not at all, and takes the place of one that was there.
    """
    positions: list[Position] = []

    def append(stored: Stored) -> None:
        fields = {"path": path, **stored._asdict()}
        event = ("ArtifactLogged", run_id, fields, caller.actor, caller.reason)
        positions.append(node.append_run_event(*event))

    stored = await receive(node, run_id, path, request, append if record else None)
    told = {"position": str(positions[0])} if positions else {}
    return answer({"path": path, **stored._asdict(), **told})


@router.get(
    "/{path:path}",
    summary="Fetch an artifact",
    response_class=Response,
    responses={200: {"description": "Its bytes.", "content": {"application/octet-stream": {}}}},
)
def get_artifact(
    run_id: str, path: str, request: Request, node: NodeHere, caller: CallerHere
) -> Response:
    """The bytes, always as a download: an artifact must never run as a page of this server.

    A `Range` of bytes is answered as such.
    """
    return sent(node, run_id, path, request, "application/octet-stream")


@models.put(
    "/{path:path}",
    summary="Store a file of a logged model",
    responses=json_example(_STORED, "It is durable."),
    openapi_extra=_BYTES,
)
async def put_model_artifact(
    model_id: str, path: str, request: Request, node: NodeHere, caller: CallerHere
) -> Response:
    """Store the body as a run's artifact is stored; the client appends the event itself."""
    stored = await receive(node, of_model(model_id), path, request)
    return answer({"path": path, **stored._asdict()})


async def receive(
    node: Node,
    owner: str,
    path: str,
    request: Request,
    record: Callable[[Stored], object] | None = None,
) -> Stored:
    """Store a request's body as it comes; see ``put_artifact`` and ``Upload.finish``."""
    with await run_in_threadpool(node.artifacts.write, owner, path) as upload:
        await receive_into(upload, request)
        return await run_in_threadpool(upload.finish, record)


async def receive_into(upload: Upload, request: Request) -> None:
    """Write a request's body as it comes."""
    pieces = bytearray()
    async for data in request.stream():
        pieces += data
        if len(pieces) >= PIECE_BYTES:
            await run_in_threadpool(upload.write, bytes(pieces))
            pieces.clear()
    await run_in_threadpool(upload.write, bytes(pieces))


def sent(node: Node, owner: str, path: str, request: Request, media_type: str) -> Response:
    """An answer with the bytes of an artifact, piece by piece, to be saved and not shown.

    Raises:
        NotFound: there is none.
    """
    store = node.artifacts
    asked = request.headers.get("range")
    pieces = _nothing()
    if asked is not None or request.method == "HEAD":
        stat = store.stat(owner, path)
    else:
        stat, pieces = store.open(owner, path)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": _attachment(path.rpartition("/")[2]),
        "Last-Modified": format_datetime(stat.modified_at.replace(microsecond=0), usegmt=True),
        **({"ETag": stat.etag} if stat.etag else {}),
    }
    start, end, status = 0, stat.size_bytes, 200
    if asked is not None:
        part = None
        if request.headers.get("if-range", stat.etag) == stat.etag:
            part = _range(asked, stat.size_bytes)
        if part is not None:
            (start, end), status = part, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{stat.size_bytes}"
            if start >= end:
                headers["Content-Range"] = f"bytes */{stat.size_bytes}"
                return Response(status_code=416, headers=headers)
        if request.method != "HEAD" and start < end:
            pieces = store.read(owner, path, start, end)
    headers["Content-Length"] = str(end - start)
    return _Pieces(pieces, status, headers, media_type)


def _nothing() -> Pieces:
    yield from ()


class _Pieces(StreamingResponse):
    """Sends what a generator gives, and closes it, also if the client goes away on the way."""

    def __init__(
        self, pieces: Pieces, status: int, headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(pieces, status, headers, media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await run_in_threadpool(self._pieces.close)


def _attachment(name: str) -> str:
    """A ``Content-Disposition`` (RFC 6266), for clients that read only the plain name as well."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    # Quoted, so that only these two need care; "%" would be decoded by some browsers.
    plain = re.sub(r'["\\%]', "_", plain) or "download"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last (RFC 9110, section 14); empty if it is outside.

    None for what is to be ignored: other units, several ranges, and nonsense.
    """
    found = re.fullmatch(r"bytes=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*", asked)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(size - int(found[2]), 0), size
    first, end = int(found[1]), int(found[2] or size) + 1
    if end <= first:
        return None
    return min(first, size), min(end, size)


@router.delete(
    "/{path:path}",
    summary="Remove an artifact",
    responses=json_example({"path": "model/model.pkl", "position": "runs:0:124"}),
)
def delete_artifact(run_id: str, path: str, node: NodeHere, caller: CallerHere) -> Response:
    """Remove the bytes and append `ArtifactDeleted`; what was there stays in the trail."""
    node.artifacts.stat(run_id, path)
    with node.artifacts.changing(run_id, path):
        # The event goes first: bytes that are gone without a word would be the worse half.
        position = node.append_run_event(
            "ArtifactDeleted", run_id, {"path": path}, caller.actor, caller.reason
        )
        node.artifacts.delete(run_id, path)
    return answer({"path": path, "position": str(position)})
