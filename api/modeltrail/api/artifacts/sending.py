"""The bytes of artifacts as request and response bodies."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from email.utils import format_datetime
from urllib.parse import quote

from anyio import CancelScope
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from modeltrail.api.artifacts.storage import PIECE_BYTES, Pieces
from modeltrail.api.artifacts.store import ArtifactStore, Stored, Upload


async def receive(
    store: ArtifactStore,
    owner: str,
    path: str,
    request: Request,
    record: Callable[[Stored], object] | None = None,
) -> Stored:
    """Store a request's body while it arrives; see ``Upload.finish``."""
    with await run_in_threadpool(store.write, owner, path) as upload:
        await receive_into(upload, request)
        return await run_in_threadpool(upload.finish, record)


async def receive_into(upload: Upload, request: Request) -> None:
    """Write a request's body while it arrives."""
    pieces = bytearray()
    async for data in request.stream():
        pieces += data
        if len(pieces) >= PIECE_BYTES:
            await run_in_threadpool(upload.write, bytes(pieces))
            pieces.clear()
    await run_in_threadpool(upload.write, bytes(pieces))


def sent(
    store: ArtifactStore, owner: str, path: str, request: Request, media_type: str
) -> Response:
    """Return a response with the bytes of an artifact, in pieces, for download.

    Raises:
        NotFound: there is no such artifact.
    """
    asked = request.headers.get("range")
    pieces = _nothing()
    if asked is not None or request.method == "HEAD":
        stat = store.stat(owner, path)
    else:
        stat, pieces = store.open(owner, path)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(path.rpartition("/")[2]),
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
    return InPieces(pieces, status, headers, media_type)


def _nothing() -> Pieces:
    yield from ()


class InPieces(StreamingResponse):
    """Sends the pieces of a generator, and closes it even if the client disconnects."""

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


def attachment(name: str) -> str:
    """Return a ``Content-Disposition`` (RFC 6266) that also has the plain name."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    # Quoted, so only these two need escaping. Some browsers would decode "%".
    plain = re.sub(r'["\\%]', "_", plain) or "download"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last (RFC 9110, section 14); empty if outside.

    Returns None if the header is to be ignored: other units, several ranges, invalid text.
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
